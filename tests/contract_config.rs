//! `init_config` and what it changes for the whole process: one test after the other, each
//! with a configuration of its own.

#![cfg(not(loom))]

mod kit;

use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use portage::bridge::{
    Config, Route, async_to_sync, exec_in_executor, exec_in_executor_async, get_main_event_loop,
    init_config, lift_to_async, sync_to_async,
};
use portage::context::ContextVar;
use portage::event_loop::LoopState;
use portage::time::{sleep, yield_now};
use portage::{EventLoop, Executor, Job, LoopHandle, SubmitError, ThreadPool};

use kit::{Diary, Drops, lock, on_new_thread, text_of, watchdog};

/// One test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    lock(&TURN)
}

/// A thread that runs a loop until the value is dropped.
struct Main(LoopHandle, Option<std::thread::JoinHandle<()>>);

fn main_loop() -> Main {
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let events = EventLoop::new();
        sender.send(events.handle()).expect("it listens");
        events.run_until_stopped().expect("it is idle");
    });
    let handle: LoopHandle = receiver.recv().expect("sent");
    kit::eventually("the run", || handle.state() == LoopState::Running);
    Main(handle, Some(thread))
}

impl Drop for Main {
    fn drop(&mut self) {
        self.0.stop();
        if let Some(thread) = self.1.take() {
            let _ = thread.join();
        }
    }
}

/// Counts what passes through to its pool.
struct Counting(ThreadPool, AtomicUsize);

impl Executor for Counting {
    fn execute(&self, job: Job) -> Result<(), SubmitError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.execute(job)
    }
}

fn counting() -> Arc<Counting> {
    let pool = ThreadPool::builder().core_threads(1).max_threads(2).build();
    Arc::new(Counting(pool.expect("legal sizes"), AtomicUsize::new(0)))
}

#[test]
fn without_a_running_loop_or_a_main_loop_it_fails_and_changes_nothing() {
    let _turn = alone();
    let _watch = watchdog(20);
    let before = get_main_event_loop().map(|events| events.thread_id());
    let executor = counting();
    let error = init_config(Config::new().executor(executor.clone()));
    assert!(error.expect_err("no loop runs here").is_no_loop());
    assert!(
        init_config(Config::new())
            .expect_err("no loop")
            .is_no_loop()
    );
    let after = get_main_event_loop().map(|events| events.thread_id());
    assert_eq!(before, after);
    let job = exec_in_executor(None, || 1).expect("taken");
    assert_eq!(job.wait().expect("a value"), 1);
    assert_eq!(executor.1.load(Ordering::Relaxed), 0);
}

#[test]
fn it_captures_the_running_loop() {
    let _turn = alone();
    let _watch = watchdog(20);
    let events = EventLoop::new();
    events
        .run_until_complete(async { init_config(Config::new()).expect("a loop runs") })
        .expect("it is idle");
    let main = get_main_event_loop().expect("captured");
    assert_eq!(main.thread_id(), std::thread::current().id());
    assert!(main.is_current_thread());
}

#[test]
fn a_loop_may_be_named_instead() {
    let _turn = alone();
    let _watch = watchdog(20);
    let main = main_loop();
    init_config(Config::new().main_loop(main.0.clone())).expect("a loop is named");
    let there = get_main_event_loop().expect("named").thread_id();
    assert_eq!(there, main.0.thread_id());
    let other = EventLoop::new();
    other
        .run_until_complete(async {
            init_config(Config::new().main_loop(main.0.clone())).expect("named");
        })
        .expect("it is idle");
    let there = get_main_event_loop().expect("named").thread_id();
    assert_eq!(there, main.0.thread_id(), "the named one wins");
}

#[test]
fn its_executor_comes_after_the_argument_and_before_the_global_pool() {
    let _turn = alone();
    let _watch = watchdog(20);
    let main = main_loop();
    let executor = counting();
    let config = Config::new()
        .executor(executor.clone())
        .main_loop(main.0.clone());
    init_config(config).expect("a loop is named");
    let argument = counting();
    let taken = |executor: &Counting| executor.1.load(Ordering::Relaxed);

    let job = exec_in_executor(Some(&*argument), || 1).expect("taken");
    assert_eq!(job.wait().expect("a value"), 1);
    assert_eq!((taken(&argument), taken(&executor)), (1, 0));
    let job = exec_in_executor(None, || 2).expect("taken");
    assert_eq!(job.wait().expect("a value"), 2);
    assert_eq!((taken(&argument), taken(&executor)), (1, 1));
    let job = exec_in_executor_async(None, || async { 3 }).expect("taken");
    assert_eq!(job.wait().expect("a value"), 3);
    assert_eq!(taken(&executor), 2);

    let call = sync_to_async(|| 4).thread_sensitive(false);
    assert_ne!(call.explain(), Route::SharedThread);
    let value = EventLoop::new().run_until_complete(async { call.await });
    assert_eq!(value.expect("it is idle").expect("a value"), 4);
    assert_eq!(taken(&executor), 3);

    // a second one replaces all of the first
    init_config(Config::new().main_loop(main.0.clone())).expect("a loop is named");
    let job = exec_in_executor(None, || 5).expect("taken");
    assert_eq!(job.wait().expect("a value"), 5);
    assert_eq!(taken(&executor), 3, "no executor given: none configured");
    let call = sync_to_async(|| 6).thread_sensitive(false);
    assert_eq!(call.explain(), Route::Pool);

    // and a failed one changes nothing
    assert!(init_config(Config::new().executor(executor.clone())).is_err());
    assert!(get_main_event_loop().is_some());
    let job = exec_in_executor(None, || 7).expect("taken");
    assert_eq!(job.wait().expect("a value"), 7);
    assert_eq!(taken(&executor), 3);
}

#[test]
fn lift_to_async_runs_on_the_main_loop_and_blocks_for_the_result() {
    static LABEL: ContextVar<&str> = ContextVar::new("label");
    let _turn = alone();
    let _watch = watchdog(20);
    let main = main_loop();
    init_config(Config::new().main_loop(main.0.clone())).expect("a loop is named");
    let here = lift_to_async(|| {
        let rc = Rc::new(std::thread::current().id());
        async move {
            yield_now().await;
            sleep(Duration::from_millis(1)).await;
            *rc
        }
    });
    assert_eq!(here.expect("a value"), main.0.thread_id());
    let _scope = LABEL.scope("the caller's");
    let label = lift_to_async(|| async { LABEL.get() });
    assert_eq!(label.expect("a value"), Some("the caller's"));
    for number in 0..50 {
        let value = on_new_thread(|| lift_to_async(move || async move { number }));
        assert_eq!(value.expect("a value"), number);
    }
    let error = lift_to_async(|| async { panic!("on the main loop") });
    let error: portage::error::BridgeError = match error {
        Ok(()) => panic!("it panicked"),
        Err(error) => error,
    };
    assert!(error.is_panic());
    let join = error.into_join_error().expect("it came from a task");
    let payload = join.into_panic().expect("a payload");
    assert_eq!(text_of(&*payload), "on the main loop");
}

#[test]
fn lift_to_async_from_the_loops_own_thread_would_deadlock() {
    let _turn = alone();
    let _watch = watchdog(20);
    let main = main_loop();
    init_config(Config::new().main_loop(main.0.clone())).expect("a loop is named");
    let diary = Diary::new();
    let seen = diary.clone();
    let inside = main.0.spawn(async move {
        let called = lift_to_async(move || {
            seen.note(());
            async { 1 }
        });
        called
            .expect_err("it would wait for itself")
            .is_would_deadlock()
    });
    assert!(inside.wait().expect("a value"));
    assert_eq!(diary.len(), 0);
    // idle or not: its own thread is the only one that could run it
    let events = EventLoop::new();
    init_config(Config::new().main_loop(events.handle())).expect("a loop is named");
    let error = lift_to_async(|| async { 1 }).expect_err("nobody would run it");
    assert!(error.is_would_deadlock() || error.is_no_loop(), "{error}");
}

#[test]
fn lift_to_async_to_a_loop_that_does_not_run_says_so() {
    let _turn = alone();
    let _watch = watchdog(20);
    let drops = Drops::new();
    let events = EventLoop::new();
    init_config(Config::new().main_loop(events.handle())).expect("a loop is named");
    let token = drops.token();
    let idle = on_new_thread(|| lift_to_async(move || async move { drop(token) }));
    assert!(idle.expect_err("it is idle").is_no_loop());
    assert_eq!(drops.live(), 0);
    events.run_until_complete(yield_now()).expect("it is idle");
    drop(events);
    let closed = on_new_thread(|| lift_to_async(|| async { 1 }));
    assert!(closed.expect_err("it is closed").is_no_loop());
}

#[test]
fn lift_to_async_to_a_loop_that_stops_before_it_answers_says_so() {
    let _turn = alone();
    let _watch = watchdog(20);
    for closes in [false, true] {
        let main = main_loop();
        init_config(Config::new().main_loop(main.0.clone())).expect("a loop is named");
        let stopping = main.0.clone();
        let result = lift_to_async(move || async move {
            stopping.stop();
            sleep(Duration::MAX).await;
        });
        assert!(result.expect_err("it stopped").is_no_loop());
        if closes {
            drop(main);
            let late = lift_to_async(|| async { 1 });
            assert!(late.expect_err("it is closed").is_no_loop());
        }
    }
}

#[test]
fn the_main_loop_says_whether_it_still_runs() {
    let _turn = alone();
    let _watch = watchdog(20);
    let main = main_loop();
    init_config(Config::new().main_loop(main.0.clone())).expect("a loop is named");
    let kept = get_main_event_loop().expect("named");
    assert_eq!(kept.state(), LoopState::Running);
    drop(main);
    let kept = get_main_event_loop().expect("an ended one is kept");
    assert_eq!(kept.state(), LoopState::Closed);
    assert!(
        lift_to_async(|| async {})
            .expect_err("it has ended")
            .is_no_loop()
    );
}

#[test]
fn lift_to_async_from_a_thread_whose_own_loop_runs_goes_to_the_main_loop() {
    let _turn = alone();
    let _watch = watchdog(20);
    let main = main_loop();
    init_config(Config::new().main_loop(main.0.clone())).expect("a loop is named");
    let lift = || lift_to_async(|| async { std::thread::current().id() }).expect("a value");
    let pool = ThreadPool::builder()
        .core_threads(1)
        .build()
        .expect("legal sizes");
    let on_worker = exec_in_executor_async(Some(&pool), move || async move { lift() });
    let ran_on = on_worker.expect("it is open").wait().expect("a value");
    assert_eq!(ran_on, main.0.thread_id());
    let ran_on = EventLoop::new().run_until_complete(async { lift() });
    assert_eq!(ran_on.expect("it is idle"), main.0.thread_id());
}

#[test]
fn what_a_lifted_future_changes_stays_with_it() {
    static LABEL: ContextVar<&str> = ContextVar::new("label");
    let _turn = alone();
    let _watch = watchdog(20);
    let main = main_loop();
    init_config(Config::new().main_loop(main.0.clone())).expect("a loop is named");
    let _scope = LABEL.scope("the caller's");
    let seen = lift_to_async(|| async {
        LABEL.set("changed");
        yield_now().await;
        LABEL.get()
    });
    assert_eq!(seen.expect("a value"), Some("changed"));
    assert_eq!(LABEL.get(), Some("the caller's"));
}

/// asgiref starts a thread and a loop for every call (D12).
#[test]
fn calls_in_a_row_that_need_a_loop_of_their_own_reuse_one_thread() {
    let _turn = alone();
    let _watch = watchdog(20);
    let mut threads: Vec<_> = (0..50)
        .map(|_| async_to_sync(|| async { std::thread::current().id() }).call())
        .map(|ran_on| ran_on.expect("a value"))
        .collect();
    threads.dedup();
    assert_eq!(threads.len(), 1);
}
