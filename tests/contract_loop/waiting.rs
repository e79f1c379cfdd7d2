//! Waiting on and around loops: `block_on` at any depth, lanes served meanwhile, and waits
//! that only the waiting thread could satisfy.

use std::future::{pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use portage::promise::promise;
use portage::time::{sleep, yield_now};
use portage::{CurrentThreadExecutor, EventLoop, ExecutorExt, block_on};

use crate::kit::{self, on_new_thread, scripted, text_of, watchdog};

#[test]
fn block_on_works_on_any_thread_at_any_depth() {
    let _watch = watchdog(20);
    let rc = Rc::new(5);
    assert_eq!(block_on(async { *rc }), 5);
    let deep = block_on(async {
        yield_now().await;
        block_on(async {
            sleep(Duration::from_millis(1)).await;
            block_on(async {
                yield_now().await;
                3
            })
        })
    });
    assert_eq!(deep, 3);
    let events = EventLoop::new();
    let inside = events.run_until_complete(async {
        block_on(async {
            sleep(Duration::from_millis(1)).await;
            4
        })
    });
    assert_eq!(inside.expect("it is idle"), 4);
    let task = events.spawn_local(async { block_on(async { yield_now().await }) });
    let result = events.run_until_complete(task).expect("it is idle");
    result.expect("a value");
}

#[test]
fn block_on_is_woken_from_other_threads() {
    let _watch = watchdog(20);
    let (conductor, future) = scripted();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            kit::eventually("the first poll", || conductor.polls() > 0);
            conductor.complete(1);
        });
        assert_eq!(block_on(future), 1);
    });
}

#[test]
fn a_panic_inside_block_on_unwinds_to_its_caller() {
    let _watch = watchdog(20);
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        block_on(async {
            yield_now().await;
            panic!("inside");
        })
    }));
    assert_eq!(text_of(&*unwound.expect_err("it unwinds")), "inside");
    assert_eq!(block_on(ready(1)), 1);
}

#[test]
fn block_on_drives_this_threads_lanes() {
    let _watch = watchdog(20);
    let lane = CurrentThreadExecutor::new(None);
    let here = std::thread::current().id();
    std::thread::scope(|scope| {
        let (writer, reader) = promise();
        let lane = &lane;
        scope.spawn(move || {
            let there = lane.submit(|| std::thread::current().id()).expect("taken");
            let _ = writer.resolve(there.wait().expect("a value"));
        });
        assert_eq!(block_on(reader).expect("a value"), here);
    });
}

#[test]
fn a_running_loop_serves_this_threads_lanes_too() {
    let _watch = watchdog(20);
    let lane = CurrentThreadExecutor::new(None);
    let events = EventLoop::new();
    std::thread::scope(|scope| {
        let (writer, reader) = promise();
        let lane = &lane;
        scope.spawn(move || {
            let value = lane.submit(|| 8).expect("taken").wait();
            let _ = writer.resolve(value.expect("a value"));
        });
        let value = events.run_until_complete(reader).expect("it is idle");
        assert_eq!(value.expect("a value"), 8);
    });
}

#[test]
fn a_lane_that_waits_drives_no_foreign_loop_but_its_future_may_use_timers() {
    let _watch = watchdog(20);
    let lane = CurrentThreadExecutor::new(None);
    let start = Instant::now();
    lane.run_until_future(sleep(Duration::from_millis(10)))
        .expect("its owner");
    assert!(start.elapsed() >= Duration::from_millis(10));
}

#[test]
fn a_blocking_wait_on_the_loops_thread_still_runs_lane_jobs() {
    let _watch = watchdog(20);
    let lane = CurrentThreadExecutor::new(None);
    let events = EventLoop::new();
    std::thread::scope(|scope| {
        let (writer, reader) = promise();
        let lane = &lane;
        scope.spawn(move || {
            let value = lane.submit(|| 9).expect("taken").wait();
            let _ = writer.resolve(value.expect("a value"));
        });
        let value = events.run_until_complete(async { reader.wait() });
        assert_eq!(value.expect("it is idle").expect("a value"), 9);
    });
}

#[test]
fn a_wait_that_only_this_thread_could_satisfy_is_an_error() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let handle = events.handle();
    // the loop is idle, and only this thread may run it
    let task = events.spawn_local(async { 1 });
    assert!(task.wait().expect_err("never").is_would_deadlock());
    let task = on_new_thread(|| handle.spawn(async { 1 }));
    assert!(task.wait().expect_err("never").is_would_deadlock());
    let task = on_new_thread(|| handle.spawn_with(|| ready(1)));
    assert!(task.wait().expect_err("never").is_would_deadlock());
    let job = on_new_thread(|| handle.submit(|| 1)).expect("taken");
    assert!(job.wait().expect_err("never").is_would_deadlock());
    // the loop runs, and this wait blocks it
    let inside = events.run_until_complete(async {
        let task = events.spawn_local(async { 1 });
        let remote = handle.spawn(pending::<()>());
        let local = task.wait().expect_err("never").is_would_deadlock();
        local && remote.wait().expect_err("never").is_would_deadlock()
    });
    assert!(inside.expect("it is idle"));
}

#[test]
fn a_task_that_waits_for_itself_gets_an_error() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let slot = Rc::new(std::cell::RefCell::new(None));
    let own = slot.clone();
    let task = events.spawn_local(async move {
        let own: portage::JoinHandle<()> = own.borrow_mut().take().expect("put there");
        let error = own.wait().expect_err("it can never come");
        assert!(error.is_would_deadlock());
    });
    let ended = kit::Diary::new();
    let seen = ended.clone();
    task.on_complete(move |completion| seen.note(completion));
    *slot.borrow_mut() = Some(task);
    for _ in 0..3 {
        events.run_until_complete(yield_now()).expect("it is idle");
    }
    assert_eq!(ended.read(), [portage::promise::Completion::Value]);
}

#[test]
fn a_finished_task_of_ones_own_loop_can_be_waited_for() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let mut task = events.spawn_local(async { 1 });
    assert!(task.try_take().is_none());
    events.run_until_complete(yield_now()).expect("it is idle");
    assert_eq!(task.wait().expect("a value"), 1);
}

#[test]
fn another_thread_may_wait_for_a_task_of_the_loop() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let handle = events.handle();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            let value = handle.spawn(async {
                yield_now().await;
                6
            });
            let value = value.wait();
            handle.stop();
            value
        });
        events.run_until_stopped().expect("it is idle");
        let value = waiting.join().expect("no panic");
        assert_eq!(value.expect("a value"), 6);
    });
}

#[test]
fn loops_of_two_threads_await_each_other() {
    let _watch = watchdog(20);
    let mine = EventLoop::new();
    let my_handle = mine.handle();
    std::thread::scope(|scope| {
        let (writer, theirs) = promise();
        scope.spawn(move || {
            let events = EventLoop::new();
            assert!(writer.resolve(events.handle()).is_ok());
            events.run_until_stopped().expect("it is idle");
        });
        let theirs = theirs.wait().expect("a handle");
        let back = my_handle.clone();
        let sum = mine.run_until_complete(async {
            let there = theirs.spawn(async move {
                let here = back.spawn(async { 1 }).await.expect("a value");
                here + 1
            });
            there.await.expect("a value")
        });
        theirs.stop();
        assert_eq!(sum.expect("it is idle"), 2);
    });
}

#[test]
fn a_task_of_ours_runs_inside_a_foreign_runtime() {
    let _watch = watchdog(20);
    let (writer, reader) = promise();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let events = EventLoop::new();
            let task = events.spawn_local(async { 2 });
            let value = events.run_until_complete(task).expect("it is idle");
            let _ = writer.resolve(value.expect("a value"));
        });
        let value = kit::foreign_block_on(async {
            yield_now().await;
            sleep(Duration::from_millis(1)).await;
            reader.await
        });
        assert_eq!(value.expect("a value"), 2);
    });
}
