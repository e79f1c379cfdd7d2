//! Row 12: futures on the pool: spawn and join, two that wake each other, one that yields.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use futures::executor::block_on;
use futures::future::BoxFuture;
use futures::task::AtomicWaker;

use super::nanoseconds_each;
use crate::pools::{AsyncExecutor, Portage, tokio_runtime};
use crate::{Check, Contender, Sample, Scenario};

const CONTENDERS: &[&str] = &["portage", "tokio", "async-executor"];
const PEERS: &[&str] = &["tokio", "async-executor"];

pub const SPAWN_AND_JOIN: Scenario = Scenario {
    name: "tasks-spawn",
    contenders: CONTENDERS,
    enter: |name, effort| enter::<SpawnAll>(name, 40_000 * effort.scale),
    checks: &[Check::ratio(
        12,
        "a task spawns tasks and joins them",
        "ns",
        PEERS,
        1.0,
    )],
};

pub const PING_PONG: Scenario = Scenario {
    name: "tasks-ping-pong",
    contenders: CONTENDERS,
    enter: |name, effort| enter::<PingPong>(name, 40_000 * effort.scale),
    checks: &[Check::ratio(
        12,
        "two tasks wake each other in turn",
        "ns",
        PEERS,
        1.0,
    )],
};

pub const YIELD: Scenario = Scenario {
    name: "tasks-yield",
    contenders: CONTENDERS,
    enter: |name, effort| enter::<Yields>(name, 100_000 * effort.scale),
    checks: &[Check::ratio(12, "four tasks yield", "ns", PEERS, 1.0)],
};

/// What is done, whoever does it.
trait Work {
    /// Something done so many times; it is run as a task itself.
    fn on<P: Tasks>(pool: P, count: usize) -> BoxFuture<'static, ()>;
}

struct SpawnAll;
struct PingPong;
struct Yields;

fn enter<W: Work + 'static>(name: &str, count: usize) -> Box<dyn Contender> {
    match name {
        "portage" => measure::<W, _>(count, Portage::new(Some(2)).0),
        "tokio" => measure::<W, _>(count, Tokio(tokio_runtime(Some(2)))),
        _ => measure::<W, _>(count, AsyncExecutor::new(2)),
    }
}

/// Spawns futures that any thread may poll.
trait Tasks: Clone + Send + Sync + 'static {
    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> impl Joined;
}

/// Ready when the task has ended.
trait Joined: Future + Send + 'static {}
impl<F: Future + Send + 'static> Joined for F {}

impl Tasks for portage::ThreadPool {
    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> impl Joined {
        Self::spawn(self, future)
    }
}

#[derive(Clone)]
struct Tokio(Arc<tokio::runtime::Runtime>);

impl Tasks for Tokio {
    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> impl Joined {
        self.0.spawn(future)
    }
}

impl Tasks for AsyncExecutor {
    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> impl Joined {
        self.0.spawn(future)
    }
}

fn measure<W: Work + 'static, P: Tasks>(count: usize, pool: P) -> Box<dyn Contender> {
    Box::new(move || {
        let task = W::on(pool.clone(), count);
        let ns = nanoseconds_each(count, || {
            block_on(pool.spawn(task));
        });
        Sample::of("ns", ns)
    })
}

impl Work for SpawnAll {
    fn on<P: Tasks>(pool: P, count: usize) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            for _ in 0..count / 100 {
                let tasks: Vec<_> = (0..100).map(|_| pool.spawn(async {})).collect();
                for task in tasks {
                    task.await;
                }
            }
        })
    }
}

/// A ball between two players.
#[derive(Default)]
struct Ball {
    hits: AtomicU64,
    waiting: [AtomicWaker; 2],
}

async fn play(ball: Arc<Ball>, me: u64, hits: u64) {
    loop {
        let mine = std::future::poll_fn(|cx| {
            let is_mine = |now: u64| now >= hits || now % 2 == me;
            if is_mine(ball.hits.load(Ordering::Acquire)) {
                return Poll::Ready(());
            }
            ball.waiting[me as usize].register(cx.waker());
            match is_mine(ball.hits.load(Ordering::Acquire)) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        mine.await;
        if ball.hits.load(Ordering::Acquire) >= hits {
            return;
        }
        ball.hits.fetch_add(1, Ordering::AcqRel);
        ball.waiting[1 - me as usize].wake();
    }
}

impl Work for PingPong {
    fn on<P: Tasks>(pool: P, count: usize) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let ball = Arc::new(Ball::default());
            let other = pool.spawn(play(ball.clone(), 1, count as u64));
            play(ball, 0, count as u64).await;
            other.await;
        })
    }
}

impl Work for Yields {
    fn on<P: Tasks>(pool: P, count: usize) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let tasks: Vec<_> = (0..4)
                .map(|_| {
                    pool.spawn(async move {
                        for _ in 0..count / 4 {
                            yield_once().await;
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await;
            }
        })
    }
}

/// The same for all: wakes itself and says pending once.
async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
