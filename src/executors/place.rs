//! Where a future goes: how the extension trait spawns with one allocation on our own executors.

#![forbid(unsafe_code)]

use std::future::Future;

use super::{AsyncExecutor, elsewhere};
use crate::event_loop::LoopHandle;
use crate::join_error::JoinError;
use crate::pool::ThreadPool;
use crate::promise::{JoinHandle, TaskId, promise};
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
        Kind::Elsewhere => elsewhere::submit(executor, future),
    }
}

/// A handle that says that the executor is shut down.
#[track_caller]
fn refused<T>() -> JoinHandle<T> {
    let (promise, handle) = promise();
    promise.settle(Err(JoinError::shut_down()));
    handle
}

/// The number of a task, as its handle has it.
pub(super) fn id(placed: &Placed) -> TaskId {
    placed.task.id()
}
