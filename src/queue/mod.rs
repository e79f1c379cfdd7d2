//! Queues of a pool: what waits for a worker.
//!
//! * [`injector`]: one for all, first in, first out; filled from outside.
//! * [`local`]: one per worker, filled by its own worker; its [`Thief`](local::Thief)s take
//!   from the other end.
//! * [`Place`](crate::task::Place): the one task that a worker runs next; others may take it away.
//! * [`steal`]: whom a searcher robs first.
//!
//! Nothing that waits is ever invisible: whatever a worker keeps for itself lies in a queue
//! that every other worker may empty, because the worker's present job may block for ever.
//! Long jobs are taken from the injector one at a time for the same reason: each thing that is
//! moved once more than it must is one that its taker may have to give away again.
//!
//! # What the sleep protocol asks of a queue
//!
//! [`idle`](crate::idle) proves that no wake is lost from two properties of every queue here:
//!
//! 1. A push is visible to `is_empty` of any thread that is ordered after the pusher's
//!    `fence(SeqCst)` by a fence of its own.
//! 2. A take that finds nothing has found nothing at one moment between its call and its
//!    return, or somebody else took what was there.
//!
//! The [`injector`] gives both, with a lock for its items and a length beside it, so that
//! `is_empty` takes no lock and orders nothing by itself; models run on it as it is.
//! crossbeam-deque, which is behind [`local`], cannot be modelled: models run on a stand-in, which
//! is such a queue again. One that looked under the lock would make every fence of the sleep
//! protocol look superfluous.

#![forbid(unsafe_code)]

pub(crate) mod injector;
pub(crate) mod local;
pub(crate) mod steal;

/// A worker's own queue as models see it.
#[cfg(any(loom, shuttle))]
mod stand_in {
    use std::collections::VecDeque;

    use crate::base::sync::Mutex;
    use crate::base::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Debug)]
    pub(super) struct Fifo<T> {
        items: Mutex<VecDeque<T>>,
        len: AtomicUsize,
    }

    impl<T> Fifo<T> {
        pub(super) fn new() -> Self {
            Self {
                items: Mutex::new(VecDeque::new()),
                len: AtomicUsize::new(0),
            }
        }

        pub(super) fn push(&self, item: T) {
            let mut items = self.items.lock();
            items.push_back(item);
            // Ordering: Release, as crossbeam's: whoever sees the length sees the item. Models have
            // it for the sake of the fences elsewhere.
            self.len.store(items.len(), Ordering::Release);
        }

        pub(super) fn take(&self) -> Option<T> {
            if self.is_empty() {
                return None;
            }
            let mut items = self.items.lock();
            let item = items.pop_front();
            // Ordering: Release in a model, as in `push`.
            self.len.store(items.len(), Ordering::Release);
            item
        }

        pub(super) fn is_empty(&self) -> bool {
            self.len() == 0
        }

        pub(super) fn len(&self) -> usize {
            // Ordering: Acquire in a model; pairs with `push`.
            self.len.load(Ordering::Acquire)
        }
    }
}
