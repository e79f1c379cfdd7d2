//! Promises of `sync`: events, foreign events and locks from async code, threads that give
//! back their panic. Those that improve on the Python originals say on what.

#![cfg(not(loom))]

mod kit;

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context as PollContext, Poll, Waker};
use std::time::Duration;

use kit::{Gate, counting_waker, eventually, foreign_block_on, lock, panicking_waker, watchdog};
use portage::sync::{
    BlockingEvent, Event, Polling, ThreadWithException, async_lock, async_null_context,
    await_event_with_stop, await_threading_event,
};
use portage::{ContextVar, block_on};

const SOON: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(5);

fn is_send<T: Send>(value: T) -> T {
    value
}

/// A foreign event that counts its waits and lets the test see them begin.
#[derive(Default)]
struct Foreign {
    set: Mutex<bool>,
    changed: Condvar,
    waits: Mutex<Vec<Duration>>,
    threads: Mutex<BTreeSet<String>>,
    ended: AtomicUsize,
}

impl Foreign {
    fn set(&self) {
        *lock(&self.set) = true;
        self.changed.notify_all();
    }

    fn waits(&self) -> Vec<Duration> {
        lock(&self.waits).clone()
    }

    fn wait_begun(&self, count: usize) {
        eventually("a round", || self.waits().len() >= count);
    }
}

impl BlockingEvent for Foreign {
    fn is_set(&self) -> bool {
        *lock(&self.set)
    }

    fn wait_timeout(&self, timeout: Duration) -> bool {
        lock(&self.waits).push(timeout);
        let name = std::thread::current().name().unwrap_or("?").to_owned();
        lock(&self.threads).insert(name);
        let set = lock(&self.set);
        let (set, _) = self
            .changed
            .wait_timeout_while(set, timeout, |set| !*set)
            .expect("no holder of this lock panics");
        let set = *set;
        self.ended.fetch_add(1, Ordering::Release);
        set
    }
}

mod event {
    use super::*;

    #[test]
    fn whoever_waits_is_released_even_if_the_event_is_cleared_at_once() {
        let event = Event::new();
        let (waker, wakes) = counting_waker();
        let mut cx = PollContext::from_waker(&waker);
        let mut first = event.wait_async();
        let mut second = event.wait_async();
        assert!(pin!(&mut first).poll(&mut cx).is_pending());
        event.set();
        event.clear();
        assert_eq!(wakes.count(), 1);
        assert!(pin!(&mut first).poll(&mut cx).is_ready());
        assert!(
            pin!(&mut second).poll(&mut cx).is_ready(),
            "it waited since the call"
        );
        assert!(!event.is_set());
        assert!(
            pin!(event.wait_async()).poll(&mut cx).is_pending(),
            "a later one waits"
        );
    }

    #[test]
    fn a_thousand_threads_and_tasks_are_released_by_one_set() {
        let _watchdog = watchdog(30);
        let event = Arc::new(Event::new());
        let ready = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..20)
            .map(|_| {
                let (event, ready) = (event.clone(), ready.clone());
                std::thread::spawn(move || {
                    ready.fetch_add(1, Ordering::Relaxed);
                    event.wait();
                })
            })
            .collect();
        let tasks: Vec<_> = (0..1_000).map(|_| event.wait_async()).collect();
        eventually("all wait", || ready.load(Ordering::Relaxed) == 20);
        event.set();
        for task in tasks {
            foreign_block_on(task);
        }
        for thread in threads {
            thread.join().unwrap();
        }
    }

    #[test]
    fn a_dropped_wait_lets_its_waker_go_at_once() {
        let event = Event::new();
        let (waker, wakes) = counting_waker();
        let mut wait = event.wait_async();
        let _ = pin!(&mut wait).poll(&mut PollContext::from_waker(&waker));
        drop(waker);
        assert_eq!(Arc::strong_count(&wakes), 2);
        drop(wait);
        assert_eq!(Arc::strong_count(&wakes), 1);
        event.set();
        assert_eq!(wakes.count(), 0);
    }

    #[test]
    fn a_panicking_waker_keeps_nobody_else_from_being_released() {
        let event = Event::new();
        let (waker, wakes) = counting_waker();
        let mut bad = event.wait_async();
        let mut good = event.wait_async();
        let bomb = panicking_waker();
        let _ = pin!(&mut bad).poll(&mut PollContext::from_waker(&bomb));
        let _ = pin!(&mut good).poll(&mut PollContext::from_waker(&waker));
        event.set();
        assert_eq!(wakes.count(), 1);
    }

    #[test]
    fn a_wake_may_come_back_to_the_event() {
        let event = Arc::new(Event::new());
        let remote = event.clone();
        let waker = Waker::from(Arc::new(kit::WakeFn(move || {
            remote.clear();
            remote.set();
        })));
        let mut wait = event.wait_async();
        let _ = pin!(&mut wait).poll(&mut PollContext::from_waker(&waker));
        event.set();
        assert!(event.is_set());
    }

    #[test]
    fn the_last_waker_counts() {
        let event = Event::new();
        let (old, old_wakes) = counting_waker();
        let (new, new_wakes) = counting_waker();
        let mut wait = event.wait_async();
        let _ = pin!(&mut wait).poll(&mut PollContext::from_waker(&old));
        let _ = pin!(&mut wait).poll(&mut PollContext::from_waker(&new));
        event.set();
        assert_eq!((old_wakes.count(), new_wakes.count()), (0, 1));
    }

    #[test]
    fn timeouts_of_zero_look_once_and_of_ever_wait() {
        let _watchdog = watchdog(30);
        let event = Arc::new(Event::default());
        assert!(!event.wait_timeout(Duration::ZERO));
        assert!(!event.wait_timeout(TICK));
        let remote = event.clone();
        let setter = std::thread::spawn(move || remote.set());
        assert!(event.wait_timeout(Duration::MAX));
        assert!(event.wait_timeout(Duration::ZERO));
        setter.join().unwrap();
    }
}

mod awaiting {
    use super::*;

    #[test]
    fn our_own_event_needs_no_pool_thread() {
        let _watchdog = watchdog(30);
        let event = Arc::new(Event::new());
        let mut wait = pin!(is_send(await_threading_event(
            &event,
            "own",
            None,
            Polling::Every(Duration::ZERO)
        )));
        let (waker, wakes) = counting_waker();
        let mut cx = PollContext::from_waker(&waker);
        assert!(wait.as_mut().poll(&mut cx).is_pending());
        assert!(wait.as_mut().poll(&mut cx).is_pending());
        assert_eq!(wakes.count(), 0, "no tick woke it");
        event.set();
        assert_eq!(wait.as_mut().poll(&mut cx), Poll::Ready(true));
    }

    // bitfount 3 to 8 took a timeout of 0 for "no timeout".
    #[test]
    fn a_timeout_of_zero_looks_once() {
        let _watchdog = watchdog(30);
        let zero = Some(Duration::ZERO);
        let own = Arc::new(Event::new());
        let foreign = Arc::new(Foreign::default());
        for set in [false, true] {
            assert_eq!(
                block_on(await_threading_event(&own, "own", zero, Polling::default())),
                set
            );
            let wait = await_threading_event(&foreign, "foreign", zero, Polling::default());
            assert_eq!(block_on(wait), set);
            own.set();
            foreign.set();
        }
        assert!(foreign.waits().is_empty());
    }

    #[test]
    fn an_explicit_timeout_is_one_wait_of_that_length_whatever_the_polling() {
        let _watchdog = watchdog(30);
        let foreign = Arc::new(Foreign::default());
        let limit = Duration::from_millis(20);
        let wait = is_send(await_threading_event(
            &foreign,
            "foreign",
            Some(limit),
            Polling::Every(Duration::from_millis(1)),
        ));
        assert!(!block_on(wait));
        assert_eq!(foreign.waits(), [limit]);
        let own = Arc::new(Event::new());
        let wait = await_threading_event(&own, "own", Some(TICK), Polling::NoPolling);
        assert!(!block_on(wait));
    }

    #[test]
    fn a_foreign_event_is_waited_for_in_rounds_on_pool_threads() {
        let _watchdog = watchdog(30);
        let foreign = Arc::new(Foreign::default());
        let remote = foreign.clone();
        let setter = std::thread::spawn(move || {
            remote.wait_begun(3);
            remote.set();
        });
        let wait = await_threading_event(&foreign, "foreign", None, Polling::Every(TICK));
        assert!(foreign_block_on(wait));
        setter.join().unwrap();
        assert!(foreign.waits().iter().all(|wait| *wait == TICK));
        let threads = lock(&foreign.threads).clone();
        assert!(
            threads.iter().all(|name| name.starts_with("portage-")),
            "{threads:?}"
        );
    }

    #[test]
    fn without_polling_there_is_one_round() {
        let _watchdog = watchdog(30);
        let foreign = Arc::new(Foreign::default());
        let remote = foreign.clone();
        let setter = std::thread::spawn(move || {
            remote.wait_begun(1);
            remote.set();
        });
        let wait = await_threading_event(&foreign, "foreign", None, Polling::NoPolling);
        assert!(block_on(wait));
        setter.join().unwrap();
        assert_eq!(foreign.waits().len(), 1);
    }

    #[test]
    fn a_dropped_wait_ends_its_thread_with_the_round() {
        let _watchdog = watchdog(30);
        let foreign = Arc::new(Foreign::default());
        {
            let polling = Polling::Every(Duration::from_millis(20));
            let mut wait = pin!(await_threading_event(&foreign, "foreign", None, polling));
            let mut cx = PollContext::from_waker(Waker::noop());
            assert!(wait.as_mut().poll(&mut cx).is_pending());
            foreign.wait_begun(1);
        }
        eventually("the round ends", || {
            foreign.ended.load(Ordering::Acquire) == 1
        });
        eventually("the pool lets go", || Arc::strong_count(&foreign) == 1);
        assert_eq!(foreign.waits().len(), 1, "nobody began another");
    }

    struct Panics;

    impl BlockingEvent for Panics {
        fn is_set(&self) -> bool {
            false
        }
        fn wait_timeout(&self, _: Duration) -> bool {
            panic!("broken event")
        }
    }

    #[test]
    fn the_panic_of_a_foreign_event_comes_to_the_waiter() {
        let _watchdog = watchdog(30);
        let payload = std::panic::catch_unwind(|| {
            let event = Arc::new(Panics);
            block_on(await_threading_event(
                &event,
                "bad",
                None,
                Polling::default(),
            ))
        });
        assert_eq!(kit::text_of(&*payload.unwrap_err()), "broken event");
    }
}

mod event_with_stop {
    use super::*;

    #[test]
    fn a_stop_that_is_set_wins_over_an_event_that_is_set() {
        let (event, stop) = (Arc::new(Event::new()), Arc::new(Event::new()));
        let mut cx = PollContext::from_waker(Waker::noop());
        let table = [(false, false), (true, false), (false, true), (true, true)];
        for (event_set, stop_set) in table {
            event.clear();
            stop.clear();
            if event_set {
                event.set();
            }
            if stop_set {
                stop.set();
            }
            let wait = await_event_with_stop(&event, &stop, "event", Polling::NoPolling);
            let polled = pin!(is_send(wait)).poll(&mut cx);
            let expected = match (event_set, stop_set) {
                (false, false) => Poll::Pending,
                (_, stopped) => Poll::Ready(!stopped),
            };
            assert_eq!(polled, expected, "event {event_set}, stop {stop_set}");
        }
    }

    // bitfount looked at the stop between ticks only.
    #[test]
    fn a_native_stop_wakes_at_once_and_without_a_tick() {
        let (event, stop) = (Arc::new(Event::new()), Arc::new(Event::new()));
        let (waker, wakes) = counting_waker();
        let mut cx = PollContext::from_waker(&waker);
        let hour = Polling::Every(Duration::from_secs(3_600));
        let mut wait = pin!(await_event_with_stop(&event, &stop, "event", hour));
        assert!(wait.as_mut().poll(&mut cx).is_pending());
        stop.set();
        assert_eq!(wakes.count(), 1);
        assert_eq!(wait.as_mut().poll(&mut cx), Poll::Ready(false));
    }

    #[test]
    fn the_first_of_two_sets_counts_whenever_the_task_comes_to_look() {
        for event_first in [true, false] {
            let (event, stop) = (Arc::new(Event::new()), Arc::new(Event::new()));
            let mut cx = PollContext::from_waker(Waker::noop());
            let mut wait = pin!(await_event_with_stop(
                &event,
                &stop,
                "event",
                Polling::default()
            ));
            assert!(wait.as_mut().poll(&mut cx).is_pending());
            let (first, second) = if event_first {
                (&event, &stop)
            } else {
                (&stop, &event)
            };
            first.set();
            first.clear();
            second.set();
            first.set();
            assert_eq!(wait.as_mut().poll(&mut cx), Poll::Ready(event_first));
        }
    }

    #[test]
    fn a_native_stop_ends_the_wait_for_a_foreign_event_before_its_round_ends() {
        let _watchdog = watchdog(30);
        let foreign = Arc::new(Foreign::default());
        let stop = Arc::new(Event::new());
        let (remote, stopper) = (foreign.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            remote.wait_begun(1);
            stopper.set();
        });
        let polling = Polling::Every(SOON);
        assert!(!block_on(await_event_with_stop(
            &foreign, &stop, "foreign", polling
        )));
        assert_eq!(
            foreign.ended.load(Ordering::Acquire),
            0,
            "it did not wait for the round"
        );
        thread.join().unwrap();
        foreign.set();
    }

    #[test]
    fn foreign_events_on_both_sides_are_seen() {
        let _watchdog = watchdog(30);
        for event_first in [true, false] {
            let (event, stop) = (Arc::new(Foreign::default()), Arc::new(Foreign::default()));
            let first = if event_first {
                event.clone()
            } else {
                stop.clone()
            };
            let setter = std::thread::spawn(move || {
                first.wait_begun(2);
                first.set();
            });
            let wait = await_event_with_stop(&event, &stop, "event", Polling::Every(TICK));
            assert_eq!(block_on(is_send(wait)), event_first);
            setter.join().unwrap();
        }
    }

    #[test]
    fn a_foreign_stop_that_is_set_wins_too() {
        let (event, stop) = (Arc::new(Event::new()), Arc::new(Foreign::default()));
        event.set();
        stop.set();
        let wait = await_event_with_stop(&event, &stop, "event", Polling::default());
        assert!(!block_on(wait));
        assert!(stop.waits().is_empty());
    }
}

mod locks {
    use super::*;

    fn locks(value: u32) -> Arc<parking_lot::Mutex<u32>> {
        Arc::new(parking_lot::Mutex::new(value))
    }

    #[test]
    fn a_free_lock_is_taken_at_the_first_poll() {
        let counter = locks(1);
        let mut cx = PollContext::from_waker(Waker::noop());
        let mut wait = pin!(is_send(async_lock(&counter, "counter", Polling::default())));
        let Poll::Ready(mut guard) = wait.as_mut().poll(&mut cx) else {
            panic!("the lock is free");
        };
        *guard += 1;
        assert!(counter.try_lock().is_none());
        drop(guard);
        assert_eq!(*counter.lock(), 2);
    }

    #[test]
    fn a_guard_goes_to_another_thread_and_is_released_there() {
        let counter = locks(1);
        let guard = block_on(async_lock(&counter, "counter", Polling::default()));
        std::thread::spawn(move || drop(guard)).join().unwrap();
        assert!(counter.try_lock().is_some());
    }

    #[test]
    fn a_held_lock_is_waited_for_round_after_round() {
        let _watchdog = watchdog(30);
        for polling in [
            Polling::Every(Duration::from_millis(2)),
            Polling::Every(Duration::ZERO),
            Polling::Every(Duration::MAX),
            Polling::NoPolling,
        ] {
            let counter = locks(1);
            let held = counter.lock_arc();
            let (waker, wakes) = counting_waker();
            let mut cx = PollContext::from_waker(&waker);
            let mut wait = pin!(async_lock(&counter, "counter", polling));
            assert!(wait.as_mut().poll(&mut cx).is_pending());
            if matches!(polling, Polling::Every(tick) if tick < SOON) {
                eventually("a round ends", || wakes.count() > 0);
                assert!(wait.as_mut().poll(&mut cx).is_pending(), "still held");
            }
            drop(held);
            assert_eq!(*block_on(wait), 1);
        }
    }

    // bitfount leaks the lock for good; others release another holder's.
    #[test]
    fn a_waiter_dropped_at_any_moment_neither_keeps_the_lock_nor_releases_anothers() {
        let _watchdog = watchdog(60);
        let counter = locks(0);
        let mut cx = PollContext::from_waker(Waker::noop());
        // while it waits
        let held = counter.lock_arc();
        {
            let mut wait = pin!(async_lock(&counter, "counter", Polling::NoPolling));
            assert!(wait.as_mut().poll(&mut cx).is_pending());
        }
        assert!(counter.try_lock().is_none(), "the holder still holds");
        drop(held);
        eventually("the late guard is released", || {
            counter.try_lock().is_some()
        });
        // after the guard has arrived on the pool thread, before the future has seen it
        let held = counter.lock_arc();
        let (waker, wakes) = counting_waker();
        {
            let mut wait = pin!(async_lock(&counter, "counter", Polling::NoPolling));
            let mut heard = PollContext::from_waker(&waker);
            assert!(wait.as_mut().poll(&mut heard).is_pending());
            drop(held);
            eventually("the guard has arrived", || wakes.count() == 1);
            assert!(
                counter.try_lock().is_none(),
                "the guard waits for the future"
            );
        }
        assert!(counter.try_lock().is_some(), "released with the future");
        // around the hand-over: drop and unlock race
        for _ in 0..200 {
            let held = counter.lock_arc();
            let mut wait = Box::pin(async_lock(&counter, "counter", Polling::NoPolling));
            assert!(wait.as_mut().poll(&mut cx).is_pending());
            std::thread::scope(|scope| {
                scope.spawn(move || drop(held));
                drop(wait);
            });
            let mut mine = counter.lock();
            *mine += 1;
            assert!(
                counter.try_lock().is_none(),
                "released under another holder"
            );
        }
        assert_eq!(*counter.lock(), 200);
    }

    #[test]
    fn many_tasks_and_threads_exclude_each_other() {
        let _watchdog = watchdog(60);
        let counter = locks(0);
        let threads: Vec<_> = (0..4)
            .map(|index| {
                let counter = counter.clone();
                std::thread::spawn(move || {
                    for _ in 0..50 {
                        let wait = async_lock(&counter, "counter", Polling::default());
                        let mut guard = if index % 2 == 0 {
                            block_on(wait)
                        } else {
                            counter.lock_arc()
                        };
                        let seen = *guard;
                        std::thread::yield_now();
                        *guard = seen + 1;
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(*counter.lock(), 200);
    }

    #[test]
    fn the_null_context_holds_nothing() {
        let guard = block_on(is_send(async_null_context()));
        drop(is_send(guard));
    }
}

mod threads {
    use super::*;

    static NAME: ContextVar<&str> = ContextVar::new("name");

    #[test]
    fn join_gives_the_value() {
        let thread = ThreadWithException::spawn(|| 42).unwrap();
        assert_eq!(thread.join(), 42);
    }

    #[test]
    fn join_goes_on_with_the_panic_whatever_its_payload() {
        let _watchdog = watchdog(30);
        let thread = ThreadWithException::spawn(|| -> u8 { std::panic::panic_any(7_u64) }).unwrap();
        let joined = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| thread.join()));
        assert_eq!(joined.unwrap_err().downcast_ref(), Some(&7_u64));
        let thread = ThreadWithException::spawn(|| -> u8 { panic!("boom") }).unwrap();
        let payload = thread.try_join().unwrap_err().into_panic().unwrap();
        assert_eq!(kit::text_of(&*payload), "boom");
    }

    #[test]
    fn a_timed_join_says_whether_the_thread_still_runs() {
        let _watchdog = watchdog(30);
        let gate = Gate::new();
        let inside = gate.clone();
        let mut thread = ThreadWithException::spawn(move || {
            inside.pass();
            7
        })
        .unwrap();
        gate.wait_entered(1);
        assert!(thread.join_timeout(Duration::ZERO).is_none());
        assert!(thread.join_timeout(TICK).is_none());
        assert!(thread.is_alive());
        gate.open();
        assert_eq!(thread.join_timeout(Duration::MAX).unwrap().unwrap(), 7);
        assert!(!thread.is_alive());
        let second = thread.join_timeout(Duration::ZERO).unwrap().unwrap_err();
        assert!(second.is_consumed());
    }

    #[test]
    fn it_runs_in_the_context_of_the_spawn_and_keeps_its_changes() {
        let _outer = NAME.scope("outer");
        let thread = ThreadWithException::spawn_named("named", || {
            let seen = (NAME.get(), std::thread::current().name().map(str::to_owned));
            NAME.set("inner");
            seen
        })
        .unwrap();
        assert_eq!(thread.name(), Some("named"));
        assert_eq!(thread.join(), (Some("outer"), Some("named".to_owned())));
        assert_eq!(NAME.get(), Some("outer"));
    }

    #[test]
    fn a_nul_in_the_name_is_an_error() {
        let refused = ThreadWithException::spawn_named("a\0b", || unreachable!());
        let error: std::io::Error = refused.map(|_: ThreadWithException<()>| ()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("NUL"), "{error}");
        assert_eq!(
            ThreadWithException::spawn_named("", || 1).unwrap().join(),
            1
        );
    }

    #[test]
    fn a_thread_that_joins_itself_gets_an_error() {
        let _watchdog = watchdog(30);
        type Slot = Arc<Mutex<Option<ThreadWithException<bool>>>>;
        let slot = Slot::default();
        let gate = Gate::new();
        let (inside, own) = (gate.clone(), slot.clone());
        let (told, answer) = std::sync::mpsc::channel();
        let thread = ThreadWithException::spawn(move || {
            inside.pass();
            let own = lock(&own).take().expect("the test has put it there");
            told.send(own.try_join().unwrap_err().is_would_deadlock())
                .unwrap();
            true
        });
        *lock(&slot) = Some(thread.unwrap());
        gate.open();
        assert!(answer.recv().unwrap());
    }
}
