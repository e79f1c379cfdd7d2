//! What the fuzz targets do with their bytes. `cargo test` does the same with the stored ones.
//!
//! Every target reads bytes as small programs, by way of [`Unstructured`]: one byte an operation,
//! the next its operand. Nothing is derived: what an operation means may depend on what the program
//! has made so far, and every string of bytes is a valid program for ever, whatever else changes.

#![allow(dead_code, reason = "each target uses its own part")]
#![allow(
    unreachable_pub,
    unused_qualifications,
    clippy::duplicate_mod,
    clippy::unwrap_used,
    reason = "a crate of its own for the fuzzer, a module for the tests"
)]

pub mod account;
pub mod chain;
pub mod context;
pub mod program;
pub mod stored;

use arbitrary::Unstructured;

/// A program, read from its bytes.
pub struct Bytes<'a>(Unstructured<'a>);

impl<'a> Bytes<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self(Unstructured::new(data))
    }

    /// The next operation, until the bytes end.
    pub fn operation(&mut self) -> Option<u8> {
        (!self.0.is_empty()).then(|| self.byte())
    }

    /// An operand; zero after the end.
    pub fn operand(&mut self) -> usize {
        usize::from(self.byte())
    }

    fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or(0)
    }

    /// An index into something of this length; `None` when it is empty.
    pub fn index(&mut self, length: usize) -> Option<usize> {
        let operand = self.operand();
        (length > 0).then(|| operand % length)
    }
}

/// Ends the process where `holds` is false: also inside of work whose panics are contained.
#[track_caller]
pub fn must(holds: bool, what: &str) {
    if !holds {
        let at = std::panic::Location::caller();
        eprintln!("{at}: it must hold: {what}");
        std::process::abort();
    }
}
