//! Cancelling: what each side sees, and every mix of cancels, drops and panics.

#![cfg(not(loom))]

mod kit;

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::{Arc, Barrier, Mutex};

use portage::cancel::is_cancelled;
use portage::promise::{Cancel, CancelHandle};
use portage::{Job, JoinHandle};

use kit::{Diary, Drops, Gate, OnDrop, OpenAtEnd, lock, poll_once, reports, watchdog};

#[test]
fn is_cancelled_is_false_outside_any_job() {
    assert!(!is_cancelled());
    let (job, handle) = Job::new(is_cancelled);
    assert_eq!(handle.cancel(), Cancel::Prevented);
    assert!(!is_cancelled());
    drop(job);
}

#[test]
fn is_cancelled_is_true_inside_the_job_from_the_request_on() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let inside = gate.clone();
    let (job, handle) = Job::new(move || {
        let before = is_cancelled();
        inside.pass();
        (before, is_cancelled(), is_cancelled())
    });
    std::thread::scope(|scope| {
        let _end = OpenAtEnd(gate.clone());
        let runner = scope.spawn(move || {
            job.run();
            is_cancelled()
        });
        gate.wait_entered(1);
        assert_eq!(handle.cancel(), Cancel::Requested);
        assert_eq!(handle.cancel(), Cancel::Requested);
        assert!(!is_cancelled(), "this thread runs no job");
        gate.open();
        assert!(!runner.join().expect("no panic"), "the job is over");
    });
    let value = handle.wait().expect("its value is still delivered");
    assert_eq!(value, (false, true, true));
}

#[test]
fn is_cancelled_asks_for_the_innermost_job() {
    let cancel: Arc<Mutex<Option<CancelHandle>>> = Arc::default();
    let own = cancel.clone();
    let (job, handle) = Job::new(move || {
        lock(&own).take().expect("put there").cancel();
        let (inner, value) = Job::new(is_cancelled);
        inner.run();
        let inner = value.wait().expect("a value");
        (inner, is_cancelled())
    });
    *lock(&cancel) = Some(handle.cancel_handle());
    job.run();
    assert_eq!(handle.wait().expect("a value"), (false, true));
}

#[test]
fn is_cancelled_is_false_again_after_a_job_that_panicked() {
    reports::listen();
    let cancel: Arc<Mutex<Option<CancelHandle>>> = Arc::default();
    let own = cancel.clone();
    let (job, handle) = Job::new(move || -> u8 {
        lock(&own).take().expect("put there").cancel();
        assert!(!is_cancelled(), "told to stop");
        1
    });
    *lock(&cancel) = Some(handle.cancel_handle());
    job.run();
    assert!(!is_cancelled());
    assert!(handle.wait().expect_err("it panicked").is_panic());
}

#[test]
fn a_cancel_from_another_thread_before_the_start_prevents() {
    let drops = Drops::new();
    let token = drops.token();
    let (job, handle) = Job::new(move || drop(token));
    let cancel = handle.cancel_handle();
    let (verdict, left) = kit::on_new_thread(|| (cancel.cancel(), drops.live()));
    assert_eq!((verdict, left), (Cancel::Prevented, 0));
    job.run();
    assert_eq!(handle.cancel(), Cancel::Prevented);
}

#[test]
fn the_closure_of_a_prevented_job_is_dropped_on_the_cancelling_thread() {
    let diary = Diary::new();
    let seen = diary.clone();
    let bell = OnDrop::new(move || seen.note(std::thread::current().id()));
    let (job, handle) = Job::new(move || drop(bell));
    let there = kit::on_new_thread(|| {
        assert_eq!(handle.cancel(), Cancel::Prevented);
        std::thread::current().id()
    });
    assert_eq!(diary.read(), [there]);
    drop(job);
}

#[test]
fn the_drop_of_a_closure_may_use_its_own_handle() {
    let _watch = watchdog(20);
    let slot: Arc<Mutex<Option<JoinHandle<()>>>> = Arc::default();
    let diary = Diary::new();
    let (inside, seen) = (slot.clone(), diary.clone());
    let bell = OnDrop::new(move || {
        let own = lock(&inside).take();
        if let Some(own) = own {
            seen.note(own.cancel() == Cancel::TooLate);
            own.on_complete(|_| ());
            drop(own);
        }
    });
    let (job, handle) = Job::new(move || drop(bell));
    let cancel = handle.cancel_handle();
    *lock(&slot) = Some(handle);
    assert_eq!(cancel.cancel(), Cancel::Prevented);
    assert_eq!(
        diary.read(),
        [false],
        "prevented or asked, but not too late"
    );
    drop(job);
}

#[test]
fn running_and_cancelling_at_once_exactly_one_wins() {
    let _watch = watchdog(30);
    for round in 0..1000 {
        let drops = Drops::new();
        let diary = Diary::new();
        let (token, seen) = (drops.token(), diary.clone());
        let (job, handle) = Job::new(move || {
            seen.note("ran");
            drop(token);
        });
        let start = Barrier::new(2);
        let verdict = std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                job.run();
            });
            start.wait();
            handle.cancel()
        });
        assert_eq!((drops.live(), drops.dropped()), (0, 1), "round {round}");
        let result = handle.wait();
        match verdict {
            Cancel::Prevented => {
                assert!(diary.read().is_empty());
                assert!(result.expect_err("cancelled").is_cancelled());
            }
            Cancel::Requested | Cancel::TooLate => {
                assert_eq!(diary.read(), ["ran"]);
                result.expect("its value");
            }
        }
    }
}

// --- every mix ----------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    Never,
    Before,
    During,
    After,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Handle {
    DroppedFirst,
    DroppedLast,
    PolledThenDropped,
    Taken,
}

#[derive(Clone, Copy, Debug)]
struct Mix {
    closure_panics: bool,
    capture_bomb: bool,
    output_bomb: bool,
    callback_panics: bool,
    waker_panics: bool,
    cancel: When,
    handle: Handle,
}

/// Counts its drop, then panics if it was told to.
struct Charge(
    #[expect(dead_code, reason = "counts its own drop")] kit::Token,
    bool,
);

impl Drop for Charge {
    fn drop(&mut self) {
        if self.1 && !std::thread::panicking() {
            panic!("a charge goes off");
        }
    }
}

fn try_mix(mix: Mix) {
    let (captures, outputs) = (Drops::new(), Drops::new());
    let capture = Charge(captures.token(), mix.capture_bomb);
    let output = Charge(outputs.token(), mix.output_bomb);
    let told: Arc<Mutex<Option<CancelHandle>>> = Arc::default();
    let inside = told.clone();
    let (job, handle) = Job::new(move || {
        let _held = &capture;
        if let Some(cancel) = lock(&inside).take() {
            assert_eq!(cancel.cancel(), Cancel::Requested);
        }
        if mix.closure_panics {
            panic_any(output);
        }
        output
    });
    let cancel = handle.cancel_handle();
    if mix.callback_panics {
        handle.on_complete(|_| panic!("a callback of the mix"));
    }
    let mut handle = Some(handle);
    if mix.handle == Handle::PolledThenDropped {
        let waker = if mix.waker_panics {
            kit::panicking_waker()
        } else {
            kit::counting_waker().0
        };
        let handle = handle.as_mut().expect("still here");
        assert!(kit::poll_with(handle, &waker).is_pending());
    }
    if mix.handle == Handle::DroppedFirst {
        handle = None;
    }
    let mut ran = true;
    match mix.cancel {
        When::Never | When::After => {}
        When::Before => {
            assert_eq!(cancel.cancel(), Cancel::Prevented);
            assert_eq!(
                (captures.live(), outputs.live()),
                (0, 0),
                "dropped by cancel"
            );
            ran = false;
        }
        When::During => *lock(&told) = Some(cancel.clone()),
    }
    job.run();
    if mix.cancel == When::After {
        assert_eq!(cancel.cancel(), Cancel::TooLate);
    }
    assert!(handle.as_ref().is_none_or(|handle| handle.is_finished()));
    match (mix.handle, handle) {
        (Handle::Taken, Some(handle)) => {
            let result = handle.wait();
            if !ran {
                assert!(result.is_err_and(|error| error.is_cancelled()));
            } else {
                // the value is the user's own from here on
                let _ = catch_unwind(AssertUnwindSafe(|| drop(result)));
            }
        }
        (Handle::PolledThenDropped, Some(mut handle)) => {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(poll_once(&mut handle))));
            drop(handle);
        }
        (_, handle) => drop(handle),
    }
    drop(cancel);
    assert_eq!((captures.live(), captures.dropped()), (0, 1));
    // a panic in the drop of a capture at the end of a closure makes the compiled code leak
    // the value that the closure was about to return (rust-lang/rust#47949)
    let leaked = ran && mix.capture_bomb && !mix.closure_panics;
    let gone = outputs.dropped();
    assert!(
        gone == 1 || leaked && gone == 0,
        "{gone} drops of the output"
    );
}

#[test]
fn every_mix_of_cancels_drops_and_panics_drops_everything_once() {
    let _watch = watchdog(60);
    reports::listen();
    let yes_no = [false, true];
    let mut mixes = 0;
    for cancel in [When::Never, When::Before, When::During, When::After] {
        for handle in [
            Handle::DroppedFirst,
            Handle::DroppedLast,
            Handle::PolledThenDropped,
            Handle::Taken,
        ] {
            for bits in 0..32u8 {
                let bit = |at: u8| yes_no[usize::from(bits >> at & 1)];
                let mix = Mix {
                    closure_panics: bit(0),
                    capture_bomb: bit(1),
                    output_bomb: bit(2),
                    callback_panics: bit(3),
                    waker_panics: bit(4),
                    cancel,
                    handle,
                };
                let outcome = catch_unwind(AssertUnwindSafe(|| try_mix(mix)));
                assert!(outcome.is_ok(), "{mix:?}");
                mixes += 1;
            }
        }
    }
    assert_eq!(mixes, 4 * 4 * 32);
}
