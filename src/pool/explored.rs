//! Whole pools, in orders that seeds decide. Run: `just shuttle pool`.
//!
//! A wake that is lost is mended by the watchdog, or by a keep-alive that runs out: so where no
//! time need pass, none may have passed when the last handle has its outcome.

#![forbid(unsafe_code)]

use std::time::Duration;

use crate::base::shuttled::explore::{Gate, TimePasses, elapsed, explore};
use crate::base::sync::plain::{AtomicUsize, Ordering};
use crate::base::sync::{Arc, join, thread};
use crate::pool::elastic::STALL;
use crate::pool::{Shutdown, ThreadPool};
use crate::promise::{JoinHandle, promise};
use crate::{JoinError, block_on};

/// How many threads of a pool there are, and were at most.
#[derive(Clone, Default)]
struct Threads(Arc<[AtomicUsize; 3]>);

impl Threads {
    fn pool(&self, core: usize, max: usize, keep_alive: Duration) -> ThreadPool {
        let (comes, goes) = (self.0.clone(), self.0.clone());
        let pool = ThreadPool::builder()
            .core_threads(core)
            .max_threads(max)
            .keep_alive(keep_alive)
            .on_thread_start(move |_| {
                let [now, most, all] = &*comes;
                let here = now.fetch_add(1, Ordering::Relaxed) + 1;
                most.fetch_max(here, Ordering::Relaxed);
                all.fetch_add(1, Ordering::Relaxed);
            })
            .on_thread_stop(move |_| {
                goes[0].fetch_sub(1, Ordering::Relaxed);
            });
        pool.build().expect("the sizes are valid")
    }

    fn now(&self) -> usize {
        self.0[0].load(Ordering::Relaxed)
    }

    fn most(&self) -> usize {
        self.0[1].load(Ordering::Relaxed)
    }
}

/// Ends the pool: all its threads have left, and there were never more than `max`.
fn end(pool: ThreadPool, threads: &Threads, max: usize) {
    assert!(pool.shutdown(Shutdown::Drain).completed);
    assert_eq!(threads.now(), 0);
    assert!(threads.most() <= max, "{} threads", threads.most());
}

/// Question: two jobs wait for a third, behind them, in a pool that starts with one thread: does
/// it get a thread at once, and never one more than the cap, while threads whose keep-alive is
/// over at any moment leave?
///
/// Bound: three workers at most, two rounds, so that the second finds a pool in which threads are
/// about to leave; no time may pass in the first.
///
/// Must fail when: nobody is woken for a push, or a parked thread by its token; a worker does not
/// look again before it sleeps; a thread that leaves has no place under the cap.
#[test]
fn shuttle_pool_grows_for_jobs_that_block_each_other() {
    explore(1_500, TimePasses::AtAnyMoment, || {
        let threads = Threads::default();
        let pool = threads.pool(1, 3, Duration::from_millis(1));
        for _ in 0..2 {
            let (first, wait_first) = promise::<u32>();
            let (second, wait_second) = promise::<u32>();
            let jobs = [
                pool.spawn_blocking(move || wait_first.wait().unwrap()),
                pool.spawn_blocking(move || wait_second.wait().unwrap()),
                pool.spawn_blocking(move || {
                    first.resolve(1).unwrap();
                    second.resolve(2).unwrap();
                    3
                }),
            ];
            let sum: u32 = jobs.map(|job| job.wait().unwrap()).iter().sum();
            assert_eq!(sum, 6);
        }
        end(pool, &threads, 3);
    });
}

/// Question: as above, but no time may pass: is every wake sent, and none needed from a clock?
///
/// Bound: three workers at most, which stay; jobs submitted from two threads.
///
/// Must fail when: the look again before a sleep is gone; a push wakes nobody; a worker that blocks
/// is not counted.
#[test]
fn shuttle_pool_needs_no_clock_for_announced_waits() {
    explore(1_500, TimePasses::InIdleness, || {
        let threads = Threads::default();
        let pool = threads.pool(2, 3, Duration::from_secs(60));
        let (gate, opened) = promise::<u32>();
        let (other_gate, other_opened) = promise::<u32>();
        let blocked = pool.spawn_blocking(move || opened.wait().unwrap());
        let at = pool.clone();
        let submitter = thread::spawn(move || {
            let blocked = at.spawn_blocking(move || other_opened.wait().unwrap());
            let last = at.spawn_blocking(move || gate.resolve(1));
            last.wait().unwrap().unwrap();
            blocked
        });
        let last = pool.spawn_blocking(move || other_gate.resolve(2));
        last.wait().unwrap().unwrap();
        assert_eq!(blocked.wait().unwrap(), 1);
        assert_eq!(join(submitter).unwrap().wait().unwrap(), 2);
        assert!(elapsed() < STALL, "a wake was lost");
        end(pool, &threads, 3);
    });
}

/// A tree of jobs, each of which waits for the two below it: how many leaves it has.
fn tree(pool: &ThreadPool, depth: u32) -> u32 {
    if depth == 0 {
        return 1;
    }
    let (left, right) = (pool.clone(), pool.clone());
    let left = pool.spawn_blocking(move || tree(&left, depth - 1));
    let right = pool.spawn_blocking(move || tree(&right, depth - 1));
    let leaves = |below: JoinHandle<u32>| below.wait().expect("the pool runs all of them");
    leaves(left) + leaves(right)
}

/// Question: jobs that wait for jobs of the same pool, which may have no thread more: do they all
/// end, each run by a worker that waits for it if by nobody else?
///
/// Bound: two workers at the cap, two trees of three levels, one from outside and one as a job.
///
/// Must fail when: nobody is woken for a push; a worker does not look again before it sleeps.
#[test]
fn shuttle_pool_nested_waits_end_at_the_cap() {
    explore(800, TimePasses::InIdleness, || {
        let threads = Threads::default();
        let pool = threads.pool(2, 2, Duration::from_secs(60));
        let at = pool.clone();
        let inside = pool.spawn_blocking(move || tree(&at, 2));
        assert_eq!(tree(&pool, 2), 4);
        assert_eq!(inside.wait().unwrap(), 4);
        assert!(elapsed() < STALL, "a wake was lost");
        end(pool, &threads, 2);
    });
}

/// Question: the same through chains: `map`, `then`, `flatten`, a task of the pool under
/// `block_on`, a pinned one; and a handle that another job is to get.
///
/// Bound: two workers at the cap, five jobs that wait.
///
/// Must fail when: a worker that waits does not run in place what it waits for; the last one to
/// block does not wake those that are stranded; a worker that blocks is not counted.
#[test]
fn shuttle_pool_chained_waits_end_at_the_cap() {
    explore(800, TimePasses::InIdleness, || {
        let threads = Threads::default();
        let pool = threads.pool(2, 2, Duration::from_secs(60));
        let at = || pool.clone();
        let waits: [Box<dyn FnOnce(ThreadPool) -> u32 + Send>; 5] = [
            Box::new(|at| at.spawn_blocking(|| 0).map(|n: u32| n + 1).wait().unwrap()),
            Box::new(|at| {
                let below = at.clone();
                let outer = at.spawn_blocking(move || below.spawn_blocking(|| 1));
                outer.flatten().then(Result::unwrap).wait().unwrap()
            }),
            Box::new(|at| {
                let below = at.clone();
                let task = at.spawn(async move { below.spawn_blocking(|| 1).await.unwrap() });
                block_on(task).unwrap()
            }),
            Box::new(|at| {
                let below = at.clone();
                let task = at.spawn(async move { below.spawn(async { 1 }).await.unwrap() });
                task.wait().unwrap()
            }),
            Box::new(|at| {
                let (promise, handle) = promise();
                let last = at.spawn_blocking(move || promise.resolve(1).unwrap());
                let first = at.spawn_blocking(move || handle.wait().unwrap());
                last.wait().unwrap();
                first.wait().unwrap()
            }),
        ];
        let jobs = waits.map(|wait| {
            let at = at();
            pool.spawn_blocking(move || wait(at))
        });
        for job in jobs {
            assert_eq!(job.wait().unwrap(), 1);
        }
        assert!(elapsed() < STALL, "a wake was lost");
        end(pool, &threads, 2);
    });
}

/// Waits for a job that waits for a job, and so on: how many there were, or the error of the last.
fn nested(pool: &ThreadPool, levels: u32) -> u32 {
    if levels == 0 {
        return 0;
    }
    let below = pool.clone();
    // A dozen of these fill a stack half.
    let frame = std::hint::black_box([0_u8; 4 << 10]);
    let next = pool.spawn_blocking(move || nested(&below, levels - 1));
    let outcome = next.wait();
    let _ = std::hint::black_box(&frame);
    match outcome {
        Ok(deeper) => deeper + 1,
        Err(error) => {
            assert!(error.is_would_deadlock(), "{error}");
            1
        }
    }
}

/// Question: jobs wait for each other, so deep that the stacks of all workers do not hold them:
/// does one of the waits get an error, whoever has the rest of them on its stack?
///
/// Bound: two workers at the cap, two such towers at a time, on the smallest stacks.
///
/// Must fail when: the last one to block does not wake those that are stranded; whoever is told its
/// way out is not woken; nobody is told.
#[test]
fn shuttle_pool_waits_deeper_than_all_stacks_end() {
    explore(60, TimePasses::InIdleness, || {
        let pool = ThreadPool::builder()
            .core_threads(2)
            .max_threads(2)
            .keep_alive(Duration::from_secs(60))
            .stack_size(128 << 10)
            .build()
            .expect("the sizes are valid");
        let towers = [0, 1].map(|_| {
            let at = pool.clone();
            pool.spawn_blocking(move || nested(&at, 40))
        });
        for tower in towers {
            assert!(tower.wait().unwrap() < 40);
        }
        assert!(elapsed() < STALL, "a wake was lost");
        assert!(pool.shutdown(Shutdown::Drain).completed);
    });
}

/// A thread submits while the pool ends: a job that leaves a handle, one that waits for a job, one
/// that ends the suspension of a task. All handles resolve; what a job that runs submits is run,
/// unless the pool `cancels`.
fn submit_meanwhile(pool: ThreadPool, cancels: bool) {
    let is_end = |error: JoinError| {
        let may_end = error.is_shut_down() || cancels && error.is_cancelled();
        assert!(may_end, "{error}");
    };
    let (promise, handle) = promise::<u32>();
    let (at, deep) = (pool.clone(), pool.clone());
    let leaves = pool.submit(move || at.spawn_blocking(|| 1));
    let waits = pool.submit(move || deep.spawn_blocking(|| 2).wait());
    let task = pool.spawn(handle);
    // A job that is refused goes at once, and the promise with it.
    let ends = pool.submit(move || promise.resolve(3).is_ok()).ok();
    drop(pool);
    if let Ok(leaves) = leaves {
        match leaves.wait() {
            Ok(below) => match below.wait() {
                Ok(one) => assert_eq!(one, 1),
                Err(error) => assert!(cancels, "submitted by a job, and not run: {error}"),
            },
            Err(error) => is_end(error),
        }
    }
    if let Ok(waits) = waits {
        match waits.wait() {
            Ok(Ok(two)) => assert_eq!(two, 2),
            Ok(Err(error)) => assert!(cancels, "submitted by a job, and not run: {error}"),
            Err(error) => is_end(error),
        }
    }
    match task.wait() {
        Ok(Ok(three)) => assert_eq!(three, 3),
        // The job that had the promise was refused.
        Ok(Err(error)) => assert!(error.is_lost(), "{error}"),
        Err(error) => is_end(error),
    }
    if let Some(Err(error)) = ends.map(JoinHandle::wait) {
        is_end(error);
    }
}

/// Question: a pool drains at any moment while a thread submits jobs that submit jobs, and tasks
/// that are suspended: does every handle resolve, is all that running jobs submit run, and do the
/// threads leave?
///
/// Bound: one to three workers, one thread that submits, one that shuts down.
///
/// Must fail when: a worker on its way to sleep does not close the pool; a push does not look at
/// the phase again.
#[test]
fn shuttle_pool_drains_at_any_moment() {
    explore(1_000, TimePasses::AtAnyMoment, || {
        let threads = Threads::default();
        let pool = threads.pool(1, 3, Duration::from_millis(1));
        let at = pool.clone();
        let submitter = thread::spawn(move || submit_meanwhile(at, false));
        let report = pool.shutdown(Shutdown::Drain);
        assert!(report.completed && report.cancelled == 0);
        join(submitter).unwrap();
        end(pool, &threads, 3);
    });
}

/// Question: a job is admitted, and the pool drains before the job is counted: if it runs, may it
/// submit as any other?
///
/// Bound: one worker that waits for work, one thread that submits, one that shuts down.
///
/// Must fail when: a job that is taken from a pool that has ended meanwhile is run.
#[test]
fn shuttle_pool_late_job_may_submit() {
    explore(4_000, TimePasses::InIdleness, || {
        let threads = Threads::default();
        let pool = threads.pool(1, 1, Duration::from_secs(60));
        pool.spawn_blocking(|| ()).wait().unwrap();
        let at = pool.clone();
        let submitter = thread::spawn(move || {
            let below = at.clone();
            let late = at.spawn_blocking(move || below.spawn_blocking(|| 1));
            match late.wait() {
                Ok(below) => assert_eq!(below.wait().unwrap(), 1),
                Err(error) => assert!(error.is_shut_down(), "{error}"),
            }
        });
        end(pool, &threads, 1);
        join(submitter).unwrap();
    });
}

/// Question: somebody submits to a pool that has no thread while it ends: is one started after the
/// end has been told?
///
/// Bound: one worker, one that submits, one that shuts down.
///
/// Must fail when: who starts a thread does not look at the phase after it has counted it.
#[test]
fn shuttle_pool_starts_no_thread_after_its_end() {
    explore(2_000, TimePasses::InIdleness, || {
        let threads = Threads::default();
        let pool = threads.pool(1, 1, Duration::from_secs(60));
        let at = pool.clone();
        let submitter = thread::spawn(move || match at.spawn_blocking(|| 1).wait() {
            Ok(one) => assert_eq!(one, 1),
            Err(error) => assert!(error.is_shut_down(), "{error}"),
        });
        assert!(pool.shutdown(Shutdown::Drain).completed);
        let started = pool.metrics().threads_started;
        assert_eq!(threads.now(), 0);
        join(submitter).unwrap();
        assert_eq!(pool.metrics().threads_started, started, "one after the end");
    });
}

/// Question: two threads shut a pool down while others submit, one of them cancels what is queued;
/// and a job waits for the end of its own pool.
///
/// Bound: two workers, three threads.
///
/// Must fail when: a push does not look at the phase again; the suspended tasks are not told; who
/// waits for its own pool's end is waited for.
#[test]
fn shuttle_pool_cancels_what_is_queued_at_any_moment() {
    explore(1_000, TimePasses::AtAnyMoment, || {
        let threads = Threads::default();
        let pool = threads.pool(2, 2, Duration::from_secs(60));
        let (at, own, other) = (pool.clone(), pool.clone(), pool.clone());
        let submitter = thread::spawn(move || submit_meanwhile(at, true));
        let inside = pool.spawn_blocking(move || own.shutdown(Shutdown::Drain).completed);
        // Nothing but the cancel ends this one.
        let (kept, handle) = promise::<()>();
        let stays = pool.spawn(handle);
        let canceller = thread::spawn(move || other.shutdown(Shutdown::CancelQueued));
        assert!(pool.shutdown(Shutdown::Drain).completed);
        assert!(join(canceller).unwrap().completed);
        assert!(stays.wait().is_err());
        drop(kept);
        match inside.wait() {
            Ok(completed) => assert!(completed),
            Err(error) => assert!(error.is_cancelled() || error.is_shut_down(), "{error}"),
        }
        join(submitter).unwrap();
        end(pool, &threads, 2);
    });
}

/// Question: two calls cancel at any moment, beside workers that come upon the same work: do their
/// reports together count what ended cancelled, no more and no less?
///
/// Bound: two workers, two calls, two jobs, a task that is woken meanwhile and one that is not.
///
/// Must fail when: what others have come upon is not counted.
#[test]
fn shuttle_pool_reports_all_that_it_cancels() {
    explore(800, TimePasses::AtAnyMoment, || {
        let threads = Threads::default();
        let pool = threads.pool(2, 2, Duration::from_secs(60));
        let (wakes, woken) = promise::<()>();
        let (kept, stays) = promise::<()>();
        let handles = [
            pool.spawn(async { drop(woken.await) }),
            pool.spawn(async { drop(stays.await) }),
            pool.spawn_blocking(|| ()),
            pool.spawn_blocking(move || wakes.resolve(()).unwrap()),
        ];
        let other = pool.clone();
        let canceller = thread::spawn(move || other.shutdown(Shutdown::CancelQueued).cancelled);
        let reported = pool.shutdown(Shutdown::CancelQueued).cancelled;
        let reported = reported + join(canceller).unwrap();
        let ends = handles.into_iter().map(JoinHandle::wait);
        let cancelled = ends.filter(|end| end.as_ref().is_err_and(JoinError::is_cancelled));
        assert_eq!(reported, cancelled.count());
        drop(kept);
        end(pool, &threads, 2);
    });
}

/// Question: the last handles go at any moment, and nobody waits: does all that was submitted end,
/// and the threads with it?
///
/// Bound: two workers, two threads that have a handle, and the jobs'.
///
/// Must fail when: the last handle to go does not end the pool; a drain is closed by nobody.
#[test]
fn shuttle_pool_ends_with_its_last_handle() {
    explore(800, TimePasses::AtAnyMoment, || {
        let threads = Threads::default();
        let pool = threads.pool(1, 2, Duration::from_millis(1));
        let at = pool.clone();
        let submitter = thread::spawn(move || submit_meanwhile(at, false));
        drop(pool);
        join(submitter).unwrap();
    });
}

/// Question: jobs that block in a way that the pool does not see, and cannot look at: does the
/// clock bring the thread that opens the gate?
///
/// Bound: two jobs behind a gate, in a pool of one thread at first, three at most.
///
/// Must fail when: an alarm does not start the watchdog.
#[test]
fn shuttle_pool_grows_for_jobs_that_it_cannot_see() {
    explore(500, TimePasses::AtAnyMoment, || {
        let threads = Threads::default();
        let pool = threads.pool(1, 3, Duration::from_millis(1));
        let gate = Arc::new(Gate::default());
        let (first, second, last) = (gate.clone(), gate.clone(), gate);
        let jobs = [
            pool.spawn_blocking(move || first.pass()),
            pool.spawn_blocking(move || second.pass()),
            pool.spawn_blocking(move || last.open()),
        ];
        for job in jobs {
            job.wait().unwrap();
        }
        end(pool, &threads, 3);
    });
}
