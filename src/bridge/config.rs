//! The process-wide defaults of the bridge: an executor and the main loop.

#![forbid(unsafe_code)]

use std::fmt;

use crate::base::contain::contained_drop;
use crate::base::sync::{Arc, StaticMutex};
use crate::error::BridgeError;
use crate::event_loop::{LoopHandle, running_loop};
use crate::executor::Executor;

#[derive(Clone)]
struct Settings {
    executor: Option<Arc<dyn Executor>>,
    main_loop: Option<LoopHandle>,
}

fn with_current<R>(f: impl FnOnce(&mut Settings) -> R) -> R {
    const fn nothing() -> StaticMutex<Settings> {
        StaticMutex::new(Settings {
            executor: None,
            main_loop: None,
        })
    }
    #[cfg(all(not(loom), any(test, feature = "test-util")))]
    if let Some(own) = crate::base::simulated::shared(nothing) {
        return f(&mut own.lock());
    }
    static CURRENT: StaticMutex<Settings> = nothing();
    f(&mut CURRENT.lock())
}

/// What [`init_config`] sets for the whole process.
///
/// # Examples
///
/// ```
/// use portage::EventLoop;
/// use portage::bridge::{Config, get_main_event_loop, init_config};
///
/// let event_loop = EventLoop::new();
/// init_config(Config::new().main_loop(event_loop.handle()))?;
/// assert!(get_main_event_loop().is_some());
/// # Ok::<(), portage::error::BridgeError>(())
/// ```
#[derive(Default)]
#[must_use]
pub struct Config {
    executor: Option<Arc<dyn Executor>>,
    main_loop: Option<LoopHandle>,
}

impl Config {
    /// No executor, and the loop that runs where it is given to [`init_config`].
    pub fn new() -> Self {
        Self::default()
    }

    /// The executor for calls that name none.
    pub fn executor(mut self, executor: Arc<dyn Executor>) -> Self {
        self.executor = Some(executor);
        self
    }

    /// The main loop, instead of the running one.
    pub fn main_loop(mut self, main_loop: LoopHandle) -> Self {
        self.main_loop = Some(main_loop);
        self
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("executor", &self.executor.as_ref().map(|_| "<executor>"))
            .field("main_loop", &self.main_loop)
            .finish()
    }
}

/// Sets the process-wide executor and main loop.
///
/// The main loop is [`Config::main_loop`], else the loop that runs on this thread. A second
/// call replaces all of the first: without an executor, none is configured any more.
///
/// # Errors
///
/// [`is_no_loop`](BridgeError::is_no_loop) when the configuration names no loop and none runs
/// here. Nothing is changed then.
///
/// # Examples
///
/// ```
/// use portage::EventLoop;
/// use portage::bridge::{Config, get_main_event_loop, init_config};
///
/// assert!(init_config(Config::new()).unwrap_err().is_no_loop());
/// let done = EventLoop::new().run_until_complete(async {
///     init_config(Config::new())?;
///     assert!(get_main_event_loop().is_some_and(|main| main.is_current_thread()));
///     Ok::<(), portage::error::BridgeError>(())
/// });
/// assert!(done.is_ok_and(|done| done.is_ok()));
/// ```
#[doc(alias = "initConfig")]
pub fn init_config(config: Config) -> Result<(), BridgeError> {
    let main_loop = match config.main_loop {
        Some(named) => named,
        None => running_loop().ok_or_else(BridgeError::no_loop)?,
    };
    let settings = Settings {
        executor: config.executor,
        main_loop: Some(main_loop),
    };
    let replaced = with_current(|current| std::mem::replace(current, settings));
    // Here, where the lock is free: the executor is the user's.
    contained_drop(replaced);
    Ok(())
}

/// The loop that [`init_config`] set.
///
/// Says nothing about its state: ask [`LoopHandle::state`].
#[doc(alias = "getMainEventLoop")]
pub fn get_main_event_loop() -> Option<LoopHandle> {
    with_current(|current| current.main_loop.clone())
}

/// The executor that [`init_config`] set.
pub(crate) fn configured_executor() -> Option<Arc<dyn Executor>> {
    with_current(|current| current.executor.clone())
}
