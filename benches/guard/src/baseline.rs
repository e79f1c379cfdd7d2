//! What the operations cost when somebody last looked and found it right.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

/// What one operation costs.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    pub instructions: Option<f64>,
    pub locked: Option<f64>,
    pub allocations: f64,
    pub bytes: f64,
    pub sleeps: f64,
}

/// So much more counts as worse: of instructions, as a part.
const INSTRUCTIONS: f64 = 0.05;
/// The same for another compiler than the baseline's.
const INSTRUCTIONS_ELSEWHERE: f64 = 0.25;
/// Of locked instructions, as a part, and at least.
const LOCKED: f64 = 0.05;
const LOCKED_LEAST: f64 = 0.25;
/// Of allocations.
const ALLOCATIONS: f64 = 0.05;
/// Of bytes.
const BYTES: f64 = 4.0;
/// Of sleeps: a machine that others use adds some.
const SLEEPS: f64 = 0.25;

/// What is dearer where the caller of a round trip has fallen asleep before its job ends.
///
/// Who comes first is the scheduler's choice, also on one CPU: on an idle machine the job, most
/// times; on a busy one the caller, every time. That is one sleep and one wake more, which are the
/// same code every time: counted as 0.77 sleeps, 768 instructions and 13.2 locked ones.
const CALLER_ASLEEP: Counts = Counts {
    instructions: Some(1_000.0),
    locked: Some(17.0),
    allocations: 0.0,
    bytes: 0.0,
    sleeps: 1.0,
};

/// In all other rows two threads meet a few times in a run, not once in each operation.
const NOBODY_ASLEEP: Counts = Counts {
    instructions: Some(0.0),
    locked: Some(0.0),
    sleeps: 0.0,
    ..CALLER_ASLEEP
};

impl Counts {
    pub const HEAD: &str = "operation      instructions    locked  allocations     bytes    sleeps";

    pub fn line(&self, name: &str, verdict: &str) -> String {
        let maybe = |count: Option<f64>, digits| match count {
            Some(count) => format!("{count:.digits$}"),
            None => "-".to_owned(),
        };
        format!(
            "{name:<14} {:>12} {:>9} {:>12.2} {:>9.1} {:>9.2}{verdict}",
            maybe(self.instructions, 0),
            maybe(self.locked, 1),
            self.allocations,
            self.bytes,
            self.sleeps,
        )
    }

    /// The smaller of each.
    pub fn least(&self, other: &Self) -> Self {
        let least = |a: Option<f64>, b: Option<f64>| Some(a?.min(b?));
        Self {
            instructions: least(self.instructions, other.instructions),
            locked: least(self.locked, other.locked),
            allocations: self.allocations.min(other.allocations),
            bytes: self.bytes.min(other.bytes),
            sleeps: self.sleeps.min(other.sleeps),
        }
    }

    fn parse(words: &[&str]) -> Option<Self> {
        let number = |at: usize| words.get(at)?.parse::<f64>().ok();
        Some(Self {
            instructions: number(0),
            locked: number(1),
            allocations: number(2)?,
            bytes: number(3)?,
            sleeps: number(4)?,
        })
    }
}

/// The locked instructions that `docs/cost.md` tells the users of.
pub fn told(name: &str) -> Option<f64> {
    let line = format!("| `{name}`:");
    let table = include_str!("../../../docs/cost.md").lines();
    let cells = table.filter_map(|row| row.strip_prefix(&line)?.split('|').nth(2));
    cells.filter_map(|cell| cell.trim().parse().ok()).next()
}

/// The file.
pub struct Baseline {
    compiler: String,
    counts: BTreeMap<String, Counts>,
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("baseline.txt")
}

/// The compiler, as far as it decides what code is made.
fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output();
    let version = output.ok().and_then(|o| String::from_utf8(o.stdout).ok());
    let version = version.unwrap_or_default();
    let release = version.split(' ').nth(1).unwrap_or("unknown");
    format!("rustc {release} {}", std::env::consts::ARCH)
}

impl Baseline {
    pub fn read() -> Self {
        let text = std::fs::read_to_string(path()).unwrap_or_default();
        let mut compiler = String::new();
        let mut counts = BTreeMap::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("# with ") {
                name.clone_into(&mut compiler);
            }
            let words: Vec<_> = line.split_whitespace().collect();
            if let Some((name, numbers)) = words.split_first() {
                let known = Counts::parse(numbers);
                counts.extend(known.map(|known| ((*name).to_owned(), known)));
            }
        }
        Self { compiler, counts }
    }

    pub fn is_of_this_compiler(&self) -> bool {
        self.compiler == compiler()
    }

    /// What is worse than it was; empty if nothing is.
    pub fn judge(&self, name: &str, now: &Counts) -> String {
        let Some(known) = self.counts.get(name) else {
            return "   not in the baseline".to_owned();
        };
        let mut verdict = String::new();
        let part = if self.is_of_this_compiler() {
            INSTRUCTIONS
        } else {
            INSTRUCTIONS_ELSEWHERE
        };
        let meeting = match name {
            "round-trip" => CALLER_ASLEEP,
            _ => NOBODY_ASLEEP,
        };
        let mut hold = |what: &str, now: f64, known: f64, more: f64| {
            if now > known + more {
                let _ = write!(verdict, "   {what}: {now:.2}, was {known:.2}");
            }
        };
        if let (Some(now), Some(known)) = (now.instructions, known.instructions) {
            let more = known * part + meeting.instructions.unwrap_or(0.0);
            hold("instructions", now, known, more);
        }
        if let (Some(now), Some(known)) = (now.locked, known.locked) {
            let more = (known * LOCKED).max(LOCKED_LEAST) + meeting.locked.unwrap_or(0.0);
            hold("locked", now, known, more);
        }
        hold(
            "allocations",
            now.allocations,
            known.allocations,
            ALLOCATIONS,
        );
        hold("bytes", now.bytes, known.bytes, BYTES);
        let more = SLEEPS + meeting.sleeps;
        hold("sleeps", now.sleeps, known.sleeps, more);
        verdict
    }

    pub fn keep(&mut self, name: &str, counts: Counts) {
        self.counts.insert(name.to_owned(), counts);
    }

    pub fn write(&self) {
        let mut text = format!(
            "# What each operation costs; made by `just bless`, looked at by `just guard`.\n\
             # with {}\n# {}\n",
            compiler(),
            Counts::HEAD
        );
        for (name, counts) in &self.counts {
            text += &counts.line(name, "\n");
        }
        std::fs::write(path(), text).expect("the baseline can be written");
    }
}
