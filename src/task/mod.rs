//! One piece of work, many hands, one word.
//!
//! A task is a block of memory with a closure or a future in it, later its outcome, and the
//! waker and callbacks of those who wait. A promise is the same block without work. Every
//! party that competes for it (worker, joiner in the worker's place, canceller, waker, reader,
//! whoever drops the last reference) makes one move on one atomic word, the
//! [`state`], and then does the duty that the move gave it.
//!
//! # Phases
//!
//! | phase      | word                                   | work and context | slot      |
//! |------------|----------------------------------------|------------------|-----------|
//! | unclaimed  | none of `STARTED`, `PREVENTED`, `DONE` | nobody's         | empty     |
//! | running    | `RUNNING`                              | its runner's     | its runner's |
//! | suspended  | `STARTED`, not `RUNNING`               | nobody's         | empty     |
//! | prevented  | `PREVENTED`                            | the canceller's with `RUNNING`, else its own thread's | empty |
//! | done       | `DONE`                                 | gone; with `WORK` its own thread's | the reader's; with `TAKEN` its taker's |
//!
//! A promise that is written has no `RUNNING` phase: its one writer fills the slot and then
//! publishes, and takes the value back out if a canceller was first.
//!
//! # Invariants
//!
//! 1. A cell is freed by the party that finds itself the last holder; the drivers together are
//!    one holder. So each reference may use the header until it gives itself up.
//! 2. `RUNNING` is set by one move and cleared by its owner alone, with the move that suspends
//!    or publishes. So the work and the context have one owner at a time.
//! 3. `DONE` is set once, after the work is dropped (or left to its thread, with `WORK`) and
//!    the slot is filled. Only then are wakers and callbacks called, but for the waker of a reader
//!    that helps, which `LENT` lets be called early.
//! 4. The slot is moved out by the party whose move set `TAKEN`. A failure is moved out under
//!    the watchers' lock, so that a reporter that saw no `TAKEN` under that lock may read it.
//! 5. Work that is bound to a thread (`is_far`) is run and dropped on that thread. What cannot
//!    get there any more is leaked, never dropped elsewhere.
//! 6. No user code runs with a lock held: not the work, not a waker's `clone`, `wake` or `drop`,
//!    not a callback, not a destructor. Panics of all of them are contained; but a reader's own
//!    waker may unwind into that reader's poll.
//! 7. The place of the reader's waker has one owner at a time, as `WAITS`, `LENT` and `DONE` say
//!    ([`watch`]).
//!
//! # Ordering
//!
//! Each move is an AcqRel compare-exchange, or a store by the one party that is left: what a party
//! wrote before its move is visible to every party that moves after it. In particular: the
//! spawner's writes to the runner, the waker's writes to the next poll (a redundant wake is a move
//! too), the runner's writes to the reader.
//!
//! Modelled in `models`. Not here: queues, threads, and what public handles look like
//! ([`promise`](mod@crate::promise)).

mod block;
mod cell;
mod control;
mod current;
mod duty;
mod end;
mod id;
mod make;
#[cfg(all(test, loom))]
mod models;
mod place;
mod reader;
mod run;
mod runner;
mod schedule;
mod side;
mod span;
mod state;
mod typed;
mod unhandled;
mod waker;
mod watch;
mod word;

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

pub use control::Cancel;
pub use id::TaskId;
pub use schedule::Completion;
pub use unhandled::{Unhandled, UnhandledHook, set_unhandled_hook};

pub(crate) use block::jobs;
pub(crate) use cell::{Hold, TaskRef};
pub(crate) use current::{
    innermost, is_any_running_of, is_anything_running, is_cancelled, is_polled_here,
    is_running_here, running, running_of,
};
pub(crate) use make::{
    Spawned, Writer, derived_job, driving_job, future, job, late_job, local, promise, remote,
};
pub(crate) use place::Place;
pub(crate) use reader::Reader;
pub(crate) use runner::Runner;
pub(crate) use schedule::{Ended, Home, Schedule, Waits, WakeKind};
pub(crate) use side::{Chain, Driving, Origin, Settle};
pub(crate) use unhandled::{report_failure, report_panic_of, report_stray_panic, text_of};
pub(crate) use watch::Callback;
