//! Bars and lines, as SVG: one bar or line for each contender.

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

/// A place on the horizontal axis: what stands there, and the number of the samples.
pub type Place = (String, String);

const PLOT_HEIGHT: f64 = 320.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 40.0;
const COLOURS: &[&str] = &[
    "#64748b", "#0891b2", "#65a30d", "#7c3aed", "#db2777", "#ca8a04", "#0f766e", "#9f1239",
    "#1d4ed8",
];

/// Draws a line for each contender through the medians at `places`; `log` for numbers that span
/// decades.
pub fn lines(title: &str, unit: &str, places: &[Place], run: &Run, log: bool) -> Option<String> {
    let mut series = Vec::new();
    for (contender, samples) in &run.0 {
        let at = |(_, metric): &Place| {
            let values: Vec<f64> = samples.iter().filter_map(|s| s.get(metric)).collect();
            (!values.is_empty()).then(|| median(&values))
        };
        if let Some(values) = places.iter().map(at).collect::<Option<Vec<f64>>>() {
            series.push((*contender, values));
        }
    }
    let all = || series.iter().flat_map(|(_, values)| values.iter().copied());
    let most = all().fold(0.0, f64::max);
    if most <= 0.0 {
        return None;
    }
    let least = if log {
        all().filter(|value| *value > 0.0).fold(most, f64::min)
    } else {
        0.0
    };
    let height = |value: f64| {
        let part = if log {
            (value.max(least) / least).ln() / (most / least).ln().max(1e-9)
        } else {
            value / most
        };
        TOP + PLOT_HEIGHT * (1.0 - part)
    };
    let across = WIDTH as f64 - LEFT - RIGHT;
    let step = across / (places.len() - 1).max(1) as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"{ROW}\" font-size=\"14\">{title} ({unit}, less is better)</text>\n",
        TOP + PLOT_HEIGHT + 40.0
    );
    for part in 0..=4 {
        let part = f64::from(part) / 4.0;
        let value = if log {
            least * (most / least).powf(part)
        } else {
            most * part
        };
        let y = height(value);
        let right = LEFT + across;
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#e2e8f0\"/>\
             <text x=\"8\" y=\"{:.1}\">{}</text>",
            y + 4.0,
            crate::report::figure(value)
        );
    }
    let every = places.len().div_ceil(12);
    for (at, (label, _)) in places.iter().enumerate().step_by(every) {
        let x = LEFT + step * at as f64;
        let y = TOP + PLOT_HEIGHT + 20.0;
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{label}</text>"
        );
    }
    let mut ends: Vec<(f64, &str, &str)> = Vec::new();
    let mut others = COLOURS.iter().cycle();
    for (name, values) in &series {
        let ours = *name == "portage";
        let colour = if ours {
            "#c2410c"
        } else {
            others.next().expect("a cycle")
        };
        let points: Vec<_> = values
            .iter()
            .enumerate()
            .map(|(at, value)| format!("{:.1},{:.1}", LEFT + step * at as f64, height(*value)))
            .collect();
        let width = if ours { 3 } else { 1 };
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>",
            points.join(" ")
        );
        ends.push((
            height(*values.last().expect("a line has points")),
            name,
            colour,
        ));
    }
    // Names that would lie on each other are moved down.
    ends.sort_by(|(a, ..), (b, ..)| a.total_cmp(b));
    let mut next = 0.0;
    for (y, name, colour) in ends {
        let y = y.max(next);
        next = y + 14.0;
        let x = LEFT + across + 6.0;
        let _ = writeln!(
            svg,
            "<text x=\"{x}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>",
            y + 4.0
        );
    }
    svg.push_str("</svg>\n");
    Some(svg)
}
