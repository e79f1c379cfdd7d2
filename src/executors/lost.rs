//! Notices a future that nobody can wake any more, while the task that drives it lives on.
//!
//! A task whose wakers are all gone is lost, and its future is dropped. A runner drives many
//! futures in one task: one that lets go of every waker must not take the others along. So a
//! runner lends each future a waker of its own, which tells when its last copy goes.

#![forbid(unsafe_code)]

use std::task::{Wake, Waker};

use crate::base::sync::atomic::{AtomicBool, Ordering, fence};
use crate::base::sync::{Arc, Weak};

/// The wakers that one future was lent.
#[derive(Debug)]
pub(super) struct Wakers {
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
    pub(super) fn new() -> Self {
        Self {
            lent: None,
            woken: Arc::new(AtomicBool::new(false)),
        }
    }

    /// A waker for the next poll; `None` when the last one is gone and has not been used.
    pub(super) fn lend(&mut self, runner: &Waker) -> Option<Waker> {
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
