//! Tests of the repository as its users see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests fail tests

mod forge;
mod samples;
mod site;
mod support;

mod arbitrary;
mod corpus;
mod damage;
mod downgrade;
mod dumps;
mod future;
mod golden;
mod keys;
mod lineages;
mod nonces;
mod running;
mod sets;
mod targets;
mod timelines;
mod wal;
