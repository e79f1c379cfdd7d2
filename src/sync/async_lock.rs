//! Takes a foreign blocking lock from async code.
//!
//! A `parking_lot` mutex knows no wakers, so a waiter of ours needs a thread while it waits,
//! and the guard arrives on that thread. Who gets it is decided by the one word of the job that
//! waits: either the future takes the outcome, or the future is gone and the thread that
//! brings the guard drops it on the spot. There is no third holder, so a waiter that is dropped
//! at any moment neither keeps the lock nor releases anybody else's.

#![forbid(unsafe_code)]

use std::fmt;

use parking_lot::{ArcMutexGuard, Mutex, RawMutex};

use super::Polling;
use super::round::round;
use crate::base::sync::Arc;

/// Locks a blocking mutex without blocking the task.
///
/// A free lock is taken at once, on this thread. Else a thread of
/// [`ThreadPool::global`](crate::ThreadPool::global) waits for it in rounds as long as
/// `polling` says; between two rounds it serves others. `lock_name` names the wait in the
/// reports of the pool.
///
/// The guard may be kept across `.await`, sent to other threads and dropped there.
///
/// # Cancellation
///
/// Dropping the future at any moment leaves the lock alone: a thread that still waits ends
/// with its round, and if it gets the lock by then it releases it at once.
///
/// # Examples
///
/// ```
/// use parking_lot::Mutex;
/// use portage::block_on;
/// use portage::sync::{Polling, async_lock};
/// use std::sync::Arc;
///
/// let balance = Arc::new(Mutex::new(40));
/// block_on(async {
///     let mut guard = async_lock(&balance, "balance", Polling::default()).await;
///     *guard += 2;
/// });
/// assert_eq!(*balance.lock(), 42);
/// ```
#[doc(alias = "lock_name")]
#[doc(alias = "asynclock")]
pub async fn async_lock<T: Send + 'static>(
    lock: &Arc<Mutex<T>>,
    lock_name: &str,
    polling: Polling,
) -> ArcMutexGuard<RawMutex, T> {
    loop {
        if let Some(guard) = lock.try_lock_arc() {
            return guard;
        }
        let theirs = lock.clone();
        let wait = move || theirs.try_lock_arc_for(polling.round());
        match round(format!("lock {lock_name}").into(), wait).await {
            Ok(Some(guard)) => return guard,
            Ok(None) => {}
            Err(no_thread) => no_thread.rest().await,
        }
    }
}

/// A guard of nothing, for code where a lock is optional.
///
/// # Examples
///
/// ```
/// portage::block_on(async {
///     let _guard = portage::sync::async_null_context().await;
/// });
/// ```
#[doc(alias = "asyncnullcontext")]
#[doc(alias = "nullcontext")]
pub async fn async_null_context() -> NullGuard {
    NullGuard(())
}

/// What [`async_null_context`] gives: holds nothing, releases nothing.
#[must_use = "it stands for a guard: keep it as long as you would keep one"]
pub struct NullGuard(());

impl fmt::Debug for NullGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NullGuard")
    }
}
