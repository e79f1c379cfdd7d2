//! Tells those who wait for a loop's answer that the loop has stopped.
//!
//! A loop that is merely idle keeps its work for the next run, which may never come. Whoever
//! blocks for an answer must therefore learn of the stop itself, also when the loop runs again
//! before it looks: stops are counted.

#![forbid(unsafe_code)]

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::base::contain::{contain, discard};
use crate::base::sync::{Arc, Mutex};

/// How often a loop has stopped, and who wants to hear of the next time.
#[derive(Debug, Default)]
pub(super) struct Stops(Mutex<Watchers>);

#[derive(Debug, Default)]
struct Watchers {
    running: bool,
    count: u64,
    next: u64,
    wakers: Vec<(u64, Waker)>,
}

impl Stops {
    pub(super) fn started(&self) {
        self.0.lock().running = true;
    }

    pub(super) fn stopped(&self) {
        let wakers = {
            let mut watchers = self.0.lock();
            watchers.running = false;
            watchers.count += 1;
            std::mem::take(&mut watchers.wakers)
        };
        for (_, waker) in wakers {
            if let Err(payload) = contain(|| waker.wake()) {
                discard(payload);
            }
        }
    }
}

/// Ready once the loop is not running, or has stopped since this was made.
#[derive(Debug)]
pub(crate) struct Stopped {
    stops: Arc<Stops>,
    count: u64,
    /// Which of the wakers is ours.
    key: u64,
}

impl Stopped {
    pub(super) fn new(stops: Arc<Stops>) -> Self {
        let (count, key) = {
            let mut watchers = stops.0.lock();
            watchers.next += 1;
            (watchers.count, watchers.next)
        };
        Self { stops, count, key }
    }
}

impl Future for Stopped {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let replaced = {
            let mut watchers = self.stops.0.lock();
            if watchers.count != self.count || !watchers.running {
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
            let mut watchers = self.stops.0.lock();
            let at = watchers.wakers.iter().position(|(key, _)| *key == self.key);
            at.map(|at| watchers.wakers.swap_remove(at))
        };
        drop(mine);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::{Stopped, Stops};
    use crate::base::park::Parker;
    use crate::base::sync::{Arc, thread};
    use std::pin::Pin;
    use std::task::{Context, Waker};

    /// Question: can somebody who waits miss a stop, also one that another run follows?
    /// Bound: one stop and one start against one wait.
    ///
    /// Must fail when: a stop is not counted; `stopped` does not wake.
    #[test]
    fn loom_stopped_races_a_restart() {
        loom::model(|| {
            let stops = Arc::new(Stops::default());
            stops.started();
            let mut wait = Stopped::new(stops.clone());
            let owner = thread::spawn(move || {
                stops.stopped();
                stops.started();
            });
            let parker = Parker::new();
            let waker = Waker::from(parker.unparker().clone());
            let mut cx = Context::from_waker(&waker);
            while Pin::new(&mut wait).poll(&mut cx).is_pending() {
                parker.park();
            }
            owner.join().unwrap();
        });
    }
}
