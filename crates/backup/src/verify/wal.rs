//! WAL: that what a backup needs is there, as segments or in pieces; deep: that all of it opens.

use std::collections::BTreeMap;

use futures::StreamExt;
use pg::{Lsn, SegmentSize, TimelineId, WalSegment};
use repository::piece::{self, Held};
use repository::root::Summary;
use repository::wal_object::{self, WalFile};
use repository::{Error, catalog, names};

use super::Run;

/// WAL objects read at once.
const READS_MAX: usize = 4;

impl Run<'_> {
    /// The WAL from a backup's redo to its stop.
    pub(super) async fn wal_of_backup(
        &mut self,
        summary: &Summary,
        name: &str,
    ) -> Result<(), Error> {
        let size =
            u32::try_from(summary.segment_size).ok().and_then(|size| SegmentSize::new(size).ok());
        let Some(size) = size else {
            self.find(name, format!("a WAL segment size of {}", summary.segment_size));
            return Ok(());
        };
        let present = self.segments(summary.timeline).await?;
        let pieces = self.pieces(summary.timeline, size).await?;
        for segment in needed_segments(summary.timeline, summary.redo, summary.stop, size) {
            if present.contains(&names::wal(self.lineage.id, segment, size).to_string()) {
                continue;
            }
            // Of the last segment the pieces must reach the stop, of the others the end.
            let end = segment.end(size).min(summary.stop).get() - segment.begin(size).get();
            let held = pieces.get(&segment.number).filter(|held| !held.broken);
            if held.is_none_or(|held| u64::from(held.len) < end) {
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

    /// What the pieces of a timeline come to, by segment number.
    async fn pieces(
        &self,
        timeline: TimelineId,
        size: SegmentSize,
    ) -> Result<BTreeMap<u64, Held>, Error> {
        let held = piece::held(self.repository, self.lineage.id, timeline, size).await?;
        Ok(held.into_iter().map(|held| (held.segment.number, held)).collect())
    }

    /// Every WAL file; deep: each is read whole and its digest compared.
    pub(super) async fn wal(&mut self, deep: bool) -> Result<(), Error> {
        let prefix = format!("wal/{}/", self.lineage.id);
        let listed = self.repository.list(&prefix).await?;
        self.result.wal_files += listed.len() as u64;
        let size = self.segment_size().await?;
        self.assembled(size, deep).await?;
        if !deep {
            return Ok(());
        }
        let (repository, lineage) = (self.repository, self.lineage.id);
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

    /// Every piece; deep: the pieces of a segment are read and joined.
    async fn assembled(&mut self, size: SegmentSize, deep: bool) -> Result<(), Error> {
        let prefix = format!("piece/{}/", self.lineage.id);
        let mut segments = std::collections::BTreeSet::new();
        for meta in self.repository.list(&prefix).await? {
            self.result.wal_files += 1;
            // Below the lineage: timeline, segment, range.
            let name =
                meta.key.as_str().strip_prefix(&prefix).and_then(|name| name.split_once('/'));
            match name.and_then(|(_, name)| piece::parse(name, size)) {
                Some(range) => drop(segments.insert(range.segment)),
                None => self.find(meta.key.as_str(), "expected the name of a piece".into()),
            }
        }
        if !deep {
            return Ok(());
        }
        for segment in segments {
            match piece::assemble(self.repository, self.lineage.id, segment, size).await {
                Ok(Some((info, _))) => self.result.bytes += info.len,
                // Nothing of its beginning: a hole, which the window shows; no damage.
                Ok(None) => {}
                Err(error) => {
                    self.find(&format!("the pieces of {}", segment.name(size)), error.to_string());
                }
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
