//! The contract of the executors for futures: background loop, pool of loops, thread pool.

#![cfg(not(loom))]

mod kit;

#[path = "contract_executors/batches.rs"]
mod batches;
#[path = "contract_executors/each.rs"]
mod each;
#[path = "contract_executors/loops.rs"]
mod loops;
#[path = "contract_executors/streams.rs"]
mod streams;

use std::sync::Arc;

use portage::ThreadPool;
use portage::executors::{AsyncExecutor, DefaultBackgroundExecutor, EventLoopPoolExecutor};

/// One executor of every kind, fresh.
fn each() -> Vec<(&'static str, Arc<dyn AsyncExecutor>)> {
    vec![
        ("background", Arc::new(background())),
        ("loops", Arc::new(loops(2))),
        ("pool", Arc::new(pool())),
    ]
}

fn background() -> DefaultBackgroundExecutor {
    DefaultBackgroundExecutor::new().expect("one thread")
}

fn loops(count: usize) -> EventLoopPoolExecutor {
    EventLoopPoolExecutor::new(count).expect("a few threads")
}

fn pool() -> ThreadPool {
    let builder = ThreadPool::builder().core_threads(2).max_threads(2);
    builder.build().expect("legal sizes")
}

fn pool_of(threads: usize) -> ThreadPool {
    let builder = ThreadPool::builder()
        .core_threads(threads)
        .max_threads(threads);
    builder.build().expect("legal sizes")
}
