//! The sleepers that have no bit in the word: a stack, last in, first out, so that the thread
//! that slept least wakes first and the others reach the end of their keep-alive.
//!
//! # Ordering
//!
//! `count` is written under the lock, Relaxed; whoever reads it without the lock has passed a
//! fence of the sleep protocol, or looks again.

#![forbid(unsafe_code)]

use crate::base::sync::Mutex;
use crate::base::sync::atomic::{AtomicUsize, Ordering};

/// Who sleeps. Leaving the stack, under its lock, is the exact claim.
#[derive(Debug)]
pub(super) struct Sleepers {
    stack: Mutex<Vec<usize>>,
    /// The height of the stack, for a look without the lock.
    count: AtomicUsize,
}

impl Sleepers {
    pub(super) fn new() -> Self {
        Self {
            stack: Mutex::new(Vec::new()),
            count: AtomicUsize::new(0),
        }
    }

    pub(super) fn len(&self) -> usize {
        // Ordering: Relaxed: the fences of the sleep protocol order it.
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn push(&self, index: usize) {
        let mut stack = self.stack.lock();
        stack.push(index);
        self.count.store(stack.len(), Ordering::Relaxed);
    }

    /// Takes the one that slept least. `claimed` runs before it can notice.
    pub(super) fn pop(&self, claimed: impl FnOnce()) -> Option<usize> {
        let mut stack = self.stack.lock();
        let index = stack.pop()?;
        self.count.store(stack.len(), Ordering::Relaxed);
        claimed();
        Some(index)
    }

    /// Takes `index` itself; false if it was claimed before.
    pub(super) fn remove(&self, index: usize, removed: impl FnOnce()) -> bool {
        let mut stack = self.stack.lock();
        let Some(at) = stack.iter().rposition(|sleeper| *sleeper == index) else {
            return false;
        };
        stack.remove(at);
        self.count.store(stack.len(), Ordering::Relaxed);
        removed();
        true
    }

    pub(super) fn contains(&self, index: usize) -> bool {
        self.stack.lock().contains(&index)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::Sleepers;

    #[test]
    fn the_last_to_sleep_is_the_first_to_wake() {
        let sleepers = Sleepers::new();
        (48..51).for_each(|index| sleepers.push(index));
        assert_eq!(sleepers.pop(|| {}), Some(50));
        assert!(sleepers.remove(48, || {}));
        assert!(!sleepers.contains(48) && sleepers.contains(49));
        assert_eq!((sleepers.pop(|| {}), sleepers.pop(|| {})), (Some(49), None));
        assert_eq!(sleepers.len(), 0);
    }

    #[test]
    fn a_claimed_sleeper_cannot_remove_itself() {
        let sleepers = Sleepers::new();
        sleepers.push(60);
        assert_eq!(sleepers.pop(|| {}), Some(60));
        assert!(!sleepers.remove(60, || panic!("it was claimed")));
    }
}
