//! A model of a pool that ends while the system refuses it every thread. Run: `just loom shutdown`.
//!
//! The pool around [`Seal`], [`Census`] and [`Growth`] is a toy: a queue, two counts, and one who
//! waits for the end.

#![forbid(unsafe_code)]

use std::io;

use crate::base::park::{Parker, Unparker};
use crate::base::sync::atomic::{AtomicUsize, Ordering, fence};
use crate::base::sync::{Arc, Mutex, thread};
use crate::pool::builder::Starter;
use crate::pool::census::Census;
use crate::pool::elastic::Limits;
use crate::pool::growth::{Counts, Ground, Growth};
use crate::pool::seal::{Phase, Seal};
use crate::queue::injector::Injector;

/// No thread is to be had, for a watchdog neither.
struct Nobody;

impl Starter for Nobody {
    fn start(
        &self,
        _: String,
        _: Option<usize>,
        _: Box<dyn FnOnce() + Send>,
    ) -> io::Result<thread::JoinHandle<()>> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

struct Toy {
    seal: Seal,
    census: Census,
    growth: Growth,
    queue: Injector<usize>,
    submitted: AtomicUsize,
    ended: AtomicUsize,
    /// How often each job has ended, in whatever way, or was refused.
    ends: [AtomicUsize; 2],
    waiter: Mutex<Option<Arc<Unparker>>>,
}

impl Toy {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            seal: Seal::new(),
            census: Census::new(),
            growth: Growth::new(Limits { core: 1, max: 1 }, Arc::new(Nobody)),
            queue: Injector::new(),
            submitted: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            ends: [AtomicUsize::new(0), AtomicUsize::new(0)],
            waiter: Mutex::new(None),
        })
    }

    /// The way of a job, as in `Shared::admit` and `Shared::after_push`.
    fn submit(self: &Arc<Self>, job: usize) {
        let lacks = self.census.now().threads() == 0;
        let is_refused = self.seal.phase() != Phase::Open
            || lacks && self.census.reserve_first(1) && self.growth.spread(self, 1).is_err();
        if is_refused {
            self.ends[job].fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.submitted.fetch_add(1, Ordering::Acquire);
        self.queue.push(job);
        fence(Ordering::SeqCst);
        if self.growth.arrived(self, self.queue.len()).is_err() {
            self.give_up();
        }
        if self.seal.phase() >= Phase::Cancel {
            self.empty();
        }
    }

    fn give_up(&self) {
        if self.census.now().threads() == 0 {
            self.empty();
        }
    }

    /// Each job ends as in `Shared::ended`.
    fn empty(&self) {
        while let Some(job) = self.queue.take() {
            self.ends[job].fetch_add(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            self.ended.fetch_add(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if self.seal.phase() != Phase::Open {
                self.try_close();
                self.tell();
            }
        }
    }

    /// As in `Shared::live_by`.
    fn live(&self, submitted: impl FnOnce(&AtomicUsize) -> usize) -> usize {
        let ended = self.ended.load(Ordering::Relaxed);
        fence(Ordering::SeqCst);
        submitted(&self.submitted) - ended
    }

    /// As in `Shared::try_close`.
    fn try_close(&self) {
        while self.seal.phase() == Phase::Drain
            && self.live(|count| count.load(Ordering::Relaxed)) == 0
            && self.seal.advance(Phase::Ending)
        {
            if self.live(|count| count.fetch_add(0, Ordering::AcqRel)) == 0 {
                if self.seal.advance(Phase::Closed) {
                    self.empty();
                    self.tell();
                }
                return;
            }
            self.seal.go_on();
        }
    }

    fn tell(&self) {
        let waiter = self.waiter.lock().take();
        if let Some(waiter) = waiter {
            waiter.unpark();
        }
    }

    /// As in `Shared::await_end`.
    fn await_end(&self) {
        let parker = Parker::new();
        loop {
            *self.waiter.lock() = Some(parker.unparker().clone());
            self.try_close();
            let is_alone = self.seal.is_shut() && self.census.now().present() == 0;
            if is_alone && self.live(|count| count.load(Ordering::Relaxed)) == 0 {
                return;
            }
            parker.park();
        }
    }
}

impl Ground for Toy {
    fn growth(&self) -> &Growth {
        &self.growth
    }

    fn counts(&self) -> Counts {
        let census = self.census.now();
        Counts {
            queued: self.queue.len(),
            threads: census.threads(),
            starting: census.starting(),
            ..Counts::default()
        }
    }

    fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    fn reserve(&self, count: usize) -> usize {
        if self.seal.phase() >= Phase::Cancel {
            return 0;
        }
        self.census.reserve(count, 1)
    }

    fn release(&self, count: usize) {
        if count > 0 {
            if self.census.release(count).threads() == 0 {
                self.give_up();
            }
            self.tell();
        }
    }

    fn start(self: &Arc<Self>, _: usize) -> io::Result<()> {
        let refusal = match self.seal.may_start() {
            true => io::ErrorKind::WouldBlock,
            false => io::ErrorKind::Other,
        };
        Err(refusal.into())
    }
}

fn drains(submitters: usize, preemptions: usize) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = model.preemption_bound.or(Some(preemptions));
    model.check(move || {
        let toy = Toy::new();
        let submit = |job| {
            let toy = toy.clone();
            thread::spawn(move || toy.submit(job))
        };
        let threads: Vec<_> = (0..submitters).map(submit).collect();
        assert!(toy.seal.advance(Phase::Drain));
        toy.await_end();
        assert_eq!(toy.seal.phase(), Phase::Closed);
        for thread in threads {
            thread.join().expect("no assertion fails");
        }
        for ends in &toy.ends[..submitters] {
            assert_eq!(ends.load(Ordering::Relaxed), 1, "each job ends once");
        }
        assert_eq!(toy.census.now().present(), 0);
    });
}

/// Question: a pool drains while its first thread is refused; does who waits for the end see it?
///
/// Bound: one submitter, one that drains; three preemptions.
///
/// Must fail when: the reservation of a refused start is not taken back.
#[test]
fn loom_pool_a_refused_start_does_not_hold_up_a_drain() {
    drains(1, 3);
}

/// Question: the same, and another submitter counts on the thread that is refused: does its job end
/// too, and once?
///
/// Bound: two submitters, one that drains; two preemptions.
///
/// Must fail when: the reservation is taken back without a fence; what is queued then is not given
/// up.
#[test]
fn loom_pool_who_counts_on_a_refused_start_does_not_hold_up_a_drain() {
    drains(2, 2);
}
