//! Replays the stored inputs of every fuzz target, and some thousand made ones.
//!
//! The targets of `fuzz/` run the same code. A program on a real pool depends on timing: what
//! failed once is stored and run often.
#![cfg(not(loom))]
#![allow(
    unreachable_pub,
    reason = "the operations are a crate of their own for the fuzzer"
)]

mod kit;
#[path = "../fuzz/ops/mod.rs"]
mod ops;

use std::fs;
use std::path::Path;

use kit::watchdog;

/// The stored inputs of one target, with their names.
fn stored(target: &str) -> Vec<(String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut inputs = Vec::new();
    for folder in ["corpus", "regressions"] {
        let Ok(entries) = fs::read_dir(root.join(folder).join(target)) else {
            continue;
        };
        for entry in entries {
            let path = entry.expect("a folder of ours is readable").path();
            let data = fs::read(&path).expect("a file of ours is readable");
            inputs.push((path.display().to_string(), data));
        }
    }
    inputs
}

/// Bytes from a seed; the same on every machine.
fn made(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

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
    for seed in 0..3_000 {
        // a panic names the program that failed
        eprintln!("seed {seed}");
        ops::chain::run(&made(seed, 64));
    }
}

#[test]
fn programs_on_a_real_pool_hold_on_stored_and_made_bytes() {
    let _dog = watchdog(240);
    quiet();
    for (name, data) in stored("program") {
        eprintln!("{name}");
        (0..10).for_each(|_| ops::program::run(&data));
    }
    for seed in 0..400 {
        eprintln!("seed {seed}");
        ops::program::run(&made(seed, 96));
    }
}
