//! From blocking code into async code, and back with the result.

#![forbid(unsafe_code)]

use std::fmt;
use std::future::poll_fn;
use std::panic::Location;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::base::contain::contain;
use crate::bridge::affinity::{Affinity, Inside, serve_loop};
use crate::bridge::answer::{Answer, Outcome};
use crate::bridge::harvest::{ContextMode, Harvest};
use crate::bridge::lone_thread::LoneThread;
use crate::current_thread::CurrentThreadExecutor;
use crate::entered::is_in_loop;
use crate::error::BridgeError;
use crate::event_loop::{EventLoop, LoopHandle, LoopState};
use crate::executor::{Executor, Job};
use crate::frame::poll_root;
use crate::join_error::JoinError;
use crate::promise::{Promise, promise};

/// Prepares a call of async code from blocking code; [`call`](AsyncToSync::call) blocks for it.
///
/// `create` and its future run on the loop that awaits the enclosing
/// [`sync_to_async`](fn@crate::bridge::sync_to_async), if that loop is running; else on a loop of
/// its own, on another thread. The future need not be `Send`. Meanwhile this thread takes the
/// thread-sensitive calls of the async code, in a new lane.
///
/// # Examples
///
/// ```
/// use portage::bridge::{async_to_sync, sync_to_async};
///
/// let here = std::thread::current().id();
/// let ran_on = async_to_sync(|| async {
///     // Sync code inside async code, back on the thread that waits.
///     sync_to_async(|| std::thread::current().id()).await
/// });
/// assert_eq!(ran_on.call()??, here);
/// # Ok::<(), portage::error::BridgeError>(())
/// ```
#[doc(alias = "AsyncToSync")]
pub fn async_to_sync<C, F>(create: C) -> AsyncToSync<C>
where
    C: FnOnce() -> F + Send + 'static,
    F: Future + 'static,
    F::Output: Send + 'static,
{
    AsyncToSync {
        create,
        force_new_loop: false,
        timeout: None,
        mode: ContextMode::InOut,
    }
}

/// A call of async code; made by [`async_to_sync`], made to happen by [`AsyncToSync::call`].
#[must_use = "nothing runs until it is called"]
pub struct AsyncToSync<C> {
    create: C,
    force_new_loop: bool,
    timeout: Option<Duration>,
    mode: ContextMode,
}

impl<C> AsyncToSync<C> {
    /// Uses a loop of its own even where the parent's is running.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::bridge::async_to_sync;
    ///
    /// let call = async_to_sync(|| async { std::thread::current().id() });
    /// assert_ne!(call.force_new_loop(true).call()?, std::thread::current().id());
    /// # Ok::<(), portage::error::BridgeError>(())
    /// ```
    pub fn force_new_loop(mut self, force: bool) -> Self {
        self.force_new_loop = force;
        self
    }

    /// The longest that the call may take; then the async work is cancelled.
    ///
    /// The call waits a moment longer for the cancelled future to be dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::bridge::async_to_sync;
    /// use std::time::Duration;
    ///
    /// let call = async_to_sync(|| std::future::pending::<()>());
    /// assert!(call.timeout(Duration::from_millis(1)).call().unwrap_err().is_timed_out());
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Which context the async code runs in, and whether changes flow back.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::ContextVar;
    /// use portage::bridge::{ContextMode, async_to_sync};
    ///
    /// static USER: ContextVar<&str> = ContextVar::new("user");
    /// let login = || async { USER.set("ann") };
    /// async_to_sync(login).context(ContextMode::In).call()?;
    /// assert_eq!(USER.get(), None);
    /// async_to_sync(login).call()?;
    /// assert_eq!(USER.get(), Some("ann"));
    /// # Ok::<(), portage::error::BridgeError>(())
    /// ```
    pub fn context(mut self, mode: ContextMode) -> Self {
        self.mode = mode;
        self
    }

    /// Runs the async code to its end and gives its output.
    ///
    /// # Errors
    ///
    /// [`is_running_loop`](BridgeError::is_running_loop) on a thread whose
    /// [`EventLoop`] is running: await it there; `create` is not called. A `block_on` and the
    /// tasks of a pool do not count, but for its pinned ones, which its workers' loops drive.
    /// [`is_timed_out`](BridgeError::is_timed_out), [`is_panic`](BridgeError::is_panic).
    /// [`is_cancelled`](BridgeError::is_cancelled) when the task that awaits the enclosing
    /// `sync_to_async` is dropped, now or before.
    /// [`is_no_loop`](BridgeError::is_no_loop) when the parent's loop stops before it has
    /// answered; [`is_shut_down`](BridgeError::is_shut_down) when no thread can be started.
    ///
    /// # Blocking
    ///
    /// Blocks this thread, and runs the jobs of its lanes meanwhile. The tasks that the async
    /// code leaves behind on a loop of its own are cancelled before this returns.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::bridge::async_to_sync;
    /// use portage::time::sleep;
    /// use std::time::Duration;
    ///
    /// let call = async_to_sync(|| async {
    ///     sleep(Duration::from_millis(1)).await;
    ///     42
    /// });
    /// assert_eq!(call.call()?, 42);
    /// # Ok::<(), portage::error::BridgeError>(())
    /// ```
    #[track_caller]
    pub fn call<F>(self) -> Result<F::Output, BridgeError>
    where
        C: FnOnce() -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        if is_in_loop() {
            return Err(BridgeError::running_loop());
        }
        let inside = Inside::current();
        let is_cancelled = || {
            inside
                .as_ref()
                .is_some_and(|inside| inside.call.is_cancelled())
        };
        if is_cancelled() {
            return Err(BridgeError::cancelled());
        }
        let affinity = Affinity::current();
        let older = affinity.frame.as_ref();
        let lane = CurrentThreadExecutor::new(older.and_then(|lane| lane.nearest_unfinished()));
        if lane.is_finished() {
            // The thread is ending; its locals are gone.
            return Err(BridgeError::shut_down());
        }
        let parent = inside.as_ref().and_then(|inside| inside.parent.as_ref());
        let parent = parent.filter(|parent| !self.force_new_loop && is_usable(parent));
        let place = Where::choose(parent, &affinity)?;
        let carried = Affinity {
            frame: Some(lane.clone()),
            loops_taken: affinity.loops_taken || matches!(place, Where::Block(_)),
            ..affinity
        };
        let before = self.mode.outset();
        let harvest = Harvest::new(before.clone(), self.mode);
        let gather = harvest.as_ref().map(Harvest::gather);
        let create = self.create;
        let create = move || {
            let future = create();
            async move {
                let _gather = gather;
                to_the_end(future).await
            }
        };
        let mut context = carried.carried_by(before);
        // no closure: it would not know who called
        let entered = context.swap_in();
        let answer = place.ask(create, &lane);
        drop(entered);
        let answer = answer?;
        let cancel = answer.handle().cancel_handle();
        let waiting = inside.as_ref().map(|inside| inside.call.waits_for(&cancel));
        let outcome = lane.run_until_future(answer.within(self.timeout));
        drop(waiting);
        if let Some(harvest) = harvest {
            harvest.flow_back();
        }
        match outcome.expect("a new lane runs once, where it was made") {
            Outcome::Answered(answer) => answer.map_err(BridgeError::from),
            Outcome::Stopped if is_cancelled() => Err(BridgeError::cancelled()),
            Outcome::Stopped => Err(BridgeError::no_loop()),
            Outcome::TimedOut => Err(BridgeError::timed_out()),
        }
    }
}

impl<C> fmt::Debug for AsyncToSync<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncToSync")
            .field("force_new_loop", &self.force_new_loop)
            .field("timeout", &self.timeout)
            .field("context", &self.mode)
            .finish_non_exhaustive()
    }
}

/// Can this thread wait for that loop?
fn is_usable(parent: &LoopHandle) -> bool {
    parent.state() == LoopState::Running && !parent.is_current_thread()
}

/// The loop that runs the async code.
enum Where {
    Parent(LoopHandle),
    /// A new loop on the one thread of a block.
    Block(LoneThread),
    /// A new loop on a thread that is kept for such.
    Spare(LoneThread),
}

impl Where {
    fn choose(parent: Option<&LoopHandle>, affinity: &Affinity) -> Result<Self, BridgeError> {
        if let Some(parent) = parent {
            return Ok(Self::Parent(parent.clone()));
        }
        let block = affinity.loops.as_ref().filter(|_| !affinity.loops_taken);
        let place = match block {
            Some(block) => block.thread().map(Self::Block),
            None => LoneThread::spare().map(Self::Spare),
        };
        place.map_err(|_| BridgeError::shut_down())
    }

    /// Sends the work there.
    #[track_caller]
    fn ask<C, F>(
        self,
        create: C,
        lane: &CurrentThreadExecutor,
    ) -> Result<Answer<F::Output>, BridgeError>
    where
        C: FnOnce() -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        let (thread, is_spare) = match self {
            Self::Parent(parent) => {
                return Ok(Answer::of(parent.stopped(), parent.spawn_with(create)));
            }
            Self::Block(thread) => (thread, false),
            Self::Spare(thread) => (thread, true),
        };
        let (writer, handle) = promise();
        let spare = is_spare.then(|| thread.clone());
        let lane = lane.clone();
        let (job, ended) = Job::new(move || {
            let answer = writer.start().then(|| run_own_loop(create, writer, lane));
            // Before the answer is given, so that the next call finds the thread.
            spare.into_iter().for_each(LoneThread::give_back);
            if let Some((writer, outcome)) = answer {
                writer.settle(outcome);
            }
        });
        ended.detach();
        thread.execute(job).map_err(|_| BridgeError::shut_down())?;
        Ok(Answer::new(handle))
    }
}

/// Runs the async code on a new loop of this thread and closes the loop.
fn run_own_loop<C, F>(
    create: C,
    mut writer: Promise<F::Output>,
    lane: CurrentThreadExecutor,
) -> (Promise<F::Output>, Result<F::Output, JoinError>)
where
    C: FnOnce() -> F,
    F: Future,
{
    let event_loop = EventLoop::new();
    let _serving = serve_loop(lane);
    let driven = contain(|| event_loop.run_until_complete(until_told(create, &mut writer)));
    drop(event_loop);
    let outcome = match driven {
        Ok(Ok(Some(value))) => Ok(value),
        Ok(Ok(None)) => Err(JoinError::cancelled()),
        Ok(Err(_no_run)) => Err(JoinError::shut_down()),
        Err(payload) => Err(JoinError::panicked(payload)),
    };
    (writer, outcome)
}

/// The output, or `None` when the reader told it to stop first; a value at that poll wins.
async fn until_told<C, F>(create: C, writer: &mut Promise<F::Output>) -> Option<F::Output>
where
    C: FnOnce() -> F,
    F: Future,
{
    let mut future = pin!(create());
    let mut told = pin!(writer.cancelled());
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => told.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// Drives `future`; a panic of its destructor is reported and does not cost the outcome.
async fn to_the_end<F: Future>(future: F) -> F::Output {
    let here = Location::caller();
    let mut future = pin!(Some(future));
    poll_fn(|cx| poll_root(future.as_mut(), cx, here)).await
}
