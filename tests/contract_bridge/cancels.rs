//! Cancelling a `sync_to_async` call: queued, running, and waiting for a task of its own.

use std::future::IntoFuture;
use std::time::Duration;

use portage::bridge::{async_to_sync, sync_to_async, thread_sensitive_context};
use portage::event_loop::running_loop;
use portage::time::{sleep, timeout, yield_now};
use portage::{EventLoop, ThreadPool};

use super::here;
use crate::kit::{self, Diary, Drops, Gate, OnDrop, OpenAtEnd, reports, watchdog};

fn run<F: Future>(future: F) -> F::Output {
    EventLoop::new().run_until_complete(future).expect("idle")
}

#[test]
fn dropped_while_queued_it_never_runs() {
    let _watch = watchdog(20);
    let (drops, diary) = (Drops::new(), Diary::new());
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    run(thread_sensitive_context(async {
        let at = gate.clone();
        let mut first = Box::pin(sync_to_async(move || at.pass()).into_future());
        assert!(kit::poll_once(&mut first).is_pending());
        gate.wait_entered(1);
        let (token, seen) = (drops.token(), diary.clone());
        let second = sync_to_async(move || {
            seen.note("ran");
            drop(token);
        });
        let mut second = Box::pin(second.into_future());
        assert!(kit::poll_once(&mut second).is_pending());
        drop(second);
        assert_eq!(drops.live(), 0, "the closure goes with the call");
        gate.open();
        first.await.expect("a value");
        assert_eq!(sync_to_async(|| 3).await.expect("a value"), 3);
    }));
    assert!(diary.read().is_empty());
}

#[test]
fn dropped_while_running_the_caller_is_released_at_once_and_the_result_goes_quietly() {
    let _watch = watchdog(20);
    reports::listen();
    let drops = Drops::new();
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    for panics in [false, true] {
        let gate = Gate::new();
        let _end = OpenAtEnd(gate.clone());
        run(async {
            let (at, token) = (gate.clone(), drops.token());
            let call = sync_to_async(move || {
                at.pass();
                assert!(!panics, "nobody listens any more");
                token
            });
            let mut call = Box::pin(call.thread_sensitive(false).into_future());
            assert!(kit::poll_once(&mut call).is_pending());
            gate.wait_entered(1);
            drop(call);
            assert_eq!(drops.live(), 1, "it still runs");
            gate.open();
            kit::eventually("the drop of its result", || drops.live() == 0);
        });
    }
    assert!(reports::with_text("nobody listens any more").is_empty());
}

#[test]
fn a_timeout_around_it_releases_the_caller() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let at = gate.clone();
    let result = run(timeout(
        Duration::from_millis(5),
        sync_to_async(move || at.pass())
            .thread_sensitive(false)
            .into_future(),
    ));
    assert!(result.is_err());
}

#[test]
fn dropped_while_its_thread_waits_for_an_inner_task_that_task_is_cancelled() {
    let _watch = watchdog(20);
    let (drops, answers) = (Drops::new(), Diary::new());
    run(async {
        let (token, seen) = (drops.token(), answers.clone());
        let begun = Gate::new();
        begun.open();
        let at = begun.clone();
        let call = sync_to_async(move || {
            let inner = async_to_sync(move || async move {
                let _held = token;
                at.pass();
                sleep(Duration::MAX).await;
            });
            let error = inner.call().expect_err("it was cancelled");
            seen.note(error.is_cancelled());
        });
        let mut call = Box::pin(call.into_future());
        assert!(kit::poll_once(&mut call).is_pending());
        while begun.entered() == 0 {
            yield_now().await;
        }
        drop(call);
        // the loop must turn for its task to be dropped, and nothing holds it up
        while answers.len() == 0 {
            yield_now().await;
        }
    });
    assert_eq!(answers.read(), [true]);
    kit::eventually("the drop", || drops.live() == 0);
}

#[test]
fn where_it_enters_one_afterwards_that_call_returns_cancelled_at_once() {
    let _watch = watchdog(20);
    let answers = Diary::new();
    let (gate, created) = (Gate::new(), Diary::new());
    let _end = OpenAtEnd(gate.clone());
    run(async {
        let (at, seen, made) = (gate.clone(), answers.clone(), created.clone());
        let call = sync_to_async(move || {
            at.pass();
            let inner = async_to_sync(move || async move {
                made.note(());
                sleep(Duration::MAX).await;
            });
            let error = inner.call().expect_err("the caller is gone");
            seen.note(error.is_cancelled());
        });
        let mut call = Box::pin(call.into_future());
        assert!(kit::poll_once(&mut call).is_pending());
        gate.wait_entered(1);
        drop(call);
        gate.open();
        kit::eventually("the answer, though this loop does not turn", || {
            answers.len() == 1
        });
    });
    assert_eq!(answers.read(), [true]);
    assert_eq!(created.len(), 0);
}

#[test]
fn a_cancel_travels_through_all_layers_to_the_innermost_task() {
    let _watch = watchdog(20);
    let diary = Diary::new();
    let reached = Gate::new();
    reached.open();
    let events = EventLoop::new();
    let (seen, at) = (diary.clone(), reached.clone());
    let outer = events.spawn_local(async move {
        let seen = seen;
        sync_to_async(move || {
            let middle = async_to_sync(move || async move {
                let inner = sync_to_async(move || {
                    let deepest = async_to_sync(move || async move {
                        let _bell = OnDrop::new(move || seen.note("dropped"));
                        at.pass();
                        sleep(Duration::MAX).await;
                    });
                    deepest.call().is_err()
                });
                inner.await.is_err()
            });
            middle.call().is_err()
        })
        .await
    });
    let ended = events.run_until_complete(async {
        while reached.entered() == 0 {
            yield_now().await;
        }
        let _ = outer.cancel();
        outer.await
    });
    let ended = ended.expect("it is idle");
    assert!(ended.expect_err("cancelled").is_cancelled());
    events
        .run_until_complete(async {
            while diary.len() == 0 {
                yield_now().await;
            }
        })
        .expect("it is idle");
    assert_eq!(diary.read(), ["dropped"]);
    // every thread is free again
    let shared = events.run_until_complete(async { sync_to_async(here).await });
    shared.expect("it is idle").expect("a value");
}

#[test]
fn an_inner_task_that_is_cancelled_by_others_is_an_error_of_the_call() {
    let _watch = watchdog(20);
    let error = async_to_sync(|| async {
        let task = running_loop().expect("it runs").spawn(sleep(Duration::MAX));
        let _ = task.cancel();
        task.await
    });
    let inner = error
        .call()
        .expect("the outer one ends")
        .expect_err("cancelled");
    assert!(inner.is_cancelled());
}

#[test]
fn many_calls_cancelled_at_any_moment_leave_nothing_behind() {
    let _watch = watchdog(60);
    let drops = Drops::new();
    let pool = ThreadPool::builder().core_threads(2).max_threads(2).build();
    let pool = std::sync::Arc::new(pool.expect("legal sizes"));
    run(async {
        for round in 0..300u32 {
            let token = drops.token();
            let call = sync_to_async(move || {
                let _held = token;
                if round % 3 == 0 {
                    let inner = async_to_sync(|| async { yield_now().await });
                    let _ = inner.call();
                }
            });
            let call = if round % 2 == 0 {
                call.executor(pool.clone())
            } else {
                call
            };
            let mut call = Box::pin(call.into_future());
            for _ in 0..round % 5 {
                if kit::poll_once(&mut call).is_ready() {
                    break;
                }
                yield_now().await;
            }
            drop(call);
        }
        while drops.live() > 0 {
            yield_now().await;
        }
    });
    assert_eq!(drops.dropped(), 300);
}
