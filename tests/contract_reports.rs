//! Unhandled panics of everything that runs work: reported once, under the handle's id, with
//! the place of the caller; what a shutdown or a cancel ends is not reported.

#![cfg(not(loom))]

mod kit;

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use portage::bridge::{async_to_sync, exec_in_executor, exec_in_executor_async, sync_to_async};
use portage::execution_queue::{AsyncExecutionQueue, Close};
use portage::executors::{AsyncExecutor, AsyncExecutorExt, DefaultBackgroundExecutor};
use portage::executors::{EventLoopPoolExecutor, RunMultiple};
use portage::pool::{Shutdown, StuckTask};
use portage::promise::{TaskId, handle_future_exception};
use portage::time::{sleep, yield_now};
use portage::{
    CurrentThreadExecutor, EventLoop, ExecutorExt, Job, JoinHandle, ThreadPool, block_on,
};

use kit::reports::{self, Report};
use kit::{eventually, on_new_thread, watchdog};

fn pool() -> ThreadPool {
    let builder = ThreadPool::builder().core_threads(1).max_threads(2);
    builder.build().expect("legal sizes")
}

/// Lets go of the handle and waits for the report about it.
fn told(what: &str, handle: JoinHandle<()>) -> Report {
    let id = handle.id();
    drop(handle);
    eventually(what, || !reports::of(id).is_empty());
    only(what, id)
}

fn only(what: &str, id: TaskId) -> Report {
    assert!(
        !kit::within(Duration::from_millis(2), || reports::of(id).len() > 1),
        "{what}: more than once"
    );
    let mut told = reports::of(id);
    assert_eq!(told.len(), 1, "{what}: {told:?}");
    told.remove(0)
}

#[track_caller]
fn is_from(what: &str, line: u32, report: &Report) {
    assert!(report.message.contains(what), "{report:?}");
    assert_eq!(report.file, file!(), "{what}: {report:?}");
    // a call that is broken over a few lines is named by one of them
    let lines = line..line + 6;
    assert!(
        lines.contains(&report.line),
        "{what}: {report:?} not in {lines:?}"
    );
}

/// Runs a spawning expression; checks that its panic is reported once, from its own line.
macro_rules! reported {
    ($what:literal, $handle:expr) => {{
        let line = line!();
        let handle: JoinHandle<()> = $handle;
        is_from($what, line, &told($what, handle));
    }};
}

#[test]
fn every_spawn_reports_once_from_the_line_of_its_caller() {
    let _watch = watchdog(60);
    reports::listen();
    let pool = pool();
    reported!(
        "spawn_blocking",
        pool.spawn_blocking(|| panic!("spawn_blocking"))
    );
    reported!(
        "inherent submit",
        pool.submit(|| panic!("inherent submit")).expect("taken")
    );
    reported!(
        "submit_named",
        pool.submit_named("n", || panic!("submit_named"))
            .expect("taken")
    );
    reported!("pool task", pool.spawn(async { panic!("pool task") }));
    reported!("pinned", pool.spawn_pinned(|| async { panic!("pinned") }));
    reported!("batch", pool.spawn_batch([|| panic!("batch")]).remove(0));
    reported!(
        "ext job",
        ExecutorExt::submit(&pool, || panic!("ext job")).expect("taken")
    );
    reported!(
        "exec sync",
        exec_in_executor(Some(&pool), || panic!("exec sync")).expect("taken")
    );
    reported!(
        "exec async",
        exec_in_executor_async(Some(&pool), || async { panic!("exec async") }).expect("taken")
    );

    let background = DefaultBackgroundExecutor::new().expect("one thread");
    reported!(
        "background",
        background.submit(async { panic!("background") })
    );
    reported!(
        "remote",
        background.handle().spawn(async { panic!("remote") })
    );
    reported!(
        "remote with",
        background
            .handle()
            .spawn_with(|| async { panic!("remote with") })
    );
    reported!(
        "loop job",
        background
            .handle()
            .submit(|| panic!("loop job"))
            .expect("taken")
    );
    let loops = EventLoopPoolExecutor::new(2).expect("two threads");
    reported!("loops", loops.submit(async { panic!("loops") }));

    let queue = AsyncExecutionQueue::new();
    reported!(
        "add_task",
        queue.add_task(|| panic!("add_task")).expect("taken")
    );
    reported!(
        "try_add_task",
        queue
            .try_add_task(|| panic!("try_add_task"))
            .expect("taken")
    );
    reported!(
        "aadd_task",
        block_on(queue.aadd_task(|| panic!("aadd_task"))).expect("taken")
    );
    reported!(
        "aadd_async",
        block_on(queue.aadd_task_async(|| async { panic!("aadd_async") })).expect("taken")
    );
}

#[test]
fn a_local_task_and_a_lane_job_report_too() {
    let _watch = watchdog(20);
    reports::listen();
    let events = EventLoop::new();
    let line = line!() + 1;
    let task = events.spawn_local(async { panic!("local") });
    let id = task.id();
    let task: JoinHandle<()> = task;
    drop(task);
    events.run_until_complete(yield_now()).expect("it is idle");
    is_from("local", line, &only("local", id));

    let lane = CurrentThreadExecutor::new(None);
    let job: JoinHandle<()> = on_new_thread(|| lane.submit(|| panic!("lane job"))).expect("taken");
    let id = job.id();
    drop(job);
    lane.run_until_future(yield_now()).expect("its owner");
    assert!(only("lane job", id).message.contains("lane job"));
}

#[test]
fn what_is_consumed_by_the_bridge_or_a_batch_is_not_reported() {
    let _watch = watchdog(20);
    reports::listen();
    let events = EventLoop::new();
    let error =
        events.run_until_complete(async { sync_to_async(|| panic!("seen by the bridge")).await });
    let error: Result<(), _> = error.expect("it is idle");
    assert!(error.expect_err("it panicked").is_panic());
    let pool = pool();
    let results = pool.run_multiple(
        (0..3).map(|_| async { panic!("seen by the batch") }),
        RunMultiple::default(),
    );
    let failed = results.filter(|result: &portage::executors::TaskResult<()>| !result.success());
    assert_eq!(failed.count(), 3);
    pool.shutdown(Shutdown::Drain);
    assert!(reports::with_text("seen by the b").is_empty());
}

#[test]
fn what_is_shut_down_cancelled_or_lost_is_not_reported() {
    let _watch = watchdog(20);
    reports::listen();
    let mut ids = Vec::new();
    let mut forget = |handle: JoinHandle<()>| {
        ids.push(handle.id());
        drop(handle);
    };
    let pool = pool();
    forget(pool.spawn(sleep(Duration::MAX)));
    forget(pool.spawn(kit::Forgotten));
    let cancelled = pool.spawn(sleep(Duration::MAX));
    let _ = cancelled.cancel();
    forget(cancelled);
    pool.shutdown(Shutdown::CancelQueued);
    forget(pool.spawn_blocking(|| ()));
    forget(pool.spawn(async {}));
    let background = DefaultBackgroundExecutor::new().expect("one thread");
    forget(background.submit(sleep(Duration::MAX)));
    background.shutdown(true);
    forget(background.submit(async {}));
    let queue = AsyncExecutionQueue::new();
    let gate = kit::Gate::new();
    let at = gate.clone();
    forget(queue.add_task(move || at.pass()).expect("taken"));
    gate.wait_entered(1);
    forget(queue.add_task(|| ()).expect("taken"));
    gate.open();
    queue.close(Close::CancelPending);
    let (job, handle) = Job::new(|| ());
    drop(job);
    forget(handle);
    for id in ids {
        assert!(reports::of(id).is_empty(), "{:?}", reports::of(id));
    }
}

#[test]
fn a_delayed_report_of_a_pool_job_comes_once() {
    let _watch = watchdog(20);
    reports::listen();
    let pool = pool();
    let gate = kit::Gate::new();
    let at = gate.clone();
    let handle = pool.spawn_blocking(move || -> u8 {
        at.pass();
        panic!("in its own time")
    });
    let id = handle.id();
    handle_future_exception(&handle, Duration::from_millis(5));
    gate.open();
    eventually("the report", || !reports::of(id).is_empty());
    let error = pool.spawn(handle).wait().expect("a value");
    assert!(error.expect_err("a late await still gets it").is_panic());
    assert!(only("delayed", id).message.contains("in its own time"));
}

#[test]
fn a_panic_passed_through_pools_and_chains_is_reported_once() {
    let _watch = watchdog(20);
    reports::listen();
    let pool = Arc::new(pool());
    let inner = pool.clone();
    let outer = pool.spawn_blocking(move || inner.spawn_blocking(|| -> u8 { panic!("one chain") }));
    let chained = outer
        .flatten()
        .map(|value| value + 1)
        .map(|value| value + 1);
    drop(chained);
    eventually("the report", || !reports::with_text("one chain").is_empty());
    pool.shutdown(Shutdown::Drain);
    assert_eq!(reports::with_text("one chain").len(), 1);
}

#[test]
fn the_destructor_of_a_driven_future_is_reported_from_the_line_that_drives_it() {
    struct Bomb(&'static str);
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("{}", self.0);
        }
    }
    let _watch = watchdog(20);
    reports::listen();
    let armed = |text| {
        let bomb = Bomb(text);
        async move {
            let _kept = &bomb;
            std::future::pending::<()>().await;
        }
    };
    let at_once = |text| {
        let mut future = Box::pin(armed(text));
        std::future::poll_fn(move |cx| {
            assert!(future.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(7)
        })
    };
    let from = |text, line| {
        let told = reports::with_text(text);
        assert_eq!(told.len(), 1, "{told:?}");
        is_from(text, line, &told[0]);
    };
    let line = line!() + 1;
    assert_eq!(block_on(at_once("dropped by block_on")), 7);
    from("dropped by block_on", line);
    let event_loop = EventLoop::new();
    let line = line!() + 1;
    let seven = event_loop.run_until_complete(at_once("dropped by a loop"));
    assert_eq!(seven.expect("it is idle"), 7);
    from("dropped by a loop", line);
    let lane = CurrentThreadExecutor::new(None);
    let line = line!() + 1;
    let seven = lane.run_until_future(at_once("dropped by a lane"));
    assert_eq!(seven.expect("it is new"), 7);
    from("dropped by a lane", line);
}

/// A bridged call is made by a poll, far from the line that wrote it.
#[test]
fn a_bridged_call_is_known_by_the_line_that_made_it() {
    let _watch = watchdog(20);
    let pool = pool();
    let gate = kit::Gate::new();
    let _open = kit::OpenAtEnd(gate.clone());
    let at = gate.clone();
    let executor: Arc<ThreadPool> = Arc::new(pool.clone());
    let line = line!() + 1;
    let call = sync_to_async(move || at.pass()).executor(executor);
    let mut call = call.into_future();
    assert!(kit::poll_once(&mut call).is_pending());
    gate.wait_entered(1);
    let stuck = pool.shutdown_timeout(Shutdown::Drain, Duration::ZERO).stuck;
    let place = |task: &StuckTask| (task.spawned_at.file(), task.spawned_at.line());
    let places: Vec<_> = stuck.iter().map(place).collect();
    assert_eq!(places, [(file!(), line)]);
    gate.open();
    assert!(block_on(call).is_ok());
}

/// The call has given up when its async code panics, so somebody has to be told, and where.
#[test]
fn async_code_that_outlives_its_call_reports_from_the_line_of_the_call() {
    let _watch = watchdog(20);
    reports::listen();
    let cut_off = |text: &'static str, gate: &kit::Gate| {
        let mut limit = Duration::from_millis(1);
        let line = loop {
            let at = gate.clone();
            let call = async_to_sync(move || async move {
                at.pass();
                panic!("{text}");
            });
            let line = line!() + 1;
            let outcome = call.timeout(limit).call();
            assert!(outcome.expect_err("cut off").is_timed_out());
            if gate.entered() > 0 {
                break line;
            }
            // A slow machine: the time was up before the code had begun, and so it never does.
            limit *= 2;
        };
        gate.open();
        eventually("the report", || !reports::with_text(text).is_empty());
        let told = reports::with_text(text).remove(0);
        is_from(text, line, &told);
    };
    let gate = kit::Gate::new();
    cut_off("on a loop of its own", &gate);
    let events = EventLoop::new();
    let below = sync_to_async(move || cut_off("on the loop of the parent", &kit::Gate::new()));
    let done = events
        .run_until_complete(async { below.await })
        .expect("it is idle");
    assert!(done.is_ok(), "{done:?}");
}
