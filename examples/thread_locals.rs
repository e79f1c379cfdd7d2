//! What AlexBerUtils' `thread_locals` does: work on an executor with its context, a queue in
//! order, futures that are chained, failures that nobody read.
//!
//! Prints:
//!
//! ```text
//! on the executor, request 7: 5
//! back on the main loop: 6
//! in order: [1, 2, 3]
//! chained: 42
//! nobody read: disk full
//! ```

#![forbid(unsafe_code)]

use std::error::Error;
use std::sync::{Arc, Mutex, mpsc};

use portage::bridge::{Config, exec_in_executor, init_config, lift_to_async};
use portage::execution_queue::{AsyncExecutionQueue, Close};
use portage::promise::{chain_future_results, set_unhandled_hook};
use portage::time::yield_now;
use portage::{ContextVar, EventLoop, JoinError, ThreadPool, promise};

static REQUEST: ContextVar<u32> = ContextVar::new("request");

async fn twice(number: u32) -> u32 {
    yield_now().await;
    number * 2
}

async fn run() -> Result<(), Box<dyn Error>> {
    let pool = ThreadPool::builder().core_threads(2).build()?;
    init_config(Config::new().executor(Arc::new(pool)))?;

    let submitted = {
        let _request = REQUEST.scope(7);
        exec_in_executor(None, || (REQUEST.get().unwrap_or(0), 2 + 3))?
    };
    let (request, sum) = submitted.await?;
    println!("on the executor, request {request}: {sum}");

    let lifted = exec_in_executor(None, || lift_to_async(|| twice(3)))?;
    println!("back on the main loop: {}", lifted.await??);

    let queue = AsyncExecutionQueue::new();
    let order = Arc::new(Mutex::new(Vec::new()));
    for number in 1..=3 {
        let order = order.clone();
        let note = move || order.lock().expect("nobody panics").push(number);
        queue.aadd_task(note).await?.detach();
    }
    queue.aclose(Close::Drain).await;
    println!("in order: {:?}", order.lock().expect("nobody panics"));

    let (work, source) = promise();
    let (target, chained) = promise();
    chain_future_results(source, target);
    work.resolve(42).map_err(|_| "the source was cancelled")?;
    println!("chained: {}", chained.await?);

    let (reports, read) = mpsc::channel();
    set_unhandled_hook(Box::new(move |unhandled| {
        let _ = reports.send(unhandled.message().into_owned());
    }));
    let (work, forgotten) = promise::<u32>();
    drop(forgotten);
    work.fail(JoinError::failed("disk full"))?;
    println!("nobody read: {}", read.recv()?);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    EventLoop::new().run_until_complete(run())?
}
