//! What every executor promises: submit, run, own threads, shutdown.

use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_task::{FutureObj, Spawn, SpawnError};
use portage::cancel::is_cancelled;
use portage::context::ContextVar;
use portage::executors::{AsyncExecutor, AsyncExecutorExt, RunMultiple};
use portage::promise::{Cancel, CancelHandle};
use portage::time::{sleep, yield_now};

use super::each;
use crate::kit::{
    self, Diary, Drops, Gate, OnDrop, OpenAtEnd, counting_waker, on_new_thread, scripted, watchdog,
};

fn here() -> std::thread::ThreadId {
    std::thread::current().id()
}

#[test]
fn submit_runs_a_future_elsewhere_and_gives_its_handle() {
    let _watch = watchdog(20);
    for (kind, executor) in each() {
        let handle = executor.submit(async {
            yield_now().await;
            sleep(Duration::from_millis(1)).await;
            here()
        });
        assert_ne!(handle.wait().expect("a value"), here(), "{kind}");
        let bad = executor.submit(async { panic!("as planned") });
        let result: Result<(), _> = bad.wait();
        assert!(result.expect_err("it panicked").is_panic(), "{kind}");
        assert_eq!(
            executor.submit(async { 1 }).wait().expect("a value"),
            1,
            "{kind}"
        );
    }
}

#[test]
fn run_waits_for_the_value() {
    let _watch = watchdog(20);
    for (kind, executor) in each() {
        assert_eq!(executor.run(async { 2 }).expect("a value"), 2, "{kind}");
        let error = executor.run(async { panic!("as planned") });
        let error: Result<(), _> = error;
        assert!(error.expect_err("it panicked").is_panic(), "{kind}");
        let there = on_new_thread(|| executor.run(async { here() }));
        assert_ne!(there.expect("a value"), here(), "{kind}");
    }
}

#[test]
fn run_from_its_own_thread_is_an_error_and_the_future_is_not_run() {
    let _watch = watchdog(20);
    for (kind, executor) in each() {
        let inner = executor.clone();
        let (diary, drops) = (Diary::new(), Drops::new());
        let (seen, token) = (diary.clone(), drops.token());
        let handle = executor.submit(async move {
            assert!(inner.is_own_thread());
            let error = inner.run(async move {
                seen.note("ran");
                drop(token);
            });
            error.expect_err("its own thread").is_would_deadlock()
        });
        assert!(handle.wait().expect("a value"), "{kind}");
        assert!(diary.read().is_empty(), "{kind}");
        assert_eq!(drops.live(), 0, "{kind}");
    }
}

#[test]
fn is_own_thread_tells_its_threads_from_others() {
    let _watch = watchdog(20);
    for (kind, executor) in each() {
        assert!(!executor.is_own_thread(), "{kind}");
        let inner = executor.clone();
        let inside = executor.submit(async move { inner.is_own_thread() });
        assert!(inside.wait().expect("a value"), "{kind}");
        let (_, other) = each().remove(0);
        let inner = executor.clone();
        let inside = other.submit(async move { inner.is_own_thread() });
        assert!(!inside.wait().expect("a value"), "{kind}");
    }
}

#[test]
fn a_submitted_future_can_be_cancelled() {
    let _watch = watchdog(20);
    for (kind, executor) in each() {
        let drops = Drops::new();
        let token = drops.token();
        let (conductor, future) = scripted::<()>();
        let handle = executor.submit(async move {
            let _held = token;
            future.await;
        });
        kit::eventually("the first poll", || conductor.polls() == 1);
        assert_eq!(handle.cancel(), Cancel::Requested, "{kind}");
        assert!(
            handle.wait().expect_err("cancelled").is_cancelled(),
            "{kind}"
        );
        kit::eventually("the drop", || drops.live() == 0);
    }
}

#[test]
fn a_submitted_future_runs_in_the_context_of_the_call() {
    static LABEL: ContextVar<&str> = ContextVar::new("label");
    let _watch = watchdog(20);
    for (kind, executor) in each() {
        let scope = LABEL.scope("the caller's");
        let handle = executor.submit(async {
            yield_now().await;
            LABEL.get()
        });
        drop(scope);
        assert_eq!(
            handle.wait().expect("a value"),
            Some("the caller's"),
            "{kind}"
        );
    }
}

#[test]
fn it_is_a_spawn_of_the_futures_crates() {
    let _watch = watchdog(20);
    for (kind, executor) in each() {
        let diary = Diary::new();
        let seen = diary.clone();
        let future = FutureObj::new(Box::new(async move { seen.note(1) }));
        executor.spawn_obj(future).expect("taken");
        kit::eventually(kind, || diary.len() == 1);
        executor.shutdown(true);
        let refused = executor.spawn_obj(FutureObj::new(Box::new(async {})));
        assert!(refused.expect_err("shut down").is_shutdown(), "{kind}");
    }
}

#[test]
fn shutdown_ends_every_pending_handle() {
    let _watch = watchdog(20);
    for wait in [true, false] {
        for (kind, executor) in each() {
            let drops = Drops::new();
            let mut conductors = Vec::new();
            let handles: Vec<_> = (0..10)
                .map(|_| {
                    let token = drops.token();
                    let (conductor, future) = scripted::<()>();
                    conductors.push(conductor);
                    executor.submit(async move {
                        let _held = token;
                        future.await;
                    })
                })
                .collect();
            kit::eventually("a first poll", || conductors[0].polls() == 1);
            executor.shutdown(wait);
            for handle in handles {
                let error = handle.wait().expect_err("it was pending");
                assert!(
                    error.is_cancelled() || error.is_shut_down() || error.is_lost(),
                    "{kind}: {error}"
                );
            }
            kit::eventually("the drops", || drops.live() == 0);
        }
    }
}

#[test]
fn later_submits_resolve_shut_down() {
    let _watch = watchdog(20);
    for wait in [true, false] {
        for (kind, executor) in each() {
            executor.submit(async { 1 }).wait().expect("a value");
            executor.shutdown(wait);
            executor.shutdown(!wait);
            let drops = Drops::new();
            let token = drops.token();
            let late = executor.submit(async move { drop(token) });
            assert!(late.wait().expect_err("refused").is_shut_down(), "{kind}");
            assert_eq!(drops.live(), 0);
            let late = executor.run(async { 1 });
            assert!(late.expect_err("refused").is_shut_down(), "{kind}");
        }
    }
}

#[test]
fn shutdown_from_its_own_thread_is_legal() {
    let _watch = watchdog(20);
    for wait in [true, false] {
        for (kind, executor) in each() {
            let inner = executor.clone();
            let done = Diary::new();
            let seen = done.clone();
            let handle = executor.submit(async move {
                inner.shutdown(wait);
                seen.note(kind);
            });
            let _ = handle.wait();
            kit::eventually("the end of the call", || done.len() == 1);
            executor.shutdown(true);
        }
    }
}

#[test]
fn a_future_that_is_being_polled_when_it_is_shut_down_ends() {
    let _watch = watchdog(20);
    for (kind, executor) in each() {
        let gate = Gate::new();
        let _end = OpenAtEnd(gate.clone());
        let at = gate.clone();
        let handle = executor.submit(async move {
            at.pass();
            yield_now().await;
        });
        gate.wait_entered(1);
        executor.shutdown(false);
        assert!(executor.submit(async {}).wait().is_err(), "{kind}");
        gate.open();
        let _ = handle.wait();
        executor.shutdown(true);
    }
}

#[test]
fn dropping_an_executor_is_a_shutdown_that_does_not_wait() {
    let _watch = watchdog(20);
    for (kind, executor) in each().into_iter().take(2) {
        let gate = Gate::new();
        let _end = OpenAtEnd(gate.clone());
        let at = gate.clone();
        executor.submit(async move { at.pass() }).detach();
        gate.wait_entered(1);
        let (conductor, future) = scripted::<()>();
        let pending = executor.submit(future);
        drop(executor);
        gate.open();
        let error = pending.wait().expect_err("it was pending");
        assert!(!error.is_panic(), "{kind}: {error}");
        conductor.complete(());
    }
}

#[test]
fn a_waker_may_fire_after_the_end() {
    let _watch = watchdog(20);
    for (_, executor) in each() {
        let (conductor, future) = scripted::<()>();
        let handle = executor.submit(future);
        kit::eventually("the first poll", || conductor.polls() == 1);
        executor.shutdown(true);
        let waker = conductor.take_waker();
        assert!(handle.wait().is_err());
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Knows nothing of contexts: its futures are driven by a thread that was there before.
struct Foreign(std::sync::mpsc::Sender<FutureObj<'static, ()>>);

impl Foreign {
    fn new() -> Self {
        let (send, receive) = std::sync::mpsc::channel::<FutureObj<'static, ()>>();
        std::thread::spawn(move || receive.iter().for_each(kit::foreign_block_on));
        Self(send)
    }
}

impl Spawn for Foreign {
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.0.send(future).map_err(|_| SpawnError::shutdown())
    }
}

impl AsyncExecutor for Foreign {
    fn is_own_thread(&self) -> bool {
        false
    }

    fn shutdown(&self, _: bool) {}
}

#[test]
fn on_an_executor_of_ones_own_contexts_cancels_and_panics_work_the_same() {
    static LABEL: ContextVar<u32> = ContextVar::new("label");
    let _watch = watchdog(20);
    let executor = Foreign::new();
    let _scope = LABEL.scope(5);
    assert_eq!(
        executor.run(async { LABEL.get() }).expect("a value"),
        Some(5)
    );
    let batch = executor.run_multiple([async { LABEL.get() }], RunMultiple::default());
    let seen: Vec<_> = batch
        .map(|result| result.output.expect("a value"))
        .collect();
    assert_eq!(seen, [Some(5)]);
    let dropped = Diary::new();
    let note = dropped.clone();
    let bell = OnDrop::new(move || note.note(LABEL.get()));
    let outcome: Result<(), _> = executor.run(async move {
        let _bell = bell;
        panic!("as planned")
    });
    assert!(outcome.expect_err("it panics").is_panic());
    assert_eq!(dropped.read(), [Some(5)]);
    let bomb = kit::PanicOnDrop("in the drop of the future");
    let armed = std::future::poll_fn(move |_| {
        let _held = &bomb;
        Poll::Ready(7)
    });
    assert_eq!(executor.run(armed).expect("its value counts"), 7);
    // Somebody can wake it: what nobody can is lost as soon as it has been polled.
    let (promise, awaited) = portage::promise::<()>();
    let never = executor.submit(async move { drop(awaited.await) });
    never.cancel();
    assert!(never.wait().expect_err("cancelled").is_cancelled());
    drop(promise);
    assert_eq!(executor.run(async { 1 }).expect("it goes on"), 1);
}

/// Keeps its futures until the test lets them go.
#[derive(Default)]
struct Shelf(Mutex<Vec<FutureObj<'static, ()>>>);

impl Spawn for Shelf {
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        kit::lock(&self.0).push(future);
        Ok(())
    }
}

impl AsyncExecutor for Shelf {
    fn is_own_thread(&self) -> bool {
        false
    }

    fn shutdown(&self, _: bool) {
        let dropped = std::mem::take(&mut *kit::lock(&self.0));
        drop(dropped);
    }
}

impl Shelf {
    fn take(&self) -> FutureObj<'static, ()> {
        kit::lock(&self.0).pop().expect("a future is there")
    }
}

#[test]
fn on_an_executor_of_ones_own_a_cancel_before_the_start_drops_the_future_at_once() {
    static LABEL: ContextVar<u32> = ContextVar::new("label");
    let _watch = watchdog(20);
    let (executor, dropped) = (Shelf::default(), Diary::new());
    let submitted = LABEL.scope(5);
    let note = dropped.clone();
    let bell = OnDrop::new(move || note.note(LABEL.get()));
    let task = executor.submit(async move { drop(bell) });
    drop(submitted);
    assert_eq!(task.cancel(), Cancel::Prevented);
    assert_eq!(dropped.read(), [Some(5)], "inside its context");
    assert!(task.wait().expect_err("cancelled").is_cancelled());
    kit::foreign_block_on(executor.take());
}

#[test]
fn on_an_executor_of_ones_own_a_task_sees_its_cancel_and_ends_at_its_next_suspension() {
    let _watch = watchdog(20);
    let executor = Shelf::default();
    let (slot, seen) = (Arc::new(OnceLock::new()), Diary::new());
    let (own, note) = (slot.clone(), seen.clone());
    let task = executor.submit(async move {
        let own: &CancelHandle = own.get().expect("set before the first poll");
        note.note(is_cancelled());
        assert_eq!(own.cancel(), Cancel::Requested);
        note.note(is_cancelled());
        yield_now().await;
        unreachable!("it is dropped here");
    });
    slot.set(task.cancel_handle()).expect("set once");
    kit::foreign_block_on(executor.take());
    assert!(task.wait().expect_err("cancelled").is_cancelled());
    assert_eq!(seen.read(), [false, true]);
}

#[test]
fn what_an_executor_of_ones_own_drops_is_shut_down_and_what_nobody_can_wake_is_lost() {
    let _watch = watchdog(20);
    let (executor, drops) = (Shelf::default(), Drops::new());
    let token = drops.token();
    let unstarted = executor.submit(async move { drop(token) });
    executor.shutdown(true);
    assert!(unstarted.wait().expect_err("dropped").is_shut_down());
    let (conductor, future) = scripted();
    let token = drops.token();
    let suspended = executor.submit(async move {
        let _held = token;
        future.await
    });
    let mut carrier = executor.take();
    let (waker, _) = counting_waker();
    let polled = Pin::new(&mut carrier).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    drop(carrier);
    assert!(suspended.wait().expect_err("dropped").is_shut_down());
    assert_eq!(drops.live(), 0);
    conductor.complete(1);
    let lost = executor.submit(std::future::pending::<()>());
    kit::foreign_block_on(executor.take());
    assert!(lost.wait().expect_err("nobody can wake it").is_lost());
}

#[test]
fn everybody_who_waits_for_a_shutdown_waits_for_its_end() {
    let _watch = watchdog(20);
    for (kind, executor) in each() {
        let gate = Gate::new();
        let (at, diary) = (gate.clone(), Diary::new());
        let ends = diary.clone();
        let running = executor.submit(async move {
            at.pass();
            ends.note("the task");
        });
        gate.wait_entered(1);
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let (executor, diary) = (executor.clone(), diary.clone());
                std::thread::spawn(move || {
                    executor.shutdown(true);
                    diary.note("a shutdown");
                })
            })
            .collect();
        // nobody may pass before the task has ended, however long it takes
        assert!(
            !kit::within(Duration::from_millis(10), || diary.len() > 0),
            "{kind}"
        );
        gate.open();
        for thread in waiting {
            thread.join().expect("no panic");
        }
        let _ = running.wait();
        assert_eq!(diary.read()[0], "the task", "{kind}");
    }
}
