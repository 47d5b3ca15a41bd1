use super::*;
use proptest::prelude::*;

/// A control file with what decoding needs; real ones are compared with PostgreSQL's own tools in
/// the integration tests.
fn file(version: u32, catalog: u32) -> Vec<u8> {
    let mut bytes = vec![0; CONTROL_FILE_SIZE];
    put(&mut bytes, 0, &7_301_234_567_890_123_456_u64.to_le_bytes());
    put(&mut bytes, 8, &version.to_le_bytes());
    put(&mut bytes, 12, &catalog.to_le_bytes());
    put(&mut bytes, 16, &6u32.to_le_bytes());
    put(&mut bytes, 32, &0x0300_0060_u64.to_le_bytes());
    put(&mut bytes, 40, &0x0300_0028_u64.to_le_bytes());
    put(&mut bytes, 48, &5u32.to_le_bytes());
    put(&mut bytes, 172, &1u32.to_le_bytes());
    put(&mut bytes, 180, &100u32.to_le_bytes());
    put(&mut bytes, 204, &8u32.to_le_bytes());
    put(&mut bytes, 208, &FLOAT_FORMAT.to_le_bytes());
    put(&mut bytes, 216, &8192u32.to_le_bytes());
    put(&mut bytes, 220, &131_072u32.to_le_bytes());
    put(&mut bytes, 224, &8192u32.to_le_bytes());
    put(&mut bytes, 228, &(16u32 << 20).to_le_bytes());
    seal(&mut bytes);
    bytes
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Makes the CRC right again.
fn seal(bytes: &mut [u8]) {
    let version = u32::from_le_bytes(*bytes[8..].first_chunk().unwrap());
    if let Some(tail) = tail(version) {
        let crc = crc32c(&bytes[..tail.crc_at]);
        put(bytes, tail.crc_at, &crc.to_le_bytes());
    }
}

#[test]
fn decodes_both_format_versions() {
    for (version, catalog, major, end) in [
        (1300, 202_107_181, MajorVersion::V14, 292),
        (1700, 202_406_281, MajorVersion::V17, 292),
        (1800, 202_506_291, MajorVersion::V18, 296),
    ] {
        let bytes = file(version, catalog);
        let control = ControlFile::decode(&bytes).unwrap();
        assert_eq!(control.major, major);
        assert_eq!(control.checkpoint.to_string(), "0/3000060");
        assert_eq!(control.checkpoint_copy.timeline, TimelineId::new(5));
        assert_eq!(control.limits.max_connections, 100);
        assert_eq!(control.char_is_signed.is_some(), version == 1800);
        assert_eq!(ControlFile::decode(&bytes[..end]).as_ref(), Ok(&control));
        let short = ControlFileError::Short { expected: end, seen: end - 1 };
        assert_eq!(ControlFile::decode(&bytes[..end - 1]), Err(short));
    }
}

#[test]
fn refuses_other_versions_and_damage() {
    let check = |bytes: &[u8], expect: &str| {
        assert_eq!(ControlFile::decode(bytes).unwrap_err().to_string(), expect);
    };
    check(&[], "expected at least 256 bytes of 'pg_control', seen 0");
    check(&[0; 8192], "expected 'pg_control' of version 1300, 1700 or 1800, seen version 0");
    check(
        &file(1201, 201_909_212),
        "expected 'pg_control' of version 1300, 1700 or 1800, seen version 1201",
    );
    check(
        &file(1300, 201_909_212),
        "impossible value '201909212' for 'catalog_version_no' in 'pg_control'",
    );
    let mut torn = file(1300, 202_307_071);
    torn[100] ^= 4;
    assert!(matches!(ControlFile::decode(&torn), Err(ControlFileError::Crc { .. })));
}

#[test]
fn refuses_values_that_no_server_writes() {
    let check = |at, value: &[u8], field: &str| {
        let mut bytes = file(1300, 202_307_071);
        put(&mut bytes, at, value);
        seal(&mut bytes);
        match ControlFile::decode(&bytes) {
            Err(ControlFileError::Value { field: seen, .. }) => assert_eq!(seen, field),
            other => panic!("{field}: {other:?}"),
        }
        assert!(ControlFile::with_invalid_checkpoint(&bytes).is_err());
    };
    check(16, &[7, 0, 0, 0], "state");
    check(24, &i64::MAX.to_le_bytes(), "time");
    check(104, &i64::MIN.to_le_bytes(), "checkPointCopy.time");
    check(172, &[3, 0, 0, 0], "wal_level");
    check(184, &[0, 0, 0, 0x80], "max_worker_processes");
    check(204, &[4, 0, 0, 0], "maxAlign");
    check(208, &1_234_568.0_f64.to_le_bytes(), "floatFormat");
    check(216, &[1, 0, 0, 0], "blcksz");
    check(220, &[0, 0, 0, 0], "relseg_size");
    check(224, &[3, 0, 0, 0], "xlog_blcksz");
    check(228, &[0, 0, 1, 0], "xlog_seg_size");
}

#[test]
fn an_invalid_checkpoint_changes_nothing_else() {
    for (version, catalog) in [(1300, 202_307_071), (1800, 202_506_291)] {
        let before = ControlFile::decode(&file(version, catalog)).unwrap();
        let patched = ControlFile::with_invalid_checkpoint(&file(version, catalog)).unwrap();
        assert_eq!(patched.len(), CONTROL_FILE_SIZE);
        let after = ControlFile::decode(&patched).unwrap();
        assert_eq!(after.checkpoint.to_string(), "0/DEAD");
        assert_eq!(ControlFile { checkpoint: before.checkpoint, ..after }, before);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
        let _ = ControlFile::decode(&bytes);
    }

    #[test]
    fn any_content_under_a_right_crc_is_decoded_or_refused(
        content in proptest::collection::vec(any::<u8>(), 288), new: bool
    ) {
        let (version, catalog) = if new { (1800, 202_506_291) } else { (1300, 202_107_181) };
        let mut bytes = file(version, catalog);
        put(&mut bytes, 16, &content[16..]);
        seal(&mut bytes);
        let _ = ControlFile::decode(&bytes);
    }

    #[test]
    fn a_flipped_bit_is_seen(bit in 0usize..292 * 8) {
        let mut bytes = file(1300, 202_307_071);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(ControlFile::decode(&bytes).is_err());
    }
}
