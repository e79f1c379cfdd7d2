//! What contexts allocate, counted. One test at a time: the counters are the thread's own.
#![cfg(not(loom))]

#[path = "kit/counting.rs"]
mod counting;

use portage::{Context, ContextVar, Job, copy_context};

/// How often and how much this thread allocates in `work`.
fn allocated<R>(work: impl FnOnce() -> R) -> (usize, usize) {
    let (allocated, _) = counting::here(|| drop(std::hint::black_box(work())));
    (allocated.calls, allocated.bytes)
}

#[test]
fn counting_counts() {
    assert_eq!(allocated(|| Box::new([0_u8; 100])), (1, 100));
}

/// On a thread that never touched a context, as most workers are at first.
#[test]
fn an_empty_context_allocates_nothing() {
    static VAR: ContextVar<u8> = ContextVar::with_default("var", || 1);
    std::thread::spawn(|| {
        assert_eq!(allocated(copy_context), (0, 0));
        assert_eq!(allocated(|| Context::new().run(copy_context)), (0, 0));
        assert_eq!(allocated(|| VAR.get()), (0, 0));
    })
    .join()
    .unwrap();
}

#[test]
fn copying_and_entering_a_full_context_allocates_nothing() {
    static VAR: ContextVar<u8> = ContextVar::new("var");
    let _token = VAR.set(1);
    let mut copy = copy_context();
    assert_eq!(allocated(copy_context), (0, 0));
    assert_eq!(allocated(|| copy.clone()), (0, 0));
    assert_eq!(allocated(|| copy.run(|| VAR.get())), (0, 0));
    assert_eq!(allocated(|| VAR.with(|value| value.copied())), (0, 0));
}

#[test]
fn setting_one_of_a_thousand_does_not_copy_a_thousand() {
    let vars: Vec<ContextVar<u64>> = (0..1_000).map(|_| ContextVar::new("var")).collect();
    vars.iter().for_each(|var| drop(var.set(0)));
    for var in &vars {
        let _copy = copy_context();
        let (count, bytes) = allocated(|| var.set(1));
        assert!(
            count <= 6 && bytes <= 2_048,
            "{count} allocations, {bytes} bytes"
        );
    }
    // With no copy about, nothing but the value is new.
    assert_eq!(allocated(|| vars[500].set(2)).0, 1);
}

#[test]
fn work_that_sets_variables_in_a_copy_allocates_little_more_than_the_values() {
    static ONE: ContextVar<u8> = ContextVar::new("one");
    static TWO: ContextVar<u8> = ContextVar::new("two");
    ONE.set(0);
    let mut copy = copy_context();
    let (count, _) = allocated(|| copy.run(|| (drop(ONE.scope(1)), drop(TWO.set(2)))));
    // Two values; one root and one slice of its own; a slice with the second variable.
    assert!(count <= 6, "{count} allocations");
}

#[test]
fn a_full_context_makes_submitted_work_allocate_no_more_than_an_empty_one() {
    static VAR: ContextVar<u8> = ContextVar::new("var");
    let submit_and_run = || {
        allocated(|| {
            let (job, handle) = Job::new(|| VAR.get());
            job.run();
            handle
        })
    };
    let _warm = submit_and_run();
    let empty = submit_and_run();
    let _guard = VAR.scope(1);
    assert_eq!(submit_and_run(), empty);
}
