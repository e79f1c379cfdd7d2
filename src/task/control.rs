//! Ends that come from outside the work: a cancel, a refusal, a loss.

use std::ptr::NonNull;

use super::cell::{Header, TaskRef};
use super::end::end;
use super::run::{abort, drop_work, revive, schedule};
use super::schedule::WakeKind;
use super::state::{CANCEL, DONE, PREVENTED, Refuse, STARTED, Stop, WORK};
use crate::join_error::Family;

/// What a cancel achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cancel {
    /// It never ran and never will.
    Prevented,
    /// It was told to stop.
    Requested,
    /// It was finished already.
    TooLate,
}

/// Was it told to stop, or did it end cancelled?
pub(super) fn is_cancelled(header: &Header) -> bool {
    let now = header.word.load();
    now.has(CANCEL | PREVENTED) || now.has(DONE) && now.family() == Some(Family::Cancelled)
}

/// Tells the task to stop.
pub(super) fn cancel(header: &Header) -> Cancel {
    tell_to_stop(header).0
}

/// Tells the task to stop; true if nobody had before, and it had not ended.
pub(super) fn cancel_first(header: &Header) -> bool {
    tell_to_stop(header).1
}

fn tell_to_stop(header: &Header) -> (Cancel, bool) {
    match header.word.turn(|now| now.stop(header.is_here(false))) {
        Stop::Prevent => {
            if header.word.peek().has(WORK) {
                // SAFETY: the turn has set RUNNING for us (invariant 2); nobody has claimed the
                // work.
                unsafe { drop_work(header) };
            }
            end(header, Some(Family::Cancelled), false, false);
            header.side().told();
            (Cancel::Prevented, true)
        }
        Stop::PreventFar => {
            end(header, Some(Family::Cancelled), false, true);
            (Cancel::Prevented, true)
        }
        Stop::Push => {
            // SAFETY: the turn has added a driver, for the queue (invariant 1).
            let task = unsafe { TaskRef::from_raw(NonNull::from(header)) };
            schedule(task, WakeKind::Woken);
            (Cancel::Requested, true)
        }
        Stop::Revive => {
            revive(header);
            (Cancel::Requested, true)
        }
        Stop::Notify => {
            header.side().told();
            (Cancel::Requested, true)
        }
        Stop::Requested => (Cancel::Requested, false),
        Stop::Prevented => (Cancel::Prevented, false),
        Stop::TooLate => (Cancel::TooLate, false),
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
        Refuse::Abort(family) => unsafe { abort(header, family) },
        Refuse::AbortFar(family) => end(header, Some(family), false, true),
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
        // SAFETY: the turn has set RUNNING for us (invariant 2); nobody has claimed the work.
        unsafe { drop_work(header) };
    }
    end(header, Some(Family::Lost), false, has_work && !here);
}
