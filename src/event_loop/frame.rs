//! A frame: the place on a thread's stack where a future is driven and waited for.
//!
//! Every frame has a signal of its own, for all frames of a thread sleep on one parker and an
//! inner frame may take a token that was meant for an outer one. The outer one finds its
//! signal set when it looks again.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::task::{Wake, Waker};

use crate::base::sync::atomic::{AtomicBool, Ordering};
use crate::base::sync::{Arc, local};
use crate::entered::Parking;
use crate::timer::{Timers, TimersFrame};

/// What the waker of a frame's future sets.
#[derive(Debug)]
struct Signal {
    set: AtomicBool,
    thread: Waker,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Ordering: Release, also when it is set already, so that everything before a wake is
        // visible to the poll that follows; pairs with the Acquire in `take_signal`.
        if !self.set.swap(true, Ordering::Release) {
            self.thread.wake_by_ref();
        }
    }
}

local! {
    /// The signal of the last frame, for the next one: a late wake costs it one needless poll.
    static SPARE: RefCell<Option<(Arc<Signal>, Waker)>> = RefCell::new(None);
}

#[derive(Debug)]
pub(super) struct Frame {
    signal: Arc<Signal>,
    waker: Waker,
    parking: Parking,
    timers: TimersFrame,
}

impl Frame {
    /// Begins, to sleep on `parking`; the signal is set, for the first poll.
    pub(super) fn enter(parking: Parking) -> Self {
        let (signal, waker) = SPARE
            .try_with(|spare| spare.borrow_mut().take())
            .ok()
            .flatten()
            // A thread whose locals are being destroyed may have another parker by now.
            .filter(|(signal, _)| signal.thread.will_wake(parking.waker()))
            .unwrap_or_else(|| {
                let signal = Arc::new(Signal {
                    set: AtomicBool::new(true),
                    thread: parking.waker().clone(),
                });
                let waker = Waker::from(signal.clone());
                (signal, waker)
            });
        // Ordering: Relaxed: this very thread reads it next.
        signal.set.store(true, Ordering::Relaxed);
        Self {
            signal,
            waker,
            parking,
            timers: Timers::enter(),
        }
    }

    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    pub(super) fn timers(&self) -> &Timers {
        &self.timers
    }

    /// Whether the future has been woken since the last call.
    pub(super) fn take_signal(&self) -> bool {
        // Ordering: Acquire pairs with the Release in `wake_by_ref`.
        self.is_signalled() && self.signal.set.swap(false, Ordering::Acquire)
    }

    pub(super) fn is_signalled(&self) -> bool {
        // Ordering: Relaxed: a false that is old by now is followed by a sleep, which the
        // token of that wake ends.
        self.signal.set.load(Ordering::Relaxed)
    }

    /// Sleeps until there may be something to do: a wake, a job for a lane, a deadline.
    pub(super) fn sleep(&self) {
        self.parking.park_until(self.timers.next_deadline());
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let spare = (self.signal.clone(), self.waker.clone());
        let _ = SPARE.try_with(|slot| slot.replace(Some(spare)));
    }
}
