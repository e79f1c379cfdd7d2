//! Every public path, name and bound that users may rely on, written down once.
//!
//! Most of it only has to compile: a function that is never called proves a signature. The
//! tests at the end look at sizes, which the compiler does not promise.

#![cfg(not(loom))]
#![allow(
    dead_code,
    unused_qualifications,
    clippy::let_underscore_future,
    clippy::too_many_arguments,
    reason = "to compile is the test, and names are written out"
)]

use std::any::Any;
use std::borrow::Cow;
use std::error::Error;
use std::fmt::{Debug, Display};
use std::future::Future;
use std::hash::Hash;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use futures_task::Spawn;

fn send<T: Send>() {}
fn sync<T: Sync>() {}
fn unpin<T: Unpin>() {}
fn unwinds<T: std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
fn debug<T: Debug>() {}
fn send_value<T: Send>(value: T) -> T {
    value
}
fn data<T: Clone + Debug + PartialEq + Eq + Hash>() {}
fn copy<T: Copy>() {}
fn error<T: Error + Debug + Display + Send + 'static>() {}
fn future<O, F: Future<Output = O>>(future: F) -> F {
    future
}

/// `Send` is told apart from its absence by which of two methods is found.
macro_rules! is_send {
    ($type:ty) => {{
        struct Probe<T>(std::marker::PhantomData<T>);
        trait Otherwise {
            fn answer(&self) -> bool {
                false
            }
        }
        impl<T> Otherwise for Probe<T> {}
        impl<T: Send> Probe<T> {
            fn answer(&self) -> bool {
                true
            }
        }
        Probe::<$type>(std::marker::PhantomData).answer()
    }};
}

mod unwinding {
    use super::unwinds;
    use portage::error::{BridgeError, BuildError, JoinError, RunError, SubmitError};
    use portage::promise::{CancelHandle, FutureWrapper};
    use portage::{
        Context, ContextVar, CurrentThreadExecutor, Job, JoinHandle, LoopHandle, Promise,
        ThreadPool,
    };

    fn whatever_others_may_hold_goes_through_catch_unwind() {
        unwinds::<(
            Context,
            ContextVar<u8>,
            Promise<u8>,
            JoinHandle<u8>,
            CancelHandle,
        )>();
        unwinds::<(FutureWrapper<u8, String>, Job, ThreadPool, LoopHandle)>();
        unwinds::<(CurrentThreadExecutor, portage::pool::ThreadPoolBuilder)>();
        unwinds::<(JoinError, SubmitError, RunError, BuildError, BridgeError)>();
    }
}

mod root {
    pub(crate) use portage::{
        Context, ContextVar, CurrentThreadExecutor, EventLoop, Executor, ExecutorExt, Job,
        JoinError, JoinHandle, LoopHandle, Promise, SubmitError, ThreadPool, block_on,
        copy_context, promise,
    };

    fn the_root_names_are_the_modules_names(
        a: Context,
        b: ContextVar<u8>,
        c: CurrentThreadExecutor,
        d: EventLoop,
        e: Job,
        f: JoinError,
        g: JoinHandle<u8>,
        h: LoopHandle,
        i: Promise<u8>,
        j: SubmitError,
        k: ThreadPool,
    ) {
        let _: (portage::context::Context, portage::context::ContextVar<u8>) = (a, b);
        let _: portage::current_thread::CurrentThreadExecutor = c;
        let _: (
            portage::event_loop::EventLoop,
            portage::event_loop::LoopHandle,
        ) = (d, h);
        let _: portage::executor::Job = e;
        let _: (portage::error::JoinError, portage::error::SubmitError) = (f, j);
        let _: (
            portage::promise::JoinHandle<u8>,
            portage::promise::Promise<u8>,
        ) = (g, i);
        let _: portage::pool::ThreadPool = k;
        let _: fn() -> Context = copy_context;
        let _: fn() -> Context = portage::context::copy_context;
        let _ = promise::<u8>;
        let _ = portage::promise::promise::<u8>;
        let _ = block_on::<std::future::Ready<u8>>;
        let _ = portage::event_loop::block_on::<std::future::Ready<u8>>;
    }

    fn traits<E: Executor>(executor: &E, dynamic: &dyn Executor) {
        let _ = executor.submit(|| 1);
        let _ = dynamic.submit(|| 1);
        let _ = portage::executor::Executor::execute(executor, Job::new(|| ()).0);
        let _ = portage::executor::ExecutorExt::submit(executor, || 1);
    }
}

mod context {
    use super::*;
    use portage::context::{
        Context, ContextVar, InContext, ResetError, ScopeGuard, Token, copy_context,
    };

    static PLAIN: ContextVar<u32> = ContextVar::new("plain");
    static WITH_DEFAULT: ContextVar<String> = ContextVar::with_default("default", String::new);

    fn variables() {
        let _: &'static str = PLAIN.name();
        let _: Option<u32> = PLAIN.get();
        let _: String = WITH_DEFAULT.get_or(String::new());
        let _: usize = WITH_DEFAULT.with(|value: Option<&String>| value.map_or(0, String::len));
        let token: Token<u32> = PLAIN.set(1);
        let _: Option<&u32> = token.old_value();
        let _: &str = token.var_name();
        let _: Result<(), ResetError<u32>> = PLAIN.reset(token);
        let _guard: ScopeGuard<'_, u32> = PLAIN.scope(1);
        let local = ContextVar::<Arc<str>>::new("local");
        let moved = Box::new(local);
        let _ = moved.get();
    }

    fn reset_error(error: ResetError<u32>) -> Token<u32> {
        let _: bool = error.is_different_variable();
        let _: bool = error.is_different_context();
        let _ = format!("{error} {error:?}");
        let _: &dyn Error = &error;
        error.into_token()
    }

    fn contexts(mut context: Context) {
        let _: (Context, Context) = (Context::new(), Context::default());
        let _: (Context, Context, Context) = (Context::current(), copy_context(), context.clone());
        let _: i32 = context.run(|| 1);
        let _: Option<u32> = context.get(&PLAIN);
        let _: bool = context.contains(&WITH_DEFAULT);
        let _: (usize, bool) = (context.len(), context.is_empty());
        let attached: InContext<_> = context.attach(async { 1 });
        let _ = future::<i32, _>(attached);
    }

    fn attaches_what_is_not_send(context: Context) {
        let value = Rc::new(1);
        drop(context.attach(async move { *value }));
    }

    fn auto_traits() {
        send::<Context>();
        sync::<Context>();
        debug::<Context>();
        send::<ContextVar<u32>>();
        sync::<ContextVar<u32>>();
        send::<InContext<std::future::Ready<u8>>>();
        error::<ResetError<u32>>();
    }

    pub(super) fn a_scope_guard_stays_on_its_thread() -> bool {
        !is_send!(ScopeGuard<'static, u32>)
    }
}

mod promise {
    use super::*;
    use portage::error::JoinError;
    use portage::promise::{
        Cancel, CancelHandle, Cancelled, Completion, FutureWrapper, JoinHandle, Promise, TaskId,
        Unhandled, UnhandledHook, chain_future_results, handle_future_exception, promise,
        set_unhandled_hook,
    };

    fn any_type_can_be_promised<'a>(text: &'a str) {
        let (writer, reader) = promise::<Rc<u8>>();
        let _: Result<(), Rc<u8>> = writer.resolve(Rc::new(1));
        let _: Result<Rc<u8>, JoinError> = reader.wait();
        let (writer, reader) = promise::<&'a str>();
        let _: Result<(), &'a str> = writer.resolve(text);
        let _: Result<&'a str, JoinError> = reader.wait();
    }

    async fn writing(mut writer: Promise<String>, other: Promise<String>) {
        let _: bool = writer.start();
        let _: bool = writer.is_cancelled();
        let waiting: Cancelled<'_, String> = writer.cancelled();
        let _: () = waiting.await;
        let _: Result<(), String> = writer.resolve(String::new());
        let _: Result<(), JoinError> = other.fail(JoinError::cancelled());
    }

    async fn reading(mut handle: JoinHandle<u8>) {
        let _: Option<Result<u8, JoinError>> = handle.wait_timeout(Duration::ZERO);
        let _: Option<Result<u8, JoinError>> = handle.try_take();
        let _: Cancel = handle.cancel();
        let cancel: CancelHandle = handle.cancel_handle();
        let _: (Cancel, bool) = (cancel.clone().cancel(), cancel.is_cancelled());
        let _: [bool; 4] = [
            handle.is_finished(),
            handle.is_running(),
            handle.is_cancelled(),
            handle.is_consumed(),
        ];
        handle.on_complete(|completion: Completion| drop(Box::new(completion)));
        let id: TaskId = handle.id();
        let _ = format!("{id} {id:?}");
        let _: Option<&str> = handle.name();
        let _: Result<u8, JoinError> = (&mut handle).await;
        let _: Result<u8, JoinError> = handle.await;
    }

    fn ends(a: JoinHandle<u8>, b: JoinHandle<u8>, c: JoinHandle<u8>, d: JoinHandle<u8>) {
        let _: Result<u8, JoinError> = a.wait();
        let _: Result<u8, JoinError> = b.wait_helping();
        c.detach();
        let then: JoinHandle<bool> = d.then(|result: Result<u8, JoinError>| result.is_ok());
        let map: JoinHandle<String> = then.map(|ok: bool| ok.to_string());
        map.detach();
    }

    fn flat(nested: JoinHandle<JoinHandle<u8>>, target: Promise<u8>) {
        let flat: JoinHandle<u8> = nested.flatten();
        chain_future_results(flat, target);
    }

    async fn wrapped(handle: JoinHandle<Result<u8, String>>) {
        let wrapper: FutureWrapper<u8, String> = FutureWrapper::new(handle);
        let _: (bool, bool) = (wrapper.is_finished(), wrapper.is_consumed());
        wrapper.on_complete(|_: Completion| ());
        let _: Result<Result<u8, String>, JoinError> = wrapper.await;
    }

    fn wrapped_on_a_thread(wrapper: FutureWrapper<u8, String>) {
        let _: Result<Result<u8, String>, JoinError> = wrapper.wait();
    }

    fn unhandled(handle: &JoinHandle<Vec<u8>>) {
        handle_future_exception(handle, Duration::from_secs(1));
        let hook: UnhandledHook = Box::new(|unhandled: &Unhandled<'_>| {
            let _: TaskId = unhandled.task();
            let _: Option<&str> = unhandled.name();
            let _: &'static Location<'static> = unhandled.spawned_at();
            let _: Cow<'_, str> = unhandled.message();
        });
        let _: Option<UnhandledHook> = set_unhandled_hook(hook);
        let hook: Box<dyn Fn(&Unhandled<'_>) + Send + Sync> = Box::new(|_| ());
        let _ = set_unhandled_hook(hook);
    }

    fn outcomes(completion: Completion) -> u8 {
        let _ = [Cancel::Prevented, Cancel::Requested, Cancel::TooLate];
        match completion {
            Completion::Value => 0,
            Completion::Panicked => 1,
            Completion::Cancelled => 2,
            Completion::Failed => 3,
            _ => 4,
        }
    }

    fn traits() {
        data::<Cancel>();
        copy::<Cancel>();
        data::<Completion>();
        copy::<Completion>();
        data::<TaskId>();
        copy::<TaskId>();
        send::<TaskId>();
        sync::<TaskId>();
        send::<Promise<u8>>();
        debug::<Promise<u8>>();
        send::<JoinHandle<u8>>();
        sync::<JoinHandle<u8>>();
        unpin::<JoinHandle<std::marker::PhantomPinned>>();
        debug::<JoinHandle<u8>>();
        send::<JoinHandle<std::cell::Cell<u8>>>();
        sync::<JoinHandle<std::cell::Cell<u8>>>();
        send::<CancelHandle>();
        sync::<CancelHandle>();
        debug::<CancelHandle>();
        send::<FutureWrapper<u8, String>>();
        sync::<FutureWrapper<u8, String>>();
        send::<Cancelled<'_, u8>>();
        send::<UnhandledHook>();
        sync::<UnhandledHook>();
    }

    pub(super) fn what_is_not_send_stays_home() -> bool {
        !is_send!(JoinHandle<Rc<u8>>) && !is_send!(Promise<Rc<u8>>)
    }
}

mod errors {
    use super::*;
    use portage::error::{BridgeError, BuildError, Elapsed, JoinError, RunError, SubmitError};
    use portage::executor::Job;

    fn join(error: JoinError) -> Result<Box<dyn Any + Send>, JoinError> {
        let _: JoinError = JoinError::cancelled();
        let _: JoinError = JoinError::failed("text");
        let _: JoinError = JoinError::failed(String::from("text"));
        let _: JoinError = JoinError::failed(std::io::Error::other("source"));
        let _: [bool; 6] = [
            error.is_cancelled(),
            error.is_panic(),
            error.is_lost(),
            error.is_shut_down(),
            error.is_timed_out(),
            error.is_would_deadlock(),
        ];
        error.into_panic()
    }

    fn unwinds(error: JoinError) -> ! {
        error.resume_unwind()
    }

    fn submit(a: Job, b: Job, c: Job) -> Option<Job> {
        let _: SubmitError = SubmitError::full(a);
        let _: SubmitError = SubmitError::broken(b);
        let error: SubmitError = SubmitError::shut_down(c);
        let _: [bool; 7] = [
            error.is_shut_down(),
            error.is_full(),
            error.is_own_thread(),
            error.is_finished(),
            error.is_broken(),
            error.is_no_executor(),
            error.is_would_deadlock(),
        ];
        error.into_job()
    }

    fn run(error: RunError) -> [bool; 4] {
        [
            error.is_wrong_thread(),
            error.is_finished(),
            error.is_already_running(),
            error.is_closed(),
        ]
    }

    fn build(error: BuildError) -> [bool; 2] {
        [error.is_invalid(), error.is_thread()]
    }

    fn bridge(error: BridgeError) -> Option<JoinError> {
        let _: [bool; 7] = [
            error.is_running_loop(),
            error.is_no_loop(),
            error.is_would_deadlock(),
            error.is_timed_out(),
            error.is_cancelled(),
            error.is_panic(),
            error.is_shut_down(),
        ];
        error.into_join_error()
    }

    fn traits() {
        error::<JoinError>();
        error::<SubmitError>();
        error::<RunError>();
        error::<BuildError>();
        error::<BridgeError>();
        error::<Elapsed>();
    }

    pub(super) fn sizes() -> [(&'static str, usize); 6] {
        [
            ("JoinError", size_of::<JoinError>()),
            ("SubmitError", size_of::<SubmitError>()),
            ("RunError", size_of::<RunError>()),
            ("BuildError", size_of::<BuildError>()),
            ("BridgeError", size_of::<BridgeError>()),
            ("Elapsed", size_of::<Elapsed>()),
        ]
    }
}

mod executor {
    use super::*;
    use portage::error::SubmitError;
    use portage::executor::{Executor, ExecutorExt, Job};
    use portage::promise::JoinHandle;

    struct Mine;

    impl Executor for Mine {
        fn execute(&self, job: Job) -> Result<(), SubmitError> {
            Err(SubmitError::full(job))
        }
    }

    fn jobs() {
        let (job, handle): (Job, JoinHandle<u8>) = Job::new(|| 1);
        job.run();
        handle.detach();
        let _: (Job, JoinHandle<u8>) = Job::named("static", || 1);
        let _: (Job, JoinHandle<u8>) = Job::named(String::from("owned"), || 1);
        send::<Job>();
        debug::<Job>();
    }

    fn object_safe(executor: Arc<dyn Executor>, boxed: Box<dyn Executor>) {
        let _: Result<(), SubmitError> = executor.execute(Job::new(|| ()).0);
        let _: Result<JoinHandle<u8>, SubmitError> = executor.submit(|| 1);
        let _: Result<JoinHandle<u8>, SubmitError> = boxed.submit_named("name", || 1);
        let _: Result<JoinHandle<u8>, SubmitError> = Mine.submit_named(String::new(), || 1);
    }

    fn implemented_by(
        pool: portage::ThreadPool,
        events: portage::LoopHandle,
        lane: portage::CurrentThreadExecutor,
    ) -> [Arc<dyn Executor>; 3] {
        let _ = ExecutorExt::submit(&events, || 1);
        let _ = ExecutorExt::submit(&lane, || 1);
        [Arc::new(pool), Arc::new(events), Arc::new(lane)]
    }

    fn is_cancelled_anywhere() -> bool {
        portage::cancel::is_cancelled()
    }
}

mod pool {
    use super::*;
    use portage::error::{BuildError, SubmitError};
    use portage::executor::ExecutorExt;
    use portage::pool::{
        PoolMetrics, Shutdown, ShutdownReport, StuckTask, ThreadPool, ThreadPoolBuilder,
    };
    use portage::promise::{JoinHandle, TaskId};

    fn building() -> Result<ThreadPool, BuildError> {
        let _: Result<ThreadPool, BuildError> = ThreadPool::new();
        let builder: ThreadPoolBuilder = ThreadPool::builder();
        builder
            .core_threads(1)
            .max_threads(2)
            .keep_alive(Duration::MAX)
            .thread_name("name")
            .thread_name(String::from("name"))
            .stack_size(1 << 20)
            .on_thread_start(|index: usize| drop(Box::new(index)))
            .on_thread_stop(|index: usize| drop(Box::new(index)))
            .build()
    }

    fn work(pool: &ThreadPool, rc_maker: fn() -> Rc<u8>) {
        let _: &'static ThreadPool = ThreadPool::global();
        let _: Option<ThreadPool> = ThreadPool::current();
        let _: JoinHandle<u8> = pool.spawn_blocking(|| 1);
        let _: Result<JoinHandle<u8>, SubmitError> = pool.submit(|| 1);
        let _: Result<JoinHandle<u8>, SubmitError> = pool.submit_named("name", || 1);
        let _: JoinHandle<u8> = pool.spawn(async { 1 });
        let _: JoinHandle<u8> = pool.spawn_pinned(move || {
            let rc = rc_maker();
            async move { *rc }
        });
        let _: Vec<JoinHandle<u8>> = pool.spawn_batch((0..3u8).map(|n| move || n));
        let _: Vec<JoinHandle<u8>> = pool.spawn_batch(vec![|| 1u8]);
        let _: &dyn Spawn = pool;
    }

    fn ending(pool: ThreadPool) {
        let _: ShutdownReport = pool.shutdown(Shutdown::Drain);
        let report = pool.shutdown_timeout(Shutdown::CancelQueued, Duration::MAX);
        let ShutdownReport {
            completed,
            cancelled,
            stuck,
            ..
        } = report;
        let _: (bool, usize) = (completed, cancelled);
        for task in stuck {
            let StuckTask {
                id,
                name,
                spawned_at,
                running_for,
                ..
            } = task;
            let _: (TaskId, Option<String>) = (id, name);
            let _: (&'static Location<'static>, Duration) = (spawned_at, running_for);
        }
        let _: bool = pool.is_shut_down();
    }

    fn counting(metrics: PoolMetrics) -> ([usize; 5], [u64; 9]) {
        let gauges = [
            metrics.threads,
            metrics.threads_peak,
            metrics.threads_idle,
            metrics.queued,
            metrics.running,
        ];
        let counters = [
            metrics.threads_started,
            metrics.threads_retired,
            metrics.submitted,
            metrics.completed,
            metrics.panicked,
            metrics.cancelled,
            metrics.stolen,
            metrics.wakes,
            metrics.parks,
        ];
        (gauges, counters)
    }

    fn traits() {
        send::<ThreadPool>();
        sync::<ThreadPool>();
        debug::<ThreadPool>();
        data::<Shutdown>();
        copy::<Shutdown>();
        data::<ShutdownReport>();
        data::<StuckTask>();
        data::<PoolMetrics>();
        send::<ThreadPoolBuilder>();
    }

    fn clones(pool: &ThreadPool) -> ThreadPool {
        pool.clone()
    }
}

mod event_loop {
    use super::*;
    use portage::error::{Elapsed, RunError};
    use portage::event_loop::{
        EventLoop, LoopHandle, LoopState, block_on, ensure_thread_event_loop, running_loop,
        with_thread_event_loop,
    };
    use portage::promise::JoinHandle;
    use portage::time::{Sleep, sleep, sleep_until, timeout, yield_now};

    fn loops() {
        let events = EventLoop::new();
        let handle: LoopHandle = events.handle();
        let text = String::from("borrowed");
        let _: Result<&str, RunError> = events.run_until_complete(async { text.as_str() });
        let _: Result<(), RunError> = events.run_until_stopped();
        let rc = Rc::new(1u8);
        let local: JoinHandle<Rc<u8>> = events.spawn_local(async move { rc });
        drop(local);
        events.close();
        let _: JoinHandle<u8> = handle.spawn(async { 1 });
        let _: JoinHandle<u8> = handle.spawn_with(|| {
            let rc = Rc::new(1);
            async move { *rc }
        });
        handle.stop();
        let _: LoopState = handle.state();
        let _: ThreadId = handle.thread_id();
        let _: (bool, usize) = (handle.is_current_thread(), handle.pending());
        let _: &dyn Spawn = &handle.clone();
    }

    fn this_thread() {
        let _: LoopHandle = ensure_thread_event_loop();
        let _: LoopHandle = with_thread_event_loop(|events: &EventLoop| events.handle());
        let _: Option<LoopHandle> = running_loop();
        let rc = Rc::new(1u8);
        let borrowed: &Rc<u8> = &rc;
        let _: &u8 = block_on(async { &**borrowed });
    }

    fn states(state: LoopState) -> u8 {
        match state {
            LoopState::Idle => 0,
            LoopState::Running => 1,
            LoopState::Closed => 2,
            #[allow(unreachable_patterns, reason = "whether the enum may grow is open")]
            _ => 3,
        }
    }

    fn time() {
        let _: Sleep = send_value(sleep(Duration::MAX));
        let _: Sleep = send_value(sleep_until(Instant::now()));
        let _ = send_value(future::<(), _>(sleep(Duration::ZERO)));
        let limited = timeout(Duration::ZERO, async { 1u8 });
        let _ = future::<Result<u8, Elapsed>, _>(send_value(limited));
        let _ = future::<(), _>(send_value(yield_now()));
        drop(timeout(Duration::ZERO, async { Rc::new(1) }));
    }

    fn traits() {
        send::<LoopHandle>();
        sync::<LoopHandle>();
        debug::<LoopHandle>();
        data::<LoopState>();
        copy::<LoopState>();
        send::<Sleep>();
    }

    pub(super) fn a_loop_stays_on_its_thread() -> bool {
        !is_send!(EventLoop)
    }
}

mod current_thread {
    use super::*;
    use portage::current_thread::CurrentThreadExecutor;
    use portage::error::{RunError, SubmitError};
    use portage::promise::JoinHandle;

    fn lanes() {
        let outer = CurrentThreadExecutor::new(None);
        let lane: CurrentThreadExecutor = CurrentThreadExecutor::new(Some(&outer));
        let text = String::from("borrowed");
        let _: Result<&str, RunError> = lane.run_until_future(async { text.as_str() });
        let _: Result<JoinHandle<u8>, SubmitError> = lane.submit(|| 1);
        let _: ThreadId = lane.thread_id();
        let _: (bool, usize) = (lane.is_finished(), lane.clone().queued());
        send::<CurrentThreadExecutor>();
        sync::<CurrentThreadExecutor>();
        debug::<CurrentThreadExecutor>();
    }
}

#[test]
fn errors_are_at_most_two_words() {
    data::<portage::error::RunError>();
    data::<portage::error::Elapsed>();
    for (name, size) in errors::sizes() {
        assert!(size <= 2 * size_of::<usize>(), "{name} has {size} bytes");
    }
}

#[test]
fn data_that_is_not_send_makes_its_handles_and_guards_not_send() {
    assert!(promise::what_is_not_send_stays_home());
    assert!(context::a_scope_guard_stays_on_its_thread());
    assert!(event_loop::a_loop_stays_on_its_thread());
}
