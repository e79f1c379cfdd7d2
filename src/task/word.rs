//! The atomic word, and how it moves from one [`Snapshot`] to the next.
//!
//! [`Word::turn`] is the compare-exchange loop, [`Word::turn_if`] its short form. Every successful
//! turn is AcqRel, also one that changes nothing: a redundant wake publishes what its caller wrote
//! before it. [`Word::turn_own`] spares who is alone with the cell the compare-exchange.

#![forbid(unsafe_code)]

use std::fmt;

use super::state::{
    ASSIGNED, CANCEL, DONE, FUTURE, HANDLE, HELPED, LATE, LENT, ORPHAN, OUTPUT, PREVENTED,
    REPORTED, RUNNING, SCHEDULED, SOURCE, STALE, STARTED, SUSPENDED, Snapshot, TAKEN, WAITS,
    WATCHED, WORK,
};
use crate::base::sync::atomic::{AtomicU64, Ordering};

/// The atomic word.
#[derive(Debug)]
pub(super) struct Word(AtomicU64);

impl Word {
    pub(super) fn new(born: Snapshot) -> Self {
        Self(AtomicU64::new(born.0))
    }

    /// What the word says, with everything that was published before it said so.
    #[inline]
    pub(super) fn load(&self) -> Snapshot {
        // Ordering: Acquire pairs with the Release of every turn.
        Snapshot(self.0.load(Ordering::Acquire))
    }

    /// What the word says; publishes and sees nothing else.
    #[inline]
    pub(super) fn peek(&self) -> Snapshot {
        // Ordering: Relaxed: for questions whose answer may be old when it arrives.
        Snapshot(self.0.load(Ordering::Relaxed))
    }

    /// Makes the transition that `step` finds for the word as it is. The loop of the house.
    #[inline]
    pub(super) fn turn<D>(&self, step: impl Fn(Snapshot) -> (D, Option<Snapshot>)) -> D {
        let mut now = self.load();
        loop {
            let (duty, next) = step(now);
            let Some(next) = next else { return duty };
            match self.go(now, next) {
                Ok(()) => return duty,
                Err(changed) => now = changed,
            }
        }
    }

    /// The move itself; what the word says now if that is not `now`.
    #[inline(always)]
    fn go(&self, now: Snapshot, next: Snapshot) -> Result<(), Snapshot> {
        // Ordering: Release publishes what the party wrote before its move (the slot, a
        // waker's data); Acquire takes over what the parties before it published.
        self.0
            .compare_exchange_weak(now.0, next.0, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
            .map_err(Snapshot)
    }

    /// The same for a party whose reference is its own, so that no other thread uses that one:
    /// where it is the only reference, nobody else can move, and a store will do.
    #[inline]
    pub(super) fn turn_own<D>(&self, step: impl Fn(Snapshot) -> (D, Option<Snapshot>)) -> D {
        let now = self.load();
        if !now.is_alone() {
            return self.turn(step);
        }
        let (duty, next) = step(now);
        if let Some(next) = next {
            self.put(next);
        }
        duty
    }

    /// Moves the word of a cell to which this party has the only reference.
    #[inline]
    pub(super) fn put(&self, next: Snapshot) {
        // Ordering: Relaxed: whoever sees the word next is this thread, or gets a reference
        // from it; what was published before came with the load.
        self.0.store(next.0, Ordering::Relaxed);
    }

    /// Makes the transition if the word is one for which `step` knows the next; what it was.
    ///
    /// A loop of its own: what [`Word::turn`] has to carry for its callers goes through memory on
    /// the way into the exchange, which then waits for it.
    #[inline]
    pub(super) fn turn_if(&self, step: impl Fn(Snapshot) -> Option<Snapshot>) -> Option<Snapshot> {
        let mut now = self.load();
        loop {
            match self.go(now, step(now)?) {
                Ok(()) => return Some(now),
                Err(changed) => now = changed,
            }
        }
    }

    /// Makes the change and tells what the word said before.
    pub(super) fn change(&self, step: impl Fn(Snapshot) -> Snapshot) -> Snapshot {
        self.turn(|now| (now, Some(step(now))))
    }

    /// Clears `flag` and tells what the word said before.
    pub(super) fn clear(&self, flag: u64) -> Snapshot {
        self.change(|now| now.without(flag))
    }

    /// Sets `flag` and tells what the word said before.
    pub(super) fn set(&self, flag: u64) -> Snapshot {
        self.change(|now| now.with(flag))
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[rustfmt::skip]
        const NAMES: [(u64, &str); 22] = [
            (STARTED, "started"), (PREVENTED, "prevented"), (RUNNING, "running"),
            (SCHEDULED, "scheduled"), (DONE, "done"), (CANCEL, "cancel"),
            (WATCHED, "watched"), (HANDLE, "handle"), (TAKEN, "taken"),
            (REPORTED, "reported"), (SUSPENDED, "suspended"), (OUTPUT, "output"),
            (WORK, "work"), (ORPHAN, "orphan"), (FUTURE, "future"),
            (LATE, "late"), (SOURCE, "source"), (HELPED, "helped"),
            (WAITS, "waits"), (LENT, "lent"), (STALE, "stale"),
            (ASSIGNED, "assigned"),
        ];
        let mut set = f.debug_set();
        for (_, name) in NAMES.iter().filter(|(bit, _)| self.has(*bit)) {
            set.entry(name);
        }
        if let Some(family) = self.family() {
            set.entry(&family);
        }
        set.entry(&format_args!("{} drivers", self.drivers()));
        set.entry(&format_args!("{} holders", self.holders()));
        set.finish()
    }
}
