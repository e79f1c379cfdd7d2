//! Places: held until the job ends, waited for in two ways, and never waited for in vain.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use portage::block_on;
use portage::execution_queue::AsyncExecutionQueue;
use portage::promise::Cancel;
use portage::time::timeout;

use super::{bounded, is_idle, pool};
use crate::kit::{self, Diary, Drops, Gate, OpenAtEnd, counting_waker, poll_with, watchdog};

/// A queue of this capacity whose only job is held at the gate.
fn held(capacity: usize, gate: &Gate) -> AsyncExecutionQueue {
    let queue = bounded(capacity);
    let at = gate.clone();
    queue.add_task(move || at.pass()).expect("taken").detach();
    gate.wait_entered(1);
    queue
}

#[test]
fn a_full_queue_gives_the_job_back() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let queue = held(2, &gate);
    let second = queue.try_add_task(|| 2).expect("one place is left");
    assert_eq!(queue.len(), 2);
    let diary = Diary::new();
    let seen = diary.clone();
    let error = queue.try_add_task(move || seen.note(3)).expect_err("full");
    assert!(error.is_full() && !error.is_shut_down());
    assert_eq!(queue.len(), 2);
    assert!(diary.read().is_empty());
    error.into_job().expect("it comes back").run();
    assert_eq!(diary.read(), [3]);
    gate.open();
    assert_eq!(second.wait().expect("a value"), 2);
}

#[test]
fn a_place_is_held_until_the_job_ends() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let queue = held(1, &gate);
    assert_eq!(queue.len(), 1, "it runs, and still holds its place");
    assert!(queue.try_add_task(|| ()).expect_err("full").is_full());
    gate.open();
    kit::eventually("a place", || is_idle(&queue));
    let next = queue.try_add_task(|| 1).expect("a place");
    assert_eq!(next.wait().expect("a value"), 1);
    // once the outcome can be seen, the place is free
    for number in 0..100 {
        let handle = queue.add_task(move || number).expect("a place");
        assert_eq!(handle.wait().expect("a value"), number);
    }
}

#[test]
fn cancelling_a_queued_job_frees_its_place_at_once() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let queue = held(2, &gate);
    let drops = Drops::new();
    let token = drops.token();
    let queued = queue.add_task(move || drop(token)).expect("a place");
    assert!(queue.try_add_task(|| ()).expect_err("full").is_full());
    assert_eq!(queued.cancel(), Cancel::Prevented);
    assert_eq!((queue.len(), drops.live()), (1, 0));
    let next = queue.try_add_task(|| 4).expect("its place is free");
    gate.open();
    assert_eq!(next.wait().expect("a value"), 4);
}

#[test]
fn add_task_blocks_for_room() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let queue = held(1, &gate);
    std::thread::scope(|scope| {
        let _end = OpenAtEnd(gate.clone());
        let adding = scope.spawn(|| queue.add_task(|| 7));
        assert!(!kit::within(Duration::from_millis(10), || adding.is_finished()));
        gate.open();
        let added = adding.join().expect("no panic").expect("a place at last");
        assert_eq!(added.wait().expect("a value"), 7);
    });
}

#[test]
fn aadd_task_waits_for_room_without_a_thread() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let queue = held(1, &gate);
    let (waker, wakes) = counting_waker();
    let mut adding = Box::pin(queue.aadd_task(|| 8));
    assert!(poll_with(&mut adding, &waker).is_pending());
    assert_eq!((queue.len(), wakes.count()), (1, 0));
    gate.open();
    kit::eventually("the wake", || wakes.count() > 0);
    let added = block_on(adding).expect("a place");
    assert_eq!(added.wait().expect("a value"), 8);
}

#[test]
fn an_adder_that_gives_up_leaves_no_trace() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let queue = held(1, &gate);
    let drops = Drops::new();
    let token = drops.token();
    let cut = block_on(timeout(
        Duration::from_millis(5),
        queue.aadd_task(move || drop(token)),
    ));
    assert!(cut.is_err());
    assert_eq!((drops.live(), queue.len()), (0, 1));
    // the one behind it gets the place all the same
    let (waker, wakes) = counting_waker();
    let token = drops.token();
    let mut first = Box::pin(queue.aadd_task(move || drop(token)));
    let mut second = Box::pin(queue.aadd_task(|| 9));
    assert!(poll_with(&mut first, &waker).is_pending());
    assert!(poll_with(&mut second, &waker).is_pending());
    gate.open();
    kit::eventually("a wake", || wakes.count() > 0);
    drop(first);
    let second = kit::foreign_block_on(second).expect("the place is passed on");
    assert_eq!(second.wait().expect("a value"), 9);
    assert_eq!(drops.live(), 0);
}

#[test]
fn len_counts_the_places_held() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let queue = AsyncExecutionQueue::new();
    assert_eq!(queue.len(), 0);
    let at = gate.clone();
    let mut handles = vec![queue.add_task(move || at.pass()).expect("unbounded")];
    for expected in 2..=10 {
        handles.push(queue.try_add_task(|| ()).expect("unbounded"));
        assert_eq!(queue.len(), expected);
    }
    gate.open();
    for handle in handles {
        handle.wait().expect("a value");
    }
    kit::eventually("an empty queue", || is_idle(&queue));
}

#[test]
fn blocking_for_room_from_the_job_that_holds_the_place_would_deadlock() {
    let _watch = watchdog(20);
    let queue = Arc::new(bounded(1));
    let inner = queue.clone();
    let answer = queue.add_task(move || {
        let blocked = inner.add_task(|| 1).expect_err("its place is mine");
        let full = inner.try_add_task(|| 2).expect_err("its place is mine");
        let given_back = blocked.is_would_deadlock() && full.is_full();
        given_back && blocked.into_job().is_some()
    });
    assert!(answer.expect("taken").wait().expect("a value"));

    let inner = queue.clone();
    let answer = queue.add_task(move || {
        let waited = block_on(inner.aadd_task(|| 1));
        waited.expect_err("its place is mine").is_would_deadlock()
    });
    assert!(answer.expect("taken").wait().expect("a value"));
}

#[test]
fn waiting_for_a_later_job_of_the_same_queue_would_deadlock() {
    let _watch = watchdog(20);
    let queue = Arc::new(AsyncExecutionQueue::new());
    let inner = queue.clone();
    let (sender, receiver) = mpsc::channel();
    let answer = queue.add_task(move || {
        let later = inner.add_task(move || sender.send(1)).expect("unbounded");
        let error = later.wait().expect_err("it comes after me");
        error.is_would_deadlock()
    });
    assert!(answer.expect("taken").wait().expect("a value"));
    assert_eq!(receiver.recv().expect("the later one runs all the same"), 1);
}

#[test]
fn waiting_for_another_queues_job_is_no_deadlock() {
    let _watch = watchdog(20);
    let shared = Arc::new(pool());
    let build = || {
        let builder = AsyncExecutionQueue::builder().executor(shared.clone());
        Arc::new(builder.capacity(1).build().expect("legal"))
    };
    let (one, other) = (build(), build());
    let sum = one.add_task(move || {
        let inner = other.add_task(|| 1).expect("room there");
        inner.wait().expect("a value") + 1
    });
    assert_eq!(sum.expect("taken").wait().expect("a value"), 2);
}
