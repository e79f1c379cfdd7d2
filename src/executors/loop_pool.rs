//! Several threads with a loop each; a future goes to the one with the least to do.

#![forbid(unsafe_code)]

use std::thread::ThreadId;

use futures_task::{FutureObj, Spawn, SpawnError};

use super::loop_thread::LoopThread;
use super::place::{Place, Placed, id};
use super::{AsyncExecutor, AsyncExecutorExt};
use crate::base::sync::atomic::{AtomicBool, Ordering};
use crate::base::sync::{Arc, Mutex};
use crate::error::{BuildError, SubmitError};
use crate::event_loop::LoopHandle;
use crate::promise::TaskId;

/// Runs each future on the least loaded of several loops, which it then never leaves.
///
/// The threads are named `portage-loop-0`, `portage-loop-1`, ...
///
/// # Examples
///
/// ```
/// use portage::executors::{AsyncExecutorExt, EventLoopPoolExecutor};
///
/// let executor = EventLoopPoolExecutor::new(3).unwrap();
/// let sums: Vec<_> = (0..6).map(|n| executor.submit(async move { n + 1 })).collect();
/// let sum: i32 = sums.into_iter().map(|handle| handle.wait().unwrap()).sum();
/// assert_eq!(sum, 21);
/// ```
#[derive(Debug)]
pub struct EventLoopPoolExecutor {
    threads: Vec<Arc<LoopThread>>,
    /// What has gone to which loop; ended ones are swept out when the list has doubled.
    roster: Mutex<Roster>,
    closed: AtomicBool,
}

/// A task that has not ended, and where it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TaskInfo {
    /// The number of the task; the same as its handle's.
    pub id: TaskId,
    /// The index of its loop.
    pub loop_index: usize,
    /// The thread of its loop.
    pub thread: ThreadId,
}

#[derive(Debug, Default)]
struct Roster {
    placed: Vec<Placed>,
    sweep_at: usize,
}

/// More loops than this are a mistake: their threads start at once, and a process that runs out
/// of memory maps while a thread starts is aborted by the standard library.
const LOOPS_MOST: usize = 4096;

/// A roster shorter than this is not swept.
const SWEEP_MIN: usize = 64;

impl Roster {
    /// Adds an entry; gives back what was swept out, to be dropped without the lock.
    fn add(&mut self, placed: Placed) -> Vec<Placed> {
        let mut ended = Vec::new();
        if self.placed.len() >= self.sweep_at.max(SWEEP_MIN) {
            let all = std::mem::take(&mut self.placed);
            (ended, self.placed) = all.into_iter().partition(|entry| entry.task.is_finished());
            self.sweep_at = 2 * self.placed.len();
        }
        self.placed.push(placed);
        ended
    }
}

impl EventLoopPoolExecutor {
    /// Starts `pool_size` threads with a loop each.
    ///
    /// # Errors
    ///
    /// `is_invalid` for zero and for more than 4096; `is_thread` when the operating system refuses
    /// a thread: those that have started leave again.
    #[doc(alias = "pool_size")]
    pub fn new(pool_size: usize) -> Result<Self, BuildError> {
        if pool_size == 0 {
            return Err(BuildError::invalid("pool_size: 0, but a pool needs a loop"));
        }
        if pool_size > LOOPS_MOST {
            return Err(BuildError::invalid(format!(
                "pool_size: {pool_size}, more than {LOOPS_MOST}, the most loops of a pool"
            )));
        }
        let threads: Result<Vec<_>, _> = (0..pool_size)
            .map(|index| LoopThread::start(format!("portage-loop-{index}")))
            .collect();
        Ok(Self {
            threads: threads?,
            roster: Mutex::new(Roster::default()),
            closed: AtomicBool::new(false),
        })
    }

    /// The least loaded loop and its index; the lowest index of equals. Asking changes nothing.
    ///
    /// # Errors
    ///
    /// `is_shut_down` after a shutdown.
    pub fn get_event_loop(&self) -> Result<(LoopHandle, usize), SubmitError> {
        if self.is_closed() {
            return Err(SubmitError::shut_down_bare());
        }
        let index = least(&self.loads());
        Ok((self.threads[index].handle().clone(), index))
    }

    /// How many tasks each loop has that have not ended.
    pub fn loads(&self) -> Vec<usize> {
        let pending = |thread: &Arc<LoopThread>| thread.handle().pending();
        self.threads.iter().map(pending).collect()
    }

    /// The submitted tasks that have not ended, in the order of their submission.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::executors::{AsyncExecutorExt, EventLoopPoolExecutor};
    /// use portage::time::sleep;
    /// use std::time::Duration;
    ///
    /// let executor = EventLoopPoolExecutor::new(2).unwrap();
    /// let naps: Vec<_> = (0..3).map(|_| executor.submit(sleep(Duration::MAX))).collect();
    /// assert_eq!(executor.loads(), [2, 1]);
    /// let last = executor.tasks()[2];
    /// assert_eq!((last.id, last.loop_index), (naps[2].id(), 0));
    /// ```
    pub fn tasks(&self) -> Vec<TaskInfo> {
        let roster = self.roster.lock();
        let pending = roster
            .placed
            .iter()
            .filter(|entry| !entry.task.is_finished());
        pending
            .map(|entry| TaskInfo {
                id: id(entry),
                loop_index: entry.index,
                thread: self.threads[entry.index].id(),
            })
            .collect()
    }

    fn is_closed(&self) -> bool {
        // Ordering: Acquire pairs with the Release in `shutdown`. No model needs it: each loop
        // decides itself who is late.
        self.closed.load(Ordering::Acquire)
    }
}

/// The index of the smallest load, the first of equals.
fn least(loads: &[usize]) -> usize {
    let smallest = loads.iter().enumerate().min_by_key(|(_, load)| **load);
    smallest.map_or(0, |(index, _)| index)
}

impl Spawn for EventLoopPoolExecutor {
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.status()?;
        self.submit(future).detach();
        Ok(())
    }

    fn status(&self) -> Result<(), SpawnError> {
        if self.is_closed() {
            return Err(SpawnError::shutdown());
        }
        Ok(())
    }
}

impl AsyncExecutor for EventLoopPoolExecutor {
    fn is_own_thread(&self) -> bool {
        self.threads
            .iter()
            .any(|thread| thread.handle().is_current_thread())
    }

    fn shutdown(&self, wait: bool) {
        // Ordering: Release, and no model: see `is_closed`.
        self.closed.store(true, Ordering::Release);
        self.threads.iter().for_each(|thread| thread.stop());
        if wait {
            self.threads.iter().for_each(|thread| thread.join());
        }
        let roster = std::mem::take(&mut *self.roster.lock());
        drop(roster);
    }

    fn place(&self) -> Place {
        match self.get_event_loop() {
            Ok((handle, index)) => Place::on_loop(handle, index),
            Err(_) => Place::shut_down(),
        }
    }

    fn placed(&self, placed: Placed) {
        let ended = self.roster.lock().add(placed);
        drop(ended);
    }
}

impl Drop for EventLoopPoolExecutor {
    fn drop(&mut self) {
        self.shutdown(false);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::least;

    #[test]
    fn the_least_loaded_loop_is_the_first_of_equals() {
        let table = [
            (vec![0], 0),
            (vec![2, 1, 1], 1),
            (vec![1, 1, 1], 0),
            (vec![3, 2, 0], 2),
        ];
        for (loads, expected) in table {
            assert_eq!(least(&loads), expected, "{loads:?}");
        }
    }
}
