//! Every atomic ordering and fence is explained where it stands, or a mutant names it.

use std::collections::BTreeMap;

use super::{files, nothing, sources};

/// What the header says under `# Ordering`.
fn chapter(text: &str) -> &str {
    let header = text.split("\n#![").next().unwrap_or_default();
    let header = header.split("\nuse ").next().unwrap_or_default();
    let chapter = header.split("//! # Ordering").nth(1).unwrap_or_default();
    chapter.split("//! # ").next().unwrap_or_default()
}

fn orders(line: &str) -> bool {
    let accesses = ["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];
    let named = accesses
        .iter()
        .any(|name| line.contains(&format!("Ordering::{name}")));
    named && !line.trim_start().starts_with("use ")
}

/// Does the chapter speak of a field that the line names, or of all of them?
fn is_in_chapter(chapter: &str, line: &str) -> bool {
    let all = chapter.contains("ll accesses are");
    let stronger = ["Acquire", "Release", "AcqRel", "SeqCst"];
    if all && !stronger.iter().any(|name| line.contains(name)) {
        return true;
    }
    let mut fields = chapter.split('`').skip(1).step_by(2);
    fields.any(|field| line.contains(&format!(".{field}.")) || line.contains(&format!("{field}.")))
}

/// Above the line, in its function or in that one's own comment, a comment says `Ordering:`.
fn is_explained(above: &[&str]) -> bool {
    let comment = |line: &str| line.trim_start().starts_with("//");
    let explains = |line: &str| comment(line) && line.contains("Ordering:");
    let begins_a_function = |line: &str| {
        let bare = line.trim_start();
        !comment(line)
            && (bare.starts_with("fn ") || bare.contains(" fn ") && bare.ends_with(['{', '(']))
    };
    let mut above = above.iter().rev();
    for line in above.by_ref().take(20) {
        if explains(line) {
            return true;
        }
        if begins_a_function(line) {
            return above
                .take_while(|line| comment(line) || line.trim_start().starts_with("#["))
                .any(|line| explains(line));
        }
    }
    false
}

/// Lines by file, as the lists of mutants have them.
fn weakened() -> BTreeMap<String, Vec<String>> {
    let mut weakened: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (_, list) in files("tests/mutants") {
        for line in list.lines().filter(|line| !line.starts_with('#')) {
            if let Some((file, rest)) = line.split_once(" | ") {
                weakened
                    .entry(file.to_owned())
                    .or_default()
                    .push(rest.to_owned());
            }
        }
    }
    weakened
}

#[test]
fn every_ordering_has_its_reason_or_its_mutant() {
    let weakened = weakened();
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.code.is_empty()) {
        let file = format!("src/{}", source.path);
        let mutants = weakened.get(&file).map(Vec::as_slice).unwrap_or_default();
        let chapter = chapter(&source.text);
        let lines: Vec<&str> = source.text.lines().collect();
        // a test module at the end of a file is none of the protocol
        let is_test_module = |at: &usize| {
            let mut after = lines[*at..].iter();
            let module = after.find(|line| !line.starts_with("#["));
            lines[*at].starts_with("#[cfg(")
                && lines[*at].contains("test")
                && module.is_some_and(|line| line.contains("mod ") && line.ends_with('{'))
        };
        let end = (0..lines.len()).find(is_test_module);
        for (at, line) in lines.iter().enumerate().take(end.unwrap_or(lines.len())) {
            if line.trim_start().starts_with("//") || !orders(line) {
                continue;
            }
            let bare = line.trim();
            let reason = is_explained(&lines[..at])
                || is_in_chapter(chapter, line)
                || mutants.iter().any(|mutant| mutant.contains(bare));
            if !reason {
                found.push(format!("{file}:{}: {bare}", at + 1));
            }
        }
    }
    nothing("orderings without a reason or a mutant", found);
}

#[test]
fn the_reader_of_orderings_knows_a_reason() {
    let text = ["fn a() {", "    // Ordering: Relaxed: why", "    b;"];
    assert!(is_explained(&text));
    assert!(is_explained(&["/// Ordering: so.", "fn a() {"]));
    assert!(!is_explained(&[
        "    // Ordering: of another",
        "}",
        "fn a() {"
    ]));
    let page = "//! Why.\n//!\n//! # Ordering\n//!\n//! `count` is Relaxed.\n\n#![forbid(x)]";
    assert!(is_in_chapter(
        chapter(page),
        "self.count.load(Ordering::Relaxed)"
    ));
    assert!(!is_in_chapter(
        chapter(page),
        "self.other.load(Ordering::Relaxed)"
    ));
}
