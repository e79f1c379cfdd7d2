//! Every public path, name and bound of the systems built on the runtimes.
//!
//! As in `api_surface.rs`: to compile is the test.

#![cfg(not(loom))]
#![allow(
    dead_code,
    clippy::let_underscore_future,
    reason = "to compile is the test, and names are written out"
)]

use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::ThreadId;

use futures_task::Spawn;

fn send<T: Send>() {}
fn sync<T: Sync>() {}
fn debug<T: Debug>() {}
fn data<T: Clone + Debug + PartialEq + Eq + Hash>() {}
fn copy<T: Copy>() {}
fn send_value<T: Send>(_: T) {}
fn future<O, F: Future<Output = O>>(future: F) -> F {
    future
}

mod execution_queue {
    use super::*;
    use portage::error::{BuildError, SubmitError};
    use portage::execution_queue::{AsyncExecutionQueue, Close};
    use portage::executor::Executor;
    use portage::promise::JoinHandle;

    fn building(executor: Arc<dyn Executor>) -> Result<AsyncExecutionQueue, BuildError> {
        let _: AsyncExecutionQueue = AsyncExecutionQueue::new();
        AsyncExecutionQueue::builder()
            .executor(executor)
            .capacity(1)
            .concurrency(1)
            .build()
    }

    async fn adding(queue: &AsyncExecutionQueue) {
        let _: Result<JoinHandle<u8>, SubmitError> = queue.aadd_task(|| 1).await;
        let _: Result<JoinHandle<u8>, SubmitError> = queue
            .aadd_task_async(|| {
                let rc = Rc::new(1);
                async move { *rc }
            })
            .await;
        let _: Result<JoinHandle<u8>, SubmitError> = queue.add_task(|| 1);
        let _: Result<JoinHandle<u8>, SubmitError> = queue.try_add_task(|| 1);
        let _: () = queue.aclose(Close::Drain).await;
        queue.close(Close::CancelPending);
        let _: usize = queue.len();
    }

    fn traits(queue: &AsyncExecutionQueue) {
        data::<Close>();
        copy::<Close>();
        send::<AsyncExecutionQueue>();
        sync::<AsyncExecutionQueue>();
        send_value(queue.aadd_task(|| 1u8));
        send_value(queue.aadd_task_async(|| async { 1u8 }));
        send_value(queue.aclose(Close::Drain));
    }
}

mod executors {
    use super::*;
    use futures_core::Stream;
    use portage::error::{BuildError, JoinError, SubmitError};
    use portage::event_loop::LoopHandle;
    use portage::executors::{
        AsyncExecutor, AsyncExecutorExt, AsyncIter, DefaultBackgroundExecutor,
        EventLoopPoolExecutor, RunMultiple, TaskInfo, TaskResult, TaskResults, TaskResultsIter,
    };
    use portage::promise::{JoinHandle, TaskId};

    fn stream<T, S: Stream<Item = T>>(stream: S) -> S {
        stream
    }
    fn iterator<T, I: Iterator<Item = T>>(iterator: I) -> I {
        iterator
    }

    fn any<E: AsyncExecutor>(executor: &E, dynamic: &dyn AsyncExecutor) {
        let _: bool = executor.is_own_thread();
        dynamic.shutdown(true);
        let _handle: JoinHandle<u8> = dynamic.submit(async { 1 });
        let _: Result<u8, JoinError> = executor.run(async { 1 });
        let tasks = (0..3u8).map(std::future::ready);
        let results: TaskResults<u8> =
            executor.run_multiple_async(tasks.clone(), RunMultiple::default());
        send_value(stream::<TaskResult<u8>, _>(results));
        let options = RunMultiple {
            max_workers: 0,
            timeout: None,
        };
        let results: TaskResultsIter<u8> = dynamic.run_multiple(tasks, options);
        let _ = iterator::<TaskResult<u8>, _>(results);
    }

    fn streams<E: AsyncExecutor, S>(executor: &E, items: S)
    where
        S: Stream<Item = u8> + Send + 'static,
    {
        let items: AsyncIter<u8> = executor.wrap_async_iterable(items).prefetch(0);
        let _ = iterator::<Result<u8, JoinError>, _>(items);
    }

    fn results(result: TaskResult<u8>) -> Result<u8, JoinError> {
        let _: bool = result.success();
        let _: bool = result.exception().is_some();
        let _: usize = result.index;
        result.output
    }

    fn the_inherent_submit_of_a_pool_wins_over_both_traits(pool: &portage::ThreadPool) {
        use portage::executor::ExecutorExt as _;
        let _: Result<JoinHandle<u8>, SubmitError> = pool.submit_named("name", || 1);
        let _: Result<JoinHandle<u8>, SubmitError> = pool.submit(|| 1);
    }

    fn executors(pool: &portage::ThreadPool) {
        let background: Result<DefaultBackgroundExecutor, BuildError> =
            DefaultBackgroundExecutor::new();
        if let Ok(background) = background {
            let _: LoopHandle = background.handle();
            let _: &dyn AsyncExecutor = &background;
            let _: &dyn Spawn = &background;
        }
        let loops: Result<EventLoopPoolExecutor, BuildError> = EventLoopPoolExecutor::new(2);
        if let Ok(loops) = loops {
            let _: Result<(LoopHandle, usize), SubmitError> = loops.get_event_loop();
            let _: Vec<usize> = loops.loads();
            for info in loops.tasks() {
                let _: (TaskId, usize, ThreadId) = (info.id, info.loop_index, info.thread);
            }
            let _: &dyn AsyncExecutor = &loops;
        }
        let _: &dyn AsyncExecutor = pool;
        let _: Result<u8, JoinError> = pool.run(async { 1 });
    }

    fn traits() {
        data::<RunMultiple>();
        copy::<RunMultiple>();
        data::<TaskInfo>();
        debug::<TaskResult<u8>>();
        send::<TaskResult<u8>>();
        send::<TaskResults<u8>>();
        send::<TaskResultsIter<u8>>();
        send::<AsyncIter<u8>>();
        send::<DefaultBackgroundExecutor>();
        sync::<DefaultBackgroundExecutor>();
        send::<EventLoopPoolExecutor>();
        sync::<EventLoopPoolExecutor>();
    }
}

/// What a task of any runtime may hold across an await, and a thread may share.
#[test]
fn futures_handles_and_results_are_send_and_sync_where_their_content_is() {
    use std::future::IntoFuture;
    use std::time::Duration;

    use portage::ThreadPool;
    use portage::bridge::{async_to_sync, sync_to_async, thread_sensitive_context};
    use portage::execution_queue::{AsyncExecutionQueue, Close};
    use portage::executors::{AsyncExecutorExt, RunMultiple};
    use portage::sync::{
        Event, Polling, ThreadWithException, async_lock, async_null_context, await_event_with_stop,
        await_threading_event,
    };
    use portage::time::{sleep, timeout, yield_now};

    fn is_send<T: Send>(_: T) {}
    fn is_both<T: Send + Sync>(_: T) {}

    let queue = AsyncExecutionQueue::new();
    is_both(queue.aadd_task(|| 1));
    is_both(queue.aadd_task_async(|| async { 1 }));
    is_send(queue.aclose(Close::Drain));
    let pool = ThreadPool::builder().core_threads(1).build();
    let pool = pool.expect("a legal size");
    is_both(pool.run_multiple_async([async { 1 }], RunMultiple::default()));
    is_both(pool.run_multiple([async { 1 }], RunMultiple::default()));
    is_both(sync_to_async(|| 1));
    is_both(sync_to_async(|| 1).into_future());
    is_both(async_to_sync(|| async { 1 }));
    is_send(thread_sensitive_context(async { 1 }));
    let event = Arc::new(Event::new());
    is_both(event.wait_async());
    is_send(await_threading_event(
        &event,
        "event",
        None,
        Polling::default(),
    ));
    is_send(await_event_with_stop(
        &event,
        &event,
        "event",
        Polling::default(),
    ));
    let lock = Arc::new(parking_lot::Mutex::new(1));
    is_send(async_lock(&lock, "lock", Polling::default()));
    is_send(async_null_context());
    is_both(ThreadWithException::spawn(|| 1).expect("a thread"));
    is_both(sleep(Duration::ZERO));
    is_send(timeout(Duration::ZERO, async { 1 }));
    is_send(yield_now());
    let (promise, handle) = portage::promise::<i32>();
    is_both(promise);
    is_both(handle);
    let (_, handle) = portage::promise::<Result<i32, String>>();
    is_both(portage::promise::FutureWrapper::new(handle));
}
