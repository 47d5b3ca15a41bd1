//! WAL as later versions leave it: pieces, gaps, indexes, two epochs in one log.

use super::cbor::{Value, structure};
use super::sealing::{Codec, Frame, Object};
use super::{Lineage, Making, NOW_US, first16, text};
use crate::Result;
use crate::wal::{SEGMENT_LEN, name, segment};

/// Complete segments of the first timeline.
const COMPLETE: std::ops::RangeInclusive<u64> = 3..=7;
/// The segment that two writers have streamed and nobody has archived.
const STREAMED: u64 = 8;
/// The segment that is being written.
const CURRENT: u64 = 9;
/// The segment that was missing for a while.
const LATE: u64 = 5;

impl Making {
    /// The log of one lineage; `which` counts lineages from 0.
    pub(super) fn wal(&mut self, lineage: &Lineage, which: u64) -> Result<()> {
        let id = text(lineage.id);
        for number in COMPLETE {
            let content = segment(self.system_id, 1, number);
            let file = name(1, number)?;
            let epoch = if number < 6 { 1 } else { 2 };
            let frame_len = if which == 0 { 131_072 } else { 65_536 };
            let object = self.wal_object(13, epoch, lineage, &file, &content, frame_len)?;
            self.put(&format!("wal/{id}/00000001/{file}"), &object)?;
            self.expected.wal("wal", &file, &content);
        }
        self.small_files(lineage)?;
        if which > 0 {
            return Ok(());
        }
        self.pieces(lineage)?;
        self.gap(lineage)?;
        self.indexes(lineage)
    }

    /// A history, a backup history, a partial segment, and another content under a taken name.
    fn small_files(&mut self, lineage: &Lineage) -> Result<()> {
        let id = text(lineage.id);
        let history = b"1\t0/900000\tno recovery target specified\n";
        let object = self.wal_object(15, 1, lineage, "00000002.history", history, 131_072)?;
        self.put(&format!("history/{id}/00000002"), &object)?;
        self.expected.wal("wal", "00000002.history", history);
        let label = format!("{}.00000028.backup", name(1, 3)?);
        let content = b"START WAL LOCATION: 0/300028 (file 000000010000000000000003)\n";
        let object = self.wal_object(16, 1, lineage, &label, content, 131_072)?;
        self.put(&format!("label/{id}/{label}"), &object)?;
        self.expected.wal("wal", &label, content);
        let partial = format!("{}.partial", name(1, CURRENT)?);
        let content = segment(self.system_id, 1, CURRENT);
        let object = self.wal_object(17, 2, lineage, &partial, &content, 131_072)?;
        self.put(&format!("partial/{id}/{partial}"), &object)?;
        self.expected.wal("wal", &partial, &content);
        let taken = name(1, 4)?;
        let mut content = segment(self.system_id, 1, 4);
        content.splice(SEGMENT_LEN - 1.., [1]);
        let object = self.wal_object(18, 2, lineage, &taken, &content, 131_072)?;
        let kept = text(first16(&self.set.digest(&content)?));
        self.put(&format!("conflict/{id}/{taken}/{kept}"), &object)?;
        self.expected.wal("conflict", &taken, &content);
        Ok(())
    }

    fn wal_object(
        &mut self,
        kind: u8,
        epoch: u32,
        lineage: &Lineage,
        name: &str,
        content: &[u8],
        frame_len: usize,
    ) -> Result<Object> {
        let carries_system = name.len() == 24 || name.ends_with(".partial");
        let info = structure([
            (0, (&lineage.id).into()),
            (1, name.into()),
            (2, (content.len() as u64).into()),
            (3, (&self.set.digest(content)?).into()),
            (4, if carries_system { self.system_id } else { 0 }.into()),
            (5, (&lineage.writers[0]).into()),
            (6, NOW_US.into()),
            (7, (frame_len as u64).into()),
        ]);
        self.set.object(kind, epoch, true, &lead_and_content(&info, content, frame_len))
    }

    /// Two writers stream the same segment; the one after it has only begun.
    fn pieces(&mut self, lineage: &Lineage) -> Result<()> {
        let [a, b] = lineage.writers;
        let whole = segment(self.system_id, 1, STREAMED);
        for (writer, begin, end) in [
            (a, 0, 400),
            (b, 0, 200),
            (b, 200, 70_000),
            (a, 400, 65_536),
            (a, 65_536, 900_000),
            (b, 800_000, SEGMENT_LEN),
        ] {
            self.piece(
                lineage,
                STREAMED,
                writer,
                begin,
                whole.get(begin..end).unwrap_or_default(),
            )?;
        }
        self.expected.wal("wal", &name(1, STREAMED)?, &whole);
        let mut begun = segment(self.system_id, 1, CURRENT);
        self.piece(lineage, CURRENT, a, 0, begun.get(..240).unwrap_or_default())?;
        begun.truncate(240);
        begun.resize(SEGMENT_LEN, 0);
        self.expected.wal("wal", &name(1, CURRENT)?, &begun);
        Ok(())
    }

    fn piece(
        &mut self,
        lineage: &Lineage,
        number: u64,
        writer: [u8; 16],
        begin: usize,
        content: &[u8],
    ) -> Result<()> {
        let (file, end) = (name(1, number)?, begin + content.len());
        let info = structure([
            (0, (&lineage.id).into()),
            (1, file.as_str().into()),
            (2, (begin as u64).into()),
            (3, (end as u64).into()),
            (4, (&self.set.digest(content)?).into()),
            (5, self.system_id.into()),
            (6, (&writer).into()),
            (7, NOW_US.into()),
        ]);
        let object = self.set.object(14, 2, true, &lead_and_content(&info, content, 131_072))?;
        let place = format!("{begin:08x}-{end:08x}-{}", text(writer));
        self.put(&format!("piece/{}/00000001/{file}/{place}", text(lineage.id)), &object)
    }

    /// Noticed missing, archived later.
    fn gap(&mut self, lineage: &Lineage) -> Result<()> {
        let (begin, end) = (LATE * SEGMENT_LEN as u64, (LATE + 1) * SEGMENT_LEN as u64);
        let gap = structure([
            (0, (&lineage.id).into()),
            (1, 1.into()),
            (2, begin.into()),
            (3, end.into()),
            (4, "the slot was lost".into()),
            (5, (&lineage.writers[0]).into()),
            (6, NOW_US.into()),
        ]);
        let key = format!("gap/{}/00000001/{begin:016x}-{end:016x}", text(lineage.id));
        self.record(&key, 19, 1, &[gap])
    }

    /// The same segment indexed twice, by a decoder that learnt something.
    fn indexes(&mut self, lineage: &Lineage) -> Result<()> {
        let first = format!("{:016x}", 3 * SEGMENT_LEN);
        for (decoder, generation) in [(1, 1), (1, 2), (2, 1)] {
            let index = structure([(0, "derived, and decided later".into())]);
            let id = text(lineage.id);
            let key = format!("walindex/{id}/00000001/0/{first}-{decoder}-{generation}");
            self.record(&key, 20, 2, &[index])?;
        }
        Ok(())
    }
}

/// Frame 0 as it is, then the content, every frame by another codec.
fn lead_and_content(info: &Value, content: &[u8], frame_len: usize) -> Vec<Frame> {
    let mut frames = vec![Frame { raw: info.encode(), codec: Codec::None, pages: false }];
    let codecs = [Codec::Zstd, Codec::Lz4].into_iter().cycle();
    for (raw, codec) in content.chunks(frame_len).zip(codecs) {
        let codec = if raw.len() < 1000 { Codec::None } else { codec };
        frames.push(Frame { raw: raw.to_vec(), codec, pages: false });
    }
    frames
}
