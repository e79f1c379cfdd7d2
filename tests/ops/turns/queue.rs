//! Execution queues: adds of every kind, cancels, closes, drops.
//!
//! Never more at once than the concurrency, never more places than the capacity, and in order
//! where one runs at a time; every handle resolves, and after a close nothing is left.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use portage::execution_queue::{AsyncExecutionQueue, Close};
use portage::executors::{AsyncExecutor, DefaultBackgroundExecutor};
use portage::pool::Shutdown;
use portage::promise::CancelHandle;
use portage::simulation::switch;
use portage::sync::ThreadWithException;
use portage::time::{sleep, timeout};
use portage::{Executor, JoinError, JoinHandle, SubmitError, ThreadPool};

use super::{Account, Bytes, Ticket, must, nap, short};

const JOBS_MAX: usize = 48;

/// How many jobs run, and which number has started last.
struct Gauge {
    running: AtomicUsize,
    limit: usize,
    last: AtomicUsize,
}

/// Inside a job.
struct Inside(Arc<Gauge>);

impl Gauge {
    /// `number`: of a job that this program has added itself, from one.
    fn enter(self: &Arc<Self>, number: usize) -> Inside {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        must(
            running <= self.limit,
            "no more at once than the concurrency",
        );
        if number > 0 && self.limit == 1 {
            let last = self.last.swap(number, Ordering::SeqCst);
            must(last < number, "in order");
        }
        Inside(self.clone())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Program {
    queue: Option<Arc<AsyncExecutionQueue>>,
    capacity: usize,
    pool: ThreadPool,
    gauge: Arc<Gauge>,
    account: Account,
    added: usize,
    handles: Vec<JoinHandle<u32>>,
    cancels: Vec<CancelHandle>,
    helpers: Vec<JoinHandle<()>>,
    threads: Vec<ThreadWithException<()>>,
}

/// Runs the program in `data`.
pub fn run(data: &[u8]) {
    super::in_turns(data, play);
}

fn play(bytes: &mut Bytes<'_>) {
    let capacity = match bytes.operand() % 6 {
        0 => usize::MAX,
        few => few,
    };
    let limit = 1 + bytes.operand() % 3;
    let pool = ThreadPool::builder()
        .core_threads(1 + bytes.operand() % 3)
        .build()
        .expect("a legal size");
    let background = DefaultBackgroundExecutor::new().expect("a thread more");
    let executor: Arc<dyn Executor> = match bytes.operand() % 3 {
        0 => Arc::new(background.handle().clone()),
        _ => Arc::new(pool.clone()),
    };
    let queue = AsyncExecutionQueue::builder()
        .executor(executor)
        .capacity(capacity)
        .concurrency(limit)
        .build()
        .expect("legal numbers");
    let mut program = Program {
        queue: Some(Arc::new(queue)),
        capacity,
        pool,
        gauge: Arc::new(Gauge {
            running: AtomicUsize::new(0),
            limit,
            last: AtomicUsize::new(0),
        }),
        account: Account::default(),
        added: 0,
        handles: Vec::new(),
        cancels: Vec::new(),
        helpers: Vec::new(),
        threads: Vec::new(),
    };
    while let Some(operation) = bytes.operation() {
        program.step(operation, bytes);
    }
    let (account, gauge) = (program.account.clone(), program.gauge.clone());
    program.end();
    background.shutdown(true);
    account.settle();
    must(gauge.running.load(Ordering::SeqCst) == 0, "nobody runs");
}

/// A job of some kind.
fn job(
    gauge: Arc<Gauge>,
    mut ticket: Ticket,
    number: usize,
    kind: usize,
) -> impl FnOnce() -> u32 + Send + 'static {
    move || {
        let _inside = gauge.enter(number);
        ticket.stamp();
        match kind % 6 {
            0 | 1 => {}
            2 => switch(),
            3 => nap(Duration::from_micros(kind as u64)),
            4 => std::panic::resume_unwind(Box::new("as told")),
            _ => {
                switch();
                switch();
            }
        }
        1
    }
}

fn is_expected(error: &JoinError) -> bool {
    error.is_panic() || error.is_cancelled() || error.is_shut_down() || error.is_lost()
}

fn is_refusal(error: &SubmitError) -> bool {
    error.is_full() || error.is_shut_down() || error.is_would_deadlock()
}

impl Program {
    fn keep(&mut self, handle: JoinHandle<u32>) {
        self.cancels.push(handle.cancel_handle());
        self.handles.push(handle);
    }

    fn step(&mut self, operation: u8, bytes: &mut Bytes<'_>) {
        let Some(queue) = self.queue.clone() else {
            return;
        };
        must(queue.len() <= self.capacity, "places");
        let (gauge, ticket) = (self.gauge.clone(), self.account.ticket());
        if self.added >= JOBS_MAX && operation % 16 < 10 {
            return;
        }
        let kind = bytes.operand();
        match operation % 16 {
            0..=3 => {
                self.added += 1;
                let was_closed = queue.is_closed();
                match queue.try_add_task(job(gauge, ticket, self.added, kind)) {
                    Ok(handle) => self.keep(handle),
                    Err(error) => {
                        must(error.is_full() || was_closed, "it had no reason");
                        must(error.into_job().is_some(), "the job comes back");
                    }
                }
            }
            4 | 5 => {
                // a task that waits for room, and then for the job
                self.added += 1;
                let task = self.pool.spawn(async move {
                    match queue.aadd_task(job(gauge, ticket, 0, kind)).await {
                        Ok(handle) => {
                            must(handle.await.err().is_none_or(|e| is_expected(&e)), "end")
                        }
                        Err(error) => must(is_refusal(&error), &error.to_string()),
                    }
                });
                self.helpers.push(task);
            }
            6 => {
                self.added += 1;
                let thread = ThreadWithException::spawn(move || {
                    match queue.add_task(job(gauge, ticket, 0, kind)) {
                        Ok(handle) => {
                            must(handle.wait().err().is_none_or(|e| is_expected(&e)), "end")
                        }
                        Err(error) => must(is_refusal(&error), &error.to_string()),
                    }
                });
                self.threads.push(thread.expect("a thread more"));
            }
            7 => {
                // an async job; its place and its slot are held while it is suspended
                self.added += 1;
                let time = Duration::from_micros(kind as u64);
                let create = move || async move {
                    let mut ticket = ticket;
                    let _inside = gauge.enter(0);
                    ticket.stamp();
                    sleep(time).await;
                    2
                };
                let mut add = Box::pin(queue.aadd_task_async(create));
                let mut cx = Context::from_waker(Waker::noop());
                // at once, or given up: its place goes on to the next
                if let std::task::Poll::Ready(Ok(handle)) = add.as_mut().poll(&mut cx) {
                    self.keep(handle);
                }
            }
            8 => {
                // a job that adds to its own queue
                self.added += 1;
                let inner = self.account.ticket();
                let own = queue.clone();
                let outer = move || {
                    let mut ticket = ticket;
                    ticket.stamp();
                    let result = if kind % 2 == 0 {
                        own.try_add_task(move || drop(inner))
                    } else {
                        own.add_task(move || drop(inner))
                    };
                    match result {
                        Ok(handle) if kind % 4 < 2 => drop(handle.wait()),
                        Ok(handle) => handle.detach(),
                        Err(error) => must(is_refusal(&error), &error.to_string()),
                    }
                    3
                };
                if let Ok(handle) = queue.try_add_task(outer) {
                    self.keep(handle);
                }
            }
            9 => {
                // an adder that goes away while it waits
                self.added += 1;
                let task = self.pool.spawn(async move {
                    let time = Duration::from_micros(kind as u64);
                    let _ = timeout(time, queue.aadd_task(job(gauge, ticket, 0, kind))).await;
                });
                self.helpers.push(task);
            }
            10 => {
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
                if let Some(at) = bytes.index(self.handles.len()) {
                    drop(self.handles[at].wait_timeout(short(bytes)));
                }
            }
            13 if kind % 4 == 0 => {
                let mode = mode(bytes);
                queue.close(mode);
                for handle in &self.handles {
                    must(handle.is_finished(), "a close waits for the jobs");
                }
                must(queue.is_empty() && queue.is_closed(), "closed");
            }
            14 if kind % 4 == 0 => {
                let mode = mode(bytes);
                let task = self.pool.spawn(async move { queue.aclose(mode).await });
                self.helpers.push(task);
            }
            15 if kind % 8 == 0 => self.queue = None,
            _ => nap(short(bytes)),
        }
    }

    fn end(mut self) {
        if let Some(queue) = self.queue.take() {
            if self.added % 2 == 0 {
                queue.close(Close::Drain);
                must(queue.is_empty(), "drained");
                for handle in &self.handles {
                    must(handle.is_finished(), "a close waits for the jobs");
                }
            }
        }
        for thread in self.threads.drain(..) {
            must(thread.try_join().is_ok(), "threads end");
        }
        for helper in self.helpers.drain(..) {
            must(helper.wait().is_ok(), "helpers end");
        }
        for handle in self.handles.drain(..) {
            if handle.is_consumed() {
                continue;
            }
            if let Err(error) = handle.wait() {
                must(is_expected(&error), &error.to_string());
            }
        }
        let report = self.pool.shutdown(Shutdown::Drain);
        must(report.completed, "the pool drains");
    }
}

fn mode(bytes: &mut Bytes<'_>) -> Close {
    match bytes.operand() % 2 {
        0 => Close::Drain,
        _ => Close::CancelPending,
    }
}
