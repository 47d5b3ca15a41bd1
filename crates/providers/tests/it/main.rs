//! Every provider keeps the promises of the step contract, on the real thing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are tests
#![allow(clippy::print_stdout)] // what was measured stands in a test's output

mod conformance;
mod door;
mod driving;
mod files;
mod kubernetes;
mod kubernetes_answers;
mod kubernetes_managers;
mod mail;
mod pooler;
mod traffic;
