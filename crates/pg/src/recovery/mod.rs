//! How PostgreSQL is told to recover: settings by version, in a marked block of a configuration
//! file.
//!
//! ```
//! use pg::MajorVersion;
//! use pg::recovery::{ArchiveRecovery, RecoverySettings, RecoveryTarget};
//! use pg::recovery::{TargetAction, TargetTimeline};
//!
//! let recovery = ArchiveRecovery {
//!     restore_command: "rollforward wal get %f %p".into(),
//!     timeline: TargetTimeline::Id(pg::TimelineId::new(3)),
//!     target: Some(RecoveryTarget::Lsn { lsn: "0/5000028".parse()?, inclusive: false }),
//!     action: TargetAction::Promote,
//! };
//! let mut block = RecoverySettings::new(MajorVersion::V16);
//! block.add_recovery(&recovery)?;
//! block.add("archive_mode", "off")?;
//! let text = block.apply("port = 5432\n")?;
//! assert!(text.contains("recovery_target_lsn = '0/5000028'\n"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod conf_text;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::{FullXid, Lsn, MajorVersion, TimelineId};

pub use conf_text::{BEGIN_MARK, END_MARK, Neutralised, TakenOut, neutralise, quote, strip_block};

/// The file in the data directory that asks for archive recovery; PostgreSQL removes it when that
/// has ended. PostgreSQL: `RECOVERY_SIGNAL_FILE`, src/include/access/xlog.h.
pub const RECOVERY_SIGNAL_FILE: &str = "recovery.signal";

/// The file that asks for a standby; it wins over the other one.
/// PostgreSQL: `STANDBY_SIGNAL_FILE`, src/include/access/xlog.h.
pub const STANDBY_SIGNAL_FILE: &str = "standby.signal";

/// The settings that name a target. Two of them that differ in name make PostgreSQL refuse to
/// start, so those of an earlier recovery must go, wherever they stand.
pub const TARGET_SETTINGS: [&str; 8] = [
    "recovery_target",
    "recovery_target_action",
    "recovery_target_inclusive",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_timeline",
    "recovery_target_xid",
];

/// What else an earlier recovery or a life as standby leaves behind and would steer the next one.
pub const LEFTOVER_SETTINGS: [&str; 8] = [
    "restore_command",
    "archive_cleanup_command",
    "recovery_end_command",
    "recovery_min_apply_delay",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "sync_replication_slots",
];

/// The settings around recovery that not every supported major has: name, first and last major (0:
/// still there).
const VERSIONED: [(&str, u32, u32); 10] = [
    ("archive_library", 15, 0),
    ("recovery_prefetch", 15, 0),
    ("wal_decode_buffer_size", 15, 0),
    ("promote_trigger_file", 12, 15),
    ("vacuum_defer_cleanup_age", 9, 15),
    ("sync_replication_slots", 17, 0),
    ("synchronized_standby_slots", 17, 0),
    ("summarize_wal", 17, 0),
    ("idle_replication_slot_timeout", 18, 0),
    ("max_active_replication_origins", 18, 0),
];

/// A recovery from an archive up to a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveRecovery {
    /// The command that fetches a file: `%f` is its name, `%p` where to put it.
    pub restore_command: String,
    /// Which timeline to follow.
    pub timeline: TargetTimeline,
    /// Where to stop; `None` for the end of the archive.
    pub target: Option<RecoveryTarget>,
    /// What to do there.
    pub action: TargetAction,
}

/// Where recovery stops. PostgreSQL: `RecoveryTargetType`, src/include/access/xlogrecovery.h.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveryTarget {
    /// As soon as the cluster is consistent.
    Immediate,
    /// By position: after the first record that *starts* at `lsn` or later if `inclusive`, else
    /// before.
    Lsn {
        /// The position.
        lsn: Lsn,
        /// Whether the record that starts there is replayed.
        inclusive: bool,
    },
    /// By commit time: before the first end of a transaction, in the order of the WAL, whose time
    /// is later than `time`, or, if not `inclusive`, not earlier. Times do not ascend strictly in
    /// the WAL.
    Time {
        /// The moment; PostgreSQL counts in microseconds, what is finer is cut off.
        time: Timestamp,
        /// Whether an end at exactly that time is still replayed.
        inclusive: bool,
    },
    /// By transaction: after its end if `inclusive`, else before.
    Xid {
        /// The transaction.
        xid: FullXid,
        /// Whether the transaction is replayed.
        inclusive: bool,
    },
    /// At the restore point of this name, which is replayed.
    Name(String),
}

/// Which timeline recovery follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetTimeline {
    /// The one on which the backup began.
    Current,
    /// The newest in the archive: PostgreSQL looks for histories one by one and stops at the first
    /// gap.
    Latest,
    /// This one.
    Id(TimelineId),
}

/// What the server does at the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetAction {
    /// Waits and can be looked at; needs `hot_standby`, without which it shuts down.
    Pause,
    /// Ends recovery on a new timeline.
    Promote,
    /// Shuts down.
    Shutdown,
}

/// A setting or a text that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// The name is no name of a setting.
    #[error("expected the name of a setting, seen '{name}'")]
    Name {
        /// What was given.
        name: String,
    },
    /// The value cannot be written into a configuration file.
    #[error("the value of '{name}' has a line break or a zero byte")]
    Value {
        /// The setting.
        name: String,
    },
    /// This major does not have the setting: the server would refuse to start.
    #[error("PostgreSQL {major} has no setting '{name}'")]
    NotInVersion {
        /// The setting.
        name: String,
        /// The major it was meant for.
        major: MajorVersion,
    },
    /// The target does not fit the version's limits or cannot be written.
    #[error("PostgreSQL cannot stop at {target}: {reason}")]
    Target {
        /// The target.
        target: String,
        /// Why not.
        reason: &'static str,
    },
    /// A block of ours begins and does not end, or ends without a begin: nothing is removed,
    /// because what is behind it may be the operator's.
    #[error("line {line} '{mark}' has no counterpart")]
    Block {
        /// The line of the mark, counted from 1.
        line: usize,
        /// The mark.
        mark: &'static str,
    },
}

/// Settings for one major, to be written as one marked block at the end of a configuration file.
/// In PostgreSQL the last of several lines with one name counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoverySettings {
    major: MajorVersion,
    lines: Vec<(String, String)>,
}

impl RecoverySettings {
    /// A block without settings.
    #[must_use]
    pub const fn new(major: MajorVersion) -> Self {
        Self { major, lines: Vec::new() }
    }

    /// Adds a setting, with its value as PostgreSQL should see it; replaces one of the same name.
    ///
    /// # Errors
    /// [`RecoveryError::Name`], [`RecoveryError::Value`] or [`RecoveryError::NotInVersion`]:
    /// nothing was added.
    pub fn add(&mut self, name: &str, value: &str) -> Result<(), RecoveryError> {
        if !conf_text::is_setting_name(name) {
            return Err(RecoveryError::Name { name: name.to_owned() });
        }
        if !has_setting(self.major, name) {
            return Err(RecoveryError::NotInVersion { name: name.to_owned(), major: self.major });
        }
        let quoted = quote(value).ok_or_else(|| RecoveryError::Value { name: name.to_owned() })?;
        self.lines.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self.lines.push((name.to_owned(), quoted));
        Ok(())
    }

    /// Adds what makes the server recover that way. The signal file is the caller's to write.
    ///
    /// # Errors
    /// As [`RecoverySettings::add`], and [`RecoveryError::Target`] when PostgreSQL cannot be told
    /// such a target.
    pub fn add_recovery(&mut self, recovery: &ArchiveRecovery) -> Result<(), RecoveryError> {
        self.add("restore_command", &recovery.restore_command)?;
        match recovery.timeline {
            TargetTimeline::Current => self.add("recovery_target_timeline", "current")?,
            TargetTimeline::Latest => self.add("recovery_target_timeline", "latest")?,
            TargetTimeline::Id(id) => self.add("recovery_target_timeline", &id.to_string())?,
        }
        let Some(target) = &recovery.target else { return Ok(()) };
        let (name, value, inclusive) = target.setting()?;
        self.add(name, &value)?;
        if let Some(inclusive) = inclusive {
            self.add("recovery_target_inclusive", if inclusive { "on" } else { "off" })?;
        }
        self.add("recovery_target_action", recovery.action.word())
    }

    /// The block's text, with its marks; ends with a line break.
    #[must_use]
    pub fn render(&self) -> String {
        let lines = self.lines.iter().map(|(name, value)| format!("{name} = {value}\n"));
        [format!("{BEGIN_MARK}\n")]
            .into_iter()
            .chain(lines)
            .chain([format!("{END_MARK}\n")])
            .collect()
    }

    /// `text` with this block at its end, in place of an older one.
    ///
    /// # Errors
    /// [`RecoveryError::Block`] when an older block is not whole.
    pub fn apply(&self, text: &str) -> Result<String, RecoveryError> {
        let mut text = strip_block(text)?;
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&self.render());
        Ok(text)
    }
}

/// Whether this major has the setting. Knows the ones around recovery that came or went; every
/// other name is taken to be there, extensions' ones included.
#[must_use]
pub fn has_setting(major: MajorVersion, name: &str) -> bool {
    let versioned = VERSIONED.iter().find(|(versioned, ..)| versioned.eq_ignore_ascii_case(name));
    versioned.is_none_or(|(_, since, until)| {
        major.get() >= *since && (*until == 0 || major.get() <= *until)
    })
}

impl RecoveryTarget {
    /// Name and value of the setting, and `recovery_target_inclusive` where it has a meaning.
    fn setting(&self) -> Result<(&'static str, String, Option<bool>), RecoveryError> {
        let refuse = |target: String, reason| Err(RecoveryError::Target { target, reason });
        match self {
            Self::Immediate => Ok(("recovery_target", "immediate".to_owned(), None)),
            Self::Lsn { lsn, inclusive } => {
                Ok(("recovery_target_lsn", lsn.to_string(), Some(*inclusive)))
            }
            Self::Time { time, inclusive } => {
                Ok(("recovery_target_time", time_text(*time), Some(*inclusive)))
            }
            // Only the lower half is compared, and 13 reads no more than that.
            Self::Xid { xid, inclusive } => {
                Ok(("recovery_target_xid", xid.xid().to_string(), Some(*inclusive)))
            }
            // `MAXFNAMELEN - 1`, and an empty name would mean no target at all.
            Self::Name(name) if name.is_empty() || name.len() > 63 => {
                refuse(format!("restore point '{name}'"), "a name has 1 to 63 bytes")
            }
            Self::Name(name) => Ok(("recovery_target_name", name.clone(), None)),
        }
    }
}

impl TargetAction {
    const fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Promote => "promote",
            Self::Shutdown => "shutdown",
        }
    }
}

/// A moment in a form that every PostgreSQL reads alike, whatever its time zone: in UTC, with the
/// offset, in microseconds.
fn time_text(time: Timestamp) -> String {
    time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S%.6f+00").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recovery(target: Option<RecoveryTarget>) -> ArchiveRecovery {
        ArchiveRecovery {
            restore_command: "rollforward wal get %f %p".into(),
            timeline: TargetTimeline::Id(TimelineId::new(26)),
            target,
            action: TargetAction::Promote,
        }
    }

    #[test]
    fn each_target_becomes_its_settings() {
        let check = |target, expect: &str| {
            let mut block = RecoverySettings::new(MajorVersion::V16);
            block.add_recovery(&recovery(target)).unwrap();
            let head = format!(
                "{BEGIN_MARK}\nrestore_command = 'rollforward wal get %f %p'\nrecovery_target_timeline = '26'\n"
            );
            assert_eq!(block.render(), format!("{head}{expect}{END_MARK}\n"));
        };
        check(None, "");
        check(
            Some(RecoveryTarget::Immediate),
            "recovery_target = 'immediate'\nrecovery_target_action = 'promote'\n",
        );
        check(
            Some(RecoveryTarget::Lsn { lsn: Lsn::new(0x500_0028), inclusive: false }),
            "recovery_target_lsn = '0/5000028'\nrecovery_target_inclusive = 'off'\nrecovery_target_action = 'promote'\n",
        );
        check(
            Some(RecoveryTarget::Time {
                time: "2026-11-21T02:14:35.1234567+05:30".parse().unwrap(),
                inclusive: true,
            }),
            "recovery_target_time = '2026-11-20 20:44:35.123456+00'\nrecovery_target_inclusive = 'on'\nrecovery_target_action = 'promote'\n",
        );
        check(
            Some(RecoveryTarget::Xid {
                xid: FullXid::from_epoch_and_xid(2, crate::Xid::new(741)),
                inclusive: true,
            }),
            "recovery_target_xid = '741'\nrecovery_target_inclusive = 'on'\nrecovery_target_action = 'promote'\n",
        );
        check(
            Some(RecoveryTarget::Name("before the 'big' one".into())),
            "recovery_target_name = 'before the ''big'' one'\nrecovery_target_action = 'promote'\n",
        );
    }

    #[test]
    fn refuses_what_postgresql_would_refuse() {
        let mut block = RecoverySettings::new(MajorVersion::V14);
        let mut check = |name: &str, value: &str, expect: &str| {
            assert_eq!(block.add(name, value).unwrap_err().to_string(), expect);
        };
        check("archive_library", "x", "PostgreSQL 14 has no setting 'archive_library'");
        check(
            "Sync_Replication_Slots",
            "on",
            "PostgreSQL 14 has no setting 'Sync_Replication_Slots'",
        );
        check("port ", "1", "expected the name of a setting, seen 'port '");
        check("", "1", "expected the name of a setting, seen ''");
        check("port", "1\n2", "the value of 'port' has a line break or a zero byte");
        let mut add = |target| block.add_recovery(&recovery(Some(target))).unwrap_err().to_string();
        assert_eq!(
            add(RecoveryTarget::Name(String::new())),
            "PostgreSQL cannot stop at restore point '': a name has 1 to 63 bytes"
        );
    }

    #[test]
    fn knows_which_version_has_which_setting() {
        let check = |name, expect: &[u32]| {
            let majors = MajorVersion::SUPPORTED.into_iter().filter(|m| has_setting(*m, name));
            assert_eq!(majors.map(MajorVersion::get).collect::<Vec<_>>(), expect, "{name}");
        };
        check("restore_command", &[14, 15, 16, 17, 18]);
        check("archive_library", &[15, 16, 17, 18]);
        check("promote_trigger_file", &[14, 15]);
        check("summarize_wal", &[17, 18]);
        check("idle_replication_slot_timeout", &[18]);
        check("cron.host", &[14, 15, 16, 17, 18]);
    }

    #[test]
    fn a_later_value_replaces_an_earlier() {
        let mut block = RecoverySettings::new(MajorVersion::V18);
        block.add("port", "1").unwrap();
        block.add("archive_mode", "off").unwrap();
        block.add("PORT", "2").unwrap();
        assert_eq!(
            block.render(),
            format!("{BEGIN_MARK}\narchive_mode = 'off'\nPORT = '2'\n{END_MARK}\n")
        );
    }

    #[test]
    fn a_block_replaces_the_one_before() {
        let block = |port: &str| {
            let mut block = RecoverySettings::new(MajorVersion::V16);
            block.add("port", port).unwrap();
            block
        };
        let first = block("1").apply("a = 1\nb = 2").unwrap();
        assert_eq!(first, format!("a = 1\nb = 2\n{BEGIN_MARK}\nport = '1'\n{END_MARK}\n"));
        let second = block("2").apply(&format!("{first}c = 3\n")).unwrap();
        assert_eq!(second, format!("a = 1\nb = 2\nc = 3\n{BEGIN_MARK}\nport = '2'\n{END_MARK}\n"));
        assert_eq!(block("2").apply(&second).unwrap(), second);
        assert_eq!(block("1").apply("").unwrap(), block("1").render());
    }
}
