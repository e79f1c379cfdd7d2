//! Who submits: a worker of the pool, or a thread from outside. Found out once per submission.
//!
//! What a worker submits has the worker's own door for its home, counts in the worker's own
//! tally, and goes into the worker's own queue: nothing of that is shared until somebody steals.

#![forbid(unsafe_code)]

use std::rc::Rc;

use crate::base::count::{SHARDS, shard};
use crate::base::sync::Arc;
use crate::pool::home::Door;
use crate::pool::shared::Shared;
use crate::pool::worker::{self, Worker};
use crate::task::{Schedule, TaskRef};

/// The calling thread, as a pool sees it.
pub(super) enum Caller {
    Worker(Rc<Worker>),
    /// Its group among all threads.
    Outsider(usize),
}

impl Caller {
    #[inline]
    pub(super) fn of(shared: &Shared) -> Self {
        match worker::of(shared.id) {
            Some(worker) => Self::Worker(worker),
            None => Self::Outsider(shard()),
        }
    }

    /// The home of what it submits.
    #[inline]
    pub(super) fn home(&self, doors: &[Arc<Door>; SHARDS]) -> Arc<dyn Schedule> {
        match self {
            Self::Worker(worker) => worker.door.clone(),
            Self::Outsider(group) => doors[*group].clone(),
        }
    }

    /// Counts jobs as submitted. Before they can be cancelled or run.
    #[inline]
    pub(super) fn count_submitted(&self, shared: &Shared, count: u64) {
        match self {
            Self::Worker(worker) => worker.seat.tally.submitted.add(count),
            Self::Outsider(group) => shared.outside.submitted.add_to(*group, count),
        }
    }

    /// Takes the count of one back that turned out to be nobody's.
    pub(super) fn uncount_submitted(&self, shared: &Shared) {
        self.count_submitted(shared, 1_u64.wrapping_neg());
        // A drain that has just seen the count is looked after here.
        shared.see_to_the_end();
    }

    /// Queues without waking anybody: [`Shared::after_push`] follows.
    #[inline]
    pub(super) fn put(&self, shared: &Shared, task: TaskRef) {
        match self {
            // One worker alone keeps the order of all submissions.
            Self::Worker(worker) if shared.settings.core > 1 => worker.local.push(task),
            _ => shared.injector.push(task),
        }
    }

    /// The same for many.
    pub(super) fn put_all(&self, shared: &Shared, tasks: &mut Vec<TaskRef>) {
        match self {
            Self::Worker(_) => tasks.drain(..).for_each(|task| self.put(shared, task)),
            Self::Outsider(_) => shared.injector.extend(tasks.drain(..)),
        }
    }
}
