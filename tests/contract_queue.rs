//! The contract of the execution queue, seen from outside.

#![cfg(not(loom))]

mod kit;

#[path = "contract_queue/closing.rs"]
mod closing;
#[path = "contract_queue/order.rs"]
mod order;
#[path = "contract_queue/places.rs"]
mod places;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use portage::execution_queue::AsyncExecutionQueue;
use portage::{Executor, Job, SubmitError, ThreadPool};

/// A queue with room for `capacity` on a pool of its own.
fn bounded(capacity: usize) -> AsyncExecutionQueue {
    AsyncExecutionQueue::builder()
        .executor(Arc::new(pool()))
        .capacity(capacity)
        .build()
        .expect("legal")
}

fn is_idle(queue: &AsyncExecutionQueue) -> bool {
    let places = queue.len();
    places == 0
}

fn pool() -> ThreadPool {
    let builder = ThreadPool::builder().core_threads(2).max_threads(8);
    builder.build().expect("legal sizes")
}

/// Keeps its jobs until the test runs or drops them; refuses while it is told to.
#[derive(Default)]
struct Shelf {
    jobs: Mutex<VecDeque<Job>>,
    refuses: Mutex<usize>,
}

impl Executor for Shelf {
    fn execute(&self, job: Job) -> Result<(), SubmitError> {
        let mut refuses = kit::lock(&self.refuses);
        if *refuses > 0 {
            *refuses -= 1;
            drop(refuses);
            return Err(SubmitError::broken(job));
        }
        kit::lock(&self.jobs).push_back(job);
        Ok(())
    }
}

impl Shelf {
    fn run_one(&self) -> bool {
        let job = kit::lock(&self.jobs).pop_front();
        job.map(Job::run).is_some()
    }

    fn drop_one(&self) -> bool {
        let job = kit::lock(&self.jobs).pop_front();
        job.map(drop).is_some()
    }

    fn len(&self) -> usize {
        kit::lock(&self.jobs).len()
    }
}

/// A queue whose jobs the test runs by hand.
fn shelved() -> (Arc<Shelf>, AsyncExecutionQueue) {
    let shelf = Arc::new(Shelf::default());
    let queue = AsyncExecutionQueue::builder()
        .executor(shelf.clone())
        .build();
    (shelf, queue.expect("legal"))
}
