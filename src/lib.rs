//! Carries work between blocking threads and async tasks, both ways, without an async runtime.
//!
//! * A [`ThreadPool`] runs blocking jobs and async tasks. It steals work, and it grows when its
//!   threads are asleep, not when they are busy.
//! * An [`EventLoop`] drives futures on one thread; any thread can have one.
//! * A [`CurrentThreadExecutor`] runs other threads' closures on the thread that made it.
//! * One [`JoinHandle`] serves both worlds: `.await` it in a task, `.wait()` for it on a thread.
//! * A [`ContextVar`] travels with the work, by one pointer.
//! * The [`bridge`] joins them: blocking code calls async code and the other way round, at any
//!   depth, on the thread that each of them needs.
//!
//! ```
//! use portage::{EventLoop, ThreadPool};
//!
//! let pool = ThreadPool::builder().core_threads(2).build()?;
//! let sum = EventLoop::new().run_until_complete(async {
//!     let halves = [pool.spawn_blocking(|| 20), pool.spawn_blocking(|| 22)];
//!     let mut sum = 0;
//!     for half in halves {
//!         sum += half.await?; // the loop goes on while a worker works
//!     }
//!     Ok::<i32, portage::JoinError>(sum)
//! })??;
//! assert_eq!(sum, 42);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What holds everywhere
//!
//! * Every handle resolves: with a value, a panic, a cancel, a shutdown, or as lost. No path
//!   leaves a waiter hanging, and a wait that only the waiting thread could end is an error.
//! * User code never runs under a lock or borrow of ours, and its panics kill no worker, loop or
//!   lane.
//! * Work runs, and is dropped, inside the [`Context`] in which it was submitted.
//! * Everything works from threads that the crate did not start, and under foreign runtimes.
//! * Nothing polls on a timer to find out what it could be told. An idle pool, loop or lane uses
//!   no CPU.
//! * A child that was forked while threads were at work gets errors from what they had, starts
//!   none itself, and hangs nowhere that we can tell.
//!
//! # What it is not
//!
//! There is no I/O reactor: sockets belong to a runtime, whose tasks can await our handles. It
//! does not split slices or iterators: that is rayon's.
//!
//! # Where to go
//!
//! [`pool`], [`event_loop`] and [`time`], [`current_thread`], [`mod@promise`], [`context`],
//! [`cancel`], [`executor`], [`bridge`], [`execution_queue`], [`executors`], [`sync`], [`error`].
//! Guides: [coming from Python](guide::from_python), [from tokio](guide::from_tokio),
//! [which thread runs what](guide::which_thread), [what things cost](guide::cost).
//!
//! # Features
//!
//! * `tracing` (off): the span that is current where work is submitted is entered around every
//!   run, poll and drop of it.
//! * `test-util` (off): the module `simulation`, with which a test runs a program in an order that
//!   a seed decides. It changes nothing outside of a simulation; for `[dev-dependencies]`.

#![deny(unsafe_op_in_unsafe_fn)]

// the programs of the fuzz targets name the crate as everybody does
#[cfg(all(test, not(any(loom, shuttle))))]
extern crate self as portage;

mod base;

pub mod context;
mod deferred;
mod entered;
mod join_error;
mod lost;
mod timer;

pub mod promise;
mod task;

pub mod cancel;
pub mod error;
pub mod executor;
mod frame;
mod idle;
mod queue;
mod spawn;

pub mod current_thread;
pub mod event_loop;
pub mod pool;

pub mod bridge;
pub mod execution_queue;
pub mod executors;
#[cfg(all(not(any(loom, shuttle)), any(test, feature = "test-util")))]
pub mod simulation;
pub mod sync;
pub mod time;

/// Guides for newcomers.
#[cfg(any(doc, doctest))]
pub mod guide {
    #[doc = include_str!("../docs/from_python.md")]
    pub mod from_python {}
    #[doc = include_str!("../docs/from_tokio.md")]
    pub mod from_tokio {}
    #[doc = include_str!("../docs/which_thread.md")]
    pub mod which_thread {}
    #[doc = include_str!("../docs/cost.md")]
    pub mod cost {}
}

pub use context::{Context, ContextVar, copy_context};
pub use current_thread::CurrentThreadExecutor;
pub use error::{JoinError, SubmitError};
pub use event_loop::{EventLoop, LoopHandle, block_on};
pub use executor::{Executor, ExecutorExt, Job};
pub use pool::ThreadPool;
pub use promise::{JoinHandle, Promise, promise};

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
