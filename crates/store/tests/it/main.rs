//! Stores on real disks and real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are tests

mod buckets;
mod child;
mod disk;
mod local;
mod memory;
mod proof;
mod s3;
mod silence;
mod wrappers;

use bytes::Bytes;
use store::Key;

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn parts(text: &'static str) -> Vec<Bytes> {
    vec![Bytes::from_static(text.as_bytes())]
}
