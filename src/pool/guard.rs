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
//! | `Keeps` | yes, since the last time   | yes            | the worker: `Calm`; `Alone`, if there is no guard to be had |
//! | `Calm`  | no                         | yes            | the worker: `Keeps`; the guard: `Free`, and goes |
//! | `Alone` | it has, and says so at once | no            | the worker: `Free`                   |
//!
//! # Invariants
//!
//! 1. A guard is out exactly in `Keeps` and in `Calm`, or is about to be.
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
const ALONE: u8 = 3;

/// Does a worker keep something, and is somebody on guard?
#[derive(Debug)]
pub(super) struct Kept(AtomicU8);

impl Kept {
    pub(super) fn new() -> Self {
        Self(AtomicU8::new(FREE))
    }

    /// The worker keeps something: who has to hear of it?
    #[inline]
    pub(super) fn keeps(&self) -> Announce {
        // Ordering: Relaxed: of `KEEPS` and `ALONE` this worker reads its own write (invariant 2).
        match self.0.load(Ordering::Relaxed) {
            KEEPS => return Announce::Never,
            ALONE => return Announce::Now,
            _ => {}
        }
        // Ordering: Release pairs with the guard's look; one move decides against `leaves`.
        match self.0.swap(KEEPS, Ordering::AcqRel) {
            FREE => Announce::Later,
            _ => Announce::Never,
        }
    }

    /// No guard can be posted: others hear at once of what the worker keeps, until it keeps nothing.
    #[cold]
    fn alone(&self) {
        // Ordering: Relaxed: no guard is out, so nobody else looks.
        self.0.store(ALONE, Ordering::Relaxed);
    }

    /// The worker keeps nothing any more; true if it did.
    #[inline]
    pub(super) fn gives_up(&self) -> bool {
        // Ordering: Relaxed, as in `keeps`.
        let next = match self.0.load(Ordering::Relaxed) {
            KEEPS => CALM,
            ALONE => FREE,
            _ => return false,
        };
        // Ordering: a store, as nobody else leaves `KEEPS`; Relaxed: a guard that sees it late
        // comes once more.
        self.0.store(next, Ordering::Relaxed);
        true
    }

    /// The guard wants to go; false while the worker keeps something.
    fn leaves(&self) -> bool {
        // Ordering: Acquire pairs with `keeps`. The model needs the one move, and no order: the
        // guard that goes reads nothing more.
        self.0
            .compare_exchange(CALM, FREE, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

/// Who has to be told of a task that was woken.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    /// Comes back, again and again for as long as the worker keeps something. Where there is no
    /// thread for timers, others hear at once of what is kept.
    pub(super) fn post(self, shared: &Arc<Shared>) {
        let seat = self.seat.clone();
        let pool = Arc::downgrade(shared);
        let is_out = timer::call_at(deadline_after(self.patience), move || {
            if let Some(shared) = pool.upgrade() {
                self.strike(&shared);
            }
        });
        // A guard that comes back does so on that thread.
        if !is_out {
            seat.kept.alone();
            shared.after_push();
        }
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
    use super::{Announce, Kept};

    #[test]
    fn one_guard_is_out_for_as_long_as_something_is_kept() {
        let kept = Kept::new();
        assert!(!kept.gives_up());
        assert_eq!(kept.keeps(), Announce::Later, "the first");
        assert!(kept.keeps() == Announce::Never && !kept.leaves());
        assert!(kept.gives_up() && !kept.gives_up());
        assert_eq!(kept.keeps(), Announce::Never, "it is still out");
        assert!(kept.gives_up() && kept.leaves() && !kept.leaves());
        assert_eq!(kept.keeps(), Announce::Later, "the next");
    }

    #[test]
    fn where_no_guard_is_to_be_had_all_is_said_at_once_until_the_next_time() {
        let kept = Kept::new();
        assert_eq!(kept.keeps(), Announce::Later);
        kept.alone();
        assert!(kept.keeps() == Announce::Now && kept.keeps() == Announce::Now);
        assert!(kept.gives_up() && !kept.gives_up());
        assert_eq!(kept.keeps(), Announce::Later, "it tries again");
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::{Announce, Kept};
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
            assert_eq!(kept.keeps(), Announce::Later);
            let guard = {
                let kept = kept.clone();
                thread::spawn(move || (0..3).any(|_| kept.leaves()))
            };
            let mut posted = 0;
            for _ in 0..2 {
                assert!(kept.gives_up());
                posted += usize::from(kept.keeps() == Announce::Later);
            }
            let gone = usize::from(guard.join().unwrap());
            assert_eq!(posted, gone, "one for one that went, over what is kept now");
        });
    }
}
