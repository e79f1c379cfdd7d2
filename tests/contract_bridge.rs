//! The contract of the bridge between sync and async code, seen from outside.
//!
//! What `init_config` changes belongs to the whole process and is tested in
//! `contract_config.rs`; here nothing is configured.

#![cfg(not(loom))]

mod kit;

#[path = "contract_bridge/cancels.rs"]
mod cancels;
#[path = "contract_bridge/contexts.rs"]
mod contexts;
#[path = "contract_bridge/executors.rs"]
mod executors;
#[path = "contract_bridge/nesting.rs"]
mod nesting;
#[path = "contract_bridge/routes.rs"]
mod routes;

use std::thread::ThreadId;

fn here() -> ThreadId {
    std::thread::current().id()
}
