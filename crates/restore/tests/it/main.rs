//! Restores of real backups, started and compared.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests fail tests this way
#![allow(clippy::print_stderr, clippy::print_stdout)] // shown when a test fails

mod fixture;
mod process;

mod config;
mod damage;
mod disk;
mod full;
mod golden;
mod places;
mod refused;
