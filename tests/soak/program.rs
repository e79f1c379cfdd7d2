//! The rounds, and what is checked after each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ledger::{self, Random, live_bytes, threads};
use crate::ops;
use crate::world::World;

#[global_allocator]
static COUNTING: ledger::Counting = ledger::Counting;

/// What `cargo test` spends on it.
const SECONDS: u64 = 4;

/// Threads that make trouble at the same time.
const ACTORS: u64 = 4;

/// Things that each of them does in a round.
const STEPS: usize = 60;

/// Rounds after which everything that is kept for reuse has been made.
const WARM: usize = 4;

/// What may be kept beyond the floor: the deques leave their garbage to each other's threads, which
/// comes and goes in waves of some hundred KiB; queues and lists grow in steps.
const SLACK: isize = 1 << 20;

pub(crate) fn main() {
    // nextest asks for names
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        if !arguments.iter().any(|argument| argument == "--ignored") {
            println!("soak: test");
        }
        return;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seconds = number("PORTAGE_SOAK_SECONDS").unwrap_or(SECONDS);
    let seed = number("PORTAGE_SOAK_SEED").unwrap_or_else(ledger::fresh_seed);
    println!("soak: {seconds} s, PORTAGE_SOAK_SEED={seed}");
    ledger::be_quiet();
    ledger::watch();

    let start = Instant::now();
    let mut random = Random::new(seed);
    let mut floor = None;
    let mut rounds = 0;
    let mut steps = 0;
    while rounds <= WARM || start.elapsed() < Duration::from_secs(seconds) {
        let at = ledger::begin_round(seed, rounds);
        steps += round(&mut random);
        drop(at);
        rounds += 1;
        if rounds < WARM {
            continue;
        }
        let (bytes, count) = rest(floor);
        match floor {
            None => floor = Some((bytes, count)),
            Some((least, fewest)) => {
                let (grown, more) = (bytes - least, count.saturating_sub(fewest));
                assert!(
                    grown <= SLACK,
                    "{grown} bytes more than after round {WARM}, in round {rounds}"
                );
                assert!(
                    more == 0,
                    "{more} threads more than after round {WARM}, in round {rounds}: {:?}",
                    ledger::thread_names()
                );
            }
        }
    }
    let (bytes, count) = rest(floor);
    let (least, _) = floor.unwrap_or((bytes, count));
    println!(
        "soak: {rounds} rounds, {steps} steps, {} panics of ours, {} tokens; {} bytes and {count} \
         threads at rest, {:+} bytes since the beginning",
        ledger::panics(),
        ledger::tokens(),
        bytes,
        bytes - least
    );
    println!("test result: ok. 1 passed; 0 failed");
}

/// One round; how many steps it took.
fn round(random: &mut Random) -> usize {
    let world = World::new(random);
    let actors: Vec<_> = (0..ACTORS)
        .map(|_| {
            let (world, mut random) = (world.clone(), Random::new(random.next()));
            std::thread::spawn(move || {
                for _ in 0..STEPS {
                    ops::step(&world, &mut random);
                }
            })
        })
        .collect();
    for actor in actors {
        if let Err(payload) = actor.join() {
            std::panic::resume_unwind(payload);
        }
    }
    let steps = world.steps();
    let world = Arc::into_inner(world);
    world.map_or_else(|| panic!("somebody kept the world"), World::end);
    ledger::every_token_was_dropped();
    steps
}

/// Waits until nothing but what is kept for good is there; the least that was seen.
fn rest(floor: Option<(isize, usize)>) -> (isize, usize) {
    // without a floor there is nothing to wait for but the end of what is still ending
    let patience = Duration::from_secs(if floor.is_some() { 20 } else { 2 });
    let end = Instant::now() + patience;
    let (mut bytes, mut count) = (isize::MAX, usize::MAX);
    loop {
        bytes = bytes.min(live_bytes());
        count = count.min(threads());
        let at_floor =
            floor.is_some_and(|(least, fewest)| bytes - least <= SLACK && count <= fewest);
        if at_floor || Instant::now() >= end {
            return (bytes, count);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
