//! Counters that many threads bump and few read: one padded cell per group of threads.

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_types,
    reason = "plain statistics: std's atomics also in a model, where they may stand in statics"
)]

use std::cell::Cell;
use std::sync::atomic::{AtomicU64 as Plain, AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

/// Modelled, since what a pool has submitted decides about its end.
#[cfg(loom)]
use crate::base::sync::atomic::AtomicU64;
#[cfg(not(loom))]
use std::sync::atomic::AtomicU64;

/// Groups of threads.
pub(crate) const SHARDS: usize = 8;

static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);

std::thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The group of this thread, below [`SHARDS`].
#[inline]
pub(crate) fn shard() -> usize {
    SHARD
        .try_with(|shard| {
            if shard.get() == usize::MAX {
                // Ordering: Relaxed: any number will do.
                shard.set(NEXT_SHARD.fetch_add(1, Ordering::Relaxed) % SHARDS);
            }
            shard.get()
        })
        .unwrap_or(0)
}

/// A sum over all threads. Reading is exact once the writers stand still.
#[derive(Debug, Default)]
pub(crate) struct Count([CachePadded<AtomicU64>; SHARDS]);

impl Count {
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.add_to(shard(), n);
    }

    /// The same for a caller who knows its group.
    #[inline]
    pub(crate) fn add_to(&self, shard: usize, n: u64) {
        // Ordering: Acquire pairs with `settle`; a statistic publishes nothing.
        self.0[shard].fetch_add(n, Ordering::Acquire);
    }

    pub(crate) fn sum(&self) -> u64 {
        // Ordering: Relaxed, as in `add`: exact once the writers stand still.
        // Wrapping: one thread may take back what another one has counted.
        let cells = self.0.iter().map(|cell| cell.load(Ordering::Relaxed));
        cells.fold(0, u64::wrapping_add)
    }

    /// The sum, after which nobody counts who has not seen what the caller did before.
    pub(crate) fn settle(&self) -> u64 {
        // Ordering: a move of nothing, and not a load: whoever counts later has this move, or one
        // after it, to start from. So Release (or a fence of the caller) pairs with `add_to`,
        // without a fence there.
        let settled = self
            .0
            .iter()
            .map(|cell| cell.fetch_add(0, Ordering::AcqRel));
        settled.fold(0, u64::wrapping_add)
    }
}

/// Hands out numbers that nobody else gets.
#[derive(Debug)]
pub(crate) struct Ticket(Plain);

impl Ticket {
    pub(crate) const fn new() -> Self {
        Self(Plain::new(0))
    }

    /// The first of `n` numbers that are the caller's alone.
    pub(crate) fn take(&self, n: u64) -> u64 {
        // Ordering: Relaxed: only uniqueness counts.
        self.0.fetch_add(n, Ordering::Relaxed)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::Count;

    #[test]
    fn nothing_is_lost_between_threads() {
        let count = Count::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|_| count.add(1)));
            }
        });
        assert_eq!(count.sum(), 4_000);
    }
}
