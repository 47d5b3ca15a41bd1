//! Backups of real clusters.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // this is how tests fail
#![allow(clippy::print_stderr)] // shown when a test fails

mod fixture;
mod forgetful;
mod image;

mod changes;
mod content;
mod failures;
mod memory;
mod refusals;
mod verifies;
