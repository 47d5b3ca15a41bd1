//! Compression of one frame.

use std::cell::RefCell;
use std::io::Cursor;

/// How a frame's bytes are compressed before they are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    /// As they are.
    None = 0,
    /// One zstd frame (RFC 8878).
    Zstd = 1,
    /// One LZ4 block without a size prefix.
    Lz4 = 2,
}

/// What a writer is asked to do: the codec and its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Store as is.
    None,
    /// zstd at this level, 1 to 19.
    Zstd(i32),
    /// lz4.
    Lz4,
}

impl Default for Compression {
    fn default() -> Self {
        Self::Zstd(1)
    }
}

impl Codec {
    /// The codec with this number.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::None, Self::Zstd, Self::Lz4].into_iter().find(|codec| *codec as u8 == byte)
    }

    /// Expands `input` to exactly `raw_len` bytes in `output`, which is cleared first. The length
    /// was authenticated; a frame that expands to another one is damaged.
    ///
    /// # Errors
    /// A sentence that says what does not fit.
    pub fn expand(self, input: &[u8], raw_len: usize, output: &mut Vec<u8>) -> Result<(), String> {
        output.clear();
        match self {
            Self::None => output.extend_from_slice(input),
            Self::Zstd => {
                output.reserve(raw_len);
                DECOMPRESSOR.with_borrow_mut(|decompressor| {
                    let decompressor = match decompressor {
                        Some(ready) => ready,
                        None => decompressor.insert(
                            zstd::bulk::Decompressor::new().map_err(|error| error.to_string())?,
                        ),
                    };
                    decompressor
                        .decompress_to_buffer(input, output)
                        .map(drop)
                        .map_err(|error| format!("zstd: {error}"))
                })?;
            }
            Self::Lz4 => {
                output.resize(raw_len, 0);
                let len = lz4_flex::block::decompress_into(input, output)
                    .map_err(|error| format!("lz4: {error}"))?;
                output.truncate(len);
            }
        }
        if output.len() == raw_len {
            Ok(())
        } else {
            Err(format!("expected {raw_len} bytes after expansion, seen {}", output.len()))
        }
    }
}

thread_local! {
    static COMPRESSOR: RefCell<Option<(i32, zstd::bulk::Compressor<'static>)>> =
        const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> =
        const { RefCell::new(None) };
}

impl Compression {
    /// Compresses `input` behind what `output` holds already and says which codec was used: bytes
    /// that do not shrink are stored as they are.
    pub(crate) fn compress(self, input: &[u8], output: &mut Vec<u8>) -> Codec {
        let start = output.len();
        let codec = match self {
            Self::None => None,
            Self::Zstd(level) => compress_zstd(level, input, output).then_some(Codec::Zstd),
            Self::Lz4 => {
                let room = lz4_flex::block::get_maximum_output_size(input.len());
                output.resize(start + room, 0);
                match lz4_flex::block::compress_into(
                    input,
                    output.get_mut(start..).unwrap_or_default(),
                ) {
                    Ok(len) => {
                        output.truncate(start + len);
                        Some(Codec::Lz4)
                    }
                    Err(_) => None,
                }
            }
        };
        match codec {
            Some(codec) if output.len() - start < input.len() => codec,
            _ => {
                output.truncate(start);
                output.extend_from_slice(input);
                Codec::None
            }
        }
    }
}

/// Appends one zstd frame; `false` leaves `output` in any state behind its old length.
fn compress_zstd(level: i32, input: &[u8], output: &mut Vec<u8>) -> bool {
    let start = output.len();
    output.reserve(zstd::zstd_safe::compress_bound(input.len()));
    let written = COMPRESSOR.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|(ready, _)| *ready != level) {
            *slot = zstd::bulk::Compressor::new(level).ok().map(|fresh| (level, fresh));
        }
        let (_, compressor) = slot.as_mut()?;
        // Behind what is there, into room that is not cleared first: clearing costs as much as
        // checking the pages.
        let mut behind = Cursor::new(&mut *output);
        behind.set_position(start as u64);
        compressor.compress_to_buffer(input, &mut behind).ok()
    });
    match written {
        Some(len) => {
            output.truncate(start + len);
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Codec, Compression};

    #[test]
    fn every_codec_round_trips_and_never_grows() {
        let text = b"order line ".repeat(5000);
        let mut noise = vec![0; 10_000];
        stdx::id::fill_random(&mut noise);
        for input in [&text[..], &noise, b"", b"x"] {
            for how in
                [Compression::None, Compression::Zstd(1), Compression::Zstd(3), Compression::Lz4]
            {
                let mut packed = b"kept".to_vec();
                let codec = how.compress(input, &mut packed);
                assert!(packed.len() - 4 <= input.len());
                assert_eq!(&packed[..4], b"kept");
                let mut back = Vec::new();
                codec.expand(&packed[4..], input.len(), &mut back).unwrap();
                assert_eq!(back, input);
            }
        }
    }

    #[test]
    fn refuses_a_frame_that_expands_to_another_length() {
        let mut packed = Vec::new();
        let codec = Compression::Zstd(1).compress(&[7; 1000], &mut packed);
        assert_eq!(codec, Codec::Zstd);
        for wrong in [0, 999, 1001] {
            assert!(codec.expand(&packed, wrong, &mut Vec::new()).is_err());
        }
        assert!(Codec::Lz4.expand(&[0xff; 9], 100, &mut Vec::new()).is_err());
    }
}
