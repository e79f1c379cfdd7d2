//! Why something was refused or gave no value.
//!
//! Every error is opaque: ask it with its `is_…` methods. None is larger than two words, and a
//! job that was refused is inside.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::io;
use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::executor::Job;

pub use crate::join_error::JoinError;

/// Why an executor did not take a job; the job is inside.
///
/// # Examples
///
/// ```
/// use portage::{Job, error::SubmitError};
///
/// let (job, handle) = Job::new(|| 7);
/// let error = SubmitError::full(job);
/// assert!(error.is_full());
/// error.into_job().unwrap().run();
/// assert_eq!(handle.wait().unwrap(), 7);
/// ```
pub struct SubmitError {
    reason: Reason,
    job: Option<Job>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    ShutDown,
    Full,
    OwnThread,
    Finished,
    Broken,
    NoExecutor,
    WouldDeadlock,
}

impl SubmitError {
    fn new(reason: Reason, job: Option<Job>) -> Self {
        Self { reason, job }
    }

    /// The executor is shut down.
    pub fn shut_down(job: Job) -> Self {
        Self::new(Reason::ShutDown, Some(job))
    }

    /// The executor has no room.
    pub fn full(job: Job) -> Self {
        Self::new(Reason::Full, Some(job))
    }

    /// The executor cannot run jobs any more, or has no thread to run them.
    pub fn broken(job: Job) -> Self {
        Self::new(Reason::Broken, Some(job))
    }

    /// The executor only hands on, and has nobody to hand on to.
    pub fn no_executor(job: Job) -> Self {
        Self::new(Reason::NoExecutor, Some(job))
    }

    pub(crate) fn own_thread(job: Option<Job>) -> Self {
        Self::new(Reason::OwnThread, job)
    }

    pub(crate) fn finished(job: Option<Job>) -> Self {
        Self::new(Reason::Finished, job)
    }

    pub(crate) fn would_deadlock(job: Option<Job>) -> Self {
        Self::new(Reason::WouldDeadlock, job)
    }

    /// A refusal for which no job was made.
    pub(crate) fn shut_down_bare() -> Self {
        Self::new(Reason::ShutDown, None)
    }

    /// Is the executor shut down?
    pub fn is_shut_down(&self) -> bool {
        self.reason == Reason::ShutDown
    }

    /// Has the executor no room?
    pub fn is_full(&self) -> bool {
        self.reason == Reason::Full
    }

    /// Was the job submitted from the very thread that would have to run it?
    pub fn is_own_thread(&self) -> bool {
        self.reason == Reason::OwnThread
    }

    /// Has the executor ended for good?
    pub fn is_finished(&self) -> bool {
        self.reason == Reason::Finished
    }

    /// Can the executor not run jobs?
    pub fn is_broken(&self) -> bool {
        self.reason == Reason::Broken
    }

    /// Is there no executor to submit to?
    pub fn is_no_executor(&self) -> bool {
        self.reason == Reason::NoExecutor
    }

    /// Would waiting for room have been a wait for oneself?
    pub fn is_would_deadlock(&self) -> bool {
        self.reason == Reason::WouldDeadlock
    }

    /// The refused job, where one was refused.
    pub fn into_job(self) -> Option<Job> {
        self.job
    }
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.reason {
            Reason::ShutDown => "the executor is shut down",
            Reason::Full => "the executor is full",
            Reason::OwnThread => "submitted from the thread that would have to run it",
            Reason::Finished => "the executor has finished",
            Reason::Broken => "the executor cannot run jobs",
            Reason::NoExecutor => "there is no executor",
            Reason::WouldDeadlock => "would deadlock: the wait is for the waiting job itself",
        })?;
        match self.job.as_ref().and_then(Job::name) {
            Some(name) => write!(f, " (job `{name}`)"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubmitError")
            .field("reason", &self.reason)
            .field("job", &self.job)
            .finish()
    }
}

impl Error for SubmitError {}

/// Why a loop or a lane did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RunError(RunReason);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum RunReason {
    WrongThread,
    Finished,
    AlreadyRunning,
    Closed,
}

impl RunError {
    pub(crate) fn wrong_thread() -> Self {
        Self(RunReason::WrongThread)
    }

    pub(crate) fn finished() -> Self {
        Self(RunReason::Finished)
    }

    pub(crate) fn already_running() -> Self {
        Self(RunReason::AlreadyRunning)
    }

    pub(crate) fn closed() -> Self {
        Self(RunReason::Closed)
    }

    /// Does another thread own it?
    pub fn is_wrong_thread(&self) -> bool {
        self.0 == RunReason::WrongThread
    }

    /// Has it ended for good?
    pub fn is_finished(&self) -> bool {
        self.0 == RunReason::Finished
    }

    /// Is it, or another loop of this thread, running already?
    pub fn is_already_running(&self) -> bool {
        self.0 == RunReason::AlreadyRunning
    }

    /// Is it closed?
    pub fn is_closed(&self) -> bool {
        self.0 == RunReason::Closed
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            RunReason::WrongThread => "called on a thread that does not own it",
            RunReason::Finished => "it has finished",
            RunReason::AlreadyRunning => "a loop is running on this thread already",
            RunReason::Closed => "the loop is closed",
        })
    }
}

impl Error for RunError {}

/// Why something could not be built.
pub struct BuildError(BuildReason);

enum BuildReason {
    Invalid(Box<str>),
    Thread(io::Error),
}

impl BuildError {
    /// A bad argument; the message names it and its value.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self(BuildReason::Invalid(message.into().into_boxed_str()))
    }

    /// The operating system refused a thread.
    pub(crate) fn thread(error: io::Error) -> Self {
        Self(BuildReason::Thread(error))
    }

    /// Was an argument bad?
    pub fn is_invalid(&self) -> bool {
        matches!(self.0, BuildReason::Invalid(_))
    }

    /// Did the operating system refuse a thread?
    pub fn is_thread(&self) -> bool {
        matches!(self.0, BuildReason::Thread(_))
    }
}

// It does not change.
impl UnwindSafe for BuildError {}
impl RefUnwindSafe for BuildError {}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            BuildReason::Invalid(message) => f.write_str(message),
            BuildReason::Thread(error) => write!(f, "could not start a thread: {error}"),
        }
    }
}

impl fmt::Debug for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            BuildReason::Invalid(message) => f.debug_tuple("Invalid").field(message).finish(),
            BuildReason::Thread(error) => f.debug_tuple("Thread").field(error).finish(),
        }
    }
}

impl Error for BuildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            BuildReason::Invalid(_) => None,
            BuildReason::Thread(error) => Some(error),
        }
    }
}

/// Why a bridge between blocking and async code did not carry a call.
pub struct BridgeError(BridgeReason);

enum BridgeReason {
    RunningLoop,
    NoLoop,
    Join(JoinError),
}

impl BridgeError {
    pub(crate) fn running_loop() -> Self {
        Self(BridgeReason::RunningLoop)
    }

    pub(crate) fn no_loop() -> Self {
        Self(BridgeReason::NoLoop)
    }

    pub(crate) fn would_deadlock() -> Self {
        JoinError::would_deadlock().into()
    }

    pub(crate) fn timed_out() -> Self {
        JoinError::timed_out().into()
    }

    pub(crate) fn cancelled() -> Self {
        JoinError::cancelled().into()
    }

    pub(crate) fn shut_down() -> Self {
        JoinError::shut_down().into()
    }

    fn join(&self) -> Option<&JoinError> {
        match &self.0 {
            BridgeReason::Join(error) => Some(error),
            _ => None,
        }
    }

    /// Is an event loop running on the calling thread? Then await instead.
    pub fn is_running_loop(&self) -> bool {
        matches!(self.0, BridgeReason::RunningLoop)
    }

    /// Is there no running main loop?
    pub fn is_no_loop(&self) -> bool {
        matches!(self.0, BridgeReason::NoLoop)
    }

    /// Could only the waiting thread itself have ended the wait?
    pub fn is_would_deadlock(&self) -> bool {
        self.join().is_some_and(JoinError::is_would_deadlock)
    }

    /// Did the time limit run out?
    pub fn is_timed_out(&self) -> bool {
        self.join().is_some_and(JoinError::is_timed_out)
    }

    /// Was the call cancelled?
    pub fn is_cancelled(&self) -> bool {
        self.join().is_some_and(JoinError::is_cancelled)
    }

    /// Did the called code panic?
    pub fn is_panic(&self) -> bool {
        self.join().is_some_and(JoinError::is_panic)
    }

    /// Did the runtime refuse the call, or end before it was done?
    pub fn is_shut_down(&self) -> bool {
        self.join().is_some_and(JoinError::is_shut_down)
    }

    /// How the called code ended, where it was called.
    pub fn into_join_error(self) -> Option<JoinError> {
        match self.0 {
            BridgeReason::Join(error) => Some(error),
            _ => None,
        }
    }
}

impl From<JoinError> for BridgeError {
    fn from(error: JoinError) -> Self {
        Self(BridgeReason::Join(error))
    }
}

impl fmt::Display for BridgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            BridgeReason::RunningLoop => {
                f.write_str("an event loop is running on this thread: await instead of blocking")
            }
            BridgeReason::NoLoop => f.write_str("there is no running main loop"),
            BridgeReason::Join(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl fmt::Debug for BridgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            BridgeReason::RunningLoop => f.write_str("RunningLoop"),
            BridgeReason::NoLoop => f.write_str("NoLoop"),
            BridgeReason::Join(error) => fmt::Debug::fmt(error, f),
        }
    }
}

impl Error for BridgeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.join().and_then(Error::source)
    }
}

/// A time limit ran out; see [`timeout`](crate::time::timeout).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Elapsed(());

impl Elapsed {
    pub(crate) fn new() -> Self {
        Self(())
    }
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time limit ran out")
    }
}

impl Error for Elapsed {}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{BridgeError, BuildError, Elapsed, JoinError, RunError, SubmitError};

    #[test]
    fn no_error_is_larger_than_two_words() {
        let sizes = [
            size_of::<BridgeError>(),
            size_of::<BuildError>(),
            size_of::<Elapsed>(),
            size_of::<JoinError>(),
            size_of::<RunError>(),
            size_of::<SubmitError>(),
        ];
        assert!(sizes.iter().all(|size| *size <= 16), "{sizes:?}");
    }

    #[test]
    fn a_bad_argument_is_named() {
        let error = BuildError::invalid("core_threads: 0");
        assert!(error.is_invalid() && !error.is_thread());
        assert_eq!(error.to_string(), "core_threads: 0");
    }
}
