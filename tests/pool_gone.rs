//! What becomes of those who rely on the global pool once a program has shut it down.
//!
//! It is one for the whole process, so this is a process of its own.

#![cfg(not(loom))]

mod kit;

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kit::watchdog;
use parking_lot::Mutex;
use portage::bridge::{exec_in_executor, exec_in_executor_async, sync_to_async};
use portage::execution_queue::AsyncExecutionQueue;
use portage::pool::Shutdown;
use portage::sync::{BlockingEvent, Polling, async_lock, await_threading_event};
use portage::time::timeout;
use portage::{ThreadPool, block_on};

#[derive(Default)]
struct Flag(AtomicBool);

impl BlockingEvent for Flag {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn wait_timeout(&self, _: Duration) -> bool {
        unreachable!("there is no thread that could wait")
    }
}

fn gone() -> &'static ThreadPool {
    let global = ThreadPool::global();
    assert!(global.shutdown(Shutdown::Drain).completed);
    global
}

#[test]
fn a_limited_wait_for_a_foreign_event_keeps_its_limit() {
    let _watch = watchdog(20);
    gone();
    let flag = Arc::new(Flag::default());
    let limit = Duration::from_millis(60);
    let begun = Instant::now();
    let wait = await_threading_event(&flag, "flag", Some(limit), Polling::default());
    assert!(!block_on(wait));
    assert!(begun.elapsed() >= limit, "not before its time");
    let wait = await_threading_event(&flag, "flag", Some(Duration::MAX), Polling::default());
    let mut wait = std::pin::pin!(wait);
    assert!(block_on(timeout(Duration::from_millis(30), wait.as_mut())).is_err());
    flag.0.store(true, Ordering::Release);
    assert!(block_on(wait), "seen though it was set in the middle");
}

#[test]
fn a_lock_is_still_waited_for() {
    let _watch = watchdog(20);
    gone();
    let lock = Arc::new(Mutex::new(1));
    let held = lock.lock();
    let mut wait = std::pin::pin!(async_lock(&lock, "lock", Polling::default()));
    assert!(block_on(timeout(Duration::from_millis(30), wait.as_mut())).is_err());
    drop(held);
    assert_eq!(*block_on(wait), 1);
}

#[test]
fn what_names_no_executor_is_refused_with_its_job() {
    let _watch = watchdog(20);
    assert!(gone().is_shut_down());
    let refused = exec_in_executor(None, || 1).expect_err("it is shut down");
    assert!(refused.is_shut_down() && refused.into_job().is_some());
    let refused = exec_in_executor_async(None, || async { 1 }).expect_err("it is shut down");
    assert!(refused.is_shut_down() && refused.into_job().is_some());
    let refused = AsyncExecutionQueue::new().add_task(|| 1);
    let refused = refused.expect_err("it is shut down");
    assert!(refused.is_shut_down() && refused.into_job().is_some());
    let call = sync_to_async(|| 1).thread_sensitive(false);
    assert!(block_on(call.into_future()).is_err_and(|error| error.is_shut_down()));
    let call = sync_to_async(|| 1);
    assert_eq!(
        block_on(call.into_future()).expect("its thread is not of the pool"),
        1
    );
}
