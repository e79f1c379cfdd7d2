//! The contract of event loops, `block_on` and time, seen from outside.

#![cfg(not(loom))]

mod kit;

#[path = "contract_loop/cancels.rs"]
mod cancels;
#[path = "contract_loop/ends.rs"]
mod ends;
#[path = "contract_loop/running.rs"]
mod running;
#[path = "contract_loop/sleeping.rs"]
mod sleeping;
#[path = "contract_loop/waiting.rs"]
mod waiting;
