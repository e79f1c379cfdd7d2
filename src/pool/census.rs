//! How many threads a pool has, how many of them are on their way, how many are blocked in a
//! wait of ours: three counts in one word, so that a decision never mixes two moments.

#![forbid(unsafe_code)]

use std::fmt;

use crate::base::sync::atomic::{AtomicU64, Ordering, fence};

/// Bits of each count; a pool has at most 32 768 threads.
const BITS: u32 = 20;
const MASK: u64 = (1 << BITS) - 1;
const THREAD: u64 = 1;
const STARTING: u64 = 1 << BITS;
const BLOCKED: u64 = 1 << (2 * BITS);

/// The counts at one moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Headcount(u64);

impl Headcount {
    /// Threads, with those that are being started.
    #[inline]
    pub(super) fn threads(self) -> usize {
        (self.0 & MASK) as usize
    }

    /// Threads that are being started.
    pub(super) fn starting(self) -> usize {
        ((self.0 / STARTING) & MASK) as usize
    }

    /// Workers in a wait of ours.
    pub(super) fn blocked(self) -> usize {
        ((self.0 / BLOCKED) & MASK) as usize
    }
}

impl fmt::Debug for Headcount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Headcount")
            .field("threads", &self.threads())
            .field("starting", &self.starting())
            .field("blocked", &self.blocked())
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
        // Ordering: Acquire pairs with the changes: who sees a thread gone sees what it did.
        Headcount(self.0.load(Ordering::Acquire))
    }

    /// Counts up to `count` threads as started and starting, within `max`; returns how many.
    pub(super) fn reserve(&self, count: usize, max: usize) -> usize {
        let mut granted = 0;
        let _ = self.change(|now| {
            granted = max.saturating_sub(now.threads()).min(count);
            let more = (THREAD + STARTING) * granted as u64;
            (granted > 0).then_some(now.0 + more)
        });
        granted
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

    /// A thread leaves.
    pub(super) fn left(&self) -> Headcount {
        self.add(THREAD.wrapping_neg())
    }

    /// A thread leaves if there are more than `core`; false otherwise. The caller then looks at
    /// the queues once more, for whoever has counted on it.
    pub(super) fn left_if_above(&self, core: usize) -> bool {
        let left = self.change(|now| (now.threads() > core).then_some(now.0 - THREAD));
        // Ordering: the look comes after the move; pairs with the fence between a push and the
        // pusher's look at this word.
        fence(Ordering::SeqCst);
        left.is_ok()
    }

    /// A worker begins to block in a wait of ours.
    pub(super) fn block_begins(&self) {
        self.add(BLOCKED);
    }

    /// It goes on.
    pub(super) fn block_ends(&self) {
        self.add(BLOCKED.wrapping_neg());
    }

    fn add(&self, change: u64) -> Headcount {
        // Ordering: see `now`.
        let before = self.0.fetch_add(change, Ordering::AcqRel);
        Headcount(before.wrapping_add(change))
    }

    fn change(&self, step: impl FnMut(Headcount) -> Option<u64>) -> Result<(), ()> {
        let mut step = step;
        let mut seen = self.now();
        loop {
            let next = step(seen).ok_or(())?;
            // Ordering: see `now`.
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
        assert!(census.left_if_above(2));
        assert!(!census.left_if_above(2));
        assert_eq!(census.left().threads(), 1);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::Census;
    use crate::base::sync::Arc;
    use crate::base::sync::atomic::{AtomicUsize, Ordering, fence};
    use crate::queue::injector::Injector;
    use loom::thread;

    /// A pool with a core of one and two threads, of which one is blocked.
    struct Toy {
        census: Census,
        queue: Injector<u8>,
        started: AtomicUsize,
    }

    impl Toy {
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
    /// Must fail when: the fence of [`Census::left_if_above`] is not there.
    #[test]
    fn loom_pool_a_push_that_races_a_retirement_starts_a_thread() {
        loom::model(|| {
            let toy = Arc::new(Toy {
                census: Census::new(),
                queue: Injector::new(),
                started: AtomicUsize::new(0),
            });
            assert_eq!(toy.census.reserve(2, 2), 2);
            (0..2).for_each(|_| toy.census.arrived());
            toy.census.block_begins();
            let leaving = toy.clone();
            let worker = thread::spawn(move || {
                assert!(leaving.census.left_if_above(1));
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
}
