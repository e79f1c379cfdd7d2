//! What the code that blocks this thread awaits.
//!
//! A thread that waits for a handle may run its work in place. One that drives a future of its
//! own has no handle to look at, but the future awaits some, and so do the tasks that it polls
//! in place: every pending one is noted here. Who blocks asks
//! * whether only this very thread could bring a noted outcome about, and
//! * on a worker at whose pool nobody else is left, for something of the pool to run.
//!
//! Only what is awaited is run: anything else might wait for the very code that it would lie
//! on top of, and a pool of one would no longer run one job at a time.

#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};

use super::help::{Help, in_place, is_out_of_reach};
use crate::base::sync::local;
use crate::entered::{self, thread_key};
use crate::join_error::JoinError;
use crate::task::{self, Hold, Home, Origin, Reader, TaskId};

/// As many notes are taken before the first look for those that say nothing any more.
const NOTES_MIN: usize = 32;

local! {
    static PLACE: Cell<Option<Place>> = Cell::new(None);
}
local! {
    /// Of all places of this thread, the innermost last.
    static NOTES: RefCell<Vec<Hold>> = RefCell::new(Vec::new());
}

/// Who awaits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaits {
    /// A handle's `wait`: only the tasks that it polls in place.
    Wait,
    /// A future, which blocks everything further down.
    Future,
    /// A loop: its tasks, and maybe a future.
    Loop,
}

/// Where on the stack it happens.
#[derive(Clone, Copy, Debug)]
struct Place {
    awaits: Awaits,
    /// The pool whose worker this is.
    pool: Option<u64>,
    /// What runs here without being polled from here.
    below: Option<TaskId>,
    /// Its notes begin here.
    base: usize,
    /// So many notes are looked through.
    limit: usize,
}

/// From here on pending handles are noted, until it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Awaiting {
    before: Option<Option<Place>>,
    base: usize,
}

impl Awaiting {
    pub(crate) fn begin(awaits: Awaits) -> Self {
        let base = NOTES
            .try_with(|notes| notes.borrow().len())
            .unwrap_or_default();
        let place = Place {
            awaits,
            pool: entered::worker().map(|worker| worker.pool()),
            below: task::innermost(),
            base,
            limit: base + NOTES_MIN,
        };
        let before = PLACE.try_with(|slot| slot.replace(Some(place)));
        Self {
            before: before.ok(),
            base,
        }
    }
}

impl Drop for Awaiting {
    fn drop(&mut self) {
        let Some(before) = self.before.take() else {
            return;
        };
        let _ = PLACE.try_with(|slot| slot.set(before));
        // A hold may be the last one: it goes outside of the borrow.
        let rest = NOTES.try_with(|notes| {
            let mut notes = notes.borrow_mut();
            (notes.len() > self.base).then(|| notes.split_off(self.base))
        });
        drop(rest);
    }
}

fn place() -> Option<Place> {
    PLACE.try_with(Cell::get).unwrap_or_default()
}

/// A handle is awaited and pending. An error when it would stay so for ever.
pub(super) fn pending<T>(reader: &Reader<T>) -> Result<(), JoinError> {
    if is_inside() {
        return pending_inside(reader);
    }
    Ok(())
}

/// Does the thread run a task, or drive something? Else it cannot await itself.
#[inline]
pub(super) fn is_inside() -> bool {
    let is_placed = || PLACE.try_with(|slot| slot.get().is_some());
    task::is_anything_running() || is_placed().unwrap_or_default()
}

fn pending_inside<T>(reader: &Reader<T>) -> Result<(), JoinError> {
    let (innermost, place) = (task::innermost(), place());
    let origin = reader.origin();
    if task::is_polled_here(origin.id) {
        return Err(JoinError::would_deadlock());
    }
    let Some(place) = place else {
        return Ok(());
    };
    if innermost == place.below && is_stuck(place.awaits, reader, origin) {
        return Err(JoinError::would_deadlock());
    }
    note(place, reader);
    Ok(())
}

/// The future that blocks this thread awaits the outcome: could only this thread bring it about?
fn is_stuck<T>(awaits: Awaits, reader: &Reader<T>, origin: Origin) -> bool {
    match awaits {
        Awaits::Wait => false,
        Awaits::Loop => task::is_running_here(origin.id),
        Awaits::Future => {
            let is_out_of_reach = || reader.chain().root.as_ref().is_some_and(is_out_of_reach);
            (is_of_this_thread(reader, origin) || is_out_of_reach()) && !reader.is_finished()
        }
    }
}

/// Could only this very thread bring the outcome about, once it goes on?
pub(super) fn is_of_this_thread<T>(reader: &Reader<T>, origin: Origin) -> bool {
    if task::is_running_here(origin.id) {
        return true;
    }
    // Work of this thread that does not run here and is in somebody's hand: another thread
    // cancels or refuses it, and says so in a moment, link by link.
    let elsewhere = || reader.chain().root.is_some_and(|root| root.is_in_hand());
    origin.home == Home::Thread(thread_key()) && !elsewhere()
}

/// The same for a handle that is waited for.
pub(super) fn waited_for<T>(reader: &Reader<T>) {
    if let Some(place) = place() {
        note(place, reader);
    }
}

/// The same for work that has to end before this thread goes on, and that has no handle here.
pub(crate) fn waited_for_work(work: impl FnOnce() -> Vec<Hold>) {
    let Some(place) = place().filter(|place| place.pool.is_some()) else {
        return;
    };
    for hold in work() {
        note_root(place, hold);
    }
}

/// Notes the root of what is awaited, if this worker might have to run it.
fn note<T>(place: Place, reader: &Reader<T>) {
    if place.pool.is_none() {
        return;
    }
    if let Some(root) = reader.chain().root {
        note_root(place, root);
    }
}

fn note_root(mut place: Place, root: Hold) {
    let Some(pool) = place.pool else { return };
    let may_come = root.origin().home == Home::Pool(pool) || root.late_home().is_some();
    if !may_come {
        return;
    }
    let stale = NOTES.try_with(|notes| {
        let mut notes = notes.borrow_mut();
        notes.push(root);
        if notes.len() < place.limit {
            return Vec::new();
        }
        let mut stale = Vec::new();
        let mut own = notes.split_off(place.base);
        own.sort_by_key(Hold::id);
        for hold in own {
            let known =
                notes.len() > place.base && notes.last().is_some_and(|last| last.id() == hold.id());
            if known || hold.is_finished() {
                stale.push(hold);
            } else {
                notes.push(hold);
            }
        }
        place.limit = notes.len() * 2 - place.base + NOTES_MIN;
        let _ = PLACE.try_with(|slot| slot.set(Some(place)));
        stale
    });
    drop(stale);
}

/// Is anything noted here?
pub(crate) fn awaits_work() -> bool {
    let base = place().map_or(usize::MAX, |place| place.base);
    NOTES
        .try_with(|notes| notes.borrow().len() > base)
        .unwrap_or(false)
}

/// Runs something of `pool` in place that is awaited here; false if there is nothing.
///
/// Tasks that were suspended elsewhere are polled once more, so that what they await is noted.
pub(crate) fn run_awaited(pool: u64) -> bool {
    let Some(Place { base, .. }) = place() else {
        return false;
    };
    if find(base, |hold| run(hold, pool)) {
        return true;
    }
    let _ = find(base, |hold| {
        if hold.pool() == Some(pool) {
            in_place(|| hold.nudge());
        }
        false
    });
    find(base, |hold| run(hold, pool))
}

/// Does any note from `base` on give true? None is borrowed meanwhile.
fn find(base: usize, mut is_it: impl FnMut(&Hold) -> bool) -> bool {
    (base..).find_map(|at| {
        let note = NOTES.try_with(|notes| notes.borrow().get(at).cloned());
        match note.ok().flatten() {
            Some(hold) => is_it(&hold).then_some(true),
            None => Some(false),
        }
    }) == Some(true)
}

/// Runs what is noted, or polls it if that is due, or what stands before it in a line.
fn run(hold: &Hold, pool: u64) -> bool {
    if hold.is_finished() {
        return false;
    }
    if hold.pool() == Some(pool) && in_place(|| hold.help()) {
        return true;
    }
    if Help::OwnPool.bring_about(hold) {
        return true;
    }
    let is_pinned = hold.pool().is_none() && hold.origin().home == Home::Pool(pool);
    if is_pinned && in_place(|| hold.run_here()) {
        // If it is suspended, it stays here: whoever awaits it is told.
        hold.wake_reader();
        return true;
    }
    false
}
