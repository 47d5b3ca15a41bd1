//! Objects from the format page alone: header, frames, index, trailer, keys. Shares no code with
//! the library's own reader and writer.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::cbor::{Value, positions, structure};
use crate::Result;
use crate::cluster::{BLOCK, Noise};
use crate::wal::crc32c;

/// Feature bits that nobody knows and everybody may ignore.
const OPTIONAL: u32 = 0x8000_0101;

/// How a frame is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    None = 0,
    Zstd = 1,
    Lz4 = 2,
}

impl Codec {
    pub(crate) fn compress(self, raw: &[u8]) -> Result<Vec<u8>> {
        Ok(match self {
            Self::None => raw.to_vec(),
            Self::Zstd => zstd::bulk::compress(raw, 5)?,
            Self::Lz4 => lz4_flex::block::compress(raw),
        })
    }
}

/// A frame to be.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) raw: Vec<u8>,
    pub(crate) codec: Codec,
    /// Whether it holds pages, so that the index has their digests.
    pub(crate) pages: bool,
}

impl Frame {
    /// A stored structure.
    pub(crate) fn of(value: &Value) -> Self {
        Self { raw: value.encode(), codec: Codec::Zstd, pages: false }
    }
}

/// Where a frame has come to lie: all that a reference tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) number: u64,
    pub(crate) offset: u64,
    pub(crate) stored_len: u64,
    pub(crate) codec: Codec,
    pub(crate) plain_len: u64,
}

/// A whole object.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) bytes: Vec<u8>,
    pub(crate) places: Vec<Place>,
    pub(crate) salt: [u8; 32],
    pub(crate) epoch: u32,
}

/// The secrets of a set.
#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) id: [u8; 16],
    pub(crate) root: [u8; 32],
    /// Data keys of epochs 1, 2, …
    pub(crate) epochs: Vec<[u8; 32]>,
    pub(crate) noise: Noise,
}

/// HKDF-SHA256 (RFC 5869) of at most 64 bytes.
pub(crate) fn hkdf(ikm: &[u8], salt: &[u8], info: &[&[u8]]) -> Vec<u8> {
    let sign = |key: &[u8], parts: &[&[u8]]| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        hmac::sign(&key, &parts.concat()).as_ref().to_vec()
    };
    let pseudorandom = sign(salt, &[ikm]);
    let first = sign(&pseudorandom, &[&info.concat(), &[1]]);
    let second = sign(&pseudorandom, &[&first, &info.concat(), &[2]]);
    [first, second].concat()
}

/// Ciphertext and tag of AES-256-GCM.
pub(crate) fn gcm(key: &[u8], nonce: [u8; 12], associated: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key)?);
    let mut sealed = plain.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce, Aad::from(associated), &mut sealed)?;
    Ok(sealed)
}

impl Set {
    /// BLAKE3 under the set's digest key.
    pub(crate) fn digest(&self, bytes: &[u8]) -> Result<[u8; 32]> {
        let key = hkdf(&self.root, &self.id, &[b"rollforward v1 digest"]);
        let key = key.first_chunk::<32>().ok_or("HKDF gives 64 bytes")?;
        Ok(*blake3::keyed_hash(key, bytes).as_bytes())
    }

    /// An object under the data key of `epoch`, 0 for one in the clear; `lead` when frame 0 is to
    /// be readable without the index.
    pub(crate) fn object(
        &mut self,
        kind: u8,
        epoch: u32,
        lead: bool,
        frames: &[Frame],
    ) -> Result<Object> {
        let salt = self.noise.secret();
        let data_key = (epoch as usize).checked_sub(1).and_then(|at| self.epochs.get(at));
        let okm = data_key
            .map(|key| hkdf(key, &salt, &[b"rollforward v1 object", &self.id, &[kind]]))
            .unwrap_or_default();
        let (key, check) = (okm.get(..32), okm.get(32..48).unwrap_or(&[0; 16]));
        let identity = Identity { kind, epoch, set: self.id, salt, key: key.map(<[u8]>::to_vec) };
        let mut body = Vec::new();
        let mut places = Vec::new();
        let mut entries = Vec::new();
        for (number, frame) in (0..).zip(frames) {
            let sealed = identity.seal(number, false, frame.codec, &frame.raw)?;
            let digests: Vec<u8> = if frame.pages {
                frame.raw.chunks(BLOCK).flat_map(|page| xxh3_64(page).to_le_bytes()).collect()
            } else {
                Vec::new()
            };
            let (stored_len, plain_len) = (sealed.len() as u64, frame.raw.len() as u64);
            entries.push(positions([
                (frame.codec as u64).into(),
                stored_len.into(),
                plain_len.into(),
                digests.as_slice().into(),
            ]));
            let offset = 128 + body.len() as u64;
            places.push(Place { number, offset, stored_len, codec: frame.codec, plain_len });
            body.extend_from_slice(&sealed);
        }
        let lead = places.first().filter(|_| lead).copied();
        let mut bytes = identity.header(check, lead)?;
        bytes.append(&mut body);
        let index = structure([(0, Value::Array(entries))]).encode();
        let sealed = identity.seal(places.len() as u64, true, Codec::Zstd, &index)?;
        let trailer = trailer(bytes.len(), sealed.len(), index.len(), places.len())?;
        bytes.extend_from_slice(&sealed);
        bytes.extend_from_slice(&trailer);
        Ok(Object { bytes, places, salt, epoch })
    }
}

/// What a frame is bound to.
struct Identity {
    kind: u8,
    epoch: u32,
    set: [u8; 16],
    salt: [u8; 32],
    key: Option<Vec<u8>>,
}

impl Identity {
    fn header(&self, check: &[u8], lead: Option<Place>) -> Result<Vec<u8>> {
        let mut out = b"RLFWOBJ\x1a".to_vec();
        out.extend_from_slice(&1_u16.to_le_bytes());
        out.extend_from_slice(&[self.kind, lead.map_or(0, |lead| lead.codec as u8)]);
        for word in [0, OPTIONAL, self.epoch] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&self.set);
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(check);
        for len in lead.map_or([0, 0], |lead| [lead.stored_len, lead.plain_len]) {
            out.extend_from_slice(&u32::try_from(len)?.to_le_bytes());
        }
        out.resize(124, 0);
        out.extend_from_slice(&crc32c(&out).to_le_bytes());
        Ok(out)
    }

    fn seal(&self, number: u64, last: bool, codec: Codec, raw: &[u8]) -> Result<Vec<u8>> {
        let packed = codec.compress(raw)?;
        let mut associated = 1_u16.to_le_bytes().to_vec();
        associated.push(self.kind);
        for word in [0, OPTIONAL, self.epoch] {
            associated.extend_from_slice(&word.to_le_bytes());
        }
        associated.extend_from_slice(&self.set);
        associated.extend_from_slice(&self.salt);
        associated.extend_from_slice(&number.to_le_bytes());
        associated.extend_from_slice(&[codec as u8, u8::from(last)]);
        associated.extend_from_slice(&u32::try_from(raw.len())?.to_le_bytes());
        associated.resize(83, 0);
        if let Some(key) = &self.key {
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&number.to_be_bytes());
            return gcm(key, nonce, &associated, &packed);
        }
        let mut hash = Xxh3::new();
        hash.update(&associated);
        hash.update(&packed);
        Ok([packed, hash.digest128().to_le_bytes().to_vec()].concat())
    }
}

fn trailer(offset: usize, stored: usize, plain: usize, frames: usize) -> Result<Vec<u8>> {
    let mut out = (offset as u64).to_le_bytes().to_vec();
    for word in [stored, plain, frames] {
        out.extend_from_slice(&u32::try_from(word)?.to_le_bytes());
    }
    out.extend_from_slice(&[Codec::Zstd as u8, 0, 0, 0]);
    out.extend_from_slice(&crc32c(&out).to_le_bytes());
    out.extend_from_slice(b"RLFE");
    Ok(out)
}
