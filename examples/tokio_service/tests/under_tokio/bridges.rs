//! Both bridges below a tokio task: it is the foreign runtime of the contract.

use std::future::IntoFuture;
use std::sync::Arc;
use std::thread;

use portage::bridge::{Route, async_to_sync, exec_in_executor, exec_in_executor_async};
use portage::bridge::{sync_to_async, thread_sensitive_context};
use portage::{Context, ContextVar, ThreadPool};

use crate::kit::{Drops, Gate, OpenAtEnd, eventually};
use crate::on_each;

static USER: ContextVar<u32> = ContextVar::new("user");

fn here() -> thread::ThreadId {
    thread::current().id()
}

#[test]
fn sensitive_calls_of_their_tasks_share_one_thread() {
    on_each(|| async {
        let call = sync_to_async(here);
        assert_eq!(call.explain(), Route::SharedThread);
        let first = call.await.expect("no panic");
        let other = tokio::spawn(async { sync_to_async(here).await.expect("no panic") });
        assert_eq!(other.await.expect("no panic"), first);
        assert_ne!(first, here());
        let mine = thread_sensitive_context(async {
            let one = sync_to_async(here).await.expect("no panic");
            tokio::task::yield_now().await;
            assert_eq!(sync_to_async(here).await.expect("no panic"), one);
            one
        });
        assert_ne!(mine.await, first);
    });
}

#[test]
fn below_a_bridged_call_their_runtime_does_not_count_as_a_loop() {
    on_each(|| async {
        // blocks this task's thread, as its author says; no error, no hang
        let thread = here();
        let call = async_to_sync(move || async move {
            let back = sync_to_async(here).await.expect("no panic");
            assert_eq!(
                back, thread,
                "sync code inside is back on the thread that waits"
            );
            41
        });
        assert_eq!(call.call().expect("no loop of ours runs here"), 41);
        let nested = sync_to_async(|| {
            async_to_sync(|| async { sync_to_async(|| 42).await.expect("no panic") }).call()
        });
        assert_eq!(nested.await.expect("no panic").expect("no loop"), 42);
    });
}

#[test]
fn their_channels_work_in_the_async_code_of_a_call() {
    on_each(|| async {
        let (send, receive) = tokio::sync::oneshot::channel();
        let sender = tokio::spawn(async move { send.send(6) });
        let blocking = sync_to_async(|| async_to_sync(|| receive).call());
        let got = blocking.thread_sensitive(false).await.expect("no panic");
        assert_eq!(got.expect("no loop here"), Ok(6));
        assert_eq!(sender.await.expect("no panic"), Ok(()));
    });
}

#[test]
fn variables_flow_back_into_an_attached_task() {
    on_each(|| async {
        let task = Context::new().attach(async {
            USER.set(1);
            let seen = sync_to_async(|| (USER.get(), USER.set(2)).0).await;
            assert_eq!(seen.expect("no panic"), Some(1));
            tokio::task::yield_now().await;
            USER.get()
        });
        assert_eq!(tokio::spawn(task).await.expect("no panic"), Some(2));
    });
}

#[test]
fn an_aborted_task_releases_its_call_and_cancels_nested_async_code() {
    on_each(|| async {
        let (drops, gate) = (Drops::new(), Gate::new());
        let _open = OpenAtEnd(gate.clone());
        let (token, at) = (drops.token(), gate.clone());
        let task = tokio::spawn(async move {
            let call = sync_to_async(move || {
                async_to_sync(move || async move {
                    let _token = token;
                    at.pass();
                    std::future::pending::<()>().await;
                })
                .call()
            });
            call.thread_sensitive(false).into_future().await
        });
        // the nested code is there; a thread of its own can wait for that
        let begun = gate.clone();
        let there = tokio::task::spawn_blocking(move || begun.wait_entered(1));
        there.await.expect("no panic");
        gate.open();
        task.abort();
        assert!(task.await.expect_err("aborted").is_cancelled());
        let ended = tokio::task::spawn_blocking(move || {
            eventually("the nested code is dropped", || drops.live() == 0);
        });
        ended.await.expect("no panic");
    });
}

#[test]
fn calls_on_an_executor_are_awaited_by_their_tasks() {
    on_each(|| async {
        let pool = Arc::new(
            ThreadPool::builder()
                .core_threads(1)
                .build()
                .expect("legal"),
        );
        let job = exec_in_executor(Some(&*pool), || ThreadPool::current().is_some());
        assert!(job.expect("it is open").await.expect("no panic"));
        let (send, receive) = tokio::sync::oneshot::channel();
        let waits = exec_in_executor_async(Some(&*pool), || receive).expect("it is open");
        // the one worker is free while that future is suspended
        let job = exec_in_executor(Some(&*pool), || send.send(1)).expect("it is open");
        job.await.expect("no panic").expect("it waits");
        assert_eq!(waits.await.expect("no panic"), Ok(1));
    });
}
