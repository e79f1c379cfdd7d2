//! The timers of one thread: an agenda without a lock, turned by the frames of that thread.
//!
//! A *frame* is a loop that runs, a `block_on`, or a turn of a worker's own loop. All frames
//! of a thread share one agenda, so that the innermost keeps time for those it holds up. When
//! the outermost one ends, nobody on this thread looks at the agenda any more: what waits is
//! handed to the [driver](super::driver).
//!
//! A pool's worker has a [diary](super::diary) besides, for the task of the pool that it polls
//! outside of all frames. It is open to this task alone, which shows that by its waker: a poll may
//! run an executor of its own, and block until a timer wakes that.

#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::ptr;
use std::rc::Rc;
use std::task::Waker;
use std::time::Instant;

use crate::base::clock::{self, Clock};
use crate::base::sync::{Arc, local};
use crate::timer::agenda::Agenda;
use crate::timer::diary::{Busy, Diary};
use crate::timer::driver::{Driver, wake_all};
use crate::timer::entry::{Entry, Home, Keeper, Polled, Renewal};
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
    diary: RefCell<Option<Arc<Diary>>>,
    /// The task that the diary is open to: what the data of its wakers is. None: null.
    open_to: Cell<*const ()>,
}

/// Where a timer that is polled on this thread belongs.
#[derive(Debug)]
pub(super) enum Place {
    Frame(Rc<Timers>),
    Diary(Rc<Timers>),
    Driver,
}

impl Place {
    /// See [`Entry::renew`].
    #[inline]
    pub(super) fn renew(&self, entry: &Entry, waker: &Waker) -> Renewal {
        match self {
            Self::Frame(timers) => entry.renew(Polled::InFrame(&timers.home), waker),
            Self::Diary(timers) => entry.renew(Polled::ByTask(timers.diary_home()), waker),
            Self::Driver => {
                Driver::with(|driver| entry.renew(Polled::ByStranger(driver.home()), waker))
            }
        }
    }

    #[inline]
    pub(super) fn now(&self) -> Instant {
        match self {
            Self::Frame(timers) => timers.clock.now(),
            Self::Diary(_) | Self::Driver => clock::now(),
        }
    }

    #[inline]
    pub(super) fn add(&self, due: Due, waker: Waker) -> Arc<Entry> {
        match self {
            Self::Frame(timers) => timers.agenda.borrow_mut().add(due, waker, false),
            Self::Diary(timers) => match &*timers.diary.borrow() {
                Some(diary) => diary.add(due, waker),
                None => Driver::with(|driver| driver.add(due, waker)),
            },
            Self::Driver => Driver::with(|driver| driver.add(due, waker)),
        }
    }
}

local! {
    static TIMERS: RefCell<Option<Rc<Timers>>> = RefCell::new(None);
}

impl Timers {
    fn new(clock: Clock) -> Rc<Self> {
        let agenda = Agenda::new(Keeper::Thread);
        Rc::new(Self {
            home: agenda.home().clone(),
            agenda: RefCell::new(agenda),
            clock,
            frames: Cell::new(0),
            due: RefCell::new(Vec::new()),
            diary: RefCell::new(None),
            open_to: Cell::new(ptr::null()),
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

    /// With those of this thread, if one of its frames is there to turn them; in its diary, if the
    /// task asks that the diary is open to; else with the driver.
    #[inline]
    pub(super) fn place(waker: &Waker) -> Place {
        let place = TIMERS.try_with(|slot| match &*slot.borrow() {
            Some(timers) if timers.frames.get() > 0 => Place::Frame(timers.clone()),
            Some(timers) if timers.is_open_to(waker) => Place::Diary(timers.clone()),
            _ => Place::Driver,
        });
        place.unwrap_or(Place::Driver)
    }

    /// The identity of the diary; null if there is none.
    fn diary_home(&self) -> *const Home {
        let diary = self.diary.borrow();
        diary
            .as_ref()
            .map_or(ptr::null(), |diary| Arc::as_ptr(diary.home()))
    }

    fn is_open_to(&self, waker: &Waker) -> bool {
        let task = self.open_to.get();
        !task.is_null() && ptr::eq(task, waker.data())
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
        // Refused, the driver has woken early what it took over.
        let _is_served = handed_over.finish();
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

/// The worker's end of its [`Diary`]; stays on its thread.
#[derive(Debug)]
pub(crate) struct Bookkeeper {
    timers: Rc<Timers>,
    diary: Arc<Diary>,
    /// The diary knows that the worker sleeps.
    resting: Cell<bool>,
    /// Kept for its memory.
    due: RefCell<Vec<Waker>>,
}

impl Bookkeeper {
    /// Begins a diary for this thread, whose outermost frame may come and go.
    pub(crate) fn begin() -> Self {
        let timers = Timers::of_thread();
        let diary = Diary::new();
        timers.diary.replace(Some(diary.clone()));
        Self {
            timers,
            diary,
            resting: Cell::new(false),
            due: RefCell::new(Vec::new()),
        }
    }

    /// From now on the diary is open to the task whose wakers have `task` for data; null: to none.
    #[inline]
    pub(crate) fn open_to(&self, task: *const ()) {
        self.timers.open_to.set(task);
    }

    /// The worker begins something that may keep it from firing what is due.
    #[inline]
    pub(crate) fn see_to(&self, busy: Busy) {
        self.diary.see_to(busy);
    }

    /// No deadline stands here, but perhaps some that nobody waits for.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.diary.is_empty()
    }

    #[inline]
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.diary.is_due(now)
    }

    /// Wakes what is due at `now`, a bounded share, in order.
    pub(crate) fn fire_due(&self, now: Instant) {
        let mut due = self.due.take();
        self.diary.take_due(now, &mut due);
        wake_all(&mut due);
        self.due.replace(due);
    }

    /// The worker is about to sleep, until this instant at the latest; [`Bookkeeper::rise`] ends
    /// it.
    pub(crate) fn rest(&self) -> Option<Instant> {
        if self.is_empty() {
            return None;
        }
        self.resting.set(true);
        self.diary.rest()
    }

    pub(crate) fn rise(&self) {
        if self.resting.replace(false) {
            self.diary.rise();
        }
    }

    /// The worker leaves; again: nothing. What waits is kept by others from now on.
    pub(crate) fn close(&self) {
        self.open_to(ptr::null());
        self.timers.diary.replace(None);
        self.diary.close();
    }
}

impl Drop for Bookkeeper {
    fn drop(&mut self) {
        self.close();
    }
}
