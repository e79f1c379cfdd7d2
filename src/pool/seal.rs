//! The pool's phase, and why no push slips between the last worker and the seal.
//!
//! | phase    | a push from outside         | from a job of the pool | who leaves it, for what      |
//! |----------|-----------------------------|------------------------|------------------------------|
//! | `Open`   | is taken                    | is taken               | a shutdown, a broken pool    |
//! | `Drain`  | refused                     | is taken               | who has seen that all has ended: `Ending` |
//! | `Ending` | refused                     | is taken               | the same: `Closed`, or `Drain` again |
//! | `Cancel` | refused                     | refused                | nobody                       |
//! | `Broken` | refused                     | refused                | nobody                       |
//! | `Closed` | refused                     | refused                | nobody                       |
//!
//! Phases only go down this table, except that `Broken` and `Cancel` keep each other out, and that
//! `Ending` may be taken back.
//!
//! # Nothing is left behind
//!
//! A push looks at the phase twice: before it makes the job, to refuse it, and after the push
//! and its `fence(SeqCst)`, because the phase may have changed in between. Whoever seals stores
//! the phase, then passes a fence, then empties the queues. Of the two fences one is first: if
//! the pusher's is, the sealer finds the job; if the sealer's is, the pusher sees the phase and
//! empties the queues itself. So a push that races a shutdown runs, or resolves as what was
//! queued did. No counter of pushes under way is needed, and an open pool pays one load.
//!
//! `Drain` is no such seal: workers are there until all that was submitted has ended, and a job
//! counts as submitted before it is pushed.
//!
//! # No thread comes after the end
//!
//! A thread is counted, then somebody passes a fence and looks at the phase, and only then starts
//! it ([`Seal::may_start`]). Whoever waits for the end looks at the phase, passes a fence, and
//! looks at the count ([`Seal::is_shut`]). Of the two fences one is first: so either the wait goes
//! on until the count is taken back or the thread has left, or nothing is started.
//!
//! # No drain ends under a job that runs
//!
//! A push that was admitted by an open pool may be counted and pushed after all else has ended and
//! somebody has seen that; and what the late job submits shall be taken like that of any other. So
//! the end is looked at twice, with [`Ending`](Phase::Ending) in between: if the second look does
//! not see the count, whoever takes the job sees `Ending` or `Closed`. Under `Ending` the taker
//! goes back to `Drain` ([`Seal::may_run`]), so that the end comes to nothing; a job that is taken
//! from a closed pool does not run.
//!
//! No fence of the taker is needed for that, which would cost every job: the second look is a move
//! of the count ([`Count::settle`](crate::base::count::Count::settle)), and so is the counting. One
//! of the two is first: if the counting is, the look sees it; if the look is, the submitter has
//! `Ending` from it, and the taker has it from the submitter, with the job.

#![forbid(unsafe_code)]

use crate::base::sync::atomic::{AtomicUsize, Ordering, fence};

/// What a pool is up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// At work.
    Open = 0,
    /// Finishes what was submitted.
    Drain = 1,
    /// Nothing that was submitted seems to live; somebody looks again.
    Ending = 2,
    /// Cancels what has not started or is suspended.
    Cancel = 3,
    /// A start hook panicked: refuses what has not started or is suspended.
    Broken = 4,
    /// All has ended.
    Closed = 5,
}

/// The phase of one pool.
#[derive(Debug)]
pub(super) struct Seal(AtomicUsize);

impl Seal {
    pub(super) fn new() -> Self {
        Self(AtomicUsize::new(Phase::Open as usize))
    }

    /// The phase; after a push and a `fence(SeqCst)` it is the one that the push has to heed.
    #[inline]
    pub(super) fn phase(&self) -> Phase {
        // Ordering: Acquire: who sees a phase sees what led to it. The proofs above rest on the
        // fences, and the models on nothing else.
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Open,
            1 => Phase::Drain,
            2 => Phase::Ending,
            3 => Phase::Cancel,
            4 => Phase::Broken,
            _ => Phase::Closed,
        }
    }

    /// Goes to `next` if the table allows it; true if this call did. The caller then empties
    /// the queues, unless `next` is [`Phase::Drain`].
    pub(super) fn advance(&self, next: Phase) -> bool {
        // Ordering: AcqRel: a phase is seen with what led to it; the models need the fences alone.
        let moved = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
                may_advance(now, next).then_some(next as usize)
            })
            .is_ok();
        // Ordering: the caller's look at the queues comes after the phase; pairs with the
        // pusher's fence between its push and its second look at the phase.
        fence(Ordering::SeqCst);
        moved
    }

    /// Whoever has taken a job may run it: the pool does not end under it.
    #[inline]
    pub(super) fn may_run(&self) -> bool {
        // Ordering: no fence: what has to be seen came with the job; see the module's header.
        let phase = self.phase();
        phase <= Phase::Drain || phase == Phase::Ending && self.go_on()
    }

    /// May a thread be started that has been counted? Else the count is taken back.
    pub(super) fn may_start(&self) -> bool {
        // Ordering: between the count and the look at the phase; pairs with the fence in `is_shut`.
        fence(Ordering::SeqCst);
        self.phase() < Phase::Cancel
    }

    /// Does what the caller has just counted keep the pool from ending?
    pub(super) fn is_kept(&self) -> bool {
        // Ordering: whoever looks for the end sees the count, or is seen here; as in `may_start`.
        fence(Ordering::SeqCst);
        self.may_run()
    }

    /// The caller has counted an end, or taken a count back: is that what somebody waits for?
    pub(super) fn is_ending(&self) -> bool {
        // Ordering: between the count and the look at the phase; pairs with the fences of those who
        // move the phase and look at the counts then.
        fence(Ordering::SeqCst);
        self.phase() != Phase::Open
    }

    /// Is this a phase after which no thread is started whose count the caller does not see now?
    pub(super) fn is_shut(&self) -> bool {
        let is_shut = self.phase() >= Phase::Cancel;
        // Ordering: between the look at the phase and that at the count; see `may_start`.
        fence(Ordering::SeqCst);
        is_shut
    }

    /// From [`Phase::Ending`] back to [`Phase::Drain`]; false if it was sealed meanwhile.
    ///
    /// Whoever looks for the end from now on does so as if nobody had.
    #[cold]
    pub(super) fn go_on(&self) -> bool {
        let (from, to) = (Phase::Ending as usize, Phase::Drain as usize);
        // Ordering: as in `advance`, where no model needs it.
        let moved = self
            .0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        // Ordering: the caller's next look sees who has come by under `Ending`; see `is_ending`.
        fence(Ordering::SeqCst);
        moved.map_or_else(|now| now == to, |_| true)
    }
}

fn may_advance(now: usize, next: Phase) -> bool {
    let sealed = now == Phase::Cancel as usize || now == Phase::Broken as usize;
    match next {
        Phase::Open => false,
        Phase::Ending => now == Phase::Drain as usize,
        Phase::Closed => now == Phase::Ending as usize,
        Phase::Drain | Phase::Cancel | Phase::Broken => !sealed && now < next as usize,
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{Phase, Seal};

    #[test]
    fn phases_only_advance() {
        use Phase::{Broken, Cancel, Closed, Drain, Ending, Open};
        let all = [Open, Drain, Ending, Cancel, Broken, Closed];
        let legal = [
            (Open, Drain),
            (Open, Cancel),
            (Open, Broken),
            (Drain, Cancel),
            (Drain, Broken),
            (Drain, Ending),
            (Ending, Cancel),
            (Ending, Broken),
            (Ending, Closed),
        ];
        for from in all {
            for to in all {
                let seal = Seal::new();
                match from {
                    Open => {}
                    Ending => assert!(seal.advance(Drain) && seal.advance(Ending)),
                    Closed => {
                        assert!(
                            seal.advance(Drain) && seal.advance(Ending) && seal.advance(Closed)
                        );
                    }
                    _ => assert!(seal.advance(from)),
                }
                let moved = seal.advance(to);
                assert_eq!(moved, legal.contains(&(from, to)), "{from:?} -> {to:?}");
                assert_eq!(seal.phase(), if moved { to } else { from });
            }
        }
    }

    #[test]
    fn who_has_a_job_takes_an_end_back_and_leaves_a_closed_pool_alone() {
        use Phase::{Closed, Drain, Ending};
        let seal = Seal::new();
        assert!(seal.may_run());
        assert!(seal.advance(Drain) && seal.may_run());
        assert!(seal.advance(Ending) && seal.may_run());
        assert_eq!(seal.phase(), Drain);
        assert!(
            !seal.advance(Closed),
            "the first look is worth nothing any more"
        );
        assert!(seal.advance(Ending) && seal.advance(Closed));
        assert!(!seal.may_run() && !seal.go_on());
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::{Phase, Seal};
    use crate::base::count::Count;
    use crate::base::sync::Arc;
    use crate::base::sync::atomic::{AtomicUsize, Ordering, fence};
    use crate::base::sync::thread;
    use crate::pool::census::Census;
    use crate::queue::injector::Injector;

    /// Question: is a push that races the seal ever left in the queue?
    ///
    /// Bound: two pushers, one sealer; three preemptions.
    ///
    /// Must fail when: the fence in `advance` is gone; the pusher's is; the pusher does not
    /// look again after the push.
    #[test]
    fn loom_pool_a_push_that_races_the_seal_is_emptied_by_one_side() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let pool = Arc::new((Seal::new(), Injector::new(), AtomicUsize::new(0)));
            let pushers: Vec<_> = (0..2)
                .map(|_| {
                    let pool = pool.clone();
                    thread::spawn(move || {
                        let (seal, queue, _) = &*pool;
                        if seal.phase() != Phase::Open {
                            return 0;
                        }
                        queue.push(());
                        fence(Ordering::SeqCst);
                        if seal.phase() == Phase::Cancel {
                            empty(&pool);
                        }
                        1
                    })
                })
                .collect();
            assert!(pool.0.advance(Phase::Cancel));
            empty(&pool);
            let pushed: usize = pushers.into_iter().map(|p| p.join().unwrap()).sum();
            assert_eq!(pool.2.load(Ordering::Relaxed), pushed);
        });
    }

    /// Question: does a drain that ends while somebody pushes leave the job behind, or close
    /// over one that it has not seen end?
    ///
    /// Bound: one pusher from outside, one sealer that is also the worker; three preemptions.
    /// The pool counts as `live` does: the ends first, then what was submitted.
    ///
    /// Must fail when: the fence in `advance` is gone; the pusher's is; the pusher does not
    /// look again after the push.
    #[test]
    fn loom_pool_a_push_that_races_the_end_of_a_drain_is_not_left_behind() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let pool = Arc::new((Seal::new(), Injector::new(), AtomicUsize::new(0)));
            let submitted = Arc::new(AtomicUsize::new(0));
            let pusher = {
                let (pool, submitted) = (pool.clone(), submitted.clone());
                thread::spawn(move || {
                    let (seal, queue, _) = &*pool;
                    if seal.phase() != Phase::Open {
                        return 0;
                    }
                    submitted.fetch_add(1, Ordering::Relaxed);
                    queue.push(());
                    fence(Ordering::SeqCst);
                    if seal.phase() >= Phase::Cancel {
                        empty(&pool);
                    }
                    1
                })
            };
            assert!(pool.0.advance(Phase::Drain));
            loop {
                let ended = pool.2.load(Ordering::Acquire);
                fence(Ordering::SeqCst);
                if submitted.load(Ordering::Relaxed) <= ended {
                    assert!(pool.0.advance(Phase::Ending));
                    if submitted.load(Ordering::Relaxed) <= ended {
                        assert!(pool.0.advance(Phase::Closed));
                        empty(&pool);
                        break;
                    }
                    assert!(pool.0.go_on());
                    continue;
                }
                if pool.1.take().is_some() {
                    pool.2.fetch_add(1, Ordering::Release);
                } else {
                    thread::yield_now();
                }
            }
            let pushed = pusher.join().unwrap();
            assert_eq!(pool.2.load(Ordering::Relaxed), pushed);
        });
    }

    /// Question: a submitter counts a job and takes the count back, as it was cancelled; is the
    /// drain that meanwhile waited for it closed by one of the two?
    ///
    /// Bound: one submitter, one sealer; every interleaving.
    ///
    /// Must fail when: the fence in `advance`, in `is_ending` or in `go_on` is gone; the submitter
    /// does not look at the phase after it took the count back.
    #[test]
    fn loom_pool_a_count_taken_back_does_not_keep_a_drain_open() {
        loom::model(|| {
            let pool = Arc::new((Seal::new(), AtomicUsize::new(0)));
            let close = |(seal, live): &(Seal, AtomicUsize)| {
                while live.load(Ordering::Relaxed) == 0 && seal.advance(Phase::Ending) {
                    if live.load(Ordering::Relaxed) == 0 {
                        let _ = seal.advance(Phase::Closed);
                        return;
                    }
                    seal.go_on();
                }
            };
            let at = pool.clone();
            let submitter = thread::spawn(move || {
                if at.0.phase() == Phase::Open {
                    at.1.fetch_add(1, Ordering::Relaxed);
                    at.1.fetch_sub(1, Ordering::Relaxed);
                    if at.0.is_ending() {
                        close(&at);
                    }
                }
            });
            assert!(pool.0.advance(Phase::Drain));
            close(&pool);
            submitter.join().unwrap();
            assert_eq!(pool.0.phase(), Phase::Closed);
        });
    }

    /// Question: a push is counted when somebody looks for the end, and another thread takes the
    /// job; does it ever run in a pool that is closed?
    ///
    /// Bound: one pusher from outside, one taker, one sealer that looks once; three preemptions.
    ///
    /// Must fail when: the second look only reads the count; the counting is not Acquire; the taker
    /// runs the job without a look at the phase.
    #[test]
    fn loom_pool_no_drain_ends_under_a_job_that_runs() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let pool = Arc::new((Seal::new(), Injector::new(), AtomicUsize::new(0)));
            let submitted = Arc::new(Count::default());
            let pusher = {
                let (pool, submitted) = (pool.clone(), submitted.clone());
                thread::spawn(move || {
                    let (seal, queue, _) = &*pool;
                    if seal.phase() == Phase::Open {
                        submitted.add_to(0, 1);
                        queue.push(());
                        fence(Ordering::SeqCst);
                        if seal.phase() >= Phase::Cancel {
                            empty(&pool);
                        }
                    }
                })
            };
            let taker = {
                let pool = pool.clone();
                thread::spawn(move || {
                    let (seal, queue, resolved) = &*pool;
                    if queue.take().is_some() {
                        if seal.may_run() {
                            assert_ne!(seal.phase(), Phase::Closed, "under a job that runs");
                        }
                        resolved.fetch_add(1, Ordering::Release);
                    }
                })
            };
            let (seal, _, resolved) = &*pool;
            assert!(seal.advance(Phase::Drain));
            let ended = resolved.load(Ordering::Acquire) as u64;
            fence(Ordering::SeqCst);
            if submitted.sum() <= ended && seal.advance(Phase::Ending) {
                if submitted.settle() > ended {
                    seal.go_on();
                } else if seal.advance(Phase::Closed) {
                    empty(&pool);
                }
            }
            pusher.join().unwrap();
            taker.join().unwrap();
        });
    }

    /// Question: a thread is counted while the pool ends; is it started though somebody has seen
    /// the end, and no thread?
    ///
    /// Bound: one who starts, one who seals, one who looks for the end; every interleaving.
    ///
    /// Must fail when: one of the two fences is not there; who has counted does not look again.
    #[test]
    fn loom_pool_no_thread_starts_after_its_end() {
        loom::model(|| {
            let pool = Arc::new((Seal::new(), Census::new()));
            let (starter, waiter) = (pool.clone(), pool.clone());
            let starter = thread::spawn(move || {
                let (seal, census) = &*starter;
                seal.phase() == Phase::Open && census.reserve_first(1) && seal.may_start()
            });
            let waiter = thread::spawn(move || {
                let (seal, census) = &*waiter;
                seal.is_shut() && census.now().present() == 0
            });
            assert!(pool.0.advance(Phase::Cancel));
            let is_started = starter.join().unwrap();
            let has_ended = waiter.join().unwrap();
            assert!(!has_ended || !is_started, "a thread after the end");
        });
    }

    /// Question: something is counted so that the pool stays; is the end told all the same?
    ///
    /// Bound: one who counts, one who seals, one who looks for the end; every interleaving.
    ///
    /// Must fail when: the fence in `is_kept` or in `is_shut` is gone; who has counted does not
    /// look at the phase.
    #[test]
    fn loom_pool_what_keeps_a_pool_is_seen_at_its_end() {
        loom::model(|| {
            let pool = Arc::new((Seal::new(), AtomicUsize::new(0)));
            let (keeper, waiter) = (pool.clone(), pool.clone());
            let keeper = thread::spawn(move || {
                keeper.1.fetch_add(1, Ordering::Acquire);
                keeper.0.is_kept()
            });
            let waiter =
                thread::spawn(move || waiter.0.is_shut() && waiter.1.load(Ordering::Relaxed) == 0);
            assert!(pool.0.advance(Phase::Cancel));
            let is_kept = keeper.join().unwrap();
            assert!(!waiter.join().unwrap() || !is_kept, "an end beside it");
        });
    }

    fn empty((_, queue, resolved): &(Seal, Injector<()>, AtomicUsize)) {
        while queue.take().is_some() {
            resolved.fetch_add(1, Ordering::Relaxed);
        }
    }
}
