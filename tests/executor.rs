//! Jobs and executors of one's own: what `Job`, `Executor` and `ExecutorExt` promise alone.

#![cfg(not(loom))]

mod kit;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use portage::context::ContextVar;
use portage::promise::{Cancel, Completion};
use portage::{Executor, ExecutorExt, Job, JoinHandle, SubmitError};

use kit::{Diary, Drops, OnDrop, PanicOnDrop, lock, on_new_thread, poll_once, reports, watchdog};

/// A queue that the test works off by hand, on the thread it likes.
#[derive(Default)]
struct Shelf(Mutex<VecDeque<Job>>);

impl Executor for Shelf {
    fn execute(&self, job: Job) -> Result<(), SubmitError> {
        lock(&self.0).push_back(job);
        Ok(())
    }
}

impl Shelf {
    fn run_one(&self) -> bool {
        let job = lock(&self.0).pop_front();
        job.map(Job::run).is_some()
    }

    fn drop_one(&self) -> bool {
        let job = lock(&self.0).pop_front();
        job.map(drop).is_some()
    }

    fn len(&self) -> usize {
        lock(&self.0).len()
    }
}

static LABEL: ContextVar<&str> = ContextVar::new("label");

fn ended<T>(handle: &JoinHandle<T>) -> Option<Completion> {
    let diary = Diary::new();
    let seen = diary.clone();
    handle.on_complete(move |completion| seen.note(completion));
    diary.read().pop()
}

#[test]
fn a_job_runs_once_where_it_is_run() {
    let (job, handle) = Job::new(|| std::thread::current().id());
    assert!(!handle.is_finished() && !handle.is_running());
    let there = on_new_thread(move || {
        job.run();
        std::thread::current().id()
    });
    assert!(handle.is_finished());
    assert_eq!(handle.wait().expect("a value"), there);
}

#[test]
fn a_job_is_running_while_its_closure_runs() {
    let _watch = watchdog(20);
    let gate = kit::Gate::new();
    let inside = gate.clone();
    let (job, handle) = Job::new(move || inside.pass());
    std::thread::scope(|scope| {
        let _end = kit::OpenAtEnd(gate.clone());
        scope.spawn(|| job.run());
        gate.wait_entered(1);
        assert!(handle.is_running() && !handle.is_finished());
        gate.open();
    });
    assert!(!handle.is_running() && handle.is_finished());
}

#[test]
fn a_job_has_the_name_it_was_given() {
    let (_job, handle) = Job::named("static", || 1);
    assert_eq!(handle.name(), Some("static"));
    let (_job, handle) = Job::named(format!("job {}", 7), || 1);
    assert_eq!(handle.name(), Some("job 7"));
    let (_job, handle) = Job::new(|| 1);
    assert_eq!(handle.name(), None);
    let (_job, handle) = Job::named("", || 1);
    assert_eq!(handle.name(), Some(""));
    let (_job, handle) = Job::named("any\0name\n", || 1);
    assert_eq!(handle.name(), Some("any\0name\n"));
}

#[test]
fn a_job_dropped_unrun_resolves_its_handle_lost() {
    let _watch = watchdog(20);
    let drops = Drops::new();
    let token = drops.token();
    let (job, handle) = Job::new(move || token);
    drop(job);
    assert_eq!(drops.live(), 0, "the closure goes with it");
    assert_eq!(ended(&handle), Some(Completion::Failed));
    assert!(handle.wait().expect_err("lost").is_lost());

    let (job, handle) = Job::new(|| 1);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| handle.wait());
        drop(job);
        let result = waiting.join().expect("no panic");
        assert!(result.expect_err("lost").is_lost());
    });
}

#[test]
fn a_panic_in_the_closure_reaches_the_handle_and_not_the_runner() {
    let (job, handle) = Job::new(|| -> u8 { panic_any(7u8) });
    let run = catch_unwind(AssertUnwindSafe(|| job.run()));
    assert!(run.is_ok(), "it got out of run");
    assert_eq!(ended(&handle), Some(Completion::Panicked));
    let payload = handle.wait().expect_err("panicked").into_panic();
    let payload = payload.expect("a payload").downcast::<u8>();
    assert_eq!(*payload.expect("the same payload"), 7);
}

#[test]
fn the_closure_is_dropped_before_the_outcome_is_visible() {
    for panics in [false, true] {
        reports::listen();
        let drops = Drops::new();
        let token = drops.token();
        let (job, handle) = Job::new(move || {
            let _held = &token;
            assert!(!panics, "as planned");
        });
        let diary = Diary::new();
        handle.on_complete({
            let (diary, drops) = (diary.clone(), drops.clone());
            move |_| diary.note(drops.live())
        });
        job.run();
        assert_eq!(diary.read(), [0]);
    }
}

#[test]
fn a_cancelled_job_does_not_run_and_its_closure_is_gone_when_cancel_returns() {
    let drops = Drops::new();
    let diary = Diary::new();
    let (token, seen) = (drops.token(), diary.clone());
    let (job, handle) = Job::new(move || {
        seen.note("ran");
        token
    });
    assert_eq!(handle.cancel(), Cancel::Prevented);
    assert_eq!((drops.live(), drops.dropped()), (0, 1));
    job.run();
    assert!(diary.read().is_empty());
    assert!(handle.wait().expect_err("cancelled").is_cancelled());
}

#[test]
fn a_job_dropped_after_its_cancel_stays_cancelled() {
    let (job, handle) = Job::new(|| 1);
    assert_eq!(handle.cancel(), Cancel::Prevented);
    drop(job);
    let error = handle.wait().expect_err("cancelled");
    assert!(error.is_cancelled() && !error.is_lost());
}

#[test]
fn a_job_whose_handle_is_gone_still_runs() {
    let diary = Diary::new();
    let seen = diary.clone();
    let (job, handle) = Job::new(move || seen.note(1));
    drop(handle);
    job.run();
    assert_eq!(diary.read(), [1]);
}

#[test]
fn a_panic_in_the_drop_of_the_closure_is_contained_and_reported() {
    reports::listen();
    // after a run: the captured value is dropped by us, not by the closure
    let bomb = PanicOnDrop("captured, after the run");
    let (job, handle) = Job::new(move || {
        let _held = &bomb;
        5
    });
    let id = handle.id();
    assert!(catch_unwind(AssertUnwindSafe(|| job.run())).is_ok());
    assert!(handle.is_finished(), "every handle resolves");
    drop(handle);
    assert!(!reports::of(id).is_empty() || !reports::with_text("after the run").is_empty());

    let bomb = PanicOnDrop("captured, cancelled");
    let (job, handle) = Job::new(move || drop(bomb));
    let cancel = catch_unwind(AssertUnwindSafe(|| handle.cancel()));
    assert_eq!(cancel.ok(), Some(Cancel::Prevented));
    assert!(!reports::messages(handle.id()).is_empty());
    drop(job);
    assert!(handle.wait().expect_err("cancelled").is_cancelled());

    let bomb = PanicOnDrop("captured, lost");
    let (job, handle) = Job::new(move || drop(bomb));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(job))).is_ok());
    assert!(!reports::messages(handle.id()).is_empty());
    assert!(handle.wait().expect_err("lost").is_lost());
}

#[test]
fn a_panic_in_the_drop_of_an_unread_value_or_payload_is_contained() {
    reports::listen();
    let (job, handle) = Job::new(|| PanicOnDrop("value of a job"));
    drop(handle);
    assert!(catch_unwind(AssertUnwindSafe(|| job.run())).is_ok());

    let (job, handle) = Job::new(|| PanicOnDrop("value read by nobody"));
    job.run();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(handle))).is_ok());

    for early in [true, false] {
        let (job, handle) = Job::new(|| panic_any(PanicOnDrop("payload")));
        let mut handle = Some(handle);
        if early {
            handle = None;
        }
        assert!(catch_unwind(AssertUnwindSafe(|| job.run())).is_ok());
        assert!(catch_unwind(AssertUnwindSafe(|| drop(handle))).is_ok());
    }
}

#[test]
fn a_job_runs_inside_the_context_captured_when_it_was_made() {
    let outer = LABEL.scope("made here");
    let (job, handle) = Job::new(|| LABEL.get());
    drop(outer);
    let _other = LABEL.scope("run here");
    job.run();
    assert_eq!(handle.wait().expect("a value"), Some("made here"));
    assert_eq!(LABEL.get(), Some("run here"));
}

#[test]
fn what_a_job_sets_stays_in_its_context() {
    let _outer = LABEL.scope("outer");
    let (job, handle) = Job::new(|| drop(LABEL.set("inner")));
    job.run();
    handle.wait().expect("a value");
    assert_eq!(LABEL.get(), Some("outer"));
    let (job, handle) = Job::new(|| -> u8 {
        drop(LABEL.set("inner"));
        panic!("as planned")
    });
    job.run();
    assert!(handle.wait().is_err());
    assert_eq!(LABEL.get(), Some("outer"));
}

#[test]
fn a_job_is_dropped_inside_the_context_it_was_made_in() {
    let diary = Diary::new();
    let make = |diary: &Diary<_>| {
        let diary = diary.clone();
        let bell = OnDrop::new(move || diary.note(LABEL.get()));
        let _here = LABEL.scope("made here");
        Job::new(move || {
            let _held = &bell;
        })
    };
    let _elsewhere = LABEL.scope("dropped here");
    let (job, handle) = make(&diary);
    job.run();
    drop(handle);
    let (job, handle) = make(&diary);
    assert_eq!(handle.cancel(), Cancel::Prevented);
    drop((job, handle));
    let (job, handle) = make(&diary);
    drop((job, handle));
    assert_eq!(diary.read(), [Some("made here"); 3]);
    assert_eq!(LABEL.get(), Some("dropped here"));
}

#[test]
fn an_executor_of_ones_own_gets_all_that_submit_offers() {
    let _watch = watchdog(20);
    let shelf = Arc::new(Shelf::default());
    let executor: Arc<dyn Executor> = shelf.clone();
    let first = executor.submit(|| 1).expect("taken");
    let second = executor.submit_named("second", || 2).expect("taken");
    assert_eq!(second.name(), Some("second"));
    assert_eq!(shelf.len(), 2);
    assert!(!first.is_finished());
    assert!(shelf.run_one() && shelf.run_one() && !shelf.run_one());
    assert_eq!(first.wait().expect("a value"), 1);
    assert_eq!(second.wait().expect("a value"), 2);

    let lost = executor.submit(|| 3).expect("taken");
    assert!(shelf.drop_one());
    assert!(lost.wait().expect_err("lost").is_lost());

    let awaited = executor.submit(|| 4).expect("taken");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| kit::foreign_block_on(awaited));
        assert!(shelf.run_one());
        let result = waiting.join().expect("no panic");
        assert_eq!(result.expect("a value"), 4);
    });
}

#[test]
fn submit_captures_the_context_of_the_call() {
    let shelf = Shelf::default();
    let here = LABEL.scope("submitted here");
    let handle = shelf.submit(|| LABEL.get()).expect("taken");
    drop(here);
    assert!(on_new_thread(|| shelf.run_one()));
    assert_eq!(handle.wait().expect("a value"), Some("submitted here"));
}

#[test]
fn a_job_may_go_to_another_executor_after_a_refusal() {
    struct Full;
    impl Executor for Full {
        fn execute(&self, job: Job) -> Result<(), SubmitError> {
            Err(SubmitError::full(job))
        }
    }
    let shelf = Shelf::default();
    let (job, handle) = Job::new(|| 8);
    let refused = Full.execute(job).expect_err("full");
    assert!(refused.is_full());
    let job = refused.into_job().expect("it comes back");
    shelf.execute(job).expect("taken");
    assert!(!handle.is_finished());
    assert!(shelf.run_one());
    assert_eq!(handle.wait().expect("a value"), 8);
}

#[test]
fn waiting_for_the_job_one_is_running_is_an_error_and_no_hang() {
    let _watch = watchdog(20);
    let slot: Arc<Mutex<Option<JoinHandle<bool>>>> = Arc::default();
    let inside = slot.clone();
    let (job, handle) = Job::new(move || {
        let own = lock(&inside).take().expect("put there");
        own.wait()
            .expect_err("it can never come")
            .is_would_deadlock()
    });
    let id = handle.id();
    let diary = Diary::new();
    let seen = diary.clone();
    handle.on_complete(move |completion| seen.note(completion));
    *lock(&slot) = Some(handle);
    reports::listen();
    job.run();
    assert_eq!(diary.read(), [Completion::Value]);
    assert!(reports::of(id).is_empty());
}

#[test]
fn looking_at_or_cancelling_the_job_one_is_running_is_no_problem() {
    let _watch = watchdog(20);
    let slot: Arc<Mutex<Option<JoinHandle<u8>>>> = Arc::default();
    let inside = slot.clone();
    let diary = Diary::new();
    let seen = diary.clone();
    let (job, handle) = Job::new(move || {
        let mut own = lock(&inside).take().expect("put there");
        seen.note(own.is_running());
        seen.note(own.try_take().is_none());
        seen.note(own.cancel() == Cancel::Requested);
        seen.note(matches!(poll_once(&mut own), Poll::Pending));
        *lock(&inside) = Some(own);
        6
    });
    *lock(&slot) = Some(handle);
    job.run();
    assert_eq!(diary.read(), [true; 4]);
    let handle = lock(&slot).take().expect("put back");
    assert_eq!(handle.wait().expect("its value is delivered"), 6);
}

#[test]
fn a_job_of_any_size_and_alignment_runs() {
    #[repr(align(64))]
    #[derive(Clone, Copy)]
    struct Aligned([u8; 64]);
    fn nothing() {}
    let (job, handle) = Job::new(nothing);
    job.run();
    handle.wait().expect("a value");
    let big = [3u8; 65536];
    let (job, handle) = Job::new(move || big);
    job.run();
    assert!(handle.wait().expect("a value") == [3; 65536]);
    let aligned = Aligned([9; 64]);
    let (job, handle) = Job::new(move || {
        assert_eq!((&raw const aligned).addr() % 64, 0);
        aligned
    });
    job.run();
    assert_eq!(handle.wait().expect("a value").0, [9; 64]);
}

#[test]
fn jobs_run_inside_jobs() {
    fn nest(depth: u32) -> u32 {
        if depth == 0 {
            return 0;
        }
        let (job, handle) = Job::new(move || nest(depth - 1) + 1);
        job.run();
        handle.wait().expect("a value")
    }
    assert_eq!(nest(50), 50);
}
