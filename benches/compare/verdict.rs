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
    /// A quarter of the rounds are below it.
    pub quarter: f64,
    pub least: f64,
    pub most: f64,
    pub bar: f64,
    pub holds: bool,
}

impl Line {
    /// What it is known by, from one run to the next.
    pub fn name(&self) -> String {
        format!("row {}, {}, {}", self.row, self.what, self.metric)
    }
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

fn quarter(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 4).copied().unwrap_or(f64::NAN)
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
        quarter: quarter(&compared),
        least: compared.iter().copied().fold(f64::INFINITY, f64::min),
        most: compared.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        bar: check.bar,
        holds: middle <= check.bar * check.tie,
    }
}

#[cfg(test)]
mod tests {
    use super::lines;
    use crate::stage::Run;
    use crate::{Check, Contender, Effort, Sample, Scenario};

    fn nobody(_: &str, _: Effort) -> Box<dyn Contender> {
        unreachable!("nothing is performed here")
    }

    const PEERS: &[&str] = &["slow", "fast"];

    /// What `lines` says of one check of these rounds.
    fn judged(checks: &'static [Check], ours: &[f64], fast: &[f64]) -> super::Line {
        let scenario = Scenario {
            name: "a scenario",
            contenders: &["portage", "slow", "fast"],
            enter: nobody,
            checks,
        };
        let samples = |values: &[f64]| -> Vec<_> {
            let values = values.iter();
            values.map(|value| Sample::of("ns", *value)).collect()
        };
        let slow: Vec<_> = fast.iter().map(|value| value * 10.0).collect();
        let run = Run(vec![
            ("portage", samples(ours)),
            ("slow", samples(&slow)),
            ("fast", samples(fast)),
        ]);
        let mut lines = lines(&scenario, &run);
        assert_eq!(lines.len(), 1);
        lines.remove(0)
    }

    #[test]
    fn the_ratio_is_that_of_neighbouring_rounds_to_the_fastest_peer() {
        const CHECK: &[Check] = &[Check::ratio(1, "jobs", "ns", PEERS, 1.0)];
        // The machine became ten times as slow for both.
        let line = judged(CHECK, &[8.0, 80.0, 10.0], &[10.0, 100.0, 10.0]);
        assert_eq!(line.peer, Some(("fast", 10.0)));
        assert_eq!((line.least, line.median, line.most), (0.8, 0.8, 1.0));
        assert!(line.holds);
    }

    #[test]
    fn a_tie_holds_and_what_is_beyond_does_not() {
        const CHECK: &[Check] = &[Check::ratio(1, "jobs", "ns", PEERS, 1.0)];
        assert!(judged(CHECK, &[104.0], &[100.0]).holds);
        assert!(!judged(CHECK, &[106.0], &[100.0]).holds);
        const NO_TIES: &[Check] = &[Check::count(1, "threads", "ns", 2.0)];
        assert!(judged(NO_TIES, &[2.0], &[1.0]).holds);
        assert!(!judged(NO_TIES, &[2.01], &[1.0]).holds);
    }

    #[test]
    fn what_was_not_measured_does_not_hold() {
        const CHECK: &[Check] = &[Check::ratio(1, "jobs", "us", PEERS, 1.0)];
        let line = judged(CHECK, &[1.0], &[1.0]);
        assert!(line.median.is_nan() && !line.holds);
    }
}
