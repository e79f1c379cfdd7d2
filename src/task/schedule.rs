//! All that a task knows of its executor.

#![forbid(unsafe_code)]

use super::cell::{Hold, TaskRef};
use super::id::TaskId;
use crate::base::fork;

/// Where a task lives: who may run it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// Whoever holds it.
    Anywhere,
    /// The workers of this pool, and a joiner in their place.
    Pool(u64),
    /// This thread alone; see [`thread_key`](crate::entered::thread_key).
    Thread(u64),
}

impl Home {
    /// Did a fork leave those who run the task behind in the parent?
    pub(crate) fn is_left_behind(self) -> bool {
        match self {
            Self::Anywhere => false,
            Self::Pool(pool) => fork::POOLS.is_left_behind(pool),
            Self::Thread(key) => fork::is_thread_gone(key),
        }
    }
}

/// Why a task is put into a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WakeKind {
    /// Another party woke it.
    Woken,
    /// It woke itself while it was polled: it goes to the back.
    Yielded,
}

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// The running task, which is polling.
    Task,
    /// This thread, with all that runs on it.
    Thread,
}

/// How a task's work ended, whoever reads the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Completion {
    /// It gave a value.
    Value,
    /// It panicked.
    Panicked,
    /// It was cancelled.
    Cancelled,
    /// It failed, was lost, or its runtime shut down.
    Failed,
}

/// What [`Schedule::ended`] is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) id: TaskId,
    /// A closure, not a future.
    pub(crate) is_job: bool,
    /// It was claimed to run; else it was cancelled, refused or lost before.
    pub(crate) started: bool,
    /// [`Schedule::suspended`] was called for it.
    pub(crate) suspended: bool,
    pub(crate) how: Completion,
}

/// An executor, as its tasks see it.
///
/// Every method may be called on any thread, from inside a waker or a cancel. None may block,
/// run the task, or call user code. A [`Runner`](super::Runner) that took the task is told in place
/// of `started` and `ended`.
pub(crate) trait Schedule: Send + Sync {
    /// Queues a task that was woken. A sealed queue calls [`TaskRef::shut_down`].
    fn schedule(&self, task: TaskRef, kind: WakeKind);

    /// A task was woken that its queue has already, and that its workers may have passed over: a
    /// helper had polled it in place.
    fn revived(&self) {}

    /// Who may run the task.
    fn home(&self) -> Home;

    /// The task was claimed and is about to run for the first time.
    fn started(&self, _task: &TaskRef) {}

    /// A future is about to be suspended for the first time; nobody else can wake it yet.
    fn suspended(&self, _task: &TaskRef) {}

    /// Somebody is about to wait for a task that nobody has claimed yet. False: nothing here
    /// would start before the waiter goes on. Unlike the others it may hand tasks over.
    fn wait_begins(&self, _waits: Waits) -> bool {
        true
    }

    /// A task that stands before those queued here, and that a waiting thread may run: one
    /// that nobody has claimed and of which `may_run` says so.
    fn before(&self, _may_run: &dyn Fn(&Hold) -> bool) -> Option<Hold> {
        None
    }

    /// A thread goes on, for which `wait_begins` said true.
    fn wait_ends(&self) {}

    /// The task ended, exactly once; the outcome is not visible yet.
    fn ended(&self, _end: Ended) {}
}
