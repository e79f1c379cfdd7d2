//! The cell without any runtime: a queue that tests look into.

#![forbid(unsafe_code)]

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as Cx, Poll, Waker};

use super::{
    Cancel, Completion, Ended, Home, Reader, Runner, Schedule, Settle, Spawned, TaskRef, WakeKind,
    future, job, late_job, local, remote,
};
use crate::base::sync::{Arc, Mutex};
use crate::entered;

/// Keeps what is scheduled, and the account.
struct Queue {
    home: Home,
    tasks: Mutex<Vec<TaskRef>>,
    kinds: Mutex<Vec<WakeKind>>,
    ended: Mutex<Vec<Ended>>,
    started: AtomicUsize,
}

impl Queue {
    fn new(home: Home) -> Arc<Self> {
        Arc::new(Self {
            home,
            tasks: Mutex::new(Vec::new()),
            kinds: Mutex::new(Vec::new()),
            ended: Mutex::new(Vec::new()),
            started: AtomicUsize::new(0),
        })
    }

    fn run_all(&self) -> usize {
        let mut ran = 0;
        loop {
            let Some(task) = self.tasks.lock().pop() else {
                return ran;
            };
            ran += 1;
            task.run();
        }
    }
}

impl Schedule for Queue {
    fn schedule(&self, task: TaskRef, kind: WakeKind) {
        self.kinds.lock().push(kind);
        self.tasks.lock().push(task);
    }
    fn home(&self) -> Home {
        self.home
    }
    fn started(&self, _task: &TaskRef) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }
    fn ended(&self, end: Ended) {
        self.ended.lock().push(end);
    }
}

/// A worker of the queue: an account and a line of its own.
struct Worker(Arc<Queue>);

impl Runner for Worker {
    fn home(&self) -> Home {
        self.0.home
    }
    fn started(&self) {
        self.0.started.fetch_add(1, Ordering::Relaxed);
    }
    fn ended(&self, end: &Ended) {
        self.0.ended.lock().push(*end);
    }
    fn let_go(&self, home: Arc<dyn Schedule>) {
        drop(home);
    }
    fn woken(&self, task: TaskRef) {
        self.0.schedule(task, WakeKind::Woken);
    }
}

struct Probe(Arc<AtomicUsize>);

impl Probe {
    fn new() -> (Self, Arc<AtomicUsize>) {
        let drops = Arc::new(AtomicUsize::new(0));
        (Self(drops.clone()), drops)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn count(drops: &Arc<AtomicUsize>) -> usize {
    drops.load(Ordering::Relaxed)
}

/// A future that is pending until `gate` holds a waker count of zero rounds left.
fn rounds(
    left: usize,
    wakers: Arc<Mutex<Vec<Waker>>>,
    probe: Probe,
) -> impl Future<Output = usize> + Send {
    let mut left = left;
    poll_fn(move |cx: &mut Cx<'_>| {
        let _keep = &probe;
        if left == 0 {
            return Poll::Ready(7);
        }
        left -= 1;
        wakers.lock().push(cx.waker().clone());
        Poll::Pending
    })
}

fn must<T>(reader: &mut Reader<T>) -> Result<T, crate::join_error::JoinError> {
    reader.take().expect("the outcome is there")
}

#[test]
fn a_job_runs_once_and_its_account_is_kept() {
    let queue = Queue::new(Home::Pool(1));
    let (task, mut reader) = job(Spawned::here(), queue.clone(), None, || Ok(6 * 7));
    assert!(reader.take().is_none());
    task.run();
    assert_eq!(must(&mut reader).unwrap(), 42);
    assert!(must(&mut reader).unwrap_err().is_consumed());
    assert_eq!(queue.started.load(Ordering::Relaxed), 1);
    let ended = queue.ended.lock();
    assert_eq!(ended.len(), 1);
    assert!(ended[0].started && ended[0].how == Completion::Value);
}

#[test]
fn a_cancelled_job_is_dropped_before_cancel_returns() {
    let queue = Queue::new(Home::Pool(1));
    let (probe, drops) = Probe::new();
    let (task, mut reader) = job(Spawned::here(), queue.clone(), None, move || {
        drop(probe);
        Ok(())
    });
    assert_eq!(reader.cancel(), Cancel::Prevented);
    assert_eq!(count(&drops), 1);
    assert_eq!(reader.cancel(), Cancel::Prevented);
    assert!(must(&mut reader).unwrap_err().is_cancelled());
    task.run();
    assert_eq!(queue.started.load(Ordering::Relaxed), 0);
    assert_eq!(queue.ended.lock().len(), 1);
}

#[test]
fn a_joiner_runs_the_job_and_the_queue_finds_nothing_left() {
    let queue = Queue::new(Home::Pool(1));
    let (task, mut reader) = job(Spawned::here(), queue, None, || Ok(1));
    assert!(reader.hold().run_here());
    assert!(!reader.hold().run_here());
    assert_eq!(must(&mut reader).unwrap(), 1);
    task.run();
}

#[test]
fn a_future_is_polled_when_it_is_woken_and_not_otherwise() {
    let queue = Queue::new(Home::Pool(1));
    let wakers = Arc::new(Mutex::new(Vec::new()));
    let (probe, drops) = Probe::new();
    let (task, mut reader) = future(
        Spawned::here(),
        queue.clone(),
        rounds(2, wakers.clone(), probe),
    );
    task.run();
    assert_eq!(queue.run_all(), 0);
    let first = wakers.lock().pop().unwrap();
    first.wake_by_ref();
    first.wake_by_ref();
    assert_eq!(queue.run_all(), 1, "two wakes are one poll");
    drop(first);
    wakers.lock().pop().unwrap().wake();
    assert_eq!(queue.run_all(), 1);
    assert_eq!(must(&mut reader).unwrap(), 7);
    assert_eq!(count(&drops), 1);
}

#[test]
fn a_suspended_future_without_wakers_is_dropped_and_lost() {
    let queue = Queue::new(Home::Pool(1));
    let (probe, drops) = Probe::new();
    let wakers = Arc::new(Mutex::new(Vec::new()));
    let (task, mut reader) = future(
        Spawned::here(),
        queue.clone(),
        rounds(1, wakers.clone(), probe),
    );
    task.run();
    wakers.lock().clear();
    assert_eq!(count(&drops), 0, "its executor drops it");
    assert_eq!(queue.run_all(), 1);
    assert_eq!(count(&drops), 1);
    assert!(must(&mut reader).unwrap_err().is_lost());
}

#[test]
fn a_suspended_future_is_cancelled_at_its_executor() {
    let queue = Queue::new(Home::Pool(1));
    let (probe, drops) = Probe::new();
    let wakers = Arc::new(Mutex::new(Vec::new()));
    let (task, mut reader) = future(
        Spawned::here(),
        queue.clone(),
        rounds(1, wakers.clone(), probe),
    );
    task.run();
    assert_eq!(reader.cancel(), Cancel::Requested);
    assert_eq!(queue.run_all(), 1);
    assert_eq!(count(&drops), 1);
    assert!(must(&mut reader).unwrap_err().is_cancelled());
    assert_eq!(reader.cancel(), Cancel::TooLate);
    wakers.lock().pop().unwrap().wake();
    assert_eq!(queue.run_all(), 0, "a late wake does nothing");
}

#[test]
fn a_future_that_wakes_itself_goes_to_the_back() {
    let queue = Queue::new(Home::Pool(1));
    let mut left = 3;
    let (task, mut reader) = future(
        Spawned::here(),
        queue.clone(),
        poll_fn(move |cx| {
            left -= 1;
            cx.waker().wake_by_ref();
            if left == 0 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }),
    );
    task.run();
    assert_eq!(queue.run_all(), 2);
    assert_eq!(*queue.kinds.lock(), [WakeKind::Yielded, WakeKind::Yielded]);
    must(&mut reader).unwrap();
}

#[test]
fn dropping_the_last_driver_unrun_loses_the_job() {
    let queue = Queue::new(Home::Pool(1));
    let (probe, drops) = Probe::new();
    let (task, mut reader) = job(Spawned::here(), queue.clone(), None, move || {
        drop(probe);
        Ok(())
    });
    drop(task);
    assert_eq!(count(&drops), 1);
    assert!(must(&mut reader).unwrap_err().is_lost());
    assert!(!queue.ended.lock()[0].started);
}

#[test]
fn a_refused_task_says_that_the_runtime_is_shut_down() {
    let queue = Queue::new(Home::Pool(1));
    let (task, mut reader) = job(Spawned::here(), queue, None, || Ok(()));
    task.shut_down();
    assert!(must(&mut reader).unwrap_err().is_shut_down());
}

#[test]
fn a_cancelled_task_that_its_executor_refuses_is_cancelled() {
    let queue = Queue::new(Home::Pool(1));
    let (probe, drops) = Probe::new();
    let wakers = Arc::new(Mutex::new(Vec::new()));
    let (task, mut reader) = future(
        Spawned::here(),
        queue.clone(),
        rounds(1, wakers.clone(), probe),
    );
    task.run();
    assert_eq!(reader.cancel(), Cancel::Requested);
    let pushed = queue.tasks.lock().pop().unwrap();
    pushed.shut_down();
    assert_eq!(count(&drops), 1);
    assert!(must(&mut reader).unwrap_err().is_cancelled());
}

#[test]
fn a_late_job_is_counted_by_the_executor_that_has_it() {
    let queue = Queue::new(Home::Pool(1));
    let (task, mut reader) = late_job(Spawned::here(), Some("late".into()), || Ok(3));
    assert!(task.assign(Some(queue.clone())));
    assert!(task.assign(None), "a refused one may go elsewhere");
    assert!(task.assign(Some(queue.clone())));
    assert_eq!(task.name(), Some("late"));
    task.run();
    assert_eq!(must(&mut reader).unwrap(), 3);
    assert_eq!(queue.ended.lock().len(), 1);

    let (task, reader) = late_job(Spawned::here(), None, || Ok(()));
    assert_eq!(reader.cancel(), Cancel::Prevented);
    assert!(!task.assign(Some(queue.clone())));
    assert_eq!(queue.ended.lock().len(), 1, "nothing of it is counted");
}

#[test]
fn a_local_future_cancelled_elsewhere_resolves_at_once_and_is_dropped_at_home() {
    let queue = Queue::new(Home::Thread(entered::thread_key()));
    let (probe, drops) = Probe::new();
    let not_send = std::rc::Rc::new(probe);
    let (task, mut reader) = local(Spawned::here(), queue, async move {
        drop(not_send);
    });
    let hold = reader.hold();
    let cancelled = std::thread::spawn(move || hold.cancel()).join().unwrap();
    assert_eq!(cancelled, Cancel::Prevented);
    assert!(must(&mut reader).unwrap_err().is_cancelled());
    assert_eq!(count(&drops), 0);
    task.run();
    assert_eq!(count(&drops), 1);
}

#[test]
fn a_remote_task_is_made_where_it_is_first_run_and_queued_there() {
    std::thread_local! {
        static QUEUE: std::cell::RefCell<Option<Arc<Queue>>> = const { std::cell::RefCell::new(None) };
    }
    std::thread_local! {
        static FIRST_POLLS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }
    let settle = Settle {
        home: || QUEUE.with(|queue| queue.borrow().clone().unwrap()),
        first_poll: |poll| {
            FIRST_POLLS.set(FIRST_POLLS.get() + 1);
            poll();
        },
    };
    let account = Queue::new(Home::Pool(1));
    let mine = Queue::new(Home::Thread(entered::thread_key()));
    QUEUE.with(|queue| *queue.borrow_mut() = Some(mine.clone()));
    let (task, mut reader) = remote(Spawned::here(), Some(account.clone()), Some(settle), || {
        let mut yielded = false;
        poll_fn(move |cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(5);
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    });
    task.run();
    assert_eq!(mine.run_all(), 1);
    assert_eq!(must(&mut reader).unwrap(), 5);
    assert_eq!(FIRST_POLLS.get(), 1, "of two polls");
    assert_eq!(account.ended.lock().len(), 1);
    assert!(mine.ended.lock().is_empty());
}

#[test]
fn a_block_holds_a_small_closure_in_two_cache_lines() {
    type Block = super::cell::Cell<[u64; 4], (), super::side::Plain>;
    assert!(size_of::<Block>() <= 128, "{}", size_of::<Block>());
    assert!(align_of::<Block>() <= 16);
    type Promise = super::cell::Cell<(), u64, super::side::Writing>;
    assert!(size_of::<Promise>() <= 128, "{}", size_of::<Promise>());
}

#[test]
fn work_of_any_size_and_alignment_has_its_place() {
    #[repr(align(64))]
    struct Wide([u8; 65_536]);
    let queue = Queue::new(Home::Pool(1));
    let wide = Wide([3; 65_536]);
    let (task, mut reader) = job(Spawned::here(), queue.clone(), None, move || {
        assert_eq!((&raw const wide) as usize % 64, 0);
        Ok(u64::from(wide.0[65_535]))
    });
    task.run();
    assert_eq!(must(&mut reader).unwrap(), 3);
    let (task, mut reader) = job(Spawned::here(), queue, None, || Ok(()));
    task.run();
    must(&mut reader).unwrap();
}

#[test]
fn a_future_polled_again_after_its_handle_is_gone_still_ends() {
    let queue = Queue::new(Home::Pool(1));
    let wakers = Arc::new(Mutex::new(Vec::new()));
    let (probe, drops) = Probe::new();
    let (task, reader) = future(
        Spawned::here(),
        queue.clone(),
        rounds(1, wakers.clone(), probe),
    );
    task.run();
    drop(reader);
    wakers.lock().pop().unwrap().wake();
    assert_eq!(queue.run_all(), 1);
    assert_eq!(count(&drops), 1);
}

/// A future may be dropped before its cell is: it must not be dropped again with it.
#[test]
fn a_panic_in_a_poll_drops_the_future_once_and_reaches_the_reader() {
    let queue = Queue::new(Home::Pool(1));
    let (probe, drops) = Probe::new();
    let work: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
        let _keep = probe;
        panic!("boom");
    });
    let (task, mut reader) = future(Spawned::here(), queue, work);
    task.run();
    assert_eq!(count(&drops), 1);
    let error = must(&mut reader).unwrap_err();
    assert_eq!(error.to_string(), "panicked: boom");
}

#[test]
fn what_a_worker_took_is_told_to_that_worker_and_not_to_its_executor() {
    let queue = Queue::new(Home::Pool(1));
    let worker = Worker(Queue::new(Home::Pool(1)));
    let counts = |queue: &Queue| {
        let started = queue.started.load(Ordering::Relaxed);
        (started, queue.ended.lock().len(), queue.tasks.lock().len())
    };
    let wakers = Arc::new(Mutex::new(Vec::new()));
    let (probe, drops) = Probe::new();
    let work = rounds(1, wakers.clone(), probe);
    let (task, mut reader) = future(Spawned::here(), queue.clone(), work);
    assert!(task.run_by(&worker).is_none());
    assert_eq!((counts(&queue), counts(&worker.0)), ((0, 0, 0), (1, 0, 0)));

    // A job that the worker took wakes it: it comes to the worker. Elsewhere: to the executor.
    let waker = wakers.lock().pop().expect("it was polled");
    let wake = move || {
        waker.wake();
        Ok(())
    };
    let (job, _) = job(Spawned::here(), queue.clone(), None, wake);
    assert!(job.run_by(&worker).is_none());
    assert_eq!((counts(&queue), counts(&worker.0)), ((0, 0, 0), (2, 1, 1)));
    let task = worker.0.tasks.lock().pop().expect("it was woken");
    assert!(task.run_by(&worker).is_none());
    assert_eq!((counts(&queue), counts(&worker.0)), ((0, 0, 0), (2, 2, 0)));
    assert_eq!((must(&mut reader).unwrap(), count(&drops)), (7, 1));
}

#[test]
fn what_a_worker_polls_wakes_a_task_of_another_executor_there() {
    let (here, there) = (Queue::new(Home::Pool(1)), Queue::new(Home::Pool(2)));
    let worker = Worker(here.clone());
    let wakers = Arc::new(Mutex::new(Vec::new()));
    let work = rounds(1, wakers.clone(), Probe::new().0);
    let (task, _reader) = future(Spawned::here(), there.clone(), work);
    task.run();
    let waker = wakers.lock().pop().expect("it was polled");
    let (job, _) = job(Spawned::here(), here.clone(), None, move || {
        waker.wake_by_ref();
        Ok(())
    });
    assert!(job.run_by(&worker).is_none());
    assert_eq!((here.tasks.lock().len(), there.tasks.lock().len()), (0, 1));
    assert_eq!(there.run_all(), 1);
}
