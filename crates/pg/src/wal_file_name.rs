//! What a file in `pg_wal` or in an archive is, by its name alone.

use std::fmt;
use std::str::FromStr;

use crate::TimelineId;
use crate::segment::{SegmentName, hex_group};

/// The name of a file that PostgreSQL archives or asks for back.
///
/// PostgreSQL: `IsXLogFileName`, `IsPartialXLogFileName`, `IsTLHistoryFileName`,
/// `IsBackupHistoryFileName`, src/include/access/xlog_internal.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WalFileName {
    /// A whole segment: 24 digits.
    Segment(SegmentName),
    /// The last segment of a timeline that ended inside it: 24 digits and `.partial`. Never to be
    /// handed out as the whole one.
    Partial(SegmentName),
    /// How a timeline came to be: eight digits and `.history`.
    History(TimelineId),
    /// A small note about a finished backup: its start segment, the offset of its start in that,
    /// and `.backup`.
    BackupHistory {
        /// The segment in which the backup starts.
        start: SegmentName,
        /// Where in that segment it starts, in bytes.
        offset: u32,
    },
}

/// The text names nothing that PostgreSQL archives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected the name of a WAL segment, a timeline history or a backup history, seen '{seen}'"
)]
pub struct ParseWalFileNameError {
    seen: String,
}

impl WalFileName {
    /// The timeline in the name.
    #[must_use]
    pub const fn timeline(self) -> TimelineId {
        match self {
            Self::Segment(name) | Self::Partial(name) | Self::BackupHistory { start: name, .. } => {
                name.timeline()
            }
            Self::History(timeline) => timeline,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if let Some(group) = text.strip_suffix(".history") {
            return match hex_group(group)? {
                (timeline, "") if timeline != 0 => Some(Self::History(TimelineId::new(timeline))),
                _ => None,
            };
        }
        let (segment, rest) = text.split_at_checked(24)?;
        let name = SegmentName::parse(segment)?;
        match rest {
            "" => Some(Self::Segment(name)),
            ".partial" => Some(Self::Partial(name)),
            _ => {
                let (offset, rest) = hex_group(rest.strip_prefix('.')?)?;
                (rest == ".backup").then_some(Self::BackupHistory { start: name, offset })
            }
        }
    }
}

impl FromStr for WalFileName {
    type Err = ParseWalFileNameError;

    /// Reads a bare file name, without any directory.
    fn from_str(text: &str) -> Result<Self, ParseWalFileNameError> {
        Self::parse(text).ok_or_else(|| ParseWalFileNameError { seen: text.to_owned() })
    }
}

impl fmt::Display for WalFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(name) => write!(f, "{name}"),
            Self::Partial(name) => write!(f, "{name}.partial"),
            Self::History(timeline) => write!(f, "{:08X}.history", timeline.get()),
            Self::BackupHistory { start, offset } => write!(f, "{start}.{offset:08X}.backup"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tells_the_four_kinds_apart() {
        let check = |text: &str, expect: &str| {
            let name: WalFileName = text.parse().unwrap();
            let kind = match name {
                WalFileName::Segment(_) => "segment",
                WalFileName::Partial(_) => "partial",
                WalFileName::History(_) => "history",
                WalFileName::BackupHistory { .. } => "backup history",
            };
            assert_eq!(kind, expect, "{text}");
            assert_eq!(name.to_string(), text);
            assert_eq!(name.timeline(), TimelineId::new(10));
        };
        check("0000000A00000001000000FE", "segment");
        check("0000000A00000001000000FE.partial", "partial");
        check("0000000A.history", "history");
        check("0000000A00000001000000FE.00000028.backup", "backup history");
    }

    #[test]
    fn refuses_every_other_name() {
        for bad in [
            "",
            "0000000A",
            ".history",
            "00000000.history",
            "0000000a.history",
            "0000000A1.history",
            "0000000A.history.tmp",
            "0000000A00000001000000F",
            "0000000A00000001000000FE.part",
            "0000000A00000001000000FE.backup",
            "0000000A00000001000000FE.28.backup",
            "0000000A00000001000000FE.00000028.backup2",
            "0000000A00000001000000FE.00000028",
            "0000000A00000001000000FE/",
            "../0000000A00000001000000FE",
            "000000000000000100000001",
            "RECOVERYXLOG",
            "archive_status",
            "xlogtemp.123",
        ] {
            assert!(bad.parse::<WalFileName>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_back(text in "[0-9A-F.]{0,33}(\\.history|\\.partial|\\.backup)?") {
            if let Ok(name) = text.parse::<WalFileName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,50}") {
            let _ = text.parse::<WalFileName>();
        }
    }
}
