//! `exec_in_executor`, its async sibling, and `lift_to_async` without a main loop.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use portage::bridge::{exec_in_executor, exec_in_executor_async, lift_to_async};
use portage::context::ContextVar;
use portage::event_loop::{
    LoopState, ensure_thread_event_loop, running_loop, with_thread_event_loop,
};
use portage::pool::Shutdown;
use portage::promise::{Cancel, CancelHandle};
use portage::time::{sleep, yield_now};
use portage::{CurrentThreadExecutor, EventLoop, Executor, Job, SubmitError, ThreadPool, block_on};

use super::here;
use crate::kit::{self, Diary, lock, on_new_thread, scripted, watchdog};

fn pool(max: usize) -> ThreadPool {
    let builder = ThreadPool::builder().core_threads(1).max_threads(max);
    builder.thread_name("bridged").build().expect("legal sizes")
}

fn name() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}

/// Keeps its jobs until the test runs them.
#[derive(Default)]
struct Shelf(Mutex<VecDeque<Job>>);

impl Executor for Shelf {
    fn execute(&self, job: Job) -> Result<(), SubmitError> {
        lock(&self.0).push_back(job);
        Ok(())
    }
}

impl Shelf {
    fn run_all(&self) {
        loop {
            let job = lock(&self.0).pop_front();
            match job {
                Some(job) => job.run(),
                None => break,
            }
        }
    }
}

#[test]
fn the_argument_comes_first_and_the_global_pool_last() {
    let _watch = watchdog(20);
    let pool = pool(1);
    let mine = exec_in_executor(Some(&pool), name).expect("taken");
    assert!(mine.wait().expect("a value").starts_with("bridged"));
    let mine = exec_in_executor_async(Some(&pool), || async { name() }).expect("taken");
    assert!(mine.wait().expect("a value").starts_with("bridged"));
    let global = exec_in_executor(None, name).expect("taken");
    assert!(global.wait().expect("a value").starts_with("portage-"));
    let global = exec_in_executor_async(None, || async { name() }).expect("taken");
    assert!(global.wait().expect("a value").starts_with("portage-"));
}

#[test]
fn one_handle_is_both_halves() {
    let _watch = watchdog(20);
    let pool = pool(1);
    let awaited = exec_in_executor(Some(&pool), || 1).expect("taken");
    assert_eq!(block_on(awaited).expect("a value"), 1);
    let waited = exec_in_executor(Some(&pool), || 2).expect("taken");
    assert_eq!(waited.wait().expect("a value"), 2);
    let foreign = exec_in_executor_async(Some(&pool), || async { 3 }).expect("taken");
    assert_eq!(kit::foreign_block_on(foreign).expect("a value"), 3);
}

#[test]
fn the_worker_that_runs_the_job_has_its_own_loop_first() {
    let _watch = watchdog(20);
    let pool = pool(1);
    let driven = exec_in_executor(Some(&pool), || {
        assert_eq!(ensure_thread_event_loop().thread_id(), here());
        with_thread_event_loop(|events| {
            let inner = events.spawn_local(async { 4 });
            events.run_until_complete(inner)
        })
    });
    let value = driven.expect("taken").wait().expect("a value");
    assert_eq!(value.expect("it is idle").expect("a value"), 4);
}

#[test]
fn a_panic_reaches_the_handle() {
    let _watch = watchdog(20);
    let pool = pool(1);
    let bad = exec_in_executor(Some(&pool), || -> u8 { panic!("a job") });
    assert!(
        bad.expect("taken")
            .wait()
            .expect_err("it panicked")
            .is_panic()
    );
    let bad = exec_in_executor_async(Some(&pool), || async { panic!("a task") });
    let result: Result<(), _> = bad.expect("taken").wait();
    assert!(result.expect_err("it panicked").is_panic());
    let bad = exec_in_executor_async(Some(&pool), || -> std::future::Ready<u8> {
        panic!("the maker")
    });
    assert!(
        bad.expect("taken")
            .wait()
            .expect_err("it panicked")
            .is_panic()
    );
}

#[test]
fn a_refusal_comes_back_at_once_with_its_job() {
    let _watch = watchdog(20);
    let pool = pool(1);
    pool.shutdown(Shutdown::Drain);
    let error = exec_in_executor(Some(&pool), || 1).expect_err("shut down");
    assert!(error.is_shut_down());
    assert!(error.into_job().is_some());
    let error = exec_in_executor_async(Some(&pool), || async { 1 }).expect_err("shut down");
    assert!(error.is_shut_down());
    assert!(
        error.into_job().is_some(),
        "always where a job was refused, async ones too"
    );
}

#[test]
fn the_future_is_created_and_driven_on_one_worker_and_need_not_be_send() {
    let _watch = watchdog(20);
    let pool = pool(4);
    let handles: Vec<_> = (0..10)
        .map(|number| {
            let handle = exec_in_executor_async(Some(&pool), move || {
                let (made, rc) = (here(), Rc::new(number));
                async move {
                    for _ in 0..10 {
                        yield_now().await;
                        sleep(Duration::from_micros(100)).await;
                        assert_eq!(here(), made);
                    }
                    *rc
                }
            });
            handle.expect("taken")
        })
        .collect();
    for (number, handle) in handles.into_iter().enumerate() {
        assert_eq!(handle.wait().expect("a value"), number);
    }
}

#[test]
fn the_loop_of_that_worker_runs_around_its_making_and_every_poll() {
    let _watch = watchdog(20);
    let pool = pool(1);
    let there = || running_loop().map(|own| (own.is_current_thread(), own.state()));
    let running = Some((true, LoopState::Running));
    let task = exec_in_executor_async(Some(&pool), move || {
        let made = there();
        async move {
            let first = there();
            // So it can spawn there what it awaits, from the start.
            let own = running_loop().expect("its own");
            let sibling = own.spawn_with(move || async move { there() });
            yield_now().await;
            [made, first, there(), sibling.await.expect("a value")]
        }
    });
    assert_eq!(task.expect("taken").wait().expect("a value"), [running; 4]);
    let pinned = pool.spawn_pinned(move || async move { there() });
    assert_eq!(pinned.wait().expect("a value"), running);
    let job = pool.spawn_blocking(there).wait().expect("a value");
    assert_eq!(job, None, "it is over with the poll");
}

#[test]
fn a_suspended_future_does_not_hold_the_worker_of_a_pool() {
    let _watch = watchdog(20);
    let pool = pool(1);
    let (conductor, future) = scripted();
    let suspended = exec_in_executor_async(Some(&pool), move || future).expect("taken");
    kit::eventually("the first poll", || conductor.polls() == 1);
    let other = exec_in_executor(Some(&pool), || 5).expect("taken");
    assert_eq!(other.wait().expect("a value"), 5);
    conductor.complete(6);
    assert_eq!(suspended.wait().expect("a value"), 6);
}

#[test]
fn a_job_of_another_executor_drives_the_future_to_its_end() {
    let _watch = watchdog(20);
    let shelf = Shelf::default();
    let handle = exec_in_executor_async(Some(&shelf), || {
        let rc = Rc::new(7);
        async move {
            sleep(Duration::from_millis(2)).await;
            (*rc, here())
        }
    });
    let handle = handle.expect("taken");
    assert!(!handle.is_finished());
    let there = on_new_thread(|| {
        while !handle.is_finished() {
            shelf.run_all();
            std::thread::yield_now();
        }
        here()
    });
    assert_eq!(handle.wait().expect("a value"), (7, there));
}

#[test]
fn a_cancel_ends_a_future_that_a_job_of_another_executor_drives() {
    let _watch = watchdog(20);
    let shelf = Shelf::default();
    let (conductor, future) = scripted::<u8>();
    let handle = exec_in_executor_async(Some(&shelf), || future).expect("taken");
    let cancel = std::thread::scope(|scope| {
        scope.spawn(|| shelf.run_all());
        kit::eventually("the first poll", || conductor.polls() == 1);
        handle.cancel()
    });
    assert_eq!(cancel, Cancel::Requested);
    assert!(handle.wait().expect_err("no value").is_cancelled());
    assert_eq!(conductor.polls(), 1, "dropped at its suspension");

    // told in the poll that completes, the value wins
    let (tell, told) = mpsc::channel::<CancelHandle>();
    let handle = exec_in_executor_async(Some(&shelf), move || async move {
        yield_now().await;
        told.recv().expect("told").cancel()
    });
    let handle = handle.expect("taken");
    tell.send(handle.cancel_handle()).expect("it listens");
    shelf.run_all();
    assert_eq!(handle.wait().expect("a value"), Cancel::Requested);
}

#[test]
fn a_lane_may_be_the_executor() {
    let _watch = watchdog(20);
    let lane = CurrentThreadExecutor::new(None);
    let owner = here();
    let handles = on_new_thread(|| {
        let job = exec_in_executor(Some(&lane), here).expect("taken");
        let task = exec_in_executor_async(Some(&lane), || async { here() }).expect("taken");
        (job, task)
    });
    let both = lane.run_until_future(async { (handles.0.await, handles.1.await) });
    let (job, task) = both.expect("its owner");
    assert_eq!(
        (job.expect("a value"), task.expect("a value")),
        (owner, owner)
    );
}

#[test]
fn a_future_that_nobody_can_wake_is_lost_and_the_lane_goes_on() {
    let _watch = watchdog(20);
    let pump = || {
        let lane = CurrentThreadExecutor::new(None);
        let (dropped, gone) = portage::promise();
        let guard = kit::OnDrop::new(move || dropped.resolve(()).expect("nobody cancelled"));
        let (lost, next) = on_new_thread(|| {
            let lost = exec_in_executor_async(Some(&lane), move || async move {
                let _guard = guard;
                yield_now().await;
                std::future::pending::<u8>().await
            });
            let next = exec_in_executor_async(Some(&lane), || async { 5 });
            (lost.expect("taken"), next.expect("taken"))
        });
        let ends = lane.run_until_future(async { (lost.await, gone.await, next.await) });
        let (lost, gone, next) = ends.expect("its owner");
        assert!(lost.expect_err("nobody can wake it").is_lost());
        gone.expect("what it held is dropped");
        assert_eq!(next.expect("a value"), 5);
    };
    pump();
    // a job that drives a future inside a loop that runs already
    let inside = EventLoop::new().run_until_complete(async { pump() });
    inside.expect("no other loop runs here");
}

#[test]
fn the_context_of_the_call_goes_along() {
    static LABEL: ContextVar<&str> = ContextVar::new("label");
    let _watch = watchdog(20);
    let pool = pool(1);
    let scope = LABEL.scope("the caller's");
    let job = exec_in_executor(Some(&pool), || LABEL.get()).expect("taken");
    let task = exec_in_executor_async(Some(&pool), || {
        let made = LABEL.get();
        async move {
            yield_now().await;
            (made, LABEL.get())
        }
    });
    drop(scope);
    let label = Some("the caller's");
    assert_eq!(job.wait().expect("a value"), label);
    assert_eq!(
        task.expect("taken").wait().expect("a value"),
        (label, label)
    );
}

#[test]
fn a_cancel_before_the_start_drops_what_was_given() {
    let _watch = watchdog(20);
    let shelf = Arc::new(Shelf::default());
    let drops = kit::Drops::new();
    let (a, b) = (drops.token(), drops.token());
    let job = exec_in_executor(Some(&*shelf), move || drop(a)).expect("taken");
    let task = exec_in_executor_async(Some(&*shelf), move || async move { drop(b) });
    let task = task.expect("taken");
    let ran = Diary::<()>::new();
    assert_eq!(job.cancel(), Cancel::Prevented);
    assert_eq!(task.cancel(), Cancel::Prevented);
    assert_eq!(drops.live(), 0);
    shelf.run_all();
    assert_eq!(ran.len(), 0);
    assert!(job.wait().expect_err("cancelled").is_cancelled());
    assert!(task.wait().expect_err("cancelled").is_cancelled());
}

#[test]
fn lift_to_async_without_a_main_loop_says_so() {
    let _watch = watchdog(20);
    assert!(portage::bridge::get_main_event_loop().is_none());
    let called = Diary::new();
    let seen = called.clone();
    let error = lift_to_async(move || {
        seen.note(());
        async { 1 }
    });
    assert!(error.expect_err("nothing is configured").is_no_loop());
    assert_eq!(called.len(), 0);
}
