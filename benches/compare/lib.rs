//! portage beside what one would otherwise pick.
//!
//! ```text
//! cargo bench -p portage-benches                  every row, quick: a few minutes
//! cargo bench -p portage-benches -- --full        more and longer rounds
//! cargo bench -p portage-benches -- 1 4 12        some rows
//! cargo bench -p portage-benches -- mixed-bounds  how far anybody could get in a row
//! cargo bench -p portage-benches -- --report      all, and refreshes benches/RESULTS.{md,json}
//! ```
//!
//! A machine that is shared with others does not repeat a time, but two things that are done in
//! turn meet the same weather. So each contender of a scenario lives in a process of its own
//! ([`stage`]), and these are asked for one round each, A B C A B C ...; what counts is the median
//! of the ratios of neighbouring rounds ([`verdict`]), with the smallest and the largest.
//!
//! A row that held in the kept results and now misses its bar by a wide margin is a failure, after
//! it was measured again ([`kept`]).
//!
//! A scenario is a file under [`rows`]. Its contenders share one small trait, [`Contender`].

#![deny(unsafe_op_in_unsafe_fn)]

#[path = "../../tests/kit/counting.rs"]
mod counting;
mod kept;
mod plot;
mod pools;
mod readme;
mod report;
mod rows;
mod stage;
mod system;
mod verdict;
mod why;

use std::process::ExitCode;

use crate::verdict::Line;

/// What one round of a contender showed: numbers by name.
///
/// The stage adds `cpu` (ms), `threads` and `switches` to what the round says itself.
#[derive(Clone, Debug, Default)]
pub struct Sample(pub Vec<(String, f64)>);

impl Sample {
    pub fn of(name: &str, value: f64) -> Self {
        Self::default().and(name, value)
    }

    pub fn and(mut self, name: &str, value: f64) -> Self {
        self.0.push((name.to_owned(), value));
        self
    }

    pub fn get(&self, name: &str) -> Option<f64> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| *value)
    }
}

/// Somebody who does the work of a scenario, one round at a time.
pub trait Contender {
    fn round(&mut self) -> Sample;
}

impl<F: FnMut() -> Sample> Contender for F {
    fn round(&mut self) -> Sample {
        self()
    }
}

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub rounds: usize,
    /// Multiplies the work of a round.
    pub scale: usize,
}

impl Effort {
    const QUICK: Self = Self {
        rounds: 9,
        scale: 1,
    };
    const FULL: Self = Self {
        rounds: 21,
        scale: 2,
    };
}

/// A piece of work, and who does it.
pub struct Scenario {
    pub name: &'static str,
    pub contenders: &'static [&'static str],
    /// Makes a contender, in its own process.
    pub enter: fn(contender: &str, effort: Effort) -> Box<dyn Contender>,
    pub checks: &'static [Check],
}

/// One line of the table.
pub struct Check {
    /// Its number in the list of bars.
    pub row: u32,
    pub what: &'static str,
    /// Which number of the samples; less is better.
    pub metric: &'static str,
    pub ours: &'static str,
    /// The best of these counts; with none, the number itself is held against the bar.
    pub peers: &'static [&'static str],
    pub bar: f64,
    /// What still counts as a tie.
    pub tie: f64,
}

impl Check {
    /// A ratio that is held against a bar; ties count up to 5 %.
    pub const fn ratio(
        row: u32,
        what: &'static str,
        metric: &'static str,
        peers: &'static [&'static str],
        bar: f64,
    ) -> Self {
        Self {
            row,
            what,
            metric,
            ours: "portage",
            peers,
            bar,
            tie: 1.05,
        }
    }

    /// A count that is held against a bar.
    pub const fn count(row: u32, what: &'static str, metric: &'static str, bar: f64) -> Self {
        Self {
            tie: 1.0,
            ..Self::ratio(row, what, metric, &[], bar)
        }
    }

    pub const fn tie(self, tie: f64) -> Self {
        Self { tie, ..self }
    }

    /// What its line is known by.
    pub fn name(&self) -> String {
        format!("row {}, {}, {}", self.row, self.what, self.metric)
    }

    pub const fn ours(self, ours: &'static str) -> Self {
        Self { ours, ..self }
    }
}

/// The program: a stage, or who asks the stages.
pub fn run() -> ExitCode {
    let mut full = false;
    let mut refresh = false;
    let mut wanted = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            stage::ARGUMENT => return stage::perform(arguments),
            "--full" => full = true,
            "--report" => refresh = true,
            // cargo says so
            "--bench" => {}
            other => wanted.push(other.to_owned()),
        }
    }
    let effort = if full { Effort::FULL } else { Effort::QUICK };
    let is_named = |scenario: &&Scenario| wanted.iter().any(|name| name == scenario.name);
    let is_wanted = |scenario: &&Scenario| {
        let chosen = |check: &Check| wanted.contains(&check.row.to_string());
        wanted.is_empty() || is_named(scenario) || scenario.checks.iter().any(chosen)
    };
    let bounds = rows::BOUNDS.iter().filter(is_named);
    let share = system::share();
    let mut lines = Vec::new();
    let mut runs = Vec::new();
    for scenario in rows::ALL.iter().filter(is_wanted).chain(bounds) {
        eprintln!("{} ...", scenario.name);
        let run = stage::run(scenario, effort);
        lines.extend(verdict::lines(scenario, &run));
        runs.push((scenario.name, run));
    }
    report::show(&mut lines, &runs, effort);
    if refresh {
        if wanted.is_empty() {
            report::keep(&lines, &runs, effort);
        }
        return ExitCode::SUCCESS;
    }
    let lost = still_lost(&lines, effort, share);
    for line in &lost {
        eprintln!("held before, does not by far: {line}");
    }
    if lost.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The lines that seem lost, and seem it again each time that they are measured once more.
///
/// `share` is what a thread had of a CPU before they were measured.
fn still_lost(lines: &[Line], effort: Effort, share: f64) -> Vec<String> {
    let kept = report::kept();
    let mut share = share.min(system::share());
    let mut lost = kept.lost(lines, share);
    for _ in 0..kept::AGAIN {
        if lost.is_empty() {
            break;
        }
        eprintln!("a thread has {:.0} % of a CPU", share * 100.0);
        let touched = |scenario: &&Scenario| {
            let mut checks = scenario.checks.iter();
            checks.any(|check| lost.contains(&check.name()))
        };
        let mut again = Vec::new();
        for scenario in rows::ALL.iter().filter(touched) {
            eprintln!("{} seems lost, once more ...", scenario.name);
            again.extend(verdict::lines(scenario, &stage::run(scenario, effort)));
        }
        let after = system::share();
        let seen = kept.lost(&again, share.min(after));
        share = after;
        lost.retain(|line| seen.contains(line));
    }
    lost
}
