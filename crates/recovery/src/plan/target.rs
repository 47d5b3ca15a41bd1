//! Where the data shall be taken from.

use std::fmt;

/// A target, as the operator means it. Positions and times are text that the repository parses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Just before the record at this position.
    Before(String),
    /// The last commit at or before this time (RFC 3339).
    Time(String),
    /// This position, inclusive.
    Lsn(String),
    /// This transaction, inclusive.
    Xid(String),
    /// This restore point.
    Name(String),
    /// As far as there is WAL.
    Latest,
    /// As soon as the backup is consistent.
    Immediate,
    /// A snapshot, by its id.
    Snapshot(String),
    /// A logical dump, by its label.
    Dump(String),
}

impl Target {
    /// Kind and value, as they are stored.
    #[must_use]
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Before(lsn) => ("before", lsn),
            Self::Time(time) => ("time", time),
            Self::Lsn(lsn) => ("lsn", lsn),
            Self::Xid(xid) => ("xid", xid),
            Self::Name(name) => ("name", name),
            Self::Latest => ("latest", ""),
            Self::Immediate => ("immediate", ""),
            Self::Snapshot(id) => ("snapshot", id),
            Self::Dump(label) => ("dump", label),
        }
    }

    /// The target of that kind and value.
    #[must_use]
    pub fn from_parts(kind: &str, value: &str) -> Option<Self> {
        let value = value.to_owned();
        Some(match kind {
            "before" => Self::Before(value),
            "time" => Self::Time(value),
            "lsn" => Self::Lsn(value),
            "xid" => Self::Xid(value),
            "name" => Self::Name(value),
            "latest" => Self::Latest,
            "immediate" => Self::Immediate,
            "snapshot" => Self::Snapshot(value),
            "dump" => Self::Dump(value),
            _ => return None,
        })
    }

    /// The options of `rollforward restore` that mean it.
    #[must_use]
    pub fn options(&self) -> Vec<String> {
        let (kind, value) = self.parts();
        let option = match kind {
            "before" => "--before",
            "time" => "--target-time",
            "lsn" => "--target-lsn",
            "xid" => "--target-xid",
            "name" => "--target-name",
            "latest" => return vec!["--latest".into()],
            "immediate" => return vec!["--immediate".into()],
            _ => return Vec::new(),
        };
        vec![option.into(), value.into()]
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Before(lsn) => write!(f, "before the record at {lsn}"),
            Self::Time(time) => write!(f, "time {time}"),
            Self::Lsn(lsn) => write!(f, "position {lsn}"),
            Self::Xid(xid) => write!(f, "transaction {xid}"),
            Self::Name(name) => write!(f, "restore point '{name}'"),
            Self::Latest => f.write_str("the end of the WAL"),
            Self::Immediate => f.write_str("the first consistent point"),
            Self::Snapshot(id) => write!(f, "snapshot '{id}'"),
            Self::Dump(label) => write!(f, "dump '{label}'"),
        }
    }
}
