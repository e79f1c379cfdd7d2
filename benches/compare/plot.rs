//! Bars, as SVG: one group for each scenario, one bar for each contender.

use std::fmt::Write as _;

use crate::stage::Run;
use crate::verdict::median;

const ROW: usize = 18;
const NAMES: usize = 190;
const WIDTH: usize = 720;

/// Draws the medians of `metric` of those scenarios that have it; shorter is better.
pub fn bars(title: &str, unit: &str, metric: &str, runs: &[(&str, &Run)]) -> Option<String> {
    let mut rows = Vec::new();
    for (scenario, run) in runs {
        let mut bars: Vec<(&str, f64)> = Vec::new();
        for (contender, samples) in &run.0 {
            let values: Vec<f64> = samples.iter().filter_map(|s| s.get(metric)).collect();
            if !values.is_empty() {
                bars.push((contender, median(&values)));
            }
        }
        bars.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        if !bars.is_empty() {
            rows.push((*scenario, None));
            rows.extend(bars.into_iter().map(|(name, value)| (name, Some(value))));
        }
    }
    let most = rows
        .iter()
        .filter_map(|(_, value)| *value)
        .fold(0.0, f64::max);
    if most <= 0.0 {
        return None;
    }
    let height = ROW * (rows.len() + 2);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"{ROW}\" font-size=\"14\">{title} ({unit}, less is better)</text>\n"
    );
    let scale = (WIDTH - NAMES - 80) as f64 / most;
    for (at, (name, value)) in rows.iter().enumerate() {
        let y = ROW * (at + 2);
        let _ = match value {
            None => writeln!(
                svg,
                "<text x=\"8\" y=\"{y}\" font-weight=\"bold\">{name}</text>"
            ),
            Some(value) => {
                let colour = if *name == "portage" {
                    "#c2410c"
                } else {
                    "#94a3b8"
                };
                let (top, width, bar) = (y - 11, value * scale, ROW - 5);
                let label = NAMES as f64 + width + 6.0;
                writeln!(
                    svg,
                    "<text x=\"24\" y=\"{y}\">{name}</text>\
                     <rect x=\"{NAMES}\" y=\"{top}\" width=\"{width:.1}\" height=\"{bar}\" \
                     fill=\"{colour}\"/><text x=\"{label:.1}\" y=\"{y}\">{value:.1}</text>"
                )
            }
        };
    }
    svg.push_str("</svg>\n");
    Some(svg)
}
