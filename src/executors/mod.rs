//! Executors for futures that a blocking program owns and shuts down.
//!
//! | type                          | threads                            | a future runs              |
//! |-------------------------------|------------------------------------|----------------------------|
//! | [`DefaultBackgroundExecutor`] | one, with one loop                 | on that loop               |
//! | [`EventLoopPoolExecutor`]     | as many as asked for, a loop each  | on the least loaded loop   |
//! | [`ThreadPool`](crate::ThreadPool) | the pool's                     | on any worker              |
//!
//! [`AsyncExecutor`] is what they have in common, [`AsyncExecutorExt`] what a program does with
//! one: submit a future, run it to its end, run many with a limit, iterate over a stream from
//! blocking code. Dropping an executor is `shutdown(false)`; every handle resolves all the same.

#![forbid(unsafe_code)]

mod async_iter;
mod background;
mod batch;
mod elsewhere;
mod loop_pool;
mod loop_thread;
mod place;
mod run_multiple;
mod thread_pool;

pub use async_iter::AsyncIter;
pub use background::DefaultBackgroundExecutor;
pub use loop_pool::{EventLoopPoolExecutor, TaskInfo};
#[doc(hidden)]
pub use place::{Place, Placed};
pub use run_multiple::{RunMultiple, TaskResult, TaskResults, TaskResultsIter};

use std::future::Future;

use futures_core::Stream;
use futures_task::Spawn;

use crate::join_error::JoinError;
use crate::promise::JoinHandle;

/// An executor of futures with an end.
///
/// Object safe. Implement it for your own executor with [`Spawn`], [`is_own_thread`] and
/// [`shutdown`]; the provided methods are the crate's own business.
///
/// [`is_own_thread`]: AsyncExecutor::is_own_thread
/// [`shutdown`]: AsyncExecutor::shutdown
#[doc(alias = "IAsyncExecutor")]
pub trait AsyncExecutor: Spawn + Send + Sync {
    /// Does the calling thread run this executor's futures?
    fn is_own_thread(&self) -> bool;

    /// Ends the executor: every pending handle resolves, later submits are `is_shut_down`.
    ///
    /// With `wait` it returns when the threads have left, except the calling one. Legal twice,
    /// and from one of its own threads.
    fn shutdown(&self, wait: bool);

    /// Where the next future goes.
    #[doc(hidden)]
    fn place(&self) -> Place {
        Place::elsewhere()
    }

    /// A future has gone there.
    #[doc(hidden)]
    fn placed(&self, _placed: Placed) {}
}

/// What a program does with an [`AsyncExecutor`].
pub trait AsyncExecutorExt: AsyncExecutor {
    /// Spawns `future` and gives its handle.
    ///
    /// After a shutdown the handle resolves `is_shut_down`. On a
    /// [`ThreadPool`](crate::ThreadPool) the inherent `submit` hides this one: use `spawn`.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::executors::{AsyncExecutorExt, DefaultBackgroundExecutor};
    ///
    /// let executor = DefaultBackgroundExecutor::new().unwrap();
    /// let answer = executor.submit(async { 6 * 7 });
    /// assert_eq!(answer.wait().unwrap(), 42);
    /// ```
    #[track_caller]
    fn submit<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        place::submit(self, future)
    }

    /// Spawns `future` and blocks for its outcome.
    ///
    /// # Errors
    ///
    /// Why there is no value; `is_would_deadlock` on one of the executor's own threads, where
    /// the future is dropped without having run.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::executors::{AsyncExecutorExt, EventLoopPoolExecutor};
    ///
    /// let executor = EventLoopPoolExecutor::new(2).unwrap();
    /// assert_eq!(executor.run(async { 5 + 7 }).unwrap(), 12);
    /// ```
    #[track_caller]
    fn run<F>(&self, future: F) -> Result<F::Output, JoinError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        if self.is_own_thread() {
            return Err(JoinError::would_deadlock());
        }
        place::submit(self, future).wait()
    }

    /// Runs many futures, at most `options.max_workers` at once; a stream of their results.
    ///
    /// The tasks are collected at this call and start at once; results come in the order of
    /// completion, one for each task. Each task has `options.timeout` from its first poll; one
    /// that is late is dropped and its result is `is_timed_out`.
    ///
    /// # Cancellation
    ///
    /// Dropping the stream drops what has not started and cancels what runs.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::executors::{AsyncExecutorExt, DefaultBackgroundExecutor, RunMultiple};
    /// use portage::block_on;
    /// use std::{future::poll_fn, pin::Pin};
    /// use futures_core::Stream;
    ///
    /// let executor = DefaultBackgroundExecutor::new().unwrap();
    /// let tasks = (1..=3).map(|n| async move { n * 10 });
    /// let mut results = executor.run_multiple_async(tasks, RunMultiple::default());
    /// let mut sum = 0;
    /// while let Some(result) = block_on(poll_fn(|cx| Pin::new(&mut results).poll_next(cx))) {
    ///     sum += result.output.unwrap();
    /// }
    /// assert_eq!(sum, 60);
    /// ```
    #[track_caller]
    fn run_multiple_async<I>(
        &self,
        tasks: I,
        options: RunMultiple,
    ) -> TaskResults<<I::Item as Future>::Output>
    where
        I: IntoIterator,
        I::Item: Future + Send + 'static,
        <I::Item as Future>::Output: Send + 'static,
    {
        run_multiple::start(self, tasks, options)
    }

    /// The same for blocking code: an iterator of the results.
    ///
    /// # Blocking
    ///
    /// `next` blocks for the next completion. On the only thread that could do the work (the
    /// loop's, or the only one that a pool may have) every result that is not there yet is
    /// `is_would_deadlock`; other workers at the cap of the pool run the batch in place.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::executors::{AsyncExecutorExt, EventLoopPoolExecutor, RunMultiple};
    ///
    /// let executor = EventLoopPoolExecutor::new(2).unwrap();
    /// let squares = executor.run_multiple((0..10_u64).map(|n| async move { n * n }), RunMultiple::default());
    /// assert_eq!(squares.map(|square| square.output.unwrap()).sum::<u64>(), 285);
    /// ```
    #[track_caller]
    fn run_multiple<I>(
        &self,
        tasks: I,
        options: RunMultiple,
    ) -> TaskResultsIter<<I::Item as Future>::Output>
    where
        I: IntoIterator,
        I::Item: Future + Send + 'static,
        <I::Item as Future>::Output: Send + 'static,
    {
        TaskResultsIter::new(run_multiple::start(self, tasks, options))
    }

    /// Iterates over `stream` from blocking code; all its steps run in one task.
    ///
    /// It starts with the first `next`. A panic of the stream, or the end of the executor, is
    /// one `Err`, then the iteration ends. Dropping the iterator early, even before the first
    /// `next`, drops the stream on its loop.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::executors::{AsyncExecutorExt, DefaultBackgroundExecutor};
    /// use std::{pin::Pin, task::{Context, Poll}};
    ///
    /// struct Countdown(u32);
    ///
    /// impl futures_core::Stream for Countdown {
    ///     type Item = u32;
    ///     fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u32>> {
    ///         let next = self.0.checked_sub(1);
    ///         self.0 = next.unwrap_or(0);
    ///         Poll::Ready(next)
    ///     }
    /// }
    ///
    /// let executor = DefaultBackgroundExecutor::new().unwrap();
    /// let steps: Result<Vec<u32>, _> = executor.wrap_async_iterable(Countdown(3)).collect();
    /// assert_eq!(steps.unwrap(), [2, 1, 0]);
    /// ```
    #[track_caller]
    fn wrap_async_iterable<S>(&self, stream: S) -> AsyncIter<S::Item>
    where
        S: Stream + Send + 'static,
        S::Item: Send + 'static,
    {
        async_iter::wrap(self, stream)
    }
}

impl<E: AsyncExecutor + ?Sized> AsyncExecutorExt for E {}
