//! The first 128 bytes of every object, in the clear.

use crc_fast::CrcAlgorithm;
use stdx::Id;

use crate::codec::Codec;
use crate::kind::Kind;

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 128;

/// Length of [`Header::link`] in bytes.
pub const LINK_LEN: usize = 28;

/// The format version this code writes, and the highest it reads.
pub const FORMAT_VERSION: u16 = 1;

/// Feature bits a reader must know. Format version 1 begins with none.
pub const REQUIRED_FEATURES_KNOWN: u32 = 0;

const MAGIC: [u8; 8] = *b"RLFWOBJ\x1a";

/// A decoded header. Layout: `docs/repository-format.md`, section "Header".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the object is.
    pub kind: Kind,
    /// Feature bits a reader must know to read the object.
    pub required: u32,
    /// Feature bits a reader may ignore.
    pub optional: u32,
    /// The data key's epoch; 0 means that the object is not encrypted.
    pub epoch: u32,
    /// The repository set.
    pub set: Id,
    /// Random, drawn for each attempt to write.
    pub salt: [u8; 32],
    /// Derived with the object's key; compared before any frame is opened.
    pub key_check: [u8; 16],
    /// Frame 0, when it can be read without the index.
    pub lead: Option<Lead>,
    /// What the object follows: for records of a journal, so that their chain can be checked
    /// without a key; zero in every other object.
    pub link: [u8; LINK_LEN],
}

/// The frame right behind the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead {
    /// Its codec.
    pub codec: Codec,
    /// Its length as stored, tag included.
    pub sealed_len: u32,
    /// Its length when opened.
    pub raw_len: u32,
}

/// Why 128 bytes are not a header this version reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Not ours or damaged: what was expected and seen.
    Damaged(String),
    /// Made by a newer version that says it must not be read.
    Newer(String),
}

impl Header {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.push(self.kind as u8);
        out.push(self.lead.map_or(0, |lead| lead.codec as u8));
        for word in [self.required, self.optional, self.epoch] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(self.set.as_bytes());
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&self.key_check);
        let (sealed_len, raw_len) =
            self.lead.map_or((0, 0), |lead| (lead.sealed_len, lead.raw_len));
        out.extend_from_slice(&sealed_len.to_le_bytes());
        out.extend_from_slice(&raw_len.to_le_bytes());
        out.extend_from_slice(&self.link);
        let crc = crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        let mut header = [0; HEADER_LEN];
        header.copy_from_slice(&out);
        header
    }

    /// Reads a header from the first [`HEADER_LEN`] bytes of an object.
    ///
    /// # Errors
    /// [`HeaderError::Newer`] for a version or required feature this code does not know;
    /// [`HeaderError::Damaged`] for anything else that does not fit.
    pub fn decode(object: &[u8]) -> Result<Self, HeaderError> {
        let bytes: &[u8; HEADER_LEN] = object.first_chunk().ok_or_else(|| {
            HeaderError::Damaged(format!(
                "expected {HEADER_LEN} bytes of header, seen {}",
                object.len()
            ))
        })?;
        let mut fields = Fields(bytes);
        if fields.take::<8>() != MAGIC {
            return Err(HeaderError::Damaged("it does not begin with our magic".into()));
        }
        let version = u16::from_le_bytes(fields.take());
        if version > FORMAT_VERSION {
            return Err(HeaderError::Newer(format!("format version {version}")));
        }
        let (body, crc) = bytes.split_at(HEADER_LEN - 4);
        if crc32c(body).to_le_bytes() != crc {
            return Err(HeaderError::Damaged("the header's CRC does not match".into()));
        }
        if version == 0 {
            return Err(HeaderError::Damaged("format version 0".into()));
        }
        let [kind, lead_codec] = fields.take();
        let [required, optional, epoch] = [(); 3].map(|()| u32::from_le_bytes(fields.take()));
        let unknown = required & !REQUIRED_FEATURES_KNOWN;
        if unknown != 0 {
            return Err(HeaderError::Newer(format!("required feature bits {unknown:#010x}")));
        }
        let kind = Kind::from_byte(kind)
            .ok_or_else(|| HeaderError::Newer(format!("object kind {kind}")))?;
        let set = Id::from_bytes(fields.take());
        let salt = fields.take();
        let key_check = fields.take();
        let [sealed_len, raw_len] = [(); 2].map(|()| u32::from_le_bytes(fields.take()));
        let lead = match (sealed_len, Codec::from_byte(lead_codec)) {
            (0, _) => None,
            (_, Some(codec)) => Some(Lead { codec, sealed_len, raw_len }),
            (_, None) => return Err(HeaderError::Newer(format!("codec {lead_codec}"))),
        };
        let link = fields.take();
        Ok(Self { kind, required, optional, epoch, set, salt, key_check, lead, link })
    }
}

/// Walks over the fixed fields of a header whose length was checked.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk::<N>() {
            Some((field, rest)) => {
                self.0 = rest;
                *field
            }
            None => [0; N],
        }
    }
}

pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    #[allow(clippy::cast_possible_truncation)] // a 32-bit CRC in a u64
    {
        crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
    }
}

#[cfg(test)]
mod tests {
    use stdx::Id;

    use super::{HEADER_LEN, Header, HeaderError, LINK_LEN, Lead};
    use crate::codec::Codec;
    use crate::kind::Kind;

    fn sample() -> Header {
        Header {
            kind: Kind::WalSegment,
            required: 0,
            optional: 0x8000_0001,
            epoch: 3,
            set: Id::from_bytes([9; 16]),
            salt: [7; 32],
            key_check: [5; 16],
            lead: Some(Lead { codec: Codec::Zstd, sealed_len: 77, raw_len: 100 }),
            link: [3; LINK_LEN],
        }
    }

    #[test]
    fn round_trips() {
        let header = sample();
        assert_eq!(Header::decode(&header.encode()), Ok(header));
        let bare = Header { lead: None, ..sample() };
        assert_eq!(Header::decode(&bare.encode()), Ok(bare));
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let good = sample().encode();
        for bit in 0..HEADER_LEN * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&bad).is_err(), "bit {bit}");
        }
        assert!(matches!(Header::decode(&good[..127]), Err(HeaderError::Damaged(_))));
    }

    #[test]
    fn refuses_the_future_only_when_told_to() {
        let required = Header { required: 1, ..sample() };
        assert!(matches!(Header::decode(&required.encode()), Err(HeaderError::Newer(_))));
        let optional = Header { optional: u32::MAX, ..sample() };
        assert!(Header::decode(&optional.encode()).is_ok());
        let mut version = sample().encode();
        version[8] = 2;
        assert!(matches!(Header::decode(&version), Err(HeaderError::Newer(_))));
    }
}
