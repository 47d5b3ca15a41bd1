//! The files of a data directory, as they are when the backup begins to copy.
//!
//! The list is made after `pg_backup_start`: what appears later is made by WAL that replay sees.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use pg::layout::{self, Treatment, UnloggedRelations};
use pg::relation_file::RelationFile;
use pg::{BlockNumber, Oid};
use repository::tree::EntryKind;

use crate::error::{Error, unreadable};

/// One file, directory or link that belongs into the backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Relative to the data directory.
    pub(crate) path: Box<[u8]>,
    pub(crate) kind: EntryKind,
    pub(crate) mode: u32,
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) modified_us: i64,
    /// Bytes to read; of a file of pages whole pages only.
    pub(crate) size: u64,
    pub(crate) link: Option<Box<[u8]>>,
    /// The number of the file's first page in its fork, when it consists of pages.
    pub(crate) first_block: Option<BlockNumber>,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// In ascending order of path; `pg_control` is not among them.
    pub(crate) files: Vec<Listed>,
    /// `pg_control`, which is copied last.
    pub(crate) control: Option<Listed>,
    /// Tablespaces outside the data directory: oid and path.
    pub(crate) tablespaces: Vec<(Oid, String)>,
    /// What an operator should know.
    pub(crate) warnings: Vec<String>,
}

/// What of the cluster decides how its files are listed.
#[derive(Clone, Debug)]
pub(crate) struct Geometry {
    /// Bytes in a page.
    pub(crate) block_size: u32,
    /// Pages in a segment file of a relation.
    pub(crate) segment_blocks: u32,
    /// The cluster's own folder in a tablespace, such as `PG_16_202307071`.
    pub(crate) version_directory: String,
}

/// Directories in which every file is data: a link there would leave data out of the backup.
const DATA_DIRECTORIES: [&str; 8] = [
    "base",
    "global",
    "pg_xact",
    "pg_multixact",
    "pg_commit_ts",
    "pg_twophase",
    "pg_logical",
    "pg_tblspc",
];

/// Files without which no cluster starts.
const REQUIRED_FILES: [&str; 7] = [
    "PG_VERSION",
    "global/pg_control",
    "global/pg_filenode.map",
    "postgresql.conf",
    "postgresql.auto.conf",
    "pg_hba.conf",
    "pg_ident.conf",
];

/// Whether the backup fails when this file, once listed, is gone. Everything else may go at any
/// time: relations are dropped, transaction logs truncated, prepared transactions finished; WAL
/// tells replay.
pub(crate) fn is_required(path: &[u8]) -> bool {
    REQUIRED_FILES.iter().any(|required| required.as_bytes() == path)
}

impl Listed {
    /// The path for messages.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }

    /// Bytes in a unit of content: the block size, or 1.
    pub(crate) fn unit(&self, block_size: u32) -> u32 {
        if self.first_block.is_some() { block_size } else { 1 }
    }
}

/// The path of a listed file.
pub(crate) fn full_path(root: &Path, path: &[u8]) -> PathBuf {
    root.join(std::ffi::OsStr::from_bytes(path))
}

/// Lists the data directory.
///
/// # Errors
/// [`Error::Unreadable`], [`Error::Link`].
pub(crate) fn list(root: &Path, geometry: &Geometry) -> Result<Listing, Error> {
    let mut lister = Lister { root, geometry, found: Listing::default() };
    let mut pending = vec![Vec::new()];
    while let Some(directory) = pending.pop() {
        lister.directory(&directory, &mut pending)?;
    }
    let mut found = lister.found;
    found.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

struct Lister<'a> {
    root: &'a Path,
    geometry: &'a Geometry,
    found: Listing,
}

impl Lister<'_> {
    /// Looks at every name in a directory; directories to look into are added to `pending`.
    fn directory(&mut self, directory: &[u8], pending: &mut Vec<Vec<u8>>) -> Result<(), Error> {
        let Some(names) = self.names(directory)? else { return Ok(()) };
        let unlogged = if layout::is_database_directory(&String::from_utf8_lossy(directory)) {
            UnloggedRelations::of_directory(names.iter().filter_map(|name| name.to_str()))
        } else {
            UnloggedRelations::default()
        };
        for name in names {
            if name.to_str().is_some_and(|name| unlogged.leaves_out(name)) {
                continue;
            }
            let path = match directory {
                [] => name.into_vec(),
                _ => [directory, b"/", name.as_bytes()].concat(),
            };
            self.entry(path, pending)?;
        }
        Ok(())
    }

    /// The names in a directory; `None` when it is gone, as after `DROP DATABASE`.
    fn names(&self, directory: &[u8]) -> Result<Option<Vec<OsString>>, Error> {
        let path = full_path(self.root, directory);
        let listed = fs::read_dir(&path)
            .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
        match listed {
            Ok(names) => Ok(Some(names)),
            Err(error) if error.kind() == ErrorKind::NotFound && !directory.is_empty() => Ok(None),
            Err(error) => Err(unreadable(&path, &error)),
        }
    }

    fn entry(&mut self, path: Vec<u8>, pending: &mut Vec<Vec<u8>>) -> Result<(), Error> {
        let full = full_path(self.root, &path);
        let meta = match fs::symlink_metadata(&full) {
            Ok(meta) => meta,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unreadable(&full, &error)),
        };
        let text = String::from_utf8_lossy(&path).into_owned();
        let treatment = layout::classify(&text, kind_of(&meta));
        let mut listed = listed(path, EntryKind::File, &meta);
        match (treatment, kind_of(&meta)) {
            (Treatment::SkipFile, _) | (_, layout::EntryKind::Special) => return Ok(()),
            (Treatment::CopyLast, _) => {
                self.found.control = Some(listed);
                return Ok(());
            }
            (Treatment::SkipContents, _) => {
                // A link, often that of pg_wal, comes back as a directory with the target's rights.
                if let Ok(target) = fs::metadata(&full) {
                    listed.mode = target.mode() & 0o7777;
                    (listed.user, listed.group) = (target.uid(), target.gid());
                }
                (listed.kind, listed.size) = (EntryKind::Directory, 0);
            }
            (Treatment::Copy, layout::EntryKind::Directory) => {
                if !self.is_foreign_version(&text) {
                    pending.push(listed.path.to_vec());
                    (listed.kind, listed.size) = (EntryKind::Directory, 0);
                } else {
                    return Ok(());
                }
            }
            (Treatment::Copy, layout::EntryKind::Symlink) => {
                self.link(&mut listed, &full, pending)?;
            }
            (Treatment::Copy, layout::EntryKind::File) => self.file(&mut listed, &text),
        }
        self.found.files.push(listed);
        Ok(())
    }

    fn file(&self, listed: &mut Listed, text: &str) {
        let relation = RelationFile::parse(text);
        listed.first_block =
            relation.and_then(|relation| relation.first_block(self.geometry.segment_blocks));
        if listed.first_block.is_some() {
            listed.size -= listed.size % u64::from(self.geometry.block_size);
        }
    }

    fn link(
        &mut self,
        listed: &mut Listed,
        full: &Path,
        pending: &mut Vec<Vec<u8>>,
    ) -> Result<(), Error> {
        let target = fs::read_link(full).map_err(|error| unreadable(full, &error))?;
        let text = listed.text();
        (listed.kind, listed.size) = (EntryKind::Symlink, 0);
        listed.link = Some(target.as_os_str().as_bytes().into());
        if let Some(oid) = tablespace_of(&text) {
            let meta = fs::metadata(full).map_err(|error| Error::Tablespace {
                name: oid.to_string(),
                path: target.clone(),
                reason: error.to_string(),
            })?;
            listed.mode = meta.mode() & 0o7777;
            (listed.user, listed.group) = (meta.uid(), meta.gid());
            self.found.tablespaces.push((oid, target.to_string_lossy().into_owned()));
            pending.push(listed.path.to_vec());
            return Ok(());
        }
        let target = target.to_string_lossy().into_owned();
        let top = text.split('/').next().unwrap_or_default();
        if DATA_DIRECTORIES.contains(&top) {
            return Err(Error::Link { path: text, target });
        }
        self.found.warnings.push(format!(
            "'{text}' is a link to '{target}': the link is backed up, what it points to is not"
        ));
        Ok(())
    }

    /// Whether this is a folder in a tablespace that belongs to another cluster or major version.
    fn is_foreign_version(&self, text: &str) -> bool {
        let mut parts = text.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("pg_tblspc"), Some(_), Some(version), None) => {
                version != self.geometry.version_directory
            }
            _ => false,
        }
    }
}

/// The oid of the tablespace whose link this is.
fn tablespace_of(text: &str) -> Option<Oid> {
    text.strip_prefix("pg_tblspc/")?.parse().ok().map(Oid::new)
}

fn kind_of(meta: &Metadata) -> layout::EntryKind {
    let kind = meta.file_type();
    if kind.is_file() {
        layout::EntryKind::File
    } else if kind.is_dir() {
        layout::EntryKind::Directory
    } else if kind.is_symlink() {
        layout::EntryKind::Symlink
    } else {
        layout::EntryKind::Special
    }
}

fn listed(path: Vec<u8>, kind: EntryKind, meta: &Metadata) -> Listed {
    Listed {
        path: path.into_boxed_slice(),
        kind,
        mode: meta.mode() & 0o7777,
        user: meta.uid(),
        group: meta.gid(),
        modified_us: meta
            .mtime()
            .saturating_mul(1_000_000)
            .saturating_add(meta.mtime_nsec() / 1000),
        size: meta.len(),
        link: None,
        first_block: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry() -> Geometry {
        Geometry {
            block_size: 8192,
            segment_blocks: 131_072,
            version_directory: "PG_18_202506291".into(),
        }
    }

    fn make(root: &Path, files: &[(&str, usize)]) {
        for (path, len) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![1; *len]).unwrap();
        }
    }

    fn paths(listing: &Listing) -> Vec<String> {
        listing.files.iter().map(Listed::text).collect()
    }

    #[test]
    fn lists_what_belongs_into_a_backup_in_order_of_path() {
        let root = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        make(
            root.path(),
            &[
                ("PG_VERSION", 3),
                ("global/pg_control", 8192),
                ("base/5/16384", 8192 * 2 + 100),
                ("base/5/16384.1", 8192),
                ("base/5/16390", 8192),
                ("base/5/16390_init", 0),
                ("base/5-x", 1),
                ("pg_replslot/slot/state", 5),
                ("postmaster.pid", 5),
            ],
        );
        make(
            elsewhere.path(),
            &[("PG_18_202506291/5/16500", 8192), ("PG_17_202406281/5/16500", 8192), ("wal/1", 1)],
        );
        fs::create_dir_all(root.path().join("pg_tblspc")).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), root.path().join("pg_tblspc/16400")).unwrap();
        std::os::unix::fs::symlink(elsewhere.path().join("wal"), root.path().join("pg_wal"))
            .unwrap();
        std::os::unix::fs::symlink("/etc/hostname", root.path().join("extra.conf")).unwrap();

        let listing = list(root.path(), &geometry()).unwrap();
        assert_eq!(
            paths(&listing),
            [
                "PG_VERSION",
                "base",
                "base/5",
                "base/5-x",
                "base/5/16384",
                "base/5/16384.1",
                "base/5/16390_init",
                "extra.conf",
                "global",
                "pg_replslot",
                "pg_tblspc",
                "pg_tblspc/16400",
                "pg_tblspc/16400/PG_18_202506291",
                "pg_tblspc/16400/PG_18_202506291/5",
                "pg_tblspc/16400/PG_18_202506291/5/16500",
                "pg_wal",
            ]
        );
        assert_eq!(listing.control.unwrap().size, 8192);
        let find = |path: &str| listing.files.iter().find(|file| file.text() == path).unwrap();
        assert_eq!(find("base/5/16384").size, 8192 * 2, "whole pages");
        assert_eq!(find("base/5/16384.1").first_block, Some(BlockNumber::new(131_072)));
        assert_eq!(find("PG_VERSION").first_block, None);
        assert_eq!(find("pg_wal").kind, EntryKind::Directory);
        assert_eq!(find("extra.conf").kind, EntryKind::Symlink);
        let place = elsewhere.path().to_string_lossy().into_owned();
        assert_eq!(listing.tablespaces, [(Oid::new(16400), place)]);
        assert_eq!(listing.warnings.len(), 1, "{:?}", listing.warnings);
    }

    #[test]
    fn refuses_a_link_where_data_is_kept() {
        let root = tempfile::tempdir().unwrap();
        make(root.path(), &[("base/5/PG_VERSION", 3)]);
        std::os::unix::fs::symlink("/elsewhere", root.path().join("base/6")).unwrap();
        let error = list(root.path(), &geometry()).unwrap_err();
        assert!(matches!(error, Error::Link { .. }), "{error}");
    }

    #[test]
    fn only_what_every_cluster_needs_is_required() {
        for path in ["PG_VERSION", "postgresql.conf", "global/pg_filenode.map"] {
            assert!(is_required(path.as_bytes()), "{path}");
        }
        for path in ["base/5/PG_VERSION", "base/5/16384", "pg_xact/0000", "log/x"] {
            assert!(!is_required(path.as_bytes()), "{path}");
        }
    }
}
