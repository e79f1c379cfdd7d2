//! The scenarios: what is done, by whom, and what is asked of it.

mod batch;
mod blocking;
mod context;
mod fire_and_forget;
mod lane;
mod memory;
mod mixed;
mod promise;
mod round_trip;
pub mod scaling;
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
    mixed::MIXED,
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
    scaling::THREADS,
    scaling::PRODUCERS,
    scaling::BURST,
];

/// What is performed only where it is asked for by its name: how far anybody could get.
pub const BOUNDS: &[Scenario] = &[mixed::BOUNDS, lane::BOUNDS, service::BOUNDS];

/// How far anybody could get in a row of latencies: next to tokio each of these, and what all such
/// rows compare. `threads` stand by and are only to be woken; a number is another size.
macro_rules! bounds {
    ($row:literal, $name:literal, $bar:expr $(, $ours:literal: $what:literal)*) => {
        bounds!(@all $row, $name, $bar,
            "portage": "as it is",
            $($ours: $what,)*
            "threads": "a thread stands by for each",
            "tokio 2": "tokio with 2 threads",
            "portage 1": "a core of 1",
            "portage 3": "a core of 3",
            "portage 4": "a core of 4",
            "portage 8": "a core of 8")
    };
    (@all $row:literal, $name:literal, $bar:expr, $($ours:literal: $what:literal),*) => {
        Scenario {
            name: $name,
            contenders: &["tokio", $($ours),*],
            enter,
            checks: &[$(
                Check::ratio($row, concat!("bounds: ", $what), "p99_us", TOKIO, $bar).ours($ours)
            ),*],
        }
    };
}
use bounds;

/// Nanoseconds that `work` takes, for each of `count`.
fn nanoseconds_each(count: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / count as f64
}

/// Does `work` on so many threads, or right here if it is one.
fn wait_for_all(threads: usize, work: impl Fn(usize) + Sync) {
    if threads == 1 {
        return work(0);
    }
    std::thread::scope(|scope| {
        for n in 0..threads {
            let work = &work;
            scope.spawn(move || work(n));
        }
    });
}

/// The quantiles that are kept of latencies.
pub const QUANTILES: &[(&str, f64)] = &[
    ("p10_us", 0.1),
    ("p25_us", 0.25),
    ("p50_us", 0.5),
    ("p75_us", 0.75),
    ("p90_us", 0.9),
    ("p95_us", 0.95),
    ("p99_us", 0.99),
    ("p99.5_us", 0.995),
    ("p99.9_us", 0.999),
];

/// The quantiles of latencies, in microseconds.
fn percentiles(latencies: &hdrhistogram::Histogram<u64>) -> crate::Sample {
    let quantiles = QUANTILES.iter();
    quantiles.fold(crate::Sample::default(), |sample, (name, quantile)| {
        let value = latencies.value_at_quantile(*quantile);
        sample.and(name, value as f64 / 1e3)
    })
}

fn histogram() -> hdrhistogram::Histogram<u64> {
    hdrhistogram::Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("valid bounds")
}
