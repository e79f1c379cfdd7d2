//! The pools that are compared, behind one small trait.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::Thread;

use futures::executor::block_on;

/// A pool that takes closures.
pub trait Pool: Clone + Send + Sync + 'static {
    /// Has it run; nobody waits for it.
    fn execute(&self, job: impl FnOnce() + Send + 'static);

    /// Has an empty job run and waits for it, in the way that this pool offers.
    fn call(&self) {
        let (done, wait) = oneshot::channel();
        self.execute(move || {
            let _ = done.send(());
        });
        let _ = wait.recv();
    }

    /// Runs many empty jobs and waits for all of them, each through its handle.
    fn call_many(&self, count: usize) {
        let gate = Gate::new(count);
        for _ in 0..count {
            let gate = gate.clone();
            self.execute(move || gate.pass());
        }
        gate.wait();
    }
}

/// Ends a wait after a number of passes.
#[derive(Clone)]
pub struct Gate(Arc<(AtomicUsize, Thread)>);

impl Gate {
    pub fn new(passes: usize) -> Self {
        Self(Arc::new((AtomicUsize::new(passes), std::thread::current())))
    }

    #[inline]
    pub fn pass(&self) {
        let (left, owner) = &*self.0;
        if left.fetch_sub(1, Ordering::AcqRel) == 1 {
            owner.unpark();
        }
    }

    pub fn wait(&self) {
        while self.0.0.load(Ordering::Acquire) > 0 {
            std::thread::park();
        }
    }
}

#[derive(Clone)]
pub struct Portage(pub portage::ThreadPool);

impl Portage {
    pub fn new(threads: Option<usize>) -> Self {
        let builder = portage::ThreadPool::builder();
        let builder = match threads {
            Some(threads) => builder.core_threads(threads).max_threads(threads),
            None => builder,
        };
        Self(builder.build().expect("a valid size"))
    }

    /// With so many threads that stay, and as many as it likes beside them.
    pub fn with_core(core: Option<usize>) -> Self {
        let builder = portage::ThreadPool::builder();
        let builder = match core {
            Some(core) => builder.core_threads(core),
            None => builder,
        };
        Self(builder.build().expect("a valid size"))
    }
}

/// A name and a size: `portage 4`.
pub fn sized(name: &str) -> (&str, Option<usize>) {
    match name.rsplit_once(' ') {
        Some((pool, size)) => size.parse().map_or((name, None), |size| (pool, Some(size))),
        None => (name, None),
    }
}

impl Pool for Portage {
    fn execute(&self, job: impl FnOnce() + Send + 'static) {
        drop(self.0.spawn_blocking(job));
    }

    fn call(&self) {
        self.0.spawn_blocking(|| ()).wait().expect("it runs");
    }

    fn call_many(&self, count: usize) {
        let handles: Vec<_> = (0..count).map(|_| self.0.spawn_blocking(|| ())).collect();
        handles
            .into_iter()
            .for_each(|handle| handle.wait().expect("it runs"));
    }
}

/// tokio's `spawn_blocking`.
#[derive(Clone)]
pub struct TokioBlocking(pub Arc<tokio::runtime::Runtime>);

pub fn tokio_runtime(threads: Option<usize>) -> Arc<tokio::runtime::Runtime> {
    tokio_runtime_with(threads, threads)
}

/// A runtime with so many threads for tasks, and so many for blocking calls.
pub fn tokio_runtime_with(
    tasks: Option<usize>,
    blocking: Option<usize>,
) -> Arc<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = tasks {
        builder.worker_threads(threads);
    }
    if let Some(threads) = blocking {
        builder.max_blocking_threads(threads);
    }
    Arc::new(builder.enable_all().build().expect("a runtime starts"))
}

impl Pool for TokioBlocking {
    fn execute(&self, job: impl FnOnce() + Send + 'static) {
        drop(self.0.spawn_blocking(job));
    }

    fn call(&self) {
        let handle = self.0.spawn_blocking(|| ());
        self.0.block_on(handle).expect("it runs");
    }

    fn call_many(&self, count: usize) {
        let handles: Vec<_> = (0..count).map(|_| self.0.spawn_blocking(|| ())).collect();
        self.0.block_on(async {
            for handle in handles {
                handle.await.expect("it runs");
            }
        });
    }
}

/// Closures as tokio tasks: what one does with work that never blocks.
#[derive(Clone)]
pub struct TokioSpawn(pub Arc<tokio::runtime::Runtime>);

impl Pool for TokioSpawn {
    fn execute(&self, job: impl FnOnce() + Send + 'static) {
        drop(self.0.spawn(async move { job() }));
    }

    fn call(&self) {
        let handle = self.0.spawn(async {});
        self.0.block_on(handle).expect("it runs");
    }
}

/// Threads that stand by, each for one job at a time: no queue, no growth, one wake, no more.
///
/// No pool, for somebody must know how many it takes; a bound for those who do not.
#[derive(Clone)]
pub struct Threads(Arc<[Standing]>);

struct Standing {
    place: Arc<(AtomicBool, Mutex<Option<Work>>)>,
    thread: Thread,
}

type Work = Box<dyn FnOnce() + Send>;

impl Threads {
    pub fn new(count: usize) -> Self {
        let standing = (0..count).map(|_| {
            let place = Arc::new((AtomicBool::new(false), Mutex::new(None::<Work>)));
            // It goes with the last handle.
            let seen = Arc::downgrade(&place);
            let body = move || {
                while let Some(place) = seen.upgrade() {
                    let work = place.1.lock().expect("nobody panics").take();
                    let Some(work) = work else {
                        drop(place);
                        std::thread::park();
                        continue;
                    };
                    work();
                    place.0.store(false, Ordering::Release);
                }
            };
            let thread = std::thread::spawn(body).thread().clone();
            Standing { place, thread }
        });
        Self(standing.collect())
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.place = Arc::default();
        self.thread.unpark();
    }
}

impl Pool for Threads {
    fn execute(&self, job: impl FnOnce() + Send + 'static) {
        let free = |standing: &&Standing| !standing.place.0.swap(true, Ordering::AcqRel);
        let standing = loop {
            if let Some(standing) = self.0.iter().find(free) {
                break standing;
            }
            std::thread::yield_now();
        };
        *standing.place.1.lock().expect("nobody panics") = Some(Box::new(job));
        standing.thread.unpark();
    }
}

#[derive(Clone)]
pub struct Rayon(pub Arc<rayon::ThreadPool>);

impl Pool for Rayon {
    fn execute(&self, job: impl FnOnce() + Send + 'static) {
        self.0.spawn(job);
    }

    fn call(&self) {
        self.0.install(|| ());
    }
}

/// futures' `ThreadPool`; `call` through a handle.
#[derive(Clone)]
pub struct Futures(pub futures::executor::ThreadPool);

impl Pool for Futures {
    fn execute(&self, job: impl FnOnce() + Send + 'static) {
        self.0.spawn_ok(async move { job() });
    }

    fn call(&self) {
        use futures::task::SpawnExt as _;
        let handle = self.0.spawn_with_handle(async {}).expect("it spawns");
        block_on(handle);
    }
}

#[derive(Clone)]
pub struct Threadpool(pub threadpool::ThreadPool);

impl Pool for Threadpool {
    fn execute(&self, job: impl FnOnce() + Send + 'static) {
        self.0.execute(job);
    }
}

#[derive(Clone)]
pub struct Rusty(pub rusty_pool::ThreadPool);

impl Pool for Rusty {
    fn execute(&self, job: impl FnOnce() + Send + 'static) {
        self.0.execute(job);
    }

    fn call(&self) {
        self.0.evaluate(|| ()).await_complete();
    }
}

/// rusty_pool with a handle for each job.
#[derive(Clone)]
pub struct RustyHandle(pub rusty_pool::ThreadPool);

impl Pool for RustyHandle {
    fn execute(&self, job: impl FnOnce() + Send + 'static) {
        drop(self.0.evaluate(job));
    }

    fn call(&self) {
        self.0.evaluate(|| ()).await_complete();
    }
}

/// smol's `blocking`.
#[derive(Clone)]
pub struct Blocking;

impl Pool for Blocking {
    fn execute(&self, job: impl FnOnce() + Send + 'static) {
        blocking::unblock(job).detach();
    }

    fn call(&self) {
        block_on(blocking::unblock(|| ()));
    }
}

/// async-executor on threads of ours; closures as tasks.
#[derive(Clone)]
pub struct AsyncExecutor(pub Arc<async_executor::Executor<'static>>);

impl AsyncExecutor {
    pub fn new(threads: usize) -> Self {
        let executor = Arc::new(async_executor::Executor::new());
        for _ in 0..threads {
            let executor = executor.clone();
            std::thread::spawn(move || {
                block_on(executor.run(std::future::pending::<()>()));
            });
        }
        Self(executor)
    }
}

impl Pool for AsyncExecutor {
    fn execute(&self, job: impl FnOnce() + Send + 'static) {
        self.0.spawn(async move { job() }).detach();
    }

    fn call(&self) {
        block_on(self.0.spawn(async {}));
    }
}

/// Something done with a pool, whichever it is.
pub trait WithPool {
    type Output;
    fn with(self, pool: impl Pool) -> Self::Output;
}

/// Makes the pool `name` with that many threads, or at its default size.
pub fn with_pool<W: WithPool>(name: &str, threads: Option<usize>, with: W) -> W::Output {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let count = threads.unwrap_or(cpus);
    match name {
        "portage" => with.with(Portage::new(threads)),
        "tokio" => with.with(TokioBlocking(tokio_runtime(threads))),
        "tokio spawn" => with.with(TokioSpawn(tokio_runtime(threads))),
        "rayon" => {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(count).build();
            with.with(Rayon(Arc::new(pool.expect("a pool starts"))))
        }
        "futures" => {
            let pool = futures::executor::ThreadPool::builder()
                .pool_size(count)
                .create();
            with.with(Futures(pool.expect("a pool starts")))
        }
        "threadpool" => with.with(Threadpool(threadpool::ThreadPool::new(count))),
        "rusty_pool" => with.with(Rusty(rusty(count))),
        "rusty_pool handle" => with.with(RustyHandle(rusty(count))),
        "blocking" => {
            if let Some(threads) = threads {
                // SAFETY: this process has one thread so far.
                unsafe { std::env::set_var("BLOCKING_MAX_THREADS", threads.to_string()) };
            }
            with.with(Blocking)
        }
        "async-executor" => with.with(AsyncExecutor::new(count)),
        other => panic!("no pool is named {other}"),
    }
}

fn rusty(threads: usize) -> rusty_pool::ThreadPool {
    rusty_pool::Builder::new()
        .core_size(threads)
        .max_size(threads)
        .build()
}
