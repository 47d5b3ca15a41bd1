//! A cluster on this machine, protected the way an operator protects one.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Pid;
use serde_json::Value;
use testbed::postgres::{Builder, Cluster, Install};
use testbed::{Workdir, as_postgres};

use crate::program::{Ran, program, text};

/// How long anything that is waited for may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// A cluster named `shop`, and the folder where everything else lies.
#[derive(Debug)]
pub(crate) struct Site {
    // Dropped first: the server archives into the folder.
    pub(crate) cluster: Cluster,
    pub(crate) folder: Workdir,
    pub(crate) variables: Vec<(String, String)>,
}

/// A restored cluster whose server the product or the test started.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) cluster: Cluster,
    /// What `restore --json` printed.
    pub(crate) report: Value,
}

impl Site {
    /// A running cluster of `major` with small segments, two local repositories, archiving.
    pub(crate) fn new(major: u32) -> Self {
        let site = Self::unprotected(major, 1, |builder| builder.setting("archive_mode", "on"));
        site.init(&site.two_repositories()).done();
        site
    }

    /// A running cluster that nothing protects yet.
    pub(crate) fn unprotected(
        major: u32,
        segment_mib: u32,
        build: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let builder = Cluster::builder(&Install::by_major(major))
            .wal_segsize_mb(segment_mib)
            // What is archived stays where tests find it.
            .setting("wal_keep_size", "256MB");
        let folder = Workdir::new();
        Self { cluster: build(builder).start(), folder, variables: Vec::new() }
    }

    /// Two directories, `main` and `second`.
    pub(crate) fn two_repositories(&self) -> Vec<String> {
        ["main", "second"].map(|name| format!("{name}={}", self.repository(name).display())).into()
    }

    /// Runs `init` with these repositories.
    pub(crate) fn init(&self, repositories: &[String]) -> Ran {
        Ran::of(&mut self.init_command(repositories))
    }

    /// `init`, not yet run.
    pub(crate) fn init_command(&self, repositories: &[String]) -> Command {
        let mut command = self.command("init --cluster shop --enable-archiving");
        command.arg("--connection").arg(self.cluster.conninfo());
        for repository in repositories {
            command.arg("--repository").arg(repository);
        }
        for (option, name) in [
            ("--state-directory", "state"),
            ("--key-file", "host.key"),
            ("--recovery-code-file", "recovery-code"),
        ] {
            command.arg(option).arg(self.folder.join(name));
        }
        command
    }

    /// The program with these words (separated by blanks), `--json` and the site's configuration.
    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = program();
        command.args(words.split_whitespace()).arg("--json");
        command.env("ROLLFORWARD_CONFIG", self.config());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs [`command`](Self::command) to its end.
    pub(crate) fn run(&self, words: &str) -> Ran {
        Ran::of(&mut self.command(words))
    }

    /// The configuration.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.join("rollforward.toml")
    }

    /// Changes the configuration's text; `from` must stand in it.
    pub(crate) fn edit_config(&self, from: &str, to: &str) {
        edit(&self.config(), from, to);
    }

    /// Replaces the configuration's text.
    pub(crate) fn write_config(&self, text: &str) {
        replace(&self.config(), text);
    }

    /// Adds to the configuration's text.
    pub(crate) fn append_config(&self, text: &str) {
        self.write_config(&(fs::read_to_string(self.config()).unwrap() + text));
    }

    /// The folder of a local repository.
    pub(crate) fn repository(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes a backup and returns its label.
    pub(crate) fn backup(&self) -> String {
        text(&self.run("backup shop").done(), "backup.label")
    }

    /// Completes the current segment and waits until it is archived; returns its name.
    pub(crate) fn archive(&self) -> String {
        archive(&self.cluster)
    }

    /// Restores into `folder` of the site with these options and starts the server.
    pub(crate) fn restore(&self, folder: &str, options: &str) -> Restored {
        let bin = self.cluster.install().bindir.display();
        self.restored(folder, &format!("{options} --start --bin-directory {bin}"))
    }

    /// Restores into `folder` with these options; the server is started only if they say so.
    pub(crate) fn restored(&self, folder: &str, options: &str) -> Restored {
        let directory = self.folder.join(folder);
        let words = format!("restore shop --to {} {options}", directory.display());
        let report = self.run(&words).done();
        let port = report["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        let port = port.unwrap_or_else(|| panic!("no port in {report}"));
        let cluster = Cluster::attach(self.cluster.install(), &directory, port);
        Restored { cluster, report }
    }

    /// Every object of a local repository whose key begins with `prefix`, in order.
    pub(crate) fn objects(&self, repository: &str, prefix: &str) -> Vec<PathBuf> {
        let root = self.repository(repository);
        let mut found: Vec<PathBuf> = files(&root)
            .into_iter()
            .filter(|path| path.strip_prefix(&root).unwrap().to_string_lossy().starts_with(prefix))
            .collect();
        found.sort();
        found
    }

    /// The object of a WAL segment in a local repository.
    pub(crate) fn wal_object(&self, repository: &str, segment: &str) -> PathBuf {
        let mut found = self.objects(repository, "wal/");
        found.retain(|path| path.ends_with(segment));
        assert_eq!(found.len(), 1, "objects of segment {segment}");
        found.remove(0)
    }

    /// Checks that `verify --deep` finds nothing.
    #[track_caller]
    pub(crate) fn verify_clean(&self) -> Value {
        let verified = self.run("verify shop --deep").done();
        assert_eq!(verified["findings"], serde_json::json!([]));
        verified
    }

    /// Checks that no WAL file ever came with two contents.
    #[track_caller]
    pub(crate) fn no_conflicts(&self) {
        let conflicts = self.objects("main", "conflict/");
        assert!(conflicts.is_empty(), "{conflicts:?}");
    }
}

/// Completes the current segment of `cluster` and waits until it is archived.
pub(crate) fn archive(cluster: &Cluster) -> String {
    let segment = cluster.switch_wal();
    let sql = format!(
        "SELECT coalesce(max(last_archived_wal), '') >= '{segment}' FROM pg_stat_archiver \
         WHERE last_archived_wal ~ '^[0-9A-F]{{24}}$'"
    );
    cluster.wait_until(&sql, "t", DEADLINE);
    segment
}

/// Every file below `folder`.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder);
    for entry in entries.unwrap_or_else(|error| panic!("'{}': {error}", folder.display())) {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

/// Copies a folder with owners and modes.
pub(crate) fn copy(from: &Path, to: &Path) {
    let mut command = Command::new("cp");
    as_postgres(command.arg("-a").arg(from).arg(to));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Replaces `from`, which must be there, in a text file; its owner and mode stay.
pub(crate) fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "no {from:?} in '{}':\n{text}", path.display());
    replace(path, &text.replace(from, to));
}

/// Replaces a text file at once, as an operator's editor does: a server that archives meanwhile
/// reads the old text or the new one. Its owner and mode stay.
pub(crate) fn replace(path: &Path, text: &str) {
    let before = fs::metadata(path).unwrap();
    let draft = path.with_extension("draft");
    fs::write(&draft, text).unwrap();
    fs::set_permissions(&draft, before.permissions()).unwrap();
    chown(&draft, Some(before.uid()), Some(before.gid())).unwrap();
    fs::rename(&draft, path).unwrap();
}

/// The permission bits of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Running rollforward processes with this argument.
pub(crate) fn processes_with(argument: &str) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let entry = entry.ok()?;
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        let ours = words.first()?.ends_with("/rollforward");
        // PostgreSQL asks for its parent's history after it has removed `recovery.signal`: killed
        // there, it is no recovery any more, on any version and with any restore command.
        let ends = words.iter().any(|word| word.ends_with(".history"));
        (ours && !ends && words.iter().any(|word| word == argument)).then(|| Pid::from_raw(pid))?
    });
    entries.collect()
}
