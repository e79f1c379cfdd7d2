//! Waiting for the pool's work: from outside, and from the pool's own workers.

use std::sync::mpsc;
use std::time::Duration;

use portage::promise::{Cancel, promise};
use portage::time::{sleep, yield_now};
use portage::{CurrentThreadExecutor, Job, JoinHandle, ThreadPool, block_on};

use super::{held, pool};
use crate::kit::{self, Diary, Gate, OpenAtEnd, on_new_thread, watchdog};

fn current() -> ThreadPool {
    ThreadPool::current().expect("a worker")
}

#[test]
fn wait_on_a_plain_thread_leaves_the_job_to_the_pool() {
    let _watch = watchdog(20);
    let pool = pool(1, 1);
    let here = std::thread::current().id();
    for _ in 0..100 {
        let there = pool.spawn_blocking(|| std::thread::current().id()).wait();
        assert_ne!(there.expect("a value"), here);
        let mut handle = pool.spawn_blocking(|| std::thread::current().id());
        let there = handle.wait_timeout(Duration::MAX).expect("no timeout");
        assert_ne!(there.expect("a value"), here);
    }
}

#[test]
fn wait_helping_runs_a_not_yet_started_job_right_here() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let pool = held(&gate);
    let here = std::thread::current().id();
    let handle = pool.spawn_blocking(|| std::thread::current().id());
    assert_eq!(handle.wait_helping().expect("a value"), here);
    let bad = pool.spawn_blocking(|| -> u8 { panic!("here") });
    assert!(bad.wait_helping().expect_err("it panicked").is_panic());
    let cancelled = pool.spawn_blocking(|| 1);
    assert_eq!(cancelled.cancel(), Cancel::Prevented);
    let error = cancelled.wait_helping().expect_err("cancelled");
    assert!(error.is_cancelled());
    gate.open();
}

#[test]
fn wait_helping_for_a_started_job_waits() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let pool = pool(1, 1);
    let at = gate.clone();
    let handle = pool.spawn_blocking(move || {
        at.pass();
        std::thread::current().id()
    });
    gate.wait_entered(1);
    std::thread::scope(|scope| {
        let _end = OpenAtEnd(gate.clone());
        let waiting = scope.spawn(|| (handle.wait_helping(), std::thread::current().id()));
        gate.open();
        let (there, here) = waiting.join().expect("no panic");
        assert_ne!(there.expect("a value"), here);
    });
}

#[test]
fn on_the_only_worker_a_not_yet_started_job_is_run_in_place() {
    let _watch = watchdog(20);
    let pool = pool(1, 1);
    let same = pool.spawn_blocking(|| {
        let here = std::thread::current().id();
        let inner = current().spawn_blocking(|| std::thread::current().id());
        inner.wait().expect("a value") == here
    });
    assert!(same.wait().expect("a value"));
}

#[test]
fn a_not_yet_started_task_is_run_in_place_too() {
    let _watch = watchdog(20);
    let pool = pool(1, 1);
    let same = pool.spawn_blocking(|| {
        let here = std::thread::current().id();
        let inner = current().spawn(async { std::thread::current().id() });
        inner.wait().expect("a value") == here
    });
    assert!(same.wait().expect("a value"));
}

#[test]
fn a_task_that_suspends_while_a_worker_waits_for_it_goes_on_also_at_the_cap() {
    let _watch = watchdog(20);
    for max in [1, 2] {
        let pool = pool(1, max);
        let value = pool.spawn_blocking(|| {
            let slow = current().spawn(async {
                yield_now().await;
                sleep(Duration::from_millis(2)).await;
                2
            });
            slow.wait().expect("a value")
        });
        assert_eq!(value.wait().expect("a value"), 2);
    }
}

#[test]
fn a_derived_handle_and_a_wait_without_end_are_served_at_the_cap() {
    let _watch = watchdog(20);
    let pool = pool(1, 1);
    let derived = pool.spawn_blocking(|| {
        let inner = current().spawn_blocking(|| 1).map(|value| value + 1);
        inner.wait().expect("a value")
    });
    assert_eq!(derived.wait().expect("a value"), 2);
    let endless = pool.spawn_blocking(|| {
        let mut inner = current().spawn_blocking(|| 3);
        inner.wait_timeout(Duration::MAX).expect("no timeout")
    });
    assert_eq!(endless.wait().expect("a value").expect("a value"), 3);
}

#[test]
fn a_wait_with_a_limit_on_the_only_worker_ends_in_time() {
    let _watch = watchdog(20);
    let pool = pool(1, 1);
    let inner = pool.spawn_blocking(|| {
        let mut inner = current().spawn_blocking(|| 4);
        let early = inner.wait_timeout(Duration::from_millis(5));
        (early.is_none(), inner)
    });
    let (early, inner) = inner.wait().expect("a value");
    assert!(early, "nobody else could run it");
    assert_eq!(inner.wait().expect("a value"), 4);
}

#[test]
fn nested_waits_at_cap_one_do_not_hang() {
    fn nest(depth: u32) -> u32 {
        if depth == 0 {
            return 0;
        }
        let inner = current().spawn_blocking(move || nest(depth - 1));
        inner.wait().expect("a value") + 1
    }
    let _watch = watchdog(20);
    for max in [1, 3] {
        let pool = pool(1, max);
        let handle = pool.spawn_blocking(|| nest(100));
        assert_eq!(handle.wait().expect("a value"), 100);
    }
}

#[test]
fn a_fork_and_join_tree_ends_on_few_threads() {
    fn sum(low: u64, high: u64) -> u64 {
        if high - low <= 4 {
            return (low..high).sum();
        }
        let middle = low.midpoint(high);
        let left = current().spawn_blocking(move || sum(low, middle));
        let right = sum(middle, high);
        left.wait().expect("a value") + right
    }
    let _watch = watchdog(30);
    for max in [1, 2, 8] {
        let pool = pool(1, max);
        let handle = pool.spawn_blocking(|| sum(0, 4000));
        assert_eq!(handle.wait().expect("a value"), 4000 * 3999 / 2);
    }
}

#[test]
fn a_wait_that_cannot_run_in_place_is_compensated_at_once() {
    let _watch = watchdog(20);
    // the waited-for comes from a job behind: nobody else could run it
    let pool = pool(1, 2);
    let (writer, reader) = promise();
    let waiting = pool.spawn_blocking(move || reader.wait().expect("a value"));
    pool.spawn_blocking(move || drop(writer.resolve(Box::new(7))))
        .detach();
    assert_eq!(*waiting.wait().expect("a value"), 7);
}

#[test]
fn block_on_inside_a_worker_is_compensated_too() {
    let _watch = watchdog(20);
    let pool = pool(1, 2);
    let (writer, reader) = promise();
    let waiting = pool.spawn_blocking(move || block_on(reader).expect("a value"));
    pool.spawn_blocking(move || drop(writer.resolve(Box::new(8))))
        .detach();
    assert_eq!(*waiting.wait().expect("a value"), 8);
}

#[test]
fn chains_of_waiting_jobs_end_while_the_cap_allows_it() {
    let _watch = watchdog(30);
    let pool = pool(1, 16);
    let (mut last, first) = {
        let (writer, reader) = promise::<u32>();
        (reader, writer)
    };
    // each waits for the one before; the one that starts it all comes last
    for _ in 0..10 {
        let before = last;
        last = pool.spawn_blocking(move || before.wait().expect("a value") + 1);
    }
    pool.spawn_blocking(move || first.resolve(0).expect("nobody cancelled"))
        .detach();
    assert_eq!(last.wait().expect("a value"), 10);
}

#[test]
fn a_job_that_waits_for_itself_gets_an_error() {
    let _watch = watchdog(20);
    let pool = pool(1, 2);
    let (sender, receiver) = mpsc::channel::<JoinHandle<()>>();
    let diary = Diary::new();
    let seen = diary.clone();
    let handle = pool.spawn_blocking(move || {
        let own = receiver.recv().expect("sent");
        let error = own.wait().expect_err("it can never come");
        seen.note(error.is_would_deadlock());
    });
    sender.send(handle).expect("it listens");
    kit::eventually("the answer", || diary.len() == 1);
    assert_eq!(diary.read(), [true]);
}

#[test]
fn a_job_below_on_the_same_stack_cannot_be_waited_for() {
    let _watch = watchdog(20);
    let pool = pool(1, 1);
    let (sender, receiver) = mpsc::channel::<JoinHandle<bool>>();
    let diary = Diary::new();
    let seen = diary.clone();
    let outer = pool.spawn_blocking(move || {
        let own = receiver.recv().expect("sent");
        let inner = current().spawn_blocking(move || {
            let error = own.wait().expect_err("it is below me");
            error.is_would_deadlock()
        });
        let answer = inner.wait().expect("run in place");
        seen.note(answer);
        answer
    });
    sender.send(outer).expect("it listens");
    kit::eventually("the answer", || diary.len() == 1);
    assert_eq!(diary.read(), [true]);
}

#[test]
fn a_job_of_another_pool_is_waited_for_not_run() {
    let _watch = watchdog(20);
    let (one, other) = (pool(1, 1), pool(1, 1));
    let there = one.spawn_blocking(move || {
        let inner = other.spawn_blocking(|| std::thread::current().id());
        let there = inner.wait().expect("a value");
        (there, std::thread::current().id())
    });
    let (there, here) = there.wait().expect("a value");
    assert_ne!(there, here, "jobs run on their pool's threads only");
}

#[test]
fn a_waiting_worker_runs_no_foreign_work() {
    let _watch = watchdog(20);
    // with one thread at most, a wait that ran other jobs would run the one that must not
    // come before
    let pool = pool(1, 2);
    let diary = Diary::new();
    let (writer, reader) = promise::<u8>();
    let here = diary.clone();
    let waiting = pool.spawn_blocking(move || {
        let thread = std::thread::current().id();
        here.note(Some(thread));
        reader.wait().expect("a value");
        thread
    });
    let other = pool.spawn_blocking(|| std::thread::current().id());
    let other = other.wait().expect("compensated");
    writer.resolve(1).expect("nobody cancelled");
    assert_ne!(waiting.wait().expect("a value"), other);
}

#[test]
fn a_waiting_lane_owner_serves_jobs_of_the_pool() {
    let _watch = watchdog(20);
    let pool = pool(1, 1);
    let lane = CurrentThreadExecutor::new(None);
    let here = std::thread::current().id();
    let lane_of_mine = lane.clone();
    let there = pool.spawn_blocking(move || {
        let inner = lane_of_mine.submit(|| std::thread::current().id());
        inner.expect("taken").wait().expect("the owner pumps")
    });
    assert_eq!(there.wait().expect("a value"), here);
}

#[test]
fn an_unpooled_job_is_not_run_by_a_waiting_worker() {
    let _watch = watchdog(20);
    let pool = pool(1, 2);
    let (job, handle) = Job::new(|| std::thread::current().id());
    let waiting = pool.spawn_blocking(move || handle.wait().expect("a value"));
    kit::eventually("the wait", || pool.metrics().running == 1);
    let there = on_new_thread(move || {
        job.run();
        std::thread::current().id()
    });
    assert_eq!(waiting.wait().expect("a value"), there);
}

#[test]
fn the_outcome_may_be_awaited_by_a_foreign_runtime() {
    let _watch = watchdog(20);
    let pool = pool(2, 2);
    for number in 0..200 {
        let handle = pool.spawn_blocking(move || number);
        assert_eq!(kit::foreign_block_on(handle).expect("a value"), number);
    }
}
