//! Jobs: order, threads, contexts, panics, batches, and the books.

use std::collections::BTreeSet;
use std::panic::panic_any;

use portage::context::ContextVar;
use portage::pool::{PoolMetrics, Shutdown};
use portage::promise::Cancel;
use portage::{Executor, ExecutorExt, Job, ThreadPool};

use super::{held, pool};
use crate::kit::{self, Diary, Drops, Gate, OnDrop, OpenAtEnd, on_new_thread, text_of, watchdog};

#[track_caller]
fn balances(pool: &ThreadPool) -> PoolMetrics {
    let sum = |m: &PoolMetrics| {
        m.completed + m.panicked + m.cancelled + m.queued as u64 + m.running as u64
    };
    kit::eventually("a balance", || {
        let metrics = pool.metrics();
        metrics.submitted == sum(&metrics)
    });
    pool.metrics()
}

#[test]
fn a_job_runs_on_a_thread_of_its_pool() {
    let _watch = watchdog(20);
    let pool = pool(2, 2);
    let name = || std::thread::current().name().map(str::to_owned);
    let handles = [
        pool.spawn_blocking(name),
        pool.submit(name).expect("taken"),
        pool.submit_named("a name", name).expect("taken"),
        on_new_thread(|| pool.spawn_blocking(name)),
    ];
    assert_eq!(handles[2].name(), Some("a name"));
    for handle in handles {
        let name = handle.wait().expect("a value").expect("a name");
        assert!(name.starts_with("portage-"), "{name}");
    }
    let dynamic: &dyn Executor = &pool;
    assert_eq!(
        dynamic
            .submit(|| 4)
            .expect("taken")
            .wait()
            .expect("a value"),
        4
    );
}

#[test]
fn a_single_worker_is_first_in_first_out() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let pool = held(&gate);
    let diary = Diary::new();
    let mut last = None;
    for number in 0..1000 {
        let seen = diary.clone();
        let handle = match number % 3 {
            0 => pool.spawn_blocking(move || seen.note(number)),
            1 => pool.submit(move || seen.note(number)).expect("taken"),
            _ => {
                let (job, handle) = Job::new(move || seen.note(number));
                pool.execute(job).expect("taken");
                handle
            }
        };
        last = Some(handle);
    }
    gate.open();
    last.expect("some").wait().expect("a value");
    assert_eq!(diary.read(), (0..1000).collect::<Vec<_>>());
}

#[test]
fn a_job_that_submits_comes_before_what_it_submits() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let pool = held(&gate);
    let diary = Diary::new();
    let (seen, inner) = (diary.clone(), diary.clone());
    let first = pool.spawn_blocking(move || {
        let pool = ThreadPool::current().expect("a worker");
        let handles: Vec<_> = (10..15)
            .map(|number| {
                let inner = inner.clone();
                pool.spawn_blocking(move || inner.note(number))
            })
            .collect();
        inner.note(1);
        handles
    });
    let second = pool.spawn_blocking(move || seen.note(2));
    gate.open();
    for handle in first.wait().expect("a value") {
        handle.wait().expect("a value");
    }
    second.wait().expect("a value");
    let seen = diary.read();
    assert_eq!(seen[0], 1);
    let place = |number| seen.iter().position(|at| *at == number);
    assert!(place(2) < place(10), "first in, first out: {seen:?}");
    assert!(seen.iter().filter(|at| **at >= 10).is_sorted());
}

#[test]
fn a_job_runs_and_is_dropped_in_the_context_of_its_submission() {
    static LABEL: ContextVar<&str> = ContextVar::new("label");
    let _watch = watchdog(20);
    let pool = pool(1, 1);
    let diary = Diary::new();
    let dropped = diary.clone();
    let scope = LABEL.scope("submitted");
    let bell = OnDrop::new(move || dropped.note(LABEL.get()));
    let first = pool.spawn_blocking(move || {
        let _bell = bell;
        let seen = LABEL.get();
        drop(LABEL.set("changed"));
        seen
    });
    drop(scope);
    let second = pool.spawn_blocking(|| LABEL.get());
    assert_eq!(first.wait().expect("a value"), Some("submitted"));
    assert_eq!(
        second.wait().expect("a value"),
        None,
        "nothing is left behind"
    );
    assert_eq!(diary.read(), [Some("changed")]);
}

#[test]
fn a_panic_in_a_job_kills_no_worker() {
    let _watch = watchdog(20);
    kit::reports::listen();
    let pool = pool(1, 1);
    for round in 0..20 {
        let bad = pool.spawn_blocking(|| -> u8 { panic_any("as planned") });
        let payload = bad.wait().expect_err("it panicked").into_panic();
        assert_eq!(text_of(&*payload.expect("a payload")), "as planned");
        // nobody reads these: a value, a capture and a payload that panic when dropped
        pool.spawn_blocking(|| kit::PanicOnDrop("value")).detach();
        let bomb = kit::PanicOnDrop("capture");
        pool.spawn_blocking(move || {
            let _held = &bomb;
        })
        .detach();
        pool.spawn_blocking(|| -> u8 { panic_any(kit::PanicOnDrop("payload")) })
            .detach();
        assert_eq!(
            pool.spawn_blocking(move || round).wait().expect("a value"),
            round
        );
    }
    let metrics = balances(&pool);
    assert_eq!((metrics.threads, metrics.threads_started), (1, 1));
    assert!(metrics.panicked >= 40);
}

#[test]
fn a_callback_or_waker_that_panics_kills_no_worker() {
    let _watch = watchdog(20);
    kit::reports::listen();
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let pool = held(&gate);
    let first = pool.spawn_blocking(|| 1);
    first.on_complete(|_| panic!("a callback"));
    let mut second = pool.spawn_blocking(|| 2);
    assert!(kit::poll_with(&mut second, &kit::panicking_waker()).is_pending());
    let third = pool
        .spawn_blocking(|| 3)
        .map(|_| -> u8 { panic!("in map") });
    gate.open();
    assert_eq!(first.wait().expect("a value"), 1);
    assert_eq!(second.wait().expect("a value"), 2);
    assert!(third.wait().expect_err("it panicked").is_panic());
    assert_eq!(pool.spawn_blocking(|| 4).wait().expect("a value"), 4);
    assert_eq!(balances(&pool).threads_started, 1);
}

#[test]
fn a_cancelled_job_is_skipped_and_the_worker_goes_on() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let pool = held(&gate);
    let (drops, diary) = (Drops::new(), Diary::new());
    let handles: Vec<_> = (0..10)
        .map(|number| {
            let (token, seen) = (drops.token(), diary.clone());
            pool.spawn_blocking(move || {
                seen.note(number);
                drop(token);
            })
        })
        .collect();
    for handle in handles.iter().step_by(2) {
        assert_eq!(handle.cancel(), Cancel::Prevented);
    }
    assert_eq!(drops.live(), 5);
    gate.open();
    for (number, handle) in handles.into_iter().enumerate() {
        let result = handle.wait();
        assert_eq!(result.is_ok(), number % 2 == 1);
    }
    assert_eq!(diary.read(), [1, 3, 5, 7, 9]);
    let metrics = balances(&pool);
    assert_eq!((metrics.cancelled, metrics.completed), (5, 6));
}

#[test]
fn a_running_job_is_asked_and_still_delivers() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let pool = pool(1, 1);
    let at = gate.clone();
    let handle = pool.spawn_blocking(move || {
        at.pass();
        portage::cancel::is_cancelled()
    });
    gate.wait_entered(1);
    assert_eq!(handle.cancel(), Cancel::Requested);
    gate.open();
    assert!(handle.wait().expect("its value"));
}

#[test]
fn a_batch_gives_its_handles_in_order() {
    let _watch = watchdog(20);
    let pool = pool(2, 4);
    let handles = pool.spawn_batch((0..500).map(|number| move || number * 2));
    assert_eq!(handles.len(), 500);
    let values: Vec<i32> = handles
        .into_iter()
        .map(|handle| handle.wait().expect("a value"))
        .collect();
    assert_eq!(
        values,
        (0..500).map(|number| number * 2).collect::<Vec<_>>()
    );
    let none = pool.spawn_batch(std::iter::empty::<fn() -> u8>());
    assert!(none.is_empty());
    assert_eq!(balances(&pool).submitted, 500);
}

#[test]
fn a_batch_on_a_single_worker_runs_in_order() {
    let _watch = watchdog(20);
    let pool = pool(1, 1);
    let diary = Diary::new();
    let handles = pool.spawn_batch((0..200).map(|number| {
        let seen = diary.clone();
        move || seen.note(number)
    }));
    for handle in handles {
        handle.wait().expect("a value");
    }
    assert_eq!(diary.read(), (0..200).collect::<Vec<_>>());
}

#[test]
fn everything_submitted_from_everywhere_runs_once() {
    let _watch = watchdog(60);
    let pool = pool(2, 4);
    let ran = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = |ran: &std::sync::Arc<std::sync::atomic::AtomicUsize>| {
        ran.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let handles: Vec<_> = (0..2000)
                    .map(|_| {
                        let ran = ran.clone();
                        pool.spawn_blocking(move || {
                            count(&ran);
                            let pool = ThreadPool::current().expect("a worker");
                            let inner = ran.clone();
                            pool.spawn_blocking(move || count(&inner))
                        })
                    })
                    .collect();
                for handle in handles {
                    handle.wait().expect("a value").wait().expect("a value");
                }
            });
        }
    });
    assert_eq!(ran.load(std::sync::atomic::Ordering::Relaxed), 16_000);
    let metrics = balances(&pool);
    assert_eq!((metrics.submitted, metrics.completed), (16_000, 16_000));
    assert_eq!((metrics.queued, metrics.running), (0, 0));
}

#[test]
fn the_books_balance_while_something_runs_and_something_waits() {
    let _watch = watchdog(20);
    kit::reports::listen();
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let pool = held(&gate);
    pool.spawn_blocking(|| -> u8 { panic!("later") }).detach();
    pool.spawn_blocking(|| 1).detach();
    let cancelled = pool.spawn_blocking(|| 2);
    assert_eq!(cancelled.cancel(), Cancel::Prevented);
    let metrics = balances(&pool);
    assert_eq!((metrics.submitted, metrics.running), (4, 1));
    assert_eq!((metrics.queued, metrics.cancelled), (2, 1));
    assert_eq!((metrics.threads, metrics.threads_idle), (1, 0));
    gate.open();
    kit::eventually("the end", || pool.metrics().completed == 2);
    let metrics = balances(&pool);
    assert_eq!(
        (metrics.panicked, metrics.queued, metrics.running),
        (1, 0, 0),
        "{metrics:?}"
    );
    assert_eq!(metrics.threads_peak, 1);
    kit::eventually("rest", || pool.metrics().threads_idle == 1);
}

#[test]
fn every_kind_of_end_is_counted_once_and_a_refusal_not_at_all() {
    let _watch = watchdog(20);
    kit::reports::listen();
    let small = pool(1, 1);
    let forever = || small.spawn(std::future::pending::<()>());
    small.spawn_blocking(|| ()).wait().expect("a value");
    let panicked = small.spawn(async { panic!("counted") });
    assert!(panicked.wait().is_err_and(|error| error.is_panic()));
    let lost = forever();
    assert!(lost.wait().is_err_and(|error| error.is_lost()));
    let (never, suspended) = portage::promise::<()>();
    let suspended = small.spawn(suspended);
    kit::eventually("the suspension", || small.metrics().running == 1);
    assert_eq!(suspended.cancel(), Cancel::Requested);
    assert!(suspended.wait().is_err_and(|error| error.is_cancelled()));
    let metrics = balances(&small);
    assert_eq!((metrics.submitted, metrics.completed), (4, 1));
    assert_eq!((metrics.panicked, metrics.cancelled), (1, 2));
    assert!(small.shutdown(Shutdown::Drain).completed);
    let refused = small.spawn_blocking(|| ()).wait();
    assert!(refused.is_err_and(|error| error.is_shut_down()));
    assert!(small.submit(|| ()).is_err());
    assert_eq!((small.metrics().submitted, metrics.submitted), (4, 4));
    drop(never);

    // A pool that breaks: what was taken ends shut down, and counts as cancelled.
    let gate = Gate::new();
    let at = gate.clone();
    let builder = ThreadPool::builder().core_threads(1).max_threads(1);
    let builder = builder.on_thread_start(move |_| {
        at.pass();
        panic!("broken");
    });
    let broken = builder.build().expect("legal sizes");
    let queued = [broken.spawn_blocking(|| ()), broken.spawn(async {})];
    gate.wait_entered(1);
    assert_eq!(balances(&broken).queued, 2);
    gate.open();
    for handle in queued {
        assert!(handle.wait().is_err_and(|error| error.is_shut_down()));
    }
    let late = broken.spawn_blocking(|| ()).wait();
    assert!(late.is_err_and(|error| error.is_shut_down()));
    let metrics = balances(&broken);
    assert_eq!((metrics.submitted, metrics.cancelled), (2, 2));
}

#[test]
fn threads_that_take_part_are_many_where_there_is_much() {
    let _watch = watchdog(20);
    let pool = pool(2, 2);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let handles: Vec<_> = (0..2)
        .map(|_| {
            let at = gate.clone();
            pool.spawn_blocking(move || {
                at.pass();
                std::thread::current().name().map(str::to_owned)
            })
        })
        .collect();
    gate.wait_entered(2);
    gate.open();
    let names: BTreeSet<_> = handles
        .into_iter()
        .map(|handle| handle.wait().expect("a value"))
        .collect();
    assert_eq!(names.len(), 2);
}

#[test]
fn every_closure_of_a_batch_is_dropped_before_its_cancel_returns() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let pool = held(&gate);
    let drops = Drops::new();
    let jobs: Vec<_> = (0..20)
        .map(|_| {
            let token = drops.token();
            move || drop(token)
        })
        .collect();
    for (cancelled, handle) in pool.spawn_batch(jobs).iter().enumerate() {
        assert_eq!(handle.cancel(), Cancel::Prevented);
        assert_eq!(handle.cancel(), Cancel::Prevented);
        assert_eq!(drops.live(), 19 - cancelled);
    }
}

#[test]
fn pinned_tasks_batches_and_steps_of_chains_run_in_the_context_of_their_call() {
    static LABEL: ContextVar<&str> = ContextVar::new("label");
    let _watch = watchdog(20);
    let pool = pool(1, 1);
    let dropped = Diary::new();
    let seen = dropped.clone();
    let (writer, source) = portage::promise::<u8>();
    let scope = LABEL.scope("called");
    let bell = OnDrop::new(move || seen.note(LABEL.get()));
    let pinned = pool.spawn_pinned(move || {
        let made = LABEL.get();
        async move {
            let _bell = bell;
            let first = LABEL.get();
            portage::time::yield_now().await;
            (made, first, LABEL.get())
        }
    });
    let batch = pool.spawn_batch((0..9).map(|_| || LABEL.get()));
    let step = source.then(|_| LABEL.get()).map(|seen| (seen, LABEL.get()));
    drop(scope);
    writer.resolve(1).expect("nobody cancelled");
    let called = Some("called");
    assert_eq!(pinned.wait().expect("a value"), (called, called, called));
    assert_eq!(dropped.read(), [called]);
    for handle in batch {
        assert_eq!(handle.wait().expect("a value"), called);
    }
    assert_eq!(step.wait().expect("a value"), (called, called));
}
