//! The contract of `portage::pool`, promise by promise.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kit;

use std::cell::Cell;
use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Poll, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use futures_task::{FutureObj, Spawn};
use portage::pool::{PoolMetrics, Shutdown, Starter};
use portage::promise::{Cancel, chain_future_results};
use portage::time::yield_now;
use portage::{Executor, ExecutorExt, Job, JoinHandle, ThreadPool, promise};

use kit::{eventually, guarded};

fn pool(core: usize) -> ThreadPool {
    ThreadPool::builder().core_threads(core).build().unwrap()
}

/// A pool that never has more threads than these.
fn fixed(threads: usize) -> ThreadPool {
    let builder = ThreadPool::builder().core_threads(threads);
    builder.max_threads(threads).build().unwrap()
}

/// A job that has started and runs until the gate is dropped.
struct Held {
    gate: Option<Sender<()>>,
    job: JoinHandle<()>,
}

impl Held {
    fn new(pool: &ThreadPool) -> Self {
        let (gate, closed) = channel::<()>();
        let (begin, has_begun) = channel();
        let job = pool.spawn_blocking(move || {
            begin.send(()).unwrap();
            let _ = closed.recv();
        });
        has_begun.recv().unwrap();
        Self {
            gate: Some(gate),
            job,
        }
    }

    fn release(mut self) {
        self.gate = None;
        self.job.wait().unwrap();
    }
}

/// A future that is suspended until its waker is used; shows the waker.
fn suspended(shown: Sender<Waker>) -> impl Future<Output = ()> + Send {
    let mut first = true;
    poll_fn(move |cx| {
        if std::mem::take(&mut first) {
            shown.send(cx.waker().clone()).unwrap();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
}

/// Waits until all threads of the pool sleep, and have counted that they park: until it looks the
/// same for 25 ms.
fn at_rest(pool: &ThreadPool) -> PoolMetrics {
    let (mut last, mut same) = (pool.metrics(), 0);
    eventually("the pool is at rest", || {
        thread::sleep(Duration::from_millis(1));
        let now = pool.metrics();
        let rests = now == last && now.threads_idle == now.threads;
        same = if rests { same + 1 } else { 0 };
        last = now;
        same == 25
    });
    last
}

/// Comes to rest, and nobody looks around for so long. A worker that gets no CPU may count its park
/// as late as it likes, but only once.
fn stays_at_rest(pool: &ThreadPool, time: Duration) {
    eventually("it stays at rest", || {
        let before = at_rest(pool);
        thread::sleep(time);
        pool.metrics() == before
    });
}

fn assert_conserved(pool: &ThreadPool) {
    let m = pool.metrics();
    let sum = m.completed + m.panicked + m.cancelled + (m.queued + m.running) as u64;
    assert_eq!(m.submitted, sum, "{m:?}");
}

// ---- running ---------------------------------------------------------------------------------

#[test]
fn jobs_of_a_single_worker_run_first_in_first_out() {
    guarded(|| {
        let pool = fixed(1);
        let order = Arc::new(Mutex::new(Vec::new()));
        let held = Held::new(&pool);
        let job = |n: usize| {
            let order = order.clone();
            move || order.lock().unwrap().push(n)
        };
        let mut jobs: Vec<_> = (0..50).map(|n| pool.spawn_blocking(job(n))).collect();
        jobs.extend(pool.spawn_batch((50..100).map(job)));
        held.release();
        jobs.into_iter().for_each(|job| job.wait().unwrap());
        assert_eq!(*order.lock().unwrap(), (0..100).collect::<Vec<_>>());
    });
}

#[test]
fn what_a_job_of_a_single_worker_submits_queues_behind_what_is_there() {
    guarded(|| {
        let pool = fixed(1);
        let order = Arc::new(Mutex::new(Vec::new()));
        let push = |n: usize| {
            let order = order.clone();
            move || order.lock().unwrap().push(n)
        };
        let held = Held::new(&pool);
        let (late, inner) = (push(2), pool.clone());
        let first = pool.spawn_blocking(move || inner.spawn_blocking(late));
        pool.spawn_blocking(push(1)).detach();
        held.release();
        first.wait().unwrap().wait().unwrap();
        assert_eq!(*order.lock().unwrap(), [1, 2]);
    });
}

#[test]
fn jobs_run_on_threads_of_the_pool_named_by_index() {
    guarded(|| {
        let pool = ThreadPool::builder().core_threads(2).build().unwrap();
        let both = Arc::new(Barrier::new(2));
        let names: HashSet<_> = pool
            .spawn_batch((0..2).map(|_| {
                let both = both.clone();
                move || {
                    both.wait();
                    thread::current().name().unwrap().to_owned()
                }
            }))
            .into_iter()
            .map(|job| job.wait().unwrap())
            .collect();
        let expected = ["portage-0", "portage-1"].map(str::to_owned);
        assert_eq!(names, HashSet::from(expected));
    });
}

#[test]
fn a_panic_in_a_job_or_in_a_drop_leaves_the_worker_at_work() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !thread::panicking() {
                panic!("dropped");
            }
        }
    }
    guarded(|| {
        let pool = fixed(1);
        let before = pool.spawn_blocking(|| thread::current().id()).wait();
        let panicked = pool.spawn_blocking(|| panic!("in the job"));
        assert!(panicked.wait().unwrap_err().is_panic());
        pool.spawn_blocking(|| Bomb).detach();
        pool.spawn(async { Bomb }).detach();
        let polled = pool.spawn(async { panic!("in the poll") });
        assert!(polled.wait().unwrap_err().is_panic());
        let after = pool.spawn_blocking(|| thread::current().id()).wait();
        assert_eq!(before.unwrap(), after.unwrap());
        assert_conserved(&pool);
    });
}

#[test]
fn current_is_the_pool_of_this_worker_and_nobody_elses() {
    guarded(|| {
        let (one, other) = (fixed(1), fixed(1));
        assert!(ThreadPool::current().is_none());
        let inner = other.clone();
        let submitted = one.spawn_blocking(move || {
            let here = ThreadPool::current().unwrap();
            here.spawn_blocking(|| ()).detach();
            let there = inner.spawn_blocking(|| ThreadPool::current().is_some());
            there.wait().unwrap()
        });
        assert!(submitted.wait().unwrap());
        eventually("the inner job", || one.metrics().completed == 2);
        assert_eq!(other.metrics().submitted, 1);
    });
}

#[test]
fn a_job_that_was_cancelled_before_its_start_never_runs_and_is_counted() {
    guarded(|| {
        let pool = fixed(1);
        let held = Held::new(&pool);
        let ran = Arc::new(AtomicBool::new(false));
        let told = ran.clone();
        let job = pool.spawn_blocking(move || told.store(true, Ordering::Relaxed));
        assert_eq!(job.cancel(), Cancel::Prevented);
        let metrics = pool.metrics();
        assert_eq!(
            (metrics.cancelled, metrics.queued, metrics.running),
            (1, 0, 1)
        );
        held.release();
        assert!(job.wait().unwrap_err().is_cancelled());
        pool.spawn_blocking(|| ()).wait().unwrap();
        assert!(!ran.load(Ordering::Relaxed));
        assert_conserved(&pool);
    });
}

#[test]
fn a_job_that_a_joiner_runs_in_place_is_counted() {
    guarded(|| {
        let pool = fixed(1);
        let held = Held::new(&pool);
        let here = thread::current().id();
        let job = pool.spawn_blocking(|| thread::current().id());
        assert_eq!(job.wait_helping().unwrap(), here);
        let metrics = pool.metrics();
        assert_eq!(
            (metrics.submitted, metrics.completed, metrics.running),
            (2, 1, 1)
        );
        held.release();
    });
}

#[test]
fn an_executor_object_runs_jobs_and_gives_them_back_when_it_is_shut_down() {
    guarded(|| {
        let pool = fixed(1);
        let executor: &dyn Executor = &pool;
        assert_eq!(executor.submit(|| 3).unwrap().wait().unwrap(), 3);
        let (cancelled, handle) = Job::new(|| ());
        let _ = handle.cancel();
        executor.execute(cancelled).unwrap();
        assert_eq!(pool.metrics().submitted, 1, "a cancelled job is nobody's");
        pool.shutdown(Shutdown::Drain);
        let (job, handle) = Job::named("late", || 4);
        let error = executor.execute(job).unwrap_err();
        assert!(error.is_shut_down());
        error.into_job().unwrap().run();
        assert_eq!(handle.wait().unwrap(), 4);
    });
}

#[test]
fn the_spawn_trait_drives_a_future_until_the_pool_is_shut_down() {
    guarded(|| {
        let pool = fixed(1);
        let (promise, handle) = promise();
        let future = async move { promise.resolve(9).unwrap() };
        pool.spawn_obj(FutureObj::new(Box::new(future))).unwrap();
        assert_eq!(handle.wait().unwrap(), 9);
        assert!(pool.status().is_ok());
        pool.shutdown(Shutdown::CancelQueued);
        assert!(pool.status().unwrap_err().is_shutdown());
        let late = FutureObj::new(Box::new(async {}));
        assert!(pool.spawn_obj(late).unwrap_err().is_shutdown());
    });
}

// ---- tasks -----------------------------------------------------------------------------------

#[test]
fn a_woken_task_goes_on_and_a_late_wake_is_harmless() {
    guarded(|| {
        let pool = pool(2);
        let (show, shown) = channel();
        let task = pool.spawn(suspended(show));
        let waker = shown.recv().unwrap();
        assert_eq!(pool.metrics().running, 1, "a suspended task is running");
        waker.wake_by_ref();
        task.wait().unwrap();
        waker.wake_by_ref();
        pool.shutdown(Shutdown::Drain);
        waker.wake_by_ref();
        drop(pool);
        waker.wake();
    });
}

#[test]
fn a_task_whose_wakers_are_gone_is_lost() {
    guarded(|| {
        let pool = pool(2);
        let task = pool.spawn(std::future::pending::<()>());
        assert!(task.wait().unwrap_err().is_lost());
        assert_conserved(&pool);
    });
}

#[test]
fn a_task_that_yields_lets_jobs_and_other_tasks_pass() {
    guarded(|| {
        let pool = fixed(1);
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let spinner = pool.spawn(async move {
            while !told.load(Ordering::Relaxed) {
                yield_now().await;
            }
        });
        pool.spawn_blocking(|| ()).wait().unwrap();
        pool.spawn(async { yield_now().await }).wait().unwrap();
        pool.spawn_pinned(|| async { yield_now().await })
            .wait()
            .unwrap();
        stop.store(true, Ordering::Relaxed);
        spinner.wait().unwrap();
    });
}

#[test]
fn two_tasks_that_wake_each_other_do_not_starve_a_third() {
    guarded(|| {
        let pool = fixed(1);
        let stop = Arc::new(AtomicBool::new(false));
        let wakers: Arc<Mutex<[Option<Waker>; 2]>> = Arc::default();
        let players: Vec<_> = (0..2)
            .map(|own| {
                let (stop, wakers) = (stop.clone(), wakers.clone());
                pool.spawn(poll_fn(move |cx| {
                    let mut wakers = wakers.lock().unwrap();
                    wakers[own] = Some(cx.waker().clone());
                    let other = wakers[1 - own].clone();
                    drop(wakers);
                    other.into_iter().for_each(Waker::wake);
                    if stop.load(Ordering::Relaxed) {
                        return Poll::Ready(());
                    }
                    Poll::Pending
                }))
            })
            .collect();
        for _ in 0..100 {
            pool.spawn_blocking(|| ()).wait().unwrap();
            pool.spawn(yield_now()).wait().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        players
            .into_iter()
            .for_each(|player| player.wait().unwrap());
    });
}

#[test]
fn a_woken_task_does_not_wait_behind_the_job_that_woke_it() {
    guarded(|| {
        let pool = pool(2);
        let (promise, handle) = promise();
        let (answer, answered) = channel();
        let task = pool.spawn(async move {
            let value: u32 = handle.await.unwrap();
            answer.send(value).unwrap();
        });
        eventually("the suspension", || pool.metrics().running == 1);
        let job = pool.spawn_blocking(move || {
            promise.resolve(5).unwrap();
            answered.recv().unwrap()
        });
        assert_eq!(job.wait().unwrap(), 5);
        task.wait().unwrap();
    });
}

#[test]
fn a_task_woken_or_passed_by_a_poll_that_blocks_is_not_held_up() {
    guarded(|| {
        let pool = pool(2);
        let (promise, handle) = promise();
        let (answer, answered) = channel();
        let woken = pool.spawn(async move { answer.send(handle.await.unwrap()).unwrap() });
        eventually("the suspension", || pool.metrics().running == 1);
        let blocker = pool.spawn(async move {
            promise.resolve(5).unwrap();
            answered.recv().unwrap()
        });
        assert_eq!(blocker.wait().unwrap(), 5);
        woken.wait().unwrap();
    });
}

#[test]
fn a_worker_whose_loop_was_called_from_elsewhere_goes_back_to_sleep() {
    guarded(|| {
        let pool = fixed(1);
        let (show, shown) = channel();
        let turns = 2_000;
        let task = pool.spawn_pinned(move || {
            let mut left = turns;
            poll_fn(move |cx| {
                left -= 1;
                let _ = show.send(cx.waker().clone());
                if left == 0 {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
        });
        for waker in shown {
            waker.wake();
        }
        task.wait().unwrap();
        stays_at_rest(&pool, Duration::from_millis(20));
    });
}

#[test]
fn a_pinned_task_stays_on_one_thread_and_needs_no_send() {
    guarded(|| {
        let pool = pool(2);
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                pool.spawn_pinned(|| async {
                    let turns = Rc::new(Cell::new(0));
                    let home = thread::current().id();
                    while turns.get() < 20 {
                        turns.set(turns.get() + 1);
                        yield_now().await;
                        assert_eq!(thread::current().id(), home);
                    }
                    home
                })
            })
            .collect();
        let homes: HashSet<ThreadId> = tasks.into_iter().map(|task| task.wait().unwrap()).collect();
        assert!(!homes.contains(&thread::current().id()));
        assert_conserved(&pool);
    });
}

#[test]
fn a_worker_with_a_pinned_task_stays_until_that_has_ended() {
    guarded(|| {
        let builder = ThreadPool::builder().core_threads(1).max_threads(4);
        let pool = builder.keep_alive(Duration::ZERO).build().unwrap();
        let held = Held::new(&pool);
        let (show, shown) = channel();
        let task = pool.spawn_pinned(move || suspended(show));
        let waker: Waker = shown.recv().unwrap();
        assert_eq!(pool.metrics().threads, 2);
        held.release();
        pool.spawn_blocking(|| ()).wait().unwrap();
        waker.wake();
        task.wait().unwrap();
        eventually("the extra thread leaves", || pool.metrics().threads == 1);
    });
}

// ---- wakes -----------------------------------------------------------------------------------

#[test]
fn a_batch_is_run_by_all_workers_with_a_wake_each_at_most() {
    guarded(|| {
        let pool = fixed(2);
        let all = Arc::new(Barrier::new(2));
        let rendezvous = || {
            let jobs = (0..2).map(|_| {
                let all = all.clone();
                move || {
                    all.wait();
                }
            });
            pool.spawn_batch(jobs)
                .into_iter()
                .for_each(|job| job.wait().unwrap());
        };
        rendezvous();
        eventually("both sleep", || pool.metrics().threads_idle == 2);
        let before = pool.metrics().wakes;
        rendezvous();
        assert_eq!(
            pool.metrics().wakes - before,
            2,
            "one by the submitter, one by the chain"
        );
    });
}

#[test]
fn a_saturated_pool_needs_next_to_no_wakes() {
    guarded(|| {
        let pool = fixed(2);
        let held = [Held::new(&pool), Held::new(&pool)];
        let before = pool.metrics().wakes;
        let jobs: Vec<_> = (0..10_000).map(|_| pool.spawn_blocking(|| ())).collect();
        assert_eq!(
            pool.metrics().wakes,
            before,
            "nobody sleeps, nobody is woken"
        );
        held.into_iter().for_each(Held::release);
        jobs.into_iter().for_each(|job| job.wait().unwrap());
        let wakes = pool.metrics().wakes - before;
        assert!(wakes <= 500, "{wakes} wakes for 10 000 jobs");
    });
}

#[test]
fn an_idle_pool_parks_once_and_stays_parked() {
    guarded(|| {
        let pool = fixed(2);
        // All threads that there may be have started: none can come later.
        let held = [Held::new(&pool), Held::new(&pool)];
        held.into_iter().for_each(Held::release);
        let jobs: Vec<_> = (0..100).map(|_| pool.spawn_blocking(|| ())).collect();
        jobs.into_iter().for_each(|job| job.wait().unwrap());
        stays_at_rest(&pool, Duration::from_millis(100));
    });
}

// ---- blocking --------------------------------------------------------------------------------

#[test]
fn a_wait_inside_a_worker_runs_a_queued_job_in_place() {
    guarded(|| {
        let pool = fixed(1);
        let inner = pool.clone();
        let outer = pool.spawn_blocking(move || {
            let job = inner.spawn_blocking(|| thread::current().id());
            (job.wait().unwrap(), thread::current().id())
        });
        let (inside, outside) = outer.wait().unwrap();
        assert_eq!(inside, outside);
    });
}

#[test]
fn waits_nested_a_thousand_deep_neither_deadlock_nor_overflow_the_stack() {
    fn nest(pool: &ThreadPool, depth: usize) -> usize {
        if depth == 0 {
            return 0;
        }
        let inner = pool.clone();
        let job = pool.spawn_blocking(move || nest(&inner, depth - 1));
        job.wait().unwrap() + 1
    }
    guarded(|| {
        let pool = ThreadPool::builder().core_threads(1).build().unwrap();
        let inner = pool.clone();
        let outer = pool.spawn_blocking(move || nest(&inner, 1_000));
        assert_eq!(outer.wait().unwrap(), 1_000);
        assert_conserved(&pool);
    });
}

#[test]
fn a_wait_of_ours_inside_a_worker_is_compensated_at_once() {
    guarded(|| {
        let pool = pool(1);
        let (promise, handle) = promise();
        let waiter = pool.spawn_blocking(move || handle.wait().unwrap());
        eventually("it runs", || pool.metrics().running == 1);
        let helper = pool.spawn_blocking(move || promise.resolve(3).unwrap());
        assert_eq!(waiter.wait().unwrap(), 3);
        helper.wait().unwrap();
        assert_eq!(pool.metrics().threads_peak, 2);
    });
}

#[test]
fn a_job_behind_blocked_ones_gets_a_thread() {
    guarded(|| {
        let pool = pool(2);
        let held: Vec<_> = (0..8).map(|_| Held::new(&pool)).collect();
        pool.spawn_blocking(|| ()).wait().unwrap();
        held.into_iter().for_each(Held::release);
        assert_conserved(&pool);
    });
}

#[test]
fn extra_threads_leave_after_their_keep_alive_and_the_core_stays() {
    guarded(|| {
        let builder = ThreadPool::builder().core_threads(2).max_threads(64);
        let pool = builder
            .keep_alive(Duration::from_millis(20))
            .build()
            .unwrap();
        let held: Vec<_> = (0..60).map(|_| Held::new(&pool)).collect();
        assert!(pool.metrics().threads >= 60);
        held.into_iter().for_each(Held::release);
        eventually("the count is back at core", || pool.metrics().threads == 2);
        let metrics = pool.metrics();
        assert_eq!(metrics.threads_started - metrics.threads_retired, 2);
        pool.spawn_blocking(|| ()).wait().unwrap();
        assert_eq!(pool.metrics().threads, 2);
    });
}

#[test]
fn what_a_job_submits_runs_elsewhere_while_that_job_blocks() {
    guarded(|| {
        let pool = pool(2);
        for _ in 0..50 {
            let inner = pool.clone();
            let (answer, answered) = channel();
            let outer = pool.spawn_blocking(move || {
                inner
                    .spawn_blocking(move || answer.send(8).unwrap())
                    .detach();
                answered.recv().unwrap()
            });
            assert_eq!(outer.wait().unwrap(), 8);
        }
    });
}

// ---- threads ---------------------------------------------------------------------------------

#[test]
fn hooks_run_on_every_thread_with_its_index_and_a_panicking_stop_hook_is_contained() {
    guarded(|| {
        let log = Arc::new(Mutex::new(Vec::new()));
        let (starts, stops) = (log.clone(), log.clone());
        let pool = ThreadPool::builder()
            .core_threads(2)
            .max_threads(2)
            .on_thread_start(move |index| starts.lock().unwrap().push(("start", index)))
            .on_thread_stop(move |index| {
                stops.lock().unwrap().push(("stop", index));
                panic!("contained");
            })
            .build()
            .unwrap();
        let held = [Held::new(&pool), Held::new(&pool)];
        held.into_iter().for_each(Held::release);
        assert!(pool.shutdown(Shutdown::Drain).completed);
        let mut log = log.lock().unwrap().clone();
        log.sort_unstable();
        assert_eq!(log, [("start", 0), ("start", 1), ("stop", 0), ("stop", 1)]);
    });
}

#[test]
fn a_start_hook_that_panics_breaks_the_pool_but_not_what_has_started() {
    guarded(|| {
        let pool = ThreadPool::builder()
            .core_threads(1)
            .on_thread_start(|index| assert_eq!(index, 0, "the second thread fails"))
            .build()
            .unwrap();
        let (answer, question) = channel::<Receiver<u8>>();
        let (begin, has_begun) = channel();
        let started = pool.spawn_blocking(move || {
            begin.send(()).unwrap();
            question.recv().unwrap().recv().unwrap()
        });
        has_begun.recv().unwrap();
        // The worker is blocked: the growth that this asks for meets the hook.
        let queued: Vec<_> = (0..3).map(|_| pool.spawn_blocking(|| ())).collect();
        for job in queued {
            assert!(job.wait().unwrap_err().is_shut_down());
        }
        let refused = pool.submit(|| 5).unwrap_err();
        assert!(refused.is_broken(), "{refused}");
        assert!(!pool.is_shut_down());
        let (open, gate) = channel();
        answer.send(gate).unwrap();
        open.send(7).unwrap();
        assert_eq!(started.wait().unwrap(), 7);
        assert!(pool.shutdown(Shutdown::Drain).completed);
        assert!(pool.submit(|| 6).unwrap_err().is_shut_down());
        assert_conserved(&pool);
    });
}

/// Refuses worker threads while told to.
#[derive(Default)]
struct Moody {
    refuse: AtomicBool,
    refused: AtomicUsize,
}

impl Starter for Moody {
    fn start(
        &self,
        name: String,
        _stack: Option<usize>,
        body: Box<dyn FnOnce() + Send>,
    ) -> io::Result<thread::JoinHandle<()>> {
        if self.refuse.load(Ordering::Relaxed) && !name.ends_with("watchdog") {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        thread::Builder::new().name(name).spawn(body)
    }
}

#[test]
fn without_any_thread_the_submitter_gets_the_job_back_and_a_later_start_recovers() {
    guarded(|| {
        let starter = Arc::new(Moody::default());
        starter.refuse.store(true, Ordering::Relaxed);
        let pool = ThreadPool::builder()
            .core_threads(2)
            .starter(starter.clone())
            .build()
            .unwrap();
        let error = pool.submit(|| 1).unwrap_err();
        assert!(error.is_broken());
        error.into_job().unwrap().run();
        assert!(pool.spawn_blocking(|| 2).wait().unwrap_err().is_shut_down());
        assert!(pool.spawn(async { 2 }).wait().unwrap_err().is_shut_down());
        let batch = pool.spawn_batch((0..3).map(|_| || 2));
        for job in batch {
            assert!(job.wait().unwrap_err().is_shut_down());
        }
        assert_eq!(pool.metrics().submitted, 0);
        starter.refuse.store(false, Ordering::Relaxed);
        assert_eq!(pool.submit(|| 3).unwrap().wait().unwrap(), 3);
        assert_eq!(pool.metrics().threads_started, 1);
    });
}

#[test]
fn with_some_threads_refusals_of_further_ones_are_nobodys_error() {
    guarded(|| {
        let starter = Arc::new(Moody::default());
        let pool = ThreadPool::builder()
            .core_threads(2)
            .starter(starter.clone())
            .build()
            .unwrap();
        let held = Held::new(&pool);
        starter.refuse.store(true, Ordering::Relaxed);
        let jobs: Vec<_> = (0..100).map(|n| pool.submit(move || n).unwrap()).collect();
        eventually("a refusal", || starter.refused.load(Ordering::Relaxed) > 0);
        starter.refuse.store(false, Ordering::Relaxed);
        for (n, job) in jobs.into_iter().enumerate() {
            assert_eq!(job.wait().unwrap(), n, "another thread came later");
        }
        held.release();
    });
}

// ---- shutdown --------------------------------------------------------------------------------

#[test]
fn a_drain_runs_what_is_queued_and_what_running_jobs_submit() {
    guarded(|| {
        fn chain(left: usize, ran: &Arc<AtomicUsize>) {
            ran.fetch_add(1, Ordering::Relaxed);
            if left > 0 {
                let ran = ran.clone();
                let pool = ThreadPool::current().unwrap();
                pool.submit(move || chain(left - 1, &ran)).unwrap().detach();
            }
        }
        let pool = pool(2);
        let ran = Arc::new(AtomicUsize::new(0));
        for _ in 0..100 {
            let ran = ran.clone();
            pool.spawn_blocking(move || chain(20, &ran)).detach();
        }
        let report = pool.shutdown(Shutdown::Drain);
        assert!(report.completed && report.stuck.is_empty());
        assert_eq!(ran.load(Ordering::Relaxed), 2_100);
        let metrics = pool.metrics();
        assert_eq!((metrics.submitted, metrics.completed), (2_100, 2_100));
        assert_eq!(
            (metrics.queued, metrics.running, metrics.threads),
            (0, 0, 0)
        );
    });
}

#[test]
fn from_the_call_of_shutdown_on_nothing_is_taken_from_outside() {
    guarded(|| {
        for mode in [Shutdown::Drain, Shutdown::CancelQueued] {
            let pool = fixed(1);
            let held = Held::new(&pool);
            let ender = pool.clone();
            let end = thread::spawn(move || ender.shutdown(mode));
            eventually("it is shut down", || pool.is_shut_down());
            assert!(pool.submit(|| ()).unwrap_err().is_shut_down());
            assert!(
                pool.spawn_blocking(|| ())
                    .wait()
                    .unwrap_err()
                    .is_shut_down()
            );
            assert!(pool.spawn(async {}).wait().unwrap_err().is_shut_down());
            let pinned = pool.spawn_pinned(|| async {});
            assert!(pinned.wait().unwrap_err().is_shut_down());
            let submitted = pool.metrics().submitted;
            assert_eq!(submitted, 1, "refused jobs are not counted");
            held.release();
            assert!(end.join().unwrap().completed);
        }
    });
}

#[test]
fn cancel_queued_resolves_what_is_queued_before_running_jobs_end() {
    guarded(|| {
        let pool = fixed(2);
        let held = [Held::new(&pool), Held::new(&pool)];
        let queued: Vec<_> = (0..100).map(|_| pool.spawn_blocking(|| ())).collect();
        let report = pool.shutdown_timeout(Shutdown::CancelQueued, Duration::ZERO);
        assert!(!report.completed);
        assert_eq!((report.cancelled, report.stuck.len()), (100, 2));
        for job in queued {
            assert!(job.wait().unwrap_err().is_cancelled());
        }
        held.into_iter().for_each(Held::release);
        let report = pool.shutdown(Shutdown::CancelQueued);
        assert!(report.completed);
        assert_eq!(report.cancelled, 0, "the first call has cancelled them");
        assert_conserved(&pool);
    });
}

#[test]
fn cancel_queued_refuses_what_running_jobs_submit() {
    guarded(|| {
        let pool = fixed(1);
        let (open, gate) = channel::<()>();
        let (begin, has_begun) = channel();
        let job = pool.spawn_blocking(move || {
            begin.send(()).unwrap();
            let _ = gate.recv();
            ThreadPool::current()
                .unwrap()
                .submit(|| ())
                .unwrap_err()
                .is_shut_down()
        });
        has_begun.recv().unwrap();
        let report = pool.shutdown_timeout(Shutdown::CancelQueued, Duration::ZERO);
        assert!(!report.completed);
        drop(open);
        assert!(job.wait().unwrap());
        assert!(pool.shutdown(Shutdown::CancelQueued).completed);
    });
}

#[test]
fn cancel_queued_cancels_suspended_tasks_and_a_drain_waits_for_them() {
    guarded(|| {
        for pinned in [false, true] {
            let spawn = |pool: &ThreadPool, show| match pinned {
                false => pool.spawn(suspended(show)),
                true => pool.spawn_pinned(move || suspended(show)),
            };
            let pool = pool(2);
            let (show, shown) = channel();
            let task = spawn(&pool, show);
            let _waker = shown.recv().unwrap();
            eventually("it is suspended", || pool.metrics().threads_idle > 0);
            let report = pool.shutdown(Shutdown::CancelQueued);
            assert!(report.completed);
            assert_eq!(report.cancelled, 1);
            assert!(task.wait().unwrap_err().is_cancelled());
            assert_conserved(&pool);

            let pool = self::pool(2);
            let (show, shown) = channel();
            let task = spawn(&pool, show);
            let waker: Waker = shown.recv().unwrap();
            let report = pool.shutdown_timeout(Shutdown::Drain, Duration::from_millis(5));
            assert!(!report.completed);
            assert_eq!(report.stuck[0].id, task.id());
            waker.wake();
            assert!(pool.shutdown(Shutdown::Drain).completed);
            task.wait().unwrap();
        }
    });
}

#[test]
fn a_shutdown_that_runs_out_of_time_names_what_is_stuck() {
    guarded(|| {
        let pool = fixed(1);
        let (open, gate) = channel::<()>();
        let (begin, has_begun) = channel();
        let start = Instant::now();
        let limit = Duration::from_millis(20);
        let line = line!() + 2;
        let job = (&pool as &dyn Executor)
            .submit_named("import", move || {
                begin.send(()).unwrap();
                let _ = gate.recv();
            })
            .unwrap();
        has_begun.recv().unwrap();
        let begun = Instant::now();
        // What the job has run for by then is to be in the report.
        thread::sleep(limit);
        let before = begun.elapsed();
        let report = pool.shutdown_timeout(Shutdown::Drain, limit);
        assert!(!report.completed);
        let [stuck] = &report.stuck[..] else {
            panic!("{report:?}");
        };
        assert_eq!(
            (stuck.id, stuck.name.as_deref()),
            (job.id(), Some("import"))
        );
        assert_eq!(
            (stuck.spawned_at.file(), stuck.spawned_at.line()),
            (file!(), line)
        );
        assert!(stuck.running_for >= before + limit, "{stuck:?}");
        assert!(stuck.running_for <= start.elapsed(), "{stuck:?}");
        drop(open);
        job.wait().unwrap();
        assert!(
            pool.shutdown_timeout(Shutdown::Drain, Duration::MAX)
                .completed
        );
    });
}

#[test]
fn a_shutdown_called_by_a_job_does_not_wait_for_that_job() {
    guarded(|| {
        for mode in [Shutdown::Drain, Shutdown::CancelQueued] {
            let pool = fixed(1);
            let (open, gate) = channel::<()>();
            let inner = pool.clone();
            let job = pool.spawn_blocking(move || {
                let _ = gate.recv();
                inner.shutdown(mode)
            });
            let queued = pool.spawn_blocking(|| 4);
            drop(open);
            let report = job.wait().unwrap();
            assert!(report.completed, "{report:?}");
            match mode {
                Shutdown::Drain => assert_eq!(queued.wait().unwrap(), 4),
                Shutdown::CancelQueued => assert!(queued.wait().unwrap_err().is_cancelled()),
            }
            assert!(pool.shutdown(mode).completed);
            assert_eq!(pool.metrics().threads, 0);
        }
    });
}

#[test]
fn jobs_that_shut_their_pool_down_at_the_same_time_do_not_wait_for_each_other() {
    guarded(|| {
        let pool = pool(2);
        let both = Arc::new(Barrier::new(3));
        let jobs: Vec<_> = (0..3)
            .map(|_| {
                let (inner, both) = (pool.clone(), both.clone());
                pool.spawn_blocking(move || {
                    both.wait();
                    inner.shutdown(Shutdown::Drain).completed
                })
            })
            .collect();
        for job in jobs {
            assert!(job.wait().unwrap());
        }
        assert!(pool.shutdown(Shutdown::Drain).completed);
    });
}

#[test]
fn tasks_and_pinned_tasks_may_shut_their_pool_down() {
    guarded(|| {
        let pool = pool(2);
        let inner = pool.clone();
        let task = pool.spawn(async move {
            yield_now().await;
            inner.shutdown(Shutdown::Drain).completed
        });
        assert!(task.wait().unwrap());
        let pool = self::pool(1);
        let inner = pool.clone();
        let task = pool.spawn_pinned(move || async move {
            yield_now().await;
            inner.shutdown(Shutdown::Drain).completed
        });
        assert!(task.wait().unwrap());
    });
}

#[test]
fn many_threads_may_shut_a_pool_down_at_once() {
    guarded(|| {
        let pool = pool(2);
        let jobs: Vec<_> = (0..1_000).map(|_| pool.spawn_blocking(|| ())).collect();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert!(pool.shutdown(Shutdown::Drain).completed));
            }
        });
        assert!(jobs.iter().all(JoinHandle::is_finished));
    });
}

#[test]
fn a_cancel_after_a_drain_ends_what_the_drain_waits_for() {
    guarded(|| {
        let pool = fixed(1);
        let held = Held::new(&pool);
        let queued = pool.spawn_blocking(|| ());
        let report = pool.shutdown_timeout(Shutdown::Drain, Duration::ZERO);
        assert!(!report.completed && !queued.is_finished());
        let report = pool.shutdown_timeout(Shutdown::CancelQueued, Duration::ZERO);
        assert_eq!(report.cancelled, 1);
        assert!(queued.wait().unwrap_err().is_cancelled());
        held.release();
        assert!(pool.shutdown(Shutdown::Drain).completed);
    });
}

#[test]
fn when_the_last_handle_goes_queued_work_still_finishes_and_the_threads_leave() {
    guarded(|| {
        let (leave, left) = channel();
        let leave = Mutex::new(leave);
        let pool = ThreadPool::builder()
            .core_threads(2)
            .on_thread_stop(move |_| leave.lock().unwrap().send(()).unwrap())
            .build()
            .unwrap();
        let held = [Held::new(&pool), Held::new(&pool)];
        let jobs: Vec<_> = (0..100).map(|n| pool.spawn_blocking(move || n)).collect();
        drop(pool);
        held.into_iter().for_each(Held::release);
        for (n, job) in jobs.into_iter().enumerate() {
            assert_eq!(job.wait().unwrap(), n);
        }
        left.recv().unwrap();
        left.recv().unwrap();
    });
}

#[test]
fn a_job_may_drop_the_last_handle_of_its_pool() {
    guarded(|| {
        let (leave, left) = channel();
        let leave = Mutex::new(leave);
        let pool = ThreadPool::builder()
            .core_threads(1)
            .on_thread_stop(move |_| leave.lock().unwrap().send(()).unwrap())
            .build()
            .unwrap();
        let inner = pool.clone();
        let (open, gate) = channel::<()>();
        let job = pool.spawn_blocking(move || {
            let _ = gate.recv();
            drop(inner);
            ThreadPool::current().unwrap().spawn_blocking(|| 6)
        });
        drop(pool);
        drop(open);
        assert_eq!(job.wait().unwrap().wait().unwrap(), 6);
        left.recv().unwrap();
    });
}

#[test]
fn nothing_of_a_pool_outlives_its_handles_and_its_work() {
    guarded(|| {
        let probe = Arc::new(());
        let witness = probe.clone();
        let pool = ThreadPool::builder()
            .core_threads(2)
            .on_thread_stop(move |_| drop(witness.clone()))
            .build()
            .unwrap();
        let held = Held::new(&pool);
        let task = pool.spawn(yield_now());
        let pinned = pool.spawn_pinned(yield_now);
        let (show, shown) = channel();
        let late = pool.spawn(suspended(show));
        let waker: Waker = shown.recv().unwrap();
        held.release();
        task.wait().unwrap();
        pinned.wait().unwrap();
        waker.wake_by_ref();
        late.wait().unwrap();
        drop(pool);
        drop(waker);
        eventually("all is dropped", || Arc::strong_count(&probe) == 1);
    });
}

#[test]
fn dropping_work_at_a_shutdown_may_use_the_pool() {
    struct Respawn(ThreadPool);
    impl Drop for Respawn {
        fn drop(&mut self) {
            assert!(self.0.submit(|| ()).unwrap_err().is_shut_down());
            let _ = self.0.metrics();
            let _ = self
                .0
                .shutdown_timeout(Shutdown::CancelQueued, Duration::ZERO);
        }
    }
    guarded(|| {
        let pool = fixed(1);
        let held = Held::new(&pool);
        let respawn = Respawn(pool.clone());
        let queued = pool.spawn_blocking(move || drop(respawn));
        let report = pool.shutdown_timeout(Shutdown::CancelQueued, Duration::ZERO);
        assert_eq!(report.cancelled, 1);
        assert!(queued.wait().unwrap_err().is_cancelled());
        held.release();
    });
}

#[test]
fn a_push_that_races_a_shutdown_runs_is_cancelled_or_comes_back() {
    guarded(|| {
        for round in 0..200 {
            let pool = pool(2);
            let mode = [Shutdown::Drain, Shutdown::CancelQueued][round % 2];
            let start = Arc::new(Barrier::new(3));
            let pushers: Vec<_> = (0..2)
                .map(|_| {
                    let (pool, start) = (pool.clone(), start.clone());
                    thread::spawn(move || {
                        start.wait();
                        let taken: Vec<_> =
                            (0..50).map_while(|n| pool.submit(move || n).ok()).collect();
                        taken
                    })
                })
                .collect();
            start.wait();
            pool.shutdown(mode);
            for pusher in pushers {
                for (n, job) in pusher.join().unwrap().into_iter().enumerate() {
                    match job.wait() {
                        Ok(value) => assert_eq!(value, n),
                        Err(error) => assert!(error.is_cancelled() || error.is_shut_down()),
                    }
                }
            }
            assert_conserved(&pool);
            let metrics = pool.metrics();
            assert_eq!((metrics.queued, metrics.running), (0, 0));
        }
    });
}

/// It is counted for a moment, which the end of the pool must not wait for.
#[test]
fn a_cancelled_job_that_is_handed_over_while_the_pool_drains_holds_nobody_up() {
    guarded(|| {
        for _ in 0..300 {
            let pool = fixed(1);
            pool.spawn_blocking(|| ()).wait().unwrap();
            let start = Arc::new(Barrier::new(2));
            let (at, started) = (pool.clone(), start.clone());
            let pusher = thread::spawn(move || {
                started.wait();
                (0..100)
                    .take_while(|_| {
                        let (job, handle) = Job::new(|| ());
                        assert_eq!(handle.cancel(), Cancel::Prevented);
                        at.execute(job).is_ok()
                    })
                    .count()
            });
            start.wait();
            assert!(pool.shutdown(Shutdown::Drain).completed);
            pusher.join().unwrap();
            assert_eq!(pool.metrics().submitted, 1);
        }
    });
}

// ---- all at once -----------------------------------------------------------------------------

#[test]
fn a_storm_of_all_kinds_of_work_runs_each_once_and_conserves_the_counts() {
    type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;
    guarded(|| {
        let pool = ThreadPool::builder()
            .core_threads(3)
            .max_threads(8)
            .build()
            .unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        let each = 2_000;
        thread::scope(|scope| {
            for kind in 0..4_usize {
                let (pool, ran) = (&pool, &ran);
                scope.spawn(move || {
                    let count = || {
                        let ran = ran.clone();
                        move || {
                            ran.fetch_add(1, Ordering::Relaxed);
                        }
                    };
                    for n in 0..each {
                        let run = count();
                        match kind {
                            0 => pool.spawn_blocking(run).detach(),
                            1 => {
                                let inner = pool.clone();
                                pool.spawn_blocking(move || {
                                    let job = inner.spawn_blocking(run);
                                    if n % 3 == 0 {
                                        job.wait().unwrap();
                                    }
                                })
                                .detach();
                            }
                            2 => {
                                let task: Boxed = Box::pin(async move {
                                    yield_now().await;
                                    run();
                                });
                                pool.spawn(task).detach();
                            }
                            _ => {
                                let (promise, handle) = promise();
                                pool.spawn(async move {
                                    handle.await.unwrap();
                                    run();
                                })
                                .detach();
                                pool.spawn_blocking(move || promise.resolve(()).unwrap())
                                    .detach();
                            }
                        }
                    }
                });
            }
        });
        assert!(pool.shutdown(Shutdown::Drain).completed);
        assert_eq!(ran.load(Ordering::Relaxed), 4 * each);
        let metrics = pool.metrics();
        assert_eq!(metrics.submitted, 6 * each as u64);
        assert_eq!(metrics.completed, metrics.submitted);
    });
}

/// The root of the chain is what the only worker can run; the links follow on the same thread.
#[test]
fn a_worker_that_waits_for_a_derived_handle_runs_the_root_in_place() {
    guarded(|| {
        let pool = fixed(1);
        let inner = pool.clone();
        let outer = pool.spawn_blocking(move || {
            let mapped = inner.spawn_blocking(|| 1).map(|n| n + 1).map(|n| n + 1);
            let (target, chained) = promise();
            chain_future_results(mapped, target);
            chained.wait().unwrap()
        });
        assert_eq!(outer.wait().unwrap(), 3);
    });
}

/// Nobody else is left to poll it: its wakes reach the worker that waits.
#[test]
fn the_only_worker_polls_the_suspended_task_that_it_waits_for() {
    guarded(|| {
        let pool = fixed(1);
        let inner = pool.clone();
        let outer = pool.spawn_blocking(move || {
            let yields = inner.spawn(async {
                yield_now().await;
                yield_now().await;
                1
            });
            let sleeps = inner.spawn(async {
                portage::time::sleep(Duration::from_millis(1)).await;
                2
            });
            yields.wait().unwrap() + sleeps.wait().unwrap()
        });
        assert_eq!(outer.wait().unwrap(), 3);
        let metrics = pool.metrics();
        assert_eq!((metrics.queued, metrics.running), (0, 0), "{metrics:?}");
    });
}

/// The worker that has an old job goes on submitting newer ones; the other worker is held.
#[test]
fn a_job_is_not_left_behind_newer_ones_of_its_worker() {
    fn submit_again(pool: &ThreadPool, old_ran: &Arc<AtomicBool>, left: usize) {
        if left > 0 && !old_ran.load(Ordering::Relaxed) {
            let (pool, old_ran) = (pool.clone(), old_ran.clone());
            pool.clone()
                .spawn_blocking(move || submit_again(&pool, &old_ran, left - 1))
                .detach();
        }
    }
    guarded(|| {
        let pool = fixed(2);
        let held = Held::new(&pool);
        let old_ran = Arc::new(AtomicBool::new(false));
        let (inner, flag) = (pool.clone(), old_ran.clone());
        let first = pool.spawn_blocking(move || {
            let old = flag.clone();
            inner
                .spawn_blocking(move || old.store(true, Ordering::Relaxed))
                .detach();
            submit_again(&inner, &flag, 10_000);
        });
        first.wait().unwrap();
        // Later than all of the chain, were nothing taken in between.
        while pool.metrics().queued > 0 {
            thread::yield_now();
        }
        assert!(pool.metrics().submitted < 1_000);
        assert!(old_ran.load(Ordering::Relaxed));
        drop(held);
    });
}

/// The end of the outer job shows the inner one, which nobody else could run.
#[test]
fn the_only_worker_runs_the_outer_and_the_inner_job_of_a_flattened_handle() {
    guarded(|| {
        let pool = fixed(1);
        let (inner, innermost) = (pool.clone(), pool.clone());
        let outer = pool.spawn_blocking(move || {
            let nested = inner.spawn_blocking(move || innermost.spawn_blocking(|| 1));
            nested.flatten().wait().unwrap()
        });
        assert_eq!(outer.wait().unwrap(), 1);
    });
}

/// It is started on the thread that waits, which it is then bound to.
#[test]
fn waiting_on_the_only_worker_for_a_pinned_task_that_suspends_would_deadlock() {
    guarded(|| {
        let pool = fixed(1);
        let inner = pool.clone();
        let outer = pool.spawn_blocking(move || {
            let pinned = inner.spawn_pinned(|| async { yield_now().await });
            pinned.wait().unwrap_err().is_would_deadlock()
        });
        assert!(outer.wait().unwrap());
        assert_eq!(pool.spawn_pinned(|| async { 2 }).wait().unwrap(), 2);
    });
}
