//! What a [`Timer`](super::Timer) and the agenda it stands in have in common.
//!
//! The timer may be dropped on any thread while the agenda belongs to another one, so the
//! two meet in a slot behind a lock of its own. Taking the waker out of the slot decides who
//! it belongs to: the agenda (fires it) or the timer (lets it go).
//!
//! # State
//!
//! | `state`    | meaning                                      | next                |
//! |------------|----------------------------------------------|---------------------|
//! | `Waiting`  | in the agenda of `home`; the waker is here   | any other           |
//! | `Fired`    | its time has come; out of every agenda       | (final)             |
//! | `Early`    | out of every agenda before its time          | (final)             |
//! | `Released` | still in an agenda, but nobody waits for it  | (final)             |
//!
//! # Invariants
//!
//! 1. `home.released` counts exactly the entries of that agenda that are `Released`: it is
//!    raised under the slot's lock at the transition, and lowered when the entry is taken out.
//! 2. No waker is cloned, called or dropped under the lock.

#![forbid(unsafe_code)]

use std::task::Waker;

use crate::base::sync::atomic::{AtomicUsize, Ordering};
use crate::base::sync::{Arc, Mutex};

/// The identity of an agenda, and how many of its entries nobody waits for.
#[derive(Debug)]
pub(super) struct Home {
    released: AtomicUsize,
    keeper: Keeper,
}

/// Who fires what stands in an agenda.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeper {
    /// A thread, while one of its frames runs.
    Thread,
    /// A worker, between two tasks; others, if it does not come back.
    Worker,
    /// The driver.
    Driver,
}

/// Where a timer is polled: in which agenda may its entry stand?
#[derive(Clone, Copy, Debug)]
pub(super) enum Polled<'a> {
    /// In a frame: in the one of this thread.
    InFrame(&'a Arc<Home>),
    /// By a worker's task, for itself: in this worker's, in the driver's; and in that of another
    /// worker where it stands for the same task. For then that worker is done with the poll that
    /// put it there; of another task's timer that is not known.
    ByTask(*const Home),
    /// By somebody who may block the thread next: in the driver's, of this process.
    ByStranger(&'a Arc<Home>),
}

impl Home {
    pub(super) fn new(keeper: Keeper) -> Arc<Self> {
        Arc::new(Self {
            released: AtomicUsize::new(0),
            keeper,
        })
    }

    pub(super) fn released(&self) -> usize {
        // Ordering: Relaxed: a hint when to tidy up; the entries themselves are read under
        // their locks.
        self.released.load(Ordering::Relaxed)
    }

    /// `count` released entries were taken out of the agenda.
    pub(super) fn buried(&self, count: usize) {
        // Ordering: Relaxed, as above.
        self.released.fetch_sub(count, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    slot: Mutex<Slot>,
    /// No timer stands behind it: it must not be woken before its time.
    strict: bool,
}

#[derive(Debug)]
struct Slot {
    state: State,
    home: Arc<Home>,
}

#[derive(Debug)]
enum State {
    Waiting(Waker),
    Fired,
    Early,
    Released,
}

/// What became of the wish to be woken through another waker.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// The entry stands where it should and wakes the right waker.
    Done,
    /// Its time has come.
    Fired,
    /// The entry stands in another agenda or in none: release it and register afresh.
    Astray,
}

impl Entry {
    pub(super) fn new(home: Arc<Home>, waker: Waker, strict: bool) -> Arc<Self> {
        let state = State::Waiting(waker);
        Arc::new(Self {
            slot: Mutex::new(Slot { state, home }),
            strict,
        })
    }

    pub(super) fn is_strict(&self) -> bool {
        self.strict
    }

    pub(super) fn is_released(&self) -> bool {
        matches!(self.slot.lock().state, State::Released)
    }

    /// Its time has come and it is out of its agenda: the waker to call, unless it was
    /// released.
    pub(super) fn fire(&self) -> Option<Waker> {
        self.slot.lock().leave(State::Fired)
    }

    /// It is out of its agenda before its time; otherwise like [`Entry::fire`].
    pub(super) fn fire_early(&self) -> Option<Waker> {
        self.slot.lock().leave(State::Early)
    }

    /// Nobody waits any more: the waker to drop, unless it was fired.
    pub(super) fn release(&self) -> Option<Waker> {
        let mut slot = self.slot.lock();
        let waker = slot.leave(State::Released)?;
        // Ordering: Relaxed: see `Home::released`.
        slot.home.released.fetch_add(1, Ordering::Relaxed);
        Some(waker)
    }

    /// From now on wakes `waker`, if the entry still waits where it may.
    pub(super) fn renew(&self, polled: Polled<'_>, waker: &Waker) -> Renewal {
        let mut slot = self.slot.lock();
        match &slot.state {
            State::Waiting(present) => {
                let is_same = present.will_wake(waker);
                if !slot.may_stay(polled, is_same) {
                    return Renewal::Astray;
                }
                if is_same {
                    return Renewal::Done;
                }
            }
            State::Fired => return Renewal::Fired,
            State::Early | State::Released => return Renewal::Astray,
        }
        drop(slot);
        let mut other = waker.clone();
        slot = self.slot.lock();
        let here = slot.may_stay(polled, false);
        let renewal = match &mut slot.state {
            State::Waiting(present) if here => {
                std::mem::swap(present, &mut other);
                Renewal::Done
            }
            State::Fired => Renewal::Fired,
            _ => Renewal::Astray,
        };
        drop(slot);
        drop(other);
        renewal
    }

    /// Moves to the agenda of `home`; false if nobody waits for it.
    pub(super) fn move_to(&self, home: &Arc<Home>) -> bool {
        let mut slot = self.slot.lock();
        let waits = matches!(slot.state, State::Waiting(_));
        if waits {
            // The last reference to an agenda's identity carries no user code.
            slot.home = home.clone();
        }
        waits
    }
}

impl Slot {
    /// `is_same`: it wakes whom the new waker would wake.
    fn may_stay(&self, polled: Polled<'_>, is_same: bool) -> bool {
        match polled {
            Polled::InFrame(home) | Polled::ByStranger(home) => Arc::ptr_eq(&self.home, home),
            // No worker runs in a forked child, whose parent's driver does not count.
            Polled::ByTask(own) => match self.home.keeper {
                Keeper::Thread => false,
                Keeper::Worker => is_same || std::ptr::eq(Arc::as_ptr(&self.home), own),
                Keeper::Driver => true,
            },
        }
    }

    /// Goes from `Waiting` to `next` and hands out the waker; nothing in any other state.
    fn leave(&mut self, next: State) -> Option<Waker> {
        let before = std::mem::replace(&mut self.state, next);
        match before {
            State::Waiting(waker) => Some(waker),
            other => {
                self.state = other;
                None
            }
        }
    }
}
