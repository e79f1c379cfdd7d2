//! Variables through the bridge: in, out, and what does not travel.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portage::EventLoop;
use portage::bridge::{ContextMode, async_to_sync, sync_to_async, thread_sensitive_context};
use portage::context::{Context, ContextVar, copy_context};
use portage::time::{sleep, timeout, yield_now};

use crate::kit::{self, Gate, OpenAtEnd, on_new_thread, watchdog};

static A: ContextVar<u32> = ContextVar::new("a");
static B: ContextVar<u32> = ContextVar::new("b");

fn run<F: Future>(future: F) -> F::Output {
    EventLoop::new().run_until_complete(future).expect("idle")
}

/// Runs `test` where both variables are unset and whatever it sets is gone afterwards.
fn fresh<R>(test: impl FnOnce() -> R) -> R {
    let _watch = watchdog(20);
    Context::new().run(test)
}

fn set(var: &'static ContextVar<u32>, value: u32) {
    drop(var.set(value));
}

#[test]
fn changed_variables_flow_in_and_back_out_of_sync_code() {
    fresh(|| {
        run(async {
            set(&A, 1);
            let seen = sync_to_async(|| {
                let seen = A.get();
                set(&A, 2);
                set(&B, 3);
                seen
            });
            assert_eq!(seen.await.expect("a value"), Some(1));
            assert_eq!((A.get(), B.get()), (Some(2), Some(3)));
        });
    });
}

#[test]
fn changed_variables_flow_in_and_back_out_of_async_code() {
    fresh(|| {
        set(&A, 1);
        let seen = async_to_sync(|| async {
            let seen = A.get();
            yield_now().await;
            set(&A, 2);
            set(&B, 3);
            seen
        });
        assert_eq!(seen.call().expect("a value"), Some(1));
        assert_eq!((A.get(), B.get()), (Some(2), Some(3)));
    });
}

#[test]
fn they_flow_through_four_layers_and_back() {
    fresh(|| {
        set(&A, 0);
        let step = || {
            let now = A.get().expect("set above");
            set(&A, now + 1);
        };
        let deepest = async_to_sync(move || async move {
            step();
            let call = sync_to_async(move || {
                step();
                let inner = async_to_sync(move || async move {
                    step();
                    sync_to_async(step).await.expect("a value");
                    step();
                });
                inner.call().expect("a value");
                step();
            });
            call.await.expect("a value");
            step();
        });
        deepest.call().expect("a value");
        assert_eq!(A.get(), Some(7));
    });
}

#[test]
fn they_flow_back_also_where_it_panics() {
    fresh(|| {
        let call = async_to_sync(|| async {
            set(&A, 5);
            panic!("after a change");
        });
        let result: Result<(), _> = call.call();
        assert!(result.expect_err("it panicked").is_panic());
        assert_eq!(A.get(), Some(5));
        run(async {
            let call = sync_to_async(|| -> u8 {
                set(&B, 6);
                panic!("after a change")
            });
            assert!(call.await.expect_err("it panicked").is_panic());
            assert_eq!(B.get(), Some(6));
        });
    });
}

#[test]
fn they_flow_back_also_where_it_is_cut_off() {
    fresh(|| {
        let begun = Arc::new(AtomicBool::new(false));
        let mut limit = Duration::from_millis(10);
        // On a slow machine the time may be up before the code has begun.
        while !begun.load(Ordering::Acquire) {
            let begins = begun.clone();
            let call = async_to_sync(move || async move {
                set(&A, 8);
                begins.store(true, Ordering::Release);
                sleep(Duration::MAX).await;
            });
            let error = call.timeout(limit).call();
            assert!(error.expect_err("too long").is_timed_out());
            limit *= 2;
        }
        assert_eq!(A.get(), Some(8));
    });
}

#[test]
fn with_in_nothing_comes_back_and_with_empty_nothing_goes_in() {
    fresh(|| {
        set(&A, 1);
        for (mode, seen) in [(ContextMode::In, Some(1)), (ContextMode::Empty, None)] {
            let call = async_to_sync(|| async {
                let seen = A.get();
                set(&A, 9);
                set(&B, 9);
                seen
            });
            assert_eq!(call.context(mode).call().expect("a value"), seen);
            assert_eq!((A.get(), B.get()), (Some(1), None));
            let after = run(async {
                let call = sync_to_async(|| {
                    let seen = A.get();
                    set(&A, 9);
                    set(&B, 9);
                    seen
                });
                (call.context(mode).await.expect("a value"), A.get(), B.get())
            });
            assert_eq!(after, (seen, Some(1), None));
        }
    });
}

#[test]
fn in_out_can_be_asked_for() {
    fresh(|| {
        let call = async_to_sync(|| async { set(&A, 4) });
        call.context(ContextMode::InOut).call().expect("a value");
        assert_eq!(A.get(), Some(4));
    });
}

#[test]
fn sync_to_async_captures_when_it_is_first_polled() {
    fresh(|| {
        run(async {
            set(&A, 1);
            let call = sync_to_async(|| A.get()).into_future();
            set(&A, 2);
            assert_eq!(call.await.expect("a value"), Some(2));
        });
    });
}

#[test]
fn a_dropped_call_writes_nothing_back() {
    fresh(|| {
        let gate = Gate::new();
        let _end = OpenAtEnd(gate.clone());
        run(async {
            set(&A, 1);
            let at = gate.clone();
            let call = sync_to_async(move || {
                set(&A, 2);
                at.pass();
                set(&A, 3);
            });
            let cut = timeout(
                Duration::from_millis(5),
                call.thread_sensitive(false).into_future(),
            );
            assert!(cut.await.is_err());
            assert_eq!(A.get(), Some(1));
        });
        gate.open();
        assert_eq!(A.get(), Some(1));
    });
}

#[test]
fn the_affinity_is_no_variable() {
    fresh(|| {
        assert!(copy_context().is_empty());
        let inside = async_to_sync(|| async {
            let mine = copy_context();
            let theirs = sync_to_async(|| {
                let context = copy_context();
                (context.len(), context.is_empty())
            });
            (mine.len(), mine.is_empty(), theirs.await.expect("a value"))
        });
        let (len, empty, theirs) = inside.call().expect("a value");
        assert_eq!((len, empty, theirs), (0, true, (0, true)));
        run(thread_sensitive_context(async {
            assert!(copy_context().is_empty());
            sync_to_async(|| assert!(copy_context().is_empty()))
                .await
                .expect("a value");
        }));
        assert!(copy_context().is_empty());
    });
}

#[test]
fn the_affinity_travels_with_the_context() {
    fresh(|| {
        let caller = super::here();
        let there = async_to_sync(|| async {
            let context = copy_context();
            // a foreign runtime on another thread, inside the same context
            let call = context.attach(async { sync_to_async(super::here).await });
            let other = std::thread::spawn(move || kit::foreign_block_on(call));
            while !other.is_finished() {
                yield_now().await;
            }
            other.join().expect("no panic").expect("a value")
        });
        assert_eq!(there.call().expect("a value"), caller);
    });
}

#[test]
fn tasks_side_by_side_do_not_see_each_others_changes() {
    fresh(|| {
        set(&A, 0);
        let events = EventLoop::new();
        let tasks: Vec<_> = (1..6)
            .map(|number| {
                events.spawn_local(async move {
                    let seen = sync_to_async(move || {
                        let before = A.get();
                        set(&A, number);
                        before
                    });
                    assert_eq!(seen.await.expect("a value"), Some(0));
                    yield_now().await;
                    A.get()
                })
            })
            .collect();
        events
            .run_until_complete(async {
                for (number, task) in (1..).zip(tasks) {
                    assert_eq!(task.await.expect("a value"), Some(number));
                }
            })
            .expect("it is idle");
        assert_eq!(A.get(), Some(0));
    });
}

#[test]
fn a_thread_that_served_a_call_keeps_nothing_of_it() {
    fresh(|| {
        set(&A, 1);
        run(async { sync_to_async(|| set(&B, 2)).await }).expect("a value");
        let clean = on_new_thread(|| run(async { sync_to_async(|| (A.get(), B.get())).await }));
        assert_eq!(clean.expect("a value"), (None, None));
    });
}
