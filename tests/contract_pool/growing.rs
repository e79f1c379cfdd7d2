//! Growth: blocked workers bring more threads, busy ones do not, and all extra ones leave.
//!
//! Threads are counted, never timed, but for bounds that are seconds away from the truth.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::{Duration, Instant};

use portage::ThreadPool;
use portage::pool::Shutdown;
use portage::promise::promise;

use super::pool;
use crate::kit::{self, Gate, OpenAtEnd, watchdog};

/// Uses the CPU and nothing else.
fn busy(time: Duration) {
    let start = Instant::now();
    let mut sum = 0u64;
    while start.elapsed() < time {
        for number in 0..1000 {
            sum = sum.wrapping_mul(31).wrapping_add(black_box(number));
        }
    }
    black_box(sum);
}

#[test]
fn a_flood_of_short_jobs_never_exceeds_core_by_more_than_one() {
    let _watch = watchdog(60);
    let pool = pool(2, 64);
    let mut last = None;
    for number in 0..50_000u32 {
        last = Some(pool.spawn_blocking(move || black_box(number)));
    }
    last.expect("some").wait().expect("a value");
    let metrics = pool.metrics();
    assert!(metrics.threads_peak <= 3, "{metrics:?}");
}

#[test]
fn a_burst_of_busy_jobs_never_exceeds_core_by_more_than_one() {
    let _watch = watchdog(60);
    let pool = pool(2, 64);
    let handles: Vec<_> = (0..60)
        .map(|_| pool.spawn_blocking(|| busy(Duration::from_millis(3))))
        .collect();
    for handle in handles {
        handle.wait().expect("a value");
    }
    let metrics = pool.metrics();
    assert!(metrics.threads_peak <= 3, "{metrics:?}");
}

#[test]
fn blocked_jobs_grow_the_pool_up_to_max_within_milliseconds() {
    let _watch = watchdog(30);
    let enough = Duration::from_secs(3);
    let took = kit::shortest(enough, || {
        let pool = pool(1, 32);
        let gate = Gate::new();
        let _end = OpenAtEnd(gate.clone());
        let start = Instant::now();
        let handles: Vec<_> = (0..40)
            .map(|_| {
                let at = gate.clone();
                pool.spawn_blocking(move || at.pass())
            })
            .collect();
        gate.wait_entered(32);
        let took = start.elapsed();
        let metrics = pool.metrics();
        assert_eq!(metrics.threads, 32, "{metrics:?}");
        assert_eq!(metrics.queued, 8);
        assert_eq!(gate.entered(), 32, "never more than max");
        gate.open();
        for handle in handles {
            handle.wait().expect("a value");
        }
        assert_eq!(pool.metrics().threads_peak, 32);
        took
    });
    assert!(took < enough, "{took:?}");
}

#[test]
fn sleeping_jobs_run_side_by_side() {
    let _watch = watchdog(30);
    // one after the other they would take three seconds
    let enough = Duration::from_millis(1500);
    let took = kit::shortest(enough, || {
        let pool = pool(1, 64);
        let start = Instant::now();
        let handles: Vec<_> = (0..30)
            .map(|_| pool.spawn_blocking(|| std::thread::sleep(Duration::from_millis(100))))
            .collect();
        for handle in handles {
            handle.wait().expect("a value");
        }
        start.elapsed()
    });
    assert!(took < enough, "{took:?}");
}

#[test]
fn a_queued_job_never_waits_for_ever_behind_blocked_ones() {
    let _watch = watchdog(30);
    let pool = pool(2, 4);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    for entered in 1..=3 {
        let at = gate.clone();
        pool.spawn_blocking(move || at.pass()).detach();
        gate.wait_entered(entered);
        // one place is left: this one needs it and gives it back
        assert_eq!(
            pool.spawn_blocking(move || entered)
                .wait()
                .expect("a value"),
            entered
        );
    }
    let task = pool.spawn(async { 5 });
    assert_eq!(task.wait().expect("a value"), 5);
    let pinned = pool.spawn_pinned(|| async { 6 });
    assert_eq!(pinned.wait().expect("a value"), 6);
}

#[test]
fn our_own_waits_compensate_up_to_max() {
    let _watch = watchdog(30);
    let pool = pool(1, 8);
    let mut writers = Vec::new();
    let waiting: Vec<_> = (0..7)
        .map(|number| {
            let (writer, reader) = promise::<u32>();
            writers.push(writer);
            pool.spawn_blocking(move || reader.wait().expect("a value") + number)
        })
        .collect();
    // all seven wait, and there is still a thread for this one
    let resolving = pool.spawn_blocking(move || {
        for writer in writers {
            writer.resolve(1).expect("nobody cancelled");
        }
    });
    resolving.wait().expect("a value");
    for (number, handle) in (0..).zip(waiting) {
        assert_eq!(handle.wait().expect("a value"), number + 1);
    }
}

#[test]
fn at_the_cap_everything_still_runs() {
    let _watch = watchdog(30);
    let pool = pool(1, 2);
    // they run in pairs, or not at all
    let pair = Arc::new(Barrier::new(2));
    let handles: Vec<_> = (0..20u32)
        .map(|number| {
            let pair = pair.clone();
            pool.spawn_blocking(move || {
                pair.wait();
                number
            })
        })
        .collect();
    for (number, handle) in (0..).zip(handles) {
        assert_eq!(handle.wait().expect("a value"), number);
    }
    assert_eq!(pool.metrics().threads_peak, 2);
}

#[test]
fn extra_threads_leave_after_keep_alive_and_the_count_returns_to_core() {
    let _watch = watchdog(30);
    let pool = ThreadPool::builder()
        .core_threads(2)
        .max_threads(16)
        .keep_alive(Duration::from_millis(20))
        .build()
        .expect("legal");
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    for _ in 0..10 {
        let at = gate.clone();
        pool.spawn_blocking(move || at.pass()).detach();
    }
    gate.wait_entered(10);
    assert!(pool.metrics().threads >= 10);
    gate.open();
    kit::eventually("their leave", || pool.metrics().threads == 2);
    let metrics = pool.metrics();
    assert_eq!(metrics.threads_started - metrics.threads_retired, 2);
    assert!(!kit::within(Duration::from_millis(100), || {
        pool.metrics().threads != 2
    }));
    assert_eq!(pool.spawn_blocking(|| 1).wait().expect("a value"), 1);
}

#[test]
fn with_no_keep_alive_extra_threads_leave_at_once() {
    let _watch = watchdog(30);
    let pool = ThreadPool::builder()
        .core_threads(1)
        .max_threads(8)
        .keep_alive(Duration::ZERO)
        .build()
        .expect("legal");
    for _ in 0..5 {
        let gate = Gate::new();
        let _end = OpenAtEnd(gate.clone());
        for _ in 0..4 {
            let at = gate.clone();
            pool.spawn_blocking(move || at.pass()).detach();
        }
        gate.wait_entered(4);
        gate.open();
        kit::eventually("their leave", || pool.metrics().threads <= 1);
    }
}

#[test]
fn a_thread_that_leaves_counts_until_its_stop_hook_has_ended() {
    let _watch = watchdog(60);
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let leaves = Gate::new();
    let _end = OpenAtEnd(leaves.clone());
    let (comes, seen, goes, at) = (now.clone(), most.clone(), now, leaves.clone());
    let pool = ThreadPool::builder()
        .core_threads(1)
        .max_threads(2)
        .keep_alive(Duration::ZERO)
        .on_thread_start(move |_| {
            seen.fetch_max(comes.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        })
        .on_thread_stop(move |_| {
            at.pass();
            goes.fetch_sub(1, Ordering::SeqCst);
        })
        .build()
        .expect("legal");
    let pair = || {
        let (told, tells) = promise();
        let (inside, entered) = mpsc::channel();
        let waits = pool.spawn_blocking(move || {
            inside.send(()).expect("the test waits");
            tells.wait()
        });
        entered.recv().expect("it runs");
        (waits, pool.spawn_blocking(move || told.resolve(1)))
    };
    let (waits, ends) = pair();
    ends.wait().expect("a value").expect("it waits");
    assert_eq!(waits.wait().expect("a value").expect("resolved"), 1);
    // The second thread has nothing to do any more, and is in its hook.
    leaves.wait_entered(1);
    let (waits, mut ends) = pair();
    let early = ends.wait_timeout(Duration::from_millis(30));
    assert!(
        early.is_none(),
        "a third thread, beside the one that leaves"
    );
    leaves.open();
    ends.wait().expect("a value").expect("it waits");
    assert_eq!(waits.wait().expect("a value").expect("resolved"), 1);
    assert!(pool.shutdown(Shutdown::Drain).completed);
    assert!(most.load(Ordering::SeqCst) <= 2);
}

#[test]
fn a_keep_alive_without_end_keeps_the_threads() {
    let _watch = watchdog(30);
    let pool = ThreadPool::builder()
        .core_threads(1)
        .max_threads(8)
        .keep_alive(Duration::MAX)
        .build()
        .expect("legal");
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    for _ in 0..4 {
        let at = gate.clone();
        pool.spawn_blocking(move || at.pass()).detach();
    }
    gate.wait_entered(4);
    let there = pool.metrics().threads;
    gate.open();
    assert!(!kit::within(Duration::from_millis(100), || {
        pool.metrics().threads < there
    }));
}

#[test]
fn warm_threads_are_used_before_new_ones_start() {
    let _watch = watchdog(30);
    let pool = pool(4, 4);
    for _ in 0..200 {
        pool.spawn_blocking(|| ()).wait().expect("a value");
    }
    let metrics = pool.metrics();
    assert!(metrics.threads_started <= 4);
    assert!(metrics.threads_peak <= 4);
}
