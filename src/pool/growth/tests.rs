//! Growth around a pool of one lock, real threads, and starters that refuse.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{Counts, Ground, Growth};
use crate::pool::builder::Starter;
use crate::pool::elastic::Limits;
use crate::pool::evidence::Phase;

type Job = Box<dyn FnOnce() + Send>;

const LIMIT: Duration = Duration::from_secs(20);

/// Starts threads unless told to refuse; counts the workers and the watchdogs.
#[derive(Default)]
struct Scripted {
    /// Starts to allow before refusing; `usize::MAX` for ever.
    allow: AtomicUsize,
    refuse_watchdog: AtomicBool,
    workers: AtomicUsize,
    watchdogs: AtomicUsize,
    refused: AtomicUsize,
}

impl Scripted {
    fn new(allow: usize) -> Arc<Self> {
        let scripted = Self::default();
        scripted.allow.store(allow, Ordering::Relaxed);
        Arc::new(scripted)
    }
}

impl Starter for Scripted {
    fn start(&self, name: String, _: Option<usize>, body: Job) -> io::Result<JoinHandle<()>> {
        let watchdog = name == "portage-watchdog";
        let refuse = if watchdog {
            self.refuse_watchdog.load(Ordering::Relaxed)
        } else {
            let left = |left| match left {
                usize::MAX => Some(left),
                _ => usize::checked_sub(left, 1),
            };
            self.allow
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
                .is_err()
        };
        if refuse {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = if watchdog {
            &self.watchdogs
        } else {
            &self.workers
        };
        count.fetch_add(1, Ordering::Relaxed);
        std::thread::Builder::new().name(name).spawn(body)
    }
}

struct Mini {
    queue: Mutex<(VecDeque<Job>, usize)>,
    woken: Condvar,
    queued: AtomicUsize,
    threads: AtomicUsize,
    starting: AtomicUsize,
    idle: AtomicUsize,
    announced: AtomicUsize,
    taken: AtomicUsize,
    ended: AtomicUsize,
    closed: AtomicBool,
    starter: Arc<Scripted>,
    growth: Growth,
}

impl Mini {
    fn new(core: usize, max: usize, starter: Arc<Scripted>) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::default(),
            woken: Condvar::new(),
            queued: AtomicUsize::new(0),
            threads: AtomicUsize::new(0),
            starting: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
            announced: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            starter: starter.clone(),
            growth: Growth::new(Limits { core, max }, starter),
        })
    }

    fn submit(self: &Arc<Self>, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let mut queue = self.queue.lock();
        queue.0.push_back(Box::new(job));
        let queued = self.queued.fetch_add(1, Ordering::Relaxed) + 1;
        if self.idle.load(Ordering::Relaxed) > 0 {
            self.idle.fetch_sub(1, Ordering::Relaxed);
            queue.1 += 1;
            self.woken.notify_one();
            return Ok(());
        }
        drop(queue);
        fence(Ordering::SeqCst);
        self.growth.arrived(self, queued)
    }

    fn work(self: &Arc<Self>, share: usize) {
        let pulse = self.growth.enroll();
        let _ = self.growth.spread(self, share);
        let mut fresh = true;
        while let Some(job) = self.take(&mut fresh) {
            if std::mem::take(&mut fresh) {
                self.growth.began(self);
            }
            pulse.turn(Phase::Inside);
            job();
            pulse.turn(Phase::Looking);
            self.ended.fetch_add(1, Ordering::Relaxed);
            self.growth.ended(self);
        }
        self.growth.dismiss(&pulse);
        self.threads.fetch_sub(1, Ordering::Relaxed);
    }

    fn take(&self, fresh: &mut bool) -> Option<Job> {
        let mut queue = self.queue.lock();
        if *fresh {
            self.starting.fetch_sub(1, Ordering::Relaxed);
        }
        loop {
            if let Some(job) = queue.0.pop_front() {
                self.queued.fetch_sub(1, Ordering::Relaxed);
                self.taken.fetch_add(1, Ordering::Relaxed);
                return Some(job);
            }
            *fresh = false;
            if self.closed.load(Ordering::Relaxed) {
                return None;
            }
            self.idle.fetch_add(1, Ordering::Relaxed);
            while queue.1 == 0 && !self.closed.load(Ordering::Relaxed) {
                self.woken.wait(&mut queue);
            }
            queue.1 = queue.1.saturating_sub(1);
        }
    }

    fn close(&self) {
        let queue = self.queue.lock();
        self.closed.store(true, Ordering::Relaxed);
        drop(queue);
        self.woken.notify_all();
        self.growth.close();
    }

    fn threads(&self) -> usize {
        self.starter.workers.load(Ordering::Relaxed)
    }
}

impl Ground for Mini {
    fn growth(&self) -> &Growth {
        &self.growth
    }

    fn counts(&self) -> Counts {
        Counts {
            queued: self.queued.load(Ordering::Relaxed),
            threads: self.threads.load(Ordering::Relaxed),
            starting: self.starting.load(Ordering::Relaxed),
            idle: self.idle.load(Ordering::Relaxed),
            announced: self.announced.load(Ordering::Relaxed),
            ended: self.ended.load(Ordering::Relaxed) as u64,
            taken: self.taken.load(Ordering::Relaxed) as u64,
        }
    }

    fn has_queued(&self) -> bool {
        self.queued.load(Ordering::Relaxed) > 0
    }

    fn reserve(&self, count: usize) -> usize {
        let room = self.growth.limits.max - self.threads.load(Ordering::Relaxed);
        let count = count.min(room);
        self.threads.fetch_add(count, Ordering::Relaxed);
        self.starting.fetch_add(count, Ordering::Relaxed);
        count
    }

    fn release(&self, count: usize) {
        self.threads.fetch_sub(count, Ordering::Relaxed);
        self.starting.fetch_sub(count, Ordering::Relaxed);
    }

    fn start(self: &Arc<Self>, share: usize) -> io::Result<()> {
        let pool = self.clone();
        let body = Box::new(move || pool.work(share));
        self.starter.start("mini".into(), None, body).map(drop)
    }
}

/// Submits `count` jobs and waits until all have ended.
fn burst(pool: &Arc<Mini>, count: usize, job: impl Fn() + Clone + Send + 'static) -> Duration {
    let (done, all_done) = channel();
    let start = Instant::now();
    for _ in 0..count {
        let (job, done) = (job.clone(), done.clone());
        pool.submit(move || {
            job();
            let _ = done.send(());
        })
        .expect("the system has threads");
    }
    drop(done);
    wait(&all_done, count);
    start.elapsed()
}

/// Submits jobs that can only end once so many of them run at the same time.
fn submit_meeting(pool: &Arc<Mini>, count: usize) -> Receiver<()> {
    let meeting = Arc::new(Barrier::new(count));
    let (done, all_done) = channel();
    for _ in 0..count {
        let (meeting, done) = (meeting.clone(), done.clone());
        let job = move || {
            meeting.wait();
            let _ = done.send(());
        };
        pool.submit(job).expect("the system has threads");
    }
    all_done
}

/// The same, and waits until all have ended.
fn meet(pool: &Arc<Mini>, count: usize) {
    wait(&submit_meeting(pool, count), count);
}

/// Waits for `count` messages, with a limit.
fn wait(all_done: &Receiver<()>, count: usize) {
    for index in 0..count {
        match all_done.recv_timeout(LIMIT) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => panic!("stuck after {index} of {count}"),
            Err(RecvTimeoutError::Disconnected) => panic!("lost after {index} of {count}"),
        }
    }
}

fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

#[test]
fn short_jobs_start_no_extra_thread() {
    let pool = Mini::new(2, 64, Scripted::new(usize::MAX));
    burst(&pool, 100_000, || {});
    assert!(pool.threads() <= 3, "{}", pool.threads());
    pool.close();
}

#[test]
fn computing_jobs_start_one_extra_thread_at_most() {
    let pool = Mini::new(2, 64, Scripted::new(usize::MAX));
    burst(&pool, 100, || spin(Duration::from_millis(2)));
    burst(&pool, 8, || spin(Duration::from_millis(40)));
    assert!(pool.threads() <= 3, "{}", pool.threads());
    pool.close();
}

#[test]
fn sleeping_jobs_get_a_thread_each() {
    let pool = Mini::new(2, 128, Scripted::new(usize::MAX));
    meet(&pool, 100);
    assert_eq!(pool.threads(), 100);
    pool.close();
}

#[test]
fn where_the_system_tells_no_states_blocked_jobs_get_their_threads_too() {
    let pool = Mini::new(2, 64, Scripted::new(usize::MAX));
    pool.growth.go_blind();
    meet(&pool, 24);
    assert_eq!(pool.threads(), 24);
    pool.close();
}

#[test]
fn one_watchdog_serves_many_backlogs_and_leaves_with_the_pool() {
    let starter = Scripted::new(usize::MAX);
    let pool = Mini::new(1, 8, starter.clone());
    for _ in 0..20 {
        meet(&pool, 3);
    }
    assert_eq!(starter.watchdogs.load(Ordering::Relaxed), 1);
    pool.close();
    drop(pool);
    let deadline = Instant::now() + LIMIT;
    while Arc::strong_count(&starter) > 1 {
        assert!(Instant::now() < deadline, "somebody keeps the pool");
        std::thread::yield_now();
    }
}

#[test]
fn without_a_watchdog_submitters_and_ending_jobs_look() {
    let starter = Scripted::new(usize::MAX);
    starter.refuse_watchdog.store(true, Ordering::Relaxed);
    let pool = Mini::new(2, 64, starter.clone());
    let all_done = submit_meeting(&pool, 16);
    // Blocked threads look at nothing: it takes arrivals to notice them.
    let deadline = Instant::now() + LIMIT;
    while all_done.try_recv().is_err() {
        let _ = pool.submit(|| {});
        std::thread::sleep(Duration::from_micros(100));
        assert!(Instant::now() < deadline, "{} threads", pool.threads());
    }
    wait(&all_done, 15);
    assert_eq!(starter.watchdogs.load(Ordering::Relaxed), 0);
    pool.close();
}

#[test]
fn the_first_refusal_of_all_is_the_submitters() {
    let starter = Scripted::new(0);
    let pool = Mini::new(2, 64, starter.clone());
    assert!(pool.submit(|| {}).is_err());
    assert_eq!(pool.counts().threads, 0, "the reservation is taken back");
    assert_eq!(pool.counts().starting, 0);
    starter.allow.store(usize::MAX, Ordering::Relaxed);
    let (done, is_done) = channel();
    pool.submit(move || done.send(()).unwrap()).unwrap();
    wait(&is_done, 1);
    pool.close();
}

#[test]
fn later_refusals_pause_and_then_growth_goes_on() {
    let starter = Scripted::new(3);
    let pool = Mini::new(2, 64, starter.clone());
    let all_done = submit_meeting(&pool, 10);
    let deadline = Instant::now() + LIMIT;
    while starter.refused.load(Ordering::Relaxed) < 3 {
        assert!(Instant::now() < deadline, "nobody tries again");
        std::thread::yield_now();
    }
    assert_eq!(pool.threads(), 3);
    starter.allow.store(usize::MAX, Ordering::Relaxed);
    wait(&all_done, 10);
    assert_eq!(pool.threads(), 10);
    pool.close();
}

#[test]
fn at_the_cap_the_jobs_still_run() {
    let pool = Mini::new(1, 4, Scripted::new(usize::MAX));
    // They run in fours, or not at all.
    let four = Arc::new(Barrier::new(4));
    burst(&pool, 40, move || {
        four.wait();
    });
    assert_eq!(pool.threads(), 4);
    pool.close();
}

#[test]
fn at_the_cap_nobody_looks_at_the_workers() {
    let pool = Mini::new(1, 1, Scripted::new(usize::MAX));
    let gate = Arc::new(Barrier::new(2));
    let at = gate.clone();
    let held = move || {
        at.wait();
    };
    pool.submit(held).unwrap();
    (0..100).for_each(|_| pool.submit(|| ()).unwrap());
    pool.growth.blocked(&pool);
    assert_eq!(pool.growth.sight.lock().looked, None);
    gate.wait();
    pool.close();
}

#[test]
fn an_announced_wait_is_compensated_without_a_look() {
    let pool = Mini::new(1, 4, Scripted::new(usize::MAX));
    let (done, is_done) = channel();
    let inner = pool.clone();
    pool.submit(move || {
        let (sent, received) = channel();
        inner.submit(move || sent.send(()).unwrap()).unwrap();
        inner.announced.fetch_add(1, Ordering::Relaxed);
        inner.growth.blocked(&inner);
        received.recv().unwrap();
        inner.announced.fetch_sub(1, Ordering::Relaxed);
        done.send(()).unwrap();
    })
    .unwrap();
    wait(&is_done, 1);
    assert_eq!(pool.threads(), 2);
    pool.close();
}

#[test]
fn starts_are_made_outside_every_lock() {
    /// Submits to the pool from inside the start.
    struct Nosy {
        pool: Mutex<Option<Arc<Mini>>>,
        scripted: Arc<Scripted>,
    }
    impl Starter for Nosy {
        fn start(&self, name: String, s: Option<usize>, body: Job) -> io::Result<JoinHandle<()>> {
            let pool = self.pool.lock().clone();
            if let Some(pool) = pool {
                let _ = pool.growth.arrived(&pool, 2);
                let _ = pool.counts();
            }
            self.scripted.start(name, s, body)
        }
    }
    let scripted = Scripted::new(usize::MAX);
    let nosy = Arc::new(Nosy {
        pool: Mutex::new(None),
        scripted: scripted.clone(),
    });
    let mut pool = Mini::new(1, 16, scripted);
    Arc::get_mut(&mut pool).unwrap().growth =
        Growth::new(Limits { core: 1, max: 16 }, nosy.clone());
    *nosy.pool.lock() = Some(pool.clone());
    meet(&pool, 8);
    *nosy.pool.lock() = None;
    pool.close();
}

/// A pool without threads: its second start is made, and refused, while its first is under way.
struct Sketch {
    growth: Growth,
    counts: Mutex<Counts>,
    starts: AtomicUsize,
}

impl Ground for Sketch {
    fn growth(&self) -> &Growth {
        &self.growth
    }

    fn counts(&self) -> Counts {
        *self.counts.lock()
    }

    fn has_queued(&self) -> bool {
        self.counts().queued > 0
    }

    fn reserve(&self, count: usize) -> usize {
        let mut counts = self.counts.lock();
        counts.threads += count;
        counts.starting += count;
        count
    }

    fn release(&self, count: usize) {
        let mut counts = self.counts.lock();
        counts.threads -= count;
        counts.starting -= count;
    }

    fn start(self: &Arc<Self>, _: usize) -> io::Result<()> {
        match self.starts.fetch_add(1, Ordering::Relaxed) {
            0 => {
                self.counts.lock().queued = 2;
                self.growth.arrived(self, 2).expect("there are others");
                // The new thread has taken a job, and waits in it for the other one.
                let mut counts = self.counts.lock();
                counts.queued = 1;
                counts.starting -= 1;
                counts.announced += 1;
                Ok(())
            }
            1 => Err(io::ErrorKind::WouldBlock.into()),
            _ => {
                self.counts.lock().queued = 0;
                Ok(())
            }
        }
    }
}

#[test]
fn a_start_that_succeeds_looks_after_who_relied_on_one_refused_meanwhile() {
    let starter = Scripted::new(0);
    starter.refuse_watchdog.store(true, Ordering::Relaxed);
    let pool = Arc::new(Sketch {
        growth: Growth::new(Limits { core: 2, max: 8 }, starter),
        counts: Mutex::new(Counts {
            queued: 1,
            threads: 1,
            announced: 1,
            ..Counts::default()
        }),
        starts: AtomicUsize::new(0),
    });
    pool.growth.arrived(&pool, 1).expect("there is a thread");
    assert_eq!(pool.starts.load(Ordering::Relaxed), 3);
    assert!(!pool.has_queued(), "nobody else would have come for it");
}
