//! Who runs a task for its executor.
//!
//! A worker hands itself along with each task that it took from its own executor's queues. So the
//! account of that task, and the wakes that come out of it, need not look for the worker, which
//! costs a thread-local, a borrow and a comparison each time.

#![forbid(unsafe_code)]

use super::cell::TaskRef;
use super::schedule::{Ended, Home, Schedule};
use crate::base::sync::Arc;

/// A worker, as the task sees it that the worker took. What the worker is told here, the executor is
/// not told through [`Schedule`].
pub(crate) trait Runner {
    /// The executor whose tasks it takes, and which it keeps alive.
    fn home(&self) -> Home;

    /// The task that it took was claimed, and is about to run for the first time.
    fn started(&self);

    /// That task ended; the outcome is not visible yet.
    fn ended(&self, end: &Ended);

    /// The cell of that task is gone, and gave up this reference to its executor, which may be
    /// dropped a little later: to count down for many at once is cheaper. Runs no user code.
    fn let_go(&self, home: Arc<dyn Schedule>);

    /// Queues a task of the same executor that this one has woken.
    fn woken(&self, task: TaskRef);
}
