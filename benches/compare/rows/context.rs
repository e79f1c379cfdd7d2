//! Row 16: what variables that are set add to a spawn.

use portage::{ContextVar, Job};

use super::nanoseconds_each;
use crate::{Check, Contender, Effort, Sample, Scenario};

pub const VARIABLES: Scenario = Scenario {
    name: "context",
    contenders: &["portage"],
    enter,
    checks: &[
        Check::count(
            16,
            "one variable set: more per spawn and run",
            "one_ns",
            10.0,
        ),
        Check::count(
            16,
            "100 variables set: more per spawn and run",
            "hundred_ns",
            15.0,
        ),
    ],
};

/// Made and run on one thread, so that only this is measured; the best of several goes,
/// because a difference of two times that were disturbed says nothing.
fn enter(_: &str, effort: Effort) -> Box<dyn Contender> {
    let variables: Vec<ContextVar<u64>> = (0..100).map(|_| ContextVar::new("n")).collect();
    let variables: &'static [ContextVar<u64>] = variables.leak();
    let spawns = 20_000 * effort.scale;
    Box::new(move || {
        let best = |set: usize| {
            portage::copy_context().run(|| {
                for (n, variable) in variables[..set].iter().enumerate() {
                    let _ = variable.set(n as u64);
                }
                let once =
                    || nanoseconds_each(spawns, || (0..spawns).for_each(|_| spawn_and_run()));
                (0..7).map(|_| once()).fold(f64::INFINITY, f64::min)
            })
        };
        let none = best(0);
        Sample::of("none_ns", none)
            .and("one_ns", best(1) - none)
            .and("hundred_ns", best(100) - none)
    })
}

fn spawn_and_run() {
    let (job, handle) = Job::new(|| ());
    drop(handle);
    job.run();
}
