//! What the papers say about names: of tests, and of the Python originals.

use std::collections::BTreeSet;

use super::{files, has_word, nothing, read, root};

/// `| a | b | c |` without its bars; `None` for other lines and for the lines of a table's head.
fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.strip_prefix("| ")?.strip_suffix('|')?;
    Some(inner.split(" | ").map(str::trim).collect())
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The file that a test is named by, and what it must hold; see `tests/README.md`.
fn is_a_test(name: &str) -> bool {
    let mut parts = name.split("::");
    let file = parts.next().unwrap_or_default();
    let path = match file.split_once('/') {
        Some(("src", _)) => format!("{file}.rs"),
        Some(("tokio", rest)) => format!("examples/tokio_service/tests/{rest}.rs"),
        _ => format!("tests/{file}.rs"),
    };
    let Ok(text) = std::fs::read_to_string(root().join(path)) else {
        return false;
    };
    let mut modules: Vec<&str> = parts.collect();
    let Some(test) = modules.pop() else {
        return false;
    };
    let inside = modules
        .iter()
        .all(|module| text.contains(&format!("mod {module} {{")));
    let mut attributes = false;
    let is_test = text.lines().map(str::trim_start).any(|line| {
        let found = attributes && line.starts_with(&format!("fn {test}("));
        // further attributes may follow the first
        attributes = line == "#[test]" || (attributes && line.starts_with("#["));
        found
    });
    inside && is_test
}

#[test]
fn every_row_of_the_originals_names_tests_that_exist() {
    let mut found = Vec::new();
    let mut rows = 0;
    for (number, line) in read(root().join("tests/README.md")).lines().enumerate() {
        let Some(cells) = cells(line).filter(|cells| cells[0] != "there") else {
            continue;
        };
        rows += 1;
        let place = format!("tests/README.md:{}", number + 1);
        let [_, _, tests] = cells[..] else {
            found.push(format!("{place}: {} columns, not three", cells.len()));
            continue;
        };
        if !tests.contains('`') {
            found.push(format!("{place}: names no test"));
        }
        let unknown = quoted(tests).filter(|name| !is_a_test(name));
        found.extend(unknown.map(|name| format!("{place}: there is no `{name}`")));
    }
    assert!(rows > 150, "the tables were not found");
    nothing("rows and their tests", found);
}

#[test]
fn the_reader_of_tests_tells_names_apart() {
    assert!(is_a_test(
        "tidy/papers::the_reader_of_tests_tells_names_apart"
    ));
    assert!(!is_a_test("tidy/papers::the_reader_of_tests"));
    assert!(!is_a_test("tidy/papers::is_a_test"));
    assert!(!is_a_test(
        "tidy/papers::models::the_reader_of_tests_tells_names_apart"
    ));
    assert!(!is_a_test(
        "tidy/paper::the_reader_of_tests_tells_names_apart"
    ));
    assert_eq!(cells("| a | b `c` |"), Some(vec!["a", "b `c`"]));
    assert_eq!(cells("| a | |"), Some(vec!["a", ""]));
    assert_eq!(cells("|---|---|"), None);
}

/// Every public name of the five pages, read by hand: functions, classes, methods, parameters and
/// constants; and what the article takes from Python's library to build on.
const NAMES: &[(&str, &[&str])] = &[
    (
        "thread_locals",
        &[
            "initConfig",
            "exec_in_executor",
            "exec_in_executor_threading_future",
            "AsyncExecutionQueue",
            "aadd_task",
            "add_task",
            "aclose",
            "lift_to_async",
            "ensure_thread_event_loop",
            "get_main_event_loop",
            "FutureWrapper",
            "__await__",
            "result",
            "exception",
            "add_done_callback",
            "done",
            "_consumed",
            "chain_future_results",
            "handle_future_exception",
            "delay",
            "executor",
            "queue",
            "ContextVar",
        ],
    ),
    (
        "the article",
        &[
            "to_thread",
            "run_in_executor",
            "copy_context",
            "ThreadPoolExecutor",
            "initializer",
            "shutdown",
            "get_event_loop",
            "new_event_loop",
            "set_event_loop",
            "run_until_complete",
            "asyncio.run",
            "set_result",
            "run_coroutine_threadsafe",
        ],
    ),
    (
        "CurrentThreadExecutor",
        &[
            "CurrentThreadExecutor",
            "old_executor",
            "run_until_future",
            "submit",
            "_WorkItem",
            "run",
            "Future",
            "Executor",
            "async_to_sync",
            "sync_to_async",
        ],
    ),
    (
        "concurrency_utils",
        &[
            "async_lock",
            "lock_name",
            "polling_timeout",
            "NO_POLLING",
            "asyncnullcontext",
            "await_event_with_stop",
            "wait_event",
            "stop_event",
            "wait_event_name",
            "await_threading_event",
            "event_name",
            "timeout",
            "ThreadWithException",
            "target",
            "name",
            "daemon",
            "join",
        ],
    ),
    (
        "async_executors",
        &[
            "TaskInfo",
            "event_loop",
            "thread",
            "TaskResult",
            "success",
            "output",
            "IAsyncExecutor",
            "run_multiple_async",
            "run_multiple",
            "max_workers",
            "wrap_async_iterable",
            "DefaultBackgroundExecutor",
            "EventLoopPoolExecutor",
            "pool_size",
        ],
    ),
];

#[test]
fn every_name_of_the_originals_has_its_row() {
    let page = read(root().join("docs/from_python.md"));
    let names: BTreeSet<&str> = page
        .lines()
        .filter_map(cells)
        .filter(|cells| cells.len() == 3)
        .flat_map(|cells| quoted(cells[0]).collect::<Vec<_>>())
        .collect();
    let mut found = Vec::new();
    for (seed, wanted) in NAMES {
        let missing = wanted
            .iter()
            .filter(|wanted| !names.iter().any(|name| has_word(name, wanted)));
        found.extend(missing.map(|name| format!("{seed}: `{name}`")));
    }
    nothing("names without a row in docs/from_python.md", found);
}

/// By its own name or by an alias: rustdoc allows no alias that is the name itself.
#[test]
fn the_search_finds_every_name_of_the_originals() {
    let sources: String = files("src")
        .into_iter()
        .map(|(_, text)| text + "\n")
        .collect();
    let mut public = BTreeSet::new();
    let mut in_trait = false;
    for line in sources.lines() {
        match line {
            "}" => in_trait = false,
            line if line.starts_with("pub trait") => in_trait = true,
            _ => {}
        }
        let line = line.trim_start();
        if line.starts_with("pub ") || (in_trait && line.starts_with("fn ")) {
            let head = line.split(['(', '<', '{', ':', ';', '=']).next();
            public.extend(head.and_then(|head| head.split_whitespace().next_back()));
        }
    }
    let mut found = Vec::new();
    for (seed, wanted) in NAMES {
        for name in *wanted {
            if !public.contains(name) && !sources.contains(&format!("#[doc(alias = \"{name}\")]")) {
                found.push(format!("{seed}: `{name}`"));
            }
        }
    }
    nothing(
        "names that the search of the documentation does not find",
        found,
    );
}
