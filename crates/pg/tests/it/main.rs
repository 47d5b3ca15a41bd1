//! What this crate reads, compared with real servers and their programs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // so do helpers of tests fail

mod backup;
mod control;
mod files;
mod layout;
mod names;
mod pages;
mod recovery;
mod wal;
