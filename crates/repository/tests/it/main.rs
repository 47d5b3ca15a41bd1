//! Tests of the repository as its users see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests fail tests

mod site;
mod support;

mod targets;
mod timelines;
