//! Programs on a pool: spawn, join, cancel, block, nest, sleep, shut down.
//!
//! The oracle needs no model: no program hangs, every job runs at most once, every handle
//! resolves, the pool's account adds up at the end, and nothing that a job has captured stays
//! alive. `pool_real` runs them on real threads, where a hang is what the fuzzer's time limit
//! says (in the tests, a watchdog); `program` in a simulation, which knows.

use std::time::Duration;

use portage::pool::Shutdown;
use portage::promise::CancelHandle;
use portage::time::{sleep, yield_now};
use portage::{Job, JoinError, JoinHandle, Promise, ThreadPool, promise};

use super::account::{Account, Ticket};
use super::{Bytes, must};

/// A program has at most this many handles.
const HANDLES_MAX: usize = 64;

struct Program {
    pool: ThreadPool,
    account: Account,
    handles: Vec<JoinHandle<u32>>,
    /// How many jobs more may wait for another: each keeps a thread, and one must be left.
    waits_left: usize,
    pinned: Vec<JoinHandle<u32>>,
    cancels: Vec<CancelHandle>,
    /// Jobs wait for these; the program opens them at the latest at its end.
    gates: Vec<Promise<()>>,
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
    let pool = ThreadPool::builder()
        .core_threads(core)
        .max_threads(max)
        .keep_alive(Duration::from_millis(1 + bytes.operand() as u64 % 20))
        .build()
        .expect("the sizes are legal");
    let mut program = Program {
        pool,
        account: Account::default(),
        handles: Vec::new(),
        waits_left: max - 1,
        pinned: Vec::new(),
        cancels: Vec::new(),
        gates: Vec::new(),
        nap,
    };
    while let Some(operation) = bytes.operation() {
        if program.handles.len() < HANDLES_MAX {
            program.step(operation, bytes);
        }
    }
    program.end();
}

impl Program {
    fn keep(&mut self, handle: JoinHandle<u32>) {
        self.cancels.push(handle.cancel_handle());
        self.handles.push(handle);
    }

    fn step(&mut self, operation: u8, bytes: &mut Bytes<'_>) {
        let mut ticket = self.account.ticket();
        let pool = self.pool.clone();
        match operation % 18 {
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
                    pool.spawn_blocking(|| 3).wait().unwrap_or(0)
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
                // nobody waits for it on a worker: it may live on one that waits in turn
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
                self.pinned.push(pinned);
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
                }
            }
            11 => {
                if let Some(at) = bytes.index(self.handles.len()) {
                    self.handles.swap_remove(at).detach();
                }
            }
            12 => {
                // a job that waits for another, however far that is
                if let Some(at) = bytes.index(self.handles.len()) {
                    let other = self.handles.swap_remove(at);
                    if self.waits_left > 0 {
                        self.waits_left -= 1;
                        let handle = pool.spawn_blocking(move || {
                            ticket.stamp();
                            other.wait().unwrap_or(0)
                        });
                        self.keep(handle);
                    }
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
                    assert!(error.is_shut_down());
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
            _ => {
                let mode = match bytes.operand() % 8 {
                    0 => Shutdown::CancelQueued,
                    1 => Shutdown::Drain,
                    _ => return,
                };
                let _ = pool.shutdown_timeout(mode, Duration::ZERO);
            }
        }
    }

    fn end(mut self) {
        for gate in self.gates.drain(..) {
            let _ = gate.resolve(());
        }
        for handle in self.handles.drain(..).chain(self.pinned.drain(..)) {
            match handle.wait() {
                Ok(_) => {}
                Err(error) => must(is_expected(&error), &error.to_string()),
            }
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

fn is_expected(error: &JoinError) -> bool {
    error.is_panic()
        || error.is_cancelled()
        || error.is_shut_down()
        || error.is_lost()
        || error.is_consumed()
        || error.is_would_deadlock()
}
