//! Time: never early, in order, everywhere, and gone when dropped.

use std::cell::Cell;
use std::future::{Future, pending, poll_fn, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

use portage::time::{Sleep, sleep, sleep_until, timeout, yield_now};
use portage::{EventLoop, block_on};

use crate::kit::{
    self, Diary, counting_waker, foreign_block_on, on_new_thread, poll_with, watchdog,
};

const SHORT: Duration = Duration::from_millis(5);

#[test]
fn a_sleep_is_never_early_wherever_it_is_awaited() {
    let _watch = watchdog(20);
    let timed = |run: &dyn Fn(Sleep)| {
        for micros in [0, 1, 50, 999, 1000, 1001, 3333] {
            let limit = Duration::from_micros(micros);
            let start = Instant::now();
            run(sleep(limit));
            assert!(start.elapsed() >= limit, "{limit:?}: {:?}", start.elapsed());
        }
    };
    timed(&|sleep| block_on(sleep));
    timed(&|sleep| foreign_block_on(sleep));
    let events = EventLoop::new();
    timed(&|sleep| events.run_until_complete(sleep).expect("it is idle"));
}

#[test]
fn sleep_until_the_past_is_ready_at_once() {
    let past = Instant::now() - Duration::from_millis(1);
    assert!(kit::poll_once(&mut sleep_until(past)).is_ready());
    assert!(kit::poll_once(&mut sleep(Duration::ZERO)).is_ready());
}

#[test]
fn a_sleep_without_end_is_legal() {
    let _watch = watchdog(20);
    let mut forever = sleep(Duration::MAX);
    assert_eq!(kit::poll_once(&mut forever), Poll::Pending);
    let events = EventLoop::new();
    let task = events.spawn_local(sleep(Duration::MAX));
    events.run_until_complete(sleep(SHORT)).expect("it is idle");
    assert!(!task.is_finished());
    events.close();
    assert!(task.wait().expect_err("closed").is_cancelled());
    let result = block_on(timeout(Duration::MAX, async { 1 }));
    assert_eq!(result.expect("in time"), 1);
    let result = block_on(timeout(SHORT, sleep(Duration::MAX)));
    assert!(result.is_err());
}

/// The numbers in the order in which their sleeps end, all of them begun on one loop before the
/// first is over.
fn order_of_ends(
    numbers: impl Fn() -> Vec<u32>,
    deadline: impl Fn(Instant, u32) -> Instant,
) -> Vec<u32> {
    kit::in_time(|time| {
        let events = EventLoop::new();
        let diary = Diary::new();
        let begun = Rc::new(Cell::new(0));
        let first = Instant::now() + time;
        let tasks: Vec<_> = numbers()
            .into_iter()
            .map(|number| {
                let (seen, begun) = (diary.clone(), begun.clone());
                let mut timer = sleep_until(deadline(first, number));
                events.spawn_local(async move {
                    if poll_fn(|cx| Poll::Ready(Pin::new(&mut timer).poll(cx).is_pending())).await {
                        begun.set(begun.get() + 1);
                        timer.await;
                    }
                    seen.note(number);
                })
            })
            .collect();
        let count = tasks.len();
        events
            .run_until_complete(async {
                for task in tasks {
                    task.await.expect("a value");
                }
            })
            .expect("it is idle");
        (begun.get() == count).then(|| diary.read())
    })
}

#[test]
fn equal_deadlines_fire_in_order_of_registration() {
    let _watch = watchdog(20);
    let ends = order_of_ends(|| (0..100).collect(), |first, _| first);
    assert_eq!(ends, (0..100).collect::<Vec<_>>());
}

#[test]
fn different_deadlines_fire_in_their_order() {
    let _watch = watchdog(20);
    let shuffled = || (0..50).map(|number| (number * 17) % 50).collect();
    let ends = order_of_ends(shuffled, |first, number| {
        first + Duration::from_nanos(1) * number
    });
    assert_eq!(ends, (0..50).collect::<Vec<_>>());
}

#[test]
fn a_sleep_polled_on_a_loop_that_then_idles_fires_elsewhere() {
    let _watch = watchdog(20);
    for end in [false, true] {
        let (deadline, timer, wakes) = kit::in_time(|time| {
            let events = EventLoop::new();
            let (waker, wakes) = counting_waker();
            let deadline = Instant::now() + time;
            let mut timer = sleep_until(deadline);
            let sleeps = events
                .run_until_complete(async { poll_with(&mut timer, &waker).is_pending() })
                .expect("it is idle");
            if end {
                drop(events);
            }
            sleeps.then_some((deadline, timer, wakes))
        });
        // the loop runs no more, so the waker of that poll is woken by somebody else
        kit::eventually("the wake", || wakes.count() > 0);
        assert!(Instant::now() >= deadline);
        foreign_block_on(timer);
    }
}

#[test]
fn a_sleep_of_a_thread_that_ended_fires_elsewhere() {
    let _watch = watchdog(20);
    let begun = |poll: &(dyn Fn(&mut Sleep) -> bool + Sync)| {
        kit::in_time(|time| {
            on_new_thread(|| {
                let mut timer = sleep(time);
                poll(&mut timer).then_some(timer)
            })
        })
    };
    let timer = begun(&|timer| {
        let events = EventLoop::new();
        let sleeps = events.run_until_complete(async { kit::poll_once(timer).is_pending() });
        sleeps.expect("it is idle")
    });
    block_on(timer);
    let timer = begun(&|timer| block_on(async { kit::poll_once(timer).is_pending() }));
    foreign_block_on(timer);
}

#[test]
fn a_sleep_wakes_the_waker_of_its_last_poll() {
    let _watch = watchdog(20);
    let (mut timer, wakes) = kit::in_time(|time| {
        let (first, _) = counting_waker();
        let (second, wakes) = counting_waker();
        let mut timer = sleep(time);
        let sleeps = [&first, &second].map(|waker| poll_with(&mut timer, waker).is_pending());
        (sleeps == [true; 2]).then_some((timer, wakes))
    });
    kit::eventually("the wake", || wakes.count() > 0);
    assert!(kit::poll_once(&mut timer).is_ready());
}

#[test]
fn a_dropped_sleep_lets_its_waker_go_at_once() {
    struct Held;
    impl Wake for Held {
        fn wake(self: Arc<Self>) {}
    }
    let _watch = watchdog(20);
    let held = Arc::new(Held);
    let waker = Waker::from(held.clone());
    let before = Arc::strong_count(&held);

    let mut timer = sleep(Duration::from_secs(3600));
    assert!(poll_with(&mut timer, &waker).is_pending());
    drop(timer);
    assert_eq!(Arc::strong_count(&held), before, "on a plain thread");

    let events = EventLoop::new();
    events
        .run_until_complete(async {
            let mut timer = sleep(Duration::from_secs(3600));
            assert!(poll_with(&mut timer, &waker).is_pending());
            drop(timer);
            assert_eq!(Arc::strong_count(&held), before, "on a loop");
            let mut timer = sleep(Duration::from_secs(3600));
            assert!(poll_with(&mut timer, &waker).is_pending());
            on_new_thread(move || drop(timer));
        })
        .expect("it is idle");
    events.run_until_complete(yield_now()).expect("it is idle");
    assert_eq!(Arc::strong_count(&held), before, "from elsewhere");
}

#[test]
fn a_timer_from_another_thread_is_heard_by_a_sleeping_loop() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let handle = events.handle();
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let soon = handle.spawn(async {
                sleep(Duration::from_millis(5)).await;
                portage::event_loop::running_loop().expect("it runs").stop();
            });
            soon.detach();
        });
        events.spawn_local(sleep(Duration::from_secs(60))).detach();
        events.run_until_stopped().expect("it is idle");
    });
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn timeout_polls_the_future_first() {
    let _watch = watchdog(20);
    let result = block_on(timeout(Duration::ZERO, ready(1)));
    assert_eq!(result.expect("it was ready"), 1);
    let events = EventLoop::new();
    let result = events.run_until_complete(timeout(Duration::ZERO, ready(2)));
    assert_eq!(result.expect("it is idle").expect("it was ready"), 2);
    let result = foreign_block_on(timeout(Duration::ZERO, ready(3)));
    assert_eq!(result.expect("it was ready"), 3);
}

#[test]
fn timeout_ends_what_takes_too_long_and_drops_it() {
    let _watch = watchdog(20);
    let drops = kit::Drops::new();
    let token = drops.token();
    let start = Instant::now();
    let result = block_on(timeout(SHORT, async move {
        let _held = token;
        pending::<()>().await;
    }));
    let error = result.expect_err("too long");
    assert!(start.elapsed() >= SHORT);
    assert_eq!(drops.live(), 0);
    assert!(!error.to_string().is_empty());
    let zero = block_on(timeout(Duration::ZERO, pending::<()>()));
    assert!(zero.is_err());
}

#[test]
fn many_sleeps_at_once_all_fire() {
    let _watch = watchdog(30);
    let events = EventLoop::new();
    let tasks: Vec<_> = (0..10_000u64)
        .map(|number| events.spawn_local(sleep(Duration::from_micros(number * 7919 % 20_000))))
        .collect();
    events
        .run_until_complete(async {
            for task in tasks {
                task.await.expect("a value");
            }
        })
        .expect("it is idle");
    assert_eq!(events.handle().pending(), 0);
}

#[test]
fn sleeps_are_moved_between_threads_while_they_run() {
    let _watch = watchdog(30);
    let mut timer = sleep(Duration::from_millis(30));
    let start = Instant::now();
    for round in 0..5 {
        timer = on_new_thread(move || {
            if round % 2 == 0 {
                block_on(async {
                    let _ = kit::poll_once(&mut timer);
                });
            } else {
                let events = EventLoop::new();
                let polled = events.run_until_complete(async {
                    let _ = kit::poll_once(&mut timer);
                });
                polled.expect("it is idle");
            }
            timer
        });
    }
    block_on(timer);
    assert!(start.elapsed() >= Duration::from_millis(30));
}

#[test]
fn yield_now_lets_others_go_first() {
    let _watch = watchdog(20);
    let (waker, wakes) = counting_waker();
    let mut once = std::pin::pin!(yield_now());
    assert!(poll_with(&mut once, &waker).is_pending());
    kit::eventually("the wake", || wakes.count() > 0);
    assert!(poll_with(&mut once, &waker).is_ready());
}
