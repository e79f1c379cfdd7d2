//! Row 11: few jobs that sleep among many that compute shortly, at a fixed rate of arrivals.
//!
//! What is measured is the wait in the queue: from the moment at which a job arrives until it
//! begins. It arrives when it is due or, if that is later, when the alarm of the one that submits
//! goes off: how late an alarm is, the machine decides, for all contenders alike. Time that is lost
//! after the alarm counts, in a submission too: what comes due meanwhile has arrived.
//!
//! Each round begins with a new pool, which has [`WARM_UP`] arrivals to find its size. The rest are
//! so many that 27 lie above the 99th of 100.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::blocking::{compute, on_a_new_pool};
use super::{bounds, histogram, percentiles};
use crate::pools::Gate;
use crate::{Check, Contender, Effort, Scenario, system};

const TOKIO: &[&str] = &["tokio"];

/// Per second.
const RATE: u32 = 3_000;

/// Arrivals that are not counted, and arrivals that are.
const WARM_UP: usize = 300;
const COUNTED: usize = 2_700;

pub const MIXED: Scenario = Scenario {
    name: "mixed",
    contenders: &["portage", "tokio"],
    enter,
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

/// What anybody could gain.
pub const BOUNDS: Scenario = bounds!(11, "mixed-bounds", 1.0);

fn enter(name: &str, effort: Effort) -> Box<dyn Contender> {
    let arrivals = WARM_UP + COUNTED * effort.scale;
    on_a_new_pool(name, move |execute| {
        system::sharpen_deadlines();
        let waits: Arc<[AtomicU64]> = (0..arrivals).map(|_| AtomicU64::new(0)).collect();
        let gate = Gate::new(arrivals);
        let mut late = histogram();
        let start = Instant::now();
        let mut alarm = start;
        for n in 0..arrivals {
            let due = start + Duration::from_secs(1) / RATE * n as u32;
            let left = due.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                std::thread::sleep(left);
                alarm = Instant::now();
            }
            let arrives = due.max(alarm);
            late.saturating_record((arrives - due).as_nanos() as u64);
            let (waits, gate) = (waits.clone(), gate.clone());
            execute(Box::new(move || {
                let wait = arrives.elapsed().as_nanos() as u64;
                waits[n].store(wait, Ordering::Relaxed);
                match n % 100 {
                    50 => std::thread::sleep(Duration::from_millis(5)),
                    _ => compute(10),
                }
                gate.pass();
            }));
        }
        gate.wait();
        let mut counted = histogram();
        for wait in &waits[WARM_UP..] {
            counted.saturating_record(wait.load(Ordering::Relaxed));
        }
        percentiles(&counted).and("late_p99_us", late.value_at_quantile(0.99) as f64 / 1e3)
    })
}
