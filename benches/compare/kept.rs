//! The results that are kept in `RESULTS.json`, and what of them is lost.
//!
//! A row is lost when it held, and now misses its bar by a wide margin, and that not in a few bad
//! rounds but in three of four. A machine that others use can bring even this about: a peer whose
//! threads never run at the same time has no contention. So what is wide depends on how much of the
//! machine one has, and who finds that a row is lost measures it again before he believes it.

use serde_json::Value;

use crate::verdict::Line;

/// A margin is wide beyond this, times the bar: on a machine of one's own, and on any.
const WIDE: (f64, f64) = (1.5, 4.0);

/// How often a row that seems lost is measured again.
pub const AGAIN: usize = 2;

/// The names of the lines that held.
pub struct Kept(Vec<String>);

impl Kept {
    /// Of a text that `report` wrote.
    pub fn parse(text: &str) -> Self {
        let kept: Value = serde_json::from_str(text).expect("RESULTS.json was written by us");
        let lines = kept["lines"].as_array().into_iter().flatten();
        let held = lines.filter(|line| line["holds"] == true);
        let name = |line: &Value| {
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            format!("row {}, {}, {}", line["row"], text("what"), text("metric"))
        };
        Self(held.map(name).collect())
    }

    /// The names of those of `lines` that are lost, where a thread had such a share of a CPU.
    pub fn lost(&self, lines: &[Line], share: f64) -> Vec<String> {
        let wide = wide(share);
        let missed = lines.iter().filter(|line| misses(line, wide));
        let names = missed.map(Line::name);
        names.filter(|name| self.0.contains(name)).collect()
    }
}

fn wide(share: f64) -> f64 {
    let (least, most) = WIDE;
    (least / share).clamp(least, most)
}

/// What was not measured at all counts as missed.
fn misses(line: &Line, wide: f64) -> bool {
    line.median.is_nan() || (line.median > line.bar * wide && line.quarter > line.bar)
}

#[cfg(test)]
mod tests {
    use super::Kept;
    use crate::verdict::Line;

    fn kept() -> Kept {
        Kept::parse(
            r#"{"lines": [
                {"row": 1, "what": "held", "metric": "ns", "holds": true},
                {"row": 1, "what": "missed", "metric": "ns", "holds": false},
                {"row": 18, "what": "none", "metric": "wakes", "holds": true}
            ]}"#,
        )
    }

    fn line(what: &'static str, metric: &'static str, bar: f64, now: (f64, f64)) -> Line {
        Line {
            row: if bar == 0.0 { 18 } else { 1 },
            what,
            metric,
            ours: 1.0,
            peer: None,
            median: now.0,
            quarter: now.1,
            least: 0.0,
            most: 9.0,
            bar,
            holds: false,
        }
    }

    #[test]
    fn a_row_is_lost_that_held_and_misses_its_bar_widely_in_most_rounds() {
        // what, metric, bar, (median, quarter), is lost
        let table = [
            ("held", "ns", 0.5, (0.4, 0.3), false),
            ("held", "ns", 0.5, (0.51, 0.5), false),
            ("held", "ns", 0.5, (0.75, 0.75), false),
            ("held", "ns", 0.5, (0.76, 0.51), true),
            ("held", "ns", 0.5, (9.0, 9.0), true),
            // by far, but not in three rounds of four
            ("held", "ns", 0.5, (9.0, 0.49), false),
            // nothing was measured
            ("held", "ns", 0.5, (f64::NAN, f64::NAN), true),
            // it never held, or is another row, or another number of it
            ("missed", "ns", 0.5, (9.0, 9.0), false),
            ("new", "ns", 0.5, (9.0, 9.0), false),
            ("held", "threads", 0.5, (9.0, 9.0), false),
            // a count whose bar is nought
            ("none", "wakes", 0.0, (0.0, 0.0), false),
            ("none", "wakes", 0.0, (1.0, 1.0), true),
        ];
        for (what, metric, bar, now, expected) in table {
            let line = line(what, metric, bar, now);
            let lost = kept().lost(std::slice::from_ref(&line), 1.0);
            let names: &[String] = if expected { &[line.name()] } else { &[] };
            assert_eq!(lost, names, "{line:?}");
        }
    }

    #[test]
    fn a_margin_is_wider_where_others_have_the_machine_too() {
        // share of a CPU, times the bar
        let table = [(1.0, 1.5), (1.1, 1.5), (0.75, 2.0), (0.5, 3.0), (0.1, 4.0)];
        for (share, times) in table {
            let beyond = line("held", "ns", 1.0, (times + 0.01, times));
            let within = line("held", "ns", 1.0, (times - 0.01, times));
            assert_eq!(kept().lost(&[within, beyond], share).len(), 1, "{share}");
        }
    }

    #[test]
    fn the_kept_results_of_this_repository_are_of_rows_that_are_measured() {
        let measured: Vec<_> = crate::rows::ALL
            .iter()
            .flat_map(|scenario| scenario.checks)
            .map(crate::Check::name)
            .collect();
        let kept = crate::report::kept();
        assert!(!kept.0.is_empty());
        for name in kept.0 {
            assert!(measured.contains(&name), "{name} is not measured any more");
        }
    }
}
