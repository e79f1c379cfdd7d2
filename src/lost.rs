//! Notices a future that nobody can wake any more, while the task that drives it lives on.
//!
//! A task whose wakers are all gone is lost, and its future is dropped. What drives a future of
//! others inside a task or a job of its own (a runner of a batch, a job on an executor that has
//! no loop) lives on: a future that lets go of every waker must not hold it for ever. So it lends
//! the future a waker of its own, which tells when its last copy goes.

#![forbid(unsafe_code)]

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};

use crate::base::sync::atomic::{AtomicBool, Ordering, fence};
use crate::base::sync::{Arc, Weak};
use crate::join_error::JoinError;

/// The output of `future`, or `is_lost` once nobody can wake it any more.
pub(crate) async fn unless_lost<F: Future>(future: F) -> Result<F::Output, JoinError> {
    let mut future = pin!(future);
    let mut wakers = Wakers::new();
    let poll = |cx: &mut Context<'_>| match wakers.lend(cx.waker()) {
        Some(waker) => future
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .map(Ok),
        None => Poll::Ready(Err(JoinError::lost())),
    };
    poll_fn(poll).await
}

/// The wakers that one future was lent.
#[derive(Debug)]
pub(crate) struct Wakers {
    /// That of the last poll; `None` before the first.
    lent: Option<Weak<Lent>>,
    woken: Arc<AtomicBool>,
}

/// Passes wakes on, and its own end.
#[derive(Debug)]
struct Lent {
    runner: Waker,
    woken: Arc<AtomicBool>,
}

impl Wakers {
    pub(crate) fn new() -> Self {
        Self {
            lent: None,
            woken: Arc::new(AtomicBool::new(false)),
        }
    }

    /// A waker for the next poll; `None` when the last one is gone and has not been used.
    pub(crate) fn lend(&mut self, runner: &Waker) -> Option<Waker> {
        let old = self.lent.as_ref().map(Weak::upgrade);
        if let Some(None) = old {
            // Ordering: pairs with the release of the last copy: a wake before it is seen.
            fence(Ordering::Acquire);
        }
        // Ordering: Acquire pairs with the wake: what was written before it is seen by the poll.
        let was_woken = self.woken.swap(false, Ordering::Acquire);
        let lent = match old {
            Some(None) if !was_woken => return None,
            Some(Some(lent)) if lent.runner.will_wake(runner) => lent,
            _ => {
                let lent = Arc::new(Lent {
                    runner: runner.clone(),
                    woken: self.woken.clone(),
                });
                self.lent = Some(Arc::downgrade(&lent));
                lent
            }
        };
        Some(Waker::from(lent))
    }
}

impl Wake for Lent {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Ordering: Release pairs with `lend`.
        self.woken.store(true, Ordering::Release);
        self.runner.wake_by_ref();
    }
}

impl Drop for Lent {
    /// The runner has to look: its future may be lost.
    fn drop(&mut self) {
        self.runner.wake_by_ref();
    }
}
