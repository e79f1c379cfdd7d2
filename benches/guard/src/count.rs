//! Allocations of all threads, and how often they slept.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What was counted during a run.
pub struct Counted {
    pub allocations: u64,
    pub bytes: u64,
    /// Voluntary context switches: every one ends with a wake. Zero where nobody counts them.
    pub sleeps: u64,
}

struct Counting;

static ON: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn note(bytes: usize) {
    if ON.load(Ordering::Relaxed) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

// SAFETY: everything is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's duties are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's duties are the same.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note(new_size);
        // SAFETY: the caller's duties are the same.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

/// Counts what `work` needs, on all threads.
pub fn during(work: impl FnOnce()) -> Counted {
    let now = || {
        (
            ALLOCATIONS.load(Ordering::Relaxed),
            BYTES.load(Ordering::Relaxed),
            sleeps(),
        )
    };
    ON.store(true, Ordering::Relaxed);
    let before = now();
    work();
    let after = now();
    Counted {
        allocations: after.0 - before.0,
        bytes: after.1 - before.1,
        sleeps: after.2 - before.2,
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
