//! Many futures with a limit, a time limit each, and their results as they come.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context as Cx, Poll};
use std::time::Duration;

use futures_core::Stream;

use super::batch::{Next, Results, Runner, Waiting, Why};
use super::{AsyncExecutor, place};
use crate::base::clock::{self, deadline_from};
use crate::base::contain::{contain, contained_drop};
use crate::base::sync::Arc;
use crate::context::Context;
use crate::entered::Parking;
use crate::join_error::JoinError;
use crate::lost::Wakers;
use crate::promise::{Awaiting, Awaits, JoinHandle};
use crate::timer::Timer;

/// How [`run_multiple`](super::AsyncExecutorExt::run_multiple) runs its tasks.
///
/// # Examples
///
/// ```
/// use portage::executors::RunMultiple;
/// use std::time::Duration;
///
/// let options = RunMultiple::default();
/// assert_eq!(options.max_workers, 10);
/// assert_eq!(options.timeout, Some(Duration::from_secs(10)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RunMultiple {
    /// How many run at once; zero counts as one.
    pub max_workers: usize,
    /// How long each may take from its first poll; `None` is for ever.
    pub timeout: Option<Duration>,
}

impl Default for RunMultiple {
    fn default() -> Self {
        Self {
            max_workers: 10,
            timeout: Some(Duration::from_secs(10)),
        }
    }
}

/// The result of one task of a batch.
///
/// # Examples
///
/// ```
/// use portage::executors::{AsyncExecutorExt, DefaultBackgroundExecutor, RunMultiple};
///
/// let executor = DefaultBackgroundExecutor::new().unwrap();
/// let halves = [0, 3].map(|n: u32| async move { 6 / n });
/// for result in executor.run_multiple(halves, RunMultiple::default()) {
///     assert_eq!(result.success(), result.index == 1);
///     assert!(result.exception().is_none_or(|error| error.is_panic()));
/// }
/// ```
#[derive(Debug)]
pub struct TaskResult<T> {
    /// The task's place in the input, from zero.
    pub index: usize,
    /// Its value, or why there is none.
    pub output: Result<T, JoinError>,
}

impl<T> TaskResult<T> {
    /// Did it give a value?
    #[must_use]
    pub fn success(&self) -> bool {
        self.output.is_ok()
    }

    /// Why it gave none.
    #[must_use]
    pub fn exception(&self) -> Option<&JoinError> {
        self.output.as_ref().err()
    }
}

/// The results of a batch in the order of completion; a stream.
///
/// Dropping it drops what has not started and cancels what runs.
#[must_use = "dropping it cancels the batch"]
pub struct TaskResults<T> {
    results: Arc<Results<T>>,
    runners: Vec<JoinHandle<()>>,
    /// Drops what no runner has taken, inside the context of the batch.
    clear: Box<dyn Fn() + Send + Sync>,
}

/// Starts the runners of a batch.
#[track_caller]
pub(super) fn start<E, I>(
    executor: &E,
    tasks: I,
    options: RunMultiple,
) -> TaskResults<<I::Item as Future>::Output>
where
    E: AsyncExecutor + ?Sized,
    I: IntoIterator,
    I::Item: Future + Send + 'static,
    <I::Item as Future>::Output: Send + 'static,
{
    let tasks: VecDeque<I::Item> = tasks.into_iter().collect();
    let count = tasks.len();
    let workers = options.max_workers.max(1).min(count);
    let results = Results::of(count);
    let waiting = Waiting::of(tasks, workers);
    let mut runners = Vec::with_capacity(workers);
    // no closure: it would not know who called
    for _ in 0..workers {
        let runner = Runner::new(waiting.clone(), results.clone());
        runners.push(place::submit(executor, work_off(runner, options.timeout)));
    }
    let context = Context::current();
    TaskResults {
        results,
        runners,
        clear: Box::new(move || context.clone().run(|| waiting.clear())),
    }
}

/// One runner: takes futures until none is left.
async fn work_off<F: Future>(runner: Runner<F, F::Output>, timeout: Option<Duration>) {
    let context = Context::current();
    while let Some((duty, future)) = runner.next() {
        let output = drive(context.clone().attach(future), timeout).await;
        duty.done(output);
    }
}

/// Drives one future to its end, its panic, or the end of its time.
async fn drive<F: Future>(future: F, timeout: Option<Duration>) -> Result<F::Output, JoinError> {
    let mut future = Box::pin(future);
    let deadline = timeout.and_then(|timeout| deadline_from(clock::now(), timeout));
    let mut timer = timeout.map(|_| Timer::at(deadline));
    let mut wakers = Wakers::new();
    let output = poll_fn(|cx| {
        let Some(waker) = wakers.lend(cx.waker()) else {
            return Poll::Ready(Err(JoinError::lost()));
        };
        let polled = contain(|| future.as_mut().poll(&mut Cx::from_waker(&waker)));
        drop(waker);
        let is_late = deadline.is_some_and(|deadline| clock::now() >= deadline);
        match polled {
            Err(payload) => Poll::Ready(Err(JoinError::panicked(payload))),
            Ok(_) if is_late => Poll::Ready(Err(JoinError::timed_out())),
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Ok(Poll::Pending) => match &mut timer {
                Some(timer) => timer.poll(cx).map(|()| Err(JoinError::timed_out())),
                None => Poll::Pending,
            },
        }
    })
    .await;
    contained_drop(future);
    output
}

impl<T> TaskResults<T> {
    fn live(&self) -> impl Iterator<Item = &JoinHandle<()>> + Clone {
        self.runners.iter().filter(|runner| !runner.is_finished())
    }

    /// Is this polled by what blocks the only thread that could do the work?
    fn is_stuck(&self) -> bool {
        // each one, not only the first: they are noted
        let stuck = self.live().filter(|runner| runner.note_awaited().is_err());
        stuck.count() > 0
    }

    /// Gives up what only this thread could do, as it is about to block.
    fn give_up_own(&self) {
        let mut live = self.live().peekable();
        if live.peek().is_none() {
            return;
        }
        if live.all(JoinHandle::is_bound_here) {
            (self.clear)();
            self.results.put_all(Why::WouldDeadlock);
        }
        for runner in self.live().filter(|runner| runner.is_bound_here()) {
            self.results.set_why(Why::WouldDeadlock);
            runner.hold().shut_down();
            self.results.set_why(Why::ShutDown);
        }
    }
}

impl<T> Stream for TaskResults<T> {
    type Item = TaskResult<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Option<TaskResult<T>>> {
        let mut next = self.results.next(cx.waker());
        if matches!(next, Next::Pending) && self.is_stuck() {
            self.give_up_own();
            next = self.results.next(cx.waker());
        }
        match next {
            Next::Result(result) => Poll::Ready(Some(result)),
            Next::End => Poll::Ready(None),
            Next::Pending => Poll::Pending,
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.results.outstanding();
        (left, Some(left))
    }
}

impl<T> Drop for TaskResults<T> {
    fn drop(&mut self) {
        (self.clear)();
        for runner in &self.runners {
            let _ = runner.cancel();
        }
    }
}

impl<T> fmt::Debug for TaskResults<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskResults")
            .field("outstanding", &self.results.outstanding())
            .finish()
    }
}

/// The results of a batch in the order of completion; a blocking iterator.
///
/// Dropping it drops what has not started and cancels what runs.
#[derive(Debug)]
#[must_use = "dropping it cancels the batch"]
pub struct TaskResultsIter<T> {
    results: TaskResults<T>,
}

impl<T> TaskResultsIter<T> {
    pub(super) fn new(results: TaskResults<T>) -> Self {
        Self { results }
    }
}

impl<T> Iterator for TaskResultsIter<T> {
    type Item = TaskResult<T>;

    /// Blocks for the next completion.
    fn next(&mut self) -> Option<TaskResult<T>> {
        let parking = Parking::current();
        let _awaiting = Awaiting::begin(Awaits::Wait);
        let mut found = None;
        let mut looked = false;
        parking.wait_until(
            || {
                let mut next = self.results.results.next(parking.waker());
                if matches!(next, Next::Pending) && !std::mem::replace(&mut looked, true) {
                    self.results.give_up_own();
                    self.results.live().for_each(JoinHandle::note_waited_for);
                    next = self.results.results.next(parking.waker());
                }
                match next {
                    Next::Pending => return false,
                    Next::Result(result) => found = Some(result),
                    Next::End => {}
                }
                true
            },
            None,
        );
        found
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.results.size_hint()
    }
}
