//! Deadlines: nanosecond exact, never early, equal ones in order of registration.
//!
//! A [`Timer`] registers where it is polled: with the [timers of the thread](mod@local) while a
//! frame of that thread turns them (a loop that runs, a `block_on`), in the [diary] of the worker
//! whose task it is, else with the [driver], one thread for the whole process that exists only
//! while it is needed. Polled elsewhere the next time, it registers there and leaves the
//! old place; save that a worker's task leaves its timer with the driver, and with another worker
//! that has polled it. What decides that a timer has elapsed is a clock, its agenda's or the one
//! read at the poll, never the fact that it was woken; so a wake may be late, early or doubled
//! without any harm but time.
//!
//! * [`heap`]: the order.
//! * [`entry`]: what a timer and its agenda share.
//! * [`agenda`]: entries in order, those nobody waits for swept out.
//! * [`diary`]: the agenda of a pool worker, which is fired for it when it cannot.
//! * [`driver`]: the agenda of everybody without a loop, with its thread.
//! * [`mod@local`]: the agenda of a thread.

#![forbid(unsafe_code)]

mod agenda;
mod diary;
mod driver;
mod entry;
mod heap;
mod local;

use std::cell::Cell;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::base::contain::contained_drop;
use crate::base::sync::{Arc, Mutex, local};
use crate::timer::driver::Driver;
use crate::timer::entry::{Entry, Renewal};
use crate::timer::heap::Due;
use crate::timer::local::Place;

pub(crate) use diary::Busy;
pub(crate) use local::{Bookkeeper, Timers, TimersFrame};

/// One deadline; may be polled and dropped on any thread.
///
/// Dropping it lets its waker go at once, whoever's agenda it stands in.
#[derive(Debug)]
pub(crate) struct Timer {
    due: Due,
    entry: Option<Arc<Entry>>,
}

impl Timer {
    /// A timer for `deadline`; `None` is never.
    pub(crate) fn at(deadline: Option<Instant>) -> Self {
        Self {
            due: deadline.into(),
            entry: None,
        }
    }

    /// The instant it waits for.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.due {
            Due::At(instant) => Some(instant),
            Due::Never => None,
        }
    }

    /// Ready once the deadline has passed, and from then on.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let place = Timers::place(cx.waker());
        if let Some(entry) = &self.entry {
            match place.renew(entry, cx.waker()) {
                Renewal::Fired => {
                    self.entry = None;
                    return Poll::Ready(());
                }
                Renewal::Done if self.is_over(&place) => {
                    self.release();
                    return Poll::Ready(());
                }
                Renewal::Done => return Poll::Pending,
                Renewal::Astray => self.release(),
            }
        }
        if self.is_over(&place) {
            return over_at_once(cx);
        }
        self.entry = Some(place.add(self.due, cx.waker().clone()));
        Poll::Pending
    }

    fn is_over(&self, place: &Place) -> bool {
        match self.due {
            Due::At(instant) => place.now() >= instant,
            Due::Never => false,
        }
    }

    fn release(&mut self) {
        if let Some(waker) = self.entry.take().and_then(|entry| entry.release()) {
            contained_drop(waker);
        }
    }
}

local! {
    /// Timers of this thread that were over when they were first polled, since the last yield.
    static AT_ONCE: Cell<u32> = Cell::new(0);
}

/// So many such timers in a row may be ready at once.
const AT_ONCE_MAX: u32 = 64;

/// A timer is over at its first poll: ready, but now and then not before everybody else has
/// had a turn. A task that does nothing but sleep for no time would never give way otherwise.
fn over_at_once(cx: &Context<'_>) -> Poll<()> {
    let count = AT_ONCE.try_with(|count| count.replace(count.get() + 1));
    if count.unwrap_or(0) < AT_ONCE_MAX {
        return Poll::Ready(());
    }
    let _ = AT_ONCE.try_with(|count| count.set(0));
    cx.waker().wake_by_ref();
    Poll::Pending
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.release();
    }
}

/// Calls `f` on the driver's thread once `deadline` has passed; never, for `None`. False if it
/// will not come, because there is no thread to be had.
///
/// Its panics end there. It must not block: it holds up every other timer.
#[must_use]
pub(crate) fn call_at(deadline: Option<Instant>, f: impl FnOnce() + Send + 'static) -> bool {
    let Some(instant) = deadline else {
        return true;
    };
    let f = Mutex::new(Some(f));
    let call: Waker = waker_fn::waker_fn(move || {
        let f = f.lock().take();
        if let Some(f) = f {
            f();
        }
    });
    Driver::with(|driver| driver.call(Due::At(instant), call))
}

#[cfg(all(test, loom))]
mod models;

#[cfg(all(test, not(any(loom, shuttle))))]
pub(crate) mod tests {
    use super::{Timer, Timers, call_at};
    use crate::base::clock::Clock;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, mpsc};
    use std::task::{Context, Wake, Waker};
    use std::time::{Duration, Instant};

    const TICK: Duration = Duration::from_nanos(1);
    const SOON: Duration = Duration::from_secs(60);

    #[derive(Default)]
    struct Wakes(AtomicUsize);
    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    impl Wakes {
        fn count(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn wakes() -> (Arc<Wakes>, Waker) {
        let wakes = Arc::new(Wakes::default());
        (wakes.clone(), Waker::from(wakes))
    }

    /// Runs `test` on a thread of its own, which lives by a clock that stands still.
    pub(crate) fn with_clock(test: impl FnOnce(Clock) + Send + 'static) {
        std::thread::spawn(move || {
            let clock = Clock::virtual_now();
            Timers::live_by(clock.clone());
            test(clock);
        })
        .join()
        .expect("the test on that thread holds");
    }

    #[test]
    fn a_timer_is_never_early_and_fires_on_the_nanosecond() {
        with_clock(|clock| {
            let frame = Timers::enter();
            let (wakes, waker) = wakes();
            let mut cx = Context::from_waker(&waker);
            let mut timer = Timer::at(clock.now().checked_add(3 * TICK));
            assert!(timer.poll(&mut cx).is_pending());
            for _ in 0..2 {
                clock.advance(TICK);
                assert_eq!(frame.fire_due(10), 0);
                assert!(timer.poll(&mut cx).is_pending());
            }
            assert_eq!(frame.next_deadline(), Some(clock.now() + TICK));
            clock.advance(TICK);
            assert_eq!(frame.fire_due(10), 1);
            assert_eq!(wakes.count(), 1);
            assert!(timer.poll(&mut cx).is_ready());
            assert!(timer.poll(&mut cx).is_ready(), "from then on");
        });
    }

    #[test]
    fn a_dropped_timer_lets_its_waker_go_on_any_thread() {
        with_clock(|clock| {
            let frame = Timers::enter();
            let (wakes, waker) = wakes();
            let mut timer = Timer::at(clock.now().checked_add(SOON));
            assert!(timer.poll(&mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            assert_eq!(Arc::strong_count(&wakes), 2);
            std::thread::spawn(move || drop(timer)).join().unwrap();
            assert_eq!(Arc::strong_count(&wakes), 1, "at once, no turn needed");
            assert_eq!(frame.next_deadline(), None);
        });
    }

    #[test]
    fn only_the_waker_of_the_last_poll_is_woken() {
        with_clock(|clock| {
            let frame = Timers::enter();
            let ((first, early), (second, late)) = (wakes(), wakes());
            let mut timer = Timer::at(clock.now().checked_add(TICK));
            assert!(timer.poll(&mut Context::from_waker(&early)).is_pending());
            assert!(timer.poll(&mut Context::from_waker(&late)).is_pending());
            drop(early);
            assert_eq!(Arc::strong_count(&first), 1);
            clock.advance(TICK);
            frame.fire_due(10);
            assert_eq!((first.count(), second.count()), (0, 1));
        });
    }

    #[test]
    fn a_timer_left_by_the_last_frame_fires_through_the_driver() {
        let (to, from) = mpsc::channel();
        let to = std::sync::Mutex::new(to);
        let waker = waker_fn::waker_fn(move || to.lock().unwrap().send(Instant::now()).unwrap());
        let deadline = Instant::now() + Duration::from_millis(30);
        let mut timer = Timer::at(Some(deadline));
        let outer = Timers::enter();
        let inner = Timers::enter();
        assert!(timer.poll(&mut Context::from_waker(&waker)).is_pending());
        drop(inner);
        assert_eq!(
            outer.next_deadline(),
            Some(deadline),
            "the outer frame keeps it"
        );
        drop(outer);
        assert!(from.recv_timeout(SOON).unwrap() >= deadline);
        assert!(timer.poll(&mut Context::from_waker(&waker)).is_ready());
    }

    #[test]
    fn a_timer_polled_in_another_place_moves_there() {
        let (wakes, waker) = wakes();
        let mut cx = Context::from_waker(&waker);
        let deadline = Instant::now() + Duration::from_secs(3_600);
        let mut timer = Timer::at(Some(deadline));
        assert!(timer.poll(&mut cx).is_pending());
        let frame = Timers::enter();
        assert_eq!(frame.next_deadline(), None);
        assert!(timer.poll(&mut cx).is_pending());
        assert_eq!(frame.next_deadline(), Some(deadline));
        {
            let _aside = Timers::step_aside();
            assert!(timer.poll(&mut cx).is_pending());
        }
        assert_eq!(frame.next_deadline(), None);
        drop((timer, waker));
        assert_eq!(Arc::strong_count(&wakes), 1);
    }

    #[test]
    fn a_waker_that_makes_and_polls_a_timer_when_it_is_called_finds_no_borrow() {
        with_clock(|clock| {
            let frame = Timers::enter();
            let deadline = clock.now().checked_add(TICK);
            let waker = waker_fn::waker_fn(move || {
                let mut nested = Timer::at(deadline.and_then(|at| at.checked_add(SOON)));
                assert!(
                    nested
                        .poll(&mut Context::from_waker(Waker::noop()))
                        .is_pending()
                );
                assert_eq!(Timers::enter().fire_due(10), 0);
            });
            let mut timer = Timer::at(deadline);
            assert!(timer.poll(&mut Context::from_waker(&waker)).is_pending());
            clock.advance(TICK);
            assert_eq!(frame.fire_due(10), 1);
        });
    }

    #[test]
    fn a_call_comes_once_its_time_has_come() {
        let (to, from) = mpsc::channel();
        let deadline = Instant::now() + Duration::from_millis(10);
        assert!(call_at(Some(deadline), move || {
            to.send(Instant::now()).unwrap();
        }));
        assert!(from.recv_timeout(SOON).unwrap() >= deadline);
    }

    #[test]
    fn a_waker_that_panics_harms_no_other_timer() {
        with_clock(|clock| {
            let frame = Timers::enter();
            let bomb = waker_fn::waker_fn(|| panic!("waker"));
            let (wakes, waker) = wakes();
            let deadline = clock.now().checked_add(TICK);
            let (mut first, mut second) = (Timer::at(deadline), Timer::at(deadline));
            assert!(first.poll(&mut Context::from_waker(&bomb)).is_pending());
            assert!(second.poll(&mut Context::from_waker(&waker)).is_pending());
            clock.advance(TICK);
            assert_eq!(frame.fire_due(10), 2);
            assert_eq!(wakes.count(), 1);
        });
    }

    /// Timers wander between the agendas of threads and the driver, with a new waker at each
    /// step; some are dropped on the way. The rest must fire, and none early.
    #[test]
    fn timers_that_wander_between_threads_fire_on_time_and_leave_nothing_behind() {
        use crate::base::random::Random;
        let steps = if cfg!(miri) { 5 } else { 300 };
        let alive = Arc::new(());
        let threads: Vec<_> = (0..3).map(|_| mpsc::channel::<(Timer, u32)>()).collect();
        let senders: Vec<_> = threads.iter().map(|(to, _)| to.clone()).collect();
        let walkers: Vec<_> = threads
            .into_iter()
            .enumerate()
            .map(|(me, (_, from))| {
                let (next, alive) = (senders[(me + 1) % 3].clone(), alive.clone());
                std::thread::spawn(move || {
                    let random = Random::new(me as u64);
                    for _ in 0..steps {
                        let after = Duration::from_micros(random.below(2_000) as u64);
                        let timer = Timer::at(Instant::now().checked_add(after));
                        let _ = next.send((timer, 4));
                        let (mut timer, hops) = from.recv_timeout(SOON).unwrap();
                        let held = alive.clone();
                        let waker = waker_fn::waker_fn(move || drop(held.clone()));
                        let mut cx = Context::from_waker(&waker);
                        let frame = (random.below(2) == 0).then(Timers::enter);
                        let done = timer.poll(&mut cx).is_ready();
                        if let Some(frame) = &frame {
                            frame.fire_due(8);
                        }
                        assert!(!done || timer.deadline() <= Some(Instant::now()));
                        if hops > 0 && random.below(4) > 0 {
                            let _ = next.send((timer, hops - 1));
                        } else if random.below(2) == 0 {
                            let (to, woken) = mpsc::channel();
                            let to = std::sync::Mutex::new(to);
                            let waker = waker_fn::waker_fn(move || {
                                let _ = to.lock().unwrap().send(());
                            });
                            drop(frame);
                            if timer.poll(&mut Context::from_waker(&waker)).is_pending() {
                                woken.recv_timeout(SOON).expect("it fires");
                                assert!(timer.deadline() <= Some(Instant::now()));
                            }
                        }
                    }
                })
            })
            .collect();
        drop(senders);
        walkers
            .into_iter()
            .for_each(|walker| walker.join().unwrap());
        let end = Instant::now() + SOON;
        while Arc::strong_count(&alive) > 1 {
            assert!(Instant::now() < end, "a waker is left behind");
            std::thread::yield_now();
        }
    }
}
