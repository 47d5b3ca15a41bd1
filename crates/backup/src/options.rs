//! What a backup is asked to do, and how it is told to stop.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use repository::{Compression, LineageId};
use stdx::Id;
use tokio::sync::watch;

/// How long a checkpoint at the backup's start may take. A spread one takes up to
/// `checkpoint_timeout`, which may be an hour and more on large installations.
const START_TIMEOUT: Duration = Duration::from_secs(2 * 3600);

/// How long archiving may stand still while the backup waits for its WAL. The archiver itself tries
/// a failing command again every minute, so less would call a single hiccup a failure.
const WAL_TIMEOUT: Duration = Duration::from_secs(180);

/// What to back up and how. [`Options::new`] fills in what can be left alone.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster's name, for the summary.
    pub cluster: String,
    /// The lineage the backup belongs to.
    pub lineage: LineageId,
    /// The registered writer that speaks for this host, if known: a cluster that is not the
    /// lineage's production is then refused by name.
    pub writer: Option<Id>,
    /// The data directory as this process sees it.
    pub data_directory: PathBuf,
    /// How to reach the server that runs on it.
    pub connection: pgclient::ConnectOptions,
    /// How frames are compressed.
    pub compression: Compression,
    /// How many threads check, compress and seal.
    pub workers: usize,
    /// Whether the first checkpoint runs at full speed instead of spread out.
    pub fast_checkpoint: bool,
    /// Stands behind the backup's label in PostgreSQL's `backup_label`; may be empty.
    pub label_note: String,
    /// The longest wait for the first checkpoint.
    pub start_timeout: Duration,
    /// How long archiving may make no progress while the backup waits for its WAL.
    pub wal_timeout: Duration,
    /// Tells the backup to stop.
    pub cancel: Cancel,
}

impl Options {
    /// Default compression, one worker a core, a fast checkpoint.
    #[must_use]
    pub fn new(
        cluster: &str,
        lineage: LineageId,
        data_directory: PathBuf,
        connection: pgclient::ConnectOptions,
    ) -> Self {
        Self {
            cluster: cluster.to_owned(),
            lineage,
            writer: None,
            data_directory,
            connection,
            compression: Compression::default(),
            workers: std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
            fast_checkpoint: true,
            label_note: String::new(),
            start_timeout: START_TIMEOUT,
            wal_timeout: WAL_TIMEOUT,
            cancel: Cancel::default(),
        }
    }
}

/// Tells a running backup to stop and clean up. Clones are the same switch.
#[derive(Clone, Debug)]
pub struct Cancel(Arc<watch::Sender<bool>>);

impl Default for Cancel {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Cancel {
    /// Tells it. The backup ends with [`Error::Cancelled`](crate::Error::Cancelled) once its
    /// uploads are given up.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }

    /// Returns once it was told.
    pub async fn cancelled(&self) {
        let mut told = self.0.subscribe();
        // The sender lives in `self`, so waiting ends only with the value.
        let _ = told.wait_for(|told| *told).await;
    }
}
