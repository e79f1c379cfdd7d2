//! Ends: close, drop, late users, and work that is still there.

use std::future::{pending, ready};
use std::rc::Rc;

use portage::event_loop::LoopState;
use portage::time::yield_now;
use portage::{EventLoop, ExecutorExt, Job};

use crate::kit::{self, Diary, Drops, OnDrop, on_new_thread, scripted, watchdog};

#[test]
fn close_cancels_what_is_left() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let handle = events.handle();
    let drops = Drops::new();
    let (_conductor, future) = scripted::<()>();
    let (held, other) = (drops.token(), drops.token());
    let suspended = events.spawn_local(async move {
        let _held = held;
        future.await;
    });
    events.run_until_complete(yield_now()).expect("it is idle");
    let unstarted = on_new_thread(|| {
        handle.spawn(async move {
            let _held = other;
        })
    });
    assert_eq!((drops.live(), handle.pending()), (2, 2));
    let token = drops.token();
    let job = on_new_thread(|| handle.submit(move || drop(token))).expect("taken");
    events.close();
    assert_eq!(drops.live(), 0);
    assert_eq!(handle.pending(), 0);
    assert!(suspended.wait().expect_err("closed").is_cancelled());
    assert!(unstarted.wait().expect_err("closed").is_cancelled());
    let error = job.wait().expect_err("closed");
    assert!(error.is_cancelled() || error.is_shut_down(), "{error}");
}

#[test]
fn the_drop_of_a_loop_closes_it() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let handle = events.handle();
    let task = handle.spawn(pending::<()>());
    drop(events);
    assert_eq!(handle.state(), LoopState::Closed);
    assert!(task.wait().expect_err("closed").is_cancelled());
}

#[test]
fn a_closed_loop_refuses_at_once() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let handle = events.handle();
    events.close();
    events.close();
    let error = events.run_until_complete(ready(1)).expect_err("closed");
    assert!(error.is_closed());
    assert!(events.run_until_stopped().expect_err("closed").is_closed());
    let local = events.spawn_local(ready(1));
    assert!(local.wait().expect_err("closed").is_shut_down());
    for refused in [
        handle.spawn(async { 1 }),
        handle.spawn_with(|| ready(1)),
        on_new_thread(|| handle.spawn(async { 1 })),
    ] {
        assert!(refused.is_finished(), "at once");
        assert!(refused.wait().expect_err("closed").is_shut_down());
    }
    let error = handle.submit(|| 1).expect_err("closed");
    assert!(error.is_shut_down());
    let (job, value) = Job::new(|| 2);
    let error = portage::Executor::execute(&handle, job).expect_err("closed");
    error.into_job().expect("it comes back").run();
    assert_eq!(value.wait().expect("a value"), 2);
    handle.stop();
    assert_eq!(handle.pending(), 0);
}

#[test]
fn what_a_closed_loop_refuses_is_dropped_unrun() {
    let drops = Drops::new();
    let events = EventLoop::new();
    events.close();
    let (a, b) = (drops.token(), drops.token());
    let task = events.handle().spawn(async move { drop(a) });
    let made = events.handle().spawn_with(move || async move { drop(b) });
    assert!(task.is_finished() && made.is_finished());
    assert_eq!((drops.live(), drops.dropped()), (0, 2));
}

#[test]
fn close_from_inside_a_run_acts_when_that_run_ends() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let handle = events.handle();
    let (_conductor, future) = scripted::<()>();
    let left = events.spawn_local(future);
    let value = events.run_until_complete(async {
        events.close();
        yield_now().await;
        assert!(!left.is_finished(), "the run still goes on");
        4
    });
    assert_eq!(value.expect("it was idle"), 4);
    assert_eq!(handle.state(), LoopState::Closed);
    assert!(left.wait().expect_err("closed").is_cancelled());
    assert!(events.run_until_complete(ready(1)).is_err());
}

#[test]
fn futures_that_are_not_send_are_dropped_on_their_own_thread() {
    let _watch = watchdog(20);
    let here = std::thread::current().id();
    let diary = Diary::new();
    let events = EventLoop::new();
    let seen = diary.clone();
    let rc = Rc::new(());
    let task = events.spawn_local(async move {
        let _bell = OnDrop::new(move || seen.note(std::thread::current().id()));
        let _rc = rc;
        pending::<()>().await;
    });
    let cancel = task.cancel_handle();
    drop(task);
    on_new_thread(|| {
        cancel.cancel();
    });
    events.run_until_complete(yield_now()).expect("it is idle");
    events.close();
    assert!(diary.read().iter().all(|thread| *thread == here));
}

#[test]
fn the_drop_of_a_task_may_spawn_on_the_loop_that_closes() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let handle = events.handle();
    let diary = Diary::new();
    let seen = diary.clone();
    let (_conductor, future) = scripted::<()>();
    let bell = OnDrop::new(move || {
        let late = handle.spawn(async { 1 });
        seen.note(late.is_finished());
        late.detach();
        let _ = handle.pending();
    });
    let task = events.spawn_local(async move {
        let _bell = bell;
        future.await;
    });
    events.run_until_complete(yield_now()).expect("it is idle");
    events.close();
    assert!(task.is_finished());
    assert_eq!(diary.read(), [true], "a loop that closes refuses");
}

#[test]
fn a_spawn_that_races_the_close_resolves() {
    let _watch = watchdog(30);
    for _ in 0..200 {
        let events = EventLoop::new();
        let handle = events.handle();
        let start = std::sync::Barrier::new(2);
        let drops = Drops::new();
        std::thread::scope(|scope| {
            let spawning = scope.spawn(|| {
                start.wait();
                (0..10)
                    .map(|_| {
                        let token = drops.token();
                        handle.spawn(async move { drop(token) })
                    })
                    .collect::<Vec<_>>()
            });
            start.wait();
            events.run_until_complete(yield_now()).expect("it is idle");
            drop(events);
            for task in spawning.join().expect("no panic") {
                let _ = task.wait();
            }
        });
        assert_eq!((drops.live(), drops.dropped()), (0, 10));
    }
}

#[test]
fn a_waker_may_fire_at_any_time_after_the_end() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let (conductor, future) = scripted::<()>();
    let task = events.spawn_local(future);
    events.run_until_complete(yield_now()).expect("it is idle");
    events.close();
    assert!(task.wait().expect_err("closed").is_cancelled());
    on_new_thread(|| conductor.complete(()));
    drop(events);
    let _ = kit::poll_once(&mut std::pin::pin!(yield_now()));
}
