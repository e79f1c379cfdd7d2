//! The timers of one pool worker, which others look after while the worker cannot.
//!
//! A task that a worker polls sets its timer here: the worker wakes what is due between two
//! tasks, and sleeps until the next deadline. No other thread has to be woken for it, and what
//! was woken stands in the worker's own line, not behind everything that was submitted.
//!
//! A worker inside a job that blocks, or a poll that does not end, cannot fire its own. So where
//! it begins such a thing with deadlines pending, it leaves an entry with the
//! [driver](super::driver): a *watch*. When that comes, what has been due for [`OVERDUE`] is fired
//! on the driver's thread, in the worker's place. Where everything goes its way the watch finds
//! nothing to do; it costs one wake of the driver, and none for each timer.
//!
//! # State, all of it behind one lock
//!
//! | `resting` | `watch` | who fires what is due                                            |
//! |-----------|---------|------------------------------------------------------------------|
//! | no        | none    | the worker, before it begins anything else                       |
//! | no        | some    | the worker, or the driver at the watch's time, at least          |
//! | yes       | either  | the worker: it sleeps until the next deadline; a watch then ends |
//!
//! # Invariants
//!
//! 1. Entries come from the worker alone, between [`Diary::rise`] and [`Diary::rest`].
//! 2. While the worker runs something that it began with a deadline pending, a watch is set for
//!    no later than twice its grace after the first deadline: [`Diary::see_to`] comes before. What
//!    is added meanwhile wakes the task that is being polled, and nobody else until that is over.
//! 3. A watch ends (`None`) in a critical section that saw no deadline, or the worker resting. It
//!    passes through the lock before it begins anything again, and then sees that in `watched`.
//!    Where the driver has no thread, nothing is pending when the worker goes away: all has been
//!    woken, to look for itself.
//! 4. No more than one watch waits with the driver: the one in `watch`.
//! 5. What is due at one instant is taken out at once, by the worker or by the driver: what both
//!    have woken stands in two lines, and equal deadlines would not end in their order.
//! 6. Wakers are called and dropped outside the lock. Locks are taken in the order diary, driver.
//!
//! # Ordering
//!
//! `next` and `watched` are copies of what stands behind the lock, for the worker's looks without
//! it. All accesses are Relaxed: the worker's own changes it sees; of those by the driver's thread
//! it misses, until it takes the lock, that something was fired (a look finds nothing) or that a
//! watch was set anew (it sets one itself). `refused` is the worker's own.

#![forbid(unsafe_code)]

use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use crate::base::clock;
use crate::base::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::base::sync::{Arc, Mutex};
use crate::timer::agenda::Agenda;
use crate::timer::driver::{Driver, HandedOver, wake_all};
use crate::timer::entry::{Entry, Home, Keeper};
use crate::timer::heap::Due;

/// What has been due for so long is fired in the worker's place: its own look comes within
/// sixteen short polls, and the kernel wakes it up to fifty microseconds late.
const OVERDUE: Duration = Duration::from_micros(50);

/// How long a poll may hold up what is due; it should not take long at all.
const POLL_GRACE: Duration = Duration::from_micros(250);

const NEVER: u64 = u64::MAX;

/// What a worker begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Busy {
    /// A poll, which does not block.
    Polling,
    /// A job, or a wait: either may take for ever.
    Away,
}

/// Leaves an entry for a watch with the driver.
type Post = fn(Instant, Waker) -> (Arc<Entry>, Option<HandedOver>);

fn post(at: Instant, watch: Waker) -> (Arc<Entry>, Option<HandedOver>) {
    let (entry, driver) = Driver::with(|driver| driver.put(Due::At(at), watch, true));
    (entry, Some(driver))
}

/// Is a watch wanted by a worker that begins something? One that comes within twice the grace will
/// do, so that one deadline after the other, each a little nearer, does not set a watch each.
fn wants_watch(next: u64, watched: u64, busy: Busy) -> bool {
    next != NEVER && watched > next.saturating_add(2 * nanos(busy.grace()))
}

impl Busy {
    /// How long after a deadline the watch comes.
    fn grace(self) -> Duration {
        match self {
            Self::Polling => POLL_GRACE,
            Self::Away => OVERDUE,
        }
    }
}

#[derive(Debug)]
pub(super) struct Diary {
    state: Mutex<State>,
    home: Arc<Home>,
    /// The first deadline.
    next: AtomicU64,
    /// When the watch comes.
    watched: AtomicU64,
    /// It will not: the driver has no thread.
    refused: AtomicBool,
    /// Where the nanoseconds of both are counted from.
    origin: Instant,
    post: Post,
}

#[derive(Debug)]
struct State {
    agenda: Agenda,
    resting: bool,
    watch: Option<Arc<Entry>>,
}

/// What is left to do outside the lock.
#[must_use]
#[derive(Default)]
struct Aftermath {
    driver: Option<HandedOver>,
    /// The watch that another one has replaced, or is not needed any more.
    stale: Option<Arc<Entry>>,
}

impl Aftermath {
    /// False if nobody will come for the watch.
    fn finish(self) -> bool {
        drop(self.stale.and_then(|entry| entry.release()));
        self.driver.is_none_or(HandedOver::finish)
    }
}

impl Diary {
    pub(super) fn new() -> Arc<Self> {
        Self::with(post)
    }

    fn with(post: Post) -> Arc<Self> {
        let agenda = Agenda::new(Keeper::Worker);
        Arc::new(Self {
            home: agenda.home().clone(),
            state: Mutex::new(State {
                agenda,
                resting: false,
                watch: None,
            }),
            next: AtomicU64::new(NEVER),
            watched: AtomicU64::new(NEVER),
            refused: AtomicBool::new(false),
            origin: clock::now(),
            post,
        })
    }

    pub(super) fn home(&self) -> &Arc<Home> {
        &self.home
    }

    /// Without a deadline? Exact for the worker, but for what was fired in its place.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.next.load(Ordering::Relaxed) == NEVER
    }

    #[inline]
    pub(super) fn is_due(&self, now: Instant) -> bool {
        !self.is_empty() && self.next.load(Ordering::Relaxed) <= self.nanos(now)
    }

    pub(super) fn add(&self, due: Due, waker: Waker) -> Arc<Entry> {
        let mut state = self.state.lock();
        let entry = state.agenda.add(due, waker, false);
        self.note_next(&mut state);
        entry
    }

    /// Takes out what is due at `now`, in order.
    pub(super) fn take_due(&self, now: Instant, due: &mut Vec<Waker>) {
        let mut state = self.state.lock();
        state.agenda.take_due(now, usize::MAX, due);
        self.note_next(&mut state);
    }

    /// The worker begins something: a watch is set if there is none in time.
    #[inline]
    pub(super) fn see_to(self: &Arc<Self>, busy: Busy) {
        let next = self.next.load(Ordering::Relaxed);
        // A poll does not ask again for what was refused: the question takes a while.
        let is_alone = || busy == Busy::Away && next != NEVER && self.is_refused();
        if wants_watch(next, self.watched.load(Ordering::Relaxed), busy) || is_alone() {
            self.set_watch(busy);
        }
    }

    #[cold]
    fn set_watch(self: &Arc<Self>, busy: Busy) {
        let mut state = self.state.lock();
        let aftermath = self.watch_from(&mut state, busy.grace());
        drop(state);
        let is_refused = !aftermath.finish();
        self.refused.store(is_refused, Ordering::Relaxed);
        if is_refused && busy == Busy::Away {
            self.give_up();
        }
    }

    fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// The worker may not come back and nobody will come for it: all look for themselves, on
    /// other workers if there are any.
    fn give_up(&self) {
        let mut early = Vec::new();
        let mut state = self.state.lock();
        state.agenda.take_early(&mut early);
        self.note_next(&mut state);
        drop(state);
        wake_all(&mut early);
    }

    /// The worker is about to sleep, until this instant at the latest.
    pub(super) fn rest(&self) -> Option<Instant> {
        let mut state = self.state.lock();
        state.resting = true;
        self.note_next(&mut state)
    }

    /// The worker is up again.
    pub(super) fn rise(&self) {
        self.state.lock().resting = false;
    }

    /// The watch: fires what has been due for too long.
    fn strike(self: &Arc<Self>) {
        let now = clock::now();
        let mut due = Vec::new();
        let mut state = self.state.lock();
        // Not this one, if it was replaced as it came.
        let stale = state.watch.take();
        self.watched.store(NEVER, Ordering::Relaxed);
        let mut grace = POLL_GRACE;
        if !state.resting {
            if let Some(overdue) = now.checked_sub(OVERDUE) {
                state.agenda.take_due(overdue, usize::MAX, &mut due);
            }
            if !due.is_empty() {
                grace = OVERDUE;
            }
        }
        let next = self.note_next(&mut state);
        let aftermath = match next {
            Some(_) if !state.resting => self.watch_from(&mut state, grace),
            _ => Aftermath::default(),
        };
        drop(state);
        // Served: this is the driver's thread.
        let _is_served = Aftermath { stale, ..aftermath }.finish();
        wake_all(&mut due);
    }

    /// The worker leaves: what waits goes to the driver.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        let mut aftermath = Aftermath {
            driver: None,
            stale: state.watch.take(),
        };
        if !state.agenda.is_empty() {
            let driver = Driver::with(|driver| driver.take_over(&mut state.agenda));
            aftermath.driver = Some(driver);
        }
        self.note_next(&mut state);
        drop(state);
        // Refused, the driver has woken early what it took over.
        let _is_served = aftermath.finish();
    }

    /// Sets a watch for `grace` after the first deadline.
    fn watch_from(self: &Arc<Self>, state: &mut State, grace: Duration) -> Aftermath {
        let Some(next) = self.note_next(state) else {
            return Aftermath::default();
        };
        let Some(at) = next.checked_add(grace) else {
            return Aftermath::default();
        };
        let (entry, driver) = (self.post)(at, Waker::from(self.clone()));
        let stale = state.watch.replace(entry);
        self.watched.store(self.nanos(at), Ordering::Relaxed);
        Aftermath { driver, stale }
    }

    fn note_next(&self, state: &mut State) -> Option<Instant> {
        let next = state.agenda.next();
        let nanos = next.map_or(NEVER, |next| self.nanos(next));
        self.next.store(nanos, Ordering::Relaxed);
        next
    }

    fn nanos(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.origin))
    }
}

/// More than 584 years are one less than never.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).map_or(NEVER - 1, |nanos| nanos.min(NEVER - 1))
}

impl Wake for Diary {
    fn wake(self: Arc<Self>) {
        self.strike();
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{Busy, Diary, HandedOver, NEVER, OVERDUE, POLL_GRACE, Post, nanos, wants_watch};
    use crate::timer::agenda::Agenda;
    use crate::timer::driver::Driver;
    use crate::timer::entry::{Entry, Keeper};
    use crate::timer::heap::Due;
    use std::cell::RefCell;
    use std::io;
    use std::sync::{Arc, mpsc};
    use std::task::Waker;
    use std::time::{Duration, Instant};

    const SOON: Duration = Duration::from_secs(60);

    fn tell(to: &mpsc::Sender<(u32, Instant)>, what: u32) -> Waker {
        let to = std::sync::Mutex::new(to.clone());
        waker_fn::waker_fn(move || {
            let to = to.lock().expect("nobody panics with it");
            to.send((what, Instant::now())).expect("the test listens");
        })
    }

    fn is_watched(diary: &Diary) -> bool {
        diary.state.lock().watch.is_some()
    }

    #[test]
    fn a_watch_is_wanted_where_none_comes_in_time() {
        let (poll, away) = (nanos(POLL_GRACE), nanos(OVERDUE));
        let table = [
            (NEVER, NEVER, Busy::Away, false),
            (5, NEVER, Busy::Polling, true),
            (5, 5 + 2 * poll, Busy::Polling, false),
            (5, 6 + 2 * poll, Busy::Polling, true),
            (5, 5 + 2 * poll, Busy::Away, true),
            (5, 5 + 2 * away, Busy::Away, false),
            (NEVER - 1, NEVER - 1, Busy::Away, false),
        ];
        for (next, watched, busy, expected) in table {
            let wanted = wants_watch(next, watched, busy);
            assert_eq!(wanted, expected, "{next} {watched} {busy:?}");
        }
    }

    #[test]
    fn a_worker_finds_what_is_due_in_order_and_nothing_early() {
        let (to, from) = mpsc::channel();
        let (diary, now) = (Diary::new(), Instant::now());
        let later = now + Duration::from_nanos(1);
        for (at, what) in [(later, 3), (now, 1), (now, 2)] {
            diary.add(Due::At(at), tell(&to, what));
        }
        for (time, expected) in [(now, &[1, 2][..]), (later, &[3])] {
            assert!(diary.is_due(time));
            let mut due = Vec::new();
            diary.take_due(time, &mut due);
            assert!(!diary.is_due(time));
            due.into_iter().for_each(Waker::wake);
            assert_eq!(
                from.try_iter().map(|(n, _)| n).collect::<Vec<_>>(),
                expected
            );
        }
        assert!(diary.is_empty());
        assert!(!is_watched(&diary), "nothing was begun");
    }

    #[test]
    fn equal_deadlines_are_taken_out_at_once() {
        let (diary, now) = (Diary::new(), Instant::now());
        for _ in 0..1_000 {
            diary.add(Due::At(now), Waker::noop().clone());
        }
        let mut due = Vec::new();
        diary.take_due(now, &mut due);
        assert_eq!(due.len(), 1_000);
    }

    #[test]
    fn what_falls_due_while_the_worker_is_away_is_fired_in_its_place() {
        for busy in [Busy::Polling, Busy::Away] {
            let (to, from) = mpsc::channel();
            let (diary, now) = (Diary::new(), Instant::now());
            let at = |n: u32| now + n * Duration::from_millis(5);
            for n in [2, 1] {
                diary.add(Due::At(at(n)), tell(&to, n));
            }
            diary.see_to(busy);
            for expected in [1, 2] {
                let (n, time) = from.recv_timeout(SOON).expect("it fires");
                assert_eq!(n, expected);
                assert!(time >= at(n) + OVERDUE, "the worker comes first");
            }
            // The watch has nothing more to come for.
            assert!(!is_watched(&diary) && diary.is_empty());
        }
    }

    #[test]
    fn a_watch_that_finds_the_worker_asleep_ends_until_it_begins_something() {
        // The test is the driver: a watch comes when it says so.
        let keep: Post = |at, watch| {
            let entry = Agenda::new(Keeper::Driver).add(Due::At(at), watch, true);
            (entry, None)
        };
        let (to, from) = mpsc::channel();
        let (diary, past) = (Diary::with(keep), Instant::now() - Duration::from_secs(1));
        diary.add(Due::At(past), tell(&to, 1));
        diary.see_to(Busy::Away);
        assert!(is_watched(&diary));
        assert_eq!(diary.rest(), Some(past));
        diary.strike();
        assert!(!is_watched(&diary));
        assert!(from.try_recv().is_err(), "the sleeper keeps its own time");
        diary.rise();
        diary.see_to(Busy::Away);
        assert!(is_watched(&diary));
        diary.strike();
        assert!(from.try_recv().is_ok());
    }

    #[test]
    fn a_nearer_deadline_brings_the_watch_forward() {
        let (to, from) = mpsc::channel();
        let (diary, now) = (Diary::new(), Instant::now());
        diary.add(Due::At(now + Duration::from_secs(3_600)), tell(&to, 2));
        diary.see_to(Busy::Polling);
        diary.add(Due::At(now), tell(&to, 1));
        diary.see_to(Busy::Polling);
        assert_eq!(from.recv_timeout(SOON).expect("it fires").0, 1);
    }

    thread_local! {
        static POSTED: RefCell<Vec<Arc<Entry>>> = const { RefCell::new(Vec::new()) };
    }

    fn remember(at: Instant, watch: Waker) -> (Arc<Entry>, Option<HandedOver>) {
        let entry = Agenda::new(Keeper::Driver).add(Due::At(at), watch, true);
        POSTED.with(|posted| posted.borrow_mut().push(entry.clone()));
        (entry, None)
    }

    /// The watch of a driver whose thread the system refuses.
    fn refuse(at: Instant, watch: Waker) -> (Arc<Entry>, Option<HandedOver>) {
        let driver = Driver::new(|_| Err(io::ErrorKind::WouldBlock.into()), SOON);
        let (entry, rest) = driver.put(Due::At(at), watch, true);
        (entry, Some(rest))
    }

    #[test]
    fn without_a_driver_nothing_is_pending_when_the_worker_goes_away() {
        let (to, from) = mpsc::channel();
        let diary = Diary::with(refuse);
        let far = Instant::now() + Duration::from_secs(3_600);
        diary.add(Due::At(far), tell(&to, 1));
        diary.see_to(Busy::Polling);
        assert!(from.try_recv().is_err(), "a poll comes back");
        diary.see_to(Busy::Away);
        assert_eq!(from.try_recv().expect("it looks for itself").0, 1);
        assert!(diary.is_empty());
        diary.close();
    }

    #[test]
    fn a_watch_that_comes_as_it_is_replaced_leaves_one_and_not_two() {
        let diary = Diary::with(remember);
        let far = Instant::now() + Duration::from_secs(3_600);
        diary.add(Due::At(far), Waker::noop().clone());
        diary.see_to(Busy::Polling);
        let replaced = POSTED.with(|posted| posted.borrow()[0].clone());
        let coming = replaced.fire().expect("it waits");
        diary.see_to(Busy::Away);
        for _ in 0..3 {
            coming.wake_by_ref();
            let waiting = POSTED.with(|posted| {
                let posted = posted.borrow();
                let is_waiting = |entry: &&Arc<Entry>| format!("{entry:?}").contains("Waiting");
                posted.iter().filter(is_waiting).count()
            });
            assert_eq!(waiting, 1);
        }
        diary.close();
    }

    #[test]
    fn what_waits_when_the_worker_leaves_fires_all_the_same() {
        let (to, from) = mpsc::channel();
        let (diary, now) = (Diary::new(), Instant::now());
        diary.add(Due::At(now + Duration::from_millis(1)), tell(&to, 1));
        diary.see_to(Busy::Polling);
        diary.close();
        assert!(diary.is_empty() && !is_watched(&diary));
        assert_eq!(from.recv_timeout(SOON).expect("it fires").0, 1);
        diary.close();
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::{Busy, Diary, HandedOver};
    use crate::base::sync::Arc;
    use crate::base::sync::atomic::{AtomicUsize, Ordering};
    use crate::base::sync::thread;
    use crate::timer::agenda::Agenda;
    use crate::timer::entry::{Entry, Keeper};
    use crate::timer::heap::Due;
    use std::task::{Wake, Waker};
    use std::time::{Duration, Instant};

    struct Wakes(AtomicUsize);
    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The model is the driver: it lets a watch come when it likes.
    fn keep(at: Instant, watch: Waker) -> (Arc<Entry>, Option<HandedOver>) {
        let entry = Agenda::new(Keeper::Driver).add(Due::At(at), watch, true);
        (entry, None)
    }

    fn come(diary: &Arc<Diary>) -> bool {
        let is_set = diary.state.lock().watch.is_some();
        if is_set {
            diary.strike();
        }
        is_set
    }

    /// Question: is every timer fired, once, of a worker that sleeps for a while and then begins
    /// something that never ends, whenever the watches come, and is there a watch for the rest?
    ///
    /// Bound: two timers and one for later, one sleep in between; one watch that comes at any time,
    /// and those that are set at the end. Every interleaving.
    ///
    /// Must fail when: a watch that has come is still believed in; a worker that is up again counts
    /// as asleep; nothing is set before the worker begins; a watch that leaves something behind
    /// sets no further one.
    #[test]
    fn loom_diary_of_a_worker_that_does_not_come_back() {
        loom::model(|| {
            let diary = Diary::with(keep);
            let wakes = Arc::new(Wakes(AtomicUsize::new(0)));
            let past = Instant::now().checked_sub(Duration::from_secs(1));
            let past = Due::from(past);
            drop(diary.add(past, Waker::from(wakes.clone())));
            let later = Instant::now().checked_add(Duration::from_secs(3_600));
            drop(diary.add(Due::from(later), Waker::noop().clone()));
            diary.see_to(Busy::Polling);
            let other = diary.clone();
            let driver = thread::spawn(move || come(&other));
            let _ = diary.rest();
            diary.rise();
            drop(diary.add(past, Waker::from(wakes.clone())));
            diary.see_to(Busy::Away);
            driver.join().unwrap();
            assert!(come(&diary), "a watch is set");
            assert_eq!(wakes.0.load(Ordering::Relaxed), 2);
            assert!(come(&diary), "and again, for what is left");
        });
    }
}
