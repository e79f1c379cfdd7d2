//! What a pool counts, and how the numbers hang together.
//!
//! Each worker counts for itself, with plain stores to a line of its own; what happens on other
//! threads (a submit, a cancel, a joiner that runs a job in place) goes into sharded counters.
//! `queued` and `running` are not counted at all but follow from the others, so that the law
//! of conservation cannot be broken by a forgotten decrement:
//!
//! ```text
//! queued  = submitted - started - ended before the start
//! running = started - ended after the start
//! ```
//!
//! An end is counted before the outcome becomes visible: whoever has seen the outcome sees the
//! count.

#![forbid(unsafe_code)]

use crate::base::count::Count;
use crate::base::sync::atomic::{Ordering, fence};
use crate::pool::seat::Tally;
use crate::task::{Completion, Ended};

/// The numbers of a [`ThreadPool`](crate::ThreadPool) at one moment.
///
/// `submitted = completed + panicked + cancelled + queued + running` whenever nothing is
/// moving. A suspended task counts as running. `completed` counts the values; `cancelled` what
/// was cancelled, before or after its start, and what a lost waker, a shutdown or a broken pool
/// ended; a refused job is not counted at all.
///
/// # Examples
///
/// ```
/// use portage::ThreadPool;
///
/// let pool = ThreadPool::builder().core_threads(1).build()?;
/// pool.spawn_blocking(|| ()).wait()?;
/// let metrics = pool.metrics();
/// assert_eq!((metrics.submitted, metrics.completed, metrics.threads), (1, 1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PoolMetrics {
    /// Threads that there are, with those being started.
    pub threads: usize,
    /// The most threads that there ever were.
    pub threads_peak: usize,
    /// Threads that are parked for want of work.
    pub threads_idle: usize,
    /// Jobs and tasks that have not started.
    pub queued: usize,
    /// Jobs and tasks that have started and not ended.
    pub running: usize,
    /// Threads started so far.
    pub threads_started: u64,
    /// Extra threads that have left after their keep-alive.
    pub threads_retired: u64,
    /// Jobs and tasks taken so far.
    pub submitted: u64,
    /// Those that gave a value.
    pub completed: u64,
    /// Those that panicked.
    pub panicked: u64,
    /// Those that were cancelled, lost, or ended by a shutdown.
    pub cancelled: u64,
    /// Those that a worker took from another one's queue.
    pub stolen: u64,
    /// Wakes of parked workers.
    pub wakes: u64,
    /// Times that a worker parked.
    pub parks: u64,
}

/// Sums over all workers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) submitted: u64,
    pub(super) taken: u64,
    pub(super) started: u64,
    /// Ends of jobs that had not started; they count in one of the next three as well.
    pub(super) unstarted: u64,
    pub(super) completed: u64,
    pub(super) panicked: u64,
    pub(super) cancelled: u64,
    pub(super) stolen: u64,
    pub(super) wakes: u64,
    pub(super) parks: u64,
    pub(super) threads: usize,
    pub(super) threads_peak: usize,
    pub(super) threads_started: u64,
    pub(super) threads_retired: u64,
}

impl Totals {
    pub(super) fn add(&mut self, tally: &Tally) {
        self.taken += tally.taken.read();
        self.unstarted += tally.unstarted.read();
        self.completed += tally.completed.read();
        self.panicked += tally.panicked.read();
        self.cancelled += tally.cancelled.read();
        self.started += tally.started.read();
        // Wrapping: one thread may take back what another one has counted.
        self.submitted = self.submitted.wrapping_add(tally.submitted.read());
        self.stolen += tally.stolen.read();
        self.wakes += tally.wakes.read();
        self.parks += tally.parks.read();
    }

    pub(super) fn ended(&self) -> u64 {
        self.completed + self.panicked + self.cancelled
    }

    pub(super) fn metrics(&self, idle: usize) -> PoolMetrics {
        // Reads that race a change may be one off in either direction.
        let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let after_start = self.ended().saturating_sub(self.unstarted);
        let gone = self.started + self.unstarted;
        PoolMetrics {
            threads: self.threads,
            threads_peak: self.threads_peak,
            threads_idle: idle,
            queued: count(self.submitted.saturating_sub(gone)),
            running: count(self.started.saturating_sub(after_start)),
            threads_started: self.threads_started,
            threads_retired: self.threads_retired,
            submitted: self.submitted,
            completed: self.completed,
            panicked: self.panicked,
            cancelled: self.cancelled,
            stolen: self.stolen,
            wakes: self.wakes,
            parks: self.parks,
        }
    }
}

/// Counts of what happens on threads that are no workers of the pool.
#[derive(Debug, Default)]
pub(super) struct Outside {
    pub(super) submitted: Count,
    pub(super) started: Count,
    unstarted: Count,
    completed: Count,
    panicked: Count,
    cancelled: Count,
    pub(super) wakes: Count,
}

impl Outside {
    /// What has not ended, with what the workers have counted `inside`.
    pub(super) fn live(&self, inside: impl Fn() -> Totals, submitted: fn(&Count) -> u64) -> u64 {
        // The ends first: a task whose end is seen has been seen submitted, with all that it
        // submitted itself.
        let ended = inside().ended() + self.ends();
        // Ordering: keeps the two sums in this order; pairs with the fence in `ended`, and a
        // worker counts with Release what is read with Acquire.
        fence(Ordering::SeqCst);
        let inside = inside().submitted;
        let submitted = inside.wrapping_add(submitted(&self.submitted));
        submitted.saturating_sub(ended)
    }

    pub(super) fn ended(&self, end: &Ended) {
        // Ordering: what the task submitted is counted before its end; pairs with that in `live`.
        fence(Ordering::SeqCst);
        if !end.started {
            self.unstarted.add(1);
        }
        match end.how {
            Completion::Value => self.completed.add(1),
            Completion::Panicked => self.panicked.add(1),
            Completion::Cancelled | Completion::Failed => self.cancelled.add(1),
        }
    }

    pub(super) fn ends(&self) -> u64 {
        self.completed.sum() + self.panicked.sum() + self.cancelled.sum()
    }

    pub(super) fn add_to(&self, totals: &mut Totals) {
        totals.unstarted += self.unstarted.sum();
        totals.completed += self.completed.sum();
        totals.panicked += self.panicked.sum();
        totals.cancelled += self.cancelled.sum();
        totals.started += self.started.sum();
        totals.submitted = totals.submitted.wrapping_add(self.submitted.sum());
        totals.wakes += self.wakes.sum();
    }
}

impl Tally {
    #[inline]
    pub(super) fn ended(&self, end: &Ended) {
        if !end.started {
            self.unstarted.bump();
        }
        match end.how {
            Completion::Value => self.completed.bump(),
            Completion::Panicked => self.panicked.bump(),
            Completion::Cancelled | Completion::Failed => self.cancelled.bump(),
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::Totals;

    #[test]
    fn what_is_queued_and_running_follows_from_the_counts() {
        let totals = Totals {
            submitted: 20,
            started: 12,
            unstarted: 3,
            completed: 6,
            panicked: 2,
            cancelled: 4,
            ..Totals::default()
        };
        let metrics = totals.metrics(1);
        assert_eq!((metrics.queued, metrics.running), (5, 3));
        let sum = metrics.completed + metrics.panicked + metrics.cancelled;
        assert_eq!(
            metrics.submitted,
            sum + (metrics.queued + metrics.running) as u64
        );
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::{Outside, Totals};
    use crate::base::count::Count;
    use crate::base::sync::{Arc, thread};
    use crate::pool::seat::Tally;
    use crate::task::{Completion, Ended, TaskId};

    fn end() -> Ended {
        Ended {
            id: TaskId::fresh(),
            is_job: true,
            started: true,
            suspended: false,
            how: Completion::Value,
        }
    }

    /// Question: a task that runs outside of the workers submits another one and ends; does
    /// somebody see that nothing lives?
    ///
    /// Bound: one task, one look; two preemptions.
    ///
    /// Must fail when: the fence in `ended` or in `live` is gone; the sums are read the other way
    /// round.
    #[test]
    fn loom_pool_what_an_end_leaves_behind_lives() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = model.preemption_bound.or(Some(2));
        model.check(|| {
            let outside = Arc::new(Outside::default());
            outside.submitted.add(1);
            let at = outside.clone();
            let runner = thread::spawn(move || {
                at.submitted.add(1);
                at.ended(&end());
            });
            assert!(outside.live(Totals::default, Count::sum) > 0);
            runner.join().unwrap();
        });
    }

    /// Question: the same of a worker, which counts without a fence.
    ///
    /// Bound: one task, one look; every interleaving.
    ///
    /// Must fail when: a worker's counts are not written with Release, or not read with Acquire.
    #[test]
    fn loom_pool_what_an_end_on_a_worker_leaves_behind_lives() {
        loom::model(|| {
            let tally = Arc::new(Tally::default());
            tally.submitted.bump();
            let at = tally.clone();
            let reader = thread::spawn(move || {
                let ended = at.completed.read();
                at.submitted.read() > ended
            });
            tally.submitted.bump();
            tally.ended(&end());
            assert!(reader.join().unwrap());
        });
    }
}
