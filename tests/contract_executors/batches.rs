//! `run_multiple` and `run_multiple_async`: order, limits, timeouts, and being cut off.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_core::Stream;
use portage::block_on;
use portage::context::ContextVar;
use portage::executors::{AsyncExecutor, AsyncExecutorExt, RunMultiple, TaskResult, TaskResults};
use portage::pool::Shutdown;
use portage::time::{sleep, yield_now};

use super::{background, each, pool_of};
use crate::kit::{self, Diary, Drops, Gate, OnDrop, OpenAtEnd, counting_waker, scripted, watchdog};

fn options(max_workers: usize) -> RunMultiple {
    RunMultiple {
        max_workers,
        timeout: None,
    }
}

async fn next<T>(results: &mut TaskResults<T>) -> Option<TaskResult<T>> {
    poll_fn(|cx| Pin::new(&mut *results).poll_next(cx)).await
}

fn poll_now<T>(results: &mut TaskResults<T>) -> bool {
    let (waker, _) = counting_waker();
    let mut cx = std::task::Context::from_waker(&waker);
    Pin::new(results).poll_next(&mut cx).is_ready()
}

#[test]
fn the_defaults_are_ten_workers_and_ten_seconds() {
    let defaults = RunMultiple::default();
    assert_eq!(defaults.max_workers, 10);
    assert_eq!(defaults.timeout, Some(Duration::from_secs(10)));
}

#[test]
fn every_task_gives_one_result_with_its_index() {
    let _watch = watchdog(30);
    for (kind, executor) in each() {
        for workers in [0, 1, 3, 1000, usize::MAX] {
            let tasks = (0..20usize).map(|number| async move {
                yield_now().await;
                number * 2
            });
            let mut seen = [false; 20];
            for result in executor.run_multiple(tasks, options(workers)) {
                assert!(result.success() && result.exception().is_none(), "{kind}");
                assert_eq!(result.output.expect("a value"), result.index * 2);
                assert!(!std::mem::replace(&mut seen[result.index], true));
            }
            assert_eq!(seen, [true; 20], "{kind} {workers}");
        }
        let none = executor.run_multiple(Vec::<std::future::Ready<u8>>::new(), options(1));
        assert_eq!(none.count(), 0);
    }
}

#[test]
fn results_come_in_order_of_completion() {
    let _watch = watchdog(20);
    for (kind, executor) in each() {
        let (mut conductors, mut futures) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            let (conductor, future) = scripted();
            conductors.push(conductor);
            futures.push(future);
        }
        let mut results = executor.run_multiple_async(futures, options(4));
        let order = kit::foreign_block_on(async {
            let mut order = Vec::new();
            assert!(!poll_now(&mut results));
            for index in [2, 0, 3, 1] {
                kit::eventually("the first poll", || conductors[index].polls() > 0);
                conductors[index].complete(index);
                let result = next(&mut results).await.expect("one more");
                assert_eq!(result.output.expect("a value"), result.index);
                order.push(result.index);
            }
            assert!(next(&mut results).await.is_none());
            order
        });
        assert_eq!(order, [2, 0, 3, 1], "{kind}");
    }
}

#[test]
fn at_most_max_workers_run_at_once_and_zero_counts_as_one() {
    let _watch = watchdog(30);
    for (kind, executor) in each() {
        for (workers, most) in [(0, 1), (1, 1), (2, 2)] {
            let inside = Arc::new(AtomicUsize::new(0));
            let peak = Arc::new(AtomicUsize::new(0));
            let tasks: Vec<_> = (0..12)
                .map(|_| {
                    let (inside, peak) = (inside.clone(), peak.clone());
                    async move {
                        let now = inside.fetch_add(1, Ordering::AcqRel) + 1;
                        peak.fetch_max(now, Ordering::AcqRel);
                        sleep(Duration::from_micros(200)).await;
                        yield_now().await;
                        inside.fetch_sub(1, Ordering::AcqRel);
                    }
                })
                .collect();
            let mut results = executor.run_multiple(tasks, options(workers));
            assert!(results.all(|result| result.success()));
            let peak = peak.load(Ordering::Acquire);
            assert!(peak <= most, "{kind}: {peak} of {workers}");
        }
    }
}

#[test]
fn a_timeout_counts_for_each_task_from_its_start() {
    let _watch = watchdog(30);
    for (kind, executor) in each() {
        kit::in_time(|limit| have_their_own_time(kind, &*executor, limit).then_some(()));
    }
}

/// False where a task that needs no time has not had it: by such a machine nothing is proved.
fn have_their_own_time(kind: &str, executor: &dyn AsyncExecutor, limit: Duration) -> bool {
    let with_limit = RunMultiple {
        max_workers: 1,
        timeout: Some(limit),
    };
    // each has its own time; from the call on, all but the first would have none left
    let (lives, drops) = (Diary::new(), Drops::new());
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let (lives, token) = (lives.clone(), drops.token());
            async move {
                let _held = token;
                let begun = Instant::now();
                let _told = OnDrop::new(move || lives.note(begun.elapsed()));
                sleep(Duration::MAX).await;
            }
        })
        .collect();
    let results = executor.run_multiple(tasks, with_limit);
    assert_eq!(results.filter(|result| !result.success()).count(), 4);
    kit::eventually("the drops", || drops.live() == 0);
    if lives.len() < 4 || lives.read().iter().any(|life| *life < limit / 4) {
        return false;
    }

    let drops = Drops::new();
    let tasks: Vec<_> = [Duration::ZERO, Duration::MAX, Duration::ZERO]
        .into_iter()
        .map(|time| {
            let token = drops.token();
            async move {
                let _held = token;
                sleep(time).await;
            }
        })
        .collect();
    let start = Instant::now();
    let mut timed_out = Vec::new();
    for result in executor.run_multiple(tasks, with_limit) {
        if let Err(error) = &result.output {
            assert!(error.is_timed_out(), "{kind}: {error}");
            assert!(!result.success() && result.exception().is_some());
            timed_out.push(result.index);
        }
    }
    assert!(timed_out.contains(&1), "{kind}");
    assert!(start.elapsed() >= limit);
    kit::eventually("the drops", || drops.live() == 0);
    timed_out == [1]
}

#[test]
fn a_late_result_after_its_timeout_is_a_timeout() {
    let _watch = watchdog(30);
    for (kind, executor) in each() {
        let task = async {
            // it blocks its thread past the limit, then is ready
            std::thread::sleep(Duration::from_millis(20));
            1
        };
        let with_limit = RunMultiple {
            max_workers: 1,
            timeout: Some(Duration::from_millis(2)),
        };
        let results: Vec<_> = executor.run_multiple([task], with_limit).collect();
        let error = results[0].exception().expect("too late");
        assert!(error.is_timed_out(), "{kind}");
    }
}

#[test]
fn one_panic_or_cancel_ends_only_that_task() {
    let _watch = watchdog(20);
    for (kind, executor) in each() {
        let tasks = (0..5).map(|number| async move {
            yield_now().await;
            assert!(number != 2, "as planned");
            if number == 3 {
                kit::Forgotten.await;
            }
            number
        });
        let mut ends = [None; 5];
        for result in executor.run_multiple(tasks, options(2)) {
            ends[result.index] = Some(match &result.output {
                Ok(_) => "value",
                Err(error) if error.is_panic() => "panic",
                Err(error) if error.is_lost() => "lost",
                Err(error) => panic!("{kind}: {error}"),
            });
        }
        let expected = ["value", "value", "panic", "lost", "value"].map(Some);
        assert_eq!(ends, expected, "{kind}");
    }
}

#[test]
fn the_input_is_collected_at_the_call() {
    let _watch = watchdog(20);
    for (kind, executor) in each() {
        let diary = Diary::new();
        let seen = diary.clone();
        let tasks = (0..50).map(move |number| {
            seen.note(number);
            async move { number }
        });
        let results = executor.run_multiple_async(tasks, options(1));
        assert_eq!(diary.len(), 50, "{kind}");
        drop(results);
    }
}

#[test]
fn dropping_the_results_stops_what_has_not_started_and_cancels_what_runs() {
    let _watch = watchdog(20);
    for (kind, executor) in each() {
        let (drops, started) = (Drops::new(), Diary::new());
        let tasks: Vec<_> = (0..10)
            .map(|number| {
                let (token, seen) = (drops.token(), started.clone());
                async move {
                    let _held = token;
                    seen.note(number);
                    sleep(Duration::MAX).await;
                }
            })
            .collect();
        let mut results = executor.run_multiple_async(tasks, options(2));
        assert!(!poll_now(&mut results));
        kit::eventually("two starts", || started.len() == 2);
        drop(results);
        kit::eventually("the drops", || drops.live() == 0);
        assert_eq!(started.len(), 2, "{kind}");
        assert_eq!(executor.run(async { 3 }).expect("it lives on"), 3);
    }
}

#[test]
fn what_has_not_started_is_dropped_inside_the_context_of_the_call() {
    static USER: ContextVar<&str> = ContextVar::new("user");
    let _watch = watchdog(20);
    for on_its_own_thread in [false, true] {
        let executor = Arc::new(background());
        let seen = Diary::new();
        let held = Gate::new();
        let _open = OpenAtEnd(held.clone());
        let (gate, notes, batch) = (held.clone(), seen.clone(), executor.clone());
        let consume = move || {
            let _user = USER.scope("caller");
            let results = batch.run_multiple(
                (0..4).map(|_| {
                    let notes = notes.clone();
                    let bell = OnDrop::new(move || notes.note(USER.get()));
                    async move { drop(bell) }
                }),
                options(2),
            );
            let _user = USER.scope("consumer");
            // On its own thread it gives them up; else they go with the iterator.
            let results = match on_its_own_thread {
                true => results.map(|result| drop(result.output)).count(),
                false => {
                    drop(results);
                    4
                }
            };
            assert_eq!(results, 4);
        };
        if on_its_own_thread {
            executor
                .submit(async move { consume() })
                .wait()
                .expect("no panic");
        } else {
            let busy = executor.submit(async move { gate.pass() });
            held.wait_entered(1);
            consume();
            held.open();
            busy.wait().expect("no panic");
        }
        kit::eventually("the drops", || seen.len() == 4);
        assert_eq!(seen.read(), [Some("caller"); 4]);
    }
}

#[test]
fn a_batch_cut_off_by_a_shutdown_still_gives_one_result_per_task() {
    let _watch = watchdog(20);
    for (kind, executor) in each() {
        let tasks: Vec<_> = (0..10)
            .map(|number| async move {
                if number > 0 {
                    sleep(Duration::MAX).await;
                }
                number
            })
            .collect();
        let mut results = executor.run_multiple(tasks, options(2));
        let first = results.next().expect("one is quick");
        assert_eq!(first.output.expect("a value"), 0);
        executor.shutdown(true);
        let mut left: Vec<_> = results
            .map(|result| {
                let error = result.output.expect_err("cut off");
                assert!(
                    !error.is_timed_out() && !error.is_panic(),
                    "{kind}: {error}"
                );
                result.index
            })
            .collect();
        left.sort_unstable();
        assert_eq!(left, (1..10).collect::<Vec<_>>(), "{kind}");
    }
}

#[test]
fn a_batch_on_an_executor_that_is_shut_down_gives_one_error_per_task() {
    let _watch = watchdog(20);
    for (kind, executor) in each() {
        executor.shutdown(true);
        let tasks = (0..4).map(|number| async move { number });
        let results: Vec<_> = executor.run_multiple(tasks, options(2)).collect();
        assert_eq!(results.len(), 4, "{kind}");
        for result in results {
            assert!(result.output.expect_err("refused").is_shut_down(), "{kind}");
        }
    }
}

#[test]
fn consumed_on_the_only_thread_that_could_do_the_work_every_result_is_an_error() {
    let _watch = watchdog(20);
    let executor = Arc::new(background());
    let inner = executor.clone();
    let answers = executor.submit(async move {
        let tasks = (0..3).map(|number| async move { number });
        inner
            .run_multiple(tasks, options(2))
            .map(|result| result.output.is_err_and(|error| error.is_would_deadlock()))
            .collect::<Vec<_>>()
    });
    assert_eq!(answers.wait().expect("a value"), [true; 3]);
}

#[test]
fn on_the_only_worker_of_its_pool_every_result_is_an_error_too() {
    let _watch = watchdog(20);
    let pool = pool_of(1);
    let inner = pool.clone();
    let answers = pool.spawn_blocking(move || {
        let tasks = (0..3).map(|number| async move { number });
        let errors = inner.run_multiple(tasks, options(2));
        errors
            .map(|result| result.output.is_err_and(|error| error.is_would_deadlock()))
            .collect::<Vec<_>>()
    });
    assert_eq!(answers.wait().expect("a value"), [true; 3]);
    assert_eq!(pool.run(async { 7 }).expect("it goes on"), 7);
}

#[test]
fn workers_that_all_consume_batches_of_their_own_pool_run_them() {
    let _watch = watchdog(30);
    let pool = pool_of(2);
    let gate = Gate::new();
    let consumers: Vec<_> = (0..2)
        .map(|_| {
            let (inner, at) = (pool.clone(), gate.clone());
            pool.spawn_blocking(move || {
                at.pass();
                let tasks = (0..20).map(|number| async move {
                    yield_now().await;
                    sleep(Duration::from_micros(50)).await;
                    number
                });
                let results = inner.run_multiple(tasks, options(3));
                results
                    .map(|result| result.output.expect("a value"))
                    .sum::<i32>()
            })
        })
        .collect();
    gate.wait_entered(2);
    gate.open();
    for consumer in consumers {
        assert_eq!(consumer.wait().expect("a value"), 190);
    }
}

#[test]
fn awaited_by_what_blocks_the_only_thread_every_result_is_an_error() {
    let _watch = watchdog(20);
    let executor = Arc::new(background());
    let inner = executor.clone();
    let answers = executor.submit(async move {
        let tasks = (0..3).map(|number| async move { number });
        let mut results = inner.run_multiple_async(tasks, options(2));
        let mut deadlocks = 0;
        while let Some(result) = block_on(next(&mut results)) {
            deadlocks += u32::from(result.output.is_err_and(|error| error.is_would_deadlock()));
        }
        deadlocks
    });
    assert_eq!(answers.wait().expect("a value"), 3);
}

#[test]
fn awaited_by_what_blocks_a_worker_at_the_cap_it_is_worked_off() {
    let _watch = watchdog(20);
    let pool = pool_of(1);
    let inner = pool.clone();
    let sum = pool.spawn_blocking(move || {
        let tasks = (0..10).map(|number| async move {
            yield_now().await;
            number
        });
        let mut results = inner.run_multiple_async(tasks, options(3));
        block_on(async {
            let mut sum = 0;
            while let Some(result) = next(&mut results).await {
                sum += result.output.expect("a value");
            }
            sum
        })
    });
    assert_eq!(sum.wait().expect("a value"), 45);
}

#[test]
fn a_batch_is_known_by_the_line_of_its_call() {
    let _watch = watchdog(20);
    let pool = pool_of(1);
    let gate = Gate::new();
    let _open = OpenAtEnd(gate.clone());
    let at = gate.clone();
    let line = line!() + 1;
    let results = pool.run_multiple([async move { at.pass() }], options(1));
    gate.wait_entered(1);
    let report = pool.shutdown_timeout(Shutdown::Drain, Duration::ZERO);
    let place = report.stuck.first().expect("it runs").spawned_at;
    assert_eq!((place.file(), place.line()), (file!(), line));
    drop(results);
}

#[test]
fn awaited_on_its_own_thread_the_async_one_works() {
    let _watch = watchdog(20);
    for (kind, executor) in each() {
        let inner = executor.clone();
        let sum = executor.submit(async move {
            let tasks = (0..10).map(|number| async move {
                yield_now().await;
                number
            });
            let mut results = inner.run_multiple_async(tasks, options(3));
            let mut sum = 0;
            while let Some(result) = next(&mut results).await {
                sum += result.output.expect("a value");
            }
            sum
        });
        assert_eq!(sum.wait().expect("a value"), 45, "{kind}");
    }
}

#[test]
fn results_are_awaited_anywhere() {
    let _watch = watchdog(20);
    for (_, executor) in each() {
        let tasks = || (0..5).map(|number| async move { number });
        let count = |mut results: TaskResults<i32>| async move {
            let mut count = 0;
            while next(&mut results).await.is_some() {
                count += 1;
            }
            count
        };
        let results = executor.run_multiple_async(tasks(), RunMultiple::default());
        assert_eq!(block_on(count(results)), 5);
        let results = executor.run_multiple_async(tasks(), RunMultiple::default());
        assert_eq!(kit::foreign_block_on(count(results)), 5);
    }
}

#[test]
fn a_blocked_worker_does_not_keep_results_of_others() {
    let _watch = watchdog(20);
    let executor = super::loops(2);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let at = gate.clone();
    let tasks: Vec<Pin<Box<dyn Future<Output = u8> + Send>>> = vec![
        Box::pin(async move {
            at.pass();
            1
        }),
        Box::pin(async { 2 }),
    ];
    let mut results = executor.run_multiple(tasks, options(2));
    let first = results.next().expect("one more");
    assert_eq!(first.output.expect("a value"), 2);
    gate.open();
    let second = results.next().expect("one more");
    assert_eq!(second.output.expect("a value"), 1);
    assert!(results.next().is_none());
}
