//! Folders that user `postgres` can reach.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::account::give_to_postgres;

/// Names the folder for all of them, which scripts/in-namespace.sh makes and removes.
const PARENT_VARIABLE: &str = "ROLLFORWARD_WORKDIR";

/// A folder below /tmp with a short path (a Unix socket's may have 107 bytes), mode 0755, owned
/// by user `postgres` when the test runs as root. Removed with all its content on drop; what a
/// terminated test leaves is removed at the end of `make test`.
#[derive(Debug)]
pub struct Workdir {
    folder: tempfile::TempDir,
}

impl Workdir {
    /// Makes an empty one.
    ///
    /// # Panics
    /// When that fails.
    #[allow(clippy::new_without_default)] // making a folder is not a default value
    pub fn new() -> Self {
        let parent = env::var_os(PARENT_VARIABLE).unwrap_or_else(|| "/tmp".into());
        let folder = tempfile::Builder::new()
            .prefix("rf-")
            .rand_bytes(8)
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(&parent)
            .unwrap_or_else(|error| panic!("make a folder in {}: {error}", parent.display()));
        // The umask may have taken bits away.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("set the mode");
        give_to_postgres(folder.path());
        Self { folder }
    }

    /// Returns the folder's path.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the path of `name` in it, which need not exist.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// Makes a folder in it that belongs to user `postgres` with the given mode, and returns its
    /// path. Parents must exist.
    ///
    /// # Panics
    /// When that fails.
    pub fn folder(&self, name: impl AsRef<Path>, mode: u32) -> PathBuf {
        let path = self.join(name);
        fs::create_dir(&path)
            .unwrap_or_else(|error| panic!("create '{}': {error}", path.display()));
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("set the mode");
        give_to_postgres(&path);
        path
    }

    /// Writes a file in it that belongs to user `postgres` with mode 0644, and returns its path.
    ///
    /// # Panics
    /// When that fails.
    pub fn file(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, content)
            .unwrap_or_else(|error| panic!("write '{}': {error}", path.display()));
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("set the mode");
        give_to_postgres(&path);
        path
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::account::as_postgres;

    #[test]
    fn user_postgres_can_write_in_it_and_nothing_remains() {
        let workdir = Workdir::new();
        let path = workdir.path().to_owned();
        assert!(path.as_os_str().len() < 40, "{}", path.display());
        workdir.file("read-me", "x");
        workdir.folder("inside", 0o700);
        let script = "cat read-me && touch made inside/made";
        let mut command = Command::new("sh");
        as_postgres(command.args(["-c", &format!("cd {} && {script}", path.display())]));
        assert_eq!(command.output().unwrap().stdout, b"x");
        assert!(path.join("inside/made").exists());
        drop(workdir);
        assert!(!path.exists());
    }
}
