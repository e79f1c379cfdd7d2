//! The one door to atomics, cells, locks and threads: std and `parking_lot` in a build,
//! loom in a model (`--cfg loom`), shuttle where a whole pool is explored (`--cfg shuttle`).
//!
//! All sides have the same surface: locks without poisoning, a [`Condvar`] that takes
//! `&mut guard`, an [`UnsafeCell`] that is entered through closures. Parkers sleep on a
//! [`BedMutex`] and a [`BedCondvar`], which are std's: a thread that sleeps on them stands in no
//! table of the whole process, where a fork could leave a lock behind. [`Arc`] is std's on all
//! sides: it is shared with [`std::task::Wake`] and trait objects, which loom's cannot be;
//! the reference counts that this crate writes itself are plain atomics and are modelled.
//!
//! loom knows no time: in a model a wait with a timeout waits until it is notified. Under shuttle
//! time passes when `shuttled` says so.

#![forbid(unsafe_code)]
#![allow(
    unused_imports,
    clippy::disallowed_types,
    reason = "this is the door: it names what the rest of the crate may not, for all its users"
)]

#[cfg(not(any(loom, shuttle)))]
mod house {
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) use crate::base::simulated::{condvar::Condvar, thread, thread::join};
    #[cfg(not(any(test, feature = "test-util")))]
    pub(crate) use parking_lot::Condvar;
    pub(crate) use parking_lot::{Mutex, MutexGuard};
    pub(crate) use std::hint;
    pub(crate) use std::sync::{Arc, Weak, atomic};
    use std::sync::{PoisonError, TryLockError};
    #[cfg(not(any(test, feature = "test-util")))]
    pub(crate) use std::thread;
    use std::time::Instant;

    /// Waits for the end of a thread.
    #[cfg(not(any(test, feature = "test-util")))]
    pub(crate) fn join<T>(thread: thread::JoinHandle<T>) -> thread::Result<T> {
        thread.join()
    }

    /// loom's `UnsafeCell` surface over std's; compiles to nothing.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub(crate) fn with<R>(&self, look: impl FnOnce(*const T) -> R) -> R {
            look(self.0.get())
        }

        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, change: impl FnOnce(*mut T) -> R) -> R {
            change(self.0.get())
        }
    }

    /// A thread-local with a constant initial value.
    macro_rules! local {
        ($(#[$meta:meta])* static $name:ident: $type:ty = $init:expr;) => {
            std::thread_local! { $(#[$meta])* static $name: $type = const { $init }; }
        };
    }
    pub(crate) use local;

    /// std's lock with `parking_lot`'s surface; a panic under it poisons nothing.
    #[derive(Debug)]
    pub(crate) struct BedMutex<T>(std::sync::Mutex<T>);

    /// An option, so that [`BedCondvar::wait`] can take `&mut guard` as `parking_lot`'s does.
    #[derive(Debug)]
    pub(crate) struct BedGuard<'a, T>(Option<std::sync::MutexGuard<'a, T>>);

    impl<T> BedMutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::sync::Mutex::new(value))
        }

        #[inline]
        pub(crate) fn lock(&self) -> BedGuard<'_, T> {
            let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            BedGuard(Some(guard))
        }

        pub(crate) fn try_lock(&self) -> Option<BedGuard<'_, T>> {
            match self.0.try_lock() {
                Ok(guard) => Some(BedGuard(Some(guard))),
                Err(TryLockError::Poisoned(poison)) => Some(BedGuard(Some(poison.into_inner()))),
                Err(TryLockError::WouldBlock) => None,
            }
        }
    }

    /// std's condition variable with `parking_lot`'s surface.
    #[derive(Debug)]
    pub(crate) struct BedCondvar(std::sync::Condvar);

    impl BedCondvar {
        pub(crate) const fn new() -> Self {
            Self(std::sync::Condvar::new())
        }

        #[inline]
        pub(crate) fn wait<T>(&self, guard: &mut BedGuard<'_, T>) {
            let held = guard.0.take().expect("only a waiting guard is empty");
            let held = self.0.wait(held);
            guard.0 = Some(held.unwrap_or_else(PoisonError::into_inner));
        }

        #[inline]
        pub(crate) fn wait_until<T>(
            &self,
            guard: &mut BedGuard<'_, T>,
            deadline: Instant,
        ) -> std::sync::WaitTimeoutResult {
            let held = guard.0.take().expect("only a waiting guard is empty");
            let span = deadline.saturating_duration_since(Instant::now());
            let waited = self.0.wait_timeout(held, span);
            let (held, result) = waited.unwrap_or_else(PoisonError::into_inner);
            guard.0 = Some(held);
            result
        }

        #[inline]
        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }
    }
}

#[cfg(loom)]
mod house {
    pub(crate) use {Condvar as BedCondvar, Mutex as BedMutex};

    use std::time::{Duration, Instant};

    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::hint;
    pub(crate) use loom::sync::atomic;
    pub(crate) use loom::thread;
    pub(crate) use std::sync::{Arc, Weak};

    /// Waits for the end of a thread.
    pub(crate) fn join<T>(thread: thread::JoinHandle<T>) -> std::thread::Result<T> {
        thread.join()
    }

    /// `parking_lot`'s `Mutex` surface over loom's.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    /// An option, so that [`Condvar::wait`] can take `&mut guard` as `parking_lot`'s does.
    #[derive(Debug)]
    pub(crate) struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().expect("loom locks are not poisoned")))
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok().map(|guard| MutexGuard(Some(guard)))
        }

        pub(crate) fn into_inner(self) -> T {
            self.0.into_inner().expect("loom locks are not poisoned")
        }
    }

    impl<T> std::ops::Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            self.0.as_ref().expect("only a waiting guard is empty")
        }
    }

    impl<T> std::ops::DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect("only a waiting guard is empty")
        }
    }

    /// Says whether a timed wait ran out; in a model it never does.
    #[derive(Debug)]
    pub(crate) struct WaitTimeoutResult;

    impl WaitTimeoutResult {
        pub(crate) fn timed_out(&self) -> bool {
            false
        }
    }

    /// `parking_lot`'s `Condvar` surface over loom's.
    #[derive(Debug)]
    pub(crate) struct Condvar(loom::sync::Condvar);

    impl Default for Condvar {
        fn default() -> Self {
            Self::new()
        }
    }

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(loom::sync::Condvar::new())
        }

        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let held = guard.0.take().expect("only a waiting guard is empty");
            guard.0 = Some(self.0.wait(held).expect("loom locks are not poisoned"));
        }

        pub(crate) fn wait_for<T>(
            &self,
            guard: &mut MutexGuard<'_, T>,
            _timeout: Duration,
        ) -> WaitTimeoutResult {
            self.wait(guard);
            WaitTimeoutResult
        }

        pub(crate) fn wait_until<T>(
            &self,
            guard: &mut MutexGuard<'_, T>,
            _deadline: Instant,
        ) -> WaitTimeoutResult {
            self.wait(guard);
            WaitTimeoutResult
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    /// A thread-local, one per modelled thread.
    macro_rules! local {
        ($(#[$meta:meta])* static $name:ident: $type:ty = $init:expr;) => {
            loom::thread_local! { $(#[$meta])* static $name: $type = $init; }
        };
    }
    pub(crate) use local;
}

#[cfg(shuttle)]
mod house {
    pub(crate) use crate::base::shuttled::door::{Condvar as BedCondvar, Mutex as BedMutex};
    pub(crate) use crate::base::shuttled::door::{
        Condvar, Mutex, MutexGuard, UnsafeCell, join, local, thread,
    };
    pub(crate) use shuttle::hint;
    pub(crate) use shuttle::sync::atomic;
    pub(crate) use std::sync::{Arc, Weak};
}

pub(crate) use house::{
    Arc, BedCondvar, BedMutex, Condvar, Mutex, MutexGuard, UnsafeCell, Weak, atomic, hint, join,
    local, thread,
};

#[cfg(shuttle)]
pub(crate) use crate::base::shuttled::door::StaticMutex;
/// A lock that may stand in a `static`, also in a model, where it is real and not modelled:
/// only for hooks and registries that no protocol depends on.
#[cfg(not(shuttle))]
pub(crate) use parking_lot::Mutex as StaticMutex;

/// Numbers that may stand in a `static`, also in a model, where they are real and not modelled:
/// only for keys and serials, which publish nothing.
pub(crate) use std::sync::atomic as plain;
