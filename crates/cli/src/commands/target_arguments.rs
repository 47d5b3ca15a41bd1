//! The recovery target on a command line.

use jiff::Timestamp;
use pg::{FullXid, Lsn, TimelineId};
use repository::Label;
use repository::target::{Request, Target};

use crate::failure::Error;

/// Where a recovery is to end; at most one. Without any: at the end of the WAL there is.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct TargetArguments {
    /// The end of the archived WAL (the default)
    #[arg(long, group = "target")]
    pub(crate) latest: bool,
    /// Where the backup becomes consistent
    #[arg(long, group = "target")]
    pub(crate) immediate: bool,
    /// A moment, RFC 3339 with offset: 2026-11-20T14:31:06+01:00
    #[arg(long, group = "target", value_name = "TIME", value_parser = parse_time)]
    pub(crate) target_time: Option<Timestamp>,
    /// A position, as PostgreSQL writes it: 0/5000028
    #[arg(long, group = "target", value_name = "LSN")]
    pub(crate) target_lsn: Option<Lsn>,
    /// A transaction
    #[arg(long, group = "target", value_name = "XID")]
    pub(crate) target_xid: Option<u64>,
    /// A restore point
    #[arg(long, group = "target", value_name = "NAME")]
    pub(crate) target_name: Option<String>,
    /// Just before the record at this position, as `locate` proposes it
    #[arg(long, group = "target", value_name = "LSN")]
    pub(crate) before: Option<Lsn>,
    /// Stop before the target's own record instead of after it
    #[arg(long)]
    pub(crate) exclusive: bool,
    /// The timeline to end on [default: the cluster's current one]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) timeline: Option<u32>,
    /// Start from this backup [default: the one that needs the least WAL]
    #[arg(long, value_name = "LABEL")]
    pub(crate) backup: Option<Label>,
}

impl TargetArguments {
    /// Whether any target was named.
    pub(crate) fn is_named(&self) -> bool {
        self.latest || self.immediate || self.named().is_some()
    }

    fn named(&self) -> Option<Target> {
        let time = self.target_time.map(Target::Time);
        let lsn = self.target_lsn.map(Target::Lsn);
        let xid = self.target_xid.map(|xid| Target::Xid(FullXid::new(xid)));
        let name = self.target_name.clone().map(Target::Name);
        time.or(lsn).or(xid).or(name).or(self.before.map(Target::BeforeRecord))
    }

    /// The request for the resolver.
    pub(crate) fn request(&self) -> Request {
        let target = match self.named() {
            Some(target) => target,
            None if self.immediate => Target::Immediate,
            None => Target::Latest,
        };
        Request {
            inclusive: !self.exclusive,
            backup: self.backup.clone(),
            timeline: self.timeline.map(TimelineId::new),
            ..Request::new(target)
        }
    }
}

/// A moment with its offset. One without is refused: nobody knows whose clock was meant.
pub(crate) fn parse_time(text: &str) -> Result<Timestamp, Error> {
    text.parse().map_err(|_| {
        Error::Usage(format!(
            "expected a time with its offset from UTC, like 2026-11-20T14:31:06+01:00 or …Z, seen '{text}'"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::parse_time;

    #[test]
    fn a_time_without_its_offset_is_refused() {
        assert!(parse_time("2026-11-20T14:31:06+01:00").is_ok());
        assert!(parse_time("2026-11-20 14:31:06.123456-05").is_ok());
        assert!(parse_time("2026-11-20T14:31:06Z").is_ok());
        for naive in ["2026-11-20T14:31:06", "2026-11-20 14:31", "14:31", "yesterday", ""] {
            assert!(parse_time(naive).is_err(), "{naive}");
        }
    }
}
