//! Row 19: an end with 100 000 jobs in the queue.

use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use portage::pool::Shutdown;

use crate::pools::{Pool, Portage, TokioBlocking, tokio_runtime};
use crate::{Check, Contender, Effort, Sample, Scenario};

const QUEUED: usize = 100_000;

pub const CANCEL_QUEUED: Scenario = Scenario {
    name: "shutdown",
    contenders: &["portage", "tokio"],
    enter,
    checks: &[Check::ratio(
        19,
        "shutdown with 100 000 queued",
        "ms",
        &["tokio"],
        1.0,
    )],
};

fn enter(name: &str, _: Effort) -> Box<dyn Contender> {
    if name == "portage" {
        return Box::new(|| {
            let pool = Portage::new(Some(2));
            let release = fill(&pool);
            let start = Instant::now();
            drop(release);
            pool.0.shutdown(Shutdown::CancelQueued);
            Sample::of("ms", start.elapsed().as_secs_f64() * 1e3)
        });
    }
    Box::new(|| {
        let runtime = tokio_runtime(Some(2));
        let release = fill(&TokioBlocking(runtime.clone()));
        let runtime = Arc::into_inner(runtime).expect("the jobs do not hold it");
        let start = Instant::now();
        drop(release);
        runtime.shutdown_timeout(Duration::from_secs(60));
        Sample::of("ms", start.elapsed().as_secs_f64() * 1e3)
    })
}

/// Holds both threads until the answer is dropped, and queues behind them.
fn fill(pool: &impl Pool) -> mpsc::Sender<()> {
    let (release, held) = mpsc::channel();
    let held = Arc::new(Mutex::new(held));
    for _ in 0..2 {
        let held = held.clone();
        pool.execute(move || {
            let _ = held.lock().map(|held| held.recv());
        });
    }
    (0..QUEUED).for_each(|_| pool.execute(|| ()));
    release
}
