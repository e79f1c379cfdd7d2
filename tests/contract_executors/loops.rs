//! The pool of loops: how work is spread, and what can be seen of it.

use std::collections::BTreeSet;

use portage::event_loop::LoopState;
use portage::executors::{AsyncExecutor, AsyncExecutorExt, EventLoopPoolExecutor};
use portage::time::yield_now;

use super::{background, loops};
use crate::kit::{self, scripted, watchdog};

#[test]
fn no_loops_at_all_are_invalid() {
    let error = EventLoopPoolExecutor::new(0).expect_err("a bad argument");
    assert!(error.is_invalid());
    assert!(!error.to_string().is_empty());
}

#[test]
fn an_endless_number_of_loops_is_an_error_and_no_endless_start() {
    let _watch = watchdog(30);
    let error = EventLoopPoolExecutor::new(usize::MAX).expect_err("too many");
    assert!(error.is_invalid() || error.is_thread());
}

#[test]
fn the_background_executor_has_one_thread_with_one_loop() {
    let _watch = watchdog(20);
    let executor = background();
    let home = executor.handle().thread_id();
    for _ in 0..10 {
        let there = executor.run(async { std::thread::current().id() });
        assert_eq!(there.expect("a value"), home);
    }
    let through_the_handle = executor.handle().spawn(async { 5 });
    assert_eq!(through_the_handle.wait().expect("a value"), 5);
    executor.shutdown(true);
    assert_eq!(executor.handle().state(), LoopState::Closed);
}

#[test]
fn the_least_loaded_loop_comes_first_and_of_equals_the_lowest() {
    let _watch = watchdog(20);
    let executor = loops(3);
    assert_eq!(executor.loads(), [0, 0, 0]);
    // asking does not skew the balance
    for _ in 0..10 {
        assert_eq!(executor.get_event_loop().expect("it runs").1, 0);
    }
    assert_eq!(executor.loads(), [0, 0, 0]);
    let mut conductors = Vec::new();
    let mut submit = || {
        let (conductor, future) = scripted::<()>();
        conductors.push(conductor);
        executor.submit(future)
    };
    let mut handles = Vec::new();
    for loads in [[1, 0, 0], [1, 1, 0], [1, 1, 1], [2, 1, 1], [2, 2, 1]] {
        handles.push(submit());
        assert_eq!(executor.loads(), loads);
    }
    assert_eq!(executor.get_event_loop().expect("it runs").1, 2);
    // the middle one is relieved
    conductors[1].complete(());
    conductors[4].complete(());
    kit::eventually("the ends", || executor.loads() == [2, 0, 1]);
    assert_eq!(executor.get_event_loop().expect("it runs").1, 1);
    executor.shutdown(true);
    for handle in handles {
        let _ = handle.wait();
    }
}

#[test]
fn get_event_loop_gives_a_loop_that_can_be_used() {
    let _watch = watchdog(20);
    let executor = loops(2);
    let (events, index) = executor.get_event_loop().expect("it runs");
    assert_eq!(index, 0);
    let there = events.spawn(async { std::thread::current().id() });
    assert_eq!(there.wait().expect("a value"), events.thread_id());
    let (conductor, future) = scripted::<()>();
    let held = events.spawn(future);
    assert_eq!(executor.get_event_loop().expect("it runs").1, 1);
    conductor.complete(());
    held.wait().expect("a value");
    executor.shutdown(true);
    let error = executor.get_event_loop().expect_err("shut down");
    assert!(error.is_shut_down());
}

#[test]
fn tasks_tells_what_is_pending_and_where() {
    let _watch = watchdog(20);
    let executor = loops(2);
    assert!(executor.tasks().is_empty());
    let mut conductors = Vec::new();
    let handles: Vec<_> = (0..4)
        .map(|_| {
            let (conductor, future) = scripted::<()>();
            conductors.push(conductor);
            executor.submit(future)
        })
        .collect();
    let tasks = executor.tasks();
    assert_eq!(tasks.len(), 4);
    for (number, handle) in handles.iter().enumerate() {
        let info = tasks.iter().find(|info| info.id == handle.id());
        let info = info.expect("the id of the handle");
        assert_eq!(info.loop_index, number % 2);
    }
    let threads: BTreeSet<_> = tasks
        .iter()
        .map(|info| (info.loop_index, format!("{:?}", info.thread)))
        .collect();
    assert_eq!(threads.len(), 2, "one thread for each loop");
    for conductor in conductors {
        conductor.complete(());
    }
    for handle in handles {
        handle.wait().expect("a value");
    }
    kit::eventually("the ends", || executor.tasks().is_empty());
    assert_eq!(executor.loads(), [0, 0]);
}

#[test]
fn a_task_stays_on_its_loop() {
    let _watch = watchdog(20);
    let executor = loops(3);
    let handles: Vec<_> = (0..12)
        .map(|_| {
            executor.submit(async {
                let first = std::thread::current().id();
                for _ in 0..20 {
                    yield_now().await;
                    assert_eq!(std::thread::current().id(), first);
                }
            })
        })
        .collect();
    for handle in handles {
        handle.wait().expect("no panic");
    }
}

#[test]
fn a_cancelled_task_counts_no_more() {
    let _watch = watchdog(20);
    let executor = loops(2);
    let (_conductors, futures): (Vec<_>, Vec<_>) = (0..4).map(|_| scripted::<()>()).unzip();
    let handles: Vec<_> = futures
        .into_iter()
        .map(|future| executor.submit(future))
        .collect();
    assert_eq!(executor.loads(), [2, 2]);
    // both tasks of the first loop, started or not
    for handle in handles.into_iter().step_by(2) {
        handle.cancel();
        assert!(handle.wait().expect_err("cancelled").is_cancelled());
    }
    kit::eventually("the ends", || executor.loads() == [0, 2]);
    assert_eq!(executor.get_event_loop().expect("it runs").1, 0);
}
