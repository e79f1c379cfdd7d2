//! Row 8: a tree of jobs, each of which spawns two from inside the pool.

use super::nanoseconds_each;
use crate::pools::{Gate, Pool, WithPool, with_pool};
use crate::{Check, Contender, Sample, Scenario};

pub const DEPTH_16: Scenario = Scenario {
    name: "tree",
    contenders: &["portage", "tokio", "tokio spawn", "rayon"],
    enter: |name, _| with_pool(name, Some(2), Tree(16)),
    checks: &[
        Check::ratio(
            8,
            "a tree of jobs, depth 16, beside bare boxes",
            "ns",
            &["rayon"],
            1.5,
        ),
        Check::ratio(8, "a tree of jobs, depth 16", "ns", &["tokio"], 0.5),
    ],
};

struct Tree(u32);

impl WithPool for Tree {
    type Output = Box<dyn Contender>;

    fn with(self, pool: impl Pool) -> Self::Output {
        let nodes = (2 << self.0) - 1;
        Box::new(move || {
            let gate = Gate::new(nodes);
            let ns = nanoseconds_each(nodes, || {
                grow(&pool, &gate, self.0);
                gate.wait();
            });
            Sample::of("ns", ns)
        })
    }
}

fn grow<P: Pool>(pool: &P, gate: &Gate, depth: u32) {
    let (inside, passed) = (pool.clone(), gate.clone());
    pool.execute(move || {
        if depth > 0 {
            grow(&inside, &passed, depth - 1);
            grow(&inside, &passed, depth - 1);
        }
        passed.pass();
    });
}
