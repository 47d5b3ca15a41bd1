//! Every decoder of bytes that come from outside, each behind one function of bytes.
//!
//! None may panic, whatever the bytes are. Where a decoder takes what it reads back, what was read
//! is encoded and read again, and must be the same.

pub mod objects;
pub mod postgres;
pub mod records;

/// A decoder.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// The fuzz target's name, and its folder of seeds.
    pub name: &'static str,
    /// Reads any bytes.
    pub read: fn(&[u8]),
}

const fn decoder(name: &'static str, read: fn(&[u8])) -> Decoder {
    Decoder { name, read }
}

/// All of them.
pub const ALL: &[Decoder] = &[
    decoder("pg_control", postgres::control),
    decoder("pg_page", postgres::page),
    decoder("pg_history", postgres::history),
    decoder("pg_backup_label", postgres::backup_label),
    decoder("pg_tablespace_map", postgres::tablespace_map),
    decoder("pg_names", postgres::names),
    decoder("pg_conf", postgres::conf),
    decoder("pg_wal", postgres::wal),
    decoder("pg_wal_record", postgres::wal_record),
    decoder("header", objects::header),
    decoder("object", objects::object),
    decoder("index", objects::index),
    decoder("frame", objects::frame),
    decoder("tree", objects::tree),
    decoder("root", objects::root),
    decoder("wal_object", objects::wal_object),
    decoder("moved", objects::moved),
    decoder("relation_map", objects::relation_map),
    decoder("names", objects::names),
    decoder("key_file", objects::key_file),
    decoder("recovery_code", objects::recovery_code),
    decoder("keys", records::keys),
    decoder("lineage", records::lineage),
    decoder("piece", records::piece),
    decoder("gap", records::gap),
    decoder("lease", records::lease),
    decoder("condemned", records::condemned),
];

/// Runs the decoder of that name.
///
/// # Panics
/// When there is none, or when the decoder does: that is what is looked for.
pub fn read(name: &str, bytes: &[u8]) {
    let decoder = ALL.iter().find(|decoder| decoder.name == name);
    (decoder.expect("a fuzz target is named like its decoder").read)(bytes);
}

/// Several frames in one input: each behind its length in two bytes, little endian; the last one
/// may be cut off.
pub fn frames(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<2>() {
        let len = usize::from(u16::from_le_bytes(*len)).min(rest.len());
        let (frame, rest) = rest.split_at(len);
        frames.push(frame.to_vec());
        bytes = rest;
    }
    frames
}
