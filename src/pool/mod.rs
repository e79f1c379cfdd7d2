//! A pool of threads for jobs that may block and for tasks.
//!
//! # Contract
//!
//! * Jobs run on threads of their pool, first in, first out where there is one worker. What a
//!   worker submits goes into its own queue first, from which idle workers take it.
//! * Threads start with the first jobs, up to `core_threads`. More start only when those at
//!   work are found *blocked*, up to `max_threads`, and leave after their keep-alive. A wait of
//!   this crate inside a job says so itself.
//! * An idle pool uses no CPU: a push wakes at most one thread, and none while one is searching.
//! * Every handle resolves, whatever happens to the pool.
//!
//! # Costs
//!
//! A job costs one allocation, a push and a fence for the submitter, a wake (2 us) if nobody
//! searches and somebody sleeps; and no shared read-modify-write for the counts of the worker
//! that runs it.

// `builder` asks for a pool, `lease` keeps it open, `shared` is its state, `caller` who submits,
// `executor` takes jobs made elsewhere, `called` since when a woken worker is awaited, `worker` a
// thread's life, `seat` what others see of a worker, `guard` who looks after one, `home` what tasks
// see of the pool. `census` and `seal` are its two words. `elastic`, `evidence`, `growth` and
// `watchdog` decide on threads, `registry` knows the suspended tasks, `stranded` the workers that
// nobody else can help, `deadlock` those that nobody can help at all, `shutdown` and `metrics` are
// what their names say. Who wakes whom is decided in `crate::idle`.

#![forbid(unsafe_code)]

mod builder;
mod called;
mod caller;
mod census;
mod deadlock;
mod elastic;
mod evidence;
mod executor;
#[cfg(all(test, shuttle))]
mod explored;
mod growth;
mod guard;
mod home;
mod lease;
mod metrics;
mod registry;
mod seal;
mod seat;
mod shared;
mod shutdown;
mod stranded;
mod watchdog;
mod worker;

use std::fmt;
use std::future::Future;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::OnceLock;
use std::time::Duration;

use crate::base::clock::deadline_after;
use crate::base::fork;
use crate::base::sync::Arc;
use crate::entered;
use crate::error::{BuildError, SubmitError};
use crate::event_loop::ON_THREAD_LOOP;
use crate::executor::Job;
use crate::promise::JoinHandle;
use crate::spawn;
use crate::task::{Schedule, TaskRef};
use caller::Caller;
use home::{Nowhere, Pinned};
use lease::Lease;
use shared::Shared;

pub use builder::ThreadPoolBuilder;
#[doc(hidden)]
pub use builder::{Starter, SystemStarter};
pub use metrics::PoolMetrics;
pub use shutdown::{Shutdown, ShutdownReport, StuckTask};

/// Jobs of a batch that are queued, and announced, before the rest is made.
const BATCH_FIRST: usize = 64;

/// Jobs of a batch that are queued at once.
const BATCH_PART: usize = 256;

/// A pool of threads that runs blocking jobs and async tasks.
///
/// A clone is a handle to the same pool. When the last one is dropped, queued work still
/// finishes and suspended tasks still end, then the threads leave; nobody waits for that, so a
/// pool may be dropped anywhere, also by one of its own jobs.
///
/// # Examples
///
/// ```
/// use portage::ThreadPool;
///
/// let pool = ThreadPool::builder().core_threads(2).build()?;
/// let sum = pool.spawn_blocking(|| (1..=10).sum::<u32>());
/// let task = pool.spawn(async move { sum.await.map(|sum| sum * 2) });
/// assert_eq!(task.wait()??, 110);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "ThreadPoolExecutor")]
#[derive(Clone)]
pub struct ThreadPool {
    lease: Arc<Lease>,
}

impl ThreadPool {
    /// Makes a pool of the default size: as many threads as CPUs may be used.
    ///
    /// # Errors
    ///
    /// None with the defaults as they are.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = portage::ThreadPool::new()?;
    /// assert_eq!(pool.spawn_blocking(|| 6 * 7).wait()?, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new() -> Result<Self, BuildError> {
        Self::builder().build()
    }

    /// Configures a pool.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = portage::ThreadPool::builder().core_threads(1).thread_name("db").build()?;
    /// let name = pool.spawn_blocking(|| std::thread::current().name().map(str::to_owned));
    /// assert_eq!(name.wait()?.as_deref(), Some("db-0"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder() -> ThreadPoolBuilder {
        ThreadPoolBuilder::new()
    }

    /// The pool of the process, made on first use; this crate never shuts it down.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::ThreadPool;
    ///
    /// assert_eq!(ThreadPool::global().spawn_blocking(|| "here").wait()?, "here");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn global() -> &'static ThreadPool {
        #[cfg(all(not(loom), any(test, feature = "test-util")))]
        if let Some(own) = Self::simulated_global() {
            return own;
        }
        static GLOBAL: OnceLock<ThreadPool> = OnceLock::new();
        GLOBAL.get_or_init(|| Self::new().expect("the defaults are valid"))
    }

    /// The global pool of a simulation; that is not freed, but its threads leave at the end.
    #[cfg(all(not(loom), any(test, feature = "test-util")))]
    fn simulated_global() -> Option<&'static ThreadPool> {
        struct Global(&'static ThreadPool);
        let global = crate::base::simulated::shared(|| {
            let pool = Self::new().expect("the defaults are valid");
            let pool: &'static ThreadPool = Box::leak(Box::new(pool));
            crate::base::simulated::at_end(|| drop(pool.shutdown(Shutdown::CancelQueued)));
            Global(pool)
        });
        global.map(|global| global.0)
    }

    /// Is the calling thread one of this pool's workers?
    pub(crate) fn is_worker(&self) -> bool {
        entered::worker().is_some_and(|worker| worker.pool() == self.lease.shared.id)
    }

    /// The pool whose worker this thread is.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::ThreadPool;
    ///
    /// assert!(ThreadPool::current().is_none());
    /// let inside = ThreadPool::global().spawn_blocking(|| ThreadPool::current().is_some());
    /// assert!(inside.wait()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn current() -> Option<ThreadPool> {
        let worker = worker::current()?;
        let shared = &worker.shared;
        let mut slot = shared.lease.lock();
        // The last handle may have been dropped: then this one is to a pool that drains.
        let lease = slot.upgrade().unwrap_or_else(|| {
            let lease = Lease::new(shared);
            *slot = Arc::downgrade(&lease);
            lease
        });
        drop(slot);
        Some(Self { lease })
    }

    /// Called by the builder with checked settings.
    fn start(settings: builder::Settings) -> Result<Self, BuildError> {
        let shared = Arc::new(Shared::new(fork::POOLS.take(), settings));
        let lease = Lease::new(&shared);
        *shared.lease.lock() = Arc::downgrade(&lease);
        Ok(Self { lease })
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.lease.shared
    }

    /// Who submits, and the home of what it submits.
    #[inline]
    fn caller(&self) -> (Caller, Arc<dyn Schedule>) {
        let caller = Caller::of(self.shared());
        let home = caller.home(&self.lease.doors);
        (caller, home)
    }

    /// Counts and queues what was admitted, and gets somebody to run it.
    #[inline]
    fn push(&self, caller: &Caller, task: TaskRef) {
        let shared = self.shared();
        caller.count_submitted(shared, 1);
        caller.put(shared, task);
        shared.after_push();
    }

    /// Runs a closure that may block, on a thread of the pool.
    ///
    /// Never waits and never fails: a pool that is shut down, or has no thread and gets none,
    /// resolves the handle `is_shut_down`. [`ThreadPool::submit`] gives the closure back
    /// instead.
    ///
    /// # Cancellation
    ///
    /// Dropping the handle detaches. [`JoinHandle::cancel`] before the start drops the closure.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::ThreadPool;
    ///
    /// let pool = ThreadPool::new()?;
    /// let text = pool.spawn_blocking(|| std::fs::read_to_string("Cargo.toml"));
    /// assert!(text.wait()??.contains("portage"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "run_in_executor")]
    #[doc(alias = "to_thread")]
    #[track_caller]
    pub fn spawn_blocking<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let shared = self.shared();
        if shared.admit().is_err() {
            let (task, handle) = spawn::job(Nowhere::home(), None, f);
            task.shut_down();
            return handle;
        }
        let (caller, home) = self.caller();
        let (task, handle) = spawn::job(home, None, f);
        self.push(&caller, task);
        handle
    }

    /// The same, but a refusal comes back at once, with the job.
    ///
    /// # Errors
    ///
    /// `is_shut_down` after a shutdown. `is_broken` when `on_thread_start` has panicked, or the
    /// pool has no thread and the system gives it none.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::ThreadPool;
    /// use portage::pool::Shutdown;
    ///
    /// let pool = ThreadPool::new()?;
    /// assert_eq!(pool.submit(|| 1)?.wait()?, 1);
    /// pool.shutdown(Shutdown::Drain);
    /// let refused = pool.submit(|| 2).unwrap_err();
    /// assert!(refused.is_shut_down());
    /// refused.into_job().expect("the job comes back").run();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn submit<F, T>(&self, f: F) -> Result<JoinHandle<T>, SubmitError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let shared = self.shared();
        if let Err(refusal) = shared.admit() {
            return Err(refusal.with(Job::new(f).0));
        }
        let (caller, home) = self.caller();
        let (task, handle) = spawn::job(home, None, f);
        self.push(&caller, task);
        Ok(handle)
    }

    /// Drives a future on the pool's threads; idle workers may take it from busy ones.
    ///
    /// Its polls should not block. Refused like [`ThreadPool::spawn_blocking`].
    ///
    /// # Cancellation
    ///
    /// [`JoinHandle::cancel`] drops the future at its next suspension. One whose wakers are all
    /// gone while it is suspended is dropped, and its handle resolves `is_lost`.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::{ThreadPool, time::sleep};
    /// use std::time::Duration;
    ///
    /// let pool = ThreadPool::new()?;
    /// let task = pool.spawn(async {
    ///     sleep(Duration::from_millis(1)).await;
    ///     "awake"
    /// });
    /// assert_eq!(task.wait()?, "awake");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "create_task")]
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let shared = self.shared();
        if shared.admit().is_err() {
            let (task, handle) = spawn::future(Nowhere::home(), future);
            task.shut_down();
            return handle;
        }
        let (caller, home) = self.caller();
        let (task, handle) = spawn::future(home, future);
        self.push(&caller, task);
        handle
    }

    /// Makes a future on a worker and drives it there; it need not be `Send`.
    ///
    /// The worker that takes it calls `create` and polls the future on its own loop, between
    /// its other work, from then on; a job that blocks this worker holds it up, so jobs that wait
    /// for pinned tasks on each other's workers wait for ever. Refused like
    /// [`ThreadPool::spawn_blocking`].
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::{ThreadPool, time::yield_now};
    /// use std::rc::Rc;
    ///
    /// let pool = ThreadPool::new()?;
    /// let task = pool.spawn_pinned(|| async {
    ///     let local = Rc::new(7);
    ///     yield_now().await;
    ///     *local
    /// });
    /// assert_eq!(task.wait()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn spawn_pinned<C, F>(&self, create: C) -> JoinHandle<F::Output>
    where
        C: FnOnce() -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        let shared = self.shared();
        if shared.admit().is_err() {
            let (task, handle) = spawn::remote(Nowhere::home(), None, create);
            task.shut_down();
            return handle;
        }
        let home = Arc::new(Pinned::new(shared.clone()));
        let (task, handle) = spawn::remote(home, Some(ON_THREAD_LOOP), create);
        self.push(&Caller::of(shared), task);
        handle
    }

    /// Runs many closures, with one chain of wakes for all of them.
    ///
    /// The workers wake each other as long as there is more. They begin while later ones are
    /// still being queued. Refused like [`ThreadPool::spawn_blocking`], all of them or none.
    ///
    /// Up to eight small jobs share an allocation, which goes with the last of their handles:
    /// a handle that is kept for long keeps a kilobyte at most.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = portage::ThreadPool::new()?;
    /// let squares = pool.spawn_batch((0..4).map(|n| move || n * n));
    /// let squares: Result<Vec<_>, _> = squares.into_iter().map(|square| square.wait()).collect();
    /// assert_eq!(squares?, [0, 1, 4, 9]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "map")]
    #[track_caller]
    pub fn spawn_batch<I, F, T>(&self, jobs: I) -> Vec<JoinHandle<T>>
    where
        I: IntoIterator<Item = F>,
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // The caller's iterator runs to its end before anything is taken.
        let jobs: Vec<F> = jobs.into_iter().collect();
        let mut handles = Vec::with_capacity(jobs.len());
        if jobs.is_empty() {
            return handles;
        }
        let shared = self.shared();
        let admitted = shared.admit().is_ok();
        let (caller, home) = self.caller();
        if admitted {
            caller.count_submitted(shared, jobs.len() as u64);
        }
        let home = if admitted { home } else { Nowhere::home() };
        let mut tasks = Vec::with_capacity(handles.capacity().min(BATCH_PART));
        spawn::jobs(&home, jobs, |task, handle| {
            handles.push(handle);
            if !admitted {
                task.shut_down();
                return;
            }
            tasks.push(task);
            // Somebody begins with the first ones while the others are being made.
            let is_first = handles.len() == BATCH_FIRST;
            if is_first || tasks.len() == BATCH_PART {
                caller.put_all(shared, &mut tasks);
            }
            if is_first {
                shared.after_push();
            }
        });
        if admitted {
            caller.put_all(shared, &mut tasks);
            shared.after_push();
        }
        handles
    }

    /// The pool's numbers now.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = portage::ThreadPool::new()?;
    /// pool.spawn_blocking(|| ()).wait()?;
    /// assert_eq!(pool.metrics().completed, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn metrics(&self) -> PoolMetrics {
        self.shared().metrics()
    }

    /// Ends the pool and waits until its threads have left.
    ///
    /// From the call on [`ThreadPool::is_shut_down`] is true and nothing new is taken, except,
    /// under [`Shutdown::Drain`], what running jobs of the pool submit. A second call waits as
    /// well; `CancelQueued` after `Drain` cancels what is left.
    ///
    /// # Blocking
    ///
    /// Until all running jobs have ended, however long that takes. Called by a job of the pool
    /// it waits for all others, not for itself, and runs queued ones in place meanwhile.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::ThreadPool;
    /// use portage::pool::Shutdown;
    ///
    /// let pool = ThreadPool::new()?;
    /// let job = pool.spawn_blocking(|| 1);
    /// let report = pool.shutdown(Shutdown::Drain);
    /// assert!(report.completed && job.is_finished());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown(&self, mode: Shutdown) -> ShutdownReport {
        self.end(mode, None)
    }

    /// The same, but waits for `timeout` at most and reports what is stuck.
    ///
    /// # Blocking
    ///
    /// For `timeout` at most; zero looks once.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::ThreadPool;
    /// use portage::pool::Shutdown;
    /// use std::{sync::mpsc::channel, time::Duration};
    ///
    /// let pool = ThreadPool::new()?;
    /// let (open, gate) = channel::<()>();
    /// let (start, started) = channel();
    /// let job = pool.spawn_blocking(move || {
    ///     start.send(()).unwrap();
    ///     let _ = gate.recv();
    /// });
    /// started.recv()?;
    /// let report = pool.shutdown_timeout(Shutdown::Drain, Duration::from_millis(5));
    /// assert!(!report.completed);
    /// assert_eq!(report.stuck[0].id, job.id());
    /// drop(open);
    /// job.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown_timeout(&self, mode: Shutdown, timeout: Duration) -> ShutdownReport {
        self.end(mode, Some(timeout))
    }

    fn end(&self, mode: Shutdown, timeout: Option<Duration>) -> ShutdownReport {
        let shared = self.shared();
        let deadline = timeout.and_then(deadline_after);
        let is_first = shared.stop(mode);
        let completed = shared.await_end(deadline);
        ShutdownReport {
            completed,
            cancelled: if is_first { shared.cancelled() } else { 0 },
            stuck: if completed || shared.is_left_behind() {
                Vec::new()
            } else {
                shared.stuck()
            },
        }
    }

    /// Has a shutdown begun?
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(!portage::ThreadPool::global().is_shut_down());
    /// ```
    pub fn is_shut_down(&self) -> bool {
        self.shared().is_stopped()
    }
}

// A panic of a user's code is contained, or met with nothing of ours half changed.
impl UnwindSafe for ThreadPool {}
impl RefUnwindSafe for ThreadPool {}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.shared();
        f.debug_struct("ThreadPool")
            .field("name", &shared.settings.thread_name)
            .field("phase", &shared.seal.phase())
            .field("threads", &shared.census.now())
            .finish_non_exhaustive()
    }
}
