//! Row 7: a thousand jobs, each with its handle, waited for.

use super::nanoseconds_each;
use crate::pools::{Pool, Portage, WithPool, with_pool};
use crate::{Check, Contender, Effort, Sample, Scenario};

const JOBS: usize = 1_000;

pub const THOUSAND: Scenario = Scenario {
    name: "thousand",
    contenders: &["portage", "spawn_batch", "tokio"],
    enter,
    checks: &[
        Check::ratio(7, "1 000 jobs, wait for all", "ns", &["tokio"], 0.5),
        Check::ratio(7, "`spawn_batch` beside the loop", "ns", &["portage"], 0.5)
            .ours("spawn_batch"),
    ],
};

fn enter(name: &str, effort: Effort) -> Box<dyn Contender> {
    let times = 40 * effort.scale;
    if name != "spawn_batch" {
        return with_pool(name, Some(2), Loop(times));
    }
    let pool = Portage::new(Some(2)).0;
    Box::new(move || {
        let ns = nanoseconds_each(times * JOBS, || {
            for _ in 0..times {
                let handles = pool.spawn_batch((0..JOBS).map(|_| || ()));
                handles
                    .into_iter()
                    .for_each(|handle| handle.wait().expect("it runs"));
            }
        });
        Sample::of("ns", ns)
    })
}

struct Loop(usize);

impl WithPool for Loop {
    type Output = Box<dyn Contender>;

    fn with(self, pool: impl Pool) -> Self::Output {
        let times = self.0;
        Box::new(move || {
            let ns = nanoseconds_each(times * JOBS, || {
                (0..times).for_each(|_| pool.call_many(JOBS));
            });
            Sample::of("ns", ns)
        })
    }
}
