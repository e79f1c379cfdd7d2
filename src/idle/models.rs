//! Models of the sleep protocol on a toy pool: real [`Idle`], real parkers, stand-in queue.
//!
//! A lost wake shows as a deadlock: everybody parks while a job waits. A worker with index 0
//! has a bit, one with index 1 lies on the stack (`word::BITS` is one here).

use super::{Claim, Found, Idle, Sleep, Withdraw};
use crate::base::park::{Parker, Unparker};
use crate::base::sync::Arc;
use crate::base::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::base::sync::thread;
use crate::queue::injector::Injector;

/// What a job does.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// Ends at once.
    Plain,
    /// Ends when this many other jobs have begun.
    AwaitBegun(usize),
}

struct Toy {
    idle: Idle,
    queue: Injector<Work>,
    workers: Vec<Arc<Unparker>>,
    begun: AtomicUsize,
    ended: AtomicUsize,
    jobs: usize,
    stop: AtomicBool,
}

impl Toy {
    /// A pool of which `jobs` jobs are expected, and the parkers of its workers.
    fn new(workers: usize, jobs: usize) -> (Arc<Self>, Vec<Parker>) {
        let parkers: Vec<_> = (0..workers).map(|_| Parker::new()).collect();
        let toy = Self {
            idle: Idle::new(),
            queue: Injector::new(),
            workers: parkers.iter().map(|p| p.unparker().clone()).collect(),
            begun: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            jobs,
            stop: AtomicBool::new(false),
        };
        (Arc::new(toy), parkers)
    }

    fn push(&self, work: Work) {
        self.queue.push(work);
        let _ = self.wake_one();
    }

    fn wake_one(&self) -> Claim {
        let claim = self.idle.claim();
        if let Claim::Wake(index) = claim {
            self.workers[index].unpark();
        }
        claim
    }

    fn unpark_all(&self) {
        self.workers.iter().for_each(|worker| worker.unpark());
    }

    fn run(&self, work: Work, parker: &Parker) {
        if let Work::AwaitBegun(count) = work {
            self.begun.fetch_add(1, Ordering::AcqRel);
            self.unpark_all();
            while self.begun.load(Ordering::Acquire) < count {
                parker.park();
            }
        }
        if self.ended.fetch_add(1, Ordering::AcqRel) + 1 == self.jobs {
            self.stop.store(true, Ordering::Release);
            self.unpark_all();
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// A worker's life; it begins busy and ends when all expected jobs have ended.
    fn work(&self, index: usize, parker: &Parker) {
        self.work_from(index, parker, false);
    }

    fn work_from(&self, index: usize, parker: &Parker, mut searching: bool) {
        while !self.stopped() {
            if let Some(work) = self.queue.take() {
                if searching {
                    searching = false;
                    if self.idle.found() == Found::PassOn && !self.queue.is_empty() {
                        let _ = self.wake_one();
                    }
                }
                self.run(work, parker);
                continue;
            }
            let sleep = self.idle.sleep(index, searching);
            searching = true;
            if sleep == Sleep::LookAgain && !self.queue.is_empty() {
                self.idle.rejoin(index);
                continue;
            }
            while !self.stopped() && !self.idle.is_claimed(index) {
                parker.park();
            }
        }
    }

    fn start(self: &Arc<Self>, parkers: Vec<Parker>) -> Vec<thread::JoinHandle<()>> {
        let start = |(index, parker): (usize, Parker)| {
            let toy = self.clone();
            thread::spawn(move || toy.work(index, &parker))
        };
        parkers.into_iter().enumerate().map(start).collect()
    }
}

fn model(preemptions: usize, check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(check);
}

/// Question: does a job pushed while the worker falls asleep always run?
///
/// Bound: one submitter, one worker, one job; three preemptions.
///
/// Must fail when: the fence in `claim` is gone; the fence W2 in `sleep` is gone; `sleep`
/// says `Park` where nobody searches; `claim` does not count the claimed as searching (the
/// search count runs below zero).
#[test]
fn loom_idle_a_push_that_races_the_park_is_not_lost() {
    model(3, || {
        let (toy, parkers) = Toy::new(1, 1);
        let workers = toy.start(parkers);
        toy.push(Work::Plain);
        workers.into_iter().for_each(|w| w.join().unwrap());
        assert_eq!(toy.ended.load(Ordering::Relaxed), 1);
    });
}

/// Question: the same for the worker on the stack.
///
/// Bound: one submitter, one worker without a bit, one job; three preemptions.
///
/// Must fail when: the fence in `claim` is gone; the fence W2 in `sleep` is gone; `pop` does
/// not join the searchers under its lock (the count runs below zero).
#[test]
fn loom_idle_a_push_that_races_a_park_on_the_stack_is_not_lost() {
    model(3, || {
        let (toy, mut parkers) = Toy::new(2, 1);
        let parker = parkers.pop().unwrap();
        let worker = {
            let toy = toy.clone();
            thread::spawn(move || toy.work(1, &parker))
        };
        // A token that means nothing: the worker may look at its place at any moment.
        toy.workers[1].unpark();
        toy.push(Work::Plain);
        worker.join().unwrap();
        assert_eq!(toy.ended.load(Ordering::Relaxed), 1);
    });
}

/// Question: do two submitters and two workers, one of either kind, lose anything?
///
/// Bound: two submitters, two workers, two jobs; one preemption.
///
/// Must fail when: `sleep` says `Park` where nobody searches; a claim leaves the bit set.
#[test]
fn loom_idle_two_submitters_and_two_workers_run_both_jobs() {
    model(1, || {
        let (toy, parkers) = Toy::new(2, 2);
        let workers = toy.start(parkers);
        let other = {
            let toy = toy.clone();
            thread::spawn(move || toy.push(Work::Plain))
        };
        toy.push(Work::Plain);
        other.join().unwrap();
        workers.into_iter().for_each(|w| w.join().unwrap());
        assert_eq!(toy.ended.load(Ordering::Relaxed), 2);
    });
}

/// Question: does a second job that the first one waits for get the other worker?
///
/// Bound: one submitter, two workers, two jobs of which each waits for the other to begin;
/// two preemptions.
///
/// Must fail when: the last searcher that finds work does not pass on; the fence in `found` is
/// gone; the idle count is read at the push and corrected by the worker later.
#[test]
fn loom_idle_dependent_jobs_get_both_workers() {
    model(2, || {
        let (toy, parkers) = Toy::new(2, 2);
        let workers = toy.start(parkers);
        toy.push(Work::AwaitBegun(2));
        toy.push(Work::AwaitBegun(2));
        workers.into_iter().for_each(|w| w.join().unwrap());
    });
}

/// Question: does a second claim beside a searcher keep the counts, and get its job run?
///
/// Bound: one submitter that claims one more for its second job, two workers, two jobs of which
/// each waits for the other to begin; two preemptions.
///
/// Must fail when: a claim does not count the claimed as searching.
#[test]
fn loom_idle_a_second_claim_beside_a_searcher_is_counted() {
    model(2, || {
        let (toy, parkers) = Toy::new(2, 2);
        let workers = toy.start(parkers);
        toy.push(Work::AwaitBegun(2));
        toy.queue.push(Work::AwaitBegun(2));
        if toy.wake_one() == Claim::Searching {
            if let Claim::Wake(index) = toy.idle.claim_another() {
                toy.workers[index].unpark();
            }
        }
        workers.into_iter().for_each(|w| w.join().unwrap());
    });
}

/// Question: does one wake for a whole batch get every worker going?
///
/// Bound: two workers that begin anywhere, a batch of two jobs that wait for each other;
/// two preemptions.
///
/// Must fail when: the last searcher that finds work does not pass on.
#[test]
fn loom_idle_one_chain_reaches_all() {
    model(2, || {
        let (toy, parkers) = Toy::new(2, 2);
        let workers = toy.start(parkers);
        toy.queue.push(Work::AwaitBegun(2));
        toy.queue.push(Work::AwaitBegun(2));
        let _ = toy.wake_one();
        workers.into_iter().for_each(|w| w.join().unwrap());
    });
}

/// Question: does a worker without a bit that falls asleep unlooking, because another one
/// searches, miss the job that the other one's find leaves behind?
///
/// Bound: worker 0 searches and finds a job that waits for a second one; worker 1 runs dry
/// meanwhile; one submitter pushes the second job; three preemptions.
///
/// Must fail when: `sleep` lacks the fence between the stack and the count of searchers; the
/// fence in `found` is gone.
#[test]
fn loom_idle_a_worker_on_the_stack_is_seen_once_the_searcher_has_found_work() {
    model(3, || {
        let (toy, mut parkers) = Toy::new(2, 2);
        assert!(toy.idle.start_search());
        toy.queue.push(Work::AwaitBegun(2));
        let dry = parkers.pop().unwrap();
        let searcher = parkers.pop().unwrap();
        let workers = [(0, searcher), (1, dry)].map(|(index, parker)| {
            let toy = toy.clone();
            thread::spawn(move || toy.work_from(index, &parker, index == 0))
        });
        toy.push(Work::AwaitBegun(2));
        workers.into_iter().for_each(|w| w.join().unwrap());
    });
}

/// Question: can a worker leave for good while a submitter counts on it?
///
/// Bound: one submitter, one worker whose keep-alive runs out as soon as it sleeps; the
/// submitter runs the job itself where nobody was there to claim; three preemptions.
///
/// Must fail when: `withdraw` says `Free` though the bit is gone; `sleep` says `Park` where
/// nobody searches; the fence in `claim` is gone.
#[test]
fn loom_idle_a_claimed_worker_does_not_leave() {
    for index in [0, 1] {
        model(3, move || {
            let (toy, mut parkers) = Toy::new(index + 1, 1);
            let parker = parkers.pop().unwrap();
            let worker = {
                let toy = toy.clone();
                thread::spawn(move || toy.work_until_rested(index, &parker))
            };
            toy.queue.push(Work::Plain);
            let claim = toy.wake_one();
            worker.join().unwrap();
            if claim == Claim::Nobody {
                // The pool would start a thread.
                if let Some(work) = toy.queue.take() {
                    toy.run(work, &Parker::new());
                }
            }
            assert_eq!(toy.ended.load(Ordering::Relaxed), 1, "after {claim:?}");
        });
    }
}

impl Toy {
    /// A worker that leaves the first time it would park.
    fn work_until_rested(&self, index: usize, parker: &Parker) {
        let mut searching = false;
        loop {
            if let Some(work) = self.queue.take() {
                if std::mem::take(&mut searching) {
                    let _ = self.idle.found();
                }
                self.run(work, parker);
                continue;
            }
            let sleep = self.idle.sleep(index, searching);
            searching = true;
            if sleep == Sleep::LookAgain && !self.queue.is_empty() {
                self.idle.rejoin(index);
                continue;
            }
            if self.idle.withdraw(index) == Withdraw::Free {
                return;
            }
        }
    }
}
