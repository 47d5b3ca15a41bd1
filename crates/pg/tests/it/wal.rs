//! The WAL reader against real servers of every major.

mod activity;
mod crash;
mod damage;
mod oracle;
mod support;
mod workload;
