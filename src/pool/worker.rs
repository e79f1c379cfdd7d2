//! One worker: where it looks for work, how it sleeps, when it leaves.
//!
//! # Order
//!
//! The task that the last one woke (at most [`STREAK`] in a row), the own
//! [queue](crate::queue::local), the injector; every [`LOOK_OUTSIDE`]th time the own loop, the
//! injector and the oldest of the own queue first, so that none of them starves behind tasks
//! that keep each other busy. A worker that finds nothing there robs the others,
//! if nobody else does ([`Idle::start_search`](crate::idle::Idle::start_search)), and their
//! next-task slots last of all.
//!
//! What it keeps to itself: `keep`.

#![forbid(unsafe_code)]

mod homes;
mod keep;
mod stack;
mod time;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::base::clock;
use crate::base::contain::contain;
use crate::base::random::Random;
use crate::base::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::base::sync::{Arc, local};
use crate::entered::{self, Parking};
use crate::event_loop::ThreadLoopDriver;
use crate::idle::{Found, Sleep, Withdraw};
use crate::pool::builder::Hook;
use crate::pool::evidence::Phase as Doing;
use crate::pool::growth::Ground;
use crate::pool::guard::Kept;
use crate::pool::home::Door;
use crate::pool::seal::Phase;
use crate::pool::seat::{Desk, Pass, Seat, Seats, Tally};
use crate::pool::shared::Shared;
use crate::pool::stranded::Stranded;
use crate::pool::worker::homes::Homes;
use crate::queue::local::Local;
use crate::queue::steal::victims;
use crate::task::{Place, TaskId, TaskRef, report_stray_panic};
use crate::timer::Bookkeeper;

/// The injector and the own loop come first every so many tasks.
const LOOK_OUTSIDE: u32 = 61;

/// Tasks taken from the slot in a row.
const STREAK: u32 = 3;

/// Tasks of the own loop in one go.
const LOOP_SHARE: usize = 16;

/// Short tasks per reading of the clock.
const STAMP_EVERY: u32 = 16;

/// Tasks that take longer each have the clock read for each.
const SHORT: Duration = Duration::from_micros(2);

/// A worker that may not leave yet rests so long at least before it asks again: a keep-alive of
/// nothing must not keep it awake.
const ASK_AGAIN: Duration = Duration::from_millis(1);

/// What the core has on top of twice the keep-alive, which may be zero.
const CORE_STAYS: Duration = Duration::from_millis(100);

/// The stack that the standard library gives a thread.
const STACK_DEFAULT: usize = 2 << 20;

local! {
    static HERE: RefCell<Option<Rc<Worker>>> = RefCell::new(None);
}

local! {
    /// The pool of the worker in [`HERE`], or zero: what most threads are asked and say no to.
    static POOL: Cell<u64> = Cell::new(0);
}

/// What only the worker's own thread touches.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) seat: Arc<Seat>,
    pub(super) local: Local<TaskRef>,
    pub(super) door: Arc<Door>,
    homes: Homes,
    parking: Parking,
    driver: ThreadLoopDriver,
    keeper: Bookkeeper,
    random: Random,
    seats: RefCell<Seats>,
    tick: Cell<u32>,
    own_first: Cell<bool>,
    streak: Cell<u32>,
    /// A timer has fired for one task that lines up, and that this worker takes next.
    untold: Cell<bool>,
    /// The slot may be full.
    has_next: Cell<bool>,
    /// The oldest comes first, wherever it is.
    oldest_first: Cell<bool>,
    /// A task has yielded: what has not begun comes first.
    outsiders_first: Cell<bool>,
    /// Inside the poll of a future, which does not block.
    polling: Cell<bool>,
    /// Inside the wakers of what is due.
    firing: Cell<bool>,
    /// The tasks of this pool that these have woken.
    fired: Cell<usize>,
    /// Parked for want of work: no blocked worker.
    resting: Cell<bool>,
    /// Waits of ours, one inside the other.
    blocked: Cell<usize>,
    /// The one of them in which it sleeps until the pool's end, or zero.
    ending: Cell<usize>,
    /// In the innermost of them its plight is known.
    is_desperate: Cell<bool>,
    /// The task that the worker took.
    outer: Cell<Option<TaskId>>,
    /// So many waits for the pool's end are on its stack.
    excused: Cell<usize>,
    unstamped: Cell<u32>,
    stamp_every: Cell<u32>,
    stamped: Cell<Duration>,
    /// Where the stack begins, and how much of it may be used before a wait stops helping.
    stack: (usize, usize),
}

/// What a worker without work does next.
enum Next {
    Run(TaskRef),
    Turn,
    Leave { retired: bool },
}

/// Calls `f` with the worker of this pool that this thread is.
#[inline]
pub(super) fn with_worker<R>(pool: u64, f: impl FnOnce(&Worker) -> R) -> Option<R> {
    if !is_worker_of(pool) {
        return None;
    }
    HERE.try_with(|here| here.borrow().as_deref().map(f))
        .unwrap_or_default()
}

/// Is this thread a worker of this pool?
#[inline]
pub(super) fn is_worker_of(pool: u64) -> bool {
    POOL.try_with(|here| here.get() == pool).unwrap_or(false)
}

/// The worker of this pool that this thread is.
#[inline]
pub(super) fn of(pool: u64) -> Option<Rc<Worker>> {
    if is_worker_of(pool) { current() } else { None }
}

/// The worker that this thread is, of whatever pool.
pub(super) fn current() -> Option<Rc<Worker>> {
    HERE.try_with(|here| here.borrow().clone())
        .unwrap_or_default()
}

/// Is it set? Then it is no more.
#[inline]
fn once(flag: &Cell<bool>) -> bool {
    flag.get() && flag.replace(false)
}

/// A worker's life.
pub(super) fn main(shared: &Arc<Shared>, pass: Pass, share: usize) {
    // Errors: whoever is missing is asked for again by the next look.
    let _ = shared.growth.spread(shared, share);
    let worker = Worker::arrive(shared, pass);
    let guard = entered::enter_worker(worker.clone());
    let _ = HERE.try_with(|here| here.replace(Some(worker.clone())));
    let _ = POOL.try_with(|here| here.set(shared.id));
    let fit = worker.call_hook("on_thread_start", shared.settings.on_start.as_ref());
    let retired = if fit {
        worker.work()
    } else {
        shared.census.arrived();
        shared.break_down();
        false
    };
    worker.keeper.close();
    worker.driver.close();
    let _ = worker.call_hook("on_thread_stop", shared.settings.on_stop.as_ref());
    let _ = POOL.try_with(|here| here.set(0));
    let _ = HERE.try_with(|here| here.replace(None));
    drop(guard);
    worker.depart(pass, retired);
}

impl Worker {
    fn arrive(shared: &Arc<Shared>, pass: Pass) -> Rc<Self> {
        let parking = Parking::current();
        let local = Local::new();
        let seat = Arc::new(Seat {
            index: pass.index,
            thief: local.thief(),
            next: Place::new(),
            waker: parking.waker().clone(),
            pulse: shared.growth.enroll(),
            tally: Tally::default().into(),
            desk: Desk::default(),
            pinned: AtomicUsize::new(0),
            kept: Kept::new(),
            called: AtomicBool::new(false),
            stranded: Stranded::new(),
        });
        shared.roster.arrive(seat.clone());
        let called = Arc::downgrade(&seat);
        let driver = ThreadLoopDriver::begin(move || {
            if let Some(seat) = called.upgrade() {
                // Ordering: Release pairs with `duty`: the call is seen with what it is for. No
                // model needs it: that lies behind the lock of the inbox.
                seat.called.store(true, Ordering::Release);
                seat.waker.wake_by_ref();
            }
        });
        let stack = shared.settings.stack_size.unwrap_or(STACK_DEFAULT);
        let here = 0_u8;
        Rc::new(Self {
            shared: shared.clone(),
            seat,
            local,
            door: Arc::new(Door(shared.clone())),
            homes: Homes::new(),
            parking,
            driver,
            keeper: Bookkeeper::begin(),
            random: Random::new(pass.index as u64 + 1),
            seats: RefCell::new(shared.roster.seats()),
            tick: Cell::new(0),
            own_first: Cell::new(false),
            streak: Cell::new(0),
            untold: Cell::new(false),
            has_next: Cell::new(false),
            oldest_first: Cell::new(false),
            outsiders_first: Cell::new(false),
            polling: Cell::new(false),
            firing: Cell::new(false),
            fired: Cell::new(0),
            resting: Cell::new(false),
            blocked: Cell::new(0),
            outer: Cell::new(None),
            excused: Cell::new(0),
            ending: Cell::new(0),
            is_desperate: Cell::new(false),
            unstamped: Cell::new(0),
            stamp_every: Cell::new(1),
            stamped: Cell::new(Duration::ZERO),
            stack: (&raw const here as usize, stack / 2),
        })
    }

    /// Runs a hook; false if it panicked.
    fn call_hook(&self, name: &str, hook: Option<&Hook>) -> bool {
        let Some(hook) = hook else {
            return true;
        };
        match contain(|| (hook.call)(self.seat.index)) {
            Ok(()) => true,
            Err(payload) => {
                report_stray_panic(name, hook.at, payload);
                false
            }
        }
    }

    /// Works until it is time to leave; true if the keep-alive ran out.
    fn work(&self) -> bool {
        // It counts as being started until it has what it was started for: a look in between
        // would start another one for the same task.
        let (mut starting, mut fresh) = (true, true);
        loop {
            let task = self.next_task();
            if std::mem::take(&mut starting) {
                self.shared.census.arrived();
            }
            let task = match task {
                Some(task) => task,
                None => match self.idle() {
                    Next::Run(task) => task,
                    Next::Turn => {
                        self.turn();
                        continue;
                    }
                    Next::Leave { retired } => return retired,
                },
            };
            if std::mem::take(&mut fresh) {
                self.shared.growth.began(&self.shared);
            }
            if !self.shared.seal.may_run() {
                self.shared.resolve(task);
                self.shared.empty_queues();
                continue;
            }
            self.run(task);
            self.shared.growth.ended(&self.shared);
        }
    }

    /// Runs a task that this worker took.
    fn run(&self, task: TaskRef) {
        let is_job = task.is_job();
        if is_job && self.gives_up() {
            // The job may block; what waits behind it must not.
            self.shared.after_push();
        }
        self.polling.set(!is_job);
        self.outer.set(Some(task.id()));
        let now = self.stamp();
        self.see_to_timers(&task, is_job, now);
        self.seat.desk.put(&task);
        self.seat.tally.taken.bump();
        self.seat.pulse.turn(Doing::Inside);
        let again = task.run_by(self);
        self.seat.pulse.turn(Doing::Looking);
        self.outer.set(None);
        self.polling.set(false);
        if let Some(again) = again {
            self.yielded(again);
        }
    }

    /// A task has yielded: it stays with this worker, behind everything else. The seal is looked
    /// at before the next task.
    fn yielded(&self, task: TaskRef) {
        self.outsiders_first.set(true);
        self.local.line_up(task);
        self.announce(self.keep_quiet());
    }

    /// Reads the clock for the desk if it is time to.
    fn stamp(&self) -> Option<Instant> {
        let unstamped = self.unstamped.get() + 1;
        if unstamped < self.stamp_every.get() {
            self.unstamped.set(unstamped);
            return None;
        }
        let read = clock::now();
        let now = read.saturating_duration_since(self.shared.epoch);
        let took = now.saturating_sub(self.stamped.get());
        let short = took < SHORT * unstamped;
        self.stamp_every.set(if short { STAMP_EVERY } else { 1 });
        self.unstamped.set(0);
        self.stamped.set(now);
        self.seat.desk.stamp(now);
        Some(read)
    }

    /// A turn of the own loop.
    fn turn(&self) {
        // Ordering: Relaxed: a call from now on sets it again, and this turn sees the others'
        // work under the lock of the inbox.
        self.seat.called.store(false, Ordering::Relaxed);
        self.see_to_turn();
        self.polling.set(true);
        self.seat.pulse.turn(Doing::Inside);
        let _ = self.driver.turn(LOOP_SHARE);
        self.seat.pulse.turn(Doing::Looking);
        self.polling.set(false);
        self.catch_up();
    }

    /// The next task of those that need no search.
    fn next_task(&self) -> Option<TaskRef> {
        let tick = self.tick.get().wrapping_add(1);
        self.tick.set(tick);
        // Ordering: Relaxed: seen late, a turn comes a task later; before it sleeps, `duty` looks.
        if tick % LOOK_OUTSIDE == 0 || self.seat.called.load(Ordering::Relaxed) {
            self.turn();
            self.oldest_first.set(true);
        }
        if once(&self.oldest_first) {
            if let Some(task) = self.take_oldest() {
                return Some(task);
            }
        }
        if once(&self.outsiders_first) {
            let new = self.shared.injector.take();
            if let Some(task) = new.or_else(|| self.local.pop_fresh()) {
                return Some(task);
            }
        }
        if self.has_next.get() && self.streak.get() < STREAK {
            if let Some(task) = self.take_next() {
                self.streak.set(self.streak.get() + 1);
                return Some(task);
            }
        }
        self.streak.set(0);
        let own = self.local.pop().or_else(|| self.take_from_outside());
        own.or_else(|| self.take_next())
    }

    /// The oldest of the injector, or of the own queue, which else would wait under what is
    /// newer; in turn, so that neither hides the other.
    fn take_oldest(&self) -> Option<TaskRef> {
        let outside = || self.shared.injector.take();
        let own = || self.seat.thief.take();
        let own_first = self.own_first.get();
        self.own_first.set(!own_first);
        if own_first {
            own().or_else(outside)
        } else {
            outside().or_else(own)
        }
    }

    /// The oldest of the injector; while jobs are short, with some that follow it.
    fn take_from_outside(&self) -> Option<TaskRef> {
        let injector = &self.shared.injector;
        // One worker alone keeps the order of all submissions.
        if self.stamp_every.get() == 1 || self.shared.settings.core == 1 {
            injector.take()
        } else {
            injector.take_several(&self.local)
        }
    }

    fn take_next(&self) -> Option<TaskRef> {
        if self.has_next.replace(false) {
            return self.seat.next.take();
        }
        None
    }

    /// Searches the queues of all; the caller is a searcher.
    fn search(&self) -> Option<TaskRef> {
        // What was dropped on the way here may have woken something.
        let own = self.local.pop().or_else(|| self.take_next());
        if let Some(task) = own.or_else(|| self.shared.injector.take()) {
            return Some(task);
        }
        let seats = self.seats();
        let count = seats.len();
        let own = seats.iter().position(|seat| Arc::ptr_eq(seat, &self.seat));
        let start = self.random.below(count);
        let order = || victims(count, own.unwrap_or(count), start).map(|at| &seats[at]);
        let stolen = order()
            .find_map(|seat| seat.thief.take_half(&self.local))
            .or_else(|| order().find_map(|seat| seat.next.take()));
        match stolen {
            Some(task) => {
                self.seat.tally.stolen.bump();
                Some(task)
            }
            None => self.shared.injector.take(),
        }
    }

    fn seats(&self) -> Arc<Vec<Arc<Seat>>> {
        let mut seats = self.seats.borrow_mut();
        self.shared.roster.refresh(&mut seats);
        seats.list.clone()
    }

    /// Is there anything in the queues that a search would find?
    fn sees_work(&self) -> bool {
        !self.shared.injector.is_empty() || self.seats().iter().any(|seat| !seat.thief.is_empty())
    }

    /// A searcher has something to do: if it was the last one, the next takes over.
    fn pass_on(&self) {
        if self.shared.idle.found() == Found::PassOn && self.sees_work() {
            self.shared.after_push();
        }
    }

    /// Nothing to do: searches, sleeps, or leaves.
    fn idle(&self) -> Next {
        let _ = self.gives_up();
        self.homes.drop_all();
        self.seat.desk.clear();
        let index = self.seat.index;
        let idle = &self.shared.idle;
        let mut searching = idle.start_search();
        let mut least = Duration::ZERO;
        loop {
            if searching {
                self.shared.called.answered();
                if let Some(task) = self.search() {
                    self.pass_on();
                    return Next::Run(task);
                }
            }
            if let Some(next) = self.duty() {
                if searching {
                    self.pass_on();
                }
                return next;
            }
            let sleep = idle.sleep(index, searching);
            searching = true;
            if sleep == Sleep::LookAgain && (self.sees_work() || self.must_look_up()) {
                idle.rejoin(index);
                continue;
            }
            match self.park(least) {
                Woken::Claimed => {}
                Woken::Called => idle.rejoin(index),
                Woken::Rested => {
                    if idle.withdraw(index) == Withdraw::Free {
                        if self.may_retire() {
                            return Next::Leave { retired: true };
                        }
                        least = ASK_AGAIN;
                        searching = idle.start_search();
                    }
                }
            }
            self.unstamped.set(u32::MAX - 1);
        }
    }

    /// What comes before sleeping, besides tasks of the pool.
    fn duty(&self) -> Option<Next> {
        // A call that comes late finds nothing to do; the turn takes note of it all the same.
        // Ordering: Acquire pairs with the call, and with `Pinned::ended`; no model, as there.
        let called = self.seat.called.load(Ordering::Acquire);
        if called || self.driver.has_work() || self.is_timer_due() {
            return Some(Next::Turn);
        }
        let phase = self.shared.seal.phase();
        if phase >= Phase::Cancel && self.seat.pinned.load(Ordering::Acquire) == 0 {
            return Some(Next::Leave { retired: false });
        }
        None
    }

    /// After the worker has marked itself asleep: has something come up besides work?
    fn must_look_up(&self) -> bool {
        // Ordering: Acquire and no model, as in `duty`; the fence in `Idle::sleep` lies before.
        if self.shared.seal.phase() == Phase::Drain {
            self.shared.try_close();
        }
        let leave = self.shared.seal.phase() >= Phase::Cancel
            && self.seat.pinned.load(Ordering::Acquire) == 0;
        leave || self.seat.called.load(Ordering::Acquire)
    }

    /// Parks until the worker is claimed or something else comes up, or it has rested for its
    /// keep-alive, and for `least`.
    fn park(&self, least: Duration) -> Woken {
        self.seat.pulse.turn(Doing::Resting);
        self.resting.set(true);
        let woken = self.park_until_woken(self.keeper.rest(), least);
        self.keeper.rise();
        self.resting.set(false);
        self.seat.pulse.turn(Doing::Looking);
        woken
    }

    /// `kept` is the next deadline of the diary.
    fn park_until_woken(&self, kept: Option<Instant>, least: Duration) -> Woken {
        let rest = self.rest_until(least);
        loop {
            if self.shared.idle.is_claimed(self.seat.index) {
                return Woken::Claimed;
            }
            let timer = [self.driver.next_deadline(), kept]
                .into_iter()
                .flatten()
                .min();
            if self.driver.has_work() || self.must_look_up() {
                return Woken::Called;
            }
            let deadline = [rest, timer].into_iter().flatten().min();
            let now = deadline.map(|_| clock::now());
            if timer.is_some() && timer <= now {
                return Woken::Called;
            }
            if rest.is_some() && rest <= now {
                return Woken::Rested;
            }
            self.seat.tally.parks.bump();
            self.parking.park_until(deadline);
        }
    }

    /// When this worker's keep-alive runs out; never while there are no more than the core.
    ///
    /// The extra ones have the higher indices. One of the lower leaves only long after them, in
    /// the place of an extra one that cannot, because it has pinned tasks or is blocked.
    fn rest_until(&self, least: Duration) -> Option<Instant> {
        let settings = &self.shared.settings;
        // Ordering: Acquire and no model, as in `duty`.
        if self.shared.census.now().threads() <= settings.core
            || self.seat.pinned.load(Ordering::Acquire) > 0
            || self.driver.live() > 0
        {
            return None;
        }
        let mut time = settings.keep_alive;
        if self.seat.index < settings.core {
            time = time.saturating_mul(2).saturating_add(CORE_STAYS);
        }
        clock::now().checked_add(time.max(least))
    }

    /// The keep-alive has run out and nobody counts on this worker: may it leave?
    fn may_retire(&self) -> bool {
        let shared = &self.shared;
        if !shared.growth.may_retire(&shared.counts())
            || !shared.census.leaves_if_above(shared.settings.core)
        {
            return false;
        }
        // Whoever pushed meanwhile counted this thread as busy; `leaves_if_above` has a fence.
        shared.wake_more();
        true
    }

    /// The last steps; the thread is no worker any more.
    fn depart(&self, pass: Pass, retired: bool) {
        let shared = &self.shared;
        shared.growth.dismiss(&self.seat.pulse);
        // A hook may have left something.
        let mut left = false;
        let rest = || self.local.pop().or_else(|| self.seat.next.take());
        while let Some(task) = rest() {
            shared.injector.push(task);
            left = true;
        }
        shared.roster.depart(&self.seat, pass, retired);
        if retired {
            shared.census.gone();
            // Whoever found no place for a start while this thread had one.
            shared.growth.made_room(shared);
            shared.rescue();
        } else {
            shared.census.left();
        }
        if left {
            shared.after_push();
        }
        shared.tell_waiters();
    }
}

/// Why a parked worker is up.
enum Woken {
    /// A submitter claimed it: it searches.
    Claimed,
    /// Its loop, or the pool's phase.
    Called,
    /// Its keep-alive has run out.
    Rested,
}
