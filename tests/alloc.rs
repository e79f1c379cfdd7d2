//! Allocations are counted, not timed: one per job or task with its handle, none more for an
//! empty context.

#![cfg(not(loom))]

#[path = "kit/counting.rs"]
mod counting;

use std::future::poll_fn;
use std::task::Poll;

use portage::context::ContextVar;
use portage::promise::promise;
use portage::{EventLoop, Job, JoinError, ThreadPool};

/// Allocations and bytes of this thread during `f`.
fn cost<R>(f: impl FnOnce() -> R) -> (usize, usize, R) {
    let (allocated, value) = counting::here(f);
    (allocated.calls, allocated.bytes, value)
}

/// Like [`cost`], without what only the first call pays.
fn warm_cost<R>(mut f: impl FnMut() -> R) -> (usize, usize) {
    for _ in 0..3 {
        drop(f());
    }
    let (calls, bytes, value) = cost(&mut f);
    drop(value);
    (calls, bytes)
}

fn closure_of_32_bytes() -> impl FnOnce() -> u64 + Send + 'static {
    let data = std::hint::black_box([1u64; 4]);
    move || std::hint::black_box(data).iter().sum()
}

#[test]
fn the_counter_counts() {
    let (calls, bytes, _) = cost(|| Box::new([0u8; 40]));
    assert_eq!((calls, bytes), (1, 40));
    assert_eq!(cost(|| 1).0, 0);
}

#[test]
fn a_promise_is_one_allocation() {
    let (calls, _) = warm_cost(|| {
        let (writer, reader) = promise::<u64>();
        writer.resolve(1).expect("nobody cancelled");
        reader.wait().expect("a value")
    });
    assert_eq!(calls, 1);
}

#[test]
fn looking_starting_and_cancelling_allocate_nothing() {
    let (writer, mut reader) = promise::<u64>();
    let (calls, _, ()) = cost(|| {
        assert!(writer.start());
        let _ = (reader.is_finished(), reader.is_running(), reader.id());
        assert!(reader.try_take().is_none());
        let _ = reader.cancel();
        let copy = reader.cancel_handle().clone();
        let _ = copy.is_cancelled();
    });
    assert_eq!(calls, 0);
}

#[test]
fn a_promise_dropped_unresolved_allocates_no_more() {
    let (calls, _) = warm_cost(|| {
        let (writer, reader) = promise::<u64>();
        drop(writer);
        reader.wait().expect_err("lost")
    });
    assert_eq!(calls, 1);
    let (calls, _) = warm_cost(|| {
        let (_writer, reader) = promise::<u64>();
        let _ = reader.cancel();
        reader.wait().expect_err("cancelled")
    });
    assert_eq!(calls, 1);
}

#[test]
fn an_error_without_text_allocates_nothing() {
    assert_eq!(warm_cost(JoinError::cancelled).0, 0);
}

#[test]
fn a_job_with_its_handle_is_one_allocation() {
    let closure = closure_of_32_bytes();
    assert_eq!(size_of_val(&closure), 32);
    drop(closure);
    let (calls, bytes) = warm_cost(|| {
        let (job, handle) = Job::new(closure_of_32_bytes());
        job.run();
        handle.wait().expect("a value")
    });
    assert_eq!(calls, 1);
    assert!(bytes <= 128, "{bytes} bytes");
}

#[test]
fn the_output_shares_the_block_of_the_closure() {
    let (calls, bytes) = warm_cost(|| {
        let (job, handle) = Job::new(|| [7u64; 8]);
        job.run();
        handle.wait().expect("a value")
    });
    assert_eq!(calls, 1);
    assert!(bytes <= 160, "{bytes} bytes");
}

#[test]
fn a_job_with_a_static_name_costs_what_is_written_down() {
    let (calls, _) = warm_cost(|| {
        let (job, handle) = Job::named("static", || 1);
        job.run();
        handle.wait().expect("a value")
    });
    assert!(calls <= 2, "{calls} allocations");
}

#[test]
fn capturing_a_context_allocates_nothing() {
    static NUMBER: ContextVar<u64> = ContextVar::new("number");
    let _scope = NUMBER.scope(5);
    let (calls, _) = warm_cost(|| {
        let (job, handle) = Job::new(|| NUMBER.with(|number| number.copied()));
        job.run();
        assert_eq!(handle.wait().expect("a value"), Some(5));
    });
    assert_eq!(calls, 1, "capturing is O(1)");
}

#[test]
fn waiting_and_polling_allocate_nothing() {
    let (writer, mut reader) = promise::<u64>();
    let waker = std::task::Waker::noop();
    let mut cx = std::task::Context::from_waker(waker);
    let mut poll = || {
        let mut look = std::pin::pin!(poll_fn(|cx| {
            let pending = std::pin::Pin::new(&mut reader).poll(cx).is_pending();
            assert!(pending);
            Poll::Ready(())
        }));
        assert!(look.as_mut().poll(&mut cx).is_ready());
    };
    poll();
    assert_eq!(cost(&mut poll).0, 0);
    drop(writer);
}

// --- on a pool and a loop -----------------------------------------------------------------------

/// Allocations and bytes per call of `f`, over many, without what only the first calls pay;
/// the queues' own share, a block now and then, is why this is a mean.
fn mean_cost<R>(calls: usize, mut f: impl FnMut() -> R) -> (f64, f64) {
    for _ in 0..200 {
        drop(f());
    }
    let (count, bytes, ()) = cost(|| {
        for _ in 0..calls {
            drop(f());
        }
    });
    let calls = calls as f64;
    (count as f64 / calls, bytes as f64 / calls)
}

fn pool() -> ThreadPool {
    let pool = ThreadPool::builder().core_threads(1).max_threads(1).build();
    pool.expect("legal sizes")
}

#[test]
fn spawn_blocking_and_wait_are_one_allocation_of_128_bytes_at_most() {
    let pool = pool();
    let (count, bytes) = mean_cost(2000, || {
        let handle = pool.spawn_blocking(closure_of_32_bytes());
        handle.wait().expect("a value")
    });
    assert!(count <= 1.05, "{count} allocations per job");
    assert!(count >= 0.99, "the counter sees nothing");
    assert!(
        bytes <= 128.0 + 32.0,
        "{bytes} bytes per job, the queue's share included"
    );
}

#[test]
fn a_job_costs_its_worker_no_allocation() {
    let pool = pool();
    let run = |pool: &ThreadPool| {
        let handles = pool.spawn_batch((0..100).map(|_| closure_of_32_bytes()));
        for handle in handles {
            handle.wait().expect("a value");
        }
    };
    let so_far = || {
        let worker = pool.spawn_blocking(counting::so_far);
        worker.wait().expect("a value")
    };
    run(&pool);
    let (_, calls) = counting::here(|| {
        let before = so_far();
        run(&pool);
        (so_far() - before).calls
    });
    assert!(calls <= 5, "{calls} allocations for 100 jobs");
}

#[test]
fn a_task_with_its_handle_is_one_allocation() {
    let pool = pool();
    let (count, _) = mean_cost(2000, || pool.spawn(async { 1u64 }).wait().expect("a value"));
    assert!(count <= 1.05, "{count} allocations per task");

    let events = EventLoop::new();
    let (count, _) = mean_cost(500, || {
        let task = events.spawn_local(async { 1u64 });
        let value = events.run_until_complete(task).expect("it is idle");
        value.expect("a value")
    });
    assert!(count <= 1.05, "{count} allocations per local task");
}

#[test]
fn wakes_and_yields_of_a_task_allocate_nothing() {
    let events = EventLoop::new();
    let round = |rounds: usize| {
        let task = events.spawn_local(async move {
            for _ in 0..rounds {
                portage::time::yield_now().await;
            }
        });
        let value = events.run_until_complete(task).expect("it is idle");
        value.expect("a value");
    };
    round(1000);
    let (count, _, ()) = cost(|| round(1000));
    assert!(count <= 2, "{count} allocations for 1000 yields");
}

#[test]
fn a_context_with_variables_costs_no_more_on_a_pool() {
    static NUMBER: ContextVar<u64> = ContextVar::new("number");
    let pool = pool();
    let _scope = NUMBER.scope(3);
    let (count, _) = mean_cost(1000, || {
        let handle = pool.spawn_blocking(|| NUMBER.get());
        assert_eq!(handle.wait().expect("a value"), Some(3));
    });
    assert!(count <= 1.05, "{count} allocations per job");
}
