//! Every place where user code is called, with user code that panics.
//!
//! Elsewhere: wakers (`hostile.rs`), the unhandled hook (`unhandled.rs`), values of context
//! variables that panic in their drop (`context_reentrancy.rs`).

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Cx, Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::time::Duration;

use futures_core::Stream;
use futures_task::{FutureObj, Spawn, SpawnError};
use portage::bridge::{async_to_sync, exec_in_executor, exec_in_executor_async, sync_to_async};
use portage::context::{Context, ContextVar};
use portage::error::SubmitError;
use portage::execution_queue::AsyncExecutionQueue;
use portage::executors::{
    AsyncExecutor, AsyncExecutorExt, DefaultBackgroundExecutor, EventLoopPoolExecutor, RunMultiple,
};
use portage::pool::Shutdown;
use portage::sync::{BlockingEvent, Event, Polling, ThreadWithException, await_threading_event};
use portage::time::{sleep, timeout, yield_now};
use portage::{
    CurrentThreadExecutor, EventLoop, Executor, ExecutorExt, Job, JoinError, JoinHandle,
    ThreadPool, block_on, promise,
};

use super::{books_balance, fixed};
use crate::kit::{self, Diary, Drops, Gate, OpenAtEnd, PanicOnDrop, reports, watchdog};

/// A panic whose payload panics again when it is dropped, twice.
struct Grenade(u8);

impl Drop for Grenade {
    fn drop(&mut self) {
        if self.0 > 0 {
            std::panic::panic_any(Grenade(self.0 - 1));
        }
    }
}

fn boom<T>() -> T {
    panic!("boom")
}

fn grenade<T>() -> T {
    std::panic::panic_any(Grenade(2))
}

/// Pending once, then panics.
async fn late_boom() {
    yield_now().await;
    boom()
}

fn unwinds(what: &str, code: impl FnOnce()) {
    let outcome = catch_unwind(AssertUnwindSafe(code));
    let payload = outcome.expect_err(what);
    assert_eq!(kit::text_of(&*payload), "boom", "{what}");
}

fn is_panic<T>(what: &str, outcome: Result<T, JoinError>) {
    let Err(error) = outcome else {
        panic!("{what}: a value");
    };
    assert!(error.is_panic(), "{what}: {error}");
    // its payload may panic when it is dropped
    let _ = catch_unwind(AssertUnwindSafe(|| drop(error)));
}

/// Nobody has died of what came before.
#[track_caller]
fn works_on(pool: &ThreadPool) {
    assert_eq!(pool.spawn_blocking(|| 1).wait().expect("a value"), 1);
    assert_eq!(pool.spawn(async { 2 }).wait().expect("a value"), 2);
    let metrics = books_balance(pool);
    assert_eq!(metrics.threads_started, 1, "a worker died");
}

#[test]
fn closures_and_futures_of_a_pool() {
    let _watch = watchdog(30);
    reports::listen();
    let pool = fixed(1);
    let executor: &dyn Executor = &pool;
    for (what, handle) in [
        ("spawn_blocking", pool.spawn_blocking(boom)),
        ("its payload", pool.spawn_blocking(grenade)),
        ("submit", pool.submit(boom).unwrap()),
        ("executor", executor.submit(boom).unwrap()),
        ("named", executor.submit_named("x", boom).unwrap()),
        (
            "exec_in_executor",
            exec_in_executor(Some(executor), boom).unwrap(),
        ),
        ("spawn", pool.spawn(async { boom() })),
        ("spawn, its payload", pool.spawn(async { grenade() })),
        ("spawn, later", pool.spawn(late_boom())),
        (
            "spawn_pinned, its making",
            pool.spawn_pinned(boom::<std::future::Ready<()>>),
        ),
        ("spawn_pinned", pool.spawn_pinned(|| async { boom() })),
        ("spawn_pinned, later", pool.spawn_pinned(late_boom)),
        (
            "exec_in_executor_async",
            exec_in_executor_async(Some(executor), late_boom).unwrap(),
        ),
        (
            "exec_in_executor_async, its making",
            exec_in_executor_async(Some(executor), boom::<std::future::Ready<()>>).unwrap(),
        ),
        (
            "attached to a context",
            pool.spawn(Context::new().attach(late_boom())),
        ),
        (
            "in a timeout",
            pool.spawn(async { timeout(Duration::MAX, late_boom()).await.unwrap() }),
        ),
        ("in place", {
            let inner = pool.clone();
            pool.spawn_blocking(move || inner.spawn_blocking(boom).wait().unwrap())
        }),
    ] {
        is_panic(what, handle.wait());
    }
    for handle in pool.spawn_batch([boom::<()>, grenade]) {
        is_panic("spawn_batch", handle.wait());
    }
    is_panic(
        "wait_helping",
        pool.spawn_blocking(boom::<()>).wait_helping(),
    );
    works_on(&pool);
}

#[test]
fn closures_and_futures_of_loops_and_lanes() {
    let _watch = watchdog(30);
    reports::listen();
    let events = EventLoop::new();
    let handle = events.handle();
    let executor: &dyn Executor = &handle;
    for (what, task) in [
        ("spawn_local", events.spawn_local(late_boom())),
        (
            "spawn_local, its payload",
            events.spawn_local(async { grenade() }),
        ),
        ("spawn", handle.spawn(late_boom())),
        ("spawn_with", handle.spawn_with(late_boom)),
        (
            "spawn_with, its making",
            handle.spawn_with(boom::<std::future::Ready<()>>),
        ),
        ("a job", executor.submit(boom).unwrap()),
    ] {
        let outcome = events.run_until_complete(task).expect("it is idle");
        is_panic(what, outcome);
    }
    unwinds("the root", || {
        let _ = events.run_until_complete(late_boom());
    });
    unwinds("block_on", || block_on(late_boom()));
    assert_eq!(events.run_until_complete(async { 3 }).unwrap(), 3);

    let lane = CurrentThreadExecutor::new(None);
    let remote = lane.clone();
    let job = kit::on_new_thread(move || remote.submit(grenade::<()>).expect("open"));
    is_panic("a job of a lane", lane.run_until_future(job).unwrap());
    let lane = CurrentThreadExecutor::new(None);
    unwinds("the future of a lane", || {
        let _ = lane.run_until_future(late_boom());
    });
    assert!(lane.is_finished());
}

#[test]
fn closures_and_futures_of_bridges_queues_and_executors() {
    let _watch = watchdog(30);
    reports::listen();
    unwinds("async_to_sync", || {
        if let Err(error) = async_to_sync(late_boom).call() {
            error.into_join_error().expect("a panic").resume_unwind();
        }
    });
    unwinds("async_to_sync, its making", || {
        if let Err(error) = async_to_sync(boom::<std::future::Ready<()>>).call() {
            error.into_join_error().expect("a panic").resume_unwind();
        }
    });
    for sensitive in [true, false] {
        let call = sync_to_async(boom::<()>).thread_sensitive(sensitive);
        let error = block_on(call.into_future()).unwrap_err();
        assert!(error.is_panic(), "{error}");
    }
    let queue = AsyncExecutionQueue::new();
    is_panic("add_task", queue.add_task(boom::<()>).unwrap().wait());
    let added = block_on(queue.aadd_task_async(late_boom)).unwrap();
    is_panic("aadd_task_async", added.wait());
    let added = block_on(queue.aadd_task_async(boom::<std::future::Ready<()>>)).unwrap();
    is_panic("aadd_task_async, its making", added.wait());
    assert_eq!(queue.add_task(|| 4).unwrap().wait().unwrap(), 4);
    kit::eventually("the places", || queue.is_empty());

    let background = DefaultBackgroundExecutor::new().expect("a thread");
    let loops = EventLoopPoolExecutor::new(2).expect("threads");
    is_panic("run", background.run(late_boom()));
    is_panic("submit", loops.submit(late_boom()).wait());
    let options = RunMultiple::default();
    let mixed = (0..6).map(|number| async move {
        yield_now().await;
        if number % 2 == 0 { boom() } else { number }
    });
    let results: Vec<_> = loops.run_multiple(mixed, options).collect();
    assert_eq!(results.len(), 6);
    for result in results {
        assert_eq!(result.success(), result.index % 2 == 1);
    }
    unwinds("the iterator of a batch", || {
        let tasks = (0..3).map(|number| if number == 2 { boom() } else { async {} });
        let _ = background.run_multiple(tasks, options);
    });
    assert_eq!(background.run(async { 5 }).unwrap(), 5);
    assert_eq!(loops.run(async { 5 }).unwrap(), 5);

    let thread = ThreadWithException::spawn(boom::<()>).unwrap();
    is_panic("a thread", thread.try_join());
}

/// Gives so many items, then panics; panics in its drop if told to.
struct Stumbles(
    u32,
    #[allow(dead_code, reason = "it is only dropped")] Option<PanicOnDrop>,
);

impl Stream for Stumbles {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Cx<'_>) -> Poll<Option<u32>> {
        self.0 = self.0.checked_sub(1).unwrap_or_else(boom);
        Poll::Ready(Some(self.0))
    }
}

#[test]
fn streams() {
    let _watch = watchdog(30);
    reports::listen();
    let background = DefaultBackgroundExecutor::new().expect("a thread");
    for prefetch in [0, 1, 100] {
        for bomb in [false, true] {
            let bomb = || bomb.then(|| PanicOnDrop("a stream"));
            let items: Vec<_> = background
                .wrap_async_iterable(Stumbles(3, bomb()))
                .prefetch(prefetch)
                .collect();
            let (last, items) = items.split_last().expect("four");
            assert_eq!(items.len(), 3);
            assert!(items.iter().all(Result::is_ok));
            assert!(last.as_ref().is_err_and(JoinError::is_panic), "{last:?}");
            // dropped in the middle
            let mut items = background
                .wrap_async_iterable(Stumbles(1000, bomb()))
                .prefetch(prefetch);
            assert!(items.next().is_some_and(|item| item.is_ok()));
            drop(items);
            assert_eq!(background.run(async { 6 }).unwrap(), 6);
        }
    }
}

#[test]
fn callbacks_and_steps_of_chains() {
    let _watch = watchdog(30);
    reports::listen();
    let pool = fixed(1);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let at = gate.clone();
    let handle = pool.spawn_blocking(move || at.pass());
    gate.wait_entered(1);
    let seen = Diary::new();
    handle.on_complete(|_| boom());
    let diary = seen.clone();
    handle.on_complete(move |_| diary.note("second"));
    handle.on_complete(|_| grenade());
    let bomb = PanicOnDrop("a callback");
    handle.on_complete(move |_| {
        let _held = &bomb;
    });
    let diary = seen.clone();
    handle.on_complete(move |_| diary.note("fifth"));
    let mapped = handle.map(|()| boom::<u8>());
    let after = mapped.then(|outcome| outcome.is_err_and(|error| error.is_panic()));
    gate.open();
    assert!(after.wait().expect("a value"));
    assert_eq!(seen.read(), ["second", "fifth"]);
    // the error passes through whatever the step that it skips does in its drop
    let drops = Drops::new();
    let token = drops.token();
    let failed = pool.spawn_blocking(move || -> u8 { std::panic::panic_any(token) });
    let bomb = PanicOnDrop("a step that is skipped");
    let skipped = failed.map(move |value| {
        let _held = &bomb;
        value
    });
    let payload = skipped.wait().unwrap_err().into_panic().expect("a panic");
    assert!(
        payload.is::<kit::Token>(),
        "the first panic, not the second"
    );
    drop(payload);
    assert_eq!(drops.live(), 0);
    // on the thread that adds it late
    let done = pool.spawn_blocking(|| ());
    kit::eventually("the end", || done.is_finished());
    done.on_complete(|_| boom());
    is_panic("then", done.then(|_| boom::<u8>()).wait());
    // on the thread that cancels
    let (writer, reader) = promise::<u8>();
    reader.on_complete(|_| boom());
    let _ = reader.cancel();
    drop(writer);
    works_on(&pool);
}

/// Polls its future on the thread that wakes it.
struct Inline(parking_lot::Mutex<Option<FutureObj<'static, ()>>>);

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        let future = self.0.lock().take();
        if let Some(mut future) = future {
            let waker = Waker::from(self.clone());
            if kit::poll_with(&mut future, &waker).is_pending() {
                *self.0.lock() = Some(future);
            }
        }
    }
}

struct InlineExecutor;

impl Spawn for InlineExecutor {
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        Arc::new(Inline(parking_lot::Mutex::new(Some(future)))).wake();
        Ok(())
    }
}

impl AsyncExecutor for InlineExecutor {
    fn is_own_thread(&self) -> bool {
        false
    }

    fn shutdown(&self, _: bool) {}
}

/// The stream makes its items and ends between the consumer's looks for an item and for the end.
#[test]
fn a_stream_that_panics_after_some_items_gives_these_and_then_the_panic() {
    let _watch = watchdog(60);
    reports::listen();
    for prefetch in [0, 1, 2, 3, 100] {
        let items = InlineExecutor.wrap_async_iterable(Stumbles(3, None));
        let items: Vec<_> = items.prefetch(prefetch).collect();
        let ends = items.iter().map(Result::is_ok);
        assert!(ends.eq([true, true, true, false]), "{prefetch}: {items:?}");
    }
}

/// A future that panics in its drop, and is pending until then.
async fn stays(bomb: PanicOnDrop) {
    let _held = bomb;
    sleep(Duration::MAX).await;
}

#[test]
fn destructors_of_work_that_never_ran_or_never_ended() {
    let _watch = watchdog(30);
    reports::listen();
    let pool = fixed(1);
    let gate = Gate::new();
    let end = OpenAtEnd(gate.clone());
    let at = gate.clone();
    pool.spawn_blocking(move || at.pass()).detach();
    gate.wait_entered(1);
    let closure = || {
        let bomb = PanicOnDrop("a closure");
        move || drop(bomb)
    };
    // cancelled on this thread, before the start
    let _ = pool.spawn_blocking(closure()).cancel();
    let _ = pool.spawn(stays(PanicOnDrop("a future"))).cancel();
    let pinned = pool.spawn_pinned(|| stays(PanicOnDrop("a future")));
    let _ = pinned.cancel();
    // dropped with the job
    drop(Job::new(closure()));
    let (job, handle) = Job::new(closure());
    let _ = handle.cancel();
    drop(job);
    // suspended, then cancelled: dropped by a worker
    let late = [
        pool.spawn(stays(PanicOnDrop("a future"))),
        pool.spawn_pinned(|| stays(PanicOnDrop("a future"))),
    ];
    drop(end);
    works_on(&pool);
    for task in late {
        let _ = task.cancel();
        assert!(task.wait().unwrap_err().is_cancelled());
    }
    works_on(&pool);
    // by a shutdown
    let gate = Gate::new();
    let end = OpenAtEnd(gate.clone());
    let at = gate.clone();
    let suspended = pool.spawn(stays(PanicOnDrop("a future")));
    works_on(&pool);
    pool.spawn_blocking(move || at.pass()).detach();
    gate.wait_entered(1);
    let queued = pool.spawn_blocking(closure());
    let ending = {
        let pool = pool.clone();
        std::thread::spawn(move || pool.shutdown(Shutdown::CancelQueued))
    };
    assert!(queued.wait().unwrap_err().is_cancelled());
    drop(end);
    assert!(ending.join().expect("no panic").completed);
    assert!(suspended.wait().unwrap_err().is_cancelled());
    // refused
    assert!(pool.submit(closure()).unwrap_err().is_shut_down());
    assert!(
        pool.spawn_blocking(closure())
            .wait()
            .unwrap_err()
            .is_shut_down()
    );
    assert!(pool.spawn(stays(PanicOnDrop("a future"))).wait().is_err());
    books_balance(&pool);

    let events = EventLoop::new();
    let local = events.spawn_local(stays(PanicOnDrop("a future")));
    events.run_until_complete(yield_now()).unwrap();
    drop(events);
    assert!(local.wait().unwrap_err().is_cancelled());
    let lane = CurrentThreadExecutor::new(None);
    let remote = lane.clone();
    let queued = kit::on_new_thread(move || remote.submit(closure()).expect("open"));
    drop(lane);
    assert!(queued.wait().unwrap_err().is_lost());
    let queue = AsyncExecutionQueue::new();
    let gate = Gate::new();
    let end = OpenAtEnd(gate.clone());
    let at = gate.clone();
    let first = queue.add_task(move || at.pass()).unwrap();
    let behind = queue.add_task(closure()).unwrap();
    gate.wait_entered(1);
    drop(queue);
    assert!(behind.wait().unwrap_err().is_cancelled());
    drop(end);
    first.wait().unwrap();
}

#[test]
fn destructors_of_values_that_nobody_reads() {
    let _watch = watchdog(30);
    reports::listen();
    let pool = fixed(1);
    for round in 0..3 {
        let value = || PanicOnDrop("a value");
        let handle = match round {
            0 => pool.spawn_blocking(value),
            1 => pool.spawn(async move { value() }),
            _ => pool.spawn_pinned(move || async move { value() }),
        };
        handle.detach();
        works_on(&pool);
    }
    // dropped with its handle, on this thread: contained and reported too
    let handle = pool.spawn_blocking(|| PanicOnDrop("a value"));
    kit::eventually("the end", || handle.is_finished());
    drop(handle);
    let (writer, reader) = promise();
    writer.resolve(PanicOnDrop("a value")).expect("it is taken");
    drop(reader);
    works_on(&pool);
}

/// An executor of the user's that panics, and loses the job or keeps it.
struct Hostile(parking_lot::Mutex<Option<Job>>, bool);

impl Executor for Hostile {
    fn execute(&self, job: Job) -> Result<(), SubmitError> {
        if self.1 {
            *self.0.lock() = Some(job);
        }
        boom()
    }
}

#[test]
fn executors_of_the_user() {
    let _watch = watchdog(30);
    reports::listen();
    for keeps in [false, true] {
        let hostile = Arc::new(Hostile(parking_lot::Mutex::new(None), keeps));
        unwinds("submit", || {
            let _ = hostile.submit(|| 1);
        });
        unwinds("exec_in_executor", || {
            let _ = exec_in_executor(Some(&*hostile), || 1);
        });
        // somebody else's thread may be the one that asks: the handle tells, or the call does
        let queue = AsyncExecutionQueue::builder().executor(hostile.clone());
        let queue = queue.build().expect("valid");
        for _ in 0..3 {
            let added = catch_unwind(AssertUnwindSafe(|| queue.add_task(|| 1)));
            let kept = hostile.0.lock().take();
            drop(kept);
            if let Ok(Ok(handle)) = added {
                assert!(handle.wait().is_err());
            }
        }
        kit::eventually("the places", || queue.is_empty());
        let call = sync_to_async(|| 1).executor(hostile.clone());
        let ended = catch_unwind(AssertUnwindSafe(|| block_on(call.into_future())));
        assert!(!matches!(ended, Ok(Ok(_))), "nobody ran it");
    }
}

/// Panics in what it is asked.
struct BadEvent(&'static str);

impl BlockingEvent for BadEvent {
    fn is_set(&self) -> bool {
        if self.0 == "is_set" { boom() } else { false }
    }

    fn wait_timeout(&self, _: Duration) -> bool {
        if self.0 == "wait" { boom() } else { false }
    }

    fn native(&self) -> Option<&Event> {
        if self.0 == "native" { boom() } else { None }
    }
}

#[test]
fn events_of_the_user() {
    let _watch = watchdog(30);
    reports::listen();
    for fault in ["is_set", "wait", "native"] {
        let event = Arc::new(BadEvent(fault));
        unwinds(fault, || {
            let limit = Some(Duration::from_millis(20));
            let wait = await_threading_event(&event, "bad", limit, Polling::default());
            let _ = block_on(wait);
        });
    }
    let pool = ThreadPool::global();
    assert_eq!(pool.spawn_blocking(|| 1).wait().unwrap(), 1);
}

#[derive(Debug)]
struct Fragile(u32);

thread_local! {
    static BREAKS: Cell<bool> = const { Cell::new(false) };
}

impl Clone for Fragile {
    fn clone(&self) -> Self {
        if BREAKS.get() { boom() } else { Self(self.0) }
    }
}

static FRAGILE: ContextVar<Fragile> = ContextVar::new("fragile");
static UNSURE: ContextVar<u32> =
    ContextVar::with_default("unsure", || if BREAKS.get() { boom() } else { 9 });

#[test]
fn clones_and_defaults_of_context_variables() {
    let _watch = watchdog(30);
    reports::listen();
    let token = FRAGILE.set(Fragile(1));
    BREAKS.set(true);
    unwinds("get", || {
        let _ = FRAGILE.get();
    });
    unwinds("with", || FRAGILE.with(|_| boom()));
    unwinds("a default", || {
        let _ = UNSURE.get();
    });
    unwinds("a default, with", || UNSURE.with(|_| ()));
    let context = Context::current();
    unwinds("get of a context", || {
        let _ = context.get(&FRAGILE);
    });
    unwinds("run", || Context::current().run(boom));
    BREAKS.set(false);
    assert_eq!(FRAGILE.get().expect("set").0, 1);
    assert_eq!(UNSURE.get(), Some(9));
    // a worker that panics inside a context goes on in its own
    let pool = fixed(1);
    is_panic(
        "get on a worker",
        pool.spawn_blocking(|| {
            BREAKS.set(true);
            let _restored = kit::OnDrop::new(|| BREAKS.set(false));
            let _ = FRAGILE.get();
        })
        .wait(),
    );
    assert!(FRAGILE.reset(token).is_ok());
    works_on(&pool);
}

/// A waker whose clone panics.
fn unclonable() -> Waker {
    fn clone(_: *const ()) -> RawWaker {
        boom()
    }
    fn nothing(_: *const ()) {}
    static TABLE: RawWakerVTable = RawWakerVTable::new(clone, nothing, nothing, nothing);
    // SAFETY: the functions ignore the pointer.
    unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &TABLE)) }
}

/// The poll unwinds or not; what is polled is as good as before, and everybody else goes on.
#[test]
fn wakers_that_cannot_be_cloned() {
    let _watch = watchdog(30);
    reports::listen();
    fn poll<F: Future + Unpin>(future: &mut F) {
        let waker = unclonable();
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let _ = kit::poll_with(future, &waker);
        }));
    }
    let (writer, mut reader) = promise();
    poll(&mut reader);
    writer.resolve(1).expect("nobody cancelled");
    assert_eq!(reader.wait().expect("a value"), 1);

    let (mut writer, reader) = promise::<u8>();
    poll(&mut writer.cancelled());
    let _ = reader.cancel();
    kit::foreign_block_on(writer.cancelled());

    let mut nap = sleep(Duration::from_millis(5));
    poll(&mut nap);
    kit::foreign_block_on(nap);

    let event = Event::new();
    let mut wait = event.wait_async();
    poll(&mut wait);
    event.set();
    kit::foreign_block_on(wait);

    let pool = fixed(1);
    let gate = Gate::new();
    let end = OpenAtEnd(gate.clone());
    let at = gate.clone();
    let mut handle: JoinHandle<()> = pool.spawn_blocking(move || at.pass());
    gate.wait_entered(1);
    poll(&mut handle);
    drop(end);
    handle.wait().expect("a value");

    let queue = AsyncExecutionQueue::builder().capacity(1).build().unwrap();
    let gate = Gate::new();
    let end = OpenAtEnd(gate.clone());
    let at = gate.clone();
    let first = queue.add_task(move || at.pass()).unwrap();
    let mut adding = Box::pin(queue.aadd_task(|| 2));
    poll(&mut adding);
    drop(end);
    first.wait().expect("a value");
    let second = kit::foreign_block_on(adding).expect("room");
    assert_eq!(second.wait().expect("a value"), 2);
    kit::eventually("the places", || queue.is_empty());
    works_on(&pool);
}
