//! Whether the bytes of a WAL file are what its name and its cluster say. Values in, values out.

use pg::wal::SegmentHeader;
use pg::wal_file_name::WalFileName;
use pg::{SegmentName, SystemId, TimelineHistory, WalSegment};
use repository::lineage::Lineage;

use crate::error::Error;

/// The longest history or backup history file taken, in bytes: 10,000 timelines fit.
pub const SMALL_FILE_MAX: usize = 1 << 20;

/// Checks a whole segment file and returns where it lies in the log and what its header says.
///
/// The header may name an earlier timeline than the file: the first segment of a timeline begins
/// with the bytes of the one before. Whether that one is an ancestor is for the caller to find out.
///
/// # Errors
/// [`Error::NotWal`] when it is not the start of a segment or not as long as one,
/// [`Error::Foreign`] when it is of another cluster, [`Error::Misnamed`] when it is of another
/// place in the log.
pub fn check_segment(
    name: SegmentName,
    bytes: &[u8],
    lineage: &Lineage,
) -> Result<(WalSegment, SegmentHeader), Error> {
    check_segment_head(name, bytes, bytes.len() as u64, lineage)
}

/// [`check_segment`] of a file whose length is known and whose first bytes are at hand.
///
/// # Errors
/// As [`check_segment`].
pub fn check_segment_head(
    name: SegmentName,
    head: &[u8],
    len: u64,
    lineage: &Lineage,
) -> Result<(WalSegment, SegmentHeader), Error> {
    let (segment, header) = check_header(name, head, lineage.system_id, &lineage.cluster)?;
    let expected = header.segment_size.get();
    if len != expected {
        let reason = format!("expected {expected} bytes, seen {len}");
        return Err(Error::NotWal { name: name.to_string(), reason });
    }
    Ok((segment, header))
}

/// The part of [`check_segment`] that needs only the first [`SegmentHeader::SIZE`] bytes.
///
/// # Errors
/// As [`check_segment`], but for the length.
pub fn check_header(
    name: SegmentName,
    bytes: &[u8],
    system_id: SystemId,
    cluster: &str,
) -> Result<(WalSegment, SegmentHeader), Error> {
    let header = SegmentHeader::decode(bytes)
        .map_err(|error| Error::NotWal { name: name.to_string(), reason: error.to_string() })?;
    if header.system_id != system_id {
        return Err(Error::Foreign {
            name: name.to_string(),
            cluster: cluster.to_owned(),
            expected: system_id,
            seen: header.system_id,
        });
    }
    let misnamed = |reason: String| Error::Misnamed { name: name.to_string(), reason };
    let segment = name.segment(header.segment_size).map_err(|error| misnamed(error.to_string()))?;
    let expected = segment.begin(header.segment_size);
    if header.page.address != expected {
        return Err(misnamed(format!(
            "expected WAL from {expected}, seen {}",
            header.page.address
        )));
    }
    if header.page.timeline > segment.timeline {
        let reason = format!(
            "expected WAL of timeline {} or its ancestors, seen {}",
            segment.timeline, header.page.timeline
        );
        return Err(misnamed(reason));
    }
    Ok((segment, header))
}

/// Checks a history or backup history file.
///
/// # Errors
/// [`Error::NotWal`] when it is none.
pub fn check_small_file(name: WalFileName, bytes: &[u8]) -> Result<(), Error> {
    let refuse = |reason: String| Err(Error::NotWal { name: name.to_string(), reason });
    if bytes.len() > SMALL_FILE_MAX {
        return refuse(format!("expected at most {SMALL_FILE_MAX} bytes, seen {}", bytes.len()));
    }
    match name {
        WalFileName::History(timeline) => match TimelineHistory::parse(timeline, bytes) {
            Ok(history) if history.entries().is_empty() => {
                refuse("expected at least one switch of timelines, seen none".into())
            }
            Ok(_) => Ok(()),
            Err(error) => refuse(error.to_string()),
        },
        WalFileName::BackupHistory { start, .. } => {
            let expected = format!("(file {start})");
            let text = String::from_utf8_lossy(bytes);
            let first = text.lines().next().unwrap_or_default();
            if first.starts_with("START WAL LOCATION: ") && first.ends_with(&expected) {
                Ok(())
            } else {
                refuse(format!("expected its first line to end in '{expected}'"))
            }
        }
        WalFileName::Segment(_) | WalFileName::Partial(_) => refuse("it is a segment".into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use repository::LineageId;
    use stdx::Id;

    use super::*;

    fn lineage() -> Lineage {
        Lineage {
            id: LineageId(Id::from_bytes([1; 16])),
            cluster: "shop".into(),
            system_id: SystemId::new(7),
            created: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_taken_for_a_segment_that_are_none(bytes: Vec<u8>, begin in 0u8..4) {
            let name = match "000000010000000000000005".parse() {
                Ok(WalFileName::Segment(name)) => name,
                other => panic!("{other:?}"),
            };
            let mut bytes = bytes;
            // Some begin like a page of PostgreSQL 16, so that more than the magic is looked at.
            bytes.splice(..0, [0x13, 0xD1, 2, 0].into_iter().take(usize::from(begin) * 2));
            prop_assert!(check_segment(name, &bytes, &lineage()).is_err());
        }

        #[test]
        fn any_small_file_is_taken_or_refused(bytes: Vec<u8>) {
            for name in ["00000002.history", "000000010000000000000005.00000028.backup"] {
                if let Ok(name) = name.parse() {
                    let _ = check_small_file(name, &bytes);
                }
            }
        }
    }
}
