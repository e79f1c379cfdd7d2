//! Contexts follow the work: jobs and tasks run, and are dropped, in the one of their submission.
#![cfg(not(loom))]

use std::sync::{Arc, Mutex};

use portage::time::yield_now;
use portage::{Context, ContextVar, EventLoop, Job};

static VAR: ContextVar<u8> = ContextVar::new("var");

/// Notes what the variable is where this is dropped.
struct Probe(Arc<Mutex<Vec<Option<u8>>>>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0
            .lock()
            .expect("nobody panics in there")
            .push(VAR.get());
    }
}

fn probe() -> (Probe, impl Fn() -> Vec<Option<u8>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    (Probe(seen.clone()), move || {
        seen.lock().expect("nobody panics in there").clone()
    })
}

#[test]
fn a_job_runs_in_the_context_of_its_submission_not_of_its_run() {
    VAR.set(1);
    let (job, handle) = Job::new(|| VAR.get());
    VAR.set(2);
    Context::new().run(|| job.run());
    assert_eq!(handle.wait().unwrap(), Some(1));
}

#[test]
fn a_task_runs_in_the_context_of_its_submission_at_every_poll() {
    let driver = EventLoop::new();
    VAR.set(1);
    let task = driver.handle().spawn(async {
        let first = VAR.get();
        yield_now().await;
        (first, VAR.get())
    });
    VAR.set(2);
    assert_eq!(
        driver.run_until_complete(task).unwrap().unwrap(),
        (Some(1), Some(1))
    );
    assert_eq!(VAR.get(), Some(2));
}

#[test]
fn what_a_job_sets_nobody_else_sees() {
    let (job, handle) = Job::new(|| drop(VAR.set(1)));
    let (next, seen) = Job::new(|| VAR.get());
    job.run();
    next.run();
    handle.wait().unwrap();
    assert_eq!((VAR.get(), seen.wait().unwrap()), (None, None));
}

#[test]
fn tasks_that_take_turns_do_not_see_each_other() {
    let driver = EventLoop::new();
    VAR.set(100);
    let tasks = [1, 2, 3].map(|own| {
        driver.handle().spawn(async move {
            assert_eq!(VAR.get(), Some(100));
            let token = VAR.set(own);
            for _ in 0..5 {
                yield_now().await;
                assert_eq!(VAR.get(), Some(own));
            }
            VAR.reset(token).unwrap();
            VAR.get()
        })
    });
    for task in tasks {
        assert_eq!(driver.run_until_complete(task).unwrap().unwrap(), Some(100));
    }
}

#[test]
fn the_context_of_whoever_runs_a_job_is_back_after_a_panic() {
    let (job, handle) = Context::new().run(|| {
        Job::new(|| {
            VAR.set(9);
            std::panic::resume_unwind(Box::new("quietly"));
        })
    });
    VAR.set(1);
    job.run();
    assert_eq!(VAR.get(), Some(1));
    let outcome: Result<(), _> = handle.wait();
    assert!(outcome.unwrap_err().is_panic());
}

#[test]
fn a_closure_is_dropped_in_its_context_whether_it_ran_or_was_cancelled() {
    VAR.set(1);
    let ((ran, first), (cancelled, second)) = (probe(), probe());
    let (job, _handle) = Job::new(move || drop(ran));
    let (_kept, handle) = Job::new(move || drop(cancelled));
    VAR.set(2);
    job.run();
    handle.cancel();
    assert_eq!((first(), second()), (vec![Some(1)], vec![Some(1)]));
}

#[test]
fn a_future_is_dropped_in_its_context_whether_started_or_not() {
    let driver = EventLoop::new();
    VAR.set(1);
    let ((fresh, first), (begun, second)) = (probe(), probe());
    let never = |probe: Probe| async move {
        let _probe = probe;
        std::future::pending::<()>().await;
    };
    let begun = driver.handle().spawn(never(begun));
    driver.run_until_complete(yield_now()).unwrap();
    let fresh = driver.handle().spawn(never(fresh));
    VAR.set(2);
    fresh.cancel();
    begun.cancel();
    driver.run_until_complete(begun).unwrap().unwrap_err();
    assert_eq!((first(), second()), (vec![Some(1)], vec![Some(1)]));
}
