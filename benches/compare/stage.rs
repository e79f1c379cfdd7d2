//! Where contenders perform: a process each, asked for one round at a time.
//!
//! The idle threads that one of them keeps cannot get in the way of another's round, beyond
//! what they do to the machine, which is part of what is compared.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use crate::system::{self, Usage};
use crate::{Effort, Sample, Scenario, rows};

/// Makes this program a stage.
pub const ARGUMENT: &str = "--stage";

/// All samples of a scenario: for each contender its rounds in order.
pub struct Run(pub Vec<(&'static str, Vec<Sample>)>);

impl Run {
    pub fn samples(&self, contender: &str) -> &[Sample] {
        let found = self.0.iter().find(|(name, _)| *name == contender);
        found.map_or(&[], |(_, samples)| samples)
    }
}

struct Stage {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Stage {
    fn open(scenario: &str, contender: &str, effort: Effort) -> Self {
        let program = std::env::current_exe().expect("the path of this program is known");
        let mut child = Command::new(program)
            .args([ARGUMENT, scenario, contender])
            .args([effort.rounds.to_string(), effort.scale.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process for a contender starts");
        let ask = child.stdin.take().expect("its input was asked for");
        let answers = child.stdout.take().expect("its output was asked for");
        Self {
            child,
            ask,
            answers: BufReader::new(answers),
        }
    }

    fn round(&mut self) -> Sample {
        self.ask.write_all(b"go\n").expect("the contender listens");
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .expect("the contender answers");
        assert!(!line.is_empty(), "a contender died");
        let pairs = line.split_whitespace().filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Sample(pairs.collect())
    }

    fn close(mut self) {
        drop(self.ask);
        self.child.wait().expect("the contender's process ends");
    }
}

/// Performs a scenario: one round to warm up, then all contenders in turn, round by round.
pub fn run(scenario: &Scenario, effort: Effort) -> Run {
    let open = |name: &&'static str| (*name, Stage::open(scenario.name, name, effort));
    let mut stages: Vec<_> = scenario.contenders.iter().map(open).collect();
    let mut run = Run(stages.iter().map(|(name, _)| (*name, Vec::new())).collect());
    for (_, stage) in &mut stages {
        stage.round();
    }
    for round in 0..effort.rounds {
        let count = stages.len();
        for step in 0..count {
            // Every other round goes backwards, so that nobody always follows the same one.
            let turn = if round % 2 == 0 {
                step
            } else {
                count - 1 - step
            };
            let sample = stages[turn].1.round();
            run.0[turn].1.push(sample);
        }
    }
    stages.into_iter().for_each(|(_, stage)| stage.close());
    run
}

/// The other side: performs as one contender until nobody asks any more.
pub fn perform(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let mut next = || arguments.next().expect("a stage is told what to perform");
    let (scenario, contender) = (next(), next());
    let mut number = || next().parse().expect("a number");
    let effort = Effort {
        rounds: number(),
        scale: number(),
    };
    let scenario = rows::ALL
        .iter()
        .chain(rows::BOUNDS)
        .find(|known| known.name == scenario)
        .expect("a known scenario");
    let mut contender = (scenario.enter)(&contender, effort);
    let mut lines = std::io::stdin().lines();
    while let Some(Ok(_)) = lines.next() {
        let before = Usage::now();
        let mut sample = contender.round();
        let after = Usage::now();
        let cpu = (after.cpu - before.cpu).as_secs_f64() * 1e3;
        let switches = after.switches - before.switches;
        sample = sample.and("cpu", cpu).and("switches", switches as f64);
        if sample.get("threads").is_none() {
            // Less the one that asks.
            sample = sample.and("threads", system::threads() as f64 - 1.0);
        }
        let words: Vec<_> = sample
            .0
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        println!("{}", words.join(" "));
    }
    // Not by returning: what a contender still runs must not hold up the next one.
    std::process::exit(0)
}
