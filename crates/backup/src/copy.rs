//! Copying: the files through the pipeline, then what is known beside them, then `pg_control`.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use pg::{ControlFile, Lsn, Oid};
use pgclient::{Client, ServerInfo};
use repository::Repository;
use repository::root::Details;
use repository::tree::{Content, Entry, EntryKind};

use crate::accounts::Accounts;
use crate::appender::Appender;
use crate::content::Stored;
use crate::control_file;
use crate::error::Error;
use crate::facts::{self, Attachment};
use crate::list::{self, Geometry, Listed};
use crate::options::Options;
use crate::pipeline::{Pipeline, Plan};
use crate::progress::Progress;

/// A copy under way.
pub(crate) struct Copy<'a> {
    pub(crate) appender: Appender<'a>,
    plan: Arc<Plan>,
    control: Listed,
    accounts: Accounts,
    pub(crate) tablespaces: Vec<(Oid, String)>,
    pub(crate) warnings: Vec<String>,
    /// Entries that are not of the plan.
    extra: Vec<Entry>,
    pub(crate) details: Details,
    /// Bytes of the files in the tree.
    pub(crate) size: u64,
    /// Files, directories and links in the tree.
    pub(crate) entries: u64,
}

impl<'a> Copy<'a> {
    /// Lists the files. To be called when the backup has started.
    pub(crate) async fn begin(
        repository: &'a Repository,
        options: &Options,
        geometry: &Geometry,
        checksums: bool,
        progress: &'a dyn Progress,
    ) -> Result<Self, Error> {
        let (root, how) = (options.data_directory.clone(), geometry.clone());
        let listed = tokio::task::spawn_blocking(move || list::list(&root, &how)).await;
        let mut listing = match listed {
            Ok(listing) => listing?,
            Err(join) => std::panic::resume_unwind(join.into_panic()),
        };
        let Some(control) = listing.control.take() else {
            return Err(Error::Vanished { path: pg::control::CONTROL_FILE_PATH.into() });
        };
        let plan = Arc::new(Plan {
            root: options.data_directory.clone(),
            files: listing.files,
            block_size: geometry.block_size,
            checksums,
            compression: options.compression,
            damaged: AtomicU64::new(0),
        });
        let regular = plan.files.iter().filter(|file| file.kind == EntryKind::File);
        let (mut bytes, mut files) = (0, 0);
        for file in regular {
            bytes += file.size;
            files += 1;
        }
        progress.total(bytes, files);
        for warning in &listing.warnings {
            progress.note(warning);
        }
        let mut appender = Appender::begin(repository, Arc::clone(&plan), progress).await?;
        appender.statistics.files = files;
        Ok(Self {
            appender,
            plan,
            control,
            accounts: Accounts::read(),
            tablespaces: listing.tablespaces,
            warnings: listing.warnings,
            extra: Vec::new(),
            details: Details::default(),
            size: 0,
            entries: 0,
        })
    }

    /// Copies all files but `pg_control`.
    pub(crate) async fn files(&mut self, workers: usize) -> Result<(), Error> {
        let pipeline = Pipeline::start(&self.plan, workers)?;
        self.appender.take_all(pipeline).await
    }

    /// Records what is known beside the files, and what they are: late, so that names are those at
    /// the backup's end.
    pub(crate) async fn facts(
        &mut self,
        client: &Client,
        server: &ServerInfo,
        root: &Path,
    ) -> Result<(), Error> {
        let facts = facts::gather(client, server, root).await?;
        self.details = facts.details;
        self.warnings.extend(facts.warnings);
        for attachment in facts.attachments {
            let stored = self.appender.put(&attachment.content).await?;
            let entry = self.attachment_entry(&attachment, stored);
            self.extra.push(entry);
        }
        Ok(())
    }

    /// Copies `pg_control`, after everything else. It must have seen the backup's checkpoint:
    /// another directory's would not.
    pub(crate) async fn control(&mut self, root: &Path, redo: Lsn) -> Result<(), Error> {
        let (bytes, control) = control_file::read(root).await?;
        check_control(root, &control, redo)?;
        let stored = self.appender.put(&bytes).await?;
        self.extra.push(entry(&self.accounts, &self.control, stored));
        self.details.control = bytes;
        Ok(())
    }

    /// Writes the tree, in order of path.
    pub(crate) async fn tree(&mut self) -> Result<(), Error> {
        self.extra.sort_by(|a, b| a.path.cmp(&b.path));
        let mut extra = std::mem::take(&mut self.extra).into_iter().peekable();
        let plan = Arc::clone(&self.plan);
        for (index, listed) in plan.files.iter().enumerate() {
            while let Some(entry) = extra.next_if(|entry| entry.path.as_slice() < &*listed.path) {
                self.add(entry).await?;
            }
            let empty = listed.kind != EntryKind::File || listed.size == 0;
            let stored =
                if empty { Some(Stored::inline(Vec::new())) } else { self.appender.stored(index) };
            if let Some(stored) = stored {
                self.add(entry(&self.accounts, listed, stored)).await?;
            }
        }
        for entry in extra {
            self.add(entry).await?;
        }
        Ok(())
    }

    async fn add(&mut self, entry: Entry) -> Result<(), Error> {
        if entry.kind != EntryKind::Attachment {
            self.size += entry.size;
            self.entries += 1;
        }
        self.appender.add(entry).await
    }

    fn attachment_entry(&self, attachment: &Attachment, stored: Stored) -> Entry {
        let meta = attachment.source.as_ref();
        let root = rustix::process::geteuid().as_raw();
        Entry {
            path: attachment.path.clone(),
            kind: EntryKind::Attachment,
            mode: meta.map_or(0o600, |meta| meta.mode() & 0o7777),
            owner: self.accounts.user(meta.map_or(root, MetadataExt::uid)),
            group: self.accounts.group(meta.map_or(root, MetadataExt::gid)),
            modified_us: meta.map_or(0, |meta| meta.mtime().saturating_mul(1_000_000)),
            size: stored.size,
            link: None,
            content: stored.content,
        }
    }
}

/// After `pg_backup_start` the control file of the server's own directory names a checkpoint at or
/// after the backup's.
pub(crate) fn check_control(root: &Path, control: &ControlFile, redo: Lsn) -> Result<(), Error> {
    let seen = control.checkpoint_copy.redo;
    if seen >= redo {
        return Ok(());
    }
    Err(Error::ControlFile {
        path: root.join(pg::control::CONTROL_FILE_PATH),
        reason: format!(
            "expected a checkpoint with redo at or after {redo}, seen {seen}: another server's directory"
        ),
    })
}

fn entry(accounts: &Accounts, listed: &Listed, stored: Stored) -> Entry {
    let Stored { size, content } = stored;
    debug_assert!(!matches!(&content, Content::Inline(bytes) if bytes.len() as u64 != size));
    Entry {
        path: listed.path.to_vec(),
        kind: listed.kind,
        mode: listed.mode,
        owner: accounts.user(listed.user),
        group: accounts.group(listed.group),
        modified_us: listed.modified_us,
        size,
        link: listed.link.as_ref().map(|link| link.to_vec()),
        content,
    }
}
