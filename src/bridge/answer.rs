//! Waits for what a loop answers, as long as the loop runs and the time allows.

#![forbid(unsafe_code)]

use std::pin::Pin;
use std::task::{Context as PollContext, Poll};
use std::time::Duration;

use crate::base::clock::deadline_after;
use crate::event_loop::Stopped;
use crate::join_error::JoinError;
use crate::promise::JoinHandle;
use crate::timer::Timer;

/// How long a cancelled future is waited for, so that it is gone when the caller goes on.
///
/// A future that can be dropped is dropped in microseconds; one that blocks its loop must not
/// hold the caller beyond its deadline for much longer.
const TEARDOWN_MAX: Duration = Duration::from_millis(100);

/// How a wait for a loop ended.
#[derive(Debug)]
pub(crate) enum Outcome<T> {
    Answered(Result<T, JoinError>),
    /// The loop stopped first; the work is cancelled.
    Stopped,
    /// The time ran out first; the work is cancelled.
    TimedOut,
}

/// A future of the outcome.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    handle: JoinHandle<T>,
    /// `None` for a loop that runs for this answer alone.
    stopped: Option<Stopped>,
    limit: Option<Timer>,
    /// The time has run out; `limit` is the end of the teardown.
    late: bool,
}

impl<T> Answer<T> {
    /// The answer of a loop that others may stop. It must be watched before it is asked, so that
    /// a stop in between is seen.
    pub(crate) fn of(stopped: Stopped, asked: JoinHandle<T>) -> Self {
        Self {
            stopped: Some(stopped),
            ..Self::new(asked)
        }
    }

    pub(crate) fn new(handle: JoinHandle<T>) -> Self {
        Self {
            handle,
            stopped: None,
            limit: None,
            late: false,
        }
    }

    pub(crate) fn within(mut self, limit: Option<Duration>) -> Self {
        self.limit = limit.map(|limit| Timer::at(deadline_after(limit)));
        self
    }

    pub(crate) fn handle(&self) -> &JoinHandle<T> {
        &self.handle
    }
}

impl<T> Future for Answer<T> {
    type Output = Outcome<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut PollContext<'_>) -> Poll<Outcome<T>> {
        let this = &mut *self;
        let answer = Pin::new(&mut this.handle).poll(cx);
        let stopped = this.stopped.as_mut();
        let is_stopped = stopped.is_some_and(|stopped| Pin::new(stopped).poll(cx).is_ready());
        match answer {
            Poll::Pending if !is_stopped => {}
            _ if this.late => return Poll::Ready(Outcome::TimedOut),
            // A loop that is closed over the work cancels it: that is a stop, too.
            Poll::Ready(Err(error)) if is_stopped && is_end_of_loop(&error) => {
                return Poll::Ready(Outcome::Stopped);
            }
            Poll::Ready(answer) => return Poll::Ready(Outcome::Answered(answer)),
            Poll::Pending => {
                this.handle.cancel();
                return Poll::Ready(Outcome::Stopped);
            }
        }
        while let Some(limit) = &mut this.limit {
            if limit.poll(cx).is_pending() {
                break;
            }
            if this.late {
                return Poll::Ready(Outcome::TimedOut);
            }
            this.handle.cancel();
            this.late = true;
            this.limit = Some(Timer::at(deadline_after(TEARDOWN_MAX)));
            if Pin::new(&mut this.handle).poll(cx).is_ready() {
                return Poll::Ready(Outcome::TimedOut);
            }
        }
        Poll::Pending
    }
}

fn is_end_of_loop(error: &JoinError) -> bool {
    error.is_cancelled() || error.is_shut_down()
}
