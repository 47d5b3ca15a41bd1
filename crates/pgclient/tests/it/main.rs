//! The client against real servers of every supported major.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a helper that fails fails the test

mod amcheck;
mod backup_session;
mod bench;
mod catalog;
mod control;
mod globals;
mod local;
mod login;
mod server_info;
mod tls;
