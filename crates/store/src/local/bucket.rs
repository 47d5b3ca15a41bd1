//! A directory of an application's files: any name, never replaced.

use std::collections::BinaryHeap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{AtFlags, Dir, FileType};

use super::dir::{Folder, is_file, is_link};
use super::fault::{Fault, Verb};
use super::temp::{self, TempFile, write_parts};
use super::{Access, modified, read_range};
use crate::bucket::{Bucket, Item, PIECE_LEN, piece};
use crate::{Created, Error};

/// Objects of a page: a folder is read anew for every page, so pages are long. So many names of a
/// folder are held at a time, however many it has.
const PAGE_LEN: usize = 50_000;

/// A directory of files. Clones are the same directory.
#[derive(Clone, Debug)]
pub(crate) struct LocalBucket {
    root: Arc<PathBuf>,
    address: String,
    access: Access,
}

impl LocalBucket {
    /// The bucket in `root`; a root that is missing when it is used may be a disk that is not
    /// mounted, and says nothing about files.
    pub(crate) fn open(root: &Path, access: Access) -> Self {
        let address = root.display().to_string();
        Self { root: Arc::new(root.to_path_buf()), address, access }
    }

    async fn run<T: Send + 'static>(
        &self,
        verb: Verb,
        name: &str,
        work: impl FnOnce(&Folder) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Error> {
        let root = Arc::clone(&self.root);
        let done = tokio::task::spawn_blocking(move || work(&Folder::open_root(&root)?));
        let done = done.await.unwrap_or_else(|_| Err(Fault::stopped()));
        done.map_err(|fault| self.error(verb, name, fault))
    }

    /// The error; names of files are no keys, so those without one are told in words.
    fn error(&self, verb: Verb, name: &str, fault: Fault) -> Error {
        let fault = match fault {
            Fault::NotFound => Fault::Unavailable("it is not there any more".into()),
            Fault::Range { .. } => Fault::Unavailable("the file is shorter than it was".into()),
            fault => fault,
        };
        fault.at(&self.address, verb, name)
    }
}

/// Whether a text can be a file's name below the root.
fn checked(name: &str) -> Result<(), Fault> {
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    match name.split('/').all(is_part) {
        true => Ok(()),
        false => Err(Fault::Denied(
            "it is no name: expected one without '/' at its ends, empty parts, '.' and '..'".into(),
        )),
    }
}

fn find(root: Folder, name: &str) -> Result<Option<Item>, Fault> {
    checked(name)?;
    let found = root.descend(name).and_then(|(folder, last)| item(&folder, last, name));
    match found {
        Err(Fault::NotFound) => Ok(None),
        found => found,
    }
}

/// The file `last` of a folder; `None` for what is no file.
fn item(folder: &Folder, last: &str, name: &str) -> Result<Option<Item>, Fault> {
    let stat = rustix::fs::statat(folder, last, AtFlags::SYMLINK_NOFOLLOW)?;
    if is_link(&stat) {
        return Err(Fault::link(name));
    }
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let found = Item { name: name.to_owned(), size, modified: modified(&stat), etag: None };
    Ok(is_file(&stat).then_some(found))
}

struct Walk {
    after: Option<String>,
    limit: usize,
    found: Vec<Item>,
}

impl Walk {
    /// The next names of a folder that can matter, behind `last`, as many as the page has room for;
    /// a folder's ends in `/`, so that what is sorted here is sorted as whole names are.
    fn entries(
        &self,
        folder: &Folder,
        path: &str,
        last: Option<&str>,
    ) -> Result<Vec<String>, Fault> {
        let room = self.room();
        // The greatest is on top, and leaves when a smaller one comes.
        let mut entries = BinaryHeap::new();
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let is_ours = path.is_empty() && matches!(name, temp::DIR | "lost+found");
            if matches!(name, "." | "..") || is_ours {
                continue;
            }
            let is_dir = match entry.file_type() {
                FileType::Directory => true,
                // Some file systems do not say.
                FileType::Unknown => folder.child(name).is_ok(),
                _ => false,
            };
            let entry = if is_dir { format!("{name}/") } else { name.to_owned() };
            let full = format!("{path}{entry}");
            let after = self.after.as_deref();
            let below = |after: &str| is_dir && after.starts_with(&full);
            let is_next = last.is_none_or(|last| entry.as_str() > last);
            if is_next && after.is_none_or(|after| full.as_str() > after || below(after)) {
                entries.push(entry);
                if entries.len() > room {
                    entries.pop();
                }
            }
        }
        Ok(entries.into_sorted_vec())
    }

    const fn room(&self) -> usize {
        self.limit.saturating_sub(self.found.len())
    }

    /// Takes what is in a folder, until the page is full.
    fn folder(&mut self, folder: &Folder, path: &str) -> Result<(), Fault> {
        let mut last = None;
        while self.room() > 0 {
            let room = self.room();
            let entries = self.entries(folder, path, last.as_deref())?;
            let is_end = entries.len() < room;
            last = entries.last().cloned();
            self.take(folder, path, entries)?;
            // What was no file, or is gone, left room for more.
            if is_end {
                break;
            }
        }
        Ok(())
    }

    fn take(&mut self, folder: &Folder, path: &str, entries: Vec<String>) -> Result<(), Fault> {
        for name in entries {
            if self.room() == 0 {
                return Ok(());
            }
            let full = format!("{path}{name}");
            let done = match name.strip_suffix('/') {
                Some(below) => folder.child(below).and_then(|child| self.folder(&child, &full)),
                None => item(folder, &name, &full).map(|item| self.found.extend(item)),
            };
            match done {
                Err(Fault::NotFound) | Ok(()) => {} // removed since it was read
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }
}

/// Writes pieces into a temporary file and gives it its name, unless something has it.
struct Copy {
    temp: Arc<TempFile>,
}

#[async_trait]
impl Bucket for LocalBucket {
    fn address(&self) -> &str {
        &self.address
    }

    fn prefers_asking(&self) -> bool {
        true
    }

    fn page_len(&self) -> usize {
        PAGE_LEN
    }

    async fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<Item>, Error> {
        let mut walk = Walk { after: after.map(str::to_owned), limit, found: Vec::new() };
        self.run(Verb::List, "", move |root| {
            walk.folder(root, "")?;
            Ok(walk.found)
        })
        .await
    }

    async fn head(&self, name: &str) -> Result<Option<Item>, Error> {
        let owned = name.to_owned();
        self.run(Verb::Read, name, move |root| find(root.again()?, &owned)).await
    }

    async fn read(&self, name: &str, range: Range<u64>) -> Result<Bytes, Error> {
        let owned = name.to_owned();
        self.run(Verb::Read, name, move |root| {
            checked(&owned)?;
            let (folder, last) = root.again()?.descend(&owned)?;
            let file = std::fs::File::from(folder.open_file(last)?);
            let stat = rustix::fs::fstat(&file)?;
            if !is_file(&stat) {
                return Err(Fault::NotFound);
            }
            read_range(&file, &stat, &range)
        })
        .await
    }

    async fn copy_from(&self, from: &dyn Bucket, item: &Item) -> Result<Created, Error> {
        let name = item.name.as_str();
        let (access, owned) = (self.access, item.name.clone());
        let temp = self.run(Verb::Write, name, move |root| {
            checked(&owned)?;
            TempFile::create(root, access)
        });
        let copy = Copy { temp: Arc::new(temp.await?) };
        let mut at = 0;
        while at < item.size {
            let bytes = from.read(name, piece(item, at, PIECE_LEN)).await?;
            at += bytes.len() as u64;
            let temp = Arc::clone(&copy.temp);
            self.run(Verb::Write, name, move |_| write_parts(temp.file(), &[bytes])).await?;
        }
        let owned = item.name.clone();
        let publish = self.run(Verb::Write, name, move |root| {
            // All threads have ended, so this is the last hold on the file.
            let temp = Arc::into_inner(copy.temp).ok_or_else(Fault::stopped)?;
            temp.publish(root, &owned)
        });
        publish.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_of_any_length_give_every_file_once_and_in_order() {
        let root = tempfile::tempdir().unwrap();
        let mut expected = Vec::new();
        for at in 0..100_u32 {
            // Names that sort differently from their folders: `a-b`, `a/b`, `a0`.
            let at = at.wrapping_mul(37) % 100;
            let name = match at % 4 {
                0 => format!("f{:02}", at / 4),
                1 => format!("f{:02}/inner{at}", at / 8 + 50),
                2 => format!("f{:02}-x", at / 4),
                _ => format!("deep/a{}/b/c{at}", at % 3),
            };
            let path = root.path().join(&name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
            expected.push(name);
        }
        // Folders without files between them leave room that others fill.
        for at in 0..30 {
            std::fs::create_dir_all(root.path().join(format!("f{at:02}.empty/below"))).unwrap();
        }
        expected.sort();
        let bucket = LocalBucket::open(root.path(), Access::Owner);
        for limit in [1, 2, 3, 7, 50, 99, 100, 101] {
            let mut seen: Vec<String> = Vec::new();
            loop {
                let page = bucket.list(seen.last().map(String::as_str), limit).await.unwrap();
                assert!(page.len() <= limit);
                let is_end = page.len() < limit;
                seen.extend(page.into_iter().map(|item| item.name));
                if is_end {
                    break;
                }
            }
            assert_eq!(seen, expected, "{limit}");
        }
    }
}
