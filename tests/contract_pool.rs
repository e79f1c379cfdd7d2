//! The contract of thread pools, seen from outside.

#![cfg(not(loom))]

mod kit;

#[path = "contract_pool/building.rs"]
mod building;
#[path = "contract_pool/ending.rs"]
mod ending;
#[path = "contract_pool/growing.rs"]
mod growing;
#[path = "contract_pool/jobs.rs"]
mod jobs;
#[path = "contract_pool/tasks.rs"]
mod tasks;
#[path = "contract_pool/waiting.rs"]
mod waiting;

use portage::ThreadPool;

/// A pool of this many core threads that may grow to `max`.
fn pool(core: usize, max: usize) -> ThreadPool {
    ThreadPool::builder()
        .core_threads(core)
        .max_threads(max)
        .build()
        .expect("legal sizes")
}

/// A pool whose only thread is held at the gate until it opens.
fn held(gate: &kit::Gate) -> ThreadPool {
    let pool = pool(1, 1);
    let at = gate.clone();
    pool.spawn_blocking(move || at.pass()).detach();
    gate.wait_entered(1);
    pool
}
