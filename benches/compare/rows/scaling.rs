//! Row 21, and the curves behind it: what a job costs with more threads, and with more producers.
//!
//! Jobs compute for two microseconds, each thread has its share of them. With more threads than
//! CPUs the contention is simulated: threads are taken off their CPU inside the queue, which is
//! when locks hurt. What more CPUs would add, lines of cache that travel, is not in it.

use std::time::{Duration, Instant};

use super::{nanoseconds_each, wait_for_all};
use crate::pools::{Gate, Pool, WithPool, with_pool};
use crate::{Check, Effort, Sample, Scenario, system};

const CONTENDERS: &[&str] = &[
    "portage",
    "tokio",
    "rayon",
    "threadpool",
    "rusty_pool handle",
];

/// How many threads, and how many producers.
pub const STEPS: &[usize] = &[1, 2, 4, 8, 16];

pub const THREADS: Scenario = Scenario {
    name: "scaling-threads",
    contenders: CONTENDERS,
    enter: |name, effort| {
        let mut rounds: Vec<_> = STEPS
            .iter()
            .map(|threads| {
                (
                    *threads,
                    with_pool(name, Some(*threads), Load::of(1, effort)),
                )
            })
            .collect();
        Box::new(move || {
            let mut sample = Sample::default();
            for (threads, round) in &mut rounds {
                sample = sample.and(&format!("at_{threads}"), round());
            }
            let at = |threads: usize| sample.get(&format!("at_{threads}")).unwrap_or(f64::NAN);
            let growth = at(16) / at(2);
            sample.and("growth", growth)
        })
    },
    checks: &[Check::ratio(
        21,
        "2 to 16 threads, contention simulated: cost per job",
        "growth",
        &["tokio"],
        1.0,
    )],
};

pub const PRODUCERS: Scenario = Scenario {
    name: "scaling-producers",
    contenders: CONTENDERS,
    enter: |name, effort| {
        let mut rounds: Vec<_> = STEPS
            .iter()
            .map(|count| (*count, with_pool(name, Some(2), Load::of(*count, effort))))
            .collect();
        Box::new(move || {
            rounds
                .iter_mut()
                .fold(Sample::default(), |sample, (count, round)| {
                    sample.and(&format!("at_{count}"), round())
                })
        })
    },
    checks: &[],
};

struct Load {
    producers: usize,
    jobs: usize,
}

impl Load {
    fn of(producers: usize, effort: Effort) -> Self {
        Self {
            producers,
            jobs: 8_000 * effort.scale,
        }
    }
}

impl WithPool for Load {
    type Output = Box<dyn FnMut() -> f64>;

    fn with(self, pool: impl Pool) -> Self::Output {
        let each = self.jobs / self.producers;
        Box::new(move || {
            let gate = Gate::new(each * self.producers);
            nanoseconds_each(each * self.producers, || {
                wait_for_all(self.producers, |_| {
                    for _ in 0..each {
                        let gate = gate.clone();
                        pool.execute(move || {
                            compute();
                            gate.pass();
                        });
                    }
                });
                gate.wait();
            })
        })
    }
}

/// About two microseconds, by work and not by the clock.
fn compute() {
    let mut sum = 0_u64;
    for n in 0..1_000_u64 {
        sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(n));
    }
    std::hint::black_box(sum);
}

/// Threads of the process while a burst of sleepers is worked off, once a millisecond.
pub const BURST: Scenario = Scenario {
    name: "burst-threads",
    contenders: &["portage", "tokio"],
    enter: |name, _| {
        let name = name.to_owned();
        // A new pool each time: how it grows is what is shown.
        Box::new(move || with_pool(&name, None, Burst))
    },
    checks: &[],
};

/// Milliseconds that are watched.
pub const WATCHED: usize = 60;

const JOBS: usize = 200;

struct Burst;

impl WithPool for Burst {
    type Output = Sample;

    fn with(self, pool: impl Pool) -> Sample {
        let gate = Gate::new(JOBS);
        let others = system::threads();
        let start = Instant::now();
        for _ in 0..JOBS {
            let gate = gate.clone();
            pool.execute(move || {
                std::thread::sleep(Duration::from_millis(5));
                gate.pass();
            });
        }
        let mut sample = Sample::default();
        for at in 0..WATCHED {
            let due = start + Duration::from_millis(at as u64);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let threads = system::threads().saturating_sub(others);
            sample = sample.and(&format!("at_{at}"), threads as f64);
        }
        gate.wait();
        sample
    }
}
