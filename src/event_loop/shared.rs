//! What other threads see of a loop.
//!
//! Written by the owner: `state`. Written by everybody: `inbox`, `stop`, `pending`, `jobs`. The
//! `suspended` tasks are those that stand in no queue, so that a close finds them; they are
//! entered on the loop's thread and leave wherever they end.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::OnceLock;
use std::task::Waker;
use std::thread::ThreadId;

use crate::base::fork;
use crate::base::sync::Arc;
use crate::base::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use crate::entered::{Parking, thread_key};
use crate::event_loop::inbox::Inbox;
use crate::event_loop::stopped::Stops;
use crate::event_loop::suspended::Suspended;
use crate::task::TaskRef;

/// What a loop is doing, as far as another thread can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoopState {
    /// Nobody drives it; what is submitted waits for its next run.
    Idle,
    /// A run is on, or a pool worker that owns it drives it between its jobs.
    Running,
    /// It takes nothing any more.
    Closed,
}

/// What a remote push calls besides the thread's own waker.
pub(super) type OnWake = Arc<dyn Fn() + Send + Sync>;

pub(super) struct Shared {
    pub(super) inbox: Inbox<TaskRef>,
    pub(super) stops: Arc<Stops>,
    pub(super) suspended: Suspended,
    state: AtomicU8,
    stop: AtomicBool,
    pending: AtomicUsize,
    jobs: AtomicUsize,
    thread: ThreadId,
    key: u64,
    waker: Waker,
    on_wake: OnceLock<OnWake>,
}

impl Shared {
    /// A loop of the calling thread, which sleeps on `parking`.
    pub(super) fn new(parking: &Parking) -> Arc<Self> {
        Arc::new(Self {
            inbox: Inbox::new(),
            stops: Arc::default(),
            suspended: Suspended::default(),
            state: AtomicU8::new(LoopState::Idle as u8),
            stop: AtomicBool::new(false),
            pending: AtomicUsize::new(0),
            jobs: AtomicUsize::new(0),
            thread: std::thread::current().id(),
            key: thread_key(),
            waker: parking.waker().clone(),
            on_wake: OnceLock::new(),
        })
    }

    pub(super) fn state(&self) -> LoopState {
        if fork::is_thread_gone(self.key) {
            return LoopState::Closed;
        }
        // Ordering: Acquire pairs with `set_state`. No model needs it: what lies in the inbox is
        // behind its lock.
        match self.state.load(Ordering::Acquire) {
            0 => LoopState::Idle,
            1 => LoopState::Running,
            _ => LoopState::Closed,
        }
    }

    /// Only the owner says so; `Closed` is final.
    pub(super) fn set_state(&self, state: LoopState) {
        let before = self.state();
        if before != LoopState::Closed {
            // Ordering: Release: who sees a state sees what led to it; no model, as in `state`.
            self.state.store(state as u8, Ordering::Release);
        }
        match (before == LoopState::Running, state == LoopState::Running) {
            (true, false) => self.stops.stopped(),
            (false, true) => self.stops.started(),
            _ => {}
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state() == LoopState::Closed
    }

    pub(super) fn thread(&self) -> ThreadId {
        self.thread
    }

    pub(super) fn key(&self) -> u64 {
        self.key
    }

    /// Ends the owner's sleep, wherever it sleeps.
    pub(super) fn wake(&self) {
        self.waker.wake_by_ref();
        if let Some(on_wake) = self.on_wake.get() {
            on_wake();
        }
    }

    pub(super) fn set_on_wake(&self, on_wake: OnWake) {
        let _ = self.on_wake.set(on_wake);
    }

    pub(super) fn ask_to_stop(&self) {
        // Ordering: Release pairs with `take_stop`: what was submitted before is there; a swap,
        // since a store would hide what was submitted before another stop. No model, as in `state`.
        self.stop.swap(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn is_asked_to_stop(&self) -> bool {
        // Ordering: Relaxed: an old value is followed by a sleep, which the wake ends.
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn take_stop(&self) -> bool {
        // Ordering: Acquire pairs with `ask_to_stop`; no model, as in `state`.
        self.is_asked_to_stop() && self.stop.swap(false, Ordering::Acquire)
    }

    pub(super) fn begin_one(&self, is_job: bool) {
        // Ordering: Relaxed: a count that publishes nothing; the end of a task is published
        // with its outcome.
        self.count_of(is_job).fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end_one(&self, is_job: bool) {
        // Ordering: Relaxed, as above.
        self.count_of(is_job).fetch_sub(1, Ordering::Relaxed);
    }

    fn count_of(&self, is_job: bool) -> &AtomicUsize {
        if is_job { &self.jobs } else { &self.pending }
    }

    /// Tasks that have not ended.
    pub(super) fn pending(&self) -> usize {
        // Ordering: Relaxed, as above.
        self.pending.load(Ordering::Relaxed)
    }

    /// Tasks and jobs that have not ended.
    pub(super) fn live(&self) -> usize {
        // Ordering: Relaxed, as above.
        self.pending() + self.jobs.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loop")
            .field("thread", &self.thread)
            .field("state", &self.state())
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}
