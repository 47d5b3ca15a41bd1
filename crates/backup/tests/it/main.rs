//! Backups of real clusters.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // this is how tests fail

mod fixture;
mod image;

mod changes;
mod content;
mod failures;
mod memory;
mod refusals;
