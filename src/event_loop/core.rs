//! The half of a loop that stays on its thread: the queues, a run, the close.
//!
//! Work that the loop's own thread submits or wakes while the loop runs goes straight to
//! `ready`. Everything else comes through the inbox: into `arrived`, a second queue, so that a
//! flood from outside and a flood from inside take turns; what came while nothing ran is moved
//! to `ready` when a run begins: the *backlog* of that run. Both ways are first in, first out.
//!
//! # Invariants
//!
//! 1. No borrow is held while a task runs, is cancelled, shut down or dropped.
//! 2. `arrived` is empty outside of a run, so that an order once taken is kept.
//! 3. A close that is asked for inside a run is done when that run ends.
//! 4. Every loop is closed at the end of its thread at the latest.
//! 5. Nothing of `arrived` runs before the backlog has: it came later, maybe from the same thread.

#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use crate::base::sync::{Arc, local};
use crate::entered::{LoopGuard, Parking, enter_loop, is_in_loop};
use crate::error::RunError;
use crate::event_loop::inbox::{Kind, Pushed};
use crate::event_loop::shared::{LoopState, Shared};
use crate::task::{Ended, Home, Schedule, TaskRef, WakeKind};

#[derive(Debug)]
pub(super) struct Core {
    pub(super) shared: Arc<Shared>,
    pub(super) ready: RefCell<VecDeque<TaskRef>>,
    pub(super) arrived: RefCell<VecDeque<TaskRef>>,
    /// So many at the front of `ready` are the backlog.
    pub(super) backlog: Cell<usize>,
    /// What the owner sleeps on; its own, for while the thread's locals are being destroyed the
    /// current one may be another.
    pub(super) parking: Parking,
    /// What the loop is between its runs: `Idle`, or `Running` if a worker drives it.
    rest: Cell<LoopState>,
    runs: Cell<bool>,
    close_asked: Cell<bool>,
}

local! {
    /// The loop that runs on this thread, and whether a `block_on` on top hides it.
    static RUNNING: RefCell<Option<Rc<Core>>> = RefCell::new(None);
}
local! {
    static HIDDEN: Cell<bool> = Cell::new(false);
}

local! {
    static LOOPS: Loops = Loops(RefCell::new(Vec::new()));
}

/// The loops of this thread. Those that are left when it ends, because they were leaked or are
/// held by a task of their own, are closed: their handles must not wait for ever.
struct Loops(RefCell<Vec<Weak<Core>>>);

impl Loops {
    fn enter(&self, core: &Rc<Core>) {
        let mut loops = self.0.borrow_mut();
        if loops.len() == loops.capacity() {
            loops.retain(|core| core.strong_count() > 0);
        }
        loops.push(Rc::downgrade(core));
    }
}

impl Drop for Loops {
    fn drop(&mut self) {
        for core in self.0.take() {
            if let Some(core) = core.upgrade() {
                core.close();
            }
        }
    }
}

impl Core {
    pub(super) fn new() -> Rc<Self> {
        let parking = Parking::current();
        let core = Rc::new(Self {
            shared: Shared::new(&parking),
            ready: RefCell::new(VecDeque::new()),
            arrived: RefCell::new(VecDeque::new()),
            backlog: Cell::new(0),
            parking,
            rest: Cell::new(LoopState::Idle),
            runs: Cell::new(false),
            close_asked: Cell::new(false),
        });
        let _ = LOOPS.try_with(|loops| loops.enter(&core));
        core
    }

    /// A worker drives this loop from now on.
    pub(super) fn rest_as(&self, state: LoopState) {
        self.rest.set(state);
        if !self.runs.get() {
            self.shared.set_state(state);
        }
    }

    /// Begins a run; it lasts until the guard is dropped.
    pub(super) fn begin(self: &Rc<Self>) -> Result<Run, RunError> {
        if self.is_kept_from_running() {
            return Err(RunError::already_running());
        }
        if self.shared.is_closed() {
            return Err(RunError::closed());
        }
        self.runs.set(true);
        self.shared.set_state(LoopState::Running);
        self.shared.inbox.take(&mut self.ready.borrow_mut());
        self.backlog.set(self.ready.borrow().len());
        Ok(Run {
            inside: Some(self.show()),
            core: self.clone(),
        })
    }

    /// A loop runs further up on this thread, be it this one.
    pub(super) fn is_kept_from_running(&self) -> bool {
        is_in_loop() || self.runs.get()
    }

    /// Does `work` as a run does it: in one of its own, or on top of the one that is on.
    pub(super) fn run_inside(self: &Rc<Self>, work: &mut dyn FnMut()) {
        match self.begin() {
            Ok(_run) => work(),
            Err(_) => {
                let _inside = self.show();
                work();
            }
        }
    }

    /// This is the loop that runs on this thread, until the guards are dropped.
    fn show(self: &Rc<Self>) -> (LoopGuard, Visible) {
        (enter_loop(), show_running(Some(self.clone()), false))
    }

    /// Whether anything can be run now.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.borrow().is_empty()
            || !self.arrived.borrow().is_empty()
            || self.shared.inbox.has_mail()
    }

    /// Closes now, or at the end of the run that is on.
    pub(super) fn close(&self) {
        if self.runs.get() {
            self.close_asked.set(true);
        } else {
            self.close_now();
        }
    }

    /// Cancels every task, and lets each run once more to drop its future here. What their
    /// destructors submit is refused; what they wake is gone through as well.
    ///
    /// A task that another thread is just waking stands in no queue for a moment. It is waited
    /// for: refused later, its future would be out of reach of this thread.
    fn close_now(&self) {
        let shared = &self.shared;
        if shared.is_closed() {
            return;
        }
        shared.set_state(LoopState::Closed);
        shared.inbox.refuse_new();
        for hold in shared.suspended.list() {
            // Schedules the task, unless it is scheduled already.
            hold.cancel();
        }
        loop {
            shared.inbox.take(&mut self.arrived.borrow_mut());
            while let Some(task) = self.pop() {
                task.cancel();
                task.run();
            }
            if shared.suspended.is_empty() && !shared.inbox.has_mail() {
                break;
            }
            self.parking
                .wait_until(|| self.has_ready() || shared.suspended.is_empty(), None);
        }
        for task in shared.inbox.seal() {
            task.shut_down();
        }
    }

    /// The next one of `ready`.
    pub(super) fn pop_ready(&self) -> Option<TaskRef> {
        self.backlog.set(self.backlog.get().saturating_sub(1));
        self.ready.borrow_mut().pop_front()
    }

    /// The next one of `arrived`, unless the backlog comes first.
    pub(super) fn pop_arrived(&self) -> Option<TaskRef> {
        if self.backlog.get() > 0 {
            return None;
        }
        self.arrived.borrow_mut().pop_front()
    }

    fn pop(&self) -> Option<TaskRef> {
        self.pop_ready().or_else(|| self.pop_arrived())
    }
}

impl Shared {
    /// Queues `task`, or gives it back where it is not taken any more.
    pub(super) fn offer(&self, task: TaskRef, kind: Kind) -> Result<(), TaskRef> {
        if kind == Kind::New && self.is_closed() {
            return Err(task);
        }
        let Err(task) = push_here(self, task) else {
            return Ok(());
        };
        match self.inbox.push(task, kind) {
            Pushed::First => self.wake(),
            Pushed::Behind => {}
            Pushed::Refused(task) => return Err(task),
        }
        Ok(())
    }

    /// Queues `task`, or ends it where it is not taken any more.
    pub(super) fn put(&self, task: TaskRef, kind: Kind) {
        if let Err(task) = self.offer(task, kind) {
            task.shut_down();
        }
    }
}

impl Schedule for Shared {
    fn schedule(&self, task: TaskRef, _kind: WakeKind) {
        self.put(task, Kind::Woken);
    }

    fn home(&self) -> Home {
        Home::Thread(self.key())
    }

    fn suspended(&self, task: &TaskRef) {
        self.suspended.enter(task.hold());
    }

    fn ended(&self, end: Ended) {
        if end.suspended {
            self.suspended.leave(end.id);
            if self.is_closed() {
                // The closing owner may be waiting for this one.
                self.wake();
            }
        }
        self.end_one(end.is_job);
    }
}

/// Puts `task` into the ready queue, if this is the loop that runs on this thread.
fn push_here(shared: &Shared, task: TaskRef) -> Result<(), TaskRef> {
    let mut task = Some(task);
    let _ = RUNNING.try_with(|running| {
        if let Some(core) = &*running.borrow() {
            if std::ptr::eq(Arc::as_ptr(&core.shared), shared) {
                if let Some(task) = task.take() {
                    core.ready.borrow_mut().push_back(task);
                }
            }
        }
    });
    task.map_or(Ok(()), Err)
}

/// The loop that runs on this thread, as its code may see it.
pub(super) fn running() -> Option<Rc<Core>> {
    if !is_in_loop() || HIDDEN.try_with(Cell::get).unwrap_or(true) {
        return None;
    }
    RUNNING
        .try_with(|running| running.borrow().clone())
        .unwrap_or_default()
}

/// Hides the loop that runs on this thread until the guard is dropped.
pub(super) fn hide_running() -> Visible {
    let core = RUNNING
        .try_with(|running| running.borrow().clone())
        .unwrap_or_default();
    show_running(core, true)
}

fn show_running(core: Option<Rc<Core>>, hidden: bool) -> Visible {
    Visible {
        core: RUNNING
            .try_with(|running| running.replace(core))
            .unwrap_or_default(),
        hidden: HIDDEN
            .try_with(|flag| flag.replace(hidden))
            .unwrap_or_default(),
    }
}

/// Restores what was seen before.
#[must_use]
#[derive(Debug)]
pub(super) struct Visible {
    core: Option<Rc<Core>>,
    hidden: bool,
}

impl Drop for Visible {
    fn drop(&mut self) {
        let before = self.core.take();
        let _ = RUNNING.try_with(|running| running.replace(before));
        let _ = HIDDEN.try_with(|flag| flag.set(self.hidden));
    }
}

/// A run that is on.
#[must_use]
pub(super) struct Run {
    inside: Option<(LoopGuard, Visible)>,
    core: Rc<Core>,
}

impl Drop for Run {
    fn drop(&mut self) {
        let core = &self.core;
        // From here on even this thread's own wakes come through the inbox.
        self.inside = None;
        core.runs.set(false);
        core.ready
            .borrow_mut()
            .append(&mut core.arrived.borrow_mut());
        core.shared.set_state(core.rest.get());
        if core.close_asked.get() {
            core.close_now();
        }
    }
}
