//! Links between outcomes: the result flows down, the cancel flows up, each at most once.
//!
//! A derived handle is a job that its source runs at the end. The job holds the source's
//! reading half and drops it unrun when the derived handle is cancelled, which is how the
//! cancel finds its way up. Nothing here calls itself: completions and cancels that a step sets
//! off are queued by [`deferred`], so that a chain may have any length.

#![forbid(unsafe_code)]

use std::panic::Location;

use super::handle::JoinHandle;
use super::writer::{Promise, promise};
use crate::base::contain::contain;
use crate::deferred;
use crate::join_error::JoinError;
use crate::task::{self, Callback, Spawned, report_stray_panic};

impl<T: Send + 'static> JoinHandle<T> {
    /// Runs `f` on the outcome; the new handle gets what `f` makes of it.
    ///
    /// `f` runs on the completing thread, inside the context of this call; on this thread, at
    /// once, when the work has ended before. This handle is used up: the outcome counts as
    /// consumed. A panic of `f` goes to the new handle.
    ///
    /// # Cancellation
    ///
    /// Cancelling the new handle before `f` has started drops `f` unrun and cancels this work.
    ///
    /// # Examples
    ///
    /// ```
    /// let (promise, handle) = portage::promise();
    /// let text = handle.then(|outcome| outcome.map_or(0, |n: i32| n * 2).to_string());
    /// promise.resolve(21).unwrap();
    /// assert_eq!(text.wait().unwrap(), "42");
    /// ```
    #[track_caller]
    pub fn then<U, F>(self, f: F) -> JoinHandle<U>
    where
        F: FnOnce(Result<T, JoinError>) -> U + Send + 'static,
        U: Send + 'static,
    {
        self.derive(Spawned::here(), move |outcome| Ok(f(outcome)))
    }

    /// Runs `f` on the value when it is there; errors pass through.
    ///
    /// All else is as with [`JoinHandle::then`].
    ///
    /// # Examples
    ///
    /// ```
    /// let (promise, handle) = portage::promise();
    /// let double = handle.map(|n: i32| n * 2);
    /// promise.resolve(21).unwrap();
    /// assert_eq!(double.wait().unwrap(), 42);
    /// ```
    #[track_caller]
    pub fn map<U, F>(self, f: F) -> JoinHandle<U>
    where
        F: FnOnce(T) -> U + Send + 'static,
        U: Send + 'static,
    {
        let at = Location::caller();
        self.derive(Spawned::here(), move |outcome| match outcome {
            Ok(value) => Ok(f(value)),
            Err(error) => {
                // On its own, before the error is on its way: a destructor that panics while a
                // value is returned would leak that value.
                if let Err(payload) = contain(move || drop(f)) {
                    report_stray_panic("the destructor of a step", at, payload);
                }
                Err(error)
            }
        })
    }

    fn derive<U, F>(self, spawned: Spawned, f: F) -> JoinHandle<U>
    where
        F: FnOnce(Result<T, JoinError>) -> Result<U, JoinError> + Send + 'static,
        U: Send + 'static,
    {
        let source = self.reader.hold();
        let chain = self.reader.chain_below();
        let mut link = Link { source: Some(self) };
        let (job, reader) = task::derived_job(spawned, chain, move || f(link.take()));
        source.on_complete(Callback::Next(job));
        JoinHandle::of(reader)
    }
}

/// The source of a derived job. Dropped before the job has run, it cancels the source.
struct Link<T> {
    source: Option<JoinHandle<T>>,
}

impl<T> Link<T> {
    fn take(&mut self) -> Result<T, JoinError> {
        let outcome = self.source.take().and_then(|mut source| source.try_take());
        outcome.unwrap_or_else(|| Err(JoinError::lost()))
    }
}

impl<T> Drop for Link<T> {
    fn drop(&mut self) {
        if let Some(source) = self.source.take() {
            let source = source.reader.hold();
            deferred::run(move || {
                let _ = source.cancel();
            });
        }
    }
}

impl<T: Send + 'static> JoinHandle<JoinHandle<T>> {
    /// The handle of the inner work.
    ///
    /// # Cancellation
    ///
    /// Cancelling it cancels the outer work, or the inner once that is known.
    ///
    /// # Examples
    ///
    /// ```
    /// let (outer, handle) = portage::promise();
    /// let (inner, value) = portage::promise();
    /// let flat = handle.flatten();
    /// outer.resolve(value).unwrap();
    /// inner.resolve(7).unwrap();
    /// assert_eq!(flat.wait().unwrap(), 7);
    /// ```
    #[track_caller]
    pub fn flatten(self) -> JoinHandle<T> {
        let (target, handle) = promise();
        let source = self.reader.hold();
        target.cancel_with(source.clone(), self.reader.chain_below());
        source.on_complete(Callback::Call(Box::new(move |_| {
            let mut outer = self;
            match outer.try_take() {
                Some(Ok(inner)) => chain_future_results(inner, target),
                Some(Err(error)) => target.settle(Err(error)),
                None => drop(target),
            }
        })));
        handle
    }
}

/// Resolves `target` with the outcome of `source`, and cancels `source` when `target` is.
///
/// The outcome counts as consumed, also when `target` was cancelled before and ignores it. A
/// source that is chained to a cancelled target is cancelled at once. Chains may have any
/// length: they complete, cancel and drop without recursion.
///
/// # Examples
///
/// ```
/// use portage::promise::chain_future_results;
///
/// let (work, source) = portage::promise();
/// let (target, handle) = portage::promise();
/// chain_future_results(source, target);
/// work.resolve(7).unwrap();
/// assert_eq!(handle.wait().unwrap(), 7);
/// ```
#[doc(alias = "resolve_awaitable")]
pub fn chain_future_results<T: Send + 'static>(source: JoinHandle<T>, target: Promise<T>) {
    let hold = source.reader.hold();
    target.cancel_with(hold.clone(), source.reader.chain_below());
    hold.on_complete(Callback::Call(Box::new(move |_| {
        let mut source = source;
        if let Some(outcome) = source.try_take() {
            target.settle(outcome);
        }
    })));
}
