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
            // Ordering: pairs with the release of the last copy: a wake before it is seen. No model
            // sees it: the counts of std's `Arc` are not modelled.
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
        // Ordering: Release pairs with `lend`; a swap, since a store would hide from it what
        // another wake has published just before.
        self.woken.swap(true, Ordering::Release);
        self.runner.wake_by_ref();
    }
}

impl Drop for Lent {
    /// The runner has to look: its future may be lost.
    fn drop(&mut self) {
        self.runner.wake_by_ref();
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::Wakers;
    use crate::base::park::Parker;
    use crate::base::sync::atomic::{AtomicUsize, Ordering};
    use crate::base::sync::{Arc, thread};
    use std::task::Waker;

    /// Question: a future is polled for whatever reason while its last two wakers are used; is it
    /// ever taken for lost, although it has not seen what both wakes were for?
    ///
    /// Bound: two wakes, and as many polls as it takes; three preemptions.
    ///
    /// Must fail when: the wake is a store, or not Release; the look for it is not Acquire, or
    /// leaves it said; a wake says nothing.
    #[test]
    fn loom_lost_a_wake_is_not_taken_for_a_loss() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = model.preemption_bound.or(Some(3));
        model.check(|| {
            let parker = Parker::new();
            // Clones are known to be the same, so that the future may keep its first wakers.
            let runner = Waker::from(parker.unparker().clone()).clone();
            let mut wakers = Wakers::new();
            let waker = wakers.lend(&runner).expect("the first");
            let data = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
            let wake = |written: &Arc<AtomicUsize>| {
                let (written, waker) = (written.clone(), waker.clone());
                thread::spawn(move || {
                    written.store(1, Ordering::Relaxed);
                    waker.wake();
                })
            };
            let threads = data.each_ref().map(wake);
            drop(waker);
            loop {
                let lent = wakers.lend(&runner);
                assert!(lent.is_some(), "woken, and taken for lost");
                if data.iter().all(|seen| seen.load(Ordering::Relaxed) == 1) {
                    break;
                }
                drop(lent);
                parker.park();
            }
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
            // The last one goes without a wake: now it is lost, and the runner hears of it.
            while wakers.lend(&runner).is_some() {
                parker.park();
            }
        });
    }
}
