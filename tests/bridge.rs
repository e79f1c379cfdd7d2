//! The promises of `portage::bridge`: calls on executors, and on the main loop.
#![cfg(not(loom))]
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod kit;

use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use portage::bridge::{
    Config, Route, exec_in_executor, exec_in_executor_async, get_main_event_loop, init_config,
    lift_to_async, sync_to_async,
};
use portage::context::ContextVar;
use portage::event_loop::{ensure_thread_event_loop, running_loop, with_thread_event_loop};
use portage::pool::Shutdown;
use portage::time::yield_now;
use portage::{
    CurrentThreadExecutor, EventLoop, Executor, Job, LoopHandle, SubmitError, ThreadPool, block_on,
    promise,
};

use kit::guarded;

const LIMIT: Duration = Duration::from_secs(60);

/// The configuration is one for the process: tests that depend on it run one by one.
static CONFIGURED: Mutex<()> = Mutex::new(());

fn configured() -> MutexGuard<'static, ()> {
    CONFIGURED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Never done, but never lost either: somebody keeps the waker.
async fn forever() {
    let (kept, never) = promise::<()>();
    std::mem::forget(kept);
    let _ = never.await;
}

/// A loop that runs on a thread of its own until it is dropped.
struct Running {
    handle: LoopHandle,
    thread: Option<thread::JoinHandle<()>>,
}

impl Running {
    fn start() -> Self {
        let (pass, passed) = channel();
        let thread = thread::spawn(move || {
            let event_loop = EventLoop::new();
            let handle = event_loop.handle();
            // From inside, so that it is running when the test goes on.
            let started = event_loop.spawn_local(async move { pass.send(handle).unwrap() });
            event_loop.run_until_stopped().unwrap();
            drop(started);
        });
        Self {
            handle: passed.recv().unwrap(),
            thread: Some(thread),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.stop();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn run<F: Future>(future: F) -> F::Output {
    EventLoop::new().run_until_complete(future).unwrap()
}

fn pool(threads: usize) -> ThreadPool {
    let pool = ThreadPool::builder();
    let pool = pool.core_threads(threads).max_threads(threads);
    pool.build().unwrap()
}

/// Runs jobs on the spot and says which thread that was.
struct OnTheSpot;

impl Executor for OnTheSpot {
    fn execute(&self, job: Job) -> Result<(), SubmitError> {
        job.run();
        Ok(())
    }
}

struct Counting(ThreadPool, Mutex<usize>);

impl Counting {
    /// The executor of the configuration from here on, with this main loop.
    fn configured(main: &EventLoop) -> Arc<Self> {
        let counting = Arc::new(Self(pool(1), Mutex::new(0)));
        let config = Config::new().main_loop(main.handle());
        init_config(config.executor(counting.clone())).unwrap();
        counting
    }
}

impl Executor for Counting {
    fn execute(&self, job: Job) -> Result<(), SubmitError> {
        *self.1.lock().unwrap() += 1;
        self.0.execute(job)
    }
}

fn here() -> ThreadId {
    thread::current().id()
}

#[test]
fn without_a_loop_init_config_is_refused_and_changes_nothing() {
    let _configured = configured();
    guarded(|| {
        let main = EventLoop::new();
        let counting = Counting::configured(&main);
        let error = init_config(Config::new().executor(Arc::new(OnTheSpot))).unwrap_err();
        assert!(error.is_no_loop());
        assert!(get_main_event_loop().unwrap().is_current_thread());
        exec_in_executor(None, || ()).unwrap().wait().unwrap();
        assert_eq!(*counting.1.lock().unwrap(), 1);
    });
}

#[test]
fn init_config_captures_the_running_loop_and_replaces_all_of_the_first() {
    let _configured = configured();
    guarded(|| {
        let other = EventLoop::new();
        let counting = Counting::configured(&other);
        run(async {
            init_config(Config::new()).unwrap();
            let main = get_main_event_loop().unwrap();
            assert_eq!(main.state(), running_loop().unwrap().state());
            assert!(main.is_current_thread());
        });
        exec_in_executor(None, || ()).unwrap().wait().unwrap();
        assert_eq!(
            *counting.1.lock().unwrap(),
            0,
            "the executor of the first is gone"
        );
    });
}

#[test]
fn the_argument_beats_the_configured_executor_and_that_the_global_pool() {
    let _configured = configured();
    guarded(|| {
        let main = EventLoop::new();
        init_config(Config::new().main_loop(main.handle())).unwrap();
        let on_global = exec_in_executor(None, || thread::current().name().map(str::to_owned));
        let name = on_global.unwrap().wait().unwrap();
        assert!(name.is_some_and(|name| name.starts_with("portage-")));
        let counting = Counting::configured(&main);
        exec_in_executor(None, || ()).unwrap().wait().unwrap();
        exec_in_executor_async(None, || async {})
            .unwrap()
            .wait()
            .unwrap();
        assert_eq!(*counting.1.lock().unwrap(), 2);
        let ran_on = exec_in_executor(Some(&OnTheSpot), here).unwrap().wait();
        assert_eq!(ran_on.unwrap(), here());
        assert_eq!(*counting.1.lock().unwrap(), 2);
        init_config(Config::new().main_loop(main.handle())).unwrap();
    });
}

#[test]
fn sync_code_on_the_worker_can_drive_async_code() {
    guarded(|| {
        let pool = pool(1);
        let own = exec_in_executor(Some(&pool), || {
            let first = with_thread_event_loop(|own| own.run_until_complete(async { 1 }));
            let loop_of_worker = ensure_thread_event_loop();
            (first.unwrap(), loop_of_worker.thread_id() == here())
        });
        assert_eq!(own.unwrap().wait().unwrap(), (1, true));
    });
}

/// Shapes 1 to 5 of the article: caller and callee, sync and async.
#[test]
fn the_five_call_shapes_work() {
    guarded(|| {
        let pool = pool(2);
        let drives = || {
            let inner = with_thread_event_loop(|own| own.run_until_complete(async { 5 }));
            inner.unwrap() + 1
        };
        run(async {
            let first = exec_in_executor(Some(&pool), || 5).unwrap();
            assert_eq!(first.await.unwrap(), 5);
            let second = exec_in_executor(Some(&pool), drives).unwrap();
            assert_eq!(second.wait().unwrap(), 6);
            let third = exec_in_executor(Some(&pool), drives).unwrap();
            assert_eq!(third.await.unwrap(), 6);
            let fourth = exec_in_executor_async(Some(&pool), || async { 5 }).unwrap();
            assert_eq!(fourth.await.unwrap(), 5);
            let fifth = exec_in_executor_async(Some(&pool), || async { 6 }).unwrap();
            assert_eq!(fifth.wait().unwrap(), 6);
        });
    });
}

#[test]
fn a_call_runs_in_the_context_of_the_call() {
    static VAR: ContextVar<u32> = ContextVar::new("var");
    guarded(|| {
        let pool = pool(1);
        VAR.set(1);
        let sync = exec_in_executor(Some(&pool), || VAR.get()).unwrap();
        let on_worker = exec_in_executor_async(Some(&pool), || async {
            let first = VAR.get();
            yield_now().await;
            (first, VAR.set(9).old_value().copied())
        });
        VAR.set(2);
        assert_eq!(sync.wait().unwrap(), Some(1));
        assert_eq!(on_worker.unwrap().wait().unwrap(), (Some(1), Some(1)));
        assert_eq!(VAR.get(), Some(2), "one way only");
    });
}

#[test]
fn a_panic_reaches_the_handle() {
    guarded(|| {
        let pool = pool(1);
        let sync = exec_in_executor(Some(&pool), || panic!("boom")).unwrap();
        assert!(sync.wait().unwrap_err().is_panic());
        let created =
            exec_in_executor_async(Some(&pool), || -> std::future::Ready<()> { panic!("boom") });
        assert!(created.unwrap().wait().unwrap_err().is_panic());
        let polled = exec_in_executor_async(Some(&pool), || async { panic!("boom") }).unwrap();
        assert!(polled.wait().unwrap_err().is_panic());
        let after = exec_in_executor(Some(&pool), || 1).unwrap();
        assert_eq!(after.wait().unwrap(), 1, "the worker is alive");
    });
}

#[test]
fn a_refused_call_comes_back_with_its_job() {
    guarded(|| {
        let pool = pool(1);
        pool.shutdown(Shutdown::Drain);
        let error = exec_in_executor(Some(&pool), || 1).unwrap_err();
        assert!(error.is_shut_down());
        assert!(error.into_job().is_some());
        let error = exec_in_executor_async(Some(&pool), || async { 1 }).unwrap_err();
        assert!(error.is_shut_down());
        assert!(error.into_job().is_some());
        let lane = CurrentThreadExecutor::new(None);
        let error = exec_in_executor_async(Some(&lane), || async { 1 }).unwrap_err();
        assert!(error.is_own_thread());
        assert!(error.into_job().is_some());
    });
}

#[test]
fn a_suspended_future_does_not_hold_its_worker() {
    guarded(|| {
        let pool = pool(1);
        let (done, finished) = promise::<u32>();
        let first = exec_in_executor_async(Some(&pool), move || async move {
            let local = Rc::new(1);
            let value = finished.await.unwrap();
            (value + *local, here())
        });
        let first = first.unwrap();
        let worker = exec_in_executor(Some(&pool), here).unwrap().wait().unwrap();
        done.resolve(6).unwrap();
        assert_eq!(first.wait().unwrap(), (7, worker), "it stays on its worker");
    });
}

#[test]
fn many_futures_share_one_worker() {
    guarded(|| {
        let pool = pool(1);
        let (pass, passed): (_, Receiver<_>) = channel();
        let calls: Vec<_> = (0..50)
            .map(|i| {
                let pass = pass.clone();
                let call = exec_in_executor_async(Some(&pool), move || async move {
                    let (done, finished) = promise::<()>();
                    pass.send(done).unwrap();
                    finished.await.unwrap();
                    i
                });
                call.unwrap()
            })
            .collect();
        let promises: Vec<_> = (0..50).map(|_| passed.recv().unwrap()).collect();
        promises
            .into_iter()
            .for_each(|done| done.resolve(()).unwrap());
        let sum: i32 = calls.into_iter().map(|call| call.wait().unwrap()).sum();
        assert_eq!(sum, (0..50).sum());
    });
}

#[test]
fn on_a_loop_handle_the_future_is_a_task_of_that_loop() {
    guarded(|| {
        let main = Running::start();
        let call = exec_in_executor_async(Some(&main.handle), || async {
            yield_now().await;
            (
                here(),
                Rc::new(1).as_ref() + running_loop().map_or(0, |_| 1),
            )
        });
        let (ran_on, value) = call.unwrap().wait().unwrap();
        assert_eq!((ran_on, value), (main.handle.thread_id(), 2));
        let parked = exec_in_executor_async(Some(&main.handle), forever).unwrap();
        let job = exec_in_executor(Some(&main.handle), || 3).unwrap();
        assert_eq!(job.wait().unwrap(), 3, "the loop goes on");
        parked.cancel();
    });
}

#[test]
fn on_any_other_executor_the_job_drives_the_future_to_its_end() {
    guarded(|| {
        let call = exec_in_executor_async(Some(&OnTheSpot), || async {
            yield_now().await;
            running_loop().is_some()
        });
        assert!(
            call.unwrap().wait().unwrap(),
            "it runs on the thread's own loop"
        );
        let lane = CurrentThreadExecutor::new(None);
        let remote = lane.clone();
        let call = thread::spawn(move || {
            exec_in_executor_async(Some(&remote), || async {
                yield_now().await;
                here()
            })
        });
        let call = call.join().unwrap().unwrap();
        assert_eq!(lane.run_until_future(call).unwrap().unwrap(), here());
    });
}

#[test]
fn a_pool_behind_a_pointer_is_still_a_pool() {
    guarded(|| {
        let pool: Arc<dyn Executor> = Arc::new(pool(1));
        let (done, finished) = promise::<()>();
        let first = exec_in_executor_async(Some(&pool), move || finished).unwrap();
        let second = exec_in_executor(Some(&*pool), move || done.resolve(())).unwrap();
        second.wait().unwrap().unwrap();
        first.wait().unwrap().unwrap();
    });
}

#[test]
fn lift_to_async_runs_on_the_main_loop() {
    static VAR: ContextVar<u32> = ContextVar::new("var");
    let _configured = configured();
    guarded(|| {
        let main = Running::start();
        init_config(Config::new().main_loop(main.handle.clone())).unwrap();
        VAR.set(4);
        let lifted = lift_to_async(|| async {
            let local = Rc::new(1);
            yield_now().await;
            (here(), *local + VAR.get().unwrap())
        });
        assert_eq!(lifted.unwrap(), (main.handle.thread_id(), 5));
    });
}

#[test]
fn lift_to_async_from_the_loop_s_own_thread_would_deadlock() {
    let _configured = configured();
    guarded(|| {
        run(async {
            init_config(Config::new()).unwrap();
            let refused = lift_to_async(|| -> std::future::Ready<()> { panic!("created") });
            assert!(refused.unwrap_err().is_would_deadlock());
        });
    });
}

#[test]
fn lift_to_async_needs_a_running_loop() {
    let _configured = configured();
    guarded(|| {
        let idle = EventLoop::new();
        init_config(Config::new().main_loop(idle.handle())).unwrap();
        let from_afar = thread::spawn(|| lift_to_async(|| async {}).unwrap_err());
        assert!(from_afar.join().unwrap().is_no_loop());
        idle.close();
        assert!(lift_to_async(|| async {}).unwrap_err().is_no_loop());
    });
}

#[test]
fn lift_to_async_ends_when_the_loop_stops_before_it_has_answered() {
    let _configured = configured();
    guarded(|| {
        struct Tell(std::sync::mpsc::Sender<()>);
        impl Drop for Tell {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let main = EventLoop::new();
        init_config(Config::new().main_loop(main.handle())).unwrap();
        let (pass, passed) = channel();
        let (dropped, drops) = channel();
        let stop = main.handle();
        // Begun on the loop, so that the call finds it running.
        let waiting = main.spawn_local(async move {
            let call = thread::spawn(move || {
                lift_to_async(move || {
                    let tell = Tell(dropped);
                    stop.stop();
                    async move {
                        let _tell = tell;
                        forever().await;
                    }
                })
            });
            pass.send(call).unwrap();
        });
        main.run_until_stopped().unwrap();
        let call = passed.recv().unwrap();
        assert!(call.join().unwrap().unwrap_err().is_no_loop());
        drop(waiting);
        main.close();
        drops.recv_timeout(LIMIT).expect("the future was cancelled");
    });
}

#[test]
fn lift_to_async_ends_when_the_loop_is_closed_over_it() {
    let _configured = configured();
    guarded(|| {
        let (pass, passed) = channel();
        let owner = thread::spawn(move || {
            let main = EventLoop::new();
            let (handle, stop) = (main.handle(), main.handle());
            let start = main.spawn_local(async move { pass.send(handle).unwrap() });
            main.run_until_stopped().unwrap();
            drop((start, stop));
        });
        let main: LoopHandle = passed.recv().unwrap();
        init_config(Config::new().main_loop(main.clone())).unwrap();
        let stop = main.clone();
        let lifted = lift_to_async(move || {
            stop.stop();
            forever()
        });
        assert!(lifted.unwrap_err().is_no_loop());
        owner.join().unwrap();
        assert!(lift_to_async(|| async {}).unwrap_err().is_no_loop());
    });
}

#[test]
fn a_panic_of_a_lifted_future_reaches_the_caller() {
    let _configured = configured();
    guarded(|| {
        let main = Running::start();
        init_config(Config::new().main_loop(main.handle.clone())).unwrap();
        let error = lift_to_async(|| async { panic!("boom") }).unwrap_err();
        assert!(error.is_panic());
        let payload = error.into_join_error().unwrap().into_panic().unwrap();
        assert_eq!(payload.downcast_ref(), Some(&"boom"));
        assert_eq!(
            lift_to_async(|| async { 1 }).unwrap(),
            1,
            "the loop is alive"
        );
    });
}

#[test]
fn lift_to_async_serves_the_lanes_of_its_thread_meanwhile() {
    let _configured = configured();
    guarded(|| {
        let main = Running::start();
        init_config(Config::new().main_loop(main.handle.clone())).unwrap();
        let lane = CurrentThreadExecutor::new(None);
        let remote = lane.clone();
        let lifted =
            lift_to_async(move || async move { remote.submit(here).unwrap().await.unwrap() });
        assert_eq!(lifted.unwrap(), here());
    });
}

#[test]
fn a_handle_of_a_call_may_be_awaited_anywhere() {
    guarded(|| {
        let pool = pool(1);
        let call = exec_in_executor(Some(&pool), || 1).unwrap();
        assert_eq!(block_on(call).unwrap(), 1);
    });
}

#[test]
fn an_insensitive_call_goes_to_the_configured_executor() {
    let _configured = configured();
    guarded(|| {
        let main = EventLoop::new();
        let counting = Counting::configured(&main);
        let call = sync_to_async(|| 1).thread_sensitive(false);
        assert_eq!(call.explain(), Route::Executor);
        assert_eq!(block_on(call.into_future()).unwrap(), 1);
        assert_eq!(*counting.1.lock().unwrap(), 1);
        init_config(Config::new().main_loop(main.handle())).unwrap();
    });
}

/// D10 and D3 for the main loop: what it leaves behind is usable again.
#[test]
fn a_main_loop_that_runs_again_answers_again() {
    let _configured = configured();
    guarded(|| {
        let main = EventLoop::new();
        init_config(Config::new().main_loop(main.handle())).unwrap();
        for round in 0..3 {
            let (pass, passed) = promise();
            main.run_until_complete(async move {
                let call = thread::spawn(move || {
                    pass.resolve(lift_to_async(move || async move { round }).unwrap())
                        .unwrap();
                });
                assert_eq!(passed.await.unwrap(), round);
                call.join().unwrap();
            })
            .unwrap();
            assert!(lift_to_async(|| async {}).unwrap_err().is_no_loop());
        }
    });
}
