//! A parker: one thread sleeps, any thread hands it the one token that ends the sleep.
//!
//! # State
//!
//! | `state`    | meaning                                | next                             |
//! |------------|----------------------------------------|----------------------------------|
//! | `EMPTY`    | no token, the owner is awake           | `PARKED` (owner), `NOTIFIED`     |
//! | `PARKED`   | no token, the owner sleeps or is about to | `NOTIFIED`, `EMPTY` (deadline) |
//! | `NOTIFIED` | the token is here                      | `EMPTY` (owner takes it)         |
//!
//! # Invariants
//!
//! 1. Only the owner leaves `EMPTY` for `PARKED` and only the owner takes the token.
//! 2. The owner enters `PARKED` while it holds `lock`; whoever swaps `PARKED` out passes
//!    through `lock` before it notifies, so the notification cannot fall before the sleep.
//!
//! # Ordering
//!
//! [`Unparker::unpark`] swaps with Release; the owner takes the token with Acquire: what was
//! written before `unpark` is visible after `park`. An `unpark` that finds a token still is a
//! Release read-modify-write, so its writes are published with the token that is there.

#![forbid(unsafe_code)]

use std::task::Wake;
use std::time::Instant;

use crate::base::sync::atomic::{AtomicUsize, Ordering};
use crate::base::sync::{Arc, Condvar, Mutex};

const EMPTY: usize = 0;
const PARKED: usize = 1;
const NOTIFIED: usize = 2;

/// The sleeping end; stays on its thread.
#[derive(Debug)]
pub(crate) struct Parker {
    unparker: Arc<Unparker>,
}

/// The waking end; shared, and a [`std::task::Wake`].
#[derive(Debug)]
pub(crate) struct Unparker {
    state: AtomicUsize,
    lock: Mutex<()>,
    woken: Condvar,
}

impl Parker {
    pub(crate) fn new() -> Self {
        Self {
            unparker: Arc::new(Unparker {
                state: AtomicUsize::new(EMPTY),
                lock: Mutex::new(()),
                woken: Condvar::new(),
            }),
        }
    }

    pub(crate) fn unparker(&self) -> &Arc<Unparker> {
        &self.unparker
    }

    /// Takes the token if it is here; never sleeps.
    pub(crate) fn take_token(&self) -> bool {
        // Ordering: Acquire pairs with the Release swap in `unpark`.
        self.unparker
            .state
            .compare_exchange(NOTIFIED, EMPTY, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Sleeps until the token comes, and takes it.
    pub(crate) fn park(&self) {
        let _ = self.park_until(None);
    }

    /// Sleeps until the token comes or `deadline` passes; true if it took the token.
    pub(crate) fn park_until(&self, deadline: Option<Instant>) -> bool {
        if self.take_token() {
            return true;
        }
        #[cfg(all(not(loom), any(test, feature = "test-util")))]
        if let Some(took) = crate::base::simulated::park(self, deadline) {
            return took;
        }
        let shared = &*self.unparker;
        let mut guard = shared.lock.lock();
        // Ordering: Acquire on failure pairs with `unpark`: the only other state is NOTIFIED.
        if shared
            .state
            .compare_exchange(EMPTY, PARKED, Ordering::Relaxed, Ordering::Acquire)
            .is_err()
        {
            // Ordering: a swap, not a store: it takes over what later unparks published.
            shared.state.swap(EMPTY, Ordering::Acquire);
            return true;
        }
        loop {
            let timed_out = match deadline {
                None => {
                    shared.woken.wait(&mut guard);
                    false
                }
                Some(deadline) => shared.woken.wait_until(&mut guard, deadline).timed_out(),
            };
            if self.take_token() {
                return true;
            }
            if timed_out {
                // Ordering: Acquire: a token that came just now is taken, not lost.
                return shared.state.swap(EMPTY, Ordering::Acquire) == NOTIFIED;
            }
        }
    }
}

impl Unparker {
    /// Hands over the token and wakes the owner if it sleeps. Never blocks for long: the lock
    /// is held by the owner only between its decision to sleep and the sleep.
    pub(crate) fn unpark(&self) {
        // Ordering: Release publishes the caller's writes, also when a token is here already;
        // pairs with the Acquire in `take_token`.
        if self.state.swap(NOTIFIED, Ordering::Release) == PARKED {
            drop(self.lock.lock());
            self.woken.notify_one();
        }
        #[cfg(all(not(loom), any(test, feature = "test-util")))]
        crate::base::simulated::switch();
    }

    /// Is the token here?
    #[cfg(all(not(loom), any(test, feature = "test-util")))]
    pub(crate) fn has_token(&self) -> bool {
        // Ordering: Acquire, as in `take_token`.
        self.state.load(Ordering::Acquire) == NOTIFIED
    }
}

impl Wake for Unparker {
    fn wake(self: Arc<Self>) {
        self.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.unpark();
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::Parker;
    use std::time::{Duration, Instant};

    #[test]
    fn a_token_given_before_ends_the_next_park_at_once() {
        let parker = Parker::new();
        parker.unparker().unpark();
        parker.unparker().unpark();
        parker.park();
        assert!(!parker.take_token(), "two unparks are one token");
    }

    #[test]
    fn a_deadline_ends_the_park_without_a_token() {
        let parker = Parker::new();
        let deadline = Instant::now() + Duration::from_millis(5);
        assert!(!parker.park_until(Some(deadline)));
        assert!(Instant::now() >= deadline, "never early");
    }

    #[test]
    fn another_thread_ends_the_park() {
        let parker = Parker::new();
        let unparker = parker.unparker().clone();
        let other = std::thread::spawn(move || unparker.unpark());
        parker.park();
        other.join().unwrap();
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::Parker;
    use crate::base::sync::atomic::{AtomicUsize, Ordering};
    use loom::sync::Arc;

    /// Question: can a token be lost, or come without what was written before it?
    ///
    /// Must fail when: the swap in `unpark` is not Release; `take_token` is not Acquire;
    /// `notify_one` is missing; the lock is not passed through.
    #[test]
    fn loom_unpark_races_park() {
        loom::model(|| {
            let parker = Parker::new();
            let data = Arc::new(AtomicUsize::new(0));
            let (unparker, theirs) = (parker.unparker().clone(), data.clone());
            let other = loom::thread::spawn(move || {
                theirs.store(1, Ordering::Relaxed);
                unparker.unpark();
            });
            parker.park();
            assert_eq!(data.load(Ordering::Relaxed), 1);
            other.join().unwrap();
        });
    }
}
