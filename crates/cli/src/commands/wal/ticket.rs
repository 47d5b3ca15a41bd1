//! The ticket: what a restored cluster's `restore_command` needs to know of its restore.
//!
//! It lies in the restored data directory. Everything in it was fixed when the target was resolved;
//! the restore command decides nothing.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use archive::route::Route;
use pg::history::PathStretch;
use pg::{Lsn, SegmentSize, SystemId, TimelineId};
use serde::{Deserialize, Serialize};

/// The ticket's name in the data directory.
pub(crate) const TICKET_FILE: &str = "rollforward.ticket.json";

/// What is stored. Positions and identifiers are text: they are 64 bits wide.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ticket {
    /// Names this restore, as no other one is named.
    pub(crate) restore: String,
    /// The configuration to use.
    pub(crate) config: PathBuf,
    /// The cluster's name in it.
    pub(crate) cluster: String,
    /// The only repository to use, when one was named.
    pub(crate) repository: Option<String>,
    /// The lineage the backup came from.
    pub(crate) lineage: String,
    system_id: String,
    segment_size: u64,
    route: Vec<Stretch>,
    end: Option<String>,
    /// The timeline id taken for the promotion.
    pub(crate) reserved: Option<u32>,
    /// Whether the last, incomplete segment of a dead timeline may be used.
    pub(crate) allow_partial: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stretch {
    timeline: u32,
    begin: String,
    end: Option<String>,
}

/// A ticket's facts, typed.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) system_id: SystemId,
    pub(crate) route: Route,
    pub(crate) end: Option<Lsn>,
    pub(crate) reserved: Option<TimelineId>,
}

impl Ticket {
    /// A ticket for one restore.
    #[allow(clippy::too_many_arguments)] // each is one line of the file
    pub(crate) fn new(
        restore: stdx::Id,
        config: &Path,
        cluster: &str,
        repository: Option<&str>,
        lineage: &repository::lineage::Lineage,
        route: &[PathStretch],
        segment_size: SegmentSize,
        end: Option<Lsn>,
        reserved: Option<TimelineId>,
        allow_partial: bool,
    ) -> Self {
        let stretch = |stretch: &PathStretch| Stretch {
            timeline: stretch.timeline.get(),
            begin: stretch.begin.to_string(),
            end: stretch.end.map(|end| end.to_string()),
        };
        Self {
            restore: restore.to_string(),
            config: config.into(),
            cluster: cluster.into(),
            repository: repository.map(Into::into),
            lineage: lineage.id.to_string(),
            system_id: lineage.system_id.to_string(),
            segment_size: segment_size.get(),
            route: route.iter().map(stretch).collect(),
            end: end.map(|end| end.to_string()),
            reserved: reserved.map(TimelineId::get),
            allow_partial,
        }
    }

    /// Reads a ticket.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("read restore ticket '{}'", path.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("read restore ticket '{}'", path.display()))
    }

    /// Writes it.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        stdx::durable::write_atomic(path, text.as_bytes(), 0o600)
            .with_context(|| format!("write restore ticket '{}'", path.display()))
    }

    /// Its facts.
    pub(crate) fn facts(&self) -> anyhow::Result<Facts> {
        let lsn = |text: &String| text.parse::<Lsn>().context("a position of the restore ticket");
        let mut stretches = Vec::with_capacity(self.route.len());
        for stretch in &self.route {
            stretches.push(PathStretch {
                timeline: TimelineId::new(stretch.timeline),
                begin: lsn(&stretch.begin)?,
                end: stretch.end.as_ref().map(lsn).transpose()?,
            });
        }
        let bytes =
            u32::try_from(self.segment_size).context("the segment size of the restore ticket")?;
        let size = SegmentSize::new(bytes).context("the segment size of the restore ticket")?;
        let system_id: u64 =
            self.system_id.parse().context("the system identifier of the restore ticket")?;
        Ok(Facts {
            system_id: SystemId::new(system_id),
            route: Route::new(stretches, size),
            end: self.end.as_ref().map(lsn).transpose()?,
            reserved: self.reserved.map(TimelineId::new),
        })
    }
}
