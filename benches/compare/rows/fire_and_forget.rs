//! Rows 1 to 3: empty jobs that nobody waits for, until the last one has run.

use std::sync::{Arc, Barrier};

use super::nanoseconds_each;
use crate::pools::{Gate, Pool, WithPool, with_pool};
use crate::{Check, Contender, Effort, Sample, Scenario};

const JOBS: usize = 100_000;

const CONTENDERS: &[&str] = &[
    "portage",
    "tokio",
    "tokio spawn",
    "blocking",
    "async-executor",
    "rayon",
    "futures",
    "threadpool",
    "rusty_pool",
    "rusty_pool handle",
];
/// A box in a queue: no handle, no outcome, no context.
const BARE: &[&str] = &["rayon", "futures", "threadpool", "rusty_pool"];
const HANDLE: &[&str] = &[
    "tokio",
    "tokio spawn",
    "blocking",
    "async-executor",
    "rusty_pool handle",
];

pub const ONE_PRODUCER: Scenario = Scenario {
    name: "fire-1",
    contenders: CONTENDERS,
    enter: |name, effort| with_pool(name, Some(2), Fire::of(1, effort)),
    checks: &[
        Check::ratio(
            1,
            "empty jobs, 1 producer, 2 threads",
            "ns",
            &["tokio"],
            0.35,
        ),
        Check::ratio(1, "the same, beside bare boxes", "ns", BARE, 1.5),
        Check::ratio(
            1,
            "the same, beside those with a handle",
            "ns",
            HANDLE,
            1.05,
        )
        .tie(1.0),
    ],
};

pub const FOUR_PRODUCERS: Scenario = Scenario {
    name: "fire-4",
    contenders: CONTENDERS,
    enter: |name, effort| with_pool(name, Some(2), Fire::of(4, effort)),
    checks: &[
        Check::ratio(
            2,
            "empty jobs, 4 producers, 2 threads",
            "ns",
            &["tokio"],
            0.5,
        ),
        Check::ratio(2, "the same, beside bare boxes", "ns", BARE, 1.5),
        Check::ratio(
            2,
            "the same, beside those with a handle",
            "ns",
            HANDLE,
            1.05,
        )
        .tie(1.0),
    ],
};

pub const DEFAULT_SIZE: Scenario = Scenario {
    name: "fire-default",
    contenders: &["portage", "tokio"],
    enter: |name, effort| with_pool(name, None, Fire::of(1, effort)),
    checks: &[Check::ratio(
        3,
        "empty jobs, default sizes",
        "ns",
        &["tokio"],
        0.1,
    )],
};

struct Fire {
    producers: usize,
    jobs: usize,
}

impl Fire {
    fn of(producers: usize, effort: Effort) -> Self {
        Self {
            producers,
            jobs: JOBS * effort.scale,
        }
    }
}

impl WithPool for Fire {
    type Output = Box<dyn Contender>;

    fn with(self, pool: impl Pool) -> Self::Output {
        let Self { producers, jobs } = self;
        let each = jobs / producers;
        Box::new(move || {
            let gate = Gate::new(each * producers);
            if producers == 1 {
                let ns = nanoseconds_each(jobs, || {
                    produce(&pool, &gate, each);
                    gate.wait();
                });
                return Sample::of("ns", ns);
            }
            let start = Arc::new(Barrier::new(producers + 1));
            let threads: Vec<_> = (0..producers)
                .map(|_| {
                    let (pool, gate, start) = (pool.clone(), gate.clone(), start.clone());
                    std::thread::spawn(move || {
                        start.wait();
                        produce(&pool, &gate, each);
                    })
                })
                .collect();
            let ns = nanoseconds_each(jobs, || {
                start.wait();
                gate.wait();
            });
            threads
                .into_iter()
                .for_each(|thread| thread.join().expect("a producer ends"));
            Sample::of("ns", ns)
        })
    }
}

fn produce(pool: &impl Pool, gate: &Gate, count: usize) {
    for _ in 0..count {
        let gate = gate.clone();
        pool.execute(move || gate.pass());
    }
}
