//! Recovery runs in a world without databases: planned, killed, taken over, undone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // this is how tests fail
#![allow(clippy::print_stderr)] // shown when a test fails

mod bench;

mod alerts;
mod crashes;
mod driverless;
mod drivers;
mod failures;
mod golden;
mod journals;
mod messages;
mod plans;
