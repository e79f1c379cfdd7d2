//! Carries out what the word's transitions demand: run, poll, drop, publish, tell.
//!
//! The order at the end of every task is the same: the work is dropped, the outcome is put
//! into the slot, the executor's account is written, the word says `DONE`, and only then wakers
//! and callbacks are called, with no lock held.

use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context as Cx, Poll, Waker};

use super::cell::{Cancel, Cell, Header, Hold, Stage, TaskRef, VTable, completion, release_driver};
use super::current;
use super::schedule::{Completion, Ended, WakeKind};
use super::side::Side;
use super::state::{
    Claim, DONE, HANDLE, REPORTED, Refuse, STARTED, SUSPENDED, Snapshot, Stop, Suspend, Take,
    WATCHED, WORK,
};
use super::unhandled;
use super::waker;
use super::watch::Callback;
use crate::base::contain::{Payload, contain, discard};
use crate::deferred;
use crate::join_error::{Family, JoinError};

/// Whose the work is: which threads may run and drop it.
pub(super) trait Kind {
    const FUTURE: bool;
    /// Only its own thread may drop it: before the start, after the start.
    const FAR: (bool, bool) = (false, false);
}

/// A closure; any thread.
pub(super) struct AsJob;
/// A future; any thread.
pub(super) struct AsTask;
/// A future of this thread.
pub(super) struct AsLocal;
/// A closure that makes a future of the thread that polls it first.
pub(super) struct AsRemote;
/// No work.
pub(super) struct AsPromise;

impl Kind for AsJob {
    const FUTURE: bool = false;
}
impl Kind for AsTask {
    const FUTURE: bool = true;
}
impl Kind for AsLocal {
    const FUTURE: bool = true;
    const FAR: (bool, bool) = (true, true);
}
impl Kind for AsRemote {
    const FUTURE: bool = true;
    const FAR: (bool, bool) = (false, true);
}
impl Kind for AsPromise {
    const FUTURE: bool = false;
}

/// The vtable of jobs.
pub(super) struct JobTable<F, T, S>(F, T, S);

impl<F, T, S> JobTable<F, T, S>
where
    F: FnOnce() -> Result<T, JoinError>,
    S: Side + 'static,
{
    pub(super) const TABLE: VTable = VTable {
        run: run_job::<F, T, S>,
        ..Common::<F, T, S>::table::<AsJob>(true)
    };
}

/// The vtable of futures.
pub(super) struct FutureTable<F, S>(F, S);

impl<F, S> FutureTable<F, S>
where
    F: Future,
    S: Side + 'static,
{
    pub(super) const fn table<K: Kind>() -> VTable {
        VTable {
            run: run_future::<F, S>,
            ..Common::<F, F::Output, S>::table::<K>(false)
        }
    }
}

/// The vtable of promises.
pub(super) struct PromiseTable<T, S>(T, S);

impl<T, S: Side + 'static> PromiseTable<T, S> {
    pub(super) const TABLE: VTable = Common::<(), T, S>::table::<AsPromise>(false);
}

/// What all kinds do alike.
struct Common<W, T, S>(W, T, S);

impl<W, T, S: Side + 'static> Common<W, T, S> {
    const fn table<K: Kind>(is_job: bool) -> VTable {
        VTable {
            run: run_nothing,
            drop_work: Self::drop_work,
            output: Self::output,
            drop_output: Self::drop_output,
            error: Self::error,
            side: Self::side,
            free: Self::free,
            is_far: K::FAR,
            is_job,
        }
    }

    /// # Safety
    ///
    /// 1. `cell` is a live `Cell<W, T, S>`.
    unsafe fn cell<'a>(cell: NonNull<Header>) -> &'a Cell<W, T, S> {
        // SAFETY: duty 1, and `Cell` is `repr(C)` with its header first.
        unsafe { cell.cast::<Cell<W, T, S>>().as_ref() }
    }

    /// # Safety
    ///
    /// 1. `cell` is a live `Cell<W, T, S>`.
    /// 2. The caller owns the work, and it is in its place.
    unsafe fn drop_work(cell: NonNull<Header>) {
        // SAFETY: duty 1 is the same.
        let cell = unsafe { Self::cell(cell) };
        // SAFETY: duty 2; the caller gives the work up.
        cell.stage
            .with_mut(|stage| unsafe { ManuallyDrop::drop(&mut (*stage).work) });
    }

    /// # Safety
    ///
    /// 1. `cell` is a live `Cell<W, T, S>`.
    unsafe fn output(cell: NonNull<Header>) -> NonNull<()> {
        // SAFETY: duty 1 is the same.
        let cell = unsafe { Self::cell(cell) };
        cell.stage.with_mut(|stage| {
            NonNull::new(stage.cast::<()>()).expect("a field of a live cell has an address")
        })
    }

    /// # Safety
    ///
    /// 1. `cell` is a live `Cell<W, T, S>`.
    /// 2. The caller owns the slot, and it is filled.
    unsafe fn drop_output(cell: NonNull<Header>) {
        // SAFETY: duty 1 is the same.
        let cell = unsafe { Self::cell(cell) };
        // SAFETY: duty 2; the caller gives the output up.
        cell.stage
            .with_mut(|stage| unsafe { ManuallyDrop::drop(&mut (*stage).output) });
    }

    /// # Safety
    ///
    /// 1. `cell` is a live `Cell<W, T, S>`.
    /// 2. The slot is filled, and nobody moves it out meanwhile.
    unsafe fn error(cell: NonNull<Header>) -> Option<JoinError> {
        // SAFETY: duty 1 is the same.
        let cell = unsafe { Self::cell(cell) };
        cell.stage.with(|stage| {
            // SAFETY: duty 2.
            let output = unsafe { &(*stage).output };
            output.as_ref().err().map(JoinError::share)
        })
    }

    /// # Safety
    ///
    /// 1. `cell` is a live `Cell<W, T, S>`.
    unsafe fn side(cell: NonNull<Header>) -> NonNull<dyn Side> {
        // SAFETY: duty 1 is the same.
        let cell = unsafe { Self::cell(cell) };
        NonNull::from(&cell.side)
    }

    /// # Safety
    ///
    /// 1. `cell` is a `Cell<W, T, S>` that `Cell::allocate` made, and no reference is left.
    unsafe fn free(cell: NonNull<Header>) {
        // SAFETY: duty 1.
        drop(unsafe { Box::from_raw(cell.cast::<Cell<W, T, S>>().as_ptr()) });
    }
}

/// A promise has no work; nobody claims it.
///
/// # Safety
///
/// None of its own: it has the type of those that run work.
unsafe fn run_nothing(task: TaskRef, _first: bool) {
    drop(task);
}

/// Claims the work of `task` and runs it.
pub(super) fn run(task: TaskRef) {
    let header = task.header();
    if header.vtable.is_far != (false, false) && !may_run_here(header) {
        return schedule(task, WakeKind::Woken);
    }
    match header.word.turn(Snapshot::claim) {
        // SAFETY: the turn has set RUNNING for us; the vtable was made for this cell.
        Claim::Start => unsafe { (header.vtable.run)(task, true) },
        // SAFETY: as above.
        Claim::Poll => unsafe { (header.vtable.run)(task, false) },
        // SAFETY: the turn has set RUNNING for us, and a suspended future has its work.
        Claim::Abort(family) => unsafe { abort(header, family) },
        // SAFETY: the turn has cleared WORK for us, which makes the work ours alone.
        Claim::DropWork => unsafe { drop_work(header) },
        Claim::Nothing => {}
    }
}

/// Runs a task whose start the caller has claimed.
pub(super) fn run_claimed(task: TaskRef) {
    let run = task.header().vtable.run;
    // SAFETY: the caller's turn has set STARTED and RUNNING for this thread.
    unsafe { run(task, true) }
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
unsafe fn inside<R>(header: &Header, code: impl FnOnce() -> R) -> Result<R, Payload> {
    header.context.with_mut(|context| {
        // SAFETY: duty 1.
        let context = unsafe { &mut *context };
        current::enter(header, || {
            let _entered = context.swap_in();
            contain(code)
        })
    })
}

/// # Safety
///
/// 1. The cell is a job `Cell<F, T, S>`, and the caller has claimed its start.
unsafe fn run_job<F, T, S>(task: TaskRef, _first: bool)
where
    F: FnOnce() -> Result<T, JoinError>,
    S: Side + 'static,
{
    let header = task.header();
    // SAFETY: duty 1.
    let cell = unsafe { Common::<F, T, S>::cell(task.cell()) };
    if let Some(home) = header.home() {
        home.started(&task);
    }
    // SAFETY: the claim makes the work ours, and it is in its place until it is first claimed.
    let work = cell
        .stage
        .with_mut(|stage| unsafe { ManuallyDrop::take(&mut (*stage).work) });
    // SAFETY: the claim makes the context ours too.
    let ran = unsafe { inside(header, work) };
    let outcome = ran.unwrap_or_else(|payload| Err(JoinError::panicked(payload)));
    // SAFETY: the work is used up, the slot is free, and we own both.
    unsafe { finish(cell, outcome) }
}

/// # Safety
///
/// 1. The cell is a future `Cell<F, F::Output, S>`, and the caller has claimed its poll.
unsafe fn run_future<F, S>(task: TaskRef, first: bool)
where
    F: Future,
    S: Side + 'static,
{
    let header = task.header();
    // SAFETY: duty 1.
    let cell = unsafe { Common::<F, F::Output, S>::cell(task.cell()) };
    if first {
        cell.side.settle();
        if let Some(home) = header.home() {
            home.started(&task);
        }
    }
    let waker = waker::borrowed(&task);
    let poll = || {
        let polled = cell.stage.with_mut(|stage| {
            // SAFETY: the claim makes the work ours until we suspend or finish.
            let work: &mut F = unsafe { &mut (*stage).work };
            // SAFETY: the future stays in the block, which never moves, until it is dropped.
            let future = unsafe { Pin::new_unchecked(work) };
            contain(|| future.poll(&mut Cx::from_waker(&waker)))
        });
        if matches!(polled, Ok(Poll::Pending)) {
            return Ok(Poll::Pending);
        }
        // The end: the future goes before anybody can see the outcome.
        // SAFETY: the work is ours and in its place, and is not touched again.
        let dropped = contain(|| unsafe { Common::<F, F::Output, S>::drop_work(task.cell()) });
        if let Err(payload) = dropped {
            unhandled::report_panic(header, "the destructor of a future", payload);
        }
        polled
    };
    // SAFETY: the claim makes the context ours too.
    let outcome = match unsafe { inside(header, poll) } {
        Ok(Ok(Poll::Pending)) => return suspend(task),
        Ok(Ok(Poll::Ready(value))) => Ok(value),
        Ok(Err(payload)) | Err(payload) => Err(JoinError::panicked(payload)),
    };
    // SAFETY: the work is dropped, the slot is free, and we own both.
    unsafe { finish(cell, outcome) }
}

/// The poll said pending: lets go of the future, or does what was asked meanwhile.
fn suspend(task: TaskRef) {
    let header = task.header();
    if !header.word.peek().has(SUSPENDED) {
        if let Some(home) = header.home() {
            home.suspended(&task);
        }
        header.word.set(SUSPENDED);
    }
    match header.word.turn(Snapshot::suspend) {
        Suspend::Idle => drop(task),
        Suspend::Again => schedule(task, WakeKind::Yielded),
        // SAFETY: RUNNING is still ours, and the future is in its place.
        Suspend::Abort => unsafe { abort(header, Family::Cancelled) },
    }
}

/// Puts the outcome into the slot and publishes it.
///
/// # Safety
///
/// 1. The caller owns the work, which is gone, and the slot, which is empty.
unsafe fn finish<W, T, S: Side>(cell: &Cell<W, T, S>, outcome: Result<T, JoinError>) {
    let header = &cell.header;
    let family = outcome.as_ref().err().map(JoinError::family);
    let filled = fills_slot(family);
    if filled {
        // SAFETY: duty 1.
        unsafe { fill(cell, outcome) };
    }
    end(header, family, filled, false);
}

/// # Safety
///
/// 1. The caller owns the slot, which is empty.
unsafe fn fill<W, T, S>(cell: &Cell<W, T, S>, outcome: Result<T, JoinError>) {
    cell.stage.with_mut(|stage| {
        let output = Stage {
            output: ManuallyDrop::new(outcome),
        };
        // SAFETY: duty 1: nothing that would have to be dropped is overwritten.
        unsafe { stage.write(output) }
    });
}

/// Values and errors with a content of their own go into the slot, the rest into the word.
fn fills_slot(family: Option<Family>) -> bool {
    matches!(family, None | Some(Family::Panicked | Family::Failed))
}

/// Drops the work and publishes an end without a value.
///
/// # Safety
///
/// 1. The caller owns the work by RUNNING, and it is in its place.
unsafe fn abort(header: &Header, family: Family) {
    // SAFETY: duty 1 is the same.
    unsafe { drop_work(header) };
    end(header, Some(family), false, false);
}

/// Drops the work inside its context; a panic of its destructor is reported.
///
/// # Safety
///
/// 1. The caller owns the work, and it is in its place.
unsafe fn drop_work(header: &Header) {
    let cell = NonNull::from(header);
    // SAFETY: duty 1; the vtable was made for this cell.
    let drop_it = || unsafe { (header.vtable.drop_work)(cell) };
    // SAFETY: who owns the work owns the context.
    if let Err(payload) = unsafe { inside(header, drop_it) } {
        unhandled::report_panic(header, "a destructor", payload);
    }
}

/// Writes the executor's account, publishes, then tells.
fn end(header: &Header, family: Option<Family>, output: bool, keep_work: bool) {
    let how = completion(family);
    let now = header.word.load();
    if let Some(home) = header.home() {
        home.ended(Ended {
            id: header.id,
            started: now.has(STARTED),
            suspended: now.has(SUSPENDED),
            how,
        });
    }
    let old = header
        .word
        .change(|now| now.publish(family, output, keep_work));
    published(header, old, output, how);
}

/// After the publication: an outcome that nobody waits for goes, everybody else is told.
fn published(header: &Header, old: Snapshot, output: bool, how: Completion) {
    if output && !old.has(HANDLE) {
        // SAFETY: the publishing turn has set TAKEN on our behalf, as no reader is left.
        unsafe { discard_output(header, how) };
    }
    if old.has(WATCHED) {
        tell(header, how);
    }
}

/// Reports a failure that nobody collected, and drops the outcome.
///
/// # Safety
///
/// 1. The caller owns the slot, and it is filled.
unsafe fn discard_output(header: &Header, how: Completion) {
    let cell = NonNull::from(header);
    if matches!(how, Completion::Panicked | Completion::Failed) && !header.word.peek().has(REPORTED)
    {
        // SAFETY: duty 1; the vtable was made for this cell.
        if let Some(error) = unsafe { (header.vtable.error)(cell) } {
            unhandled::report(header, error.report());
        }
    }
    // SAFETY: duty 1; the vtable was made for this cell.
    let dropped = contain(|| unsafe { (header.vtable.drop_output)(cell) });
    if let Err(payload) = dropped {
        unhandled::report_panic(header, "the destructor of an outcome", payload);
    }
}

/// Wakes the reader and runs the callbacks, with no lock held.
fn tell(header: &Header, how: Completion) {
    let (waker, callbacks) = {
        let mut watchers = header.watchers.lock();
        (watchers.waker.take(), watchers.take_callbacks())
    };
    if let Some(waker) = waker {
        if let Err(payload) = contain(|| waker.wake()) {
            unhandled::report_panic(header, "a waker", payload);
        }
    }
    if !callbacks.is_empty() {
        let task = Hold::of(header);
        deferred::run(move || {
            for callback in callbacks {
                call(task.header(), callback, how);
            }
        });
    }
}

fn call(header: &Header, callback: Callback, how: Completion) {
    match callback {
        Callback::Call(callback) => {
            if let Err(payload) = contain(|| callback(how)) {
                unhandled::report_panic(header, "a callback", payload);
            }
        }
        Callback::Next(task) => task.run(),
    }
}

/// Registers `callback`, or runs it at once when the task has ended.
pub(super) fn on_complete(header: &Header, callback: Callback) {
    let late = {
        let mut watchers = header.watchers.lock();
        if header.word.load().has(DONE) {
            vec![callback]
        } else {
            watchers.add(callback);
            let old = header.word.set(WATCHED);
            if old.has(DONE) && !old.has(WATCHED) {
                watchers.take_callbacks()
            } else {
                Vec::new()
            }
        }
    };
    let how = completion(header.word.load().family());
    for callback in late {
        call(header, callback, how);
    }
}

/// Registers `waker` in place of an older one; true when the task has ended.
pub(super) fn watch(header: &Header, waker: &Waker) -> bool {
    if header.word.load().has(DONE) {
        return true;
    }
    {
        let watchers = header.watchers.lock();
        let known = watchers.waker.as_ref();
        if known.is_some_and(|known| known.will_wake(waker)) {
            drop(watchers);
            return header.word.load().has(DONE);
        }
    }
    let mut waker = Some(waker.clone());
    let (old, done) = {
        let mut watchers = header.watchers.lock();
        let old = std::mem::replace(&mut watchers.waker, waker.take());
        let before = header.word.set(WATCHED);
        if before.has(DONE) && !before.has(WATCHED) {
            waker = watchers.waker.take();
        }
        (old, before.has(DONE))
    };
    // Wakers are user's values: dropped with no lock held.
    drop(old);
    drop(waker);
    done
}

/// The reading half goes: its waker goes, and an outcome that is there.
pub(super) fn leave(header: &Header) {
    if header.word.peek().has(WATCHED) {
        let waker = header.watchers.lock().waker.take();
        if let Err(payload) = contain(|| drop(waker)) {
            discard(payload);
        }
    }
    if header.word.turn(Snapshot::leave) == Take::Slot {
        let how = completion(header.word.load().family());
        // SAFETY: the turn has set TAKEN for us.
        unsafe { discard_output(header, how) };
    }
}

/// Tells the task to stop.
pub(super) fn cancel(header: &Header) -> Cancel {
    match header.word.turn(|now| now.stop(header.is_here(false))) {
        Stop::Prevent => {
            if header.word.peek().has(WORK) {
                // SAFETY: the turn has set RUNNING for us, and nobody has claimed the work.
                unsafe { drop_work(header) };
            }
            end(header, Some(Family::Cancelled), false, false);
            header.side().told();
            Cancel::Prevented
        }
        Stop::PreventFar => {
            end(header, Some(Family::Cancelled), false, true);
            Cancel::Prevented
        }
        Stop::Push => {
            // SAFETY: the turn has added a driver, for the queue.
            let task = unsafe { TaskRef::from_raw(NonNull::from(header)) };
            schedule(task, WakeKind::Woken);
            Cancel::Requested
        }
        Stop::Notify => {
            header.side().told();
            Cancel::Requested
        }
        Stop::Requested => Cancel::Requested,
        Stop::Prevented => Cancel::Prevented,
        Stop::TooLate => Cancel::TooLate,
    }
}

/// The executor refuses the task.
pub(super) fn refuse(header: &Header) {
    match header
        .word
        .turn(|now| now.refuse(header.is_here(now.has(STARTED))))
    {
        // SAFETY: the turn has set RUNNING for us, and a cell with an executor has its work
        // until it is claimed.
        Refuse::Abort => unsafe { abort(header, Family::ShutDown) },
        Refuse::AbortFar => end(header, Some(Family::ShutDown), false, true),
        // SAFETY: the turn has cleared WORK for us, which makes the work ours alone.
        Refuse::DropWork => unsafe { drop_work(header) },
        Refuse::Nothing => {}
    }
}

/// Nobody is left who could bring the outcome about.
pub(super) fn lose(header: &Header) {
    let has_work = header.word.peek().has(WORK);
    let here = header.is_here(false);
    if has_work && here {
        // SAFETY: the turn has set RUNNING for us, and nobody has claimed the work.
        unsafe { drop_work(header) };
    }
    end(header, Some(Family::Lost), false, has_work && !here);
}

/// Queues a suspended future whose last waker is gone, to be dropped by its executor.
pub(super) fn schedule_orphan(task: TaskRef) {
    schedule(task, WakeKind::Woken);
}

/// Hands the task to its executor's queue.
pub(super) fn schedule(task: TaskRef, kind: WakeKind) {
    let cell = task.cell();
    // SAFETY: `task` holds the cell; the borrow ends before `task` can be the last reference,
    // because the queue's own reference is `task` itself.
    let header = unsafe { cell.as_ref() };
    let hold = Hold::of(header);
    if let Some(queue) = header.queue() {
        queue.schedule(task, kind);
    }
    drop(hold);
}

/// Resolves a promise with what the writer says; gives it back when it was cancelled before.
///
/// # Safety
///
/// 1. `cell` is a live promise `Cell<(), T, S>`, and the caller is its one writer.
pub(super) unsafe fn resolve<T, S: Side + 'static>(
    cell: NonNull<Header>,
    outcome: Result<T, JoinError>,
) -> Result<(), Result<T, JoinError>> {
    // SAFETY: duty 1.
    let cell = unsafe { Common::<(), T, S>::cell(cell) };
    let header = &cell.header;
    if header.word.load().resolve(None, false).0.is_none() {
        return Err(outcome);
    }
    let family = outcome.as_ref().err().map(JoinError::family);
    let filled = fills_slot(family);
    let mut spare = None;
    if filled {
        // SAFETY: only the one writer touches the slot before DONE says OUTPUT.
        unsafe { fill(cell, outcome) };
    } else {
        spare = Some(outcome);
    }
    match header.word.turn(|now| now.resolve(family, filled)) {
        Some(old) => {
            published(header, old, filled, completion(family));
            Ok(())
        }
        None => Err(match spare {
            Some(outcome) => outcome,
            // SAFETY: a canceller was first; it publishes without OUTPUT, so the slot is still
            // the writer's, who has filled it above.
            None => cell
                .stage
                .with_mut(|stage| unsafe { ManuallyDrop::take(&mut (*stage).output) }),
        }),
    }
}
