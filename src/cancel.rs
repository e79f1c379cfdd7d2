//! Cooperative cancellation, seen from inside the work.

#![forbid(unsafe_code)]

use crate::task;

/// Has the handle of the running job or task been told to cancel?
///
/// Looks at the innermost job, task or chained closure that runs on this thread. One relaxed
/// load; `false` outside of any.
///
/// # Examples
///
/// ```
/// use portage::{Job, cancel};
///
/// let (job, handle) = Job::new(|| {
///     let mut rounds = 0;
///     while !cancel::is_cancelled() && rounds < 3 {
///         rounds += 1;
///     }
///     rounds
/// });
/// job.run();
/// assert_eq!(handle.wait().unwrap(), 3);
/// assert!(!cancel::is_cancelled());
/// ```
#[must_use]
pub fn is_cancelled() -> bool {
    task::is_cancelled()
}
