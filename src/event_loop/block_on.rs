//! Drives one future on the calling thread, whatever that thread is inside.

#![forbid(unsafe_code)]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};

use crate::deferred;
use crate::entered::{Parking, run_lane_job};
use crate::event_loop::core::hide_running;
use crate::event_loop::frame::Frame;
use crate::event_loop::root::poll_root;

/// At most so many timers fire between two looks at the future.
const FIRED_MAX: usize = 64;

/// Drives `future` to its end on this thread and returns its output.
///
/// Works on any thread and at any depth: on a plain thread, inside a job of a pool, inside a
/// task, inside another `block_on`, inside a foreign runtime. While it waits it keeps time for
/// all timers of this thread and runs the jobs of this thread's lanes; tasks of a loop that
/// runs further down on this stack stand still until it returns. It is no loop itself:
/// [`running_loop`](crate::event_loop::running_loop) is `None` in here, also when a loop runs
/// further down.
///
/// # Panics
///
/// A panic of the future unwinds to the caller.
///
/// # Blocking
///
/// Blocks until the future is done; a pool whose worker this thread is compensates.
///
/// # Examples
///
/// ```
/// let answer = portage::block_on(async { 6 * 7 });
/// assert_eq!(answer, 42);
/// ```
#[doc(alias = "asyncio.run")]
pub fn block_on<F: Future>(future: F) -> F::Output {
    let frame = Frame::enter(Parking::current());
    let _hidden = hide_running();
    let mut future = pin!(Some(future));
    let mut cx = Context::from_waker(frame.waker());
    loop {
        if frame.take_signal() {
            if let Poll::Ready(output) = poll_root(future.as_mut(), &mut cx) {
                return output;
            }
        }
        // One job at a time: however many keep coming, the future is looked at in between.
        let fired = frame.timers().fire_due(FIRED_MAX);
        if fired == 0 && !deferred::run_one() && !run_lane_job() && !frame.is_signalled() {
            frame.sleep();
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::block_on;
    use crate::base::sync::Arc;
    use crate::base::sync::atomic::{AtomicUsize, Ordering};
    use std::future::poll_fn;
    use std::task::Poll;

    /// Question: can a wake that races the sleep be lost, or come without what was written
    /// before it? Two wakes of one thread; every interleaving.
    ///
    /// Must fail when: a wake does not set the signal, or not with Release; it does not wake
    /// the thread; the signal is not taken with Acquire.
    #[test]
    fn loom_inbox_wake_races_block_on() {
        loom::model(|| {
            let data = Arc::new(AtomicUsize::new(0));
            let mut waking = None;
            block_on(poll_fn(|cx| {
                if waking.is_none() {
                    let (data, waker) = (data.clone(), cx.waker().clone());
                    waking = Some(loom::thread::spawn(move || {
                        data.store(1, Ordering::Relaxed);
                        waker.wake_by_ref();
                        data.store(2, Ordering::Relaxed);
                        waker.wake();
                    }));
                    return Poll::Pending;
                }
                match data.load(Ordering::Relaxed) {
                    0 => panic!("woken without what was written before"),
                    1 => Poll::Pending,
                    _ => Poll::Ready(()),
                }
            }));
            waking.expect("it was polled").join().unwrap();
        });
    }
}
