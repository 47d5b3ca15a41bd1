//! PostgreSQL servers of every supported major, started as an unprivileged user.

mod builder;
mod cluster;
mod install;
mod pidfile;
mod process;
mod psql;
mod session;

pub use builder::Builder;
pub use cluster::{Cluster, StartFailure, Stop};
pub use install::{Install, SUPPORTED_MAJORS, installed};
pub use session::Session;
