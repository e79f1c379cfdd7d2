//! Why a handle gave no value.

#![forbid(unsafe_code)]

use std::any::Any;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::base::contain::{Payload, discard, message};
use crate::base::sync::plain::{AtomicBool, Ordering};
use crate::base::sync::{Arc, Mutex};

/// Why a [`JoinHandle`](crate::promise::JoinHandle) resolved without a value.
///
/// Opaque: ask it with the `is_…` methods. At most one of them is true; an error made by
/// [`JoinError::failed`] answers no to all.
///
/// # Examples
///
/// ```
/// use portage::{JoinError, promise};
///
/// let (promise, handle) = promise::<u8>();
/// drop(promise);
/// assert!(handle.wait().unwrap_err().is_lost());
/// assert!(JoinError::cancelled().is_cancelled());
/// ```
pub struct JoinError(Repr);

/// Shared, so that a report can read what a late taker still gets.
#[derive(Clone)]
enum Repr {
    Cancelled,
    Lost,
    ShutDown,
    TimedOut,
    WouldDeadlock,
    Taken,
    Panic(Arc<PanicPayload>),
    Failed(Arc<Failure>),
}

/// An error of the work's own.
struct Failure {
    error: Box<dyn Error + Send + Sync>,
    reported: Reported,
}

/// A panic's payload, until somebody takes it.
struct PanicPayload {
    payload: Mutex<Option<Payload>>,
    reported: Reported,
}

impl Drop for PanicPayload {
    fn drop(&mut self) {
        if let Some(payload) = self.payload.lock().take() {
            discard(payload);
        }
    }
}

/// Was this cause reported as unhandled? It is so once, however many outcomes it is passed on to.
#[derive(Default)]
struct Reported(AtomicBool);

impl Reported {
    /// True for the first that asks.
    fn claim(&self) -> bool {
        // Ordering: Relaxed: only who is first counts.
        !self.0.swap(true, Ordering::Relaxed)
    }
}

/// The family of an outcome that is no value, as the cell's word keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Cancelled,
    Lost,
    ShutDown,
    TimedOut,
    WouldDeadlock,
    Panicked,
    Failed,
}

impl JoinError {
    /// The work was told to stop before it gave a value.
    pub fn cancelled() -> Self {
        Self(Repr::Cancelled)
    }

    /// The work ended with an error of its own.
    pub fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Repr::Failed(Arc::new(Failure {
            error: error.into(),
            reported: Reported::default(),
        })))
    }

    pub(crate) fn lost() -> Self {
        Self(Repr::Lost)
    }

    pub(crate) fn shut_down() -> Self {
        Self(Repr::ShutDown)
    }

    pub(crate) fn timed_out() -> Self {
        Self(Repr::TimedOut)
    }

    pub(crate) fn would_deadlock() -> Self {
        Self(Repr::WouldDeadlock)
    }

    pub(crate) fn taken() -> Self {
        Self(Repr::Taken)
    }

    pub(crate) fn panicked(payload: Payload) -> Self {
        Self(Repr::Panic(Arc::new(PanicPayload {
            payload: Mutex::new(Some(payload)),
            reported: Reported::default(),
        })))
    }

    /// Was the work cancelled?
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0, Repr::Cancelled)
    }

    /// Did the work panic?
    pub fn is_panic(&self) -> bool {
        matches!(self.0, Repr::Panic(_))
    }

    /// Is whoever should have resolved the handle gone?
    pub fn is_lost(&self) -> bool {
        matches!(self.0, Repr::Lost)
    }

    /// Did the runtime refuse the work, or end before it was done?
    pub fn is_shut_down(&self) -> bool {
        matches!(self.0, Repr::ShutDown)
    }

    /// Did a time limit run out?
    pub fn is_timed_out(&self) -> bool {
        matches!(self.0, Repr::TimedOut)
    }

    /// Could only the waiting thread itself have ended the wait?
    pub fn is_would_deadlock(&self) -> bool {
        matches!(self.0, Repr::WouldDeadlock)
    }

    /// Had the outcome been taken before?
    pub fn is_consumed(&self) -> bool {
        matches!(self.0, Repr::Taken)
    }

    /// Takes the panic's payload.
    ///
    /// # Errors
    ///
    /// Gives the error back when it is no panic.
    pub fn into_panic(self) -> Result<Box<dyn Any + Send>, JoinError> {
        match &self.0 {
            Repr::Panic(panic) => match panic.payload.lock().take() {
                Some(payload) => Ok(payload),
                None => Err(Self::taken()),
            },
            _ => Err(self),
        }
    }

    /// Continues the panic on this thread.
    ///
    /// # Panics
    ///
    /// Always: with the payload of the panic, or with this error's message if it is none.
    pub fn resume_unwind(self) -> ! {
        match self.into_panic() {
            Ok(payload) => std::panic::resume_unwind(payload),
            Err(error) => panic!("{error}"),
        }
    }

    /// Another error that shows the same cause.
    pub(crate) fn share(&self) -> Self {
        Self(self.0.clone())
    }

    pub(crate) fn family(&self) -> Family {
        match self.0 {
            Repr::Cancelled => Family::Cancelled,
            Repr::Lost => Family::Lost,
            Repr::ShutDown => Family::ShutDown,
            Repr::TimedOut => Family::TimedOut,
            Repr::WouldDeadlock => Family::WouldDeadlock,
            Repr::Panic(_) => Family::Panicked,
            Repr::Taken | Repr::Failed(_) => Family::Failed,
        }
    }

    /// Is it a failure of the work itself, which is reported when nobody takes it, and which
    /// nobody has reported? It counts as reported from now on.
    pub(crate) fn claim_report(&self) -> bool {
        match &self.0 {
            Repr::Panic(panic) => panic.reported.claim(),
            Repr::Failed(failure) => failure.reported.claim(),
            _ => false,
        }
    }

    /// What a report says of a panic. Of another error it says the text, which is a user's code.
    pub(crate) fn panic_report(&self) -> Option<Cow<'static, str>> {
        let Repr::Panic(panic) = &self.0 else {
            return None;
        };
        Some(match panic.text() {
            Some(text) => Cow::Owned(text),
            None => Cow::Borrowed("panicked with a value that is no text"),
        })
    }
}

impl PanicPayload {
    fn text(&self) -> Option<String> {
        let payload = self.payload.lock();
        payload
            .as_ref()
            .and_then(|payload| message(&**payload).map(str::to_owned))
    }
}

// Nothing of it can be seen half changed: a payload is there or taken.
impl UnwindSafe for JoinError {}
impl RefUnwindSafe for JoinError {}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Cancelled => f.write_str("cancelled"),
            Repr::Lost => f.write_str("lost: dropped before it was done"),
            Repr::ShutDown => f.write_str("the runtime is shut down"),
            Repr::TimedOut => f.write_str("timed out"),
            Repr::WouldDeadlock => {
                f.write_str("would deadlock: only the waiting thread could do the work")
            }
            Repr::Taken => f.write_str("the outcome was taken before"),
            Repr::Panic(panic) => match panic.text() {
                Some(text) => write!(f, "panicked: {text}"),
                None => f.write_str("panicked"),
            },
            Repr::Failed(failure) => fmt::Display::fmt(&failure.error, f),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.0 {
            Repr::Cancelled => "Cancelled",
            Repr::Lost => "Lost",
            Repr::ShutDown => "ShutDown",
            Repr::TimedOut => "TimedOut",
            Repr::WouldDeadlock => "WouldDeadlock",
            Repr::Taken => "Taken",
            Repr::Panic(panic) => {
                return f.debug_tuple("Panic").field(&panic.text()).finish();
            }
            Repr::Failed(failure) => return f.debug_tuple("Failed").field(&failure.error).finish(),
        };
        f.write_str(name)
    }
}

impl Error for JoinError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            Repr::Failed(failure) => failure.error.source(),
            _ => None,
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::JoinError;

    #[test]
    fn the_error_is_at_most_two_words() {
        assert!(size_of::<JoinError>() <= 2 * size_of::<usize>());
    }

    #[test]
    fn a_cause_is_claimed_for_a_report_once() {
        for error in [JoinError::panicked(Box::new(1)), JoinError::failed("full")] {
            assert!(error.share().claim_report());
            assert!(!error.claim_report());
        }
        assert!(!JoinError::taken().claim_report());
        assert!(!JoinError::lost().claim_report());
    }

    #[test]
    fn a_shared_error_gives_the_payload_once() {
        let error = JoinError::panicked(Box::new("boom"));
        let twin = error.share();
        assert_eq!(twin.panic_report().as_deref(), Some("boom"));
        assert!(error.into_panic().is_ok());
        assert!(twin.into_panic().unwrap_err().is_consumed());
    }
}
