//! What holds for every Rust file.

use std::ops::RangeInclusive;

use crate::finding::Finding;
use crate::source::{Line, Source, words};

/// Characters that a line may have unless a string is in it.
pub(super) const LINE_WIDTH_MAX: usize = 100;

/// Macros that stand for work not done.
const UNFINISHED: &[&str] = &["todo", "unimplemented", "dbg"];

/// Checks one file.
pub(super) fn check(path: &str, source: &Source) -> Vec<Finding> {
    let regions = source.test_regions();
    let mut findings = crate_head(path, source);
    let mut before: Option<Line<'_>> = None;
    for line in source.lines() {
        let mut find = |message: &str| findings.push(Finding::new(path, line.number, message));
        let is_test = is_test_file(path) || regions.iter().any(|it| it.contains(&line.number));
        if line.raw.chars().count() > LINE_WIDTH_MAX && !line.has_string && !is_one_word(line) {
            find(&format!("more than {LINE_WIDTH_MAX} characters"));
        }
        for name in UNFINISHED {
            if words(line.code, name).any(|at| follows(line.code, at + name.len(), '!')) {
                find(&format!("'{name}!' stands for work that is not done"));
            }
        }
        if line.code.contains("#[ignore") {
            find("a test that is ignored: make it run, or remove it");
        }
        let sleeps = ["sleep", "sleep_until"];
        if is_test && sleeps.iter().any(|it| calls(line.code, it)) {
            find("a test must not sleep: poll a condition with a deadline");
        }
        if !has_reason(line, before, source) {
            find("an allowed lint needs its reason in a comment on the line");
        }
        before = Some(line);
    }
    findings
}

/// A crate's first file says what the crate is.
fn crate_head(path: &str, source: &Source) -> Vec<Finding> {
    let is_head = path.starts_with("crates/")
        && ["/src/lib.rs", "/src/main.rs", "/tests/it/main.rs"].iter().any(|it| path.ends_with(it));
    let first = source.lines().next().map_or("", |line| line.raw);
    match first.strip_prefix("//! ") {
        _ if !is_head => Vec::new(),
        None => vec![Finding::new(path, 1, "a crate begins with //! and what it is")],
        Some("Placeholder.") => vec![Finding::new(path, 1, "still a placeholder")],
        Some(_) => Vec::new(),
    }
}

fn is_test_file(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs")
}

/// A line that cannot be broken, such as an address in a comment.
fn is_one_word(line: Line<'_>) -> bool {
    line.raw.trim_start().trim_start_matches(['/', '!']).trim().split(' ').count() == 1
}

fn calls(code: &str, name: &str) -> bool {
    words(code, name).any(|at| follows(code, at + name.len(), '('))
}

fn follows(code: &str, at: usize, expected: char) -> bool {
    code.get(at..).is_some_and(|rest| rest.starts_with(expected))
}

/// `#[allow(…)] // why`, a plain comment in the line before, or a reason in the attribute.
fn has_reason(line: Line<'_>, before: Option<Line<'_>>, source: &Source) -> bool {
    let code = line.code.trim_start();
    if !["#[allow(", "#![allow(", "#[expect(", "#![expect("].iter().any(|it| code.starts_with(it)) {
        return true;
    }
    let last = source.lines().skip(line.number - 1).position(|it| it.code.contains(")]"));
    let attribute: RangeInclusive<usize> = line.number..=line.number + last.unwrap_or(0);
    before.is_some_and(|before| before.raw.trim_start().starts_with("// "))
        || source
            .lines()
            .skip(attribute.start() - 1)
            .take(attribute.count())
            .any(|it| it.raw.contains(" // ") || it.code.contains("reason ="))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(path: &str, text: &str, expected: &[&str]) {
        let found: Vec<String> =
            check(path, &Source::new(text)).iter().map(|it| it.message.clone()).collect();
        assert_eq!(found, expected, "{text}");
    }

    const INNER: &str = "crates/pg/src/lsn.rs";

    #[test]
    fn a_crate_says_what_it_is() {
        let found = ["a crate begins with //! and what it is"];
        check_text("crates/pg/src/lib.rs", "mod lsn;", &found);
        check_text("crates/pg/src/lib.rs", "//! Facts.\nmod lsn;", &[]);
        check_text("crates/pg/src/main.rs", "//! Placeholder.", &["still a placeholder"]);
        check_text(INNER, "mod lsn;", &[]);
    }

    #[test]
    fn long_lines_are_found_unless_a_string_or_an_address_makes_them_long() {
        let long = "a + ".repeat(30);
        check_text(INNER, &long, &["more than 100 characters"]);
        check_text(INNER, &format!("// {long}"), &["more than 100 characters"]);
        check_text(INNER, &format!("f(\"{long}\")"), &[]);
        check_text(INNER, &format!("/// https://{}", "a".repeat(120)), &[]);
    }

    #[test]
    fn work_not_done_is_found() {
        let text = ["to", "do!()"].concat();
        check_text(INNER, &text, &["'todo!' stands for work that is not done"]);
        check_text(INNER, &format!("\"{text}\" // {text}"), &[]);
        let text = ["#[ign", "ore = \"slow\"]"].concat();
        check_text(INNER, &text, &["a test that is ignored: make it run, or remove it"]);
    }

    #[test]
    fn a_sleeping_test_is_found_and_a_sleeping_wrapper_is_not() {
        let found = ["a test must not sleep: poll a condition with a deadline"];
        check_text("crates/pg/tests/it/a.rs", "thread::sleep(SECOND);", &found);
        check_text("crates/pg/tests/it/a.rs", "Command::new(\"sleep\"); psql(\"sleep()\")", &[]);
        check_text(INNER, "thread::sleep(SECOND);", &[]);
        let text = "#[cfg(test)]\nmod tests {\n    tokio::time::sleep(x).await;\n}";
        check_text(INNER, text, &found);
    }

    #[test]
    fn an_allowed_lint_has_a_reason() {
        let found = ["an allowed lint needs its reason in a comment on the line"];
        check_text(INNER, "#[allow(clippy::x)]\nfn a() {}", &found);
        check_text(INNER, "#[allow(clippy::x)] // it is a table\nfn a() {}", &[]);
        check_text(INNER, "// It is a table.\n#[allow(clippy::x)]\nfn a() {}", &[]);
        check_text(INNER, "/// Doc.\n#[allow(clippy::x)]\nfn a() {}", &found);
        check_text(INNER, "#[expect(clippy::x, reason = \"a table\")]\nfn a() {}", &[]);
        check_text(INNER, "#[allow(\n    clippy::x,\n)] // a table\nfn a() {}", &[]);
    }
}
