//! How a pool is asked for: sizes, names, hooks, and the defaults with their reasons.
//!
//! All arguments are checked in [`ThreadPoolBuilder::build`], before the first thread: what the
//! standard library would panic about (a NUL in a name) and what would only fail at the first
//! job (a stack that no address space holds) is an error there, and it names the argument.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use crate::base::cpus;
use crate::base::fork;
use crate::base::sync::{Arc, join, thread};
use crate::error::BuildError;
use crate::pool::ThreadPool;

/// Most threads of a pool unless [`ThreadPoolBuilder::max_threads`] says otherwise.
///
/// As in tokio, so that a program that moves here from there finds no less.
const MAX_THREADS: usize = 512;

/// How long an extra thread waits for work before it leaves.
///
/// As in tokio: longer than the pause between two requests, shorter than anybody's patience
/// with memory that is not given back.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The prefix of the threads' names.
const THREAD_NAME: &str = "portage";

/// More threads than this are a mistake: no common system starts as many in one process.
const THREADS_MOST: usize = 32_768;

/// More stack than this for each thread is a mistake, whatever the address space holds.
const STACK_MOST: u64 = 1 << 38;

/// On less a worker may overflow its stack before it has a job.
const STACK_LEAST: usize = 128 << 10;

/// A stack from this size on is tried out once by [`ThreadPoolBuilder::build`].
const STACK_TRIED: usize = 256 << 20;

/// A hook that gets the index of a thread.
#[derive(Clone)]
pub(super) struct Hook {
    pub(super) call: Arc<dyn Fn(usize) + Send + Sync>,
    /// Where it was set: a panic of it belongs to no task.
    pub(super) at: &'static Location<'static>,
}

impl Hook {
    #[track_caller]
    fn new(call: impl Fn(usize) + Send + Sync + 'static) -> Self {
        Self {
            call: Arc::new(call),
            at: Location::caller(),
        }
    }
}

/// What a pool is started with; checked.
#[derive(Clone)]
pub(super) struct Settings {
    /// Threads that stay; at least one.
    pub(super) core: usize,
    /// Threads that there may be; at least `core`.
    pub(super) max: usize,
    pub(super) keep_alive: Duration,
    /// The prefix, without NUL.
    pub(super) thread_name: String,
    pub(super) stack_size: Option<usize>,
    pub(super) on_start: Option<Hook>,
    pub(super) on_stop: Option<Hook>,
    pub(super) starter: Arc<dyn Starter>,
}

/// Starts the threads of a pool; tests put one in that refuses.
#[doc(hidden)]
pub trait Starter: Send + Sync {
    /// Starts a thread of this name that runs `body`.
    ///
    /// # Errors
    ///
    /// The system, or the test, refuses the thread.
    fn start(
        &self,
        name: String,
        stack: Option<usize>,
        body: Box<dyn FnOnce() + Send>,
    ) -> io::Result<thread::JoinHandle<()>>;
}

/// Threads of the operating system, or of a simulation.
#[doc(hidden)]
#[derive(Debug)]
pub struct SystemStarter;

impl Starter for SystemStarter {
    fn start(
        &self,
        name: String,
        stack: Option<usize>,
        body: Box<dyn FnOnce() + Send>,
    ) -> io::Result<thread::JoinHandle<()>> {
        fork::may_start_thread()?;
        let mut builder = thread::Builder::new().name(name);
        if let Some(bytes) = stack {
            builder = builder.stack_size(bytes);
        }
        builder.spawn(body)
    }
}

/// Configures a [`ThreadPool`] before it starts.
///
/// Nothing is checked before [`build`](Self::build), so the order of the calls is free.
///
/// # Examples
///
/// ```
/// use portage::ThreadPool;
/// use std::time::Duration;
///
/// let pool = ThreadPool::builder()
///     .core_threads(2)
///     .max_threads(16)
///     .keep_alive(Duration::from_secs(1))
///     .thread_name("images")
///     .build()?;
/// assert_eq!(pool.spawn_blocking(|| 1 + 1).wait()?, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "max_workers")]
#[doc(alias = "ThreadPoolExecutor")]
#[derive(Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct ThreadPoolBuilder {
    core: Option<usize>,
    max: Option<usize>,
    keep_alive: Duration,
    thread_name: String,
    stack_size: Option<usize>,
    on_start: Option<Hook>,
    on_stop: Option<Hook>,
    starter: Arc<dyn Starter>,
}

impl ThreadPoolBuilder {
    pub(super) fn new() -> Self {
        Self {
            core: None,
            max: None,
            keep_alive: KEEP_ALIVE,
            thread_name: THREAD_NAME.to_owned(),
            stack_size: None,
            on_start: None,
            on_stop: None,
            starter: Arc::new(SystemStarter),
        }
    }

    /// Sets how many threads stay and how many jobs run at a time.
    ///
    /// Computing jobs never run on more threads than these and one. They start with the first
    /// jobs, not with the pool.
    ///
    /// Default: the usable CPUs, that is the smaller one of the affinity mask and the cgroup
    /// quota, since a thread more would only take its time from the others. Zero is an error:
    /// a pool that keeps no thread at all is one with a short [`keep_alive`](Self::keep_alive).
    pub fn core_threads(mut self, threads: usize) -> Self {
        self.core = Some(threads);
        self
    }

    /// Sets how many threads there may be while jobs are blocked.
    ///
    /// A safety cap, not a size: growth follows the jobs that sleep. `usize::MAX` stands for
    /// as many as the system gives (counted as 32 768).
    ///
    /// Default: 512, or `core_threads` if that is more. Less than `core_threads` is an error.
    pub fn max_threads(mut self, threads: usize) -> Self {
        self.max = Some(threads);
        self
    }

    /// Sets how long a thread above `core_threads` waits for work before it leaves.
    ///
    /// [`Duration::MAX`] keeps them; zero lets them go as soon as they find nothing.
    ///
    /// Default: 10 seconds.
    pub fn keep_alive(mut self, time: Duration) -> Self {
        self.keep_alive = time;
        self
    }

    /// Sets the prefix of the threads' names: `{prefix}-{index}`.
    ///
    /// A NUL in it is an error. Linux shows the first fifteen bytes of the name.
    ///
    /// Default: `portage`.
    #[doc(alias = "thread_name_prefix")]
    pub fn thread_name(mut self, prefix: impl Into<String>) -> Self {
        self.thread_name = prefix.into();
        self
    }

    /// Sets the size in bytes of every thread's stack.
    ///
    /// Rounded up to what a thread of the pool needs itself, 128 KiB, and by the system. Zero,
    /// and what no address space holds, is an error.
    ///
    /// Default: that of the standard library, which is 2 MiB or `RUST_MIN_STACK`.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Sets a hook that every thread runs first, with its index.
    ///
    /// A panic in it breaks the pool: what is queued resolves `is_shut_down`, later jobs are
    /// refused with `is_broken`. It is reported as unhandled.
    ///
    /// Default: none.
    #[doc(alias = "initializer")]
    #[track_caller]
    pub fn on_thread_start(mut self, hook: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.on_start = Some(Hook::new(hook));
        self
    }

    /// Sets a hook that every thread runs last, with its index.
    ///
    /// A panic in it is contained and reported as unhandled. The thread counts towards
    /// [`max_threads`](Self::max_threads) until it has ended.
    ///
    /// Default: none.
    #[track_caller]
    pub fn on_thread_stop(mut self, hook: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.on_stop = Some(Hook::new(hook));
        self
    }

    /// Lets a test start the threads, or refuse to.
    #[doc(hidden)]
    pub fn starter(mut self, starter: Arc<dyn Starter>) -> Self {
        self.starter = starter;
        self
    }

    /// Makes the pool. Its threads start with the first jobs.
    ///
    /// # Errors
    ///
    /// `is_invalid` for an argument that makes no sense; the message names it, its value and
    /// what is wrong with it.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::ThreadPool;
    ///
    /// let error = ThreadPool::builder().core_threads(4).max_threads(2).build().unwrap_err();
    /// assert!(error.is_invalid());
    /// assert!(error.to_string().contains("max_threads"));
    /// ```
    pub fn build(self) -> Result<ThreadPool, BuildError> {
        ThreadPool::start(self.settings()?)
    }

    /// Checks every argument and fills in the defaults.
    pub(super) fn settings(self) -> Result<Settings, BuildError> {
        let core = match self.core {
            Some(core) => checked_core(core)?,
            None => cpus::usable().min(self.max.unwrap_or(usize::MAX).max(1)),
        };
        let max = match self.max {
            Some(max) => checked_max(max, core)?,
            None => MAX_THREADS.max(core),
        };
        if let Some(at) = self.thread_name.find('\0') {
            return Err(BuildError::invalid(format!(
                "thread_name is {:?}: a NUL (at byte {at}) cannot stand in a thread's name",
                self.thread_name
            )));
        }
        let settings = Settings {
            core,
            max,
            keep_alive: self.keep_alive,
            thread_name: self.thread_name,
            stack_size: self.stack_size.map(checked_stack).transpose()?,
            on_start: self.on_start,
            on_stop: self.on_stop,
            starter: self.starter,
        };
        settings.try_stack()?;
        Ok(settings)
    }
}

fn checked_core(core: usize) -> Result<usize, BuildError> {
    match core {
        0 => Err(BuildError::invalid(
            "core_threads is 0: a pool needs a thread to run its jobs",
        )),
        1..=THREADS_MOST => Ok(core),
        _ => Err(BuildError::invalid(format!(
            "core_threads is {core}: more than {THREADS_MOST}, the most threads of a pool"
        ))),
    }
}

fn checked_max(max: usize, core: usize) -> Result<usize, BuildError> {
    if max < core {
        return Err(BuildError::invalid(format!(
            "max_threads is {max}: less than core_threads, which is {core}"
        )));
    }
    Ok(max.min(THREADS_MOST))
}

fn checked_stack(bytes: usize) -> Result<usize, BuildError> {
    if bytes == 0 {
        return Err(BuildError::invalid(
            "stack_size is 0: a thread needs a stack",
        ));
    }
    // An isize bounds every object; a 32-bit address space ends before the other bound.
    if bytes as u64 > STACK_MOST || bytes > isize::MAX as usize / 2 {
        return Err(BuildError::invalid(format!(
            "stack_size is {bytes}: no address space has room for such stacks"
        )));
    }
    Ok(bytes.max(STACK_LEAST))
}

impl Settings {
    /// Starts a thread with an unusually large stack, to hear now whether the system has it.
    fn try_stack(&self) -> Result<(), BuildError> {
        let Some(bytes) = self.stack_size.filter(|&bytes| bytes >= STACK_TRIED) else {
            return Ok(());
        };
        let name = format!("{}-probe", self.thread_name);
        match self.starter.start(name, Some(bytes), Box::new(|| {})) {
            Ok(handle) => {
                // An empty body does not panic.
                let _ = join(handle);
                Ok(())
            }
            Err(error) => Err(BuildError::invalid(format!(
                "stack_size is {bytes}: the system has no room for such a stack: {error}"
            ))),
        }
    }
}

// It is changed by value only.
impl UnwindSafe for ThreadPoolBuilder {}
impl RefUnwindSafe for ThreadPoolBuilder {}

impl fmt::Debug for ThreadPoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |hook: &Option<Hook>| hook.is_some().then_some(Closure);
        f.debug_struct("ThreadPoolBuilder")
            .field("core_threads", &self.core)
            .field("max_threads", &self.max)
            .field("keep_alive", &self.keep_alive)
            .field("thread_name", &self.thread_name)
            .field("stack_size", &self.stack_size)
            .field("on_thread_start", &shown(&self.on_start))
            .field("on_thread_stop", &shown(&self.on_stop))
            .finish_non_exhaustive()
    }
}

/// Stands for a hook in debug output.
struct Closure;

impl fmt::Debug for Closure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<closure>")
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{
        KEEP_ALIVE, MAX_THREADS, STACK_TRIED, Settings, Starter, THREADS_MOST, ThreadPoolBuilder,
    };
    use crate::base::cpus;
    use crate::error::BuildError;
    use std::io;
    use std::sync::Arc;
    use std::time::Duration;

    fn new() -> ThreadPoolBuilder {
        ThreadPoolBuilder::new()
    }

    fn sizes(settings: Result<Settings, BuildError>) -> (usize, usize) {
        let settings = settings.unwrap_or_else(|error| panic!("{error}"));
        (settings.core, settings.max)
    }

    #[test]
    fn defaults_follow_the_machine() {
        let settings = new().settings().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(settings.core, cpus::usable());
        assert_eq!(settings.max, MAX_THREADS.max(settings.core));
        assert_eq!(settings.keep_alive, KEEP_ALIVE);
        assert_eq!(settings.thread_name, "portage");
        assert_eq!(settings.stack_size, None);
    }

    #[test]
    fn one_size_given_moves_the_default_of_the_other() {
        assert_eq!(sizes(new().core_threads(600).settings()), (600, 600));
        assert_eq!(sizes(new().max_threads(1).settings()), (1, 1));
        assert_eq!(sizes(new().core_threads(3).settings()), (3, 512));
        let most = sizes(new().core_threads(3).max_threads(usize::MAX).settings());
        assert_eq!(most, (3, THREADS_MOST));
    }

    #[test]
    fn nonsense_is_an_error_that_names_argument_and_value() {
        let table = [
            (new().core_threads(0), "core_threads is 0:"),
            (
                new().core_threads(usize::MAX),
                "core_threads is 18446744073709551615:",
            ),
            (
                new().core_threads(usize::MAX).max_threads(usize::MAX),
                "core_threads is ",
            ),
            (new().max_threads(0), "max_threads is 0:"),
            (
                new().core_threads(4).max_threads(3),
                "max_threads is 3: less than core_threads, which is 4",
            ),
            (new().stack_size(0), "stack_size is 0:"),
            (new().stack_size(usize::MAX), "stack_size is "),
            (new().stack_size(isize::MAX as usize), "stack_size is "),
            (new().stack_size(1 << 47), "stack_size is 140737488355328:"),
            (new().thread_name("a\0b"), "thread_name is \"a\\0b\":"),
        ];
        for (builder, beginning) in table {
            let shown = format!("{builder:?}");
            let error = builder
                .settings()
                .err()
                .unwrap_or_else(|| panic!("legal: {shown}"));
            assert!(error.is_invalid(), "{shown}");
            let text = error.to_string();
            if cfg!(target_pointer_width = "64") {
                assert!(text.contains(beginning), "{text:?} has no {beginning:?}");
            }
        }
    }

    #[test]
    fn odd_but_meaningful_arguments_are_legal() {
        for builder in [
            new().keep_alive(Duration::MAX),
            new().keep_alive(Duration::ZERO),
            new().thread_name(""),
            new().thread_name("a name that is longer than the system shows"),
            new().stack_size(1),
        ] {
            assert!(builder.settings().is_ok());
        }
    }

    #[test]
    fn a_large_stack_is_tried_out() {
        struct Refuses;
        impl Starter for Refuses {
            fn start(
                &self,
                _: String,
                stack: Option<usize>,
                _: Box<dyn FnOnce() + Send>,
            ) -> io::Result<std::thread::JoinHandle<()>> {
                assert_eq!(stack, Some(STACK_TRIED));
                Err(io::ErrorKind::OutOfMemory.into())
            }
        }
        let refused = new().starter(Arc::new(Refuses)).stack_size(STACK_TRIED);
        assert!(refused.settings().is_err_and(|error| error.is_invalid()));
        let small = new().starter(Arc::new(Refuses)).stack_size(STACK_TRIED - 1);
        assert!(small.settings().is_ok(), "not tried");
        assert!(new().stack_size(STACK_TRIED).settings().is_ok());
    }

    #[test]
    fn debug_shows_hooks_as_closures() {
        let shown = format!("{:?}", new().on_thread_start(|_| {}).stack_size(9));
        assert!(
            shown.contains("on_thread_start: Some(<closure>)"),
            "{shown}"
        );
        assert!(shown.contains("on_thread_stop: None"), "{shown}");
        assert!(shown.contains("stack_size: Some(9)"), "{shown}");
    }
}
