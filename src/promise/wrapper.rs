//! A handle whose `Err` is a failure too.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Cx, Poll};

use super::handle::JoinHandle;
use crate::join_error::JoinError;
use crate::task::{Completion, report_failure, text_of};

type Outcome<T, E> = Result<Result<T, E>, JoinError>;

/// A handle of fallible work; an `Err` that nobody takes is reported as unhandled.
///
/// A plain [`JoinHandle`] takes every value for a success. This one knows that an `Err` inside
/// is none: dropped with an `Err` that nobody took, or before one comes, it reports it.
///
/// # Examples
///
/// ```
/// use portage::{Job, promise::FutureWrapper};
///
/// let (job, handle) = Job::new(|| "12".parse::<i32>());
/// let number = FutureWrapper::new(handle);
/// job.run();
/// assert_eq!(number.wait().unwrap().unwrap(), 12);
/// ```
#[must_use = "dropping it reports an `Err` as unhandled"]
pub struct FutureWrapper<T, E> {
    handle: Option<JoinHandle<Result<T, E>>>,
    abandon: fn(JoinHandle<Result<T, E>>),
}

impl<T, E> FutureWrapper<T, E>
where
    T: Send + 'static,
    E: fmt::Display + Send + 'static,
{
    /// Watches over `handle`.
    pub fn new(handle: JoinHandle<Result<T, E>>) -> Self {
        Self {
            handle: Some(handle),
            abandon,
        }
    }
}

/// Nobody takes this outcome any more: an `Err` is reported, now or when it comes.
fn abandon<T, E>(handle: JoinHandle<Result<T, E>>)
where
    T: Send + 'static,
    E: fmt::Display + Send + 'static,
{
    if handle.is_consumed() {
        return;
    }
    let (id, at) = (handle.id(), handle.spawned_at());
    let name = handle.name().map(str::to_owned);
    handle
        .then(move |outcome| {
            let message = match outcome {
                Ok(Ok(_)) => return,
                Ok(Err(error)) => text_of(&error),
                Err(error) if error.claim_report() => {
                    let panic = error.panic_report();
                    panic.map_or_else(|| text_of(&error), Cow::into_owned)
                }
                Err(_) => return,
            };
            report_failure(id, name.as_deref(), at, &message);
        })
        .detach();
}

impl<T, E> FutureWrapper<T, E> {
    fn handle(&self) -> &JoinHandle<Result<T, E>> {
        self.handle.as_ref().expect("only wait and drop take it")
    }

    /// Blocks until the outcome is there, and takes it; see [`JoinHandle::wait`].
    ///
    /// # Errors
    ///
    /// Why the work gave neither a value nor an error of its own.
    pub fn wait(mut self) -> Outcome<T, E> {
        let handle = self.handle.take().expect("only wait and drop take it");
        handle.wait()
    }

    /// Is the outcome there, or was it?
    pub fn is_finished(&self) -> bool {
        self.handle().is_finished()
    }

    /// Was the outcome taken?
    pub fn is_consumed(&self) -> bool {
        self.handle().is_consumed()
    }

    /// Calls `callback` when the work has ended; see [`JoinHandle::on_complete`].
    pub fn on_complete(&self, callback: impl FnOnce(Completion) + Send + 'static) {
        self.handle().on_complete(callback);
    }
}

impl<T, E> Future for FutureWrapper<T, E> {
    type Output = Outcome<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Self::Output> {
        let handle = self.handle.as_mut().expect("only wait and drop take it");
        Pin::new(handle).poll(cx)
    }
}

impl<T, E> Drop for FutureWrapper<T, E> {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            (self.abandon)(handle);
        }
    }
}

impl<T, E> fmt::Debug for FutureWrapper<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FutureWrapper").field(&self.handle).finish()
    }
}
