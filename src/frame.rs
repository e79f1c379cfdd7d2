//! A frame: the place on a thread's stack where a future is driven and waited for.
//!
//! `block_on`, the run of a loop and the wait of a lane's owner each make one.
//!
//! Every frame has a signal of its own, for all frames of a thread sleep on one parker and an
//! inner frame may take a token that was meant for an outer one. The outer one finds its
//! signal set when it looks again.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::future::Future;
use std::panic::{Location, resume_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Wake, Waker};

use crate::base::contain::contain;
use crate::base::sync::atomic::{AtomicBool, Ordering};
use crate::base::sync::{Arc, local};
use crate::deferred;
use crate::entered::{Parking, run_lane_job};
use crate::promise::{Awaiting, Awaits};
use crate::task::report_stray_panic;
use crate::timer::{Timers, TimersFrame};

/// At most so many timers fire between two looks at the future.
const FIRED_MAX: usize = 64;

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
pub(crate) struct Frame {
    signal: Arc<Signal>,
    waker: Waker,
    parking: Parking,
    timers: TimersFrame,
    _awaiting: Awaiting,
}

impl Frame {
    /// Begins, to sleep on `parking`; the signal is set, for the first poll.
    pub(crate) fn enter(parking: Parking, awaits: Awaits) -> Self {
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
            _awaiting: Awaiting::begin(awaits),
        }
    }

    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }

    pub(crate) fn timers(&self) -> &Timers {
        &self.timers
    }

    /// Whether the future has been woken since the last call.
    pub(crate) fn take_signal(&self) -> bool {
        // Ordering: Acquire pairs with the Release in `wake_by_ref`.
        self.is_signalled() && self.signal.set.swap(false, Ordering::Acquire)
    }

    pub(crate) fn is_signalled(&self) -> bool {
        // Ordering: Relaxed: a false that is old by now is followed by a sleep, which the
        // token of that wake ends.
        self.signal.set.load(Ordering::Relaxed)
    }

    /// Sleeps until there may be something to do: a wake of the future, a job for a lane, a
    /// deadline, or what `is_due` tells.
    pub(crate) fn sleep(&self, is_due: impl Fn() -> bool) {
        #[cfg(all(not(loom), any(test, feature = "test-util")))]
        let _reason =
            crate::base::simulated::waits_for(|| "something to do in a loop or `block_on`".into());
        let is_due = || self.is_signalled() || is_due();
        self.parking
            .sleep_until(is_due, self.timers.next_deadline());
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let spare = (self.signal.clone(), self.waker.clone());
        let _ = SPARE.try_with(|slot| slot.replace(Some(spare)));
    }
}

/// Drives `future` to its end on this thread; fires its timers and runs the jobs of its lanes
/// meanwhile. A panic of the future unwinds; one of its destructor is reported from `caller`.
pub(crate) fn drive<F: Future>(future: F, caller: &'static Location<'static>) -> F::Output {
    let frame = Frame::enter(Parking::current(), Awaits::Future);
    let mut future = pin!(Some(future));
    let mut cx = Context::from_waker(frame.waker());
    loop {
        if frame.take_signal() {
            if let Poll::Ready(output) = poll_root(future.as_mut(), &mut cx, caller) {
                return output;
            }
        }
        // One job at a time: however many keep coming, the future is looked at in between.
        let fired = frame.timers().fire_due(FIRED_MAX);
        if fired == 0 && !deferred::run_one() && !run_lane_job() && !frame.is_signalled() {
            frame.sleep(|| false);
        }
    }
}

/// Polls the future in `slot`; at its end it is dropped before its output is given out.
///
/// A panic of its destructor is reported and does not cost the output; a panic of the poll
/// unwinds to the caller.
pub(crate) fn poll_root<F: Future>(
    mut slot: Pin<&mut Option<F>>,
    cx: &mut Context<'_>,
    caller: &'static Location<'static>,
) -> Poll<F::Output> {
    let root = slot.as_mut().as_pin_mut();
    let root = root.expect("the future stays until its end");
    let polled = contain(|| root.poll(cx));
    if matches!(polled, Ok(Poll::Pending)) {
        return Poll::Pending;
    }
    if let Err(payload) = contain(|| slot.set(None)) {
        report_stray_panic("the drop of a future", caller, payload);
    }
    polled.unwrap_or_else(|payload| resume_unwind(payload))
}
