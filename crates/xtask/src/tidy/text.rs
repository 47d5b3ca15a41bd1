//! What holds for every text file.

use crate::finding::Finding;

/// Hosts of package registries: each machine's own configuration names them, nothing here does.
/// (Written in halves, so that this list does not find itself.)
const REGISTRY_HOSTS: &[&str] = &[
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("npmjs", ".org"),
    concat!("npmjs", ".com"),
    concat!("deb.debian", ".org"),
    concat!("security.debian", ".org"),
    concat!("archive.ubuntu", ".com"),
    concat!("static.crates", ".io"),
    concat!("index.crates", ".io"),
    concat!("proxy.golang", ".org"),
];

/// Lines that the architecture page may have.
const ARCHITECTURE_LINES_MAX: usize = 300;

/// Checks one file. Bytes that tests compare (fixtures, snapshots) and generated files are left
/// alone.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    if is_verbatim(path) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        let mut find = |message: String| {
            findings.push(Finding::new(path, index + 1, message));
        };
        if line.ends_with([' ', '\t', '\r']) {
            find("white space at the end of the line".to_owned());
        }
        if let Some(host) = REGISTRY_HOSTS.iter().find(|host| line.contains(**host)) {
            find(format!("'{host}': no registry's host is named here"));
        }
        if path.ends_with(".rs") && line.contains('\t') {
            find("a tab: write \\t, or spaces".to_owned());
        }
    }
    let count = text.lines().count();
    if !text.is_empty() && !text.ends_with('\n') {
        findings.push(Finding::new(path, count, "no line feed at the end of the file"));
    } else if text.ends_with("\n\n") {
        findings.push(Finding::new(path, count, "an empty line at the end of the file"));
    }
    if path == "docs/architecture.md" && count > ARCHITECTURE_LINES_MAX {
        let message = format!("{count} lines, at most {ARCHITECTURE_LINES_MAX}: link to the rest");
        findings.push(Finding::new(path, 0, message));
    }
    findings
}

fn is_verbatim(path: &str) -> bool {
    let folders = ["fixtures", "golden", "snapshots", "testdata"];
    path == "Cargo.lock"
        || path.ends_with(".snap")
        || path.ends_with(".proptest-regressions")
        || path.split('/').any(|part| folders.contains(&part) || part == "proptest-regressions")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(path: &str, text: &str, expected: &[&str]) {
        let found: Vec<String> = check(path, text).iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn stray_white_space_is_found() {
        check_text("a.md", "fine\n", &[]);
        check_text("a.md", "a\nb \n", &["a.md:2: white space at the end of the line"]);
        check_text("a.md", "a\r\n", &["a.md:1: white space at the end of the line"]);
        check_text("a.md", "a", &["a.md:1: no line feed at the end of the file"]);
        check_text("a.md", "a\n\n", &["a.md:2: an empty line at the end of the file"]);
        check_text("a.rs", "\ta\n", &["a.rs:1: a tab: write \\t, or spaces"]);
        check_text("crates/pg/tests/golden/a.txt", "a \n\n", &[]);
    }

    #[test]
    fn a_registry_is_found() {
        let host = REGISTRY_HOSTS.first().unwrap();
        let found = [format!("a.sh:1: '{host}': no registry's host is named here")];
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        check_text("a.sh", &format!("curl https://{host}/simple\n"), &found);
    }

    #[test]
    fn the_architecture_page_stays_short() {
        check_text("docs/architecture.md", &"a\n".repeat(300), &[]);
        let found = ["docs/architecture.md: 301 lines, at most 300: link to the rest"];
        check_text("docs/architecture.md", &"a\n".repeat(301), &found);
    }
}
