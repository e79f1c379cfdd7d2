//! What README says of speed: a few rows and a plot, between two marks.

use std::fmt::Write as _;

use crate::report::figure;
use crate::verdict::Line;

/// The rows that it shows: those with their peer's name in the bar.
const HEADLINES: &[(u32, &str)] = &[
    (1, "empty jobs, 1 producer, 2 threads"),
    (3, "empty jobs, default sizes"),
    (4, "round trip, back to back"),
    (5, "round trip with `wait_helping`"),
    (6, "round trip awaited in a tokio task"),
    (8, "a tree of jobs, depth 16"),
    (10, "20 000 jobs compute 5 us"),
    (12, "four tasks yield"),
    (14, "100 000 closures to a lane"),
    (15, "promise made, resolved, read on one thread"),
];

const BEGIN: &str = "<!-- from here on written by `just bench-report` -->\n";
const END: &str = "<!-- up to here -->\n";

const PLOT: &str = "![An empty job, submitted and run](benches/plots/cost-per-job.svg)";

/// The text of README with these lines in the place of what it shows now.
pub fn with_headlines(readme: &str, lines: &[Line], circumstances: &str) -> String {
    let split = readme.split_once(BEGIN);
    let (before, rest) = split.expect("README has the mark where the results begin");
    let (_, after) = rest
        .split_once(END)
        .expect("README has the mark where the results end");
    let mut rows =
        String::from("| what | ratio to the best peer | bar | holds |\n|---|---|---|---|\n");
    for (row, what) in HEADLINES {
        let mut known = lines.iter();
        let line = known.find(|line| line.row == *row && line.what == *what);
        let line = line.expect("every headline is a row that was measured");
        let (peer, _) = line.peer.expect("every headline has a peer");
        let holds = if line.holds { "yes" } else { "no" };
        let _ = writeln!(
            rows,
            "| {what}, {} | {} ({peer}) | {} | {holds} |",
            line.metric.replace('_', " "),
            figure(line.median),
            figure(line.bar)
        );
    }
    format!("{before}{BEGIN}\n{circumstances}\n\n{rows}\n{PLOT}\n\n{END}{after}")
}

#[cfg(test)]
mod tests {
    use super::{HEADLINES, PLOT, with_headlines};
    use crate::rows;
    use crate::verdict::Line;

    const README: &str = include_str!("../../README.md");

    /// Every check, as if it had come out at half its bar.
    fn lines() -> Vec<Line> {
        let checks = rows::ALL.iter().flat_map(|scenario| scenario.checks);
        checks
            .map(|check| Line {
                row: check.row,
                what: check.what,
                metric: check.metric,
                ours: 1.0,
                peer: check.peers.first().map(|peer| (*peer, 2.0)),
                median: check.bar / 2.0,
                quarter: check.bar / 2.0,
                least: check.bar / 2.0,
                most: check.bar / 2.0,
                bar: check.bar,
                holds: true,
            })
            .collect()
    }

    #[test]
    fn the_headlines_are_put_in_the_place_of_the_old_ones_and_nothing_else_changes() {
        let once = with_headlines(README, &lines(), "today");
        assert_eq!(with_headlines(&once, &lines(), "today"), once);
        assert_eq!(once.matches("| yes |").count(), HEADLINES.len());
        assert!(once.contains("\ntoday\n") && once.contains(PLOT));
        let outside = |text: &str| {
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            let mut parts = lines.split(|line| line.starts_with("<!--"));
            let parts = [parts.next(), parts.nth(1), parts.next()];
            parts.map(|part| part.map(<[String]>::to_vec))
        };
        assert_eq!(outside(&once), outside(README));
    }
}
