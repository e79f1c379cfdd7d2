//! One blocking wait for something foreign, on a thread of the pool, of bounded length.
//!
//! What is not ours can wake no task, so a thread has to wait for it. It does so in rounds:
//! between them other jobs get the thread, and a wait that nobody wants any more ends.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Polling;
use crate::entered::block;
use crate::executor::{Executor, Job};
use crate::join_error::JoinError;
use crate::pool::ThreadPool;
use crate::promise::JoinHandle;
use crate::time::sleep;

/// Shorter rounds would do nothing but change threads.
const ROUND_MIN: Duration = Duration::from_millis(1);
/// The length of a round that nothing ends but its success: what others may add to the
/// present without an overflow.
const ROUND_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// How often to look, where the pool is shut down and no thread can wait.
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl Polling {
    /// How long one round waits.
    pub(super) fn round(self) -> Duration {
        match self {
            Self::Every(tick) => tick.clamp(ROUND_MIN, ROUND_MAX),
            Self::NoPolling => ROUND_MAX,
        }
    }
}

/// The pool is shut down: no thread can wait.
#[derive(Debug)]
pub(super) struct NoThread;

/// Has a pool thread run `wait`, which gives `None` when its time is over.
///
/// Dropped before the thread has begun, `wait` never runs; later, what it brings is dropped
/// by the thread as soon as it is there.
///
/// # Panics
///
/// With the panic of `wait`.
pub(super) async fn round<T, F>(name: Cow<'static, str>, wait: F) -> Result<Option<T>, NoThread>
where
    T: Send + 'static,
    F: FnOnce() -> Option<T> + Send + 'static,
{
    let (job, handle) = Job::named(name, || block(wait));
    match ThreadPool::global().execute(job) {
        Ok(()) => match Round(handle).await {
            Ok(brought) => Ok(brought),
            Err(error) if error.is_panic() => error.resume_unwind(),
            Err(_) => Err(NoThread),
        },
        Err(_) => Err(NoThread),
    }
}

impl NoThread {
    /// In place of a round.
    pub(super) async fn rest(self) {
        sleep(LOOK_EVERY).await;
    }
}

/// Prevents the job, if it can, when nobody waits for it any more.
struct Round<T>(JoinHandle<T>);

impl<T> Future for Round<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<T> Drop for Round<T> {
    fn drop(&mut self) {
        let _ = self.0.cancel();
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{ROUND_MAX, ROUND_MIN, Round};
    use crate::executor::Job;
    use crate::sync::Polling;
    use std::time::{Duration, Instant};

    #[test]
    fn a_round_dropped_before_it_has_begun_never_runs() {
        let (job, handle) = Job::new(|| unreachable!("nobody waits"));
        drop(Round::<()>(handle));
        job.run();
    }

    #[test]
    fn every_polling_gives_a_round_that_others_can_add_to_the_present() {
        let table = [
            (Polling::default(), Duration::from_secs(5)),
            (Polling::Every(Duration::ZERO), ROUND_MIN),
            (Polling::Every(Duration::MAX), ROUND_MAX),
            (Polling::NoPolling, ROUND_MAX),
        ];
        for (polling, expected) in table {
            assert_eq!(polling.round(), expected, "{polling:?}");
        }
        let _ = Instant::now() + ROUND_MAX;
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::Round;
    use crate::base::sync::{Arc, Mutex};
    use crate::executor::Job;
    use loom::thread;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    struct Guard(Arc<Mutex<bool>>);

    impl Drop for Guard {
        fn drop(&mut self) {
            let held = std::mem::replace(&mut *self.0.lock(), false);
            assert!(held, "released twice");
        }
    }

    /// Question: a guard arrives on the pool thread while its waiter looks, or goes away; is it
    /// released exactly once, whoever ends up with it?
    ///
    /// Must fail when: the outcome that has no reader is not dropped by whoever brings it; the
    /// reading half does not take the outcome along when it goes.
    #[test]
    fn loom_async_lock_guard_meets_a_dropped_waiter() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = builder.preemption_bound.or(Some(3));
        builder.check(|| {
            let lock = Arc::new(Mutex::new(false));
            let theirs = lock.clone();
            let (job, handle) = Job::new(move || {
                *theirs.lock() = true;
                Guard(theirs)
            });
            let mut round = Round(handle);
            let pool = thread::spawn(move || job.run());
            let mut cx = Context::from_waker(Waker::noop());
            if let Poll::Ready(guard) = Pin::new(&mut round).poll(&mut cx) {
                assert!(*lock.lock(), "a guard means that the lock is held");
                drop(guard);
            }
            drop(round);
            pool.join().unwrap();
            assert!(!*lock.lock(), "held by nobody for ever");
        });
    }
}
