//! A backup: its root, its tree, and that what the tree refers to is listed.

use std::collections::{BTreeMap, BTreeSet};

use repository::dump::{self, DumpSummary};
use repository::root::{self, PackEntry, Summary};
use repository::tree::{Content, Entry, EntryKind, NodeRef};
use repository::walk::{self, Walk};
use repository::{Error, PackId};

use super::Run;
use super::packs::Needed;

impl Run<'_> {
    /// A backup's root, its tree, and the WAL it needs to become consistent.
    pub(super) async fn backup(
        &mut self,
        summary: &Summary,
        needed: &mut BTreeMap<PackId, Needed>,
    ) -> Result<(), Error> {
        let name = format!("backup {}", summary.label);
        let root = match root::read(self.repository, self.lineage.id, &summary.label).await {
            Ok(root) => root,
            Err(error) => {
                self.find(&name, error.to_string());
                return Ok(());
            }
        };
        for entry in &root.packs {
            needed
                .entry(entry.id)
                .or_insert_with(|| Needed { size: Some(entry.size), label: summary.label.clone() });
        }
        self.find_moves(root.packs.iter().map(|pack| pack.id)).await?;
        if let Err(what) = self.tree(&root).await {
            self.find(&name, what);
        }
        self.wal_of_backup(summary, &name).await
    }

    /// A dump's root, its tree, and that every stream it names is there.
    pub(super) async fn dump(
        &mut self,
        summary: &DumpSummary,
        needed: &mut BTreeMap<PackId, Needed>,
    ) -> Result<(), Error> {
        let name = format!("dump {}", summary.label);
        let root = match dump::read(self.repository, self.lineage.id, &summary.label).await {
            Ok(root) => root,
            Err(error) => {
                self.find(&name, error.to_string());
                return Ok(());
            }
        };
        for entry in &root.packs {
            needed
                .entry(entry.id)
                .or_insert_with(|| Needed { size: Some(entry.size), label: summary.label.clone() });
        }
        self.find_moves(root.packs.iter().map(|pack| pack.id)).await?;
        let mut sizes = BTreeMap::new();
        let proved = self.entries(root.summary.tree, &root.packs, |entry| {
            sizes.insert(String::from_utf8_lossy(&entry.path).into_owned(), entry.size);
        });
        if let Err(what) = proved.await {
            self.find(&name, what);
            return Ok(());
        }
        for stream in root.databases.iter().flat_map(|database| &database.streams) {
            match sizes.get(&stream.path) {
                Some(size) if *size == stream.size => {}
                Some(size) => {
                    let (path, expected) = (&stream.path, stream.size);
                    let what = format!("stream '{path}': expected {expected} bytes, seen {size}");
                    self.find(&name, what);
                }
                None => self.find(&name, format!("stream '{}' is missing", stream.path)),
            }
        }
        Ok(())
    }

    /// The tree of a backup: it must have `pg_control` and as many entries as the summary says.
    async fn tree(&mut self, root: &root::Root) -> Result<(), String> {
        let (mut files, mut control) = (0, false);
        let proved = self.entries(root.summary.tree, &root.packs, |entry| {
            if entry.kind != EntryKind::Attachment {
                files += 1;
            }
            control |= entry.path == pg::control::CONTROL_FILE_PATH.as_bytes();
        });
        proved.await?;
        match (control, files == root.summary.entries) {
            (false, _) => Err(format!("it does not hold {}", pg::control::CONTROL_FILE_PATH)),
            (true, false) => {
                Err(format!("expected {} entries, seen {files}", root.summary.entries))
            }
            (true, true) => Ok(()),
        }
    }

    /// Walks a whole tree: every node proves itself, and every pack referred to is in the table.
    async fn entries(
        &self,
        top: NodeRef,
        packs: &[PackEntry],
        mut each: impl FnMut(&Entry),
    ) -> Result<(), String> {
        let known: BTreeSet<PackId> = packs.iter().map(|pack| pack.id).collect();
        let text = |error: Error| error.to_string();
        let mut entries = Walk::new(self.repository, top);
        while let Some(entry) = entries.next().await.map_err(text)? {
            each(&entry);
            if matches!(entry.content, Content::Inline(_)) {
                continue;
            }
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            let mut end = 0;
            for leaf in walk::leaves(self.repository, &entry.content).await.map_err(text)? {
                let (begin, len) = leaf.span();
                if begin != end {
                    return Err(format!("'{path}' has no content from byte {end} to {begin}"));
                }
                end = begin + len;
                for (pack, at) in &leaf.frames {
                    if !known.contains(pack) {
                        return Err(format!(
                            "'{path}' needs pack {pack}, which the root does not list"
                        ));
                    }
                    self.was_moved(*pack, at).map_err(|what| format!("'{path}' {what}"))?;
                }
            }
            if end != entry.size {
                return Err(format!(
                    "'{path}' has {end} bytes of content, expected {}",
                    entry.size
                ));
            }
        }
        Ok(())
    }
}
