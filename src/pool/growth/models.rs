//! Models of growth where starts are refused, and where one look leaves its work to another.
//! Run: `just loom growth`.
//!
//! The pool around it is a toy: a queue, the [`Census`], workers that run one job and are then
//! blocked for good in a way that nobody sees, and a watchdog of which only the call counts.

#![forbid(unsafe_code)]

use std::io;

use super::{Counts, Ground, Growth};
use crate::base::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use crate::base::sync::{Arc, Mutex, thread};
use crate::pool::builder::Starter;
use crate::pool::census::Census;
use crate::pool::elastic::Limits;
use crate::queue::injector::Injector;

/// Starts watchdogs that end at once, or none; workers are started by [`Toy`].
struct Watchdogs {
    is_refused: bool,
    started: AtomicUsize,
}

impl Starter for Watchdogs {
    fn start(
        &self,
        _: String,
        _: Option<usize>,
        _: Box<dyn FnOnce() + Send>,
    ) -> io::Result<thread::JoinHandle<()>> {
        if self.is_refused {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.started.fetch_add(1, Ordering::Relaxed);
        Ok(thread::spawn(|| ()))
    }
}

/// A pool of which each worker has time for one job.
struct Toy {
    growth: Growth,
    census: Census,
    queue: Injector<usize>,
    watchdogs: Arc<Watchdogs>,
    has_workers: bool,
    max: usize,
    /// A worker has found nothing, and sleeps: whoever pushes does its work.
    asleep: AtomicBool,
    /// How often each job has ended, in whatever way.
    ends: [AtomicUsize; 2],
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Toy {
    /// With so many workers at most, all of its core; or the system refuses every thread.
    fn new(max: usize, is_refused: bool) -> Arc<Self> {
        Self::with(max, is_refused, !is_refused)
    }

    fn with(max: usize, is_refused: bool, has_workers: bool) -> Arc<Self> {
        let watchdogs = Arc::new(Watchdogs {
            is_refused,
            started: AtomicUsize::new(0),
        });
        Arc::new(Self {
            growth: Growth::new(Limits { core: max, max }, watchdogs.clone()),
            census: Census::new(),
            queue: Injector::new(),
            watchdogs,
            has_workers,
            max,
            asleep: AtomicBool::new(false),
            ends: [AtomicUsize::new(0), AtomicUsize::new(0)],
            threads: Mutex::new(Vec::new()),
        })
    }

    /// The way of a job, as in `Shared::admit` and `Shared::after_push`.
    fn submit(self: &Arc<Self>, job: usize) {
        if self.census.now().threads() == 0 {
            let reserved = self.census.reserve(1, 1);
            if self.growth.spread(self, reserved).is_err() {
                return self.end(job);
            }
        }
        self.queue.push(job);
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            return self.turn();
        }
        if self.growth.arrived(self, self.queue.len()).is_err() {
            self.give_up();
        }
    }

    /// As in `Shared::give_up`.
    fn give_up(&self) {
        if self.census.now().threads() == 0 {
            while let Some(job) = self.queue.take() {
                self.end(job);
            }
        }
    }

    fn end(&self, job: usize) {
        self.ends[job].fetch_add(1, Ordering::Relaxed);
    }

    /// The life of a worker that was started, as in `worker::main` and `Worker::work`.
    fn live(self: &Arc<Self>, share: usize) {
        let _ = self.growth.spread(self, share);
        let job = self.queue.take();
        self.census.arrived();
        match job {
            Some(job) => {
                self.growth.began(self);
                self.end(job);
            }
            None => self.turn(),
        }
    }

    /// A worker that is there already takes a job, or sleeps until there is one. It passes on what
    /// it leaves, as in `Worker::pass_on`.
    fn turn(self: &Arc<Self>) {
        loop {
            if let Some(job) = self.queue.take() {
                fence(Ordering::SeqCst);
                if self.has_queued() && self.growth.arrived(self, self.queue.len()).is_err() {
                    self.give_up();
                }
                return self.end(job);
            }
            self.asleep.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            let sees_work = !self.queue.is_empty();
            if !sees_work || !self.asleep.swap(false, Ordering::AcqRel) {
                return;
            }
        }
    }

    /// All that can happen has happened: has each job ended once, or waits in the queue, of which
    /// the watchdog knows?
    fn check(&self) {
        loop {
            let thread = self.threads.lock().pop();
            let Some(thread) = thread else { break };
            thread.join().expect("no assertion fails");
        }
        let watchdogs = self.watchdogs.started.load(Ordering::Relaxed);
        assert!(watchdogs <= 1);
        let is_watched = watchdogs == 1 && self.growth.watch.is_alarmed();
        for ends in &self.ends {
            match ends.load(Ordering::Relaxed) {
                0 => assert!(is_watched, "a job is left behind"),
                ends => assert_eq!(ends, 1, "a job has ended twice"),
            }
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
            announced: census.blocked(),
            idle: usize::from(self.asleep.load(Ordering::Relaxed)),
            ..Counts::default()
        }
    }

    fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    fn reserve(&self, count: usize) -> usize {
        self.census.reserve(count, self.max)
    }

    fn release(&self, count: usize) {
        if count > 0 && self.census.release(count).threads() == 0 {
            self.give_up();
        }
    }

    fn start(self: &Arc<Self>, share: usize) -> io::Result<()> {
        if !self.has_workers {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let toy = self.clone();
        let thread = thread::spawn(move || toy.live(share));
        self.threads.lock().push(thread);
        Ok(())
    }
}

fn bounded(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.check(model);
}

/// Question: the system refuses every thread; is a job left in the queue, because its submitter
/// counted on a thread that another one was about to start?
///
/// Bound: two submitters, no thread at all, no watchdog; three preemptions.
///
/// Must fail when: a reservation is taken back without the fence; what is queued is not given up
/// then.
#[test]
fn loom_growth_refused_starts_leave_nothing_behind() {
    bounded(3, || {
        let toy = Toy::new(1, true);
        let at = toy.clone();
        let other = thread::spawn(move || at.submit(1));
        toy.submit(0);
        other.join().unwrap();
        toy.check();
        assert_eq!(toy.census.now().threads(), 0);
    });
}

/// Question: a submitter counts on the worker that is on its way, which takes another job and is
/// blocked by it; does a second one start, or is the watchdog called, for what is left?
///
/// Bound: two submitters, two workers at most, both of the core; one preemption.
///
/// Must fail when: the arrival of a worker has no fence; `began` does not look.
#[test]
fn loom_growth_what_a_new_worker_leaves_is_watched() {
    bounded(1, || {
        let toy = Toy::new(2, false);
        let at = toy.clone();
        let other = thread::spawn(move || at.submit(1));
        toy.submit(0);
        other.join().unwrap();
        toy.check();
    });
}

/// Question: of a pool whose core is not complete, a submitter finds another's look under way, and
/// that one decides for what it has seen before; does anybody come for the submitter's job?
///
/// Bound: two submitters, one worker that takes a job and is blocked by it; two preemptions.
///
/// Must fail when: who leaves a look to another does not call the watchdog.
#[test]
fn loom_growth_a_look_that_is_left_to_another_is_made_up_for() {
    bounded(2, || {
        let toy = Toy::new(2, false);
        assert_eq!(toy.census.reserve(1, 2), 1);
        toy.census.arrived();
        let (at, there) = (toy.clone(), toy.clone());
        let worker = thread::spawn(move || {
            if let Some(job) = there.queue.take() {
                there.end(job);
            }
        });
        let other = thread::spawn(move || at.submit(1));
        toy.submit(0);
        other.join().unwrap();
        worker.join().unwrap();
        toy.check();
    });
}

/// Question: a submitter counts on the watchdog that another one is starting, which the system
/// refuses; does anybody look in its place?
///
/// Bound: a core of two, of which one is there and blocked; one submitter, one that calls the
/// watchdog for a job that is gone; two preemptions.
///
/// Must fail when: who was refused the watchdog does not look again, or without a fence.
#[test]
fn loom_growth_a_refused_watchdog_is_made_up_for() {
    bounded(2, || {
        let toy = Toy::with(2, true, true);
        assert_eq!(toy.census.reserve(1, 2), 1);
        toy.census.arrived();
        let at = toy.clone();
        let submitter = thread::spawn(move || {
            at.queue.push(0);
            fence(Ordering::SeqCst);
            // Behind the one that the watchdog was called for.
            at.growth.arrived(&at, 2).expect("there is a thread");
        });
        toy.growth.call_watchdog(&toy);
        submitter.join().unwrap();
        toy.end(1);
        toy.check();
    });
}
