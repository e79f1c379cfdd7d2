//! The contract of promises and handles, seen from outside: no pool, no loop, plain threads.

#![cfg(not(loom))]

mod kit;

#[path = "promise/callbacks.rs"]
mod callbacks;
#[path = "promise/chains.rs"]
mod chains;
#[path = "promise/long_chains.rs"]
mod long_chains;
#[path = "promise/reading.rs"]
mod reading;
#[path = "promise/reports.rs"]
mod reports;
#[path = "promise/writing.rs"]
mod writing;
