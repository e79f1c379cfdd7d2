//! What a worker keeps to itself: nothing.
//!
//! A task woken by a task goes into its place without waking anybody, because this worker takes
//! it next; likewise one that yielded. If it runs a job first, or blocks in a wait of ours, it
//! makes up for the wake, since either may take for ever. For a poll that blocks in another way
//! there is a [`Guard`]: while a worker keeps something, one timer per worker sees to it that
//! this does not last.

#![forbid(unsafe_code)]

use std::ptr;

use super::Worker;
use crate::base::sync::Arc;
use crate::pool::guard::{Announce, Guard};
use crate::task::{Ended, Home, Runner, Schedule, TaskRef, WakeKind};

impl Runner for Worker {
    fn home(&self) -> Home {
        Home::Pool(self.shared.id)
    }

    fn started(&self) {
        self.seat.tally.started.bump();
    }

    fn ended(&self, end: &Ended) {
        if end.suspended {
            self.shared.suspended.leave(end.id);
        }
        self.seat.tally.ended(end);
    }

    fn let_go(&self, home: Arc<dyn Schedule>) {
        // What this worker submits is counted on a line of its own.
        if !ptr::addr_eq(Arc::as_ptr(&home), Arc::as_ptr(&self.door)) {
            self.homes.keep(home);
        }
    }

    fn woken(&self, task: TaskRef) {
        self.announce(self.keep(task, WakeKind::Woken));
    }
}

impl Worker {
    /// A task was woken on this worker.
    #[inline]
    pub(in crate::pool) fn keep(&self, task: TaskRef, kind: WakeKind) -> Announce {
        match kind {
            WakeKind::Woken if self.firing.get() => {
                self.fired.set(self.fired.get() + 1);
                self.local.line_up(task);
                Announce::Never
            }
            // On top of a task that waits.
            WakeKind::Yielded if self.outer.get().is_some() => {
                self.outsiders_first.set(true);
                self.local.line_up(task);
                self.keep_quiet()
            }
            WakeKind::Woken if self.polling.get() => {
                if !self.has_next.replace(true) {
                    self.seat.next.put(task);
                    return self.keep_quiet();
                }
                match self.seat.next.replace(task) {
                    None => self.keep_quiet(),
                    Some(other) => {
                        self.local.line_up(other);
                        Announce::Now
                    }
                }
            }
            WakeKind::Yielded | WakeKind::Woken => {
                self.local.line_up(task);
                Announce::Now
            }
        }
    }

    /// It keeps nothing to itself any more; true if it did.
    #[inline]
    pub(super) fn gives_up(&self) -> bool {
        self.seat.kept.gives_up() | self.untold.replace(false)
    }

    /// Others hear of what it has put into its own queue.
    #[inline]
    pub(super) fn announce(&self, when: Announce) {
        match when {
            Announce::Now => self.shared.after_push(),
            Announce::Later => self.post_guard(),
            Announce::Never => {}
        }
    }

    #[cold]
    pub(in crate::pool) fn post_guard(&self) {
        Guard::over(&self.seat).post(&self.shared);
    }

    #[inline]
    pub(super) fn keep_quiet(&self) -> Announce {
        self.seat.kept.keeps()
    }
}
