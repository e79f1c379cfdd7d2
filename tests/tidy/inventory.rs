//! The table of all unsafe code: `UNSAFE.md` is written from the sources and compared with them.

use std::collections::BTreeSet;
use std::fs;

use super::{files, has_word, nothing, read, root};

const PAGE: &str = "UNSAFE.md";
const BEGIN: &str = "<!-- from here on written by `just unsafe-inventory` -->\n";

/// What one file has.
#[derive(Default)]
struct Row {
    blocks: usize,
    functions: usize,
    impls: usize,
    /// Comments that say why.
    reasons: usize,
    invariants: BTreeSet<u32>,
}

fn row(text: &str) -> Row {
    let mut row = Row::default();
    let mut reason = false;
    for line in text.lines() {
        let bare = line.trim_start();
        if let Some(comment) = bare.strip_prefix("//") {
            if comment.contains("SAFETY:") {
                row.reasons += 1;
                reason = true;
            }
            if reason {
                row.invariants.extend(invariants(comment));
            }
            continue;
        }
        reason = false;
        let code = bare.split(" // ").next().unwrap_or_default();
        row.blocks += code.matches("unsafe {").count();
        row.impls += code.matches("unsafe impl").count();
        // a function type (`unsafe fn(`) is no function
        row.functions += code.matches("unsafe fn ").count();
        row.functions += code.matches("unsafe extern \"C\" fn ").count();
    }
    row
}

/// The numbers in "invariant 1", "invariants 1 and 2".
fn invariants(comment: &str) -> Vec<u32> {
    let mut words = comment.split(|c: char| !c.is_alphanumeric());
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        if word != "invariant" && word != "invariants" {
            continue;
        }
        for next in words.by_ref() {
            match next.parse() {
                Ok(number) => found.push(number),
                Err(_) if next == "and" || next.is_empty() => {}
                Err(_) => break,
            }
        }
    }
    found
}

/// The table over `folders`, and its sums.
fn table(folders: &[&str], with_invariants: bool) -> String {
    let mut lines = Vec::new();
    let mut sum = Row::default();
    for folder in folders {
        for (path, text) in files(folder) {
            let path = format!("{folder}/{path}");
            // this folder holds the patterns that are searched for
            let is_reader = path == "tests/tidy.rs" || path.starts_with("tests/tidy/");
            if is_reader || !path.ends_with(".rs") {
                continue;
            }
            let row = row(&text);
            if row.blocks + row.functions + row.impls == 0 {
                continue;
            }
            let numbers: Vec<String> = row.invariants.iter().map(u32::to_string).collect();
            let last = if with_invariants {
                format!(" {} |", numbers.join(", "))
            } else {
                String::new()
            };
            lines.push(format!(
                "| `{path}` | {} | {} | {} | {} |{last}",
                row.blocks, row.functions, row.impls, row.reasons
            ));
            sum.blocks += row.blocks;
            sum.functions += row.functions;
            sum.impls += row.impls;
            sum.reasons += row.reasons;
        }
    }
    let (head, rule, foot) = if with_invariants {
        (" invariants |", "---|", " |")
    } else {
        ("", "", "")
    };
    format!(
        "| file | blocks | functions | impls | reasons |{head}\n|---|--:|--:|--:|--:|{rule}\n{}\n\
         | in all | {} | {} | {} | {} |{foot}\n",
        lines.join("\n"),
        sum.blocks,
        sum.functions,
        sum.impls,
        sum.reasons
    )
}

fn inventory() -> String {
    format!(
        "\n## The crate\n\n{}\n## Tests, examples, benchmarks, fuzzing\n\n{}",
        table(&["src"], true),
        table(&["tests", "examples", "benches", "fuzz"], false)
    )
}

#[test]
fn the_table_of_unsafe_code_is_true() {
    let path = root().join(PAGE);
    let page = read(&path);
    let (head, stored) = page
        .split_once(BEGIN)
        .unwrap_or_else(|| panic!("{PAGE} has no line {BEGIN:?}"));
    let now = inventory();
    if std::env::var_os("PORTAGE_WRITE_INVENTORY").is_some() {
        fs::write(&path, format!("{head}{BEGIN}{now}")).expect("the page can be written");
        return;
    }
    // a published package comes without its benchmarks and fuzz targets
    let is_whole = root().join("benches").is_dir();
    let compared = |page: &str| match is_whole {
        true => page.to_owned(),
        false => page
            .split("\n## Tests")
            .next()
            .unwrap_or_default()
            .to_owned(),
    };
    assert!(
        compared(stored) == compared(&now),
        "{PAGE} does not match the sources; `just unsafe-inventory` writes this:\n{now}"
    );
}

/// An invariant that is cited exists: they are numbered in the module above the room.
#[test]
fn cited_invariants_are_written_down() {
    let mut found = Vec::new();
    for (path, text) in files("src") {
        let cited = row(&text).invariants;
        if cited.is_empty() {
            continue;
        }
        let own = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let above = read(root().join("src").join(own).join("mod.rs"));
        let is_there = |number: u32| {
            let line = format!("//! {number}. ");
            let chapter = |page: &str| {
                let rest = page.split("//! # Invariants").nth(1)?;
                let rest = rest.split("//! # ").next()?;
                Some(rest.contains(&line))
            };
            chapter(&text).unwrap_or(false) || chapter(&above).unwrap_or(false)
        };
        found.extend(
            cited
                .into_iter()
                .filter(|number| !is_there(*number))
                .map(|number| format!("src/{path}: invariant {number}")),
        );
    }
    nothing("cited and not written down", found);
}

#[test]
fn the_reader_of_unsafe_code_counts() {
    let text = "// SAFETY: so (invariants 1 and 2,\n// invariant 7).\nunsafe { a() }\n\
                // invariant 9\nunsafe fn b() {}\nfield: unsafe fn(u8),\nunsafe impl C for D {}\n";
    let row = row(text);
    assert_eq!((row.blocks, row.functions, row.impls), (1, 1, 1));
    assert_eq!(row.reasons, 1);
    assert_eq!(row.invariants.into_iter().collect::<Vec<_>>(), [1, 2, 7]);
}

/// `benches` and `fuzz` are packages of their own: the lints of the crate do not reach them.
#[test]
fn unsafe_outside_the_crate_says_why_too() {
    let mut found = Vec::new();
    for folder in ["tests", "examples", "benches", "fuzz"] {
        for (path, text) in files(folder) {
            let path = format!("{folder}/{path}");
            if !path.ends_with(".rs") || path.starts_with("tests/tidy") {
                continue;
            }
            let row = row(&text);
            if has_word(&text, "unsafe") && row.reasons < row.blocks + row.impls {
                found.push(format!(
                    "{path}: {} blocks and impls, {} reasons",
                    row.blocks + row.impls,
                    row.reasons
                ));
            }
        }
    }
    nothing("unsafe without its reason", found);
}
