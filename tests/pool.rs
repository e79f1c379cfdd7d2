//! The contract of `portage::pool`, promise by promise.

#![cfg(not(loom))]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portage::ThreadPool;
use portage::pool::Shutdown;

fn pool(core: usize) -> ThreadPool {
    ThreadPool::builder().core_threads(core).build().unwrap()
}

#[test]
fn jobs_of_a_single_worker_run_first_in_first_out() {
    let pool = pool(1);
    let order = Arc::new(Mutex::new(Vec::new()));
    let (open, gate) = channel::<()>();
    let first = pool.spawn_blocking(move || gate.recv().unwrap());
    let jobs: Vec<_> = (0..100)
        .map(|n| {
            let order = order.clone();
            pool.spawn_blocking(move || order.lock().unwrap().push(n))
        })
        .collect();
    open.send(()).unwrap();
    first.wait().unwrap();
    jobs.into_iter().for_each(|job| job.wait().unwrap());
    assert_eq!(*order.lock().unwrap(), (0..100).collect::<Vec<_>>());
}

#[test]
fn a_drain_runs_everything() {
    let pool = pool(2);
    let ran = Arc::new(AtomicUsize::new(0));
    for _ in 0..10_000 {
        let ran = ran.clone();
        pool.spawn_blocking(move || ran.fetch_add(1, Ordering::Relaxed))
            .detach();
    }
    let report = pool.shutdown(Shutdown::Drain);
    assert!(report.completed);
    assert_eq!(ran.load(Ordering::Relaxed), 10_000);
    let metrics = pool.metrics();
    assert_eq!((metrics.submitted, metrics.completed), (10_000, 10_000));
    assert_eq!(
        (metrics.queued, metrics.running, metrics.threads),
        (0, 0, 0)
    );
}

#[test]
fn a_task_sleeps_and_ends() {
    let pool = pool(2);
    let task = pool.spawn(async {
        portage::time::sleep(Duration::from_millis(1)).await;
        5
    });
    assert_eq!(task.wait().unwrap(), 5);
}
