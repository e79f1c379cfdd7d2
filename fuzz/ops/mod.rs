//! What the fuzz targets do with their bytes. `cargo test` does the same with the stored ones.
//!
//! Every target reads bytes as small programs: one byte an operation, the next its operand. Bytes
//! stay valid programs for ever, whatever else changes.

#![allow(dead_code, reason = "each target uses its own part")]

pub mod chain;
pub mod program;

/// The bytes of a program, read one by one.
pub struct Bytes<'a>(std::slice::Iter<'a, u8>);

impl<'a> Bytes<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self(data.iter())
    }

    /// The next operation, until the bytes end.
    pub fn operation(&mut self) -> Option<u8> {
        self.0.next().copied()
    }

    /// An operand; zero after the end.
    pub fn operand(&mut self) -> usize {
        usize::from(self.0.next().copied().unwrap_or(0))
    }

    /// An index into something of this length; `None` when it is empty.
    pub fn index(&mut self, length: usize) -> Option<usize> {
        let operand = self.operand();
        (length > 0).then(|| operand % length)
    }
}
