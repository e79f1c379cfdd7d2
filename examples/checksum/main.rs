//! SHA-256 of whole trees, in the format of `sha256sum`.
//!
//! Three kinds of thread: a loop walks the trees, the pool reads and hashes, and the main
//! thread prints, because it alone owns the terminal. `--help` has the rest.
//!
//! ```sh
//! cargo run --release --example checksum -- --sorted src > sums && sha256sum -c sums
//! ```

#![forbid(unsafe_code)]

mod budget;
mod digest;
mod lines;
mod options;
mod screen;
mod walk;
mod work;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use portage::{CurrentThreadExecutor, promise};

use crate::options::{Command, Options};
use crate::screen::{Printed, say};
use crate::work::{Brake, Stop, Tally};

const TROUBLE: u8 = 1;
const USAGE: u8 = 2;
const INTERRUPTED: u8 = 130;
const OUTPUT_CLOSED: u8 = 141;

fn main() -> ExitCode {
    match options::read(std::env::args_os().skip(1)) {
        Command::Run(options) => match checksum(options) {
            Ok(code) => ExitCode::from(code),
            Err(why) => {
                say(&format!("checksum: {why}"));
                ExitCode::from(TROUBLE)
            }
        },
        Command::Help => {
            print!("{}", options::HELP);
            ExitCode::SUCCESS
        }
        Command::Wrong(why) => {
            say(&format!("checksum: {why}\n\n{}", options::HELP));
            ExitCode::from(USAGE)
        }
    }
}

fn checksum(options: Options) -> Result<u8, String> {
    let started = Instant::now();
    let (brake, pulled) = Brake::new();
    let on_ctrl_c = brake.clone();
    ctrlc::set_handler(move || {
        // who presses it twice does not want to wait
        if !on_ctrl_c.pull(Stop::Interrupted) {
            std::process::exit(INTERRUPTED.into());
        }
    })
    .map_err(|error| format!("no handler for Ctrl-C: {error}"))?;

    let lane = CurrentThreadExecutor::new(None);
    let printer = screen::open(&lane);
    let (result, ended) = promise();
    let worker = thread::Builder::new()
        .name("checksum-loop".to_owned())
        .spawn(move || {
            // nobody else can have cancelled it
            let _ = result.resolve(work::run(options, printer, brake, pulled));
        })
        .map_err(|error| error.to_string())?;
    let ended = lane
        .run_until_future(ended)
        .map_err(|error| error.to_string())?;
    let (printed, closed) = screen::close();
    let mut tally = ended.map_err(|error| format!("the loop ended with {error}"))??;
    let _ = worker.join();
    if let (None, Err(error)) = (&tally.stopped, closed) {
        tally.stopped = Some(Stop::Output(error));
    }
    Ok(conclude(&tally, printed, started.elapsed()))
}

/// Says how it went; gives the exit code.
fn conclude(tally: &Tally, printed: Printed, took: Duration) -> u8 {
    let code = match &tally.stopped {
        None if tally.complaints == 0 => 0,
        None => {
            say(&format!(
                "checksum: {} of these names deserve a look",
                tally.complaints
            ));
            TROUBLE
        }
        Some(stop) => {
            let why = match stop {
                Stop::Interrupted => "interrupted".to_owned(),
                Stop::Output(_) if stop.is_closed_output() => "nobody reads the output".to_owned(),
                Stop::Output(error) => format!("the output cannot be written: {error}"),
            };
            say(&format!(
                "checksum: {why}: {} of the {} files found so far are done, {} queued were \
                 cancelled, {} were cut short",
                printed.files, tally.found, tally.prevented, tally.cut_short
            ));
            match stop {
                Stop::Interrupted => INTERRUPTED,
                Stop::Output(_) if stop.is_closed_output() => OUTPUT_CLOSED,
                Stop::Output(_) => TROUBLE,
            }
        }
    };
    let seconds = took.as_secs_f64().max(1e-9);
    say(&format!(
        "checksum: {} files, {} bytes, {:.1} MB/s, {} threads",
        printed.files,
        printed.bytes,
        printed.bytes as f64 / 1e6 / seconds,
        tally.threads
    ));
    code
}
