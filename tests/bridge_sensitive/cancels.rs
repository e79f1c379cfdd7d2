//! How a cancel travels.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;

use portage::bridge::async_to_sync;
use portage::bridge::sync_to_async;
use portage::context::ContextVar;
use portage::promise;
use portage::promise::set_unhandled_hook;
use portage::time::yield_now;

use crate::common::{LIMIT, begun, forever, run, spawn, tell, told};
use crate::kit::guarded;

#[test]
fn dropped_while_queued_it_never_runs() {
    guarded(|| {
        run(async {
            let (go, gone) = channel::<()>();
            let holding = begun(sync_to_async(move || gone.recv().unwrap()).into_future());
            let (tell, dropped) = tell();
            let ran = Arc::new(AtomicBool::new(false));
            let runs = ran.clone();
            let queued = sync_to_async(move || {
                let _tell = tell;
                runs.store(true, Ordering::SeqCst);
            });
            drop(begun(queued.into_future()));
            dropped.try_recv().expect("the closure is gone");
            go.send(()).unwrap();
            holding.await.unwrap();
            sync_to_async(|| ()).await.unwrap();
            assert!(!ran.load(Ordering::SeqCst));
        });
    });
}

#[test]
fn dropped_while_running_it_releases_the_task_and_runs_on() {
    static VAR: ContextVar<u32> = ContextVar::new("var");
    guarded(|| {
        run(async {
            let (started, starts) = channel();
            let (go, gone) = channel::<()>();
            let (done, finished) = promise();
            let (tell, dropped) = tell();
            let call = sync_to_async(move || {
                started.send(()).unwrap();
                gone.recv().unwrap();
                VAR.set(1);
                done.resolve(portage::cancel::is_cancelled()).unwrap();
                tell
            });
            let call = begun(call.into_future());
            starts.recv().unwrap();
            drop(call);
            go.send(()).unwrap();
            assert!(finished.await.unwrap(), "it can see that it was cancelled");
            told(&dropped);
            sync_to_async(|| ()).await.unwrap();
            assert_eq!(VAR.get(), None, "nothing is written back");
        });
    });
}

#[test]
fn dropped_while_its_thread_waits_in_a_nested_call_the_inner_task_is_cancelled() {
    guarded(|| {
        let (pass, passed) = channel();
        run(async move {
            let (started, starts) = promise();
            let (tell, dropped) = tell();
            let call = sync_to_async(move || {
                let inner = async_to_sync(move || async move {
                    let _tell = tell;
                    started.resolve(()).unwrap();
                    forever().await;
                });
                pass.send(inner.call()).unwrap();
            });
            let call = begun(call.into_future());
            starts.await.unwrap();
            drop(call);
            // The loop must turn once to drop it.
            while dropped.try_recv().is_err() {
                yield_now().await;
            }
        });
        let error = passed.recv_timeout(LIMIT).unwrap().unwrap_err();
        assert!(error.is_cancelled(), "{error:?}");
    });
}

/// D7: the cancel comes before the nested call.
#[test]
fn dropped_before_its_thread_enters_a_nested_call_that_is_cancelled_at_once() {
    guarded(|| {
        run(async {
            let (started, starts) = channel();
            let (go, gone) = channel::<()>();
            let (done, finished) = promise();
            let call = sync_to_async(move || {
                started.send(()).unwrap();
                gone.recv().unwrap();
                let inner = async_to_sync(|| -> std::future::Ready<()> { panic!("created") });
                done.resolve(inner.call().unwrap_err().is_cancelled())
                    .unwrap();
            });
            let call = begun(call.into_future());
            starts.recv().unwrap();
            drop(call);
            go.send(()).unwrap();
            assert!(finished.await.unwrap());
        });
    });
}

/// asgiref's test_inner_shield_*: five layers.
#[test]
fn a_cancel_travels_through_five_layers_to_the_innermost_task() {
    guarded(|| {
        run(async {
            let (started, starts) = promise();
            let (tell, dropped) = tell();
            let layers = sync_to_async(move || {
                async_to_sync(move || async move {
                    sync_to_async(move || {
                        async_to_sync(move || async move {
                            let _tell = tell;
                            started.resolve(()).unwrap();
                            forever().await;
                        })
                        .call()
                    })
                    .await
                })
                .call()
            });
            let call = begun(layers.into_future());
            starts.await.unwrap();
            drop(call);
            while dropped.try_recv().is_err() {
                yield_now().await;
            }
            // The thread is free again.
            sync_to_async(|| ()).await.unwrap();
        });
    });
}

#[test]
fn work_that_was_handed_to_another_task_is_shielded_from_the_cancel() {
    guarded(|| {
        run(async {
            let (started, starts) = promise();
            let (go, gone) = promise::<()>();
            let (done, finished) = promise();
            let call = sync_to_async(move || {
                let inner = async_to_sync(move || async move {
                    let shielded = spawn(move || async move {
                        started.resolve(()).unwrap();
                        gone.await.unwrap();
                        done.resolve(8).unwrap();
                    });
                    shielded.await
                });
                inner.call().is_err_and(|error| error.is_cancelled())
            });
            let call = begun(call.into_future());
            starts.await.unwrap();
            drop(call);
            go.resolve(()).unwrap();
            assert_eq!(finished.await.unwrap(), 8);
        });
    });
}

#[test]
fn a_nested_call_that_has_returned_is_not_cancelled_any_more() {
    guarded(|| {
        run(async {
            let (returned, returns) = promise();
            let (go, gone) = channel::<()>();
            let (done, finished) = promise();
            let call = sync_to_async(move || {
                let value = async_to_sync(|| async { 6 }).call().unwrap();
                returned.resolve(()).unwrap();
                gone.recv().unwrap();
                done.resolve(value).unwrap();
            });
            let call = begun(call.into_future());
            returns.await.unwrap();
            drop(call);
            go.send(()).unwrap();
            assert_eq!(finished.await.unwrap(), 6);
        });
    });
}

#[test]
fn a_dropped_call_whose_code_panics_is_quiet() {
    guarded(|| {
        let reports = Arc::new(Mutex::new(Vec::new()));
        let seen = reports.clone();
        set_unhandled_hook(Box::new(move |report| {
            seen.lock().unwrap().push(report.message().into_owned());
        }));
        run(async {
            let (started, starts) = channel();
            let (go, gone) = channel::<()>();
            let call = sync_to_async(move || {
                started.send(()).unwrap();
                gone.recv().unwrap();
                panic!("abandoned")
            });
            let call = begun(call.into_future());
            starts.recv().unwrap();
            drop(call);
            go.send(()).unwrap();
            sync_to_async(|| ()).await.unwrap();
        });
        let reports = reports.lock().unwrap();
        assert!(!reports.iter().any(|text| text.contains("abandoned")));
    });
}

#[test]
fn a_cancel_reaches_a_nested_call_on_a_loop_of_its_own() {
    guarded(|| {
        let (pass, passed) = channel();
        let (tell, dropped) = tell();
        run(async move {
            let (started, starts) = promise();
            let call = sync_to_async(move || {
                let inner = async_to_sync(move || async move {
                    let _tell = tell;
                    started.resolve(()).unwrap();
                    forever().await;
                });
                pass.send(inner.force_new_loop(true).call()).unwrap();
            });
            let call = begun(call.into_future());
            starts.await.unwrap();
            drop(call);
        });
        told(&dropped);
        let error = passed.recv_timeout(LIMIT).unwrap().unwrap_err();
        assert!(error.is_cancelled(), "{error:?}");
    });
}

#[test]
fn an_outer_nested_call_is_cancelled_again_after_an_inner_one_has_returned() {
    guarded(|| {
        run(async {
            let (started, starts) = promise();
            let (tell, dropped) = tell();
            let call = sync_to_async(move || {
                // The first nested call comes and goes; the cancel meets the second.
                async_to_sync(|| async {}).call().unwrap();
                let second = async_to_sync(move || async move {
                    let _tell = tell;
                    started.resolve(()).unwrap();
                    forever().await;
                });
                second.call()
            });
            let call = begun(call.into_future());
            starts.await.unwrap();
            drop(call);
            while dropped.try_recv().is_err() {
                yield_now().await;
            }
        });
    });
}

#[test]
fn dropping_the_frame_s_task_cancels_calls_that_wait_for_the_frame_s_thread() {
    guarded(|| {
        let (tell, dropped) = tell();
        let call = async_to_sync(move || async move {
            let (go, gone) = channel::<()>();
            let holding = begun(sync_to_async(move || gone.recv().is_ok()).into_future());
            let queued = begun(sync_to_async(move || drop(tell)).into_future());
            drop(queued);
            go.send(()).unwrap();
            holding.await.unwrap()
        });
        assert!(call.call().unwrap());
        dropped.try_recv().expect("the queued closure is gone");
    });
}
