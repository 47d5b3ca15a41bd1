//! The ordered walk.

use rustix::fs::{AtFlags, Dir, FileType};

use super::dir::{Folder, is_file, is_link};
use super::fault::Fault;
use super::{meta_of, temp};
use crate::{Key, ObjectMeta};

/// Made by `mkfs` at the root of a disk and readable by root alone; no key begins with it.
const LOST_AND_FOUND: &str = "lost+found";

/// One name of a folder. A folder's name ends in `/`: sorted like this, a walk that descends where
/// it meets a folder yields the keys in their byte order (`a.b` before `a/c` before `a0`).
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Entry(String);

struct Walk<'a> {
    prefix: &'a str,
    after: Option<&'a str>,
    limit: usize,
    found: Vec<ObjectMeta>,
}

/// Up to `limit` objects below `root` that start with `prefix` and come after `after`.
pub(super) fn list(
    root: &Folder,
    prefix: &str,
    after: Option<&Key>,
    limit: usize,
) -> Result<Vec<ObjectMeta>, Fault> {
    let mut walk = Walk { prefix, after: after.map(Key::as_str), limit, found: Vec::new() };
    walk.folder(root, "")?;
    Ok(walk.found)
}

impl Walk<'_> {
    fn full(&self) -> bool {
        self.found.len() >= self.limit
    }

    /// Whether a key that begins with `path` can be wanted.
    fn may_hold(&self, path: &str) -> bool {
        let prefixed = path.starts_with(self.prefix) || self.prefix.starts_with(path);
        prefixed && self.after.is_none_or(|after| path > after || after.starts_with(path))
    }

    /// Whether the key is wanted.
    fn wants(&self, key: &str) -> bool {
        key.starts_with(self.prefix) && self.after.is_none_or(|after| key > after)
    }

    fn folder(&mut self, folder: &Folder, path: &str) -> Result<(), Fault> {
        for Entry(name) in self.entries(folder, path)? {
            if self.full() {
                return Ok(());
            }
            let full = format!("{path}{name}");
            match name.strip_suffix('/') {
                Some(below) => match folder.child(below) {
                    Ok(child) => self.folder(&child, &full)?,
                    Err(Fault::NotFound) => {} // removed since it was read
                    Err(fault) => return Err(fault),
                },
                None => self.file(folder, &name, full)?,
            }
        }
        Ok(())
    }

    fn file(&mut self, folder: &Folder, name: &str, full: String) -> Result<(), Fault> {
        let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => return Ok(()), // deleted since it was read
            other => other?,
        };
        if is_link(&stat) {
            // Leaving it out would hide what it points to, which may be a moved part of the store.
            return Err(Fault::link(&full));
        }
        if let (true, Ok(key)) = (is_file(&stat), Key::new(full)) {
            self.found.push(meta_of(key, &stat));
        }
        Ok(())
    }

    /// The names of the folder that can matter, sorted.
    fn entries(&self, folder: &Folder, path: &str) -> Result<Vec<Entry>, Fault> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let reserved = matches!(name, temp::DIR | LOST_AND_FOUND) && path.is_empty();
            if reserved || Key::new(name).is_err() {
                continue;
            }
            let is_dir = match entry.file_type() {
                FileType::Directory => true,
                // Some file systems do not say.
                FileType::Unknown => folder.child(name).is_ok(),
                _ => false,
            };
            let full = format!("{path}{name}");
            if is_dir && self.may_hold(&format!("{full}/")) {
                entries.push(Entry(format!("{name}/")));
            } else if !is_dir && self.wants(&full) {
                entries.push(Entry(name.to_owned()));
            }
        }
        entries.sort_unstable();
        Ok(entries)
    }
}
