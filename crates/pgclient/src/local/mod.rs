//! Control of a server on this machine: its programs, its account, start, stop, and what it does.
//!
//! PostgreSQL refuses to run as root. When the caller is root, everything here runs as the owner of
//! the data directory, with that account's groups.

mod account;
mod log;
mod options;
mod postmaster;
mod process;
mod programs;
mod progress;
mod server;
mod wait;

pub use account::RunAs;
pub use postmaster::{Postmaster, State, Status, processes_in, status};
pub use process::Finished;
pub use programs::{Programs, folders_with};
pub use server::{InitOptions, LocalServer, StopMode, init_cluster};
pub use wait::{Awaited, Ping, ping};
