//! Whose work a thread that waits may run in place, and how.

#![forbid(unsafe_code)]

use std::cell::Cell;

use crate::base::sync::local;
use crate::entered;
use crate::task::Hold;
use crate::timer::Timers;

/// How deep helpers may be nested on a thread whose stack we do not know.
const HELP_DEPTH_MAX: usize = 64;

local! {
    static HELP_DEPTH: Cell<usize> = Cell::new(0);
}

/// Whose work the waiting thread may run in place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Help {
    Nobody,
    /// Of the pool whose worker it is.
    OwnPool,
    /// Jobs of any pool.
    AnyPool,
}

impl Help {
    /// Runs the task, or first those that stand before it in a line, as far as this thread may;
    /// false if it ran nothing.
    pub(super) fn bring_about(self, task: &Hold) -> bool {
        if self == Self::Nobody {
            return false;
        }
        let mut ran = false;
        while !self.may_run(task) {
            let line = task.late_home();
            let Some(before) = line.and_then(|line| line.before(&|task| self.may_run(task))) else {
                return ran;
            };
            ran |= run_here(&before);
        }
        ran | run_here(task)
    }

    fn may_run(self, task: &Hold) -> bool {
        let Some(pool) = task.pool() else {
            return false;
        };
        match entered::worker() {
            Some(worker) if worker.pool() == pool => worker.has_room(),
            _ => self == Self::AnyPool && task.is_job() && help_depth() < HELP_DEPTH_MAX,
        }
    }
}

/// Is it work of a pool whose only worker is about to wait for it, with no stack left to run it?
pub(super) fn is_out_of_reach(root: &Hold) -> bool {
    let Some(worker) = entered::worker().filter(|worker| !worker.has_room()) else {
        return false;
    };
    root.pool() == Some(worker.pool()) && worker.is_only_one() && !root.is_claimed()
}

/// Runs work of this worker's pool in place, for another one that waits for it.
pub(crate) fn run_for_another(work: &Hold) -> bool {
    Help::OwnPool.bring_about(work)
}

fn help_depth() -> usize {
    HELP_DEPTH.try_with(Cell::get).unwrap_or(HELP_DEPTH_MAX)
}

fn run_here(task: &Hold) -> bool {
    in_place(|| task.run_here())
}

/// Runs work of a pool on this thread.
pub(super) fn in_place<R>(work: impl FnOnce() -> R) -> R {
    let depth = help_depth();
    let _ = HELP_DEPTH.try_with(|slot| slot.set(depth + 1));
    // The work is the pool's: its timers must not stay with a thread that sleeps next, and a
    // loop that runs below is none of its business.
    let aside = (Timers::step_aside(), entered::step_out_of_loop());
    let done = work();
    drop(aside);
    let _ = HELP_DEPTH.try_with(|slot| slot.set(depth));
    done
}
