//! Sealing of frames: AES-256-GCM under a key of the object's own, or XXH3-128 without encryption.
//!
//! A key is derived from the epoch's data key and the random salt of one write attempt; a nonce is
//! the frame's number. So no (key, nonce) pair comes twice as long as no two attempts draw the same
//! 256-bit salt and no attempt seals a number twice ([`Sealer::seal`] is handed each number once).

use std::cell::RefCell;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use stdx::Id;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::codec::{Codec, Compression};
use crate::header::Header;
use crate::kind::Kind;

/// Bytes that sealing adds to a frame: GCM's tag, or the XXH3-128.
pub const SEAL_LEN: usize = 16;

/// The most bytes one frame may hold when opened.
pub const FRAME_RAW_LEN_MAX: usize = 16 << 20;

const ASSOCIATED_LEN: usize = 83;

thread_local! {
    /// Room for one compressed frame.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// 256 bits of key material; wiped when dropped, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

impl Secret {
    /// A fresh random key.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; 32];
        stdx::id::fill_random(&mut bytes);
        Self(bytes)
    }

    /// Takes over existing key material.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key material.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Derives `N` bytes with HKDF-SHA256 (RFC 5869).
    #[must_use]
    pub fn derive<const N: usize>(&self, salt: &[u8], info: &[&[u8]]) -> [u8; N] {
        struct Length(usize);
        impl hkdf::KeyType for Length {
            fn len(&self) -> usize {
                self.0
            }
        }
        let mut out = [0; N];
        let pseudorandom = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&self.0);
        let filled = pseudorandom.expand(info, Length(N)).and_then(|okm| okm.fill(&mut out));
        assert!(filled.is_ok(), "HKDF-SHA256 gives at most 8160 bytes, asked for {N}");
        out
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Seals and opens the frames of one object.
#[derive(Clone)]
pub struct Sealer {
    key: Option<Arc<LessSafeKey>>,
    /// Associated data of frame 0; the frame's own fields are overwritten per frame.
    associated: [u8; ASSOCIATED_LEN],
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("encrypted", &self.key.is_some()).finish_non_exhaustive()
    }
}

/// One sealed frame and what its index entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedFrame {
    /// Ciphertext and tag.
    pub bytes: Vec<u8>,
    /// How the plain bytes were compressed.
    pub codec: Codec,
    /// Length of the plain bytes.
    pub raw_len: u32,
}

impl SealedFrame {
    /// Length as stored.
    #[must_use]
    pub fn sealed_len(&self) -> u32 {
        len_u32(self.bytes.len())
    }
}

impl Sealer {
    /// The sealer of an object with this header; `object_key` is `None` without encryption.
    pub(crate) fn new(header: &Header, object_key: Option<&[u8; 32]>) -> Self {
        let mut associated = [0; ASSOCIATED_LEN];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            associated[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&crate::header::FORMAT_VERSION.to_le_bytes());
        put(&[header.kind as u8]);
        put(&header.required.to_le_bytes());
        put(&header.optional.to_le_bytes());
        put(&header.epoch.to_le_bytes());
        put(header.set.as_bytes());
        put(&header.salt);
        // 63 bytes; behind them frame number (8), codec (1), last (1), raw length (4): 77; the rest
        // stays zero.
        let key = object_key.map(|key| match UnboundKey::new(&AES_256_GCM, key) {
            Ok(key) => Arc::new(LessSafeKey::new(key)),
            Err(_) => unreachable!("AES-256 takes 32 bytes"),
        });
        Self { key, associated }
    }

    /// Compresses and seals one frame. Each `number` is used once per object; `last` marks the
    /// index.
    ///
    /// # Panics
    /// When `raw` is longer than [`FRAME_RAW_LEN_MAX`]: callers split before.
    #[must_use]
    pub fn seal(&self, number: u64, last: bool, raw: &[u8], how: Compression) -> SealedFrame {
        assert!(raw.len() <= FRAME_RAW_LEN_MAX, "a frame of {} bytes", raw.len());
        // Compressed into space that is kept, then copied to a frame of its true size: a fresh
        // buffer of the largest size for each frame costs more in page faults than the copy.
        let (codec, mut bytes) = SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            let codec = how.compress(raw, scratch);
            let mut bytes = Vec::with_capacity(scratch.len() + SEAL_LEN);
            bytes.extend_from_slice(scratch);
            (codec, bytes)
        });
        let raw_len = len_u32(raw.len());
        let associated = self.associated_for(number, codec, last, raw_len);
        match &self.key {
            Some(key) => {
                let sealed = key.seal_in_place_separate_tag(
                    nonce(number),
                    Aad::from(&associated),
                    &mut bytes,
                );
                match sealed {
                    Ok(tag) => bytes.extend_from_slice(tag.as_ref()),
                    Err(_) => unreachable!("GCM seals frames of this length"),
                }
            }
            None => {
                let sum = checksum(&associated, &bytes);
                bytes.extend_from_slice(&sum);
            }
        }
        SealedFrame { bytes, codec, raw_len }
    }

    /// Opens and expands one frame into `raw`, which is cleared first. `scratch` is working space
    /// that callers keep between frames.
    ///
    /// # Errors
    /// A sentence: the frame is not what was sealed under this number.
    pub fn open(
        &self,
        frame: FrameShape,
        sealed: &[u8],
        scratch: &mut Vec<u8>,
        raw: &mut Vec<u8>,
    ) -> Result<(), String> {
        let FrameShape { number, last, codec, raw_len } = frame;
        if raw_len as usize > FRAME_RAW_LEN_MAX {
            return Err(format!(
                "frame {number} claims {raw_len} bytes, the limit is {FRAME_RAW_LEN_MAX}"
            ));
        }
        let associated = self.associated_for(number, codec, last, raw_len);
        let plain = match &self.key {
            Some(key) => {
                scratch.clear();
                scratch.extend_from_slice(sealed);
                key.open_in_place(nonce(number), Aad::from(&associated), scratch)
                    .map_err(|_| format!("frame {number} does not authenticate"))?
            }
            None => {
                let split = sealed.len().checked_sub(SEAL_LEN);
                let (plain, sum) = split
                    .and_then(|at| sealed.split_at_checked(at))
                    .ok_or_else(|| format!("frame {number} is shorter than its checksum"))?;
                if checksum(&associated, plain) != sum {
                    return Err(format!("the checksum of frame {number} does not match"));
                }
                plain
            }
        };
        codec.expand(plain, raw_len as usize, raw).map_err(|why| format!("frame {number}: {why}"))
    }

    fn associated_for(
        &self,
        number: u64,
        codec: Codec,
        last: bool,
        raw_len: u32,
    ) -> [u8; ASSOCIATED_LEN] {
        let mut associated = self.associated;
        associated[63..71].copy_from_slice(&number.to_le_bytes());
        associated[71] = codec as u8;
        associated[72] = u8::from(last);
        associated[73..77].copy_from_slice(&raw_len.to_le_bytes());
        associated
    }
}

/// What has to be known of a frame to open it; a wrong value does not authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameShape {
    /// Its number in the object, from 0.
    pub number: u64,
    /// Whether it is the object's index.
    pub last: bool,
    /// How its plain bytes are compressed.
    pub codec: Codec,
    /// Length of the plain bytes.
    pub raw_len: u32,
}

/// Object key and key check of a header, from the data key of its epoch.
pub(crate) fn object_key(
    data_key: &Secret,
    kind: Kind,
    set: Id,
    salt: &[u8; 32],
) -> ([u8; 32], [u8; 16]) {
    let mut okm: [u8; 48] =
        data_key.derive(salt, &[b"rollforward v1 object", set.as_bytes(), &[kind as u8]]);
    let mut key = [0; 32];
    let mut check = [0; 16];
    key.copy_from_slice(&okm[..32]);
    check.copy_from_slice(&okm[32..]);
    okm.zeroize();
    (key, check)
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn checksum(associated: &[u8], plain: &[u8]) -> [u8; SEAL_LEN] {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(associated);
    hash.update(plain);
    hash.digest128().to_le_bytes()
}

pub(crate) fn len_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
