//! Everything at random, under load, with faults: a program that runs as long as it is told to.
//!
//! ```text
//! cargo test --test soak                       a few seconds
//! just soak MINUTES                            longer, optimised
//! PORTAGE_SOAK_SEED=N just soak MINUTES        the same choices again (the threads still race)
//! ```
//!
//! It goes in rounds. In a round some threads do random things with all public operations, some of
//! which fail on purpose: closures, futures, wakers and destructors panic, work is cancelled,
//! thread starts are refused, pools and loops end while they are used. Then the round comes to
//! rest, and the books are checked: every token of every closure was dropped once, every pool has
//! `submitted = completed + panicked + cancelled`, and memory and threads are back at their floor.

#[cfg(not(loom))]
mod ledger;
#[cfg(not(loom))]
mod ops;
#[cfg(not(loom))]
mod program;
#[cfg(not(loom))]
mod world;

/// As a model there is nothing to run.
fn main() {
    #[cfg(not(loom))]
    program::main();
}
