//! The reading half: waiting, awaiting, taking once, looking without taking.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::task::Poll;
use std::time::{Duration, Instant};

use portage::promise::{Cancel, promise};
use portage::{JoinError, JoinHandle};

use crate::kit::{self, Drops, WakeFn, counting_waker, poll_once, poll_with, watchdog};

fn ready<T>(value: T) -> JoinHandle<T> {
    let (writer, reader) = promise();
    assert!(writer.resolve(value).is_ok());
    reader
}

#[track_caller]
fn says_taken<T>(result: Result<T, JoinError>) {
    let Err(error) = result else {
        panic!("an outcome was taken twice")
    };
    let text = error.to_string();
    assert!(
        ["taken", "consumed", "already"]
            .iter()
            .any(|word| text.contains(word)),
        "the error does not say that it was taken: {text}"
    );
    assert!(!error.is_cancelled() && !error.is_panic() && !error.is_would_deadlock());
}

#[test]
fn wait_blocks_until_the_value_is_there() {
    let _watch = watchdog(20);
    let (writer, reader) = promise();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| reader.wait());
        assert_eq!(writer.resolve(1), Ok(()));
        assert_eq!(waiting.join().expect("no panic").expect("a value"), 1);
    });
}

#[test]
fn wait_ends_when_the_promise_is_dropped_or_cancelled_meanwhile() {
    let _watch = watchdog(20);
    let (writer, reader) = promise::<u8>();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| reader.wait());
        drop(writer);
        let result = waiting.join().expect("no panic");
        assert!(result.expect_err("lost").is_lost());
    });
    let (_writer, reader) = promise::<u8>();
    let cancel = reader.cancel_handle();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| reader.wait());
        assert_eq!(cancel.cancel(), Cancel::Prevented);
        let result = waiting.join().expect("no panic");
        assert!(result.expect_err("cancelled").is_cancelled());
    });
}

#[test]
fn wait_timeout_none_means_still_pending() {
    let (writer, mut reader) = promise();
    let start = Instant::now();
    assert!(reader.wait_timeout(Duration::from_millis(20)).is_none());
    assert!(start.elapsed() >= Duration::from_millis(20), "never early");
    assert!(!reader.is_finished() && !reader.is_consumed());
    writer.resolve(1).expect("a timeout cancels nothing");
    let result = reader.wait_timeout(Duration::from_millis(20));
    assert_eq!(result.expect("finished").expect("a value"), 1);
}

#[test]
fn wait_timeout_zero_looks_once() {
    let (writer, mut reader) = promise();
    assert!(reader.wait_timeout(Duration::ZERO).is_none());
    writer.resolve(1).expect("nobody cancelled");
    let result = reader.wait_timeout(Duration::ZERO);
    assert_eq!(result.expect("finished").expect("a value"), 1);
    assert!(reader.is_consumed());
}

#[test]
fn wait_timeout_max_is_legal() {
    let _watch = watchdog(20);
    let (writer, mut reader) = promise();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || reader.wait_timeout(Duration::MAX));
        assert_eq!(writer.resolve(1), Ok(()));
        let result = waiting.join().expect("no panic").expect("no timeout");
        assert_eq!(result.expect("a value"), 1);
    });
}

#[test]
fn wait_helping_without_a_pool_job_just_waits() {
    let _watch = watchdog(20);
    let (writer, reader) = promise();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| reader.wait_helping());
        assert_eq!(writer.resolve(1), Ok(()));
        assert_eq!(waiting.join().expect("no panic").expect("a value"), 1);
    });
    assert_eq!(ready(2).wait_helping().expect("a value"), 2);
}

#[test]
fn try_take_takes_what_is_there_and_never_blocks() {
    let (writer, mut reader) = promise();
    assert!(reader.try_take().is_none());
    assert!(!reader.is_consumed());
    writer.resolve(1).expect("nobody cancelled");
    assert_eq!(reader.try_take().expect("finished").expect("a value"), 1);
    assert!(reader.is_consumed() && reader.is_finished());
}

#[test]
fn a_second_take_gives_an_error_that_says_so() {
    let _watch = watchdog(20);
    let taken = |value: u8| {
        let mut handle = ready(value);
        assert_eq!(handle.try_take().expect("there").expect("a value"), value);
        handle
    };
    says_taken(taken(1).wait());
    says_taken(taken(2).wait_helping());
    says_taken(taken(3).try_take().expect("not pending"));
    says_taken(taken(4).wait_timeout(Duration::ZERO).expect("not pending"));
    says_taken(taken(5).wait_timeout(Duration::MAX).expect("not pending"));
    let mut handle = taken(6);
    for _ in 0..2 {
        match poll_once(&mut handle) {
            Poll::Ready(result) => says_taken(result),
            Poll::Pending => panic!("it would hang"),
        }
    }
    says_taken(taken(7).then(|result| result).wait().expect("then ran"));
    says_taken(taken(8).map(|value| value).wait());
    assert!(taken(9).is_consumed());
    assert_eq!(taken(10).cancel(), Cancel::TooLate);
}

#[test]
fn every_way_to_take_consumes() {
    let mut handle = ready(1);
    assert!(matches!(poll_once(&mut handle), Poll::Ready(Ok(1))));
    assert!(handle.is_consumed());
    let mut handle = ready(2);
    assert!(handle.wait_timeout(Duration::MAX).is_some());
    assert!(handle.is_consumed());
    says_taken(handle.wait());
}

#[test]
fn looking_does_not_consume() {
    let handle = ready(1);
    handle.on_complete(|_| ());
    let cancel = handle.cancel_handle();
    let _ = (handle.is_finished(), handle.is_running(), handle.id());
    let _ = (handle.is_cancelled(), cancel.is_cancelled(), handle.name());
    assert_eq!(handle.cancel(), Cancel::TooLate);
    assert!(!handle.is_consumed());
    assert_eq!(handle.wait().expect("a value"), 1);
}

#[test]
fn cancelling_what_is_finished_is_too_late_and_the_value_stays() {
    let handle = ready(1);
    assert_eq!(handle.cancel(), Cancel::TooLate);
    assert_eq!(handle.cancel_handle().cancel(), Cancel::TooLate);
    assert_eq!(handle.wait().expect("a value"), 1);
}

#[test]
fn cancelling_again_what_never_ran_is_prevented_again() {
    let (_writer, handle) = promise::<u8>();
    let other = handle.cancel_handle();
    assert!(!other.is_cancelled());
    assert_eq!(handle.cancel(), Cancel::Prevented);
    assert_eq!(handle.cancel(), Cancel::Prevented);
    assert_eq!(other.cancel(), Cancel::Prevented);
    assert!(other.is_cancelled() && handle.is_cancelled());
}

#[test]
fn a_cancel_handle_outlives_its_handle() {
    let (writer, handle) = promise::<u8>();
    let cancel = handle.cancel_handle();
    let copy = cancel.clone();
    drop(handle);
    assert!(!copy.is_cancelled());
    assert_eq!(cancel.cancel(), Cancel::Prevented);
    assert!(copy.is_cancelled() && writer.is_cancelled());
    assert_eq!(writer.resolve(1), Err(1));
}

#[test]
fn dropping_a_handle_detaches_and_never_cancels() {
    for detach in [true, false] {
        let drops = Drops::new();
        let (writer, handle) = promise();
        if detach {
            handle.detach();
        } else {
            drop(handle);
        }
        assert!(writer.start() && !writer.is_cancelled());
        assert!(writer.resolve(drops.token()).is_ok());
        assert_eq!(drops.live(), 0);
    }
}

#[test]
fn an_awaited_handle_wakes_once_when_the_outcome_is_there() {
    let (writer, mut handle) = promise();
    let (waker, wakes) = counting_waker();
    assert!(poll_with(&mut handle, &waker).is_pending());
    assert!(writer.start());
    assert_eq!(wakes.count(), 0, "nothing to tell yet");
    writer.resolve(1).expect("nobody cancelled");
    assert_eq!(wakes.count(), 1);
    assert!(matches!(poll_with(&mut handle, &waker), Poll::Ready(Ok(1))));
    assert_eq!(wakes.count(), 1);
}

#[test]
fn the_waker_of_the_last_poll_is_woken() {
    let (writer, mut handle) = promise();
    let (first, _) = counting_waker();
    let (second, wakes) = counting_waker();
    assert!(poll_with(&mut handle, &first).is_pending());
    assert!(poll_with(&mut handle, &second).is_pending());
    writer.resolve(1).expect("nobody cancelled");
    assert_eq!(wakes.count(), 1);
}

#[test]
fn no_lost_wake_where_poll_and_resolve_race() {
    let _watch = watchdog(30);
    for round in 0..1000 {
        let (writer, mut handle) = promise();
        let (stale, _) = counting_waker();
        if round % 2 == 0 {
            assert!(poll_with(&mut handle, &stale).is_pending());
        }
        let start = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                writer.resolve(round)
            });
            start.wait();
            let result = kit::foreign_block_on(handle);
            assert_eq!(result.expect("a value"), round);
        });
    }
}

#[test]
fn a_handle_polled_and_then_moved_can_be_waited_for() {
    let _watch = watchdog(20);
    let (writer, mut handle) = promise();
    assert!(poll_once(&mut handle).is_pending());
    let handle = Box::new(handle);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || handle.wait());
        assert_eq!(writer.resolve(1), Ok(()));
        assert_eq!(waiting.join().expect("no panic").expect("a value"), 1);
    });
}

#[test]
fn a_panicking_waker_does_not_reach_the_writer() {
    kit::reports::listen();
    let (writer, mut handle) = promise();
    let id = handle.id();
    assert!(poll_with(&mut handle, &kit::panicking_waker()).is_pending());
    let resolved = catch_unwind(AssertUnwindSafe(|| writer.resolve(1)));
    assert!(matches!(resolved, Ok(Ok(()))), "it got out of resolve");
    assert_eq!(handle.wait().expect("a value"), 1);
    let told = kit::reports::messages(id);
    assert_eq!(told.len(), 1, "contained and reported: {told:?}");
}

#[test]
fn a_waker_may_use_the_handle_it_wakes_for() {
    let _watch = watchdog(20);
    let (writer, handle) = promise();
    let shared = std::sync::Arc::new(std::sync::Mutex::new(Some(handle)));
    let seen = kit::Diary::new();
    let waker = std::task::Waker::from(std::sync::Arc::new(WakeFn({
        let (shared, seen) = (shared.clone(), seen.clone());
        move || {
            let mut handle = kit::lock(&shared).take().expect("still here");
            seen.note((handle.is_finished(), handle.cancel()));
            seen.note((matches!(handle.try_take(), Some(Ok(5))), Cancel::TooLate));
        }
    })));
    {
        let mut slot = kit::lock(&shared);
        let handle = slot.as_mut().expect("still here");
        assert!(poll_with(handle, &waker).is_pending());
    }
    writer.resolve(5).expect("nobody cancelled");
    assert_eq!(
        seen.read(),
        [(true, Cancel::TooLate), (true, Cancel::TooLate)]
    );
}

#[test]
fn a_foreign_runtime_may_await_any_handle() {
    let _watch = watchdog(20);
    let (writer, handle) = promise();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| kit::foreign_block_on(handle));
        assert_eq!(writer.resolve("value"), Ok(()));
        let result = waiting.join().expect("no panic");
        assert_eq!(result.expect("a value"), "value");
    });
}

#[test]
fn ids_differ_and_a_promise_has_no_name() {
    let (_a, first) = promise::<u8>();
    let (_b, second) = promise::<u8>();
    assert_ne!(first.id(), second.id());
    assert_ne!(first.id().to_string(), second.id().to_string());
    assert_eq!(first.id(), first.id());
    assert_eq!(first.name(), None);
    let id = first.id();
    let derived = first.map(|value| value);
    let _ = (id, derived.id());
}

#[test]
fn types_of_any_size_travel() {
    #[repr(align(64))]
    struct Aligned(u8);
    assert_eq!(ready(()).wait().ok(), Some(()));
    let handle = ready([7u8; 65536]);
    assert!(handle.wait().is_ok_and(|bytes| bytes == [7; 65536]));
    let value = ready(Aligned(3)).wait().expect("a value");
    assert_eq!((value.0, (&raw const value).addr() % 64), (3, 0));
    let text = String::from("borrowed");
    assert_eq!(ready(text.as_str()).wait().expect("a value"), "borrowed");
}
