//! `async_lock` and `async_null_context`.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use portage::sync::{Polling, async_lock, async_null_context};
use portage::time::{timeout, yield_now};
use portage::{EventLoop, block_on};

use crate::kit::{self, on_new_thread, watchdog};

const POLLINGS: [Polling; 4] = [
    Polling::NoPolling,
    Polling::Every(Duration::ZERO),
    Polling::Every(Duration::from_millis(1)),
    Polling::Every(Duration::MAX),
];

#[test]
fn the_default_is_to_poll_every_five_seconds() {
    assert_eq!(Polling::default(), Polling::Every(Duration::from_secs(5)));
}

#[test]
fn a_free_lock_is_taken_without_leaving_the_thread() {
    let lock = Arc::new(Mutex::new(1));
    for polling in POLLINGS {
        let mut taking = Box::pin(async_lock(&lock, "free", polling));
        match kit::poll_once(&mut taking) {
            std::task::Poll::Ready(mut guard) => *guard += 1,
            std::task::Poll::Pending => panic!("it was free"),
        }
        assert!(!lock.is_locked());
    }
    assert_eq!(*lock.lock(), 5);
}

#[test]
fn a_held_lock_is_waited_for() {
    let _watch = watchdog(30);
    for polling in POLLINGS {
        let lock = Arc::new(Mutex::new(0));
        let held = lock.lock();
        let mut taking = Box::pin(async_lock(&lock, "held", polling));
        assert!(kit::poll_once(&mut taking).is_pending());
        drop(held);
        let mut guard = kit::foreign_block_on(taking);
        *guard = 7;
        assert!(lock.is_locked());
        drop(guard);
        assert_eq!(*lock.lock(), 7);
    }
}

#[test]
fn the_lock_excludes_tasks_and_threads_alike() {
    let _watch = watchdog(30);
    let lock = Arc::new(Mutex::new((0u32, false)));
    std::thread::scope(|scope| {
        for number in 0..4 {
            let lock = lock.clone();
            scope.spawn(move || {
                for _ in 0..25 {
                    if number % 2 == 0 {
                        let mut guard = lock.lock();
                        assert!(!guard.1, "somebody else is inside");
                        guard.1 = true;
                        std::thread::yield_now();
                        guard.0 += 1;
                        guard.1 = false;
                    } else {
                        block_on(async {
                            let polling = Polling::Every(Duration::from_millis(1));
                            let mut guard = async_lock(&lock, "shared", polling).await;
                            assert!(!guard.1, "somebody else is inside");
                            guard.1 = true;
                            yield_now().await;
                            guard.0 += 1;
                            guard.1 = false;
                        });
                    }
                }
            });
        }
    });
    assert_eq!(lock.lock().0, 100);
}

#[test]
fn a_guard_may_be_held_across_an_await_and_dropped_elsewhere() {
    let _watch = watchdog(20);
    let lock = Arc::new(Mutex::new(0));
    let guard = block_on(async {
        let guard = async_lock(&lock, "far", Polling::default()).await;
        yield_now().await;
        guard
    });
    on_new_thread(move || drop(guard));
    assert!(lock.try_lock().is_some());
}

#[test]
fn dropped_at_any_moment_it_neither_leaks_the_lock_nor_releases_anothers() {
    let _watch = watchdog(60);
    let lock = Arc::new(Mutex::new(0u32));
    // few rounds: on a busy machine each yield costs the time slices of the others
    for (yields, polling) in (0..7).flat_map(|n| POLLINGS.map(|polling| (n, polling))) {
        for released_first in [true, false] {
            let held = lock.lock();
            let mut taking = Box::pin(async_lock(&lock, "dropped", polling));
            assert!(kit::poll_once(&mut taking).is_pending());
            let letting_go = std::thread::scope(|scope| {
                let dropping = scope.spawn(move || {
                    for _ in 0..yields {
                        std::thread::yield_now();
                    }
                    drop(taking);
                });
                if released_first {
                    drop(held);
                    dropping.join()
                } else {
                    let joined = dropping.join();
                    assert!(lock.is_locked(), "it released another's lock");
                    drop(held);
                    joined
                }
            });
            letting_go.expect("no panic");
            kit::eventually("the lock", || lock.try_lock().is_some());
        }
    }
}

#[test]
fn a_timeout_around_a_wait_leaves_the_lock_usable() {
    let _watch = watchdog(20);
    let lock = Arc::new(Mutex::new(0));
    let held = lock.lock();
    let cut = block_on(timeout(
        Duration::from_millis(5),
        async_lock(&lock, "cut", Polling::Every(Duration::from_millis(1))),
    ));
    assert!(cut.is_err());
    assert!(lock.is_locked());
    drop(held);
    let guard = block_on(async_lock(&lock, "cut", Polling::default()));
    drop(guard);
    kit::eventually("the lock", || lock.try_lock().is_some());
}

#[test]
fn waiting_does_not_hold_up_the_loop() {
    let _watch = watchdog(20);
    let lock = Arc::new(Mutex::new(0));
    let held = lock.lock();
    let events = EventLoop::new();
    let mine = lock.clone();
    let waiting = events.spawn_local(async move {
        *async_lock(&mine, "loop", Polling::default()).await += 1;
    });
    events
        .run_until_complete(async {
            for _ in 0..20 {
                yield_now().await;
            }
            drop(held);
            waiting.await.expect("a value");
        })
        .expect("it is idle");
    assert_eq!(*lock.lock(), 1);
}

#[test]
fn the_null_context_is_there_at_once() {
    let mut nothing = Box::pin(async_null_context());
    assert!(kit::poll_once(&mut nothing).is_ready());
}
