//! One job on its way into the queue.

#![forbid(unsafe_code)]

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::entry::Entry;
use super::line::{Entrance, Shared};
use crate::base::sync::Arc;
use crate::entered::Parking;
use crate::error::SubmitError;
use crate::promise::{Awaiting, Awaits, JoinHandle};
use crate::task::Waits;

/// Resolves once the job has its place; see [`aadd_task`].
///
/// # Cancellation
///
/// Dropped before that, the job never runs: its work is dropped, and a place that it was given
/// in the meantime goes to the next who waits. (A job that has started by then runs on,
/// detached.)
///
/// # Panics
///
/// Polled again after its end.
///
/// [`aadd_task`]: crate::execution_queue::AsyncExecutionQueue::aadd_task
#[must_use = "the job is added when this is awaited"]
pub struct AddTask<T> {
    shared: Arc<Shared>,
    handle: Option<JoinHandle<T>>,
    stage: Stage,
}

enum Stage {
    Outside(Entry),
    Waiting(u64),
    Over,
}

impl<T> AddTask<T> {
    pub(super) fn new(shared: Arc<Shared>, entry: Entry, handle: JoinHandle<T>) -> Self {
        Self {
            shared,
            handle: Some(handle),
            stage: Stage::Outside(entry),
        }
    }

    /// Goes in, or comes back `is_full`.
    pub(super) fn at_once(mut self) -> Result<JoinHandle<T>, SubmitError> {
        let entry = self.outside();
        let entrance = self.shared.enter(entry);
        self.entered(entrance)
            .unwrap_or_else(|full| Err(SubmitError::full(full.into_job())))
    }

    /// Goes in, and blocks this thread until there is room.
    pub(super) fn blocking(mut self) -> Result<JoinHandle<T>, SubmitError> {
        let parking = Parking::current();
        let _awaiting = Awaiting::begin(Awaits::Wait);
        let mut answer = None;
        let look = || {
            answer = self.look(parking.waker(), Waits::Thread);
            answer.is_some()
        };
        parking.wait_until(look, None);
        answer.expect("a wait without a deadline ends with an answer")
    }

    fn outside(&mut self) -> Entry {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Outside(entry) => entry,
            _ => unreachable!("asked once, before the first look"),
        }
    }

    fn look(&mut self, waker: &Waker, waits: Waits) -> Option<Result<JoinHandle<T>, SubmitError>> {
        match self.stage {
            Stage::Outside(_) => {
                let entry = self.outside();
                let entrance = self.shared.enter(entry);
                match self.entered(entrance) {
                    Ok(answer) => Some(answer),
                    Err(full) => {
                        // A clone that panics leaves all as it was.
                        self.stage = Stage::Outside(full);
                        let waker = waker.clone();
                        let full = self.outside();
                        let entrance = self.shared.enter_or_wait(full, waker, waits);
                        if let Entrance::Wait(arrival) = entrance {
                            self.stage = Stage::Waiting(arrival);
                            self.shared.note_awaited();
                            return None;
                        }
                        let answer = self.entered(entrance);
                        Some(answer.unwrap_or_else(|_| unreachable!("who waits is not full")))
                    }
                }
            }
            Stage::Waiting(arrival) => {
                let Some(answer) = self.shared.look(arrival, waker) else {
                    self.shared.note_awaited();
                    return None;
                };
                self.stage = Stage::Over;
                Some(match answer {
                    Ok(()) => Ok(self.handle()),
                    Err(entry) => Err(SubmitError::shut_down(entry.into_job())),
                })
            }
            Stage::Over => panic!("polled after it was done"),
        }
    }

    fn entered(&mut self, entrance: Entrance) -> Result<Result<JoinHandle<T>, SubmitError>, Entry> {
        Ok(match entrance {
            Entrance::In(ticket) => self.shared.hand_over(Some(ticket)).map(|()| self.handle()),
            Entrance::Closed(entry) => Err(SubmitError::shut_down(entry.into_job())),
            Entrance::Deadlock(entry) => Err(SubmitError::would_deadlock(Some(entry.into_job()))),
            Entrance::Full(entry) => return Err(entry),
            Entrance::Wait(_) => unreachable!("handled by the one who waits"),
        })
    }

    fn handle(&mut self) -> JoinHandle<T> {
        self.handle.take().expect("given away once, at the end")
    }
}

impl<T> Future for AddTask<T> {
    type Output = Result<JoinHandle<T>, SubmitError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.look(cx.waker(), Waits::Task) {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        }
    }
}

impl<T> Drop for AddTask<T> {
    fn drop(&mut self) {
        if let Stage::Waiting(arrival) = self.stage {
            if !self.shared.leave(arrival) {
                // It has its place, and nobody knows: the place goes on.
                if let Some(handle) = &self.handle {
                    let _ = handle.cancel();
                }
            }
        }
    }
}

impl<T> fmt::Debug for AddTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddTask")
            .field("handle", &self.handle)
            .finish()
    }
}
