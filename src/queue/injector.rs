//! The queue that everybody fills and every worker empties, first in, first out.

#![forbid(unsafe_code)]

#[cfg(not(loom))]
use crossbeam_deque::Steal;

#[cfg(loom)]
use super::stand_in::Fifo;

/// Unbounded; a push never blocks and allocates once in many pushes.
#[derive(Debug)]
pub(crate) struct Injector<T> {
    #[cfg(not(loom))]
    queue: crossbeam_deque::Injector<T>,
    #[cfg(loom)]
    queue: Fifo<T>,
}

impl<T> Injector<T> {
    pub(crate) fn new() -> Self {
        Self {
            #[cfg(not(loom))]
            queue: crossbeam_deque::Injector::new(),
            #[cfg(loom)]
            queue: Fifo::new(),
        }
    }

    pub(crate) fn push(&self, item: T) {
        self.queue.push(item);
    }

    /// Takes the oldest item.
    #[cfg(not(loom))]
    pub(crate) fn take(&self) -> Option<T> {
        loop {
            match self.queue.steal() {
                Steal::Success(item) => return Some(item),
                Steal::Empty => return None,
                // Somebody else took one, or a push is half done: there is progress.
                Steal::Retry => std::hint::spin_loop(),
            }
        }
    }

    /// Takes the oldest item.
    #[cfg(loom)]
    pub(crate) fn take(&self) -> Option<T> {
        self.queue.take()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Exact while nothing moves.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Injector;
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
}
