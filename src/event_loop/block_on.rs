//! Drives one future on the calling thread, whatever that thread is inside.

#![forbid(unsafe_code)]

use std::future::Future;
use std::panic::Location;

use crate::event_loop::core::hide_running;
use crate::frame::drive;

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
/// Blocks until the future is done; a pool whose worker this thread is compensates. Where that
/// pool may have no more threads and every one of them waits like this, the worker runs the
/// pool's own jobs and tasks in place that the future awaits, once no timer is left to wait
/// for. What the future needs but awaits no handle of, as a value that a queued job sends
/// through a channel, is left in the queue.
///
/// A handle whose work only this thread could do (a task of one of its loops, which stands
/// still, or a task further down on this stack) resolves
/// [`is_would_deadlock`](crate::JoinError::is_would_deadlock) when the future awaits it.
///
/// # Examples
///
/// ```
/// let answer = portage::block_on(async { 6 * 7 });
/// assert_eq!(answer, 42);
/// ```
#[doc(alias = "asyncio.run")]
#[track_caller]
pub fn block_on<F: Future>(future: F) -> F::Output {
    let _hidden = hide_running();
    drive(future, Location::caller())
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::future::{Future, poll_fn};

    use crate::base::contain::contain;
    use crate::event_loop::EventLoop;
    use crate::event_loop::block_on;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("bomb"));
        }
    }

    fn armed(fails: bool) -> impl Future<Output = u8> {
        let bomb = Bomb;
        poll_fn(move |_| {
            let _keep = &bomb;
            if fails {
                std::panic::resume_unwind(Box::new("the poll"));
            }
            std::task::Poll::Ready(7)
        })
    }

    #[test]
    fn a_destructor_that_panics_does_not_cost_the_output() {
        assert_eq!(block_on(armed(false)), 7);
        assert_eq!(EventLoop::new().run_until_complete(armed(false)), Ok(7));
    }

    #[test]
    fn a_poll_that_panics_unwinds_with_its_own_payload() {
        let event_loop = EventLoop::new();
        let payload = contain(|| event_loop.run_until_complete(armed(true))).unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"the poll"));
        assert_eq!(event_loop.run_until_complete(async { 1 }), Ok(1));
        assert!(contain(|| block_on(armed(true))).is_err());
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
