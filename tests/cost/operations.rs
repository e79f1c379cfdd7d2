//! The operations that everything else is made of.
//!
//! `tests/cost.rs` counts their allocations and wakes, the guard (`benches/guard`) counts their
//! instructions too. Each has a row in `docs/cost.md`.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use portage::time::{sleep_until, yield_now};
use portage::{ContextVar, CurrentThreadExecutor, EventLoop, ThreadPool, copy_context, promise};

/// One of them.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    /// Does it so many times; returns how often a worker of its pool was woken, if it has one.
    pub(crate) run: fn(usize) -> Option<u64>,
}

/// The six hottest, and what they do not show.
pub(crate) const ALL: &[Operation] = &[
    Operation {
        name: "spawn",
        run: spawn,
    },
    Operation {
        name: "batch",
        run: batch,
    },
    Operation {
        name: "round-trip",
        run: round_trip,
    },
    Operation {
        name: "task",
        run: task,
    },
    Operation {
        name: "promise",
        run: promises,
    },
    Operation {
        name: "promise-polled",
        run: promises_polled,
    },
    Operation {
        name: "context",
        run: context,
    },
    Operation {
        name: "timer",
        run: timer,
    },
    Operation {
        name: "yield",
        run: yields,
    },
    Operation {
        name: "ping-pong",
        run: ping_pong,
    },
    Operation {
        name: "loop-yield",
        run: loop_yields,
    },
    Operation {
        name: "lane",
        run: lane,
    },
];

/// One worker: what two of them take from each other is no steady count.
fn pool() -> ThreadPool {
    let pool = ThreadPool::builder().core_threads(1).max_threads(1).build();
    pool.expect("legal sizes")
}

/// `spawn_blocking` and its run, nobody waits. The worker begins when all are submitted.
fn spawn(count: usize) -> Option<u64> {
    let pool = pool();
    let (open, gate) = mpsc::channel::<()>();
    let (done, all_done) = mpsc::channel();
    pool.spawn_blocking(move || gate.recv()).detach();
    let left = Arc::new(AtomicUsize::new(count));
    for _ in 0..count {
        let (left, done) = (left.clone(), done.clone());
        let job = move || {
            if left.fetch_sub(1, Ordering::AcqRel) == 1 {
                done.send(()).expect("it is waited for");
            }
        };
        pool.spawn_blocking(job).detach();
    }
    open.send(()).expect("the gate waits");
    all_done.recv().expect("the last one says so");
    Some(pool.metrics().wakes)
}

/// A job of a batch of 1 000, all of which are read when the last one has run.
fn batch(count: usize) -> Option<u64> {
    const BATCH: usize = 1_000;
    let pool = pool();
    for _ in 0..count / BATCH {
        let (open, gate) = mpsc::channel::<()>();
        pool.spawn_blocking(move || gate.recv()).detach();
        let mut jobs = pool.spawn_batch((0..BATCH).map(|_| || ()));
        open.send(()).expect("the gate waits");
        let last = jobs.pop().expect("it is not empty");
        last.wait().expect("it runs");
        for job in jobs {
            job.wait().expect("it has run");
        }
    }
    Some(pool.metrics().wakes)
}

/// `spawn_blocking` and `wait` on a plain thread.
fn round_trip(count: usize) -> Option<u64> {
    let pool = pool();
    for _ in 0..count {
        pool.spawn_blocking(|| ()).wait().expect("it runs");
    }
    Some(pool.metrics().wakes)
}

/// A task spawns tasks and joins them.
fn task(count: usize) -> Option<u64> {
    let pool = pool();
    let inner = pool.clone();
    let all = pool.spawn(async move {
        for _ in 0..count / 100 {
            let tasks: Vec<_> = (0..100).map(|_| inner.spawn(async {})).collect();
            for task in tasks {
                task.await.expect("it ends");
            }
        }
    });
    all.wait().expect("it ends");
    Some(pool.metrics().wakes)
}

/// A promise is made, resolved and read.
fn promises(count: usize) -> Option<u64> {
    for _ in 0..count {
        let (promise, handle) = promise();
        promise.resolve(1_u64).expect("nobody cancelled");
        assert_eq!(handle.wait().ok(), Some(1));
    }
    None
}

/// The same, and its handle was polled before.
fn promises_polled(count: usize) -> Option<u64> {
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..count {
        let (promise, handle) = promise();
        let mut handle = pin!(handle);
        assert!(handle.as_mut().poll(&mut cx).is_pending());
        promise.resolve(1_u64).expect("nobody cancelled");
        assert!(handle.poll(&mut cx).is_ready());
    }
    None
}

/// A context with one variable is captured and entered.
fn context(count: usize) -> Option<u64> {
    static NUMBER: ContextVar<u64> = ContextVar::new("number");
    let _scope = NUMBER.scope(5);
    for _ in 0..count {
        let mut copy = copy_context();
        copy.run(|| std::hint::black_box(()));
    }
    None
}

static VOID: AtomicUsize = AtomicUsize::new(0);

/// How often so far something was done again because the machine was too slow for it: what was
/// counted meanwhile holds that, too.
pub(crate) fn void() -> usize {
    VOID.load(Ordering::Relaxed)
}

/// Timers are set, fall due, and are looked at.
fn timer(count: usize) -> Option<u64> {
    const BATCH: usize = 500;
    /// How far off the deadlines are, so that none passes before all are set: it is measured once
    /// in a process, since valgrind and a busy machine make fifty times as much of it.
    static FAR: OnceLock<Duration> = OnceLock::new();
    let mut cx = Context::from_waker(Waker::noop());
    // In no order, but the same every time.
    let place = |n: usize| Duration::from_nanos((n * 7_919 % BATCH) as u64);
    let mut set = |due: Instant| {
        let mut sleeps: Vec<_> = (0..BATCH).map(|n| sleep_until(due + place(n))).collect();
        let mut begun = sleeps.iter_mut().map(Pin::new);
        let pending = begun.all(|sleep| sleep.poll(&mut cx).is_pending());
        pending.then_some(sleeps)
    };
    let timers = async {
        let far = *FAR.get_or_init(|| {
            let start = Instant::now();
            drop(set(start + Duration::from_secs(3_600)));
            (start.elapsed() * 16).max(Duration::from_millis(200))
        });
        for _ in 0..count / BATCH {
            let (due, sleeps) = (0..10)
                .find_map(|doubled| {
                    let due = Instant::now() + far * (1 << doubled);
                    let sleeps = set(due);
                    VOID.fetch_add(usize::from(sleeps.is_none()), Ordering::Relaxed);
                    Some(due).zip(sleeps)
                })
                .expect("a batch is set before it falls due");
            sleep_until(due + Duration::from_micros(1)).await;
            let mut cx = Context::from_waker(Waker::noop());
            for mut sleep in sleeps {
                assert!(Pin::new(&mut sleep).poll(&mut cx).is_ready());
            }
        }
    };
    let ran = EventLoop::new().run_until_complete(timers);
    ran.expect("no loop runs here");
    None
}

/// Four tasks of a pool yield.
fn yields(count: usize) -> Option<u64> {
    let pool = pool();
    let task = |_| {
        pool.spawn(async move {
            for _ in 0..count / 4 {
                yield_now().await;
            }
        })
    };
    let tasks: Vec<_> = (0..4).map(task).collect();
    for task in tasks {
        task.wait().expect("it ends");
    }
    Some(pool.metrics().wakes)
}

/// Two tasks of a pool wake each other.
fn ping_pong(count: usize) -> Option<u64> {
    let pool = pool();
    let court = Arc::new(Court::default());
    let players = [0, 1].map(|me| {
        let court = court.clone();
        pool.spawn(async move {
            for _ in 0..count / 2 {
                court.turn(me).await;
                court.over(me);
            }
        })
    });
    for player in players {
        player.wait().expect("it ends");
    }
    Some(pool.metrics().wakes)
}

/// Whose turn it is, and who waits for it.
#[derive(Default)]
struct Court {
    second: AtomicBool,
    waiting: [std::sync::Mutex<Option<Waker>>; 2],
}

impl Court {
    async fn turn(&self, me: usize) {
        std::future::poll_fn(|cx| {
            let mut mine = self.waiting[me].lock().expect("nobody panicked");
            if self.second.load(Ordering::Acquire) == (me == 1) {
                return Poll::Ready(());
            }
            *mine = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn over(&self, me: usize) {
        let other = 1 - me;
        let waker = {
            let mut theirs = self.waiting[other].lock().expect("nobody panicked");
            self.second.store(other == 1, Ordering::Release);
            theirs.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A task of a loop yields.
fn loop_yields(count: usize) -> Option<u64> {
    let yields = async {
        for _ in 0..count {
            yield_now().await;
        }
    };
    let ran = EventLoop::new().run_until_complete(yields);
    ran.expect("no loop runs here");
    None
}

/// Closures to a lane, from another thread; they run when all are there.
fn lane(count: usize) -> Option<u64> {
    let lane = CurrentThreadExecutor::new(None);
    let theirs = lane.clone();
    let submit = move || {
        for _ in 1..count {
            let job = theirs.submit(|| std::hint::black_box(()));
            job.expect("the lane is open").detach();
        }
        theirs.submit(|| ()).expect("the lane is open")
    };
    let last = std::thread::spawn(submit).join().expect("it ends");
    let ended = lane.run_until_future(last);
    ended.expect("this is the lane's thread").expect("it runs");
    None
}
