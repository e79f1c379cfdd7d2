//! What scraipe's `async_executors` does: futures run for a blocking program, one or many.
//!
//! Prints:
//!
//! ```text
//! one: 12
//! many: [0, 1, 4, 9, 16]
//! too slow: timed out
//! step by step: [3, 2, 1]
//! two loops share the load: [1, 1]
//! after the end: the runtime is shut down
//! ```

#![forbid(unsafe_code)]

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use portage::executors::{
    AsyncExecutor, AsyncExecutorExt, DefaultBackgroundExecutor, EventLoopPoolExecutor, RunMultiple,
};
use portage::promise;
use portage::time::sleep;

struct Countdown(u32);

impl Stream for Countdown {
    type Item = u32;
    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u32>> {
        let now = self.0;
        self.0 = now.saturating_sub(1);
        Poll::Ready((now > 0).then_some(now))
    }
}

/// Squares, as if they came from afar.
fn squares() -> impl Iterator<Item = impl Future<Output = u32> + Send> {
    (0..5).map(|number| async move {
        sleep(Duration::from_millis(1)).await;
        number * number
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let background = DefaultBackgroundExecutor::new()?;
    println!("one: {}", background.run(async { 5 + 7 })?);

    let results = background.run_multiple(squares(), RunMultiple::default());
    let mut values: Vec<u32> = results.filter_map(|result| result.output.ok()).collect();
    values.sort_unstable();
    println!("many: {values:?}");

    let hurry = RunMultiple {
        timeout: Some(Duration::from_millis(1)),
        ..RunMultiple::default()
    };
    let slow = [sleep(Duration::from_secs(60))];
    for result in background.run_multiple(slow, hurry) {
        if let Some(error) = result.exception() {
            println!("too slow: {error}");
        }
    }

    let steps: Result<Vec<u32>, _> = background.wrap_async_iterable(Countdown(3)).collect();
    println!("step by step: {:?}", steps?);

    let loops = EventLoopPoolExecutor::new(2)?;
    let (gates, tasks): (Vec<_>, Vec<_>) = (0..2)
        .map(|_| {
            let (gate, opened) = promise::<()>();
            (gate, loops.submit(opened))
        })
        .unzip();
    println!("two loops share the load: {:?}", loops.loads());
    for gate in gates {
        gate.resolve(()).map_err(|()| "nobody cancels it")?;
    }
    for task in tasks {
        task.wait()??;
    }

    background.shutdown(true);
    if let Err(error) = background.run(async { 1 }) {
        println!("after the end: {error}");
    }
    Ok(())
}
