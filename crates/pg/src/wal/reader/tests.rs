use super::super::forge::{self, Content, Forge, SEGMENT};
use super::*;

/// Reads all of `forge` in pieces of `chunk` bytes: starts of records and how it ended.
fn read(forge: &Forge, from: Lsn, chunk: usize) -> (Vec<(Lsn, usize)>, Option<ReadError>) {
    let mut reader = forge::reader(from);
    let skipped = usize::try_from(reader.position() - forge.begin).unwrap();
    let mut seen = Vec::new();
    for piece in forge.bytes[skipped..].chunks(chunk) {
        reader.feed(piece);
        loop {
            match reader.next_record() {
                Ok(Some(record)) => seen.push((record.start, record.main_data().len())),
                Ok(None) => break,
                Err(error) => return (seen, Some(error)),
            }
        }
    }
    (seen, None)
}

/// Small records, some that cross a page, one that crosses segments.
fn sample() -> (Forge, Vec<(Lsn, usize)>) {
    let mut forge = Forge::new(MajorVersion::V16);
    let lengths = [0, 10, 8000, 300, 255, 30_000, 1, 1_200_000, 5, 40];
    let expected = lengths.map(|len| (forge.record(&Forge::noop(len)), len));
    (forge, expected.to_vec())
}

fn reason_of(change: impl FnOnce(&mut Forge)) -> ReadError {
    let (mut forge, _) = sample();
    change(&mut forge);
    read(&forge, forge.begin, 4096).1.expect("an end")
}

#[test]
fn records_are_the_same_however_the_bytes_arrive() {
    let (forge, expected) = sample();
    for chunk in [1, 7, 24, 4096, 8192, 100_000, usize::MAX] {
        let (seen, end) = read(&forge, forge.begin, chunk);
        assert_eq!((seen, end), (expected.clone(), None), "chunks of {chunk}");
    }
}

#[test]
fn reading_starts_at_the_first_record_from_a_position_on() {
    let (forge, expected) = sample();
    for (index, (start, _)) in expected.iter().enumerate() {
        assert_eq!(read(&forge, *start, 5000).0, expected[index..], "from {start}");
        let later = Lsn::new(start.get() + 1);
        assert_eq!(read(&forge, later, 5000).0, expected[index + 1..], "from {later}");
    }
    // The second segment begins in the middle of the long record.
    let second = forge.begin + SEGMENT;
    assert_eq!(read(&forge, second, 5000).0, expected[8..]);
}

#[test]
fn a_switch_ends_its_segment() {
    let mut forge = Forge::new(MajorVersion::V18);
    let first = forge.record(&Forge::noop(10));
    let switch = forge.switch();
    let third = forge.record(&Forge::noop(20));
    assert_eq!(third, forge.begin + SEGMENT + 40);
    let expected = vec![(first, 10), (switch, 0), (third, 20)];
    assert_eq!(read(&forge, forge.begin, 777), (expected, None));

    let mut reader = forge::reader(forge.begin);
    reader.feed(&forge.bytes);
    reader.next_record().unwrap();
    let record = reader.next_record().unwrap().expect("the switch");
    assert_eq!(record.end, forge.begin + SEGMENT);
}

#[test]
fn a_record_given_up_after_a_crash_is_passed_over() {
    let overwrite = |lsn: Lsn| {
        let main = [lsn.get().to_le_bytes(), [0; 8]].concat();
        Content { info: 0xD0, main, ..Content::default() }
    };
    let mut forge = Forge::new(MajorVersion::V15);
    let first = forge.record(&Forge::noop(10));
    forge.record(&Forge::noop(20_000));
    let given_up = forge.give_up_last();
    forge.last = first;
    let start = forge.record(&overwrite(given_up));
    assert_eq!(read(&forge, forge.begin, 999), (vec![(first, 10), (start, 16)], None));

    // The record that follows must own up to it.
    let mut forge = Forge::new(MajorVersion::V15);
    let first = forge.record(&Forge::noop(10));
    forge.record(&Forge::noop(20_000));
    let given_up = forge.give_up_last();
    forge.last = first;
    let start = forge.record(&overwrite(first));
    let reason = EndReason::Overwrite { expected: given_up, seen: first };
    assert_eq!(
        read(&forge, forge.begin, 999),
        (vec![(first, 10)], Some(ReadError { at: start, reason }))
    );
}

#[test]
fn the_end_of_the_log_is_told_from_damage() {
    let end = sample().0.at();
    let unwritten = reason_of(|forge| forge.pad_to(8192));
    assert_eq!(unwritten, ReadError { at: end, reason: EndReason::Zeroed });

    let page = Lsn::new(end.get().next_multiple_of(8192));
    let recycled = reason_of(|forge| {
        forge.pad_to(8192);
        let old = forge.bytes[8192..16384].to_vec();
        // The record fills the page before, so that the old page is looked at.
        forge.bytes.truncate(usize::try_from(end - forge.begin).unwrap());
        let room = usize::try_from(page - end).unwrap();
        forge.record(&Forge::noop(room - 24 - 5));
        assert_eq!(forge.at(), page);
        forge.bytes.extend(old);
    });
    assert_eq!(recycled.at, page);
    assert!(matches!(recycled.reason, EndReason::Recycled { .. }), "{recycled:?}");
    assert!(recycled.reason.is_unwritten());
}

#[test]
fn damage_is_named() {
    let (_, records) = sample();
    let at = |index: usize, byte: u64| {
        usize::try_from(records[index].0 - sample().0.begin + byte).unwrap()
    };
    let check = |change: &dyn Fn(&mut Forge), index: usize, expect: &str| {
        let error = reason_of(|forge| change(forge));
        assert_eq!((error.at, error.reason.to_string()), (records[index].0, expect.to_owned()));
    };
    let crc = reason_of(|forge| forge.bytes[at(3, 40)] ^= 1);
    assert!(matches!(crc.reason, EndReason::Crc { .. }), "{crc}");
    assert_eq!(crc.at, records[3].0);
    check(
        &|forge| forge.bytes[at(1, 0)] = 3,
        1,
        "expected a record of at least 24 bytes, seen length 3",
    );
    check(
        &|forge| forge.bytes[at(1, 3)] = 0xF0,
        1,
        "expected a record of at most 1069547520 bytes, seen length 4026531876",
    );
    check(&|forge| forge.bytes[at(4, 17)] = 99, 4, "unknown resource manager 99");
    let link = format!("expected a link back to {}, seen 0/1", records[3].0);
    check(
        &|forge| forge.bytes[at(4, 8)..at(4, 16)].copy_from_slice(&1_u64.to_le_bytes()),
        4,
        &link,
    );
    // The second page goes on with the fourth record.
    let flags = |flags: u8| move |forge: &mut Forge| forge.bytes[8192 + 2] = flags;
    check(&flags(0), 3, "expected the rest of a record, seen a page without one");
    let rest = |forge: &mut Forge| forge.bytes[8192 + 16] ^= 1;
    assert!(matches!(reason_of(rest).reason, EndReason::ContinuationLength { .. }));
    let timeline = |forge: &mut Forge| forge.bytes[8192 + 4] = 0;
    assert!(matches!(reason_of(timeline).reason, EndReason::Timeline { .. }));
    let version = |forge: &mut Forge| forge.bytes[8192] = 0x10;
    assert!(matches!(reason_of(version).reason, EndReason::Version { .. }));
    let system = |forge: &mut Forge| forge.bytes[usize::try_from(SEGMENT).unwrap() + 24] ^= 1;
    assert!(matches!(reason_of(system).reason, EndReason::System { .. }));
    let sizes = |forge: &mut Forge| forge.bytes[37] = 0x40;
    assert!(matches!(reason_of(sizes).reason, EndReason::Sizes { .. }));
}

#[test]
fn an_error_stays() {
    let (mut forge, records) = sample();
    forge.bytes[8192] = 0;
    let mut reader = forge::reader(forge.begin);
    reader.feed(&forge.bytes);
    while let Ok(Some(_)) = reader.next_record() {}
    let error = reader.next_record().unwrap_err();
    assert_eq!(reader.end(), records[3].0);
    assert_eq!(reader.next_record().unwrap_err(), error);
}

#[test]
fn strangers_are_refused() {
    let (forge, _) = sample();
    let refused = |reader: RecordReader| {
        let mut reader = reader;
        reader.feed(&forge.bytes);
        reader.next_record().unwrap_err().reason.to_string()
    };
    assert_eq!(
        refused(forge::reader(forge.begin).expect_system(SystemId::new(78))),
        "expected system identifier 78, seen 77"
    );
    let path = vec![TimelineId::new(2), TimelineId::new(3)];
    assert_eq!(
        refused(forge::reader(forge.begin).expect_timelines(path)),
        "expected a page of timeline 2, 3, seen timeline 1"
    );
}
