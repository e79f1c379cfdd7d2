//! Carries work between blocking threads and async tasks.

#![deny(unsafe_op_in_unsafe_fn)]

mod base;

pub mod context;
mod deferred;
mod entered;
mod join_error;
mod timer;

pub mod promise;
mod task;

pub mod cancel;
pub mod error;
pub mod executor;
mod idle;
mod queue;
mod spawn;

pub mod current_thread;
pub mod event_loop;
pub mod pool;

pub mod bridge;
pub mod execution_queue;
pub mod executors;
pub mod sync;
pub mod time;

pub use context::{Context, ContextVar, copy_context};
pub use current_thread::CurrentThreadExecutor;
pub use error::{JoinError, SubmitError};
pub use event_loop::{EventLoop, LoopHandle, block_on};
pub use executor::{Executor, ExecutorExt, Job};
pub use pool::ThreadPool;
pub use promise::{JoinHandle, Promise, promise};
