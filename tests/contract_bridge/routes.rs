//! Which thread a `sync_to_async` call runs on, and that `explain` says so.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use portage::bridge::{
    Route, async_single_thread_context, async_to_sync, sync_to_async, thread_sensitive_context,
};
use portage::event_loop::running_loop;
use portage::pool::Shutdown;
use portage::time::{sleep, yield_now};
use portage::{EventLoop, ThreadPool, block_on};

use super::here;
use crate::kit::{self, Diary, Gate, OpenAtEnd, on_new_thread, text_of, watchdog};

fn run<F: Future>(future: F) -> F::Output {
    EventLoop::new().run_until_complete(future).expect("idle")
}

#[test]
fn by_default_it_is_the_one_shared_thread_of_the_process() {
    let _watch = watchdog(20);
    let call = || sync_to_async(here);
    let (first, second, third) = run(async {
        assert_eq!(call().explain(), Route::SharedThread);
        let first = call().await.expect("a value");
        let second = call().await.expect("a value");
        (
            first,
            second,
            call().thread_sensitive(true).await.expect("a value"),
        )
    });
    assert_eq!((first, first), (second, third));
    assert_ne!(first, here());
    let elsewhere = on_new_thread(|| kit::foreign_block_on(call().into_future()));
    assert_eq!(elsewhere.expect("a value"), first, "one for the process");
    let blocked = block_on(call().into_future()).expect("a value");
    assert_eq!(blocked, first);
}

#[test]
fn calls_on_the_shared_thread_are_serial_and_in_order() {
    let _watch = watchdog(20);
    let diary = Diary::new();
    run(async {
        let calls: Vec<_> = (0..10)
            .map(|number| {
                let diary = diary.clone();
                let call = sync_to_async(move || {
                    diary.note((number, "begins"));
                    std::thread::yield_now();
                    diary.note((number, "ends"));
                });
                Box::pin(call.into_future())
            })
            .collect();
        // all are polled first, so all are queued; some may be done by then
        let left: Vec<_> = calls
            .into_iter()
            .filter_map(|mut call| kit::poll_once(&mut call).is_pending().then_some(call))
            .collect();
        for call in left {
            call.await.expect("a value");
        }
    });
    let expected: Vec<_> = (0..10)
        .flat_map(|number| [(number, "begins"), (number, "ends")])
        .collect();
    assert_eq!(diary.read(), expected);
}

#[test]
fn insensitive_it_is_the_global_pool() {
    let _watch = watchdog(20);
    let call = || sync_to_async(|| ThreadPool::current().is_some()).thread_sensitive(false);
    assert_eq!(call().explain(), Route::Pool);
    assert!(run(async { call().await }).expect("a value"));
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    // two insensitive calls run side by side
    run(async {
        let mut calls = [gate.clone(), gate.clone()].map(|gate| {
            let call = sync_to_async(move || gate.pass()).thread_sensitive(false);
            Box::pin(call.into_future())
        });
        for call in &mut calls {
            assert!(kit::poll_once(call).is_pending());
        }
        gate.wait_entered(2);
        gate.open();
        for call in calls {
            call.await.expect("a value");
        }
    });
}

#[test]
fn naming_an_executor_implies_insensitive() {
    let _watch = watchdog(20);
    let pool = ThreadPool::builder().core_threads(1).thread_name("named");
    let pool = Arc::new(pool.build().expect("legal sizes"));
    let name = || std::thread::current().name().map(str::to_owned);
    let call = sync_to_async(name).executor(pool.clone());
    assert_eq!(call.explain(), Route::Executor);
    let there = run(async { call.await }).expect("a value");
    assert!(there.expect("a name").starts_with("named"));
    // also where a sync frame waits above
    let there = async_to_sync(move || async move { sync_to_async(name).executor(pool).await });
    let there = there.call().expect("a value").expect("a value");
    assert!(there.expect("a name").starts_with("named"));
}

#[test]
fn an_executor_that_is_shut_down_is_an_error() {
    let _watch = watchdog(20);
    let pool = ThreadPool::builder().core_threads(1).build();
    let pool = Arc::new(pool.expect("legal sizes"));
    pool.shutdown(Shutdown::Drain);
    let call = sync_to_async(|| 1).executor(pool);
    let error = run(async { call.await }).expect_err("shut down");
    assert!(error.is_shut_down(), "{error}");
}

#[test]
fn below_a_waiting_sync_frame_it_is_the_calling_thread() {
    let _watch = watchdog(20);
    let caller = here();
    let (route, first, spawned) = async_to_sync(|| async {
        let route = sync_to_async(here).explain();
        let first = sync_to_async(here).await.expect("a value");
        let task = running_loop().expect("a loop of its own").spawn(async {
            yield_now().await;
            sync_to_async(here).await.expect("a value")
        });
        (route, first, task.await.expect("a value"))
    })
    .call()
    .expect("a value");
    assert_eq!(route, Route::CallingThread);
    assert_eq!((first, spawned), (caller, caller));
}

#[test]
fn a_task_without_our_context_uses_the_lane_registered_for_its_loop() {
    let _watch = watchdog(20);
    let caller = here();
    let (route, there) = async_to_sync(|| async {
        let events = running_loop().expect("a loop of its own");
        // spawned from a thread that knows nothing of the frame
        let task = on_new_thread(|| {
            events.spawn(async {
                let call = sync_to_async(here);
                let route = call.explain();
                (route, call.await.expect("a value"))
            })
        });
        task.await.expect("a value")
    })
    .call()
    .expect("a value");
    assert_eq!(route, Route::LoopThread);
    assert_eq!(there, caller);
}

#[test]
fn inside_a_thread_sensitive_context_it_is_that_contexts_thread() {
    let _watch = watchdog(20);
    let inside = || async {
        let route = sync_to_async(here).explain();
        let first = sync_to_async(here).await.expect("a value");
        yield_now().await;
        let second = sync_to_async(here).await.expect("a value");
        assert_eq!(first, second);
        let nested = thread_sensitive_context(async { sync_to_async(here).await });
        assert_eq!(nested.await.expect("a value"), first, "the outermost wins");
        (route, first)
    };
    run(async {
        let shared = sync_to_async(here).await.expect("a value");
        let (route, first) = thread_sensitive_context(inside()).await;
        let (_, second) = thread_sensitive_context(inside()).await;
        assert_eq!(route, Route::ContextThread);
        assert_ne!(first, shared);
        assert_ne!(second, shared);
        let after = sync_to_async(here);
        assert_eq!(after.explain(), Route::SharedThread);
        assert_eq!(after.await.expect("a value"), shared);
        let text = String::from("borrowed");
        let length = thread_sensitive_context(async { text.len() }).await;
        assert_eq!(length, 8, "unused it is free");
    });
}

#[test]
fn two_contexts_at_once_have_two_threads() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let events = EventLoop::new();
    let spawn = |gate: Gate| {
        events.spawn_local(thread_sensitive_context(async move {
            let there = sync_to_async(move || {
                gate.pass();
                here()
            });
            there.await.expect("a value")
        }))
    };
    let (first, second) = (spawn(gate.clone()), spawn(gate.clone()));
    let opener = gate.clone();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            opener.wait_entered(2);
            opener.open();
        });
        let both = events.run_until_complete(async { (first.await, second.await) });
        let (first, second) = both.expect("it is idle");
        assert_ne!(first.expect("a value"), second.expect("a value"));
    });
}

#[test]
fn leaving_a_context_never_blocks_the_loop_and_an_escaped_task_gets_a_new_thread() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let events = EventLoop::new();
    let handle = events.handle();
    let at = gate.clone();
    events
        .run_until_complete(async {
            let go = Gate::new();
            let (escaped, first) = thread_sensitive_context(async {
                let first = sync_to_async(here).await.expect("a value");
                let mut busy = Box::pin(sync_to_async(move || at.pass()).into_future());
                assert!(kit::poll_once(&mut busy).is_pending());
                gate.wait_entered(1);
                drop(busy);
                let escaped = handle.spawn({
                    let go = go.clone();
                    async move {
                        while go.entered() == 0 {
                            yield_now().await;
                        }
                        sync_to_async(here).await
                    }
                });
                (escaped, first)
            })
            .await;
            // its thread still sits at the gate, and here we are
            go.open();
            go.pass();
            let late = escaped.await.expect("it ran").expect("a value");
            assert_ne!(late, first);
            let shared = sync_to_async(here).await.expect("a value");
            assert_ne!(late, shared, "a new thread of its own");
        })
        .expect("it is idle");
}

#[test]
fn re_entering_the_shared_thread_from_itself_is_an_error_each_time() {
    let _watch = watchdog(20);
    for _ in 0..3 {
        let answer = run(async {
            sync_to_async(|| {
                let again = block_on(sync_to_async(|| 1).into_future());
                again
                    .expect_err("it would wait for itself")
                    .is_would_deadlock()
            })
            .await
        });
        assert!(answer.expect("a value"));
    }
    // the guard is released, also after a panic
    let bad = run(async { sync_to_async(|| -> u8 { panic!("inside") }).await });
    assert!(bad.expect_err("it panicked").is_panic());
    assert_eq!(
        run(async { sync_to_async(|| 2).await }).expect("a value"),
        2
    );
}

#[test]
fn a_panic_comes_back_with_its_payload() {
    let _watch = watchdog(20);
    for sensitive in [true, false] {
        let call = sync_to_async(|| -> u8 { panic!("in the sync part") });
        let error = run(async { call.thread_sensitive(sensitive).await });
        let error = error.expect_err("it panicked");
        assert!(error.is_panic() && !error.is_cancelled());
        let join = error.into_join_error().expect("it came from a job");
        let payload = join.into_panic().expect("a payload");
        assert_eq!(text_of(&*payload), "in the sync part");
    }
    let error = async_to_sync(|| async { panic!("in the async part") }).call();
    let error: Result<(), _> = error;
    let join = error.expect_err("it panicked").into_join_error();
    let payload = join.expect("it came from a task").into_panic();
    assert_eq!(text_of(&*payload.expect("a payload")), "in the async part");
}

#[test]
fn it_is_not_run_before_its_first_poll() {
    let _watch = watchdog(20);
    let drops = kit::Drops::new();
    let diary = Diary::new();
    let (token, seen) = (drops.token(), diary.clone());
    let call = sync_to_async(move || {
        seen.note("ran");
        drop(token);
    });
    drop(call);
    assert_eq!((drops.live(), diary.len()), (0, 0));
    let token = drops.token();
    drop(sync_to_async(move || drop(token)).into_future());
    assert_eq!(drops.live(), 0);
}

#[test]
fn calls_inside_a_single_thread_context_share_one_thread_for_their_loops() {
    let _watch = watchdog(20);
    let there = || async_to_sync(|| async { here() }).call().expect("a value");
    let (first, second, nested) = async_single_thread_context(|| {
        let first = there();
        let nested = async_single_thread_context(there);
        (first, there(), nested)
    });
    assert_eq!((first, first), (second, nested));
    let back = async_single_thread_context(|| {
        async_to_sync(|| async { sync_to_async(here).await.expect("a value") }).call()
    });
    assert_eq!(
        back.expect("a value"),
        here(),
        "the lane is still the caller's"
    );
}

#[test]
fn in_a_single_thread_context_the_parent_loop_is_still_preferred() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let home = here();
    let there = events.run_until_complete(async {
        let call = sync_to_async(|| {
            async_single_thread_context(|| async_to_sync(|| async { here() }).call())
        });
        call.await.expect("a value").expect("a value")
    });
    assert_eq!(there.expect("it is idle"), home);
}

#[test]
fn a_timeout_of_any_length_is_legal() {
    let _watch = watchdog(20);
    for time in [Duration::MAX, Duration::from_secs(60)] {
        let value = async_to_sync(|| async { 1 }).timeout(time).call();
        assert_eq!(value.expect("in time"), 1);
    }
    let zero = async_to_sync(|| sleep(Duration::MAX))
        .timeout(Duration::ZERO)
        .call();
    assert!(zero.expect_err("it never ends").is_timed_out());
}
