//! What is reported as unhandled, when, and that it is reported once.

use std::time::{Duration, Instant};

use portage::promise::{
    Cancel, FutureWrapper, TaskId, chain_future_results, handle_future_exception, promise,
};
use portage::{Job, JoinError, JoinHandle};

use crate::kit::reports::{self, messages};
use crate::kit::{self, eventually, poll_once, watchdog};

/// A handle whose job panicked.
fn panicked(message: &'static str) -> JoinHandle<u8> {
    reports::listen();
    let (job, handle) = Job::named("doomed", move || panic!("{message}"));
    job.run();
    handle
}

fn failed(message: &'static str) -> JoinHandle<u8> {
    reports::listen();
    let (writer, handle) = promise();
    writer.fail(JoinError::failed(message)).expect("delivered");
    handle
}

#[track_caller]
fn told_once(id: TaskId, part: &str) {
    let told = messages(id);
    assert!(
        told.len() == 1 && told[0].contains(part),
        "not once {part:?}: {told:?}"
    );
}

#[track_caller]
fn told_nothing(id: TaskId) {
    assert_eq!(messages(id), Vec::<String>::new());
}

#[test]
fn a_panic_that_nobody_consumed_is_reported_when_its_handle_is_dropped() {
    let handle = panicked("nobody looked");
    let id = handle.id();
    told_nothing(id);
    drop(handle);
    told_once(id, "nobody looked");
    let report = &reports::of(id)[0];
    assert_eq!(report.name.as_deref(), Some("doomed"));
    assert!(report.file.ends_with("reports.rs"), "{report:?}");
}

#[test]
fn a_fail_that_nobody_consumed_is_reported_when_its_handle_is_dropped() {
    let handle = failed("a failure unseen");
    let id = handle.id();
    told_nothing(id);
    drop(handle);
    told_once(id, "a failure unseen");
    let report = &reports::of(id)[0];
    assert!(report.name.is_none() && report.file.ends_with("reports.rs"));
}

#[test]
fn with_the_handle_gone_first_it_is_reported_at_the_end() {
    reports::listen();
    for detach in [true, false] {
        let (job, handle) = Job::new(|| -> u8 { panic!("after the handle") });
        let id = handle.id();
        if detach {
            handle.detach();
        } else {
            drop(handle);
        }
        told_nothing(id);
        job.run();
        told_once(id, "after the handle");

        let (writer, handle) = promise::<u8>();
        let id = handle.id();
        handle.detach();
        writer.fail(JoinError::failed("late")).expect("delivered");
        told_once(id, "late");
    }
}

#[test]
fn consumed_outcomes_are_never_reported() {
    let _watch = watchdog(20);
    let handle = panicked("seen by wait");
    let id = handle.id();
    assert!(handle.wait().expect_err("panicked").is_panic());
    told_nothing(id);

    let mut handle = panicked("seen by try_take");
    assert!(handle.try_take().is_some());
    let id = handle.id();
    drop(handle);
    told_nothing(id);

    let mut handle = panicked("seen by wait_timeout");
    assert!(handle.wait_timeout(Duration::ZERO).is_some());
    let id = handle.id();
    drop(handle);
    told_nothing(id);

    let mut handle = panicked("seen by await");
    assert!(poll_once(&mut handle).is_ready());
    let id = handle.id();
    drop(handle);
    told_nothing(id);

    let handle = panicked("seen by then");
    let id = handle.id();
    drop(handle.then(|result| result.is_err()));
    told_nothing(id);

    let handle = panicked("seen by wait_helping");
    let id = handle.id();
    assert!(handle.wait_helping().is_err());
    told_nothing(id);
}

#[test]
fn values_cancelled_and_lost_outcomes_are_never_reported() {
    reports::listen();
    let (writer, handle) = promise();
    let id = handle.id();
    writer.resolve(1).expect("nobody cancelled");
    drop(handle);
    told_nothing(id);

    let (_writer, handle) = promise::<u8>();
    let id = handle.id();
    assert_eq!(handle.cancel(), Cancel::Prevented);
    drop(handle);
    told_nothing(id);

    let (writer, handle) = promise::<u8>();
    let id = handle.id();
    drop(writer);
    drop(handle);
    told_nothing(id);

    let (writer, handle) = promise::<u8>();
    let id = handle.id();
    writer.fail(JoinError::cancelled()).expect("delivered");
    drop(handle);
    told_nothing(id);
}

#[test]
fn looking_does_not_consume_so_it_is_still_reported() {
    let handle = panicked("only looked at");
    let id = handle.id();
    handle.on_complete(|_| ());
    let _ = (handle.is_finished(), handle.is_cancelled(), handle.cancel());
    assert!(!handle.is_consumed());
    drop(handle);
    told_once(id, "only looked at");
}

#[test]
fn a_cancel_handle_and_a_callback_are_no_interest() {
    let handle = panicked("no interest");
    let id = handle.id();
    let cancel = handle.cancel_handle();
    handle.on_complete(|_| ());
    drop(handle);
    told_once(id, "no interest");
    drop(cancel);
    told_once(id, "no interest");

    let (job, handle) = Job::new(|| -> u8 { panic!("none before the end") });
    let id = handle.id();
    let cancel = handle.cancel_handle();
    handle.on_complete(|_| ());
    drop(handle);
    job.run();
    told_once(id, "none before the end");
    drop(cancel);
}

#[test]
fn an_error_passed_on_is_reported_once_for_the_whole_chain() {
    reports::listen();
    let count = |text: &str| reports::with_text(text).len();
    drop(panicked("chain of maps").map(|v| v + 1).map(|v| v + 1));
    assert_eq!(count("chain of maps"), 1);

    let (target, lower) = promise();
    chain_future_results(failed("chain of promises"), target);
    let (target, lowest) = promise();
    chain_future_results(lower, target);
    assert_eq!(count("chain of promises"), 0);
    drop(lowest);
    assert_eq!(count("chain of promises"), 1);

    let (job, handle) = Job::new(|| -> u8 { panic!("chain dropped before") });
    drop(handle.map(|value| value).map(|value| value));
    assert_eq!(count("chain dropped before"), 0);
    job.run();
    assert_eq!(count("chain dropped before"), 1);

    let mapped = panicked("chain consumed").map(|v| v + 1).map(|v| v + 1);
    assert!(mapped.wait().is_err());
    assert_eq!(count("chain consumed"), 0);

    let (outer, nested) = promise();
    let flat = nested.flatten();
    assert!(outer.resolve(panicked("chain flattened")).is_ok());
    drop(flat);
    assert_eq!(count("chain flattened"), 1);
}

#[test]
fn an_error_that_then_swallowed_is_not_reported() {
    reports::listen();
    drop(panicked("swallowed").then(|result| result.is_ok()));
    assert!(reports::with_text("swallowed").is_empty());
}

#[test]
fn a_panic_in_then_is_reported_for_the_derived_handle() {
    let derived = failed("source of a panic").then(|_| -> u8 { panic!("then broke") });
    let id = derived.id();
    drop(derived);
    told_once(id, "then broke");
    assert!(reports::with_text("source of a panic").is_empty());
}

#[test]
fn what_a_done_target_ignores_counts_as_consumed() {
    reports::listen();
    let (upper, source) = promise::<u8>();
    let id = source.id();
    assert!(upper.start());
    let (target, lower) = promise();
    chain_future_results(source, target);
    assert_eq!(lower.cancel(), Cancel::Prevented);
    upper.fail(JoinError::failed("ignored")).expect("delivered");
    drop(lower);
    told_nothing(id);
    assert!(reports::with_text("ignored").is_empty());

    let (target, lower) = promise();
    assert_eq!(lower.cancel(), Cancel::Prevented);
    chain_future_results(panicked("into the void"), target);
    drop(lower);
    assert!(reports::with_text("into the void").is_empty());
}

// --- handle_future_exception --------------------------------------------------------------------

#[test]
fn with_a_delay_it_is_reported_though_the_handle_lives() {
    let _watch = watchdog(20);
    let handle = panicked("reported alive");
    let id = handle.id();
    handle_future_exception(&handle, Duration::from_millis(20));
    eventually("the report", || !messages(id).is_empty());
    told_once(id, "reported alive");
    assert!(!handle.is_consumed());
    let error = handle.wait().expect_err("a late wait still gets it");
    assert!(error.is_panic());
    told_once(id, "reported alive");
}

#[test]
fn the_delay_runs_from_the_completion() {
    let _watch = watchdog(20);
    reports::listen();
    let (job, handle) = Job::new(|| -> u8 { panic!("asked before") });
    let id = handle.id();
    handle_future_exception(&handle, Duration::from_millis(50));
    assert!(!kit::within(Duration::from_millis(80), || {
        !messages(id).is_empty()
    }));
    let ran = Instant::now();
    job.run();
    eventually("the report", || !messages(id).is_empty());
    assert!(ran.elapsed() >= Duration::from_millis(50), "too early");
    drop(handle);
    told_once(id, "asked before");
}

#[test]
fn with_a_delay_of_zero_it_is_reported_at_once() {
    let _watch = watchdog(20);
    let handle = failed("at once");
    let id = handle.id();
    handle_future_exception(&handle, Duration::ZERO);
    eventually("the report", || !messages(id).is_empty());
    drop(handle);
    told_once(id, "at once");
}

#[test]
fn consumed_before_the_delay_is_over_it_is_not_reported() {
    let _watch = watchdog(20);
    kit::in_time(|delay| {
        let handle = panicked("in time");
        let id = handle.id();
        let asked = Instant::now();
        handle_future_exception(&handle, delay);
        assert!(handle.wait().is_err());
        let in_time = asked.elapsed() < delay;
        let told = kit::within(delay * 2, || !messages(id).is_empty());
        assert!(!told || !in_time, "{:?}", messages(id));
        in_time.then_some(())
    });
}

#[test]
fn dropped_before_the_delay_is_over_it_is_reported_once() {
    let _watch = watchdog(20);
    let handle = panicked("once in all");
    let id = handle.id();
    handle_future_exception(&handle, Duration::from_millis(30));
    handle_future_exception(&handle, Duration::from_millis(40));
    drop(handle);
    eventually("the report", || !messages(id).is_empty());
    assert!(!kit::within(Duration::from_millis(120), || {
        messages(id).len() > 1
    }));
    told_once(id, "once in all");
}

#[test]
fn a_delay_without_end_leaves_the_drop() {
    let handle = panicked("never by time");
    let id = handle.id();
    handle_future_exception(&handle, Duration::MAX);
    told_nothing(id);
    drop(handle);
    told_once(id, "never by time");
}

#[test]
fn with_a_delay_values_and_cancels_are_not_reported() {
    let _watch = watchdog(20);
    reports::listen();
    let (writer, value) = promise();
    let (_kept, cancelled) = promise::<u8>();
    handle_future_exception(&value, Duration::ZERO);
    handle_future_exception(&cancelled, Duration::ZERO);
    writer.resolve(1).expect("nobody cancelled");
    assert_eq!(cancelled.cancel(), Cancel::Prevented);
    let ids = [value.id(), cancelled.id()];
    assert!(!kit::within(Duration::from_millis(60), || {
        ids.iter().any(|id| !messages(*id).is_empty())
    }));
}

// --- FutureWrapper ------------------------------------------------------------------------------

type Outcome = Result<u8, String>;

fn wrapped(outcome: Outcome) -> (TaskId, FutureWrapper<u8, String>) {
    reports::listen();
    let (writer, handle) = promise();
    let id = handle.id();
    writer.resolve(outcome).expect("nobody cancelled");
    (id, FutureWrapper::new(handle))
}

#[test]
fn an_err_in_a_wrapper_that_nobody_consumed_is_reported() {
    let (id, wrapper) = wrapped(Err("an error of mine".into()));
    assert!(wrapper.is_finished() && !wrapper.is_consumed());
    wrapper.on_complete(|_| ());
    told_nothing(id);
    drop(wrapper);
    told_once(id, "an error of mine");
}

#[test]
fn an_err_that_comes_after_the_wrapper_was_dropped_is_reported() {
    reports::listen();
    let (writer, handle) = promise::<Outcome>();
    let id = handle.id();
    drop(FutureWrapper::new(handle));
    told_nothing(id);
    writer.resolve(Err("late err".into())).expect("delivered");
    told_once(id, "late err");
}

#[test]
fn a_wrapper_passes_everything_through() {
    let _watch = watchdog(20);
    let (id, wrapper) = wrapped(Err("consumed err".into()));
    assert_eq!(
        wrapper.wait().expect("an outcome"),
        Err("consumed err".into())
    );
    told_nothing(id);

    let (id, mut wrapper) = wrapped(Err("awaited err".into()));
    assert!(poll_once(&mut wrapper).is_ready());
    assert!(wrapper.is_consumed());
    drop(wrapper);
    told_nothing(id);

    let (id, wrapper) = wrapped(Ok(4));
    drop(wrapper);
    told_nothing(id);
    assert_eq!(wrapped(Ok(5)).1.wait().expect("an outcome"), Ok(5));

    let (job, handle) = Job::new(|| -> Outcome { panic!("under the wrapper") });
    let id = handle.id();
    let wrapper = FutureWrapper::new(handle);
    assert!(!wrapper.is_finished());
    job.run();
    drop(wrapper);
    told_once(id, "under the wrapper");

    let (writer, handle) = promise::<Outcome>();
    let wrapper = FutureWrapper::new(handle);
    drop(writer);
    assert!(wrapper.wait().expect_err("lost").is_lost());
}

#[test]
fn without_a_wrapper_an_err_is_a_value_and_not_reported() {
    reports::listen();
    let (writer, handle) = promise::<Outcome>();
    let id = handle.id();
    writer.resolve(Err("plain".into())).expect("delivered");
    drop(handle);
    told_nothing(id);
}

#[test]
fn what_a_delayed_report_has_told_is_not_told_again_by_whoever_it_is_passed_on_to() {
    type PassOn = fn(JoinHandle<Result<u8, JoinError>>);
    let pass_on: [PassOn; 5] = [
        |handle| drop(handle),
        |handle| drop(handle.map(|value| value)),
        |handle| {
            let (target, derived) = promise();
            chain_future_results(handle, target);
            drop(derived);
        },
        |handle| drop(FutureWrapper::new(handle)),
        |handle| drop(FutureWrapper::new(handle.map(|value| value))),
    ];
    for (at, pass_on) in pass_on.into_iter().enumerate() {
        for first in [true, false] {
            reports::listen();
            let text = format!("passed on in way {at}, {first}");
            let (writer, handle) = promise();
            handle_future_exception(&handle, Duration::ZERO);
            let error = JoinError::failed(text.clone());
            if first {
                writer.fail(error).expect("delivered");
                pass_on(handle);
            } else {
                let derived = handle.map(|value| value);
                handle_future_exception(&derived, Duration::ZERO);
                writer.fail(error).expect("delivered");
                pass_on(derived);
            }
            let told = reports::with_text(&text);
            assert_eq!(told.len(), 1, "{told:?}");
        }
    }
}

#[test]
fn that_an_outcome_was_taken_before_is_no_failure_to_report() {
    reports::listen();
    let (writer, mut handle) = promise();
    writer.resolve(1).expect("nobody cancelled");
    assert!(handle.try_take().is_some());
    let derived = handle.map(|value: u8| value);
    let id = derived.id();
    drop(derived);
    told_nothing(id);
}

/// An error whose text panics.
#[derive(Debug)]
struct Speechless(&'static str);

impl std::fmt::Display for Speechless {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("{}", self.0)
    }
}

impl std::error::Error for Speechless {}

#[test]
fn an_error_whose_text_panics_is_reported_and_does_not_reach_who_lets_go() {
    reports::listen();
    let speechless = || JoinError::failed(Speechless("no words"));
    // the reader lets go, then the writer, then a link of a chain; at last it is only looked at
    let (writer, handle) = promise::<u8>();
    let first = handle.id();
    writer.fail(speechless()).expect("delivered");
    drop(handle);
    let (writer, handle) = promise::<u8>();
    let second = handle.id();
    drop(handle);
    writer.fail(speechless()).expect("delivered");
    let (writer, handle) = promise::<u8>();
    let derived = handle.map(|value| value);
    let third = derived.id();
    derived.detach();
    writer.fail(speechless()).expect("delivered");
    let (writer, handle) = promise::<u8>();
    let fourth = handle.id();
    handle_future_exception(&handle, Duration::ZERO);
    writer.fail(speechless()).expect("delivered");
    assert!(handle.wait().is_err());
    for id in [first, second, third, fourth] {
        told_once(id, "no words");
    }

    let (writer, handle) = promise::<Result<u8, Speechless>>();
    let id = handle.id();
    let outcome = Err(Speechless("no words"));
    assert!(writer.resolve(outcome).is_ok());
    drop(FutureWrapper::new(handle));
    told_once(id, "no words");
}

#[test]
fn a_panic_in_the_drop_of_what_a_done_target_ignores_is_reported() {
    reports::listen();
    let (writer, source) = promise();
    let (target, handle) = promise();
    assert!(writer.start());
    let id = handle.id();
    chain_future_results(source, target);
    assert_eq!(handle.cancel(), Cancel::Prevented);
    let value = kit::PanicOnDrop("left aside and dropped");
    assert!(writer.resolve(value).is_ok());
    told_once(id, "left aside and dropped");
}
