//! What this thread is inside, and how one blocks there.
//!
//! A handle that must wait does not know pools, loops or lanes. It asks this module, where the
//! runtimes register from above: a pool worker announces that it blocks (so that the pool can
//! compensate), the owner of lanes runs their jobs while it waits, and everybody sleeps on the
//! one parker of the thread. A nested wait may take a token meant for an outer one; that is
//! harmless, because every wait looks at its condition again before it sleeps.

#![forbid(unsafe_code)]

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::Instant;

use crate::base::clock;
use crate::base::fork;
use crate::base::park::Parker;
use crate::base::sync::local;
use crate::deferred;

/// The lanes that this thread owns.
pub(crate) trait Lanes {
    /// Runs the oldest queued job of any lane of this thread; false when there is none.
    fn run_one(&self) -> bool;
}

/// The pool worker that this thread is.
pub(crate) trait Worker {
    /// The number of the pool, as in [`Home::Pool`](crate::task::Home::Pool).
    fn pool(&self) -> u64;
    /// The worker is about to block; the pool may start or wake another one.
    fn block_begins(&self);
    /// The worker goes on.
    fn block_ends(&self);
    /// It is about to sleep without a deadline: runs something that it waits for itself, if
    /// nobody else of the pool is left to; false if there is nothing.
    fn last_resort(&self) -> bool;
    /// It is about to sleep in a wait without a deadline that only the end of `work` ends, which is
    /// a task's. If no worker of the pool will bring that about, does what there is to do.
    fn prospect_of(&self, work: &dyn Any) -> Prospect;
    /// Is there stack left to run another job on top of the one that waits?
    fn has_room(&self) -> bool;
    /// Is it the only worker that its pool can ever have?
    fn is_only_one(&self) -> bool;
}

/// What a wait without a deadline has to expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Prospect {
    /// Somebody may end it: it sleeps.
    Open,
    /// Something was run here: it looks again.
    Changed,
    /// No worker is left to run what it waits for.
    Hopeless,
}

/// How a wait has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Waited {
    Ready,
    TimedOut,
    /// See [`Prospect::Hopeless`].
    Hopeless,
}

local! {
    static PARKING: RefCell<Option<Parking>> = RefCell::new(None);
}
local! {
    static LANES: RefCell<Option<Rc<dyn Lanes>>> = RefCell::new(None);
}
local! {
    static WORKER: RefCell<Option<Rc<dyn Worker>>> = RefCell::new(None);
}
local! {
    static LOOP: Cell<bool> = Cell::new(false);
}

/// A number for this thread that no other thread of the process ever has; never zero.
///
/// A thread whose locals are gone already gets a fresh number at each call, so that it is
/// taken for a stranger everywhere.
pub(crate) fn thread_key() -> u64 {
    fork::thread_number()
}

/// The parker of this thread with its waker.
#[derive(Clone, Debug)]
pub(crate) struct Parking {
    parker: Rc<Parker>,
    waker: Waker,
}

impl Parking {
    fn new() -> Self {
        let parker = Parker::new();
        let waker = Waker::from(parker.unparker().clone());
        Self {
            parker: Rc::new(parker),
            waker,
        }
    }

    /// This thread's own; one for this wait alone once the thread's locals are gone.
    pub(crate) fn current() -> Self {
        PARKING
            .try_with(|slot| slot.borrow_mut().get_or_insert_with(Self::new).clone())
            .unwrap_or_else(|_| Self::new())
    }

    /// Wakes this thread out of [`Parking::wait_until`] and the other sleeps.
    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Blocks until `ready` or `deadline`; true if ready.
    ///
    /// Looks at `ready` first. Runs the jobs of this thread's lanes meanwhile. On a pool
    /// worker the pool is told before the first sleep and after the last.
    pub(crate) fn wait_until(
        &self,
        ready: impl FnMut() -> bool,
        deadline: Option<Instant>,
    ) -> bool {
        self.wait_for(None, ready, deadline) == Waited::Ready
    }

    /// The same for a wait that only the end of `work` can end, if there is no deadline.
    pub(crate) fn wait_for(
        &self,
        work: Option<&dyn Any>,
        mut ready: impl FnMut() -> bool,
        deadline: Option<Instant>,
    ) -> Waited {
        let mut blocked = Blocked(None);
        loop {
            if ready() {
                return Waited::Ready;
            }
            if deadline.is_some_and(|deadline| clock::now() >= deadline) {
                return Waited::TimedOut;
            }
            if deferred::run_one() || run_lane_job() {
                continue;
            }
            if blocked.announce() {
                continue;
            }
            if deadline.is_none() {
                match blocked.prospect_of(work) {
                    Prospect::Open => {}
                    Prospect::Changed => continue,
                    Prospect::Hopeless => return Waited::Hopeless,
                }
            }
            self.parker.park_until(deadline);
        }
    }

    /// Sleeps until `is_due` or `deadline`, or until something was run here meanwhile: a job for a
    /// lane, or the last resort. For frames, which look again at all they have.
    ///
    /// The pool is told once, however often the thread is woken in vain: whoever tells it that it
    /// blocks may wake others that do, and they would wake each other without end.
    pub(crate) fn sleep_until(&self, is_due: impl Fn() -> bool, deadline: Option<Instant>) {
        let mut blocked = Blocked(None);
        let mut looks = blocked.announce();
        let is_over = || deadline.is_some_and(|deadline| clock::now() >= deadline);
        loop {
            if looks && (is_due() || deferred::run_one() || run_lane_job() || is_over()) {
                return;
            }
            looks = true;
            if deadline.is_none() && blocked.last_resort() {
                return;
            }
            self.parker.park_until(deadline);
        }
    }

    /// One sleep, for a worker without work: ends with the waker, at `deadline`, or for no reason.
    pub(crate) fn park_until(&self, deadline: Option<Instant>) {
        let mut blocked = Blocked(None);
        let _ = blocked.announce();
        if deadline.is_some() || !blocked.last_resort() {
            self.parker.park_until(deadline);
        }
    }
}

/// Runs `code`, which is about to block in something that is not ours; a pool whose worker
/// this thread is is told.
pub(crate) fn block<R>(code: impl FnOnce() -> R) -> R {
    let mut blocked = Blocked(None);
    let _ = blocked.announce();
    code()
}

/// Holds the worker that was told; its drop tells it the end.
struct Blocked(Option<Rc<dyn Worker>>);

impl Blocked {
    /// True if a worker was told just now: look again before the sleep. It may have dropped what a
    /// sealed pool does not run, and a wait in there may have taken the token.
    fn announce(&mut self) -> bool {
        if self.0.is_some() {
            return false;
        }
        let Some(worker) = worker() else {
            return false;
        };
        worker.block_begins();
        self.0 = Some(worker);
        true
    }

    fn last_resort(&self) -> bool {
        self.0.as_ref().is_some_and(|worker| worker.last_resort())
    }

    fn prospect_of(&self, work: Option<&dyn Any>) -> Prospect {
        match (&self.0, work) {
            (Some(worker), _) if worker.last_resort() => Prospect::Changed,
            (Some(worker), Some(work)) => worker.prospect_of(work),
            _ => Prospect::Open,
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        if let Some(worker) = self.0.take() {
            worker.block_ends();
        }
    }
}

/// Makes `lanes` the lanes of this thread, for as long as the thread lives.
pub(crate) fn register_lanes(lanes: Rc<dyn Lanes>) {
    let _ = LANES.try_with(|slot| slot.borrow_mut().replace(lanes));
}

/// Runs the oldest job of this thread's lanes; false when there is none.
pub(crate) fn run_lane_job() -> bool {
    let lanes = LANES
        .try_with(|slot| slot.borrow().clone())
        .unwrap_or_default();
    lanes.is_some_and(|lanes| lanes.run_one())
}

/// The pool worker that this thread is, if it is one.
pub(crate) fn worker() -> Option<Rc<dyn Worker>> {
    WORKER
        .try_with(|slot| slot.borrow().clone())
        .unwrap_or_default()
}

/// Makes this thread a pool worker until the guard is dropped.
pub(crate) fn enter_worker(worker: Rc<dyn Worker>) -> WorkerGuard {
    let before = WORKER
        .try_with(|slot| slot.borrow_mut().replace(worker))
        .unwrap_or_default();
    WorkerGuard { before }
}

/// Ends what [`enter_worker`] began.
#[must_use]
pub(crate) struct WorkerGuard {
    before: Option<Rc<dyn Worker>>,
}

impl Drop for WorkerGuard {
    fn drop(&mut self) {
        let before = self.before.take();
        let _ = WORKER.try_with(|slot| slot.replace(before));
    }
}

/// Is an event loop running on this thread, whatever else is nested in it?
pub(crate) fn is_in_loop() -> bool {
    LOOP.try_with(Cell::get).unwrap_or(false)
}

/// Marks that an event loop runs on this thread until the guard is dropped.
pub(crate) fn enter_loop() -> LoopGuard {
    LoopGuard {
        before: LOOP.try_with(|flag| flag.replace(true)).unwrap_or(false),
    }
}

/// Hides that a loop runs further down, from work that only lies on top of it, until the guard
/// is dropped.
pub(crate) fn step_out_of_loop() -> LoopGuard {
    LoopGuard {
        before: LOOP.try_with(|flag| flag.replace(false)).unwrap_or(false),
    }
}

/// Ends what [`enter_loop`] or [`step_out_of_loop`] began.
#[must_use]
pub(crate) struct LoopGuard {
    before: bool,
}

impl Drop for LoopGuard {
    fn drop(&mut self) {
        let _ = LOOP.try_with(|flag| flag.set(self.before));
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{Parking, Prospect, Worker, enter_worker};
    use std::any::Any;
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::{Duration, Instant};

    /// What it does when it is told takes the token that was meant for the wait.
    struct Distracted {
        parking: Parking,
        due: Rc<Cell<bool>>,
    }

    impl Worker for Distracted {
        fn pool(&self) -> u64 {
            0
        }
        fn block_begins(&self) {
            self.due.set(true);
            self.parking.waker().wake_by_ref();
            self.parking.parker.park();
        }
        fn block_ends(&self) {}
        fn last_resort(&self) -> bool {
            false
        }
        fn prospect_of(&self, _: &dyn Any) -> Prospect {
            Prospect::Open
        }
        fn has_room(&self) -> bool {
            false
        }
        fn is_only_one(&self) -> bool {
            true
        }
    }

    #[test]
    fn a_worker_that_was_told_looks_again_before_it_sleeps() {
        let far = Instant::now() + Duration::from_secs(20);
        let waits: [fn(&Parking, &Cell<bool>, Instant); 2] = [
            |parking, due, far| assert!(parking.wait_until(|| due.get(), Some(far))),
            |parking, due, far| parking.sleep_until(|| due.get(), Some(far)),
        ];
        for wait in waits {
            let parking = Parking::current();
            let due = Rc::new(Cell::new(false));
            let guard = enter_worker(Rc::new(Distracted {
                parking: parking.clone(),
                due: due.clone(),
            }));
            wait(&parking, &due, far);
            assert!(Instant::now() < far, "it slept over what was due");
            drop(guard);
        }
    }
}
