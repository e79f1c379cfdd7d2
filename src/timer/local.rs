//! The timers of one thread: an agenda without a lock, turned by the frames of that thread.
//!
//! A *frame* is a loop that runs, a `block_on`, or a turn of a worker's own loop. All frames
//! of a thread share one agenda, so that the innermost keeps time for those it holds up. When
//! the outermost one ends, nobody on this thread looks at the agenda any more: what waits is
//! handed to the [driver](super::driver).

#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::Instant;

use crate::base::clock::Clock;
use crate::base::sync::{Arc, local};
use crate::timer::agenda::Agenda;
use crate::timer::driver::{Driver, wake_all};
use crate::timer::entry::{Entry, Home};
use crate::timer::heap::Due;

/// One thread's timers.
#[derive(Debug)]
pub(crate) struct Timers {
    agenda: RefCell<Agenda>,
    home: Arc<Home>,
    clock: Clock,
    /// Frames of this thread that turn the agenda now.
    frames: Cell<usize>,
    /// Kept from turn to turn for its memory.
    due: RefCell<Vec<Waker>>,
}

local! {
    static TIMERS: RefCell<Option<Rc<Timers>>> = RefCell::new(None);
}

impl Timers {
    fn new(clock: Clock) -> Rc<Self> {
        let agenda = Agenda::new();
        Rc::new(Self {
            home: agenda.home().clone(),
            agenda: RefCell::new(agenda),
            clock,
            frames: Cell::new(0),
            due: RefCell::new(Vec::new()),
        })
    }

    /// This thread's own; a stray one, that timers do not find, once its locals are gone.
    fn of_thread() -> Rc<Self> {
        TIMERS
            .try_with(|slot| {
                slot.borrow_mut()
                    .get_or_insert_with(|| Self::new(Clock::Real))
                    .clone()
            })
            .unwrap_or_else(|_| Self::new(Clock::Real))
    }

    /// From now on this thread lives by `clock`.
    #[cfg(all(test, not(any(loom, shuttle))))]
    pub(crate) fn live_by(clock: Clock) {
        TIMERS.with(|slot| *slot.borrow_mut() = Some(Self::new(clock)));
    }

    /// Those of this thread, if one of its frames is there to turn them.
    pub(super) fn turned() -> Option<Rc<Self>> {
        TIMERS
            .try_with(|slot| slot.borrow().clone())
            .ok()
            .flatten()
            .filter(|timers| timers.frames.get() > 0)
    }

    /// A frame begins that turns the timers until it is dropped.
    pub(crate) fn enter() -> TimersFrame {
        Self::enter_as(true)
    }

    /// The same, but what still waits at the end stays: the caller comes back in time.
    pub(crate) fn enter_and_come_back() -> TimersFrame {
        Self::enter_as(false)
    }

    fn enter_as(hands_over: bool) -> TimersFrame {
        let timers = Self::of_thread();
        timers.frames.set(timers.frames.get() + 1);
        TimersFrame { timers, hands_over }
    }

    /// Hides the timers from the code that runs until the guard is dropped: work that belongs
    /// elsewhere must not leave its timers with a thread that may block next.
    pub(crate) fn step_aside() -> TimersAside {
        let timers = Self::of_thread();
        let frames = timers.frames.replace(0);
        TimersAside { timers, frames }
    }

    pub(super) fn home(&self) -> &Arc<Home> {
        &self.home
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    pub(super) fn add(&self, due: Due, waker: Waker) -> Arc<Entry> {
        self.agenda.borrow_mut().add(due, waker, false)
    }

    /// The next instant at which [`Timers::fire_due`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.agenda.borrow_mut().next()
    }

    /// Wakes what is due, `max` at most, in order; returns how many. Reads the clock once, and
    /// only if something waits.
    pub(crate) fn fire_due(&self, max: usize) -> usize {
        if self.agenda.borrow().is_empty() {
            return 0;
        }
        let now = self.clock.now();
        // A waker may come back here through a nested frame; that one finds an empty list.
        let mut due = self.due.take();
        self.agenda.borrow_mut().take_due(now, max, &mut due);
        let fired = due.len();
        wake_all(&mut due);
        self.due.replace(due);
        fired
    }

    /// Gives what waits to the driver: nobody on this thread looks any more.
    pub(crate) fn hand_over(&self) {
        let mut agenda = self.agenda.borrow_mut();
        if agenda.is_empty() {
            return;
        }
        let handed_over = Driver::with(|driver| driver.take_over(&mut agenda));
        drop(agenda);
        handed_over.finish();
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        self.hand_over();
    }
}

/// A frame of this thread that turns its timers.
#[must_use]
#[derive(Debug)]
pub(crate) struct TimersFrame {
    timers: Rc<Timers>,
    hands_over: bool,
}

impl std::ops::Deref for TimersFrame {
    type Target = Timers;
    fn deref(&self) -> &Timers {
        &self.timers
    }
}

impl Drop for TimersFrame {
    fn drop(&mut self) {
        let frames = self.timers.frames.get() - 1;
        self.timers.frames.set(frames);
        if frames == 0 && self.hands_over {
            self.timers.hand_over();
        }
    }
}

/// Ends what [`Timers::step_aside`] began.
#[must_use]
#[derive(Debug)]
pub(crate) struct TimersAside {
    timers: Rc<Timers>,
    frames: usize,
}

impl Drop for TimersAside {
    fn drop(&mut self) {
        self.timers.frames.set(self.frames);
    }
}
