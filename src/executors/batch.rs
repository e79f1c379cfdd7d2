//! The shared state of many futures with one reader: what waits, what came, who is told.
//!
//! A batch is worked off by *runners*: tasks that take the next waiting future and drive it,
//! one after another. The limit of a batch is the number of its runners. A runner that is
//! dropped (its executor shut down, its thread is the reader's) gives a result for the future
//! in its hands, and the last one for all that still wait.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::task::Waker;

use super::run_multiple::TaskResult;
use crate::base::contain::{contain, contained_drop, discard};
use crate::base::sync::{Arc, Mutex};
use crate::join_error::JoinError;

/// What came, and who waits for it.
#[derive(Debug)]
pub(super) struct Results<T>(Mutex<Arrived<T>>);

#[derive(Debug)]
struct Arrived<T> {
    ready: VecDeque<TaskResult<T>>,
    /// By index: has its result come?
    came: Vec<bool>,
    left: usize,
    waker: Option<Waker>,
    why_dropped: Why,
}

/// Why a future was dropped before it ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Why {
    ShutDown,
    WouldDeadlock,
}

impl Why {
    fn error(self) -> JoinError {
        match self {
            Self::ShutDown => JoinError::shut_down(),
            Self::WouldDeadlock => JoinError::would_deadlock(),
        }
    }
}

/// What a reader finds.
pub(super) enum Next<T> {
    Result(TaskResult<T>),
    Pending,
    End,
}

impl<T> Results<T> {
    pub(super) fn of(count: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Arrived {
            ready: VecDeque::new(),
            came: vec![false; count],
            left: count,
            waker: None,
            why_dropped: Why::ShutDown,
        })))
    }

    /// The first result for an index counts.
    fn put(&self, index: usize, output: Result<T, JoinError>) {
        let waker = {
            let mut arrived = self.0.lock();
            if std::mem::replace(&mut arrived.came[index], true) {
                None
            } else {
                arrived.left -= 1;
                arrived.ready.push_back(TaskResult { index, output });
                arrived.waker.take()
            }
        };
        // A reader's waker that panics must not end the runner.
        if let Some(Err(payload)) = waker.map(|waker| contain(|| waker.wake())) {
            discard(payload);
        }
    }

    fn put_dropped(&self, index: usize) {
        let why = self.0.lock().why_dropped;
        self.put(index, Err(why.error()));
    }

    /// From now on a dropped future means this.
    pub(super) fn set_why(&self, why: Why) {
        self.0.lock().why_dropped = why;
    }

    /// Gives this result to every index that has none.
    pub(super) fn put_all(&self, why: Why) {
        let missing: Vec<usize> = {
            let arrived = self.0.lock();
            let came = arrived.came.iter().enumerate();
            came.filter(|(_, came)| !**came)
                .map(|(index, _)| index)
                .collect()
        };
        missing
            .into_iter()
            .for_each(|index| self.put(index, Err(why.error())));
    }

    /// The oldest result; else `waker` is called when the next one comes.
    pub(super) fn next(&self, waker: &Waker) -> Next<T> {
        let waker = waker.clone();
        let (next, old) = {
            let mut arrived = self.0.lock();
            if let Some(result) = arrived.ready.pop_front() {
                (Next::Result(result), Some(waker))
            } else if arrived.left == 0 {
                (Next::End, Some(waker))
            } else {
                (Next::Pending, arrived.waker.replace(waker))
            }
        };
        contained_drop(old);
        next
    }

    /// How many results the reader has still to get.
    pub(super) fn outstanding(&self) -> usize {
        let arrived = self.0.lock();
        arrived.left + arrived.ready.len()
    }
}

/// The futures that no runner has taken, and how many runners there are.
pub(super) struct Waiting<F>(Mutex<Line<F>>);

struct Line<F> {
    futures: VecDeque<(usize, F)>,
    runners: usize,
}

impl<F> Waiting<F> {
    pub(super) fn of(futures: VecDeque<F>, runners: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Line {
            futures: futures.into_iter().enumerate().collect(),
            runners,
        })))
    }

    fn take(&self) -> Option<(usize, F)> {
        self.0.lock().futures.pop_front()
    }

    /// Drops what no runner has taken.
    pub(super) fn clear(&self) {
        let dropped = std::mem::take(&mut self.0.lock().futures);
        for future in dropped {
            contained_drop(future);
        }
    }

    /// True for the last runner.
    fn leave(&self) -> bool {
        let mut line = self.0.lock();
        line.runners -= 1;
        line.runners == 0
    }
}

/// One runner's part in the batch; its drop settles what it leaves undone.
pub(super) struct Runner<F, T> {
    waiting: Arc<Waiting<F>>,
    results: Arc<Results<T>>,
}

impl<F, T> Runner<F, T> {
    pub(super) fn new(waiting: Arc<Waiting<F>>, results: Arc<Results<T>>) -> Self {
        Self { waiting, results }
    }

    /// The next future, with the duty to give its result.
    pub(super) fn next(&self) -> Option<(Duty<T>, F)> {
        let (index, future) = self.waiting.take()?;
        let duty = Duty {
            index,
            results: Some(self.results.clone()),
        };
        Some((duty, future))
    }
}

impl<F, T> Drop for Runner<F, T> {
    fn drop(&mut self) {
        if self.waiting.leave() {
            while let Some((index, future)) = self.waiting.take() {
                contained_drop(future);
                self.results.put_dropped(index);
            }
        }
    }
}

/// The duty to give one result.
pub(super) struct Duty<T> {
    index: usize,
    results: Option<Arc<Results<T>>>,
}

impl<T> Duty<T> {
    pub(super) fn done(mut self, output: Result<T, JoinError>) {
        if let Some(results) = self.results.take() {
            results.put(self.index, output);
        }
    }
}

impl<T> Drop for Duty<T> {
    fn drop(&mut self) {
        if let Some(results) = self.results.take() {
            results.put_dropped(self.index);
        }
    }
}
