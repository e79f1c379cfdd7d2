//! Row 13: ten thousand sleeps of 1 to 10 ms.

use std::future::Future;
use std::time::{Duration, Instant};

use super::{histogram, percentiles};
use crate::pools::{Portage, tokio_runtime};
use crate::{Check, Contender, Effort, Sample, Scenario};

const SLEEPS: u64 = 10_000;

pub const SLEEPS_10000: Scenario = Scenario {
    name: "timers",
    contenders: &["portage", "tokio"],
    enter,
    checks: &[
        Check::ratio(
            13,
            "10 000 sleeps of 1 to 10 ms: lateness",
            "p99_us",
            &["tokio"],
            0.5,
        )
        .tie(1.15),
        Check::ratio(13, "10 000 sleeps of 1 to 10 ms", "cpu", &["tokio"], 1.0).tie(1.15),
    ],
};

fn enter(name: &str, _: Effort) -> Box<dyn Contender> {
    if name == "portage" {
        let pool = Portage::new(Some(2)).0;
        return Box::new(move || {
            let tasks: Vec<_> = durations()
                .map(|time| pool.spawn(lateness(due(time), portage::time::sleep(time))))
                .collect();
            summary(tasks.into_iter().map(|task| task.wait().expect("it ends")))
        });
    }
    let runtime = tokio_runtime(Some(2));
    Box::new(move || {
        let entered = runtime.enter();
        let tasks: Vec<_> = durations()
            .map(|time| runtime.spawn(lateness(due(time), tokio::time::sleep(time))))
            .collect();
        drop(entered);
        summary(
            tasks
                .into_iter()
                .map(|task| runtime.block_on(task).expect("it ends")),
        )
    })
}

/// 1 to 10 ms, spread evenly, in no order.
fn durations() -> impl Iterator<Item = Duration> {
    (0..SLEEPS).map(|n| Duration::from_micros(1_000 + n * 7_919 % 9_000))
}

/// When a sleep that is made now is to end.
fn due(time: Duration) -> Instant {
    Instant::now() + time
}

/// How much later than it could have ended did it? Not before its task was polled once: how long
/// that takes is no matter of timers.
async fn lateness(due: Instant, sleep: impl Future) -> Duration {
    let earliest = due.max(Instant::now());
    sleep.await;
    Instant::now().saturating_duration_since(earliest)
}

fn summary(late: impl Iterator<Item = Duration>) -> Sample {
    let mut latencies = histogram();
    late.for_each(|late| latencies.saturating_record(late.as_nanos() as u64));
    percentiles(&latencies)
}
