//! Every atomic ordering and fence is explained where it stands, or a mutant names it; and what the
//! mutants name is there.

use std::collections::BTreeMap;
use std::fs;

use super::{files, nothing, root, sources};

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

/// Lines by file, as the lists of mutants have them; shuttle knows no orderings.
fn weakened() -> BTreeMap<String, Vec<String>> {
    let mut weakened: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, list) in files("tests/mutants") {
        if name.starts_with("shuttle/") {
            continue;
        }
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

/// How many lines come before the test module at the end of a file, which is none of the protocol.
fn protocol(lines: &[&str]) -> usize {
    let is_test_module = |at: &usize| {
        let mut after = lines[*at..].iter();
        let module = after.find(|line| !line.starts_with("#["));
        lines[*at].starts_with("#[cfg(")
            && lines[*at].contains("test")
            && module.is_some_and(|line| line.contains("mod ") && line.ends_with('{'))
    };
    (0..lines.len()).find(is_test_module).unwrap_or(lines.len())
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
        for (at, line) in lines.iter().enumerate().take(protocol(&lines)) {
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

/// The comment that explains a line: the nearest one above it, in the same function.
fn comment_above(above: &[&str]) -> Vec<String> {
    let bare = above.iter().rev().take(20).map(|line| line.trim());
    let code = |line: &&str| !line.starts_with("//");
    bare.skip_while(code)
        .take_while(|line| !code(line))
        .map(str::to_owned)
        .collect()
}

fn speaks_of_models(text: &str) -> bool {
    text.contains("odel")
}

/// Is the line, or the comment above it, what a mutant takes away?
fn is_taken_away(line: &str, comment: &[String], olds: &[String]) -> bool {
    let bare = line.trim().trim_end_matches([',', ';']);
    olds.iter().map(|old| old.trim()).any(|old| {
        bare.contains(old.trim_end_matches([',', ';']))
            || old.contains(bare)
            || comment.iter().any(|line| line == old)
    })
}

/// What a weaker one would break, a model shows; where none does, the comment says why none can or
/// need.
#[test]
fn every_strong_ordering_has_its_mutant_or_says_why_no_model_needs_it() {
    let weakened = weakened();
    let mut found = Vec::new();
    let strong = ["Acquire", "Release", "AcqRel", "SeqCst"];
    for source in sources().iter().filter(|source| !source.code.is_empty()) {
        let file = format!("src/{}", source.path);
        let mutants = weakened.get(&file).map(Vec::as_slice).unwrap_or_default();
        let old = |rest: &String| Some(mutant(&format!("{file} | {rest}"), &source.text)?.0);
        let olds: Vec<String> = mutants.iter().filter_map(old).collect();
        let chapter = chapter(&source.text);
        let lines: Vec<&str> = source.text.lines().collect();
        for (at, line) in lines.iter().enumerate().take(protocol(&lines)) {
            let is_strong = strong.iter().any(|name| line.contains(name));
            if line.trim_start().starts_with("//") || !orders(line) || !is_strong {
                continue;
            }
            let comment = comment_above(&lines[..at]);
            let reason = is_taken_away(line, &comment, &olds)
                || comment.iter().any(|line| speaks_of_models(line))
                || speaks_of_models(chapter) && is_in_chapter(chapter, line);
            if !reason {
                found.push(format!("{file}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    nothing("strong orderings that no mutant weakens", found);
}

#[test]
fn the_reader_of_strong_orderings_knows_what_a_mutant_takes_away() {
    let above = [
        "fn a() {",
        "    // Ordering: one",
        "    // two.",
        "    let b =",
    ];
    let comment = comment_above(&above);
    assert_eq!(comment, ["// two.", "// Ordering: one"]);
    let taken = |old: &str| is_taken_away("        fence(X);", &comment, &[old.to_owned()]);
    assert!(taken("// two.") && taken("fence(X);") && taken("if a { fence(X); }"));
    assert!(!taken("// three.") && !taken("fence(Y);"));
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

/// The old text and the model of a mutant, by the rule of `ci/mutants-loom.sh`: of the ways to cut
/// the line, the one with the longest old text that stands in the file exactly once.
fn mutant<'a>(line: &'a str, text: &str) -> Option<(String, &'a str)> {
    let parts: Vec<&str> = line.split(" | ").collect();
    let (model, rest) = parts.split_last()?;
    let cuts = (1..rest.len().saturating_sub(1)).rev();
    let olds = cuts.map(|cut| rest[1..=cut].join(" | ").replace("\\|", "|"));
    let mut olds = olds.filter(|old| text.matches(old.as_str()).count() == 1);
    Some((olds.next()?, model))
}

#[test]
fn every_mutant_finds_its_text_and_its_model() {
    let tests: String = files("src").into_iter().map(|(_, text)| text).collect();
    let mut found = Vec::new();
    for (name, list) in files("tests/mutants") {
        let is_line = |line: &&str| !line.is_empty() && !line.starts_with('#');
        for line in list.lines().filter(is_line) {
            let file = line.split(" | ").next().unwrap_or_default();
            let text = fs::read_to_string(root().join(file)).unwrap_or_default();
            match mutant(line, &text) {
                None => found.push(format!("{name}: not once in {file}: {line}")),
                Some((_, model)) if !tests.contains(&format!("fn {model}")) => {
                    found.push(format!("{name}: no model {model}"));
                }
                Some(_) => {}
            }
        }
    }
    nothing("mutants of what is not there", found);
}

#[test]
fn the_reader_of_mutants_cuts_where_the_text_ends() {
    let text = "if a || b {\n} a;\n";
    let cut = |line: &'static str| mutant(line, text).map(|(old, model)| (old, model.to_owned()));
    let expected = Some(("if a || b {".to_owned(), "loom_x".to_owned()));
    assert_eq!(cut("f.rs | if a \\|\\| b { | if a { | loom_x"), expected);
    assert_eq!(cut("f.rs | if a || b { |  | loom_x"), expected);
    assert_eq!(cut("f.rs | a | b | loom_x"), None, "more than once");
    assert_eq!(cut("f.rs | c | b | loom_x"), None);
}
