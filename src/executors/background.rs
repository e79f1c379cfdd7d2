//! One thread with one loop, in the background of a blocking program.

#![forbid(unsafe_code)]

use futures_task::{FutureObj, Spawn, SpawnError};

use super::loop_thread::LoopThread;
use super::place::Place;
use super::{AsyncExecutor, AsyncExecutorExt};
use crate::base::sync::Arc;
use crate::base::sync::atomic::{AtomicBool, Ordering};
use crate::error::BuildError;
use crate::event_loop::LoopHandle;

/// Runs futures on one loop of one thread, named `portage-background`.
///
/// # Examples
///
/// ```
/// use portage::executors::{AsyncExecutor, AsyncExecutorExt, DefaultBackgroundExecutor};
///
/// let executor = DefaultBackgroundExecutor::new().unwrap();
/// assert_eq!(executor.run(async { 5 + 7 }).unwrap(), 12);
/// executor.shutdown(true);
/// assert!(executor.run(async { 1 }).unwrap_err().is_shut_down());
/// ```
#[derive(Debug)]
pub struct DefaultBackgroundExecutor {
    thread: Arc<LoopThread>,
    closed: AtomicBool,
}

impl DefaultBackgroundExecutor {
    /// Starts the thread and its loop.
    ///
    /// # Errors
    ///
    /// `is_thread` when the operating system refuses the thread.
    pub fn new() -> Result<Self, BuildError> {
        Ok(Self {
            thread: LoopThread::start("portage-background".into())?,
            closed: AtomicBool::new(false),
        })
    }

    /// The handle of the loop.
    pub fn handle(&self) -> LoopHandle {
        self.thread.handle().clone()
    }

    fn is_closed(&self) -> bool {
        // Ordering: Acquire pairs with the Release in `shutdown`: who sees the flag sees what
        // was done before the shutdown. No model needs it: the loop itself decides who is late.
        self.closed.load(Ordering::Acquire)
    }
}

impl Spawn for DefaultBackgroundExecutor {
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.status()?;
        self.submit(future).detach();
        Ok(())
    }

    fn status(&self) -> Result<(), SpawnError> {
        if self.is_closed() {
            return Err(SpawnError::shutdown());
        }
        Ok(())
    }
}

impl AsyncExecutor for DefaultBackgroundExecutor {
    fn is_own_thread(&self) -> bool {
        self.thread.handle().is_current_thread()
    }

    fn shutdown(&self, wait: bool) {
        // Ordering: Release, and no model: see `is_closed`.
        self.closed.store(true, Ordering::Release);
        self.thread.stop();
        if wait {
            self.thread.join();
        }
    }

    fn place(&self) -> Place {
        if self.is_closed() {
            return Place::shut_down();
        }
        Place::on_loop(self.handle(), 0)
    }
}

impl Drop for DefaultBackgroundExecutor {
    fn drop(&mut self) {
        self.shutdown(false);
    }
}
