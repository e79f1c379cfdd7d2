//! The last resort of a worker that waits: to run itself what it waits for.
//!
//! While a worker blocks in a wait of ours, others take what is queued, or new ones start. Once
//! the pool may have no more threads and each of them is in such a wait, nobody takes anything:
//! the pool is *stuck*. A worker that awaits work of its pool then runs that in place
//! ([`run_awaited`](crate::promise::run_awaited)); what nobody awaits stays in the queue.
//!
//! The pool may become stuck, and work may come, while such a worker sleeps. So it says before
//! that it is stranded, and whoever makes the difference wakes it:
//!
//! ```text
//! the stranded worker                      the last one to block       whoever queues
//! R1  count itself as blocked              L1  the same                P1  push
//! R2  set the own flag                     L2  fence(SeqCst), in L1    P2  fence(SeqCst)
//! R3  fence(SeqCst)                        L3  stuck: wake all whose   P3  as L3
//! R4  stuck: run what is awaited               flag is set
//! R5  park
//! ```
//!
//! If R3 comes before L2, L3 sees the flag; else R4 sees the last one blocked. If R3 comes
//! before P2, P3 sees the flag; else R4 finds what was pushed.

#![forbid(unsafe_code)]

use crate::base::sync::atomic::{AtomicBool, Ordering, fence};

/// One worker's flag.
#[derive(Debug)]
pub(super) struct Stranded(AtomicBool);

impl Stranded {
    pub(super) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// R2 to R4: whether the worker, which `awaits` something of its pool, finds the pool stuck.
    pub(super) fn look(&self, awaits: bool, is_stuck: impl FnOnce() -> bool) -> bool {
        self.0.store(awaits, Ordering::Relaxed);
        if !awaits {
            return false;
        }
        // Ordering: R3, pairs with the fences of the last one to block and of a push.
        fence(Ordering::SeqCst);
        is_stuck()
    }

    /// The worker goes on. A flag that it left would have it wake itself, should it be the last
    /// one to block again.
    pub(super) fn withdraw(&self) {
        // Ordering: Relaxed: whoever sees it late wakes once in vain.
        self.0.store(false, Ordering::Relaxed);
    }

    /// L3: true if the worker is to be woken, for this caller alone.
    pub(super) fn take(&self) -> bool {
        // Ordering: the wake publishes what led to it. Only the owner sets the flag.
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::Stranded;
    use crate::base::park::{Parker, Unparker};
    use crate::base::sync::atomic::{AtomicBool, Ordering, fence};
    use crate::base::sync::{Arc, thread};
    use crate::pool::census::Census;
    use crate::queue::injector::Injector;

    /// A pool with `threads` workers, its most, each with its flag and what wakes it.
    struct Pool {
        census: Census,
        workers: Vec<(Stranded, Arc<Unparker>)>,
        queue: Injector<()>,
        ran: AtomicBool,
    }

    impl Pool {
        fn new(parkers: &[Parker]) -> Arc<Self> {
            let census = Census::new();
            census.reserve(parkers.len(), parkers.len());
            parkers.iter().for_each(|_| census.arrived());
            let worker = |parker: &Parker| (Stranded::new(), parker.unparker().clone());
            Arc::new(Self {
                census,
                workers: parkers.iter().map(worker).collect(),
                queue: Injector::new(),
                ran: AtomicBool::new(false),
            })
        }

        fn is_stuck(&self) -> bool {
            let now = self.census.now();
            now.blocked() >= now.threads()
        }

        /// L3, after a fence.
        fn rescue(&self) {
            if self.is_stuck() {
                for (stranded, unparker) in &self.workers {
                    if stranded.take() {
                        unparker.unpark();
                    }
                }
            }
        }

        /// A worker waits for what is in the queue until somebody has run it.
        fn wait(&self, index: usize, parker: &Parker) {
            self.census.block_begins();
            self.rescue();
            while !self.ran.load(Ordering::Acquire) {
                let stuck = self.workers[index].0.look(true, || self.is_stuck());
                if stuck && self.queue.take().is_some() {
                    self.ran.store(true, Ordering::Release);
                    for (_, unparker) in &self.workers {
                        unparker.unpark();
                    }
                } else {
                    parker.park();
                }
            }
            self.census.block_ends();
        }
    }

    /// Question: of two workers that block at the same time, does one see that the pool is
    /// stuck, or is it told?
    ///
    /// Bound: two workers, one job that is queued; three preemptions.
    ///
    /// Must fail when: the fence in `look` is gone; `rescue` wakes nobody; the flag is set
    /// after the look at the census.
    #[test]
    fn loom_stranded_the_last_to_block_is_not_missed() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let parkers = [Parker::new(), Parker::new()];
            let pool = Pool::new(&parkers);
            pool.queue.push(());
            let [own, other] = parkers;
            let at = pool.clone();
            let second = thread::spawn(move || at.wait(1, &other));
            pool.wait(0, &own);
            second.join().unwrap();
        });
    }

    /// Question: a worker blocks last, in a wait for something else, and so runs nothing: does the
    /// one that is stranded learn of it?
    ///
    /// Bound: two workers, one job that is queued; every interleaving.
    ///
    /// Must fail when: the fence in `look` is gone, or that of [`Census::block_begins`]; `rescue`
    /// wakes nobody.
    #[test]
    fn loom_stranded_who_blocks_last_tells_who_sleeps() {
        loom::model(|| {
            let parkers = [Parker::new(), Parker::new()];
            let pool = Pool::new(&parkers);
            pool.queue.push(());
            let at = pool.clone();
            let second = thread::spawn(move || {
                at.census.block_begins();
                at.rescue();
            });
            pool.wait(0, &parkers[0]);
            second.join().unwrap();
        });
    }

    /// Question: does a worker that is stranded learn of what is queued while it goes to sleep?
    ///
    /// Bound: one worker, one push from outside; three preemptions.
    ///
    /// Must fail when: the fence in `look` is gone; `take` is always false.
    #[test]
    fn loom_stranded_a_push_is_not_missed() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let parker = Parker::new();
            let pool = Pool::new(std::slice::from_ref(&parker));
            let at = pool.clone();
            let pusher = thread::spawn(move || {
                at.queue.push(());
                fence(Ordering::SeqCst);
                at.rescue();
            });
            pool.wait(0, &parker);
            pusher.join().unwrap();
        });
    }
}
