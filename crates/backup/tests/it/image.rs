//! A backup read back, file by file.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use repository::kind::Kind;
use repository::root::{self, Root};
use repository::tree::{Content, Entry, EntryKind};
use repository::walk::{Walk, leaves, read_small};
use repository::{Error, Label, LineageId, Repository};
use testbed::give_to_postgres;

/// All that a backup holds.
pub(crate) struct Image {
    pub(crate) root: Root,
    /// Entry and content by path.
    pub(crate) files: BTreeMap<String, (Entry, Vec<u8>)>,
}

impl Image {
    /// Reads the whole backup.
    pub(crate) async fn read(repository: &Repository, lineage: LineageId, label: &Label) -> Self {
        let root = root::read(repository, lineage, label).await.unwrap();
        let mut walk = Walk::new(repository, root.summary.tree);
        let mut files = BTreeMap::new();
        let mut last = Vec::new();
        while let Some(entry) = walk.next().await.unwrap() {
            assert!(last < entry.path, "entries ascend");
            last.clone_from(&entry.path);
            let content = content(repository, &root, &entry).await.unwrap();
            assert_eq!(content.len() as u64, entry.size, "{}", show(&entry.path));
            files.insert(String::from_utf8(entry.path.clone()).unwrap(), (entry, content));
        }
        Self { root, files }
    }

    /// Paths of entries of this kind.
    pub(crate) fn paths(&self, kind: EntryKind) -> Vec<&str> {
        let of_kind = self.files.iter().filter(|(_, (entry, _))| entry.kind == kind);
        of_kind.map(|(path, _)| path.as_str()).collect()
    }

    /// The content of one file.
    pub(crate) fn content(&self, path: &str) -> &[u8] {
        let (_, content) = self.files.get(path).unwrap_or_else(|| panic!("no '{path}'"));
        content
    }

    /// Writes a data directory that recovery can begin with. Tablespaces go below `tablespaces`.
    pub(crate) fn write(&self, data_dir: &Path, tablespaces: &Path) {
        fs::create_dir(data_dir).unwrap();
        for (path, (entry, content)) in &self.files {
            let to = data_dir.join(path);
            match entry.kind {
                EntryKind::Attachment => continue,
                EntryKind::Directory => fs::create_dir(&to).unwrap(),
                EntryKind::Symlink => {
                    let place = tablespaces.join(path.rsplit('/').next().unwrap());
                    fs::create_dir(&place).unwrap();
                    give_to_postgres(&place);
                    fs::set_permissions(&place, Permissions::from_mode(0o700)).unwrap();
                    symlink(&place, &to).unwrap();
                    continue;
                }
                EntryKind::File => fs::write(&to, content).unwrap(),
            }
            fs::set_permissions(&to, Permissions::from_mode(entry.mode)).unwrap();
            give_to_postgres(&to);
        }
        let write = |name: &str, content: &[u8]| {
            let to = data_dir.join(name);
            fs::write(&to, content).unwrap();
            give_to_postgres(&to);
        };
        write("backup_label", &self.root.details.backup_label);
        write("recovery.signal", b"");
        fs::set_permissions(data_dir, Permissions::from_mode(0o700)).unwrap();
        give_to_postgres(data_dir);
    }
}

async fn content(repository: &Repository, root: &Root, entry: &Entry) -> Result<Vec<u8>, Error> {
    let mut whole = Vec::new();
    for leaf in leaves(repository, &entry.content).await? {
        let (begin, _) = leaf.span();
        assert_eq!(begin, whole.len() as u64, "leaves follow each other");
        for extent in &leaf.extents {
            let (pack, at) = leaf.frames.get(extent.frame as usize).unwrap();
            assert!(root.packs.iter().any(|known| known.id == *pack), "the root names every pack");
            let begin = extent.slot as usize * leaf.unit as usize;
            let end = begin + extent.count as usize * leaf.unit as usize;
            let mut part = Vec::new();
            repository
                .read_frames(Kind::DataPack, *pack, &[*at], |_, raw| {
                    part = raw[begin..end].to_vec();
                    Ok(())
                })
                .await?;
            whole.extend(part);
        }
    }
    if !matches!(entry.content, Content::Node(_)) {
        let small = read_small(repository, entry).await?;
        if matches!(entry.content, Content::Inline(_)) {
            return Ok(small);
        }
        assert_eq!(small, whole, "both ways of reading agree");
    }
    Ok(whole)
}

fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
