//! A flag that threads and tasks wait for: the flag, and who waits.
//!
//! | the waiter is | in the list | [`Waiter::released`] | its next look        |
//! |---------------|-------------|----------------------|----------------------|
//! | late          | no          | -                    | released at birth    |
//! | waiting       | yes         | `None`               | leaves its waker     |
//! | released      | yes         | the stamp of the set | takes the stamp along |
//!
//! # Invariants
//!
//! 1. Who is in the list when the event is set is released by that very set, whatever
//!    happens to the flag afterwards.
//! 2. While the flag is set nobody in the list is unreleased.
//! 3. Stamps come from one counter for all events: of two sets, one after the other, the
//!    earlier has the smaller stamp. So a race between two events has one answer.
//!
//! Everything is decided under one short lock, which also makes what was done before the set
//! visible to whoever it releases. Wakers are cloned, woken and dropped outside of it.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::base::clock::deadline_after;
use crate::base::contain::{contain, contained_drop, discard};
use crate::base::count::Ticket;
use crate::base::sync::Mutex;
use crate::entered::Parking;

/// A flag that anybody sets or clears, and that threads and tasks wait for.
///
/// Waiting costs no thread and no tick: a task leaves its waker, a thread sleeps. Whoever waits
/// when the event is set is released, even if it is cleared at once.
///
/// # Examples
///
/// ```
/// use portage::{block_on, sync::Event};
/// use std::sync::Arc;
///
/// let event = Arc::new(Event::new());
/// let remote = event.clone();
/// let setter = std::thread::spawn(move || remote.set());
/// block_on(event.wait_async());
/// assert!(event.is_set());
/// # setter.join().expect("the setter ends");
/// ```
#[doc(alias = "threading.Event")]
#[derive(Default)]
pub struct Event {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The stamp of the set that holds.
    set: Option<u64>,
    next_key: u64,
    waiters: BTreeMap<u64, Waiter>,
}

#[derive(Default)]
struct Waiter {
    waker: Option<Waker>,
    released: Option<u64>,
}

/// One order for the sets of all events.
static STAMPS: Ticket = Ticket::new();

impl Event {
    /// An event that is not set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets it and releases everybody who waits.
    ///
    /// # Reentrancy
    ///
    /// Calls the wakers of those who wait, under no lock; their panics are contained.
    pub fn set(&self) {
        let mut wakers = Vec::new();
        {
            let mut state = self.state.lock();
            if state.set.is_some() {
                return;
            }
            let stamp = STAMPS.take(1);
            state.set = Some(stamp);
            for waiter in state.waiters.values_mut() {
                if waiter.released.is_none() {
                    waiter.released = Some(stamp);
                    wakers.extend(waiter.waker.take());
                }
            }
        }
        for waker in wakers {
            if let Err(payload) = contain(|| waker.wake()) {
                discard(payload);
            }
        }
    }

    /// Un-sets it. Whoever was waiting when it was set stays released.
    ///
    /// # Examples
    ///
    /// ```
    /// let event = portage::sync::Event::new();
    /// let waiting = event.wait_async();
    /// event.set();
    /// event.clear();
    /// portage::block_on(waiting); // it was set while this waited
    /// assert!(!event.is_set());
    /// ```
    pub fn clear(&self) {
        self.state.lock().set = None;
    }

    /// Is it set?
    pub fn is_set(&self) -> bool {
        self.state.lock().set.is_some()
    }

    /// Blocks this thread until the event is set.
    ///
    /// # Blocking
    ///
    /// Sleeps; the owner of lanes runs their jobs meanwhile, and a pool whose worker this
    /// thread is makes up for it.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::sync::Event;
    ///
    /// let event = Event::new();
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| event.set());
    ///     event.wait();
    /// });
    /// ```
    pub fn wait(&self) {
        self.wait_until(None);
    }

    /// Blocks this thread until the event is set, at most for `timeout`; zero looks once.
    ///
    /// True if the event released the wait, also when it has been cleared since.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::sync::Event;
    /// use std::time::Duration;
    ///
    /// let event = Event::new();
    /// assert!(!event.wait_timeout(Duration::from_millis(1)));
    /// event.set();
    /// assert!(event.wait_timeout(Duration::ZERO));
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        if timeout.is_zero() {
            return self.is_set();
        }
        self.wait_until(deadline_after(timeout))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        let parking = Parking::current();
        let mut waiting = self.wait_async();
        parking.wait_until(|| waiting.look(parking.waker()).is_some(), deadline)
    }

    /// Waits until the event is set.
    ///
    /// The wait begins with this call: a set between it and the first poll counts.
    ///
    /// # Cancellation
    ///
    /// Dropping the future lets its waker go at once.
    pub fn wait_async(&self) -> WaitEvent<'_> {
        let mut state = self.state.lock();
        let released = state.set;
        let key = match released {
            Some(_) => None,
            None => {
                let key = state.next_key;
                state.next_key += 1;
                state.waiters.insert(key, Waiter::default());
                Some(key)
            }
        };
        WaitEvent {
            event: self,
            key,
            released,
        }
    }

    /// How many wait now.
    fn waiting(&self) -> usize {
        self.state.lock().waiters.len()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("is_set", &self.is_set())
            .field("waiting", &self.waiting())
            .finish()
    }
}

/// Done once the event is set; see [`Event::wait_async`].
#[must_use = "a wait does nothing until it is polled"]
pub struct WaitEvent<'a> {
    event: &'a Event,
    /// Its place in the list.
    key: Option<u64>,
    released: Option<u64>,
}

impl WaitEvent<'_> {
    /// The stamp of the set that released this wait; else leaves `waker`.
    pub(super) fn look(&mut self, waker: &Waker) -> Option<u64> {
        let Some(key) = self.key else {
            return self.released;
        };
        let waker = waker.clone();
        let spare = {
            let mut state = self.event.state.lock();
            let waiter = state.waiters.get_mut(&key);
            let waiter = waiter.expect("a waiter stays in the list until it has seen its release");
            match waiter.released {
                None => waiter.waker.replace(waker),
                Some(stamp) => {
                    state.waiters.remove(&key);
                    self.key = None;
                    self.released = Some(stamp);
                    Some(waker)
                }
            }
        };
        contained_drop(spare);
        self.released
    }

    /// The stamp of the set that released this wait, as far as it has looked.
    pub(super) fn released(&self) -> Option<u64> {
        self.released
    }
}

impl Future for WaitEvent<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.look(cx.waker()) {
            Some(_) => Poll::Ready(()),
            None => Poll::Pending,
        }
    }
}

impl Drop for WaitEvent<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waiter = self.event.state.lock().waiters.remove(&key);
            contained_drop(waiter);
        }
    }
}

impl fmt::Debug for WaitEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitEvent")
            .field("is_released", &self.released.is_some())
            .finish()
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::Event;
    use crate::base::sync::Arc;
    use crate::entered::Parking;
    use loom::sync::Arc as Tracked;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::thread;
    use std::task::Waker;

    /// Question: is a waiter always released by a set, though it is cleared at once, and does
    /// it see what was done before?
    ///
    /// Must fail when: `set` does not release those in the list, or does not wake them; `look`
    /// does not leave its waker, or leaves it under another lock than it looks.
    #[test]
    fn loom_event_set_and_clear_race_wait() {
        loom::model(|| {
            let event = Arc::new(Event::new());
            let data = Tracked::new(AtomicUsize::new(0));
            let (remote, theirs) = (event.clone(), data.clone());
            let mut waiting = event.wait_async();
            let setter = thread::spawn(move || {
                theirs.store(1, Ordering::Relaxed);
                remote.set();
                remote.clear();
            });
            let parking = Parking::current();
            parking.wait_until(|| waiting.look(parking.waker()).is_some(), None);
            assert_eq!(data.load(Ordering::Relaxed), 1);
            setter.join().unwrap();
        });
    }

    /// Question: does a waiter that is dropped while it is released leave anything behind?
    ///
    /// Must fail when: the drop does not take the waiter out of the list.
    #[test]
    fn loom_event_set_races_dropped_wait() {
        loom::model(|| {
            let event = Arc::new(Event::new());
            let kept = Tracked::new(());
            let waker: Waker = waker_fn::waker_fn({
                let kept = kept.clone();
                move || drop(kept.clone())
            });
            let mut waiting = event.wait_async();
            let remote = event.clone();
            let setter = thread::spawn(move || remote.set());
            let _ = waiting.look(&waker);
            drop((waiting, waker));
            setter.join().unwrap();
            assert_eq!(event.waiting(), 0);
            assert_eq!(Tracked::strong_count(&kept), 1);
        });
    }
}
