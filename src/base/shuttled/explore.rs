//! Many runs of one program, each in another order.
//!
//! A run is made again by its number: `SHUTTLE_SEED=0x...` makes that run alone.
//! `SHUTTLE_RUNS=n` makes `n` times as many as the model says, and `SHUTTLE_FROM=n` other ones.

#![forbid(unsafe_code)]

use crate::base::random::Random;
use crate::base::shuttled::dice::Dice;
use crate::base::shuttled::door::{Condvar, Mutex};
use crate::base::shuttled::{WORLD, World, with};

pub(crate) use crate::base::shuttled::{TimePasses, elapsed};

/// Steps of a program that does not come to an end.
const STEPS_MAX: usize = 100_000;

/// The stack of a thread, unless it asks for one itself.
const STACK: usize = 256 << 10;

/// What threads wait for in a way that no pool sees.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub(crate) fn open(&self) {
        *self.open.lock() = true;
        self.opened.notify_all();
    }

    pub(crate) fn pass(&self) {
        let mut open = self.open.lock();
        while !*open {
            self.opened.wait(&mut open);
        }
    }
}

/// Runs `program` `runs` times.
///
/// # Panics
///
/// A run panics, deadlocks or does not come to an end; a cell has not been freed when all threads
/// have ended.
#[track_caller]
pub(crate) fn explore(runs: u32, time: TimePasses, program: fn()) {
    let seeds: Vec<u64> = match number("SHUTTLE_SEED") {
        Some(seed) => vec![seed],
        None => {
            let random = Random::new(number("SHUTTLE_FROM").unwrap_or(0));
            let runs = u64::from(runs) * number("SHUTTLE_RUNS").unwrap_or(1);
            (0..runs).map(|_| random.next()).collect()
        }
    };
    for seed in seeds {
        run(seed, time, program);
    }
}

fn run(seed: u64, time: TimePasses, program: fn()) {
    let _replay = Replay(seed);
    let mut config = shuttle::Config::new();
    config.stack_size = STACK;
    config.failure_persistence = shuttle::FailurePersistence::None;
    config.max_steps = shuttle::MaxSteps::FailAfter(STEPS_MAX);
    config.silence_warnings = true;
    WORLD.with(|world| *world.borrow_mut() = Some(World::new()));
    shuttle::Runner::new(Dice::new(seed, time), config).run(move || {
        program();
        let_go();
    });
    let world = WORLD.with(|world| world.borrow_mut().take());
    let left = world.map(|world| world.cells).unwrap_or_default();
    let left: Vec<String> = left
        .into_iter()
        .map(|(id, (at, ended))| match ended {
            true => format!("{id}, made at {at}, is not freed"),
            false => format!("{id}, made at {at}, has no outcome"),
        })
        .collect();
    assert!(left.is_empty(), "cells are left: {}", left.join("; "));
}

/// The program has ended: lets go of what stands in the place of statics.
fn let_go() {
    let last = with(|world| std::mem::take(&mut world.last));
    last.into_iter().flatten().for_each(|f| f());
    let sites = with(|world| world.sites.take());
    drop(sites);
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    Some(number.unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Says which run has failed.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What is in there belongs to threads that do not go on.
            WORLD.with(|world| std::mem::forget(world.take()));
            eprintln!("to make this run again: SHUTTLE_SEED={:#x}", self.0);
        }
    }
}
