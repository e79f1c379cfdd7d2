//! Drives one future on the calling thread, whatever that thread is inside.

#![forbid(unsafe_code)]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};

use crate::deferred;
use crate::entered::run_lane_job;
use crate::event_loop::core::hide_running;
use crate::event_loop::frame::Frame;

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
    let frame = Frame::enter();
    let _hidden = hide_running();
    let mut future = pin!(future);
    let mut cx = Context::from_waker(frame.waker());
    loop {
        if frame.take_signal() {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
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
