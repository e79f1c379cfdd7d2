//! The future that a thread drives by itself, in a loop's run or in `block_on`.

#![forbid(unsafe_code)]

use std::future::Future;
use std::panic::{Location, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::base::contain::contain;
use crate::task::report_stray_panic;

/// Polls the future in `slot`; at its end it is dropped before its output is given out.
///
/// A panic of its destructor is reported and does not cost the output; a panic of the poll
/// unwinds to the caller.
pub(super) fn poll_root<F: Future>(
    mut slot: Pin<&mut Option<F>>,
    cx: &mut Context<'_>,
) -> Poll<F::Output> {
    let root = slot.as_mut().as_pin_mut();
    let root = root.expect("the future stays until its end");
    let polled = contain(|| root.poll(cx));
    if matches!(polled, Ok(Poll::Pending)) {
        return Poll::Pending;
    }
    if let Err(payload) = contain(|| slot.set(None)) {
        report_stray_panic("the drop of a future", Location::caller(), payload);
    }
    polled.unwrap_or_else(|payload| resume_unwind(payload))
}

#[cfg(all(test, not(loom)))]
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
