//! What travels with a context, unseen: which thread sync code belongs to.
//!
//! A context carries one immutable [`Affinity`]; whoever opens a frame or a block makes a new
//! one from it. What belongs to a thread instead, and not to the work, stands in [`Inside`]:
//! the call that runs there and the loop that it came from. It is put back when the call
//! ends, so a pool thread keeps no loop of a call that is long gone.

#![forbid(unsafe_code)]

use std::any::Any;
use std::cell::RefCell;

use crate::base::sync::atomic::{AtomicU64, Ordering};
use crate::base::sync::{Arc, Mutex, local};
use crate::bridge::lone_thread::{self, LoneThread};
use crate::context::{self, Context};
use crate::current_thread::CurrentThreadExecutor;
use crate::event_loop::LoopHandle;
use crate::promise::CancelHandle;

/// Which thread sync code belongs to; see [`route`](crate::bridge::route).
#[derive(Clone, Debug, Default)]
pub(crate) struct Affinity {
    /// The lane of the nearest sync frame.
    pub(crate) frame: Option<CurrentThreadExecutor>,
    /// The block of [`thread_sensitive_context`](crate::bridge::thread_sensitive_context).
    pub(crate) block: Option<Arc<Place>>,
    /// The block of [`async_single_thread_context`](crate::bridge::async_single_thread_context).
    pub(crate) loops: Option<Arc<Place>>,
    /// A frame further up occupies the thread of `loops`.
    pub(crate) loops_taken: bool,
    /// The innermost `sync_to_async` that this work descends from.
    pub(crate) call: Option<Arc<Call>>,
}

impl Affinity {
    /// That of the running context.
    pub(crate) fn current() -> Self {
        Self::of(&Context::current())
    }

    fn of(context: &Context) -> Self {
        let carried = context
            .affinity()
            .and_then(|any| any.downcast_ref::<Self>());
        carried.cloned().unwrap_or_default()
    }

    /// `context`, carrying this.
    pub(crate) fn carried_by(self, context: Context) -> Context {
        context.with_affinity(Some(self.into_any()))
    }

    pub(crate) fn into_any(self) -> Arc<dyn Any + Send + Sync> {
        Arc::new(self)
    }
}

/// Makes `affinity` that of the running context, until the guard is dropped.
pub(crate) fn scope(affinity: Arc<dyn Any + Send + Sync>) -> Scope {
    Scope(context::replace_affinity(Some(affinity)))
}

#[must_use]
pub(crate) struct Scope(Option<Arc<dyn Any + Send + Sync>>);

impl Drop for Scope {
    fn drop(&mut self) {
        drop(context::replace_affinity(self.0.take()));
    }
}

/// A thread of a block, started on first use.
#[derive(Debug)]
pub(crate) struct Place {
    name: &'static str,
    state: Mutex<Occupancy>,
}

#[derive(Debug, Default)]
struct Occupancy {
    thread: Option<LoneThread>,
    left: bool,
}

impl Place {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            state: Mutex::new(Occupancy::default()),
        }
    }

    /// Its thread. After the block has ended, work that escaped from it gets a new one.
    pub(crate) fn thread(&self) -> std::io::Result<LoneThread> {
        let mut state = self.state.lock();
        if let Some(thread) = &state.thread {
            return Ok(thread.clone());
        }
        let thread = LoneThread::start(self.name)?;
        state.thread = Some(thread.clone());
        Ok(thread)
    }

    /// The number of its thread, if one was started.
    pub(crate) fn number(&self) -> Option<u64> {
        self.state.lock().thread.as_ref().map(LoneThread::number)
    }

    /// The block ends; its thread leaves after what it has to do.
    pub(crate) fn leave(&self) {
        let thread = {
            let mut state = self.state.lock();
            state.left = true;
            state.thread.take()
        };
        drop(thread);
    }

    pub(crate) fn is_left(&self) -> bool {
        self.state.lock().left
    }
}

/// One `sync_to_async`, between the task that awaits it and the thread that runs it.
///
/// A cancel of the awaiting side goes down here: to the async work that the sync code waits
/// for now, or to whatever it will want to wait for next.
#[derive(Debug)]
pub(crate) struct Call {
    seat: Arc<Seat>,
    /// The seats further up that were taken when this call was made.
    outer: Vec<Arc<Seat>>,
    nested: Mutex<Nested>,
}

/// The number of the [lone thread](lone_thread) that runs a call now; zero for none.
#[derive(Debug, Default)]
struct Seat(AtomicU64);

impl Seat {
    fn number(&self) -> u64 {
        // Ordering: Acquire pairs with the Release in `take`: who knows of a call's end does
        // not take it for running. No model needs it: who knows has it from a handle.
        self.0.load(Ordering::Acquire)
    }

    fn take(&self, number: u64) {
        // Ordering: Release pairs with the Acquire in `number`, and no model needs it either.
        self.0.store(number, Ordering::Release);
    }
}

#[derive(Debug, Default)]
struct Nested {
    cancelled: bool,
    inner: Option<CancelHandle>,
}

impl Call {
    pub(crate) fn new(parent: Option<&Call>) -> Arc<Self> {
        // Seats and no calls, and only those that are taken: else work that spawns work would
        // keep all its ancestors.
        let seats = parent.into_iter().flat_map(Call::seats);
        Arc::new(Self {
            seat: Arc::default(),
            outer: seats.filter(|seat| seat.number() != 0).cloned().collect(),
            nested: Mutex::default(),
        })
    }

    fn seats(&self) -> impl Iterator<Item = &Arc<Seat>> {
        std::iter::once(&self.seat).chain(&self.outer)
    }

    /// Does this call, or one further up, occupy the lone thread `number` now?
    pub(crate) fn occupies(&self, number: u64) -> bool {
        self.seats().any(|seat| seat.number() == number)
    }

    /// The awaiting side went away.
    pub(crate) fn cancel(&self) {
        let inner = {
            let mut nested = self.nested.lock();
            nested.cancelled = true;
            nested.inner.take()
        };
        if let Some(inner) = inner {
            inner.cancel();
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.nested.lock().cancelled
    }

    /// The sync code waits for `inner` from now on; if it is cancelled already, so is `inner`.
    pub(crate) fn waits_for(&self, inner: &CancelHandle) -> Waiting<'_> {
        let (before, cancelled) = {
            let mut nested = self.nested.lock();
            (nested.inner.replace(inner.clone()), nested.cancelled)
        };
        if cancelled {
            inner.cancel();
        }
        Waiting { call: self, before }
    }
}

/// Ends what [`Call::waits_for`] began.
#[must_use]
pub(crate) struct Waiting<'a> {
    call: &'a Call,
    before: Option<CancelHandle>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let replaced = {
            let mut nested = self.call.nested.lock();
            std::mem::replace(&mut nested.inner, self.before.take())
        };
        drop(replaced);
    }
}

/// What sync code on this thread is inside.
#[derive(Clone, Debug)]
pub(crate) struct Inside {
    pub(crate) call: Arc<Call>,
    /// The loop that awaits the call.
    pub(crate) parent: Option<LoopHandle>,
}

local! {
    static INSIDE: RefCell<Option<Inside>> = RefCell::new(None);
}
local! {
    static LOOP_LANE: RefCell<Option<CurrentThreadExecutor>> = RefCell::new(None);
}

impl Inside {
    /// The innermost call that runs on this thread.
    pub(crate) fn current() -> Option<Self> {
        INSIDE
            .try_with(|slot| slot.borrow().clone())
            .unwrap_or_default()
    }

    /// The call runs on this thread until the guard is dropped.
    pub(crate) fn enter(self) -> Running {
        let call = self.call.clone();
        call.seat.take(lone_thread::here());
        let before = INSIDE.try_with(|slot| slot.replace(Some(self)));
        Running {
            call,
            before: before.unwrap_or_default(),
        }
    }
}

/// Ends what [`Inside::enter`] began.
#[must_use]
pub(crate) struct Running {
    call: Arc<Call>,
    before: Option<Inside>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.call.seat.take(0);
        let before = self.before.take();
        let ended = INSIDE.try_with(|slot| slot.replace(before));
        drop(ended);
    }
}

/// The lane of the frame that waits for the loop on this thread.
pub(crate) fn loop_lane() -> Option<CurrentThreadExecutor> {
    LOOP_LANE
        .try_with(|slot| slot.borrow().clone())
        .unwrap_or_default()
}

/// Registers `lane` for the loop that will run on this thread, until the guard is dropped.
pub(crate) fn serve_loop(lane: CurrentThreadExecutor) -> Serving {
    Serving(
        LOOP_LANE
            .try_with(|slot| slot.replace(Some(lane)))
            .unwrap_or_default(),
    )
}

/// Ends what [`serve_loop`] began.
#[must_use]
pub(crate) struct Serving(Option<CurrentThreadExecutor>);

impl Drop for Serving {
    fn drop(&mut self) {
        let before = self.0.take();
        let served = LOOP_LANE.try_with(|slot| slot.replace(before));
        drop(served);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::Call;
    use crate::base::sync::thread;
    use crate::promise::promise;

    /// Question: can a cancel and the begin of a nested wait miss each other?
    /// Bound: one cancel, one wait.
    ///
    /// Must fail when: `cancel` leaves no mark; `waits_for` does not look at it, or looks at it
    /// before it registers, under another lock.
    #[test]
    fn loom_bridge_cancel_races_nested_wait() {
        loom::model(|| {
            let call = Call::new(None);
            let (writer, handle) = promise::<()>();
            let theirs = call.clone();
            let canceller = thread::spawn(move || theirs.cancel());
            let waiting = call.waits_for(&handle.cancel_handle());
            canceller.join().unwrap();
            assert!(writer.is_cancelled(), "the thread would wait for ever");
            drop(waiting);
        });
    }
}
