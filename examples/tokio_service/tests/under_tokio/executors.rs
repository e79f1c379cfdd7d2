//! Executors that a program on tokio owns.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use portage::ThreadPool;
use portage::executors::{
    AsyncExecutor, AsyncExecutorExt, DefaultBackgroundExecutor, EventLoopPoolExecutor, RunMultiple,
};
use portage::time::sleep;

use crate::on_each;

fn executors() -> Vec<Box<dyn AsyncExecutor>> {
    let pool = ThreadPool::builder().core_threads(2).build();
    vec![
        Box::new(DefaultBackgroundExecutor::new().expect("a thread")),
        Box::new(EventLoopPoolExecutor::new(2).expect("two threads")),
        Box::new(pool.expect("legal sizes")),
    ]
}

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)).await
}

#[test]
fn their_task_awaits_what_it_submits() {
    on_each(|| async {
        for executor in executors() {
            let handle = executor.submit(async { 5 + 7 });
            assert_eq!(handle.await.expect("no panic"), 12);
            let never = executor.submit(sleep(Duration::MAX));
            executor.shutdown(false);
            assert!(never.await.is_err(), "every pending handle ends");
        }
    });
}

#[test]
fn a_batch_is_streamed_into_their_task() {
    on_each(|| async {
        for executor in executors() {
            let tasks = (0..50_u32).map(|i| async move {
                sleep(Duration::from_micros(50)).await;
                i
            });
            let mut results = executor.run_multiple_async(tasks, RunMultiple::default());
            let mut sum = 0;
            while let Some(result) = next(&mut results).await {
                sum += result.output.expect("no panic");
            }
            assert_eq!(sum, 1225);
        }
    });
}

#[test]
fn a_batch_dropped_by_an_aborted_task_stops() {
    on_each(|| async {
        for executor in executors() {
            let tokens = crate::kit::Drops::new();
            let tasks: Vec<_> = (0..20)
                .map(|_| {
                    let token = tokens.token();
                    async move {
                        let _token = token;
                        sleep(Duration::MAX).await;
                    }
                })
                .collect();
            let mut results = executor.run_multiple_async(tasks, RunMultiple::default());
            let task = tokio::spawn(async move { next(&mut results).await.is_some() });
            tokio::task::yield_now().await;
            task.abort();
            assert!(task.await.expect_err("aborted").is_cancelled());
            crate::kit::eventually("all are dropped", || tokens.live() == 0);
        }
    });
}

/// Counts down; wakes from their runtime between two items.
struct Down(
    u32,
    Option<tokio::task::JoinHandle<()>>,
    tokio::runtime::Handle,
);

impl Stream for Down {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u32>> {
        let runtime = self.2.clone();
        let pause = self
            .1
            .get_or_insert_with(|| runtime.spawn(tokio::task::yield_now()));
        if Pin::new(pause).poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.1 = None;
        self.0 = self.0.saturating_sub(1);
        Poll::Ready(Some(self.0).filter(|left| *left > 0))
    }
}

#[test]
fn blocking_code_of_theirs_iterates_over_a_stream_and_runs_futures() {
    on_each(|| async {
        for executor in executors() {
            let runtime = tokio::runtime::Handle::current();
            let blocking = tokio::task::spawn_blocking(move || {
                let items = executor.wrap_async_iterable(Down(5, None, runtime));
                let items: Result<Vec<_>, _> = items.collect();
                assert_eq!(items.expect("no panic"), [4, 3, 2, 1]);
                executor.run(async { 3 }).expect("no panic")
            });
            assert_eq!(blocking.await.expect("no panic"), 3);
        }
    });
}
