//! How a pool ends.
//!
//! 1. Seal: the phase changes, whoever pushes from now on is refused or empties the queues
//!    itself ([`seal`](super::seal)).
//! 2. `CancelQueued`, and a start hook that panicked: the queues are emptied, then the
//!    suspended tasks are told, then what that queued is dropped; all of it on the thread that
//!    seals, so that nothing waits for a worker that is blocked.
//! 3. `Drain`, and the last handle dropped: workers go on until all that was submitted has
//!    ended. Whoever notices the end (a worker on its way to sleep, a canceller, the one that
//!    waits) closes the pool and wakes the workers.
//! 4. Workers leave. The last one of them tells the waiters.
//!
//! # Who does not wait for whom
//!
//! Who waits for the pool's end cannot wait for the pool's tasks on its own stack, nor, on a worker
//! of the pool, for its thread. These are *excused*: the pool has ended when no more tasks live than
//! are excused and no more threads are there than have such a wait. On the stack is what runs there,
//! on a worker or in place on any thread, and work that is being dropped there; a task whose
//! callbacks run has ended. Two tasks that wait at the same time excuse each other. While it waits, a
//! worker runs what is queued in place: it may be the only one. So it says before it sleeps that it
//! is [stranded](super::stranded), and is woken by what is queued later.
//!
//! # Ordering
//!
//! `excused` and `inside` are moved with AcqRel and read with Acquire: who counts a task as excused
//! sees what it did before it began to wait. A look that comes too early is made again, because
//! whoever moves them wakes the waiters. No model needs these orders: the lock of the waiters has
//! them.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::panic::Location;
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::base::clock;
use crate::base::sync::atomic::Ordering;
use crate::base::sync::{Arc, join, local};
use crate::entered::Parking;
use crate::pool::seal::Phase;
use crate::pool::shared::Shared;
use crate::pool::worker::{self, Worker};
use crate::task::{self, Hold, TaskId};

#[cfg(all(test, loom))]
mod models;

/// What a shutdown does with work that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shutdown {
    /// All of it ends first, also what running jobs submit meanwhile and suspended tasks.
    Drain,
    /// What has not started is cancelled, suspended tasks too; running jobs end.
    CancelQueued,
}

/// What a shutdown has come to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShutdownReport {
    /// Everything has ended and the threads have left.
    pub completed: bool,
    /// Jobs and tasks that this call has cancelled.
    pub cancelled: usize,
    /// What was still there when the time was over.
    pub stuck: Vec<StuckTask>,
}

/// A job or task that a shutdown has waited for in vain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StuckTask {
    /// The number on its handle.
    pub id: TaskId,
    /// Its name, if it was given one.
    pub name: Option<String>,
    /// Where it was submitted.
    pub spawned_at: &'static Location<'static>,
    /// Since its start, or its first suspension. Some microseconds more where short jobs ran
    /// just before it on the same thread.
    pub running_for: Duration,
}

/// Who waits for the end of the pool.
#[derive(Debug, Default)]
pub(super) struct Waiters(Vec<Waker>);

impl Shared {
    /// Seals the pool; true if it was this call that cancels.
    pub(super) fn stop(self: &Arc<Self>, mode: Shutdown) -> bool {
        // Ordering: Release pairs with `is_stopped`; no model, as there.
        self.stopped.store(true, Ordering::Release);
        if self.is_left_behind() {
            // The parent's threads may have held any of its locks at the fork; what is queued
            // is lost anyhow.
            return false;
        }
        match mode {
            Shutdown::Drain => {
                if self.seal.advance(Phase::Drain) {
                    self.try_close();
                }
                false
            }
            Shutdown::CancelQueued => {
                let is_first = self.seal.advance(Phase::Cancel);
                if is_first {
                    self.abandon();
                }
                is_first
            }
        }
    }

    /// A start hook panicked: nothing that has not started ever will.
    pub(super) fn break_down(self: &Arc<Self>) {
        if self.seal.advance(Phase::Broken) {
            self.abandon();
        }
    }

    /// In a pool that runs no more: ends what is queued and what is suspended, and sends everybody
    /// home. A destructor in there may itself wait for the pool's end, further up on this stack:
    /// then it does the rest.
    fn abandon(&self) {
        let tell = match self.seal.phase() {
            Phase::Cancel => Self::cancel_suspended,
            Phase::Broken => Self::shut_down_suspended,
            Phase::Open | Phase::Drain | Phase::Ending | Phase::Closed => return,
        };
        self.empty_queues();
        tell(self);
        self.empty_queues();
        self.dismiss();
    }

    fn cancel_suspended(&self) {
        let mut told = self.suspended.holds();
        told.retain(Hold::cancel_first);
        self.told.lock().extend(told);
    }

    fn shut_down_suspended(&self) {
        for hold in self.suspended.holds() {
            if hold.is_here() {
                hold.shut_down();
            }
            if !hold.is_finished() {
                // It is being polled, or pinned: only its own worker may drop it.
                let _ = hold.cancel();
            }
        }
    }

    /// How many jobs and tasks the sealing call has cancelled so far. One that was told to stop
    /// while it was polled may have given a value all the same.
    pub(super) fn cancelled(&self) -> usize {
        let told = std::mem::take(&mut *self.told.lock());
        let told = told.iter().filter(|task| !task.has_outlived_cancel());
        // Ordering: Relaxed: see `sweep`.
        self.swept.load(Ordering::Relaxed) + told.count()
    }

    /// Closes a draining pool in which nothing lives any more.
    pub(super) fn try_close(&self) {
        let is_over = |live: u64| live <= self.excused.load(Ordering::Acquire) as u64;
        while self.seal.phase() == Phase::Drain
            && is_over(self.live())
            && self.seal.advance(Phase::Ending)
        {
            if is_over(self.settled_live()) {
                if self.seal.advance(Phase::Closed) {
                    self.empty_queues();
                    self.dismiss();
                }
                return;
            }
            // Something was admitted before the drain, and counted only now. Who comes by at its
            // end may have found this look under way: so it is made again.
            self.seal.go_on();
        }
    }

    /// Sends everybody home who waits for work.
    fn dismiss(&self) {
        self.growth.close();
        for seat in &*self.roster.seats().list {
            seat.waker.wake_by_ref();
        }
        self.tell_waiters();
    }

    pub(super) fn tell_waiters(&self) {
        let waiters = std::mem::take(&mut self.waiters.lock().0);
        waiters.into_iter().for_each(Waker::wake);
    }

    /// Waits for the end of a sealed pool; true if it has come by `deadline`.
    pub(super) fn await_end(self: &Arc<Self>, deadline: Option<Instant>) -> bool {
        if self.is_left_behind() {
            // No thread of the copy will ever leave.
            return false;
        }
        let here = worker::current().filter(|here| here.shared.id == self.id);
        let excused = Excused::new(self, here.as_deref());
        self.abandon();
        let depth = here.as_ref().map_or(0, |here| here.next_wait());
        let goes_on = |here: &Rc<Worker>| here.help() || here.lies_down(depth);
        let parking = Parking::current();
        let ended = parking.wait_until(
            || {
                loop {
                    self.wait_with(parking.waker());
                    self.try_close();
                    if self.has_ended() {
                        return true;
                    }
                    let over = deadline.is_some_and(|deadline| clock::now() >= deadline);
                    if over || !here.as_ref().is_some_and(goes_on) {
                        return false;
                    }
                }
            },
            deadline,
        );
        if let Some(here) = &here {
            here.gets_up();
        }
        let mut waiters = self.waiters.lock();
        waiters.0.retain(|waker| !waker.will_wake(parking.waker()));
        drop(waiters);
        drop(excused);
        if ended && deadline.is_none() {
            // At most their locals are still being destroyed.
            for thread in self.roster.take_gone() {
                let _ = join(thread);
            }
        }
        ended
    }

    fn wait_with(&self, waker: &Waker) {
        let mut waiters = self.waiters.lock();
        if !waiters.0.iter().any(|other| other.will_wake(waker)) {
            waiters.0.push(waker.clone());
        }
    }

    fn has_ended(&self) -> bool {
        let inside = self.inside.load(Ordering::Acquire);
        self.seal.is_shut()
            && self.census.now().present() <= inside
            && self.roster.threads() <= inside
            && self.live() <= self.excused.load(Ordering::Acquire) as u64
    }

    /// What has not ended: at work, and suspended.
    pub(super) fn stuck(&self) -> Vec<StuckTask> {
        let now = clock::now().saturating_duration_since(self.epoch);
        let own = worker::current().filter(|here| here.shared.id == self.id);
        let seats = self.roster.seats();
        let others = seats
            .list
            .iter()
            .filter(|seat| own.as_ref().is_none_or(|own| own.seat.index != seat.index));
        let mut stuck: Vec<_> = others
            .filter_map(|seat| seat.desk.look())
            .map(|work| StuckTask {
                id: work.id,
                name: work.name,
                spawned_at: work.spawned_at,
                running_for: now.saturating_sub(work.since),
            })
            .collect();
        for task in self.suspended.stuck() {
            if stuck.iter().all(|other| other.id != task.id) {
                stuck.push(task);
            }
        }
        stuck
    }
}

local! {
    /// The tasks of this stack that some wait further down has excused.
    static EXCUSED: RefCell<Vec<TaskId>> = RefCell::new(Vec::new());
}

/// Who is not waited for, as it is what waits; see the module's header.
struct Excused<'a> {
    shared: &'a Arc<Shared>,
    worker: Option<&'a Worker>,
    tasks: usize,
    inside: bool,
}

impl<'a> Excused<'a> {
    fn new(shared: &'a Arc<Shared>, worker: Option<&'a Worker>) -> Self {
        let (tasks, inside) = (excuse(shared.id), worker.is_some_and(Worker::excuse));
        shared.excused.fetch_add(tasks, Ordering::AcqRel);
        if inside {
            shared.inside.fetch_add(1, Ordering::AcqRel);
        }
        // Another one that waits may have been waiting for this.
        shared.tell_waiters();
        Self {
            shared,
            worker,
            tasks,
            inside,
        }
    }
}

impl Drop for Excused<'_> {
    fn drop(&mut self) {
        if let Some(worker) = self.worker {
            worker.resume();
        }
        resume(self.tasks);
        self.shared.excused.fetch_sub(self.tasks, Ordering::AcqRel);
        if self.inside {
            self.shared.inside.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Excuses the tasks of the pool that run on this stack; how many were not excused before.
fn excuse(pool: u64) -> usize {
    let running = task::running_of(pool);
    let excused = EXCUSED.try_with(|excused| {
        let mut excused = excused.borrow_mut();
        let before = excused.len();
        for id in running {
            if !excused.contains(&id) {
                excused.push(id);
            }
        }
        excused.len() - before
    });
    excused.unwrap_or_default()
}

/// The last wait of this stack is over, which has excused `count` tasks.
fn resume(count: usize) {
    let _ = EXCUSED.try_with(|excused| {
        let mut excused = excused.borrow_mut();
        let before = excused.len() - count;
        excused.truncate(before);
    });
}
