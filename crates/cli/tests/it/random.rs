//! Random moments that can be had again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::thread;
use std::time::Duration;

/// A sequence from a seed (SplitMix64).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// A new seed, which is printed: a failed test shows it.
    pub(crate) fn seeded() -> Self {
        let seed = RandomState::new().build_hasher().finish();
        println!("seed {seed:#x}");
        Self(seed)
    }

    /// The next number, from 0 to `limit` exclusive.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }

    /// Lets up to `limit` pass. Nothing is waited for: what varies is the moment of a kill.
    pub(crate) fn pass(&mut self, limit: Duration) {
        let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX).max(1);
        // May end early by itself: that moment is as good as any.
        thread::park_timeout(Duration::from_micros(self.below(micros)));
    }
}
