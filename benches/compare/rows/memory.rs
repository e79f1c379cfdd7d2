//! Rows 17 and 18: what a job allocates, and what an idle pool does.

use std::hint::black_box;
use std::sync::mpsc;
use std::time::Duration;

use crate::counting;
use crate::pools::{Gate, Pool, WithPool, with_pool};
use crate::system::Usage;
use crate::{Check, Contender, Sample, Scenario};

pub const PER_JOB: Scenario = Scenario {
    name: "allocations",
    contenders: &["portage", "tokio", "blocking", "rayon"],
    enter: |name, _| with_pool(name, Some(2), Allocate),
    checks: &[
        Check::count(
            17,
            "a 32-byte closure, its share of the queue with it",
            "allocations",
            1.03,
        ),
        Check::count(
            17,
            "a 32-byte closure, its share of the queue with it",
            "bytes",
            154.0,
        ),
    ],
};

struct Allocate;

impl WithPool for Allocate {
    type Output = Box<dyn Contender>;

    fn with(self, pool: impl Pool) -> Self::Output {
        const JOBS: usize = 10_000;
        Box::new(move || {
            // The workers wait, so that nothing of what they do is counted.
            let (release, held) = mpsc::channel::<()>();
            let held = std::sync::Arc::new(std::sync::Mutex::new(held));
            let gate = Gate::new(JOBS + 2);
            for _ in 0..2 {
                let (held, gate) = (held.clone(), gate.clone());
                pool.execute(move || {
                    let _ = held.lock().map(|held| held.recv());
                    gate.pass();
                });
            }
            let (allocated, ()) = counting::everywhere(|| {
                for n in 0..JOBS as u64 {
                    let (gate, more) = (gate.clone(), [n; 3]);
                    pool.execute(move || {
                        black_box(more);
                        gate.pass();
                    });
                }
            });
            drop(release);
            gate.wait();
            Sample::of("allocations", allocated.calls as f64 / JOBS as f64)
                .and("bytes", allocated.bytes as f64 / JOBS as f64)
        })
    }
}

pub const IDLE: Scenario = Scenario {
    name: "idle",
    contenders: &["portage", "tokio"],
    enter: |name, _| with_pool(name, Some(2), Rest),
    checks: &[
        Check::count(18, "idle after a burst, in a second", "wakes", 0.0),
        Check::count(18, "idle after a burst, in a second", "idle_cpu_ms", 1.0),
    ],
};

struct Rest;

impl WithPool for Rest {
    type Output = Box<dyn Contender>;

    fn with(self, pool: impl Pool) -> Self::Output {
        Box::new(move || {
            pool.call_many(10_000);
            std::thread::sleep(Duration::from_millis(100));
            let before = Usage::now();
            let start = std::time::Instant::now();
            std::thread::sleep(Duration::from_millis(400));
            let (after, seconds) = (Usage::now(), start.elapsed().as_secs_f64());
            // One switch is this very sleep.
            let wakes = (after.switches - before.switches).saturating_sub(1);
            let cpu = (after.cpu - before.cpu).as_secs_f64() * 1e3;
            Sample::of("wakes", wakes as f64 / seconds).and("idle_cpu_ms", cpu / seconds)
        })
    }
}
