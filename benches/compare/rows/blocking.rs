//! Rows 9 to 11: jobs that sleep, jobs that compute, and both mixed, at the pools' own sizes.
//!
//! Each round begins with a new pool, because what is compared is how it grows.

use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{histogram, percentiles};
use crate::pools::{Gate, Pool, Portage, TokioBlocking, tokio_runtime};
use crate::{Check, Contender, Effort, Sample, Scenario, system};

const CONTENDERS: &[&str] = &["portage", "tokio"];
const TOKIO: &[&str] = &["tokio"];

macro_rules! sleepers {
    ($name:ident, $id:literal, $count:literal, $time:literal, $what:literal) => {
        pub const $name: Scenario = Scenario {
            name: $id,
            contenders: CONTENDERS,
            enter: |name, _| {
                burst(name, $count, || {
                    std::thread::sleep(Duration::from_millis($time))
                })
            },
            checks: &[
                Check::ratio(9, $what, "ms", TOKIO, 1.1),
                Check::ratio(9, $what, "threads", TOKIO, 1.0).tie(1.0),
            ],
        };
    };
}
sleepers!(SLEEPERS_200, "sleepers-200", 200, 5, "200 jobs sleep 5 ms");
sleepers!(
    SLEEPERS_1000,
    "sleepers-1000",
    1_000,
    1,
    "1 000 jobs sleep 1 ms"
);
sleepers!(SLEEPERS_30, "sleepers-30", 30, 5, "30 jobs sleep 5 ms");

pub const LONG_CPU: Scenario = Scenario {
    name: "cpu-200",
    contenders: CONTENDERS,
    enter: |name, _| burst(name, 200, || compute(2_000)),
    checks: &[
        Check::ratio(10, "200 jobs compute 2 ms", "ms", TOKIO, 1.0),
        Check::count(10, "200 jobs compute 2 ms", "threads_above_core", 1.0),
    ],
};

pub const SHORT_CPU: Scenario = Scenario {
    name: "cpu-20000",
    contenders: CONTENDERS,
    enter: |name, _| burst(name, 20_000, || compute(5)),
    checks: &[
        Check::ratio(10, "20 000 jobs compute 5 us", "ms", TOKIO, 1.0),
        Check::count(10, "20 000 jobs compute 5 us", "threads_above_core", 1.0),
    ],
};

pub const MIXED: Scenario = Scenario {
    name: "mixed",
    contenders: CONTENDERS,
    enter: mixed,
    checks: &[
        Check::ratio(
            11,
            "1 % sleep 5 ms, the rest 10 us, 3 000/s: wait",
            "p99_us",
            TOKIO,
            1.0,
        ),
        Check::count(
            11,
            "1 % sleep 5 ms, the rest 10 us, 3 000/s",
            "threads_above_core",
            2.0,
        ),
    ],
};

/// About so many microseconds of one CPU, whoever else runs.
fn compute(microseconds: u64) {
    let mut x = microseconds;
    for _ in 0..microseconds * 700 {
        x = black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
    black_box(x);
}

/// Makes a new pool for `round`, and tells how many threads it had at the end.
fn on_a_new_pool(
    name: &str,
    mut round: impl FnMut(&dyn Fn(Job)) -> Sample + 'static,
) -> Box<dyn Contender> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    if name == "portage" {
        return Box::new(move || {
            let pool = Portage::new(None);
            let sample = round(&|job| pool.execute(job));
            let metrics = pool.0.metrics();
            pool.0.shutdown(portage::pool::Shutdown::Drain);
            let above = metrics.threads_peak.saturating_sub(cpus);
            sample
                .and("threads", metrics.threads_peak as f64)
                .and("threads_above_core", above as f64)
        });
    }
    Box::new(move || {
        let runtime = tokio_runtime(None);
        let before = system::threads();
        let pool = TokioBlocking(runtime);
        let sample = round(&|job| pool.execute(job));
        let threads = system::threads() - before;
        sample.and("threads", threads as f64)
    })
}

type Job = Box<dyn FnOnce() + Send>;

fn burst(name: &str, count: usize, work: fn()) -> Box<dyn Contender> {
    on_a_new_pool(name, move |execute| {
        let gate = Gate::new(count);
        let start = Instant::now();
        for _ in 0..count {
            let gate = gate.clone();
            execute(Box::new(move || {
                work();
                gate.pass();
            }));
        }
        gate.wait();
        Sample::of("ms", start.elapsed().as_secs_f64() * 1e3)
    })
}

/// Arrivals at a fixed rate; the wait of each counts from when it was due.
fn mixed(name: &str, effort: Effort) -> Box<dyn Contender> {
    let arrivals = 900 * effort.scale;
    let interval = Duration::from_secs(1) / 3_000;
    on_a_new_pool(name, move |execute| {
        let waits = Arc::new(Mutex::new(histogram()));
        let gate = Gate::new(arrivals);
        let start = Instant::now();
        for n in 0..arrivals {
            let due = start + interval * n as u32;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let (waits, gate) = (waits.clone(), gate.clone());
            execute(Box::new(move || {
                let wait = due.elapsed().as_nanos() as u64;
                if let Ok(mut waits) = waits.lock() {
                    waits.saturating_record(wait);
                }
                match n % 100 {
                    50 => std::thread::sleep(Duration::from_millis(5)),
                    _ => compute(10),
                }
                gate.pass();
            }));
        }
        gate.wait();
        let waits = waits.lock().expect("nobody panicked");
        percentiles(&waits)
    })
}
