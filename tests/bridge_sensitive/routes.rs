//! Where calls run.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::thread;

use portage::Executor;
use portage::Job;
use portage::SubmitError;
use portage::ThreadPool;
use portage::block_on;
use portage::bridge::Route;
use portage::bridge::async_to_sync;
use portage::bridge::sync_to_async;
use portage::event_loop::running_loop;
use portage::pool::Shutdown;
use portage::promise;

use crate::common::{begun, here, run, spawn, tell, told};
use crate::kit::guarded;

#[test]
fn sync_code_returns_its_value_and_its_panic() {
    guarded(|| {
        run(async {
            assert_eq!(sync_to_async(|| 7).await.unwrap(), 7);
            let error = sync_to_async(|| panic!("boom")).await.unwrap_err();
            let payload = error.into_join_error().unwrap().into_panic().unwrap();
            assert_eq!(payload.downcast_ref(), Some(&"boom"));
            assert_eq!(sync_to_async(|| 8).await.unwrap(), 8, "the thread is alive");
        });
    });
}

#[test]
fn async_outermost_all_sensitive_calls_share_one_thread() {
    guarded(|| {
        let (one, name) = run(async {
            let call = sync_to_async(|| (here(), thread::current().name().map(str::to_owned)));
            assert_eq!(call.explain(), Route::SharedThread);
            call.await.unwrap()
        });
        let two = block_on(async { sync_to_async(here).await.unwrap() });
        assert_eq!(one, two);
        assert_ne!(one, here());
        assert_eq!(name.as_deref(), Some("portage-shared"));
    });
}

#[test]
fn sensitive_calls_never_overlap() {
    guarded(|| {
        let inside = Arc::new(AtomicBool::new(false));
        run(async {
            let calls: Vec<_> = (0..8)
                .map(|_| {
                    let inside = inside.clone();
                    spawn(move || async move {
                        sync_to_async(move || {
                            assert!(!inside.swap(true, Ordering::SeqCst));
                            thread::yield_now();
                            assert!(inside.swap(false, Ordering::SeqCst));
                        })
                        .await
                        .unwrap();
                    })
                })
                .collect();
            for call in calls {
                call.await.unwrap();
            }
        });
    });
}

#[test]
fn sync_outermost_sensitive_calls_run_on_the_calling_thread() {
    guarded(|| {
        let ran_on = async_to_sync(|| async {
            let call = sync_to_async(here);
            assert_eq!(call.explain(), Route::CallingThread);
            let direct = call.await.unwrap();
            let task = spawn(|| async { sync_to_async(here).await.unwrap() });
            (direct, task.await.unwrap(), here())
        });
        let (direct, in_task, loop_thread) = ran_on.call().unwrap();
        assert_eq!((direct, in_task), (here(), here()));
        assert_ne!(loop_thread, here());
    });
}

#[test]
fn async_inside_sync_inside_async_is_back_on_the_first_loop() {
    guarded(|| {
        run(async {
            let outer = here();
            let inner = sync_to_async(|| async_to_sync(|| async { here() }).call().unwrap());
            assert_eq!(inner.await.unwrap(), outer);
        });
    });
}

#[test]
fn four_alternating_layers_keep_their_threads() {
    guarded(|| {
        let outermost = here();
        let layers = async_to_sync(|| async {
            let on_loop = here();
            let sync = sync_to_async(move || {
                let first = here();
                let inner =
                    async_to_sync(|| async { (here(), sync_to_async(here).await.unwrap()) });
                (first, inner.call().unwrap())
            });
            (on_loop, sync.await.unwrap())
        });
        let (on_loop, (first, (second_loop, second))) = layers.call().unwrap();
        assert_eq!((first, second), (outermost, outermost));
        assert_eq!(on_loop, second_loop);
        assert_ne!(on_loop, outermost);

        let (shared, loop_thread, again) = run(async {
            sync_to_async(|| {
                let inner =
                    async_to_sync(|| async { (here(), sync_to_async(here).await.unwrap()) });
                let (loop_thread, again) = inner.call().unwrap();
                (here(), loop_thread, again)
            })
            .await
            .unwrap()
        });
        assert_eq!(shared, again);
        assert_eq!(loop_thread, outermost);
    });
}

#[test]
fn an_insensitive_call_runs_on_the_pool() {
    guarded(|| {
        run(async {
            let call = sync_to_async(|| ThreadPool::current().is_some());
            let call = call.thread_sensitive(false);
            assert_eq!(call.explain(), Route::Pool);
            assert!(call.await.unwrap());
        });
    });
}

#[test]
fn a_named_executor_gets_the_call_once_and_makes_it_insensitive() {
    struct Counting(AtomicUsize);
    impl Executor for Counting {
        fn execute(&self, job: Job) -> Result<(), SubmitError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            job.run();
            Ok(())
        }
    }
    guarded(|| {
        run(async {
            let counting = Arc::new(Counting(AtomicUsize::new(0)));
            let call = sync_to_async(here).executor(counting.clone());
            assert_eq!(call.explain(), Route::Executor);
            assert_eq!(call.await.unwrap(), here());
            assert_eq!(counting.0.load(Ordering::Relaxed), 1);
        });
    });
}

#[test]
fn a_refusal_is_an_error_and_leaves_no_false_deadlock_behind() {
    guarded(|| {
        run(async {
            let pool = ThreadPool::builder().core_threads(1).build().unwrap();
            pool.shutdown(Shutdown::Drain);
            let (tell, dropped) = tell();
            let call = sync_to_async(move || drop(tell)).executor(Arc::new(pool));
            assert!(call.await.unwrap_err().is_shut_down());
            told(&dropped);
            assert_eq!(sync_to_async(|| 1).await.unwrap(), 1);
        });
    });
}

#[test]
fn a_task_that_came_without_a_context_finds_the_frame_of_its_loop() {
    guarded(|| {
        let caller = here();
        let ran_on = async_to_sync(|| async {
            let handle = running_loop().unwrap();
            let (pass, passed) = promise();
            // A thread of its own begins in an empty context.
            let stranger = thread::spawn(move || {
                let task = handle.spawn(async {
                    let call = sync_to_async(here);
                    (call.explain(), call.await.unwrap())
                });
                pass.resolve(task).unwrap();
            });
            let found = passed.flatten().await.unwrap();
            stranger.join().unwrap();
            found
        });
        assert_eq!(ran_on.call().unwrap(), (Route::LoopThread, caller));
    });
}

#[test]
fn tasks_of_a_finished_frame_find_a_live_outer_one() {
    guarded(|| {
        let outermost = here();
        let late = async_to_sync(move || async move {
            let (go, gone) = promise::<()>();
            let inner = sync_to_async(move || {
                // The inner frame ends before its task calls back.
                let inner = async_to_sync(move || async move {
                    spawn(move || async move {
                        gone.await.unwrap();
                        sync_to_async(here).await.unwrap()
                    })
                });
                inner.call().unwrap()
            });
            let task = inner.await.unwrap();
            go.resolve(()).unwrap();
            task.await.unwrap()
        });
        assert_eq!(late.call().unwrap(), outermost);
    });
}

/// D9: background tasks after the frame ended.
#[test]
fn a_task_that_outlives_all_frames_goes_to_the_shared_thread() {
    guarded(|| {
        run(async {
            let (go, gone) = promise::<()>();
            let task = sync_to_async(move || {
                let inner = async_to_sync(move || async move {
                    spawn(move || async move {
                        gone.await.unwrap();
                        let call = sync_to_async(here);
                        (call.explain(), call.await.unwrap())
                    })
                });
                inner.call().unwrap()
            });
            let task = task.await.unwrap();
            go.resolve(()).unwrap();
            let (route, ran_on) = task.await.unwrap();
            assert_eq!(route, Route::SharedThread);
            assert_eq!(ran_on, sync_to_async(here).await.unwrap());
        });
    });
}

/// asgiref's test_two_nested_tasks_with_asyncio_run: the drain lets both run.
#[test]
fn what_was_queued_when_the_frame_ends_still_runs() {
    guarded(|| {
        let (go, gone) = channel::<()>();
        let tasks = async_to_sync(move || async move {
            // The first holds the thread of the frame, the second is queued behind it.
            let first = sync_to_async(move || gone.recv().is_ok());
            let first = begun(first.into_future());
            let second = begun(sync_to_async(|| true).into_future());
            go.send(()).unwrap();
            (first, second)
        });
        let (first, second) = tasks.call().unwrap();
        assert!(block_on(first).unwrap());
        assert!(block_on(second).unwrap());
    });
}
