//! Row 14: closures from another thread, run in order by one that waits for them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use parking_lot::Mutex;
use portage::CurrentThreadExecutor;

use super::nanoseconds_each;
use crate::{Check, Contender, Effort, Sample, Scenario};

const CLOSURES: usize = 100_000;

pub const CLOSURES_FROM_ANOTHER: Scenario = Scenario {
    name: "lane",
    contenders: &[
        "portage",
        "tokio LocalSet",
        "tokio current-thread",
        "channel",
    ],
    enter,
    checks: &[
        Check::ratio(
            14,
            "100 000 closures to a lane",
            "ns",
            &["tokio LocalSet"],
            1.0,
        )
        .tie(1.15),
        Check::ratio(
            14,
            "the same, beside a bare channel loop",
            "ns",
            &["channel"],
            2.0,
        )
        .tie(1.15),
    ],
};

/// What anybody could gain: a program that does the least that a lane must, with a cell of 104 bytes
/// for each closure, which two hold; once taking what has come at once, once a moment later.
pub const BOUNDS: Scenario = Scenario {
    name: "lane-bounds",
    contenders: &["portage", "channel", "cells", "cells, a moment later"],
    enter,
    checks: &[
        beside("bounds: a bare channel loop", "channel"),
        beside("bounds: cells", "cells"),
        beside("bounds: cells, a moment later", "cells, a moment later"),
    ],
};

const fn beside(what: &'static str, ours: &'static str) -> Check {
    Check::ratio(14, what, "ns", &["portage"], 1.0).ours(ours)
}

type Closure = Box<dyn FnOnce() + Send>;

fn enter(name: &str, effort: Effort) -> Box<dyn Contender> {
    let count = CLOSURES * effort.scale;
    match name {
        "portage" => measure(count, lane),
        "tokio LocalSet" => measure(count, local_set),
        "tokio current-thread" => measure(count, current_thread),
        "channel" => measure(count, channel),
        "cells" => measure(count, |count, ran| cells(count, ran, 0)),
        "cells, a moment later" => measure(count, |count, ran| cells(count, ran, 20)),
        other => panic!("no contender {other}"),
    }
}

/// `pass` has this many closures run here, each of which counts.
fn measure(count: usize, pass: fn(usize, &'static AtomicUsize)) -> Box<dyn Contender> {
    static RAN: AtomicUsize = AtomicUsize::new(0);
    Box::new(move || {
        RAN.store(0, Ordering::Relaxed);
        let ns = nanoseconds_each(count, || pass(count, &RAN));
        assert_eq!(RAN.load(Ordering::Relaxed), count);
        Sample::of("ns", ns)
    })
}

fn lane(count: usize, ran: &'static AtomicUsize) {
    let lane = CurrentThreadExecutor::new(None);
    let (promise, done) = portage::promise();
    let theirs = lane.clone();
    let sender = std::thread::spawn(move || {
        for _ in 0..count {
            let job = theirs.submit(|| ran.fetch_add(1, Ordering::Relaxed));
            drop(job.expect("the lane is open"));
        }
        // What was submitted before the end is drained.
        let _ = promise.resolve(());
    });
    let ended = lane
        .run_until_future(done)
        .expect("this is the lane's thread");
    ended.expect("the sender has resolved it");
    sender.join().expect("the sender ends");
}

/// What a program with a `LocalSet` does: a channel into it, a local task for each closure.
fn local_set(count: usize, ran: &'static AtomicUsize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime starts");
    let set = tokio::task::LocalSet::new();
    let (send, mut receive) = tokio::sync::mpsc::unbounded_channel::<Closure>();
    let sender = std::thread::spawn(move || {
        for _ in 0..count {
            let closure = Box::new(move || {
                ran.fetch_add(1, Ordering::Relaxed);
            });
            send.send(closure).expect("the set is open");
        }
    });
    set.block_on(&runtime, async {
        while let Some(closure) = receive.recv().await {
            drop(tokio::task::spawn_local(async move { closure() }));
        }
    });
    // Those that were spawned last.
    runtime.block_on(set);
    sender.join().expect("the sender ends");
}

/// Spawned from outside onto a runtime of one thread, each with a handle.
fn current_thread(count: usize, ran: &'static AtomicUsize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime starts");
    let (send, done) = tokio::sync::oneshot::channel();
    let runtime = Arc::new(runtime);
    let handle = runtime.handle().clone();
    let sender = std::thread::spawn(move || {
        for _ in 0..count {
            drop(handle.spawn(async move { ran.fetch_add(1, Ordering::Relaxed) }));
        }
        handle.spawn(async move { send.send(()) });
    });
    runtime.block_on(done).expect("the sender says so");
    sender.join().expect("the sender ends");
}

fn channel(count: usize, ran: &'static AtomicUsize) {
    let (send, receive) = crossbeam_channel::unbounded::<Closure>();
    let (done, ended) = mpsc::channel();
    let sender = std::thread::spawn(move || {
        for _ in 0..count {
            let closure = Box::new(move || {
                ran.fetch_add(1, Ordering::Relaxed);
            });
            send.send(closure).expect("the loop runs");
        }
        let _ = done.send(());
    });
    receive.into_iter().for_each(|closure| closure());
    ended.recv().expect("the sender says so");
    sender.join().expect("the sender ends");
}

/// With the two counts of its `Arc` 104 bytes.
struct Cell {
    word: AtomicUsize,
    ran: &'static AtomicUsize,
    _rest: [u64; 9],
}

/// One queue behind a lock, one sleeper. Its owner lets so many hints to the processor pass before it
/// looks for more.
fn cells(count: usize, ran: &'static AtomicUsize, moment: usize) {
    let arrived = Arc::new((Mutex::new(VecDeque::new()), AtomicBool::new(false)));
    let (theirs, owner) = (arrived.clone(), std::thread::current());
    let sender = std::thread::spawn(move || {
        let (queue, ended) = &*theirs;
        for _ in 0..count {
            let cell = Arc::new(Cell {
                word: AtomicUsize::new(0),
                ran,
                _rest: [0; 9],
            });
            let handle = cell.clone();
            let mut queue = queue.lock();
            let first = queue.is_empty();
            queue.push_back(cell);
            drop(queue);
            if first {
                owner.unpark();
            }
            drop(handle);
        }
        ended.store(true, Ordering::Release);
        owner.unpark();
    });
    let (queue, ended) = &*arrived;
    let mut taken: VecDeque<Arc<Cell>> = VecDeque::new();
    loop {
        (0..moment).for_each(|_| std::hint::spin_loop());
        let is_last = ended.load(Ordering::Acquire);
        std::mem::swap(&mut taken, &mut *queue.lock());
        if taken.is_empty() {
            if is_last {
                break;
            }
            std::thread::park();
        }
        for cell in taken.drain(..) {
            cell.word.fetch_or(1, Ordering::AcqRel);
            cell.ran.fetch_add(1, Ordering::Relaxed);
            cell.word.fetch_or(2, Ordering::AcqRel);
        }
    }
    sender.join().expect("the sender ends");
}
