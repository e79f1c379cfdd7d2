//! Waits of async code for events: ours by waker, foreign ones in rounds on the pool.

#![forbid(unsafe_code)]

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Poll, Waker};
use std::time::Duration;

use super::Polling;
use super::event::{Event, WaitEvent};
use super::round::{NoThread, round};
use crate::base::sync::Arc;
use crate::time;

/// An event that a thread can wait for; implement it for events of your own.
///
/// [`native`](BlockingEvent::native) is for wrappers around our [`Event`]: it saves the thread.
///
/// # Examples
///
/// ```
/// use portage::block_on;
/// use portage::sync::{BlockingEvent, Polling, await_threading_event};
/// use std::sync::{Arc, Condvar, Mutex};
/// use std::time::Duration;
///
/// #[derive(Default)]
/// struct Flag(Mutex<bool>, Condvar);
///
/// impl BlockingEvent for Flag {
///     fn is_set(&self) -> bool {
///         *self.0.lock().unwrap()
///     }
///     fn wait_timeout(&self, timeout: Duration) -> bool {
///         let set = self.0.lock().unwrap();
///         *self.1.wait_timeout_while(set, timeout, |set| !*set).unwrap().0
///     }
/// }
///
/// let flag = Arc::new(Flag::default());
/// let remote = flag.clone();
/// let setter = std::thread::spawn(move || {
///     *remote.0.lock().unwrap() = true;
///     remote.1.notify_all();
/// });
/// assert!(block_on(await_threading_event(&flag, "flag", None, Polling::default())));
/// # setter.join().unwrap();
/// ```
pub trait BlockingEvent: Send + Sync {
    /// Is it set?
    fn is_set(&self) -> bool;

    /// Blocks the thread until it is set, at most for `timeout`.
    ///
    /// True if it is set.
    fn wait_timeout(&self, timeout: Duration) -> bool;

    /// The event of ours that this is.
    fn native(&self) -> Option<&Event> {
        None
    }
}

impl BlockingEvent for Event {
    fn is_set(&self) -> bool {
        Event::is_set(self)
    }

    fn wait_timeout(&self, timeout: Duration) -> bool {
        Event::wait_timeout(self, timeout)
    }

    fn native(&self) -> Option<&Event> {
        Some(self)
    }
}

/// Waits for an event without blocking the task; true if it is set in time.
///
/// Without a `timeout` it waits as long as it takes, so it only ever gives true. Our own
/// [`Event`] wakes the task, and `polling` plays no part. For a foreign event a pool thread
/// waits: with a `timeout` once for that long, else in rounds as long as `polling` says. A
/// `timeout` of zero looks once. `event_name` names the wait in the reports of the pool.
///
/// # Panics
///
/// With the panic of a foreign event.
///
/// # Cancellation
///
/// Dropping the future ends a wait for our own event at once; a pool thread that waits for a
/// foreign one ends with its round.
///
/// # Examples
///
/// ```
/// use portage::block_on;
/// use portage::sync::{Event, Polling, await_threading_event};
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// let ready = Arc::new(Event::new());
/// let limit = Some(Duration::from_millis(1));
/// let wait = await_threading_event(&ready, "ready", limit, Polling::default());
/// assert!(!block_on(wait));
/// ready.set();
/// assert!(block_on(await_threading_event(&ready, "ready", None, Polling::NoPolling)));
/// ```
#[doc(alias = "event_name")]
pub async fn await_threading_event<E>(
    event: &Arc<E>,
    event_name: &str,
    timeout: Option<Duration>,
    polling: Polling,
) -> bool
where
    E: BlockingEvent + ?Sized + 'static,
{
    match (event.native(), timeout) {
        (_, Some(Duration::ZERO)) => event.is_set(),
        (Some(event), Some(limit)) => time::timeout(limit, event.wait_async()).await.is_ok(),
        (Some(event), None) => {
            event.wait_async().await;
            true
        }
        (None, Some(limit)) => event.is_set() || foreign_within(event, event_name, limit).await,
        (None, None) => {
            foreign(event, event_name, polling).await;
            true
        }
    }
}

/// Waits for an event or a stop; true if the event came first.
///
/// A stop that is already set wins, also over an event that is already set. Later the first
/// one counts: two events of ours are compared by the order in which they were set, and either
/// is seen at once. A foreign one is waited for as in [`await_threading_event`] and seen when
/// its round ends; found set together with the other, the event wins.
///
/// # Panics
///
/// With the panic of a foreign event.
///
/// # Cancellation
///
/// As in [`await_threading_event`].
///
/// # Examples
///
/// ```
/// use portage::block_on;
/// use portage::sync::{Event, Polling, await_event_with_stop};
/// use std::sync::Arc;
///
/// let (work, stop) = (Arc::new(Event::new()), Arc::new(Event::new()));
/// work.set();
/// assert!(block_on(await_event_with_stop(&work, &stop, "work", Polling::default())));
/// stop.set();
/// assert!(!block_on(await_event_with_stop(&work, &stop, "work", Polling::default())));
/// ```
#[doc(alias = "wait_event")]
#[doc(alias = "stop_event")]
#[doc(alias = "wait_event_name")]
pub async fn await_event_with_stop<E, S>(
    wait_event: &Arc<E>,
    stop_event: &Arc<S>,
    wait_event_name: &str,
    polling: Polling,
) -> bool
where
    E: BlockingEvent + ?Sized + 'static,
    S: BlockingEvent + ?Sized + 'static,
{
    // The stop is looked at first, so that none that is set already can be overtaken.
    let stop = Watch::begin(stop_event);
    if stop.is_over() {
        return false;
    }
    let event = Watch::begin(wait_event);
    if event.is_over() {
        return true;
    }
    match (event, stop) {
        (Watch::Native(mut event), Watch::Native(mut stop)) => {
            poll_fn(|cx| {
                let first = first_of(&mut event, &mut stop, cx.waker());
                first.map_or(Poll::Pending, Poll::Ready)
            })
            .await
        }
        (event, stop) => {
            let event = event.reach(wait_event_name, polling);
            let stop = stop.reach("stop", polling);
            let (mut event, mut stop) = (pin!(event), pin!(stop));
            poll_fn(|cx| {
                if event.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(true);
                }
                stop.as_mut().poll(cx).map(|()| false)
            })
            .await
        }
    }
}

/// Is it the event that came first? `None`: neither is set yet; both have the waker.
fn first_of(event: &mut WaitEvent<'_>, stop: &mut WaitEvent<'_>, waker: &Waker) -> Option<bool> {
    let early = event.look(waker);
    let stop = stop.look(waker);
    // Looked at again only where the stop is set: the event may have come before it, yet after
    // the first look. Where no stop was seen, an event seen now might have a stop before it.
    let event = early.or_else(|| stop.and_then(|_| event.look(waker)));
    is_event_first((event, stop))
}

/// Which of two events came first, by the stamps of their sets; `None`: neither is set yet.
fn is_event_first(stamps: (Option<u64>, Option<u64>)) -> Option<bool> {
    match stamps {
        (None, None) => None,
        (Some(_), None) => Some(true),
        (None, Some(_)) => Some(false),
        (Some(event), Some(stop)) => Some(event < stop),
    }
}

/// A wait that has begun.
enum Watch<'a, E: ?Sized> {
    Native(WaitEvent<'a>),
    Foreign(&'a Arc<E>),
}

impl<'a, E: BlockingEvent + ?Sized + 'static> Watch<'a, E> {
    fn begin(event: &'a Arc<E>) -> Self {
        match event.native() {
            Some(event) => Self::Native(event.wait_async()),
            None => Self::Foreign(event),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Native(wait) => wait.released().is_some(),
            Self::Foreign(event) => event.is_set(),
        }
    }

    async fn reach(self, name: &str, polling: Polling) {
        match self {
            Self::Native(wait) => wait.await,
            Self::Foreign(event) => foreign(event, name, polling).await,
        }
    }
}

/// Waits for a foreign event, round after round.
async fn foreign<E>(event: &Arc<E>, name: &str, polling: Polling)
where
    E: BlockingEvent + ?Sized + 'static,
{
    while !event.is_set() {
        match foreign_round(event, name, polling.round()).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(no_thread) => no_thread.rest().await,
        }
    }
}

/// Waits for a foreign event in one round of this length; true if it is set.
async fn foreign_within<E>(event: &Arc<E>, name: &str, limit: Duration) -> bool
where
    E: BlockingEvent + ?Sized + 'static,
{
    let mut over = time::sleep(limit);
    match foreign_round(event, name, limit).await {
        Ok(is_set) => is_set,
        Err(NoThread) => {
            let mut set = pin!(foreign(event, name, Polling::default()));
            poll_fn(|cx| match set.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(true),
                Poll::Pending => Pin::new(&mut over).poll(cx).map(|()| false),
            })
            .await
        }
    }
}

/// Waits for a foreign event once; true if it is set.
async fn foreign_round<E>(event: &Arc<E>, name: &str, limit: Duration) -> Result<bool, NoThread>
where
    E: BlockingEvent + ?Sized + 'static,
{
    let theirs = event.clone();
    let wait = move || theirs.wait_timeout(limit).then_some(());
    let brought = round(format!("event {name}").into(), wait).await?;
    Ok(brought.is_some())
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::is_event_first;

    #[test]
    fn the_smaller_stamp_wins_and_the_stop_a_tie() {
        let table = [
            ((None, None), None),
            ((Some(1), None), Some(true)),
            ((None, Some(1)), Some(false)),
            ((Some(1), Some(2)), Some(true)),
            ((Some(2), Some(1)), Some(false)),
            ((Some(1), Some(1)), Some(false)),
        ];
        for (stamps, expected) in table {
            assert_eq!(is_event_first(stamps), expected, "{stamps:?}");
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::first_of;
    use crate::base::sync::Arc;
    use crate::entered::Parking;
    use crate::sync::Event;
    use loom::thread;

    /// Question: two events are set one after the other; is the first one always told apart,
    /// though it is cleared and set again meanwhile?
    ///
    /// Must fail when: a waiter's stamp is that of a later set; the event is not looked at
    /// again after the stop.
    #[test]
    fn loom_event_first_of_two_is_told_apart() {
        for event_first in [true, false] {
            loom::model(move || {
                let (event, stop) = (Arc::new(Event::new()), Arc::new(Event::new()));
                let mut event_wait = event.wait_async();
                let mut stop_wait = stop.wait_async();
                let (first, second) = if event_first {
                    (event.clone(), stop.clone())
                } else {
                    (stop.clone(), event.clone())
                };
                let setter = thread::spawn(move || {
                    first.set();
                    first.clear();
                    second.set();
                    first.set();
                });
                let parking = Parking::current();
                let mut answer = None;
                let look = || {
                    answer = first_of(&mut event_wait, &mut stop_wait, parking.waker());
                    answer.is_some()
                };
                parking.wait_until(look, None);
                assert_eq!(answer, Some(event_first));
                setter.join().unwrap();
            });
        }
    }
}
