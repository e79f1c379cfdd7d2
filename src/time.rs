//! Sleeping, time limits, giving way: on a loop, on a pool worker, under a foreign runtime.
//!
//! Deadlines are exact to the nanosecond and never early; equal ones come in the order in
//! which they were registered. [`Duration::MAX`] is legal everywhere and stands for never.

#![forbid(unsafe_code)]

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::base::clock::deadline_after;
use crate::error::Elapsed;
use crate::timer::Timer;

/// A future that is done once `duration` has passed since this call.
///
/// # Examples
///
/// ```
/// use portage::time::sleep;
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now();
/// portage::block_on(sleep(Duration::from_millis(2)));
/// assert!(start.elapsed() >= Duration::from_millis(2));
/// ```
pub fn sleep(duration: Duration) -> Sleep {
    Sleep {
        timer: Timer::at(deadline_after(duration)),
    }
}

/// A future that is done once `deadline` has passed.
///
/// # Examples
///
/// ```
/// use portage::time::sleep_until;
/// use std::time::Instant;
///
/// portage::block_on(sleep_until(Instant::now()));
/// ```
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep {
        timer: Timer::at(Some(deadline)),
    }
}

/// What [`sleep`] and [`sleep_until`] return.
///
/// It waits where it was polled last: with the loop or [`block_on`](crate::block_on) of that
/// thread, with the pool's worker whose task polled it, else with one thread for the whole process,
/// which also sees to the timers of a worker that is held up. It may be sent to another thread at
/// any time. Polled again after its end it is still done.
///
/// # Cancellation
///
/// Dropping it lets its waker go at once, on any thread.
#[must_use = "a sleep does nothing until it is polled"]
pub struct Sleep {
    timer: Timer,
}

impl Sleep {
    /// The instant it waits for; `None` is never.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.timer.deadline()
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.poll(cx)
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep")
            .field("deadline", &self.deadline())
            .finish()
    }
}

/// Drives `future` for no longer than `duration` from the first poll on.
///
/// The future is polled before the clock is looked at: one that is done wins over a limit that
/// has passed.
///
/// # Errors
///
/// [`Elapsed`] once the time is over; the future is dropped before that is returned.
///
/// # Examples
///
/// ```
/// use portage::{block_on, time::timeout};
/// use std::time::Duration;
///
/// let in_time = block_on(timeout(Duration::ZERO, async { 42 }));
/// assert_eq!(in_time.ok(), Some(42));
/// let never = std::future::pending::<()>();
/// assert!(block_on(timeout(Duration::from_millis(1), never)).is_err());
/// ```
#[doc(alias = "wait_for")]
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut limit = sleep(duration);
    let mut future = pin!(future);
    poll_fn(move |cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(&mut limit).poll(cx).map(|()| Err(Elapsed::new()))
    })
    .await
}

/// Lets everything else that is ready go first.
///
/// # Examples
///
/// ```
/// portage::block_on(portage::time::yield_now());
/// ```
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
