//! Where a future goes: how the extension trait spawns with one allocation on our own executors.

#![forbid(unsafe_code)]

use std::future::Future;

use futures_task::FutureObj;

use super::AsyncExecutor;
use crate::base::contain::{contain, contained_drop};
use crate::context::Context;
use crate::event_loop::LoopHandle;
use crate::join_error::JoinError;
use crate::pool::ThreadPool;
use crate::promise::{JoinHandle, Promise, TaskId, promise};
use crate::task::Hold;

/// Where the next future goes.
#[doc(hidden)]
#[derive(Debug)]
pub struct Place(Kind);

#[derive(Debug)]
enum Kind {
    Loop {
        handle: LoopHandle,
        index: usize,
    },
    Pool(ThreadPool),
    ShutDown,
    /// Through [`Spawn`](futures_task::Spawn) alone.
    Elsewhere,
}

/// A future that has gone to a loop.
#[doc(hidden)]
#[derive(Debug)]
pub struct Placed {
    pub(super) task: Hold,
    pub(super) index: usize,
}

impl Place {
    pub(super) fn on_loop(handle: LoopHandle, index: usize) -> Self {
        Self(Kind::Loop { handle, index })
    }

    pub(crate) fn on_pool(pool: ThreadPool) -> Self {
        Self(Kind::Pool(pool))
    }

    pub(super) fn shut_down() -> Self {
        Self(Kind::ShutDown)
    }

    pub(super) fn elsewhere() -> Self {
        Self(Kind::Elsewhere)
    }
}

/// Spawns `future` where the executor says.
#[track_caller]
pub(super) fn submit<E, F>(executor: &E, future: F) -> JoinHandle<F::Output>
where
    E: AsyncExecutor + ?Sized,
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match executor.place().0 {
        Kind::Loop { handle, index } => {
            let spawned = handle.spawn(future);
            executor.placed(Placed {
                task: spawned.hold(),
                index,
            });
            spawned
        }
        Kind::Pool(pool) => pool.spawn(future),
        Kind::ShutDown => refused(),
        Kind::Elsewhere => spawn_elsewhere(executor, future),
    }
}

/// A handle that says that the executor is shut down.
#[track_caller]
fn refused<T>() -> JoinHandle<T> {
    let (promise, handle) = promise();
    promise.settle(Err(JoinError::shut_down()));
    handle
}

/// Somebody else's executor: the future carries its promise along.
#[track_caller]
fn spawn_elsewhere<E, F>(executor: &E, future: F) -> JoinHandle<F::Output>
where
    E: AsyncExecutor + ?Sized,
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let (promise, handle) = promise();
    // Whoever drives it need not know of contexts.
    let carried = Context::current().attach(carry(promise, future));
    let carried = FutureObj::new(Box::new(carried));
    match executor.spawn_obj(carried) {
        Ok(()) => handle,
        Err(_) => refused(),
    }
}

/// Drives `future` until it ends or its handle is cancelled, and resolves `promise`.
async fn carry<F: Future>(mut promise: Promise<F::Output>, future: F) {
    use std::pin::{Pin, pin};
    use std::task::Poll;

    if !promise.start() {
        return;
    }
    let outcome = {
        let mut future = Box::pin(future);
        let mut cancelled = pin!(promise.cancelled());
        let outcome = std::future::poll_fn(|cx| {
            let polled = contain(|| future.as_mut().poll(cx));
            match polled {
                Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
                Err(payload) => Poll::Ready(Err(JoinError::panicked(payload))),
                Ok(Poll::Pending) => {
                    let told: Pin<&mut _> = cancelled.as_mut();
                    Future::poll(told, cx).map(|()| Err(JoinError::cancelled()))
                }
            }
        })
        .await;
        // before the outcome is visible, and not at its cost
        contained_drop(future);
        outcome
    };
    promise.settle(outcome);
}

/// The number of a task, as its handle has it.
pub(super) fn id(placed: &Placed) -> TaskId {
    placed.task.id()
}
