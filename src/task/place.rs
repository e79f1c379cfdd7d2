//! Room for the one task that a worker runs next, while what it works on is still warm.
//!
//! | word     | holds                       | who moves, to what                                  |
//! |----------|-----------------------------|-----------------------------------------------------|
//! | null     | nothing                     | its worker, to a task, by a store                   |
//! | a cell   | one driver of that cell     | anybody, to null; its worker, to another task; by a swap |
//!
//! # Invariants
//!
//! 1. Only its worker fills it. So a worker that has found it empty finds it empty until it fills
//!    it itself, and a store is enough for that ([`Place::put`]): no swap, which costs a worker
//!    more than the rest of a wake.
//! 2. Whoever swaps a cell out owns its driver.
//!
//! Ordering: the store and the swap that fill it release what the waker wrote, the swap that takes
//! the task acquires it. A look at an empty place orders nothing.

use std::fmt;
use std::ptr::{self, NonNull};

use super::cell::{Header, TaskRef};
use crate::base::sync::atomic::{AtomicPtr, Ordering};

/// Holds at most one task.
pub(crate) struct Place(AtomicPtr<Header>);

impl Place {
    pub(crate) fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Fills the place, which its worker has found empty and has not filled since.
    ///
    /// What is there all the same stays alive and is never run.
    #[inline]
    pub(crate) fn put(&self, task: TaskRef) {
        debug_assert!(self.is_empty(), "only its worker fills it");
        // Ordering: Release: who takes it sees the task as its waker left it.
        self.0.store(task.into_raw().as_ptr(), Ordering::Release);
    }

    /// Puts `task` in and returns what was there.
    pub(crate) fn replace(&self, task: TaskRef) -> Option<TaskRef> {
        // Ordering: Release, as in `put`; what it displaces this worker has put there itself.
        let old = self.0.swap(task.into_raw().as_ptr(), Ordering::Release);
        // SAFETY: the swap has moved what `put` or `replace` left here to us (invariant 2).
        NonNull::new(old).map(|cell| unsafe { TaskRef::from_raw(cell) })
    }

    #[inline]
    pub(crate) fn take(&self) -> Option<TaskRef> {
        if self.is_empty() {
            return None;
        }
        // Ordering: Acquire pairs with `put` and `replace`.
        let old = self.0.swap(ptr::null_mut(), Ordering::Acquire);
        // SAFETY: as in `replace`.
        NonNull::new(old).map(|cell| unsafe { TaskRef::from_raw(cell) })
    }

    fn is_empty(&self) -> bool {
        // Ordering: Relaxed: the swap that follows decides.
        self.0.load(Ordering::Relaxed).is_null()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::Place;
    use crate::task::{Reader, Spawned, TaskRef, late_job};

    fn job() -> (TaskRef, Reader<()>) {
        late_job(Spawned::here(), None, || Ok(()))
    }

    #[test]
    fn a_second_task_displaces_the_first() {
        let place = Place::new();
        assert!(place.take().is_none());
        let ((first, _a), (second, _b)) = (job(), job());
        let (id, other) = (first.id(), second.id());
        place.put(first);
        assert_eq!(place.replace(second).map(|task| task.id()), Some(id));
        assert_eq!(place.take().map(|task| task.id()), Some(other));
        assert!(place.take().is_none());
    }

    #[test]
    fn what_is_left_is_lost_with_the_place() {
        let place = Place::new();
        let (task, mut reader) = job();
        place.put(task);
        drop(place);
        let outcome = reader.take().expect("it has ended");
        assert!(outcome.unwrap_err().is_lost());
    }
}
