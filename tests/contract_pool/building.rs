//! Building: what is refused and why, names, hooks, the global pool.

use std::time::Duration;

use portage::ThreadPool;
use portage::error::BuildError;
use portage::pool::{Shutdown, ThreadPoolBuilder};

use super::pool;
use crate::kit::{self, Diary, Gate, OpenAtEnd, watchdog};

fn small() -> ThreadPoolBuilder {
    ThreadPool::builder().core_threads(1).max_threads(1)
}

#[track_caller]
fn refused(builder: ThreadPoolBuilder, about: &str) -> BuildError {
    let error = builder.build().expect_err("a bad argument");
    let text = error.to_string();
    assert!(text.contains(about), "it does not name {about}: {text}");
    error
}

#[test]
fn zero_core_threads_are_invalid() {
    assert!(refused(ThreadPool::builder().core_threads(0), "core").is_invalid());
}

#[test]
fn fewer_threads_than_core_are_invalid() {
    let builder = ThreadPool::builder().core_threads(4).max_threads(3);
    assert!(refused(builder, "max").is_invalid());
    let builder = ThreadPool::builder().core_threads(1).max_threads(0);
    assert!(refused(builder, "max").is_invalid());
}

#[test]
fn an_endless_number_of_threads_is_an_error_and_no_endless_start() {
    let _watch = watchdog(20);
    let builder = ThreadPool::builder().core_threads(usize::MAX);
    let error = builder.build().expect_err("too many");
    assert!(error.is_invalid() || error.is_thread());
    let builder = ThreadPool::builder()
        .core_threads(usize::MAX)
        .max_threads(usize::MAX);
    let error = builder.build().expect_err("too many");
    assert!(error.is_invalid() || error.is_thread());
}

#[test]
fn an_impossible_stack_is_an_error_from_build() {
    let _watch = watchdog(20);
    for bytes in [usize::MAX, usize::MAX / 2, isize::MAX as usize] {
        let error = small().stack_size(bytes).build().expect_err("impossible");
        assert!(error.is_invalid() || error.is_thread());
    }
    // a small one is raised to what the system needs, or refused, but never a panic
    if let Ok(pool) = small().stack_size(0).build() {
        assert_eq!(pool.spawn_blocking(|| 1).wait().expect("a value"), 1);
    }
}

#[test]
fn a_name_with_a_nul_is_an_error_from_build() {
    let error = refused(small().thread_name("a\0b"), "name");
    assert!(error.is_invalid());
    for name in ["", "a name that is longer than the system keeps", "ü-\n"] {
        let pool = small().thread_name(name).build().expect("any other name");
        assert_eq!(pool.spawn_blocking(|| 1).wait().expect("a value"), 1);
    }
}

#[test]
fn a_keep_alive_of_any_length_is_legal() {
    for time in [Duration::ZERO, Duration::MAX] {
        let pool = small().keep_alive(time).build().expect("legal");
        assert_eq!(pool.spawn_blocking(|| 1).wait().expect("a value"), 1);
        assert!(pool.shutdown(Shutdown::Drain).completed);
    }
}

#[test]
fn threads_are_named_by_prefix_and_index() {
    let name = |pool: &ThreadPool| {
        let name = pool.spawn_blocking(|| std::thread::current().name().map(str::to_owned));
        name.wait().expect("a value").expect("a name")
    };
    assert_eq!(name(&small().build().expect("legal")), "portage-0");
    let named = small().thread_name(String::from("mine")).build();
    assert_eq!(name(&named.expect("legal")), "mine-0");
}

#[test]
fn the_hooks_run_on_the_threads_with_their_index() {
    let _watch = watchdog(20);
    let (starts, stops) = (Diary::new(), Diary::new());
    let (started, stopped) = (starts.clone(), stops.clone());
    let note = |diary: Diary<_>| {
        move |index: usize| {
            let name = std::thread::current().name().map(str::to_owned);
            diary.note((index, name.unwrap_or_default()));
        }
    };
    let pool = ThreadPool::builder()
        .core_threads(2)
        .max_threads(2)
        .thread_name("hook")
        .on_thread_start(note(started))
        .on_thread_stop(note(stopped))
        .build()
        .expect("legal");
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    for _ in 0..2 {
        let at = gate.clone();
        pool.spawn_blocking(move || at.pass()).detach();
    }
    gate.wait_entered(2);
    let expected = [(0, "hook-0".to_owned()), (1, "hook-1".to_owned())];
    let mut seen = starts.read();
    seen.sort();
    assert_eq!(seen, expected);
    assert_eq!(stops.len(), 0);
    gate.open();
    assert!(pool.shutdown(Shutdown::Drain).completed);
    kit::eventually("both ends", || stops.len() == 2);
    let mut seen = stops.read();
    seen.sort();
    assert_eq!(seen, expected);
}

#[test]
fn a_start_hook_that_panics_breaks_the_pool() {
    let _watch = watchdog(20);
    kit::reports::listen();
    let pool = ThreadPool::builder()
        .core_threads(1)
        .max_threads(1)
        .on_thread_start(|_| panic!("no start"))
        .build();
    let Ok(pool) = pool else {
        return;
    };
    let drops = kit::Drops::new();
    let token = drops.token();
    let queued = pool.spawn_blocking(move || drop(token));
    let error = queued.wait().expect_err("no thread will come");
    assert!(error.is_shut_down(), "{error}");
    assert_eq!(drops.live(), 0);
    let told = kit::reports::with_text("no start");
    assert!(told.len() == 1 && told[0].file == file!(), "{told:?}");
    let error = pool.submit(|| 1).expect_err("broken");
    assert!(error.is_broken());
    assert!(error.into_job().is_some());
    assert!(pool.spawn_blocking(|| 1).wait().is_err());
    assert!(pool.spawn(async { 1 }).wait().is_err());
    assert!(pool.spawn_pinned(|| async { 1 }).wait().is_err());
    let report = pool.shutdown(Shutdown::Drain);
    assert!(report.completed && report.stuck.is_empty());
}

#[test]
fn a_stop_hook_that_panics_hurts_nobody() {
    let _watch = watchdog(20);
    kit::reports::listen();
    let pool = small().on_thread_stop(|_| panic!("at the stop")).build();
    let pool = pool.expect("legal");
    assert_eq!(pool.spawn_blocking(|| 1).wait().expect("a value"), 1);
    assert!(pool.shutdown(Shutdown::Drain).completed);
    let told = kit::reports::with_text("at the stop");
    assert!(told.len() == 1 && told[0].file == file!(), "{told:?}");
}

#[test]
fn the_pool_of_a_worker_is_its_current_one() {
    assert!(ThreadPool::current().is_none());
    let _watch = watchdog(20);
    let (one, other) = (pool(1, 1), pool(1, 1));
    let inside = one.spawn_blocking(|| {
        let current = ThreadPool::current().expect("a worker");
        current.spawn_blocking(|| 5)
    });
    let inner = inside.wait().expect("a value");
    assert_eq!(inner.wait().expect("a value"), 5);
    assert_eq!(one.metrics().submitted, 2);
    assert_eq!(other.metrics().submitted, 0);
    let in_task = one.spawn(async { ThreadPool::current().is_some() });
    assert!(in_task.wait().expect("a value"));
}

#[test]
fn the_global_pool_is_one_and_started_on_first_use() {
    let _watch = watchdog(20);
    let first = ThreadPool::global();
    assert!(std::ptr::eq(first, ThreadPool::global()));
    assert_eq!(first.spawn_blocking(|| 3).wait().expect("a value"), 3);
    assert!(!first.is_shut_down());
}

#[test]
fn a_default_pool_has_as_many_core_threads_as_usable_cpus() {
    let pool = ThreadPool::new().expect("the defaults are legal");
    assert_eq!(pool.spawn_blocking(|| 1).wait().expect("a value"), 1);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    assert!(pool.metrics().threads <= cpus + 1);
}
