//! A worker's own queue: its worker pushes and pops, thieves take from the other end.
//!
//! First in, first out for the owner too: what waits longest runs first, whoever runs it.

#![forbid(unsafe_code)]

#[cfg(not(loom))]
use crossbeam_deque::Steal;

#[cfg(loom)]
use super::stand_in::Fifo;
#[cfg(loom)]
use crate::base::sync::Arc;

/// Most items that a thief takes at once. They end in its own queue, where others may take
/// them on.
const BATCH_MAX: usize = 16;

/// The owner's end; stays on its thread.
#[derive(Debug)]
pub(crate) struct Local<T> {
    #[cfg(not(loom))]
    deque: crossbeam_deque::Worker<T>,
    #[cfg(loom)]
    deque: Arc<Fifo<T>>,
}

/// The other end, for any thread.
#[derive(Debug)]
pub(crate) struct Thief<T> {
    #[cfg(not(loom))]
    deque: crossbeam_deque::Stealer<T>,
    #[cfg(loom)]
    deque: Arc<Fifo<T>>,
}

impl<T> Local<T> {
    #[cfg(not(loom))]
    pub(crate) fn new() -> Self {
        Self {
            deque: crossbeam_deque::Worker::new_fifo(),
        }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self {
            deque: Arc::new(Fifo::new()),
        }
    }

    #[cfg(not(loom))]
    pub(crate) fn thief(&self) -> Thief<T> {
        Thief {
            deque: self.deque.stealer(),
        }
    }

    #[cfg(loom)]
    pub(crate) fn thief(&self) -> Thief<T> {
        Thief {
            deque: self.deque.clone(),
        }
    }

    pub(crate) fn push(&self, item: T) {
        self.deque.push(item);
    }

    /// Takes the oldest item.
    #[cfg(not(loom))]
    pub(crate) fn pop(&self) -> Option<T> {
        self.deque.pop()
    }

    /// Takes the oldest item.
    #[cfg(loom)]
    pub(crate) fn pop(&self) -> Option<T> {
        self.deque.take()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.deque.is_empty()
    }
}

impl<T> Thief<T> {
    /// Takes the oldest item.
    #[cfg(not(loom))]
    pub(crate) fn take(&self) -> Option<T> {
        until_settled(|| self.deque.steal())
    }

    /// Takes the oldest item.
    #[cfg(loom)]
    pub(crate) fn take(&self) -> Option<T> {
        self.deque.take()
    }

    /// Takes half of the items, at most [`BATCH_MAX`]: returns the oldest, moves the rest
    /// into `own`.
    #[cfg(not(loom))]
    pub(crate) fn take_half(&self, own: &Local<T>) -> Option<T> {
        until_settled(|| {
            self.deque
                .steal_batch_with_limit_and_pop(&own.deque, BATCH_MAX)
        })
    }

    /// Takes half of the items, at most [`BATCH_MAX`]: returns the oldest, moves the rest
    /// into `own`.
    #[cfg(loom)]
    pub(crate) fn take_half(&self, own: &Local<T>) -> Option<T> {
        let half = self.len().div_ceil(2).min(BATCH_MAX);
        let first = self.take()?;
        for _ in 1..half {
            if let Some(item) = self.take() {
                own.push(item);
            }
        }
        Some(first)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.deque.is_empty()
    }

    /// Exact while nothing moves.
    pub(crate) fn len(&self) -> usize {
        self.deque.len()
    }
}

/// Repeats what others got in the way of: each repetition means that they got something.
#[cfg(not(loom))]
fn until_settled<T>(mut attempt: impl FnMut() -> Steal<T>) -> Option<T> {
    loop {
        match attempt() {
            Steal::Success(item) => return Some(item),
            Steal::Empty => return None,
            Steal::Retry => std::hint::spin_loop(),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Local;

    #[test]
    fn owner_and_thief_both_take_the_oldest() {
        let own = Local::new();
        let thief = own.thief();
        (1..=4).for_each(|n| own.push(n));
        assert_eq!((own.pop(), thief.take()), (Some(1), Some(2)));
        assert_eq!(thief.len(), 2);
        assert_eq!((own.pop(), own.pop(), own.pop()), (Some(3), Some(4), None));
        assert!(thief.is_empty() && own.is_empty());
    }

    #[test]
    fn half_of_a_queue_moves_and_stays_within_reach_of_others() {
        let (rich, poor) = (Local::new(), Local::new());
        (0..100).for_each(|n| rich.push(n));
        assert_eq!(rich.thief().take_half(&poor), Some(0));
        let moved = poor.thief().len();
        assert!((1..16).contains(&moved), "{moved} moved");
        assert_eq!(rich.thief().len(), 100 - 1 - moved);
        assert_eq!(poor.thief().take(), Some(1), "a third one gets at it");
    }

    #[test]
    fn the_last_item_goes_to_exactly_one() {
        let own = Local::new();
        let thief = own.thief();
        for round in 0..2_000 {
            own.push(round);
            let taken = std::thread::scope(|scope| {
                let other = (round % 100 == 0).then(|| scope.spawn(|| thief.take()));
                let mine = own.pop();
                let theirs = other.and_then(|other| other.join().unwrap());
                usize::from(mine.is_some()) + usize::from(theirs.is_some())
            });
            assert_eq!(taken, 1);
        }
    }
}
