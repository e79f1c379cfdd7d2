//! The async main: walks the trees on the loop, sends every file to the pool, and passes what
//! comes back to the main thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use portage::bridge::{Config, exec_in_executor, init_config};
use portage::pool::Shutdown;
use portage::promise::{Cancel, CancelHandle, TaskId};
use portage::time::sleep;
use portage::{EventLoop, JoinHandle, Promise, ThreadPool, promise};

use crate::budget::{Budget, Reserved};
use crate::digest::{PIECE, Trouble, digest};
use crate::lines;
use crate::options::Options;
use crate::screen::{Printer, Progress, REQUEST};
use crate::walk::{Step, Walk};

/// The bound on bytes in flight: every file that is queued, read or waits for its line to be
/// printed holds [`PIECE`] of it.
pub(crate) const LIMIT: usize = 64 * 1024 * 1024;

/// More threads than this do not make a disk faster.
const THREADS_MAX: usize = 64;

/// How long an interrupted run waits for reads that are under way.
const GRACE: Duration = Duration::from_secs(2);

/// Why the run ended before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    Interrupted,
    /// Nobody reads the output, or it cannot be written.
    Output(io::Error),
}

/// Ends the run early; the first reason counts. Any thread may pull it.
#[derive(Clone)]
pub(crate) struct Brake(Arc<Mutex<Option<Promise<Stop>>>>);

impl Brake {
    pub(crate) fn new() -> (Self, JoinHandle<Stop>) {
        let (brake, pulled) = promise();
        (Self(Arc::new(Mutex::new(Some(brake)))), pulled)
    }

    /// False if it was pulled before.
    pub(crate) fn pull(&self, why: Stop) -> bool {
        let brake = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        brake.is_some_and(|brake| brake.resolve(why).is_ok())
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) found: u64,
    pub(crate) complaints: u64,
    pub(crate) threads: usize,
    pub(crate) stopped: Option<Stop>,
    /// Jobs that never ran, and jobs that were told to stop, because of that.
    pub(crate) prevented: u64,
    pub(crate) cut_short: u64,
}

/// Runs everything on a loop of this thread.
pub(crate) fn run(
    options: Options,
    printer: Printer,
    brake: Brake,
    pulled: JoinHandle<Stop>,
) -> Result<Tally, String> {
    let pool = ThreadPool::builder()
        .max_threads(THREADS_MAX)
        .thread_name("checksum")
        .build();
    let pool = pool.map_err(|error| error.to_string())?;
    let home = Rc::new(EventLoop::new());
    let run = Rc::new(Run {
        home: Rc::clone(&home),
        printer,
        brake,
        budget: Budget::new(LIMIT),
        jobs: RefCell::default(),
        read: Arc::default(),
        found: Cell::new(0),
        complaints: Cell::new(0),
    });
    let tally = home.run_until_complete(run.main(options, pool.clone(), pulled));
    // tasks that are left hold the loop, and the loop holds them
    home.close();
    let mut tally = tally.map_err(|error| error.to_string())??;
    // the main thread and this one beside the pool
    tally.threads = pool.metrics().threads_peak + 2;
    pool.shutdown_timeout(Shutdown::CancelQueued, GRACE);
    Ok(tally)
}

/// What the tasks of one run share on their loop.
struct Run {
    home: Rc<EventLoop>,
    printer: Printer,
    brake: Brake,
    budget: Rc<Budget>,
    /// The jobs in flight.
    jobs: RefCell<HashMap<TaskId, CancelHandle>>,
    /// Bytes read so far, also of files that are not done.
    read: Arc<AtomicU64>,
    found: Cell<u64>,
    complaints: Cell<u64>,
}

impl Run {
    async fn main(
        self: Rc<Self>,
        options: Options,
        pool: ThreadPool,
        mut pulled: JoinHandle<Stop>,
    ) -> Result<Tally, String> {
        init_config(Config::new().executor(Arc::new(pool))).map_err(|error| error.to_string())?;
        if self.printer.has_bar() {
            self.home
                .spawn_local(Rc::clone(&self).show_progress())
                .detach();
        }
        let mut walk = self.home.spawn_local(Rc::clone(&self).walk(options));
        let stopped = poll_fn(|cx| {
            if let Poll::Ready(why) = Pin::new(&mut pulled).poll(cx) {
                return Poll::Ready(Ok(why.ok()));
            }
            Pin::new(&mut walk)
                .poll(cx)
                .map(|walked| walked.map(|()| None))
        })
        .await
        .map_err(|error| format!("the walk ended with {error}"))?;
        let mut tally = Tally {
            stopped,
            ..Tally::default()
        };
        if tally.stopped.is_some() {
            walk.cancel();
            for job in self.jobs.borrow().values() {
                match job.cancel() {
                    Cancel::Prevented => tally.prevented += 1,
                    Cancel::Requested => tally.cut_short += 1,
                    Cancel::TooLate => {}
                }
            }
        }
        tally.found = self.found.get();
        tally.complaints = self.complaints.get();
        Ok(tally)
    }

    /// Finds every file and waits until all of them are printed.
    async fn walk(self: Rc<Self>, options: Options) {
        // in sorted output a file waits for the one before it
        let mut before = None;
        for (index, root) in options.paths.into_iter().enumerate() {
            REQUEST.set(index + 1);
            let mut walk = Walk::from(root).await;
            while let Some(step) = walk.next().await {
                match step {
                    Step::Trouble(name, reason) => self.complain(name, reason).await,
                    Step::File(name) => {
                        let place = self.budget.reserve(PIECE).await;
                        let (done, mine) = promise();
                        let turn = std::mem::replace(&mut before, options.sorted.then_some(mine));
                        self.found.set(self.found.get() + 1);
                        let file = Rc::clone(&self).file(name, place, turn, done);
                        self.home.spawn_local(file).detach();
                    }
                }
            }
        }
        self.budget.idle().await;
    }

    /// One file from the disk to the screen. Holds its `place` and its `done` to the end.
    async fn file(
        self: Rc<Self>,
        name: PathBuf,
        place: Reserved,
        turn: Option<JoinHandle<()>>,
        done: Promise<()>,
    ) {
        let sum = self.digest(name.clone()).await;
        if let Some(turn) = turn {
            // however the file before ended, it is this one's turn
            let _ = turn.await;
        }
        match sum {
            Ok((sum, bytes)) => {
                let line = lines::sum_line(&sum, &name);
                if let Err(error) = self.printer.line(line, bytes).await {
                    self.brake.pull(Stop::Output(error));
                    return;
                }
                if let Some(oddity) = lines::oddity(&name) {
                    self.complain(name, format!("is listed, but its name has {oddity}"))
                        .await;
                }
            }
            Err(Trouble::Reason(reason)) => self.complain(name, reason).await,
            Err(Trouble::Cancelled) => {}
        }
        drop((place, done));
    }

    /// Sends one file to the pool.
    async fn digest(&self, name: PathBuf) -> Result<([u8; 32], u64), Trouble> {
        let read = Arc::clone(&self.read);
        let job = exec_in_executor(None, move || digest(&name, &read))
            .map_err(|refused| Trouble::Reason(format!("was not read: {refused}")))?;
        let id = job.id();
        self.jobs.borrow_mut().insert(id, job.cancel_handle());
        let outcome = job.await;
        self.jobs.borrow_mut().remove(&id);
        match outcome {
            Ok(sum) => sum.map(|sum| (sum.sum, sum.bytes)),
            Err(error) if error.is_cancelled() => Err(Trouble::Cancelled),
            Err(error) => Err(Trouble::Reason(format!("was not read: {error}"))),
        }
    }

    async fn complain(&self, name: PathBuf, reason: String) {
        self.complaints.set(self.complaints.get() + 1);
        // without a screen there is nobody to complain to
        let _ = self.printer.complain(name, reason).await;
    }

    async fn show_progress(self: Rc<Self>) {
        let started = Instant::now();
        loop {
            let now = Progress {
                found: self.found.get(),
                bytes: self.read.load(Ordering::Relaxed),
                since: started.elapsed(),
            };
            if self.printer.progress(now).await.is_err() {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Stop {
    pub(crate) fn is_closed_output(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == ErrorKind::BrokenPipe)
    }
}
