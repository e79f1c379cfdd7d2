//! Where a simulation takes its choices from, so that it makes the same ones again.

#![forbid(unsafe_code)]

use crate::base::random::Random;

/// The source of all choices of a simulation: a seed, or bytes.
///
/// A byte is one choice: among `n` actors that can run, byte `b` takes number `b % n`. Once
/// the bytes are used up, whoever has stood still for longest goes next. A seed is as many
/// bytes as are needed.
#[derive(Debug)]
pub struct Choices(Source);

#[derive(Debug)]
enum Source {
    Seed(Random),
    Bytes(std::vec::IntoIter<u8>),
}

impl Choices {
    /// A number below `bound`, as a byte.
    pub(super) fn below(&mut self, bound: usize) -> u8 {
        let bound = bound.clamp(1, 256);
        match &mut self.0 {
            Source::Seed(random) => random.below(bound) as u8,
            Source::Bytes(bytes) => (usize::from(bytes.next().unwrap_or(0)) % bound) as u8,
        }
    }
}

impl From<u64> for Choices {
    fn from(seed: u64) -> Self {
        Self(Source::Seed(Random::new(seed)))
    }
}

impl From<Vec<u8>> for Choices {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Source::Bytes(bytes.into_iter()))
    }
}

impl From<&[u8]> for Choices {
    fn from(bytes: &[u8]) -> Self {
        bytes.to_vec().into()
    }
}

impl<const N: usize> From<&[u8; N]> for Choices {
    fn from(bytes: &[u8; N]) -> Self {
        bytes.to_vec().into()
    }
}
