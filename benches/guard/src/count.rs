//! Allocations of all threads, and how often they slept.

use crate::counting;

/// What was counted during a run.
pub struct Counted {
    pub allocations: usize,
    pub bytes: usize,
    /// Voluntary context switches: every one ends with a wake. Zero where nobody counts them.
    pub sleeps: u64,
}

/// Counts what `work` needs, on all threads.
pub fn during(work: impl FnOnce()) -> Counted {
    let before = sleeps();
    let (allocated, ()) = counting::everywhere(work);
    Counted {
        allocations: allocated.calls,
        bytes: allocated.bytes,
        sleeps: sleeps() - before,
    }
}

#[cfg(unix)]
fn sleeps() -> u64 {
    // SAFETY: all zeroes is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a rusage of our own.
    let rc = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    assert_eq!(rc, 0, "getrusage cannot fail for oneself");
    usage.ru_nvcsw.unsigned_abs()
}

#[cfg(not(unix))]
fn sleeps() -> u64 {
    0
}
