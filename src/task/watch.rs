//! Who is told of a task's end: the reader, by its waker, and any number of callbacks.
//!
//! The waker has a place in the header, and the word says whose that is:
//!
//! | word              | the waker's place is                            |
//! |-------------------|-------------------------------------------------|
//! | neither           | the reader's                                    |
//! | `WAITS`           | nobody's; the reader moves to have it back      |
//! | `LENT`            | of the one who set it, to call the waker early  |
//! | `WAITS` and `DONE` | the publisher's, whose move met `WAITS`        |
//!
//! The callbacks are in a list behind a lock that is held for a few instructions; the word says
//! whether there is a list to look at. A party registers under the lock and then sets `WATCHED`.
//! If that move finds `DONE` without an earlier `WATCHED`, the completer has not seen the list and
//! never will, so the party serves itself; in every other case the completer finds it.

#![forbid(unsafe_code)]

use std::fmt;

use super::cell::TaskRef;
use super::schedule::Completion;

/// What runs when a task has ended.
pub(crate) enum Callback {
    /// A user's closure.
    Call(Box<dyn FnOnce(Completion) + Send>),
    /// The next job of a chain.
    Next(TaskRef),
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Call(_) => "Call(<closure>)",
            Self::Next(_) => "Next",
        })
    }
}

/// The list.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    #[allow(
        clippy::box_collection,
        reason = "one word in every cell, for what most cells do not have"
    )]
    callbacks: Option<Box<Vec<Callback>>>,
}

impl Watchers {
    pub(super) fn add(&mut self, callback: Callback) {
        self.callbacks.get_or_insert_default().push(callback);
    }

    pub(super) fn take_callbacks(&mut self) -> Vec<Callback> {
        self.callbacks.take().map_or_else(Vec::new, |list| *list)
    }
}
