//! The workspace's programs, where user `postgres` can run them.

use std::env;
use std::fs::{self, Metadata, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;

/// Set to `allow` to run a program that is older than its sources.
const STALE_VARIABLE: &str = "ROLLFORWARD_STALE_BINARY";

/// Returns the path of the workspace program `name` (`rollforward`, `rollforward-shop`), built
/// with the same profile as this test, at a place that every user can reach: the checkout may lie
/// below a home that only its owner may enter.
///
/// The path stays the same while the program does, so it can stand in a `restore_command`.
///
/// # Panics
/// When the program has not been built, or is older than one of its sources.
pub fn binary(name: &str) -> PathBuf {
    // Set by the test runner for programs of the package under test, which are then up to date.
    if let Some(path) = env::var_os(format!("NEXTEST_BIN_EXE_{name}")) {
        return publish(Path::new(&path), name);
    }
    let built = target_folder().join(name);
    let build = format!("run: cargo build --bin {name}");
    let seen = fs::metadata(&built);
    let seen = seen.unwrap_or_else(|error| panic!("'{}': {error}; {build}", built.display()));
    if let Some(source) = newer_source(&built, &seen)
        && env::var_os(STALE_VARIABLE).is_none_or(|value| value != "allow")
    {
        panic!("'{name}' is older than '{source}'; {build} (or set {STALE_VARIABLE}=allow)");
    }
    publish(&built, name)
}

/// `target/debug` for a test program in `target/debug/deps`.
fn target_folder() -> PathBuf {
    let test = env::current_exe().expect("a test program has a path");
    let folder = test.parent().expect("a program is in a folder");
    let above = folder.parent().filter(|_| folder.ends_with("deps"));
    above.unwrap_or(folder).to_owned()
}

/// Finds a source of the program that changed after it was built, by the list that cargo leaves
/// beside it (`program.d`: `program: source source …`, spaces in names escaped).
fn newer_source(built: &Path, seen: &Metadata) -> Option<String> {
    let list = fs::read_to_string(built.with_extension("d")).ok()?;
    let built_at = seen.modified().ok()?;
    let (_, sources) = list.lines().next()?.split_once(": ")?;
    let unescaped = sources.replace("\\ ", "\0");
    unescaped.split(' ').map(|source| source.replace('\0', " ")).find(|source| {
        let changed_at = fs::metadata(source).and_then(|seen| seen.modified());
        changed_at.is_ok_and(|at| at > built_at)
    })
}

/// Links or copies the program below /tmp and removes its older versions.
fn publish(built: &Path, name: &str) -> PathBuf {
    let seen = fs::metadata(built).expect("look at the program");
    let family = Path::new("/tmp")
        .join(format!("rollforward-bin-{}", rustix::process::geteuid().as_raw()))
        .join(format!("{name}-{:016x}", digest(&built)));
    let version = (seen.ino(), seen.len(), seen.mtime(), seen.mtime_nsec());
    let folder = family.join(format!("{:016x}", digest(&version)));
    let program = folder.join(name);
    if program.exists() {
        return program;
    }
    let draft = family.join(format!("draft-{}-{:?}", process::id(), std::thread::current().id()));
    fs::create_dir_all(&draft).expect("make a folder for the program");
    // A link costs nothing and stays what it is when cargo puts a new file in its place.
    if fs::hard_link(built, draft.join(name)).is_err() {
        fs::copy(built, draft.join(name)).expect("copy the program");
    }
    for path in [family.parent().unwrap_or(&family), &family, &draft, &draft.join(name)] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("set the mode");
    }
    match fs::rename(&draft, &folder) {
        Ok(()) => remove_others(&family, &folder),
        // Another test was quicker.
        Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty) => {
            let _ = fs::remove_dir_all(&draft);
        }
        Err(error) => panic!("publish '{}': {error}", program.display()),
    }
    program
}

/// Removes versions that were replaced. Running programs keep their file.
fn remove_others(family: &Path, current: &Path) {
    let Ok(entries) = fs::read_dir(family) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().map(|name| name.to_string_lossy());
        let is_draft = name.is_some_and(|name| name.starts_with("draft-"));
        if path != current && !is_draft {
            let _ = fs::remove_dir_all(path);
        }
    }
}

fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::{Workdir, as_postgres};

    #[test]
    fn a_published_program_runs_as_postgres_and_replaces_the_older_one() {
        let workdir = Workdir::new();
        let closed = workdir.folder("closed", 0o700);
        let built = workdir.file("closed/tool", "#!/bin/sh\necho one\n");
        fs::set_permissions(&built, Permissions::from_mode(0o755)).unwrap();
        let one = publish(&built, "tool");
        assert_eq!(one, publish(&built, "tool"), "the same program keeps its path");
        fs::remove_file(&built).unwrap();
        workdir.file("closed/tool", "#!/bin/sh\necho a second\n");
        fs::set_permissions(&built, Permissions::from_mode(0o755)).unwrap();
        let two = publish(&built, "tool");
        assert!(!one.exists());
        fs::set_permissions(closed, Permissions::from_mode(0o000)).unwrap();
        let output = as_postgres(&mut Command::new(&two)).output().unwrap();
        assert_eq!(output.stdout, b"a second\n");
        fs::remove_dir_all(two.ancestors().nth(2).unwrap()).unwrap();
    }

    #[test]
    fn a_source_changed_after_the_build_is_named() {
        let workdir = Workdir::new();
        let source = workdir.file("with space.rs", "");
        let built = workdir.file("tool", "");
        let listed = source.display().to_string().replace(' ', "\\ ");
        workdir.file("tool.d", format!("{}: {listed}\n", built.display()));
        let touch = |path: &Path, seconds: u64| {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
        };
        touch(&built, 100);
        touch(&source, 50);
        assert_eq!(newer_source(&built, &fs::metadata(&built).unwrap()), None);
        touch(&source, 101);
        let expected = source.to_str().map(str::to_owned);
        assert_eq!(newer_source(&built, &fs::metadata(&built).unwrap()), expected);
    }
}
