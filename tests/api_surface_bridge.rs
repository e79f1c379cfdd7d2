//! Every public path, name and bound of the bridge and of `sync`.
//!
//! As in `api_surface.rs`: to compile is the test.

#![cfg(not(loom))]
#![allow(dead_code, reason = "to compile is the test")]

use std::fmt::Debug;
use std::future::{Future, IntoFuture};
use std::hash::Hash;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

fn send<T: Send>() {}
fn sync<T: Sync>() {}
fn debug<T: Debug>() {}
fn data<T: Clone + Debug + PartialEq + Eq + Hash>() {}
fn copy<T: Copy>() {}
fn send_value<T: Send>(_: T) {}
fn future<O, F: Future<Output = O>>(future: F) -> F {
    future
}

mod bridge {
    use super::*;
    use portage::bridge::{
        AsyncToSync, Config, ContextMode, Route, SyncToAsync, async_single_thread_context,
        async_to_sync, exec_in_executor, exec_in_executor_async, get_main_event_loop, init_config,
        lift_to_async, sync_to_async, thread_sensitive_context,
    };
    use portage::error::{BridgeError, SubmitError};
    use portage::event_loop::LoopHandle;
    use portage::executor::Executor;
    use portage::promise::JoinHandle;

    fn config(executor: Arc<dyn Executor>, events: LoopHandle) {
        let _: Result<(), BridgeError> = init_config(Config::new());
        let _: Result<(), BridgeError> =
            init_config(Config::new().executor(executor).main_loop(events));
        let _: Option<LoopHandle> = get_main_event_loop();
    }

    fn execute(executor: &dyn Executor, pool: &portage::ThreadPool) {
        let _: Result<JoinHandle<u8>, SubmitError> = exec_in_executor(None, || 1);
        let _: Result<JoinHandle<u8>, SubmitError> = exec_in_executor(Some(executor), || 1);
        let _: Result<JoinHandle<u8>, SubmitError> = exec_in_executor(Some(pool), || 1);
        let _: Result<JoinHandle<u8>, SubmitError> = exec_in_executor_async(None, || async { 1 });
        let _: Result<JoinHandle<u8>, SubmitError> = exec_in_executor_async(Some(executor), || {
            let rc = Rc::new(1);
            async move { *rc }
        });
        let _: Result<u8, BridgeError> = lift_to_async(|| {
            let rc = Rc::new(1);
            async move { *rc }
        });
    }

    async fn there(executor: Arc<dyn Executor>) {
        let _: Result<u8, BridgeError> = sync_to_async(|| 1).await;
        let call: SyncToAsync<_> = sync_to_async(|| 1u8)
            .thread_sensitive(false)
            .executor(executor)
            .context(ContextMode::In);
        let _: Route = call.explain();
        let _: Result<u8, BridgeError> = call.await;
        send_value(sync_to_async(|| 1u8));
    }

    fn and_back() {
        let call: AsyncToSync<_> = async_to_sync(|| async { 1u8 })
            .force_new_loop(true)
            .timeout(Duration::MAX)
            .context(ContextMode::Empty);
        let _: Result<u8, BridgeError> = call.call();
        let _: Result<u8, BridgeError> = async_to_sync(|| {
            let rc = Rc::new(1u8);
            async move { *rc }
        })
        .call();
        let _: u8 = async_single_thread_context(|| 1);
    }

    async fn contexts() {
        let text = String::from("borrowed");
        let _: &str = thread_sensitive_context(async { text.as_str() }).await;
    }

    fn traits(call: SyncToAsync<fn() -> u8>) {
        data::<ContextMode>();
        copy::<ContextMode>();
        data::<Route>();
        copy::<Route>();
        let _ = [ContextMode::Empty, ContextMode::In, ContextMode::InOut];
        let _ = [Route::CallingThread, Route::ContextThread];
        let _ = [Route::LoopThread, Route::SharedThread];
        let _ = [Route::Executor, Route::Pool];
        send_value(future::<Result<u8, BridgeError>, _>(call.into_future()));
        send_value(future::<u8, _>(thread_sensitive_context(async { 1 })));
    }
}

mod sync_module {
    use super::*;
    use parking_lot::{ArcMutexGuard, Mutex, RawMutex};
    use portage::error::JoinError;
    use portage::sync::{
        BlockingEvent, Event, NullGuard, Polling, ThreadWithException, async_lock,
        async_null_context, await_event_with_stop, await_threading_event,
    };

    async fn locks(lock: &Arc<Mutex<Vec<u8>>>, name: &str) {
        let _: ArcMutexGuard<RawMutex, Vec<u8>> =
            async_lock(lock, name, Polling::Every(Duration::ZERO)).await;
        let _: NullGuard = async_null_context().await;
        send_value(async_lock(lock, name, Polling::NoPolling));
        send_value(async_null_context());
    }

    struct Foreign;

    impl BlockingEvent for Foreign {
        fn is_set(&self) -> bool {
            true
        }
        fn wait_timeout(&self, _: Duration) -> bool {
            true
        }
    }

    async fn events(event: &Arc<Event>, foreign: &Arc<Foreign>, name: &str) {
        let _: (Event, Event) = (Event::new(), Event::default());
        event.set();
        event.clear();
        let _: bool = event.is_set();
        event.wait();
        let _: bool = event.wait_timeout(Duration::ZERO);
        let _: () = event.wait_async().await;
        let _: Option<&Event> = foreign.native();
        let _: Option<&Event> = BlockingEvent::native(&**event);
        let _: bool = await_threading_event(event, name, None, Polling::default()).await;
        let _: bool =
            await_threading_event(foreign, name, Some(Duration::ZERO), Polling::NoPolling).await;
        let _: bool = await_event_with_stop(event, foreign, name, Polling::default()).await;
        send_value(future::<(), _>(event.wait_async()));
        send_value(await_threading_event(event, name, None, Polling::default()));
        let polling = Polling::default();
        send_value(await_event_with_stop(foreign, event, name, polling));
        let _: &dyn BlockingEvent = &**foreign;
    }

    fn threads() -> std::io::Result<()> {
        let thread: ThreadWithException<u8> = ThreadWithException::spawn(|| 1)?;
        let _: u8 = thread.join();
        let mut thread: ThreadWithException<u8> = ThreadWithException::spawn_named("name", || 1)?;
        let _: Option<Result<u8, JoinError>> = thread.join_timeout(Duration::ZERO);
        let _: bool = thread.is_alive();
        let _ = thread.name();
        let _: Result<u8, JoinError> = thread.try_join();
        Ok(())
    }

    fn traits() {
        data::<Polling>();
        copy::<Polling>();
        send::<Event>();
        sync::<Event>();
        debug::<Event>();
        send::<ThreadWithException<u8>>();
        sync::<ThreadWithException<u8>>();
    }
}
