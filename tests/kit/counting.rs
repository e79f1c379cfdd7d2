//! The allocator of a program that counts what it allocates, of one thread or of all.
//!
//! Outside of a count an allocation costs one relaxed load more, so that programs which measure
//! times may count too. The guard and the comparison under `benches/` compile this file as well.

#![allow(dead_code, reason = "who counts one thread does not count all")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::Sub;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allocated {
    pub(crate) calls: usize,
    pub(crate) bytes: usize,
}

impl Sub for Allocated {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            calls: self.calls - before.calls,
            bytes: self.bytes - before.bytes,
        }
    }
}

/// How many counts are going on, on whatever thread.
static ASKING: AtomicUsize = AtomicUsize::new(0);
static CALLS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

const NOTHING: Allocated = Allocated { calls: 0, bytes: 0 };

thread_local! {
    static HERE: Cell<Allocated> = const { Cell::new(NOTHING) };
}

/// A count that is going on.
struct Asking;

impl Asking {
    fn begin() -> Self {
        ASKING.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        ASKING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What this thread allocates in `work`.
pub(crate) fn here<R>(work: impl FnOnce() -> R) -> (Allocated, R) {
    let _asking = Asking::begin();
    let before = so_far();
    let value = work();
    (so_far() - before, value)
}

/// What all threads allocate in `work`.
pub(crate) fn everywhere<R>(work: impl FnOnce() -> R) -> (Allocated, R) {
    let now = || Allocated {
        calls: CALLS.load(Ordering::Relaxed),
        bytes: BYTES.load(Ordering::Relaxed),
    };
    let _asking = Asking::begin();
    let before = now();
    let value = work();
    (now() - before, value)
}

/// What this thread has allocated while somebody counted.
pub(crate) fn so_far() -> Allocated {
    HERE.get()
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn note(bytes: usize) {
    if ASKING.load(Ordering::Relaxed) == 0 {
        return;
    }
    CALLS.fetch_add(1, Ordering::Relaxed);
    BYTES.fetch_add(bytes, Ordering::Relaxed);
    // A thread that ends may allocate after its locals are gone.
    let _ = HERE.try_with(|here| {
        let Allocated { calls, bytes: sum } = here.get();
        here.set(Allocated {
            calls: calls + 1,
            bytes: sum + bytes,
        });
    });
}

// SAFETY: everything is handed on to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise about `layout` is ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from `System` with this layout.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: `block` came from `System` with this layout; `size` is the caller's promise.
        unsafe { System.realloc(block, layout, size) }
    }
}
