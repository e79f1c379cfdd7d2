//! Rows 9 and 10: jobs that sleep, and jobs that compute, at the pools' own sizes.
//!
//! Each round begins with a new pool, because what is compared is how it grows.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::pools::{Gate, Pool, Portage, Threads, TokioBlocking, sized, tokio_runtime_with};
use crate::{Check, Contender, Sample, Scenario, system};

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

/// About so many microseconds of one CPU, whoever else runs.
pub(super) fn compute(microseconds: u64) {
    let mut x = microseconds;
    for _ in 0..microseconds * 700 {
        x = black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
    black_box(x);
}

/// Threads that stand by where one looks how soon a thread can begin at all.
const STANDING: usize = 8;

/// Makes a new pool for `round`, and tells how many threads it had at the end.
pub(super) fn on_a_new_pool(
    name: &str,
    mut round: impl FnMut(&dyn Fn(Job)) -> Sample + 'static,
) -> Box<dyn Contender> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let (name, size) = sized(name);
    if name == "portage" {
        return Box::new(move || {
            let pool = Portage::with_core(size);
            let sample = round(&|job| pool.execute(job));
            let metrics = pool.0.metrics();
            pool.0.shutdown(portage::pool::Shutdown::Drain);
            let above = metrics.threads_peak.saturating_sub(cpus);
            sample
                .and("threads", metrics.threads_peak as f64)
                .and("threads_above_core", above as f64)
        });
    }
    if name == "threads" {
        return Box::new(move || {
            let threads = Threads::new(STANDING);
            round(&|job| threads.execute(job))
        });
    }
    Box::new(move || {
        let runtime = tokio_runtime_with(None, size);
        let before = system::threads();
        let pool = TokioBlocking(runtime);
        let sample = round(&|job| pool.execute(job));
        let threads = system::threads() - before;
        sample.and("threads", threads as f64)
    })
}

pub(super) type Job = Box<dyn FnOnce() + Send>;

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
