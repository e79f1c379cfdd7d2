//! Waits that no worker is left to end: who helps, and whose error it is.
//!
//! A worker at the cap that waits runs in place what it waits for, while its stack has room. Waits
//! nested deeper than that leave their work to the others; and when each of those waits as well, for
//! such work or for a job that is further down on the stack of one of them, nobody will ever take
//! it. Then
//! * a worker with room that waits for a job which waits, over whatever other jobs, for such work,
//!   runs it: nothing that this could wait for lies below that is not waiting for it anyhow;
//! * where none has room, one of those waits gets `is_would_deadlock`.
//!
//! # Why that is certain
//!
//! A worker has its [`Plight`] here from before it sleeps in a wait without a deadline until that
//! wait ends. The frame of that wait goes on when its root has ended and not before, whatever else
//! runs on top of it. A root that nobody has claimed is run by a worker only: its one reader is that
//! very wait. A claimed one that is found on the stack of a worker ends when the frames above it
//! have. So once the plights are those of all workers, of which there can be no more, and all their
//! roots are of these two kinds, all of them wait for those that nobody will claim. What can end it
//! all the same is a cancel or a shutdown from outside, which nobody has to send.
//!
//! A `block_on`, a loop, and a wait for a task that is suspended may be ended by anybody who has a
//! waker, so no plight is made for them: waits nested through those are not decided here.
//!
//! # Who looks
//!
//! Whoever is the last to put its plight here. Those who sleep already have said that they are
//! [stranded](super::stranded), so the last one to block wakes them, and each puts its own here.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::task::Waker;

use crate::base::sync::Mutex;
use crate::task::{Hold, TaskId};

/// A worker in a wait without a deadline for work of its pool.
pub(super) struct Plight {
    /// What it waits for.
    pub(super) root: Hold,
    /// What runs on its stack.
    pub(super) below: Vec<TaskId>,
    /// Has its stack room for more?
    pub(super) has_room: bool,
    pub(super) waker: Waker,
    way_out: Option<WayOut>,
}

/// What a worker does that would wait for ever.
#[must_use]
pub(super) enum WayOut {
    /// It runs this.
    Run(Hold),
    /// It waits no more for this.
    GiveUp(TaskId),
}

impl Plight {
    pub(super) fn new(root: Hold, below: Vec<TaskId>, has_room: bool, waker: Waker) -> Self {
        Self {
            root,
            below,
            has_room,
            waker,
            way_out: None,
        }
    }
}

/// The plights of a pool's workers, by the index of each.
#[derive(Default)]
pub(super) struct Plights(Mutex<BTreeMap<usize, Plight>>);

impl Plights {
    /// Puts the plight of a worker here. If `are_all` says so of their number, and nobody will go
    /// on, one of the workers is told its way out, and woken.
    pub(super) fn enter(&self, index: usize, plight: Plight, are_all: impl FnOnce(usize) -> bool) {
        let mut plights = self.0.lock();
        // What was there is dropped outside of the lock, and the waker called there.
        let old = plights.insert(index, plight);
        let found = if are_all(plights.len()) {
            way_out(&plights)
        } else {
            None
        };
        let waker = found.and_then(|(index, way_out)| {
            let plight = plights.get_mut(&index)?;
            plight.way_out = Some(way_out);
            Some(plight.waker.clone())
        });
        drop(plights);
        drop(old);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The worker goes on, or looks again; what it was told to do.
    pub(super) fn leave(&self, index: usize) -> Option<WayOut> {
        let plight = self.0.lock().remove(&index);
        plight.and_then(|plight| plight.way_out)
    }
}

/// Whether none of them will go on; then who is to do what about it.
fn way_out(plights: &BTreeMap<usize, Plight>) -> Option<(usize, WayOut)> {
    if plights.values().any(|plight| plight.way_out.is_some()) {
        // One at a time.
        return None;
    }
    let on_stack = |task: TaskId| {
        let mut all = plights.iter();
        all.find(|(_, plight)| plight.below.contains(&task))
            .map(|(index, _)| *index)
    };
    let mut helper = None;
    let mut last: Option<(usize, TaskId)> = None;
    for (index, plight) in plights {
        let root = &plight.root;
        if root.is_finished() {
            return None;
        }
        if root.is_claimed() {
            // By somebody outside, or a task that is suspended: it may end.
            on_stack(root.id())?;
            if plight.has_room && helper.is_none() {
                helper = awaited_by(plights, *index, on_stack).map(|work| (*index, work));
            }
        } else if plight.has_room {
            // It runs that itself.
            return None;
        } else if last.is_none_or(|(_, newest)| root.id() > newest) {
            last = Some((*index, root.id()));
        }
    }
    match (helper, last) {
        (Some((index, work)), _) => Some((index, WayOut::Run(work))),
        (None, Some((index, root))) => Some((index, WayOut::GiveUp(root))),
        (None, None) => None,
    }
}

/// The work that nobody has claimed at the end of what this worker waits for.
fn awaited_by(
    plights: &BTreeMap<usize, Plight>,
    index: usize,
    on_stack: impl Fn(TaskId) -> Option<usize>,
) -> Option<Hold> {
    let mut at = index;
    // No longer than there are workers, unless they wait in a circle.
    for _ in plights {
        let root = &plights.get(&at)?.root;
        if !root.is_claimed() {
            return Some(root.clone());
        }
        at = on_stack(root.id())?;
    }
    None
}
