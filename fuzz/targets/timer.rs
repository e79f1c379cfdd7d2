#![no_main]

#[path = "../../tests/ops/mod.rs"]
mod ops;
#[path = "../../tests/ops/turns/mod.rs"]
mod turns;

libfuzzer_sys::fuzz_target!(|data: &[u8]| turns::timer::run(data));
