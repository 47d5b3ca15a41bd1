//! Every provider keeps the promises of the step contract, on the real thing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are tests

mod conformance;
mod door;
mod files;
mod mail;
mod pooler;
