//! Archiving and recovery on real stores and real servers.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests fail tests this way

mod recovery;
mod servers;
mod statuses;
mod support;

mod cached;
mod disasters;
mod exits;
mod gets;
mod kills;
mod prefetches;
mod pushes;
