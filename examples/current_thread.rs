//! What asgiref does: async code calls blocking code on the thread that needs it, blocking code
//! calls async code, at any depth, and changed variables come back.
//!
//! Prints:
//!
//! ```text
//! a worker's closure ran on the main thread
//! the innermost call takes the route CallingThread
//! four layers deep, still on the main thread
//! the variable that was set there: 4
//! insensitive: on another thread
//! ```

#![forbid(unsafe_code)]

use std::error::Error;
use std::thread;

use portage::bridge::{async_to_sync, sync_to_async};
use portage::{ContextVar, CurrentThreadExecutor, promise};

static DEPTH: ContextVar<u32> = ContextVar::new("depth");

/// Blocking code that must stay on one thread, like a connection that belongs to it.
fn deepest(main: thread::ThreadId) -> bool {
    let _ = DEPTH.set(4);
    thread::current().id() == main
}

async fn third(main: thread::ThreadId) -> Result<bool, Box<dyn Error + Send + Sync>> {
    let call = sync_to_async(move || deepest(main));
    println!("the innermost call takes the route {:?}", call.explain());
    Ok(call.await?)
}

fn second(main: thread::ThreadId) -> Result<bool, Box<dyn Error + Send + Sync>> {
    async_to_sync(move || third(main)).call()?
}

async fn first(main: thread::ThreadId) -> Result<bool, Box<dyn Error + Send + Sync>> {
    sync_to_async(move || second(main)).await?
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let main = thread::current().id();

    let lane = CurrentThreadExecutor::new(None);
    let (done, finished) = promise();
    let submitter = lane.clone();
    let worker = thread::spawn(move || -> Result<(), Box<dyn Error + Send + Sync>> {
        let here = submitter.submit(|| thread::current().id())?.wait()?;
        done.resolve(here).map_err(|_| "nobody cancels it")?;
        Ok(())
    });
    let ran_on = lane.run_until_future(finished)??;
    worker.join().expect("the worker does not panic")?;
    if ran_on == main {
        println!("a worker's closure ran on the main thread");
    }

    if async_to_sync(move || first(main)).call()?? {
        println!("four layers deep, still on the main thread");
    }
    println!(
        "the variable that was set there: {}",
        DEPTH.get().unwrap_or(0)
    );

    let elsewhere = async_to_sync(|| async {
        sync_to_async(|| thread::current().id())
            .thread_sensitive(false)
            .await
    });
    if elsewhere.call()?? != main {
        println!("insensitive: on another thread");
    }
    Ok(())
}
