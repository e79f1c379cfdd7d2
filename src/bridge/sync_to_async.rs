//! From async code into blocking code, on the thread that the blocking code belongs to.

#![forbid(unsafe_code)]

use std::fmt;
use std::future::IntoFuture;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context as PollContext, Poll};

use crate::base::contain::{Payload, contain};
use crate::base::sync::Arc;
use crate::bridge::affinity::{Affinity, Call, Inside};
use crate::bridge::harvest::{ContextMode, Harvest};
use crate::bridge::lone_thread::LoneThread;
use crate::bridge::route::{Route, Target, shared_thread};
use crate::entered::is_in_loop;
use crate::error::{BridgeError, SubmitError};
use crate::event_loop::running_loop;
use crate::executor::{Executor, Job};
use crate::join_error::JoinError;
use crate::pool::ThreadPool;
use crate::promise::JoinHandle;

/// Prepares a call of blocking code from async code; `.await` it.
///
/// By default the call is *thread-sensitive*: all sync code of one chain of calls runs on one
/// thread, in [this order](Route). It runs in the context of the first poll; variables that it
/// changes flow back to the task that awaits it ([`ContextMode::InOut`]).
///
/// # Errors
///
/// [`is_panic`](BridgeError::is_panic) when `f` panics;
/// [`is_would_deadlock`](BridgeError::is_would_deadlock) when only the thread that this call
/// descends from could run it, and it is occupied by that descent;
/// [`is_shut_down`](BridgeError::is_shut_down) when the executor refuses.
///
/// # Blocking
///
/// Sensitive calls of one thread run one after another: what it holds for one of them (a
/// connection, a lock) no other one meets. So a sensitive call that waits for something that
/// only another sensitive call will do waits for ever. Make the one that waits
/// [insensitive](SyncToAsync::thread_sensitive), give it a
/// [context of its own](fn@crate::bridge::thread_sensitive_context), or limit its wait.
///
/// # Cancellation
///
/// Dropped while queued, `f` never runs. Dropped while `f` runs, the task is released at once:
/// `f` runs on, sees [`cancel::is_cancelled`](crate::cancel::is_cancelled), and its result is
/// dropped. If its thread waits in a nested [`async_to_sync`](fn@crate::bridge::async_to_sync),
/// now or later, the async work there is cancelled. Nothing is written back.
///
/// # Examples
///
/// ```
/// use portage::block_on;
/// use portage::bridge::sync_to_async;
///
/// let answer = block_on(async { sync_to_async(|| 6 * 7).await });
/// assert_eq!(answer?, 42);
/// # Ok::<(), portage::error::BridgeError>(())
/// ```
#[doc(alias = "SyncToAsync")]
#[doc(alias = "to_thread")]
#[doc(alias = "asyncify")]
#[track_caller]
pub fn sync_to_async<F, T>(f: F) -> SyncToAsync<F>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    SyncToAsync {
        f,
        sensitive: true,
        executor: None,
        mode: ContextMode::InOut,
        called_at: Location::caller(),
    }
}

/// A call of blocking code; made by [`sync_to_async`], awaited with `.await`.
#[must_use = "nothing runs until it is awaited"]
pub struct SyncToAsync<F> {
    f: F,
    sensitive: bool,
    executor: Option<Arc<dyn Executor>>,
    mode: ContextMode,
    called_at: &'static Location<'static>,
}

impl<F> SyncToAsync<F> {
    /// Must it run on the thread that its chain of calls belongs to?
    ///
    /// True by default.
    pub fn thread_sensitive(mut self, sensitive: bool) -> Self {
        self.sensitive = sensitive;
        self
    }

    /// Runs it on this executor; it is then not thread-sensitive, whatever was said.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::bridge::{Route, sync_to_async};
    /// use portage::{ThreadPool, block_on};
    /// use std::sync::Arc;
    ///
    /// let pool = ThreadPool::builder().core_threads(1).build()?;
    /// let call = sync_to_async(|| ThreadPool::current().is_some()).executor(Arc::new(pool));
    /// assert_eq!(call.explain(), Route::Executor);
    /// assert_eq!(block_on(call.into_future()).ok(), Some(true));
    /// # Ok::<(), portage::error::BuildError>(())
    /// ```
    pub fn executor(mut self, executor: Arc<dyn Executor>) -> Self {
        self.executor = Some(executor);
        self
    }

    /// Which context it runs in, and whether changes flow back.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::bridge::{ContextMode, sync_to_async};
    /// use portage::{ContextVar, block_on};
    ///
    /// static USER: ContextVar<&str> = ContextVar::new("user");
    /// USER.set("ann");
    /// let stranger = sync_to_async(|| USER.get()).context(ContextMode::Empty);
    /// assert_eq!(block_on(stranger.into_future())?, None);
    /// # Ok::<(), portage::error::BridgeError>(())
    /// ```
    pub fn context(mut self, mode: ContextMode) -> Self {
        self.mode = mode;
        self
    }

    /// Where it would run if it were awaited here and now. Starts nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::bridge::{Route, sync_to_async};
    ///
    /// let call = sync_to_async(|| ());
    /// assert_eq!(call.explain(), Route::SharedThread);
    /// assert_eq!(call.thread_sensitive(false).explain(), Route::Pool);
    /// ```
    pub fn explain(&self) -> Route {
        self.target(&Affinity::current()).route()
    }

    fn target(&self, affinity: &Affinity) -> Target {
        Target::find(self.sensitive, self.executor.as_ref(), affinity)
    }
}

impl<F> fmt::Debug for SyncToAsync<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncToAsync")
            .field("thread_sensitive", &self.sensitive)
            .field("executor", &self.executor.as_ref().map(|_| "<executor>"))
            .field("context", &self.mode)
            .finish_non_exhaustive()
    }
}

impl<F, T> IntoFuture for SyncToAsync<F>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    type Output = Result<T, BridgeError>;
    type IntoFuture = SyncToAsyncFuture<F, T>;

    fn into_future(self) -> Self::IntoFuture {
        SyncToAsyncFuture(Stage::New(self))
    }
}

/// The future of a [`SyncToAsync`].
///
/// # Panics
///
/// Polled again after its end.
#[must_use = "futures do nothing unless polled"]
pub struct SyncToAsyncFuture<F, T>(Stage<F, T>);

enum Stage<F, T> {
    New(SyncToAsync<F>),
    Called(Awaited<T>),
    Done,
}

/// A call that is on its way; its drop abandons it.
struct Awaited<T> {
    handle: JoinHandle<Result<T, Payload>>,
    call: Arc<Call>,
    harvest: Option<Harvest>,
}

impl<T> Drop for Awaited<T> {
    fn drop(&mut self) {
        // No effect on one that has ended.
        self.handle.cancel();
        self.call.cancel();
    }
}

// Nothing in it is pinned: the closure is moved out before it runs.
impl<F, T> Unpin for SyncToAsyncFuture<F, T> {}

impl<F, T> Future for SyncToAsyncFuture<F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    type Output = Result<T, BridgeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut PollContext<'_>) -> Poll<Self::Output> {
        let awaited = match std::mem::replace(&mut self.0, Stage::Done) {
            Stage::New(options) => begin(options),
            Stage::Called(awaited) => Ok(awaited),
            Stage::Done => panic!("polled after completion"),
        };
        let mut awaited = match awaited {
            Ok(awaited) => awaited,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let Poll::Ready(outcome) = Pin::new(&mut awaited.handle).poll(cx) else {
            self.0 = Stage::Called(awaited);
            return Poll::Pending;
        };
        if let Some(harvest) = awaited.harvest.take() {
            harvest.flow_back();
        }
        Poll::Ready(match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(payload)) => Err(BridgeError::from(JoinError::panicked(payload))),
            Err(error) => Err(BridgeError::from(error)),
        })
    }
}

impl<F, T> fmt::Debug for SyncToAsyncFuture<F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Stage::New(_) => "SyncToAsyncFuture(New)",
            Stage::Called(_) => "SyncToAsyncFuture(Called)",
            Stage::Done => "SyncToAsyncFuture(Done)",
        })
    }
}

/// Sends the call to its thread.
fn begin<F, T>(options: SyncToAsync<F>) -> Result<Awaited<T>, BridgeError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let affinity = Affinity::current();
    let target = options.target(&affinity);
    if target.is_occupied(&affinity) {
        return Err(BridgeError::would_deadlock());
    }
    let call = Call::new(affinity.call.as_deref());
    let inside = Inside {
        call: call.clone(),
        parent: running_loop(),
    };
    let before = options.mode.outset();
    let harvest = Harvest::new(before.clone(), options.mode);
    let gather = harvest.as_ref().map(Harvest::gather);
    let (f, called_at) = (options.f, options.called_at);
    let work = move || {
        let _gather = gather;
        let _running = inside.enter();
        contain(f)
    };
    let carried = Affinity {
        call: Some(call.clone()),
        ..affinity.clone()
    };
    let mut context = carried.carried_by(before);
    let (job, handle) = context.run(|| Job::of_call(called_at, work));
    // From here on a refusal drops the call, and with it the job.
    let awaited = Awaited {
        handle,
        call,
        harvest,
    };
    send(target, job, &affinity)?;
    Ok(awaited)
}

/// Hands the job over; a lane that has finished meanwhile leaves it to the next rule.
fn send(mut target: Target, mut job: Job, affinity: &Affinity) -> Result<(), BridgeError> {
    loop {
        let sent = match target {
            // Whoever drives this thread now may be no driver of ours, and would not pump the
            // lane. But this is the right thread already.
            Target::Lane(_, lane) if lane.is_own() && !is_in_loop() => {
                job.run();
                Ok(())
            }
            Target::Lane(_, lane) => match lane.post(job) {
                Ok(()) => Ok(()),
                Err(late) => {
                    job = late;
                    target = Target::find(true, None, affinity);
                    continue;
                }
            },
            Target::Block(block) => on_thread(block.thread(), job),
            Target::Shared => on_thread(shared_thread(), job),
            Target::Executor(executor) => executor.execute(job),
            Target::Pool => ThreadPool::global().execute(job),
        };
        return sent.map_err(refused);
    }
}

fn on_thread(thread: std::io::Result<LoneThread>, job: Job) -> Result<(), SubmitError> {
    match thread {
        Ok(thread) => thread.execute(job),
        Err(_) => Err(SubmitError::broken(job)),
    }
}

/// What the awaiting side sees of a refusal; the job goes, and with it the closure.
fn refused(error: SubmitError) -> BridgeError {
    if error.is_would_deadlock() || error.is_own_thread() {
        BridgeError::would_deadlock()
    } else {
        BridgeError::shut_down()
    }
}
