//! Writes objects by the format's description and by nothing of the crate's own code, so that
//! they can be what no version writes yet.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use stdx::Id;

/// What a forged object is to be like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forge {
    pub(crate) set: Id,
    /// The data key of `epoch`; `None` for an object in the clear.
    pub(crate) data_key: Option<[u8; 32]>,
    pub(crate) epoch: u32,
    pub(crate) version: u16,
    pub(crate) required: u32,
    pub(crate) optional: u32,
}

const HEADER_LEN: usize = 128;

impl Forge {
    /// The bytes of an object of a kind with these frames; the first one leads.
    pub(crate) fn object(&self, kind: u8, frames: &[Vec<u8>]) -> Vec<u8> {
        let mut salt = [0; 32];
        stdx::id::fill_random(&mut salt);
        let okm = self.data_key.map(|key| self.derive(&key, kind, &salt));
        let check: [u8; 16] = okm.map_or([0; 16], |okm| okm[32..].try_into().unwrap());
        let key: Option<[u8; 32]> = okm.map(|okm| okm[..32].try_into().unwrap());
        let seal =
            |number: u64, last: bool, raw: &[u8]| self.seal(kind, &salt, key, number, last, raw);
        let sealed: Vec<Vec<u8>> = (0..).zip(frames).map(|(n, raw)| seal(n, false, raw)).collect();
        let (lead_sealed, lead_raw) = match (sealed.first(), frames.first()) {
            (Some(sealed), Some(raw)) => (sealed.len(), raw.len()),
            _ => (0, 0),
        };
        let mut object = Vec::new();
        object.extend(b"RLFWOBJ\x1a");
        object.extend(self.version.to_le_bytes());
        object.extend([kind, 0]);
        for word in [self.required, self.optional, self.epoch] {
            object.extend(word.to_le_bytes());
        }
        object.extend(self.set.as_bytes());
        object.extend(salt);
        object.extend(check);
        for len in [lead_sealed, lead_raw] {
            object.extend(u32::try_from(len).unwrap().to_le_bytes());
        }
        object.resize(HEADER_LEN - 4, 0);
        object.extend(crc32c(&object).to_le_bytes());
        for frame in &sealed {
            object.extend(frame);
        }
        self.finish(object, frames, &sealed, seal)
    }

    fn finish(
        &self,
        mut object: Vec<u8>,
        frames: &[Vec<u8>],
        sealed: &[Vec<u8>],
        seal: impl Fn(u64, bool, &[u8]) -> Vec<u8>,
    ) -> Vec<u8> {
        let mut index = Vec::new();
        let mut cbor = minicbor::Encoder::new(&mut index);
        cbor.map(2).unwrap().u32(0).unwrap().array(frames.len() as u64).unwrap();
        for (raw, sealed) in frames.iter().zip(sealed) {
            // One field more than this version knows, as in the map around it.
            cbor.array(5).unwrap().u8(0).unwrap();
            cbor.u64(sealed.len() as u64).unwrap().u64(raw.len() as u64).unwrap();
            cbor.bytes(&[]).unwrap().str("later").unwrap();
        }
        cbor.u32(1000).unwrap().str("unknown").unwrap();
        let count = u32::try_from(frames.len()).unwrap();
        let sealed_index = seal(u64::from(count), true, &index);
        let offset = object.len() as u64;
        let mut trailer = Vec::new();
        trailer.extend(offset.to_le_bytes());
        trailer.extend(u32::try_from(sealed_index.len()).unwrap().to_le_bytes());
        trailer.extend(u32::try_from(index.len()).unwrap().to_le_bytes());
        trailer.extend(count.to_le_bytes());
        trailer.extend([0; 4]);
        trailer.extend(crc32c(&trailer).to_le_bytes());
        trailer.extend(b"RLFE");
        object.extend(sealed_index);
        object.extend(trailer);
        object
    }

    fn derive(&self, data_key: &[u8; 32], kind: u8, salt: &[u8; 32]) -> [u8; 48] {
        struct Length;
        impl hkdf::KeyType for Length {
            fn len(&self) -> usize {
                48
            }
        }
        let info: [&[u8]; 3] = [b"rollforward v1 object", self.set.as_bytes(), &[kind]];
        let pseudorandom = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(data_key);
        let mut okm = [0; 48];
        pseudorandom.expand(&info, Length).unwrap().fill(&mut okm).unwrap();
        okm
    }

    fn seal(
        &self,
        kind: u8,
        salt: &[u8; 32],
        key: Option<[u8; 32]>,
        number: u64,
        last: bool,
        raw: &[u8],
    ) -> Vec<u8> {
        let mut associated = Vec::new();
        associated.extend(1_u16.to_le_bytes());
        associated.push(kind);
        for word in [self.required, self.optional, self.epoch] {
            associated.extend(word.to_le_bytes());
        }
        associated.extend(self.set.as_bytes());
        associated.extend(salt);
        associated.extend(number.to_le_bytes());
        associated.extend([0, u8::from(last)]);
        associated.extend(u32::try_from(raw.len()).unwrap().to_le_bytes());
        associated.resize(83, 0);
        let mut sealed = raw.to_vec();
        match key {
            Some(key) => {
                let mut nonce = [0; 12];
                nonce[4..].copy_from_slice(&number.to_be_bytes());
                let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap());
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.seal_in_place_append_tag(nonce, Aad::from(&associated), &mut sealed).unwrap();
            }
            None => {
                let sum = xxhash_rust::xxh3::xxh3_128(&[associated.as_slice(), raw].concat());
                sealed.extend(sum.to_le_bytes());
            }
        }
        sealed
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    u32::try_from(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes)).unwrap()
}

/// Adds an entry with a key that no version knows yet to a CBOR map; other bytes stay as they are.
pub(crate) fn with_unknown_key(bytes: &[u8]) -> Vec<u8> {
    let (count, rest) = match bytes {
        [head @ 0xa0..=0xb6, rest @ ..] => (head - 0xa0, rest),
        [0xb8, count, rest @ ..] => (*count, rest),
        _ => return bytes.to_vec(),
    };
    let mut out = vec![0xb8, count + 1];
    out.extend(rest);
    out.extend([0x19, 0x03, 0xe8]); // 1000
    let mut value = Vec::new();
    minicbor::Encoder::new(&mut value).array(2).unwrap().str("unknown").unwrap().null().unwrap();
    out.extend(value);
    out
}
