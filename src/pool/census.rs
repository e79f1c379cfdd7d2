//! How many threads a pool has, how many of them are on their way, how many are blocked in a
//! wait of ours, and how many are leaving: four counts in one word, so that a decision never
//! mixes two moments.
//!
//! A worker that retires is none of the pool's threads any more from the moment of the decision:
//! nobody counts on it. But its thread is there until its stop hook has run and it has left its
//! seat, so it keeps its place under the cap until then ([`Census::gone`]). A start that finds no
//! place because of it is made up for by the one that leaves: it looks at the queues once more.
//!
//! # Invariant
//!
//! Only one of more than `core` threads, at least one, retires; so whoever finds no thread at all
//! finds a place for one.

#![forbid(unsafe_code)]

use std::fmt;

use crate::base::sync::atomic::{AtomicU64, Ordering, fence};

/// Bits of each count; a pool has at most 32 768 threads.
const BITS: u32 = 16;
const MASK: u64 = (1 << BITS) - 1;
const THREAD: u64 = 1;
const STARTING: u64 = 1 << BITS;
const BLOCKED: u64 = 1 << (2 * BITS);
const LEAVING: u64 = 1 << (3 * BITS);

/// The counts at one moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Headcount(u64);

impl Headcount {
    /// Threads, with those that are being started and without those that are leaving.
    #[inline]
    pub(super) fn threads(self) -> usize {
        (self.0 & MASK) as usize
    }

    /// Threads that are being started.
    pub(super) fn starting(self) -> usize {
        ((self.0 / STARTING) & MASK) as usize
    }

    /// Workers in a wait of ours, also such as are leaving.
    pub(super) fn blocked(self) -> usize {
        ((self.0 / BLOCKED) & MASK) as usize
    }

    /// Threads that have retired and are still there.
    pub(super) fn leaving(self) -> usize {
        (self.0 / LEAVING) as usize
    }

    /// All that have a place under the cap.
    pub(super) fn present(self) -> usize {
        self.threads() + self.leaving()
    }
}

impl fmt::Debug for Headcount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Headcount")
            .field("threads", &self.threads())
            .field("starting", &self.starting())
            .field("blocked", &self.blocked())
            .field("leaving", &self.leaving())
            .finish()
    }
}

/// The word.
#[derive(Debug)]
pub(super) struct Census(AtomicU64);

impl Census {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    #[inline]
    pub(super) fn now(&self) -> Headcount {
        // Ordering: Acquire pairs with the changes: who sees a thread gone sees what it did. No
        // model needs it: the fences decide, and what lies in queues is ordered by those.
        Headcount(self.0.load(Ordering::Acquire))
    }

    /// Counts up to `count` threads as started and starting, within `max`; returns how many.
    pub(super) fn reserve(&self, count: usize, max: usize) -> usize {
        let mut granted = 0;
        let _ = self.change(|now| {
            granted = max.saturating_sub(now.present()).min(count);
            let more = (THREAD + STARTING) * granted as u64;
            (granted > 0).then_some(now.0 + more)
        });
        granted
    }

    /// The same for one, if there is no thread at all; false if there is.
    pub(super) fn reserve_first(&self, max: usize) -> bool {
        let first = self.change(|now| {
            let is_first = now.threads() == 0 && now.present() < max;
            is_first.then_some(now.0 + THREAD + STARTING)
        });
        first.is_ok()
    }

    /// Takes a reservation back. The caller then looks after those who counted on it.
    pub(super) fn release(&self, count: usize) -> Headcount {
        let left = self.add(((THREAD + STARTING) * count as u64).wrapping_neg());
        // Ordering: the look at the queues comes after the move; pairs with the fence between a
        // push and the pusher's look at this word.
        fence(Ordering::SeqCst);
        left
    }

    /// A started thread is there. What it does not take itself it then looks after.
    pub(super) fn arrived(&self) {
        self.add(STARTING.wrapping_neg());
        // Ordering: whoever pushes may count on it no more; pairs with the fence between a push
        // and the pusher's look at this word.
        fence(Ordering::SeqCst);
    }

    /// A thread has left for good, at the pool's end.
    pub(super) fn left(&self) -> Headcount {
        self.add(THREAD.wrapping_neg())
    }

    /// A thread retires if there are more than `core`; false otherwise. The caller then looks at
    /// the queues once more, for whoever has counted on it; [`Census::gone`] follows.
    pub(super) fn leaves_if_above(&self, core: usize) -> bool {
        let leaves = self.change(|now| {
            let is_spare = now.threads() > core;
            is_spare.then(|| now.0 - THREAD + LEAVING)
        });
        // Ordering: the look comes after the move; pairs with the fence between a push and the
        // pusher's look at this word.
        fence(Ordering::SeqCst);
        leaves.is_ok()
    }

    /// A thread that has retired is gone. The caller then looks at the queues once more, for
    /// whoever has found no place for a start.
    pub(super) fn gone(&self) {
        self.add(LEAVING.wrapping_neg());
        // Ordering: of the look after the place is free, with the pusher's fence as above.
        fence(Ordering::SeqCst);
    }

    /// A worker begins to block in a wait of ours. The caller then looks at the queues and the
    /// phase, and at the other workers.
    pub(super) fn block_begins(&self) {
        self.add(BLOCKED);
        // Ordering: a submitter pushes, passes a fence, and looks at this word; a stranded worker
        // sets its flag, and a sealer the phase, and do the same.
        fence(Ordering::SeqCst);
    }

    /// It goes on.
    pub(super) fn block_ends(&self) {
        self.add(BLOCKED.wrapping_neg());
    }

    fn add(&self, change: u64) -> Headcount {
        // Ordering: no model needs it either; see `now`.
        let before = self.0.fetch_add(change, Ordering::AcqRel);
        Headcount(before.wrapping_add(change))
    }

    fn change(&self, step: impl FnMut(Headcount) -> Option<u64>) -> Result<(), ()> {
        let mut step = step;
        let mut seen = self.now();
        loop {
            let next = step(seen).ok_or(())?;
            // Ordering: no model needs it either; see `now`.
            match self
                .0
                .compare_exchange_weak(seen.0, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Ok(()),
                Err(now) => seen = Headcount(now),
            }
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::Census;

    fn counts(census: &Census) -> (usize, usize, usize) {
        let now = census.now();
        (now.threads(), now.starting(), now.blocked())
    }

    #[test]
    fn reservations_stay_within_the_cap() {
        let census = Census::new();
        assert_eq!(census.reserve(3, 4), 3);
        assert_eq!(census.reserve(3, 4), 1);
        assert_eq!(census.reserve(1, 4), 0);
        assert_eq!(counts(&census), (4, 4, 0));
        census.arrived();
        assert_eq!(census.release(3).threads(), 1);
        assert_eq!(counts(&census), (1, 0, 0));
    }

    #[test]
    fn blocked_ones_are_counted_beside_the_others() {
        let census = Census::new();
        assert_eq!(census.reserve(2, 2), 2);
        (0..2).for_each(|_| census.arrived());
        census.block_begins();
        census.block_begins();
        census.block_ends();
        assert_eq!(counts(&census), (2, 0, 1));
    }

    #[test]
    fn nobody_leaves_who_belongs_to_the_core() {
        let census = Census::new();
        assert_eq!(census.reserve(3, 3), 3);
        (0..3).for_each(|_| census.arrived());
        assert!(census.leaves_if_above(2));
        assert!(!census.leaves_if_above(2));
        assert_eq!(census.left().threads(), 1);
    }

    #[test]
    fn who_leaves_keeps_its_place_under_the_cap_until_it_is_gone() {
        let census = Census::new();
        assert_eq!(census.reserve(2, 2), 2);
        (0..2).for_each(|_| census.arrived());
        assert!(census.leaves_if_above(1));
        assert_eq!((counts(&census), census.now().present()), ((1, 0, 0), 2));
        assert_eq!(census.reserve(1, 2), 0, "two threads are there");
        census.gone();
        assert_eq!((census.now().leaving(), census.reserve(1, 2)), (0, 1));
    }

    #[test]
    fn the_first_thread_has_a_place_whoever_is_leaving() {
        let census = Census::new();
        assert!(census.reserve_first(2) && !census.reserve_first(2));
        assert_eq!(census.reserve(1, 2), 1);
        census.arrived();
        // The other one is still being started, and refused after that.
        assert!(census.leaves_if_above(1));
        assert_eq!(census.release(1).threads(), 0);
        assert!(census.reserve_first(2) && !census.reserve_first(2));
        assert_eq!(census.now().present(), 2);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::Census;
    use crate::base::sync::Arc;
    use crate::base::sync::atomic::{AtomicUsize, Ordering, fence};
    use crate::queue::injector::Injector;
    use loom::thread;

    /// A pool with a core of one and two threads, and what a look at it starts.
    struct Toy {
        census: Census,
        queue: Injector<u8>,
        started: AtomicUsize,
    }

    impl Toy {
        fn new() -> Arc<Self> {
            let census = Census::new();
            assert_eq!(census.reserve(2, 2), 2);
            (0..2).for_each(|_| census.arrived());
            Arc::new(Self {
                census,
                queue: Injector::new(),
                started: AtomicUsize::new(0),
            })
        }

        /// Starts a thread if there is work, and fewer than the core that could do it.
        fn look(&self) {
            let now = self.census.now();
            if !self.queue.is_empty() && now.threads() - now.blocked() < 1 {
                self.started.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Question: can a job be left behind by a worker that leaves while it is pushed, because
    /// its pusher counts on the worker and the worker does not see the job?
    ///
    /// Bound: one push, one worker that leaves; every interleaving.
    ///
    /// Must fail when: the fence of [`Census::leaves_if_above`] is not there.
    #[test]
    fn loom_pool_a_push_that_races_a_retirement_starts_a_thread() {
        loom::model(|| {
            let toy = Toy::new();
            toy.census.block_begins();
            let leaving = toy.clone();
            let worker = thread::spawn(move || {
                assert!(leaving.census.leaves_if_above(1));
                leaving.look();
            });
            toy.queue.push(1);
            // as in `Idle::claim`, which every push passes
            fence(Ordering::SeqCst);
            toy.look();
            worker.join().unwrap();
            assert!(toy.started.load(Ordering::Relaxed) > 0, "a job left behind");
        });
    }

    /// Question: can a job be left behind whose pusher finds no place for a start, because a
    /// worker that leaves still has it? And is there ever a thread too many?
    ///
    /// Bound: a cap of two; one push, one worker that goes for good; every interleaving.
    ///
    /// Must fail when: the fence of [`Census::gone`] is not there; who is leaving has no place.
    #[test]
    fn loom_pool_a_start_that_found_no_place_is_made_up_for() {
        loom::model(|| {
            let toy = Toy::new();
            assert!(toy.census.leaves_if_above(1));
            toy.census.block_begins();
            let start = |toy: &Toy| {
                if !toy.queue.is_empty() {
                    toy.started
                        .fetch_add(toy.census.reserve(1, 2), Ordering::Relaxed);
                }
            };
            let leaving = toy.clone();
            let worker = thread::spawn(move || {
                // One thread that stays, and this one.
                assert_eq!(leaving.started.load(Ordering::Relaxed), 0, "one too many");
                leaving.census.gone();
                start(&leaving);
            });
            toy.queue.push(1);
            fence(Ordering::SeqCst);
            start(&toy);
            worker.join().unwrap();
            assert_eq!(toy.started.load(Ordering::Relaxed), 1, "a job left behind");
        });
    }
}
