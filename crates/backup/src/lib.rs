//! Making backups of a live cluster.
//!
//! [`full()`] makes one: it begins a backup in a session of its own, lists and copies the files
//! through one bounded pipeline (read, check, digest, compress, seal, append, upload), records what
//! a restore needs beside them, ends the backup, waits until its WAL has arrived, and only then
//! publishes its root. Whatever ends it before leaves nothing that looks like a backup.
//!
//! [`dump`] makes logical dumps and gives them back to PostgreSQL: both need a live server.
//!
//! Refuses to know: restores of data directories, recovery plans, the command line.
//!
//! Invariants: a page with a wrong checksum is read again and never excused; nothing is written
//! into the live data directory; `pg_control` is read last; memory does not grow with the cluster's
//! size, only with its number of files.
//!
//! ```no_run
//! use backup::{Options, Silent};
//! # type Error = Box<dyn std::error::Error>;
//! # async fn example(repository: repository::Repository) -> Result<(), Error> {
//! let lineage = repository::lineage::of_cluster(&repository, "shop").await?.id;
//! let connection = pgclient::ConnectOptions::parse("host=/var/run/postgresql user=postgres")?;
//! let options = Options::new("shop", lineage, "/var/lib/postgresql/16/main".into(), connection);
//! let report = backup::full(&repository, &options, &Silent, &stdx::SystemClock::new()).await?;
//! println!("{} of {} bytes", report.summary.label, report.summary.size);
//! # Ok(())
//! # }
//! ```

pub mod dump;
pub mod error;
pub mod options;
pub mod progress;
pub mod report;
pub mod verify;

mod accounts;
mod appender;
mod content;
mod control_file;
mod copy;
mod facts;
mod full;
mod hold;
mod list;
mod pipeline;
mod preflight;
mod read;
mod sequencer;
mod wal;
mod worker;

pub use error::Error;
pub use full::full;
pub use options::{Cancel, Options};
pub use progress::{Progress, Silent};
pub use report::{DamagedPage, Report, Statistics};
