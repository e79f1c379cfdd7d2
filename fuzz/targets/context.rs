#![no_main]

#[path = "../../tests/ops/mod.rs"]
mod ops;

libfuzzer_sys::fuzz_target!(|data: &[u8]| ops::context::run(data));
