//! Jobs and tasks of all kinds, cancelled at every point.
//!
//! What a cancel answers must be true: `Prevented` is gone and has not run and never will;
//! `TooLate` is finished. Whatever was not cancelled gives its value.

use std::future::pending;
use std::time::Duration;

use portage::bridge::{async_to_sync, sync_to_async};
use portage::cancel::is_cancelled;
use portage::execution_queue::AsyncExecutionQueue;
use portage::executors::{AsyncExecutor, DefaultBackgroundExecutor};
use portage::pool::Shutdown;
use portage::promise::{Cancel, CancelHandle};
use portage::simulation::switch;
use portage::time::{sleep, timeout, yield_now};
use portage::{JoinHandle, Promise, ThreadPool, promise};
use std::sync::Arc;

use super::{Account, Bytes, Mark, Ticket, must, nap, short};

const ITEMS_MAX: usize = 40;

/// Where an item may end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Its value is delivered unless it was prevented.
    Job,
    /// It gives its value unless it was cancelled.
    Task,
    /// It ends by a cancel only.
    Endless,
}

struct Item {
    kind: Kind,
    handle: Option<JoinHandle<u32>>,
    canceller: CancelHandle,
    mark: Mark,
    pinned: bool,
    cancelled: bool,
    prevented: bool,
}

struct Program {
    pool: ThreadPool,
    background: DefaultBackgroundExecutor,
    queue: AsyncExecutionQueue,
    account: Account,
    items: Vec<Item>,
    promises: Vec<Promise<u32>>,
    helpers: Vec<JoinHandle<()>>,
}

/// Runs the program in `data`.
pub fn run(data: &[u8]) {
    super::in_turns(data, play);
}

fn play(bytes: &mut Bytes<'_>) {
    let core = 1 + bytes.operand() % 3;
    let pool = ThreadPool::builder()
        .core_threads(core)
        .build()
        .expect("a legal size");
    let queue = AsyncExecutionQueue::builder()
        .executor(Arc::new(pool.clone()))
        .concurrency(1 + bytes.operand() % 2)
        .build()
        .expect("legal numbers");
    let mut program = Program {
        pool,
        background: DefaultBackgroundExecutor::new().expect("a thread more"),
        queue,
        account: Account::default(),
        items: Vec::new(),
        promises: Vec::new(),
        helpers: Vec::new(),
    };
    while let Some(operation) = bytes.operation() {
        program.step(operation, bytes);
    }
    program.end();
}

async fn steps(mut ticket: Ticket, time: Duration) -> u32 {
    ticket.stamp();
    yield_now().await;
    switch();
    sleep(time).await;
    switch();
    1
}

fn work(mut ticket: Ticket) -> u32 {
    ticket.stamp();
    switch();
    let told = is_cancelled();
    switch();
    must(!told || is_cancelled(), "a request stays");
    1
}

impl Program {
    fn keep(&mut self, kind: Kind, pinned: bool, mark: Mark, handle: JoinHandle<u32>) {
        self.items.push(Item {
            kind,
            canceller: handle.cancel_handle(),
            handle: Some(handle),
            mark,
            pinned,
            cancelled: false,
            prevented: false,
        });
    }

    fn step(&mut self, operation: u8, bytes: &mut Bytes<'_>) {
        let operation = operation % 20;
        if operation < 11 && self.items.len() < ITEMS_MAX {
            self.spawn(operation, bytes);
        } else {
            self.disturb(operation, bytes);
        }
    }

    fn spawn(&mut self, operation: u8, bytes: &mut Bytes<'_>) {
        let ticket = self.account.ticket();
        let mark = ticket.mark();
        let pool = self.pool.clone();
        let time = short(bytes);
        let (kind, handle) = match operation {
            0 | 1 => (Kind::Job, pool.spawn_blocking(move || work(ticket))),
            2 => (Kind::Task, pool.spawn(steps(ticket, time))),
            3 => {
                let task = async move {
                    let mut ticket = ticket;
                    ticket.stamp();
                    pending().await
                };
                // kept alive by a waker that somebody holds: the timer of ever
                let task = async move {
                    let endless = timeout(Duration::MAX, task);
                    endless.await.unwrap_or(0)
                };
                (Kind::Endless, pool.spawn(task))
            }
            4 => {
                let task = self.background.handle().spawn(steps(ticket, time));
                (Kind::Task, task)
            }
            5 => (Kind::Task, pool.spawn_pinned(move || steps(ticket, time))),
            6 => match self.queue.try_add_task(move || work(ticket)) {
                Ok(handle) => (Kind::Job, handle),
                Err(error) => return must(error.is_shut_down(), "an unbounded queue"),
            },
            7 => {
                // a bridged job: it goes with the task that awaits it
                let executor = Arc::new(pool.clone());
                let task = async move {
                    let call = sync_to_async(move || work(ticket)).executor(executor);
                    call.await.unwrap_or(0)
                };
                (Kind::Task, pool.spawn(task))
            }
            8 => {
                // and the other way round, twice
                let inner = pool.clone();
                let job = move || {
                    let call = async_to_sync(move || async move {
                        sleep(time).await;
                        let job = sync_to_async(move || work(ticket));
                        job.executor(Arc::new(inner)).await.unwrap_or(0)
                    });
                    call.call().unwrap_or(0);
                    1
                };
                (Kind::Job, pool.spawn_blocking(job))
            }
            9 => {
                // a waiter that goes before what it waits for
                let inner = pool.spawn(steps(ticket, time));
                let task = async move {
                    let _ = timeout(time / 2, inner).await;
                    1
                };
                (Kind::Task, pool.spawn(task))
            }
            _ => {
                let (promise, handle) = promise();
                drop(ticket);
                if bytes.operand() % 2 == 0 {
                    must(promise.start(), "nobody has cancelled it");
                }
                self.promises.push(promise);
                let canceller = handle.cancel_handle();
                self.items.push(Item {
                    kind: Kind::Task,
                    handle: Some(handle),
                    canceller,
                    mark,
                    pinned: false,
                    cancelled: false,
                    prevented: false,
                });
                return;
            }
        };
        // The mark of a nested one belongs to what is inside of it.
        let mark = match operation {
            7..=9 => self.account.ticket().mark(),
            _ => mark,
        };
        self.keep(kind, operation == 5, mark, handle);
    }

    fn disturb(&mut self, operation: u8, bytes: &mut Bytes<'_>) {
        let Some(at) = bytes.index(self.items.len()) else {
            return;
        };
        match operation {
            11..=13 => self.cancel(at),
            14 => {
                // from a worker
                let item = &mut self.items[at];
                item.cancelled = true;
                let canceller = item.canceller.clone();
                let helper = self.pool.spawn_blocking(move || {
                    switch();
                    let _ = canceller.cancel();
                });
                self.helpers.push(helper);
            }
            15 => self.items[at].handle = None,
            16 => {
                if let Some(handle) = &mut self.items[at].handle {
                    drop(handle.wait_timeout(short(bytes)));
                }
            }
            17 => {
                // a job that waits; not for a pinned task, whose worker may wait in turn
                let item = &mut self.items[at];
                if item.pinned {
                    return;
                }
                if let Some(handle) = item.handle.take() {
                    let waiter = self.pool.spawn_blocking(move || drop(handle.wait()));
                    self.helpers.push(waiter);
                }
            }
            18 => {
                if !self.promises.is_empty() {
                    let at = bytes.operand() % self.promises.len();
                    let promise = self.promises.swap_remove(at);
                    let _ = promise.resolve(1);
                }
            }
            _ => nap(short(bytes)),
        }
    }

    fn cancel(&mut self, at: usize) {
        let item = &mut self.items[at];
        let answer = item.canceller.cancel();
        item.cancelled = true;
        match answer {
            Cancel::Prevented => {
                item.prevented = true;
                must(item.mark.is_gone(), "prevented work is dropped");
                must(!item.mark.has_run(), "prevented work has not run");
                if let Some(handle) = &item.handle {
                    must(handle.is_finished(), "a prevented handle is finished");
                }
            }
            Cancel::Requested => must(!item.prevented, "prevented stays prevented"),
            Cancel::TooLate => {
                if let Some(handle) = &item.handle {
                    must(handle.is_finished(), "too late is finished");
                }
            }
        }
        if item.prevented {
            must(answer == Cancel::Prevented, "again: prevented");
        }
    }

    fn end(mut self) {
        for item in &mut self.items {
            if item.kind == Kind::Endless {
                item.cancelled = true;
                let _ = item.canceller.cancel();
            }
        }
        for promise in self.promises.drain(..) {
            let _ = promise.resolve(1);
        }
        for helper in self.helpers.drain(..) {
            must(helper.wait().is_ok(), "helpers end");
        }
        for item in self.items.drain(..) {
            let Some(handle) = item.handle else { continue };
            if handle.is_consumed() {
                continue;
            }
            match handle.wait() {
                Ok(_) => must(!item.prevented, "prevented work gives no value"),
                Err(error) => {
                    must(error.is_cancelled(), &error.to_string());
                    must(item.cancelled, "cancelled by somebody");
                    let is_told = item.prevented || item.kind != Kind::Job;
                    must(is_told || !item.mark.has_run(), "a job delivers");
                }
            }
        }
        drop(self.queue);
        self.background.shutdown(true);
        let report = self.pool.shutdown(Shutdown::Drain);
        must(report.completed, "the pool drains");
        let counts = self.pool.metrics();
        let ended = counts.completed + counts.panicked + counts.cancelled;
        must(counts.submitted == ended, &format!("{counts:?}"));
        self.account.settle();
    }
}
