//! A great many, and numbers at their ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use portage::pool::Shutdown;
use portage::sync::{Event, Polling, await_threading_event};
use portage::time::{sleep, sleep_until, timeout};
use portage::{EventLoop, JoinHandle, ThreadPool, block_on, promise};

use super::{books_balance, fixed};
use crate::kit::{self, Drops, Gate, OpenAtEnd, watchdog};

const MILLION: usize = 1_000_000;

#[test]
fn a_million_queued_jobs_run_once_each() {
    let _watch = watchdog(120);
    let pool = fixed(2);
    let gate = Gate::new();
    let end = OpenAtEnd(gate.clone());
    for _ in 0..2 {
        let at = gate.clone();
        pool.spawn_blocking(move || at.pass()).detach();
    }
    gate.wait_entered(2);
    let ran = Arc::new(AtomicUsize::new(0));
    for _ in 0..MILLION {
        let ran = ran.clone();
        let job = pool.spawn_blocking(move || ran.fetch_add(1, Ordering::Relaxed));
        job.detach();
    }
    assert!(pool.metrics().queued >= MILLION);
    drop(end);
    assert!(pool.shutdown(Shutdown::Drain).completed);
    assert_eq!(ran.load(Ordering::Relaxed), MILLION);
    assert_eq!(books_balance(&pool).completed, MILLION as u64 + 2);
}

#[test]
fn a_million_queued_jobs_are_cancelled_by_a_shutdown() {
    let _watch = watchdog(120);
    let pool = fixed(1);
    let gate = Gate::new();
    let end = OpenAtEnd(gate.clone());
    let at = gate.clone();
    let first = pool.spawn_blocking(move || at.pass());
    gate.wait_entered(1);
    let drops = Drops::new();
    let mut jobs: Vec<JoinHandle<()>> = (0..MILLION)
        .map(|_| {
            let token = drops.token();
            pool.spawn_blocking(move || drop(token))
        })
        .collect();
    let last = jobs.pop().expect("there are many");
    let ending = {
        let pool = pool.clone();
        std::thread::spawn(move || pool.shutdown(Shutdown::CancelQueued))
    };
    // before the running job ends
    assert!(last.wait().unwrap_err().is_cancelled());
    for job in jobs {
        assert!(job.wait().unwrap_err().is_cancelled());
    }
    assert_eq!(drops.live(), 0);
    drop(end);
    first.wait().expect("it had started");
    let report = ending.join().expect("no panic");
    assert!(report.completed);
    assert_eq!(report.cancelled, MILLION);
    assert_eq!(books_balance(&pool).cancelled, MILLION as u64);
}

#[test]
fn a_million_queued_jobs_are_cancelled_one_by_one() {
    let _watch = watchdog(120);
    let pool = fixed(1);
    let gate = Gate::new();
    let end = OpenAtEnd(gate.clone());
    let at = gate.clone();
    pool.spawn_blocking(move || at.pass()).detach();
    gate.wait_entered(1);
    let jobs: Vec<_> = (0..MILLION)
        .map(|_| pool.spawn_blocking(|| unreachable!()))
        .collect();
    for job in &jobs {
        let _ = job.cancel();
    }
    drop(jobs);
    drop(end);
    assert!(pool.shutdown(Shutdown::Drain).completed);
    let metrics = books_balance(&pool);
    assert_eq!((metrics.completed, metrics.cancelled), (1, MILLION as u64));
}

const TIMERS: usize = 10_000;

/// All due at one instant, in three places: a loop, a pool's tasks, a foreign runtime.
#[test]
fn ten_thousand_timers_that_are_due_at_once_all_fire() {
    let _watch = watchdog(60);
    let at = Instant::now() + Duration::from_millis(50);
    let pool = fixed(2);
    let on_pool: Vec<_> = (0..TIMERS)
        .map(|_| {
            pool.spawn(async move {
                sleep_until(at).await;
                Instant::now()
            })
        })
        .collect();
    let events = EventLoop::new();
    let fired = events.run_until_complete(async {
        let handle = events.handle();
        let tasks: Vec<_> = (0..TIMERS)
            .map(|number| {
                handle.spawn(async move {
                    sleep_until(at).await;
                    assert!(Instant::now() >= at, "early");
                    number
                })
            })
            .collect();
        let mut fired = Vec::with_capacity(TIMERS);
        for task in tasks {
            fired.push(task.await.expect("a value"));
        }
        fired
    });
    assert!(fired.expect("it is idle").into_iter().eq(0..TIMERS));
    for task in on_pool {
        assert!(task.wait().expect("a value") >= at, "early");
    }
    let mut sleeps: Vec<_> = (0..TIMERS).map(|_| sleep_until(at)).collect();
    for sleep in &mut sleeps {
        kit::foreign_block_on(sleep);
    }
    books_balance(&pool);
}

/// Registered first, all at once, then dropped in the instant in which they fire.
#[test]
fn ten_thousand_timers_may_be_dropped_while_they_fire() {
    let _watch = watchdog(60);
    let at = Instant::now() + Duration::from_millis(20);
    let (waker, wakes) = kit::counting_waker();
    let mut sleeps: Vec<_> = (0..TIMERS).map(|_| sleep_until(at)).collect();
    for sleep in &mut sleeps {
        let _ = kit::poll_with(sleep, &waker);
    }
    while Instant::now() < at {
        std::hint::spin_loop();
    }
    drop(sleeps);
    let count = wakes.count();
    assert!(count <= TIMERS, "{count}");
    // who wakes has let go of every waker
    drop(waker);
    kit::eventually("the wakers", || Arc::strong_count(&wakes) == 1);
}

#[test]
fn the_ends_of_the_clock_are_legal_everywhere() {
    let _watch = watchdog(30);
    let far = {
        // the last instant there is, to a second
        let mut far = Instant::now();
        let mut step = Duration::from_secs(1 << 62);
        while step >= Duration::from_secs(1) {
            match far.checked_add(step) {
                Some(next) => far = next,
                None => step /= 2,
            }
        }
        far
    };
    let past = Instant::now().checked_sub(Duration::from_secs(1));
    let past = past.unwrap_or_else(Instant::now);
    let short = Duration::from_millis(2);
    let pool = fixed(2);

    for waiting in [
        sleep(Duration::MAX),
        sleep_until(far),
        sleep(Duration::MAX - short),
    ] {
        assert!(block_on(timeout(short, waiting)).is_err());
    }
    for waiting in [sleep(Duration::MAX), sleep_until(far)] {
        assert!(kit::foreign_block_on(timeout(short, waiting)).is_err());
    }
    for over in [sleep(Duration::ZERO), sleep_until(past)] {
        block_on(over);
    }
    assert_eq!(block_on(timeout(Duration::MAX, async { 1 })), Ok(1));
    assert_eq!(block_on(timeout(Duration::ZERO, async { 1 })), Ok(1));
    let asleep = pool.spawn(sleep_until(far));
    let endless = pool.spawn(timeout(Duration::MAX, sleep(Duration::MAX)));

    let (writer, mut reader) = promise();
    assert!(reader.wait_timeout(Duration::ZERO).is_none());
    let resolver = std::thread::spawn(move || writer.resolve(1));
    assert_eq!(reader.wait_timeout(Duration::MAX).unwrap().unwrap(), 1);
    resolver.join().unwrap().unwrap();

    let event = Arc::new(Event::new());
    assert!(!event.wait_timeout(Duration::ZERO));
    event.set();
    assert!(event.wait_timeout(Duration::MAX));
    for polling in [
        Polling::Every(Duration::ZERO),
        Polling::Every(Duration::MAX),
    ] {
        for limit in [None, Some(Duration::ZERO), Some(Duration::MAX)] {
            assert!(block_on(await_threading_event(
                &event, "set", limit, polling
            )));
        }
    }

    for keep_alive in [Duration::ZERO, Duration::MAX] {
        let other = ThreadPool::builder().core_threads(1).keep_alive(keep_alive);
        let other = other.build().expect("legal");
        assert_eq!(other.spawn_blocking(|| 1).wait().unwrap(), 1);
        assert!(
            other
                .shutdown_timeout(Shutdown::Drain, Duration::MAX)
                .completed
        );
        assert!(
            other
                .shutdown_timeout(Shutdown::Drain, Duration::ZERO)
                .completed
        );
    }

    let report = pool.shutdown_timeout(Shutdown::CancelQueued, Duration::from_secs(60));
    assert!(report.completed, "{report:?}");
    assert!(asleep.wait().unwrap_err().is_cancelled());
    assert!(endless.wait().unwrap_err().is_cancelled());
}
