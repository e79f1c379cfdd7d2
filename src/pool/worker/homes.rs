//! References to the pool that its jobs gave up on one of its workers, kept there for a while.
//!
//! Every cell has a counted reference to the home that it was made with. Of a job that nobody reads
//! the submitter counts up and the worker, which frees the cell, counts down: one line that two CPUs
//! want for each job. So a worker keeps what it is given, and counts down for many at once.
//!
//! # Invariants
//!
//! 1. Kept are references to homes of the worker's own pool, which the worker keeps alive anyway.
//! 2. A worker keeps fewer than [`KEPT_MAX`], and none when it looks for work in vain.

#![forbid(unsafe_code)]

use std::cell::RefCell;

use crate::base::sync::Arc;
use crate::task::Schedule;

/// With so many a worker counts down for half of them.
const KEPT_MAX: usize = 64;

/// What a worker keeps.
pub(super) struct Homes(RefCell<Vec<Arc<dyn Schedule>>>);

impl Homes {
    pub(super) fn new() -> Self {
        Self(RefCell::new(Vec::with_capacity(KEPT_MAX)))
    }

    /// The drop of a home runs no code of a user's, nor comes back here.
    #[inline]
    pub(super) fn keep(&self, home: Arc<dyn Schedule>) {
        let mut kept = self.0.borrow_mut();
        kept.push(home);
        if kept.len() == KEPT_MAX {
            kept.truncate(KEPT_MAX / 2);
        }
    }

    pub(super) fn drop_all(&self) {
        self.0.borrow_mut().clear();
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{Homes, KEPT_MAX};
    use crate::base::sync::Arc;
    use crate::task::{Home, Schedule, TaskRef, WakeKind};

    struct Nobody;

    impl Schedule for Nobody {
        fn schedule(&self, task: TaskRef, _: WakeKind) {
            task.shut_down();
        }
        fn home(&self) -> Home {
            Home::Anywhere
        }
    }

    #[test]
    fn a_worker_keeps_no_more_than_its_share_and_nothing_when_it_has_no_work() {
        let home: Arc<dyn Schedule> = Arc::new(Nobody);
        let homes = Homes::new();
        for _ in 0..10 * KEPT_MAX {
            homes.keep(home.clone());
            assert!((2..=KEPT_MAX).contains(&Arc::strong_count(&home)));
        }
        homes.drop_all();
        assert_eq!(Arc::strong_count(&home), 1);
    }
}
