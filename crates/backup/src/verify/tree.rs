//! A backup: its root, its tree, and that what the tree refers to is listed.

use std::collections::{BTreeMap, BTreeSet};

use repository::root::{self, Summary};
use repository::tree::{Content, EntryKind};
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

    /// Walks the whole tree: every node proves itself, and every pack referred to is in the table.
    async fn tree(&mut self, root: &root::Root) -> Result<(), String> {
        let known: BTreeSet<PackId> = root.packs.iter().map(|pack| pack.id).collect();
        let text = |error: Error| error.to_string();
        let mut entries = Walk::new(self.repository, root.summary.tree);
        let mut files = 0;
        let mut control = false;
        while let Some(entry) = entries.next().await.map_err(text)? {
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            if entry.kind != EntryKind::Attachment {
                files += 1;
            }
            control |= path == pg::control::CONTROL_FILE_PATH;
            if matches!(entry.content, Content::Inline(_)) {
                continue;
            }
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
        match (control, files == root.summary.entries) {
            (false, _) => Err(format!("it does not hold {}", pg::control::CONTROL_FILE_PATH)),
            (true, false) => {
                Err(format!("expected {} entries, seen {files}", root.summary.entries))
            }
            (true, true) => Ok(()),
        }
    }
}
