//! Jobs in order, with room for so many.
//!
//! An [`AsyncExecutionQueue`] stands before an executor: jobs start first in, first out, one at
//! a time or a few, and no more than its capacity are queued or running. Both worlds add to it:
//! [`aadd_task`] awaits room, [`add_task`] blocks for it, [`try_add_task`] does neither.
//!
//! * A place is held until the job *ends*, so that a full queue slows its adders down to the
//!   pace of the work. Cancelling a queued job frees its place at once.
//! * No thread and no task stands behind the queue: whoever ends a job hands over the next.
//! * Nothing in it can hang: an executor that refuses ends the job, not the queue, and a wait
//!   that only the waiting job itself could end is refused.
//!
//! What decides is in [`mod@line`]; [`add`] is one job on its way in.
//!
//! [`aadd_task`]: AsyncExecutionQueue::aadd_task
//! [`add_task`]: AsyncExecutionQueue::add_task
//! [`try_add_task`]: AsyncExecutionQueue::try_add_task

#![forbid(unsafe_code)]

mod add;
mod builder;
mod entry;
#[cfg(all(test, shuttle))]
mod explored;
mod line;
#[cfg(all(test, loom))]
mod models;
mod state;

use std::fmt;
use std::future::{Future, poll_fn};
use std::task::{Poll, Waker};

use crate::base::sync::Arc;
use crate::bridge::{async_job, configured_executor};
use crate::entered::Parking;
use crate::error::SubmitError;
use crate::executor::{Executor, Job};
use crate::pool::ThreadPool;
use crate::promise::{Awaiting, Awaits, JoinHandle};
use crate::task::Waits;
use line::Shared;

pub use add::AddTask;
pub use builder::ExecutionQueueBuilder;

/// A queue of jobs before an executor.
///
/// Share it behind an `Arc`. Dropping it cancels what is queued and waits for nothing.
///
/// # Examples
///
/// ```
/// use portage::block_on;
/// use portage::execution_queue::{AsyncExecutionQueue, Close};
///
/// let queue = AsyncExecutionQueue::new();
/// let doubled = block_on(async {
///     let first = queue.aadd_task(|| 21).await?;
///     let second = queue.aadd_task_async(|| async { 2 }).await?;
///     let product = first.await.expect("no panic") * second.await.expect("no panic");
///     queue.aclose(Close::Drain).await;
///     Ok::<_, portage::SubmitError>(product)
/// })?;
/// assert_eq!(doubled, 42);
/// assert!(queue.add_task(|| 7).unwrap_err().is_shut_down());
/// # Ok::<(), portage::SubmitError>(())
/// ```
pub struct AsyncExecutionQueue {
    shared: Arc<Shared>,
}

/// What becomes of the queued jobs at a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Close {
    /// They are cancelled; those that run are waited for.
    CancelPending,
    /// They run, and are waited for.
    Drain,
}

impl Default for AsyncExecutionQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl AsyncExecutionQueue {
    /// An unbounded queue that runs one job at a time, on the default executor.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Shared::new(usize::MAX, 1, None),
        }
    }

    /// A queue with a capacity, a concurrency, an executor of your own.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::ThreadPool;
    /// use portage::execution_queue::AsyncExecutionQueue;
    /// use std::sync::Arc;
    ///
    /// let queue = AsyncExecutionQueue::builder()
    ///     .executor(Arc::new(ThreadPool::new()?))
    ///     .capacity(100)
    ///     .concurrency(2)
    ///     .build()?;
    /// assert!(queue.is_empty());
    /// assert!(AsyncExecutionQueue::builder().capacity(0).build().is_err());
    /// # Ok::<(), portage::error::BuildError>(())
    /// ```
    pub fn builder() -> ExecutionQueueBuilder {
        ExecutionQueueBuilder::new()
    }

    /// Adds a job, and waits for room.
    ///
    /// The job runs in the context of this call. It is added when the future is polled; those
    /// who wait for room get it in the order of their first polls, threads and tasks alike.
    ///
    /// # Errors
    ///
    /// The job is inside. [`is_shut_down`](SubmitError::is_shut_down): the queue is closed, or
    /// was while this waited. [`is_would_deadlock`](SubmitError::is_would_deadlock): awaited
    /// for room by a job that holds the place which is needed. What the executor says, if it
    /// refused the job at once; if it refuses later, the handle resolves `is_shut_down`.
    ///
    /// # Cancellation
    ///
    /// See [`AddTask`].
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::block_on;
    /// use portage::execution_queue::AsyncExecutionQueue;
    ///
    /// let queue = AsyncExecutionQueue::new();
    /// let answer = block_on(async { queue.aadd_task(|| 6 * 7).await?.await.map_err(Into::into) });
    /// # let answer: Result<i32, Box<dyn std::error::Error>> = answer;
    /// assert_eq!(answer?, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn aadd_task<F, T>(&self, f: F) -> AddTask<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let place = self.shared.place();
        let ticket = place.ticket();
        let (job, handle) = Job::new(move || {
            let _place = place;
            f()
        });
        let entry = self.shared.entry(ticket, self.executor(), job, &handle);
        AddTask::new(self.shared.clone(), entry, handle)
    }

    /// Adds an async job, and waits for room.
    ///
    /// `create` runs where the job starts; its future need not be `Send` and is driven there: on a
    /// pool by the loop of that worker, which is not held while the future is suspended, on an
    /// event loop as one of its tasks, elsewhere by a job that drives it to its end, until it is
    /// cancelled, or until nobody can wake it any more (`is_lost`). The job has its place, and
    /// counts for the concurrency, until the future is done.
    ///
    /// # Errors
    ///
    /// As [`aadd_task`](AsyncExecutionQueue::aadd_task).
    ///
    /// # Cancellation
    ///
    /// See [`AddTask`].
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::execution_queue::AsyncExecutionQueue;
    /// use portage::{block_on, time::yield_now};
    ///
    /// let queue = AsyncExecutionQueue::new();
    /// let answer = block_on(queue.aadd_task_async(|| async {
    ///     let local = std::rc::Rc::new(42);
    ///     yield_now().await;
    ///     *local
    /// }))?;
    /// assert_eq!(answer.wait().expect("it does not panic"), 42);
    /// # Ok::<(), portage::SubmitError>(())
    /// ```
    #[track_caller]
    pub fn aadd_task_async<C, F>(&self, create: C) -> AddTask<F::Output>
    where
        C: FnOnce() -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        let executor = self.executor();
        let drives = match &executor {
            Some(executor) => executor.drives(),
            None => ThreadPool::global().drives(),
        };
        let place = self.shared.place();
        let ticket = place.ticket();
        let (job, handle) = async_job(drives, move || {
            let future = create();
            async move {
                let _place = place;
                future.await
            }
        });
        let entry = self.shared.entry(ticket, executor, job, &handle);
        AddTask::new(self.shared.clone(), entry, handle)
    }

    /// Adds a job, and blocks this thread until there is room.
    ///
    /// # Errors
    ///
    /// As [`aadd_task`](AsyncExecutionQueue::aadd_task).
    ///
    /// # Blocking
    ///
    /// Until there is room. The owner of lanes runs their jobs meanwhile, and a pool whose
    /// worker this thread is makes up for it.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::execution_queue::AsyncExecutionQueue;
    ///
    /// let queue = AsyncExecutionQueue::new();
    /// let answer = queue.add_task(|| 6 * 7)?;
    /// assert_eq!(answer.wait().expect("it does not panic"), 42);
    /// # Ok::<(), portage::SubmitError>(())
    /// ```
    #[track_caller]
    pub fn add_task<F, T>(&self, f: F) -> Result<JoinHandle<T>, SubmitError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.aadd_task(f).blocking()
    }

    /// Adds a job if there is room.
    ///
    /// # Errors
    ///
    /// [`is_full`](SubmitError::is_full): there is none, or others wait for it. Else as
    /// [`aadd_task`](AsyncExecutionQueue::aadd_task).
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::execution_queue::AsyncExecutionQueue;
    /// use portage::sync::Event;
    /// use std::sync::Arc;
    ///
    /// let queue = AsyncExecutionQueue::builder().capacity(1).build().expect("valid");
    /// let gate = Arc::new(Event::new());
    /// let opened = gate.clone();
    /// let first = queue.try_add_task(move || opened.wait())?;
    /// assert!(queue.try_add_task(|| ()).unwrap_err().is_full());
    /// gate.set();
    /// first.wait().expect("it does not panic");
    /// assert!(queue.try_add_task(|| ()).is_ok());
    /// # Ok::<(), portage::SubmitError>(())
    /// ```
    #[track_caller]
    pub fn try_add_task<F, T>(&self, f: F) -> Result<JoinHandle<T>, SubmitError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.aadd_task(f).at_once()
    }

    /// Closes the queue for good and waits for the end of its jobs.
    ///
    /// Acts at the first poll: nothing is taken any more, and adders that wait for room get
    /// their jobs back. A close from a job of the queue waits neither for that job nor for
    /// what can only start after it. Closing again is legal, also in the other mode.
    ///
    /// # Cancellation
    ///
    /// The queue stays closed, and its jobs go on.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::block_on;
    /// use portage::execution_queue::{AsyncExecutionQueue, Close};
    ///
    /// let queue = AsyncExecutionQueue::new();
    /// let handle = queue.add_task(|| "ran")?;
    /// block_on(queue.aclose(Close::Drain));
    /// assert!(handle.is_finished() && queue.is_closed());
    /// # Ok::<(), portage::SubmitError>(())
    /// ```
    pub async fn aclose(&self, mode: Close) {
        self.shared.seal(mode);
        let mut closing = Closing::of(&self.shared);
        poll_fn(|cx| match closing.look(cx.waker(), Waits::Task) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    /// The same, blocking this thread.
    ///
    /// # Blocking
    ///
    /// Until the jobs have ended. On the thread of a loop that runs the jobs it does not wait
    /// for them; the owner of a lane runs them meanwhile.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::execution_queue::{AsyncExecutionQueue, Close};
    ///
    /// let queue = AsyncExecutionQueue::new();
    /// let handle = queue.add_task(|| "ran")?;
    /// queue.close(Close::Drain);
    /// assert!(handle.is_finished());
    /// # Ok::<(), portage::SubmitError>(())
    /// ```
    #[doc(alias = "shutdown")]
    pub fn close(&self, mode: Close) {
        self.shared.seal(mode);
        let parking = Parking::current();
        let mut closing = Closing::of(&self.shared);
        let _awaiting = Awaiting::begin(Awaits::Wait);
        parking.wait_until(|| closing.look(parking.waker(), Waits::Thread), None);
    }

    /// Is it closed?
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// How many places are held: by the jobs that are queued and those that run.
    #[doc(alias = "qsize")]
    pub fn len(&self) -> usize {
        self.shared.len()
    }

    /// Are all places free?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The executor of a call that comes now; `None` is the global pool.
    fn executor(&self) -> Option<Arc<dyn Executor>> {
        self.shared.executor().or_else(configured_executor)
    }
}

impl Drop for AsyncExecutionQueue {
    fn drop(&mut self) {
        self.shared.seal(Close::CancelPending);
    }
}

impl fmt::Debug for AsyncExecutionQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncExecutionQueue")
            .field("len", &self.len())
            .field("waiting", &self.shared.waiting())
            .field("is_closed", &self.is_closed())
            .finish()
    }
}

/// A wait for the end of the jobs.
struct Closing<'a> {
    shared: &'a Shared,
    key: Option<u64>,
}

impl<'a> Closing<'a> {
    fn of(shared: &'a Shared) -> Self {
        Self { shared, key: None }
    }

    fn look(&mut self, waker: &Waker, waits: Waits) -> bool {
        let over = self.shared.look_for_end(&mut self.key, waker, waits);
        if !over {
            self.shared.note_awaited();
        }
        over
    }
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.shared.forget_closer(key);
        }
    }
}
