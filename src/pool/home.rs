//! The pool as its tasks see it: three homes.

#![forbid(unsafe_code)]

use std::sync::OnceLock;

use crate::base::sync::Arc;
use crate::base::sync::atomic::Ordering;
use crate::pool::seal::Phase;
use crate::pool::seat::Seat;
use crate::pool::shared::Shared;
use crate::pool::worker::with_worker;
use crate::task::{Ended, Home, Schedule, TaskRef, WakeKind};

/// The home of jobs and tasks that any worker may run.
///
/// Several per pool and one per worker, each on cache lines of its own: every job holds its
/// home, and all submitters would meet at the count of references of a single one.
#[repr(align(128))]
pub(super) struct Door(pub(super) Arc<Shared>);

impl Schedule for Door {
    fn schedule(&self, task: TaskRef, kind: WakeKind) {
        self.0.schedule(task, kind);
    }

    fn revived(&self) {
        self.0.after_push();
    }

    fn home(&self) -> Home {
        Home::Pool(self.0.id)
    }

    fn started(&self, task: &TaskRef) {
        self.0.started(task);
    }

    fn suspended(&self, task: &TaskRef) {
        self.0.suspended(task);
    }

    fn ended(&self, end: Ended) {
        self.0.ended(&end);
    }
}

/// The home of one pinned task: remembers the worker that it has settled on, which therefore
/// stays.
pub(super) struct Pinned {
    shared: Arc<Shared>,
    seat: OnceLock<Arc<Seat>>,
}

impl Pinned {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            seat: OnceLock::new(),
        }
    }
}

impl Schedule for Pinned {
    fn schedule(&self, task: TaskRef, kind: WakeKind) {
        self.shared.schedule(task, kind);
    }

    fn home(&self) -> Home {
        Home::Pool(self.shared.id)
    }

    fn started(&self, task: &TaskRef) {
        with_worker(self.shared.id, |worker| {
            // Ordering: Relaxed: the worker itself reads it before it leaves.
            worker.seat.pinned.fetch_add(1, Ordering::Relaxed);
            let _ = self.seat.set(worker.seat.clone());
        });
        self.shared.started(task);
    }

    fn suspended(&self, task: &TaskRef) {
        self.shared.suspended(task);
    }

    fn ended(&self, end: Ended) {
        self.shared.ended(&end);
        if let Some(seat) = self.seat.get() {
            // Ordering: Release: a worker that leaves because none is left sees its end. No model
            // needs it: what that worker looks at then is its own, or has an order of its own.
            seat.pinned.fetch_sub(1, Ordering::Release);
            if self.shared.seal.phase() != Phase::Open {
                seat.waker.wake_by_ref();
            }
        }
    }
}

/// The home of work that is refused.
pub(super) struct Nowhere;

impl Nowhere {
    pub(super) fn home() -> Arc<dyn Schedule> {
        static NOWHERE: OnceLock<Arc<Nowhere>> = OnceLock::new();
        NOWHERE.get_or_init(|| Arc::new(Nowhere)).clone()
    }
}

impl Schedule for Nowhere {
    fn schedule(&self, task: TaskRef, _: WakeKind) {
        task.shut_down();
    }

    fn home(&self) -> Home {
        Home::Anywhere
    }
}
