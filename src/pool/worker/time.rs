//! The timers of the tasks that a worker polls.
//!
//! They stand in its [diary](crate::timer): it fires what is due between two tasks, whenever it
//! reads the clock anyway, and before it sleeps; it sleeps no longer than to the next deadline.
//! What it begins with deadlines pending, the diary hears of, and has somebody else look if the
//! worker does not come back.

#![forbid(unsafe_code)]

use std::ptr;
use std::time::Instant;

use super::Worker;
use crate::base::clock;
use crate::base::sync::atomic::Ordering;
use crate::task::TaskRef;
use crate::timer::Busy;

impl Worker {
    /// A task begins. `now` is the time, if it was looked at.
    #[inline]
    pub(super) fn see_to_timers(&self, task: &TaskRef, is_job: bool, now: Option<Instant>) {
        self.keeper
            .open_to(if is_job { ptr::null() } else { task.address() });
        if self.keeper.is_empty() {
            return;
        }
        if now.is_some_and(|now| self.keeper.is_due(now)) {
            self.fire_due();
            // They wait behind the task that is about to run.
            if self.fired.get() > 0 {
                self.shared.after_push();
            }
        }
        let busy = if is_job { Busy::Away } else { Busy::Polling };
        self.keeper.see_to(busy);
    }

    /// A turn of the own loop begins: its tasks may take as long as any others.
    pub(super) fn see_to_turn(&self) {
        self.keeper.open_to(ptr::null());
        if !self.driver.has_work() && self.driver.next_deadline().is_none() {
            return;
        }
        if self.untold.replace(false) {
            self.shared.after_push();
        }
        self.keeper.see_to(Busy::Polling);
    }

    /// Fires what is due, before the worker takes or looks for anything else.
    pub(super) fn catch_up(&self) {
        if self.keeper.is_empty() || !self.keeper.is_due(clock::now()) {
            return;
        }
        self.fire_due();
        // A single one this worker takes next, if nothing else can come before it.
        match self.fired.get() {
            0 => {}
            1 if self.has_nothing_else() => self.untold.set(true),
            _ => self.shared.after_push(),
        }
    }

    /// Wakes what is due; what is of this pool lines up here, and nobody is told of it yet.
    fn fire_due(&self) {
        self.fired.set(0);
        self.firing.set(true);
        self.keeper.fire_due(clock::now());
        self.firing.set(false);
    }

    /// Of the own loop, or of the diary?
    pub(super) fn is_timer_due(&self) -> bool {
        let deadline = self.driver.next_deadline();
        if deadline.is_none() && self.keeper.is_empty() {
            return false;
        }
        let now = clock::now();
        deadline.is_some_and(|deadline| now >= deadline) || self.keeper.is_due(now)
    }

    /// Besides the one task in the line, and not on top of a task that goes on after this.
    fn has_nothing_else(&self) -> bool {
        self.seat.thief.len() == 1
            && self.outer.get().is_none()
            && !self.has_next.get()
            && self.shared.injector.is_empty()
            && !self.driver.has_work()
            // Ordering: Relaxed: see `next_task`.
            && !self.seat.called.load(Ordering::Relaxed)
    }
}
