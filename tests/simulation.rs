//! The simulation itself: that it repeats, that it varies, and what it finds.
#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    reason = "programs of a simulation stand outside of the tests"
)]

mod kit;

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use kit::watchdog;
use portage::execution_queue::{AsyncExecutionQueue, Close};
use portage::pool::Shutdown;
use portage::sync::ThreadWithException;
use portage::time::{sleep, timeout, yield_now};
use portage::{
    CurrentThreadExecutor, EventLoop, JoinHandle, ThreadPool, block_on, promise, simulation,
};

fn pool(core: usize) -> ThreadPool {
    ThreadPool::builder()
        .core_threads(core)
        .build()
        .expect("a legal size")
}

/// A log of who did what, in a program with a pool, a loop and timers.
fn log_of(seed: u64) -> Vec<String> {
    simulation::run(seed, || {
        let log = Arc::new(Mutex::new(Vec::new()));
        let pool = pool(2);
        let jobs: Vec<_> = (0..6)
            .map(|n| {
                let log = log.clone();
                pool.spawn(async move {
                    sleep(Duration::from_millis(n % 3)).await;
                    log.lock().unwrap().push(format!("{n}"));
                })
            })
            .collect();
        let event_loop = EventLoop::new();
        let mine = log.clone();
        event_loop
            .run_until_complete(async move {
                for job in jobs {
                    job.await.unwrap();
                    mine.lock().unwrap().push("joined".into());
                }
            })
            .unwrap();
        drop(pool);
        let at = simulation::elapsed();
        let mut log = log.lock().unwrap().clone();
        log.push(format!("{at:?}"));
        log
    })
    .unwrap()
}

#[test]
fn the_same_choices_do_the_same_and_others_do_not() {
    let _dog = watchdog(60);
    let mut all = BTreeSet::new();
    for seed in 0..40 {
        let log = log_of(seed);
        assert_eq!(log_of(seed), log, "seed {seed}");
        all.insert(log);
    }
    assert!(all.len() > 10, "{} different logs", all.len());
}

#[test]
fn hours_take_no_time_and_deadlines_are_exact() {
    let _dog = watchdog(60);
    let real = Instant::now();
    let passed = simulation::run(1, || {
        let start = simulation::now();
        block_on(sleep(Duration::from_secs(7200)));
        assert_eq!(simulation::now() - start, Duration::from_secs(7200));
        let late = block_on(timeout(
            Duration::from_nanos(3),
            std::future::pending::<()>(),
        ));
        assert!(late.is_err());
        simulation::elapsed()
    });
    assert_eq!(passed.unwrap(), Duration::new(7200, 3));
    assert!(real.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_hang_says_who_waits_for_what() {
    let _dog = watchdog(60);
    let fault = simulation::run(3, || {
        let pool = pool(2);
        let (left, right) = (promise::<()>(), promise::<()>());
        let (open_left, left) = left;
        let (open_right, right) = right;
        let one = pool.spawn_blocking(move || {
            let _ = left.wait();
            let _ = open_right.resolve(());
        });
        let two = pool.spawn_blocking(move || {
            let _ = right.wait();
            let _ = open_left.resolve(());
        });
        let _ = (one.wait(), two.wait());
    })
    .unwrap_err();
    assert!(fault.is_hang(), "{fault}");
    let text = fault.to_string();
    for part in [
        "`the program` waits",
        "`portage-0` waits",
        "`portage-1` waits",
        "simulation.rs:",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn what_stays_alive_is_a_leak() {
    let _dog = watchdog(60);
    let fault = simulation::run(3, || {
        let (promise, _handle) = promise::<u8>();
        std::mem::forget(promise);
    })
    .unwrap_err();
    assert!(fault.is_leak(), "{fault}");
}

#[test]
fn an_endless_program_is_told() {
    let _dog = watchdog(120);
    let fault: Result<(), _> = simulation::run(3, || {
        loop {
            block_on(sleep(Duration::from_secs(1)));
        }
    });
    assert!(fault.unwrap_err().is_endless());
}

#[test]
fn lanes_loops_and_pools_meet() {
    let _dog = watchdog(60);
    simulation::explore(0..60, || {
        let pool = pool(1);
        let lane = CurrentThreadExecutor::new(None);
        let (remote, inner) = (lane.clone(), pool.clone());
        let job = pool.spawn_blocking(move || {
            let here = remote.submit(|| 20).unwrap();
            let there = inner.spawn_blocking(|| 1);
            here.wait().unwrap() + there.wait().unwrap()
        });
        let sum = lane.run_until_future(job).unwrap().unwrap();
        assert_eq!(sum, 21);
        let report = pool.shutdown(Shutdown::Drain);
        assert!(report.completed, "{report:?}");
        let counts = pool.metrics();
        assert_eq!(
            (counts.submitted, counts.completed, counts.threads),
            (2, 2, 0)
        );
    });
}

#[test]
fn a_panic_of_the_program_is_a_panic_of_the_run() {
    let _dog = watchdog(60);
    let outcome = std::panic::catch_unwind(|| simulation::run(1, || panic!("as told")));
    assert_eq!(*outcome.unwrap_err().downcast::<&str>().unwrap(), "as told");
}

#[test]
fn threads_of_the_crate_take_part_everywhere() {
    let _dog = watchdog(60);
    simulation::explore(0..30, || {
        use portage::bridge::{async_to_sync, sync_to_async};
        use portage::executors::{AsyncExecutorExt, EventLoopPoolExecutor, RunMultiple};
        let thread = ThreadWithException::spawn(|| 1).unwrap();
        let executor = EventLoopPoolExecutor::new(2).unwrap();
        let tasks = (0..4).map(|n| async move { n });
        let results = executor.run_multiple(tasks, RunMultiple::default());
        let sum: i32 = results.map(|result| result.output.unwrap()).sum();
        let bridged = async_to_sync(|| async { sync_to_async(|| 3).await.unwrap() });
        let other = block_on(async { sync_to_async(|| 4).thread_sensitive(false).await.unwrap() });
        let shared = block_on(async { sync_to_async(|| 5).await.unwrap() });
        assert_eq!((sum, bridged.call().unwrap(), other, shared), (6, 3, 4, 5));
        assert_eq!(thread.join(), 1);
    });
}

type Boxed = Pin<Box<dyn Future<Output = i32>>>;

/// Both, at the same time.
async fn both(mut one: Boxed, mut other: Boxed) -> i32 {
    let (mut first, mut second) = (None, None);
    poll_fn(|cx| {
        for (future, slot) in [(&mut one, &mut first), (&mut other, &mut second)] {
            if slot.is_none() {
                if let Poll::Ready(value) = future.as_mut().poll(cx) {
                    *slot = Some(value);
                }
            }
        }
        match (first, second) {
            (Some(one), Some(other)) => Poll::Ready(one + other),
            _ => Poll::Pending,
        }
    })
    .await
}

#[test]
fn workers_at_the_cap_that_are_woken_in_vain_do_not_keep_each_other_up() {
    let _dog = watchdog(60);
    // A thread that never sleeps lets no time pass: that program has no end.
    for (workers, in_a_loop) in [(1, false), (6, false), (1, true), (6, true)] {
        simulation::explore(0..10, move || {
            let pool = ThreadPool::builder()
                .core_threads(workers)
                .max_threads(workers)
                .build()
                .unwrap();
            let nap = |pool: &ThreadPool, time| {
                pool.spawn(async move {
                    sleep(Duration::from_micros(time)).await;
                    1
                })
            };
            let waiting: Vec<_> = (0..workers as u64)
                .map(|n| {
                    let (one, other) = (nap(&pool, 100 + n), nap(&pool, 300 - n));
                    pool.spawn_blocking(move || {
                        let one = async { one.await.unwrap() };
                        let other = async { other.await.unwrap() };
                        let all = both(Box::pin(one) as Boxed, Box::pin(other) as Boxed);
                        match in_a_loop {
                            true => EventLoop::new().run_until_complete(all).unwrap(),
                            false => block_on(all),
                        }
                    })
                })
                .collect();
            let queued = pool.spawn_blocking(|| 3);
            for job in waiting {
                assert_eq!(job.wait().unwrap(), 2);
            }
            assert_eq!(queued.wait().unwrap(), 3);
            assert!(simulation::elapsed() < Duration::from_millis(2));
        });
    }
}

#[test]
fn a_job_that_waits_for_the_end_of_its_pool_runs_what_is_woken_meanwhile() {
    let _dog = watchdog(60);
    let naps = |time| async move {
        sleep(Duration::from_micros(time)).await;
        yield_now().await;
        time
    };
    for (max, mode) in [
        (1, Shutdown::Drain),
        (3, Shutdown::Drain),
        (1, Shutdown::CancelQueued),
    ] {
        simulation::explore(0..20, move || {
            let pool = ThreadPool::builder().core_threads(1).max_threads(max);
            let pool = pool.build().unwrap();
            let (anywhere, pinned) = (pool.spawn(naps(90)), pool.spawn_pinned(move || naps(70)));
            let own = pool.clone();
            let ends = pool.spawn_blocking(move || own.shutdown(mode).completed);
            for (task, time) in [(anywhere, 90), (pinned, 70)] {
                match task.wait() {
                    Ok(slept) => assert_eq!(slept, time),
                    Err(error) => assert!(error.is_cancelled() && mode == Shutdown::CancelQueued),
                }
            }
            assert!(ends.wait().unwrap());
        });
    }
}

/// Its drop lets others go first.
struct Lingers;

impl Drop for Lingers {
    fn drop(&mut self) {
        simulation::switch();
    }
}

#[test]
fn a_close_waits_also_for_what_another_close_cancels() {
    let _dog = watchdog(60);
    simulation::explore(0..60, || {
        let pool = pool(2);
        let queue = AsyncExecutionQueue::builder().executor(Arc::new(pool.clone()));
        let queue = Arc::new(queue.build().unwrap());
        let jobs = [(); 5].map(|()| {
            let lingers = Lingers;
            queue.add_task(move || drop(lingers)).unwrap()
        });
        let theirs = queue.clone();
        let other = pool.spawn(async move { theirs.aclose(Close::CancelPending).await });
        let cancelled = jobs[4].cancel_handle();
        let third = pool.spawn_blocking(move || cancelled.cancel());
        simulation::switch();
        queue.close(Close::Drain);
        assert!(queue.is_empty());
        assert!(jobs.iter().all(JoinHandle::is_finished));
        other.wait().unwrap();
        third.wait().unwrap();
    });
}

#[test]
fn a_start_hook_that_panics_leaves_no_pinned_task_behind() {
    let _dog = watchdog(60);
    simulation::explore(0..60, || {
        let pool = ThreadPool::builder().core_threads(3).max_threads(3);
        let pool = pool.on_thread_start(|index| assert!(index < 2, "no start"));
        let pool = pool.build().unwrap();
        let drops = kit::Drops::new();
        let pinned = [(); 2].map(|()| {
            let token = drops.token();
            pool.spawn_pinned(move || async move {
                let stays = std::rc::Rc::new(token);
                for _ in 0..8 {
                    simulation::switch();
                    yield_now().await;
                }
                sleep(Duration::from_secs(3600)).await;
                drop(stays);
            })
        });
        let jobs = [(); 3].map(|()| pool.spawn_blocking(simulation::switch));
        for task in pinned {
            if let Err(error) = task.wait() {
                assert!(error.is_shut_down() || error.is_cancelled(), "{error}");
                assert!(simulation::elapsed() < Duration::from_secs(3600));
            }
        }
        for job in jobs {
            drop(job.wait());
        }
        assert!(pool.shutdown(Shutdown::Drain).completed);
        assert_eq!(drops.live(), 0);
    });
}

/// The time of a simulation passes once everybody sleeps: the waits have all been looked at by then.
#[test]
fn deep_waits_that_sleep_until_somebody_outside_brings_the_value_are_no_deadlock() {
    fn down(levels: u32, told: JoinHandle<u32>) -> u32 {
        if levels == 0 {
            return told.wait().unwrap();
        }
        let pool = ThreadPool::current().unwrap();
        let next = pool.spawn_blocking(move || down(levels - 1, told));
        next.wait().unwrap() + 1
    }
    let _watch = watchdog(60);
    for seed in 0..20 {
        let sum = simulation::run(seed, || {
            let builder = ThreadPool::builder().core_threads(2).max_threads(2);
            let pool = builder.stack_size(128 << 10).build().unwrap();
            let (done, told) = promise();
            let waits = pool.spawn_blocking(move || down(8, told));
            block_on(sleep(Duration::from_millis(20)));
            done.resolve(1).unwrap();
            waits.wait().unwrap()
        });
        assert_eq!(sum.unwrap(), 9);
    }
}
