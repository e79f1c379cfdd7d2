//! From samples to a line of the table.

use crate::stage::Run;
use crate::{Check, Scenario};

/// One line: a number, or a ratio to the best peer, held against its bar.
#[derive(Clone, Debug)]
pub struct Line {
    pub row: u32,
    pub what: &'static str,
    pub metric: &'static str,
    pub ours: f64,
    /// The best peer and its number.
    pub peer: Option<(&'static str, f64)>,
    pub median: f64,
    pub least: f64,
    pub most: f64,
    pub bar: f64,
    pub holds: bool,
}

pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// The numbers named `metric` of one contender, round by round.
fn series(run: &Run, contender: &str, metric: &str) -> Vec<f64> {
    let samples = run.samples(contender).iter();
    samples.filter_map(|sample| sample.get(metric)).collect()
}

pub fn lines(scenario: &Scenario, run: &Run) -> Vec<Line> {
    let line = |check: &Check| judge(check, run);
    scenario.checks.iter().map(line).collect()
}

fn judge(check: &Check, run: &Run) -> Line {
    let ours = series(run, check.ours, check.metric);
    let best = check
        .peers
        .iter()
        .map(|peer| (*peer, series(run, peer, check.metric)))
        .min_by(|(_, a), (_, b)| median(a).total_cmp(&median(b)));
    let compared: Vec<f64> = match &best {
        Some((_, theirs)) => ours.iter().zip(theirs).map(|(a, b)| a / b).collect(),
        None => ours.clone(),
    };
    let middle = median(&compared);
    Line {
        row: check.row,
        what: check.what,
        metric: check.metric,
        ours: median(&ours),
        peer: best.map(|(name, theirs)| (name, median(&theirs))),
        median: middle,
        least: compared.iter().copied().fold(f64::INFINITY, f64::min),
        most: compared.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        bar: check.bar,
        holds: middle <= check.bar * check.tie,
    }
}
