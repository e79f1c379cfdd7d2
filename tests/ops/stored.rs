//! The stored programs of a target, and made ones.

use std::fs;
use std::path::Path;

/// The stored inputs of one target, with their names.
pub fn stored(target: &str) -> Vec<(String, Vec<u8>)> {
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

/// How many made programs a replay adds to the stored ones; `PORTAGE_MADE=0`: none.
pub fn made_ones(usually: u64) -> u64 {
    match std::env::var("PORTAGE_MADE") {
        Ok(text) => text.parse().unwrap_or(usually),
        Err(_) => usually,
    }
}

/// Bytes from a seed; the same on every machine.
pub fn made(seed: u64, length: usize) -> Vec<u8> {
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
