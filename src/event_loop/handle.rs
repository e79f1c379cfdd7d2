//! The loop as seen from anywhere: submit, stop, ask.

#![forbid(unsafe_code)]

use std::fmt;
use std::future::Future;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::thread::ThreadId;

use futures_task::{FutureObj, Spawn, SpawnError};

use crate::base::sync::Arc;
use crate::entered::thread_key;
use crate::error::SubmitError;
use crate::event_loop::inbox::Kind;
use crate::event_loop::shared::{LoopState, Shared};
use crate::event_loop::stopped::Stopped;
use crate::executor::{Drives, Executor, Job};
use crate::promise::JoinHandle;
use crate::spawn;
use crate::task::{Schedule, TaskRef};

/// Submits work to an [`EventLoop`](crate::EventLoop) from any thread.
///
/// Cloning is cheap, and a handle keeps no loop alive: once the loop is closed, whatever is
/// submitted is refused at once. A loop that is merely idle keeps it for its next run. Jobs and
/// first polls come in the order in which a thread submits them, whatever comes from others
/// meanwhile; those that an idle loop keeps, in the order in which all threads did.
///
/// # Examples
///
/// ```
/// use portage::EventLoop;
///
/// let event_loop = EventLoop::new();
/// let handle = event_loop.handle();
/// let sum = std::thread::spawn(move || handle.spawn(async { 1 + 2 }));
/// let sum = sum.join().expect("no panic in there");
/// assert_eq!(event_loop.run_until_complete(sum).expect("nothing else runs").ok(), Some(3));
/// ```
#[derive(Clone)]
pub struct LoopHandle {
    shared: Arc<Shared>,
}

impl LoopHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Spawns a future onto the loop.
    ///
    /// It captures the current [`Context`](crate::Context). Once the loop is closed, the handle
    /// resolves [`is_shut_down`](crate::JoinError::is_shut_down).
    ///
    /// # Examples
    ///
    /// ```
    /// let event_loop = portage::EventLoop::new();
    /// let answer = event_loop.handle().spawn(async { 42 });
    /// let answer = event_loop.run_until_complete(answer).expect("it is not closed");
    /// assert_eq!(answer.ok(), Some(42));
    /// ```
    #[doc(alias = "run_coroutine_threadsafe")]
    #[doc(alias = "create_task")]
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.enqueue(spawn::future(self.begin_task(), future))
    }

    /// Spawns the future that `create` makes on the loop's thread; it need not be `Send`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::rc::Rc;
    ///
    /// let event_loop = portage::EventLoop::new();
    /// let length = event_loop.handle().spawn_with(|| async {
    ///     let stays_here = Rc::new("local");
    ///     portage::time::yield_now().await;
    ///     stays_here.len()
    /// });
    /// let length = event_loop.run_until_complete(length).expect("it is not closed");
    /// assert_eq!(length.ok(), Some(5));
    /// ```
    #[track_caller]
    pub fn spawn_with<C, F>(&self, create: C) -> JoinHandle<F::Output>
    where
        C: FnOnce() -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        self.enqueue(spawn::remote(self.begin_task(), None, create))
    }

    /// Ends [`run_until_stopped`](crate::EventLoop::run_until_stopped).
    ///
    /// What is queued at that moment runs once more. If no such run is on, the next one ends
    /// that way. Several calls before it does are one.
    ///
    /// # Examples
    ///
    /// ```
    /// let event_loop = portage::EventLoop::new();
    /// let handle = event_loop.handle();
    /// std::thread::spawn(move || handle.stop());
    /// assert!(event_loop.run_until_stopped().is_ok());
    /// ```
    pub fn stop(&self) {
        self.shared.ask_to_stop();
    }

    /// What the loop is doing; may be old by the time it is looked at.
    #[doc(alias = "is_running")]
    #[doc(alias = "is_closed")]
    #[must_use]
    pub fn state(&self) -> LoopState {
        self.shared.state()
    }

    /// The thread that owns the loop.
    #[must_use]
    pub fn thread_id(&self) -> ThreadId {
        self.shared.thread()
    }

    /// Whether the calling thread owns the loop.
    #[must_use]
    pub fn is_current_thread(&self) -> bool {
        self.shared.key() == thread_key()
    }

    /// The number of tasks that have not ended, started or not; jobs are no tasks.
    #[doc(alias = "all_tasks")]
    #[must_use]
    pub fn pending(&self) -> usize {
        self.shared.pending()
    }

    /// Ready once the loop has stopped running, from now on.
    pub(crate) fn stopped(&self) -> Stopped {
        Stopped::new(self.shared.stops.clone())
    }

    pub(super) fn begin_task(&self) -> Arc<dyn Schedule> {
        self.shared.begin_one(false);
        self.shared.clone()
    }

    /// Queues a new task, or ends it where the loop is closed.
    pub(super) fn enqueue<T>(&self, work: (TaskRef, JoinHandle<T>)) -> JoinHandle<T> {
        let (task, handle) = work;
        self.shared.put(task, Kind::New);
        handle
    }
}

impl Executor for LoopHandle {
    /// A job runs on the loop's thread, between its tasks; it holds the loop up.
    fn execute(&self, job: Job) -> Result<(), SubmitError> {
        if self.shared.is_closed() {
            return Err(SubmitError::shut_down(job));
        }
        let is_job = !job.is_future();
        self.shared.begin_one(is_job);
        if !job.assign(self.shared.clone()) {
            // Its handle has cancelled it already.
            self.shared.end_one(is_job);
            return Ok(());
        }
        let Err(task) = self.shared.offer(job.into_task(), Kind::New) else {
            return Ok(());
        };
        let job = Job::from_task(task);
        if !job.unassign() {
            // Cancelled meanwhile: the loop has been told of its end.
            return Ok(());
        }
        self.shared.end_one(is_job);
        Err(SubmitError::shut_down(job))
    }

    fn drives(&self) -> Drives {
        Drives::AsTask
    }
}

impl Spawn for LoopHandle {
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.status()?;
        self.spawn(future).detach();
        Ok(())
    }

    fn status(&self) -> Result<(), SpawnError> {
        if self.shared.is_closed() {
            return Err(SpawnError::shutdown());
        }
        Ok(())
    }
}

// As for a pool.
impl UnwindSafe for LoopHandle {}
impl RefUnwindSafe for LoopHandle {}

impl fmt::Debug for LoopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}
