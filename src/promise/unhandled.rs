//! Asking for a report although somebody may still take the outcome.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::handle::JoinHandle;
use crate::base::clock::deadline_after;
use crate::task::{Callback, Completion};
use crate::timer;

/// Reports a failure that nobody has taken `delay` after the end.
///
/// The delay gives a reader that is just about to take the outcome the chance to do so. The
/// outcome stays: a late taker still gets it. It is reported once, whoever asks for it how often.
///
/// # Examples
///
/// ```
/// use portage::promise::{handle_future_exception, set_unhandled_hook};
/// use std::{sync::mpsc, time::Duration};
///
/// let (seen, reports) = mpsc::channel();
/// set_unhandled_hook(Box::new(move |unhandled| {
///     let _ = seen.send(unhandled.message().into_owned());
/// }));
/// let (promise, handle) = portage::promise::<u8>();
/// handle_future_exception(&handle, Duration::from_millis(1));
/// promise.fail(portage::JoinError::failed("disk full")).unwrap();
/// assert_eq!(reports.recv().unwrap(), "disk full");
/// assert_eq!(handle.wait().unwrap_err().to_string(), "disk full");
/// ```
#[doc(alias = "check_and_log_exception")]
#[doc(alias = "delay")]
pub fn handle_future_exception<T>(handle: &JoinHandle<T>, delay: Duration) {
    let hold = handle.reader.hold();
    let task = hold.clone();
    hold.on_complete(Callback::Call(Box::new(move |how| {
        if !matches!(how, Completion::Panicked | Completion::Failed) {
            return;
        }
        if delay.is_zero() {
            task.report_untaken();
        } else {
            // Without a thread for timers, it is reported when the last interest is dropped.
            let _is_coming = timer::call_at(deadline_after(delay), move || task.report_untaken());
        }
    })));
}
