//! The word of the sleep protocol: who sleeps, and how many search.
//!
//! ```text
//!  63            48 47                                              0
//! +----------------+-------------------------------------------------+
//! |   searching    | idle mask: bit i is set while worker i sleeps   |
//! +----------------+-------------------------------------------------+
//! ```
//!
//! [`Snapshot`] holds the transitions as pure functions; [`Word`] the one compare-exchange loop.

#![forbid(unsafe_code)]

use std::fmt;

use crate::base::sync::atomic::{AtomicU64, Ordering};

/// Workers that have a bit; those above sleep on a stack. One in a model, so that a model of
/// two workers has one of either kind.
pub(super) const BITS: usize = if cfg!(loom) { 1 } else { 48 };

const SEARCHING_SHIFT: u32 = 48;
const ONE_SEARCHER: u64 = 1 << SEARCHING_SHIFT;
const MASK: u64 = ONE_SEARCHER - 1;

/// The state at one moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Snapshot(u64);

/// What a submitter sees.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimStep {
    /// Somebody searches already: nobody is to be woken.
    Searching,
    /// No bit is set.
    NoBit,
    /// The worker with this index is claimed, and counted as searching, by the next state.
    Wake(usize, Snapshot),
}

impl Snapshot {
    fn bit(index: usize) -> u64 {
        debug_assert!(index < BITS, "only workers with a bit are asked for it");
        1 << index
    }

    pub(super) fn searching(self) -> u64 {
        self.0 >> SEARCHING_SHIFT
    }

    pub(super) fn idle(self) -> u32 {
        (self.0 & MASK).count_ones()
    }

    pub(super) fn is_idle(self, index: usize) -> bool {
        self.0 & Self::bit(index) != 0
    }

    /// Claims the sleeper with the lowest index, unless somebody searches.
    pub(super) fn claim(self) -> ClaimStep {
        if self.searching() > 0 {
            ClaimStep::Searching
        } else {
            self.claim_another()
        }
    }

    /// Claims the sleeper with the lowest index, whoever searches.
    pub(super) fn claim_another(self) -> ClaimStep {
        let mask = self.0 & MASK;
        if mask == 0 {
            ClaimStep::NoBit
        } else {
            let index = mask.trailing_zeros() as usize;
            let next = Self(self.0 - Self::bit(index) + ONE_SEARCHER);
            ClaimStep::Wake(index, next)
        }
    }

    /// One more searcher.
    pub(super) fn joined(self) -> Self {
        Self(self.0 + ONE_SEARCHER)
    }

    /// One searcher less.
    pub(super) fn left(self) -> Self {
        if cfg!(any(loom, shuttle, debug_assertions)) {
            assert!(self.searching() > 0, "only a searcher stops searching");
        }
        Self(self.0 - ONE_SEARCHER)
    }

    /// The worker sleeps.
    pub(super) fn asleep(self, index: usize) -> Self {
        debug_assert!(!self.is_idle(index), "only an awake worker falls asleep");
        Self(self.0 | Self::bit(index))
    }

    /// The worker takes its bit back; `None` if it was claimed before.
    pub(super) fn awake(self, index: usize) -> Option<Self> {
        self.is_idle(index).then(|| Self(self.0 - Self::bit(index)))
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("searching", &self.searching())
            .field("idle", &format_args!("{:#b}", self.0 & MASK))
            .finish()
    }
}

/// The word itself.
pub(super) struct Word(AtomicU64);

impl Word {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(super) fn load(&self) -> Snapshot {
        // Ordering: Acquire pairs with the AcqRel of `change`: who sees its bit cleared sees
        // what the one who claimed it did before. No model needs it, as what a claim is for lies
        // in queues, which order themselves.
        Snapshot(self.0.load(Ordering::Acquire))
    }

    /// Replaces the state by what `step` makes of it; `step` returns `None` to leave it.
    /// Returns the state that `step` saw last, and whether it was replaced.
    pub(super) fn change(
        &self,
        mut step: impl FnMut(Snapshot) -> Option<Snapshot>,
    ) -> Result<Snapshot, Snapshot> {
        let mut seen = self.load();
        loop {
            let Some(next) = step(seen) else {
                return Err(seen);
            };
            // Ordering: AcqRel: see `load`. The proof in `idle` rests on the fences alone.
            match self
                .0
                .compare_exchange_weak(seen.0, next.0, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Ok(next),
                Err(now) => seen = Snapshot(now),
            }
        }
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.load().fmt(f)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{BITS, ClaimStep, MASK, ONE_SEARCHER, Snapshot};

    const NONE: Snapshot = Snapshot(0);

    #[test]
    fn bits_and_count_share_the_word_without_overlap() {
        assert_eq!(MASK & ONE_SEARCHER, 0);
        assert_eq!(MASK.count_ones() as usize, BITS);
        assert_eq!(u64::MAX, MASK | !MASK);
        assert_eq!(Snapshot(u64::MAX).searching(), 0xFFFF);
    }

    #[test]
    fn the_lowest_sleeper_is_claimed_and_searches_in_the_same_step() {
        let sleepers = NONE.asleep(47).asleep(3).asleep(9);
        let ClaimStep::Wake(3, next) = sleepers.claim() else {
            panic!("{:?}", sleepers.claim());
        };
        assert_eq!((next.idle(), next.searching()), (2, 1));
        assert!(!next.is_idle(3) && next.is_idle(9) && next.is_idle(47));
    }

    #[test]
    fn nobody_is_claimed_while_somebody_searches() {
        let state = NONE.asleep(0).joined();
        assert_eq!(state.claim(), ClaimStep::Searching);
        assert!(matches!(state.left().claim(), ClaimStep::Wake(0, _)));
    }

    #[test]
    fn another_is_claimed_beside_the_one_that_searches() {
        let state = NONE.asleep(2).asleep(4).joined();
        let ClaimStep::Wake(2, next) = state.claim_another() else {
            panic!("{:?}", state.claim_another());
        };
        assert_eq!((next.idle(), next.searching()), (1, 2));
        assert_eq!(NONE.joined().claim_another(), ClaimStep::NoBit);
    }

    #[test]
    fn without_a_bit_there_is_nobody_to_claim() {
        assert_eq!(NONE.claim(), ClaimStep::NoBit);
    }

    #[test]
    fn a_claimed_worker_cannot_take_its_bit_back() {
        let asleep = NONE.asleep(5);
        assert_eq!(asleep.awake(5), Some(NONE));
        let ClaimStep::Wake(5, claimed) = asleep.claim() else {
            panic!("one sleeps");
        };
        assert_eq!(claimed.awake(5), None);
        assert_eq!(claimed, NONE.joined(), "it counts as a searcher now");
    }

    #[test]
    fn debug_decodes_the_word() {
        let text = format!("{:?}", NONE.asleep(1).joined());
        assert_eq!(text, "Snapshot { searching: 1, idle: 0b10 }");
    }
}
