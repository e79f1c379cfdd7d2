//! The end of every task: publish, then tell.
//!
//! The order is always the same: the work is dropped, the outcome is put into the slot, the
//! executor's account is written, the word says `DONE`, and only then wakers and callbacks are
//! called, with no lock held.

use std::mem::needs_drop;
use std::ptr::NonNull;
use std::task::Waker;

use super::cell::{Header, Hold, TaskRef, free, release_holder};
use super::runner::Runner;
use super::schedule::{Completion, Ended};
use super::side::Side;
use super::state::{
    DONE, Finish, HANDLE, LENT, Leave, PREVENTED, REPORTED, Release, STARTED, SUSPENDED, Snapshot,
    WAITS, WATCHED, Watch,
};
use super::typed::Typed;
use super::unhandled::{self, Untaken};
use super::watch::Callback;
use crate::base::contain::{contain, contained_drop};
use crate::deferred;
use crate::join_error::{Family, JoinError};

/// An outcome that is where it belongs, and not published.
pub(super) struct Placed {
    family: Option<Family>,
    /// It has a content of its own, and that is in the slot.
    pub(super) filled: bool,
    /// Where nobody reads it, it has to be looked at before the cell goes: a failure, or something
    /// with a destructor.
    matters: bool,
}

/// Puts the outcome into the slot, in one move, so that what comes after it carries no value.
///
/// # Safety
///
/// 1. `cell` is a live `Cell<W, T, S>`.
/// 2. The caller owns the work, which is gone, and the slot, which is empty.
#[inline]
pub(super) unsafe fn place<W, T, S: Side + 'static>(
    cell: NonNull<Header>,
    outcome: Result<T, JoinError>,
) -> Placed {
    let family = outcome.as_ref().err().map(JoinError::family);
    let filled = fills_slot(family);
    if filled {
        // SAFETY: duties 1 and 2.
        unsafe { Typed::<W, T, S>::fill(cell, outcome) };
    }
    let matters = filled && (needs_drop::<T>() || family.is_some());
    Placed {
        family,
        filled,
        matters,
    }
}

/// Publishes the outcome of what `runner` took, or somebody else has run.
pub(super) fn finish(task: TaskRef, placed: Placed, runner: Option<&dyn Runner>) {
    let Placed {
        family,
        filled,
        matters,
    } = placed;
    let header = task.header();
    let how = completion(family);
    account(header, how, runner);
    match header
        .word
        .turn_own(|now| now.finish(family, filled, matters))
    {
        (_, Finish::Gone(release)) => task.given_up(release, runner),
        (old, Finish::Stay) => {
            published(header, old, filled, how);
            task.let_go(runner);
        }
    }
}

/// Values and errors with a content of their own go into the slot, the rest into the word.
fn fills_slot(family: Option<Family>) -> bool {
    matches!(family, None | Some(Family::Panicked | Family::Failed))
}

/// Writes the executor's account, publishes, then tells.
pub(super) fn end(header: &Header, family: Option<Family>, output: bool, keep_work: bool) {
    let how = completion(family);
    account(header, how, None);
    let old = header
        .word
        .change(|now| now.publish(family, output, keep_work));
    published(header, old, output, how);
}

#[inline]
fn account(header: &Header, how: Completion, runner: Option<&dyn Runner>) {
    #[cfg(all(not(loom), any(test, feature = "test-util")))]
    crate::base::simulated::ended(header.id.number());
    let now = header.word.load();
    let end = Ended {
        id: header.id,
        is_job: header.vtable.is_job,
        started: now.has(STARTED),
        suspended: now.has(SUSPENDED),
        how,
    };
    if let Some(runner) = runner {
        runner.ended(&end);
    } else if let Some(home) = header.home() {
        home.ended(end);
    }
}

/// After the publication: an outcome that nobody waits for goes, everybody else is told.
#[inline]
fn published(header: &Header, old: Snapshot, output: bool, how: Completion) {
    if output && !old.has(HANDLE) {
        // SAFETY: the publishing turn set TAKEN for us, no reader is left (invariant 4).
        unsafe { discard_output(header, how) };
    }
    if old.has(WAITS) {
        // SAFETY: the publishing turn met WAITS, so the waker's place is ours (invariant 7).
        let waker = header.waker.with_mut(|place| unsafe { (*place).take() });
        call_waker(header, waker);
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
            Untaken::new(error).report(header);
        }
    }
    // SAFETY: duty 1; the vtable was made for this cell.
    let dropped = contain(|| unsafe { (header.vtable.drop_output)(cell) });
    if let Err(payload) = dropped {
        unhandled::report_panic(header, "the destructor of an outcome", payload);
    }
}

/// Runs the callbacks, with no lock held.
fn tell(header: &Header, how: Completion) {
    let callbacks = header.watchers.lock().take_callbacks();
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

/// Wakes the reader before the end; it registers again when it looks.
pub(super) fn wake_reader(header: &Header) {
    if !header.word.turn(Snapshot::lend) {
        return;
    }
    // SAFETY: the turn has set LENT: the waker's place is ours until it is cleared (invariant 7).
    let waker = header.waker.with_mut(|place| unsafe { (*place).take() });
    header.word.clear(LENT);
    call_waker(header, waker);
}

fn call_waker(header: &Header, waker: Option<Waker>) {
    if let Some(Err(payload)) = waker.map(|waker| contain(|| waker.wake())) {
        unhandled::report_panic(header, "a waker", payload);
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
///
/// # Safety
///
/// 1. The caller is the reading half, and no other thread uses it meanwhile.
pub(super) unsafe fn watch(header: &Header, waker: &Waker) -> bool {
    // With none of these the place is the reader's, who alone sets WAITS.
    if header.word.load().has(DONE | WAITS | LENT) {
        match header.word.turn(Snapshot::unwatch) {
            Watch::Done => return true,
            Watch::Lent => {
                // Whoever has the place calls the waker that was there: look again then, and now.
                waker.wake_by_ref();
                return false;
            }
            Watch::Pending => {}
        }
    }
    // SAFETY: the word says neither WAITS nor LENT, so the waker's place is the reader's, as whom
    // the caller speaks (duty 1, invariant 7).
    let known = header.waker.with(|place| unsafe { (*place).as_ref() });
    if !known.is_some_and(|known| known.will_wake(waker)) {
        let waker = waker.clone();
        // SAFETY: as above.
        let old = header
            .waker
            .with_mut(|place| unsafe { (*place).replace(waker) });
        if old.is_some() {
            drop_waker(header, old);
        }
    }
    if header.word.turn(Snapshot::watch) == Watch::Pending {
        return false;
    }
    // SAFETY: as above: the end did not meet WAITS.
    let waker = header.waker.with_mut(|place| unsafe { (*place).take() });
    drop_waker(header, waker);
    true
}

/// Wakers are user's values: dropped with no lock held, and contained.
fn drop_waker(header: &Header, waker: Option<Waker>) {
    if let Err(payload) = contain(|| drop(waker)) {
        unhandled::report_panic(header, "a waker", payload);
    }
}

/// The reading half goes: its waker goes, and an outcome that is there.
///
/// # Safety
///
/// 1. The caller owns the reading half of the live cell, and does not use it after.
pub(super) unsafe fn leave(cell: NonNull<Header>) {
    // SAFETY: the reading half of duty 1 holds the cell until the turn.
    let header = unsafe { cell.as_ref() };
    if header.word.load().is_read_out() {
        // SAFETY: the word says that no reference is left but the one of duty 1 (invariant 1).
        return unsafe { free(cell, None) };
    }
    if header.word.peek().has(WAITS) && header.word.turn(Snapshot::unwatch) == Watch::Pending {
        // SAFETY: the turn has given the waker's place back to the reading half.
        let waker = header.waker.with_mut(|place| unsafe { (*place).take() });
        contained_drop(waker);
    }
    match header.word.turn_own(Snapshot::leave) {
        Leave::Gone(Release::Free) => {
            // SAFETY: the word says that no reference is left; we were the last (invariant 1).
            unsafe { free(cell, None) }
        }
        Leave::Gone(_) => {}
        Leave::Slot => {
            let how = completion(header.word.load().family());
            // SAFETY: the turn has set TAKEN for us (invariant 4).
            unsafe { discard_output(header, how) };
            // SAFETY: the reading half kept its holder (invariant 1), and gives it up here.
            unsafe { release_holder(cell) };
        }
    }
}

/// A promise that only its two ends know has got its value, by the short way: tells the reader, and
/// gives up the driver.
#[inline]
fn delivered(task: TaskRef, old: Snapshot) {
    let header = task.header();
    let waited_for = old.has(WAITS);
    if waited_for {
        published(header, old, true, Completion::Value);
        if header.word.turn_if(Snapshot::deliverer_gone).is_none() {
            return drop(task);
        }
    }
    task.given_up(Release::Nothing, None);
}

/// Resolves a promise with what the writer says, and gives up its driver; gives the outcome back
/// when the promise was cancelled before.
///
/// # Safety
///
/// 1. The cell of `task` is a live promise `Cell<(), T, S>`, and the caller is its one writer.
#[inline(always)]
pub(super) unsafe fn resolve<T, S: Side + 'static>(
    task: TaskRef,
    outcome: Result<T, JoinError>,
) -> Result<(), Result<T, JoinError>> {
    let header = task.header();
    if header.word.load().has(PREVENTED | DONE) {
        return Err(outcome);
    }
    let family = outcome.as_ref().err().map(JoinError::family);
    let filled = fills_slot(family);
    let mut spare = None;
    if filled {
        // SAFETY: only the one writer touches the slot before DONE says OUTPUT.
        unsafe { Typed::<(), T, S>::fill(task.cell(), outcome) };
    } else {
        spare = outcome.err();
    }
    if family.is_none() {
        if let Some(old) = header.word.turn_if(Snapshot::deliver) {
            delivered(task, old);
            return Ok(());
        }
    }
    match header.word.turn_own(|now| now.resolve(family, filled)) {
        Some((_, Finish::Gone(release))) => task.given_up(release, None),
        Some((old, Finish::Stay)) => published(header, old, filled, completion(family)),
        None => {
            return Err(match spare {
                Some(error) => Err(error),
                // SAFETY: a canceller was first; it publishes without OUTPUT, so the slot is still
                // the writer's, who has filled it above.
                None => unsafe { Typed::<(), T, S>::empty(task.cell()) },
            });
        }
    }
    Ok(())
}

/// How an outcome of this family is announced.
pub(super) fn completion(family: Option<Family>) -> Completion {
    match family {
        None => Completion::Value,
        Some(Family::Panicked) => Completion::Panicked,
        Some(Family::Cancelled) => Completion::Cancelled,
        Some(_) => Completion::Failed,
    }
}
