//! A worker's own queue: its worker pushes and pops, thieves take from the other end.
//!
//! Two lanes. What the worker submits is *fresh*: the newest goes first, because it and what it
//! works on are still warm, and because a job that submits jobs then goes into the depth: its
//! queue stays as long as the tree is deep, not as wide as the tree. What was woken, or has
//! yielded, stands in a *line*: first in, first out, for fairness among those that have begun.
//! Thieves take the oldest of either: of a tree, the largest part. The worker itself takes the
//! oldest now and then ([`Thief::take`]), so that nothing waits for ever under the newest.

#![forbid(unsafe_code)]

#[cfg(not(any(loom, shuttle)))]
use crossbeam_deque::{Steal, Stealer, Worker};

#[cfg(any(loom, shuttle))]
use super::stand_in::Fifo;
#[cfg(any(loom, shuttle))]
use crate::base::sync::Arc;

/// Most items that a thief takes at once. They end in its own queue, where others may take
/// them on.
const BATCH_MAX: usize = 16;

/// The owner's end; stays on its thread.
#[derive(Debug)]
pub(crate) struct Local<T> {
    #[cfg(not(any(loom, shuttle)))]
    fresh: Worker<T>,
    #[cfg(not(any(loom, shuttle)))]
    line: Worker<T>,
    /// No order is modelled.
    #[cfg(any(loom, shuttle))]
    both: Arc<Fifo<T>>,
}

/// The other end, for any thread.
#[derive(Debug)]
pub(crate) struct Thief<T> {
    #[cfg(not(any(loom, shuttle)))]
    fresh: Stealer<T>,
    #[cfg(not(any(loom, shuttle)))]
    line: Stealer<T>,
    #[cfg(any(loom, shuttle))]
    both: Arc<Fifo<T>>,
}

#[cfg(not(any(loom, shuttle)))]
impl<T> Local<T> {
    pub(crate) fn new() -> Self {
        Self {
            fresh: Worker::new_lifo(),
            line: Worker::new_fifo(),
        }
    }

    pub(crate) fn thief(&self) -> Thief<T> {
        Thief {
            fresh: self.fresh.stealer(),
            line: self.line.stealer(),
        }
    }

    /// Adds what the worker submits.
    pub(crate) fn push(&self, item: T) {
        self.fresh.push(item);
    }

    /// Adds what was woken or has yielded, behind all such.
    pub(crate) fn line_up(&self, item: T) {
        self.line.push(item);
    }

    /// Takes the oldest of the line, or the newest of the fresh.
    pub(crate) fn pop(&self) -> Option<T> {
        self.line.pop().or_else(|| self.fresh.pop())
    }

    /// Takes the newest of the fresh, past the line.
    pub(crate) fn pop_fresh(&self) -> Option<T> {
        self.fresh.pop()
    }
}

#[cfg(not(any(loom, shuttle)))]
impl<T> Thief<T> {
    /// Takes the oldest item.
    pub(crate) fn take(&self) -> Option<T> {
        until_settled(|| self.fresh.steal()).or_else(|| until_settled(|| self.line.steal()))
    }

    /// Takes half of the items of a lane, the oldest, at most [`BATCH_MAX`]: returns one of
    /// them, moves the rest into `own`.
    pub(crate) fn take_half(&self, own: &Local<T>) -> Option<T> {
        let half = |from: &Stealer<T>, to: &Worker<T>| {
            // Most searches find nothing: a look costs less than an attempt.
            if from.is_empty() {
                return None;
            }
            until_settled(|| from.steal_batch_with_limit_and_pop(to, BATCH_MAX))
        };
        half(&self.fresh, &own.fresh).or_else(|| half(&self.line, &own.line))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.line.is_empty()
    }

    /// Exact while nothing moves.
    pub(crate) fn len(&self) -> usize {
        self.fresh.len() + self.line.len()
    }
}

#[cfg(any(loom, shuttle))]
impl<T> Local<T> {
    pub(crate) fn new() -> Self {
        Self {
            both: Arc::new(Fifo::new()),
        }
    }

    pub(crate) fn thief(&self) -> Thief<T> {
        Thief {
            both: self.both.clone(),
        }
    }

    pub(crate) fn push(&self, item: T) {
        self.both.push(item);
    }

    pub(crate) fn line_up(&self, item: T) {
        self.both.push(item);
    }

    pub(crate) fn pop(&self) -> Option<T> {
        self.both.take()
    }

    pub(crate) fn pop_fresh(&self) -> Option<T> {
        self.both.take()
    }
}

#[cfg(any(loom, shuttle))]
impl<T> Thief<T> {
    pub(crate) fn take(&self) -> Option<T> {
        self.both.take()
    }

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
        self.both.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.both.len()
    }
}

/// Repeats what others got in the way of: each repetition means that they got something.
#[cfg(not(any(loom, shuttle)))]
fn until_settled<T>(mut attempt: impl FnMut() -> Steal<T>) -> Option<T> {
    loop {
        match attempt() {
            Steal::Success(item) => return Some(item),
            Steal::Empty => return None,
            Steal::Retry => std::hint::spin_loop(),
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::Local;

    #[test]
    fn the_owner_takes_the_newest_of_the_fresh_and_thieves_the_oldest() {
        let own = Local::new();
        let thief = own.thief();
        (1..=4).for_each(|n| own.push(n));
        assert_eq!((own.pop(), thief.take()), (Some(4), Some(1)));
        assert_eq!(thief.len(), 2);
        assert_eq!((own.pop(), own.pop(), own.pop()), (Some(3), Some(2), None));
        assert!(thief.is_empty());
    }

    #[test]
    fn the_line_goes_in_order_and_before_the_fresh() {
        let own = Local::new();
        let thief = own.thief();
        own.push(10);
        (1..=3).for_each(|n| own.line_up(n));
        assert_eq!((own.pop(), own.pop()), (Some(1), Some(2)));
        assert_eq!((thief.len(), thief.take()), (2, Some(10)));
        assert_eq!((thief.take(), thief.take()), (Some(3), None));
    }

    #[test]
    fn half_of_a_queue_moves_and_stays_within_reach_of_others() {
        let (rich, poor) = (Local::new(), Local::new());
        (0..100).for_each(|n| rich.push(n));
        let is_old = |item: Option<i32>| item.is_some_and(|n| n < 16);
        assert!(is_old(rich.thief().take_half(&poor)));
        let moved = poor.thief().len();
        assert!((1..16).contains(&moved), "{moved} moved");
        assert_eq!(rich.thief().len(), 100 - 1 - moved);
        assert!(is_old(poor.thief().take()), "a third one gets at them");
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
