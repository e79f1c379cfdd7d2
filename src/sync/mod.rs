//! Locks, events and threads that blocking and async code share.
//!
//! | wait for                                   | costs                                      |
//! |--------------------------------------------|--------------------------------------------|
//! | our [`Event`], from a task or a thread     | a waker in a list: no thread, no tick      |
//! | a foreign [`BlockingEvent`], from a task   | a pool thread, in rounds ([`Polling`])     |
//! | a foreign lock, from a task ([`fn@async_lock`]) | nothing if it is free, else as above     |
//!
//! A wait is dropped without a trace at any moment: no lock stays behind, no waker, and no
//! thread beyond the end of its round. Every future here is `Send`.

#![forbid(unsafe_code)]

use std::time::Duration;

mod async_lock;
mod await_event;
mod event;
mod round;
mod thread_with_exception;

pub use async_lock::{NullGuard, async_lock, async_null_context};
pub use await_event::{BlockingEvent, await_event_with_stop, await_threading_event};
pub use event::{Event, WaitEvent};
pub use thread_with_exception::ThreadWithException;

/// How long a pool thread waits for something foreign before it looks around.
///
/// Between two rounds other jobs get the thread, and a wait that was dropped ends. Our own
/// primitives need no rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "polling_timeout")]
pub enum Polling {
    /// Rounds of this length, of a millisecond at least.
    Every(Duration),
    /// One round without an end: a dropped wait keeps its thread until it has succeeded.
    #[doc(alias = "NO_POLLING")]
    NoPolling,
}

impl Default for Polling {
    /// Rounds of 5 s.
    fn default() -> Self {
        Self::Every(Duration::from_secs(5))
    }
}
