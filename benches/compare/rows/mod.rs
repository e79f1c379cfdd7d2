//! The scenarios: what is done, by whom, and what is asked of it.

mod batch;
mod blocking;
mod context;
mod fire_and_forget;
mod lane;
mod memory;
mod promise;
mod round_trip;
mod service;
mod shutdown;
mod tasks;
mod timers;
mod tree;

use std::time::Instant;

use crate::Scenario;

/// Every scenario, in the order of the rows.
pub const ALL: &[Scenario] = &[
    fire_and_forget::ONE_PRODUCER,
    fire_and_forget::FOUR_PRODUCERS,
    fire_and_forget::DEFAULT_SIZE,
    round_trip::BACK_TO_BACK,
    round_trip::WITH_GAPS,
    round_trip::HELPING,
    round_trip::AWAITED,
    batch::THOUSAND,
    tree::DEPTH_16,
    blocking::SLEEPERS_200,
    blocking::SLEEPERS_1000,
    blocking::SLEEPERS_30,
    blocking::LONG_CPU,
    blocking::SHORT_CPU,
    blocking::MIXED,
    tasks::SPAWN_AND_JOIN,
    tasks::PING_PONG,
    tasks::YIELD,
    timers::SLEEPS_10000,
    lane::CLOSURES_FROM_ANOTHER,
    promise::ONE_THREAD,
    promise::TWO_THREADS,
    context::VARIABLES,
    memory::PER_JOB,
    memory::IDLE,
    shutdown::CANCEL_QUEUED,
    service::OFFLOADING,
];

/// Nanoseconds that `work` takes, for each of `count`.
fn nanoseconds_each(count: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / count as f64
}

/// p50, p99 and p99.9 of latencies, in microseconds.
fn percentiles(latencies: &hdrhistogram::Histogram<u64>) -> crate::Sample {
    let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
    crate::Sample::of("p50_us", at(0.5))
        .and("p99_us", at(0.99))
        .and("p99.9_us", at(0.999))
}

fn histogram() -> hdrhistogram::Histogram<u64> {
    hdrhistogram::Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("valid bounds")
}
