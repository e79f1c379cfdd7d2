//! Models of the line: places, slots and waiters meet. Run: `just loom loom_queue`.
//!
//! The jobs are real, with their cells; the executor only keeps them, so that a model decides
//! who runs them. All are bounded to three preemptions unless they say otherwise.

#![forbid(unsafe_code)]

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::{AddTask, AsyncExecutionQueue, Close};
use crate::base::sync::{Arc, Mutex};
use crate::entered::Parking;
use crate::error::SubmitError;
use crate::executor::{Executor, Job};
use crate::promise::JoinHandle;

/// Keeps what it is given, in order.
#[derive(Default)]
struct Kept(Mutex<Vec<Job>>);

impl Kept {
    fn take(&self) -> Vec<Job> {
        std::mem::take(&mut *self.0.lock())
    }

    fn run_all(&self) {
        loop {
            let jobs = self.take();
            if jobs.is_empty() {
                return;
            }
            jobs.into_iter().for_each(Job::run);
        }
    }
}

impl Executor for Kept {
    fn execute(&self, job: Job) -> Result<(), SubmitError> {
        self.0.lock().push(job);
        Ok(())
    }
}

fn bounded(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.max_branches = 10_000;
    builder.check(model);
}

fn queue(capacity: usize, concurrency: usize) -> (AsyncExecutionQueue, Arc<Kept>) {
    let kept = Arc::new(Kept::default());
    let queue = AsyncExecutionQueue::builder()
        .executor(kept.clone())
        .capacity(capacity)
        .concurrency(concurrency)
        .build()
        .expect("the sizes are valid");
    (queue, kept)
}

fn poll<T>(add: &mut AddTask<T>, waker: &Waker) -> Option<JoinHandle<T>> {
    match Pin::new(add).poll(&mut Context::from_waker(waker)) {
        Poll::Ready(answer) => Some(answer.expect("the queue is open")),
        Poll::Pending => None,
    }
}

/// Blocks until the add is through.
fn wait<T>(add: &mut AddTask<T>) -> JoinHandle<T> {
    let parking = Parking::current();
    let mut handle = None;
    let look = || {
        handle = poll(add, parking.waker());
        handle.is_some()
    };
    parking.wait_until(look, None);
    handle.expect("the wait ends with a handle")
}

/// Question: a job ends while another is added for its place; does that one get in, and is it
/// handed over?
///
/// Must fail when: the end of a job gives free places to nobody, or hands nothing over, or
/// wakes nobody; a look leaves no waker.
#[test]
fn loom_queue_permits_end_meets_add() {
    bounded(|| {
        let (queue, kept) = queue(1, 1);
        queue.try_add_task(|| ()).expect("there is room").detach();
        let first = kept.take();
        let ender = thread::spawn(move || first.into_iter().for_each(Job::run));
        let mut add = queue.aadd_task(|| 7);
        // Whoever looked first is not the one who waits.
        let early = poll(&mut add, Waker::noop());
        let handle = early.unwrap_or_else(|| wait(&mut add));
        assert_eq!(queue.len(), 1);
        ender.join().unwrap();
        kept.run_all();
        assert!(handle.is_finished(), "never handed over");
        assert_eq!(queue.len(), 0);
    });
}

/// Question: a queued job is cancelled while it is handed over; is its place free, its slot
/// too, and does the one behind it run?
///
/// Must fail when: the work does not give up its place; the end of a job keeps its slot.
#[test]
fn loom_queue_permits_cancel_meets_hand_over() {
    bounded(|| {
        let (queue, kept) = queue(3, 1);
        queue.try_add_task(|| ()).expect("there is room").detach();
        let second = queue.try_add_task(|| ()).expect("there is room");
        let third = queue.try_add_task(|| ()).expect("there is room");
        let first = kept.take();
        let ender = thread::spawn(move || first.into_iter().for_each(Job::run));
        let _ = second.cancel();
        ender.join().unwrap();
        kept.run_all();
        assert!(second.is_finished() && third.is_finished());
        assert_eq!(queue.len(), 0);
    });
}

/// Question: two wait for room, and the first goes away while a place comes; does the place
/// reach the second, and does the first never run?
///
/// Must fail when: an add that goes away keeps the place that it was given; the end of a job
/// gives free places to nobody.
#[test]
fn loom_queue_permits_dropped_adder_gives_its_place_on() {
    bounded(|| {
        let (queue, kept) = queue(1, 1);
        queue.try_add_task(|| ()).expect("there is room").detach();
        let first = kept.take();
        let mut gone = queue.aadd_task(|| unreachable!("its add was dropped"));
        let mut stays = queue.aadd_task(|| 7);
        assert!(poll(&mut gone, Waker::noop()).is_none());
        assert!(poll(&mut stays, Waker::noop()).is_none());
        let ender = thread::spawn(move || first.into_iter().for_each(Job::run));
        drop(gone);
        let handle = wait(&mut stays);
        ender.join().unwrap();
        kept.run_all();
        assert!(handle.is_finished(), "never handed over");
        assert_eq!(queue.len(), 0);
    });
}

/// Question: two jobs end at once and their threads hand over the next two; do these reach
/// the executor in order, and both?
///
/// Must fail when: two hand over at a time; who has handed over does not look again.
#[test]
fn loom_queue_permits_two_enders_keep_the_order() {
    bounded(|| {
        let (queue, kept) = queue(usize::MAX, 2);
        let handles: Vec<_> = (0..4)
            .map(|_| queue.try_add_task(|| ()).expect("there is room"))
            .collect();
        let mut running = kept.take().into_iter();
        let (one, two) = (running.next().unwrap(), running.next().unwrap());
        let ender = thread::spawn(move || one.run());
        two.run();
        ender.join().unwrap();
        let ids: Vec<_> = kept.0.lock().iter().map(Job::id).collect();
        assert_eq!(ids, [handles[2].id(), handles[3].id()]);
        kept.run_all();
        assert!(handles.iter().all(JoinHandle::is_finished));
    });
}

/// Question: a queue is drained while its jobs end elsewhere; does the closer always wake, and
/// never before the last end?
///
/// Must fail when: the end of a job does not look after the closers; a look leaves no waker.
#[test]
fn loom_queue_permits_close_meets_end() {
    bounded(|| {
        let (queue, kept) = queue(usize::MAX, 1);
        let ran = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            let ran = ran.clone();
            let job = move || {
                ran.fetch_add(1, Ordering::Relaxed);
            };
            queue.try_add_task(job).expect("there is room").detach();
        }
        let ender = thread::spawn(move || kept.run_all());
        queue.close(Close::Drain);
        assert_eq!(ran.load(Ordering::Relaxed), 2);
        ender.join().unwrap();
    });
}
