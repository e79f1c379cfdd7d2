//! The one thread that keeps time for whoever has no loop: pool tasks, foreign runtimes, and
//! the timers that a loop leaves behind when it goes idle.
//!
//! The thread starts with the first finite deadline and leaves when none has been waiting for
//! [`LINGER`]. The agenda outlives it. Where the OS refuses the thread, every timer in the
//! agenda is woken early instead: it looks at the clock, finds that it is too soon, and
//! registers again, here (which tries the start again) or on a loop that has come up since.
//! What has nobody behind it that could look ("strict") is never early: who puts it there learns
//! whether there is a thread, also from a start that another one tries at that moment, and makes
//! do without.
//!
//! # State, all of it behind one lock
//!
//! | `thread`          | meaning                                               |
//! |-------------------|-------------------------------------------------------|
//! | `Absent`          | nobody looks at the agenda; it has no finite deadline, or no thread is to be had |
//! | `Starting`        | somebody starts it                                    |
//! | `Awake`           | it is about to look                                   |
//! | `Asleep(instant)` | it looks again at `instant` at the latest             |
//!
//! # Invariants
//!
//! 1. Whoever puts a finite deadline in while `Absent` claims the start (`Starting`) in the same
//!    critical section, and starts the thread outside of it.
//! 2. The thread leaves (`Absent`) only in a critical section that saw no finite deadline.
//! 3. Wakers are called and dropped outside the lock.
//! 4. Whoever puts something strict in while `Starting` waits for what becomes of that, and tries
//!    itself if nothing does.

#![forbid(unsafe_code)]

use std::io;
use std::sync::OnceLock;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::base::clock;
use crate::base::contain::{contain, discard, message};
use crate::base::fork;
use crate::base::park::Parker;
#[cfg(all(not(loom), any(test, feature = "test-util")))]
use crate::base::simulated;
use crate::base::sync::{Arc, Condvar, Mutex, MutexGuard, StaticMutex, thread};
use crate::timer::agenda::Agenda;
use crate::timer::entry::{Entry, Home, Keeper};
use crate::timer::heap::Due;

/// How long the thread waits for another deadline before it leaves.
const LINGER: Duration = Duration::from_secs(5);

/// At most so many wakers are called between two looks at the agenda.
const FIRED_MAX: usize = 256;

/// How long a registration that found no thread holds its caller up before it lets everybody
/// look again: a bound on the CPU that the emergency takes.
const REFUSED_PAUSE: Duration = Duration::from_millis(1);

type Start = fn(Arc<Driver>) -> io::Result<()>;

#[derive(Debug)]
pub(super) struct Driver {
    state: Mutex<State>,
    changed: Condvar,
    /// A start has gone well or not.
    settled: Condvar,
    home: Arc<Home>,
    start: Start,
    linger: Duration,
}

#[derive(Debug)]
struct State {
    agenda: Agenda,
    thread: Presence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Absent,
    Starting,
    Awake,
    Asleep(Instant),
}

/// What whoever put something into the agenda has to do once the lock is free.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Duty {
    Nothing,
    Notify,
    Start,
    /// Another one starts the thread.
    Await,
}

/// The next step after the agenda's first deadline has become `next`.
fn duty(thread: Presence, next: Option<Instant>) -> Duty {
    match (thread, next) {
        (_, None) | (Presence::Awake, _) => Duty::Nothing,
        (Presence::Absent, Some(_)) => Duty::Start,
        (Presence::Starting, Some(_)) => Duty::Await,
        (Presence::Asleep(until), Some(next)) if next < until => Duty::Notify,
        (Presence::Asleep(_), Some(_)) => Duty::Nothing,
    }
}

impl Driver {
    pub(super) fn new(start: Start, linger: Duration) -> Arc<Self> {
        let agenda = Agenda::new(Keeper::Driver);
        Arc::new(Self {
            home: agenda.home().clone(),
            state: Mutex::new(State {
                agenda,
                thread: Presence::Absent,
            }),
            changed: Condvar::new(),
            settled: Condvar::new(),
            start,
            linger,
        })
    }

    /// The one of the process; in a simulation, its own.
    #[inline]
    pub(super) fn with<R>(f: impl FnOnce(&Arc<Self>) -> R) -> R {
        #[cfg(all(not(loom), any(test, feature = "test-util")))]
        if let Some(own) = simulated::shared(|| Self::new(start_thread, LINGER)) {
            return f(&own);
        }
        static DRIVER: OnceLock<Arc<Driver>> = OnceLock::new();
        f(match fork::generation() {
            0 => DRIVER.get_or_init(|| Self::new(start_thread, LINGER)),
            generation => Self::of_child(generation),
        })
    }

    /// The one of a forked child: the copy of its parent's has no thread, and others may be
    /// queued at its condvar.
    #[cold]
    fn of_child(generation: u64) -> &'static Arc<Self> {
        static CHILD: StaticMutex<Option<(u64, &'static Arc<Driver>)>> = StaticMutex::new(None);
        let mut child = CHILD.lock();
        match *child {
            Some((of, driver)) if of == generation => driver,
            _ => {
                let driver = Box::leak(Box::new(Self::new(start_thread, LINGER)));
                *child = Some((generation, driver));
                driver
            }
        }
    }

    pub(super) fn home(&self) -> &Arc<Home> {
        &self.home
    }

    pub(super) fn add(self: &Arc<Self>, due: Due, waker: Waker) -> Arc<Entry> {
        let (entry, rest) = self.put(due, waker, false);
        // If it is refused, whoever may be woken early has been.
        let _is_served = rest.finish();
        entry
    }

    /// Calls `waker` when it is due, and not before; false if nobody will.
    pub(super) fn call(self: &Arc<Self>, due: Due, waker: Waker) -> bool {
        let (entry, rest) = self.put(due, waker, true);
        let is_served = rest.finish();
        if !is_served {
            drop(entry.release());
        }
        is_served
    }

    /// The same for whoever holds a lock, and does the rest once that is free.
    pub(super) fn put(
        self: &Arc<Self>,
        due: Due,
        waker: Waker,
        strict: bool,
    ) -> (Arc<Entry>, HandedOver) {
        let mut state = self.state.lock();
        let entry = state.agenda.add(due, waker, strict);
        let duty = match state.changed() {
            // If it is refused, whoever tries wakes this one early.
            Duty::Await if !strict => Duty::Nothing,
            duty => duty,
        };
        (entry, HandedOver(self.clone(), duty))
    }

    /// Takes over what waits in `agenda`.
    pub(super) fn take_over(self: &Arc<Self>, agenda: &mut Agenda) -> HandedOver {
        let mut state = self.state.lock();
        agenda.move_to(&mut state.agenda);
        let duty = match state.changed() {
            // Nothing in there is strict.
            Duty::Await => Duty::Nothing,
            duty => duty,
        };
        HandedOver(self.clone(), duty)
    }

    /// False if there is no thread to be had.
    fn discharge(self: &Arc<Self>, duty: Duty) -> bool {
        let duty = match duty {
            Duty::Await => self.settle(),
            duty => duty,
        };
        match duty {
            Duty::Nothing | Duty::Await => {}
            Duty::Notify => {
                self.changed.notify_one();
            }
            Duty::Start => {
                if (self.start)(self.clone()).is_err() {
                    self.refused();
                    return false;
                }
                let mut state = self.state.lock();
                if state.thread == Presence::Starting {
                    state.thread = Presence::Awake;
                }
                drop(state);
                self.settled.notify_all();
            }
        }
        true
    }

    /// What there is to do once the start has gone well or not that another one tries.
    fn settle(&self) -> Duty {
        let mut state = self.state.lock();
        while state.thread == Presence::Starting {
            self.settled.wait(&mut state);
        }
        state.changed()
    }

    fn refused(&self) {
        log::warn!("the OS refuses the thread portage-timer; timers are kept by those who wait");
        // In a model no time passes.
        if !cfg!(loom) {
            Parker::new().park_until(Some(clock::now() + REFUSED_PAUSE));
        }
        let mut early = Vec::new();
        let mut state = self.state.lock();
        state.thread = Presence::Absent;
        state.agenda.take_early(&mut early);
        drop(state);
        self.settled.notify_all();
        wake_all(&mut early);
    }

    /// The life of the thread.
    fn serve(&self) {
        self.serve_by(|state, until| self.changed.wait_until(state, until).timed_out());
    }

    /// The same with another way to sleep, which says whether its time ran out.
    fn serve_by(&self, sleep: impl Fn(&mut MutexGuard<'_, State>, Instant) -> bool) {
        let mut due = Vec::new();
        let mut state = self.state.lock();
        loop {
            state.thread = Presence::Awake;
            state.agenda.take_due(clock::now(), FIRED_MAX, &mut due);
            if !due.is_empty() {
                drop(state);
                wake_all(&mut due);
                state = self.state.lock();
                continue;
            }
            let next = state.agenda.next();
            let until = next.unwrap_or_else(|| clock::now() + self.linger);
            state.thread = Presence::Asleep(until);
            let timed_out = sleep(&mut state, until);
            if next.is_none() && timed_out && state.agenda.next().is_none() {
                state.thread = Presence::Absent;
                return;
            }
        }
    }
}

impl State {
    fn changed(&mut self) -> Duty {
        let duty = duty(self.thread, self.agenda.next());
        // The claim: whoever comes next has nothing to do.
        match duty {
            Duty::Nothing | Duty::Await => {}
            Duty::Notify => self.thread = Presence::Awake,
            Duty::Start => self.thread = Presence::Starting,
        }
        duty
    }
}

/// What is left to do after [`Driver::put`] and [`Driver::take_over`], outside the giver's borrow.
#[must_use]
pub(super) struct HandedOver(Arc<Driver>, Duty);

impl HandedOver {
    /// False if there is no thread to be had: what is strict has nobody who comes for it.
    pub(super) fn finish(self) -> bool {
        self.0.discharge(self.1)
    }
}

/// Calls the wakers in order; their panics end there.
pub(super) fn wake_all(wakers: &mut Vec<Waker>) {
    for waker in wakers.drain(..) {
        if let Err(payload) = contain(|| waker.wake()) {
            log::error!(
                "panic in a waker: {}",
                message(&*payload).unwrap_or("no text")
            );
            discard(payload);
        }
    }
}

fn start_thread(driver: Arc<Driver>) -> io::Result<()> {
    fork::may_start_thread()?;
    thread::Builder::new()
        .name("portage-timer".into())
        .spawn(move || driver.serve())
        .map(drop)
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{Driver, Duty, LINGER, Presence, duty, start_thread};
    use crate::timer::agenda::Agenda;
    use crate::timer::entry::Keeper;
    use crate::timer::heap::Due;
    use std::io;
    use std::sync::{Arc, Condvar, Mutex, mpsc};
    use std::task::{Wake, Waker};
    use std::time::{Duration, Instant};

    struct Tell(mpsc::Sender<&'static str>, &'static str);
    impl Wake for Tell {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(self.1);
        }
    }

    fn tell(to: &mpsc::Sender<&'static str>, what: &'static str) -> Waker {
        Waker::from(Arc::new(Tell(to.clone(), what)))
    }

    const SOON: Duration = Duration::from_secs(60);

    #[test]
    fn the_thread_is_told_only_what_it_would_learn_too_late() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let table = [
            (Presence::Absent, None, Duty::Nothing),
            (Presence::Absent, Some(now), Duty::Start),
            (Presence::Starting, None, Duty::Nothing),
            (Presence::Starting, Some(now), Duty::Await),
            (Presence::Awake, Some(now), Duty::Nothing),
            (Presence::Asleep(later), None, Duty::Nothing),
            (Presence::Asleep(later), Some(now), Duty::Notify),
            (Presence::Asleep(now), Some(now), Duty::Nothing),
            (Presence::Asleep(now), Some(later), Duty::Nothing),
        ];
        for (thread, next, expected) in table {
            assert_eq!(duty(thread, next), expected, "{thread:?} {next:?}");
        }
    }

    #[test]
    fn a_nearer_deadline_shortens_the_sleep_and_never_is_never() {
        let (to, from) = mpsc::channel();
        let driver = Driver::new(start_thread, LINGER);
        let now = Instant::now();
        driver.add(Due::Never, tell(&to, "never"));
        assert_eq!(
            driver.state.lock().thread,
            Presence::Absent,
            "no thread for that"
        );
        let far = Due::At(now + Duration::from_secs(3_600));
        driver.add(far, tell(&to, "far"));
        let near = now + Duration::from_millis(20);
        driver.add(Due::At(near), tell(&to, "near"));
        assert_eq!(from.recv_timeout(SOON), Ok("near"));
        assert!(Instant::now() >= near);
        driver.add(Due::At(now), tell(&to, "past"));
        assert_eq!(from.recv_timeout(SOON), Ok("past"));
        assert!(from.try_recv().is_err());
    }

    #[test]
    fn the_thread_leaves_when_it_is_idle_and_comes_back() {
        let (to, from) = mpsc::channel();
        let driver = Driver::new(start_thread, Duration::from_millis(1));
        for _ in 0..3 {
            driver.add(Due::At(Instant::now()), tell(&to, "due"));
            assert_eq!(from.recv_timeout(SOON), Ok("due"));
            let end = Instant::now() + SOON;
            while driver.state.lock().thread != Presence::Absent {
                assert!(Instant::now() < end, "the thread stays");
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn without_a_thread_those_who_wait_are_told_to_look_again() {
        fn refuse(_: Arc<Driver>) -> io::Result<()> {
            Err(io::ErrorKind::WouldBlock.into())
        }
        let (to, from) = mpsc::channel();
        let driver = Driver::new(refuse, LINGER);
        let far = Due::At(Instant::now() + Duration::from_secs(3_600));
        driver.add(far, tell(&to, "look"));
        assert_eq!(from.try_recv(), Ok("look"));
        assert!(!driver.call(far, tell(&to, "strict")), "nobody will");
        assert!(
            from.try_recv().is_err(),
            "never early without a timer behind it"
        );
        assert_eq!(driver.state.lock().agenda.next(), None, "it is gone");
        let mut agenda = Agenda::new(Keeper::Thread);
        agenda.add(far, tell(&to, "handed over"), false);
        driver.take_over(&mut agenda).finish();
        assert_eq!(from.try_recv(), Ok("handed over"));
        assert!(from.try_recv().is_err());
    }

    /// What a start that another one tries comes to: of two of them, the first is held up until the
    /// second has put its timer there, and refused.
    static HELD_UP: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

    fn hold_up_and_refuse(driver: Arc<Driver>) -> io::Result<()> {
        let (open, opened) = &HELD_UP;
        let mut open = open.lock().expect("no test panics there");
        if *open {
            return start_thread(driver);
        }
        while !*open {
            open = opened.wait(open).expect("no test panics there");
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    #[test]
    fn what_came_while_another_start_was_refused_is_on_time_all_the_same() {
        let (to, from) = mpsc::channel();
        let driver = Driver::new(hold_up_and_refuse, LINGER);
        let far = Due::At(Instant::now() + Duration::from_secs(3_600));
        let (at, look) = (driver.clone(), tell(&to, "look"));
        let first = std::thread::spawn(move || drop(at.add(far, look)));
        let wait_for = |count: usize| {
            while driver.state.lock().agenda.len() < count {
                std::thread::yield_now();
            }
        };
        wait_for(1);
        let due = Instant::now() + Duration::from_millis(20);
        let (at, strict) = (driver.clone(), tell(&to, "strict"));
        let second = std::thread::spawn(move || at.call(Due::At(due), strict));
        wait_for(2);
        *HELD_UP.0.lock().unwrap() = true;
        HELD_UP.1.notify_all();
        first.join().unwrap();
        assert!(second.join().unwrap(), "it has started the thread itself");
        assert_eq!(from.recv_timeout(SOON), Ok("look"));
        assert_eq!(from.recv_timeout(SOON), Ok("strict"));
        assert!(Instant::now() >= due);
    }

    #[test]
    fn a_waker_that_panics_does_not_end_the_thread() {
        struct Bomb;
        impl Wake for Bomb {
            fn wake(self: Arc<Self>) {
                panic!("waker");
            }
        }
        let (to, from) = mpsc::channel();
        let driver = Driver::new(start_thread, LINGER);
        let at = Due::At(Instant::now() + Duration::from_millis(5));
        driver.add(at, Waker::from(Arc::new(Bomb)));
        driver.add(at, tell(&to, "alive"));
        assert_eq!(from.recv_timeout(SOON), Ok("alive"));
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::{Driver, LINGER, Presence};
    use crate::base::park::Parker;
    use crate::base::sync::{Arc, thread};
    use crate::timer::heap::Due;
    use std::io;
    use std::task::Waker;
    use std::time::Instant;

    /// A thread whose every sleep ends by a notification and takes it for the end of its time:
    /// loom knows none, and that is the hard case.
    fn start_hasty(driver: Arc<Driver>) -> io::Result<()> {
        thread::spawn(move || {
            driver.serve_by(|state, _| {
                driver.changed.wait(state);
                true
            });
        });
        Ok(())
    }

    /// Adds a timer that is due, and waits until it fires.
    fn sleep(driver: &Arc<Driver>) {
        let parker = Parker::new();
        let waker = Waker::from(parker.unparker().clone());
        let entry = driver.add(Due::At(Instant::now()), waker);
        parker.park();
        drop(entry);
    }

    /// The time of a sleeping thread runs out; false when there is none, and none starting.
    fn tick(driver: &Driver) -> bool {
        loop {
            match driver.state.lock().thread {
                Presence::Absent => return false,
                Presence::Asleep(_) => break,
                Presence::Starting | Presence::Awake => {}
            }
            thread::yield_now();
        }
        driver.changed.notify_one();
        true
    }

    fn model(f: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = builder.preemption_bound.or(Some(3));
        builder.check(f);
    }

    /// Question: does every timer fire, whoever starts the thread or finds it asleep, and is
    /// there never a second thread?
    ///
    /// Bound: two adders; three preemptions.
    ///
    /// Must fail when: the start is not claimed under the lock; nobody tells a thread that
    /// sleeps past a deadline.
    #[test]
    fn loom_timer_driver_is_started_once_and_told() {
        model(|| {
            let driver = Driver::new(start_hasty, LINGER);
            let other = driver.clone();
            let adder = thread::spawn(move || sleep(&other));
            sleep(&driver);
            adder.join().unwrap();
            while tick(&driver) {
                thread::yield_now();
            }
        });
    }

    /// Question: of two that put something strict there, where no thread is to be had, does one
    /// believe that somebody will come for it?
    ///
    /// Bound: two callers; three preemptions.
    ///
    /// Must fail when: who finds a start on its way does not wait for what becomes of it; who has
    /// waited does not look again; nobody is told that it has settled.
    #[test]
    fn loom_timer_driver_whoever_has_no_thread_is_told() {
        fn refuse(_: Arc<Driver>) -> io::Result<()> {
            thread::yield_now();
            Err(io::ErrorKind::WouldBlock.into())
        }
        model(|| {
            let driver = Driver::new(refuse, LINGER);
            let due = Due::At(Instant::now());
            let put = move |driver: &Arc<Driver>| {
                let (entry, rest) = driver.put(due, Waker::noop().clone(), true);
                let is_served = rest.finish();
                drop(entry);
                is_served
            };
            let other = driver.clone();
            let caller = thread::spawn(move || put(&other));
            assert!(!put(&driver));
            assert!(!caller.join().unwrap());
        });
    }

    /// Question: is a timer lost that comes while the thread is about to leave?
    ///
    /// Bound: one adder of two timers, one end of the linger in between; three preemptions.
    ///
    /// Must fail when: the thread leaves without a look at the agenda after its sleep.
    #[test]
    fn loom_timer_driver_that_leaves_leaves_no_timer_behind() {
        model(|| {
            let driver = Driver::new(start_hasty, LINGER);
            sleep(&driver);
            let other = driver.clone();
            let ticker = thread::spawn(move || tick(&other));
            sleep(&driver);
            ticker.join().unwrap();
            while tick(&driver) {
                thread::yield_now();
            }
        });
    }
}
