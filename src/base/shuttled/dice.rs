//! Who goes next, and when time passes. One number decides all of it.
//!
//! # The two ways
//!
//! * *Random*: at every step, any thread that can go on.
//! * *Priorities* (PCT; Burckhardt, Kothari, Musuvathi, Nagarakatte: A Randomized Scheduler with
//!   Probabilistic Guarantees of Finding Bugs, ASPLOS 2010): every thread has a random priority,
//!   the highest goes on, and at a few random steps whoever runs gets the lowest. That finds what
//!   needs one thread to stand still for long, which many dice in a row hardly ever make.
//!
//! # Time
//!
//! Who waits with a deadline stands still until nobody else can go on; then time jumps to the
//! first of these deadlines. In an *early* run it may do so at any step: no thread is promised to
//! be in time.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};

use crate::base::random::Random;
use crate::base::shuttled::{TimePasses, with};

/// Changes of priority in a run at most.
const CHANGES: usize = 4;

/// They lie within two to the power of this, at random, so that short and long runs get some.
const SPAN: usize = 14;

/// In an early run time passes at one of so many steps.
const EARLY: usize = 48;

/// Makes one run.
#[derive(Debug)]
pub(super) struct Dice {
    seed: Option<u64>,
    random: Random,
    /// `None`: the random way.
    ranks: Option<Ranks>,
    early: bool,
}

#[derive(Debug)]
struct Ranks {
    /// The greatest goes on.
    of: BTreeMap<usize, i64>,
    lowest: i64,
    steps: usize,
    changes: Vec<usize>,
}

impl Dice {
    pub(super) fn new(seed: u64, time: TimePasses) -> Self {
        let random = Random::new(seed);
        // the first numbers of seeds that lie close to each other are alike
        (0..8).for_each(|_| {
            random.next();
        });
        let ranks = (random.below(2) == 1).then(|| Ranks::new(&random));
        let early = time == TimePasses::AtAnyMoment && random.below(2) == 1;
        Self {
            seed: Some(seed),
            random,
            ranks,
            early,
        }
    }

    fn choose(&mut self, able: &[usize], current: Option<usize>, yields: bool) -> usize {
        match &mut self.ranks {
            None => able[self.random.below(able.len())],
            Some(ranks) => ranks.choose(
                &self.random,
                able,
                current.filter(|_| able.len() > 1),
                yields,
            ),
        }
    }
}

impl Ranks {
    fn new(random: &Random) -> Self {
        let change = |_| random.below(1 << (3 + random.below(SPAN - 2)));
        Self {
            of: BTreeMap::new(),
            lowest: 0,
            steps: 0,
            changes: (0..random.below(CHANGES + 1)).map(change).collect(),
        }
    }

    fn choose(
        &mut self,
        random: &Random,
        able: &[usize],
        current: Option<usize>,
        yields: bool,
    ) -> usize {
        for task in able {
            let rank = || 1 + (random.next() >> 2) as i64;
            self.of.entry(*task).or_insert_with(rank);
        }
        if let Some(current) = current {
            self.steps += 1;
            if yields || self.changes.contains(&self.steps) {
                self.lowest -= 1;
                self.of.insert(current, self.lowest);
            }
        }
        let best = able.iter().max_by_key(|task| self.of.get(task));
        *best.expect("somebody can go on")
    }
}

impl Scheduler for Dice {
    fn new_execution(&mut self) -> Option<Schedule> {
        self.seed.take().map(Schedule::new)
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        yields: bool,
    ) -> Option<TaskId> {
        let all = runnable.iter().map(|task| usize::from(task.id()));
        let early = self.early && self.random.below(EARLY) == 0;
        let able = able(all.collect(), early);
        let next = self.choose(&able, current.map(usize::from), yields);
        Some(TaskId::from(next))
    }

    fn next_u64(&mut self) -> u64 {
        self.random.next()
    }
}

/// Those who do not stand until a deadline; if there is none, or `early`, one whose deadline is
/// the first.
fn able(all: Vec<usize>, early: bool) -> Vec<usize> {
    let split = with(|world| {
        let first = all
            .iter()
            .filter_map(|task| Some((*world.sleepers.get(task)?, *task)));
        let first = first.min().map(|(_, task)| task);
        let awake = all.iter().filter(|task| !world.sleepers.contains_key(task));
        (awake.copied().collect::<Vec<_>>(), first)
    });
    match split {
        Some((awake, Some(first))) if early || awake.is_empty() => vec![first],
        Some((awake, _)) => awake,
        None => all,
    }
}
