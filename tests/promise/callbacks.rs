//! `on_complete`: order, thread, once, late ones, panics, and what they may do inside.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::ThreadId;

use portage::promise::{Cancel, Completion, promise};
use portage::{Job, JoinError, JoinHandle};

use crate::kit::{self, Diary, Drops, PanicOnDrop, on_new_thread, watchdog};

fn this() -> ThreadId {
    std::thread::current().id()
}

#[test]
fn callbacks_run_in_order_of_registration_once() {
    let (writer, handle) = promise();
    let diary = Diary::new();
    for number in 0..10 {
        let diary = diary.clone();
        handle.on_complete(move |completion| diary.note((number, completion)));
    }
    assert!(diary.read().is_empty());
    writer.resolve(1).expect("nobody cancelled");
    let expected: Vec<_> = (0..10).map(|number| (number, Completion::Value)).collect();
    assert_eq!(diary.read(), expected);
    assert_eq!(handle.wait().expect("a value"), 1);
    assert_eq!(diary.len(), 10);
}

#[test]
fn callbacks_run_on_the_completing_thread() {
    let (writer, handle) = promise();
    let diary = Diary::new();
    let seen = diary.clone();
    handle.on_complete(move |_| seen.note(this()));
    let completing = on_new_thread(|| {
        writer.resolve(1).expect("nobody cancelled");
        this()
    });
    assert_eq!(diary.read(), [completing]);
}

#[test]
fn callbacks_run_on_the_cancelling_thread() {
    let (_writer, handle) = promise::<u8>();
    let diary = Diary::new();
    let seen = diary.clone();
    handle.on_complete(move |completion| seen.note((this(), completion)));
    let cancelling = on_new_thread(|| {
        assert_eq!(handle.cancel(), Cancel::Prevented);
        this()
    });
    assert_eq!(diary.read(), [(cancelling, Completion::Cancelled)]);
    assert_eq!(handle.cancel(), Cancel::Prevented);
    assert_eq!(diary.len(), 1);
}

#[test]
fn a_request_is_no_completion() {
    let (writer, handle) = promise::<u8>();
    let diary = Diary::new();
    let seen = diary.clone();
    handle.on_complete(move |completion| seen.note(completion));
    assert!(writer.start());
    assert_eq!(handle.cancel(), Cancel::Requested);
    assert!(diary.read().is_empty());
    drop(writer);
    assert_eq!(diary.read(), [Completion::Failed]);
}

#[test]
fn callbacks_tell_how_it_ended() {
    let told = |handle: &JoinHandle<u8>| {
        let diary = Diary::new();
        let seen = diary.clone();
        handle.on_complete(move |completion| seen.note(completion));
        diary
    };
    kit::reports::listen();
    let (writer, handle) = promise();
    let diary = told(&handle);
    writer.fail(JoinError::failed("no")).expect("delivered");
    assert_eq!(diary.read(), [Completion::Failed]);

    let (writer, handle) = promise();
    let diary = told(&handle);
    drop(writer);
    assert_eq!(diary.read(), [Completion::Failed]);

    let (job, handle) = Job::new(|| panic!("as planned"));
    let diary = told(&handle);
    job.run();
    assert_eq!(diary.read(), [Completion::Panicked]);

    let (job, handle) = Job::new(|| 1);
    let diary = told(&handle);
    job.run();
    assert_eq!(diary.read(), [Completion::Value]);

    let (job, handle) = Job::new(|| 1);
    let diary = told(&handle);
    drop(job);
    assert_eq!(diary.read(), [Completion::Failed]);
}

#[test]
fn the_outcome_is_published_before_the_callbacks_run() {
    let _watch = watchdog(20);
    let (writer, handle) = promise();
    let shared = Arc::new(Mutex::new(None));
    let diary = Diary::new();
    handle.on_complete({
        let (shared, diary) = (shared.clone(), diary.clone());
        move |_| {
            let mut handle: JoinHandle<u8> = kit::lock(&shared).take().expect("put there");
            diary.note(handle.is_finished());
            diary.note(matches!(handle.try_take(), Some(Ok(9))));
        }
    });
    *kit::lock(&shared) = Some(handle);
    writer.resolve(9).expect("nobody cancelled");
    assert_eq!(diary.read(), [true, true]);
}

#[test]
fn one_added_late_runs_at_once_on_the_adding_thread() {
    let (writer, handle) = promise();
    on_new_thread(|| writer.resolve(1)).expect("nobody cancelled");
    let diary = Diary::new();
    let seen = diary.clone();
    handle.on_complete(move |completion| seen.note((this(), completion)));
    assert_eq!(diary.read(), [(this(), Completion::Value)]);
}

#[test]
fn one_added_after_the_outcome_was_taken_runs_too() {
    let (writer, mut handle) = promise();
    writer.resolve(1).expect("nobody cancelled");
    assert!(handle.try_take().is_some());
    let diary = Diary::new();
    let seen = diary.clone();
    handle.on_complete(move |completion| seen.note(completion));
    assert_eq!(diary.read(), [Completion::Value]);
}

#[test]
fn one_added_inside_a_callback_runs_too() {
    let _watch = watchdog(20);
    let (writer, handle) = promise();
    let handle = Arc::new(handle);
    let diary = Diary::new();
    handle.on_complete({
        let (diary, handle) = (diary.clone(), handle.clone());
        move |_| {
            diary.note("first");
            let inner = diary.clone();
            handle.on_complete(move |_| inner.note("inner"));
        }
    });
    writer.resolve(1).expect("nobody cancelled");
    assert_eq!(diary.read(), ["first", "inner"]);
}

#[test]
fn callbacks_run_for_a_detached_handle() {
    let (writer, handle) = promise();
    let diary = Diary::new();
    let seen = diary.clone();
    handle.on_complete(move |completion| seen.note(completion));
    drop(handle);
    writer.resolve(1).expect("nobody cancelled");
    assert_eq!(diary.read(), [Completion::Value]);
}

#[test]
fn a_panicking_one_goes_to_the_hook_and_the_rest_still_run() {
    kit::reports::listen();
    let (writer, handle) = promise();
    let diary = Diary::new();
    for number in 0..4 {
        let diary = diary.clone();
        handle.on_complete(move |_| {
            diary.note(number);
            assert!(number % 2 == 1, "callback {number} fails");
        });
    }
    let resolved = catch_unwind(AssertUnwindSafe(|| writer.resolve(1)));
    assert!(matches!(resolved, Ok(Ok(()))), "it got out of resolve");
    assert_eq!(diary.read(), [0, 1, 2, 3]);
    let told = kit::reports::messages(handle.id());
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("callback 0 fails") && told[1].contains("callback 2 fails"));
    assert_eq!(handle.wait().expect("the value is still there"), 1);
}

#[test]
fn a_late_one_that_panics_is_contained_and_reported_under_the_tasks_id() {
    kit::reports::listen();
    let (writer, handle) = promise();
    writer.resolve(1).expect("nobody cancelled");
    let added = catch_unwind(AssertUnwindSafe(|| {
        handle.on_complete(|_| panic!("late and broken"));
    }));
    assert!(added.is_ok(), "it got out of on_complete");
    let told = kit::reports::messages(handle.id());
    assert!(
        told.len() == 1 && told[0].contains("late and broken"),
        "{told:?}"
    );
}

#[test]
fn one_that_panics_in_a_cancel_does_not_reach_the_canceller() {
    kit::reports::listen();
    let (_writer, handle) = promise::<u8>();
    handle.on_complete(|_| panic!("in the cancel"));
    let cancel = catch_unwind(AssertUnwindSafe(|| handle.cancel()));
    assert_eq!(cancel.ok(), Some(Cancel::Prevented));
    assert_eq!(kit::reports::of(handle.id()).len(), 1);
}

#[test]
fn one_whose_captures_panic_in_their_drop_is_contained() {
    kit::reports::listen();
    let (writer, handle) = promise();
    let diary = Diary::new();
    let (bomb, seen) = (PanicOnDrop("captured by a callback"), diary.clone());
    handle.on_complete(move |_| {
        let _bomb = &bomb;
        seen.note(1);
    });
    let seen = diary.clone();
    handle.on_complete(move |_| seen.note(2));
    let resolved = catch_unwind(AssertUnwindSafe(|| writer.resolve(1)));
    assert!(matches!(resolved, Ok(Ok(()))), "it got out of resolve");
    assert_eq!(diary.read(), [1, 2]);
}

#[test]
fn each_is_dropped_after_it_ran() {
    let drops = Drops::new();
    let (writer, handle) = promise();
    for _ in 0..3 {
        let token = drops.token();
        handle.on_complete(move |_| drop(token));
    }
    assert_eq!(drops.live(), 3);
    writer.resolve(1).expect("nobody cancelled");
    assert_eq!(drops.live(), 0);
}

#[test]
fn one_runs_exactly_once_where_adding_and_completing_race() {
    let _watch = watchdog(30);
    for round in 0..1000 {
        let (writer, handle) = promise();
        let diary = Diary::new();
        let start = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                let _ = writer.resolve(1);
            });
            start.wait();
            for number in 0..3 {
                let diary = diary.clone();
                handle.on_complete(move |_| diary.note(number));
            }
        });
        let mut seen = diary.read();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2], "round {round}");
    }
}

#[test]
fn many_of_them_are_no_problem() {
    let (writer, handle) = promise();
    let count = Arc::new(Mutex::new(0));
    for _ in 0..100_000 {
        let count = count.clone();
        handle.on_complete(move |_| *kit::lock(&count) += 1);
    }
    writer.resolve(1).expect("nobody cancelled");
    assert_eq!(*kit::lock(&count), 100_000);
}

#[test]
fn one_may_drop_the_handle_it_belongs_to() {
    let _watch = watchdog(20);
    let drops = Drops::new();
    let (writer, handle) = promise();
    let shared = Arc::new(Mutex::new(None));
    let taken = shared.clone();
    handle.on_complete(move |_| drop(kit::lock(&taken).take()));
    *kit::lock(&shared) = Some(handle);
    assert!(writer.resolve(drops.token()).is_ok());
    assert!(kit::lock(&shared).is_none());
    assert_eq!((drops.live(), drops.dropped()), (0, 1));
}
