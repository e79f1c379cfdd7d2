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
//! Before it enters `PARKED` the owner may look for the token for a moment, still `EMPTY`
//! ([`patience`](crate::base::patience)). That only puts the step off, so models, explorations and
//! simulations go without it.
//!
//! # Ordering
//!
//! [`Unparker::unpark`] swaps with Release; the owner takes the token with Acquire: what was
//! written before `unpark` is visible after `park`. An `unpark` that finds a token still is a
//! Release read-modify-write, so its writes are published with the token that is there.

#![forbid(unsafe_code)]

#[cfg(not(any(loom, shuttle)))]
use std::cell::Cell;
use std::task::Wake;
use std::time::{Duration, Instant};

#[cfg(not(any(loom, shuttle)))]
use crate::base::cpus;
use crate::base::fork;
#[cfg(not(any(loom, shuttle)))]
use crate::base::patience::Patience;
use crate::base::sync::atomic::{AtomicUsize, Ordering};
use crate::base::sync::plain::AtomicU64;
use crate::base::sync::{Arc, BedCondvar, BedMutex};
#[cfg(not(any(loom, shuttle)))]
use crate::base::sync::{hint, local};

const EMPTY: usize = 0;
const PARKED: usize = 1;
const NOTIFIED: usize = 2;

/// How long a sleep is whose lock was left behind by a fork.
const NAP: Duration = Duration::from_millis(1);

/// So often it looks for the token between two looks at the clock.
#[cfg(not(any(loom, shuttle)))]
const LOOKS: u32 = 10;

#[cfg(not(any(loom, shuttle)))]
local! {
    /// Has this thread handed a token to another since its last wait?
    static HAS_WOKEN: Cell<bool> = Cell::new(false);
}

/// The sleeping end; stays on its thread.
#[derive(Debug)]
pub(crate) struct Parker {
    unparker: Arc<Unparker>,
    #[cfg(not(any(loom, shuttle)))]
    patience: Cell<Patience>,
}

/// The waking end; shared, and a [`std::task::Wake`].
#[derive(Debug)]
pub(crate) struct Unparker {
    state: AtomicUsize,
    lock: BedMutex<()>,
    woken: BedCondvar,
    /// The [generation](fork::generation) of the process that has slept here, or made it.
    /// Relaxed: it changes in a forked child alone, by the owner, before it is `PARKED`.
    generation: AtomicU64,
}

impl Parker {
    pub(crate) fn new() -> Self {
        // For the first time here, as that reads files, and not before a sleep.
        #[cfg(not(any(loom, shuttle)))]
        let _ = cpus::are_several();
        Self {
            #[cfg(not(any(loom, shuttle)))]
            patience: Cell::new(Patience::new()),
            unparker: Arc::new(Unparker {
                state: AtomicUsize::new(EMPTY),
                lock: BedMutex::new(()),
                woken: BedCondvar::new(),
                generation: AtomicU64::new(fork::generation()),
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
        if !shared.is_of_this_process() && !shared.take_over() {
            return self.nap_until(deadline);
        }
        #[cfg(not(any(loom, shuttle)))]
        if self.finds_token(deadline) {
            return true;
        }
        let mut guard = shared.lock.lock();
        // Ordering: Relaxed: on failure the state is NOTIFIED, and the swap takes the token.
        if shared
            .state
            .compare_exchange(EMPTY, PARKED, Ordering::Relaxed, Ordering::Relaxed)
            .is_err()
        {
            // Ordering: Acquire pairs with `unpark`; a swap, not a store: it takes over what later
            // unparks published.
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
                // Ordering: Acquire, as in `take_token`: a token that came just now is taken, not
                // lost. In no model does time pass.
                return shared.state.swap(EMPTY, Ordering::Acquire) == NOTIFIED;
            }
        }
    }

    /// Looks for the token for as long as its [patience](crate::base::patience) allows; true if
    /// it took it. Not if that could last until the deadline.
    #[cfg(not(any(loom, shuttle)))]
    fn finds_token(&self, deadline: Option<Instant>) -> bool {
        if !HAS_WOKEN.replace(false) || !cpus::are_several() {
            return false;
        }
        let patience = self.patience.get();
        let span = patience.span();
        if span.is_zero() {
            self.patience.set(patience.slept());
            return false;
        }
        let start = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= start + span) {
            return false;
        }
        let found = self.looks_until(start + span);
        self.patience.set(patience.looked(start.elapsed(), found));
        found
    }

    /// True if it took the token before `end`.
    #[cfg(not(any(loom, shuttle)))]
    fn looks_until(&self, end: Instant) -> bool {
        loop {
            for _ in 0..LOOKS {
                hint::spin_loop();
                // Ordering: Relaxed: `take_token` acquires it.
                if self.unparker.state.load(Ordering::Relaxed) == NOTIFIED {
                    return self.take_token();
                }
            }
            if Instant::now() >= end {
                return false;
            }
        }
    }

    /// [`Parker::park_until`] without the lock, which nobody will ever open.
    #[cold]
    fn nap_until(&self, deadline: Option<Instant>) -> bool {
        let (lock, never) = (BedMutex::new(()), BedCondvar::new());
        loop {
            if self.take_token() {
                return true;
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return false;
            }
            let end = deadline.map_or(now + NAP, |deadline| deadline.min(now + NAP));
            let _ = never.wait_until(&mut lock.lock(), end);
        }
    }
}

impl Unparker {
    /// Hands over the token and wakes the owner if it sleeps. Never blocks for long: the lock
    /// is held by the owner only between its decision to sleep and the sleep.
    pub(crate) fn unpark(&self) {
        #[cfg(not(any(loom, shuttle)))]
        HAS_WOKEN.set(true);
        // Ordering: Release publishes the caller's writes, also when a token is here already;
        // pairs with the Acquire in `take_token`.
        if self.state.swap(NOTIFIED, Ordering::Release) == PARKED && self.is_of_this_process() {
            drop(self.lock.lock());
            self.woken.notify_one();
        }
        #[cfg(all(not(loom), any(test, feature = "test-util")))]
        crate::base::simulated::switch();
    }

    /// No fork has left behind who sleeps here, and whoever held the lock.
    fn is_of_this_process(&self) -> bool {
        // Ordering: Relaxed: see the field.
        self.generation.load(Ordering::Relaxed) == fork::generation()
    }

    /// The owner is the thread that forked. False if the lock was left behind: nobody in this
    /// process takes it before the owner does.
    #[cold]
    fn take_over(&self) -> bool {
        let is_free = self.lock.try_lock().is_some();
        if is_free {
            // Ordering: Relaxed: see the field.
            self.generation.store(fork::generation(), Ordering::Relaxed);
        }
        is_free
    }

    /// Is the token here?
    #[cfg(all(not(loom), any(test, feature = "test-util")))]
    pub(crate) fn has_token(&self) -> bool {
        // Ordering: Acquire, as in `take_token`; no model is built with this.
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
    use super::{HAS_WOKEN, PARKED, Parker};
    use crate::base::cpus;
    use crate::base::patience::Patience;
    use crate::base::sync::atomic::Ordering;
    use std::sync::Barrier;
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

    #[test]
    fn a_token_that_comes_during_a_look_is_taken_without_a_sleep() {
        let (parker, both) = (Parker::new(), Barrier::new(2));
        let unparker = parker.unparker().clone();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                both.wait();
                assert_ne!(unparker.state.load(Ordering::Relaxed), PARKED);
                unparker.unpark();
            });
            both.wait();
            assert!(parker.looks_until(Instant::now() + Duration::from_secs(20)));
        });
        assert!(!parker.take_token(), "it was taken once");
    }

    #[test]
    fn who_has_woken_another_looks_and_once_only() {
        let (parker, other) = (Parker::new(), Parker::new());
        let soon = || Some(Instant::now() + Duration::from_millis(2));
        let keen = std::iter::successors(Some(Patience::new()), |patience| Some(patience.slept()))
            .find(|patience| patience.span() > Duration::from_micros(20))
            .expect("who sleeps saves");
        parker.patience.set(keen);
        HAS_WOKEN.set(false);
        assert!(!parker.park_until(soon()));
        assert_eq!(parker.patience.get(), keen, "it did not look");
        other.unparker().unpark();
        assert!(!parker.park_until(Some(Instant::now())));
        assert_eq!(parker.patience.get(), keen, "the deadline is nearer");
        other.unparker().unpark();
        assert!(!parker.park_until(soon()));
        let looked = parker.patience.get();
        assert_eq!(looked != keen, cpus::are_several());
        assert!(!parker.park_until(soon()));
        assert_eq!(parker.patience.get(), looked, "nobody was woken since");
    }

    /// What a child would see whose parent was at generation `of`.
    fn forked(of: u64) -> Parker {
        let parker = Parker::new();
        parker.unparker.generation.store(of, Ordering::Relaxed);
        parker
    }

    #[test]
    fn the_thread_that_forked_takes_its_parker_over() {
        let parker = forked(u64::MAX);
        assert!(!parker.park_until(Some(Instant::now() + Duration::from_millis(1))));
        assert!(parker.unparker.is_of_this_process());
    }

    #[test]
    fn a_lock_that_was_left_behind_keeps_nobody() {
        let parker = forked(u64::MAX);
        let held = parker.unparker.lock.lock();
        assert!(!parker.park_until(Some(Instant::now() + Duration::from_millis(5))));
        let unparker = parker.unparker().clone();
        let other = std::thread::spawn(move || {
            // Either order must do; no state tells when the nap begins that this is to fall into.
            std::thread::sleep(Duration::from_millis(2));
            unparker.unpark();
        });
        parker.park();
        other.join().unwrap();
        // who was left behind asleep is not woken: that would take its lock
        parker.unparker.state.store(PARKED, Ordering::Relaxed);
        parker.unparker.unpark();
        drop(held);
    }

    #[test]
    fn a_panic_under_the_lock_harms_nobody() {
        let parker = Parker::new();
        let unparker = parker.unparker().clone();
        let other = std::thread::spawn(move || {
            let _held = unparker.lock.lock();
            std::panic::resume_unwind(Box::new("under the lock"));
        });
        other.join().unwrap_err();
        assert!(!parker.park_until(Some(Instant::now() + Duration::from_millis(1))));
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
