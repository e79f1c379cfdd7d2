//! Cheap per-thread numbers for choosing victims. Not for secrets.

#![forbid(unsafe_code)]

use std::cell::Cell;

/// Marsaglia's xorshift with 64 bits (Journal of Statistical Software 8(14), 2003).
#[derive(Debug)]
pub(crate) struct Random(Cell<u64>);

impl Random {
    /// Any seed will do; zero is replaced.
    pub(crate) fn new(seed: u64) -> Self {
        let mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
        Self(Cell::new(if mixed == 0 { 1 } else { mixed }))
    }

    pub(crate) fn next(&self) -> u64 {
        let mut x = self.0.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.set(x);
        x
    }

    /// A number below `bound`; zero when the bound is zero.
    pub(crate) fn below(&self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::Random;

    #[test]
    fn numbers_stay_below_the_bound_and_reach_all_of_it() {
        let random = Random::new(0);
        let mut seen = [false; 7];
        (0..1_000).for_each(|_| seen[random.below(7)] = true);
        assert_eq!(seen, [true; 7]);
        assert_eq!(random.below(0), 0);
    }
}
