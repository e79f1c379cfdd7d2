//! What a user of an `EventLoop` may rely on.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod closing;
#[path = "../kit/mod.rs"]
mod kit;
mod nesting;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self};
use std::time::Duration;

use futures_task::Spawn;
use portage::event_loop::{LoopState, running_loop};
use portage::promise::Cancel;
use portage::time::{sleep, yield_now};
use portage::{EventLoop, ExecutorExt, LoopHandle, promise};

use kit::{guarded, run_all};

/// What happened, in order; for one thread.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<Vec<u32>>>);

impl Log {
    fn note(&self, what: u32) {
        self.0.borrow_mut().push(what);
    }

    fn read(&self) -> Vec<u32> {
        self.0.borrow().clone()
    }
}

/// Tells where it is dropped, and does something there.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A loop on a thread of its own, until the end of the test.
struct Remote {
    handle: LoopHandle,
    thread: Option<thread::JoinHandle<()>>,
}

impl Remote {
    fn start() -> Self {
        let (to, from) = mpsc::channel();
        let thread = thread::spawn(move || {
            let event_loop = EventLoop::new();
            to.send(event_loop.handle()).expect("the test waits for it");
            event_loop.run_until_stopped().expect("nothing runs yet");
        });
        Self {
            handle: from.recv().expect("the thread sends it"),
            thread: Some(thread),
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.handle.stop();
        let ended = self.thread.take().expect("dropped once").join();
        assert!(ended.is_ok() || thread::panicking());
    }
}

#[test]
fn tasks_of_each_kind_give_their_value_to_their_handle() {
    guarded(|| {
        let event_loop = EventLoop::new();
        let handle = event_loop.handle();
        let local = Rc::new(1);
        let tasks = [
            event_loop.spawn_local(async move { *local }),
            handle.spawn(async {
                yield_now().await;
                2
            }),
            handle.spawn_with(|| async {
                let local = Rc::new(3);
                yield_now().await;
                *local
            }),
            handle.submit(|| 4).unwrap(),
        ];
        let values = event_loop.run_until_complete(async {
            let mut values = Vec::new();
            for task in tasks {
                values.push(task.await.unwrap());
            }
            values
        });
        assert_eq!(values.unwrap(), [1, 2, 3, 4]);
    });
}

#[test]
fn first_polls_come_in_spawn_order_from_whichever_thread() {
    guarded(|| {
        let event_loop = EventLoop::new();
        let order = Arc::new(Mutex::new(Vec::new()));
        let note = |n: usize| {
            let order = order.clone();
            async move { order.lock().unwrap().push(n) }
        };
        let expected = 600;
        for n in (0..expected).step_by(3) {
            let (remote, far) = (event_loop.handle(), note(n));
            thread::spawn(move || remote.spawn(far).detach())
                .join()
                .unwrap();
            event_loop.spawn_local(note(n + 1)).detach();
            event_loop.handle().spawn(note(n + 2)).detach();
        }
        event_loop.handle().stop();
        event_loop.run_until_stopped().unwrap();
        assert_eq!(*order.lock().unwrap(), (0..expected).collect::<Vec<_>>());
    });
}

#[test]
fn first_polls_come_in_spawn_order_also_from_inside() {
    guarded(|| {
        let event_loop = Rc::new(EventLoop::new());
        let log = Log::default();
        for n in 0..300 {
            let log = log.clone();
            event_loop.spawn_local(async move { log.note(n) }).detach();
        }
        let inner = event_loop.clone();
        let tasks = event_loop.run_until_complete({
            let log = log.clone();
            async move {
                for n in 300..600 {
                    let log = log.clone();
                    inner.spawn_local(async move { log.note(n) }).detach();
                }
                inner.spawn_local(async {}).await.unwrap();
            }
        });
        tasks.unwrap();
        assert_eq!(log.read(), (0..600).collect::<Vec<_>>());
    });
}

#[test]
fn jobs_come_in_order_per_submitter() {
    guarded(|| {
        let remote = Remote::start();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let submitters: Vec<_> = (0..3)
            .map(|submitter| {
                let (handle, seen) = (remote.handle.clone(), seen.clone());
                thread::spawn(move || {
                    let jobs: Vec<_> = (0..1_000)
                        .map(|n| {
                            let seen = seen.clone();
                            let job = move || seen.lock().unwrap().push((submitter, n));
                            handle.submit(job).unwrap()
                        })
                        .collect();
                    jobs.into_iter().for_each(|job| job.wait().unwrap());
                })
            })
            .collect();
        submitters
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        for submitter in 0..3 {
            let seen = seen.lock().unwrap();
            let own = seen
                .iter()
                .filter(|(who, _)| *who == submitter)
                .map(|(_, n)| *n);
            assert!(own.eq(0..1_000));
        }
    });
}

#[test]
fn jobs_that_came_before_the_run_go_before_those_that_come_in_it() {
    guarded(|| {
        let event_loop = EventLoop::new();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (begun, has_begun) = mpsc::channel();
        let (sent, has_sent) = mpsc::channel();
        let first = event_loop.handle().submit(move || {
            begun.send(()).unwrap();
            has_sent.recv().unwrap();
        });
        let (handle, theirs) = (event_loop.handle(), seen.clone());
        let submit = move |n| {
            let seen = theirs.clone();
            let job = handle.submit(move || seen.lock().unwrap().push(n));
            job.unwrap().detach();
        };
        (0..500).for_each(&submit);
        let submitter = thread::spawn(move || {
            has_begun.recv().unwrap();
            (500..1_000).for_each(submit);
            sent.send(()).unwrap();
        });
        let run = event_loop.run_until_complete(async {
            first.unwrap().await.unwrap();
            while seen.lock().unwrap().len() < 1_000 {
                yield_now().await;
            }
        });
        run.unwrap();
        assert!(seen.lock().unwrap().iter().copied().eq(0..1_000));
        submitter.join().unwrap();
    });
}

#[test]
fn a_yielding_task_goes_to_the_back() {
    guarded(|| {
        let event_loop = Rc::new(EventLoop::new());
        let log = Log::default();
        let tasks: Vec<_> = (0..3)
            .map(|n| {
                let log = log.clone();
                event_loop.spawn_local(async move {
                    for round in 0..3 {
                        log.note(10 * round + n);
                        yield_now().await;
                    }
                })
            })
            .collect();
        run_all(&event_loop, tasks);
        assert_eq!(log.read(), [0, 1, 2, 10, 11, 12, 20, 21, 22]);

        let (log, inner) = (Log::default(), event_loop.clone());
        let spawned_first = log.clone();
        let task = event_loop.spawn_local(async move {
            spawned_first.note(1);
            let child = spawned_first.clone();
            inner.spawn_local(async move { child.note(2) }).detach();
            yield_now().await;
            spawned_first.note(3);
        });
        event_loop.run_until_complete(task).unwrap().unwrap();
        assert_eq!(
            log.read(),
            [1, 2, 3],
            "behind what was spawned before it yielded"
        );
    });
}

#[test]
fn a_panic_of_the_future_unwinds_and_the_loop_stays_usable() {
    guarded(|| {
        let event_loop = EventLoop::new();
        let task = event_loop.spawn_local(async {
            yield_now().await;
            5
        });
        let run = catch_unwind(AssertUnwindSafe(|| {
            event_loop.run_until_complete(async { panic!("mine") })
        }));
        assert_eq!(*run.unwrap_err().downcast::<&str>().unwrap(), "mine");
        assert_eq!(event_loop.handle().state(), LoopState::Idle);
        assert!(running_loop().is_none());
        assert_eq!(event_loop.run_until_complete(task).unwrap().unwrap(), 5);
    });
}

#[test]
fn a_panic_of_a_task_or_job_stays_in_its_handle() {
    guarded(|| {
        let event_loop = EventLoop::new();
        let task = event_loop.spawn_local(async { panic!("task") });
        let job = event_loop.handle().submit(|| panic!("job")).unwrap();
        let (task, job): (Result<(), _>, Result<(), _>) = event_loop
            .run_until_complete(async { (task.await, job.await) })
            .unwrap();
        assert!(task.unwrap_err().is_panic() && job.unwrap_err().is_panic());
    });
}

#[test]
fn an_idle_loop_keeps_work_for_its_next_run() {
    guarded(|| {
        let event_loop = EventLoop::new();
        event_loop.run_until_complete(async {}).unwrap();
        let handle = event_loop.handle();
        let far = thread::spawn(move || handle.submit(|| thread::current().id()).unwrap());
        let mut job = far.join().unwrap();
        assert!(job.try_take().is_none());
        let ran_on = event_loop.run_until_complete(job).unwrap().unwrap();
        assert_eq!(ran_on, thread::current().id());
    });
}

#[test]
fn a_stop_is_kept_for_the_next_run_until_stopped() {
    guarded(|| {
        let event_loop = EventLoop::new();
        let handle = event_loop.handle();
        handle.stop();
        handle.stop();
        let yielded = event_loop.run_until_complete(async {
            yield_now().await;
            3
        });
        assert_eq!(yielded.unwrap(), 3, "a stop does not end this kind of run");
        let task = event_loop.spawn_local(async {});
        event_loop.run_until_stopped().unwrap();
        assert!(task.is_finished(), "what was queued runs once more");
        let stopper = handle.clone();
        let other = thread::spawn(move || {
            while stopper.state() != LoopState::Running {
                thread::yield_now();
            }
            stopper.stop();
        });
        event_loop.run_until_stopped().unwrap();
        other.join().unwrap();
        assert_eq!(handle.state(), LoopState::Idle);
    });
}

#[test]
fn pending_counts_what_has_not_ended() {
    guarded(|| {
        let event_loop = EventLoop::new();
        let handle = event_loop.handle();
        let (open, gate) = promise::<()>();
        let local = event_loop.spawn_local(gate);
        let far = handle.clone();
        let remote = thread::spawn(move || far.spawn(async { yield_now().await }));
        let remote = remote.join().unwrap();
        let unstarted = handle.spawn_with(|| async {});
        let far = handle.clone();
        let job = thread::spawn(move || far.submit(|| ())).join().unwrap();
        assert_eq!(handle.pending(), 3, "tasks, not the job");
        assert_eq!(unstarted.cancel(), Cancel::Prevented);
        assert_eq!(handle.pending(), 2);
        event_loop.run_until_complete(remote).unwrap().unwrap();
        assert!(job.unwrap().is_finished());
        assert_eq!(handle.pending(), 1, "a suspended one has not ended");
        open.resolve(()).unwrap();
        event_loop
            .run_until_complete(local)
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(handle.pending(), 0);
    });
}

#[test]
fn a_handle_knows_the_thread_and_the_state() {
    guarded(|| {
        let event_loop = EventLoop::new();
        let handle = event_loop.handle();
        assert_eq!(handle.thread_id(), thread::current().id());
        assert!(handle.is_current_thread());
        let far = handle.clone();
        assert!(
            !thread::spawn(move || far.is_current_thread())
                .join()
                .unwrap()
        );
        assert_eq!(handle.state(), LoopState::Idle);
        let inside = event_loop.run_until_complete(async {
            (
                handle.state(),
                running_loop().map(|running| running.thread_id()),
            )
        });
        assert_eq!(
            inside.unwrap(),
            (LoopState::Running, Some(handle.thread_id()))
        );
    });
}

#[test]
fn a_wake_from_afar_ends_the_sleep_of_the_loop() {
    guarded(|| {
        let event_loop = EventLoop::new();
        for n in 0..if cfg!(miri) { 10 } else { 1_000 } {
            let (to, from) = promise();
            let other = thread::spawn(move || to.resolve(n).unwrap());
            assert_eq!(event_loop.run_until_complete(from).unwrap().unwrap(), n);
            other.join().unwrap();
        }
    });
}

#[test]
fn a_flood_of_ready_tasks_starves_neither_jobs_nor_timers() {
    guarded(|| {
        let event_loop = EventLoop::new();
        let stop = Rc::new(Cell::new(false));
        for _ in 0..1_000 {
            let stop = stop.clone();
            event_loop
                .spawn_local(async move {
                    while !stop.get() {
                        yield_now().await;
                    }
                })
                .detach();
        }
        let handle = event_loop.handle();
        let far = thread::spawn(move || handle.submit(|| 1).unwrap());
        event_loop
            .run_until_complete(async {
                sleep(Duration::from_millis(1)).await;
                assert_eq!(far.join().unwrap().await.unwrap(), 1);
                stop.set(true);
            })
            .unwrap();
    });
}

#[test]
fn a_task_that_sleeps_for_no_time_starves_nobody() {
    guarded(|| {
        let event_loop = EventLoop::new();
        let stop = Rc::new(Cell::new(false));
        let theirs = stop.clone();
        let restless = event_loop.spawn_local(async move {
            while !theirs.get() {
                sleep(Duration::ZERO).await;
            }
        });
        let job = event_loop.handle().submit(|| 1).unwrap();
        event_loop
            .run_until_complete(async {
                sleep(Duration::from_millis(1)).await;
                assert_eq!(job.await.unwrap(), 1);
                stop.set(true);
                restless.await.unwrap();
            })
            .unwrap();
    });
}

/// Jobs that submit themselves again from another thread's point of view: the inbox is never
/// empty for long, yet a task that yields and a timer go on.
#[test]
fn a_flood_of_jobs_starves_neither_tasks_nor_timers() {
    guarded(|| {
        let event_loop = EventLoop::new();
        let on = Arc::new(AtomicBool::new(true));
        let submitters: Vec<_> = (0..2)
            .map(|_| {
                let (handle, on) = (event_loop.handle(), on.clone());
                thread::spawn(move || {
                    while on.load(Ordering::Relaxed) {
                        for _ in 0..100 {
                            handle.submit(|| ()).unwrap().detach();
                        }
                    }
                })
            })
            .collect();
        event_loop
            .run_until_complete(async {
                sleep(Duration::from_millis(20)).await;
                for _ in 0..1_000 {
                    yield_now().await;
                }
                sleep(Duration::from_millis(1)).await;
            })
            .unwrap();
        on.store(false, Ordering::Relaxed);
        submitters
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_spawned_future_object_runs() {
    guarded(|| {
        let event_loop = EventLoop::new();
        let count = Arc::new(AtomicUsize::new(0));
        let theirs = count.clone();
        let future: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
            theirs.fetch_add(1, Ordering::Relaxed);
        });
        event_loop.handle().spawn_obj(future.into()).unwrap();
        event_loop.run_until_complete(yield_now()).unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_handle_is_send_and_sync_and_shows_the_state() {
    fn check<T: Send + Sync + Clone + std::fmt::Debug>(_: &T) {}
    let event_loop = EventLoop::default();
    check(&event_loop.handle());
    assert!(format!("{event_loop:?}").contains("Idle"));
}
