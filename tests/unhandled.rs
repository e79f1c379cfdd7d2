//! The unhandled hook of the process: who is called, with what, and when it misbehaves.
//!
//! The hook belongs to the whole process, so these tests go one after the other, and what the
//! default hook prints is read from a child process.

#![cfg(not(loom))]

mod kit;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};

use portage::promise::{Unhandled, UnhandledHook, promise, set_unhandled_hook};
use portage::{Job, JoinError};

use kit::{Diary, lock, watchdog};

/// One test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    lock(&TURN)
}

fn noting(diary: &Diary<String>, who: &'static str) -> UnhandledHook {
    let diary = diary.clone();
    Box::new(move |unhandled: &Unhandled<'_>| {
        diary.note(format!("{who}: {}", unhandled.message()));
    })
}

fn fail(message: &'static str) {
    let (writer, reader) = promise::<u8>();
    writer.fail(JoinError::failed(message)).expect("delivered");
    drop(reader);
}

#[test]
fn setting_a_hook_gives_the_one_before_back() {
    let _turn = alone();
    let diary = Diary::new();
    drop(set_unhandled_hook(noting(&diary, "first")));
    fail("a");
    let first = set_unhandled_hook(noting(&diary, "second"));
    fail("b");
    let first = first.expect("there was one");
    assert_eq!(diary.read(), ["first: a", "second: b"]);
    assert!(set_unhandled_hook(first).is_some());
    fail("c");
    assert_eq!(diary.read(), ["first: a", "second: b", "first: c"]);
}

#[test]
fn the_hook_sees_the_task_its_name_its_place_and_the_message() {
    let _turn = alone();
    let diary = Diary::new();
    let seen = diary.clone();
    drop(set_unhandled_hook(Box::new(move |unhandled| {
        seen.note((
            unhandled.task(),
            unhandled.name().map(str::to_owned),
            (unhandled.spawned_at().file(), unhandled.spawned_at().line()),
            unhandled.message().into_owned(),
        ));
    })));
    let line = line!() + 1;
    let (job, handle) = Job::named("painter", || panic!("out of {}", "paint"));
    let id = handle.id();
    drop(handle);
    job.run();
    let expected = (
        id,
        Some("painter".to_owned()),
        (file!(), line),
        "out of paint".to_owned(),
    );
    assert_eq!(diary.read(), [expected]);
}

#[test]
fn a_payload_without_text_has_a_message_too() {
    let _turn = alone();
    let diary = Diary::new();
    drop(set_unhandled_hook(noting(&diary, "hook")));
    let (job, handle) = Job::new(|| std::panic::panic_any(17u64));
    drop(handle);
    job.run();
    assert_eq!(diary.len(), 1);
    assert!(diary.read()[0].len() > "hook: ".len());
}

#[test]
fn a_hook_that_panics_does_not_reach_whoever_reports() {
    let _turn = alone();
    let diary = Diary::new();
    let seen = diary.clone();
    drop(set_unhandled_hook(Box::new(move |_| {
        seen.note(());
        panic!("the hook itself");
    })));
    assert!(catch_unwind(AssertUnwindSafe(|| fail("x"))).is_ok());
    assert!(catch_unwind(AssertUnwindSafe(|| fail("y"))).is_ok());
    assert_eq!(diary.len(), 2);
}

#[test]
fn a_hook_may_use_everything_also_set_another_hook() {
    let _turn = alone();
    let _watch = watchdog(20);
    let diary = Diary::new();
    let (seen, next) = (diary.clone(), diary.clone());
    drop(set_unhandled_hook(Box::new(move |unhandled| {
        seen.note(format!("old: {}", unhandled.message()));
        drop(set_unhandled_hook(noting(&next, "new")));
        fail("from the hook");
        let (writer, reader) = promise();
        writer.resolve(1).expect("nobody cancelled");
        assert_eq!(reader.wait().expect("a value"), 1);
    })));
    fail("outside");
    assert_eq!(diary.read(), ["old: outside", "new: from the hook"]);
}

#[test]
fn a_failure_inside_the_hook_is_no_endless_loop() {
    let _turn = alone();
    let _watch = watchdog(20);
    let diary = Diary::new();
    let seen = diary.clone();
    drop(set_unhandled_hook(Box::new(move |_| {
        seen.note(());
        if seen.len() < 5 {
            fail("once more");
        }
    })));
    fail("outside");
    assert!((1..=5).contains(&diary.len()));
}

#[test]
fn the_hook_runs_on_the_thread_that_lets_go_last() {
    let _turn = alone();
    let diary = Diary::new();
    let seen = diary.clone();
    drop(set_unhandled_hook(Box::new(move |_| {
        seen.note(std::thread::current().id());
    })));
    let (writer, reader) = promise::<u8>();
    writer.fail(JoinError::failed("f")).expect("delivered");
    let there = kit::on_new_thread(move || {
        drop(reader);
        std::thread::current().id()
    });
    assert_eq!(diary.read(), [there]);
}

// --- the default hook ---------------------------------------------------------------------------

const CHILD: &str = "PORTAGE_TEST_CHILD";

/// What this test prints on stderr when it runs alone, in a process of its own, as a child.
fn stderr_of_child(test: &str) -> String {
    let output = Command::new(std::env::current_exe().expect("this very program"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .expect("the child ran");
    assert!(output.status.success(), "the child failed");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_default_hook_prints_where_no_logger_is_installed() {
    if std::env::var_os(CHILD).is_some() {
        let (writer, reader) = promise::<u8>();
        eprintln!("the id is <{}>", reader.id());
        writer
            .fail(JoinError::failed("rust in the pipe"))
            .expect("delivered");
        drop(reader);
        let (job, handle) = Job::named("plumber", || panic!("no more solder"));
        drop(handle);
        job.run();
        return;
    }
    let _turn = alone();
    let said = stderr_of_child("the_default_hook_prints_where_no_logger_is_installed");
    let id = said
        .split_once("the id is <")
        .and_then(|(_, rest)| rest.split_once('>'))
        .expect("the child told it")
        .0;
    let line = said
        .lines()
        .find(|line| line.contains("rust in the pipe"))
        .unwrap_or_else(|| panic!("not reported:\n{said}"));
    assert!(line.contains(id), "without its id: {line}");
    assert!(line.contains("unhandled.rs:"), "without its place: {line}");
    assert!(
        said.lines()
            .any(|line| line.contains("plumber") && line.contains("no more solder")),
        "without its name:\n{said}"
    );
}

#[test]
fn the_default_hook_logs_an_error_where_a_logger_is_installed() {
    struct Logger;
    impl log::Log for Logger {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            eprintln!("LOG {} {}", record.level(), record.args());
        }
        fn flush(&self) {}
    }
    if std::env::var_os(CHILD).is_some() {
        log::set_logger(&Logger).expect("the first logger");
        log::set_max_level(log::LevelFilter::Error);
        fail("logged at last");
        return;
    }
    let _turn = alone();
    let said = stderr_of_child("the_default_hook_logs_an_error_where_a_logger_is_installed");
    let times = said.matches("logged at last").count();
    assert!(
        times == 1 && said.contains("LOG ERROR"),
        "not logged once:\n{said}"
    );
}
