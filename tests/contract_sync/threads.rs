//! Threads that give back their value or their panic.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::time::Duration;

use portage::context::ContextVar;
use portage::sync::ThreadWithException;

use crate::kit::{Drops, Gate, OpenAtEnd, text_of, watchdog};

#[test]
fn join_gives_the_value() {
    let _watch = watchdog(20);
    let here = std::thread::current().id();
    let thread = ThreadWithException::spawn(|| std::thread::current().id());
    assert_ne!(thread.expect("started").join(), here);
    let thread = ThreadWithException::spawn(|| String::from("value")).expect("started");
    assert_eq!(thread.try_join().expect("a value"), "value");
}

#[test]
fn join_resumes_the_panic_here() {
    let _watch = watchdog(20);
    let thread = ThreadWithException::spawn(|| -> u8 { panic!("over there") });
    let thread = thread.expect("started");
    let unwound = catch_unwind(AssertUnwindSafe(|| thread.join()));
    assert_eq!(
        text_of(&*unwound.expect_err("it goes on here")),
        "over there"
    );
    let thread = ThreadWithException::spawn(|| -> u8 { panic_any(7u8) });
    let error = thread
        .expect("started")
        .try_join()
        .expect_err("it panicked");
    let payload = error.into_panic().expect("a payload").downcast::<u8>();
    assert_eq!(*payload.expect("the same payload"), 7);
}

#[test]
fn join_timeout_none_means_still_running() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let at = gate.clone();
    let mut thread = ThreadWithException::spawn(move || {
        at.pass();
        3
    })
    .expect("started");
    gate.wait_entered(1);
    assert!(thread.is_alive());
    assert!(thread.join_timeout(Duration::ZERO).is_none());
    assert!(thread.join_timeout(Duration::from_millis(5)).is_none());
    gate.open();
    let value = thread.join_timeout(Duration::MAX).expect("it ended");
    assert_eq!(value.expect("a value"), 3);
    crate::kit::eventually("its end", || !thread.is_alive());
    // taken once; a second time is an error that says so
    let again = thread.join_timeout(Duration::MAX).expect("no hang");
    assert!(again.is_err());
    assert!(thread.try_join().is_err());
}

#[test]
fn a_panic_is_given_by_join_timeout_too() {
    let _watch = watchdog(20);
    let thread = ThreadWithException::spawn(|| -> u8 { panic!("timed") });
    let result = thread.expect("started").join_timeout(Duration::MAX);
    assert!(
        result
            .expect("it ended")
            .expect_err("it panicked")
            .is_panic()
    );
}

#[test]
fn a_thread_has_the_name_it_was_given() {
    let _watch = watchdog(20);
    let name = || std::thread::current().name().map(str::to_owned);
    let thread = ThreadWithException::spawn_named("a worker", name).expect("started");
    assert_eq!(thread.join().as_deref(), Some("a worker"));
    let thread = ThreadWithException::spawn_named(String::from("owned"), name);
    assert_eq!(thread.expect("started").join().as_deref(), Some("owned"));
}

#[test]
fn a_name_with_a_nul_is_an_error_and_nothing_runs() {
    let drops = Drops::new();
    let token = drops.token();
    let refused = ThreadWithException::spawn_named("a\0b", move || drop(token));
    assert!(refused.is_err());
    assert_eq!(drops.live(), 0);
}

#[test]
fn it_runs_in_the_context_captured_at_spawn() {
    static LABEL: ContextVar<&str> = ContextVar::new("label");
    let _watch = watchdog(20);
    let scope = LABEL.scope("the spawner's");
    let thread = ThreadWithException::spawn(|| {
        let seen = LABEL.get();
        drop(LABEL.set("the thread's"));
        seen
    });
    assert_eq!(thread.expect("started").join(), Some("the spawner's"));
    assert_eq!(LABEL.get(), Some("the spawner's"));
    drop(scope);
    let plain = std::thread::spawn(|| LABEL.get());
    assert_eq!(plain.join().expect("no panic"), None);
}

#[test]
fn dropping_it_leaves_the_thread_alone() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let at = gate.clone();
    let drops = Drops::new();
    let token = drops.token();
    let thread = ThreadWithException::spawn(move || {
        at.pass();
        token
    });
    gate.wait_entered(1);
    drop(thread);
    gate.open();
    crate::kit::eventually("the drop of its value", || drops.live() == 0);
}
