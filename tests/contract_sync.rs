//! The contract of `sync`: locks and events shared by blocking threads and async tasks, and
//! threads that give their panic back.

#![cfg(not(loom))]

mod kit;

#[path = "contract_sync/events.rs"]
mod events;
#[path = "contract_sync/locks.rs"]
mod locks;
#[path = "contract_sync/threads.rs"]
mod threads;
