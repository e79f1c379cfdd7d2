//! Room for the one task that a worker runs next, while what it works on is still warm.
//!
//! Filled by its worker alone, emptied by anybody: the worker may be about to block.

#![forbid(unsafe_code)]

#[cfg(not(any(loom, shuttle)))]
use crossbeam_utils::atomic::AtomicCell;

#[cfg(any(loom, shuttle))]
use crate::base::sync::Mutex;

/// Holds at most one item.
pub(crate) struct Slot<T> {
    #[cfg(not(any(loom, shuttle)))]
    item: AtomicCell<Option<T>>,
    #[cfg(any(loom, shuttle))]
    item: Mutex<Option<T>>,
}

impl<T> Slot<T> {
    pub(crate) fn new() -> Self {
        Self {
            #[cfg(not(any(loom, shuttle)))]
            item: AtomicCell::new(None),
            #[cfg(any(loom, shuttle))]
            item: Mutex::new(None),
        }
    }

    /// Puts `item` in and returns what was there.
    #[cfg(not(any(loom, shuttle)))]
    pub(crate) fn replace(&self, item: T) -> Option<T> {
        self.item.swap(Some(item))
    }

    /// Puts `item` in and returns what was there.
    #[cfg(any(loom, shuttle))]
    pub(crate) fn replace(&self, item: T) -> Option<T> {
        self.item.lock().replace(item)
    }

    #[cfg(not(any(loom, shuttle)))]
    pub(crate) fn take(&self) -> Option<T> {
        self.item.take()
    }

    #[cfg(any(loom, shuttle))]
    pub(crate) fn take(&self) -> Option<T> {
        self.item.lock().take()
    }
}

impl<T> std::fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slot")
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::Slot;
    use std::sync::Arc;

    #[test]
    fn a_second_item_displaces_the_first() {
        let slot = Slot::new();
        assert_eq!(slot.replace(Box::new(1)), None);
        assert_eq!(slot.replace(Box::new(2)), Some(Box::new(1)));
        assert_eq!(slot.take(), Some(Box::new(2)));
        assert_eq!(slot.take(), None);
    }

    #[test]
    fn what_is_left_is_dropped_with_the_slot() {
        let probe = Arc::new(());
        let slot = Slot::new();
        slot.replace(probe.clone());
        drop(slot);
        assert_eq!(Arc::strong_count(&probe), 1);
    }
}
