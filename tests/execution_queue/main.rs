//! Promises of `execution_queue`: order, room, closing, waits that would never end, executors.
//!
//! The Python original starts in order but ends in any, piles bounded work up inside its pool,
//! and loses handles of jobs that fail badly; the tests that say otherwise say so.

#![cfg(not(loom))]

#[path = "../kit/mod.rs"]
mod kit;

mod closing;
mod deadlocks;
mod executors;
mod order;
mod room;

use std::sync::Arc;
use std::time::Duration;

use kit::Gate;
use portage::execution_queue::AsyncExecutionQueue;
use portage::{JoinHandle, ThreadPool};

const TICK: Duration = Duration::from_millis(5);

fn pool(threads: usize) -> ThreadPool {
    let sizes = ThreadPool::builder()
        .core_threads(threads)
        .max_threads(threads);
    sizes.build().expect("the sizes are valid")
}

/// On a pool of its own, with more threads than the queue may use.
fn queue(capacity: usize, concurrency: usize) -> AsyncExecutionQueue {
    AsyncExecutionQueue::builder()
        .executor(Arc::new(pool(4)))
        .capacity(capacity)
        .concurrency(concurrency)
        .build()
        .expect("the sizes are valid")
}

/// A job that is running, at its gate.
fn running(queue: &AsyncExecutionQueue) -> (Gate, JoinHandle<()>) {
    let gate = Gate::new();
    let inside = gate.clone();
    let handle = queue
        .try_add_task(move || inside.pass())
        .expect("there is room");
    gate.wait_entered(1);
    (gate, handle)
}
