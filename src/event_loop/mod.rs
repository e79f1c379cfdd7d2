//! One thread's event loop: ready queue, inbox, timers. No I/O reactor.
//!
//! An [`EventLoop`] belongs to the thread that made it and runs when that thread lets it. Its
//! [`LoopHandle`] submits work from anywhere. While a loop waits, it also runs the jobs of its
//! thread's lanes ([`CurrentThreadExecutor`](crate::CurrentThreadExecutor)). [`block_on()`]
//! drives one future without any loop.
//!
//! * `inbox`: where other threads leave work.
//! * `suspended`: the tasks that stand in no queue.
//! * `shared`: what other threads see of a loop.
//! * `core`: the half that stays on its thread; what runs on this thread.
//! * `stopped`: who waits for an answer learns of the stop.
//! * `turn`: a bounded share for each source.
//! * `block_on`, `handle`, `thread`: the surface.

#![forbid(unsafe_code)]

mod block_on;
mod core;
mod handle;
mod inbox;
mod shared;
mod stopped;
mod suspended;
mod thread;
mod turn;

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::error::RunError;
use crate::event_loop::core::Core;
use crate::event_loop::turn::{Shares, pass, turn};
use crate::frame::{Frame, poll_root};
use crate::promise::{Awaits, JoinHandle};
use crate::spawn;

pub use block_on::block_on;
pub use handle::LoopHandle;
pub use shared::LoopState;
pub use thread::{ensure_thread_event_loop, running_loop, with_thread_event_loop};

pub(crate) use stopped::Stopped;
pub(crate) use thread::{ON_THREAD_LOOP, ThreadLoopDriver};

/// A loop that drives tasks on the thread that made it.
///
/// It is not `Send`: tasks need not be either. First polls come in the order in which a thread
/// spawns, a task that yields goes to the back, and no source of work starves another: ready tasks, jobs
/// from other threads, timers and lanes take turns. Dropping the loop closes it, and so does
/// the end of its thread.
///
/// # Examples
///
/// ```
/// use std::rc::Rc;
///
/// let event_loop = portage::EventLoop::new();
/// let local = Rc::new(20);
/// let task = event_loop.spawn_local(async move { *local + 1 });
/// let sum = event_loop.run_until_complete(async { task.await.map(|half| half * 2) });
/// assert_eq!(sum.expect("no other loop runs here").ok(), Some(42));
/// ```
///
/// It stays on its thread:
///
/// ```compile_fail,E0277
/// let event_loop = portage::EventLoop::new();
/// std::thread::spawn(move || drop(event_loop));
/// ```
pub struct EventLoop {
    core: Rc<Core>,
}

impl EventLoop {
    /// Makes a loop of the calling thread. It is idle until it is run.
    #[doc(alias = "new_event_loop")]
    #[must_use]
    pub fn new() -> Self {
        Self { core: Core::new() }
    }

    /// A handle that submits work from any thread.
    #[must_use]
    pub fn handle(&self) -> LoopHandle {
        LoopHandle::new(self.core.shared.clone())
    }

    /// Runs the loop until `future` is done and returns its output.
    ///
    /// What was queued before gets its turn before the first poll of `future`. Tasks that have
    /// not ended by then stay for the next run.
    ///
    /// # Errors
    ///
    /// `is_already_running` inside any running loop of this thread; `is_closed` once the loop
    /// is closed. `future` is dropped unpolled.
    ///
    /// # Panics
    ///
    /// A panic of `future` unwinds to the caller; the loop stays usable. A panic of a task
    /// stays in its handle.
    ///
    /// # Blocking
    ///
    /// Blocks until `future` is done. On a pool worker the pool compensates while the loop
    /// sleeps.
    ///
    /// # Examples
    ///
    /// ```
    /// let event_loop = portage::EventLoop::new();
    /// assert_eq!(event_loop.run_until_complete(async { 42 }).ok(), Some(42));
    /// let nested = event_loop.run_until_complete(async { event_loop.run_until_complete(async {}) });
    /// assert!(nested.expect("the outer one runs").is_err_and(|error| error.is_already_running()));
    /// ```
    #[track_caller]
    pub fn run_until_complete<F: Future>(&self, future: F) -> Result<F::Output, RunError> {
        let caller = Location::caller();
        let frame = Frame::enter(self.core.parking.clone(), Awaits::Loop);
        let _run = self.core.begin()?;
        let mut future = pin!(Some(future));
        let mut cx = Context::from_waker(frame.waker());
        loop {
            let mut done = turn(&self.core, frame.timers(), Shares::LOOP);
            if frame.take_signal() {
                if let Poll::Ready(output) = poll_root(future.as_mut(), &mut cx, caller) {
                    return Ok(output);
                }
                done += 1;
            }
            if done == 0 {
                frame.sleep(|| self.core.has_ready());
            }
        }
    }

    /// Runs the loop until [`LoopHandle::stop`] is called.
    ///
    /// A stop that came while no such run was on ends this one as soon as it has run once what
    /// is queued.
    ///
    /// # Errors
    ///
    /// `is_already_running` inside any running loop of this thread; `is_closed` once the loop
    /// is closed.
    ///
    /// # Blocking
    ///
    /// Blocks until it is stopped.
    ///
    /// # Examples
    ///
    /// ```
    /// let event_loop = portage::EventLoop::new();
    /// let handle = event_loop.handle();
    /// event_loop.spawn_local(async move { handle.stop() }).detach();
    /// assert!(event_loop.run_until_stopped().is_ok());
    /// ```
    #[doc(alias = "run_forever")]
    pub fn run_until_stopped(&self) -> Result<(), RunError> {
        let frame = Frame::enter(self.core.parking.clone(), Awaits::Loop);
        let _run = self.core.begin()?;
        let shared = &self.core.shared;
        loop {
            if shared.take_stop() {
                pass(&self.core);
                return Ok(());
            }
            let done = turn(&self.core, frame.timers(), Shares::LOOP);
            if done == 0 && !shared.is_asked_to_stop() {
                frame.sleep(|| self.core.has_ready() || shared.is_asked_to_stop());
            }
        }
    }

    /// Spawns a future that need not be `Send`.
    ///
    /// It captures the current [`Context`](crate::Context) and is polled and dropped on this
    /// thread. Once the loop is closed, the handle resolves
    /// [`is_shut_down`](crate::JoinError::is_shut_down).
    ///
    /// # Cancellation
    ///
    /// Cancelled from another thread, the handle resolves at once, and the future is dropped
    /// here, at the loop's next turn or close.
    ///
    /// # Examples
    ///
    /// ```
    /// let event_loop = portage::EventLoop::new();
    /// let task = event_loop.spawn_local(async { "local" });
    /// assert_eq!(event_loop.run_until_complete(task).map(Result::ok).ok(), Some(Some("local")));
    /// ```
    #[doc(alias = "create_task")]
    #[track_caller]
    pub fn spawn_local<F: Future + 'static>(&self, future: F) -> JoinHandle<F::Output> {
        let handle = self.handle();
        handle.enqueue(spawn::local(handle.begin_task(), future))
    }

    /// Closes the loop: cancels what is left, refuses what comes.
    ///
    /// Called while the loop runs, it acts when that run ends. Closing twice is closing once.
    ///
    /// # Reentrancy
    ///
    /// Futures are dropped in here. What their destructors submit to this loop is refused.
    ///
    /// # Examples
    ///
    /// ```
    /// let event_loop = portage::EventLoop::new();
    /// let mut task = event_loop.spawn_local(std::future::pending::<()>());
    /// event_loop.close();
    /// assert!(task.try_take().is_some_and(|end| end.is_err_and(|error| error.is_cancelled())));
    /// ```
    pub fn close(&self) {
        self.core.close();
    }

    fn core(&self) -> &Rc<Core> {
        &self.core
    }
}

impl Default for EventLoop {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.shared.fmt(f)
    }
}
