//! The queue that everybody fills and every worker empties, first in, first out.
//!
//! A ring behind a lock, and not crossbeam's injector: that one takes two atomic moves to push and
//! three to take on lines that all CPUs want, and its blocks, of the size from which on glibc
//! sorts its small free blocks together, make every allocation of the process dearer. Here a push
//! is a lock that is free nearly always, and a worker whose jobs are short takes several at once
//! ([`Injector::take_several`]), so that submitters and workers meet less often.
//!
//! Nobody waits long for the lock: it is held for a few instructions for each item that is moved,
//! now and then for the growth of the ring. No user code runs under it.

#![forbid(unsafe_code)]

use std::collections::VecDeque;

use crate::base::sync::Mutex;
use crate::base::sync::atomic::{AtomicUsize, Ordering};
use crate::queue::local::Local;

/// Most items that go to a worker at once.
const SEVERAL: usize = 16;

/// An empty ring with room for more than this gives its memory back.
const ROOM_KEPT: usize = 1 << 12;

/// Unbounded; a push does not allocate once the ring has room.
#[derive(Debug)]
pub(crate) struct Injector<T> {
    items: Mutex<VecDeque<T>>,
    /// How many there are, for a look without the lock.
    len: AtomicUsize,
}

impl<T> Injector<T> {
    pub(crate) fn new() -> Self {
        Self {
            items: Mutex::new(VecDeque::new()),
            len: AtomicUsize::new(0),
        }
    }

    pub(crate) fn push(&self, item: T) {
        let mut items = self.items.lock();
        items.push_back(item);
        self.tell(&items);
    }

    /// Adds all of them under one lock, which is held for them all: not for very many.
    pub(crate) fn extend(&self, more: impl ExactSizeIterator<Item = T>) {
        let mut items = self.items.lock();
        items.extend(more);
        self.tell(&items);
    }

    /// Takes the oldest item.
    pub(crate) fn take(&self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let mut items = self.items.lock();
        let item = items.pop_front();
        let room = self.taken(&mut items);
        drop(items);
        drop(room);
        item
    }

    /// Takes half of the items, the oldest, at most [`SEVERAL`]: returns the first of them, moves
    /// the rest into `own`, where the next one is on top.
    ///
    /// They are there before they are gone here: whoever looks here first and there then sees
    /// them.
    pub(crate) fn take_several(&self, own: &Local<T>) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let mut items = self.items.lock();
        let several = items.len().div_ceil(2).min(SEVERAL);
        let item = items.pop_front()?;
        items
            .drain(..several - 1)
            .rev()
            .for_each(|next| own.push(next));
        let room = self.taken(&mut items);
        drop(items);
        drop(room);
        Some(item)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Exact while nothing moves.
    pub(crate) fn len(&self) -> usize {
        // Ordering: Acquire pairs with `tell`: whoever sees that items have gone sees where to.
        self.len.load(Ordering::Acquire)
    }

    /// Something was taken; returns the memory of a ring that has become much too large.
    fn taken(&self, items: &mut VecDeque<T>) -> Option<VecDeque<T>> {
        self.tell(items);
        let is_too_large = items.is_empty() && items.capacity() > ROOM_KEPT;
        is_too_large.then(|| std::mem::take(items))
    }

    fn tell(&self, items: &VecDeque<T>) {
        // Ordering: Release pairs with `len`: whoever sees the length sees the items.
        self.len.store(items.len(), Ordering::Release);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{Injector, ROOM_KEPT, SEVERAL};
    use crate::queue::local::Local;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn items_leave_in_the_order_of_their_pushes() {
        let queue = Injector::new();
        (0..1_000).for_each(|n| queue.push(n));
        assert_eq!(queue.len(), 1_000);
        let taken: Vec<_> = std::iter::from_fn(|| queue.take()).collect();
        assert_eq!(taken, (0..1_000).collect::<Vec<_>>());
        assert!(queue.is_empty());
    }

    #[test]
    fn each_item_goes_to_exactly_one_of_several_takers() {
        let queue = Injector::new();
        let taken = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| (1..=10_000).for_each(|n| queue.push(n)));
            for _ in 0..2 {
                scope.spawn(|| {
                    while taken.load(Ordering::Relaxed) < 50_005_000 {
                        if let Some(n) = queue.take() {
                            taken.fetch_add(n, Ordering::Relaxed);
                        } else {
                            std::thread::yield_now();
                        }
                    }
                });
            }
        });
        assert_eq!(taken.load(Ordering::Relaxed), 50_005_000);
    }

    #[test]
    fn several_go_to_a_worker_in_order_and_the_rest_stays() {
        let (queue, own) = (Injector::new(), Local::new());
        queue.extend(0..100);
        let first = queue.take_several(&own);
        let all: Vec<_> = first
            .into_iter()
            .chain(std::iter::from_fn(|| own.pop()))
            .collect();
        assert_eq!(all, (0..SEVERAL).collect::<Vec<_>>());
        assert_eq!((queue.len(), queue.take()), (100 - SEVERAL, Some(SEVERAL)));
    }

    #[test]
    fn half_of_a_few_stays_for_others() {
        let (queue, own) = (Injector::new(), Local::new());
        (0..5).for_each(|n| queue.push(n));
        assert_eq!(queue.take_several(&own), Some(0));
        assert_eq!((own.thief().len(), queue.len()), (2, 2));
        let (queue, own) = (Injector::new(), Local::new());
        assert_eq!(queue.take_several(&own), None);
        queue.push(7);
        assert_eq!((queue.take_several(&own), own.pop()), (Some(7), None));
    }

    #[test]
    fn a_burst_leaves_no_memory_behind() {
        let queue = Injector::new();
        queue.extend(0..10 * ROOM_KEPT);
        while queue.take().is_some() {}
        assert_eq!(queue.items.lock().capacity(), 0);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::Injector;
    use crate::base::sync::{Arc, thread};
    use crate::queue::local::Local;

    /// Question: can a look that goes by the injector first miss what a worker moves from it
    /// into its own queue?
    ///
    /// Bound: three items; one worker moves, another takes what is left, a third looks once.
    ///
    /// Must fail when: a length is told, or read, without its ordering.
    #[test]
    fn loom_queue_what_is_moved_is_in_one_queue_or_the_other() {
        loom::model(|| {
            let queue = Arc::new(Injector::new());
            (0..3).for_each(|n| queue.push(n));
            let own = Local::new();
            let thief = own.thief();
            let taker = {
                let queue = queue.clone();
                thread::spawn(move || {
                    // Only what the mover leaves: three are there before, one after it.
                    (queue.len() == 1).then(|| queue.take())
                })
            };
            let looker = {
                let queue = queue.clone();
                thread::spawn(move || !queue.is_empty() || !thief.is_empty())
            };
            queue.take_several(&own);
            assert!(
                looker.join().unwrap(),
                "nobody takes what is in the own queue"
            );
            taker.join().unwrap();
        });
    }
}
