//! The writing half: start, resolve, fail, drop, and what it learns of a cancel.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::Poll;

use portage::promise::{Cancel, Completion, promise};
use portage::{JoinError, JoinHandle};

use crate::kit::{self, Diary, Drops, PanicOnDrop, counting_waker, poll_with, watchdog};

fn completion_of<T>(handle: &JoinHandle<T>) -> Vec<Completion> {
    let diary = Diary::new();
    let seen = diary.clone();
    handle.on_complete(move |completion| seen.note(completion));
    diary.read()
}

#[test]
fn start_turns_pending_into_running_and_again_changes_nothing() {
    let (writer, reader) = promise::<u8>();
    assert!(!reader.is_running());
    assert!(writer.start());
    assert!(reader.is_running() && !reader.is_finished());
    assert!(writer.start());
    assert!(reader.is_running());
    writer.resolve(1).expect("nobody cancelled");
    assert!(!reader.is_running() && reader.is_finished());
    assert_eq!(reader.wait().expect("a value"), 1);
}

#[test]
fn start_is_false_once_cancelled() {
    let (writer, reader) = promise::<u8>();
    assert_eq!(reader.cancel(), Cancel::Prevented);
    assert!(!writer.start());
    assert!(!writer.start());
    assert!(!reader.is_running());
}

#[test]
fn resolve_needs_no_start() {
    let (writer, reader) = promise();
    assert_eq!(writer.resolve("value"), Ok(()));
    assert_eq!(completion_of(&reader), [Completion::Value]);
    assert_eq!(reader.wait().expect("a value"), "value");
}

#[test]
fn resolve_gives_the_value_back_where_the_cancel_came_before_the_start() {
    let (writer, reader) = promise();
    assert_eq!(reader.cancel(), Cancel::Prevented);
    assert!(reader.is_finished() && reader.is_cancelled() && writer.is_cancelled());
    let value = Rc::new(1);
    let back = writer.resolve(value.clone()).expect_err("it was cancelled");
    assert!(Rc::ptr_eq(&value, &back));
    assert_eq!(completion_of(&reader), [Completion::Cancelled]);
    assert!(reader.wait().expect_err("cancelled").is_cancelled());
}

#[test]
fn a_started_promise_still_delivers_after_a_cancel() {
    let (writer, reader) = promise();
    assert!(writer.start());
    assert_eq!(reader.cancel(), Cancel::Requested);
    assert_eq!(reader.cancel(), Cancel::Requested);
    assert!(writer.is_cancelled() && reader.is_cancelled() && !reader.is_finished());
    assert!(writer.start(), "cancelled after its start");
    assert_eq!(writer.resolve(7), Ok(()));
    assert!(reader.is_cancelled(), "told to cancel");
    assert_eq!(completion_of(&reader), [Completion::Value]);
    assert_eq!(reader.wait().expect("a value"), 7);
}

#[test]
fn fail_delivers_the_error() {
    let (writer, reader) = promise::<u8>();
    let error = JoinError::failed("the disk is full");
    writer.fail(error).expect("nobody cancelled");
    assert_eq!(completion_of(&reader), [Completion::Failed]);
    let error = reader.wait().expect_err("failed");
    assert!(error.to_string().contains("the disk is full"), "{error}");
    assert!(!error.is_cancelled() && !error.is_panic() && !error.is_lost());
}

#[test]
fn fail_with_a_cancelled_error_ends_cancelled() {
    let (writer, reader) = promise::<u8>();
    writer.fail(JoinError::cancelled()).expect("nobody did");
    assert!(reader.wait().expect_err("cancelled").is_cancelled());
}

#[test]
fn fail_gives_the_error_back_where_the_cancel_came_before_the_start() {
    let (writer, reader) = promise::<u8>();
    assert_eq!(reader.cancel(), Cancel::Prevented);
    let back = writer.fail(JoinError::failed("late")).expect_err("refused");
    assert!(back.to_string().contains("late"), "{back}");
    assert!(reader.wait().expect_err("cancelled").is_cancelled());
}

#[test]
fn fail_after_start_and_cancel_still_delivers() {
    let (writer, reader) = promise::<u8>();
    assert!(writer.start());
    assert_eq!(reader.cancel(), Cancel::Requested);
    writer.fail(JoinError::failed("seen")).expect("delivers");
    let error = reader.wait().expect_err("failed");
    assert!(error.to_string().contains("seen"), "{error}");
}

#[test]
fn dropped_unresolved_the_handle_resolves_lost() {
    let (writer, reader) = promise::<u8>();
    drop(writer);
    assert!(reader.is_finished() && !reader.is_cancelled());
    assert_eq!(completion_of(&reader), [Completion::Failed]);
    assert!(reader.wait().expect_err("lost").is_lost());

    let (writer, reader) = promise::<u8>();
    assert!(writer.start());
    drop(writer);
    assert!(!reader.is_running());
    assert!(reader.wait().expect_err("lost").is_lost());
}

#[test]
fn dropped_after_a_cancel_that_prevented_it_the_handle_stays_cancelled() {
    let (writer, reader) = promise::<u8>();
    assert_eq!(reader.cancel(), Cancel::Prevented);
    drop(writer);
    let error = reader.wait().expect_err("cancelled");
    assert!(error.is_cancelled() && !error.is_lost());
}

#[test]
fn dropped_by_an_unwinding_writer_the_handle_resolves_lost() {
    let (writer, reader) = promise::<u8>();
    let unwound = catch_unwind(AssertUnwindSafe(move || {
        let _writer = writer;
        panic!("the writer fails");
    }));
    assert!(unwound.is_err());
    assert!(reader.wait().expect_err("lost").is_lost());
}

#[test]
fn a_dropped_handle_is_no_cancel() {
    let drops = Drops::new();
    let (mut writer, reader) = promise();
    drop(reader);
    assert!(!writer.is_cancelled());
    let (waker, wakes) = counting_waker();
    {
        let mut cancelled = writer.cancelled();
        assert_eq!(poll_with(&mut cancelled, &waker), Poll::Pending);
    }
    assert!(writer.start());
    assert!(writer.resolve(drops.token()).is_ok());
    assert_eq!((drops.live(), drops.dropped()), (0, 1));
    assert_eq!(wakes.count(), 0);
}

#[test]
fn cancelled_is_ready_when_the_reader_told_it_to_stop() {
    let (mut writer, reader) = promise::<u8>();
    let (waker, wakes) = counting_waker();
    let mut cancelled = writer.cancelled();
    assert_eq!(poll_with(&mut cancelled, &waker), Poll::Pending);
    assert_eq!(wakes.count(), 0);
    assert_eq!(reader.cancel(), Cancel::Prevented);
    assert_eq!(wakes.count(), 1);
    assert_eq!(poll_with(&mut cancelled, &waker), Poll::Ready(()));
    drop(cancelled);
    let mut again = writer.cancelled();
    assert_eq!(poll_with(&mut again, &waker), Poll::Ready(()));
}

#[test]
fn cancelled_is_ready_also_for_a_request() {
    let (mut writer, reader) = promise::<u8>();
    assert!(writer.start());
    let (waker, wakes) = counting_waker();
    {
        let mut cancelled = writer.cancelled();
        assert_eq!(poll_with(&mut cancelled, &waker), Poll::Pending);
        assert_eq!(reader.cancel_handle().cancel(), Cancel::Requested);
        assert_eq!(wakes.count(), 1);
        assert_eq!(poll_with(&mut cancelled, &waker), Poll::Ready(()));
    }
    assert_eq!(writer.resolve(3), Ok(()));
    assert_eq!(reader.wait().expect("a value"), 3);
}

#[test]
fn cancelled_wakes_the_waker_of_the_last_poll() {
    let (mut writer, reader) = promise::<u8>();
    let (first, _) = counting_waker();
    let (second, wakes) = counting_waker();
    let _ = poll_with(&mut writer.cancelled(), &first);
    let mut cancelled = writer.cancelled();
    assert_eq!(poll_with(&mut cancelled, &second), Poll::Pending);
    assert_eq!(reader.cancel(), Cancel::Prevented);
    assert_eq!(wakes.count(), 1);
}

#[test]
fn cancelled_wakes_a_thread_that_waits_for_it() {
    let _watch = watchdog(20);
    let (mut writer, reader) = promise::<u8>();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            kit::foreign_block_on(writer.cancelled());
            writer.resolve(1)
        });
        assert_eq!(reader.cancel(), Cancel::Prevented);
        assert_eq!(waiting.join().expect("no panic"), Err(1));
    });
}

#[test]
fn a_panic_in_the_drop_of_a_value_that_nobody_reads_stays_inside() {
    kit::reports::listen();
    let (writer, reader) = promise();
    let id = reader.id();
    drop(reader);
    let resolved = catch_unwind(AssertUnwindSafe(|| writer.resolve(PanicOnDrop("value"))));
    assert!(matches!(resolved, Ok(Ok(()))), "it got out of resolve");
    let told = kit::reports::messages(id);
    assert!(told.len() == 1 && told[0].contains("value"), "{told:?}");

    let (writer, reader) = promise();
    assert!(writer.resolve(PanicOnDrop("unread")).is_ok());
    let id = reader.id();
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(reader)));
    assert!(dropped.is_ok(), "it got out of the handle's drop");
    let told = kit::reports::messages(id);
    assert!(told.len() == 1 && told[0].contains("unread"), "{told:?}");
}

#[test]
fn a_panicking_waker_of_the_writer_does_not_reach_the_canceller() {
    kit::reports::listen();
    let (mut writer, reader) = promise::<u8>();
    let waker = kit::panicking_waker();
    let _ = poll_with(&mut writer.cancelled(), &waker);
    let cancel = catch_unwind(AssertUnwindSafe(|| reader.cancel()));
    assert_eq!(cancel.ok(), Some(Cancel::Prevented));
    assert!(writer.is_cancelled());
    assert!(reader.wait().expect_err("cancelled").is_cancelled());
}

#[test]
fn a_value_is_dropped_once_whoever_is_last() {
    let _watch = watchdog(30);
    for round in 0..500 {
        let drops = Drops::new();
        let (writer, reader) = promise();
        let token = drops.token();
        let start = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                let _ = writer.resolve(token);
            });
            start.wait();
            match round % 3 {
                0 => drop(reader),
                1 => assert_ne!(reader.cancel(), Cancel::Requested),
                _ => drop(reader.wait()),
            }
        });
        assert_eq!((drops.live(), drops.dropped()), (0, 1), "round {round}");
    }
}

#[test]
fn resolving_and_cancelling_at_once_agree_on_one_outcome() {
    let _watch = watchdog(30);
    for round in 0..500 {
        let (writer, reader) = promise();
        if round % 2 == 0 {
            assert!(writer.start());
        }
        let start = std::sync::Barrier::new(2);
        let (resolved, cancel) = std::thread::scope(|scope| {
            let resolving = scope.spawn(|| {
                start.wait();
                writer.resolve(round)
            });
            start.wait();
            let cancel = reader.cancel();
            (resolving.join().expect("no panic"), cancel)
        });
        let outcome = reader.wait();
        match cancel {
            Cancel::Prevented => {
                assert_eq!(resolved, Err(round));
                assert!(outcome.expect_err("cancelled").is_cancelled());
            }
            Cancel::Requested | Cancel::TooLate => {
                assert_eq!(resolved, Ok(()));
                assert_eq!(outcome.expect("a value"), round);
            }
        }
    }
}
