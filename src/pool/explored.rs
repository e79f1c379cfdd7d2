//! Whole pools, in orders that seeds decide. Run: `just shuttle pool`.
//!
//! A wake that is lost is mended by the watchdog, or by a keep-alive that runs out: so where no
//! time need pass, none may have passed when the last handle has its outcome.

#![forbid(unsafe_code)]

use std::time::Duration;

use crate::base::shuttled::explore::{TimePasses, elapsed, explore};
use crate::base::sync::plain::{AtomicUsize, Ordering};
use crate::base::sync::{Arc, join, thread};
use crate::pool::elastic::STALL;
use crate::pool::{Shutdown, ThreadPool};
use crate::promise::promise;

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
/// Must fail when: a worker that blocks is not counted, or does not look for a successor; nobody
/// is woken for a push; a retirement does not look again.
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
/// Must fail when: the look again before a sleep is gone; a push wakes nobody; the last searcher
/// does not pass on.
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
