//! The components that other tests rely on, each started for real.
#![allow(clippy::unwrap_used)] // steps shared by tests fail as tests do

mod clusters;
mod disk;
mod kubernetes;
mod pods;
