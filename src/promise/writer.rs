//! The writing half.

#![forbid(unsafe_code)]

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context as Cx, Poll};

use super::handle::JoinHandle;
use crate::base::contain::contain;
use crate::join_error::JoinError;
use crate::task::{self, Chain, Hold, TaskId, Writer, report_panic_of};

/// Makes a promise and the handle of its outcome.
///
/// One allocation for both.
///
/// # Examples
///
/// ```
/// let (promise, handle) = portage::promise();
/// std::thread::spawn(move || promise.resolve(42));
/// assert_eq!(handle.wait().unwrap(), 42);
/// ```
#[track_caller]
pub fn promise<T>() -> (Promise<T>, JoinHandle<T>) {
    let (writer, reader) = task::promise(Location::caller());
    (Promise(writer), JoinHandle::of(reader))
}

/// The writing half: resolves its [`JoinHandle`], once.
///
/// Dropped unresolved, it resolves the handle `is_lost`.
#[must_use = "a promise that is dropped resolves its handle `is_lost`"]
pub struct Promise<T>(Writer<T>);

impl<T> Promise<T> {
    /// Declares the work started: from now on a cancel is a request.
    ///
    /// A second call changes nothing. Returns `false` when the handle has cancelled before: then
    /// nobody wants the value any more.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::promise::Cancel;
    ///
    /// let (promise, handle) = portage::promise::<u8>();
    /// assert!(promise.start());
    /// assert_eq!(handle.cancel(), Cancel::Requested);
    /// assert!(promise.is_cancelled());
    /// ```
    #[doc(alias = "set_running_or_notify_cancel")]
    pub fn start(&self) -> bool {
        self.0.start()
    }

    /// Resolves the handle with `value`.
    ///
    /// What this thread did before is visible to whoever takes the value. Wakes the reader and
    /// runs the callbacks before it returns.
    ///
    /// # Errors
    ///
    /// The value comes back when the handle was cancelled before the start. A promise that was
    /// started delivers also after a cancel.
    ///
    /// # Reentrancy
    ///
    /// If the handle is gone, `value` is dropped in here, as the last step.
    #[doc(alias = "set_result")]
    pub fn resolve(self, value: T) -> Result<(), T> {
        match self.0.resolve(Ok(value)) {
            Ok(()) => Ok(()),
            Err(Ok(value)) => Err(value),
            Err(Err(_)) => unreachable!("a refused value comes back as it was"),
        }
    }

    /// Resolves the handle with an error.
    ///
    /// If nobody takes it, it is reported as unhandled: one made by [`JoinError::failed`], or a panic
    /// that is passed on, once for all to whom it is. An error of another kind is no failure.
    ///
    /// # Errors
    ///
    /// The error comes back when the handle was cancelled before the start.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::JoinError;
    ///
    /// let (promise, handle) = portage::promise::<u8>();
    /// promise.fail(JoinError::failed("disk full")).unwrap();
    /// assert_eq!(handle.wait().unwrap_err().to_string(), "disk full");
    /// ```
    #[doc(alias = "set_exception")]
    pub fn fail(self, error: JoinError) -> Result<(), JoinError> {
        self.0.resolve(Err(error)).map_err(|refused| match refused {
            Err(error) => error,
            Ok(_) => unreachable!("a refused error comes back as it was"),
        })
    }

    /// Has the reader told it to stop? A dropped handle is no cancel.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_told()
    }

    /// Waits until the reader tells it to stop.
    ///
    /// # Cancellation
    ///
    /// Dropping the future loses nothing; ask again at any time.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::block_on;
    ///
    /// let (mut promise, handle) = portage::promise::<u8>();
    /// let canceller = std::thread::spawn(move || handle.cancel());
    /// block_on(promise.cancelled());
    /// canceller.join().unwrap();
    /// assert!(promise.resolve(7).is_err());
    /// ```
    pub fn cancelled(&mut self) -> Cancelled<'_, T> {
        Cancelled { promise: self }
    }

    /// The number of this promise; the same as its handle's.
    pub fn id(&self) -> TaskId {
        self.0.id()
    }

    /// Resolves with either, and drops what a cancelled handle refuses.
    pub(crate) fn settle(self, outcome: Result<T, JoinError>) {
        let (id, at) = (self.0.id(), self.0.spawned_at());
        let Err(refused) = self.0.resolve(outcome) else {
            return;
        };
        if let Err(payload) = contain(|| drop(refused)) {
            report_panic_of(id, "the destructor of an outcome", at, payload);
        }
    }

    /// Cancels `source` when the reader tells this promise to stop, at once if it has.
    pub(crate) fn cancel_with(&self, source: Hold, chain: Chain) {
        self.0.cancel_with(source, chain);
    }
}

impl<T> fmt::Debug for Promise<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Promise")
            .field("id", &self.id())
            .field("is_cancelled", &self.is_cancelled())
            .finish()
    }
}

/// Resolves once the reader has told a [`Promise`] to stop; see [`Promise::cancelled`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct Cancelled<'a, T> {
    promise: &'a mut Promise<T>,
}

impl<T> Future for Cancelled<'_, T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<()> {
        self.promise.0.poll_told(cx)
    }
}

impl<T> Drop for Cancelled<'_, T> {
    fn drop(&mut self) {
        self.promise.0.forget_waker();
    }
}

impl<T> fmt::Debug for Cancelled<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancelled")
            .field(&self.promise.id())
            .finish()
    }
}
