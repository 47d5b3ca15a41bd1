//! How long files and functions are.

use crate::source::Source;

/// Lines of a file without its tests.
const FILE_LINES_MAX: usize = 500;
/// Lines of a file with its tests, and of a file of tests.
const FILE_WITH_TESTS_LINES_MAX: usize = 800;
/// Lines of a function from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// Something longer than its limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Excess {
    pub(super) path: String,
    /// `file`, `file with tests` or `function NAME`.
    pub(super) what: String,
    pub(super) lines: usize,
    pub(super) limit: usize,
    /// Where it begins, counted from 1.
    pub(super) at: usize,
}

/// Returns what is too long in one file.
pub(super) fn measure(path: &str, source: &Source) -> Vec<Excess> {
    // What follows the last line feed is not a line.
    let all = source.lines().count();
    let all = all - usize::from(source.lines().last().is_some_and(|line| line.raw.is_empty()));
    let in_tests: usize = source.test_regions().into_iter().map(Iterator::count).sum();
    let is_test = path.split('/').any(|part| part == "tests" || part == "tests.rs");
    let mut excesses = Vec::new();
    let mut add = |what: &str, lines: usize, limit: usize, at: usize| {
        if lines > limit {
            excesses.push(Excess {
                path: path.to_owned(),
                what: what.to_owned(),
                lines,
                limit,
                at,
            });
        }
    };
    if !is_test {
        add("file", all - in_tests, FILE_LINES_MAX, 1);
    }
    add("file with tests", all, FILE_WITH_TESTS_LINES_MAX, 1);
    for function in source.functions() {
        let at = *function.lines.start();
        add(&format!("function {}", function.name), function.lines.count(), FUNCTION_LINES_MAX, at);
    }
    excesses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expected: &[(&str, usize, usize)]) {
        let found = measure(path, &Source::new(text));
        let found: Vec<_> = found.iter().map(|it| (it.what.as_str(), it.lines, it.at)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn tests_count_apart() {
        let code = "const A: u8 = 1;\n".repeat(500);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "use a;\n".repeat(297));
        check("a.rs", &format!("{code}{tests}"), &[]);
        check("a.rs", &format!("{code}{code}"), &[("file", 1000, 1), ("file with tests", 1000, 1)]);
        check(
            "a.rs",
            &format!("{code}\n{tests}"),
            &[("file", 501, 1), ("file with tests", 801, 1)],
        );
        check("crates/pg/tests/it/a.rs", &format!("{code}{code}"), &[("file with tests", 1000, 1)]);
        check("crates/pg/tests/it/a.rs", &format!("{code}\n"), &[]);
    }

    #[test]
    fn a_function_is_too_long_from_the_71st_line() {
        let function = |lines: usize| format!("\nfn long() {{\n{}}}\n", "a();\n".repeat(lines - 2));
        check("a.rs", &function(70), &[]);
        check("a.rs", &function(71), &[("function long", 71, 2)]);
    }
}
