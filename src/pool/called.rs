//! How long the one worker that was woken has been awaited.
//!
//! A push wakes nobody while somebody searches. A worker that was woken counts as searching before
//! it has a CPU; when others keep that CPU, for milliseconds at times, everything that is pushed
//! meanwhile would wait for that one worker while others sleep beside free CPUs. So a push that
//! finds older ones waiting looks at the clock, and after [`PATIENCE`] wakes one more.
//!
//! # Ordering
//!
//! All accesses are Relaxed: a time that is read late, or lost to another one, costs a wake more
//! or a wait of [`PATIENCE`].

#![forbid(unsafe_code)]

use std::time::Duration;

use crate::base::sync::atomic::{AtomicU64, Ordering};

/// A wake takes 5 to 50 us where a CPU is free.
const PATIENCE: Duration = Duration::from_micros(100);

/// Since when a searcher has been awaited, in microseconds of the pool's clock; zero: nobody is,
/// or nobody has looked.
#[derive(Debug, Default)]
pub(super) struct Called(AtomicU64);

impl Called {
    /// A worker is being woken.
    pub(super) fn call(&self, now: Duration) {
        self.0.store(micros(now), Ordering::Relaxed);
    }

    /// A searcher is there.
    pub(super) fn answered(&self) {
        if self.0.load(Ordering::Relaxed) != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    /// Has nobody come for too long? Begins to count if nobody did.
    pub(super) fn is_overdue(&self, now: Duration) -> bool {
        match self.0.load(Ordering::Relaxed) {
            0 => {
                self.call(now);
                false
            }
            since => micros(now).saturating_sub(since) > PATIENCE.as_micros() as u64,
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1)
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{Called, PATIENCE};
    use std::time::Duration;

    #[test]
    fn who_was_called_is_overdue_after_a_while_until_it_answers() {
        let (called, start) = (Called::default(), Duration::from_secs(1));
        called.call(start);
        assert!(!called.is_overdue(start + PATIENCE));
        assert!(called.is_overdue(start + 2 * PATIENCE));
        called.answered();
        assert!(!called.is_overdue(start + 3 * PATIENCE), "begins to count");
        assert!(called.is_overdue(start + 5 * PATIENCE));
    }
}
