//! shuttle's primitives with the surface of the door.
//!
//! A wait with a deadline is what shuttle has not: there it never ends by itself. Here the waiter
//! tells the [`dice`](super::dice), and stands where it can go on; who is chosen without a
//! notice has slept until its deadline.

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_types,
    reason = "this is the door's other side, which names what the crate may not"
)]

use std::cell::Cell;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::base::shuttled::with;

pub(crate) use shuttle::thread;

/// Waits for the end of a thread.
pub(crate) fn join<T>(thread: thread::JoinHandle<T>) -> thread::Result<T> {
    thread.join()
}

/// `parking_lot`'s `Mutex` surface.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

/// An option, so that [`Condvar::wait`] can take `&mut guard` as `parking_lot`'s does.
#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T>(Option<shuttle::sync::MutexGuard<'a, T>>, &'a Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        MutexGuard(Some(guard), self)
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        use std::sync::TryLockError::{Poisoned, WouldBlock};
        match self.0.try_lock() {
            Ok(guard) => Some(MutexGuard(Some(guard), self)),
            Err(Poisoned(poison)) => Some(MutexGuard(Some(poison.into_inner()), self)),
            Err(WouldBlock) => None,
        }
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
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

/// Says whether a timed wait ran out.
#[derive(Debug)]
pub(crate) struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn timed_out(&self) -> bool {
        self.0
    }
}

/// `parking_lot`'s `Condvar` surface. A notice lets all who wait with a deadline look again, and
/// one of the others.
#[derive(Debug, Default)]
pub(crate) struct Condvar {
    real: shuttle::sync::Condvar,
    /// shuttle's tasks that wait with a deadline; never locked across a switch.
    timed: std::sync::Mutex<Vec<usize>>,
}

impl Condvar {
    pub(crate) const fn new() -> Self {
        Self {
            real: shuttle::sync::Condvar::new(),
            timed: std::sync::Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.0.take().expect("only a waiting guard is empty");
        let held = self.real.wait(held);
        guard.0 = Some(held.unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn wait_for<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        timeout: Duration,
    ) -> WaitTimeoutResult {
        self.wait_until(guard, crate::base::clock::now() + timeout)
    }

    pub(crate) fn wait_until<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        deadline: Instant,
    ) -> WaitTimeoutResult {
        let me = usize::from(shuttle::current::me());
        // The thread may change before the lock is free, and not between that and the sleep.
        drop(guard.0.take());
        self.timed().push(me);
        let _ = with(|world| world.sleepers.insert(me, deadline));
        thread::yield_now();
        // Whoever notified has taken it out of the list.
        let listed = self.timed().iter().position(|waiter| *waiter == me);
        let timed_out = listed.is_some();
        if let Some(at) = listed {
            self.timed().swap_remove(at);
            let _ = with(|world| {
                world.sleepers.remove(&me);
                world.reach(deadline);
            });
        }
        guard.0 = guard.1.lock().0.take();
        WaitTimeoutResult(timed_out)
    }

    fn timed(&self) -> std::sync::MutexGuard<'_, Vec<usize>> {
        self.timed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn notify_one(&self) {
        // A switch, then the notice.
        self.real.notify_one();
        self.wake_timed();
    }

    pub(crate) fn notify_all(&self) {
        self.real.notify_all();
        self.wake_timed();
    }

    fn wake_timed(&self) {
        for waiter in self.timed().drain(..) {
            let _ = with(|world| world.sleepers.remove(&waiter));
        }
    }
}

/// The surface of the door's `UnsafeCell`. Lets others run while somebody is inside, and fails
/// where that makes a race.
#[derive(Debug)]
pub(crate) struct UnsafeCell<T> {
    value: std::cell::UnsafeCell<T>,
    /// Readers, or minus one for a writer.
    inside: Cell<isize>,
}

/// Takes back what somebody who goes into a cell has put there.
struct Leaves<'a>(&'a Cell<isize>, isize);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + self.1);
    }
}

impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            value: std::cell::UnsafeCell::new(value),
            inside: Cell::new(0),
        }
    }

    pub(crate) fn with<R>(&self, look: impl FnOnce(*const T) -> R) -> R {
        let readers = self.inside.get();
        assert!(readers >= 0, "a cell is read while it is written");
        self.inside.set(readers + 1);
        let _inside = Leaves(&self.inside, -1);
        switch();
        look(self.value.get())
    }

    pub(crate) fn with_mut<R>(&self, change: impl FnOnce(*mut T) -> R) -> R {
        assert_eq!(self.inside.get(), 0, "a cell in use is written");
        self.inside.set(-1);
        let _inside = Leaves(&self.inside, 1);
        switch();
        change(self.value.get())
    }
}

/// Another thread may go on.
fn switch() {
    thread::sleep(Duration::ZERO);
}

/// A lock that may stand in a `static`, whose state outlives a run.
#[derive(Debug, Default)]
pub(crate) struct StaticMutex<T>(parking_lot::Mutex<T>);

impl<T> StaticMutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(parking_lot::const_mutex(value))
    }

    /// Never sleeps with the one thread of the system that all threads of a run are on.
    pub(crate) fn lock(&self) -> parking_lot::MutexGuard<'_, T> {
        loop {
            if let Some(guard) = self.0.try_lock() {
                return guard;
            }
            thread::yield_now();
        }
    }
}

/// A thread-local, one per thread of a run.
macro_rules! local {
    ($(#[$meta:meta])* static $name:ident: $type:ty = $init:expr;) => {
        shuttle::thread_local! { $(#[$meta])* static $name: $type = $init; }
    };
}
pub(crate) use local;
