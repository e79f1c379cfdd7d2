//! The waker of a future: one driver of its cell, in the shape of [`std::task::Waker`].
//!
//! A waker outlives loops and pools without harm: it holds the cell, and the cell holds what
//! its executor needs to say no.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::cell::{Header, Hold, TaskRef, release_driver};
use super::current;
use super::run;
use super::runner::Runner;
use super::schedule::WakeKind;
use super::state::Wake;

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_waker);

impl TaskRef {
    /// What the wakers of its future have for data.
    #[inline]
    pub(crate) fn address(&self) -> *const () {
        self.cell().as_ptr().cast_const().cast()
    }
}

/// A waker that borrows the runner's driver; it must not outlive the runner's poll, clones may.
pub(super) fn borrowed(task: &TaskRef) -> ManuallyDrop<Waker> {
    let raw = RawWaker::new(task.address(), &VTABLE);
    // SAFETY: the functions below keep the contract of a waker: they are thread-safe, each
    // clone owns one driver, and this first one is never dropped: the runner owns its driver.
    ManuallyDrop::new(unsafe { Waker::from_raw(raw) })
}

fn cell(data: *const ()) -> NonNull<Header> {
    NonNull::new(data.cast_mut().cast()).expect("a waker's data is its cell")
}

/// # Safety
///
/// 1. `data` is a cell that a live waker made here holds or borrows.
unsafe fn clone(data: *const ()) -> RawWaker {
    let cell = cell(data);
    // SAFETY: the waker that is cloned is a driver, or borrows one, and so holds the cell.
    let header = unsafe { cell.as_ref() };
    header.word.turn(|now| ((), Some(now.driver_added())));
    RawWaker::new(data, &VTABLE)
}

/// # Safety
///
/// 1. `data` is that of a waker made by [`clone`], which is used up.
unsafe fn wake(data: *const ()) {
    let cell = cell(data);
    // SAFETY: this waker is a driver and so holds the cell (invariant 1).
    let header = unsafe { cell.as_ref() };
    current::with_runner(|runner| {
        let host = host(header, runner);
        let hosted = host.is_some();
        let duty = header.word.turn_own(|now| now.wake(true, hosted));
        if duty == Wake::Revive {
            run::revive(header);
        }
        match (duty, host) {
            // SAFETY: our driver goes along into the queue.
            (Wake::PushOnly, Some(host)) => host.woken(unsafe { TaskRef::from_raw(cell) }),
            (Wake::PushOnly, None) => unreachable!("without a host there is a holder"),
            // SAFETY: our driver goes along into the queue, and the turn has added a holder.
            (Wake::Push, _) => unsafe { push(cell) },
            // SAFETY: this waker owns one driver (invariant 1) and is used up.
            (Wake::Revive | Wake::Nothing, _) => unsafe { release_driver(cell, None) },
        }
    });
}

/// # Safety
///
/// 1. `data` is a cell that a live waker made here holds or borrows.
unsafe fn wake_by_ref(data: *const ()) {
    let cell = cell(data);
    // SAFETY: this waker is a driver, or borrows one: it holds the cell (invariant 1).
    let header = unsafe { cell.as_ref() };
    current::with_runner(|runner| {
        let host = host(header, runner);
        let hosted = host.is_some();
        let duty = header.word.turn(|now| now.wake(false, hosted));
        match (duty, host) {
            // SAFETY: the turn has added a driver, for the queue (invariant 1).
            (Wake::PushOnly, Some(host)) => host.woken(unsafe { TaskRef::from_raw(cell) }),
            (Wake::PushOnly, None) => unreachable!("without a host there is a holder"),
            // SAFETY: the turn has added a driver, for the queue, and a holder (invariant 1).
            (Wake::Push, _) => unsafe { push(cell) },
            (Wake::Revive, _) => run::revive(header),
            (Wake::Nothing, _) => {}
        }
    });
}

/// The worker that polls here, if it takes such tasks as `header` too: it keeps their executor
/// alive while it queues one, which needs no holder of its own for that.
#[inline]
fn host<'a>(header: &Header, runner: Option<&'a dyn Runner>) -> Option<&'a dyn Runner> {
    let runner = runner?;
    let is_queued = header.word.peek().is_idle_future() && header.is_queued_at(runner.home());
    is_queued.then_some(runner)
}

/// # Safety
///
/// 1. The caller owns a driver and a holder of the live cell, and gives up both.
#[inline(never)]
unsafe fn push(cell: NonNull<Header>) {
    // SAFETY: duty 1: the driver.
    let task = unsafe { TaskRef::from_raw(cell) };
    // SAFETY: duty 1: the holder.
    let hold = unsafe { Hold::from_raw(cell) };
    run::hand_over(task, hold, WakeKind::Woken);
}

/// # Safety
///
/// 1. `data` is that of a waker made by [`clone`], which is used up.
unsafe fn drop_waker(data: *const ()) {
    // SAFETY: this waker owns one driver (invariant 1) and is gone after this.
    unsafe { release_driver(cell(data), None) }
}
