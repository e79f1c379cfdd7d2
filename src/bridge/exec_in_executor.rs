//! A call on an executor: a closure, or a future that stays where it is created.

#![forbid(unsafe_code)]

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use crate::base::sync::Arc;
use crate::bridge::config::configured_executor;
use crate::entered::is_in_loop;
use crate::error::{JoinError, SubmitError};
use crate::event_loop::{
    ON_THREAD_LOOP, block_on, ensure_thread_event_loop, with_thread_event_loop,
};
use crate::executor::{Drives, Executor, Job};
use crate::lost::unless_lost;
use crate::pool::ThreadPool;
use crate::promise::JoinHandle;
use crate::task::{Driving, is_cancelled};

/// Runs a closure on an executor, in the current context.
///
/// The executor is the argument, else the one of [`init_config`](crate::bridge::init_config),
/// else [`ThreadPool::global`]. The thread that runs the closure has its own event loop
/// ([`ensure_thread_event_loop`]), so that code in it can drive async code. The handle is both
/// halves: `.await` it, or block on it with [`JoinHandle::wait`].
///
/// # Errors
///
/// The executor's refusal, with the job.
///
/// # Examples
///
/// ```
/// use portage::bridge::exec_in_executor;
///
/// let answer = exec_in_executor(None, || 6 * 7)?;
/// assert_eq!(answer.wait().expect("it does not panic"), 42);
/// # Ok::<(), portage::SubmitError>(())
/// ```
#[doc(alias = "exec_in_executor_threading_future")]
#[doc(alias = "run_in_executor")]
#[track_caller]
pub fn exec_in_executor<F, T>(
    executor: Option<&dyn Executor>,
    f: F,
) -> Result<JoinHandle<T>, SubmitError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (job, handle) = Job::new(move || {
        let _own = ensure_thread_event_loop();
        f()
    });
    Chosen::of(executor).execute(job)?;
    Ok(handle)
}

/// Creates a future on an executor's thread and drives it there, in the current context.
///
/// The future need not be `Send`. The executor is chosen as in [`exec_in_executor`]. A pool drives
/// the future on the loop of the worker that created it and does not hold the worker while the
/// future is suspended; a [`LoopHandle`](crate::LoopHandle) drives it as one of its tasks. Any
/// other executor gets a job that drives the future to its end, until it is cancelled, or until
/// nobody can wake it any more (`is_lost`).
///
/// # Errors
///
/// The executor's refusal, with the job.
///
/// # Examples
///
/// ```
/// use portage::bridge::exec_in_executor_async;
///
/// let answer = exec_in_executor_async(None, || async { 6 * 7 })?;
/// assert_eq!(answer.wait().expect("it does not panic"), 42);
/// # Ok::<(), portage::SubmitError>(())
/// ```
#[doc(alias = "exec_in_executor_threading_future")]
#[track_caller]
pub fn exec_in_executor_async<C, F>(
    executor: Option<&dyn Executor>,
    create: C,
) -> Result<JoinHandle<F::Output>, SubmitError>
where
    C: FnOnce() -> F + Send + 'static,
    F: Future + 'static,
    F::Output: Send + 'static,
{
    let executor = Chosen::of(executor);
    let (job, handle) = async_job(executor.drives(), create);
    executor.execute(job)?;
    Ok(handle)
}

/// The executor that [`exec_in_executor`] documents. A value, as the body of a closure would
/// not know who called.
enum Chosen<'a> {
    Named(&'a dyn Executor),
    Configured(Arc<dyn Executor>),
    Global,
}

impl<'a> Chosen<'a> {
    fn of(named: Option<&'a dyn Executor>) -> Self {
        match named {
            Some(named) => Self::Named(named),
            None => configured_executor().map_or(Self::Global, Self::Configured),
        }
    }
}

impl<'a> std::ops::Deref for Chosen<'a> {
    type Target = dyn Executor + 'a;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Named(named) => *named,
            Self::Configured(configured) => &**configured,
            Self::Global => ThreadPool::global(),
        }
    }
}

/// A job that creates a future and drives it, as an executor that `drives` so can.
#[track_caller]
pub(crate) fn async_job<C, F>(drives: Drives, create: C) -> (Job, JoinHandle<F::Output>)
where
    C: FnOnce() -> F + Send + 'static,
    F: Future + 'static,
    F::Output: Send + 'static,
{
    match drives {
        Drives::OnThreadLoop => Job::remote(Some(ON_THREAD_LOOP), create),
        Drives::AsTask => Job::remote(None, create),
        Drives::ToTheEnd => {
            let driving = Driving::default();
            let theirs = driving.clone();
            Job::driving(driving, move || drive_here(create, theirs))
        }
    }
}

/// Drives a new future on this thread's own loop, or inside the loop that runs here, to its end,
/// until the job is cancelled, or until nobody can wake it any more.
fn drive_here<C, F>(create: C, driving: Driving) -> Result<F::Output, JoinError>
where
    C: FnOnce() -> F,
    F: Future,
{
    let future = unless_cancelled(unless_lost(create()), driving);
    if is_in_loop() {
        return block_on(future);
    }
    with_thread_event_loop(|own| {
        let driven = own.run_until_complete(future);
        driven.expect("no loop runs on this thread, and its own loop is open")
    })
}

/// What a task does: a cancel ends it at its next suspension, or in the present one.
async fn unless_cancelled<T>(
    future: impl Future<Output = Result<T, JoinError>>,
    driving: Driving,
) -> Result<T, JoinError> {
    let mut future = pin!(future);
    let mut is_suspended = false;
    poll_fn(|cx| {
        if !is_suspended || !is_cancelled() {
            if let Poll::Ready(outcome) = future.as_mut().poll(cx) {
                return Poll::Ready(outcome);
            }
        }
        is_suspended = true;
        driving.wake_when_told(cx.waker());
        if is_cancelled() {
            return Poll::Ready(Err(JoinError::cancelled()));
        }
        Poll::Pending
    })
    .await
}
