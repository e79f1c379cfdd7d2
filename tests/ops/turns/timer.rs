//! Sleeps against a sorted list: insert, let go, move, let time pass.
//!
//! Never early; never later than the time that has passed; in order of deadline, equal ones in
//! order of registration. One program in two keeps its sleeps with a frame of this thread, the
//! other with the driver.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use portage::simulation::now;
use portage::time::{Sleep, sleep, sleep_until, timeout};
use portage::{block_on, promise};

use super::{Bytes, must};

const SLEEPS_MAX: usize = 64;

/// Who was woken, in order.
type Log = Arc<Mutex<Vec<(usize, Instant)>>>;

struct Tell(usize, Log);

impl Wake for Tell {
    fn wake(self: Arc<Self>) {
        let mut log = self.1.lock().expect("nobody panics with it");
        log.push((self.0, now()));
    }
}

struct Entry {
    /// `None`: let go.
    sleep: Option<Pin<Box<Sleep>>>,
    waker: Waker,
    /// `None`: never.
    deadline: Option<Instant>,
    /// Its place among equal deadlines.
    turn: usize,
    woken: bool,
}

#[derive(Default)]
struct Model {
    entries: Vec<Entry>,
    log: Log,
    read: usize,
    turns: usize,
    /// Deadline and turn of the last one that was woken.
    last: Option<(Instant, usize)>,
}

/// Runs the program in `data`.
pub fn run(data: &[u8]) {
    super::in_turns(data, |bytes| {
        if bytes.operand() % 2 == 0 {
            with_driver(bytes);
        } else {
            block_on(in_frame(bytes));
        }
    });
}

fn with_driver(bytes: &mut Bytes<'_>) {
    let mut model = Model::default();
    while let Some(operation) = bytes.operation() {
        if let Some(time) = model.step(operation, bytes) {
            // A wait that turns no timers of this thread.
            let (_promise, mut handle) = promise::<()>();
            drop(handle.wait_timeout(time));
            let until = now();
            // Time passes only when everything due has been done.
            drop(handle.wait_timeout(Duration::from_nanos(1)));
            model.check(until);
        }
    }
}

async fn in_frame(bytes: &mut Bytes<'_>) {
    let mut model = Model::default();
    while let Some(operation) = bytes.operation() {
        if operation % 16 == 15 {
            let time = Duration::from_nanos(bytes.operand() as u64);
            let start = now();
            must(
                timeout(time, std::future::pending::<()>()).await.is_err(),
                "late",
            );
            must(now() == start + time, "a limit is exact");
            model.check(now());
        } else if let Some(time) = model.step(operation, bytes) {
            sleep(time).await;
            model.check(now());
        }
    }
}

impl Model {
    /// Does one thing; or says how much time is to pass.
    fn step(&mut self, operation: u8, bytes: &mut Bytes<'_>) -> Option<Duration> {
        match operation % 16 {
            0..=5 if self.entries.len() < SLEEPS_MAX => self.insert(bytes),
            6 => {
                if let Some(at) = bytes.index(self.entries.len()) {
                    self.entries[at].sleep = None;
                }
            }
            7 => {
                if let Some(at) = bytes.index(self.entries.len()) {
                    self.poll(at);
                }
            }
            8 => {
                // polled and dropped at once
                let mut gone = Box::pin(sleep(Duration::from_nanos(bytes.operand() as u64)));
                let _ = gone.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            }
            9 => {
                let at = bytes.operand() as u64;
                let over = now().checked_sub(Duration::from_nanos(at)).unwrap_or(now());
                let mut over = sleep_until(over);
                let mut cx = Context::from_waker(Waker::noop());
                must(
                    Pin::new(&mut over).poll(&mut cx).is_ready(),
                    "what lies behind is over",
                );
            }
            _ => return Some(Duration::from_nanos(1 + bytes.operand() as u64)),
        }
        None
    }

    fn insert(&mut self, bytes: &mut Bytes<'_>) {
        let operand = bytes.operand() as u64;
        let new = match operand {
            255 => sleep(Duration::MAX),
            _ => sleep(Duration::from_nanos(1 + operand / 2)),
        };
        let number = self.entries.len();
        self.turns += 1;
        self.entries.push(Entry {
            deadline: new.deadline(),
            sleep: Some(Box::pin(new)),
            waker: Waker::from(Arc::new(Tell(number, self.log.clone()))),
            turn: self.turns,
            woken: false,
        });
        self.poll(number);
    }

    fn poll(&mut self, at: usize) {
        let entry = &mut self.entries[at];
        let Some(sleep) = &mut entry.sleep else {
            return;
        };
        let polled = sleep.as_mut().poll(&mut Context::from_waker(&entry.waker));
        match polled {
            Poll::Ready(()) => {
                must(entry.deadline.is_some_and(|at| at <= now()), "never early");
                entry.sleep = None;
            }
            Poll::Pending => must(
                entry.deadline.is_none_or(|at| at > now()),
                "what is due is ready",
            ),
        }
    }

    /// All that was due until `until` has been woken, in order.
    fn check(&mut self, until: Instant) {
        let log = self.log.lock().expect("nobody panics with it").clone();
        for (number, at) in &log[self.read..] {
            let entry = &mut self.entries[*number];
            let deadline = entry.deadline.expect("never is never");
            must(deadline <= *at, "no wake is early");
            must(!entry.woken, "woken once");
            entry.woken = true;
            let this = (deadline, entry.turn);
            must(self.last.is_none_or(|last| last < this), "in order");
            self.last = Some(this);
        }
        self.read = log.len();
        for entry in &self.entries {
            let is_due = entry.deadline.is_some_and(|deadline| deadline <= until);
            must(
                !is_due || entry.woken || entry.sleep.is_none(),
                "what is due was woken",
            );
        }
    }
}
