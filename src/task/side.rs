//! What some kinds of cells keep besides their work.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::sync::OnceLock;
use std::task::Waker;

use super::cell::Hold;
use super::id::TaskId;
use super::schedule::{Home, Schedule};
use crate::base::contain::{contain, contained_drop, discard};
use crate::base::sync::{Arc, Mutex};
use crate::deferred;

/// The task at the root of a chain, and where it lives: who must run for the chain to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) id: TaskId,
    pub(crate) home: Home,
}

/// How many links of a chain know its root: every one that does holds it.
const KNOWN_LINKS_MAX: u32 = 1 << 10;

/// A link's place in its chain.
#[derive(Clone)]
pub(crate) struct Chain {
    pub(crate) origin: Origin,
    /// The task at the root, unless that is too many links away.
    pub(crate) root: Option<Hold>,
    links: u32,
}

impl Chain {
    /// The chain that begins with this task.
    pub(super) fn of_root(origin: Origin, root: Hold) -> Self {
        Self {
            origin,
            root: Some(root),
            links: 0,
        }
    }

    /// The same, one link further down.
    pub(super) fn longer(mut self) -> Self {
        self.links += 1;
        if self.links > KNOWN_LINKS_MAX {
            self.root = None;
        }
        self
    }
}

/// What the kinds answer.
pub(super) trait Side: Send + Sync {
    fn name(&self) -> Option<&str> {
        None
    }

    /// Called before the first poll, on the thread that does it.
    fn settle(&self) {}

    /// Does a poll; the first one as the thread does it on which the task has settled.
    #[inline(always)]
    fn poll<R>(&self, _first: bool, poll: impl FnOnce() -> R) -> R
    where
        Self: Sized,
    {
        poll()
    }

    /// The executor of the thread that the task has settled on.
    fn settled(&self) -> Option<&Arc<dyn Schedule>> {
        None
    }

    /// The chain that it is a link of, where it is not the root itself.
    fn chain(&self) -> Option<Chain> {
        None
    }

    /// The reader has told it to stop.
    fn told(&self) {}
}

/// Nothing.
pub(super) struct Plain;

impl Side for Plain {}

/// A name.
pub(super) struct Named(pub(super) Cow<'static, str>);

impl Side for Named {
    fn name(&self) -> Option<&str> {
        Some(&self.0)
    }
}

/// A job that runs at the end of another task.
///
/// It holds the root of its chain, not the task before it, so that a long chain is freed link
/// by link and not one inside another.
pub(super) struct Derived(pub(super) Chain);

impl Side for Derived {
    fn chain(&self) -> Option<Chain> {
        Some(self.0.clone())
    }
}

/// How a task settles on the thread that polls it first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settle {
    /// What queues it there from then on.
    pub(crate) home: fn() -> Arc<dyn Schedule>,
    /// Does the first poll in the surroundings in which that does the others; calls it once.
    pub(crate) first_poll: fn(&mut dyn FnMut()),
}

/// A task that stays on the thread that polls it first.
pub(super) struct Settling {
    settle: Option<Settle>,
    chosen: OnceLock<Arc<dyn Schedule>>,
}

impl Settling {
    pub(super) fn new(settle: Option<Settle>) -> Self {
        Self {
            settle,
            chosen: OnceLock::new(),
        }
    }
}

impl Side for Settling {
    fn settle(&self) {
        if let Some(settle) = self.settle {
            self.chosen.get_or_init(settle.home);
        }
    }

    fn poll<R>(&self, first: bool, poll: impl FnOnce() -> R) -> R {
        let Some(settle) = self.settle.filter(|_| first) else {
            return poll();
        };
        let (mut poll, mut polled) = (Some(poll), None);
        (settle.first_poll)(&mut || polled = poll.take().map(|poll| poll()));
        polled.expect("the first poll is done once")
    }

    fn settled(&self) -> Option<&Arc<dyn Schedule>> {
        self.chosen.get()
    }
}

/// A job that drives a future: how that learns that it is to stop.
#[derive(Clone, Default)]
pub(crate) struct Driving(Arc<Mutex<Option<Waker>>>);

impl Driving {
    /// Has `waker` called when the reader tells it to stop. Look at the word after this.
    pub(crate) fn wake_when_told(&self, waker: &Waker) {
        let old = self.0.lock().replace(waker.clone());
        contained_drop(old);
    }
}

impl Side for Driving {
    fn told(&self) {
        let waker = self.0.lock().take();
        if let Some(Err(payload)) = waker.map(|waker| contain(|| waker.wake())) {
            discard(payload);
        }
    }
}

/// A promise: how the writing side learns that it is to stop.
///
/// One word and a lock in the cell; the rest is made for the promises that ask for it.
#[derive(Default)]
pub(crate) struct Writing(Mutex<Option<Box<Told>>>);

#[derive(Default)]
struct Told {
    waker: Option<Waker>,
    upstream: Option<Hold>,
    chain: Option<Chain>,
}

impl Writing {
    /// Has `waker` called when the reader tells it to stop. Look at the word after this.
    pub(super) fn wake_when_told(&self, waker: Waker) {
        let old = self.0.lock().get_or_insert_default().waker.replace(waker);
        contained_drop(old);
    }

    pub(super) fn forget_waker(&self) {
        let old = self.0.lock().as_mut().and_then(|told| told.waker.take());
        contained_drop(old);
    }

    /// Cancels `source` when the reader tells it to stop. Look at the word after this.
    pub(super) fn cancel_when_told(&self, source: Hold, chain: Chain) {
        let old = {
            let mut slot = self.0.lock();
            let told = slot.get_or_insert_default();
            (told.chain.replace(chain), told.upstream.replace(source))
        };
        drop(old);
    }

    /// Lets go of the source, so that a chain's memory goes link by link.
    pub(super) fn forget_upstream(&self) {
        let old = self
            .0
            .lock()
            .as_mut()
            .map(|told| (told.upstream.take(), told.chain.take()));
        drop(old);
    }
}

impl Side for Writing {
    fn chain(&self) -> Option<Chain> {
        let told = self.0.lock();
        told.as_ref().and_then(|told| told.chain.clone())
    }

    fn told(&self) {
        let (waker, upstream) = {
            let mut slot = self.0.lock();
            let Some(told) = slot.as_mut() else { return };
            (told.waker.take(), told.upstream.take())
        };
        if let Some(waker) = waker {
            if let Err(payload) = contain(|| waker.wake()) {
                discard(payload);
            }
        }
        if let Some(source) = upstream {
            deferred::run(move || {
                let _ = source.cancel();
            });
        }
    }
}
