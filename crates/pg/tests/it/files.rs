//! Walking through a data directory.

use std::fs;
use std::path::Path;

use pg::layout::EntryKind;

/// An entry's path relative to the data directory and what it is.
pub(crate) type Entry = (String, EntryKind);

/// Lists the data directory, the directory itself left out, and calls `enter` to learn whether to
/// go into a directory or, below `pg_tblspc`, behind a link.
pub(crate) fn walk(data_dir: &Path, enter: &dyn Fn(&Entry) -> bool) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut waiting = vec![String::new()];
    while let Some(directory) = waiting.pop() {
        for name in names(&data_dir.join(&directory)) {
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            let kind = kind(&data_dir.join(&path));
            let entry = (path, kind);
            let can_enter = match kind {
                EntryKind::Directory => true,
                EntryKind::Symlink => directory == "pg_tblspc",
                EntryKind::File | EntryKind::Special => false,
            };
            if can_enter && enter(&entry) {
                waiting.push(entry.0.clone());
            }
            found.push(entry);
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// The names in a directory.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    fs::read_dir(directory)
        .expect("read a directory")
        .map(|entry| {
            let name = entry.expect("read a directory").file_name();
            name.into_string().expect("names in a data directory are ASCII")
        })
        .collect()
}

fn kind(path: &Path) -> EntryKind {
    let kind = fs::symlink_metadata(path).expect("look at an entry").file_type();
    if kind.is_file() {
        EntryKind::File
    } else if kind.is_dir() {
        EntryKind::Directory
    } else if kind.is_symlink() {
        EntryKind::Symlink
    } else {
        EntryKind::Special
    }
}
