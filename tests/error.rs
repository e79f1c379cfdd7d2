//! The error types: opaque, with queries, readable, small.

#![cfg(not(loom))]

mod kit;

use std::any::Any;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};

use portage::promise::promise;
use portage::{Executor, ExecutorExt, Job, JoinError, SubmitError};

use kit::{Drops, text_of};

#[track_caller]
fn reads_well(error: &impl Error) {
    let text = error.to_string();
    let first = text.chars().next().expect("a message");
    assert!(!first.is_uppercase(), "not lower-case: {text:?}");
    assert!(!text.ends_with('.') && !text.contains('\n'), "{text:?}");
    assert!(!format!("{error:?}").is_empty());
}

fn queries(error: &JoinError) -> [bool; 6] {
    [
        error.is_cancelled(),
        error.is_panic(),
        error.is_lost(),
        error.is_shut_down(),
        error.is_timed_out(),
        error.is_would_deadlock(),
    ]
}

fn panicked(payload: impl Any + Send) -> JoinError {
    let (job, handle) = Job::new(|| -> u8 { std::panic::panic_any(payload) });
    job.run();
    handle.wait().expect_err("it panicked")
}

fn lost() -> JoinError {
    let (writer, reader) = promise::<u8>();
    drop(writer);
    reader.wait().expect_err("nobody resolved it")
}

#[test]
fn each_query_of_a_join_error_answers_for_its_own_kind_only() {
    let none = [false; 6];
    let only = |at: usize| {
        let mut answers = none;
        answers[at] = true;
        answers
    };
    assert_eq!(queries(&JoinError::cancelled()), only(0));
    assert_eq!(queries(&panicked("p")), only(1));
    assert_eq!(queries(&lost()), only(2));
    assert_eq!(queries(&JoinError::failed("f")), none);
}

#[test]
fn join_errors_read_well() {
    reads_well(&JoinError::cancelled());
    reads_well(&JoinError::failed("the text of the user"));
    reads_well(&panicked("p"));
    reads_well(&lost());
    let text = panicked("what the panic said").to_string();
    assert!(text.contains("what the panic said"), "{text}");
    assert!(
        panicked(String::from("owned"))
            .to_string()
            .contains("owned")
    );
    reads_well(&panicked(17u8));
}

#[test]
fn a_failed_join_error_shows_what_failed() {
    let error = JoinError::failed(std::io::Error::other("no such valve"));
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        said.push_str(&cause.to_string());
        source = cause.source();
    }
    assert!(said.contains("no such valve"), "{said}");
    assert!(
        JoinError::failed(String::from("owned"))
            .to_string()
            .contains("owned")
    );
}

#[test]
fn into_panic_gives_the_payload_or_the_error_back() {
    let payload = panicked(42u8).into_panic().expect("a payload");
    assert_eq!(*payload.downcast::<u8>().expect("the same type"), 42);
    let payload = panicked("text").into_panic().expect("a payload");
    assert_eq!(text_of(&*payload), "text");
    let error = JoinError::cancelled().into_panic().expect_err("no panic");
    assert!(error.is_cancelled());
    let error = JoinError::failed("f").into_panic().expect_err("no panic");
    assert!(error.to_string().contains('f'));
    assert!(lost().into_panic().expect_err("no panic").is_lost());
}

#[test]
fn resume_unwind_goes_on_with_the_payload() {
    let error = panicked(String::from("again"));
    let unwound = catch_unwind(AssertUnwindSafe(|| error.resume_unwind()));
    let payload = unwound.expect_err("it never returns");
    assert_eq!(text_of(&*payload), "again");
    let unwound = catch_unwind(AssertUnwindSafe(|| JoinError::cancelled().resume_unwind()));
    assert!(unwound.is_err(), "it never returns");
}

#[test]
fn a_payload_is_dropped_once() {
    let drops = Drops::new();
    drop(panicked(drops.token()));
    assert_eq!((drops.live(), drops.dropped()), (0, 1));
    drop(panicked(drops.token()).into_panic());
    assert_eq!((drops.live(), drops.dropped()), (0, 2));
}

#[test]
fn a_submit_error_has_its_kind_and_its_job() {
    let kinds = |error: &SubmitError| {
        [
            error.is_shut_down(),
            error.is_full(),
            error.is_broken(),
            error.is_own_thread(),
            error.is_finished(),
            error.is_no_executor(),
            error.is_would_deadlock(),
        ]
    };
    let mut expected = [false; 7];
    for (index, make) in [
        SubmitError::shut_down,
        SubmitError::full,
        SubmitError::broken,
    ]
    .into_iter()
    .enumerate()
    {
        let (job, handle) = Job::new(move || index);
        let error = make(job);
        expected[index] = true;
        assert_eq!(kinds(&error), expected);
        expected[index] = false;
        reads_well(&error);
        assert!(!handle.is_finished(), "a refusal decides nothing");
        error.into_job().expect("a job was refused").run();
        assert_eq!(handle.wait().expect("a value"), index);
    }
}

#[test]
fn a_submit_error_dropped_with_its_job_loses_it() {
    let drops = Drops::new();
    let token = drops.token();
    let (job, handle) = Job::new(move || token);
    drop(SubmitError::full(job));
    assert_eq!(drops.live(), 0);
    assert!(handle.wait().expect_err("lost").is_lost());
}

/// Takes nothing.
struct Refuses;

impl Executor for Refuses {
    fn execute(&self, job: Job) -> Result<(), SubmitError> {
        Err(SubmitError::broken(job))
    }
}

#[test]
fn a_refused_job_comes_back_inside_the_error_of_submit() {
    let diary = kit::Diary::new();
    let seen = diary.clone();
    let error = Refuses.submit(move || seen.note(1)).expect_err("refused");
    assert!(error.is_broken());
    assert!(diary.read().is_empty());
    error.into_job().expect("it was refused").run();
    assert_eq!(diary.read(), [1]);

    let drops = Drops::new();
    let token = drops.token();
    let error = Refuses
        .submit_named("n", move || token)
        .expect_err("refused");
    assert_eq!(drops.live(), 1);
    drop(error);
    assert_eq!(drops.live(), 0, "a job nobody wants is dropped unrun");
}

#[test]
fn errors_fit_into_a_boxed_error() {
    let boxed: Box<dyn Error + Send + Sync> = Box::new(JoinError::cancelled());
    assert!(
        boxed
            .downcast_ref::<JoinError>()
            .expect("it")
            .is_cancelled()
    );
    let boxed: Box<dyn Error + Send + Sync> = Box::new(SubmitError::full(Job::new(|| ()).0));
    assert!(boxed.downcast_ref::<SubmitError>().expect("it").is_full());
}
