//! The table, the numbers behind it, and the files that keep them.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::kept::Kept;
use crate::plot::{self, Place};
use crate::stage::Run;
use crate::verdict::{Line, median};
use crate::why::why;
use crate::{Effort, readme, rows};

/// What is drawn: file, title, unit, number, scenarios.
const PLOTS: &[(&str, &str, &str, &str, &[&str])] = &[
    (
        "cost-per-job",
        "An empty job, submitted and run",
        "ns",
        "ns",
        &["fire-1", "fire-4", "tree"],
    ),
    (
        "round-trip-p50",
        "There and back, p50",
        "us",
        "p50_us",
        ROUND_TRIPS,
    ),
    (
        "round-trip-p99",
        "There and back, p99",
        "us",
        "p99_us",
        ROUND_TRIPS,
    ),
    (
        "threads",
        "Threads after a burst",
        "threads",
        "threads",
        BURSTS,
    ),
];

/// What is drawn as lines: file, title, unit, scenario, places, whether decades are spanned.
type Curve = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    fn() -> Vec<Place>,
    bool,
);
const CURVES: &[Curve] = &[
    (
        "latency",
        "There and back, by quantile",
        "us",
        "round-trip",
        quantiles,
        true,
    ),
    (
        "latency-gaps",
        "There and back after 200 us of rest, by quantile",
        "us",
        "round-trip-gaps",
        quantiles,
        true,
    ),
    (
        "latency-service",
        "A service's answers, by quantile",
        "us",
        "service",
        quantiles,
        true,
    ),
    (
        "cost-threads",
        "A job of 2 us against threads",
        "ns",
        "scaling-threads",
        steps,
        true,
    ),
    (
        "cost-producers",
        "A job of 2 us against producers, 2 threads",
        "ns",
        "scaling-producers",
        steps,
        true,
    ),
    (
        "threads-burst",
        "Threads over milliseconds, 200 jobs that sleep 5 ms",
        "threads",
        "burst-threads",
        milliseconds,
        false,
    ),
];

fn quantiles() -> Vec<Place> {
    let label = |name: &str| name.trim_end_matches("_us").to_owned();
    let places = rows::QUANTILES.iter();
    places
        .map(|(name, _)| (label(name), (*name).to_owned()))
        .collect()
}

fn steps() -> Vec<Place> {
    let steps = rows::scaling::STEPS.iter();
    steps
        .map(|step| (step.to_string(), format!("at_{step}")))
        .collect()
}

fn milliseconds() -> Vec<Place> {
    let times = 0..rows::scaling::WATCHED;
    times
        .map(|at| (at.to_string(), format!("at_{at}")))
        .collect()
}

const ROUND_TRIPS: &[&str] = &["round-trip", "round-trip-gaps", "round-trip-awaited"];
const BURSTS: &[&str] = &[
    "sleepers-30",
    "sleepers-200",
    "sleepers-1000",
    "cpu-200",
    "cpu-20000",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What `RESULTS.json` says.
pub fn kept() -> Kept {
    let text = fs::read_to_string(folder().join("RESULTS.json"));
    Kept::parse(&text.expect("the kept results lie in the repository"))
}

/// Prints the table, those that miss their bar first, and leaves all numbers in `target/benches`.
pub fn show(lines: &mut [Line], runs: &[(&'static str, Run)], effort: Effort) {
    lines.sort_by_key(|line| (line.holds, line.row));
    let table = table(lines);
    println!("\n{table}");
    let json = json(lines, runs, effort);
    let target = folder().join("../target/benches");
    let written = fs::create_dir_all(&target)
        .and_then(|()| fs::write(target.join("results.json"), format!("{json:#}\n")))
        .and_then(|()| fs::write(target.join("results.md"), &table))
        .and_then(|()| draw(&target, runs));
    if let Err(error) = written {
        eprintln!("{}: {error}", target.display());
    }
}

/// Writes what is in the repository: the results with their plots, the headlines of README.
pub fn keep(lines: &[Line], runs: &[(&'static str, Run)], effort: Effort) {
    let circumstances = circumstances(effort);
    let head = format!("# Results\n\n{circumstances}\n\n{}\n", pictures("plots"));
    let bars =
        json!({ "lines": json(lines, runs, effort)["lines"], "circumstances": circumstances });
    let plots = folder().join("plots");
    let written = fs::write(folder().join("RESULTS.md"), head + &table(lines))
        .and_then(|()| refresh_readme(lines, &circumstances))
        .and_then(|()| fs::write(folder().join("RESULTS.json"), format!("{bars:#}\n")))
        .and_then(|()| fs::create_dir_all(&plots))
        .and_then(|()| draw(&plots, runs));
    written.expect("the results can be kept");
}

fn refresh_readme(lines: &[Line], circumstances: &str) -> io::Result<()> {
    let path = folder().join("../README.md");
    let text = fs::read_to_string(&path)?;
    fs::write(path, readme::with_headlines(&text, lines, circumstances))
}

fn draw(target: &Path, runs: &[(&'static str, Run)]) -> io::Result<()> {
    for (file, title, unit, metric, scenarios) in PLOTS {
        let shown: Vec<_> = scenarios
            .iter()
            .filter_map(|name| runs.iter().find(|(known, _)| known == name))
            .map(|(name, run)| (*name, run))
            .collect();
        if let Some(svg) = plot::bars(title, unit, metric, &shown) {
            fs::write(target.join(format!("{file}.svg")), svg)?;
        }
    }
    for (file, title, unit, scenario, places, log) in CURVES {
        let run = runs.iter().find(|(known, _)| known == scenario);
        let svg = run.and_then(|(_, run)| plot::lines(title, unit, &places(), run, *log));
        if let Some(svg) = svg {
            fs::write(target.join(format!("{file}.svg")), svg)?;
        }
    }
    Ok(())
}

/// The plots of the report, one a line.
fn pictures(folder: &str) -> String {
    let bars = PLOTS.iter().map(|(file, title, ..)| (file, title));
    let curves = CURVES.iter().map(|(file, title, ..)| (file, title));
    let mut text = String::new();
    for (file, title) in bars.chain(curves) {
        let _ = writeln!(text, "![{title}]({folder}/{file}.svg)");
    }
    text
}

/// Three figures that matter.
pub fn figure(value: f64) -> String {
    match value.abs() {
        v if !v.is_finite() => "-".to_owned(),
        v if v == 0.0 || v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 0.01 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn table(lines: &[Line]) -> String {
    let mut text = String::from(
        "| row | what | ours | best peer | ratio [min..max] | bar | holds | if not, why |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for line in lines {
        let (peer, ratio) = match line.peer {
            Some((name, value)) => (
                format!("{name} {}", figure(value)),
                format!(
                    "{} [{}..{}]",
                    figure(line.median),
                    figure(line.least),
                    figure(line.most)
                ),
            ),
            None => (
                "-".to_owned(),
                format!("[{}..{}]", figure(line.least), figure(line.most)),
            ),
        };
        let (holds, reason) = if line.holds {
            ("yes", "")
        } else {
            ("**no**", why(line.row, line.what))
        };
        let _ = writeln!(
            text,
            "| {} | {}, {} | {} | {peer} | {ratio} | {} | {holds} | {reason} |",
            line.row,
            line.what,
            line.metric.replace('_', " "),
            figure(line.ours),
            figure(line.bar),
        );
    }
    text
}

fn json(lines: &[Line], runs: &[(&'static str, Run)], effort: Effort) -> Value {
    let lines: Vec<_> = lines
        .iter()
        .map(|line| {
            json!({
                "row": line.row, "what": line.what, "metric": line.metric, "ours": line.ours,
                "peer": line.peer.map(|(name, _)| name), "theirs": line.peer.map(|(_, v)| v),
                "ratio": line.median, "min": line.least, "max": line.most,
                "bar": line.bar, "holds": line.holds,
            })
        })
        .collect();
    let scenarios: Vec<_> = runs.iter().map(|(name, run)| scenario(name, run)).collect();
    json!({ "circumstances": circumstances(effort), "lines": lines, "scenarios": scenarios })
}

/// The medians of everything that was measured.
fn scenario(name: &str, run: &Run) -> Value {
    let mut contenders = serde_json::Map::new();
    for (contender, samples) in &run.0 {
        let mut numbers = serde_json::Map::new();
        for (metric, _) in samples.first().map_or(&[][..], |sample| &sample.0) {
            let values: Vec<f64> = samples.iter().filter_map(|s| s.get(metric)).collect();
            numbers.insert(metric.clone(), json!(median(&values)));
        }
        contenders.insert((*contender).to_owned(), Value::Object(numbers));
    }
    json!({ "name": name, "contenders": contenders })
}

/// Date, processor, versions.
fn circumstances(effort: Effort) -> String {
    let first = |command: &str, arguments: &[&str]| {
        let output = std::process::Command::new(command).args(arguments).output();
        output
            .ok()
            .and_then(|output| String::from_utf8(output.stdout).ok())
            .and_then(|text| text.lines().next().map(str::to_owned))
            .unwrap_or_default()
    };
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unknown processor", |(_, model)| model);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!(
        "{}, {cpus} CPUs ({model}), load {load}, {}; {} rounds, less is better; ratios are \
         the median of those of neighbouring rounds; the best peer is the fastest of those that \
         the bar names.",
        first("date", &["-u", "+%Y-%m-%d"]),
        first("rustc", &["--version"]),
        effort.rounds,
    )
}
