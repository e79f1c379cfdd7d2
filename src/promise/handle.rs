//! The reading half.

#![forbid(unsafe_code)]

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context as Cx, Poll};

use super::awaited;
use crate::base::fork;
use crate::entered::{thread_key, worker};
use crate::join_error::JoinError;
use crate::task::{Callback, Cancel, Completion, Hold, Home, Reader, TaskId, Waits};

/// The reading half: await it in a task, or wait for it on a thread.
///
/// A future of `Result<T, JoinError>`; it may be awaited under any runtime. Dropping it
/// detaches: the work goes on, and a failure is reported as unhandled.
///
/// A task that awaits itself gets [`is_would_deadlock`](JoinError::is_would_deadlock), and so
/// does a future in [`block_on`](crate::block_on) that awaits what only this very thread could
/// do; the outcome is not taken by that.
///
/// # Examples
///
/// ```
/// use portage::{Job, block_on};
///
/// let (job, handle) = Job::new(|| 6 * 7);
/// job.run();
/// assert_eq!(block_on(handle).unwrap(), 42);
/// ```
#[doc(alias = "__await__")]
#[doc(alias = "Future")]
#[must_use = "dropping a handle detaches the work; say so with `detach`"]
pub struct JoinHandle<T> {
    pub(super) reader: Reader<T>,
}

impl<T> JoinHandle<T> {
    pub(crate) fn of(reader: Reader<T>) -> Self {
        Self { reader }
    }

    pub(crate) fn hold(&self) -> Hold {
        self.reader.hold()
    }

    /// Is this a forked child, and the work its parent's?
    #[inline]
    pub(super) fn is_left_behind(&self) -> bool {
        fork::generation() > 0 && self.reader.origin().home.is_left_behind()
    }

    /// A poll has found nothing: why that would stay so for ever, if it would.
    #[inline(never)]
    fn in_vain(&self) -> Option<JoinError> {
        if self.is_left_behind() {
            return Some(JoinError::lost());
        }
        if let Some(line) = self.reader.late_home() {
            if !line.wait_begins(Waits::Task) {
                return Some(JoinError::would_deadlock());
            }
        }
        awaited::pending(&self.reader).err()
    }

    /// Could only the calling thread do this work?
    pub(crate) fn is_bound_here(&self) -> bool {
        match self.reader.origin().home {
            Home::Thread(key) => key == thread_key(),
            Home::Pool(pool) => {
                worker().is_some_and(|worker| worker.pool() == pool && worker.is_only_one())
            }
            _ => false,
        }
    }

    /// This thread is about to block for what comes of the work, which it may have to do itself.
    pub(crate) fn note_waited_for(&self) {
        awaited::waited_for(&self.reader);
    }

    /// The same for a poll that finds nothing of it. An error when that would stay so for ever.
    pub(crate) fn note_awaited(&self) -> Result<(), JoinError> {
        awaited::pending(&self.reader)
    }

    /// Takes the outcome if it is there; never blocks.
    ///
    /// A second take gives an error that says so ([`JoinError::is_consumed`]).
    ///
    /// # Examples
    ///
    /// ```
    /// let (promise, mut handle) = portage::promise();
    /// assert!(handle.try_take().is_none());
    /// promise.resolve(7).unwrap();
    /// assert_eq!(handle.try_take().unwrap().unwrap(), 7);
    /// assert!(handle.try_take().unwrap().unwrap_err().is_consumed());
    /// ```
    pub fn try_take(&mut self) -> Option<Result<T, JoinError>> {
        self.reader.take()
    }

    /// Tells the work to stop.
    ///
    /// * Not started: [`Cancel::Prevented`]. The closure or future is dropped before this
    ///   returns (one that is bound to another thread: there, at its loop's next turn), and the
    ///   handle resolves `is_cancelled`. Saying it again gives the same answer.
    /// * A running closure: [`Cancel::Requested`]. Inside it
    ///   [`cancel::is_cancelled`](crate::cancel::is_cancelled) is true from now on; its value
    ///   still counts.
    /// * A started task: [`Cancel::Requested`]. It is dropped at its next suspension and
    ///   resolves `is_cancelled`, unless it completes in that poll.
    /// * Finished: [`Cancel::TooLate`], and the outcome stays.
    ///
    /// # Reentrancy
    ///
    /// Runs the destructor of the closure or future, wakers and callbacks, under no lock.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::{Job, promise::Cancel};
    ///
    /// let (job, handle) = Job::new(|| unreachable!("never runs"));
    /// assert_eq!(handle.cancel(), Cancel::Prevented);
    /// job.run();
    /// let error: portage::JoinError = handle.wait().map(|()| ()).unwrap_err();
    /// assert!(error.is_cancelled());
    /// ```
    pub fn cancel(&self) -> Cancel {
        self.reader.cancel()
    }

    /// A handle that can only cancel: cloned freely, sent anywhere, no interest in the outcome.
    pub fn cancel_handle(&self) -> CancelHandle {
        CancelHandle(self.reader.hold())
    }

    /// Is the outcome there, or was it?
    #[doc(alias = "done")]
    pub fn is_finished(&self) -> bool {
        self.reader.is_finished()
    }

    /// Has it started, and not ended?
    #[doc(alias = "running")]
    pub fn is_running(&self) -> bool {
        self.reader.is_running()
    }

    /// Was it told to cancel, or did it end cancelled?
    pub fn is_cancelled(&self) -> bool {
        self.reader.is_cancelled()
    }

    /// Was the outcome taken?
    #[doc(alias = "_consumed")]
    pub fn is_consumed(&self) -> bool {
        self.reader.is_consumed()
    }

    /// Calls `callback` when the work has ended.
    ///
    /// Callbacks run once, in the order of their registration, on the thread that completes or
    /// cancels the work, after the outcome is visible. One that is added later runs at once, on
    /// this thread. A callback that panics is reported as unhandled, and the rest still run.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::promise::Completion;
    /// use std::sync::mpsc;
    ///
    /// let (seen, told) = mpsc::channel();
    /// let (promise, handle) = portage::promise();
    /// handle.on_complete(move |how| seen.send(how).unwrap());
    /// promise.resolve(7).unwrap();
    /// assert_eq!(told.recv().unwrap(), Completion::Value);
    /// ```
    #[doc(alias = "add_done_callback")]
    pub fn on_complete(&self, callback: impl FnOnce(Completion) + Send + 'static) {
        self.reader
            .hold()
            .on_complete(Callback::Call(Box::new(callback)));
    }

    /// Lets the work go on without a reader. A failure is then reported as unhandled.
    pub fn detach(self) {}

    /// The number of the job, task or promise.
    pub fn id(&self) -> TaskId {
        self.reader.id()
    }

    /// The name, if it was given one.
    pub fn name(&self) -> Option<&str> {
        self.reader.name()
    }

    /// Where it was spawned, or its promise made.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.reader.spawned_at()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.reader.is_finished() || this.reader.watch(cx.waker()) {
            return Poll::Ready(this.reader.take_ended());
        }
        // Nothing that could make it wait for itself.
        if fork::generation() == 0 && !this.reader.is_late() && !awaited::is_inside() {
            return Poll::Pending;
        }
        match this.in_vain() {
            None => Poll::Pending,
            Some(error) => Poll::Ready(Err(error)),
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("id", &self.id())
            .field("name", &self.name())
            .field("is_finished", &self.is_finished())
            .field("is_cancelled", &self.is_cancelled())
            .finish()
    }
}

/// Cancels a job or task from anywhere; see [`JoinHandle::cancel_handle`].
///
/// It is no interest in the outcome: a failure that only cancel handles are left for is
/// reported as unhandled.
///
/// # Examples
///
/// ```
/// let (promise, handle) = portage::promise::<u8>();
/// let cancel = handle.cancel_handle();
/// std::thread::spawn(move || cancel.cancel()).join().unwrap();
/// assert!(handle.is_cancelled());
/// assert!(promise.resolve(7).is_err());
/// ```
#[derive(Clone)]
pub struct CancelHandle(Hold);

impl CancelHandle {
    /// Tells the work to stop; see [`JoinHandle::cancel`].
    pub fn cancel(&self) -> Cancel {
        self.0.cancel()
    }

    /// Was it told to cancel, or did it end cancelled?
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Has it ended?
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// The number of the job, task or promise.
    pub fn id(&self) -> TaskId {
        self.0.id()
    }
}

impl fmt::Debug for CancelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelHandle")
            .field("id", &self.id())
            .field("is_cancelled", &self.is_cancelled())
            .finish()
    }
}
