//! Which files there are, and what they are called.

use crate::finding::Finding;

/// What a person who comes here first must find.
const REQUIRED: &[&str] = &[
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "LICENSE",
    "README.md",
    "docs/architecture.md",
    "docs/glossary.md",
    "docs/repository-format.md",
];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "misc", "types", "util", "utils"];

/// Checks the list of all files.
pub(super) fn check(files: &[String]) -> Vec<Finding> {
    let missing = REQUIRED.iter().filter(|path| !files.iter().any(|file| file == *path));
    let mut findings: Vec<Finding> =
        missing.map(|path| Finding::new(path, 0, "the file is missing")).collect();
    for path in files.iter().filter(|path| path.starts_with("crates/")) {
        let parts: Vec<&str> = path.split('/').collect();
        let named = parts
            .iter()
            .find(|part| EMPTY_NAMES.contains(&part.strip_suffix(".rs").unwrap_or(part)));
        if let Some(part) = named {
            let message = format!("'{part}' says nothing: name it by what is inside");
            findings.push(Finding::new(path, 0, message));
        }
        if let [_, _, "tests", file] = parts.as_slice()
            && file.ends_with(".rs")
        {
            let message = "one test program per crate: make it a module of tests/it/main.rs";
            findings.push(Finding::new(path, 0, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_files(files: &[&str], expected: &[&str]) {
        let mut all: Vec<String> = REQUIRED.iter().map(|path| (*path).to_owned()).collect();
        all.extend(files.iter().map(|path| (*path).to_owned()));
        let found: Vec<String> = check(&all).iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn names_that_say_nothing_are_found() {
        check_files(&["crates/pg/src/lsn.rs", "crates/pg/tests/it/main.rs"], &[]);
        let found = ["crates/pg/src/utils.rs: 'utils.rs' says nothing: name it by what is inside"];
        check_files(&["crates/pg/src/utils.rs"], &found);
        let found = ["crates/pg/src/types/lsn.rs: 'types' says nothing: name it by what is inside"];
        check_files(&["crates/pg/src/types/lsn.rs"], &found);
    }

    #[test]
    fn a_second_test_program_is_found() {
        let found = ["crates/pg/tests/lsn.rs: one test program per crate: \
            make it a module of tests/it/main.rs"];
        check_files(&["crates/pg/tests/lsn.rs"], &found);
    }

    #[test]
    fn missing_pages_are_found() {
        let found = check(&[]);
        assert_eq!(found.len(), REQUIRED.len());
        assert_eq!(found.first().unwrap().to_string(), "CHANGELOG.md: the file is missing");
    }
}
