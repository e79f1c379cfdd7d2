//! A child that is forked while the parent's threads fall asleep and wake each other as fast as they
//! can gets its errors, and finishes what it has itself.
//!
//! A program of its own with one test, as `fork.rs` is.

#![cfg(not(loom))]
#![cfg(unix)]

mod kit;

#[path = "kit/forked.rs"]
mod forked;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use portage::time::sleep;
use portage::{JoinHandle, Promise, ThreadPool, block_on, promise};

use forked::in_child;
use kit::{Gate, OpenAtEnd, watchdog};

/// So often the parent forks.
const FORKS: usize = 60;

/// Threads that sleep in the parent, and that the child would wake.
const SLEEPERS: usize = 8;

/// Runs `code` again and again on a thread of its own, until `over`.
fn again(over: &Arc<AtomicBool>, code: impl Fn() + Send + 'static) -> thread::JoinHandle<()> {
    let over = over.clone();
    thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            code();
        }
    })
}

/// Threads that park and wake each other; what each wakes stands in a place of its own.
fn commotion(pool: &ThreadPool, over: &Arc<AtomicBool>) -> Vec<thread::JoinHandle<()>> {
    let trips = (0..2).map(|_| {
        let pool = pool.clone();
        again(over, move || {
            pool.spawn_blocking(|| ()).wait().expect("run")
        })
    });
    let promises = (0..2).map(|_| {
        again(over, || {
            let (writer, reader) = promise::<u8>();
            let other = thread::spawn(move || writer.resolve(1));
            assert_eq!(reader.wait().ok(), Some(1));
            assert!(other.join().is_ok_and(|told| told.is_ok()));
        })
    });
    let naps = (0..2).map(|_| again(over, || block_on(sleep(Duration::from_micros(50)))));
    trips.chain(promises).chain(naps).collect()
}

/// Promises with a thread that waits for each.
fn sleepers() -> (Vec<Promise<()>>, Vec<thread::JoinHandle<()>>) {
    let start = |_| {
        let (writer, reader) = promise::<()>();
        (
            writer,
            thread::spawn(move || reader.wait().expect("resolved")),
        )
    };
    (0..SLEEPERS).map(start).unzip()
}

/// What a child does that is to end, with all that it gets from its parent.
fn childhood(pool: &ThreadPool, lost: JoinHandle<()>, theirs: Vec<Promise<()>>) {
    assert!(lost.wait().is_err_and(|error| error.is_lost()));
    // those who wait for these were left behind
    for writer in theirs {
        let _ = writer.resolve(());
    }
    assert!(pool.submit(|| 1).is_err_and(|error| error.is_broken()));
    block_on(sleep(Duration::from_micros(200)));
    let (writer, mut reader) = promise::<u8>();
    for _ in 0..5 {
        let early = reader.wait_timeout(Duration::from_micros(200));
        assert!(early.is_none());
    }
    // it starts no thread: std has a lock there that may have been left behind
    assert!(writer.resolve(7).is_ok());
    assert_eq!(reader.wait().ok(), Some(7));
}

#[test]
fn a_child_forked_amid_sleeps_and_wakes_ends() {
    let _watch = watchdog(120);
    let pool = ThreadPool::builder().core_threads(2).build().unwrap();
    let gate = Gate::new();
    let end = OpenAtEnd(gate.clone());
    let over = Arc::new(AtomicBool::new(false));
    let busy = commotion(&pool, &over);
    let at = gate.clone();
    // of these the child has its own copy, which it uses up
    let mut held = Some(pool.spawn_blocking(move || at.pass()));
    gate.wait_entered(1);
    for _ in 0..FORKS {
        let (theirs, waiting) = sleepers();
        let mut theirs = Some(theirs);
        // the thread that forks has slept too, and was woken
        pool.spawn_blocking(|| ()).wait().unwrap();
        in_child("amid sleeps and wakes", || {
            childhood(&pool, held.take().unwrap(), theirs.take().unwrap());
        });
        for writer in theirs.take().unwrap() {
            writer.resolve(()).unwrap();
        }
        waiting.into_iter().for_each(|it| it.join().unwrap());
    }
    over.store(true, Ordering::Relaxed);
    drop(end);
    held.take().unwrap().wait().unwrap();
    busy.into_iter().for_each(|it| it.join().unwrap());
}
