//! The shop on a real PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a helper that fails fails the test

mod bench;
mod load;
mod serve;
