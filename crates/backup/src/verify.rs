//! Proving that what is in a repository can be read and is complete.
//!
//! Each member is looked at alone: a set that reads around a damaged member would hide the damage.
//! The quick look reads every root, node and index and the names and sizes of everything; the deep
//! one opens every frame of every pack and every WAL object, and compares digests.

use std::collections::BTreeMap;

use futures::StreamExt;
use pg::{Lsn, SegmentSize, TimelineId, WalSegment};
use repository::catalog;
use repository::lineage::Lineage;
use repository::object::FrameAt;
use repository::pack_index;
use repository::root::{self, PackEntry, Summary};
use repository::tree::{Content, EntryKind};
use repository::unlock;
use repository::wal_object::{self, WalFile};
use repository::walk::{self, Walk};
use repository::{Error, Kind, Label, PackId, Repository, names};

use crate::Progress;

/// WAL objects read at once.
const READS_MAX: usize = 4;

/// What was proved, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// Backups looked at, counted once for each member.
    pub backups: u64,
    /// Packs looked at.
    pub packs: u64,
    /// WAL files looked at.
    pub wal_files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The member.
    pub member: String,
    /// The object, or the backup that misses something.
    pub object: String,
    /// What was expected and seen.
    pub what: String,
}

/// Looks at everything a lineage has in every member.
///
/// # Errors
/// When a member cannot be listed; everything else is a finding.
pub async fn verify(
    repository: &Repository,
    lineage: &Lineage,
    deep: bool,
    progress: &dyn Progress,
) -> Result<Verification, Error> {
    let mut result = Verification::default();
    for member in repository.members() {
        let Some(alone) = repository.only(&member.name) else { continue };
        let mut run = Run {
            repository: &alone,
            member: &member.name,
            lineage,
            progress,
            result: &mut result,
        };
        run.member(deep).await?;
    }
    Ok(result)
}

struct Run<'a> {
    repository: &'a Repository,
    member: &'a str,
    lineage: &'a Lineage,
    progress: &'a dyn Progress,
    result: &'a mut Verification,
}

/// A pack that backups refer to: its kind is known from the first reference.
#[derive(Clone, Debug)]
struct Needed {
    entry: PackEntry,
    label: Label,
}

impl Run<'_> {
    async fn member(&mut self, deep: bool) -> Result<(), Error> {
        let catalog = catalog::backups(self.repository, self.lineage.id).await?;
        for problem in &catalog.problems {
            self.find(problem.key.as_str(), problem.error.to_string());
        }
        let mut needed: BTreeMap<PackId, Needed> = BTreeMap::new();
        for summary in &catalog.backups {
            self.result.backups += 1;
            self.backup(summary, &mut needed).await?;
        }
        let total = needed.values().map(|needed| needed.entry.size).sum();
        self.progress.total(if deep { total } else { 0 }, needed.len() as u64);
        for needed in needed.values() {
            self.pack(needed, deep).await;
        }
        self.wal(deep).await?;
        self.records(deep).await
    }

    /// The small objects without which nothing else helps: keys, configurations, who may write,
    /// the way through the timelines.
    async fn records(&mut self, deep: bool) -> Result<(), Error> {
        if let Some(member) = self.repository.members().first()
            && let Err(error) = unlock::slots(&member.store).await
        {
            self.find("a key slot", error.to_string());
        }
        let lineage = self.lineage.id;
        let mut kinds = vec![
            (names::CONFIGS.to_owned(), Kind::Config),
            (names::writers(lineage), Kind::Writer),
            (names::states(lineage), Kind::LineageState),
            (names::reservations(lineage), Kind::TimelineReservation),
            (names::histories(lineage), Kind::TimelineHistory),
            (format!("label/{lineage}/"), Kind::BackupHistory),
        ];
        if deep {
            // As long as a segment each.
            kinds.push((format!("partial/{lineage}/"), Kind::WalPartial));
        }
        for (prefix, kind) in kinds {
            for meta in self.repository.list(&prefix).await? {
                if let Err(error) = self.repository.read(kind, &meta.key).await {
                    self.find(meta.key.as_str(), error.to_string());
                }
            }
        }
        Ok(())
    }

    /// A backup's root, its tree, and the WAL it needs to become consistent.
    async fn backup(
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
                .or_insert_with(|| Needed { entry: entry.clone(), label: summary.label.clone() });
        }
        if let Err(what) = self.tree(&root).await {
            self.find(&name, what);
        }
        self.wal_of_backup(summary, &name).await
    }

    /// Walks the whole tree: every node proves itself, and every pack referred to is in the table.
    async fn tree(&mut self, root: &root::Root) -> Result<(), String> {
        let known: Vec<PackId> = root.packs.iter().map(|pack| pack.id).collect();
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
                if let Some((pack, _)) = leaf.frames.iter().find(|(pack, _)| !known.contains(pack))
                {
                    return Err(format!(
                        "'{path}' needs pack {pack}, which the root does not list"
                    ));
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

    async fn wal_of_backup(&mut self, summary: &Summary, name: &str) -> Result<(), Error> {
        let size =
            u32::try_from(summary.segment_size).ok().and_then(|size| SegmentSize::new(size).ok());
        let Some(size) = size else {
            self.find(name, format!("a WAL segment size of {}", summary.segment_size));
            return Ok(());
        };
        let present = self.segments(summary.timeline).await?;
        for segment in needed_segments(summary.timeline, summary.redo, summary.stop, size) {
            let key = names::wal(self.lineage.id, segment, size);
            if !present.contains(&key.to_string()) {
                self.find(name, format!("WAL segment {} is missing", segment.name(size)));
            }
        }
        Ok(())
    }

    async fn segments(
        &self,
        timeline: TimelineId,
    ) -> Result<std::collections::BTreeSet<String>, Error> {
        let prefix = names::wal_prefix(self.lineage.id, timeline);
        let listed = self.repository.list(&prefix).await?;
        Ok(listed.into_iter().map(|meta| meta.key.to_string()).collect())
    }

    async fn pack(&mut self, needed: &Needed, deep: bool) {
        self.result.packs += 1;
        let id = needed.entry.id;
        if let Err(error) = self.prove_pack(needed, deep).await {
            self.find(&format!("{} of backup {}", names::pack(id), needed.label), error);
        }
    }

    async fn prove_pack(&mut self, needed: &Needed, deep: bool) -> Result<(), String> {
        let id = needed.entry.id;
        let member = self.repository.members().first().ok_or("no member")?;
        let mut kind = Kind::DataPack;
        let mut read = pack_index::read(self.repository, member, kind, id).await;
        if read.is_err() {
            kind = Kind::MetaPack;
            // The first error names what is wrong with a data pack, the second with a meta pack;
            // of a missing one both say so.
            if let Ok(found) = pack_index::read(self.repository, member, kind, id).await {
                read = Ok(found);
            }
        }
        let (places, size) = read.map_err(|error| error.to_string())?;
        if size != needed.entry.size {
            return Err(format!("expected {} bytes, seen {size}", needed.entry.size));
        }
        if !deep {
            return Ok(());
        }
        let frames: Vec<FrameAt> = places.iter().map(|place| place.at).collect();
        let mut bytes = 0;
        let mut mismatch = None;
        let opened = self
            .repository
            .read_frames(kind, id, &frames, |number, raw| {
                bytes += raw.len() as u64;
                let digests = places
                    .get(number)
                    .map(|place| place.page_digests.as_slice())
                    .unwrap_or_default();
                if mismatch.is_none() && !pages_match(raw, digests) {
                    mismatch = Some(number);
                }
                Ok(())
            })
            .await;
        self.result.bytes += bytes;
        self.progress.advance(size);
        opened.map_err(|error| error.to_string())?;
        match mismatch {
            Some(number) => Err(format!("a page of frame {number} does not have its digest")),
            None => Ok(()),
        }
    }

    /// Every WAL file; deep: each is read whole and its digest compared.
    async fn wal(&mut self, deep: bool) -> Result<(), Error> {
        let prefix = format!("wal/{}/", self.lineage.id);
        let listed = self.repository.list(&prefix).await?;
        self.result.wal_files += listed.len() as u64;
        if !deep {
            return Ok(());
        }
        let (repository, lineage) = (self.repository, self.lineage.id);
        let size = self.segment_size().await?;
        let reads = listed.into_iter().map(|meta| async move {
            let name = meta.key.as_str().rsplit('/').next().unwrap_or_default().to_owned();
            let read = match WalSegment::parse(&name, size) {
                Ok(segment) => {
                    let file = WalFile::Segment(segment, size);
                    wal_object::get(repository, lineage, &file).await.map(|(info, _)| info.len)
                }
                Err(error) => Err(Error::Damaged {
                    store: repository.address(),
                    key: meta.key.to_string(),
                    reason: error.to_string(),
                }),
            };
            (meta.key, read)
        });
        let read: Vec<_> = futures::stream::iter(reads).buffered(READS_MAX).collect().await;
        for (key, read) in read {
            match read {
                Ok(len) => self.result.bytes += len,
                Err(error) => self.find(key.as_str(), error.to_string()),
            }
        }
        Ok(())
    }

    /// The segment size of the newest backup; without one PostgreSQL's default.
    async fn segment_size(&self) -> Result<SegmentSize, Error> {
        let catalog = catalog::backups(self.repository, self.lineage.id).await?;
        let bytes =
            catalog.backups.last().and_then(|backup| u32::try_from(backup.segment_size).ok());
        Ok(bytes.and_then(|bytes| SegmentSize::new(bytes).ok()).unwrap_or(SegmentSize::DEFAULT))
    }

    fn find(&mut self, object: &str, what: String) {
        let finding = Finding { member: self.member.into(), object: object.into(), what };
        self.progress.note(&format!("{}: {}: {}", finding.member, finding.object, finding.what));
        self.result.findings.push(finding);
    }
}

/// Whether each page of a frame has the digest its pack's index says; frames without digests do.
fn pages_match(raw: &[u8], digests: &[u8]) -> bool {
    let pages = digests.len() / 8;
    if pages == 0 {
        return true;
    }
    let page_len = raw.len() / pages;
    page_len > 0
        && raw
            .chunks(page_len)
            .zip(digests.chunks(8))
            .all(|(page, digest)| xxhash_rust::xxh3::xxh3_64(page).to_le_bytes() == digest)
}

/// The segments from a backup's redo to its stop.
fn needed_segments(
    timeline: TimelineId,
    redo: Lsn,
    stop: Lsn,
    size: SegmentSize,
) -> impl Iterator<Item = WalSegment> {
    let first = WalSegment::containing(redo, timeline, size).number;
    let last = WalSegment::ending_at(stop, timeline, size).number;
    (first..=last).map(move |number| WalSegment { timeline, number })
}
