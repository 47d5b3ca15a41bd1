//! A live PostgreSQL: SQL, the backup session, and the control of a server on this machine.
//!
//! Refuses to know: repositories, packs, recovery plans. Main types: [`ConnectOptions`] (what libpq
//! calls conninfo), [`Client`] (one session; every call has a deadline), [`BackupSession`] (one
//! online backup, alive as long as its session), [`local`] (programs, start, stop, state).
//!
//! Invariants: a password appears in no `Debug`, `Display` or error; nothing waits for ever; SQL of
//! ours does not depend on the `search_path` of the user or database.
//!
//! ```
//! use pgclient::ConnectOptions;
//! let options = ConnectOptions::parse("postgres://backup:secret@db.example:5433/shop")?;
//! assert_eq!(options.to_string(), "user 'backup', database 'shop' at 'db.example:5433'");
//! assert!(!format!("{options:?}").contains("secret"));
//! # Ok::<(), pgclient::Error>(())
//! ```

pub mod backup_session;
pub mod catalog;
pub mod client;
pub mod control;
pub mod error;
pub mod globals;
pub mod local;
pub mod options;
pub mod server_info;

mod amcheck;
mod conninfo;
mod database;
mod environment;
mod passfile;
mod rows;
mod secret;
mod tls;

pub use amcheck::{AmcheckReport, Finding};
pub use backup_session::{BackupSession, StartOptions, StoppedBackup};
pub use catalog::{Collation, Database, Extension, PreparedTransaction, Relation, Tablespace};
pub use client::Client;
pub use control::{ArchiverStatus, PauseState, ReplayState};
pub use database::Belongings;
pub use error::Error;
pub use globals::Globals;
pub use options::{ConnectOptions, SslMode};
pub use rows::{identifier, literal};
pub use secret::Secret;
pub use server_info::ServerInfo;
