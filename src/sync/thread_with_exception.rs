//! A thread whose value or panic comes back to whoever joins it.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::time::Duration;

use crate::base::fork;
use crate::base::sync::{join, thread};
use crate::executor::Job;
use crate::join_error::JoinError;
use crate::promise::JoinHandle;

/// A plain thread with a [`JoinHandle`].
///
/// It runs in the context that was current at `spawn`. Dropping it detaches the thread; a
/// panic that nobody joins is then reported as unhandled.
///
/// # Examples
///
/// ```
/// use portage::sync::ThreadWithException;
///
/// let thread = ThreadWithException::spawn(|| 6 * 7)?;
/// assert_eq!(thread.join(), 42);
/// let failing = ThreadWithException::spawn(|| -> u8 { panic!("disk full") })?;
/// assert!(failing.try_join().unwrap_err().is_panic());
/// # Ok::<(), std::io::Error>(())
/// ```
#[doc(alias = "daemon")]
#[must_use = "dropping it detaches the thread"]
pub struct ThreadWithException<T> {
    handle: JoinHandle<T>,
    thread: thread::JoinHandle<()>,
    /// Of the process that started it: a forked child has nobody to join.
    generation: u64,
}

impl<T: Send + 'static> ThreadWithException<T> {
    /// Starts a thread that runs `f`.
    ///
    /// # Errors
    ///
    /// The operating system refused the thread; `f` is dropped unrun.
    #[doc(alias = "target")]
    #[track_caller]
    pub fn spawn<F>(f: F) -> io::Result<Self>
    where
        F: FnOnce() -> T + Send + 'static,
    {
        let (job, handle) = Job::new(f);
        Self::start(thread::Builder::new(), job, handle)
    }

    /// The same with a name, which the operating system sees too.
    ///
    /// # Errors
    ///
    /// The name has a NUL in it, or the operating system refused the thread; `f` is dropped
    /// unrun.
    #[track_caller]
    pub fn spawn_named<F>(name: impl Into<String>, f: F) -> io::Result<Self>
    where
        F: FnOnce() -> T + Send + 'static,
    {
        let name: String = name.into();
        if name.contains('\0') {
            let message = format!("the name of a thread may hold no NUL: {name:?}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let builder = thread::Builder::new().name(name.clone());
        let (job, handle) = Job::named(name, f);
        Self::start(builder, job, handle)
    }

    fn start(builder: thread::Builder, job: Job, handle: JoinHandle<T>) -> io::Result<Self> {
        fork::may_start_thread()?;
        let thread = builder.spawn(move || job.run())?;
        Ok(Self {
            handle,
            thread,
            generation: fork::generation(),
        })
    }
}

impl<T> ThreadWithException<T> {
    /// Blocks until the thread has ended, and gives its value.
    ///
    /// # Panics
    ///
    /// With the panic of the thread, which goes on here. With a message when there is no value:
    /// a thread that joins itself, or an outcome that was taken before.
    ///
    /// # Blocking
    ///
    /// As [`JoinHandle::wait`].
    pub fn join(self) -> T {
        self.try_join()
            .unwrap_or_else(|error| error.resume_unwind())
    }

    /// Blocks until the thread has ended, and gives its value or its panic.
    ///
    /// # Errors
    ///
    /// `is_panic` with the payload; `is_would_deadlock` when a thread joins itself; an error
    /// that says so when the outcome was taken before.
    ///
    /// # Blocking
    ///
    /// As [`JoinHandle::wait`].
    pub fn try_join(self) -> Result<T, JoinError> {
        if self.is_left_behind() {
            return Err(JoinError::lost());
        }
        let Self {
            handle,
            thread,
            generation,
        } = self;
        let outcome = handle.wait();
        let is_own = matches!(&outcome, Err(error) if error.is_would_deadlock());
        if !is_own && generation == fork::generation() {
            // Its locals are destroyed before this returns. Its panics ended in the job.
            let _ = join(thread);
        }
        outcome
    }

    /// Blocks until the thread has ended, at most for `timeout`; zero looks once.
    ///
    /// `None` means that it is still running.
    ///
    /// # Errors
    ///
    /// As [`ThreadWithException::try_join`].
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::sync::{Event, ThreadWithException};
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// let stop = Arc::new(Event::new());
    /// let seen = stop.clone();
    /// let mut thread = ThreadWithException::spawn_named("waits", move || seen.wait())?;
    /// assert!(thread.join_timeout(Duration::from_millis(1)).is_none());
    /// stop.set();
    /// assert!(thread.join_timeout(Duration::MAX).is_some());
    /// assert!(!thread.is_alive());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn join_timeout(&mut self, timeout: Duration) -> Option<Result<T, JoinError>> {
        if self.is_left_behind() {
            return Some(Err(JoinError::lost()));
        }
        self.handle.wait_timeout(timeout)
    }

    /// Is this a forked child, and the thread its parent's?
    fn is_left_behind(&self) -> bool {
        fork::generation() != self.generation && !self.handle.is_finished()
    }

    /// Is it still running?
    ///
    /// Not in a forked child, which has only the thread that forked.
    pub fn is_alive(&self) -> bool {
        !self.handle.is_finished() && !self.is_left_behind()
    }

    /// The name, if it was given one.
    pub fn name(&self) -> Option<&str> {
        self.handle.name()
    }
}

impl<T> fmt::Debug for ThreadWithException<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadWithException")
            .field("name", &self.name())
            .field("is_alive", &self.is_alive())
            .finish()
    }
}
