//! What a restore command found, and how it has to end for PostgreSQL to understand it.

use crate::error::Error;

/// What a restore command found.
#[derive(Debug)]
#[must_use]
pub enum Verdict {
    /// The file lies at its destination, complete.
    Delivered,
    /// There is no such file, and recovery may end here.
    Absent,
    /// Anything else: recovery must not go on, and above all must not end.
    Failed(Error),
}

/// How the process has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With status 0: PostgreSQL replays the file.
    Zero,
    /// With status 1: PostgreSQL takes it that the archive ends here, and may promote.
    One,
    /// By SIGABRT (`std::process::abort`): PostgreSQL stops. No exit status does that on every
    /// version: up to 125 all mean "absent".
    Abort,
}

/// How the process has to end for this verdict.
///
/// PostgreSQL: `RestoreArchivedFile`, src/backend/access/transam/xlogarchive.c;
/// `wait_result_is_any_signal`, src/common/wait_error.c.
#[must_use]
pub const fn exit_of(verdict: &Verdict) -> Exit {
    match verdict {
        Verdict::Delivered => Exit::Zero,
        Verdict::Absent => Exit::One,
        Verdict::Failed(_) => Exit::Abort,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_proved_absence_ends_recovery() {
        assert_eq!(exit_of(&Verdict::Delivered), Exit::Zero);
        assert_eq!(exit_of(&Verdict::Absent), Exit::One);
        let held = Error::Held { name: "x".into() };
        assert_eq!(exit_of(&Verdict::Failed(held)), Exit::Abort);
    }
}
