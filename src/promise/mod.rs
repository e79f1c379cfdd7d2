//! One outcome, handed once from whoever brings it about to whoever wants it.
//!
//! [`Promise`] is the writing half, [`JoinHandle`] the reading half; both worlds may read:
//! `.await` it in a task, `.wait()` for it on a thread. Jobs and tasks hand out the same handle.
//!
//! # Who gets what
//!
//! * A handle resolves, always: with the value, or with a [`JoinError`](crate::JoinError) that
//!   says why there is none. A promise that is dropped unresolved resolves it `is_lost`.
//! * The outcome is taken once: by `.await`, `wait`, `try_take`, or the first link of a chain. A
//!   second take gives an error that says so.
//! * Dropping a handle detaches; it never cancels. An outcome that then has no reader is
//!   dropped by the thread that brings it about, after a failure was reported.
//! * A result flows down a chain and a cancel flows up, each at most once, without recursion.
//!
//! # Order at the end
//!
//! The closure or future is dropped, the outcome becomes visible, the awaiting task or waiting
//! thread is woken, the callbacks run in the order of their registration. What callbacks set
//! off on the same thread runs after them.

#![forbid(unsafe_code)]

mod awaited;
mod chain;
mod handle;
mod help;
mod unhandled;
mod wait;
mod wrapper;
mod writer;

pub use crate::task::{Cancel, Completion, TaskId, Unhandled, UnhandledHook, set_unhandled_hook};
pub use chain::chain_future_results;
pub use handle::{CancelHandle, JoinHandle};
pub use unhandled::handle_future_exception;
pub use wrapper::FutureWrapper;
pub use writer::{Cancelled, Promise, promise};

pub(crate) use awaited::{Awaiting, Awaits, awaits_work, run_awaited, waited_for_work};
pub(crate) use help::run_for_another;
