//! PostgreSQL's bytes and names.

use pg::wal::activity::Limits;
use pg::wal::rmgr::{
    database::Database, heap::Heap, standby::Standby, storage::Storage, tablespace::Tablespace,
    xact::Xact, xlog::Xlog,
};
use pg::wal::{Activity, Record, RecordReader, SegmentHeader, WalBlockSize};
use pg::{
    BackupLabel, BlockNumber, ControlFile, Lsn, MajorVersion, RelationFile, SegmentSize,
    TablespaceMap, TimelineHistory, TimelineId, WalFileName, WalSegment, layout, recovery,
};

/// Where the CRC of a control file stands: PostgreSQL 13 to 17, and 18.
const CONTROL_CRC_AT: [usize; 2] = [288, 292];

pub fn control(bytes: &[u8]) {
    let _ = ControlFile::decode(bytes);
    let _ = ControlFile::with_invalid_checkpoint(bytes);
    for at in CONTROL_CRC_AT {
        let mut fitting = bytes.to_vec();
        let crc = fitting.get(..at).map(crc32c);
        if let (Some(crc), Some(place)) = (crc, fitting.get_mut(at..at + 4)) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
        if let Ok(control) = ControlFile::decode(&fitting) {
            let moved = ControlFile::with_invalid_checkpoint(&fitting).unwrap();
            assert_eq!(ControlFile::decode(&moved).unwrap().system_id, control.system_id);
        }
    }
}

pub fn page(bytes: &[u8]) {
    let (block, page) = bytes.split_first_chunk::<4>().unwrap_or((&[0; 4], bytes));
    let block = BlockNumber::new(u32::from_le_bytes(*block));
    let _ = pg::page::verify_page(page, block);
    let _ = pg::page::verify_page_header(page);
    if let Some(header) = pg::page::PageHeader::of(page) {
        let _ = (header.lsn(), header.flags(), header.size_and_version(), header.is_new());
    }
}

pub fn history(bytes: &[u8]) {
    for timeline in [1, 3, u32::MAX] {
        let timeline = TimelineId::new(timeline);
        let Ok(history) = TimelineHistory::parse(timeline, bytes) else { continue };
        let again = TimelineHistory::parse(timeline, history.render().as_bytes()).unwrap();
        assert_eq!(again.path(), history.path());
        for stretch in history.path() {
            assert!(history.contains(stretch.timeline, stretch.begin));
        }
        let _ = (history.timeline_of(Lsn::MAX), history.switch_point(TimelineId::FIRST));
    }
}

pub fn backup_label(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = BackupLabel::parse(text);
    }
}

pub fn tablespace_map(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(map) = TablespaceMap::parse(text) {
        assert_eq!(TablespaceMap::parse(&map.render()).unwrap(), map);
    }
}

pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(lsn) = text.parse::<Lsn>() {
        assert_eq!(lsn.to_string().parse::<Lsn>().unwrap(), lsn);
    }
    let _ = text.parse::<WalFileName>();
    for shift in 20..=30 {
        let size = SegmentSize::new(1 << shift).unwrap();
        if let Ok(segment) = WalSegment::parse(text, size) {
            assert_eq!(segment.name(size), text.to_ascii_uppercase());
            let _ = (segment.begin(size), segment.end(size), segment.next());
        }
    }
    if let Some(file) = RelationFile::parse(text) {
        let _ = file.path("PG_17_202406281");
        let _ = file.first_block(131_072);
    }
    for kind in [layout::EntryKind::File, layout::EntryKind::Directory] {
        let _ = layout::classify(text, kind);
    }
    let _ = layout::is_database_directory(text);
    let _ = MajorVersion::from_version_file(text);
}

pub fn conf(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let names = ["recovery_target", "restore_command", "port"];
    let once = recovery::neutralise(text, &names);
    assert!(recovery::neutralise(&once.text, &names).taken_out.is_empty());
    if let Ok(stripped) = recovery::strip_block(text) {
        assert_eq!(recovery::strip_block(&stripped).as_ref(), Ok(&stripped));
    }
    if let Some(quoted) = recovery::quote(text) {
        assert!(!quoted.contains(['\n', '\r', '\0']));
    }
}

/// A segment, or its beginning, fed in two parts.
pub fn wal(bytes: &[u8]) {
    let Ok(header) = SegmentHeader::decode(bytes) else { return };
    let mut reader = RecordReader::new(header.page.address, header.segment_size, header.block_size)
        .expect_system(header.system_id)
        .expect_timelines(vec![header.page.timeline]);
    let mut activity = Activity::new(limits());
    let (first, second) = bytes.split_at(bytes.len() / 2);
    for part in [first, second] {
        reader.feed(part);
        loop {
            match reader.next_record() {
                Ok(Some(record)) => understand(&record, &mut activity),
                Ok(None) => break,
                Err(error) => {
                    let _ = error.to_string();
                    return;
                }
            }
        }
    }
    let _ = (reader.end(), reader.unfinished(), reader.page());
    let _ = (activity.take_notable(), activity.prepared(), activity.is_complete());
}

/// Records with a right checksum: byte 0 chooses the version, then each record is resource manager,
/// info, length in two bytes, and what follows its header.
pub fn wal_record(bytes: &[u8]) {
    const MAGICS: [u16; 5] = [0xD10D, 0xD110, 0xD113, 0xD116, 0xD118];
    let Some((version, mut rest)) = bytes.split_first() else { return };
    let magic = MAGICS[usize::from(*version) % MAGICS.len()];
    let mut page = Vec::with_capacity(8192);
    page.extend_from_slice(&magic.to_le_bytes());
    page.extend_from_slice(&2_u16.to_le_bytes());
    page.extend_from_slice(&1_u32.to_le_bytes());
    page.extend_from_slice(&(3_u64 << 20).to_le_bytes());
    page.extend_from_slice(&[0; 8]);
    page.extend_from_slice(&77_u64.to_le_bytes());
    page.extend_from_slice(&(1_u32 << 20).to_le_bytes());
    page.extend_from_slice(&8192_u32.to_le_bytes());
    let mut last = (3_u64 << 20) - 64;
    while let Some(([manager, info, low, high], after)) = rest.split_first_chunk::<4>() {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(after.len());
        let (body, after) = after.split_at(len);
        if page.len() + 24 + len > 8192 {
            break;
        }
        let start = (3_u64 << 20) + page.len() as u64;
        append_record(&mut page, last, (*manager, *info), body);
        (last, rest) = (start, after);
    }
    page.resize(8192, 0);
    let size = SegmentSize::new(1 << 20).unwrap();
    let mut reader = RecordReader::new(Lsn::new(3 << 20), size, WalBlockSize::DEFAULT);
    let mut activity = Activity::new(limits());
    reader.feed(&page);
    while let Ok(Some(record)) = reader.next_record() {
        understand(&record, &mut activity);
    }
    let _ = (activity.take_notable(), activity.prepared());
}

fn append_record(page: &mut Vec<u8>, last: u64, (manager, info): (u8, u8), body: &[u8]) {
    let mut head = u32::try_from(24 + body.len()).unwrap().to_le_bytes().to_vec();
    head.extend_from_slice(&700_u32.to_le_bytes());
    head.extend_from_slice(&last.to_le_bytes());
    head.extend_from_slice(&[info, manager, 0, 0]);
    let crc = crc32c(&[body, &head].concat());
    page.extend_from_slice(&head);
    page.extend_from_slice(&crc.to_le_bytes());
    page.extend_from_slice(body);
    page.resize(page.len().next_multiple_of(8), 0);
}

/// Everything that a record can be asked, by every decoder: a decoder refuses what is not its own.
fn understand(record: &Record<'_>, activity: &mut Activity) {
    let _ = activity.record(record);
    for block in record.blocks() {
        let _ = record.block_data(block);
        if let Some(image) = &block.image {
            let _ = record.image_bytes(image);
        }
    }
    let _ = (record.main_data(), record.operation(), record.total_len());
    let _ = format!("{:?}", Xact::decode(record));
    let _ = format!("{:?}", Heap::decode(record));
    let _ = format!("{:?}", Xlog::decode(record));
    let _ = format!("{:?}", Storage::decode(record));
    let _ = format!("{:?}", Database::decode(record));
    let _ = format!("{:?}", Tablespace::decode(record));
    let _ = Standby::decode(record).map(|standby| match standby {
        Standby::Locks(locks) => locks.iter().count(),
        _ => 0,
    });
}

fn limits() -> Limits {
    Limits { rows_deleted_min: 1, rows_updated_min: 1, open_max: 8, ..Limits::default() }
}

fn crc32c(bytes: &[u8]) -> u32 {
    u32::try_from(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes)).unwrap()
}
