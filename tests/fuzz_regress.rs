//! Replays the stored inputs of every fuzz target, and some thousand made ones.
//!
//! The targets of `fuzz/` run the same code. A program on a real pool depends on timing: what
//! failed once is stored and run often. Those that run in a simulation are replayed by
//! `src/simulation/replay.rs`.
#![cfg(not(loom))]
#![allow(
    unreachable_pub,
    reason = "the operations are a crate of their own for the fuzzer"
)]

mod kit;
mod ops;

use kit::watchdog;
use ops::stored::{made, made_ones, stored};

fn quiet() {
    let _ = portage::promise::set_unhandled_hook(Box::new(|_| ()));
}

#[test]
fn chain_holds_on_stored_and_made_programs() {
    let _dog = watchdog(120);
    quiet();
    for (name, data) in stored("chain") {
        eprintln!("{name}");
        ops::chain::run(&data);
    }
    for seed in 0..made_ones(3_000) {
        // a panic names the program that failed
        eprintln!("seed {seed}");
        ops::chain::run(&made(seed, 64));
    }
}

#[test]
fn contexts_agree_with_maps_on_stored_and_made_programs() {
    let _dog = watchdog(120);
    quiet();
    for (name, data) in stored("context") {
        eprintln!("{name}");
        ops::context::run(&data);
    }
    for seed in 0..made_ones(1_000) {
        eprintln!("seed {seed}");
        ops::context::run(&made(seed, 96));
    }
    // a context of many variables is a tree, one of few is a leaf
    for seed in 0..made_ones(15) {
        for vars in [3, 40] {
            eprintln!("seed {seed}, {vars} variables");
            ops::context::run_with(vars, &made(seed, 600));
        }
    }
}

#[test]
fn programs_on_a_real_pool_hold_on_stored_and_made_bytes() {
    let _dog = watchdog(240);
    quiet();
    for (name, data) in stored("pool_real") {
        eprintln!("{name}");
        (0..10).for_each(|_| ops::program::run(&data));
    }
    for seed in 0..made_ones(400) {
        eprintln!("seed {seed}");
        ops::program::run(&made(seed, 96));
    }
}
