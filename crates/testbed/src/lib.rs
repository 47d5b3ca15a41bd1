//! Real components for tests: PostgreSQL of every supported major, an S3-compatible server and a
//! wire that fails before it, a mail server, Alertmanager, servers of DNS, proxies that lead users,
//! a manager of units, Kubernetes, networks that can be cut off, full disks, and folders that user
//! `postgres` can use.
//!
//! Refuses to know: any crate of ours. A missing component fails the test with the command that
//! installs it; nothing is skipped. Everything stops and vanishes on drop, also after a panic.
//! Since only tests use it, it panics where other code returns errors, and every wait is a
//! condition with a deadline.
//!
//! ```no_run
//! use testbed::postgres::{Cluster, Install};
//!
//! let cluster = Cluster::builder(&Install::latest()).setting("archive_mode", "on").start();
//! cluster.psql("CREATE TABLE orders (id int)");
//! assert_eq!(cluster.psql("SELECT count(*) FROM orders"), "0");
//! ```
#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)] // this is how tests fail
#![allow(clippy::disallowed_methods)] // reads the environment that the test runner set

pub mod postgres;

mod account;
mod alertmanager;
mod binary;
mod daemon;
mod disk;
mod dns;
mod kubernetes;
mod mail;
mod network;
mod poll;
mod port;
mod proxies;
mod proxy;
mod s3;
mod tools;
mod units;
mod workdir;

pub use account::{as_postgres, can_drop_privileges, give_to_postgres};
pub use alertmanager::Alertmanager;
pub use binary::binary;
pub use disk::SmallDisk;
pub use dns::{Bind, PowerDns, ZONE};
pub use kubernetes::{ApiMishap, ApiRequest, ApiWire, Kubernetes, Passed, Running};
pub use mail::MailServer;
pub use network::Network;
pub use poll::{poll, poll_for};
pub use port::Port;
pub use proxies::{HaProxy, Nginx};
pub use proxy::{Mishap, Order, Proxy};
pub use s3::S3;
pub use tools::tool;
pub use units::Units;
pub use workdir::Workdir;
