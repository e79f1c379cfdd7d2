//! Joins work, executor and handle: what the runtimes call to make a task.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::future::Future;

use crate::base::sync::Arc;
use crate::promise::JoinHandle;
use crate::task::{self, Schedule, Settle, Spawned, TaskRef};

/// A closure for an executor that is known.
#[track_caller]
#[inline(always)]
pub(crate) fn job<F, T>(
    home: Arc<dyn Schedule>,
    name: Option<Cow<'static, str>>,
    f: F,
) -> (TaskRef, JoinHandle<T>)
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (task, reader) = task::job(Spawned::here(), home, name, move || Ok(f()));
    (task, JoinHandle::of(reader))
}

/// Closures for an executor that is known, a few to a block of memory.
#[track_caller]
pub(crate) fn jobs<F, T>(
    home: &Arc<dyn Schedule>,
    works: Vec<F>,
    mut each: impl FnMut(TaskRef, JoinHandle<T>),
) where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    task::jobs(&Spawned::here(), home, works.into_iter(), |task, reader| {
        each(task, JoinHandle::of(reader));
    });
}

/// A future that any thread of its executor may poll.
#[track_caller]
#[inline(always)]
pub(crate) fn future<F>(home: Arc<dyn Schedule>, future: F) -> (TaskRef, JoinHandle<F::Output>)
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let (task, reader) = task::future(Spawned::here(), home, future);
    (task, JoinHandle::of(reader))
}

/// A future that stays on this thread, as `home` must say.
#[track_caller]
pub(crate) fn local<F>(home: Arc<dyn Schedule>, future: F) -> (TaskRef, JoinHandle<F::Output>)
where
    F: Future + 'static,
    F::Output: 'static,
{
    let (task, reader) = task::local(Spawned::here(), home, future);
    (task, JoinHandle::of(reader))
}

/// A future that is made by `create` at its first poll and stays on the thread of that poll.
///
/// `home` keeps the account throughout. With the first poll the task settles there, as `settle`
/// says, or stays with `home`.
#[track_caller]
pub(crate) fn remote<C, F>(
    home: Arc<dyn Schedule>,
    settle: Option<Settle>,
    create: C,
) -> (TaskRef, JoinHandle<F::Output>)
where
    C: FnOnce() -> F + Send + 'static,
    F: Future + 'static,
    F::Output: Send + 'static,
{
    let (task, reader) = task::remote(Spawned::here(), Some(home), settle, create);
    (task, JoinHandle::of(reader))
}
