//! `async_to_sync`: where it may be called, which loop it uses, and how deep it nests.

use std::future::IntoFuture;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use portage::bridge::{async_to_sync, sync_to_async};
use portage::event_loop::{LoopState, running_loop};
use portage::time::{sleep, yield_now};
use portage::{EventLoop, ThreadPool, block_on};

use super::here;
use crate::kit::{self, Diary, Drops, on_new_thread, scripted, watchdog};

fn run<F: Future>(future: F) -> F::Output {
    EventLoop::new().run_until_complete(future).expect("idle")
}

#[test]
fn on_a_thread_whose_loop_runs_it_is_refused_and_nothing_is_created() {
    let _watch = watchdog(20);
    let diary = Diary::new();
    let seen = diary.clone();
    let error = run(async {
        async_to_sync(move || {
            seen.note(());
            async { 1 }
        })
        .call()
    });
    let error = error.expect_err("a loop runs here");
    assert!(error.is_running_loop() && !error.is_would_deadlock());
    assert_eq!(diary.len(), 0);
    let forced = run(async { async_to_sync(|| async { 1 }).force_new_loop(true).call() });
    assert!(forced.expect_err("a loop runs here").is_running_loop());
    assert_eq!(async_to_sync(|| async { 2 }).call().expect("none runs"), 2);
}

#[test]
fn block_on_pool_tasks_and_foreign_runtimes_do_not_count() {
    let _watch = watchdog(20);
    let call = || {
        async_to_sync(|| async { 3 })
            .call()
            .expect("no loop of ours runs")
    };
    assert_eq!(block_on(async { call() }), 3);
    assert_eq!(kit::foreign_block_on(async { call() }), 3);
    let pool = ThreadPool::builder()
        .core_threads(1)
        .build()
        .expect("legal");
    assert_eq!(
        pool.spawn(async move { call() }).wait().expect("a value"),
        3
    );
    assert_eq!(pool.spawn_blocking(call).wait().expect("a value"), 3);
}

#[test]
fn a_pinned_task_is_driven_by_a_loop_and_refused_at_every_poll() {
    let _watch = watchdog(20);
    let pool = ThreadPool::builder().core_threads(1).build();
    let refused = || {
        let call = async_to_sync(|| async { 1 }).call();
        call.is_err_and(|error| error.is_running_loop())
    };
    let task = pool.expect("legal").spawn_pinned(move || async move {
        let first = refused();
        yield_now().await;
        (first, refused())
    });
    assert_eq!(task.wait().expect("a value"), (true, true));
}

#[test]
fn the_future_need_not_be_send() {
    let _watch = watchdog(20);
    let value = async_to_sync(|| {
        let rc = Rc::new(4);
        async move {
            yield_now().await;
            sleep(Duration::from_millis(1)).await;
            *rc
        }
    });
    assert_eq!(value.call().expect("a value"), 4);
}

#[test]
fn below_sync_to_async_it_uses_the_parents_loop() {
    let _watch = watchdog(20);
    let home = here();
    let (there, created) = run(async {
        sync_to_async(move || {
            assert_ne!(here(), home);
            async_to_sync(|| {
                let created = here();
                async move { (here(), created) }
            })
            .call()
            .expect("a value")
        })
        .await
        .expect("a value")
    });
    assert_eq!((there, created), (home, home));
}

#[test]
fn forced_it_uses_a_loop_of_its_own() {
    let _watch = watchdog(20);
    let home = here();
    let there = run(async {
        let call = sync_to_async(|| {
            async_to_sync(|| async { here() })
                .force_new_loop(true)
                .call()
        });
        call.await.expect("a value").expect("a value")
    });
    assert_ne!(there, home);
}

#[test]
fn a_parent_loop_that_no_longer_runs_is_not_used() {
    let _watch = watchdog(20);
    // the pool's thread once worked for a loop that is gone; a later call must not wait for it
    let pool = std::sync::Arc::new(
        ThreadPool::builder()
            .core_threads(1)
            .max_threads(1)
            .build()
            .expect("legal"),
    );
    let same = pool.clone();
    run(async move {
        let call = sync_to_async(|| async_to_sync(|| async { 1 }).call()).executor(same);
        call.await.expect("a value").expect("a value");
    });
    let later = pool.spawn_blocking(|| async_to_sync(|| async { 2 }).call());
    assert_eq!(
        later.wait().expect("a value").expect("a loop of its own"),
        2
    );
}

#[test]
fn leftover_tasks_of_its_own_loop_are_cancelled_before_it_returns() {
    let _watch = watchdog(20);
    let drops = Drops::new();
    let token = drops.token();
    let (conductor, future) = scripted::<()>();
    let (task, events) = async_to_sync(move || async move {
        let events = running_loop().expect("a loop of its own");
        let task = events.spawn(async move {
            let _held = token;
            future.await;
        });
        yield_now().await;
        (task, events)
    })
    .call()
    .expect("a value");
    assert!(task.is_finished() && task.is_cancelled());
    assert_eq!(drops.live(), 0);
    assert!(task.wait().expect_err("a leftover").is_cancelled());
    assert_ne!(events.state(), LoopState::Running);
    conductor.complete(());
}

#[test]
fn leftover_tasks_of_a_parent_loop_live_on() {
    let _watch = watchdog(20);
    let value = run(async {
        let call = sync_to_async(|| {
            async_to_sync(|| async {
                let parent = running_loop().expect("the parent's");
                [parent.spawn(async {
                    yield_now().await;
                    5
                })]
            })
            .call()
        });
        let [task] = call.await.expect("a value").expect("a value");
        task.await.expect("it lives on")
    });
    assert_eq!(value, 5);
}

#[test]
fn it_nests_four_levels_deep_and_every_thread_is_the_right_one() {
    let _watch = watchdog(20);
    let main = here();
    let seen = async_to_sync(move || async move {
        let first_loop = here();
        let seen = sync_to_async(move || {
            let first_sync = here();
            let (second_loop, inner) = async_to_sync(|| async {
                let task = running_loop().expect("it runs").spawn(async {
                    yield_now().await;
                    sync_to_async(here).await.expect("a value")
                });
                let spawned = task.await.expect("a value");
                let direct = sync_to_async(here).await.expect("a value");
                (here(), (spawned, direct))
            })
            .call()
            .expect("a value");
            (first_sync, second_loop, inner)
        });
        (first_loop, seen.await.expect("a value"))
    })
    .call()
    .expect("a value");
    let (first_loop, (first_sync, second_loop, (spawned, direct))) = seen;
    assert_eq!(first_sync, main);
    assert_eq!(first_loop, second_loop, "the parent's loop, no extra one");
    assert_eq!((spawned, direct), (main, main));
}

#[test]
fn it_nests_from_an_async_start_too() {
    let _watch = watchdog(20);
    let home = here();
    run(async move {
        let (shared, inner, deepest) = sync_to_async(|| {
            let inner = async_to_sync(|| async {
                let deepest = sync_to_async(|| {
                    let back = async_to_sync(|| async { here() }).call();
                    (here(), back.expect("a value"))
                });
                (here(), deepest.await.expect("a value"))
            });
            let (inner, deepest) = inner.call().expect("a value");
            (here(), inner, deepest)
        })
        .await
        .expect("a value");
        assert_eq!(inner, home);
        assert_eq!(deepest, (shared, home));
    });
}

#[test]
fn calls_from_many_threads_do_not_disturb_each_other() {
    let _watch = watchdog(30);
    std::thread::scope(|scope| {
        for number in 0..6 {
            scope.spawn(move || {
                let caller = here();
                for round in 0..20 {
                    let value = async_to_sync(move || async move {
                        yield_now().await;
                        let there = sync_to_async(here).await.expect("a value");
                        (there, number * 100 + round)
                    });
                    let value = value.call().expect("a value");
                    assert_eq!(value, (caller, number * 100 + round));
                }
            });
        }
    });
}

#[test]
fn a_job_left_for_the_lane_when_the_frame_ends_still_resolves() {
    let _watch = watchdog(20);
    let (sender, receiver) = std::sync::mpsc::channel();
    let value = async_to_sync(move || async move {
        let mut call = Box::pin(sync_to_async(here).into_future());
        // the frame may be so quick that there is nothing left to drain
        let there = match kit::poll_once(&mut call) {
            Poll::Ready(there) => Ok(there),
            Poll::Pending => Err(call),
        };
        sender.send(there).expect("it listens");
        7
    });
    assert_eq!(value.call().expect("a value"), 7);
    let there = match receiver.recv().expect("sent") {
        Ok(there) => there,
        Err(call) => kit::foreign_block_on(call),
    };
    assert_eq!(there.expect("what was queued is drained"), here());
}

#[test]
fn a_timeout_ends_the_call_and_drops_the_future() {
    let _watch = watchdog(20);
    let drops = Drops::new();
    let token = drops.token();
    let limit = Duration::from_millis(20);
    let start = Instant::now();
    let error = async_to_sync(move || async move {
        let _held = token;
        sleep(Duration::MAX).await;
    })
    .timeout(limit)
    .call()
    .expect_err("too long");
    assert!(start.elapsed() >= limit);
    assert!(error.is_timed_out() && !error.is_cancelled());
    assert_eq!(drops.live(), 0);
}

#[test]
fn a_timeout_on_a_parents_loop_leaves_that_loop_alone() {
    let _watch = watchdog(20);
    let value = run(async {
        let call = sync_to_async(|| {
            let slow = async_to_sync(|| sleep(Duration::MAX)).timeout(Duration::from_millis(5));
            slow.call().expect_err("too long").is_timed_out()
        });
        assert!(call.await.expect("a value"));
        sync_to_async(|| 8).await.expect("a value")
    });
    assert_eq!(value, 8);
}

#[test]
fn a_parent_loop_that_stops_meanwhile_is_no_hang() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let handle = events.handle();
    let (sender, receiver) = std::sync::mpsc::channel();
    let stopping = handle.clone();
    handle
        .spawn(async move {
            let call = sync_to_async(move || {
                let result = async_to_sync(move || async move {
                    stopping.stop();
                    sleep(Duration::MAX).await;
                });
                sender.send(result.call().is_err()).expect("it listens");
            });
            let _ = call.await;
        })
        .detach();
    events.run_until_stopped().expect("it is idle");
    drop(events);
    assert!(
        receiver.recv().expect("it ended"),
        "its loop is gone: an error"
    );
}

#[test]
fn it_works_on_a_thread_that_ends_right_after() {
    let _watch = watchdog(20);
    for _ in 0..20 {
        let value = on_new_thread(|| {
            async_to_sync(|| async { sync_to_async(|| 9).await.expect("a value") }).call()
        });
        assert_eq!(value.expect("a value"), 9);
    }
}
