//! Cancelling tasks: before, while and after, from here and from elsewhere.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use portage::EventLoop;
use portage::cancel::is_cancelled;
use portage::promise::{Cancel, Completion};
use portage::time::yield_now;

use crate::kit::{Diary, Drops, OnDrop, on_new_thread, scripted, watchdog};

#[test]
fn a_task_cancelled_before_its_start_never_runs_and_its_future_is_gone() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let (drops, diary) = (Drops::new(), Diary::new());
    let (token, seen) = (drops.token(), diary.clone());
    let task = events.handle().spawn(async move {
        seen.note("ran");
        drop(token);
    });
    assert_eq!(on_new_thread(|| task.cancel()), Cancel::Prevented);
    assert_eq!(drops.live(), 0, "dropped before cancel returned");
    assert_eq!(events.handle().pending(), 0);
    assert_eq!(task.cancel(), Cancel::Prevented);
    events.run_until_complete(yield_now()).expect("it is idle");
    assert!(diary.read().is_empty());
    assert!(task.wait().expect_err("cancelled").is_cancelled());
}

#[test]
fn one_that_is_not_send_resolves_at_once_and_is_dropped_at_the_next_turn_on_its_thread() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let here = std::thread::current().id();
    let diary = Diary::new();
    let seen = diary.clone();
    let rc = Rc::new(());
    let bell = OnDrop::new(move || seen.note(std::thread::current().id()));
    let task = events.spawn_local(async move {
        let _held = (rc, bell);
    });
    let cancel = task.cancel_handle();
    let finished = on_new_thread(|| {
        assert_eq!(cancel.cancel(), Cancel::Prevented);
        cancel.cancel()
    });
    assert_eq!(finished, Cancel::Prevented);
    assert!(task.is_finished(), "the handle resolves at once");
    assert!(task.wait().expect_err("cancelled").is_cancelled());
    events.run_until_complete(yield_now()).expect("it is idle");
    assert_eq!(diary.read(), [here]);
}

#[test]
fn a_suspended_task_is_requested_and_dropped() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    for remote in [true, false] {
        let drops = Drops::new();
        let token = drops.token();
        let (conductor, future) = scripted::<()>();
        let task = events.spawn_local(async move {
            let _held = token;
            future.await;
        });
        events.run_until_complete(yield_now()).expect("it is idle");
        assert!(!task.is_finished());
        let cancel = task.cancel_handle();
        let verdict = if remote {
            on_new_thread(|| cancel.cancel())
        } else {
            cancel.cancel()
        };
        assert_eq!(verdict, Cancel::Requested);
        assert!(task.is_cancelled());
        let result = events.run_until_complete(task).expect("it is idle");
        assert!(result.expect_err("cancelled").is_cancelled());
        assert_eq!(drops.live(), 0);
        conductor.complete(());
    }
}

#[test]
fn a_cancel_wakes_a_loop_that_sleeps() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let (_conductor, future) = scripted::<()>();
    let task = events.spawn_local(future);
    let cancel = task.cancel_handle();
    std::thread::scope(|scope| {
        let handle = events.handle();
        scope.spawn(move || {
            crate::kit::eventually("the run", || {
                handle.state() == portage::event_loop::LoopState::Running
            });
            cancel.cancel();
        });
        let result = events.run_until_complete(task).expect("it is idle");
        assert!(result.expect_err("cancelled").is_cancelled());
    });
}

#[test]
fn a_task_told_to_stop_during_its_poll_is_dropped_at_its_next_suspension() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let diary = Diary::new();
    let (seen, dropped) = (diary.clone(), diary.clone());
    let slot = Rc::new(std::cell::RefCell::new(None));
    let own = slot.clone();
    let task = events.spawn_local(async move {
        let _bell = OnDrop::new(move || dropped.note("dropped"));
        let own: portage::promise::CancelHandle = own.borrow_mut().take().expect("put there");
        assert!(!is_cancelled());
        assert_eq!(own.cancel(), Cancel::Requested);
        assert!(is_cancelled(), "from the request on");
        seen.note("before the suspension");
        yield_now().await;
        seen.note("after the suspension");
    });
    *slot.borrow_mut() = Some(task.cancel_handle());
    let result = events.run_until_complete(task).expect("it is idle");
    assert!(result.expect_err("cancelled").is_cancelled());
    assert_eq!(diary.read(), ["before the suspension", "dropped"]);
    assert!(!is_cancelled());
}

#[test]
fn where_it_completes_in_that_poll_the_value_wins() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let slot = Rc::new(std::cell::RefCell::new(None));
    let own = slot.clone();
    let task = events.spawn_local(async move {
        let own: portage::promise::CancelHandle = own.borrow_mut().take().expect("put there");
        assert_eq!(own.cancel(), Cancel::Requested);
        11
    });
    *slot.borrow_mut() = Some(task.cancel_handle());
    let diary = Diary::new();
    let seen = diary.clone();
    task.on_complete(move |completion| seen.note(completion));
    let result = events.run_until_complete(task).expect("it is idle");
    assert_eq!(result.expect("the value wins"), 11);
    assert_eq!(diary.read(), [Completion::Value]);
}

#[test]
fn is_cancelled_belongs_to_the_task_that_is_polled() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let slot = Rc::new(std::cell::RefCell::new(None));
    let own = slot.clone();
    let told = events.spawn_local(async move {
        let own: portage::promise::CancelHandle = own.borrow_mut().take().expect("put there");
        own.cancel();
        is_cancelled()
    });
    *slot.borrow_mut() = Some(told.cancel_handle());
    let other = events.spawn_local(async {
        let before = is_cancelled();
        yield_now().await;
        before || is_cancelled()
    });
    let seen = events.run_until_complete(async { (told.await, other.await, is_cancelled()) });
    let (told, other, main) = seen.expect("it is idle");
    assert!(told.expect("a value") && !other.expect("a value") && !main);
}

#[test]
fn a_finished_task_is_too_late_to_cancel() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let task = events.spawn_local(async { 3 });
    events.run_until_complete(yield_now()).expect("it is idle");
    assert_eq!(task.cancel(), Cancel::TooLate);
    assert_eq!(task.wait().expect("a value"), 3);
}

#[test]
fn a_task_may_be_cancelled_again_and_again_while_its_wakers_fire() {
    let _watch = watchdog(30);
    for _ in 0..100 {
        let events = EventLoop::new();
        let drops = Drops::new();
        let token = drops.token();
        let (conductor, future) = scripted::<()>();
        let task = events.spawn_local(async move {
            let _held = token;
            future.await;
        });
        let cancel = task.cancel_handle();
        let start = std::sync::Barrier::new(3);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                for _ in 0..10 {
                    conductor.wake();
                }
                conductor.complete(());
            });
            scope.spawn(|| {
                start.wait();
                for _ in 0..10 {
                    cancel.cancel();
                }
            });
            start.wait();
            let result = events.run_until_complete(task).expect("it is idle");
            assert!(result.is_ok() || result.is_err_and(|error| error.is_cancelled()));
        });
        // dropped by the next turn at the latest where it was cancelled before its start
        events.run_until_complete(yield_now()).expect("it is idle");
        assert_eq!((drops.live(), drops.dropped()), (0, 1));
    }
}

#[test]
fn a_future_that_ignores_its_cancel_is_dropped_all_the_same() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let diary = Diary::new();
    let seen = diary.clone();
    let task = events.spawn_local(poll_fn(move |cx| {
        seen.note("polled");
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    }));
    events.run_until_complete(yield_now()).expect("it is idle");
    assert_eq!(task.cancel(), Cancel::Requested);
    let polls = diary.len();
    let result = events.run_until_complete(task).expect("it is idle");
    assert!(result.expect_err("cancelled").is_cancelled());
    assert!(diary.len() <= polls + 1);
}
