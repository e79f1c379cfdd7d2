//! `Event`, foreign events, and waiting for either with a stop.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use portage::block_on;
use portage::sync::{BlockingEvent, Event, Polling, await_event_with_stop, await_threading_event};

use crate::kit::{self, Diary, counting_waker, lock, poll_with, watchdog};

const SHORT: Duration = Duration::from_millis(10);

/// An event of somebody else, who knows only blocking waits.
#[derive(Default)]
struct Foreign {
    set: Mutex<bool>,
    changed: Condvar,
    waits: Mutex<Vec<Duration>>,
}

impl Foreign {
    fn set(&self) {
        *lock(&self.set) = true;
        self.changed.notify_all();
    }
}

impl BlockingEvent for Foreign {
    fn is_set(&self) -> bool {
        *lock(&self.set)
    }

    fn wait_timeout(&self, limit: Duration) -> bool {
        lock(&self.waits).push(limit);
        // an endless wait of this kind would overflow inside some systems
        let limit = limit.min(Duration::from_secs(3600));
        let set = lock(&self.set);
        let (set, _) = self
            .changed
            .wait_timeout_while(set, limit, |set| !*set)
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *set
    }
}

// --- Event ----------------------------------------------------------------------------------------

#[test]
fn an_event_is_set_and_cleared() {
    for event in [Event::new(), Event::default()] {
        assert!(!event.is_set());
        event.set();
        event.set();
        assert!(event.is_set());
        event.wait();
        assert!(event.wait_timeout(Duration::ZERO));
        assert!(event.wait_timeout(Duration::MAX));
        event.clear();
        assert!(!event.is_set());
        assert!(!event.wait_timeout(Duration::ZERO), "zero looks once");
    }
}

#[test]
fn wait_timeout_is_never_early() {
    let event = Event::new();
    let start = Instant::now();
    assert!(!event.wait_timeout(SHORT));
    assert!(start.elapsed() >= SHORT);
}

#[test]
fn set_releases_threads_and_tasks() {
    let _watch = watchdog(20);
    let event = Event::new();
    std::thread::scope(|scope| {
        let waits = [
            scope.spawn(|| {
                event.wait();
                true
            }),
            scope.spawn(|| event.wait_timeout(Duration::MAX)),
            scope.spawn(|| {
                block_on(event.wait_async());
                true
            }),
            scope.spawn(|| {
                kit::foreign_block_on(event.wait_async());
                true
            }),
        ];
        event.set();
        for wait in waits {
            assert!(wait.join().expect("no panic"));
        }
    });
}

#[test]
fn whoever_waits_when_it_is_set_is_released_even_if_it_is_cleared_at_once() {
    let _watch = watchdog(20);
    let event = Event::new();
    let (waker, wakes) = counting_waker();
    let mut waiting = Box::pin(event.wait_async());
    assert!(poll_with(&mut waiting, &waker).is_pending());
    event.set();
    event.clear();
    assert_eq!(wakes.count(), 1);
    assert!(poll_with(&mut waiting, &waker).is_ready());
    let mut late = Box::pin(event.wait_async());
    assert!(poll_with(&mut late, &waker).is_pending(), "it came after");

    // threads too
    for _ in 0..50 {
        let event = Event::new();
        std::thread::scope(|scope| {
            let first = scope.spawn(|| event.wait());
            let second = scope.spawn(|| event.wait_timeout(Duration::MAX));
            // nobody can see that they wait, so it is set until they are released
            while !(first.is_finished() && second.is_finished()) {
                event.set();
                event.clear();
                std::thread::yield_now();
            }
            assert!(second.join().expect("no panic"));
        });
    }
}

#[test]
fn a_wait_that_is_dropped_is_forgotten() {
    let event = Event::new();
    let (waker, wakes) = counting_waker();
    let mut first = Box::pin(event.wait_async());
    let mut second = Box::pin(event.wait_async());
    assert!(poll_with(&mut first, &waker).is_pending());
    let (other, others) = counting_waker();
    assert!(poll_with(&mut second, &other).is_pending());
    drop(first);
    event.set();
    assert_eq!((wakes.count(), others.count()), (0, 1));
    assert!(poll_with(&mut second, &other).is_ready());
}

#[test]
fn a_waker_that_panics_does_not_keep_the_others() {
    let _watch = watchdog(20);
    kit::reports::listen();
    let event = Event::new();
    let mut bad = Box::pin(event.wait_async());
    assert!(poll_with(&mut bad, &kit::panicking_waker()).is_pending());
    let (waker, wakes) = counting_waker();
    let mut good = Box::pin(event.wait_async());
    assert!(poll_with(&mut good, &waker).is_pending());
    let set = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| event.set()));
    assert!(set.is_ok());
    assert_eq!(wakes.count(), 1);
    assert!(event.is_set());
}

#[test]
fn no_set_is_lost_where_it_races_with_a_wait() {
    let _watch = watchdog(30);
    for round in 0..500 {
        let event = Event::new();
        let start = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                event.set();
            });
            start.wait();
            match round % 3 {
                0 => event.wait(),
                1 => assert!(event.wait_timeout(Duration::MAX)),
                _ => kit::foreign_block_on(event.wait_async()),
            }
        });
    }
}

// --- await_threading_event --------------------------------------------------------------------------

#[test]
fn our_own_event_is_heard_without_a_tick() {
    let _watch = watchdog(20);
    let event = Arc::new(Event::new());
    for polling in [Polling::NoPolling, Polling::Every(Duration::MAX)] {
        event.clear();
        let (waker, wakes) = counting_waker();
        let mut waiting = Box::pin(await_threading_event(&event, "own", None, polling));
        assert!(poll_with(&mut waiting, &waker).is_pending());
        assert_eq!(wakes.count(), 0);
        event.set();
        event.clear();
        assert_eq!(wakes.count(), 1, "by the setting thread itself");
        assert_eq!(
            poll_with(&mut waiting, &waker),
            std::task::Poll::Ready(true)
        );
    }
}

#[test]
fn a_timeout_of_zero_looks_once() {
    let _watch = watchdog(20);
    let zero = Some(Duration::ZERO);
    let own = Arc::new(Event::new());
    let foreign = Arc::new(Foreign::default());
    let look = |set: bool| {
        let polling = Polling::default();
        let seen = block_on(await_threading_event(&own, "own", zero, polling));
        assert_eq!(seen, set);
        let seen = block_on(await_threading_event(&foreign, "foreign", zero, polling));
        assert_eq!(seen, set);
    };
    look(false);
    own.set();
    foreign.set();
    look(true);
}

#[test]
fn an_explicit_timeout_beats_polling() {
    let _watch = watchdog(20);
    let limit = Some(SHORT);
    for polling in [
        Polling::Every(Duration::MAX),
        Polling::Every(Duration::from_millis(1)),
        Polling::Every(Duration::ZERO),
        Polling::NoPolling,
    ] {
        let own = Arc::new(Event::new());
        let start = Instant::now();
        assert!(!block_on(await_threading_event(
            &own, "own", limit, polling
        )));
        assert!(start.elapsed() >= SHORT);
        let foreign = Arc::new(Foreign::default());
        let start = Instant::now();
        let seen = block_on(await_threading_event(&foreign, "foreign", limit, polling));
        assert!(!seen);
        assert!(start.elapsed() >= SHORT, "{:?}", start.elapsed());
    }
    let event = Arc::new(Foreign::default());
    event.set();
    let seen = await_threading_event(&event, "set", Some(Duration::MAX), Polling::default());
    assert!(block_on(seen));
}

#[test]
fn a_foreign_event_is_waited_for_in_rounds_and_only_true_when_it_fired() {
    let _watch = watchdog(20);
    let event = Arc::new(Foreign::default());
    let round = Duration::from_millis(2);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let polling = Polling::Every(round);
            block_on(await_threading_event(&event, "foreign", None, polling))
        });
        kit::eventually("three rounds", || lock(&event.waits).len() >= 3);
        assert!(!waiting.is_finished(), "a round that ends is no event");
        event.set();
        assert!(waiting.join().expect("no panic"));
    });
    assert!(lock(&event.waits).iter().all(|wait| *wait <= round));
}

#[test]
fn a_foreign_event_is_waited_for_without_polling_too() {
    let _watch = watchdog(20);
    let event = Arc::new(Foreign::default());
    for polling in [Polling::NoPolling, Polling::Every(Duration::MAX)] {
        *lock(&event.set) = false;
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                kit::foreign_block_on(await_threading_event(&event, "foreign", None, polling))
            });
            kit::eventually("the wait", || !lock(&event.waits).is_empty());
            event.set();
            assert!(waiting.join().expect("no panic"));
        });
        lock(&event.waits).clear();
    }
}

#[test]
fn waiting_for_a_foreign_event_does_not_hold_up_the_thread() {
    let _watch = watchdog(20);
    let event = Arc::new(Foreign::default());
    let polling = Polling::Every(Duration::from_millis(1));
    let mut waiting = Box::pin(await_threading_event(&event, "foreign", None, polling));
    let here = Diary::new();
    assert!(kit::poll_once(&mut waiting).is_pending());
    here.note("back at once");
    event.set();
    assert!(kit::foreign_block_on(waiting));
}

#[test]
fn a_wait_for_a_foreign_event_may_be_dropped() {
    let _watch = watchdog(20);
    let event = Arc::new(Foreign::default());
    let polling = Polling::Every(Duration::from_millis(1));
    let mut waiting = Box::pin(await_threading_event(&event, "foreign", None, polling));
    assert!(kit::poll_once(&mut waiting).is_pending());
    drop(waiting);
    // the round that is on ends, and no other begins
    kit::eventually("the last round", || Arc::strong_count(&event) == 1);
}

// --- await_event_with_stop ---------------------------------------------------------------------------

fn polling() -> Polling {
    Polling::Every(Duration::MAX)
}

#[test]
fn true_if_the_event_came_first_false_if_the_stop_did() {
    let _watch = watchdog(20);
    for event_first in [true, false] {
        let (event, stop) = (Arc::new(Event::new()), Arc::new(Event::new()));
        let (waker, wakes) = counting_waker();
        let mut waiting = Box::pin(await_event_with_stop(&event, &stop, "e", polling()));
        assert!(poll_with(&mut waiting, &waker).is_pending());
        let first = if event_first { &event } else { &stop };
        first.set();
        assert!(wakes.count() >= 1, "a stop is seen at once");
        let seen = poll_with(&mut waiting, &waker);
        assert_eq!(seen, std::task::Poll::Ready(event_first));
    }
}

#[test]
fn a_stop_already_set_wins_over_an_event_already_set() {
    let _watch = watchdog(20);
    let set = || {
        let event = Event::new();
        event.set();
        Arc::new(event)
    };
    let foreign = Arc::new(Foreign::default());
    foreign.set();
    assert!(!block_on(await_event_with_stop(
        &set(),
        &set(),
        "e",
        polling()
    )));
    assert!(!block_on(await_event_with_stop(
        &foreign,
        &set(),
        "e",
        polling()
    )));
    assert!(!block_on(await_event_with_stop(
        &set(),
        &foreign,
        "e",
        polling()
    )));
    assert!(!block_on(await_event_with_stop(
        &foreign,
        &foreign,
        "e",
        polling()
    )));
    let clear = Arc::new(Event::new());
    assert!(block_on(await_event_with_stop(
        &set(),
        &clear,
        "e",
        polling()
    )));
    let clear = Arc::new(Foreign::default());
    assert!(block_on(await_event_with_stop(
        &set(),
        &clear,
        "e",
        polling()
    )));
    let quick = Polling::Every(Duration::from_millis(1));
    assert!(block_on(await_event_with_stop(
        &foreign, &clear, "e", quick
    )));
}

#[test]
fn foreign_events_and_stops_mix_with_our_own() {
    let _watch = watchdog(20);
    let quick = Polling::Every(Duration::from_millis(1));
    for (event_fires, expected) in [(true, true), (false, false)] {
        let (foreign, own) = (Arc::new(Foreign::default()), Arc::new(Event::new()));
        std::thread::scope(|scope| {
            let waiting =
                scope.spawn(|| block_on(await_event_with_stop(&foreign, &own, "f", quick)));
            if event_fires {
                foreign.set();
            } else {
                own.set();
            }
            assert_eq!(waiting.join().expect("no panic"), expected);
        });
        let (own, foreign) = (Arc::new(Event::new()), Arc::new(Foreign::default()));
        std::thread::scope(|scope| {
            let waiting =
                scope.spawn(|| block_on(await_event_with_stop(&own, &foreign, "o", quick)));
            if event_fires {
                own.set();
            } else {
                foreign.set();
            }
            assert_eq!(waiting.join().expect("no panic"), expected);
        });
    }
}
