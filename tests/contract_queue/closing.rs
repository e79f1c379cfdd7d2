//! Closing: what is cancelled, what is waited for, and who gets what back.

use std::sync::Arc;

use portage::block_on;
use portage::execution_queue::{AsyncExecutionQueue, Close};

use super::{bounded, shelved};
use crate::kit::{self, Diary, Drops, Gate, OpenAtEnd, scripted, watchdog};

fn held(gate: &Gate) -> Arc<AsyncExecutionQueue> {
    let queue = bounded(100);
    let at = gate.clone();
    queue.add_task(move || at.pass()).expect("taken").detach();
    gate.wait_entered(1);
    Arc::new(queue)
}

#[test]
fn cancel_pending_cancels_the_queued_and_waits_for_the_running() {
    let _watch = watchdog(20);
    for is_async in [false, true] {
        let gate = Gate::new();
        let queue = held(&gate);
        let drops = Drops::new();
        let queued: Vec<_> = (0..5)
            .map(|_| {
                let token = drops.token();
                queue.add_task(move || drop(token)).expect("taken")
            })
            .collect();
        std::thread::scope(|scope| {
            let _end = OpenAtEnd(gate.clone());
            let closing = scope.spawn(|| {
                if is_async {
                    block_on(queue.aclose(Close::CancelPending));
                } else {
                    queue.close(Close::CancelPending);
                }
            });
            for handle in queued {
                let error = handle.wait().expect_err("cancelled");
                assert!(error.is_cancelled(), "{error}");
            }
            assert_eq!(drops.live(), 0);
            assert!(!closing.is_finished(), "one still runs");
            gate.open();
            closing.join().expect("no panic");
        });
        assert_eq!(queue.len(), 0);
    }
}

#[test]
fn drain_waits_for_all() {
    let _watch = watchdog(20);
    for is_async in [false, true] {
        let gate = Gate::new();
        let queue = held(&gate);
        let diary = Diary::new();
        let handles: Vec<_> = (0..5)
            .map(|number| {
                let seen = diary.clone();
                queue.add_task(move || seen.note(number)).expect("taken")
            })
            .collect();
        std::thread::scope(|scope| {
            let _end = OpenAtEnd(gate.clone());
            let closing = scope.spawn(|| {
                if is_async {
                    kit::foreign_block_on(queue.aclose(Close::Drain));
                } else {
                    queue.close(Close::Drain);
                }
            });
            kit::eventually("the close", || {
                queue
                    .try_add_task(|| ())
                    .is_err_and(|error| error.is_shut_down())
            });
            assert!(!closing.is_finished());
            gate.open();
            closing.join().expect("no panic");
        });
        assert!(handles.iter().all(portage::JoinHandle::is_finished));
        assert_eq!(diary.read()[..5], [0, 1, 2, 3, 4]);
    }
}

#[test]
fn a_closed_queue_refuses_everything_with_its_job() {
    let _watch = watchdog(20);
    let queue = bounded(3);
    queue.close(Close::Drain);
    queue.close(Close::CancelPending);
    block_on(queue.aclose(Close::Drain));
    for error in [
        queue.add_task(|| 1).expect_err("closed"),
        queue.try_add_task(|| 1).expect_err("closed"),
        block_on(queue.aadd_task(|| 1)).expect_err("closed"),
        block_on(queue.aadd_task_async(|| async { 1 })).expect_err("closed"),
    ] {
        assert!(error.is_shut_down() && !error.is_full());
        assert!(error.into_job().is_some());
    }
    assert_eq!(queue.len(), 0);
}

#[test]
fn adders_still_waiting_for_room_at_a_close_get_their_job_back() {
    let _watch = watchdog(20);
    for mode in [Close::CancelPending, Close::Drain] {
        let gate = Gate::new();
        let queue = bounded(1);
        let at = gate.clone();
        queue.add_task(move || at.pass()).expect("taken").detach();
        gate.wait_entered(1);
        std::thread::scope(|scope| {
            let _end = OpenAtEnd(gate.clone());
            let blocked = scope.spawn(|| queue.add_task(|| 1));
            let mut waiting = Box::pin(queue.aadd_task(|| 2));
            assert!(kit::poll_once(&mut waiting).is_pending());
            let closing = scope.spawn(|| queue.close(mode));
            let error = blocked.join().expect("no panic").expect_err("closed");
            assert!(error.is_shut_down() && error.into_job().is_some());
            let error = kit::foreign_block_on(waiting).expect_err("closed");
            assert!(error.is_shut_down() && error.into_job().is_some());
            gate.open();
            closing.join().expect("no panic");
        });
    }
}

#[test]
fn dropping_the_queue_is_cancel_pending_without_the_wait() {
    let _watch = watchdog(20);
    let (shelf, queue) = shelved();
    let drops = Drops::new();
    let running = queue.add_task(|| 1).expect("taken");
    let token = drops.token();
    let queued = queue.add_task(move || drop(token)).expect("taken");
    assert_eq!(shelf.len(), 1);
    drop(queue);
    assert!(queued.wait().expect_err("cancelled").is_cancelled());
    assert_eq!(drops.live(), 0);
    // what was handed over may still be there; its handle resolves whatever happens to it
    shelf.run_one();
    let _ = running.wait();

    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let queue = Arc::into_inner(held(&gate)).expect("the only one");
    let queued = queue.add_task(|| 2).expect("taken");
    drop(queue);
    assert!(queued.wait().expect_err("cancelled").is_cancelled());
    gate.open();
}

#[test]
fn close_from_one_of_its_own_jobs_does_not_wait_for_that_job() {
    let _watch = watchdog(20);
    for mode in [Close::CancelPending, Close::Drain] {
        let queue = Arc::new(bounded(10));
        let (inner, gate) = (queue.clone(), Gate::new());
        let at = gate.clone();
        let job = queue.add_task(move || {
            at.pass();
            inner.close(mode);
            5
        });
        let job = job.expect("taken");
        let behind = queue.add_task(|| 6).expect("taken");
        gate.open();
        assert_eq!(job.wait().expect("no hang"), 5);
        match mode {
            Close::CancelPending => assert!(behind.wait().is_err()),
            Close::Drain => assert_eq!(behind.wait().expect("drained"), 6),
        }
        assert!(
            queue
                .try_add_task(|| ())
                .expect_err("closed")
                .is_shut_down()
        );
    }
}

#[test]
fn aclose_from_one_of_its_own_tasks_does_not_wait_for_that_task() {
    let _watch = watchdog(20);
    let queue = Arc::new(bounded(10));
    let inner = queue.clone();
    let job = block_on(queue.aadd_task_async(move || async move {
        inner.aclose(Close::CancelPending).await;
        7
    }));
    assert_eq!(job.expect("taken").wait().expect("no hang"), 7);
}

#[test]
fn cancel_pending_leaves_a_suspended_task_running_until_its_end() {
    let _watch = watchdog(20);
    let queue = bounded(10);
    let (conductor, future) = scripted();
    let running = block_on(queue.aadd_task_async(move || future)).expect("taken");
    kit::eventually("the first poll", || conductor.polls() == 1);
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| queue.close(Close::CancelPending));
        kit::eventually("the close", || queue.try_add_task(|| ()).is_err());
        conductor.complete(8);
        closing.join().expect("no panic");
    });
    assert_eq!(running.wait().expect("a started one delivers"), 8);
}

#[test]
fn adds_that_race_the_close_resolve() {
    let _watch = watchdog(30);
    for round in 0..100 {
        let queue = bounded(2);
        let drops = Drops::new();
        let start = std::sync::Barrier::new(3);
        let mode = [Close::CancelPending, Close::Drain][round % 2];
        std::thread::scope(|scope| {
            for who in 0..2 {
                let (queue, drops, start) = (&queue, &drops, &start);
                scope.spawn(move || {
                    start.wait();
                    for _ in 0..10 {
                        let token = drops.token();
                        let job = move || drop(token);
                        let added = if who == 0 {
                            queue.add_task(job)
                        } else {
                            kit::foreign_block_on(queue.aadd_task(job))
                        };
                        if let Ok(handle) = added {
                            let _ = handle.wait();
                        }
                    }
                });
            }
            start.wait();
            queue.close(mode);
        });
        assert_eq!((drops.live(), queue.len()), (0, 0));
    }
}
