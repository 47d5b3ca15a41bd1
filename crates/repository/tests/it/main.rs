//! Tests of the repository as its users see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests fail tests

mod forge;
mod samples;
mod site;
mod support;

mod damage;
mod future;
mod targets;
mod timelines;
