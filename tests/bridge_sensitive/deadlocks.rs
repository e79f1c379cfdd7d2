//! Threads that wait for each other.

use std::future::IntoFuture;
use std::sync::mpsc::channel;
use std::thread;
use std::thread::ThreadId;
use std::time::Duration;

use portage::ThreadPool;
use portage::block_on;
use portage::bridge::async_to_sync;
use portage::bridge::sync_to_async;
use portage::bridge::thread_sensitive_context;
use portage::context::Context;
use portage::promise;
use portage::time::yield_now;

use crate::common::{LIMIT, begun, here, run, spawn};
use crate::kit::guarded;

#[test]
fn re_entering_the_shared_thread_from_itself_would_deadlock() {
    guarded(|| {
        run(async {
            let inner = sync_to_async(|| run(async { sync_to_async(|| ()).await }));
            assert!(inner.await.unwrap().unwrap_err().is_would_deadlock());
            let inner = sync_to_async(|| block_on(async { sync_to_async(|| ()).await }));
            assert!(inner.await.unwrap().unwrap_err().is_would_deadlock());
            let inner = sync_to_async(|| {
                let mut fresh = Context::new();
                fresh.run(|| block_on(async { sync_to_async(|| ()).await }))
            });
            assert!(inner.await.unwrap().unwrap_err().is_would_deadlock());
            let elsewhere = sync_to_async(|| {
                let pool = ThreadPool::global();
                pool.spawn(async { sync_to_async(|| ()).await })
                    .wait()
                    .unwrap()
            });
            assert!(elsewhere.await.unwrap().unwrap_err().is_would_deadlock());
            assert_eq!(
                sync_to_async(|| 1).await.unwrap(),
                1,
                "no flag is left behind"
            );
        });
    });
}

#[test]
fn re_entering_a_context_thread_from_itself_would_deadlock() {
    guarded(|| {
        run(thread_sensitive_context(async {
            let inner = sync_to_async(|| block_on(async { sync_to_async(|| ()).await }));
            assert!(inner.await.unwrap().unwrap_err().is_would_deadlock());
        }));
    });
}

/// D10: asgiref's flag stays set when the function fails.
#[test]
fn a_panic_on_the_shared_thread_leaves_no_false_deadlock_behind() {
    guarded(|| {
        run(async {
            assert!(
                sync_to_async(|| panic!("boom"))
                    .await
                    .unwrap_err()
                    .is_panic()
            );
            assert_eq!(sync_to_async(|| 1).await.unwrap(), 1);
        });
    });
}

#[test]
fn a_task_spawned_by_an_ended_call_may_use_the_shared_thread() {
    guarded(|| {
        run(async {
            let (go, gone) = promise::<()>();
            let task = sync_to_async(move || {
                ThreadPool::global().spawn(async move {
                    gone.await.unwrap();
                    sync_to_async(|| 3).await.unwrap()
                })
            });
            let task = task.await.unwrap();
            go.resolve(()).unwrap();
            assert_eq!(task.await.unwrap(), 3);
        });
    });
}

/// D13: a task created inside a bridge, under `gather` or `wait_for`.
#[test]
fn a_task_created_inside_a_bridge_calls_back_without_a_hang() {
    guarded(|| {
        run(async {
            let outer = sync_to_async(|| {
                let thread = here();
                let inner = async_to_sync(|| async {
                    let task = spawn(|| async { sync_to_async(here).await.unwrap() });
                    let limit = portage::time::timeout(LIMIT, task);
                    limit.await.unwrap().unwrap()
                });
                (thread, inner.call().unwrap())
            });
            let (thread, ran_on) = outer.await.unwrap();
            assert_eq!(thread, ran_on);
        });
    });
}

/// D1: the inner frame's async code needs a call back through the outer frame.
#[test]
fn a_thread_parked_in_an_inner_bridge_serves_the_outer_one() {
    guarded(|| {
        let caller = here();
        let outer = async_to_sync(|| async {
            let (ask, asked) = promise::<()>();
            let (answer, answered) = promise::<ThreadId>();
            // This task belongs to the outer frame.
            let helper = spawn(move || async move {
                asked.await.unwrap();
                answer.resolve(sync_to_async(here).await.unwrap()).unwrap();
            });
            let inner = sync_to_async(move || {
                async_to_sync(move || async move {
                    ask.resolve(()).unwrap();
                    answered.await.unwrap()
                })
                .call()
                .unwrap()
            });
            let ran_on = inner.await.unwrap();
            helper.await.unwrap();
            ran_on
        });
        assert_eq!(outer.call().unwrap(), caller);
    });
}

#[test]
fn an_insensitive_waiter_does_not_hold_the_thread_of_the_setter() {
    guarded(|| {
        run(async {
            let (set, is_set) = promise::<u32>();
            let waiter = sync_to_async(move || is_set.wait().unwrap());
            let waiter = begun(waiter.thread_sensitive(false).into_future());
            let setter = sync_to_async(move || set.resolve(5).unwrap());
            setter.await.unwrap();
            assert_eq!(waiter.await.unwrap(), 5);
        });
    });
}

/// Many chains of bridges at once, three layers deep, some of them dropped half way.
#[test]
fn many_nested_chains_at_once_all_end() {
    fn layer(depth: u32) -> u32 {
        if depth == 0 {
            return 1;
        }
        let call = async_to_sync(move || async move {
            let dropped = begun_or_done(sync_to_async(move || depth).into_future());
            yield_now().await;
            drop(dropped);
            let task = spawn(move || async move { sync_to_async(move || 1).await.unwrap() });
            let below = sync_to_async(move || layer(depth - 1)).await.unwrap();
            below + task.await.unwrap()
        });
        call.call().unwrap()
    }
    fn begun_or_done<F: Future + Unpin>(mut future: F) -> F {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = std::pin::Pin::new(&mut future).poll(&mut cx);
        future
    }
    let threads: Vec<_> = (0..6)
        .map(|_| thread::spawn(|| guarded(|| (0..20).map(|_| layer(3)).sum::<u32>())))
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), 20 * 4);
    }
}

#[test]
fn many_tasks_share_the_shared_thread_and_the_loop_without_a_hang() {
    guarded(|| {
        run(async {
            let tasks: Vec<_> = (0..100_u32)
                .map(|i| {
                    spawn(move || async move {
                        let call = sync_to_async(move || {
                            async_to_sync(move || async move {
                                yield_now().await;
                                sync_to_async(move || i).await.unwrap()
                            })
                            .call()
                            .unwrap()
                        });
                        call.await.unwrap()
                    })
                })
                .collect();
            for (i, task) in (0..).zip(tasks) {
                assert_eq!(task.await.unwrap(), i);
            }
        });
    });
}

/// D2: in asgiref the setter waits for the thread that waits for the setter.
#[test]
fn a_waiter_with_a_context_of_its_own_does_not_hold_the_thread_of_the_setter() {
    guarded(|| {
        run(async {
            let (set, is_set) = promise::<u32>();
            let (begun, begins) = promise::<()>();
            let waiter = spawn(move || {
                thread_sensitive_context(async move {
                    let call = sync_to_async(move || {
                        begun.resolve(()).unwrap();
                        is_set.wait().unwrap()
                    });
                    call.await.unwrap()
                })
            });
            begins.await.unwrap();
            sync_to_async(move || set.resolve(5).unwrap())
                .await
                .unwrap();
            assert_eq!(waiter.await.unwrap(), 5);
        });
    });
}

/// D2, where both must be on the one thread: calls on it are one after another by contract, so
/// the waiter has to limit its wait; then the setter gets its turn.
#[test]
fn a_sensitive_waiter_with_a_limit_gives_the_thread_to_the_setter() {
    guarded(|| {
        run(async {
            let (set, mut is_set) = promise::<u32>();
            let (both_begun, go) = channel::<()>();
            let waiter = sync_to_async(move || {
                let _ = go.recv();
                let early = is_set.wait_timeout(Duration::from_millis(2));
                (early.is_none(), is_set)
            });
            let waiter = begun(waiter.into_future());
            let setter = begun(sync_to_async(move || set.resolve(5).unwrap()).into_future());
            drop(both_begun);
            let (timed_out, is_set) = waiter.await.unwrap();
            assert!(timed_out, "the setter is behind the waiter");
            setter.await.unwrap();
            assert_eq!(is_set.await.unwrap(), 5);
        });
    });
}

/// D2: whoever awaits the waiter is never part of the deadlock.
#[test]
fn giving_up_on_a_sensitive_waiter_releases_its_caller_at_once() {
    guarded(|| {
        run(async {
            let (set, is_set) = promise::<u32>();
            let (begun_at, begins) = promise::<()>();
            let waiter = sync_to_async(move || {
                begun_at.resolve(()).unwrap();
                is_set.wait().unwrap()
            });
            let waiter = begun(waiter.into_future());
            begins.await.unwrap();
            let mut queued = begun(sync_to_async(|| unreachable!("given up")).into_future());
            drop(waiter);
            assert!(begun_again(&mut queued), "the thread is not released");
            drop(queued);
            set.resolve(5).unwrap();
            assert_eq!(sync_to_async(|| 6).await.unwrap(), 6);
        });
    });
}

fn begun_again<F: Future + Unpin>(future: &mut F) -> bool {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::Pin::new(future).poll(&mut cx).is_pending()
}
