//! A condition variable that actors of a simulation can wait for.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::MutexGuard;

use crate::base::simulated::world::Until;
use crate::base::simulated::{reason, seat};

/// `parking_lot`'s surface. Every notification lets all actors look again.
#[derive(Debug, Default)]
pub(crate) struct Condvar {
    real: parking_lot::Condvar,
    notices: Arc<AtomicU64>,
}

/// Whether a timed wait ran out.
#[derive(Debug)]
pub(crate) struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        if !self.stand(guard, None) {
            self.real.wait(guard);
        }
    }

    pub(crate) fn wait_until<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        deadline: Instant,
    ) -> WaitTimeoutResult {
        if self.stand(guard, Some(deadline)) {
            return WaitTimeoutResult(super::now().is_some_and(|now| now >= deadline));
        }
        WaitTimeoutResult(self.real.wait_until(guard, deadline).timed_out())
    }

    /// Stands still without the lock; false outside a simulation.
    fn stand<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Option<Instant>) -> bool {
        let Some((world, actor)) = seat() else {
            return false;
        };
        // Ordering: Relaxed: one actor runs at a time, and the world's lock passes the turn.
        let seen = self.notices.load(Ordering::Relaxed);
        let until = Until::Notice(self.notices.clone(), seen);
        MutexGuard::unlocked(guard, || world.wait(actor, until, deadline, reason()));
        true
    }

    pub(crate) fn notify_one(&self) {
        // Ordering: Relaxed, as in `stand`.
        self.notices.fetch_add(1, Ordering::Relaxed);
        self.real.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        // Ordering: Relaxed, as in `stand`.
        self.notices.fetch_add(1, Ordering::Relaxed);
        self.real.notify_all();
    }
}
