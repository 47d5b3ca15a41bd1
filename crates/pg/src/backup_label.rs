//! The two small files that `pg_backup_stop` returns: `backup_label` and `tablespace_map`.
//!
//! They are stored and restored byte for byte; what is decoded here is for decisions only.

use crate::segment::SegmentName;
use crate::{Lsn, Oid, TimelineId};

/// The name of the label in the data directory. PostgreSQL: `BACKUP_LABEL_FILE`.
pub const BACKUP_LABEL_FILE: &str = "backup_label";

/// The name of the map in the data directory. PostgreSQL: `TABLESPACE_MAP`.
pub const TABLESPACE_MAP_FILE: &str = "tablespace_map";

/// From where recovery of a backup starts.
///
/// PostgreSQL: `build_backup_content`, src/backend/access/transam/xlogbackup.c;
/// `read_backup_label`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupLabel {
    /// The redo position: WAL is needed from here on.
    pub start_lsn: Lsn,
    /// The segment that holds it, as named in the label.
    pub start_segment: SegmentName,
    /// Where the backup's checkpoint record starts.
    pub checkpoint_lsn: Lsn,
    /// `streamed` since the exclusive mode is gone; `pg_start_backup` for an exclusive one (until
    /// 14).
    pub method: String,
    /// Where it was taken.
    pub from: BackupSource,
    /// When it began, in the server's `log_timezone`, as PostgreSQL prints it: with an abbreviated
    /// zone, therefore not a moment to compute with.
    pub start_time: String,
    /// The label given to `pg_backup_start`.
    pub label: String,
    /// The timeline it began on.
    pub start_timeline: TimelineId,
    /// The start of the backup this one builds on; only for PostgreSQL's own incremental backups
    /// (17+).
    pub incremental_from: Option<(Lsn, TimelineId)>,
}

/// Where a backup was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupSource {
    /// A primary (`master` before PostgreSQL 14).
    Primary,
    /// A standby: recovery must reach the `minRecoveryPoint` of its `pg_control`.
    Standby,
}

/// The text is no `backup_label`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackupLabelError {
    /// A field is missing.
    #[error("no line '{field}' in 'backup_label'")]
    Missing {
        /// The field's name in the file.
        field: &'static str,
    },
    /// A line that is no known field, one that stands there twice, or one with another content.
    #[error("unexpected line {line} in 'backup_label': '{seen}'")]
    Line {
        /// The line, counted from 1.
        line: usize,
        /// Its content.
        seen: String,
    },
}

const START_WAL: &str = "START WAL LOCATION";
const CHECKPOINT: &str = "CHECKPOINT LOCATION";
const METHOD: &str = "BACKUP METHOD";
const FROM: &str = "BACKUP FROM";
const START_TIME: &str = "START TIME";
const LABEL: &str = "LABEL";
const START_TIMELINE: &str = "START TIMELINE";
const INCREMENTAL_LSN: &str = "INCREMENTAL FROM LSN";
const INCREMENTAL_TLI: &str = "INCREMENTAL FROM TLI";

/// The fields found so far.
#[derive(Default)]
struct Fields {
    start: Option<(Lsn, SegmentName)>,
    checkpoint: Option<Lsn>,
    method: Option<String>,
    from: Option<BackupSource>,
    start_time: Option<String>,
    label: Option<String>,
    start_timeline: Option<TimelineId>,
    incremental_lsn: Option<Lsn>,
    incremental_timeline: Option<TimelineId>,
}

impl BackupLabel {
    /// Reads the text that `pg_backup_stop` returned as label file.
    ///
    /// # Errors
    /// [`BackupLabelError`] when a field is missing, stands twice or is not in PostgreSQL's form,
    /// and for unknown lines: a label that is not understood must not start a recovery.
    pub fn parse(text: &str) -> Result<Self, BackupLabelError> {
        let mut fields = Fields::default();
        for (index, line) in text.lines().enumerate() {
            if fields.take(line).is_none() {
                return Err(BackupLabelError::Line { line: index + 1, seen: line.to_owned() });
            }
        }
        fields.finish()
    }
}

impl Fields {
    fn take(&mut self, line: &str) -> Option<()> {
        let (field, value) =
            line.split_once(": ").or_else(|| Some((line.strip_suffix(':')?, "")))?;
        match field {
            START_WAL => {
                let (lsn, file) = value.split_once(" (file ")?;
                let file = SegmentName::parse(file.strip_suffix(')')?)?;
                once(&mut self.start, (lsn.parse().ok()?, file))
            }
            CHECKPOINT => once(&mut self.checkpoint, value.parse().ok()?),
            METHOD => once(&mut self.method, value.to_owned()),
            FROM => once(&mut self.from, source(value)?),
            START_TIME => once(&mut self.start_time, value.to_owned()),
            LABEL => once(&mut self.label, value.to_owned()),
            START_TIMELINE => once(&mut self.start_timeline, timeline(value)?),
            INCREMENTAL_LSN => once(&mut self.incremental_lsn, value.parse().ok()?),
            INCREMENTAL_TLI => once(&mut self.incremental_timeline, timeline(value)?),
            _ => None,
        }
    }

    fn finish(self) -> Result<BackupLabel, BackupLabelError> {
        let (start_lsn, start_segment) = need(START_WAL, self.start)?;
        let incremental_from = match (self.incremental_lsn, self.incremental_timeline) {
            (None, None) => None,
            (lsn, timeline) => {
                Some((need(INCREMENTAL_LSN, lsn)?, need(INCREMENTAL_TLI, timeline)?))
            }
        };
        Ok(BackupLabel {
            start_lsn,
            start_segment,
            checkpoint_lsn: need(CHECKPOINT, self.checkpoint)?,
            method: need(METHOD, self.method)?,
            from: need(FROM, self.from)?,
            start_time: need(START_TIME, self.start_time)?,
            label: need(LABEL, self.label)?,
            start_timeline: need(START_TIMELINE, self.start_timeline)?,
            incremental_from,
        })
    }
}

/// Fills the place; `None` when it was filled before.
fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

fn need<T>(field: &'static str, value: Option<T>) -> Result<T, BackupLabelError> {
    value.ok_or(BackupLabelError::Missing { field })
}

fn source(text: &str) -> Option<BackupSource> {
    match text {
        "primary" | "master" => Some(BackupSource::Primary),
        "standby" => Some(BackupSource::Standby),
        _ => None,
    }
}

fn timeline(text: &str) -> Option<TimelineId> {
    text.parse().ok().filter(|id| *id != 0).map(TimelineId::new)
}

/// Where the tablespaces of a backup were: the links to make in `pg_tblspc`.
///
/// PostgreSQL: written by `do_pg_backup_start`, read by `read_tablespace_map`,
/// src/backend/access/transam/xlogrecovery.c.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TablespaceMap {
    /// Oid and path of each, in the order of the file.
    pub entries: Vec<(Oid, String)>,
}

/// The text is no `tablespace_map`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TablespaceMapError {
    /// An entry is not an oid, a space and a path.
    #[error("expected an oid and a path in entry {entry} of 'tablespace_map', seen '{seen}'")]
    Entry {
        /// The entry, counted from 1.
        entry: usize,
        /// Its content with the escapes undone.
        seen: String,
    },
    /// The file does not end with a line break: it was cut off.
    #[error("'tablespace_map' is cut off after entry {entries}")]
    CutOff {
        /// How many whole entries there are.
        entries: usize,
    },
}

impl TablespaceMap {
    /// Reads the text that `pg_backup_stop` returned as tablespace map; empty when there are none.
    ///
    /// # Errors
    /// [`TablespaceMapError`] where PostgreSQL would refuse the file, too.
    pub fn parse(text: &str) -> Result<Self, TablespaceMapError> {
        let mut entries = Vec::new();
        let mut line = String::new();
        let mut escaped = false;
        for character in text.chars() {
            match character {
                '\n' | '\r' if !escaped => {
                    if !line.is_empty() {
                        entries.push(entry(entries.len() + 1, &line)?);
                    }
                    line.clear();
                }
                '\\' if !escaped => escaped = true,
                _ => {
                    line.push(character);
                    escaped = false;
                }
            }
        }
        if line.is_empty() && !escaped {
            Ok(Self { entries })
        } else {
            Err(TablespaceMapError::CutOff { entries: entries.len() })
        }
    }

    /// The file's content: an entry per line; backslashes and line breaks in paths are escaped by a
    /// backslash.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (oid, path) in &self.entries {
            text.push_str(&oid.to_string());
            text.push(' ');
            for character in path.chars() {
                if matches!(character, '\n' | '\r' | '\\') {
                    text.push('\\');
                }
                text.push(character);
            }
            text.push('\n');
        }
        text
    }
}

fn entry(number: usize, line: &str) -> Result<(Oid, String), TablespaceMapError> {
    line.split_once(' ')
        .filter(|(oid, path)| !path.is_empty() && oid.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|(oid, path)| Some((Oid::new(oid.parse().ok()?), path.to_owned())))
        .filter(|(oid, _)| *oid != Oid::INVALID)
        .ok_or_else(|| TablespaceMapError::Entry { entry: number, seen: line.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "\
START WAL LOCATION: 0/9000028 (file 000000010000000000000009)
CHECKPOINT LOCATION: 0/9000060
BACKUP METHOD: streamed
BACKUP FROM: primary
START TIME: 2026-11-21 02:14:35 UTC
LABEL: nightly: the full one
START TIMELINE: 1
";

    #[test]
    fn reads_a_label() {
        let label = BackupLabel::parse(GOOD).unwrap();
        assert_eq!(label.start_lsn.to_string(), "0/9000028");
        assert_eq!(label.start_segment.to_string(), "000000010000000000000009");
        assert_eq!(label.checkpoint_lsn.to_string(), "0/9000060");
        assert_eq!((label.method.as_str(), label.from), ("streamed", BackupSource::Primary));
        assert_eq!(label.start_time, "2026-11-21 02:14:35 UTC");
        assert_eq!(label.label, "nightly: the full one");
        assert_eq!(label.start_timeline, TimelineId::new(1));
        assert_eq!(label.incremental_from, None);
    }

    #[test]
    fn reads_what_other_versions_and_sources_write() {
        let parse = |from: &str, to: &str| BackupLabel::parse(&GOOD.replace(from, to)).unwrap();
        assert_eq!(parse("primary", "standby").from, BackupSource::Standby);
        assert_eq!(parse("primary", "master").from, BackupSource::Primary);
        assert_eq!(parse("nightly: the full one", "").label, "");
        let text = format!("{GOOD}INCREMENTAL FROM LSN: 0/5000028\nINCREMENTAL FROM TLI: 1\n");
        let from = BackupLabel::parse(&text).unwrap().incremental_from;
        assert_eq!(from, Some((Lsn::new(0x0500_0028), TimelineId::new(1))));
    }

    #[test]
    fn refuses_labels_it_does_not_understand() {
        let check = |text: &str, expect: &str| {
            assert_eq!(BackupLabel::parse(text).unwrap_err().to_string(), expect);
        };
        check("", "no line 'START WAL LOCATION' in 'backup_label'");
        check(
            &GOOD.replace("START TIMELINE: 1\n", ""),
            "no line 'START TIMELINE' in 'backup_label'",
        );
        check(
            &format!("{GOOD}STOP WAL LOCATION: 0/1\n"),
            "unexpected line 8 in 'backup_label': 'STOP WAL LOCATION: 0/1'",
        );
        check(
            &format!("{GOOD}START TIMELINE: 2\n"),
            "unexpected line 8 in 'backup_label': 'START TIMELINE: 2'",
        );
        check(
            &GOOD.replace("0/9000060", "09000060"),
            "unexpected line 2 in 'backup_label': 'CHECKPOINT LOCATION: 09000060'",
        );
        check(
            &GOOD.replace("primary", "somewhere"),
            "unexpected line 4 in 'backup_label': 'BACKUP FROM: somewhere'",
        );
        check(
            &format!("{GOOD}INCREMENTAL FROM TLI: 1\n"),
            "no line 'INCREMENTAL FROM LSN' in 'backup_label'",
        );
    }

    #[test]
    fn reads_a_map() {
        let check = |text: &str, expect: &[(u32, &str)]| {
            let map = TablespaceMap::parse(text).unwrap();
            let expect: Vec<_> =
                expect.iter().map(|(oid, path)| (Oid::new(*oid), (*path).to_owned())).collect();
            assert_eq!(map.entries, expect);
        };
        check("", &[]);
        check(
            "16384 /srv/fast disk\n16385 /srv/b\r\n",
            &[(16384, "/srv/fast disk"), (16385, "/srv/b")],
        );
        check("1 /a\\\nb\\\\c\\\rd\n", &[(1, "/a\nb\\c\rd")]);
    }

    #[test]
    fn refuses_damaged_maps() {
        for bad in [
            "16384 /srv",
            "16384\n",
            "16384 \n",
            " /srv\n",
            "x /srv\n",
            "+1 /a\n",
            "0 /a\n",
            "1 /a\\\n",
        ] {
            assert!(TablespaceMap::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn rendered_maps_are_read_back(entries in proptest::collection::vec((1u32.., "(?s).{1,30}"), 0..5)) {
            let entries = entries.into_iter().map(|(oid, path)| (Oid::new(oid), path)).collect();
            let map = TablespaceMap { entries };
            prop_assert_eq!(TablespaceMap::parse(&map.render()), Ok(map));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(?s).*") {
            let _ = TablespaceMap::parse(&text);
            let _ = BackupLabel::parse(&text);
        }

        #[test]
        fn any_change_of_a_label_is_read_or_refused(at in 0..GOOD.len(), with in "(?s).{0,3}") {
            let mut text = GOOD.to_owned();
            text.replace_range(at..=at, &with);
            let _ = BackupLabel::parse(&text);
        }
    }
}
