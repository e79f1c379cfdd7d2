//! The sleep protocol: who is woken for new work, and why no wake is ever lost.
//!
//! Waking a thread costs more than most jobs, so a push wakes at most one sleeper, and none
//! while somebody searches already: whoever searches will find the work, and the last searcher
//! that finds some wakes the next (a chain). Whom to wake is decided and *claimed* in one step:
//! the submitter takes the sleeper off the set of sleepers itself. An idle count that is read
//! at a push and corrected by the worker later is stale in between; two submitters then count
//! on the same sleeper, and one job stays behind for ever.
//!
//! Only indices of workers live here. The pool has the queues and the threads, and unparks the
//! one that it is told to, outside of every lock.
//!
//! # States of a worker
//!
//! | state     | its bit (or place on the stack) | counted as searching | leaves by |
//! |-----------|------|-----|---------------------------------------------------------------|
//! | busy      | no   | no  | [`Idle::start_search`] → searching; [`Idle::sleep`] → asleep   |
//! | searching | no   | yes | [`Idle::found`] → busy; [`Idle::sleep`] → asleep               |
//! | asleep    | yes  | no  | claimed by [`Idle::claim`] → searching; [`Idle::rejoin`] → searching; [`Idle::withdraw`] → busy |
//!
//! A thread that is being started counts as searching from the moment of the decision
//! ([`Idle::start_search`] on its behalf).
//!
//! # Invariants
//!
//! 1. Whoever takes a bit away (or an index off the stack) is the only one: the sleeper itself,
//!    or the submitter who thereby owes it an unpark.
//! 2. A claim counts the claimed one as searching in the same step. The search that follows is
//!    real, even if the work is gone: the count never lies.
//! 3. Whoever lowers the count to zero looks at every queue after it.
//!
//! # Two lists of steps
//!
//! ```text
//! submitter                              worker
//! S1  put the job into a queue           W1  set own bit, searching -= 1 if it searched
//! S2  fence(SeqCst)                      W2  fence(SeqCst)
//! S3  read the word:                     W3  if nobody searches: look at every queue,
//!     searching > 0: done                    and at the pool's phase; something there:
//!     a bit: take it, unpark                 take the bit back and search again
//!     nothing: the pool may start one    W4  park
//! ```
//!
//! Two SeqCst fences have an order. If S2 comes first, W3 sees the job. If W2 comes first, S3
//! sees W1: the bit, and the submitter claims it, unless somebody searches at S3. In that case
//! the searcher's own decrement comes after S3's read in the order of the word, so its fence
//! comes after S2; by invariant 3 the last one to stop looks at the queues after its fence and
//! sees the job: as W3 on its way to sleep, or in [`Idle::found`], whose duty
//! [`Found::PassOn`] wakes the next one while there is more. A worker that goes to sleep while
//! others search may skip W3 for the same reason.
//!
//! One searcher is enough for the proof, not for the clock: it may have been woken onto a CPU that
//! somebody else has. [`Idle::claim_another`] adds a second one beside it, counted like the first;
//! the proof speaks of the last searcher, however many there are.
//!
//! A worker whose keep-alive runs out, [`Idle::withdraw`]s: it leaves only if it could take its
//! own bit back. A submitter after that sees no bit and knows that it must not count on it.
//!
//! The sleepers above [`word::BITS`] lie on a stack under a lock; the push onto it stands for
//! "set own bit", the pop for "take it". Both happen before the fence or after it as above, and
//! the searching count changes under the lock of the pop, so that a worker that finds itself
//! claimed is counted already.
//!
//! Removing any of the four fences makes a model below fail; `tests/mutants/idle.txt` lists
//! these and the other weakenings that were tried.

#![forbid(unsafe_code)]

mod sleepers;
mod word;

#[cfg(all(test, loom))]
mod models;

use crossbeam_utils::CachePadded;

use crate::base::sync::atomic::{Ordering, fence};
use sleepers::Sleepers;
use word::{BITS, ClaimStep, Snapshot, Word};

/// Who sleeps and who searches in one pool.
#[derive(Debug)]
pub(crate) struct Idle {
    word: CachePadded<Word>,
    above: Sleepers,
}

/// What a submitter has to do after its push.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Unpark this worker: nobody else will.
    Wake(usize),
    /// Nothing: somebody searches and will find the work.
    Searching,
    /// Nobody sleeps: start a worker, or leave the work to those who are busy.
    Nobody,
}

/// What a worker has to do that has found work.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It was the last searcher: if there is more work, [`Idle::claim`] the next one.
    PassOn,
    /// Others search: nothing.
    Go,
}

/// What a worker has to do that has marked itself asleep.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sleep {
    /// Look at every queue and at the phase once more; [`Idle::rejoin`] if something is there.
    LookAgain,
    /// Park: somebody searches and looks in its place.
    Park,
}

/// What became of a worker that wants its bit back.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Withdraw {
    /// It is awake and not searching; no submitter counts on it.
    Free,
    /// A submitter claimed it before: it searches.
    Claimed,
}

impl Idle {
    pub(crate) fn new() -> Self {
        Self {
            word: CachePadded::new(Word::new()),
            above: Sleepers::new(),
        }
    }

    /// S2 and S3, after the push: claims a sleeper unless somebody searches.
    #[inline]
    pub(crate) fn claim(&self) -> Claim {
        // Ordering: S2, pairs with the fences in `sleep` and `found`.
        fence(Ordering::SeqCst);
        self.claim_by(Snapshot::claim)
    }

    /// Claims a sleeper though somebody searches, because that one does not come: it was woken
    /// and has no CPU. Never needed for a wake not to be lost; after [`Claim::Searching`].
    pub(crate) fn claim_another(&self) -> Claim {
        self.claim_by(Snapshot::claim_another)
    }

    #[inline]
    fn claim_by(&self, step: fn(Snapshot) -> ClaimStep) -> Claim {
        let mut wake = None;
        let claimed = self.word.change(|state| match step(state) {
            ClaimStep::Wake(index, next) => {
                wake = Some(index);
                Some(next)
            }
            ClaimStep::Searching | ClaimStep::NoBit => None,
        });
        match (claimed, wake) {
            (Ok(_), Some(index)) => Claim::Wake(index),
            (Err(seen), _) if step(seen) == ClaimStep::Searching => Claim::Searching,
            _ if self.above.len() == 0 => Claim::Nobody,
            _ => match self.above.pop(|| self.join()) {
                Some(index) => Claim::Wake(index),
                None => Claim::Nobody,
            },
        }
    }

    /// A busy worker may search, or a thread may be started to search: if nobody else does.
    pub(crate) fn start_search(&self) -> bool {
        self.word
            .change(|state| (state.searching() == 0).then(|| state.joined()))
            .is_ok()
    }

    /// A searcher has found work, or gives up its search without going to sleep.
    pub(crate) fn found(&self) -> Found {
        match self.leave() {
            0 => {
                // Ordering: the look at the queues that follows comes after the decrement;
                // pairs with the fence in `claim`.
                fence(Ordering::SeqCst);
                Found::PassOn
            }
            _ => Found::Go,
        }
    }

    /// W1 and W2: the worker is about to park.
    pub(crate) fn sleep(&self, index: usize, searching: bool) -> Sleep {
        let searchers = if index < BITS {
            let next = self.word.change(|state| {
                let state = if searching { state.left() } else { state };
                Some(state.asleep(index))
            });
            next.map_or(0, |state| state.searching())
        } else {
            self.above.push(index);
            if searching {
                self.leave()
            } else {
                // Ordering: between the push onto the stack and the look at the count.
                fence(Ordering::SeqCst);
                self.word.load().searching()
            }
        };
        if searchers > 0 {
            return Sleep::Park;
        }
        // Ordering: W2, pairs with the fence in `claim`.
        fence(Ordering::SeqCst);
        Sleep::LookAgain
    }

    /// A worker that marked itself asleep has seen work: it searches again, whether it took its
    /// bit back or was claimed meanwhile.
    pub(crate) fn rejoin(&self, index: usize) {
        if index < BITS {
            let _ = self
                .word
                .change(|state| state.awake(index).map(|state| state.joined()));
        } else {
            self.above.remove(index, || self.join());
        }
    }

    /// A worker that marked itself asleep wants to leave, or to do something else than search.
    pub(crate) fn withdraw(&self, index: usize) -> Withdraw {
        let free = if index < BITS {
            self.word.change(|state| state.awake(index)).is_ok()
        } else {
            self.above.remove(index, || {})
        };
        if free {
            Withdraw::Free
        } else {
            Withdraw::Claimed
        }
    }

    /// Was this worker, which marked itself asleep, claimed? Then it searches.
    pub(crate) fn is_claimed(&self, index: usize) -> bool {
        if index < BITS {
            !self.word.load().is_idle(index)
        } else {
            !self.above.contains(index)
        }
    }

    /// Sleepers; a little late while things move.
    pub(crate) fn sleeping(&self) -> usize {
        self.word.load().idle() as usize + self.above.len()
    }

    /// Searchers, with the threads that are being started; a little late while things move.
    pub(crate) fn searching(&self) -> usize {
        self.word.load().searching() as usize
    }

    fn join(&self) {
        let _ = self.word.change(|state| Some(state.joined()));
    }

    /// One searcher less; returns how many are left.
    fn leave(&self) -> u64 {
        self.word
            .change(|state| Some(state.left()))
            .map_or(0, |state| state.searching())
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{Claim, Found, Idle, Sleep, Withdraw};

    fn asleep(indices: impl IntoIterator<Item = usize>) -> Idle {
        let idle = Idle::new();
        for index in indices {
            assert_eq!(idle.sleep(index, false), Sleep::LookAgain);
        }
        idle
    }

    #[test]
    fn pushes_while_one_searches_wake_nobody() {
        let idle = asleep([0, 1, 2]);
        assert_eq!(idle.claim(), Claim::Wake(0));
        for _ in 0..1_000 {
            assert_eq!(idle.claim(), Claim::Searching);
        }
        assert_eq!((idle.sleeping(), idle.searching()), (2, 1));
    }

    #[test]
    fn another_one_can_be_claimed_while_one_searches() {
        let idle = asleep([0, 1, 50]);
        assert_eq!(idle.claim(), Claim::Wake(0));
        assert_eq!(idle.claim_another(), Claim::Wake(1));
        assert_eq!(idle.claim_another(), Claim::Wake(50));
        assert_eq!(idle.claim_another(), Claim::Nobody);
        assert_eq!((idle.sleeping(), idle.searching()), (0, 3));
        assert_eq!((idle.found(), idle.found()), (Found::Go, Found::Go));
        assert_eq!(idle.found(), Found::PassOn);
    }

    #[test]
    fn the_last_searcher_that_finds_work_passes_on() {
        let idle = asleep([0, 1]);
        assert_eq!(idle.claim(), Claim::Wake(0));
        assert_eq!(idle.found(), Found::PassOn);
        assert_eq!(idle.claim(), Claim::Wake(1));
        idle.rejoin(1);
        assert!(!idle.start_search(), "one searches already");
        assert_eq!(idle.found(), Found::PassOn);
        assert!(idle.start_search());
        assert_eq!(idle.claim(), Claim::Searching);
    }

    #[test]
    fn a_claimed_worker_that_finds_nothing_keeps_the_counts_exact() {
        let idle = asleep([0]);
        for _ in 0..10 {
            assert_eq!(idle.claim(), Claim::Wake(0));
            assert!(idle.is_claimed(0));
            assert_eq!(idle.sleep(0, true), Sleep::LookAgain);
            assert_eq!((idle.sleeping(), idle.searching()), (1, 0));
        }
    }

    #[test]
    fn only_the_last_of_several_searchers_looks_again() {
        let idle = asleep([0, 1]);
        idle.rejoin(0);
        idle.rejoin(1);
        assert_eq!(idle.searching(), 2);
        assert_eq!(idle.sleep(1, true), Sleep::Park);
        assert_eq!(idle.sleep(0, true), Sleep::LookAgain);
    }

    #[test]
    fn more_sleepers_than_bits_are_all_claimed_exactly_once() {
        let idle = asleep(0..65);
        assert_eq!(idle.sleeping(), 65);
        let mut woken = Vec::new();
        while let Claim::Wake(index) = idle.claim() {
            assert!(idle.is_claimed(index));
            assert_eq!(idle.found(), Found::PassOn);
            woken.push(index);
        }
        let expected: Vec<_> = (0..48).chain((48..65).rev()).collect();
        assert_eq!(woken, expected, "lowest first, then who slept least");
        assert_eq!(idle.claim(), Claim::Nobody);
    }

    #[test]
    fn a_claimed_worker_cannot_leave() {
        for index in [7, 60] {
            let idle = asleep([index]);
            assert_eq!(idle.withdraw(index), Withdraw::Free);
            assert_eq!(idle.claim(), Claim::Nobody);
            assert_eq!(idle.sleep(index, false), Sleep::LookAgain);
            assert_eq!(idle.claim(), Claim::Wake(index));
            assert_eq!(idle.withdraw(index), Withdraw::Claimed);
            assert_eq!(idle.searching(), 1);
        }
    }
}
