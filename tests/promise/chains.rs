//! `then`, `map`, `flatten`, `chain_future_results`: result flows down, cancel flows up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use portage::promise::{Cancel, Completion, chain_future_results, promise};
use portage::time::yield_now;
use portage::{EventLoop, Job, JoinError, JoinHandle, Promise};

use crate::kit::{self, Diary, Drops, PanicOnDrop, on_new_thread, text_of, watchdog};

fn ready<T>(value: T) -> JoinHandle<T> {
    let (writer, reader) = promise();
    assert!(writer.resolve(value).is_ok());
    reader
}

fn panicked(message: &'static str) -> JoinHandle<u8> {
    let (job, handle) = Job::new(move || panic!("{message}"));
    job.run();
    handle
}

/// The writer at the top of a chain of two, and the handle at its end.
fn chained() -> (Promise<u8>, JoinHandle<u8>) {
    let (upper, source) = promise();
    let (target, lower) = promise();
    chain_future_results(source, target);
    (upper, lower)
}

// --- then and map -----------------------------------------------------------------------------

#[test]
fn then_gets_the_result_on_the_completing_thread() {
    let (writer, handle) = promise::<u8>();
    let derived = handle.then(|result| (result.ok(), std::thread::current().id()));
    assert!(!derived.is_finished());
    let completing = on_new_thread(|| {
        writer.resolve(4).expect("nobody cancelled");
        std::thread::current().id()
    });
    assert!(derived.is_finished());
    assert_eq!(derived.wait().expect("then ran"), (Some(4), completing));
}

#[test]
fn then_gets_errors_too() {
    let (writer, handle) = promise::<u8>();
    let lost = handle.then(|result| result.expect_err("lost").is_lost());
    drop(writer);
    assert!(lost.wait().expect("then ran"));

    let handle = panicked("for then").then(|result| {
        let payload = result.expect_err("panicked").into_panic();
        text_of(&*payload.expect("a payload"))
    });
    assert_eq!(handle.wait().expect("then ran"), "for then");

    let (_writer, handle) = promise::<u8>();
    let cancel = handle.cancel_handle();
    let handle = handle.then(|result| result.expect_err("cancelled").is_cancelled());
    assert_eq!(cancel.cancel(), Cancel::Prevented);
    assert!(handle.wait().expect("then ran"));
}

#[test]
fn on_a_finished_handle_they_run_at_once_on_the_caller() {
    let here = std::thread::current().id();
    let then = ready(1).then(|_| std::thread::current().id());
    assert!(then.is_finished());
    assert_eq!(then.wait().expect("then ran"), here);
    let map = ready(1).map(|value| (value, std::thread::current().id()));
    assert!(map.is_finished());
    assert_eq!(map.wait().expect("map ran"), (1, here));
}

#[test]
fn map_changes_values_and_lets_errors_pass() {
    assert_eq!(ready(2).map(|value| value * 2).wait().expect("a value"), 4);
    let drops = Drops::new();
    let token = drops.token();
    let mapped = panicked("passes").map(move |value| (value, token));
    assert_eq!(drops.live(), 0, "the closure is gone");
    let payload = mapped.wait().expect_err("an error").into_panic();
    assert_eq!(text_of(&*payload.expect("a payload")), "passes");

    let (writer, handle) = promise::<u8>();
    let mapped = handle.map(|value| value + 1).map(|value| value + 1);
    writer.fail(JoinError::failed("down")).expect("delivered");
    assert!(
        mapped
            .wait()
            .expect_err("failed")
            .to_string()
            .contains("down")
    );

    let (writer, handle) = promise::<u8>();
    let mapped = handle.map(|value| value + 1);
    drop(writer);
    assert!(mapped.wait().expect_err("lost").is_lost());
}

#[test]
fn a_panic_in_f_belongs_to_the_derived_handle() {
    let (writer, handle) = promise::<u8>();
    let derived = handle.then(|_| -> u8 { panic!("in f") });
    let resolved = catch_unwind(AssertUnwindSafe(|| writer.resolve(1)));
    assert!(matches!(resolved, Ok(Ok(()))), "it got out of resolve");
    let diary = Diary::new();
    let seen = diary.clone();
    derived.on_complete(move |completion| seen.note(completion));
    assert_eq!(diary.read(), [Completion::Panicked]);
    let payload = derived.wait().expect_err("panicked").into_panic();
    assert_eq!(text_of(&*payload.expect("a payload")), "in f");

    let late = catch_unwind(AssertUnwindSafe(|| {
        ready(1).map(|_| -> u8 { panic!("late") })
    }));
    let error = late.expect("contained").wait().expect_err("panicked");
    assert!(error.is_panic());
}

#[test]
fn cancelling_the_derived_handle_drops_f_unrun_and_cancels_the_source() {
    let drops = Drops::new();
    let (writer, handle) = promise::<u8>();
    let token = drops.token();
    let derived = handle.then(move |_| drop(token));
    assert_eq!(derived.cancel(), Cancel::Prevented);
    assert_eq!(drops.live(), 0, "dropped before cancel returned");
    assert!(writer.is_cancelled());
    assert_eq!(writer.resolve(1), Err(1));
    assert!(derived.wait().expect_err("cancelled").is_cancelled());

    let (writer, handle) = promise::<u8>();
    let token = drops.token();
    let derived = handle.map(move |_| drop(token)).map(|()| 1);
    assert_eq!(derived.cancel_handle().cancel(), Cancel::Prevented);
    assert_eq!(drops.live(), 0);
    assert!(writer.is_cancelled());
    assert!(derived.wait().expect_err("cancelled").is_cancelled());
}

#[test]
fn cancelling_the_derived_handle_of_a_running_source_asks_the_source_to_stop() {
    let drops = Drops::new();
    let (writer, handle) = promise::<u8>();
    assert!(writer.start());
    let token = drops.token();
    let derived = handle.then(move |_| drop(token));
    assert_eq!(derived.cancel(), Cancel::Prevented);
    assert_eq!(drops.live(), 0, "f is dropped unrun");
    assert!(writer.is_cancelled());
    assert_eq!(writer.resolve(1), Ok(()), "a started one still delivers");
    assert!(derived.wait().expect_err("cancelled").is_cancelled());
}

#[test]
fn dropping_the_derived_handle_cancels_nothing_and_f_still_runs() {
    let diary = Diary::new();
    let seen = diary.clone();
    let (writer, handle) = promise::<u8>();
    drop(handle.map(move |value| seen.note(value)));
    assert!(!writer.is_cancelled());
    writer.resolve(8).expect("nobody cancelled");
    assert_eq!(diary.read(), [8]);
}

#[test]
fn a_panic_in_the_drop_of_f_stays_inside() {
    kit::reports::listen();
    let (_writer, handle) = promise::<u8>();
    let bomb = PanicOnDrop("dropped with f");
    let derived = handle.then(move |_| drop(bomb));
    let cancel = catch_unwind(AssertUnwindSafe(|| derived.cancel()));
    assert_eq!(cancel.ok(), Some(Cancel::Prevented));
    assert!(derived.wait().expect_err("cancelled").is_cancelled());
}

#[test]
fn f_is_gone_before_the_derived_outcome_is_visible() {
    let _watch = watchdog(20);
    let drops = Drops::new();
    let (writer, handle) = promise::<u8>();
    let token = drops.token();
    let derived = handle.map(move |value| {
        let _held = &token;
        value
    });
    let diary = Diary::new();
    derived.on_complete({
        let (diary, drops) = (diary.clone(), drops.clone());
        move |_| diary.note(drops.live())
    });
    writer.resolve(1).expect("nobody cancelled");
    assert_eq!(diary.read(), [0]);
    assert_eq!(derived.wait().expect("a value"), 1);
}

// --- flatten ----------------------------------------------------------------------------------

#[test]
fn flatten_gives_the_inner_value() {
    assert_eq!(ready(ready(3)).flatten().wait().expect("a value"), 3);
    let (outer, nested) = promise();
    let (inner, handle) = promise();
    let flat = nested.flatten();
    assert!(outer.resolve(handle).is_ok());
    assert!(!flat.is_finished());
    inner.resolve(4).expect("nobody cancelled");
    assert_eq!(flat.wait().expect("a value"), 4);
}

#[test]
fn flatten_gives_the_error_of_either() {
    let (outer, nested) = promise::<JoinHandle<u8>>();
    let flat = nested.flatten();
    drop(outer);
    assert!(flat.wait().expect_err("lost").is_lost());
    let (inner, handle) = promise::<u8>();
    let flat = ready(handle).flatten();
    inner.fail(JoinError::failed("inner")).expect("delivered");
    assert!(
        flat.wait()
            .expect_err("failed")
            .to_string()
            .contains("inner")
    );
    assert!(
        ready(panicked("p"))
            .flatten()
            .wait()
            .expect_err("p")
            .is_panic()
    );
}

#[test]
fn cancelling_a_flat_handle_cancels_whichever_is_open() {
    let (outer, nested) = promise::<JoinHandle<u8>>();
    let flat = nested.flatten();
    assert_eq!(flat.cancel(), Cancel::Prevented);
    assert!(outer.is_cancelled());
    assert!(flat.wait().expect_err("cancelled").is_cancelled());

    let (inner, handle) = promise::<u8>();
    let flat = ready(handle).flatten();
    assert_eq!(flat.cancel(), Cancel::Prevented);
    assert!(inner.is_cancelled());
    assert!(flat.wait().expect_err("cancelled").is_cancelled());
}

#[test]
fn an_inner_handle_that_comes_after_the_cancel_is_cancelled() {
    let (outer, nested) = promise::<JoinHandle<u8>>();
    assert!(outer.start());
    let flat = nested.flatten();
    let _ = flat.cancel();
    let (inner, handle) = promise::<u8>();
    assert!(outer.resolve(handle).is_ok(), "it was started");
    assert!(flat.wait().expect_err("cancelled").is_cancelled());
    assert!(inner.is_cancelled(), "cancel flows up to the late one");
}

// --- chain_future_results -----------------------------------------------------------------------

#[test]
fn a_chained_result_flows_down() {
    let (upper, lower) = chained();
    assert!(!lower.is_finished());
    upper.resolve(1).expect("nobody cancelled");
    assert_eq!(lower.wait().expect("a value"), 1);

    let (upper, lower) = chained();
    upper.fail(JoinError::failed("flows")).expect("delivered");
    assert!(
        lower
            .wait()
            .expect_err("failed")
            .to_string()
            .contains("flows")
    );

    let (upper, lower) = chained();
    drop(upper);
    assert!(lower.wait().expect_err("lost").is_lost());

    let (target, lower) = promise();
    chain_future_results(panicked("down"), target);
    let payload = lower.wait().expect_err("panicked").into_panic();
    assert_eq!(text_of(&*payload.expect("a payload")), "down");

    let (target, lower) = promise();
    chain_future_results(ready(2), target);
    assert_eq!(lower.wait().expect("a value"), 2);
}

#[test]
fn a_chained_cancel_flows_up() {
    let (upper, lower) = chained();
    assert_eq!(lower.cancel(), Cancel::Prevented);
    assert!(upper.is_cancelled() && !upper.start());
    assert_eq!(upper.resolve(1), Err(1));
    assert!(lower.wait().expect_err("cancelled").is_cancelled());
}

#[test]
fn a_cancelled_source_cancels_the_target() {
    let (_upper, source) = promise::<u8>();
    let cancel = source.cancel_handle();
    let (target, lower) = promise();
    chain_future_results(source, target);
    assert_eq!(cancel.cancel(), Cancel::Prevented);
    assert!(lower.wait().expect_err("cancelled").is_cancelled());
}

#[test]
fn a_source_chained_to_a_cancelled_target_is_cancelled() {
    let (upper, source) = promise::<u8>();
    let (target, lower) = promise();
    assert_eq!(lower.cancel(), Cancel::Prevented);
    chain_future_results(source, target);
    assert!(upper.is_cancelled());
    assert_eq!(upper.resolve(1), Err(1));
}

#[test]
fn a_cancel_request_on_a_started_target_reaches_a_running_source() {
    let (upper, source) = promise::<u8>();
    assert!(upper.start());
    let (target, lower) = promise();
    assert!(target.start());
    chain_future_results(source, target);
    let _ = lower.cancel();
    assert!(upper.is_cancelled());
    assert_eq!(upper.resolve(6), Ok(()));
    assert!(lower.is_finished(), "every handle resolves");
}

#[test]
fn a_target_that_is_already_done_ignores_the_result() {
    kit::reports::listen();
    let drops = Drops::new();
    let (upper, source) = promise();
    assert!(upper.start());
    let (target, lower) = promise();
    chain_future_results(source, target);
    assert_eq!(lower.cancel(), Cancel::Prevented);
    assert!(upper.resolve(drops.token()).is_ok());
    assert_eq!(drops.live(), 0);
    assert!(lower.wait().expect_err("cancelled").is_cancelled());
}

#[test]
fn result_and_cancel_each_flow_at_most_once() {
    let diary = Diary::new();
    let (upper, source) = promise::<u8>();
    let seen = diary.clone();
    source.on_complete(move |completion| seen.note(("source", completion)));
    let (target, lower) = promise();
    let seen = diary.clone();
    lower.on_complete(move |completion| seen.note(("target", completion)));
    chain_future_results(source, target);
    assert_eq!(lower.cancel(), Cancel::Prevented);
    assert_eq!(lower.cancel(), Cancel::Prevented);
    drop(upper);
    let mut seen = diary.read();
    seen.sort_by_key(|(who, _)| *who);
    assert_eq!(
        seen,
        [
            ("source", Completion::Cancelled),
            ("target", Completion::Cancelled)
        ]
    );
}

#[test]
fn the_order_of_chaining_does_not_matter() {
    let (upper, first) = promise::<u8>();
    let (middle, second) = promise();
    let (last, lower) = promise();
    chain_future_results(second, last);
    chain_future_results(first, middle);
    upper.resolve(5).expect("nobody cancelled");
    assert_eq!(lower.wait().expect("a value"), 5);
}

#[test]
fn completing_and_cancelling_a_chain_at_once_agree() {
    let _watch = watchdog(30);
    for round in 0..300 {
        let drops = Drops::new();
        let (upper, source) = promise();
        let (target, lower) = promise();
        let lower = lower.map(|token: kit::Token| token);
        chain_future_results(source, target);
        let start = std::sync::Barrier::new(2);
        let token = drops.token();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                drop(upper.resolve(token));
            });
            start.wait();
            if round % 2 == 0 {
                let _ = lower.cancel();
            }
            match lower.wait() {
                Ok(token) => drop(token),
                Err(error) => assert!(error.is_cancelled(), "{error}"),
            }
        });
        assert_eq!((drops.live(), drops.dropped()), (0, 1), "round {round}");
    }
}

#[test]
fn f_may_use_promises_of_its_own() {
    let _watch = watchdog(20);
    let (writer, handle) = promise::<u8>();
    let (other, end) = promise::<u8>();
    let other = Arc::new(Mutex::new(Some(other)));
    let derived = handle.then(move |result| {
        let inner = ready(2).map(|value| value + 1).wait().expect("a value");
        let other = kit::lock(&other).take().expect("once");
        other.resolve(inner).expect("nobody cancelled");
        result.expect("a value") + inner
    });
    writer.resolve(1).expect("nobody cancelled");
    assert_eq!(derived.wait().expect("a value"), 4);
    assert_eq!(end.wait().expect("a value"), 3);
}

/// Where a loop ends under a source of asyncio, its target waits for ever.
#[test]
fn a_source_whose_loop_ends_ends_its_target_too() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let (suspended, never) = promise::<u8>();
    let begun = events.spawn_local(async move { never.await.expect("never") });
    let _ = events.run_until_complete(yield_now());
    let queued = events.handle().spawn(async { 1_u8 });
    let ends: Vec<_> = [begun, queued]
        .into_iter()
        .map(|source| {
            let (target, lower) = promise();
            chain_future_results(source, target);
            lower
        })
        .collect();
    drop(events);
    for lower in ends {
        assert!(lower.wait().expect_err("the loop has ended").is_cancelled());
    }
    drop(suspended);
}
