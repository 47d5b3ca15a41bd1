//! Which crate may use which.
//!
//! A crate exists to forbid knowledge: the table below is the only place where an edge is
//! allowed. A crate uses crates of lower layers only, an edge that the code does not use must not
//! be declared, and a crate or edge that is not in the table fails the check.

use anyhow::Context;

use crate::finding::Finding;
use crate::source::{Source, words};
use crate::workspace::{Dependencies, Manifest, Workspace};

/// One crate of the workspace.
struct Place {
    name: &'static str,
    /// None: only tests and tools use it, and it uses none of ours.
    layer: Option<u8>,
    /// The crates of ours that it may use.
    uses: &'static [&'static str],
}

const fn layered(layer: u8, name: &'static str, uses: &'static [&'static str]) -> Place {
    Place { name, layer: Some(layer), uses }
}

const fn apart(name: &'static str) -> Place {
    Place { name, layer: None, uses: &[] }
}

/// The design: who may know whom.
const PLACES: &[Place] = &[
    layered(1, "stdx", &[]),
    layered(1, "pg", &[]),
    // Bytes by key know nothing of PostgreSQL; a live server nothing of the repository.
    layered(2, "store", &["stdx"]),
    layered(2, "pgclient", &["stdx", "pg"]),
    layered(3, "repository", &["stdx", "pg", "store"]),
    layered(4, "archive", &["stdx", "pg", "store", "pgclient", "repository"]),
    layered(4, "backup", &["stdx", "pg", "store", "pgclient", "repository"]),
    // A restore works with the server gone: it never talks to one.
    layered(4, "restore", &["stdx", "pg", "store", "repository"]),
    // Plans and runs: they know ports, not who implements them.
    layered(4, "recovery", &["stdx", "store", "repository"]),
    // What performs steps: never the order of steps. Files that rows point to lie in buckets.
    layered(5, "providers", &["stdx", "pg", "store", "pgclient", "recovery"]),
    // Runs in a made-up world: no program uses it.
    layered(5, "sim", &["stdx", "store", "repository", "recovery"]),
    layered(
        6,
        "cli",
        &[
            "stdx",
            "pg",
            "store",
            "pgclient",
            "repository",
            "archive",
            "backup",
            "restore",
            "recovery",
            "providers",
        ],
    ),
    // The demonstration's application is a program beside ours, as a customer's would be.
    apart("shop"),
    apart("testbed"),
    apart("xtask"),
];

/// What tests of any other crate may use besides what the crate itself may.
const FOR_TESTS: &str = "testbed";

/// What the tests of one crate may use besides.
const FOR_TESTS_OF: &[(&str, &[&str])] = &[
    // A restore is proved on what a real backup of a live server left; the crate itself knows
    // neither.
    ("restore", &["backup", "pgclient"]),
    // What a driver makes of a provider's answers is seen in a real journal.
    ("providers", &["repository"]),
];

/// A crate as it stands in the checkout.
struct Member {
    folder: String,
    manifest: Manifest,
    /// The code of src/, without comments and literals.
    code: String,
    /// The code of all its targets.
    all_code: String,
}

/// Compares the manifests and the code with the table.
///
/// # Errors
/// When a file cannot be read or a manifest not be parsed.
pub(crate) fn check(workspace: &Workspace) -> anyhow::Result<Vec<Finding>> {
    let files = workspace.files()?;
    let mut members = Vec::new();
    for path in &files {
        let inside = path.strip_prefix("crates/").and_then(|rest| rest.split_once('/'));
        if let Some((folder, "Cargo.toml")) = inside {
            let manifest = workspace.manifest(path)?;
            let code = code_below(workspace, &files, &format!("crates/{folder}/src/"))?;
            let all_code = code_below(workspace, &files, &format!("crates/{folder}/"))?;
            members.push(Member { folder: folder.to_owned(), manifest, code, all_code });
        }
    }
    let root = workspace.manifest("Cargo.toml")?;
    let shared = root.workspace.context("the root manifest has no [workspace]")?.dependencies;
    let mut findings = table_faults(PLACES);
    findings.extend(members.iter().flat_map(check_member));
    findings.extend(unused_shared(&shared, &members));
    Ok(findings)
}

/// Finds edges of the table that do not lead to a lower layer.
fn table_faults(places: &[Place]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for place in places {
        for used in place.uses {
            let target = places.iter().find(|other| other.name == *used);
            let target = target.and_then(|target| target.layer);
            if target.is_none() || target >= place.layer {
                let message = format!("'{used}' is not below '{}'", place.name);
                findings.push(Finding::new("crates/xtask/src/edges.rs", 0, message));
            }
        }
    }
    findings
}

fn code_below(workspace: &Workspace, files: &[String], prefix: &str) -> anyhow::Result<String> {
    let mut code = String::new();
    for path in files.iter().filter(|it| it.starts_with(prefix) && it.ends_with(".rs")) {
        let text = workspace.read(path)?.with_context(|| format!("'{path}' is not text"))?;
        for line in Source::new(&text).lines() {
            code.push_str(line.code);
            code.push('\n');
        }
    }
    Ok(code)
}

fn check_member(member: &Member) -> Vec<Finding> {
    let path = format!("crates/{}/Cargo.toml", member.folder);
    let manifest = &member.manifest;
    let name = manifest.package.as_ref().map_or("", |package| &package.name);
    let mut findings = Vec::new();
    if name != member.folder {
        findings.push(Finding::new(
            &path,
            0,
            format!("the crate's name '{name}' is not its folder's, '{}'", member.folder),
        ));
    }
    let Some(place) = PLACES.iter().find(|place| place.name == name) else {
        let message = format!("'{name}' is not in the table of crates/xtask/src/edges.rs");
        findings.push(Finding::new(&path, 0, message));
        return findings;
    };
    let is_ours = |name: &str| PLACES.iter().any(|place| place.name == name);
    let all = [&manifest.dependencies, &manifest.build_dependencies, &manifest.dev_dependencies];
    for (index, dependencies) in all.into_iter().enumerate() {
        let is_dev = index == 2 && name != FOR_TESTS;
        for used in dependencies.keys().filter(|used| is_ours(used)) {
            let is_allowed = place.uses.contains(&used.as_str())
                || (is_dev && (used == FOR_TESTS || is_for_tests_of(name, used)));
            if !is_allowed {
                findings.push(Finding::new(&path, 0, format!("'{name}' must not use '{used}'")));
            }
        }
    }
    findings.extend(unused(&path, "", &manifest.dependencies, &member.code));
    findings.extend(unused(&path, "dev-", &manifest.dev_dependencies, &member.all_code));
    findings
}

fn is_for_tests_of(name: &str, used: &str) -> bool {
    FOR_TESTS_OF.iter().any(|(known, uses)| *known == name && uses.contains(&used))
}

/// Finds declared dependencies that the code never names.
fn unused(path: &str, kind: &str, declared: &Dependencies, code: &str) -> Vec<Finding> {
    let is_unused = |name: &&String| words(code, &name.replace('-', "_")).next().is_none();
    let names = declared.keys().filter(is_unused);
    names
        .map(|name| Finding::new(path, 0, format!("{kind}dependency '{name}' is not used")))
        .collect()
}

/// Finds dependencies declared for all that no crate takes.
fn unused_shared(shared: &Dependencies, members: &[Member]) -> Vec<Finding> {
    let is_taken = |name: &String| {
        members.iter().any(|Member { manifest, .. }| {
            [&manifest.dependencies, &manifest.build_dependencies, &manifest.dev_dependencies]
                .iter()
                .any(|dependencies| dependencies.contains_key(name))
        })
    };
    let left = shared.keys().filter(|name| !is_taken(name));
    left.map(|name| Finding::new("Cargo.toml", 0, format!("no crate uses '{name}'"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(folder: &str, manifest: &str, code: &str) -> Member {
        Member {
            folder: folder.to_owned(),
            manifest: toml::from_str(manifest).unwrap(),
            code: code.to_owned(),
            all_code: code.to_owned(),
        }
    }

    fn check_one(folder: &str, dependencies: &str, code: &str, expected: &[&str]) {
        let manifest = format!("package.name = \"{folder}\"\n{dependencies}");
        let found = check_member(&member(folder, &manifest, code));
        let messages: Vec<&str> = found.iter().map(|found| found.message.as_str()).collect();
        assert_eq!(messages, expected);
    }

    #[test]
    fn every_edge_leads_to_a_lower_layer() {
        assert_eq!(table_faults(PLACES), []);
        let beside = [layered(4, "backup", &["restore"]), layered(4, "restore", &[])];
        let found = table_faults(&beside);
        assert_eq!(found.first().unwrap().message, "'restore' is not below 'backup'");
        assert_eq!(table_faults(&[layered(4, "backup", &["gone"])]).len(), 1);
        assert_eq!(table_faults(&[layered(4, "backup", &["shop"]), apart("shop")]).len(), 1);
    }

    #[test]
    fn an_edge_that_is_not_in_the_table_is_found() {
        check_one("restore", "[dependencies]\npg = {}", "use pg::Lsn;", &[]);
        let found = ["'restore' must not use 'pgclient'"];
        check_one("restore", "[dependencies]\npgclient = {}", "use pgclient::Client;", &found);
        check_one("restore", "[dev-dependencies]\npgclient = {}", "pgclient::Client", &[]);
        let of_backup = ["'backup' must not use 'restore'"];
        check_one("backup", "[dev-dependencies]\nrestore = {}", "restore::restore", &of_backup);
        check_one("restore", "[build-dependencies]\npgclient = {}", "", &found);
    }

    #[test]
    fn the_test_bed_is_for_tests_only() {
        let code = "testbed::S3::start()";
        check_one("store", "[dev-dependencies]\ntestbed = {}", code, &[]);
        let found = ["'store' must not use 'testbed'"];
        check_one("store", "[dependencies]\ntestbed = {}", code, &found);
    }

    #[test]
    fn a_dependency_that_the_code_does_not_name_is_found() {
        let found = ["dependency 'crc-fast' is not used"];
        check_one("pg", "[dependencies]\ncrc-fast = \"1\"", "crc_faster()", &found);
        check_one("pg", "[dependencies]\ncrc-fast = \"1\"", "crc_fast::sum()", &[]);
    }

    #[test]
    fn an_unknown_crate_and_a_wrong_folder_are_found() {
        let found = ["'extra' is not in the table of crates/xtask/src/edges.rs"];
        check_one("extra", "", "", &found);
        let found = check_member(&member("page", "package.name = \"pg\"", ""));
        assert_eq!(
            found.first().unwrap().message,
            "the crate's name 'pg' is not its folder's, 'page'"
        );
    }

    #[test]
    fn a_shared_dependency_that_no_crate_takes_is_found() {
        let manifest = "package.name = \"pg\"\n[dev-dependencies]\ninsta = \"1\"";
        let shared: Dependencies = toml::from_str("insta = \"1\"\ntoml = \"1\"").unwrap();
        let found = unused_shared(&shared, &[member("pg", manifest, "")]);
        assert_eq!(found, [Finding::new("Cargo.toml", 0, "no crate uses 'toml'")]);
    }
}
