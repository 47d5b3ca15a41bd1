//! Reassembly and verification of single records.

#[allow(clippy::wildcard_imports)] // the same reader, in a file of its own
use super::*;

/// Records.
impl RecordReader {
    pub(super) fn begin_record(&mut self) -> Result<Step, EndReason> {
        self.suspect = self.at;
        let room = usize::try_from(self.page_end() - self.at).unwrap_or(usize::MAX);
        let fed = self.fed();
        // Records start at multiples of 8, so the length never crosses a page.
        let Some((total, _)) = U32::ref_from_prefix(fed).ok() else { return Ok(Step::NeedBytes) };
        let total = total.get();
        check_length(total)?;
        let len = total as usize;
        if len > room {
            self.scratch.clear();
            self.scratch.shrink_to(SCRATCH_KEPT_MAX);
            self.state = State::Within { start: self.at, total };
            return Ok(Step::Moved);
        }
        if fed.len() < len {
            return Ok(Step::NeedBytes);
        }
        let (start, offset) = (self.at, self.head);
        self.advance(len);
        Ok(Step::Complete(start, Place::Buffer { offset, len }))
    }

    pub(super) fn continue_record(&mut self, start: Lsn, total: u32) -> Result<Step, EndReason> {
        let room = usize::try_from(self.page_end() - self.at).unwrap_or(usize::MAX);
        let missing = (total as usize).saturating_sub(self.scratch.len());
        let had = self.scratch.len();
        let piece = self.buffer.get(self.head..).unwrap_or_default();
        let piece = piece.get(..missing.min(room)).unwrap_or(piece);
        self.scratch.extend_from_slice(piece);
        let taken = piece.len();
        self.advance(taken);
        // A length that nothing confirms must not make us gather 1020 MiB: the header is checked
        // as soon as it is there.
        if had < Record::HEADER_SIZE && self.scratch.len() >= Record::HEADER_SIZE {
            self.check_header(start, &self.scratch)?;
        }
        if taken == missing {
            self.state = State::Between;
            return Ok(Step::Complete(start, Place::Scratch));
        }
        Ok(if taken == 0 { Step::NeedBytes } else { Step::Moved })
    }

    pub(super) fn check_header(&self, start: Lsn, record: &[u8]) -> Result<Checked, EndReason> {
        let (raw, _) = RawRecord::ref_from_prefix(record)
            .map_err(|_| EndReason::Malformed { what: "no header" })?;
        let page = self.page.ok_or(EndReason::Malformed { what: "no page header" })?;
        let rmgr = ResourceManager::new(raw.rmgr, page.version)
            .ok_or(EndReason::ResourceManager { seen: raw.rmgr })?;
        let prev = Lsn::new(raw.prev.get());
        let linked = match self.previous {
            Some(previous) => prev == previous,
            None => prev < start,
        };
        if !linked {
            let expected = self.previous.unwrap_or(start);
            return Err(EndReason::PrevLink { expected, seen: prev });
        }
        Ok(Checked {
            xid: Xid::new(raw.xid.get()),
            prev,
            info: raw.info,
            rmgr,
            crc: raw.crc.get(),
            version: page.version,
            timeline: page.timeline,
        })
    }

    pub(super) fn complete(&mut self, start: Lsn, place: Place) -> Result<Found, EndReason> {
        let (header, parts) = self.verify(start, place)?;
        let mut end = align(self.at);
        if header.rmgr == ResourceManager::XLOG && header.info & 0xF0 == xlog::SWITCH {
            let into = self.segment_size.offset(end);
            if into != 0 {
                end = end + (self.segment_size.get() - into);
            }
        }
        self.state = State::Between;
        self.previous = Some(start);
        self.skip_to = end;
        self.end = end;
        Ok(Found { start, end, place, header, parts })
    }

    pub(super) fn verify(
        &mut self,
        start: Lsn,
        place: Place,
    ) -> Result<(Checked, Parts), EndReason> {
        let bytes = self.bytes_of(place);
        let header = self.check_header(start, bytes)?;
        check_crc(bytes, header.crc)?;
        let mut blocks = std::mem::take(&mut self.blocks);
        let decoded = decode::decode(self.bytes_of(place), header.version, &mut blocks);
        self.blocks = blocks;
        let parts = decoded.map_err(|what| EndReason::Malformed { what })?;
        if let Some(expected) = self.given_up {
            let main = parts.main;
            self.check_overwrite(expected, header, self.main_of(place, main))?;
            self.given_up = None;
        }
        Ok((header, parts))
    }

    pub(super) fn main_of(&self, place: Place, main: crate::wal::record::Span) -> &[u8] {
        main.of(self.bytes_of(place))
    }

    /// The first record after one that was given up says which one that was.
    pub(super) fn check_overwrite(
        &self,
        expected: Lsn,
        header: Checked,
        main_data: &[u8],
    ) -> Result<(), EndReason> {
        let is_overwrite = header.rmgr == ResourceManager::XLOG
            && header.info & 0xF0 == xlog::OVERWRITE_CONTRECORD;
        let seen = is_overwrite
            .then(|| U64::ref_from_prefix(main_data).ok())
            .flatten()
            .map_or(Lsn::INVALID, |(lsn, _)| Lsn::new(lsn.get()));
        if seen == expected { Ok(()) } else { Err(EndReason::Overwrite { expected, seen }) }
    }
}

const fn check_length(total: u32) -> Result<(), EndReason> {
    if total == 0 {
        return Err(EndReason::Zeroed);
    }
    if (total as usize) < Record::HEADER_SIZE {
        return Err(EndReason::ShortLength { seen: total });
    }
    if total > Record::SIZE_MAX {
        return Err(EndReason::TooLong { max: Record::SIZE_MAX, seen: total });
    }
    Ok(())
}

/// The checksum covers the content first and the header, up to the checksum itself, last.
fn check_crc(record: &[u8], expected: u32) -> Result<(), EndReason> {
    const CRC_OFFSET: usize = 20;
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(record.get(Record::HEADER_SIZE..).unwrap_or_default());
    digest.update(record.get(..CRC_OFFSET).unwrap_or_default());
    let seen = u32::try_from(digest.finalize()).unwrap_or(0);
    if seen == expected { Ok(()) } else { Err(EndReason::Crc { expected, seen }) }
}
