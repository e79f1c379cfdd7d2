//! The house rules that a machine can keep: floors, unsafe rooms, the one door, sizes, papers.
//!
//! Everything here reads text. The rules and their reasons stand in `ARCHITECTURE.md`.

#![cfg(not(loom))]

#[path = "tidy/papers.rs"]
mod papers;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

#[path = "tidy/inventory.rs"]
mod inventory;
#[path = "tidy/orderings.rs"]
mod orderings;

/// Top-level modules, cellar first. A module names only modules on lower floors, or those that
/// stand before it on its own floor.
const FLOORS: &[&[&str]] = &[
    &["base"],
    &[
        "join_error",
        "context",
        "deferred",
        "entered",
        "timer",
        "lost",
    ],
    &["task", "promise"],
    &[
        "cancel", "error", "executor", "spawn", "frame", "queue", "idle",
    ],
    &["current_thread", "event_loop", "pool"],
    &[
        "time",
        "sync",
        "bridge",
        "execution_queue",
        "executors",
        "simulation",
    ],
];

/// The one pair that knows each other: an executor refuses with an error that holds the job.
const TOGETHER: (&str, &str) = ("error", "executor");

/// Folders whose files are one thought: a cell and what its table of functions calls.
const CIRCLES: &[&str] = &["task", "context", "pool", "executors"];

/// What only `base` may take from std: models would not see it.
const BEHIND_THE_DOOR: &[&str] = &[
    "std::sync::atomic",
    "std::sync::mpsc",
    "std::sync::Barrier",
    "std::sync::Condvar",
    "std::sync::Mutex",
    "std::sync::Once",
    "std::sync::RwLock",
    "std::thread::Builder",
    "std::thread::park",
    "std::thread::park_timeout",
    "std::thread::scope",
    "std::thread::sleep",
    "std::thread::spawn",
    "std::thread::yield_now",
    "std::cell::UnsafeCell",
    "core::sync::atomic",
    "core::cell::UnsafeCell",
    "parking_lot::Condvar",
    "parking_lot::RwLock",
];

/// Files and folders with lengths of time of our own, and what for. Who polls needs one.
const LENGTHS: &[(&str, &str)] = &[
    (
        "base/park.rs",
        "a forked child whose parker's lock was left behind: it can be told nothing",
    ),
    (
        "base/patience.rs",
        "one look for an answer before a sleep, as far as that pays: nothing is asked again",
    ),
    (
        "bridge/answer.rs",
        "how long a cancelled future is waited for",
    ),
    ("executors/run_multiple.rs", "the default limit of a task"),
    (
        "pool/",
        "evidence that workers are blocked, while jobs wait: no thread tells; keep-alive",
    ),
    ("sync/mod.rs", "the default round for what is foreign"),
    (
        "sync/round.rs",
        "rounds for what is foreign: it can wake nobody",
    ),
    (
        "timer/",
        "how long the idle driver lingers; a thread that the system refused; the horizon",
    ),
];

/// Where a thread may go round without sleeping: a steal that lost its race; a moment, once, in which
/// an owner of lanes keeps off the lines of a submitter; and what stands
/// behind the door for shuttle, where that is a turn of another thread.
const SPINS: &[&str] = &[
    "queue/",
    "base/shuttled/",
    "base/park.rs",
    "current_thread/lane.rs",
];

const LINES_MAX: usize = 700;

/// One source file: as it stands, and as code alone.
struct Source {
    /// Relative to the folder it was found in, with `/`.
    path: String,
    text: String,
    /// Without comments and without test modules.
    code: String,
}

impl Source {
    fn module(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap_or_default()
    }

    fn is_root(&self) -> bool {
        self.path == "lib.rs"
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What tools put beside the sources: built files and inputs that are no text.
const MADE: &[&str] = &["artifacts", "corpus", "coverage", "regressions", "target"];

fn files_under(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("a listed entry can be read").path();
        if path.is_dir() {
            let name = path.file_name().and_then(|name| name.to_str());
            if !name.is_some_and(|name| MADE.contains(&name)) {
                files_under(&path, found);
            }
        } else {
            found.push(path);
        }
    }
    found.sort();
}

fn files(folder: &str) -> Vec<(String, String)> {
    let folder = root().join(folder);
    let mut found = Vec::new();
    files_under(&folder, &mut found);
    found
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&folder).expect("found under its folder");
            (name.to_string_lossy().replace('\\', "/"), read(&path))
        })
        .collect()
}

/// The sources of the crate. Files that are test modules as a whole have no `code`.
fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    let mut test_files = BTreeSet::new();
    for (path, text) in files("src") {
        let folder = match path.rsplit_once('/') {
            Some((folder, "mod.rs")) => format!("{folder}/"),
            None if path == "lib.rs" => String::new(),
            _ => format!("{}/", path.trim_end_matches(".rs")),
        };
        let (code, test_modules) = code_of(&text);
        test_files.extend(test_modules.iter().map(|name| format!("{folder}{name}")));
        sources.push(Source { path, text, code });
    }
    for source in &mut sources {
        let stem = source.path.trim_end_matches(".rs");
        if test_files
            .iter()
            .any(|test| stem == test || stem.starts_with(&format!("{test}/")))
        {
            source.code.clear();
        }
    }
    assert!(sources.len() > 20, "the sources were not found");
    sources
}

/// `text` without comments and test modules, and the names of test modules in other files.
fn code_of(text: &str) -> (String, Vec<String>) {
    let mut code = String::new();
    let mut elsewhere = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let bare = line.trim_start();
        if bare.starts_with("//") {
            continue;
        }
        if line.starts_with("#[cfg(") && line.contains("test") {
            let item = lines.by_ref().find(|next| !next.starts_with("#["));
            let item = item.unwrap_or_default();
            if item.ends_with('{') {
                lines.by_ref().find(|next| *next == "}");
                continue;
            }
            if let Some(name) = item.strip_suffix(';').and_then(|m| m.split("mod ").nth(1)) {
                elsewhere.push(name.to_owned());
            }
            continue;
        }
        code.push_str(line.split(" // ").next().unwrap_or_default());
        code.push('\n');
    }
    (code, elsewhere)
}

/// Every path that the code names, with the groups of `use` written out.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let chars: Vec<char> = code.chars().collect();
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = 0;
    while at < chars.len() {
        let starts = word(chars[at]) && (at == 0 || !(word(chars[at - 1]) || chars[at - 1] == ':'));
        if starts {
            at = path_at(&chars, at, "", &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one path from `at`, which may end in a group; gives the position after it.
fn path_at(chars: &[char], mut at: usize, prefix: &str, found: &mut Vec<String>) -> usize {
    let mut path = prefix.to_owned();
    loop {
        while at < chars.len() && (chars[at].is_alphanumeric() || chars[at] == '_') {
            path.push(chars[at]);
            at += 1;
        }
        if chars[at..].starts_with(&[':', ':']) {
            at += 2;
            path.push_str("::");
            if chars.get(at) == Some(&'{') {
                at += 1;
                while at < chars.len() && chars[at] != '}' {
                    if chars[at].is_alphanumeric() || chars[at] == '_' {
                        at = path_at(chars, at, &path, found);
                    } else {
                        at += 1;
                    }
                }
                return at + 1;
            }
            if chars
                .get(at)
                .is_none_or(|c| !(c.is_alphanumeric() || *c == '_'))
            {
                break;
            }
        } else {
            break;
        }
    }
    found.push(path.trim_end_matches(':').to_owned());
    at
}

fn names(path: &str, target: &str) -> bool {
    path.strip_prefix(target)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn has_word(code: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(word).any(|(at, _)| {
        !part(code[..at].chars().next_back()) && !part(code[at + word.len()..].chars().next())
    })
}

/// Fails with everything that was found, not with the first.
fn nothing(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn the_reader_of_paths_understands_groups() {
    let read =
        paths("use std::{sync::{Arc, atomic::AtomicU8}, cell::Cell}; let x = crate::a::b();");
    let expected = [
        "use",
        "std::sync::Arc",
        "std::sync::atomic::AtomicU8",
        "std::cell::Cell",
        "let",
        "x",
    ];
    assert_eq!(&read[..6], expected);
    assert_eq!(read[6], "crate::a::b");
    assert!(names("std::sync::Mutex", "std::sync::Mutex"));
    assert!(!names("std::sync::OnceLock", "std::sync::Once"));
}

#[test]
fn the_reader_of_code_leaves_out_comments_and_tests() {
    let text = "a(); // why\n// b\n#[cfg(all(test, loom))]\nmod models;\n#[cfg(test)]\nmod tests {\n    c();\n}\nd();\n";
    assert_eq!(
        code_of(text),
        ("a();\nd();\n".to_owned(), vec!["models".to_owned()])
    );
}

#[test]
fn imports_go_down() {
    let place = |name: &str| {
        FLOORS
            .iter()
            .flat_map(|floor| floor.iter())
            .position(|f| *f == name)
    };
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.is_root()) {
        let from = source.module();
        let Some(own) = place(from) else {
            found.push(format!("{}: `{from}` has no floor", source.path));
            continue;
        };
        for path in paths(&source.code) {
            let Some(to) = path
                .strip_prefix("crate::")
                .and_then(|p| p.split("::").next())
            else {
                continue;
            };
            let down = place(to).is_some_and(|to| to < own);
            if to != from && !down && (from, to) != TOGETHER {
                found.push(format!("{}: may not import `crate::{to}`", source.path));
            }
        }
    }
    nothing("imports that go up", found);
}

#[test]
fn modules_reach_each_other_from_the_crate_root() {
    let mut found = Vec::new();
    for source in sources() {
        let top = !source.path.contains('/') || source.path.ends_with("/mod.rs");
        for path in paths(&source.code) {
            if names(&path, "super::super") || (top && path.starts_with("super::")) {
                found.push(format!("{}: `{path}`", source.path));
            }
        }
    }
    nothing("paths through `super` that leave their folder", found);
}

#[test]
fn siblings_in_a_folder_make_no_circle() {
    // folder/file -> the siblings it names; `mod.rs` is the contract and may name all of them
    let sources = sources();
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in &sources {
        let Some((folder, file)) = source.path.rsplit_once('/') else {
            continue;
        };
        if file == "mod.rs" || CIRCLES.contains(&folder) {
            continue;
        }
        let module = folder.replace('/', "::");
        for path in paths(&source.code) {
            let inside = path
                .strip_prefix(&format!("crate::{module}::"))
                .or_else(|| path.strip_prefix("super::"));
            let Some(sibling) = inside.and_then(|p| p.split("::").next()) else {
                continue;
            };
            let sibling = format!("{folder}/{sibling}.rs");
            if sibling != source.path && sources.iter().any(|s| s.path == sibling) {
                edges
                    .entry(source.path.clone())
                    .or_default()
                    .insert(sibling);
            }
        }
    }
    // take away what imports nothing that is left, until nothing changes
    loop {
        let open: BTreeSet<String> = edges.keys().cloned().collect();
        let before = edges.len();
        edges.retain(|_, to| to.iter().any(|to| open.contains(to)));
        if edges.len() == before {
            break;
        }
    }
    nothing(
        "files that import each other in a circle",
        edges
            .iter()
            .map(|(from, to)| format!("{from} -> {to:?}"))
            .collect(),
    );
}

/// The rooms as `ARCHITECTURE.md` lists them: one line each, "- `src/...rs`: why".
fn unsafe_rooms() -> BTreeSet<String> {
    let page = read(root().join("ARCHITECTURE.md"));
    let chapter = page
        .split("## Unsafe rooms")
        .nth(1)
        .expect("ARCHITECTURE.md lists the rooms");
    let chapter = chapter.split("\n## ").next().unwrap_or_default();
    chapter
        .lines()
        .filter_map(|line| line.strip_prefix("- `src/")?.split('`').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn unsafe_stays_in_its_rooms() {
    let rooms = unsafe_rooms();
    assert!(!rooms.is_empty(), "ARCHITECTURE.md lists no unsafe room");
    let mut found = Vec::new();
    for source in sources() {
        let whole: String = source
            .text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect();
        if rooms.contains(&source.path) {
            continue;
        }
        if has_word(&whole, "unsafe") {
            found.push(format!("{}: unsafe outside its rooms", source.path));
        }
        // an inner attribute reaches the files below: the folder above a room cannot forbid
        let above_a_room = source.is_root()
            || source
                .path
                .strip_suffix("mod.rs")
                .is_some_and(|folder| rooms.iter().any(|room| room.starts_with(folder)));
        // a file of tests is under the folder that declares it
        let tests_only = source.code.is_empty();
        if !above_a_room && !tests_only && !source.text.contains("#![forbid(unsafe_code)]") {
            found.push(format!(
                "{}: does not begin with #![forbid(unsafe_code)]",
                source.path
            ));
        }
    }
    nothing("unsafe code", found);
}

#[test]
fn every_unsafe_says_why_it_is_sound() {
    let mut found = Vec::new();
    for Source { path, text, .. } in sources() {
        let code = |pattern: &str| {
            text.lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .map(|line| line.matches(pattern).count())
                .sum::<usize>()
        };
        let said = text.matches("SAFETY:").count();
        let blocks = code("unsafe {") + code("unsafe impl");
        if said < blocks {
            found.push(format!(
                "{path}: {blocks} unsafe blocks and impls, {said} SAFETY comments"
            ));
        }
        // a function type (`unsafe fn(`) is no function
        let functions = code("unsafe fn ");
        let duties = text.matches("# Safety").count();
        if duties < functions {
            found.push(format!(
                "{path}: {functions} unsafe functions, {duties} # Safety chapters"
            ));
        }
    }
    nothing("unsafe without its reason", found);
}

#[test]
fn there_is_one_door_to_atomics_locks_and_threads() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.module() != "base") {
        for path in paths(&source.code) {
            if BEHIND_THE_DOOR.iter().any(|banned| names(&path, banned)) {
                found.push(format!(
                    "{}: `{path}` instead of crate::base::sync",
                    source.path
                ));
            }
        }
    }
    nothing("other doors", found);
}

/// Models do not see these deques, so one folder has them, with a stand-in.
#[test]
fn the_deques_of_crossbeam_are_named_in_queue_alone() {
    let found = sources()
        .into_iter()
        .filter(|source| source.module() != "queue" && has_word(&source.code, "crossbeam_deque"))
        .map(|source| source.path)
        .collect();
    nothing("names crossbeam_deque", found);
}

#[test]
fn total_order_comes_from_fences_alone() {
    let mut found = Vec::new();
    for source in sources() {
        for line in source.code.lines().filter(|line| has_word(line, "SeqCst")) {
            if !line.contains("fence(") {
                found.push(format!("{}: {}", source.path, line.trim()));
            }
        }
    }
    nothing("SeqCst accesses", found);
}

#[test]
fn nothing_polls_but_what_is_listed() {
    let mut found = Vec::new();
    let mut unused: BTreeSet<&str> = LENGTHS.iter().map(|(place, _)| *place).collect();
    for source in sources() {
        let listed = LENGTHS
            .iter()
            .find(|(place, _)| source.path.starts_with(place));
        for line in source.code.lines() {
            let length = ["Duration::from_", "Duration::new("];
            if length.iter().any(|made| line.contains(made)) {
                match listed {
                    Some((place, _)) => drop(unused.remove(place)),
                    None => found.push(format!("{}: {}", source.path, line.trim())),
                }
            }
            let spins = has_word(line, "spin_loop") || line.contains("thread::yield_now");
            if spins && !SPINS.iter().any(|place| source.path.starts_with(place)) {
                found.push(format!("{}: {}", source.path, line.trim()));
            }
        }
    }
    found.extend(unused.iter().map(|place| format!("{place}: has none")));
    nothing("lengths of time and spins", found);
}

/// Path from the crate's root and text of everything written in Rust.
fn all_rust() -> Vec<(String, String)> {
    ["src", "tests", "examples", "benches", "fuzz"]
        .into_iter()
        .flat_map(|folder| {
            files(folder)
                .into_iter()
                .map(move |(path, text)| (format!("{folder}/{path}"), text))
        })
        .filter(|(path, _)| path.ends_with(".rs") && !path.contains("target/"))
        .collect()
}

#[test]
fn files_stay_short() {
    let found = all_rust()
        .iter()
        .filter(|(path, _)| !path.starts_with("tests/"))
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{path}: {lines} lines, at most {LINES_MAX}"))
        .collect();
    nothing("long files", found);
}

#[test]
fn the_figures_of_the_architecture_are_those_of_the_sources() {
    let page = read(root().join("ARCHITECTURE.md"));
    let (_, figures) = page.split_once("## Figures").expect("a section");
    let (figures, _) = figures.split_once("\n## ").expect("a section after it");
    let mut found = Vec::new();
    let mut rows = 0;
    for row in figures.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row
            .split('|')
            .map(|cell| cell.trim().trim_matches('`'))
            .collect();
        let [_, name, value, file, ..] = cells[..] else {
            panic!("a row of four cells: {row}");
        };
        let written = match value.split_once(' ') {
            None => value.to_owned(),
            Some((count, "us")) => format!("Duration::from_micros({count})"),
            Some((count, "ms")) => format!("Duration::from_millis({count})"),
            Some((count, _)) => format!("Duration::from_secs({count})"),
        };
        let source = read(root().join("src").join(file));
        let stands = |line: &str| {
            line.contains(&format!("const {name}: ")) && line.ends_with(&format!("= {written};"))
        };
        if !source.lines().any(stands) {
            found.push(format!("{file}: `{name}` is not {value}"));
        }
        rows += 1;
    }
    assert!(rows > 2, "the table has lost its rows");
    nothing("figures", found);
}

#[test]
fn nothing_is_left_for_later() {
    // spelled in two parts, so that this file passes its own test
    let markers = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("db", "g!("),
    ];
    let mut found = Vec::new();
    for (path, text) in all_rust() {
        for (number, line) in text.lines().enumerate() {
            if markers.iter().any(|marker| line.contains(marker)) {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    nothing("markers of unfinished work", found);
}

/// No lint knows syntax that is newer than `rust-version`; `.ci/run msrv` compiles with it.
#[test]
fn there_are_no_let_chains() {
    let chain = concat!("&& ", "let ");
    let found = all_rust()
        .into_iter()
        .filter(|(_, text)| code_of(text).0.contains(chain))
        .map(|(path, _)| format!("{path}: `{chain}` needs Rust 1.88"))
        .collect();
    nothing("newer than the oldest Rust we promise", found);
}

#[test]
fn integration_tests_step_aside_for_models() {
    let found = files("tests")
        .into_iter()
        .filter(|(path, _)| path.ends_with(".rs") && !path.contains('/'))
        .filter(|(_, text)| !text.contains("#![cfg(not(loom))]"))
        .map(|(path, _)| format!("tests/{path}"))
        .collect();
    nothing("without #![cfg(not(loom))]", found);
}

#[test]
fn unit_tests_step_aside_for_models_and_explorations() {
    let alone = concat!("all(test, ", "not(loom))");
    let found = files("src")
        .into_iter()
        .filter(|(_, text)| text.contains(alone))
        .map(|(path, _)| format!("src/{path}: `{alone}` instead of not(any(loom, shuttle))"))
        .collect();
    nothing("tests that would be built for shuttle", found);
}

#[test]
fn the_changelog_knows_this_version() {
    let page = read(root().join("CHANGELOG.md"));
    let newest = page
        .lines()
        .find(|line| line.starts_with("## "))
        .unwrap_or_default();
    let version = format!("## [{}]", env!("CARGO_PKG_VERSION"));
    assert!(
        newest.starts_with("## [Unreleased]") || newest.starts_with(&version),
        "the newest chapter is {newest:?}"
    );
}

#[test]
fn the_readme_shows_the_two_commands() {
    let page = read(root().join("README.md"));
    let find = |command: &str| {
        page.find(command)
            .unwrap_or_else(|| panic!("no `{command}`"))
    };
    let job = find("cargo run --release --example checksum");
    let test = find("cargo test");
    let program = page.find("```rust").expect("a first program");
    assert!(job < program && test < program, "the commands come first");
    let program = page[program..].split("```").nth(1).unwrap_or_default();
    assert!(
        program.lines().count() <= 21,
        "the first program has under 20 lines"
    );
}

#[test]
fn the_map_of_the_house_is_short() {
    let page = read(root().join("ARCHITECTURE.md"));
    assert!(page.lines().count() < 150);
    for module in FLOORS.iter().flat_map(|floor| floor.iter()) {
        assert!(
            has_word(&page, module),
            "ARCHITECTURE.md does not mention `{module}`"
        );
    }
}

/// One weakening: `file | old text | new text | test filter`, split as `ci/mutants-loom.sh`
/// splits it: the texts may hold the bar, so the longest old text that stands in the file wins.
#[test]
fn mutants_name_a_line_that_is_there_once() {
    let mut found = Vec::new();
    for (list, text) in files("tests/mutants") {
        for (number, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let parts: Vec<&str> = line.split(" | ").collect();
            if parts.len() < 4 {
                found.push(format!(
                    "{list}:{}: not `file | old | new | test`",
                    number + 1
                ));
                continue;
            }
            let [file, middle @ .., test] = &parts[..] else {
                continue;
            };
            let target = fs::read_to_string(root().join(file)).unwrap_or_default();
            let once = (1..middle.len()).rev().find(|cut| {
                target
                    .matches(&middle[..*cut].join(" | ").replace("\\|", "|"))
                    .count()
                    == 1
            });
            if once.is_none() {
                found.push(format!(
                    "{list}:{}: {file} does not hold it exactly once",
                    number + 1
                ));
            }
            let kind = if list.starts_with("shuttle/") {
                "shuttle_"
            } else {
                "loom_"
            };
            if !test.contains(kind) {
                found.push(format!("{list}:{}: `{test}` names no model", number + 1));
            }
        }
    }
    nothing("mutants", found);
}
