//! Growth, counted: which threads a pool starts, for what, and what it does without them.
//!
//! The threads are started by a [`Starter`] of the test, which counts and refuses.

#![cfg(not(loom))]

mod kit;

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kit::{Gate, OpenAtEnd, eventually, in_time, lock, watchdog};
use portage::ThreadPool;
use portage::pool::{Shutdown, Starter, ThreadPoolBuilder};

const WATCHDOG: &str = "portage-watchdog";

/// What the system says to a start.
type Rule = Box<dyn Fn(usize, &str) -> bool + Send + Sync>;

/// Starts the threads that its rule allows; the rule gets the number of the start.
struct Counting {
    rule: Rule,
    asked: AtomicUsize,
    workers: AtomicUsize,
    watchdogs: AtomicUsize,
    refused: AtomicUsize,
}

impl Counting {
    fn new(rule: impl Fn(usize, &str) -> bool + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            rule: Box::new(rule),
            asked: AtomicUsize::new(0),
            workers: AtomicUsize::new(0),
            watchdogs: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        })
    }

    fn all() -> Arc<Self> {
        Self::new(|_, _| true)
    }

    fn workers(&self) -> usize {
        self.workers.load(Ordering::Relaxed)
    }

    fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    fn pool(self: &Arc<Self>, core: usize, max: usize) -> ThreadPool {
        self.builder(core, max).build().expect("a pool")
    }

    fn builder(self: &Arc<Self>, core: usize, max: usize) -> ThreadPoolBuilder {
        ThreadPool::builder()
            .core_threads(core)
            .max_threads(max)
            .starter(self.clone())
    }
}

impl Starter for Counting {
    fn start(
        &self,
        name: String,
        stack: Option<usize>,
        body: Box<dyn FnOnce() + Send>,
    ) -> io::Result<JoinHandle<()>> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        if !(self.rule)(number, &name) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = if name == WATCHDOG {
            &self.watchdogs
        } else {
            &self.workers
        };
        count.fetch_add(1, Ordering::Relaxed);
        let builder = std::thread::Builder::new().name(name);
        builder.stack_size(stack.unwrap_or(256 << 10)).spawn(body)
    }
}

fn busy(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Waits until nobody is on the way out of a job that has told its end already: a worker that gets
/// no CPU there is none that the next job can count on.
fn at_rest(pool: &ThreadPool) {
    eventually("all rest", || {
        let metrics = pool.metrics();
        metrics.threads_idle == metrics.threads
    });
}

/// Runs `count` jobs that can only end when all of them run at the same time.
fn meet(pool: &ThreadPool, count: usize) {
    let meeting = Arc::new(Barrier::new(count));
    let jobs: Vec<_> = (0..count)
        .map(|_| {
            let meeting = meeting.clone();
            pool.spawn_blocking(move || {
                meeting.wait();
            })
        })
        .collect();
    jobs.into_iter()
        .for_each(|job| job.wait().expect("a value"));
}

#[test]
fn a_hundred_thousand_no_ops_start_the_core_and_at_most_one() {
    let _watch = watchdog(60);
    let starter = Counting::all();
    let pool = starter.pool(2, 512);
    let jobs: Vec<_> = (0..100_000).map(|_| pool.spawn_blocking(|| {})).collect();
    jobs.into_iter()
        .for_each(|job| job.wait().expect("a value"));
    assert!(starter.workers() <= 3, "{}", starter.workers());
    assert!(starter.watchdogs.load(Ordering::Relaxed) <= 1);
}

#[test]
fn computing_jobs_start_the_core_and_at_most_one() {
    let _watch = watchdog(60);
    let starter = Counting::all();
    let pool = starter.pool(2, 512);
    for time in [
        Duration::from_micros(50),
        Duration::from_millis(2),
        Duration::from_millis(30),
    ] {
        let count = (Duration::from_millis(240).as_micros() / time.as_micros()) as usize;
        let jobs: Vec<_> = (0..count)
            .map(|_| pool.spawn_blocking(move || busy(time)))
            .collect();
        jobs.into_iter()
            .for_each(|job| job.wait().expect("a value"));
    }
    assert!(starter.workers() <= 3, "{}", starter.workers());
}

#[test]
fn jobs_that_wait_for_each_other_get_a_thread_each_and_no_more() {
    let _watch = watchdog(60);
    let starter = Counting::all();
    let pool = starter.pool(2, 512);
    for count in [3, 16, 40, 150] {
        at_rest(&pool);
        meet(&pool, count);
        assert_eq!(pool.metrics().threads_peak, count);
        assert_eq!(starter.workers(), count, "warm threads are used again");
    }
    assert_eq!(starter.watchdogs.load(Ordering::Relaxed), 1);
}

#[test]
fn one_sleeper_after_another_starts_no_thread() {
    let _watch = watchdog(60);
    let starter = Counting::all();
    let pool = starter.pool(1, 512);
    for _ in 0..20 {
        at_rest(&pool);
        let job = pool.spawn_blocking(|| std::thread::sleep(Duration::from_millis(1)));
        job.wait().expect("a value");
    }
    assert_eq!(starter.workers(), 1);
}

#[test]
fn at_the_cap_all_blocked_the_queued_jobs_run_when_one_ends() {
    let _watch = watchdog(60);
    let starter = Counting::all();
    let pool = starter.pool(1, 3);
    let gates: Vec<_> = (0..3).map(|_| Gate::new()).collect();
    let _ends: Vec<_> = gates.iter().cloned().map(OpenAtEnd).collect();
    let held: Vec<_> = gates
        .iter()
        .map(|gate| {
            let gate = gate.clone();
            pool.spawn_blocking(move || gate.pass())
        })
        .collect();
    gates.iter().for_each(|gate| gate.wait_entered(1));
    let queued: Vec<_> = (0..100).map(|n| pool.spawn_blocking(move || n)).collect();
    assert_eq!(pool.metrics().queued, 100);
    gates[1].open();
    for (n, job) in queued.into_iter().enumerate() {
        assert_eq!(job.wait().expect("a value"), n);
    }
    assert_eq!(starter.workers(), 3);
    gates.iter().for_each(Gate::open);
    held.into_iter()
        .for_each(|job| job.wait().expect("a value"));
}

#[test]
fn extra_threads_leave_and_those_of_the_core_stay() {
    let _watch = watchdog(60);
    // One of the core leaves for an extra one that has had no CPU for a while, so that the time in
    // which all that are extra have theirs may have to be longer.
    in_time(|keep_alive| {
        let left = Arc::new(Mutex::new(Vec::new()));
        let starter = Counting::all();
        let note = left.clone();
        let pool = starter
            .builder(2, 64)
            .keep_alive(keep_alive)
            .on_thread_stop(move |index| lock(&note).push(index))
            .build()
            .expect("a pool");
        for round in 1..=3 {
            meet(&pool, 20);
            eventually("the count of the core", || pool.metrics().threads == 2);
            let retired = pool.metrics().threads_retired as usize;
            assert!(retired >= 18 * round, "twenty met: {retired}");
            eventually("the hooks", || lock(&left).len() == retired);
        }
        let left = lock(&left).clone();
        let distinct: BTreeSet<_> = left.iter().collect();
        assert!(
            distinct.len() < left.len(),
            "indices are used again: {left:?}"
        );
        assert_eq!(pool.spawn_blocking(|| 7).wait().expect("a value"), 7);
        left.iter().all(|index| *index >= 2).then_some(())
    });
}

#[test]
fn a_wait_of_ours_is_compensated_without_any_watchdog() {
    let _watch = watchdog(60);
    let starter = Counting::new(|_, name| name != WATCHDOG);
    let pool = starter.pool(1, 8);
    let inner = pool.clone();
    let (promise, answer) = portage::promise::<u32>();
    let outer = pool.spawn_blocking(move || {
        // Answered by a job behind this one, which needs a thread of its own.
        inner
            .spawn_blocking(move || promise.resolve(5).expect("somebody waits"))
            .detach();
        answer.wait().expect("a value")
    });
    assert_eq!(outer.wait().expect("a value"), 5);
    assert_eq!(starter.workers(), 2);
}

#[test]
fn refused_for_good_every_submitter_gets_the_error_and_its_job() {
    let _watch = watchdog(60);
    let starter = Counting::new(|_, _| false);
    let pool = starter.pool(2, 8);
    for _ in 0..3 {
        let error = pool.submit(|| 1).expect_err("there is no thread");
        assert!(!error.is_shut_down(), "{error}");
        assert!(error.into_job().is_some());
        assert!(pool.spawn_blocking(|| 1).wait().is_err());
    }
    let metrics = pool.metrics();
    assert_eq!(
        (metrics.threads, metrics.queued, metrics.running),
        (0, 0, 0)
    );
    assert!(pool.shutdown(Shutdown::Drain).completed);
}

#[test]
fn refused_at_first_the_pool_runs_on_later() {
    let _watch = watchdog(60);
    let starter = Counting::new(|number, _| number >= 2);
    let pool = starter.pool(2, 8);
    let refused = (0..2).filter(|_| pool.submit(|| ()).is_err()).count();
    assert_eq!(refused, 2);
    assert_eq!(pool.spawn_blocking(|| 3).wait().expect("a value"), 3);
    meet(&pool, 4);
}

#[test]
fn refused_later_the_pool_runs_on_with_those_there_and_tries_again() {
    let _watch = watchdog(60);
    let allowed = Arc::new(AtomicUsize::new(3));
    let rule = allowed.clone();
    let workers = Arc::new(AtomicUsize::new(0));
    let starter = Counting::new(move |_, name| {
        name == WATCHDOG
            || workers
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                    (n < rule.load(Ordering::Relaxed)).then_some(n + 1)
                })
                .is_ok()
    });
    let pool = starter.pool(2, 64);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let jobs: Vec<_> = (0..12)
        .map(|_| {
            let gate = gate.clone();
            pool.spawn_blocking(move || gate.pass())
        })
        .collect();
    gate.wait_entered(3);
    eventually("another try", || starter.refused() >= 3);
    assert_eq!(
        pool.metrics().threads,
        3,
        "refusals are not counted as threads"
    );
    allowed.store(64, Ordering::Relaxed);
    gate.wait_entered(12);
    gate.open();
    jobs.into_iter()
        .for_each(|job| job.wait().expect("a value"));
    assert_eq!(starter.workers(), 12);
}

#[test]
fn refusals_are_not_asked_for_in_a_loop() {
    let _watch = watchdog(60);
    let starter = Counting::new(|number, name| number == 0 || name == WATCHDOG);
    let pool = starter.pool(1, 64);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let held = gate.clone();
    let job = pool.spawn_blocking(move || held.pass());
    gate.wait_entered(1);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(200) {
        pool.spawn_blocking(|| {}).detach();
        std::thread::sleep(Duration::from_micros(100));
    }
    // 1, 2, 4 .. 128 ms: eight pauses, and one start before them.
    assert!(starter.refused() <= 12, "{}", starter.refused());
    gate.open();
    job.wait().expect("a value");
    assert!(pool.shutdown(Shutdown::Drain).completed);
}

#[test]
fn without_a_watchdog_the_pool_grows_by_arrivals() {
    let _watch = watchdog(60);
    let starter = Counting::new(|_, name| name != WATCHDOG);
    let pool = starter.pool(2, 64);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let mut jobs = Vec::new();
    for _ in 0..10 {
        let gate = gate.clone();
        jobs.push(pool.spawn_blocking(move || gate.pass()));
    }
    eventually("a thread for each", || {
        pool.spawn_blocking(|| {}).detach();
        gate.entered() == 10
    });
    gate.open();
    jobs.into_iter()
        .for_each(|job| job.wait().expect("a value"));
}

#[test]
fn a_start_may_use_the_pool() {
    /// Submits to the pool whose thread it starts.
    struct Nosy {
        pool: Mutex<Option<ThreadPool>>,
        counting: Arc<Counting>,
    }
    impl Starter for Nosy {
        fn start(
            &self,
            name: String,
            stack: Option<usize>,
            body: Box<dyn FnOnce() + Send>,
        ) -> io::Result<JoinHandle<()>> {
            let pool = lock(&self.pool).clone();
            if let Some(pool) = pool.filter(|pool| pool.metrics().threads > 1) {
                pool.spawn_blocking(|| {}).detach();
            }
            self.counting.start(name, stack, body)
        }
    }
    let _watch = watchdog(60);
    let nosy = Arc::new(Nosy {
        pool: Mutex::new(None),
        counting: Counting::all(),
    });
    let pool = ThreadPool::builder()
        .core_threads(1)
        .max_threads(64)
        .starter(nosy.clone())
        .build()
        .expect("a pool");
    *lock(&nosy.pool) = Some(pool.clone());
    meet(&pool, 20);
    let kept = lock(&nosy.pool).take();
    drop(kept);
}

#[cfg(target_os = "linux")]
#[test]
fn after_a_burst_the_watchdog_sleeps_for_good() {
    /// Times that threads of this name (as Linux cuts it) gave up the CPU themselves.
    fn switches(name: &str) -> Option<u64> {
        let mut sum = None;
        for task in std::fs::read_dir("/proc/self/task").ok()?.flatten() {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let field = |key: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(key));
                line.map(|value| value.trim().to_owned())
            };
            if field("Name:").is_some_and(|found| found == name) {
                let count = field("voluntary_ctxt_switches:")?.parse::<u64>().ok()?;
                sum = Some(sum.unwrap_or(0) + count);
            }
        }
        sum
    }
    let _watch = watchdog(60);
    // A process of its own would be cleaner: other tests have watchdogs, too, which come and go.
    let own = "elastic-watch-x";
    let named = Arc::new(Renaming(own));
    let pool = ThreadPool::builder()
        .core_threads(1)
        .max_threads(16)
        .starter(named)
        .build()
        .expect("a pool");
    meet(&pool, 8);
    let quiet = || {
        let before = switches(own).expect("it was started");
        std::thread::sleep(Duration::from_millis(60));
        switches(own).expect("it stays") == before
    };
    // Once is not enough: it may have had no CPU.
    eventually("a watchdog that sleeps, and goes on sleeping", || {
        (0..3).all(|_| quiet())
    });
    meet(&pool, 12);
}

/// Gives the watchdog another name.
#[cfg(target_os = "linux")]
struct Renaming(&'static str);

#[cfg(target_os = "linux")]
impl Starter for Renaming {
    fn start(
        &self,
        name: String,
        _: Option<usize>,
        body: Box<dyn FnOnce() + Send>,
    ) -> io::Result<JoinHandle<()>> {
        let name = if name == WATCHDOG {
            self.0.to_owned()
        } else {
            name
        };
        std::thread::Builder::new().name(name).spawn(body)
    }
}
