//! Who hears of a task that a worker keeps to itself, and who looks after that worker.
//!
//! A task that is woken by a task waits for the worker that is polling, which takes it next, so
//! nobody is woken for it. A poll that blocks in a way of its own would hold it up: a timer comes
//! back and gives it away.
//!
//! # States of [`Kept`]
//!
//! | state   | the worker keeps something | a guard is out | who leaves it, for what              |
//! |---------|----------------------------|----------------|--------------------------------------|
//! | `Free`  | no                         | no             | the worker: `Keeps`, posts a guard   |
//! | `Keeps` | yes, since the last time   | yes            | the worker: `Calm`                   |
//! | `Calm`  | no                         | yes            | the worker: `Keeps`; the guard: `Free`, and goes |
//!
//! # Invariants
//!
//! 1. A guard is out exactly in `Keeps` and in `Calm`.
//! 2. Only the worker leaves `Keeps`. So a worker that keeps one thing after the other, as all do
//!    that run tasks which wake each other, reads what it wrote itself, and moves nothing.
//!
//! A guard therefore comes back for as long as the worker keeps something, less and less often
//! while that worker does not move.

#![forbid(unsafe_code)]

use std::time::Duration;

use crate::base::clock::deadline_after;
use crate::base::sync::Arc;
use crate::base::sync::atomic::{AtomicU8, Ordering};
use crate::pool::seat::Seat;
use crate::pool::shared::Shared;
use crate::timer;

/// How long a poll may keep what it has woken from others.
const PATIENCE: Duration = Duration::from_millis(2);

/// How long a guard stays away that has found the same poll again and again.
const PATIENCE_MAX: Duration = Duration::from_millis(32);

const FREE: u8 = 0;
const KEEPS: u8 = 1;
const CALM: u8 = 2;

/// Does a worker keep something, and is somebody on guard?
#[derive(Debug)]
pub(super) struct Kept(AtomicU8);

impl Kept {
    pub(super) fn new() -> Self {
        Self(AtomicU8::new(FREE))
    }

    /// The worker keeps something; true if it has to post a guard.
    #[inline]
    pub(super) fn keeps(&self) -> bool {
        // Ordering: Relaxed: of `KEEPS` this worker reads its own write (invariant 2).
        if self.0.load(Ordering::Relaxed) == KEEPS {
            return false;
        }
        // Ordering: Release pairs with the guard's look; one move decides against `leaves`.
        self.0.swap(KEEPS, Ordering::AcqRel) == FREE
    }

    /// The worker keeps nothing any more; true if it did.
    #[inline]
    pub(super) fn gives_up(&self) -> bool {
        // Ordering: Relaxed, as in `keeps`.
        if self.0.load(Ordering::Relaxed) != KEEPS {
            return false;
        }
        // Ordering: a store, as nobody else leaves `KEEPS`; Relaxed: a guard that sees it late
        // comes once more.
        self.0.store(CALM, Ordering::Relaxed);
        true
    }

    /// The guard wants to go; false while the worker keeps something.
    fn leaves(&self) -> bool {
        // Ordering: Acquire pairs with `keeps`: what was kept before is seen.
        self.0
            .compare_exchange(CALM, FREE, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

/// Who has to be told of a task that was woken.
#[must_use]
pub(super) enum Announce {
    /// A sleeper, as of a push.
    Now,
    /// Nobody: this worker takes it next.
    Never,
    /// Nobody, unless the worker does not come back from its present poll: post a guard.
    Later,
}

/// Looks after a worker that has kept a task to itself: a poll that blocks (it should not) must
/// not hold up what it has woken.
pub(super) struct Guard {
    seat: Arc<Seat>,
    taken: u64,
    patience: Duration,
}

impl Guard {
    pub(super) fn over(seat: &Arc<Seat>) -> Self {
        Self {
            seat: seat.clone(),
            taken: seat.tally.taken.read(),
            patience: PATIENCE,
        }
    }

    /// Comes back, again and again for as long as the worker keeps something.
    pub(super) fn post(self, shared: &Arc<Shared>) {
        let shared = Arc::downgrade(shared);
        timer::call_at(deadline_after(self.patience), move || {
            if let Some(shared) = shared.upgrade() {
                self.strike(&shared);
            }
        });
    }

    fn strike(mut self, shared: &Arc<Shared>) {
        if self.seat.kept.leaves() {
            return;
        }
        let taken = self.seat.tally.taken.read();
        if taken == self.taken {
            if let Some(task) = self.seat.next.take() {
                shared.injector.push(task);
            }
            shared.after_push();
            self.patience = (self.patience * 2).min(PATIENCE_MAX);
        } else {
            (self.taken, self.patience) = (taken, PATIENCE);
        }
        self.post(shared);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::Kept;

    #[test]
    fn one_guard_is_out_for_as_long_as_something_is_kept() {
        let kept = Kept::new();
        assert!(!kept.gives_up());
        assert!(kept.keeps(), "the first");
        assert!(!kept.keeps() && !kept.leaves());
        assert!(kept.gives_up() && !kept.gives_up());
        assert!(!kept.keeps(), "it is still out");
        assert!(kept.gives_up() && kept.leaves() && !kept.leaves());
        assert!(kept.keeps(), "the next");
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::Kept;
    use crate::base::sync::{Arc, thread};

    /// Question: is a guard ever missing over a worker that keeps something, or is there one too
    /// many?
    ///
    /// Bound: a worker that keeps, gives up and keeps again, twice; one guard that looks three
    /// times at most.
    ///
    /// Must fail when: the worker's move to `Keeps`, or the guard's to `Free`, is a look and a
    /// store.
    #[test]
    fn loom_pool_what_is_kept_is_guarded() {
        loom::model(|| {
            let kept = Arc::new(Kept::new());
            assert!(kept.keeps());
            let guard = {
                let kept = kept.clone();
                thread::spawn(move || (0..3).any(|_| kept.leaves()))
            };
            let mut posted = 0;
            for _ in 0..2 {
                assert!(kept.gives_up());
                posted += usize::from(kept.keeps());
            }
            let gone = usize::from(guard.join().unwrap());
            assert_eq!(posted, gone, "one for one that went, over what is kept now");
        });
    }
}
