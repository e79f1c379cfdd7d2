//! What runs on a worker's stack: tasks in place on top of each other, and waits of ours.
//!
//! The worker's account of it answers whether it is excused when one of them waits for the pool's
//! end ([`shutdown`](crate::pool::shutdown)), whether there is room for one more, and when the worker
//! counts as blocked.

#![forbid(unsafe_code)]

use std::any::Any;
use std::ptr;

use super::Worker;
use crate::entered::{self, Prospect};
use crate::idle::Claim;
use crate::pool::deadlock::{Plight, WayOut};
use crate::pool::evidence::Phase as Doing;
use crate::pool::growth::Ground;
use crate::pool::seal::Phase;
use crate::promise::{awaits_work, run_awaited, run_for_another};
use crate::task::{self, Ended, Hold, TaskRef};
use crate::timer::{Busy, Timers};

impl Worker {
    #[inline]
    pub(in crate::pool) fn started(&self, task: &TaskRef) {
        self.seat.tally.started.bump();
        if self.outer.get() != Some(task.id()) {
            // A joiner runs it in place; it may be a job.
            self.keeper.see_to(Busy::Away);
        }
    }

    #[inline]
    pub(in crate::pool) fn ended(&self, end: &Ended) {
        self.seat.tally.ended(end);
    }

    /// This worker waits for the pool's end, which does not wait for it; true unless it was excused
    /// before.
    pub(in crate::pool) fn excuse(&self) -> bool {
        self.excused.replace(self.excused.get() + 1) == 0
    }

    pub(in crate::pool) fn resume(&self) {
        self.excused.set(self.excused.get() - 1);
    }

    /// Runs something of the pool on top of a task that waits for the pool's end; false if
    /// there is nothing.
    pub(in crate::pool) fn help(&self) -> bool {
        self.gets_up();
        if self.is_deep() {
            return false;
        }
        if self.driver.can_turn() && (self.driver.has_work() || self.is_timer_due()) {
            self.turn();
            return true;
        }
        let task = self.local.pop().or_else(|| self.shared.take_any());
        let Some(task) = task else {
            return false;
        };
        if !self.shared.seal.may_run() {
            self.shared.resolve(task);
            return true;
        }
        self.seat.tally.taken.bump();
        let polling = self.polling.replace(!task.is_job());
        task.run();
        self.polling.set(polling);
        true
    }

    /// About to sleep until the pool's end: whoever queues something wakes this worker if nobody
    /// else is left to run it, and what sleeps on the own loop is woken by others. True if
    /// something is queued already.
    ///
    /// `depth` is that of this wait among those of the worker.
    pub(in crate::pool) fn lies_down(&self, depth: usize) -> bool {
        if self.is_deep() {
            return false;
        }
        drop(Timers::enter());
        self.ending.set(depth);
        self.seat.stranded.look(true, || self.shared.has_queued())
    }

    /// It sleeps no more until the pool's end.
    pub(in crate::pool) fn gets_up(&self) {
        self.ending.set(0);
    }

    /// The depth of a wait that begins now.
    pub(in crate::pool) fn next_wait(&self) -> usize {
        self.blocked.get() + 1
    }

    /// From here on somebody may end its wait: takes its plight back, with what it was told to do.
    fn recovers(&self) -> Option<WayOut> {
        if !self.is_desperate.replace(false) {
            return None;
        }
        self.shared.plights.leave(self.seat.index)
    }

    /// More than half of the stack is used. Told by the address of a local, which lies elsewhere
    /// where AddressSanitizer looks for uses after a return; its scripts turn that off.
    fn is_deep(&self) -> bool {
        let (base, most) = self.stack;
        let here = 0_u8;
        base.abs_diff(&raw const here as usize) > most
    }
}

impl entered::Worker for Worker {
    fn pool(&self) -> u64 {
        self.shared.id
    }

    fn block_begins(&self) {
        if self.resting.get() {
            return;
        }
        self.blocked.set(self.blocked.get() + 1);
        if self.blocked.get() > 1 {
            return;
        }
        self.keeper.open_to(ptr::null());
        self.keeper.see_to(Busy::Away);
        self.firing.set(false);
        self.seat.pulse.turn(Doing::Waiting);
        if let Some(task) = self.take_next() {
            self.local.line_up(task);
        }
        let _ = self.gives_up();
        // Its fence lies behind what was lined up, and before the looks.
        self.shared.census.block_begins();
        if self.shared.seal.phase() >= Phase::Cancel {
            // What it kept without a look at the phase.
            self.shared.empty_queues();
        }
        if self.sees_work() {
            match self.shared.idle.claim() {
                Claim::Wake(index) => self.shared.wake(index),
                Claim::Searching => {}
                Claim::Nobody => {
                    self.shared.growth.blocked(&self.shared);
                    self.shared.rescue();
                }
            }
        }
    }

    fn block_ends(&self) {
        if self.resting.get() {
            return;
        }
        let _ = self.recovers();
        self.blocked.set(self.blocked.get() - 1);
        if self.blocked.get() == 0 {
            self.seat.stranded.withdraw();
            self.shared.census.block_ends();
            self.seat.pulse.turn(Doing::Inside);
        }
    }

    fn last_resort(&self) -> bool {
        if self.ending.get() == self.blocked.get() {
            // It has looked itself, and for everything.
            return false;
        }
        let awaits = !self.resting.get() && awaits_work();
        let is_left = || self.shared.is_stuck();
        let is_left = self.seat.stranded.look(awaits, is_left);
        is_left && !self.is_deep() && run_awaited(self.shared.id)
    }

    fn prospect_of(&self, work: &dyn Any) -> Prospect {
        let way_out = self.recovers();
        let Some(root) = work.downcast_ref::<Hold>() else {
            return Prospect::Open;
        };
        match way_out {
            Some(WayOut::Run(work)) if run_for_another(&work) => return Prospect::Changed,
            Some(WayOut::GiveUp(work)) if work == root.id() && !root.is_claimed() => {
                return Prospect::Hopeless;
            }
            // What was told is no more so, or was told to an outer wait, which looks once more.
            _ => {}
        }
        // Else somebody else might run it.
        let is_own = root.is_claimed() || root.pool() == Some(self.shared.id);
        if is_own && self.shared.is_stuck() {
            self.is_desperate.set(true);
            let (has_room, waker) = (!self.is_deep(), self.seat.waker.clone());
            let plight = Plight::new(root.clone(), task::running(), has_room, waker);
            let are_all = |plights| self.shared.are_all_stuck(plights);
            self.shared.plights.enter(self.seat.index, plight, are_all);
        }
        Prospect::Open
    }

    fn has_room(&self) -> bool {
        !self.is_deep()
    }

    fn is_only_one(&self) -> bool {
        self.shared.growth.thread_max() == 1
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use crate::base::sync::Mutex;
    use crate::pool::ThreadPool;
    use crate::pool::growth::Ground;
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::task::{Poll, Waker};

    fn pool() -> ThreadPool {
        let builder = ThreadPool::builder().core_threads(1).max_threads(1);
        builder.build().expect("legal sizes")
    }

    fn queued(pool: &ThreadPool) -> usize {
        pool.shared().counts().queued
    }

    #[test]
    fn a_task_that_yields_and_is_polled_in_place_a_million_times_leaves_few_entries() {
        let pool = pool();
        let at = pool.clone();
        let most = pool.spawn_blocking(move || {
            let own = at.clone();
            let (mut polls, mut most) = (0, 0);
            let task = at.spawn(poll_fn(move |cx| {
                polls += 1;
                if polls == 1_000_000 {
                    return Poll::Ready(most);
                }
                if polls % 1_000 == 0 {
                    most = most.max(queued(&own));
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            }));
            task.wait().expect("it ends")
        });
        assert!(most.wait().expect("it ends") <= 2);
    }

    #[test]
    fn a_task_that_others_wake_and_that_is_polled_in_place_leaves_few_entries() {
        let pool = pool();
        let at = pool.clone();
        let slot: Arc<Mutex<Option<Waker>>> = Arc::default();
        let kept = slot.clone();
        let mut most = pool.spawn_blocking(move || {
            let own = at.clone();
            let (mut polls, mut most) = (0, 0);
            let task = at.spawn(poll_fn(move |cx| {
                polls += 1;
                most = most.max(queued(&own));
                if polls == 5_000 {
                    return Poll::Ready(most);
                }
                *kept.lock() = Some(cx.waker().clone());
                Poll::Pending
            }));
            task.wait().expect("it ends")
        });
        let most = loop {
            if let Some(most) = most.try_take() {
                break most.expect("it ends");
            }
            match slot.lock().take() {
                Some(waker) => waker.wake(),
                None => std::thread::yield_now(),
            }
        };
        assert!(most <= 2, "{most}");
    }
}
