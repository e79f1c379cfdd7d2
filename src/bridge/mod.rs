//! Four directions between blocking code and async code, and where each call runs.
//!
//! | from  | to    | call                                                                    |
//! |-------|-------|-------------------------------------------------------------------------|
//! | async | sync  | [`fn@sync_to_async`]: on the thread that the sync code belongs to          |
//! | sync  | async | [`fn@async_to_sync`]: on the loop that it came from, or on one of its own  |
//! | any   | sync  | [`fn@exec_in_executor`]: on an executor, with a handle                     |
//! | any   | async | [`exec_in_executor_async`] on an executor, [`fn@lift_to_async`] on the main loop |
//!
//! The first two nest to any depth and keep sync code on one thread: a frame that blocks in
//! [`fn@async_to_sync`] takes the calls that its async code makes back into sync code, through a
//! lane ([`CurrentThreadExecutor`](crate::CurrentThreadExecutor)). Which thread a call gets is
//! decided in one place, in the order of [`Route`]. The context travels along and what it
//! changes flows back ([`ContextMode`]); a cancel follows the same path inwards.
//!
//! * `config`: the process-wide executor and main loop.
//! * `route`: the one documented order; `affinity`: what travels with a context for it.
//! * `harvest`: the way back of context variables.
//! * `answer`: a wait for a loop that may stop. `lone_thread`: strictly one job after another.

#![forbid(unsafe_code)]

mod affinity;
mod answer;
mod async_to_sync;
mod blocks;
mod config;
mod exec_in_executor;
#[cfg(all(test, shuttle))]
mod explored;
mod harvest;
mod lift_to_async;
mod lone_thread;
mod route;
mod sync_to_async;

pub use async_to_sync::{AsyncToSync, async_to_sync};
pub use blocks::{async_single_thread_context, thread_sensitive_context};
pub(crate) use config::configured_executor;
pub use config::{Config, get_main_event_loop, init_config};
pub(crate) use exec_in_executor::async_job;
pub use exec_in_executor::{exec_in_executor, exec_in_executor_async};
pub use harvest::ContextMode;
pub use lift_to_async::lift_to_async;
pub use route::Route;
pub use sync_to_async::{SyncToAsync, SyncToAsyncFuture, sync_to_async};
