//! Shutdown: what is taken, what is dropped, what is waited for, and who may ask for it.

use std::cell::RefCell;
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::{Duration, Instant};

use portage::event_loop::running_loop;
use portage::pool::{Shutdown, ShutdownReport};
use portage::promise::Cancel;
use portage::time::{sleep, yield_now};
use portage::{Executor, Job, JoinHandle, ThreadPool};

use super::{held, pool};
use crate::kit::{self, Diary, Drops, Gate, OnDrop, OpenAtEnd, lock, scripted, watchdog};

#[test]
fn drain_runs_what_is_queued() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let pool = held(&gate);
    let diary = Diary::new();
    let handles: Vec<_> = (0..50)
        .map(|number| {
            let seen = diary.clone();
            pool.spawn_blocking(move || seen.note(number))
        })
        .collect();
    assert!(!pool.is_shut_down());
    std::thread::scope(|scope| {
        let _end = OpenAtEnd(gate.clone());
        let ending = scope.spawn(|| pool.shutdown(Shutdown::Drain));
        kit::eventually("the call", || pool.is_shut_down());
        assert!(!ending.is_finished());
        gate.open();
        let report = ending.join().expect("no panic");
        assert!(report.completed && report.stuck.is_empty());
        assert_eq!(report.cancelled, 0);
    });
    assert_eq!(diary.read(), (0..50).collect::<Vec<_>>());
    for handle in handles {
        handle.wait().expect("drained");
    }
}

#[test]
fn drain_takes_what_running_jobs_of_the_pool_submit_and_nothing_else() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let pool = pool(1, 1);
    let at = gate.clone();
    let running = pool.spawn_blocking(move || {
        at.pass();
        let pool = ThreadPool::current().expect("a worker");
        let first = pool.submit(|| 1).expect("taken under Drain");
        let nested = pool.spawn_blocking(|| {
            let pool = ThreadPool::current().expect("a worker");
            pool.spawn(async { 2 })
        });
        (first, nested)
    });
    gate.wait_entered(1);
    std::thread::scope(|scope| {
        let _end = OpenAtEnd(gate.clone());
        let ending = scope.spawn(|| pool.shutdown(Shutdown::Drain));
        kit::eventually("the call", || pool.is_shut_down());
        let error = pool.submit(|| 3).expect_err("from outside");
        assert!(error.is_shut_down() && error.into_job().is_some());
        gate.open();
        assert!(ending.join().expect("no panic").completed);
    });
    let (first, nested) = running.wait().expect("a value");
    assert_eq!(first.wait().expect("it ran"), 1);
    assert_eq!(nested.wait().expect("it ran").wait().expect("it ran"), 2);
}

#[test]
fn drain_waits_for_suspended_tasks() {
    let _watch = watchdog(20);
    let pool = pool(1, 1);
    let task = pool.spawn(async {
        sleep(Duration::from_millis(20)).await;
        4
    });
    let pinned = pool.spawn_pinned(|| async {
        sleep(Duration::from_millis(20)).await;
        5
    });
    let (conductor, future) = scripted();
    let third = pool.spawn(future);
    std::thread::scope(|scope| {
        let ending = scope.spawn(|| pool.shutdown(Shutdown::Drain));
        kit::eventually("the call", || pool.is_shut_down());
        kit::eventually("the first poll", || conductor.polls() > 0);
        assert!(!ending.is_finished());
        conductor.complete(6);
        assert!(ending.join().expect("no panic").completed);
    });
    assert!(task.is_finished() && pinned.is_finished());
    let values = [task.wait(), pinned.wait(), third.wait()];
    assert_eq!(values.map(|value| value.expect("a value")), [4, 5, 6]);
}

#[test]
fn cancel_queued_cancels_what_is_queued_before_running_jobs_end() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let pool = pool(1, 1);
    let at = gate.clone();
    let running = pool.spawn_blocking(move || {
        at.pass();
        9
    });
    gate.wait_entered(1);
    let drops = Drops::new();
    let queued: Vec<_> = (0..50)
        .map(|_| {
            let token = drops.token();
            pool.spawn_blocking(move || drop(token))
        })
        .collect();
    std::thread::scope(|scope| {
        let _end = OpenAtEnd(gate.clone());
        let ending = scope.spawn(|| pool.shutdown(Shutdown::CancelQueued));
        for handle in queued {
            let error = handle.wait().expect_err("cancelled");
            assert!(error.is_cancelled(), "{error}");
        }
        assert_eq!(drops.live(), 0);
        assert!(!running.is_finished() && !ending.is_finished());
        gate.open();
        let report = ending.join().expect("no panic");
        assert!(report.completed);
        assert_eq!(report.cancelled, 50);
    });
    assert_eq!(running.wait().expect("a started job always delivers"), 9);
}

#[test]
fn cancel_queued_cancels_suspended_tasks() {
    let _watch = watchdog(20);
    let pool = pool(1, 1);
    let drops = Drops::new();
    let (a, b) = (drops.token(), drops.token());
    let (first, future) = scripted::<()>();
    let task = pool.spawn(async move {
        let _held = a;
        future.await;
    });
    let (second, future) = scripted::<()>();
    let pinned = pool.spawn_pinned(move || async move {
        let _held = b;
        future.await;
    });
    kit::eventually("both polls", || first.polls() + second.polls() == 2);
    let report = pool.shutdown(Shutdown::CancelQueued);
    assert!(report.completed);
    assert!(task.wait().expect_err("cancelled").is_cancelled());
    assert!(pinned.wait().expect_err("cancelled").is_cancelled());
    assert_eq!(drops.live(), 0);
    // wakers may fire at any time after
    first.complete(());
    second.complete(());
}

#[test]
fn after_shutdown_nothing_is_taken_and_everything_resolves() {
    let _watch = watchdog(20);
    for mode in [Shutdown::Drain, Shutdown::CancelQueued] {
        let pool = pool(2, 2);
        pool.spawn_blocking(|| 1).wait().expect("a value");
        assert!(pool.shutdown(mode).completed);
        assert!(pool.is_shut_down());
        let error = pool.submit(|| 1).expect_err("shut down");
        assert!(error.is_shut_down() && !error.is_broken());
        let (job, value) = Job::new(|| 2);
        let error = pool.execute(job).expect_err("shut down");
        error.into_job().expect("it comes back").run();
        assert_eq!(value.wait().expect("a value"), 2);
        let drops = Drops::new();
        let [a, b, c, d] = [(); 4].map(|()| drops.token());
        let refused: [JoinHandle<()>; 3] = [
            pool.spawn_blocking(move || drop(a)),
            pool.spawn(async move { drop(b) }),
            pool.spawn_pinned(move || async move { drop(c) }),
        ];
        for handle in refused {
            assert!(handle.is_finished());
            assert!(handle.wait().expect_err("refused").is_shut_down());
        }
        for handle in pool.spawn_batch([move || drop(d)]) {
            assert!(handle.wait().expect_err("refused").is_shut_down());
        }
        assert_eq!(drops.live(), 0);
    }
}

#[test]
fn shutdown_is_idempotent_and_may_be_called_by_many() {
    let _watch = watchdog(20);
    let pool = pool(2, 2);
    let gate = Gate::new();
    let held = gate.clone();
    let handle = pool.spawn_blocking(move || held.pass());
    gate.wait_entered(1);
    let modes = [Shutdown::Drain, Shutdown::Drain, Shutdown::CancelQueued];
    let all_call = Barrier::new(modes.len() + 1);
    std::thread::scope(|scope| {
        let _end = OpenAtEnd(gate.clone());
        for mode in modes {
            let (pool, all_call) = (&pool, &all_call);
            scope.spawn(move || {
                all_call.wait();
                assert!(pool.shutdown(mode).completed);
            });
        }
        all_call.wait();
        gate.open();
    });
    assert!(handle.is_finished());
    assert!(pool.shutdown(Shutdown::Drain).completed);
    let again = pool.shutdown_timeout(Shutdown::CancelQueued, Duration::ZERO);
    assert!(again.completed && again.stuck.is_empty());
}

#[test]
fn cancel_queued_after_drain_still_cancels() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let pool = held(&gate);
    let queued = pool.spawn_blocking(|| 1);
    std::thread::scope(|scope| {
        let _end = OpenAtEnd(gate.clone());
        let draining = scope.spawn(|| pool.shutdown(Shutdown::Drain));
        kit::eventually("the call", || pool.is_shut_down());
        let report = pool.shutdown_timeout(Shutdown::CancelQueued, Duration::from_millis(1));
        assert!(!report.completed);
        let error = queued.wait().expect_err("cancelled");
        assert!(error.is_cancelled());
        gate.open();
        assert!(draining.join().expect("no panic").completed);
    });
}

#[test]
fn from_a_worker_it_does_not_wait_for_itself() {
    let _watch = watchdog(20);
    for mode in [Shutdown::Drain, Shutdown::CancelQueued] {
        let pool = pool(2, 2);
        let inner = pool.clone();
        let behind = pool.spawn_blocking(|| 1);
        let report = pool.spawn_blocking(move || inner.shutdown(mode));
        let report = report.wait().expect("a started job always delivers");
        assert!(
            report.stuck.is_empty(),
            "it is not stuck, it asks: {report:?}"
        );
        let _ = behind.wait();
        assert!(pool.is_shut_down());
        assert!(pool.shutdown(mode).completed);
    }
}

#[test]
fn from_a_task_it_does_not_wait_for_itself() {
    let _watch = watchdog(20);
    for pinned in [false, true] {
        let pool = pool(1, 1);
        let inner = pool.clone();
        let body = async move {
            yield_now().await;
            inner.shutdown(Shutdown::Drain).stuck.len()
        };
        let task = if pinned {
            pool.spawn_pinned(move || body)
        } else {
            pool.spawn(body)
        };
        assert_eq!(task.wait().expect("a value"), 0);
        assert!(pool.shutdown(Shutdown::Drain).completed);
    }
}

#[test]
fn shutdown_timeout_reports_who_is_stuck() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let pool = pool(1, 1);
    let at = gate.clone();
    let line = line!() + 1;
    let stuck = pool.submit_named_here("the stuck one", move || at.pass());
    gate.wait_entered(1);
    let start = Instant::now();
    let limit = Duration::from_millis(20);
    let report = pool.shutdown_timeout(Shutdown::CancelQueued, limit);
    assert!(start.elapsed() >= limit);
    assert!(!report.completed);
    assert_eq!(report.stuck.len(), 1);
    let task = &report.stuck[0];
    assert_eq!(task.id, stuck.id());
    assert_eq!(task.name.as_deref(), Some("the stuck one"));
    assert_eq!(
        (task.spawned_at.file(), task.spawned_at.line()),
        (file!(), line)
    );
    assert!(task.running_for >= limit, "{:?}", task.running_for);
    let report = pool.shutdown_timeout(Shutdown::Drain, Duration::ZERO);
    assert!(!report.completed && report.stuck.len() == 1);
    gate.open();
    assert!(pool.shutdown(Shutdown::Drain).completed);
    stuck.wait().expect("a started job always delivers");
}

/// `submit_named` of the extension trait, with the place of the caller.
trait Named {
    #[track_caller]
    fn submit_named_here(
        &self,
        name: &'static str,
        f: impl FnOnce() + Send + 'static,
    ) -> JoinHandle<()>;
}

impl Named for ThreadPool {
    #[track_caller]
    fn submit_named_here(
        &self,
        name: &'static str,
        f: impl FnOnce() + Send + 'static,
    ) -> JoinHandle<()> {
        portage::ExecutorExt::submit_named(self, name, f).expect("taken")
    }
}

#[test]
fn shutdown_timeout_takes_any_time() {
    let _watch = watchdog(20);
    for time in [
        Duration::MAX,
        Duration::from_secs(u64::MAX / 2),
        Duration::ZERO,
    ] {
        let pool = pool(1, 1);
        pool.spawn_blocking(|| 1).wait().expect("a value");
        let report = pool.shutdown_timeout(Shutdown::Drain, time);
        assert!(report.completed || time == Duration::ZERO);
        assert!(pool.is_shut_down());
    }
}

#[test]
fn with_the_last_clone_dropped_queued_work_still_finishes_and_threads_leave() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let stops = Diary::new();
    let stopped = stops.clone();
    let pool = ThreadPool::builder()
        .core_threads(2)
        .max_threads(2)
        .on_thread_stop(move |index| stopped.note(index))
        .build()
        .expect("legal");
    for _ in 0..2 {
        let at = gate.clone();
        pool.spawn_blocking(move || at.pass()).detach();
    }
    gate.wait_entered(2);
    let diary = Diary::new();
    let handles: Vec<_> = (0..20)
        .map(|number| {
            let seen = diary.clone();
            pool.spawn_blocking(move || seen.note(number))
        })
        .collect();
    let task = pool.spawn(async { 3 });
    drop(pool.clone());
    drop(pool);
    gate.open();
    for handle in handles {
        handle.wait().expect("queued work still finishes");
    }
    assert_eq!(task.wait().expect("queued work still finishes"), 3);
    assert_eq!(diary.len(), 20);
    kit::eventually("the threads' leave", || stops.len() == 2);
}

#[test]
fn a_suspended_task_of_a_dropped_pool_resolves() {
    let _watch = watchdog(20);
    let pool = pool(1, 1);
    let (conductor, future) = scripted();
    let task = pool.spawn(future);
    kit::eventually("the first poll", || conductor.polls() == 1);
    drop(pool);
    conductor.complete(1);
    let _ = task.wait();
}

#[test]
fn the_last_clone_may_be_dropped_by_a_job_of_the_pool() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let pool = pool(1, 1);
    let (inner, at) = (pool.clone(), gate.clone());
    let handle = pool.spawn_blocking(move || {
        at.pass();
        drop(inner);
        6
    });
    let behind = pool.spawn_blocking(|| 7);
    gate.wait_entered(1);
    drop(pool);
    gate.open();
    assert_eq!(handle.wait().expect("a value"), 6);
    assert_eq!(behind.wait().expect("queued work still finishes"), 7);
}

#[test]
fn a_shut_down_pool_leaves_no_thread_behind() {
    let _watch = watchdog(20);
    let pool = ThreadPool::builder()
        .core_threads(3)
        .max_threads(3)
        .thread_name("leaver")
        .build()
        .expect("legal");
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    for _ in 0..3 {
        let at = gate.clone();
        pool.spawn_blocking(move || at.pass()).detach();
    }
    gate.wait_entered(3);
    gate.open();
    assert!(pool.shutdown(Shutdown::Drain).completed);
    if kit::threads_named("leaver").is_some() {
        kit::eventually("their leave", || kit::threads_named("leaver") == Some(0));
    }
}

#[test]
fn a_drop_during_shutdown_may_use_the_pool() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let pool = held(&gate);
    let diary = Diary::new();
    let (seen, inner) = (diary.clone(), pool.clone());
    let mutex = Arc::new(Mutex::new(()));
    let same = mutex.clone();
    let bell = OnDrop::new(move || {
        drop(lock(&same));
        let late = inner.spawn_blocking(|| 1);
        let _ = inner.metrics();
        seen.note(late.wait().is_err());
    });
    let queued = pool.spawn_blocking(move || drop(bell));
    std::thread::scope(|scope| {
        let _end = OpenAtEnd(gate.clone());
        let ending = scope.spawn(|| pool.shutdown(Shutdown::CancelQueued));
        assert!(queued.wait().expect_err("cancelled").is_cancelled());
        kit::eventually("the drop", || diary.len() == 1);
        gate.open();
        assert!(ending.join().expect("no panic").completed);
    });
    assert_eq!(diary.read(), [true]);
}

#[test]
fn a_submission_that_races_the_shutdown_runs_or_resolves() {
    let _watch = watchdog(60);
    for round in 0..50 {
        let pool = pool(2, 2);
        let mode = [Shutdown::Drain, Shutdown::CancelQueued][round % 2];
        let start = Barrier::new(3);
        let ran = Diary::new();
        std::thread::scope(|scope| {
            let submitters: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        (0..50)
                            .map(|number| {
                                let ran = ran.clone();
                                match number % 3 {
                                    0 => pool.spawn(async move { ran.note(()) }),
                                    1 => pool.spawn_pinned(move || async move { ran.note(()) }),
                                    _ => pool.spawn_blocking(move || ran.note(())),
                                }
                            })
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            start.wait();
            assert!(pool.shutdown(mode).completed);
            let mut values = 0;
            for submitter in submitters {
                for handle in submitter.join().expect("no panic") {
                    match handle.wait() {
                        Ok(()) => values += 1,
                        Err(error) => {
                            assert!(error.is_shut_down() || error.is_cancelled(), "{error}");
                        }
                    }
                }
            }
            assert_eq!(values, ran.len());
        });
    }
}

#[test]
fn a_pool_in_a_thread_local_ends_with_its_thread() {
    thread_local! {
        static POOL: RefCell<Option<ThreadPool>> = const { RefCell::new(None) };
    }
    let _watch = watchdog(20);
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let pool = pool(1, 1);
        sender.send(pool.spawn_blocking(|| 5)).expect("it listens");
        POOL.with(|slot| *slot.borrow_mut() = Some(pool));
    });
    let handle = receiver.recv().expect("sent");
    thread.join().expect("no panic");
    assert_eq!(handle.wait().expect("queued work still finishes"), 5);
}

#[test]
fn a_report_counts_what_was_cancelled_whichever_thread_came_upon_it() {
    let _watch = watchdog(60);
    for round in 0..60 {
        let pool = pool(2, 2);
        let handles: Vec<_> = (0..500)
            .map(|number| match round % 2 {
                0 => pool.spawn_blocking(move || number),
                _ => pool.spawn(async move {
                    yield_now().await;
                    sleep(Duration::from_micros(50)).await;
                    number
                }),
            })
            .collect();
        let report = pool.shutdown(Shutdown::CancelQueued);
        let ends = handles.into_iter().map(JoinHandle::wait);
        let cancelled = ends.filter(|end| end.as_ref().is_err_and(|error| error.is_cancelled()));
        assert_eq!(report.cancelled, cancelled.count(), "in round {round}");
    }
}

/// Shuts its pool down when it is dropped, and tells what came of it.
struct Ends(ThreadPool, Shutdown, mpsc::Sender<ShutdownReport>);

impl Drop for Ends {
    fn drop(&mut self) {
        let report = self.0.shutdown(self.1);
        let _ = self.2.send(report);
    }
}

#[test]
fn a_callback_or_value_of_a_job_that_drains_the_pool_loses_nothing_that_is_queued() {
    let _watch = watchdog(30);
    for by_value in [false, true] {
        let pool = pool(1, 1);
        let (tell, told) = mpsc::channel();
        let ends = Ends(pool.clone(), Shutdown::Drain, tell);
        let gate = Gate::new();
        let _end = OpenAtEnd(gate.clone());
        let at = gate.clone();
        if by_value {
            let job = pool.spawn_blocking(move || {
                at.pass();
                ends
            });
            job.detach();
        } else {
            let job = pool.spawn_blocking(move || at.pass());
            job.on_complete(move |_| drop(ends));
        }
        gate.wait_entered(1);
        let queued = [
            pool.spawn_blocking(|| 5),
            pool.spawn(async {
                sleep(Duration::from_millis(1)).await;
                5
            }),
            pool.spawn_pinned(|| async { 5 }),
        ];
        gate.open();
        assert!(told.recv().expect("it ends").completed);
        for handle in queued {
            assert_eq!(handle.wait().expect("drained"), 5);
        }
    }
}

#[test]
fn a_job_that_a_joiner_runs_in_place_may_shut_its_pool_down() {
    let _watch = watchdog(30);
    let other = pool(1, 1);
    for on_a_worker in [false, true] {
        let gate = Gate::new();
        let _end = OpenAtEnd(gate.clone());
        let held = held(&gate);
        let mine = held.clone();
        let job = held.spawn_blocking(move || {
            gate.open();
            mine.shutdown(Shutdown::Drain)
        });
        let report = if on_a_worker {
            let run = other.spawn_blocking(move || job.wait_helping());
            run.wait().expect("a value")
        } else {
            job.wait_helping()
        };
        assert!(report.expect("it does not wait for itself").completed);
    }
}

#[test]
fn what_a_job_that_a_joiner_runs_in_place_submits_is_taken_while_the_pool_drains() {
    let _watch = watchdog(30);
    let gate = Gate::new();
    let pool = held(&gate);
    let mine = pool.clone();
    let job = pool.spawn_blocking(move || (mine.submit(|| 5), mine.spawn(async { 6 })));
    std::thread::scope(|scope| {
        let _end = OpenAtEnd(gate.clone());
        let ending = scope.spawn(|| pool.shutdown(Shutdown::Drain));
        kit::eventually("the call", || pool.is_shut_down());
        assert!(pool.submit(|| 0).is_err(), "it is no job of the pool");
        let (submitted, spawned) = job.wait_helping().expect("run right here");
        gate.open();
        assert_eq!(submitted.expect("taken").wait().expect("drained"), 5);
        assert_eq!(spawned.wait().expect("drained"), 6);
        assert!(ending.join().expect("no panic").completed);
    });
}

#[test]
fn the_destructor_of_work_that_is_cancelled_may_shut_the_pool_down() {
    let _watch = watchdog(30);
    for mode in [Shutdown::Drain, Shutdown::CancelQueued] {
        let pool = pool(1, 1);
        let (tell, told) = mpsc::channel();
        let ends = Ends(pool.clone(), mode, tell);
        // on a worker, whose own job it is that cancels
        let (give, given) = mpsc::channel::<JoinHandle<()>>();
        let canceller = pool.spawn_blocking(move || given.recv().map(|handle| handle.cancel()));
        give.send(pool.spawn_blocking(move || drop(ends)))
            .expect("it listens");
        let cancel = canceller.wait().expect("a value");
        assert_eq!(cancel.expect("sent"), Cancel::Prevented);
        assert!(told.recv().expect("it ends").completed);

        // on a plain thread
        let gate = Gate::new();
        let _end = OpenAtEnd(gate.clone());
        let held = held(&gate);
        let (tell, told) = mpsc::channel();
        let ends = (
            OnDrop::new(move || gate.open()),
            Ends(held.clone(), mode, tell),
        );
        let queued = held.spawn_blocking(move || drop(ends));
        assert_eq!(queued.cancel(), Cancel::Prevented);
        assert!(told.recv().expect("it ends").completed);
    }
}

#[test]
fn the_first_poll_of_a_pinned_task_may_shut_the_pool_down_whatever_its_loop_has_to_do() {
    let _watch = watchdog(30);
    let pool = pool(1, 1);
    let inner = pool.clone();
    let task = pool.spawn_pinned(move || async move {
        let own = running_loop().expect("the worker's own loop");
        own.spawn(async {}).detach();
        let queued = inner.spawn_blocking(|| 5);
        assert!(inner.shutdown(Shutdown::Drain).completed);
        queued.wait()
    });
    let queued = task.wait().expect("no panic");
    assert_eq!(queued.expect("what is queued still runs"), 5);
}

#[test]
fn a_job_that_a_joiner_runs_in_place_is_neither_told_nor_counted_when_the_queue_is_cancelled() {
    let _watch = watchdog(30);
    let gate = Gate::new();
    let pool = held(&gate);
    let _end = OpenAtEnd(gate.clone());
    let (inside, is_inside) = mpsc::channel();
    let (shut, is_shut) = mpsc::channel::<()>();
    let job = pool.spawn_blocking(move || {
        inside.send(()).expect("it listens");
        is_shut.recv().expect("it is told");
        portage::cancel::is_cancelled()
    });
    let joiner = std::thread::spawn(move || job.wait_helping());
    is_inside.recv().expect("it is run in place");
    let report = pool.shutdown_timeout(Shutdown::CancelQueued, Duration::ZERO);
    assert_eq!(report.cancelled, 0);
    shut.send(()).expect("it runs");
    let was_told = joiner.join().expect("no panic").expect("it ends");
    assert!(!was_told);
}

#[test]
fn a_destructor_that_a_shutdown_runs_may_shut_the_pool_down_though_tasks_are_suspended() {
    let _watch = watchdog(30);
    for mode in [Shutdown::Drain, Shutdown::CancelQueued] {
        let pool = pool(1, 1);
        let (promise, never) = portage::promise::<()>();
        let (polled, is_polled) = mpsc::channel();
        let suspended = pool.spawn(async move {
            polled.send(()).expect("it listens");
            never.await
        });
        is_polled.recv().expect("it is polled");
        let (gate, runs) = (Gate::new(), Arc::new(Barrier::new(2)));
        let (at, begun) = (gate.clone(), runs.clone());
        let running = pool.spawn_blocking(move || {
            begun.wait();
            at.pass();
        });
        runs.wait();
        let (tell, told) = mpsc::channel();
        let ends = Ends(pool.clone(), mode, tell);
        let queued = pool.spawn_blocking(move || drop(ends));
        let opener = std::thread::spawn(move || gate.open());
        let report = pool.shutdown(Shutdown::CancelQueued);
        assert!(report.completed && told.recv().expect("told").completed);
        assert_eq!(report.cancelled, 2);
        running.wait().expect("running jobs end");
        assert!(queued.wait().expect_err("it was queued").is_cancelled());
        assert!(
            suspended
                .wait()
                .expect_err("it was suspended")
                .is_cancelled()
        );
        opener.join().expect("no panic");
        drop(promise);
    }
}
