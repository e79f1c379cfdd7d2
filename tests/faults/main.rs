//! Faults: whatever can go wrong around the crate goes wrong here, in each of its places.
//!
//! What is expected each time: the caller gets an error or its own panic, everybody else goes on,
//! nothing hangs, nothing leaks, the books balance. Forks have a program of their own (`fork.rs`);
//! so has the unhandled hook (`unhandled.rs`); a CPU quota below one is a pure function and tested
//! where it stands (`base::cpus`).

#![cfg(not(loom))]

#[path = "../kit/mod.rs"]
mod kit;

mod last_words;
mod limits;
mod panics;
mod reentry;
mod threads;

use std::time::Duration;

use portage::ThreadPool;
use portage::pool::PoolMetrics;

/// Waits until nothing moves, and checks that nothing was lost from the books.
#[track_caller]
fn books_balance(pool: &ThreadPool) -> PoolMetrics {
    let sum =
        |m: &PoolMetrics| m.completed + m.panicked + m.cancelled + (m.queued + m.running) as u64;
    let balanced = kit::within(Duration::from_secs(60), || {
        let metrics = pool.metrics();
        metrics.submitted == sum(&metrics)
    });
    let metrics = pool.metrics();
    assert!(balanced, "the books do not balance: {metrics:?}");
    metrics
}

/// A pool of so many threads, no more.
fn fixed(threads: usize) -> ThreadPool {
    let builder = ThreadPool::builder();
    let builder = builder.core_threads(threads).max_threads(threads);
    builder.build().expect("legal sizes")
}
