//! The table of `docs/cost.md`, counted: allocations of all threads, and wakes of workers.
//!
//! Its locked instructions are counted by the guard (`ci/guard.sh`), which wants valgrind.

#![cfg(not(loom))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use portage::time::{sleep_until, yield_now};
use portage::{ContextVar, CurrentThreadExecutor, EventLoop, ThreadPool, copy_context, promise};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to `System` unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from `System` with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What an operation, done `count` times, is allowed; the wakes of its pool, if it has one.
type Operation = fn(count: usize) -> Option<u64>;

const OPERATIONS: &[(&str, Operation)] = &[
    ("promise", promises),
    ("promise-polled", promises_polled),
    ("context", context),
    ("spawn", spawn),
    ("round-trip", round_trip),
    ("task", task),
    ("yield", yields),
    ("ping-pong", ping_pong),
    ("loop-yield", loop_yields),
    ("timer", timer),
    ("lane", lane),
];

/// Operations per count; the second one is free of what only the first pays.
const COUNT: usize = 2_000;

/// Shares of blocks of queues, and of what the test harness allocates meanwhile.
const SLACK: f64 = 0.1;

/// One test, because it counts what all threads of the process do.
#[test]
fn the_table_of_costs_is_true() {
    let table = include_str!("../docs/cost.md");
    let mut seen = 0;
    for line in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let name = cells[1].split('`').nth(1).expect("a name in backquotes");
        let number = |at: usize| cells[at].parse::<f64>().expect("a number");
        let allocations = number(2);
        let wakes = (cells[4] != "-").then(|| number(4));
        let known = OPERATIONS.iter().find(|(known, _)| *known == name);
        let (_, run) = known.unwrap_or_else(|| panic!("{name} is not counted"));
        run(COUNT);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let woken = run(COUNT);
        let after = ALLOCATIONS.load(Ordering::Relaxed);
        let each = |count: f64| count / COUNT as f64;
        let counted = each((after - before) as f64);
        assert!(
            (counted - allocations).abs() <= SLACK,
            "{name}: {counted} allocations, {allocations} in the table"
        );
        let woken = woken.map(|woken| each(woken as f64));
        assert_eq!(woken.is_some(), wakes.is_some(), "{name}: a pool has wakes");
        assert!(
            woken <= wakes.map(|wakes| wakes + 0.01),
            "{name}: {woken:?} wakes, {wakes:?} in the table"
        );
        seen += 1;
    }
    assert_eq!(seen, OPERATIONS.len(), "every operation is in the table");
}

fn pool(threads: usize) -> ThreadPool {
    let builder = ThreadPool::builder().core_threads(threads);
    builder.max_threads(threads).build().expect("legal sizes")
}

fn promises(count: usize) -> Option<u64> {
    for _ in 0..count {
        let (promise, handle) = promise();
        promise.resolve(1_u64).expect("nobody cancelled");
        assert_eq!(handle.wait().ok(), Some(1));
    }
    None
}

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

fn context(count: usize) -> Option<u64> {
    static NUMBER: ContextVar<u64> = ContextVar::new("number");
    let _scope = NUMBER.scope(5);
    for _ in 0..count {
        copy_context().run(|| std::hint::black_box(()));
    }
    None
}

/// Two workers that have more to do than they can: nobody is woken for what is pushed.
fn spawn(count: usize) -> Option<u64> {
    let pool = pool(2);
    let gate = Arc::new(std::sync::Barrier::new(3));
    let inside: Vec<_> = (0..2)
        .map(|_| {
            let gate = gate.clone();
            pool.spawn_blocking(move || {
                gate.wait();
                gate.wait();
            })
        })
        .collect();
    gate.wait();
    let (done, all_done) = mpsc::channel();
    let left = Arc::new(AtomicUsize::new(count));
    let before = pool.metrics().wakes;
    for _ in 0..count {
        let (left, done) = (left.clone(), done.clone());
        let job = move || {
            if left.fetch_sub(1, Ordering::AcqRel) == 1 {
                done.send(()).expect("it is waited for");
            }
        };
        pool.spawn_blocking(job).detach();
    }
    gate.wait();
    all_done.recv().expect("the last one says so");
    for job in inside {
        job.wait().expect("it ends");
    }
    Some(pool.metrics().wakes - before)
}

fn round_trip(count: usize) -> Option<u64> {
    let pool = pool(1);
    for _ in 0..count {
        pool.spawn_blocking(|| ()).wait().expect("it runs");
    }
    Some(pool.metrics().wakes)
}

fn task(count: usize) -> Option<u64> {
    let pool = pool(1);
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

fn yields(count: usize) -> Option<u64> {
    let pool = pool(1);
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

#[derive(Default)]
struct Court {
    second: AtomicBool,
    waiting: [Mutex<Option<Waker>>; 2],
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
        let waker = {
            let mut theirs = self.waiting[1 - me].lock().expect("nobody panicked");
            self.second.store(me == 0, Ordering::Release);
            theirs.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

fn ping_pong(count: usize) -> Option<u64> {
    let pool = pool(1);
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

fn timer(count: usize) -> Option<u64> {
    let mut cx = Context::from_waker(Waker::noop());
    let timers = async {
        let due = Instant::now() + Duration::from_millis(500);
        let mut sleeps = Vec::with_capacity(count);
        sleeps.extend((0..count).map(|_| sleep_until(due)));
        for sleep in &mut sleeps {
            let _ = Pin::new(sleep).poll(&mut cx);
        }
        sleep_until(due + Duration::from_micros(1)).await;
        for sleep in &mut sleeps {
            assert!(Pin::new(sleep).poll(&mut cx).is_ready());
        }
    };
    let ran = EventLoop::new().run_until_complete(timers);
    ran.expect("no loop runs here");
    None
}

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
