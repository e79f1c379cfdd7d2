//! Programs on a pool: spawn, join, cancel, block, nest, sleep, shut down; some of its threads
//! are refused, or fail at their start.
//!
//! The oracle needs no model: no program hangs, every job runs at most once, every handle
//! resolves, with a value unless the program itself has seen to something else, the pool's
//! account adds up at the end, and nothing that a job has captured stays alive. `pool_real` runs
//! them on real threads, where a hang is what the fuzzer's time limit says (in the tests, a
//! watchdog); `program` in a simulation, which knows.
//!
//! # Why no program may hang
//!
//! Whoever waits has the only handle of what it waits for, and that was made before it: waits
//! make no circle. A pool may have fewer threads than there are waits; then the workers that wait
//! have to run what they wait for.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use portage::pool::{Shutdown, Starter, SystemStarter, ThreadPoolBuilder};
use portage::promise::CancelHandle;
use portage::time::{sleep, yield_now};
use portage::{Job, JoinError, JoinHandle, Promise, ThreadPool, block_on, promise};

use super::account::{Account, Ticket};
use super::{Bytes, must};

/// A program has at most this many handles.
const HANDLES_MAX: usize = 64;

/// And this many waits: one stack has to have room for all of them.
const WAITS_MAX: usize = 48;

struct Program {
    pool: ThreadPool,
    account: Account,
    handles: Vec<JoinHandle<u32>>,
    waits_left: usize,
    /// Nobody waits for these on a worker: pinned tasks, which may live on one that waits in
    /// turn, and jobs that wait for the pool's end.
    last: Vec<JoinHandle<u32>>,
    cancels: Vec<CancelHandle>,
    /// Jobs wait for these; the program opens them at the latest at its end.
    gates: Vec<Promise<()>>,
    /// The pool has one thread at most.
    alone: bool,
    /// Something was cancelled, refused or shut down: not every handle has to have a value.
    disturbed: bool,
    /// How a job blocks its thread for a time.
    nap: fn(Duration),
}

/// Runs the program in `data` on real threads.
pub fn run(data: &[u8]) {
    play(&mut Bytes::new(data), std::thread::sleep);
}

/// Runs the program in `bytes`.
pub fn play(bytes: &mut Bytes<'_>, nap: fn(Duration)) {
    let core = 1 + bytes.operand() % 3;
    let max = core + bytes.operand() % 6;
    let builder = ThreadPool::builder()
        .core_threads(core)
        .max_threads(max)
        .keep_alive(Duration::from_micros(8 * bytes.operand() as u64));
    let (builder, disturbed) = faulty(builder, bytes.operand());
    let mut program = Program {
        pool: builder.build().expect("the sizes are legal"),
        account: Account::default(),
        handles: Vec::new(),
        waits_left: WAITS_MAX,
        last: Vec::new(),
        cancels: Vec::new(),
        gates: Vec::new(),
        alone: max == 1,
        disturbed,
        nap,
    };
    while let Some(operation) = bytes.operation() {
        if program.handles.len() < HANDLES_MAX {
            program.step(operation, bytes);
        }
    }
    program.end();
}

/// Starts a thread unless it `says` so.
struct Refuses<F>(F);

fn refuses(says: impl Fn() -> bool + Send + Sync + 'static) -> Arc<dyn Starter> {
    Arc::new(Refuses(says))
}

impl<F: Fn() -> bool + Send + Sync> Starter for Refuses<F> {
    fn start(
        &self,
        name: String,
        stack: Option<usize>,
        body: Box<dyn FnOnce() + Send>,
    ) -> io::Result<thread::JoinHandle<()>> {
        let Self(says) = self;
        match says() {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => SystemStarter.start(name, stack, body),
        }
    }
}

/// Threads that fail at their start, or that the system refuses; most pools have none.
fn faulty(builder: ThreadPoolBuilder, which: usize) -> (ThreadPoolBuilder, bool) {
    let (kind, which) = (which % 8, which / 8);
    let asked = AtomicUsize::new(0);
    let fails = move |index| {
        if index == which % 4 {
            std::panic::resume_unwind(Box::new("no start"));
        }
    };
    let builder = match kind {
        4 => builder.on_thread_start(fails).starter(refuses(move || {
            asked.fetch_add(1, Ordering::Relaxed) % 3 == 1
        })),
        5 => builder.on_thread_start(fails),
        6 => builder.starter(refuses(move || {
            which >> (asked.fetch_add(1, Ordering::Relaxed) % 5) & 1 == 1
        })),
        7 => builder.starter(refuses(move || {
            asked.fetch_add(1, Ordering::Relaxed) >= which % 4
        })),
        _ => return (builder, false),
    };
    (builder, true)
}

/// Both, at the same time.
async fn both(one: JoinHandle<u32>, other: JoinHandle<u32>) -> u32 {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut first, mut second) = (None, None);
    poll_fn(|cx| {
        for (handle, slot) in [(&mut one, &mut first), (&mut other, &mut second)] {
            if slot.is_none() {
                if let Poll::Ready(outcome) = handle.as_mut().poll(cx) {
                    *slot = Some(value(outcome));
                }
            }
        }
        match (first, second) {
            (Some(one), Some(other)) => Poll::Ready(one.wrapping_add(other)),
            _ => Poll::Pending,
        }
    })
    .await
}

/// What somebody has waited for.
fn value(outcome: Result<u32, JoinError>) -> u32 {
    match outcome {
        Ok(value) => value,
        Err(error) => {
            must(is_expected(&error), &error.to_string());
            0
        }
    }
}

impl Program {
    /// One of the handles, for somebody who waits for it.
    fn awaited(&mut self, bytes: &mut Bytes<'_>) -> Option<JoinHandle<u32>> {
        let at = bytes.index(self.handles.len())?;
        self.waits_left = self.waits_left.checked_sub(1)?;
        Some(self.handles.swap_remove(at))
    }

    fn open_gates(&mut self) {
        for gate in self.gates.drain(..) {
            let _ = gate.resolve(());
        }
    }

    fn keep(&mut self, handle: JoinHandle<u32>) {
        self.cancels.push(handle.cancel_handle());
        self.handles.push(handle);
    }

    fn step(&mut self, operation: u8, bytes: &mut Bytes<'_>) {
        let mut ticket = self.account.ticket();
        let pool = self.pool.clone();
        match operation % 27 {
            0 => {
                let handle = pool.spawn_blocking(move || {
                    ticket.stamp();
                    1
                });
                self.keep(handle);
            }
            1 => {
                let handle = pool.spawn_blocking(move || {
                    ticket.stamp();
                    std::panic::resume_unwind(Box::new("as told"))
                });
                self.keep(handle);
            }
            2 => {
                // waits for a job that it submits itself
                let handle = pool.clone().spawn_blocking(move || {
                    ticket.stamp();
                    value(pool.spawn_blocking(|| 3).wait())
                });
                self.keep(handle);
            }
            3 => {
                let handle = pool.spawn(async move {
                    ticket.stamp();
                    yield_now().await;
                    4
                });
                self.keep(handle);
            }
            4 => {
                let time = Duration::from_micros(bytes.operand() as u64);
                let handle = pool.spawn(async move {
                    ticket.stamp();
                    sleep(time).await;
                    5
                });
                self.keep(handle);
            }
            5 => {
                let (gate, opened) = promise();
                self.gates.push(gate);
                let handle = pool.spawn(async move {
                    ticket.stamp();
                    u32::from(opened.await.is_ok())
                });
                self.keep(handle);
            }
            6 => {
                let time = Duration::from_micros(bytes.operand() as u64);
                let nap = self.nap;
                let handle = pool.spawn_blocking(move || {
                    ticket.stamp();
                    nap(time); // a blocking job as load
                    7
                });
                self.keep(handle);
            }
            7 => {
                let pinned = pool.spawn_pinned(move || async move {
                    let stays = std::rc::Rc::new(std::cell::Cell::new(ticket));
                    yield_now().await;
                    std::rc::Rc::into_inner(stays)
                        .expect("nobody else has it")
                        .into_inner()
                        .stamp();
                    8
                });
                self.cancels.push(pinned.cancel_handle());
                self.last.push(pinned);
            }
            8 => {
                let tickets: Vec<Ticket> = (0..3).map(|_| self.account.ticket()).collect();
                let jobs = tickets.into_iter().map(|mut ticket| {
                    move || {
                        ticket.stamp();
                        9
                    }
                });
                for handle in pool.spawn_batch(jobs) {
                    self.keep(handle);
                }
            }
            9 | 10 => {
                if let Some(at) = bytes.index(self.cancels.len()) {
                    let _ = self.cancels[at].cancel();
                    self.disturbed = true;
                }
            }
            11 => {
                if let Some(at) = bytes.index(self.handles.len()) {
                    self.handles.swap_remove(at).detach();
                }
            }
            12 => {
                // a job that waits for another, however far that is
                if let Some(other) = self.awaited(bytes) {
                    let handle = pool.spawn_blocking(move || {
                        ticket.stamp();
                        value(other.wait())
                    });
                    self.keep(handle);
                }
            }
            13 => drop(self.gates.pop().map(|gate| gate.resolve(()))),
            14 => {
                if let Some(at) = bytes.index(self.handles.len()) {
                    let source = self.handles.swap_remove(at);
                    self.keep(source.map(move |number| {
                        ticket.stamp();
                        number.wrapping_add(1)
                    }));
                }
            }
            15 => {
                let (job, handle) = Job::new(move || {
                    ticket.stamp();
                    16
                });
                if let Err(error) = portage::Executor::execute(&pool, job) {
                    assert!(error.is_shut_down() || error.is_broken());
                    drop(error.into_job());
                }
                self.keep(handle);
            }
            16 => {
                if let Some(at) = bytes.index(self.handles.len()) {
                    let handle = &mut self.handles[at];
                    let time = Duration::from_micros(bytes.operand() as u64);
                    drop(handle.wait_timeout(time));
                }
            }
            17 => {
                if let Some(mode) = mode(bytes) {
                    self.disturbed = true;
                    let _ = pool.shutdown_timeout(mode, Duration::ZERO);
                }
            }
            18 => {
                if let Some(other) = self.awaited(bytes) {
                    let handle = pool.spawn_blocking(move || {
                        ticket.stamp();
                        value(block_on(other))
                    });
                    self.keep(handle);
                }
            }
            19 => {
                if let Some(other) = self.awaited(bytes) {
                    let handle = pool.spawn(async move {
                        ticket.stamp();
                        value(other.await)
                    });
                    self.keep(handle);
                }
            }
            20 => {
                // a poll that blocks
                if let Some(other) = self.awaited(bytes) {
                    let handle = pool.spawn(async move {
                        ticket.stamp();
                        value(other.wait())
                    });
                    self.keep(handle);
                }
            }
            21 => {
                let two = (self.awaited(bytes), self.awaited(bytes));
                if let (Some(one), Some(other)) = two {
                    let handle = pool.spawn_blocking(move || {
                        ticket.stamp();
                        block_on(both(one, other))
                    });
                    self.keep(handle);
                }
            }
            22 => {
                // It must not be suspended where another worker could have it that waits.
                let yields = self.alone;
                let handle = pool.clone().spawn_blocking(move || {
                    let pinned = pool.spawn_pinned(move || async move {
                        ticket.stamp();
                        if yields {
                            yield_now().await;
                        }
                        23
                    });
                    match pinned.wait() {
                        Err(error) if error.is_would_deadlock() => {
                            must(yields, "it ends in its first poll");
                            0
                        }
                        outcome => value(outcome),
                    }
                });
                self.keep(handle);
            }
            23 => {
                // this thread runs it, if nobody has begun
                if let Some(other) = self.awaited(bytes) {
                    self.open_gates();
                    self.check(other.wait_helping());
                }
            }
            24 => {
                if let Some(mode) = mode(bytes) {
                    self.disturbed = true;
                    let job = pool.clone().spawn_blocking(move || {
                        ticket.stamp();
                        must(pool.shutdown(mode).completed, "all others end");
                        24
                    });
                    self.cancels.push(job.cancel_handle());
                    self.last.push(job);
                }
            }
            25 => {
                // a job that awaits a task that awaits a job
                let handle = pool.clone().spawn_blocking(move || {
                    let inner = pool.clone();
                    let task = pool.spawn(async move {
                        ticket.stamp();
                        yield_now().await;
                        value(inner.spawn_blocking(|| 25).await)
                    });
                    value(block_on(task))
                });
                self.keep(handle);
            }
            _ => {
                let (gate, opened) = promise();
                self.gates.push(gate);
                let handle = pool.spawn_blocking(move || {
                    ticket.stamp();
                    u32::from(opened.wait().is_ok())
                });
                self.keep(handle);
            }
        }
    }

    fn check(&self, outcome: Result<u32, JoinError>) {
        if let Err(error) = outcome {
            let said = error.to_string();
            let may_be = error.is_panic() || error.is_consumed();
            must(may_be || self.disturbed, &said);
            must(is_expected(&error), &said);
        }
    }

    fn end(mut self) {
        self.open_gates();
        let handles = std::mem::take(&mut self.handles);
        let last = std::mem::take(&mut self.last);
        for handle in handles.into_iter().chain(last) {
            self.check(handle.wait());
        }
        let report = self.pool.shutdown(Shutdown::Drain);
        assert!(report.completed, "{report:?}");
        let counts = self.pool.metrics();
        assert_eq!(
            counts.submitted,
            counts.completed + counts.panicked + counts.cancelled,
            "{counts:?}"
        );
        assert_eq!(
            (counts.queued, counts.running, counts.threads),
            (0, 0, 0),
            "{counts:?}"
        );
        self.account.settle();
    }
}

/// How a shutdown ends the pool, if it does.
fn mode(bytes: &mut Bytes<'_>) -> Option<Shutdown> {
    match bytes.operand() % 8 {
        0 => Some(Shutdown::CancelQueued),
        1 => Some(Shutdown::Drain),
        _ => None,
    }
}

/// Not `is_would_deadlock`: waits make no circle.
fn is_expected(error: &JoinError) -> bool {
    error.is_panic()
        || error.is_cancelled()
        || error.is_shut_down()
        || error.is_lost()
        || error.is_consumed()
}
