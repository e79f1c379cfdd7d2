//! Long chains complete, cancel and drop without recursion, on a small stack.

use portage::promise::{Cancel, Promise, chain_future_results, promise};
use portage::{JoinError, JoinHandle};

use crate::kit::{Drops, watchdog};

/// Of which no recursion fits on the stack: 13 bytes are left for each.
const LINKS: usize = 20_000;
const STACK: usize = 256 << 10;

type Chain = (Promise<u64>, JoinHandle<u64>);

/// Runs `f` where a recursion over all links cannot fit.
fn on_a_small_stack(f: impl FnOnce() + Send) {
    let _watch = watchdog(60);
    std::thread::scope(|scope| {
        let small = std::thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, f)
            .expect("one more thread");
        small.join().expect("no panic");
    });
}

fn of_promises() -> Chain {
    let (first, mut last) = promise();
    for _ in 0..LINKS {
        let (target, next) = promise();
        chain_future_results(last, target);
        last = next;
    }
    (first, last)
}

/// The same chain tied from its end to its start.
fn of_promises_backwards() -> Chain {
    let (mut first, last) = promise();
    for _ in 0..LINKS {
        let (earlier, source) = promise();
        chain_future_results(source, first);
        first = earlier;
    }
    (first, last)
}

fn of_then() -> Chain {
    let (first, mut last) = promise();
    for _ in 0..LINKS {
        last = last.then(|result| result.unwrap_or(1_000_000) + 1);
    }
    (first, last)
}

fn of_map(drops: &Drops) -> Chain {
    let (first, mut last) = promise();
    for _ in 0..LINKS {
        let token = drops.token();
        last = last.map(move |value| {
            let _held = &token;
            value + 1
        });
    }
    (first, last)
}

#[test]
fn a_long_chain_of_promises_completes() {
    on_a_small_stack(|| {
        for (first, last) in [of_promises(), of_promises_backwards()] {
            first.resolve(3).expect("nobody cancelled");
            assert_eq!(last.wait().expect("a value"), 3);
        }
    });
}

#[test]
fn a_long_chain_of_promises_is_cancelled_from_its_end() {
    on_a_small_stack(|| {
        for (first, last) in [of_promises(), of_promises_backwards()] {
            assert_eq!(last.cancel(), Cancel::Prevented);
            assert!(first.is_cancelled());
            assert_eq!(first.resolve(3), Err(3));
            assert!(last.wait().expect_err("cancelled").is_cancelled());
        }
    });
}

#[test]
fn a_long_chain_of_promises_fails() {
    on_a_small_stack(|| {
        let (first, last) = of_promises();
        first
            .fail(JoinError::failed("far away"))
            .expect("delivered");
        assert!(last.wait().expect_err("failed").to_string().contains("far"));
    });
}

#[test]
fn a_long_chain_of_promises_is_dropped_from_either_end() {
    on_a_small_stack(|| {
        let (first, last) = of_promises();
        drop(first);
        assert!(last.wait().expect_err("lost").is_lost());
        let (first, last) = of_promises();
        drop(last);
        assert!(!first.is_cancelled(), "dropping is no cancel");
        first.resolve(1).expect("nobody cancelled");
        let (first, last) = of_promises_backwards();
        drop((last, first));
    });
}

#[test]
fn a_long_chain_of_then_completes() {
    on_a_small_stack(|| {
        let (first, last) = of_then();
        first.resolve(0).expect("nobody cancelled");
        assert_eq!(last.wait().expect("a value"), LINKS as u64);
    });
}

#[test]
fn a_long_chain_of_then_is_cancelled_from_its_end() {
    on_a_small_stack(|| {
        let (first, last) = of_then();
        assert_eq!(last.cancel(), Cancel::Prevented);
        assert!(first.is_cancelled());
        assert!(last.wait().expect_err("cancelled").is_cancelled());
    });
}

#[test]
fn a_long_chain_of_then_is_dropped_from_either_end() {
    on_a_small_stack(|| {
        let (first, last) = of_then();
        drop(first);
        let value = last.wait().expect("then takes errors");
        assert_eq!(value, 1_000_000 + LINKS as u64);
        let (first, last) = of_then();
        drop(last);
        drop(first);
    });
}

#[test]
fn a_long_chain_of_map_completes() {
    on_a_small_stack(|| {
        let drops = Drops::new();
        let (first, last) = of_map(&drops);
        assert_eq!(drops.live(), LINKS);
        first.resolve(0).expect("nobody cancelled");
        assert_eq!(last.wait().expect("a value"), LINKS as u64);
        assert_eq!((drops.live(), drops.dropped()), (0, LINKS));
    });
}

#[test]
fn a_long_chain_of_map_is_cancelled_from_its_end() {
    on_a_small_stack(|| {
        let drops = Drops::new();
        let (first, last) = of_map(&drops);
        assert_eq!(last.cancel(), Cancel::Prevented);
        assert_eq!(drops.live(), 0, "no closure is left");
        assert!(first.is_cancelled());
        assert!(last.wait().expect_err("cancelled").is_cancelled());
    });
}

#[test]
fn a_long_chain_of_map_is_cancelled_from_its_start() {
    on_a_small_stack(|| {
        let (first, handle) = promise();
        let cancel = handle.cancel_handle();
        let mut last = handle;
        for _ in 0..LINKS {
            last = last.map(|value: u64| value + 1);
        }
        assert_eq!(cancel.cancel(), Cancel::Prevented);
        assert!(first.is_cancelled());
        assert!(last.wait().expect_err("cancelled").is_cancelled());
    });
}

#[test]
fn a_long_chain_of_map_is_dropped_from_either_end() {
    on_a_small_stack(|| {
        let drops = Drops::new();
        let (first, last) = of_map(&drops);
        drop(first);
        assert!(last.wait().expect_err("lost").is_lost());
        assert_eq!(drops.live(), 0);
        let (first, last) = of_map(&drops);
        drop(last);
        first.resolve(0).expect("nobody cancelled");
        assert_eq!(drops.live(), 0);
    });
}

#[test]
fn a_long_chain_of_map_on_a_finished_handle_completes() {
    on_a_small_stack(|| {
        let (first, mut last) = promise();
        first.resolve(0u64).expect("nobody cancelled");
        for _ in 0..LINKS {
            last = last.map(|value| value + 1);
        }
        assert_eq!(last.wait().expect("a value"), LINKS as u64);
    });
}

#[test]
fn a_long_chain_of_mixed_links_completes_and_cancels() {
    let mixed = || {
        let (first, mut last) = promise::<u64>();
        for link in 0..LINKS {
            last = match link % 4 {
                0 => last.map(|value| value + 1),
                1 => last.then(|result| result.unwrap_or_default() + 1),
                2 => last
                    .map(|value| {
                        let (writer, reader) = promise();
                        writer.resolve(value + 1).expect("nobody cancelled");
                        reader
                    })
                    .flatten(),
                _ => {
                    let (target, next) = promise();
                    chain_future_results(last, target);
                    next
                }
            };
        }
        (first, last)
    };
    on_a_small_stack(|| {
        let (first, last) = mixed();
        first.resolve(0).expect("nobody cancelled");
        assert_eq!(last.wait().expect("a value"), LINKS as u64 / 4 * 3);
        let (first, last) = mixed();
        assert_eq!(last.cancel(), Cancel::Prevented);
        assert!(first.is_cancelled());
        assert!(last.wait().expect_err("cancelled").is_cancelled());
        drop(mixed());
    });
}
