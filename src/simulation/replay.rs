//! Replays the stored programs of those fuzz targets that run in a simulation, and made ones.
//!
//! `tests/fuzz_regress.rs` does it for the others. These stand inside of the crate because a
//! simulation is behind a feature everywhere else.

#[path = "../../tests/ops/mod.rs"]
mod ops;
#[path = "../../tests/ops/turns/mod.rs"]
mod turns;

use ops::stored::{made, made_ones, stored};

/// What is stored, and so many made programs of this length.
fn replay(target: &str, run: fn(&[u8]), usually: u64, length: usize) {
    let _ = crate::promise::set_unhandled_hook(Box::new(|_| ()));
    for (name, data) in stored(target) {
        eprintln!("{name}");
        run(&data);
    }
    for seed in 0..made_ones(usually) {
        // a panic names the program that failed
        eprintln!("{target}: seed {seed}");
        run(&made(seed, length));
    }
}

#[test]
fn cancelled_work_of_every_kind_ends_as_the_cancel_said() {
    replay("cancel", turns::cancel::run, 150, 96);
}

#[test]
fn lanes_of_every_shape_serve_in_order_and_end() {
    replay("current_thread", turns::current_thread::run, 150, 64);
}

#[test]
fn queues_keep_their_order_their_places_and_their_ends() {
    replay("queue", turns::queue::run, 150, 96);
}

#[test]
fn sleeps_agree_with_a_sorted_list() {
    replay("timer", turns::timer::run, 150, 96);
}

#[test]
fn programs_on_a_pool_in_turns_hold() {
    replay("program", turns::program, 100, 128);
}
