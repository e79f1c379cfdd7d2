//! Blocks of code that share a thread.

use std::sync::mpsc::channel;

use portage::bridge::Route;
use portage::bridge::async_single_thread_context;
use portage::bridge::async_to_sync;
use portage::bridge::sync_to_async;
use portage::bridge::thread_sensitive_context;
use portage::context::Context;
use portage::context::ContextVar;
use portage::promise;
use portage::time::yield_now;

use crate::common::{begun, here, run, spawn};
use crate::kit::guarded;

#[test]
fn a_thread_sensitive_context_has_one_thread_of_its_own() {
    guarded(|| {
        run(async {
            let shared = sync_to_async(here).await.unwrap();
            let (one, two, nested) = thread_sensitive_context(async {
                let call = sync_to_async(here);
                assert_eq!(call.explain(), Route::ContextThread);
                let one = call.await.unwrap();
                let two = spawn(|| async { sync_to_async(here).await.unwrap() });
                let nested = thread_sensitive_context(async { sync_to_async(here).await });
                (one, two.await.unwrap(), nested.await.unwrap())
            })
            .await;
            assert_eq!((one, one), (two, nested));
            assert_ne!(one, shared);
            assert_ne!(one, here());
        });
    });
}

#[test]
fn parallel_thread_sensitive_contexts_have_different_threads() {
    guarded(|| {
        run(async {
            let (a, arrived_a) = promise::<()>();
            let (b, arrived_b) = promise::<()>();
            let meet = |mine: portage::Promise<()>, other: portage::JoinHandle<()>| {
                spawn(move || {
                    thread_sensitive_context(async move {
                        let meeting = sync_to_async(move || {
                            // Each waits for the other: on one thread this would hang.
                            mine.resolve(()).unwrap();
                            other.wait().unwrap();
                            here()
                        });
                        meeting.await.unwrap()
                    })
                })
            };
            let (one, two) = (meet(a, arrived_b), meet(b, arrived_a));
            assert_ne!(one.await.unwrap(), two.await.unwrap());
        });
    });
}

#[test]
fn a_thread_sensitive_context_without_sync_work_is_free() {
    guarded(|| {
        assert_eq!(run(thread_sensitive_context(async { 3 })), 3);
    });
}

#[test]
fn variables_set_in_a_thread_sensitive_context_are_seen_after_it() {
    static VAR: ContextVar<u32> = ContextVar::new("var");
    guarded(|| {
        run(async {
            let before = VAR.set(1);
            thread_sensitive_context(async {
                let token = VAR.set(2);
                yield_now().await;
                VAR.reset(token).unwrap();
                VAR.set(3);
                sync_to_async(|| VAR.set(VAR.get().unwrap() + 1))
                    .await
                    .unwrap();
                assert_eq!(Context::current().len(), 1, "the affinity is no variable");
            })
            .await;
            assert_eq!(VAR.get(), Some(4));
            VAR.reset(before).unwrap();
        });
    });
}

/// D5: the exit does not wait for a thread that is held.
#[test]
fn leaving_a_thread_sensitive_context_does_not_block_the_loop() {
    guarded(|| {
        let (go, gone) = channel::<()>();
        let (done, finished) = promise();
        run(async move {
            thread_sensitive_context(async move {
                let (started, starts) = channel();
                let held = sync_to_async(move || {
                    started.send(()).unwrap();
                    gone.recv().unwrap();
                    done.resolve(()).unwrap();
                });
                let held = begun(held.into_future());
                starts.recv().unwrap();
                drop(held);
            })
            .await;
        });
        go.send(()).unwrap();
        assert!(finished.wait().is_ok(), "what runs there runs to its end");
    });
}

#[test]
fn a_task_that_escaped_from_a_thread_sensitive_context_gets_a_new_thread() {
    guarded(|| {
        run(async {
            let (go, gone) = promise::<()>();
            let (first, task) = thread_sensitive_context(async {
                let first = sync_to_async(here).await.unwrap();
                let task = spawn(|| async move {
                    gone.await.unwrap();
                    let late = sync_to_async(here).await.unwrap();
                    (late, sync_to_async(here).await.unwrap())
                });
                (first, task)
            })
            .await;
            go.resolve(()).unwrap();
            let (late, later) = task.await.unwrap();
            assert_eq!(late, later);
            assert_ne!(late, first);
        });
    });
}

#[test]
fn calls_in_an_async_single_thread_context_share_a_thread() {
    static VAR: ContextVar<u32> = ContextVar::new("var");
    guarded(|| {
        let thread_of = || async_to_sync(|| async { here() }).call().unwrap();
        let (one, two, nested) = async_single_thread_context(|| {
            let nested = || async_single_thread_context(thread_of);
            (thread_of(), thread_of(), nested())
        });
        assert_eq!((one, one), (two, nested));
        assert_ne!(one, here());
        async_single_thread_context(|| {
            VAR.set(1);
            async_to_sync(|| async { VAR.set(2) }).call().unwrap();
            let second = async_to_sync(|| async { VAR.get() });
            assert_eq!(second.call().unwrap(), Some(2));
        });
        assert_eq!(async_single_thread_context(|| 5), 5);
    });
}

#[test]
fn a_parent_loop_is_preferred_to_the_single_thread() {
    guarded(|| {
        run(async {
            let parent = here();
            let inner = sync_to_async(|| {
                async_single_thread_context(|| async_to_sync(|| async { here() }).call().unwrap())
            });
            assert_eq!(inner.await.unwrap(), parent);
        });
    });
}

#[test]
fn a_forced_new_loop_inside_a_single_thread_context_does_not_wait_for_itself() {
    guarded(|| {
        let nested = async_single_thread_context(|| {
            async_to_sync(|| async {
                let inner = || {
                    async_to_sync(|| async { here() })
                        .force_new_loop(true)
                        .call()
                };
                (here(), sync_to_async(inner).await.unwrap().unwrap())
            })
            .call()
        });
        let (outer, inner) = nested.unwrap();
        assert_ne!(outer, inner);
    });
}

#[test]
fn inside_a_frame_the_frame_comes_before_the_block() {
    guarded(|| {
        let caller = here();
        let inside = async_to_sync(|| {
            thread_sensitive_context(async {
                let call = sync_to_async(here);
                (call.explain(), call.await.unwrap())
            })
        });
        assert_eq!(inside.call().unwrap(), (Route::CallingThread, caller));
    });
}

#[test]
fn sync_code_in_a_block_that_calls_back_stays_on_the_block_s_thread() {
    guarded(|| {
        run(thread_sensitive_context(async {
            let nested = sync_to_async(|| {
                let inner = async_to_sync(|| async {
                    thread_sensitive_context(async { sync_to_async(here).await.unwrap() }).await
                });
                (here(), inner.call().unwrap())
            });
            let (outer, inner) = nested.await.unwrap();
            assert_eq!(outer, inner);
        }));
    });
}
