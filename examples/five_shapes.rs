//! The five shapes of a call between async and blocking code, each with its result.
//!
//! | # | who calls | what is called | where the two meet again |
//! |---|---|---|---|
//! | 1 | async | blocking code | `.await` |
//! | 2 | blocking code on the loop's thread | blocking code that drives async code itself | `.wait()` |
//! | 3 | async | blocking code that drives async code itself | `.await` |
//! | 4 | async | async code that behaves badly, moved off the loop | `.await` |
//! | 5 | blocking code on the loop's thread | async code | `.wait()` |
//!
//! Shapes 2 and 5 block the loop while they wait. That is their meaning, not a mistake: old
//! code that cannot `await` has nothing better, and the loop goes on when it returns.

#![forbid(unsafe_code)]

use std::error::Error;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use portage::bridge::{Config, exec_in_executor, exec_in_executor_async, init_config};
use portage::event_loop::{running_loop, with_thread_event_loop};
use portage::pool::Shutdown;
use portage::time::sleep;
use portage::{EventLoop, ThreadPool};

type Outcome<T> = Result<T, Box<dyn Error>>;

const A_MOMENT: Duration = Duration::from_millis(20);

/// Blocks its thread, as reading a file would.
fn blocking_io(x: i32, y: i32) -> i32 {
    thread::sleep(A_MOMENT);
    x + y
}

/// Waits without blocking.
async fn sample_coroutine(x: i32, y: i32) -> i32 {
    sleep(A_MOMENT).await;
    x * y
}

/// Async code that blocks all the same, somewhere deep down in a library.
async fn badly_behaved_coroutine(x: i32, y: i32) -> i32 {
    blocking_io(x, y) + sample_coroutine(x, y).await
}

/// Blocking code that needs async code: its worker has a loop ready for that.
fn blocking_io_with_async_inside() -> Result<i32, String> {
    thread::sleep(A_MOMENT);
    with_thread_event_loop(|this_thread| this_thread.run_until_complete(sample_coroutine(2, 3)))
        .map_err(|error| error.to_string())
}

/// Old code on the loop's thread that cannot `await`.
fn legacy_calls_blocking() -> Outcome<i32> {
    Ok(exec_in_executor(None, blocking_io_with_async_inside)?.wait()??)
}

fn legacy_calls_async() -> Outcome<i32> {
    Ok(exec_in_executor_async(None, || sample_coroutine(2, 3))?.wait()?)
}

async fn five_shapes(pool: ThreadPool) -> Outcome<()> {
    init_config(Config::new().executor(Arc::new(pool)))?;

    let sum = exec_in_executor(None, || blocking_io(2, 3))?.await?;
    println!("1. async calls blocking code:                   2 + 3 = {sum}");

    let product = legacy_calls_blocking()?;
    println!("2. blocking calls blocking that drives async:   2 * 3 = {product}");

    let product = exec_in_executor(None, blocking_io_with_async_inside)?.await??;
    println!("3. async calls blocking that drives async:      2 * 3 = {product}");

    let both = exec_in_executor_async(None, || badly_behaved_coroutine(2, 3))?.await?;
    println!("4. async moves badly behaved async elsewhere:   2 + 3 + 2 * 3 = {both}");

    let product = legacy_calls_async()?;
    println!("5. blocking calls async:                        2 * 3 = {product}");

    assert!(running_loop().is_some(), "the loop was never left");
    Ok(())
}

fn main() -> Outcome<()> {
    let pool = ThreadPool::builder().thread_name("five-shapes").build()?;
    EventLoop::new().run_until_complete(five_shapes(pool.clone()))??;
    let report = pool.shutdown(Shutdown::Drain);
    println!(
        "the pool has ended{}",
        if report.completed {
            ""
        } else {
            ", not in time"
        }
    );
    Ok(())
}
