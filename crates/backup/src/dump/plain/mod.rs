//! Dumps that others made: files in a directory or a bucket, packed and encrypted as they like.
//!
//! What a file is, its bytes say and not its name: gzip and zstd begin with their magic numbers, a
//! custom dump with `PGDMP`, a tar file of `pg_dump` with the member `toc.dat`. Everything else is
//! SQL for `psql`. Nothing is written to a disk on the way.

mod elsewhere;
mod open;
mod restore;
mod verify;

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use store::{Key, ObjectMeta, Store};

use super::error::DumpError;

pub use restore::{PlainRestore, PlainRestored, restore};
pub use verify::{Verified, verify};

/// Objects asked for in one listing.
const LIST_PAGE: usize = 1000;

/// Dumps that a listing keeps: the newest. A bucket with years of hourly dumps is not held whole.
pub const LISTED_MAX: usize = 500;

/// Endings of names that are dumps, before those of packing and encryption.
const ENDINGS: [&str; 7] = ["sql", "dump", "custom", "pgdump", "backup", "tar", "tgz"];

/// Endings of packing and encryption.
const WRAPPINGS: [&str; 9] = ["gz", "zst", "zstd", "age", "gpg", "pgp", "asc", "enc", "bin"];

/// Where dumps of others lie, and what opens them.
#[derive(Clone, Debug)]
pub struct PlainSource {
    /// Its name in the configuration.
    pub name: String,
    /// Where.
    pub store: Arc<dyn Store>,
    /// A program that reads the file and writes it opened, with its arguments; may be empty.
    pub open: Vec<String>,
    /// Where `psql` and `pg_restore` are looked for, before the packages' folders.
    pub folders: Vec<PathBuf>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainDump {
    /// Its name in the source.
    pub key: Key,
    /// Its bytes as they lie there.
    pub size: u64,
    /// When it was written, by the store's clock.
    pub modified: Timestamp,
}

/// What a listing found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlainListing {
    /// The newest dumps, oldest first.
    pub dumps: Vec<PlainDump>,
    /// Dumps that are older than those.
    pub older: u64,
    /// Objects whose names are not those of dumps.
    pub others: u64,
}

impl PlainSource {
    /// What is there, page by page: memory does not grow with the number of objects.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list(&self) -> Result<PlainListing, DumpError> {
        let mut listing = PlainListing::default();
        let mut after: Option<Key> = None;
        loop {
            let page = self.store.list("", after.as_ref(), LIST_PAGE).await;
            let page = page.map_err(repository::Error::from)?;
            let complete = page.len() < LIST_PAGE;
            after = page.last().map(|meta| meta.key.clone());
            page.into_iter().for_each(|meta| listing.take(meta));
            listing.trim();
            if complete {
                return Ok(listing);
            }
        }
    }

    /// The dump of that name.
    ///
    /// # Errors
    /// [`DumpError::NoDump`]; an error of the store.
    pub async fn find(&self, name: &str) -> Result<PlainDump, DumpError> {
        let absent = || DumpError::NoDump { cluster: self.name.clone(), label: name.into() };
        let key = Key::new(name).map_err(|_| absent())?;
        match self.store.head(&key).await {
            Ok(meta) => Ok(PlainDump { key, size: meta.size, modified: meta.modified }),
            Err(store::Error::NotFound { .. }) => Err(absent()),
            Err(error) => Err(repository::Error::from(error).into()),
        }
    }
}

impl PlainListing {
    fn take(&mut self, meta: ObjectMeta) {
        if is_dump(meta.key.as_str()) {
            let ObjectMeta { key, size, modified } = meta;
            self.dumps.push(PlainDump { key, size, modified });
        } else {
            self.others += 1;
        }
    }

    fn trim(&mut self) {
        self.dumps.sort_by(|a, b| (a.modified, &a.key).cmp(&(b.modified, &b.key)));
        let surplus = self.dumps.len().saturating_sub(LISTED_MAX);
        self.dumps.drain(..surplus);
        self.older += surplus as u64;
    }
}

/// Whether a name is that of a dump, whatever it was packed and encrypted with.
fn is_dump(key: &str) -> bool {
    let mut name = key.rsplit('/').next().unwrap_or(key);
    while let Some((before, ending)) = name.rsplit_once('.') {
        if ENDINGS.contains(&ending) {
            return true;
        }
        if !WRAPPINGS.contains(&ending) {
            return false;
        }
        name = before;
    }
    false
}

/// What the bytes are once they are opened and unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// SQL, for `psql`.
    Sql,
    /// `pg_dump -Fc`.
    Custom,
    /// `pg_dump -Ft`.
    Tar,
    /// A folder of `pg_dump -Fd` in a tar file.
    Directory,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sql => "SQL",
            Self::Custom => "custom",
            Self::Tar => "tar",
            Self::Directory => "directory in tar",
        })
    }
}

/// Bytes that tell a format: one header of tar.
const HEAD_LEN: usize = 512;

/// The format by the first bytes; an error when they are no dump.
fn format_of(head: &[u8]) -> Result<Format, &'static str> {
    if head.starts_with(b"PGDMP") {
        return Ok(Format::Custom);
    }
    if head.get(257..262) == Some(b"ustar") {
        let name = head.get(..100).unwrap_or_default();
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        return Ok(if name == b"toc.dat" { Format::Tar } else { Format::Directory });
    }
    if head.is_empty() {
        return Err("is empty");
    }
    // What is still encrypted or packed has bytes that no SQL has.
    if head.contains(&0)
        || std::str::from_utf8(head).is_err_and(|error| error.error_len().is_some())
    {
        return Err("is neither SQL nor a dump of pg_dump, once it is opened and unpacked");
    }
    Ok(Format::Sql)
}

#[cfg(test)]
mod tests {
    use super::{Format, HEAD_LEN, format_of, is_dump};

    #[test]
    fn names_of_dumps_are_known_with_what_they_were_wrapped_in() {
        let check = |name: &str, expect: bool| assert_eq!(is_dump(name), expect, "{name}");
        check("shop.sql", true);
        check("2026/11/shop-2026-11-20.sql.gz.age", true);
        check("shop.dump.zst.gpg", true);
        check("shop.tar.gz", true);
        check("shop.log", false);
        check("sql/readme.txt", false);
        check("shop.gz", false);
    }

    #[test]
    fn bytes_tell_the_format() {
        let tar = |name: &str| {
            let mut head = vec![0; HEAD_LEN];
            head[..name.len()].copy_from_slice(name.as_bytes());
            head[257..262].copy_from_slice(b"ustar");
            head
        };
        assert_eq!(format_of(b"PGDMP\x01\x0e"), Ok(Format::Custom));
        assert_eq!(format_of(&tar("toc.dat")), Ok(Format::Tar));
        assert_eq!(format_of(&tar("shop/toc.dat")), Ok(Format::Directory));
        assert_eq!(format_of("--\n-- PostgreSQL dümp".as_bytes()), Ok(Format::Sql));
        assert!(format_of(b"age-encryption.org/v1\n\x00\xff").is_err());
        assert!(format_of(b"").is_err());
    }
}
