//! Runs a job to its end, polls a future once, and lets go of what is pending.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context as Cx, Poll};

use super::cell::{Header, Hold, TaskRef, VTable};
use super::current;
use super::end::{self, Placed, end, finish, place};
use super::runner::Runner;
use super::schedule::WakeKind;
use super::side::Side;
use super::state::{
    Claim, HELPED, RUNNING, Release, STALE, STARTED, SUSPENDED, Snapshot, Suspend, Wake,
};
use super::typed::Typed;
use super::unhandled;
use super::waker;
use crate::base::contain::{Payload, contain, contained_drop};
use crate::join_error::{Family, JoinError};

/// The vtable of jobs.
pub(super) struct JobTable<F, T, S>(PhantomData<(F, T, S)>);

impl<F, T, S> JobTable<F, T, S>
where
    F: FnOnce() -> Result<T, JoinError>,
    S: Side + 'static,
{
    pub(super) const TABLE: VTable =
        Typed::<F, T, S>::table(run_job::<F, T, S>, (false, false), true);
}

/// The vtables of futures, by whose they are: which threads may run and drop them.
pub(super) struct FutureTable<F, S>(PhantomData<(F, S)>);

impl<F, S> FutureTable<F, S>
where
    F: Future,
    S: Side + 'static,
{
    /// Any thread's.
    pub(super) const SHARED: VTable = Self::table((false, false));
    /// The spawning thread's.
    pub(super) const LOCAL: VTable = Self::table((true, true));
    /// Of the thread that polls it first.
    pub(super) const REMOTE: VTable = Self::table((false, true));

    const fn table(is_far: (bool, bool)) -> VTable {
        Typed::<F, F::Output, S>::table(run_future::<F, S>, is_far, false)
    }
}

/// The vtable of promises.
pub(super) struct PromiseTable<T, S>(PhantomData<(T, S)>);

impl<T, S: Side + 'static> PromiseTable<T, S> {
    pub(super) const TABLE: VTable = Typed::<(), T, S>::table(run_nothing, (false, false), false);
}

/// A promise has no work; nobody claims it.
///
/// # Safety
///
/// None of its own: it has the type of those that run work.
unsafe fn run_nothing(task: TaskRef, _first: bool, _: Option<&dyn Runner>) -> Option<TaskRef> {
    drop(task);
    None
}

/// Claims the work of `task` and runs it.
pub(super) fn run(task: TaskRef) {
    let header = task.header();
    if header.vtable.is_far != (false, false) && !may_run_here(header) {
        // Whoever is running it needs no queue for it, and may not even have settled: then this
        // one would be its home, and have it back at once, and again.
        if !header.word.load().has(RUNNING) {
            schedule(task, WakeKind::Woken);
        }
        return;
    }
    let claim = header.word.turn_own(Snapshot::claim);
    if let Some(again) = carry_out(task, claim) {
        schedule(again, WakeKind::Yielded);
    }
}

/// The same for a worker, of work that is bound to no thread; gives back a future that has yielded,
/// to be queued again by the caller.
#[inline]
pub(super) fn run_by(task: TaskRef, runner: &dyn Runner) -> Option<TaskRef> {
    let header = task.header();
    match header.word.turn_own(Snapshot::claim) {
        Claim::Start => runner.started(),
        Claim::Poll => {}
        claim => return carry_out(task, claim),
    }
    // SAFETY: the turn has set RUNNING for us (invariant 2); the vtable is this cell's.
    unsafe { (header.vtable.run)(task, false, Some(runner)) }
}

/// Runs a future in place of its executor if it is scheduled and has been started.
pub(super) fn help(hold: &Hold) -> bool {
    let header = hold.header();
    let claim = header.word.turn(Snapshot::claim_again);
    if claim == Claim::Nothing {
        return false;
    }
    // SAFETY: the turn has added a driver, for us (invariant 1).
    let task = unsafe { TaskRef::from_raw(NonNull::from(header)) };
    if let Some(again) = carry_out(task, claim) {
        schedule(again, WakeKind::Yielded);
    }
    true
}

/// What a helper leaves in the queue from which it does not take the task: of a job nothing that
/// matters, and what is bound to a thread may find its queue only once it runs.
pub(super) fn leaves(header: &Header) -> u64 {
    match header.vtable.is_job || header.vtable.is_far != (false, false) {
        true => 0,
        false => STALE,
    }
}

/// Polls a suspended future that nobody has woken.
pub(super) fn nudge(hold: &Hold) {
    let header = hold.header();
    if header.vtable.is_job || !header.word.load().has(STARTED) {
        return;
    }
    let wake = header.word.turn(|now| now.wake(false, false));
    if wake == Wake::Revive {
        let _ = help(hold);
    }
    if wake == Wake::Push {
        let cell = NonNull::from(header);
        // SAFETY: the turn has added a driver, for us, and a holder (invariant 1).
        run(unsafe { TaskRef::from_raw(cell) });
        // SAFETY: as above.
        drop(unsafe { Hold::from_raw(cell) });
    }
}

/// Does what the claim of `task` demands; gives back what has yielded.
#[inline(always)]
fn carry_out(task: TaskRef, claim: Claim) -> Option<TaskRef> {
    let header = task.header();
    match claim {
        // SAFETY: the turn has set RUNNING for us (invariant 2); the vtable is this cell's.
        Claim::Start => return unsafe { (header.vtable.run)(task, true, None) },
        // SAFETY: as above.
        Claim::Poll => return unsafe { (header.vtable.run)(task, false, None) },
        // SAFETY: RUNNING is set for us (invariant 2), and a suspended future has its work.
        Claim::Abort(family) => unsafe { abort(header, family) },
        // SAFETY: the turn has cleared WORK for us, which makes the work ours alone.
        Claim::DropWork => unsafe { drop_work(header) },
        Claim::Nothing => {}
    }
    None
}

/// Runs a task whose start the caller has claimed.
pub(super) fn run_claimed(task: TaskRef) {
    let run = task.header().vtable.run;
    // SAFETY: the caller's turn has set RUNNING for this thread (invariant 2).
    if let Some(again) = unsafe { run(task, true, None) } {
        schedule(again, WakeKind::Yielded);
    }
}

/// Work that is bound to a thread runs there; the start of a remote one binds it.
fn may_run_here(header: &Header) -> bool {
    let started = header.word.load().has(STARTED);
    header.is_here(started)
}

/// Runs `code` as a part of the task: its context entered, its panic contained.
///
/// # Safety
///
/// 1. The caller owns the work of the task, and with it the context.
#[inline(always)]
unsafe fn inside<R>(
    header: &Header,
    runner: Option<&dyn Runner>,
    code: impl FnOnce() -> R,
) -> Result<R, Payload> {
    header.context.with_mut(|context| {
        // SAFETY: duty 1.
        let context = unsafe { &mut *context };
        current::enter(header, runner, || {
            let _entered = context.swap_in();
            contain(|| header.span.inside(code))
        })
    })
}

/// # Safety
///
/// 1. The cell is a job `Cell<F, T, S>`, and the caller has claimed its start.
unsafe fn run_job<F, T, S>(
    task: TaskRef,
    tell: bool,
    runner: Option<&dyn Runner>,
) -> Option<TaskRef>
where
    F: FnOnce() -> Result<T, JoinError>,
    S: Side + 'static,
{
    let header = task.header();
    if tell {
        if let Some(home) = header.home() {
            home.started(&task);
        }
    }
    let cell = task.cell();
    let mut placed = None;
    let work = || {
        // SAFETY: the claim makes the work ours (invariant 2), in its place until first claimed.
        let work = unsafe { Typed::<F, T, S>::take_work(cell) };
        let outcome = work();
        // SAFETY: the work is used up, the slot free, and we own both (invariant 2).
        placed = Some(unsafe { place::<F, T, S>(cell, outcome) });
    };
    // SAFETY: the claim makes the context ours too (invariant 2).
    if let Err(payload) = unsafe { inside(header, runner, work) } {
        // SAFETY: work that panicked is used up; we own the slot (invariant 2).
        placed = Some(unsafe { panicked::<F, T, S>(cell, payload, placed) });
    }
    if let Some(placed) = placed {
        finish(task, placed, runner);
    }
    None
}

/// # Safety
///
/// 1. The cell is a future `Cell<F, F::Output, S>`, and the caller has claimed its poll.
unsafe fn run_future<F, S>(
    task: TaskRef,
    first: bool,
    runner: Option<&dyn Runner>,
) -> Option<TaskRef>
where
    F: Future,
    S: Side + 'static,
{
    let header = task.header();
    // SAFETY: duty 1.
    let side = unsafe { &Typed::<F, F::Output, S>::cell(task.cell()).side };
    if first {
        side.settle();
        if let Some(home) = header.home() {
            home.started(&task);
        }
    }
    let waker = waker::borrowed(&task);
    let cell = task.cell();
    // The outcome goes no further by value than to its slot.
    let mut placed = None;
    let poll = || {
        // SAFETY: duty 1.
        let stage = unsafe { &Typed::<F, F::Output, S>::cell(cell).stage };
        let polled = stage.with_mut(|stage| {
            // SAFETY: the claim makes the work ours until we suspend or finish (invariant 2).
            let work = unsafe { &mut *stage.cast::<F>() };
            // SAFETY: the future stays in the block, which never moves, until it is dropped.
            let future = unsafe { Pin::new_unchecked(work) };
            contain(|| future.poll(&mut Cx::from_waker(&waker)))
        });
        if !matches!(polled, Ok(Poll::Pending)) {
            // SAFETY: the work is ours (invariant 2), and not touched again; so is the slot.
            placed = Some(unsafe { conclude::<F, S>(cell, polled) });
        }
    };
    // SAFETY: the claim makes the context ours too (invariant 2).
    let poll = || unsafe { inside(header, runner, poll) };
    if let Err(payload) = side.poll(first, poll) {
        // The end of a span, which may follow upon a poll that said pending.
        placed = Some(match placed {
            // SAFETY: as above.
            None => unsafe { conclude::<F, S>(cell, Err(payload)) },
            // SAFETY: the work is dropped, and we own the slot (invariant 2).
            placed => unsafe { panicked::<F, F::Output, S>(cell, payload, placed) },
        });
    }
    match placed {
        Some(placed) => finish(task, placed, runner),
        None => return suspend(task),
    }
    None
}

/// The end: the future goes before anybody can see the outcome.
///
/// # Safety
///
/// 1. `cell` is a live future `Cell<F, F::Output, S>`.
/// 2. The caller owns the work, which is in its place.
#[inline(never)]
unsafe fn conclude<F, S>(cell: NonNull<Header>, polled: Result<Poll<F::Output>, Payload>) -> Placed
where
    F: Future,
    S: Side + 'static,
{
    // SAFETY: duties 1 and 2; it is not touched again.
    let dropped = contain(|| unsafe { Typed::<F, F::Output, S>::drop_work(cell) });
    if let Err(payload) = dropped {
        // SAFETY: duty 1.
        let header = unsafe { cell.as_ref() };
        unhandled::report_panic(header, "the destructor of a future", payload);
    }
    match polled {
        // SAFETY: the work is dropped, and the slot with it free.
        Ok(Poll::Ready(value)) => unsafe { place::<F, F::Output, S>(cell, Ok(value)) },
        Ok(Poll::Pending) => unreachable!("what is pending has not ended"),
        // SAFETY: as above.
        Err(payload) => unsafe { panicked::<F, F::Output, S>(cell, payload, None) },
    }
}

/// Places a panic, in place of an outcome that is there: a span may panic as it is left.
///
/// # Safety
///
/// 1. As for [`place`], but for what was `placed` in the slot.
#[cold]
unsafe fn panicked<W, T, S: Side + 'static>(
    cell: NonNull<Header>,
    payload: Payload,
    placed: Option<Placed>,
) -> Placed {
    if placed.is_some_and(|placed| placed.filled) {
        // SAFETY: duty 1: it is filled, and the caller's.
        contained_drop(unsafe { Typed::<W, T, S>::empty(cell) });
    }
    // SAFETY: duty 1.
    unsafe { place::<W, T, S>(cell, Err(JoinError::panicked(payload))) }
}

/// The poll said pending: lets go of the future, or does what was asked meanwhile. Gives it back
/// if it is to be polled again.
fn suspend(task: TaskRef) -> Option<TaskRef> {
    let header = task.header();
    if !header.word.peek().has(SUSPENDED) {
        first_suspension(&task);
    }
    match header.word.turn_own(Snapshot::suspend) {
        Suspend::Idle => drop(task),
        Suspend::Gone => task.given_up(Release::Nothing, None),
        Suspend::Again => {
            tell_helper(header);
            return Some(task);
        }
        Suspend::Queued => {
            // Whoever has polled it in place looks again itself.
            tell_helper(header);
            drop(task);
        }
        // SAFETY: RUNNING is still ours, and the future is in its place.
        Suspend::Abort(family) => unsafe { abort(header, family) },
    }
    None
}

#[inline(never)]
fn first_suspension(task: &TaskRef) {
    let header = task.header();
    if let Some(home) = header.home() {
        home.suspended(task);
    }
    header.word.set(SUSPENDED);
}

/// Drops the work and publishes an end without a value.
///
/// # Safety
///
/// 1. The caller owns the work by RUNNING, and it is in its place.
pub(super) unsafe fn abort(header: &Header, family: Family) {
    // SAFETY: duty 1 is the same.
    unsafe { drop_work(header) };
    end(header, Some(family), false, false);
}

/// Drops the work inside its context; a panic of its destructor is reported.
///
/// # Safety
///
/// 1. The caller owns the work, and it is in its place.
pub(super) unsafe fn drop_work(header: &Header) {
    let cell = NonNull::from(header);
    // SAFETY: duty 1; the vtable was made for this cell.
    let drop_it = || unsafe { (header.vtable.drop_work)(cell) };
    // SAFETY: who owns the work owns the context (invariant 2).
    if let Err(payload) = unsafe { inside(header, None, drop_it) } {
        unhandled::report_panic(header, "a destructor", payload);
    }
}

/// Hands the task to its executor's queue.
pub(super) fn schedule(task: TaskRef, kind: WakeKind) {
    let hold = Hold::of(task.header());
    hand_over(task, hold, kind);
}

/// The same with a holder that outlasts it: the queue has the driver, and may be done with it
/// before this returns.
pub(super) fn hand_over(task: TaskRef, hold: Hold, kind: WakeKind) {
    let header = hold.header();
    if let Some(queue) = header.queue() {
        queue.schedule(task, kind);
    }
    tell_helper(header);
}

/// The entry that a queue has of the task stands for a wake from now on.
pub(super) fn revive(header: &Header) {
    if let Some(queue) = header.queue() {
        queue.revived();
    }
    tell_helper(header);
}

/// Wakes the reader that helps, after the move that has scheduled the task.
#[inline]
fn tell_helper(header: &Header) {
    // Peeked at after the move, on the same word: a helper that is not seen here has set HELPED
    // after it and then sees SCHEDULED itself.
    if header.word.peek().has(HELPED) {
        end::wake_reader(header);
    }
}
