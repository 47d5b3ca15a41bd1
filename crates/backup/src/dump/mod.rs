//! Logical dumps: made by PostgreSQL's own programs, kept as streams in the repository, read back
//! by them.
//!
//! [`create()`] lets one session export a snapshot and runs several `pg_dump` in it: one for the
//! schema, one for each large table's data, one for all other data. Whatever is not named is in
//! the last one, so nothing depends on a list of ours being complete. [`restore()`] feeds the
//! streams to `pg_restore`. No byte of a table is written to a disk in the clear.
//!
//! Invariants: a dump exists when its root exists; a message of `pg_restore` is a remark that is
//! shown or an error that ends the restore; a database that holds something is never restored into
//! unasked, and nothing is ever dropped.

pub mod error;
pub mod messages;
pub mod plain;
pub mod restore;
pub mod tools;

mod child;
mod create;
mod read;
mod stream;
mod target;

pub use create::{DumpOptions, DumpReport, create};
pub use error::DumpError;
pub use restore::roles::RoleMap;
pub use restore::{RestoreOptions, RestoreReport, restore};
