//! What flows with the context.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use portage::bridge::ContextMode;
use portage::bridge::async_to_sync;
use portage::bridge::sync_to_async;
use portage::context::ContextVar;

use crate::common::{begun, forever, run};
use crate::kit::guarded;

#[test]
fn variables_flow_in_and_back_through_both_bridges() {
    static VAR: ContextVar<u32> = ContextVar::new("var");
    guarded(|| {
        VAR.set(0);
        let step = || VAR.set(VAR.get().unwrap() + 1);
        async_to_sync(move || async move {
            step();
            sync_to_async(move || {
                step();
                async_to_sync(move || async move {
                    step();
                    sync_to_async(move || drop(step())).await.unwrap();
                })
                .call()
                .unwrap();
            })
            .await
            .unwrap();
            step();
        })
        .call()
        .unwrap();
        assert_eq!(VAR.get(), Some(5));
    });
}

#[test]
fn a_variable_that_was_un_set_is_un_set_for_the_caller_too() {
    static VAR: ContextVar<u32> = ContextVar::new("var");
    static KEPT: ContextVar<u32> = ContextVar::new("kept");
    guarded(|| {
        run(async {
            KEPT.set(1);
            let set_here = sync_to_async(|| VAR.set(1)).await.unwrap();
            assert_eq!(VAR.get(), Some(1));
            drop(set_here);
            sync_to_async(|| {
                let token = VAR.set(2);
                VAR.reset(token).unwrap();
            })
            .await
            .unwrap();
            assert_eq!((VAR.get(), KEPT.get()), (Some(1), Some(1)));
        });
    });
}

#[test]
fn the_context_is_that_of_the_first_poll() {
    static VAR: ContextVar<u32> = ContextVar::new("var");
    guarded(|| {
        run(async {
            VAR.set(1);
            let call = sync_to_async(|| VAR.get());
            VAR.set(2);
            assert_eq!(call.await.unwrap(), Some(2));
        });
    });
}

#[test]
fn context_modes_choose_what_flows() {
    static VAR: ContextVar<u32> = ContextVar::new("var");
    guarded(|| {
        run(async {
            VAR.set(1);
            let change = || {
                let seen = VAR.get();
                VAR.set(2);
                seen
            };
            let empty = sync_to_async(change).context(ContextMode::Empty).await;
            assert_eq!((empty.unwrap(), VAR.get()), (None, Some(1)));
            let into = sync_to_async(change).context(ContextMode::In).await;
            assert_eq!((into.unwrap(), VAR.get()), (Some(1), Some(1)));
            let both = sync_to_async(change).context(ContextMode::InOut).await;
            assert_eq!((both.unwrap(), VAR.get()), (Some(1), Some(2)));
        });
        VAR.set(1);
        let change = || async {
            let seen = VAR.get();
            VAR.set(2);
            seen
        };
        let empty = async_to_sync(change).context(ContextMode::Empty).call();
        assert_eq!((empty.unwrap(), VAR.get()), (None, Some(1)));
        let into = async_to_sync(change).context(ContextMode::In).call();
        assert_eq!((into.unwrap(), VAR.get()), (Some(1), Some(1)));
        assert_eq!(async_to_sync(change).call().unwrap(), Some(1));
        assert_eq!(VAR.get(), Some(2));
    });
}

#[test]
fn variables_flow_back_from_a_panic_and_from_a_cancel() {
    static VAR: ContextVar<u32> = ContextVar::new("var");
    guarded(|| {
        let failed = async_to_sync(|| async {
            VAR.set(1);
            panic!("boom")
        });
        assert!(failed.call().unwrap_err().is_panic());
        assert_eq!(VAR.get(), Some(1));
        let begun = Arc::new(AtomicBool::new(false));
        let mut limit = Duration::from_millis(5);
        // On a slow machine the time may be up before the code has begun.
        while !begun.load(Ordering::Acquire) {
            let begins = begun.clone();
            let late = async_to_sync(move || async move {
                VAR.set(2);
                begins.store(true, Ordering::Release);
                forever().await;
            });
            assert!(late.timeout(limit).call().unwrap_err().is_timed_out());
            limit *= 2;
        }
        assert_eq!(VAR.get(), Some(2));
        run(async {
            let failed = sync_to_async(|| {
                VAR.set(3);
                panic!("boom")
            });
            assert!(failed.await.unwrap_err().is_panic());
            assert_eq!(VAR.get(), Some(3));
        });
    });
}

#[test]
fn only_what_was_changed_comes_back() {
    static MINE: ContextVar<u32> = ContextVar::new("mine");
    static THEIRS: ContextVar<u32> = ContextVar::new("theirs");
    guarded(|| {
        run(async {
            MINE.set(1);
            let (go, gone) = channel::<()>();
            let call = sync_to_async(move || {
                gone.recv().unwrap();
                THEIRS.set(1);
            });
            let call = begun(call.thread_sensitive(false).into_future());
            MINE.set(2);
            go.send(()).unwrap();
            call.await.unwrap();
            assert_eq!((MINE.get(), THEIRS.get()), (Some(2), Some(1)));
        });
    });
}
