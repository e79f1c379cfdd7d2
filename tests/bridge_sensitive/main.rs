//! The promises of `portage::bridge`: sync code inside async code inside sync code.
//!
//! Each behaviour of asgiref that is worth keeping has its test here, and so has each of its
//! known hangs (D1 to D14 of our notes), with the better end.
#![cfg(not(loom))]
#![forbid(unsafe_code)]
#![allow(
    clippy::async_yields_async,
    reason = "the handle of a task is what is wanted"
)]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod blocks;
mod cancels;
mod common;
mod contexts;
mod deadlocks;
#[path = "../kit/mod.rs"]
mod kit;
mod loops;
mod routes;
