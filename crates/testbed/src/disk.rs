//! A disk that fills up.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::account::{can_drop_privileges, give_to_postgres};
use crate::workdir::Workdir;

/// A file system of a given size in memory, for tests of a full disk. Unmounted on drop.
#[derive(Debug)]
pub struct SmallDisk {
    mount: PathBuf,
    _workdir: Workdir,
}

impl SmallDisk {
    /// Mounts an empty file system of `mib` MiB that belongs to user `postgres`, mode 0755.
    ///
    /// # Panics
    /// When this process is not root, or the mount fails.
    pub fn new(mib: u32) -> Self {
        assert!(can_drop_privileges(), "mounting a small disk needs root: run `make test` as root");
        let workdir = Workdir::new();
        let mount = workdir.folder("disk", 0o755);
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=0755"), "rollforward-test"])
            .arg(&mount)
            .output()
            .expect("run mount");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "mount a disk of {mib} MiB: {said}");
        give_to_postgres(&mount);
        Self { mount, _workdir: workdir }
    }

    /// Returns where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Returns the free bytes.
    ///
    /// # Panics
    /// When the file system cannot be asked.
    pub fn free_bytes(&self) -> u64 {
        let seen = statvfs(&self.mount).expect("ask the small disk for its room");
        seen.f_bavail * seen.f_frsize
    }

    /// Lets nobody write to it any more.
    ///
    /// # Panics
    /// When it cannot be mounted anew, as while a file is open for writing.
    pub fn set_read_only(&self) {
        let output = Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(&self.mount)
            .output()
            .expect("run mount");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "mount '{}' read-only: {said}", self.mount.display());
    }

    /// Takes all room but `leave` bytes (rounded up to whole blocks) with a file named `filler`,
    /// and returns that file's path: removing it gives the room back.
    ///
    /// # Panics
    /// When there is less room than `leave`, or the file cannot be made.
    pub fn fill(&self, leave: u64) -> PathBuf {
        let path = self.path().join("filler");
        let block = 4096;
        let leave = leave.next_multiple_of(block);
        let taken = self.free_bytes().checked_sub(leave).expect("there is less room than that");
        let file = File::create(&path).expect("create the filler");
        if taken > 0 {
            fallocate(&file, FallocateFlags::empty(), 0, taken).expect("take the room");
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that a failed test left behind must not keep the mount alive.
        let _ = Command::new("umount").arg("-l").arg(&self.mount).status();
    }
}
