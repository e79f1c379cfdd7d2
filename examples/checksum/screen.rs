//! What the main thread alone does: every line, and the bar.
//!
//! Others hand their lines to the lane of the main thread and may wait until they are out, so
//! that a slow reader slows the work down instead of filling the memory.

use std::cell::RefCell;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use portage::{ContextVar, CurrentThreadExecutor};

use crate::lines;

/// The number of the PATH that is being worked on. It travels with every task and job, also to
/// the main thread, so nobody passes it on.
pub(crate) static REQUEST: ContextVar<usize> = ContextVar::new("request");

thread_local! {
    /// Open on the main thread only.
    static SCREEN: RefCell<Option<Screen>> = const { RefCell::new(None) };
}

struct Screen {
    out: BufWriter<Stdout>,
    /// Somebody watches: no line waits in the buffer.
    watched: bool,
    bar: Option<ProgressBar>,
    printed: Printed,
}

/// What stands on stdout: how many lines, and how many bytes their files have.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Printed {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// Opens the screen on this thread, with a bar where stderr is a terminal.
pub(crate) fn open(lane: &CurrentThreadExecutor) -> Printer {
    let bar = io::stderr().is_terminal().then(|| {
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} files  {msg}");
        ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    });
    let printer = Printer {
        lane: lane.clone(),
        has_bar: bar.is_some(),
    };
    SCREEN.set(Some(Screen {
        out: BufWriter::with_capacity(64 * 1024, io::stdout()),
        watched: io::stdout().is_terminal(),
        bar,
        printed: Printed::default(),
    }));
    printer
}

/// Writes out what is left, and takes the bar away.
pub(crate) fn close() -> (Printed, io::Result<()>) {
    let Some(mut screen) = SCREEN.take() else {
        return (Printed::default(), Ok(()));
    };
    if let Some(bar) = screen.bar.take() {
        bar.finish_and_clear();
    }
    let flushed = screen.out.flush();
    // what could not be written now is not tried again when the buffer is dropped
    drop(screen.out.into_parts());
    (screen.printed, flushed)
}

impl Screen {
    fn line(&mut self, line: &[u8], bytes: u64) -> io::Result<()> {
        let Self {
            out,
            watched,
            bar,
            printed,
        } = self;
        let mut write = || {
            out.write_all(line)?;
            printed.files += 1;
            printed.bytes += bytes;
            if *watched { out.flush() } else { Ok(()) }
        };
        match bar {
            Some(bar) if *watched => bar.suspend(write),
            _ => write(),
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }
}

/// One line on stderr; where nobody reads it there is nobody to tell.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// How far the work has come, for the bar.
pub(crate) struct Progress {
    pub(crate) found: u64,
    /// Read so far, also of files that are not done.
    pub(crate) bytes: u64,
    pub(crate) since: Duration,
}

/// The other threads' way to the screen.
#[derive(Clone)]
pub(crate) struct Printer {
    lane: CurrentThreadExecutor,
    has_bar: bool,
}

impl Printer {
    pub(crate) fn has_bar(&self) -> bool {
        self.has_bar
    }

    /// Prints the line of a file on stdout and waits until it is written or buffered.
    pub(crate) async fn line(&self, line: Vec<u8>, bytes: u64) -> io::Result<()> {
        self.run(move |screen| screen.line(&line, bytes)).await?
    }

    /// Prints a diagnostic with the number of its request, which the lane job sees by itself.
    pub(crate) async fn complain(&self, name: PathBuf, reason: String) -> io::Result<()> {
        self.run(move |screen| {
            let request = REQUEST.get_or(0);
            screen.say(&format!(
                "checksum[{request}]: {}: {reason}",
                lines::for_people(&name)
            ));
        })
        .await
    }

    pub(crate) async fn progress(&self, now: Progress) -> io::Result<()> {
        self.run(move |screen| {
            if let Some(bar) = &screen.bar {
                let rate = now.bytes as f64 / now.since.as_secs_f64().max(1e-9);
                bar.set_length(now.found);
                bar.set_position(screen.printed.files);
                bar.set_message(format!(
                    "{}  {:.1} MB/s",
                    lines::size(now.bytes),
                    rate / 1e6
                ));
            }
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Screen) -> T + Send + 'static,
    ) -> io::Result<T> {
        let on_main = move || {
            SCREEN.with_borrow_mut(|screen| {
                let screen = screen.as_mut().ok_or(io::ErrorKind::NotConnected)?;
                Ok(job(screen))
            })
        };
        let printing = self.lane.submit(on_main).map_err(io::Error::other)?;
        printing.await.map_err(io::Error::other)?
    }
}
