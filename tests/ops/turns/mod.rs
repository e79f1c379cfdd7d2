//! Programs that run in a simulation: the first half of the bytes is the program, the second
//! half decides who goes when. What one of them finds is found again by the same bytes.

#![allow(
    dead_code,
    unreachable_pub,
    unused_qualifications,
    clippy::duplicate_mod,
    clippy::unwrap_used,
    reason = "a crate of its own for the fuzzer, a module for the tests"
)]

pub mod cancel;
pub mod current_thread;
pub mod queue;
pub mod timer;

use std::time::Duration;

use portage::{block_on, simulation, time};

use super::ops;
use super::ops::account::{Account, Mark, Ticket};
use super::ops::{Bytes, must};

/// Runs `play` in a simulation.
fn in_turns(data: &[u8], play: fn(&mut Bytes<'_>)) {
    let (program, choices) = data.split_at(data.len().div_ceil(2));
    let program = program.to_vec();
    let outcome = simulation::run(choices, move || play(&mut Bytes::new(&program)));
    if let Err(fault) = outcome {
        panic!("{fault}");
    }
}

/// The programs of `pool_real`, here with every choice made by the bytes.
pub fn program(data: &[u8]) {
    in_turns(data, |bytes| ops::program::play(bytes, nap));
}

/// Blocks this thread for a time of the simulation.
fn nap(time: Duration) {
    block_on(time::sleep(time));
}

/// A time of at most a quarter of a millisecond.
fn short(bytes: &mut Bytes<'_>) -> Duration {
    Duration::from_micros(bytes.operand() as u64)
}
