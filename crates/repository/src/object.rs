//! One object: header, frames, sealed index, trailer. `docs/repository-format.md`, section
//! "Object".

use bytes::Bytes;
use minicbor::{Decode, Encode};
use stdx::Id;

use crate::codec::{Codec, Compression};
use crate::header::{HEADER_LEN, Header, HeaderError, LINK_LEN, Lead, crc32c};
use crate::keys::SetKeys;
use crate::kind::Kind;
use crate::seal::{FRAME_RAW_LEN_MAX, FrameShape, SealedFrame, Sealer, len_u32};

/// Length of the trailer in bytes.
pub const TRAILER_LEN: usize = 32;

const TRAILER_MAGIC: [u8; 4] = *b"RLFE";

/// Where a frame lies in its object, and how to open it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameAt {
    /// First byte in the object.
    pub offset: u64,
    /// Length as stored.
    pub sealed_len: u32,
    /// What opens it.
    pub shape: FrameShape,
}

/// The sealed index of an object: one entry a frame, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Index {
    #[n(0)]
    pub(crate) frames: Vec<IndexEntry>,
}

/// One frame in the index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(crate) struct IndexEntry {
    #[n(0)]
    pub(crate) codec: u8,
    #[n(1)]
    pub(crate) sealed_len: u32,
    #[n(2)]
    pub(crate) raw_len: u32,
    /// XXH3-64 of each page, little endian, 8 bytes a page; empty where frames do not hold pages.
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) page_digests: Vec<u8>,
}

/// Why an object cannot be read; the caller adds its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectError {
    /// Not what was written.
    Damaged(String),
    /// Made by a newer version.
    Newer(String),
    /// Of another set: the id seen.
    ForeignSet(Id),
    /// Sealed with another key of this epoch.
    WrongKey(u32),
}

impl From<HeaderError> for ObjectError {
    fn from(error: HeaderError) -> Self {
        match error {
            HeaderError::Damaged(reason) => Self::Damaged(reason),
            HeaderError::Newer(reason) => Self::Newer(reason),
        }
    }
}

/// Writes the parts of one object in order: header first, then frames, then index and trailer.
#[derive(Debug)]
pub struct ObjectWriter {
    header: Header,
    sealer: Sealer,
    index: Index,
    offset: u64,
}

impl ObjectWriter {
    /// Begins an object with a fresh salt. One writer is one attempt: to try again, begin again.
    #[must_use]
    pub fn new(keys: &SetKeys, kind: Kind) -> Self {
        let (header, sealer) = keys.new_object(kind);
        Self { header, sealer, index: Index::default(), offset: HEADER_LEN as u64 }
    }

    /// The same object, linked to what it follows.
    #[must_use]
    pub(crate) fn linked(mut self, link: [u8; LINK_LEN]) -> Self {
        self.header.link = link;
        self
    }

    /// The sealer for worker threads. Frame numbers count from 0 in the order of
    /// [`push`](Self::push).
    #[must_use]
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// The header's bytes; `lead` is given when frame 0 is to be readable without the index.
    #[must_use]
    pub fn header(&self, lead: Option<&SealedFrame>) -> Bytes {
        let lead = lead.map(|frame| Lead {
            codec: frame.codec,
            sealed_len: frame.sealed_len(),
            raw_len: frame.raw_len,
        });
        Bytes::copy_from_slice(&Header { lead, ..self.header.clone() }.encode())
    }

    /// Notes the next frame and says where it lies.
    pub fn push(&mut self, frame: &SealedFrame, page_digests: Vec<u8>) -> FrameAt {
        let sealed_len = frame.sealed_len();
        let at = FrameAt {
            offset: self.offset,
            sealed_len,
            shape: FrameShape {
                number: self.index.frames.len() as u64,
                last: false,
                codec: frame.codec,
                raw_len: frame.raw_len,
            },
        };
        self.offset += u64::from(sealed_len);
        self.index.frames.push(IndexEntry {
            codec: frame.codec as u8,
            sealed_len,
            raw_len: frame.raw_len,
            page_digests,
        });
        at
    }

    /// Key epoch and salt of this attempt.
    #[must_use]
    pub fn sealing(&self) -> (u32, [u8; 32]) {
        (self.header.epoch, self.header.salt)
    }

    /// How many frames were noted.
    #[must_use]
    pub fn frame_count(&self) -> u64 {
        self.index.frames.len() as u64
    }

    /// Bytes of header and frames so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.offset
    }

    /// Whether no frame was noted yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.frames.is_empty()
    }

    /// Index and trailer: the object's last bytes.
    ///
    /// # Panics
    /// When the index outgrows a frame: packs are closed long before.
    #[must_use]
    pub fn finish(self) -> Bytes {
        let raw = to_cbor(&self.index);
        let number = self.index.frames.len() as u64;
        let frame = self.sealer.seal(number, true, &raw, Compression::Zstd(1));
        let mut out = frame.bytes;
        let mut trailer = Vec::with_capacity(TRAILER_LEN);
        trailer.extend_from_slice(&self.offset.to_le_bytes());
        trailer.extend_from_slice(&len_u32(out.len()).to_le_bytes());
        trailer.extend_from_slice(&frame.raw_len.to_le_bytes());
        trailer.extend_from_slice(&len_u32(self.index.frames.len()).to_le_bytes());
        trailer.extend_from_slice(&[frame.codec as u8, 0, 0, 0]);
        let crc = crc32c(&trailer);
        trailer.extend_from_slice(&crc.to_le_bytes());
        trailer.extend_from_slice(&TRAILER_MAGIC);
        out.extend_from_slice(&trailer);
        Bytes::from(out)
    }
}

/// A whole small object: `frames` in order, the first one readable without the index.
#[must_use]
pub fn seal_object(keys: &SetKeys, kind: Kind, frames: &[&[u8]], how: Compression) -> Vec<Bytes> {
    let mut writer = ObjectWriter::new(keys, kind);
    let mut parts = Vec::with_capacity(frames.len() + 2);
    for (number, raw) in frames.iter().enumerate() {
        let sealed = writer.sealer.seal(number as u64, false, raw, how);
        if number == 0 {
            parts.push(writer.header(Some(&sealed)));
        }
        writer.push(&sealed, Vec::new());
        parts.push(Bytes::from(sealed.bytes));
    }
    if parts.is_empty() {
        parts.push(writer.header(None));
    }
    parts.push(writer.finish());
    parts
}

/// An opened header and the sealer for its frames.
#[derive(Clone, Debug)]
pub struct OpenObject {
    /// The clear header.
    pub header: Header,
    sealer: Sealer,
}

impl OpenObject {
    /// Reads the header and proves the key.
    ///
    /// # Errors
    /// See [`ObjectError`].
    pub fn new(keys: &SetKeys, kind: Kind, head: &[u8]) -> Result<Self, ObjectError> {
        let header = Header::decode(head)?;
        if header.kind != kind {
            return Err(ObjectError::Damaged(format!(
                "expected an object of kind {kind:?}, seen {:?}",
                header.kind
            )));
        }
        let sealer = keys.open_object(&header)?;
        Ok(Self { header, sealer })
    }

    /// The sealer that opens the frames.
    #[must_use]
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Frame 0 from the object's first bytes, without the index.
    ///
    /// # Errors
    /// [`ObjectError::Damaged`] when there is none or it does not authenticate.
    pub fn lead(&self, head: &[u8]) -> Result<Vec<u8>, ObjectError> {
        let lead = self
            .header
            .lead
            .ok_or_else(|| ObjectError::Damaged("the header names no first frame".into()))?;
        let end = HEADER_LEN.saturating_add(lead.sealed_len as usize);
        let sealed = head.get(HEADER_LEN..end).ok_or_else(|| {
            ObjectError::Damaged(format!("expected {end} bytes, seen {}", head.len()))
        })?;
        self.open_frame(
            FrameShape { number: 0, last: false, codec: lead.codec, raw_len: lead.raw_len },
            sealed,
        )
    }

    /// One frame.
    ///
    /// # Errors
    /// [`ObjectError::Damaged`] when it does not authenticate or expand.
    pub fn open_frame(&self, shape: FrameShape, sealed: &[u8]) -> Result<Vec<u8>, ObjectError> {
        let mut raw = Vec::new();
        self.sealer.open(shape, sealed, &mut Vec::new(), &mut raw).map_err(ObjectError::Damaged)?;
        Ok(raw)
    }

    /// Every frame's place, from the object's last bytes. `tail` ends with the object's last byte;
    /// `object_len` is its whole length.
    ///
    /// # Errors
    /// [`TailError::Short`] says how many bytes of tail are needed.
    pub fn frames(&self, tail: &[u8], object_len: u64) -> Result<Vec<FramePlace>, TailError> {
        let trailer = Trailer::decode(tail)?;
        let need = u64::from(trailer.index_len) + TRAILER_LEN as u64;
        if trailer.index_offset.checked_add(need) != Some(object_len) {
            return Err(TailError::damaged("the trailer does not fit the object's length"));
        }
        let need = usize::try_from(need).unwrap_or(usize::MAX);
        let Some(begin) = tail.len().checked_sub(need) else {
            return Err(TailError::Short(need));
        };
        let sealed = tail.get(begin..tail.len() - TRAILER_LEN).unwrap_or_default();
        let shape = FrameShape {
            number: u64::from(trailer.frame_count),
            last: true,
            codec: trailer.codec,
            raw_len: trailer.index_raw_len,
        };
        let raw = self.open_frame(shape, sealed).map_err(TailError::Object)?;
        let index: Index = from_cbor(&raw).map_err(|why| TailError::damaged(&why))?;
        places(&index, trailer)
    }
}

/// A frame's place and the digests of its pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramePlace {
    /// Where it lies.
    pub at: FrameAt,
    /// XXH3-64 of each page, 8 bytes little endian a page; empty where it does not hold pages.
    pub page_digests: Vec<u8>,
}

/// Why a tail gave no index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TailError {
    /// Read this many bytes of tail and ask again.
    Short(usize),
    /// The object cannot be read.
    Object(ObjectError),
}

impl TailError {
    fn damaged(why: &str) -> Self {
        Self::Object(ObjectError::Damaged(why.into()))
    }
}

fn places(index: &Index, trailer: Trailer) -> Result<Vec<FramePlace>, TailError> {
    if index.frames.len() != trailer.frame_count as usize {
        return Err(TailError::damaged("the index does not list as many frames as the trailer"));
    }
    let mut offset = HEADER_LEN as u64;
    let mut places = Vec::with_capacity(index.frames.len());
    for (number, entry) in index.frames.iter().enumerate() {
        let codec = Codec::from_byte(entry.codec).ok_or_else(|| {
            TailError::Object(ObjectError::Newer(format!("codec {}", entry.codec)))
        })?;
        let shape =
            FrameShape { number: number as u64, last: false, codec, raw_len: entry.raw_len };
        let at = FrameAt { offset, sealed_len: entry.sealed_len, shape };
        places.push(FramePlace { at, page_digests: entry.page_digests.clone() });
        offset += u64::from(entry.sealed_len);
    }
    if offset != trailer.index_offset {
        return Err(TailError::damaged("the frames do not end where the index begins"));
    }
    Ok(places)
}

#[derive(Clone, Copy, Debug)]
struct Trailer {
    index_offset: u64,
    index_len: u32,
    index_raw_len: u32,
    frame_count: u32,
    codec: Codec,
}

impl Trailer {
    fn decode(tail: &[u8]) -> Result<Self, TailError> {
        let bytes: &[u8; TRAILER_LEN] = tail.last_chunk().ok_or(TailError::Short(TRAILER_LEN))?;
        let (body, magic) = bytes.split_at(TRAILER_LEN - 4);
        let (fields, crc) = body.split_at(TRAILER_LEN - 8);
        if magic != TRAILER_MAGIC || crc32c(fields).to_le_bytes() != crc {
            return Err(TailError::damaged(
                "it does not end with our trailer: truncated or damaged",
            ));
        }
        let word = |at: usize| {
            fields
                .get(at..at + 4)
                .and_then(|word| word.first_chunk())
                .map_or(0, |w| u32::from_le_bytes(*w))
        };
        let codec_byte = fields.get(20).copied().unwrap_or_default();
        let codec = Codec::from_byte(codec_byte)
            .ok_or_else(|| TailError::Object(ObjectError::Newer(format!("codec {codec_byte}"))))?;
        Ok(Self {
            index_offset: fields.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)),
            index_len: word(8),
            index_raw_len: word(12),
            frame_count: word(16),
            codec,
        })
    }
}

/// All frames of a whole object, opened in order.
///
/// # Errors
/// See [`ObjectError`].
pub fn open_object(keys: &SetKeys, kind: Kind, object: &[u8]) -> Result<Vec<Vec<u8>>, ObjectError> {
    let open = OpenObject::new(keys, kind, object)?;
    let places = open.frames(object, object.len() as u64).map_err(|error| match error {
        TailError::Short(_) => ObjectError::Damaged("it is truncated".into()),
        TailError::Object(error) => error,
    })?;
    let total: u64 = places.iter().map(|place| u64::from(place.at.shape.raw_len)).sum();
    if total > FRAME_RAW_LEN_MAX as u64 * 128 {
        return Err(ObjectError::Damaged(format!("it claims {total} bytes when opened")));
    }
    let mut frames = Vec::with_capacity(places.len());
    let (mut scratch, mut raw) = (Vec::new(), Vec::new());
    for place in &places {
        let begin = usize::try_from(place.at.offset).unwrap_or(usize::MAX);
        let end = begin.saturating_add(place.at.sealed_len as usize);
        let sealed =
            object.get(begin..end).ok_or_else(|| ObjectError::Damaged("it is truncated".into()))?;
        open.sealer
            .open(place.at.shape, sealed, &mut scratch, &mut raw)
            .map_err(ObjectError::Damaged)?;
        frames.push(raw.clone());
    }
    Ok(frames)
}

/// Canonical bytes of a stored structure. Encoding into memory cannot fail.
pub(crate) fn to_cbor<T: Encode<()>>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    let encoded = minicbor::encode(value, &mut out);
    assert!(encoded.is_ok(), "a stored structure encodes into memory");
    out
}

/// Reads a stored structure; trailing bytes are damage, unknown optional map keys are skipped.
pub(crate) fn from_cbor<'b, T: Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, String> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder.decode().map_err(|error| format!("stored structure: {error}"))?;
    if decoder.position() == bytes.len() {
        Ok(value)
    } else {
        Err(format!("{} bytes behind a stored structure", bytes.len() - decoder.position()))
    }
}
