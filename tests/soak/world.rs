//! What the actors of one round share.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use portage::context::ContextVar;
use portage::execution_queue::{AsyncExecutionQueue, Close};
use portage::executors::{AsyncExecutor, DefaultBackgroundExecutor, EventLoopPoolExecutor};
use portage::pool::{PoolMetrics, Shutdown, Starter};
use portage::sync::Event;
use portage::{CurrentThreadExecutor, Promise, ThreadPool, promise};

use crate::ledger::{Dice, Random};

/// The request that work belongs to; must be seen wherever the work runs.
pub(crate) static REQUEST: ContextVar<u64> = ContextVar::new("request");

/// Refuses a thread now and then.
struct Moody(Arc<Dice>);

impl Starter for Moody {
    fn start(
        &self,
        name: String,
        stack: Option<usize>,
        body: Box<dyn FnOnce() + Send>,
    ) -> io::Result<thread::JoinHandle<()>> {
        if self.0.throw().one_in(8) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut builder = thread::Builder::new().name(name);
        if let Some(bytes) = stack {
            builder = builder.stack_size(bytes);
        }
        builder.spawn(body)
    }
}

/// A pool of this round; the books of all of them are checked.
pub(crate) fn new_pool(random: &mut Random, dice: &Arc<Dice>) -> ThreadPool {
    let core = 1 + random.below(3) as usize;
    let mut builder = ThreadPool::builder()
        .core_threads(core)
        .max_threads(core + random.below(12) as usize)
        .keep_alive(Duration::from_millis(random.below(20)))
        .thread_name("soak");
    if random.one_in(3) {
        builder = builder.starter(Arc::new(Moody(dice.clone())));
    }
    builder.build().expect("legal sizes")
}

/// Waits until nothing moves in the pool, and checks its books.
pub(crate) fn check_books(pool: &ThreadPool) {
    let ended = |m: &PoolMetrics| m.completed + m.panicked + m.cancelled;
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let metrics = pool.metrics();
        if metrics.submitted == ended(&metrics) && metrics.queued + metrics.running == 0 {
            return;
        }
        assert!(
            Instant::now() < end,
            "the books do not balance: {metrics:?}"
        );
        thread::sleep(Duration::from_millis(1));
    }
}

/// A thread that runs its lane until it is told to stop.
struct Owner {
    stop: Promise<()>,
    thread: thread::JoinHandle<()>,
}

pub(crate) struct World {
    pub(crate) dice: Arc<Dice>,
    pub(crate) pools: Vec<ThreadPool>,
    pub(crate) background: Arc<DefaultBackgroundExecutor>,
    pub(crate) loops: Arc<EventLoopPoolExecutor>,
    pub(crate) queues: Vec<AsyncExecutionQueue>,
    pub(crate) lanes: Vec<CurrentThreadExecutor>,
    pub(crate) event: Arc<Event>,
    pub(crate) stop: Arc<Event>,
    pub(crate) lock: Arc<parking_lot::Mutex<u64>>,
    owners: Vec<Owner>,
    steps: AtomicUsize,
}

impl World {
    pub(crate) fn new(random: &mut Random) -> Arc<Self> {
        let dice = Dice::new(random.next());
        let pools: Vec<_> = (0..3).map(|_| new_pool(random, &dice)).collect();
        let (sender, receiver) = std::sync::mpsc::channel();
        let owners = (0..2).map(|_| {
            let (stop, stopped) = promise::<()>();
            let sender = sender.clone();
            let thread = thread::spawn(move || {
                let outer = CurrentThreadExecutor::new(None);
                let lane = CurrentThreadExecutor::new(Some(&outer));
                sender.send(lane.clone()).expect("the world waits");
                let _ = lane.run_until_future(stopped).expect("its own thread");
                // what came too late for the inner one
                outer.run_until_future(async {}).expect("its own thread");
            });
            Owner { stop, thread }
        });
        let owners: Vec<_> = owners.collect();
        let lanes = receiver.iter().take(owners.len()).collect();
        let on_pool = AsyncExecutionQueue::builder()
            .executor(Arc::new(pools[0].clone()))
            .capacity(1 + random.below(8) as usize)
            .concurrency(1 + random.below(3) as usize);
        Arc::new(Self {
            queues: vec![on_pool.build().expect("legal"), AsyncExecutionQueue::new()],
            pools,
            background: Arc::new(DefaultBackgroundExecutor::new().expect("a thread")),
            loops: Arc::new(EventLoopPoolExecutor::new(2).expect("threads")),
            lanes,
            event: Arc::new(Event::new()),
            stop: Arc::new(Event::new()),
            lock: Arc::default(),
            owners,
            steps: AtomicUsize::new(0),
            dice,
        })
    }

    pub(crate) fn stepped(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn steps(&self) -> usize {
        self.steps.load(Ordering::Relaxed)
    }

    /// Everything comes to rest, each thing in one of its ways.
    pub(crate) fn end(self) {
        let mut random = self.dice.throw();
        self.event.set();
        self.stop.set();
        for queue in &self.queues {
            queue.close(*random.pick(&[Close::Drain, Close::CancelPending]));
        }
        for owner in self.owners {
            let _ = owner.stop.resolve(());
            owner.thread.join().expect("no panic gets out of a lane");
        }
        self.background.shutdown(random.one_in(2));
        self.loops.shutdown(random.one_in(2));
        for pool in self.pools {
            match random.below(3) {
                0 => assert!(pool.shutdown(Shutdown::Drain).completed),
                1 => assert!(pool.shutdown(Shutdown::CancelQueued).completed),
                _ => {}
            }
            check_books(&pool);
        }
        check_books(ThreadPool::global());
    }
}
