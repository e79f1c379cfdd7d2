//! Tells those who wait for a loop's answer that the loop has stopped.
//!
//! A loop that is merely idle keeps its work for the next run, which may never come. Whoever
//! blocks for an answer must therefore learn of the stop itself, also when the loop runs again
//! before it looks: stops are counted.

#![forbid(unsafe_code)]

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::base::sync::{Arc, Mutex};
use crate::event_loop::shared::{LoopState, Shared};

/// How often a loop has stopped, and who wants to hear of the next time.
#[derive(Debug, Default)]
pub(super) struct Stops(Mutex<Watchers>);

#[derive(Debug, Default)]
struct Watchers {
    count: u64,
    next: u64,
    wakers: Vec<(u64, Waker)>,
}

impl Stops {
    /// The loop has stopped, and its state says so.
    pub(super) fn announce(&self) {
        let wakers = {
            let mut watchers = self.0.lock();
            watchers.count += 1;
            std::mem::take(&mut watchers.wakers)
        };
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

/// Ready once the loop is not running, or has stopped since this was made.
pub(crate) struct Stopped {
    shared: Arc<Shared>,
    count: u64,
    /// Which of the wakers is ours.
    key: u64,
}

impl Stopped {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let (count, key) = {
            let mut watchers = shared.stops.0.lock();
            watchers.next += 1;
            (watchers.count, watchers.next)
        };
        Self { shared, count, key }
    }
}

impl Future for Stopped {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let replaced = {
            let mut watchers = self.shared.stops.0.lock();
            if watchers.count != self.count || self.shared.state() != LoopState::Running {
                return Poll::Ready(());
            }
            let mine = watchers.wakers.iter_mut().find(|(key, _)| *key == self.key);
            match mine {
                Some((_, old)) => Some(std::mem::replace(old, waker)),
                None => {
                    watchers.wakers.push((self.key, waker));
                    None
                }
            }
        };
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let mine = {
            let mut watchers = self.shared.stops.0.lock();
            let at = watchers.wakers.iter().position(|(key, _)| *key == self.key);
            at.map(|at| watchers.wakers.swap_remove(at))
        };
        drop(mine);
    }
}

impl fmt::Debug for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stopped").field(&self.shared).finish()
    }
}
