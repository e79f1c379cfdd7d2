//! Order: first in, first out; one at a time, or as many as asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portage::context::ContextVar;
use portage::execution_queue::{AsyncExecutionQueue, Close};
use portage::promise::Cancel;
use portage::time::{sleep, yield_now};
use portage::{CurrentThreadExecutor, block_on};

use super::{bounded, is_idle, pool, shelved};
use crate::kit::{self, Diary, Gate, OpenAtEnd, on_new_thread, scripted, watchdog};

#[test]
fn jobs_run_one_at_a_time_in_order() {
    let _watch = watchdog(20);
    let queue = AsyncExecutionQueue::new();
    let (diary, inside) = (Diary::new(), Arc::new(AtomicUsize::new(0)));
    let handles: Vec<_> = (0..100)
        .map(|number| {
            let (seen, inside) = (diary.clone(), inside.clone());
            let job = move || {
                assert_eq!(inside.fetch_add(1, Ordering::AcqRel), 0, "not alone");
                seen.note(number);
                std::thread::yield_now();
                inside.fetch_sub(1, Ordering::AcqRel);
                number
            };
            match number % 3 {
                0 => block_on(queue.aadd_task(job)),
                1 => queue.add_task(job),
                _ => queue.try_add_task(job),
            }
            .expect("taken")
        })
        .collect();
    for (number, handle) in (0..).zip(handles) {
        assert_eq!(handle.wait().expect("a value"), number);
    }
    assert_eq!(diary.read(), (0..100).collect::<Vec<_>>());
    kit::eventually("an empty queue", || is_idle(&queue));
}

#[test]
fn async_tasks_are_one_at_a_time_too_even_while_suspended() {
    let _watch = watchdog(20);
    let queue = bounded(100);
    let (diary, inside) = (Diary::new(), Arc::new(AtomicUsize::new(0)));
    let handles: Vec<_> = (0..20)
        .map(|number| {
            let (seen, inside) = (diary.clone(), inside.clone());
            let added = queue.aadd_task_async(move || {
                let rc = std::rc::Rc::new(number);
                async move {
                    assert_eq!(inside.fetch_add(1, Ordering::AcqRel), 0, "not alone");
                    yield_now().await;
                    sleep(Duration::from_micros(100)).await;
                    seen.note(*rc);
                    inside.fetch_sub(1, Ordering::AcqRel);
                }
            });
            block_on(added).expect("taken")
        })
        .collect();
    for handle in handles {
        handle.wait().expect("no panic");
    }
    assert_eq!(diary.read(), (0..20).collect::<Vec<_>>());
}

#[test]
fn with_a_concurrency_as_many_run_at_once_started_in_order() {
    let _watch = watchdog(20);
    let queue = AsyncExecutionQueue::builder()
        .executor(Arc::new(pool()))
        .concurrency(3)
        .build()
        .expect("legal");
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let handles: Vec<_> = (0..6)
        .map(|_| {
            let at = gate.clone();
            queue.add_task(move || at.pass()).expect("taken")
        })
        .collect();
    gate.wait_entered(3);
    assert!(!kit::within(Duration::from_millis(20), || gate.entered() > 3));
    assert_eq!(queue.len(), 6);
    gate.open();
    for handle in handles {
        handle.wait().expect("a value");
    }

    let (shelf, _) = shelved();
    let queue = AsyncExecutionQueue::builder()
        .executor(shelf.clone())
        .concurrency(2)
        .build()
        .expect("legal");
    let diary = Diary::new();
    for number in 0..6 {
        let seen = diary.clone();
        let handle = queue.add_task(move || seen.note(number));
        handle.expect("taken").detach();
    }
    assert_eq!(shelf.len(), 2, "no more are handed over than may run");
    while shelf.run_one() {}
    assert_eq!(diary.read(), (0..6).collect::<Vec<_>>());
}

#[test]
fn nonsense_sizes_are_invalid_and_huge_ones_legal() {
    let error = AsyncExecutionQueue::builder().capacity(0).build();
    let error = error.expect_err("no room at all");
    assert!(
        error.is_invalid() && error.to_string().contains("capacity"),
        "{error}"
    );
    let error = AsyncExecutionQueue::builder().concurrency(0).build();
    let error = error.expect_err("nothing would run");
    assert!(
        error.is_invalid() && error.to_string().contains("concurrency"),
        "{error}"
    );
    let queue = AsyncExecutionQueue::builder()
        .capacity(usize::MAX)
        .concurrency(usize::MAX)
        .build()
        .expect("legal");
    let handle = queue.add_task(|| 1).expect("taken");
    assert_eq!(handle.wait().expect("a value"), 1);
}

#[test]
fn the_context_is_captured_at_the_call_of_aadd() {
    static LABEL: ContextVar<&str> = ContextVar::new("label");
    let _watch = watchdog(20);
    let queue = bounded(10);
    let scope = LABEL.scope("the call's");
    let job = queue.aadd_task(|| LABEL.get());
    let task = queue.aadd_task_async(|| {
        let made = LABEL.get();
        async move {
            yield_now().await;
            (made, LABEL.get())
        }
    });
    let sync = queue.add_task(|| LABEL.get());
    drop(scope);
    let _other = LABEL.scope("the poll's");
    let job = block_on(job).expect("taken").wait();
    let task = block_on(task).expect("taken").wait();
    let expected = Some("the call's");
    assert_eq!(job.expect("a value"), expected);
    assert_eq!(task.expect("a value"), (expected, expected));
    let sync = sync.expect("taken").wait();
    assert_eq!(sync.expect("a value"), expected);
}

#[test]
fn a_panic_ends_only_its_own_job() {
    let _watch = watchdog(20);
    let queue = bounded(10);
    let bad = queue
        .add_task(|| -> u8 { panic!("as planned") })
        .expect("taken");
    let worse =
        block_on(queue.aadd_task_async(|| -> std::future::Ready<u8> { panic!("the maker") }));
    let lost = block_on(queue.aadd_task_async(|| kit::Forgotten));
    let good = queue.add_task(|| 3).expect("taken");
    assert!(bad.wait().expect_err("it panicked").is_panic());
    assert!(
        worse
            .expect("taken")
            .wait()
            .expect_err("it panicked")
            .is_panic()
    );
    assert!(lost.expect("taken").wait().expect_err("lost").is_lost());
    assert_eq!(good.wait().expect("a value"), 3);
    kit::eventually("an empty queue", || is_idle(&queue));
}

#[test]
fn a_suspended_task_that_is_cancelled_lets_the_next_one_go() {
    let _watch = watchdog(20);
    let queue = bounded(10);
    let (conductor, future) = scripted::<()>();
    let first = block_on(queue.aadd_task_async(move || future)).expect("taken");
    kit::eventually("the first poll", || conductor.polls() == 1);
    let second = queue.add_task(|| 2).expect("taken");
    assert!(!second.is_finished());
    assert_eq!(first.cancel(), Cancel::Requested);
    assert!(first.wait().expect_err("cancelled").is_cancelled());
    assert_eq!(second.wait().expect("a value"), 2);
}

#[test]
fn an_executor_that_refuses_at_dispatch_gives_its_error_and_the_queue_goes_on() {
    let _watch = watchdog(20);
    let (shelf, queue) = shelved();
    *kit::lock(&shelf.refuses) = 1;
    // dispatched at once: the add or the handle has the error
    match queue.add_task(|| 1) {
        Err(error) => assert!(error.is_broken()),
        Ok(handle) => assert!(handle.wait().is_err()),
    }
    let first = queue.add_task(|| 2).expect("taken");
    let second = queue.add_task(|| 3).expect("taken");
    let third = queue.add_task(|| 4).expect("taken");
    *kit::lock(&shelf.refuses) = 1;
    assert!(shelf.run_one());
    assert_eq!(first.wait().expect("a value"), 2);
    assert!(second.is_finished(), "refused when its turn came");
    assert!(second.wait().is_err());
    assert!(shelf.run_one(), "the next was handed over all the same");
    assert_eq!(third.wait().expect("a value"), 4);
    assert_eq!(queue.len(), 0);
}

#[test]
fn an_executor_that_loses_a_job_does_not_stop_the_queue() {
    let _watch = watchdog(20);
    let (shelf, queue) = shelved();
    let first = queue.add_task(|| 1).expect("taken");
    let second = queue.add_task(|| 2).expect("taken");
    assert_eq!(shelf.len(), 1);
    assert!(shelf.drop_one());
    assert!(first.wait().expect_err("dropped unrun").is_lost());
    assert!(shelf.run_one());
    assert_eq!(second.wait().expect("a value"), 2);
}

#[test]
fn a_lane_may_be_the_executor() {
    let _watch = watchdog(20);
    let lane = CurrentThreadExecutor::new(None);
    let queue = AsyncExecutionQueue::builder()
        .executor(Arc::new(lane.clone()))
        .build()
        .expect("legal");
    let owner = std::thread::current().id();
    let handles: Vec<_> = on_new_thread(|| {
        (0..20)
            .map(|_| {
                queue
                    .add_task(|| std::thread::current().id())
                    .expect("taken")
            })
            .collect()
    });
    let seen = lane.run_until_future(async {
        let mut seen = Vec::new();
        for handle in handles {
            seen.push(handle.await.expect("a value"));
        }
        seen
    });
    assert_eq!(seen.expect("its owner"), [owner; 20]);
    on_new_thread(|| queue.close(Close::CancelPending));
}

#[test]
fn adding_and_completing_from_many_threads_keeps_the_order_of_each() {
    let _watch = watchdog(30);
    let queue = bounded(4);
    let diary = Diary::new();
    std::thread::scope(|scope| {
        for who in 0..4 {
            let (queue, diary) = (&queue, &diary);
            scope.spawn(move || {
                for number in 0..50 {
                    let seen = diary.clone();
                    let job = move || seen.note((who, number));
                    let handle = if number % 2 == 0 {
                        queue.add_task(job)
                    } else {
                        kit::foreign_block_on(queue.aadd_task(job))
                    };
                    handle.expect("taken").detach();
                }
            });
        }
    });
    queue.close(Close::Drain);
    for who in 0..4 {
        let numbers: Vec<i32> = diary
            .read()
            .into_iter()
            .filter_map(|(from, number)| (from == who).then_some(number))
            .collect();
        assert_eq!(numbers, (0..50).collect::<Vec<_>>());
    }
}
