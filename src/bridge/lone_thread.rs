//! A thread that runs jobs strictly one after another.
//!
//! Sync code that is bound to a thread may hold things of that thread (a connection, a lock)
//! while it waits. So this is not a lane: nothing else runs here while a job waits.

#![forbid(unsafe_code)]

use std::collections::VecDeque;

use crate::base::fork;
use crate::base::sync::{Arc, Condvar, Mutex, StaticMutex, local, thread};
use crate::error::SubmitError;
use crate::executor::{Executor, Job};
use crate::task::{Home, Schedule, TaskRef, WakeKind};

/// How many idle threads are kept for the next loop that a call needs.
///
/// A chain of nested calls uses one each at the same time; few chains are deeper.
const SPARE_MAX: usize = 4;

local! {
    static HERE: std::cell::Cell<u64> = std::cell::Cell::new(0);
}

fn with_spare<R>(f: impl FnOnce(&mut Vec<LoneThread>) -> R) -> R {
    struct Spare(StaticMutex<Vec<LoneThread>>);
    #[cfg(all(not(loom), any(test, feature = "test-util")))]
    if let Some(own) = crate::base::simulated::shared(|| Spare(StaticMutex::new(Vec::new()))) {
        return f(&mut own.0.lock());
    }
    static SPARE: Spare = Spare(StaticMutex::new(Vec::new()));
    f(&mut SPARE.0.lock())
}

/// A handle to such a thread; when the last clone goes, the thread leaves after what is queued.
#[derive(Clone, Debug)]
pub(crate) struct LoneThread(Arc<Ends>);

#[derive(Debug)]
struct Ends(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    /// Never zero.
    number: u64,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug)]
struct Waiting {
    tasks: VecDeque<TaskRef>,
    /// Nobody can submit any more.
    closed: bool,
}

impl LoneThread {
    pub(crate) fn start(name: &str) -> std::io::Result<Self> {
        let queue = Arc::new(Queue {
            number: fork::LONE_THREADS.take(),
            waiting: Mutex::new(Waiting {
                tasks: VecDeque::new(),
                closed: false,
            }),
            changed: Condvar::new(),
        });
        let thread = Self(Arc::new(Ends(queue.clone())));
        fork::may_start_thread()?;
        let builder = thread::Builder::new().name(name.to_owned());
        builder.spawn(move || queue.serve())?;
        Ok(thread)
    }

    /// A kept thread, or a new one.
    pub(crate) fn spare() -> std::io::Result<Self> {
        let kept = with_spare(Vec::pop).filter(|kept| !kept.is_left_behind());
        kept.map_or_else(|| Self::start("portage-bridge"), Ok)
    }

    /// Keeps a thread for the next [`LoneThread::spare`], unless enough are kept.
    pub(crate) fn give_back(self) {
        let one_too_many = with_spare(|kept| {
            if kept.len() < SPARE_MAX {
                kept.push(self);
                return None;
            }
            Some(self)
        });
        drop(one_too_many);
    }

    /// Is this a forked child, and the thread its parent's?
    pub(crate) fn is_left_behind(&self) -> bool {
        fork::LONE_THREADS.is_left_behind(self.number())
    }

    /// Names this thread; never zero.
    pub(crate) fn number(&self) -> u64 {
        self.0.0.number
    }
}

/// The number of the lone thread that this thread is; zero for none.
pub(crate) fn here() -> u64 {
    HERE.try_with(std::cell::Cell::get).unwrap_or(0)
}

impl Executor for LoneThread {
    fn execute(&self, job: Job) -> Result<(), SubmitError> {
        if self.is_left_behind() {
            return Err(SubmitError::shut_down(job));
        }
        let queue = &self.0.0;
        if job.assign(queue.clone()) {
            queue.schedule(job.into_task(), WakeKind::Woken);
        }
        Ok(())
    }
}

impl Schedule for Queue {
    fn schedule(&self, task: TaskRef, _kind: WakeKind) {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            drop(waiting);
            return task.shut_down();
        }
        waiting.tasks.push_back(task);
        drop(waiting);
        self.changed.notify_one();
    }

    fn home(&self) -> Home {
        Home::Anywhere
    }
}

impl Queue {
    fn serve(&self) {
        let _ = HERE.try_with(|here| here.set(self.number));
        while let Some(task) = self.next() {
            task.run();
        }
    }

    fn next(&self) -> Option<TaskRef> {
        let mut waiting = self.waiting.lock();
        loop {
            if let Some(task) = waiting.tasks.pop_front() {
                return Some(task);
            }
            if waiting.closed {
                return None;
            }
            self.changed.wait(&mut waiting);
        }
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.waiting.lock().closed = true;
        self.0.changed.notify_one();
    }
}
