//! The fuzz targets' twin on the toolchain that everybody has: the same decoders, the same seeds,
//! and mutations of them that are the same in every run.

#[path = "../../../../fuzz/src/decoders/mod.rs"]
#[allow(dead_code, unreachable_pub)] // it is public in another crate
mod decoders;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

/// Mutations of each decoder's seeds, all together.
const MUTATIONS: usize = 1500;
/// Changes to one input.
const CHANGES_MAX: u64 = 6;
/// An input never grows beyond this.
const LEN_MAX: usize = 64 << 10;

/// Bytes that decoders branch on: limits of lengths, signs, CBOR's major types and lengths.
const TELLING: [u8; 16] = [
    0x00, 0x01, 0x7f, 0x80, 0xff, 0xfe, 0x40, 0x5b, 0x60, 0x80, 0x9b, 0x9f, 0xa0, 0xbb, 0xbf, 0xf6,
];

struct Noise(u64);

impl Noise {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).unwrap()
    }

    /// One seed with a few changes, sometimes with the end of another one.
    fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(usize::try_from(CHANGES_MAX).unwrap()) {
            let at = self.below(bytes.len());
            match self.below(8) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 if !bytes.is_empty() => bytes[at] = TELLING[self.below(TELLING.len())],
                2 if !bytes.is_empty() => bytes[at] = bytes[at].wrapping_add(1),
                3 => bytes.truncate(at),
                4 => bytes.insert(at, TELLING[self.below(TELLING.len())]),
                5 => {
                    // A length or a number: four or eight bytes at once.
                    let len = if self.below(2) == 0 { 4 } else { 8 };
                    let value = [0x00, 0xff, 0x7f][self.below(3)];
                    bytes.iter_mut().skip(at).take(len).for_each(|byte| *byte = value);
                }
                6 => {
                    let end = at + self.below(64).min(bytes.len() - at);
                    let copied = bytes[at..end].to_vec();
                    bytes.splice(at..at, copied);
                }
                _ => {
                    let other = &seeds[self.below(seeds.len())];
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[self.below(other.len())..]);
                }
            }
            bytes.truncate(LEN_MAX);
        }
        bytes
    }
}

fn seeds_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/testdata")
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = std::fs::read_dir(seeds_root().join(name)).unwrap();
    let mut paths: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Reads an input; a panic shows the input, ready to become a seed.
fn read(decoder: decoders::Decoder, what: &str, bytes: &[u8]) {
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| (decoder.read)(bytes)));
    if outcome.is_err() {
        let shown = bytes.escape_ascii();
        panic!("'{}' does not take {what} ({} bytes): b\"{shown}\"", decoder.name, bytes.len());
    }
}

#[test]
fn every_decoder_has_seeds_and_a_fuzz_target() {
    let mut names: BTreeSet<String> = decoders::ALL.iter().map(|it| it.name.to_owned()).collect();
    // A crate above this one reads it, and has the twin: crates/recovery/tests/it/alerts.rs.
    names.insert("alert".into());
    let listed = |folder: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(seeds_root().join("..").join(folder)).unwrap();
        let stem = |entry: std::fs::DirEntry| entry.path().file_stem().unwrap().to_owned();
        entries.map(|entry| stem(entry.unwrap()).into_string().unwrap()).collect()
    };
    assert_eq!(names, listed("testdata"));
    assert_eq!(names, listed("fuzz_targets"));
    assert!(names.iter().all(|name| !seeds(name).is_empty()));
}

#[test]
fn no_decoder_panics_at_a_seed_cut_anywhere() {
    for decoder in decoders::ALL {
        for (number, seed) in seeds(decoder.name).iter().enumerate() {
            read(*decoder, &format!("seed {number}"), seed);
            for cut in (0..seed.len()).step_by(seed.len().div_ceil(200).max(1)) {
                read(*decoder, &format!("seed {number} cut"), &seed[..cut]);
            }
        }
    }
}

#[test]
fn no_decoder_panics_at_mutations_of_its_seeds() {
    for decoder in decoders::ALL {
        let seeds = seeds(decoder.name);
        let mut noise = Noise(0x2545_f491_4f6c_dd1d);
        for number in 0..MUTATIONS {
            let bytes = noise.mutate(&seeds);
            read(*decoder, &format!("mutation {number}"), &bytes);
        }
    }
}
