//! On which loop async code runs, and how it ends.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::task::Context as PollContext;
use std::task::Poll;
use std::task::Waker;
use std::thread;
use std::thread::ThreadId;
use std::time::Duration;
use std::time::Instant;

use portage::EventLoop;
use portage::LoopHandle;
use portage::ThreadPool;
use portage::block_on;
use portage::bridge::async_to_sync;
use portage::bridge::sync_to_async;
use portage::bridge::thread_sensitive_context;
use portage::promise;
use portage::time::sleep;
use portage::time::yield_now;

use crate::common::{LIMIT, forever, here, run, spawn, tell, told};
use crate::kit::guarded;

#[test]
fn on_a_thread_whose_loop_runs_the_call_is_refused_and_nothing_created() {
    guarded(|| {
        run(async {
            let refused = async_to_sync(|| -> std::future::Ready<()> { panic!("created") });
            assert!(refused.call().unwrap_err().is_running_loop());
        });
    });
}

#[test]
fn inside_a_block_on_or_a_task_of_the_pool_the_call_works() {
    guarded(|| {
        let call = || async_to_sync(|| async { 1 }).call().unwrap();
        assert_eq!(block_on(async move { call() }), 1);
        let pool = ThreadPool::builder().core_threads(1).build().unwrap();
        assert_eq!(pool.spawn(async move { call() }).wait().unwrap(), 1);
        assert_eq!(pool.spawn_blocking(call).wait().unwrap(), 1);
    });
}

#[test]
fn a_future_that_is_not_send_may_be_called() {
    guarded(|| {
        let call = async_to_sync(|| async {
            let local = Rc::new(1);
            yield_now().await;
            *local
        });
        assert_eq!(call.call().unwrap(), 1);
    });
}

#[test]
fn a_panic_of_the_async_code_reaches_the_caller() {
    guarded(|| {
        let error = async_to_sync(|| async { panic!("boom") })
            .call()
            .unwrap_err();
        let payload = error.into_join_error().unwrap().into_panic().unwrap();
        assert_eq!(payload.downcast_ref(), Some(&"boom"));
        let created = async_to_sync(|| -> std::future::Ready<()> { panic!("boom") });
        assert!(created.call().unwrap_err().is_panic());
        run(async {
            let nested = sync_to_async(|| async_to_sync(|| async { panic!("boom") }).call());
            assert!(nested.await.unwrap().unwrap_err().is_panic());
        });
    });
}

#[test]
fn what_the_async_code_leaves_on_a_loop_of_its_own_is_gone_when_the_call_returns() {
    guarded(|| {
        let (tell, dropped) = tell();
        async_to_sync(move || async move {
            spawn(move || async move {
                let _tell = tell;
                forever().await;
            })
            .detach();
            yield_now().await;
        })
        .call()
        .unwrap();
        dropped
            .try_recv()
            .expect("the leftover task is there still");
    });
}

#[test]
fn what_the_async_code_leaves_on_the_parent_loop_survives() {
    guarded(|| {
        run(async {
            let (go, gone) = promise::<()>();
            let task = sync_to_async(move || {
                let inner = async_to_sync(move || async move {
                    spawn(move || async move { gone.await.map(|()| 4) })
                });
                inner.call().unwrap()
            });
            let task = task.await.unwrap();
            go.resolve(()).unwrap();
            assert_eq!(task.await.unwrap().unwrap(), 4);
        });
    });
}

#[test]
fn a_forced_new_loop_is_not_the_parent() {
    guarded(|| {
        run(async {
            let parent = here();
            let inner = sync_to_async(|| {
                async_to_sync(|| async { here() })
                    .force_new_loop(true)
                    .call()
                    .unwrap()
            });
            assert_ne!(inner.await.unwrap(), parent);
        });
    });
}

/// D4: a pool thread keeps no loop of an earlier call.
#[test]
fn a_thread_that_once_ran_a_call_does_not_keep_its_loop() {
    guarded(|| {
        let pool = ThreadPool::builder().core_threads(1).max_threads(1);
        let pool = pool.build().unwrap();
        let executor = Arc::new(pool.clone());
        let stale = run(async {
            sync_to_async(|| ()).executor(executor).await.unwrap();
            here()
        });
        let ran_on = pool.spawn_blocking(|| async_to_sync(|| async { here() }).call().unwrap());
        assert_ne!(ran_on.wait().unwrap(), stale);
    });
}

/// D3: the parent loop stops while sync code waits for it.
#[test]
fn a_call_ends_when_the_parent_loop_stops_before_it_has_answered() {
    guarded(|| {
        let (pass, passed) = channel();
        let (dropped, drops) = tell();
        let event_loop = EventLoop::new();
        let stop = event_loop.handle();
        let task = event_loop.spawn_local(async move {
            sync_to_async(move || {
                let inner = async_to_sync(move || {
                    stop.stop();
                    async move {
                        let _tell = dropped;
                        forever().await;
                    }
                });
                pass.send(inner.call().unwrap_err()).unwrap();
            })
            .thread_sensitive(false)
            .await
        });
        event_loop.run_until_stopped().unwrap();
        let error = passed.recv().unwrap();
        assert!(error.is_no_loop(), "{error:?}");
        drop(task);
        event_loop.close();
        told(&drops);
    });
}

#[test]
fn a_parent_loop_that_has_stopped_is_not_used() {
    guarded(|| {
        let (go, gone) = channel();
        let (pass, passed) = channel();
        let event_loop = EventLoop::new();
        let call = sync_to_async(move || {
            gone.recv().unwrap();
            pass.send(async_to_sync(|| async { here() }).call().unwrap())
                .unwrap();
        });
        let mut call = call.thread_sensitive(false).into_future();
        event_loop
            .run_until_complete(poll_fn(|cx| {
                assert!(Pin::new(&mut call).poll(cx).is_pending());
                Poll::Ready(())
            }))
            .unwrap();
        go.send(()).unwrap();
        assert_ne!(passed.recv().unwrap(), here());
    });
}

#[test]
fn a_time_limit_cancels_the_async_code() {
    guarded(|| {
        let (tell, dropped) = tell();
        let start = Instant::now();
        let call = async_to_sync(move || async move {
            let _tell = tell;
            forever().await;
        });
        let error = call.timeout(Duration::from_millis(10)).call().unwrap_err();
        assert!(error.is_timed_out());
        assert!(start.elapsed() >= Duration::from_millis(10));
        dropped.try_recv().expect("the future is gone");
        let call = async_to_sync(|| async { 1 }).timeout(Duration::MAX);
        assert_eq!(call.call().unwrap(), 1);
        let call = async_to_sync(forever).timeout(Duration::ZERO);
        assert!(call.call().unwrap_err().is_timed_out());
    });
}

#[test]
fn timers_work_on_a_loop_of_its_own() {
    guarded(|| {
        let call = async_to_sync(|| async {
            sleep(Duration::from_millis(1)).await;
            2
        });
        assert_eq!(call.call().unwrap(), 2);
    });
}

#[test]
fn the_futures_are_send() {
    fn check<T: Send>(value: T) -> T {
        value
    }
    guarded(|| {
        let call = check(sync_to_async(|| 1).into_future());
        let block = check(thread_sensitive_context(async move { call.await.unwrap() }));
        let pool = ThreadPool::builder().core_threads(1).build().unwrap();
        assert_eq!(pool.spawn(block).wait().unwrap(), 1);
    });
}

#[test]
fn under_a_foreign_driver_calls_work() {
    /// Polls and parks; knows nothing of lanes.
    fn foreign<F: Future>(future: F) -> F::Output {
        struct Unpark(thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut cx = PollContext::from_waker(&waker);
        let mut future = std::pin::pin!(future);
        loop {
            match future.as_mut().poll(&mut cx) {
                Poll::Ready(output) => return output,
                Poll::Pending => thread::park(),
            }
        }
    }
    guarded(|| {
        assert_ne!(
            foreign(async { sync_to_async(here).await.unwrap() }),
            here()
        );
        // Inside a frame, on its own thread, where nobody pumps.
        let caller = here();
        let nested = async_to_sync(|| async {
            sync_to_async(|| foreign(async { sync_to_async(here).await.unwrap() })).await
        });
        assert_eq!(nested.call().unwrap().unwrap(), caller);
    });
}

#[test]
fn inside_a_frame_on_its_own_thread_a_loop_of_ours_pumps_the_lane() {
    guarded(|| {
        let caller = here();
        let nested = async_to_sync(|| async {
            sync_to_async(|| {
                run(async {
                    let (set, is_set) = promise::<ThreadId>();
                    let waiting = sync_to_async(move || set.resolve(here()).unwrap());
                    waiting.await.unwrap();
                    is_set.await.unwrap()
                })
            })
            .await
        });
        assert_eq!(nested.call().unwrap().unwrap(), caller);
    });
}

#[test]
fn a_loop_handle_of_another_thread_is_no_hindrance() {
    guarded(|| {
        let (pass, passed) = channel::<LoopHandle>();
        let owner = thread::spawn(move || {
            let event_loop = EventLoop::new();
            pass.send(event_loop.handle()).unwrap();
            event_loop.run_until_stopped().unwrap();
        });
        let handle = passed.recv().unwrap();
        let task = handle.spawn(async { sync_to_async(here).await.unwrap() });
        let shared = block_on(async { sync_to_async(here).await.unwrap() });
        assert_eq!(task.wait().unwrap(), shared);
        handle.stop();
        owner.join().unwrap();
    });
}

#[test]
fn in_a_thread_local_destructor_a_call_ends_one_way_or_the_other() {
    struct Late(Sender<bool>);
    impl Drop for Late {
        fn drop(&mut self) {
            let called = async_to_sync(|| async { 1 }).call();
            let _ = self.0.send(called.is_ok_and(|value| value != 1));
        }
    }
    thread_local! {
        static LATE: std::cell::RefCell<Option<Late>> = const { std::cell::RefCell::new(None) };
    }
    for first in [true, false] {
        let (tell, told) = channel();
        guarded(move || {
            if first {
                async_to_sync(|| async {}).call().unwrap();
            }
            LATE.with(|late| *late.borrow_mut() = Some(Late(tell)));
            async_to_sync(|| async {}).call().unwrap();
        });
        assert!(!told.recv_timeout(LIMIT).expect("no panic, no hang"));
    }
}

#[test]
fn a_panic_in_the_drop_of_the_async_code_does_not_cost_its_value() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("bomb");
        }
    }
    fn armed() -> impl Future<Output = i32> {
        let bomb = Bomb;
        poll_fn(move |_| {
            let _kept = &bomb;
            Poll::Ready(1)
        })
    }
    guarded(|| {
        assert_eq!(async_to_sync(armed).call().unwrap(), 1);
        run(async {
            let nested = sync_to_async(|| async_to_sync(armed).call().unwrap());
            assert_eq!(nested.await.unwrap(), 1);
        });
    });
}
