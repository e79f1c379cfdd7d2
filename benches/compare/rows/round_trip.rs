//! Rows 4 to 6: one empty job there and back, again and again.

use std::time::{Duration, Instant};

use super::{histogram, percentiles};
use crate::pools::{Pool, Portage, WithPool, tokio_runtime, with_pool};
use crate::{Check, Contender, Scenario};

const CONTENDERS: &[&str] = &[
    "portage",
    "tokio",
    "tokio spawn",
    "blocking",
    "async-executor",
    "rayon",
    "futures",
    "threadpool",
    "rusty_pool handle",
];
const PEERS: &[&str] = &[
    "tokio",
    "tokio spawn",
    "blocking",
    "async-executor",
    "rayon",
    "futures",
    "threadpool",
    "rusty_pool handle",
];

pub const BACK_TO_BACK: Scenario = Scenario {
    name: "round-trip",
    contenders: CONTENDERS,
    enter: |name, effort| {
        let trips = Trips {
            count: 4_000 * effort.scale,
            gap: None,
        };
        with_pool(name, Some(2), trips)
    },
    checks: &[
        Check::ratio(4, "round trip, back to back", "p50_us", &["tokio"], 1.0),
        Check::ratio(4, "round trip, back to back", "p99_us", &["tokio"], 0.8),
        Check::ratio(4, "the same, beside the best peer", "p50_us", PEERS, 1.0),
    ],
};

pub const WITH_GAPS: Scenario = Scenario {
    name: "round-trip-gaps",
    contenders: CONTENDERS,
    enter: |name, effort| {
        let trips = Trips {
            count: 400 * effort.scale,
            gap: Some(Duration::from_micros(200)),
        };
        with_pool(name, Some(2), trips)
    },
    checks: &[
        Check::ratio(4, "round trip, 200 us gaps", "p50_us", &["tokio"], 1.0).tie(1.15),
        Check::ratio(4, "round trip, 200 us gaps", "p99_us", &["tokio"], 0.8).tie(1.15),
        Check::ratio(
            4,
            "the same with gaps, beside the best peer",
            "p50_us",
            PEERS,
            1.0,
        )
        .tie(1.15),
    ],
};

struct Trips {
    count: usize,
    gap: Option<Duration>,
}

impl WithPool for Trips {
    type Output = Box<dyn Contender>;

    fn with(self, pool: impl Pool) -> Self::Output {
        Box::new(move || {
            let mut latencies = histogram();
            for _ in 0..self.count {
                if let Some(gap) = self.gap {
                    std::thread::sleep(gap);
                }
                let start = Instant::now();
                pool.call();
                latencies.saturating_record(start.elapsed().as_nanos() as u64);
            }
            percentiles(&latencies)
        })
    }
}

pub const HELPING: Scenario = Scenario {
    name: "round-trip-helping",
    contenders: &["portage", "tokio"],
    enter: |name, effort| {
        let count = 4_000 * effort.scale;
        if name != "portage" {
            return with_pool(name, Some(2), Trips { count, gap: None });
        }
        let pool = Portage::new(Some(2)).0;
        Box::new(move || {
            let mut latencies = histogram();
            for _ in 0..count {
                let start = Instant::now();
                pool.spawn_blocking(|| ()).wait_helping().expect("it runs");
                latencies.saturating_record(start.elapsed().as_nanos() as u64);
            }
            percentiles(&latencies)
        })
    },
    checks: &[Check::ratio(
        5,
        "round trip with `wait_helping`",
        "p50_us",
        &["tokio"],
        0.1,
    )],
};

pub const AWAITED: Scenario = Scenario {
    name: "round-trip-awaited",
    contenders: &["portage", "tokio"],
    enter: |name, effort| {
        let count = 4_000 * effort.scale;
        let runtime = tokio_runtime(Some(2));
        let pool = (name == "portage").then(|| Portage::new(Some(2)).0);
        Box::new(move || {
            let pool = pool.clone();
            let task = runtime.spawn(async move {
                let mut latencies = histogram();
                for _ in 0..count {
                    let start = Instant::now();
                    match &pool {
                        Some(pool) => pool.spawn_blocking(|| ()).await.expect("it runs"),
                        None => tokio::task::spawn_blocking(|| ()).await.expect("it runs"),
                    }
                    latencies.saturating_record(start.elapsed().as_nanos() as u64);
                }
                percentiles(&latencies)
            });
            runtime.block_on(task).expect("the task ends")
        }) as Box<dyn Contender>
    },
    checks: &[
        Check::ratio(
            6,
            "round trip awaited in a tokio task",
            "p50_us",
            &["tokio"],
            1.0,
        ),
        Check::ratio(
            6,
            "round trip awaited in a tokio task",
            "p99_us",
            &["tokio"],
            0.8,
        ),
    ],
};
