//! A stream as a blocking iterator: one task drives it, a short queue carries its items.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context as Cx, Poll, Waker};

use futures_core::Stream;

use super::{AsyncExecutor, place};
use crate::base::sync::{Arc, Mutex};
use crate::entered::Parking;
use crate::join_error::JoinError;
use crate::promise::{Awaiting, Awaits, JoinHandle};

/// How many items wait for the consumer unless [`AsyncIter::prefetch`] says otherwise: one is
/// made while the last one is used.
const PREFETCH: usize = 1;

/// The items of a stream, one by one, in blocking code.
///
/// See [`wrap_async_iterable`](super::AsyncExecutorExt::wrap_async_iterable).
#[must_use = "dropping it drops the stream"]
pub struct AsyncIter<T> {
    queue: Arc<Queue<T>>,
    /// The task that drives the stream; `None` once the iteration has ended.
    driver: Option<JoinHandle<()>>,
    /// How it ended, until the items that it made before are taken.
    error: Option<JoinError>,
}

struct Queue<T>(Mutex<State<T>>);

struct State<T> {
    items: VecDeque<T>,
    prefetch: usize,
    started: bool,
    /// The driver has been polled: where it is cancelled from now on, its thread drops the stream.
    driven: bool,
    /// The consumer went away before that: the driver drops the stream when it begins.
    abandoned: bool,
    /// The consumer waits for an item.
    wanted: bool,
    driver: Option<Waker>,
    consumer: Option<Waker>,
}

impl<T> State<T> {
    /// May the stream make another item?
    fn has_room(&self) -> bool {
        self.started && (self.items.len() < self.prefetch || self.wanted && self.items.is_empty())
    }
}

/// Spawns the driver; it waits for the first `next`.
#[track_caller]
pub(super) fn wrap<E, S>(executor: &E, stream: S) -> AsyncIter<S::Item>
where
    E: AsyncExecutor + ?Sized,
    S: Stream + Send + 'static,
    S::Item: Send + 'static,
{
    let queue = Arc::new(Queue(Mutex::new(State {
        items: VecDeque::new(),
        prefetch: PREFETCH,
        started: false,
        driven: false,
        abandoned: false,
        wanted: false,
        driver: None,
        consumer: None,
    })));
    let driver = place::submit(executor, drive(queue.clone(), stream));
    AsyncIter {
        queue,
        driver: Some(driver),
        error: None,
    }
}

/// Makes items while there is room for them.
async fn drive<S: Stream>(queue: Arc<Queue<S::Item>>, stream: S) {
    let mut stream = pin!(stream);
    if !queue.is_wanted() {
        return;
    }
    loop {
        poll_fn(|cx| queue.poll_room(cx)).await;
        match poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
            Some(item) => queue.put(item),
            None => return,
        }
    }
}

impl<T> Queue<T> {
    /// The driver begins: is there still somebody to make items for?
    fn is_wanted(&self) -> bool {
        let mut state = self.0.lock();
        state.driven = true;
        !state.abandoned
    }

    /// The consumer goes away: is the driver to be cancelled? Else it has not begun, and ends as it
    /// does: a cancel would drop the stream here.
    fn abandon(&self) -> bool {
        let mut state = self.0.lock();
        state.abandoned = true;
        state.driven
    }

    fn poll_room(&self, cx: &mut Cx<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let (poll, old) = {
            let mut state = self.0.lock();
            if state.has_room() {
                (Poll::Ready(()), Some(waker))
            } else {
                (Poll::Pending, state.driver.replace(waker))
            }
        };
        drop(old);
        poll
    }

    fn put(&self, item: T) {
        let consumer = {
            let mut state = self.0.lock();
            state.items.push_back(item);
            state.wanted = false;
            state.consumer.take()
        };
        if let Some(consumer) = consumer {
            consumer.wake();
        }
    }

    /// The oldest item; else `consumer` is called when one comes, and the driver is asked.
    fn take(&self, consumer: &Waker) -> Option<T> {
        let consumer = consumer.clone();
        let (item, driver, old) = {
            let mut state = self.0.lock();
            state.started = true;
            let item = state.items.pop_front();
            state.wanted = item.is_none();
            let old = if state.wanted {
                state.consumer.replace(consumer)
            } else {
                Some(consumer)
            };
            let driver = if state.has_room() {
                state.driver.take()
            } else {
                None
            };
            (item, driver, old)
        };
        drop(old);
        if let Some(driver) = driver {
            driver.wake();
        }
        item
    }
}

impl<T> AsyncIter<T> {
    /// Lets at most `items` wait for the consumer; zero makes each one on demand.
    ///
    /// One by default.
    pub fn prefetch(self, items: usize) -> Self {
        self.queue.0.lock().prefetch = items;
        self
    }

    /// How the driver ended, if it has: the end of the iteration, or one error.
    fn ended(&mut self, cx: &mut Cx<'_>) -> Option<Result<(), JoinError>> {
        let driver = self.driver.as_mut()?;
        match Pin::new(driver).poll(cx) {
            Poll::Ready(outcome) => {
                self.driver = None;
                Some(outcome)
            }
            Poll::Pending => None,
        }
    }
}

impl<T> Iterator for AsyncIter<T> {
    type Item = Result<T, JoinError>;

    /// Blocks for the next item.
    fn next(&mut self) -> Option<Result<T, JoinError>> {
        let parking = Parking::current();
        let _awaiting = Awaiting::begin(Awaits::Wait);
        let mut cx = Cx::from_waker(parking.waker());
        let mut found = None;
        let mut looked = false;
        parking.wait_until(
            || {
                if let Some(item) = self.queue.take(parking.waker()) {
                    found = Some(Ok(item));
                    return true;
                }
                if self.driver.is_none() {
                    found = self.error.take().map(Err);
                    return true;
                }
                if let Some(outcome) = self.ended(&mut cx) {
                    // What it made before its end comes first.
                    let item = self.queue.take(parking.waker()).map(Ok);
                    self.error = outcome.err();
                    found = item.or_else(|| self.error.take().map(Err));
                    return true;
                }
                let first_look = !std::mem::replace(&mut looked, true);
                let driver = self.driver.as_ref();
                if first_look && driver.is_some_and(JoinHandle::is_bound_here) {
                    self.driver.take().map(|driver| driver.cancel());
                    found = Some(Err(JoinError::would_deadlock()));
                    return true;
                }
                if first_look {
                    driver.into_iter().for_each(JoinHandle::note_waited_for);
                }
                false
            },
            None,
        );
        found
    }
}

impl<T> Drop for AsyncIter<T> {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            if self.queue.abandon() {
                let _ = driver.cancel();
            }
        }
    }
}

impl<T> fmt::Debug for AsyncIter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.queue.0.lock().items.len();
        f.debug_struct("AsyncIter")
            .field("waiting", &waiting)
            .field("has_ended", &self.driver.is_none())
            .finish()
    }
}
