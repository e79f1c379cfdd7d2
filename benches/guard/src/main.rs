//! Did the hottest operations become dearer? Counts, not times, against `baseline.txt`.
//!
//! ```text
//! cargo run --release -p portage-guard                all operations, against the baseline
//! cargo run --release -p portage-guard -- yield       some
//! cargo run --release -p portage-guard -- --bless     and writes what it finds into the baseline
//! ```
//!
//! Instructions and locked instructions (atomic read-modify-writes, those of locks and of `Arc`
//! among them) are counted by callgrind over all threads; the difference of two runs of different
//! length is free of the start. Allocations, bytes and sleeps are counted by a run without it.
//! Where there is no valgrind the first two are not looked at, and the guard says so.

#![deny(unsafe_op_in_unsafe_fn)]

mod baseline;
mod count;
#[path = "../../../tests/kit/counting.rs"]
mod counting;
#[path = "../../../tests/cost/operations.rs"]
mod operations;

use std::process::{Command, ExitCode};

use crate::baseline::{Baseline, Counts};
use crate::operations::{ALL, Operation, void};

/// Makes this program the one that is counted: by itself, or by callgrind.
const PERFORM: &str = "--perform";
const PERFORM_BARE: &str = "--perform-bare";

/// A short and a long run, in operations; the difference is what counts.
const SHORT: usize = 2_000;
const LONG: usize = 6_000;

/// What a run says by its exit code that was too slow for itself: its counts are of more.
const AGAIN: u8 = 75;

/// So often something that looks dearer is measured again.
const RETRIES: usize = 2;

fn main() -> ExitCode {
    let mut bless = false;
    let mut wanted = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            PERFORM | PERFORM_BARE => {
                let name = arguments.next().expect("an operation");
                let count = arguments.next().and_then(|count| count.parse().ok());
                return perform(&name, count.expect("a count"), argument == PERFORM);
            }
            "--bless" => bless = true,
            _ => wanted.push(argument),
        }
    }
    let valgrind = has_valgrind();
    if !valgrind {
        eprintln!(
            "\n*** valgrind is not here: instructions and locked instructions were NOT looked \
             at, only allocations and sleeps ***\n"
        );
    }
    let mut baseline = Baseline::read();
    println!("{}", Counts::HEAD);
    let mut worse = Vec::new();
    for operation in ALL {
        if !wanted.is_empty() && !wanted.iter().any(|name| name == operation.name) {
            continue;
        }
        let mut counts = measure(operation, valgrind);
        let mut verdict = baseline.judge(operation.name, &counts);
        // Threads that meet make a count jitter upwards.
        for _ in 0..RETRIES {
            if !verdict.is_empty() {
                counts = counts.least(&measure(operation, valgrind));
                verdict = baseline.judge(operation.name, &counts);
            }
        }
        if let Some(locked) = counts.locked {
            let told = baseline::told(operation.name).expect("a row in docs/cost.md");
            if locked > told + (told * 0.05).max(0.5) {
                verdict += &format!("   locked: {locked:.1}, docs/cost.md says {told}");
            }
        }
        println!("{}", counts.line(operation.name, &verdict));
        if !verdict.is_empty() {
            worse.push(operation.name);
        }
        if bless {
            baseline.keep(operation.name, counts);
        }
    }
    if bless {
        baseline.write();
        return ExitCode::SUCCESS;
    }
    if worse.is_empty() {
        // 77: absent, which is no pass.
        return ExitCode::from(if valgrind { 0 } else { 77 });
    }
    eprintln!(
        "dearer than benches/guard/baseline.txt: {}. If that is the price of something, say of \
         what, and bless it.",
        worse.join(", ")
    );
    ExitCode::FAILURE
}

fn has_valgrind() -> bool {
    let version = Command::new("valgrind").arg("--version").output();
    version.is_ok_and(|output| output.status.success())
}

fn perform(name: &str, count: usize, counted: bool) -> ExitCode {
    let operation = ALL.iter().find(|operation| operation.name == name);
    let operation = operation.expect("a known operation");
    if counted {
        let counts = count::during(|| {
            (operation.run)(count);
        });
        println!("{} {} {}", counts.allocations, counts.bytes, counts.sleeps);
    } else {
        (operation.run)(count);
    }
    ExitCode::from(if void() == 0 { 0 } else { AGAIN })
}

fn measure(operation: &Operation, valgrind: bool) -> Counts {
    let each = (LONG - SHORT) as f64;
    let plain = |count| numbers(&output(own(PERFORM, operation, count)).0);
    let (short, long) = (plain(SHORT), plain(LONG));
    let difference = |at: usize| ((long[at] - short[at]) / each).max(0.0);
    let mut counts = Counts {
        instructions: None,
        locked: None,
        allocations: difference(0),
        bytes: difference(1),
        // Sleeps are no steady count, and the start has few.
        sleeps: long[2] / LONG as f64,
    };
    if valgrind {
        let (short, long) = (callgrind(operation, SHORT), callgrind(operation, LONG));
        counts.instructions = Some((long.0 - short.0) / each);
        counts.locked = Some((long.1 - short.1) / each);
    }
    counts
}

/// This program, to perform the operation `count` times.
fn own(mode: &str, operation: &Operation, count: usize) -> Command {
    let program = std::env::current_exe().expect("the path of this program is known");
    let mut command = Command::new(program);
    command.args([mode, operation.name, &count.to_string()]);
    command
}

/// Instructions, and those of them that lock.
fn callgrind(operation: &Operation, count: usize) -> (f64, f64) {
    let own = own(PERFORM_BARE, operation, count);
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(["--collect-bus=yes", "--fair-sched=yes"])
        .arg(own.get_program())
        .args(own.get_args());
    let (_, errors) = output(command);
    let collected = errors
        .lines()
        .find_map(|line| line.split_once("Collected : "))
        .map(|(_, collected)| numbers(collected));
    match collected.as_deref() {
        Some([instructions, locked]) => (*instructions, *locked),
        _ => panic!("callgrind says something else than it used to:\n{errors}"),
    }
}

fn output(mut command: Command) -> (String, String) {
    let output = (0..10)
        .map(|_| command.output().expect("the program starts"))
        .find(|output| output.status.code() != Some(AGAIN.into()))
        .expect("a machine that is fast enough now and then");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let errors = text(output.stderr);
    assert!(output.status.success(), "{command:?}:\n{errors}");
    (text(output.stdout), errors)
}

fn numbers(text: &str) -> Vec<f64> {
    let words = text.split_whitespace();
    words.filter_map(|word| word.parse().ok()).collect()
}
