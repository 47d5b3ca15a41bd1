//! Stores on real disks and real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are tests

mod local;
mod memory;
