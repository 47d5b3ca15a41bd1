//! The user-facing errors of runs: codes, hints, exits.

use stdx::diagnostic::{CodeInfo, Diagnostic, Exit, Retry};

use crate::journal::HomeError;
use crate::runner::RunError;

const fn code(code: &'static str, title: &'static str, retry: Retry, exit: Exit) -> CodeInfo {
    CodeInfo { code, title, retry, exit }
}

const BUG: CodeInfo = code(
    "RF1001",
    "a step lacks something that its plan should hold",
    Retry::Permanent,
    Exit::Failed,
);
const FACT: CodeInfo =
    code("RF1002", "no step before found what this one needs", Retry::Permanent, Exit::Failed);
const LOST: CodeInfo = code("RF1003", "another driver has the run", Retry::Permanent, Exit::Busy);
const UNREACHABLE: CodeInfo =
    code("RF1004", "the journal of a run cannot be reached", Retry::Retry, Exit::Failed);
const DAMAGED: CodeInfo =
    code("RF1005", "the journal of a run is damaged", Retry::Permanent, Exit::Failed);
const NEWER: CodeInfo =
    code("RF1006", "the run was driven by a newer version", Retry::Permanent, Exit::Refused);
const NO_RUN: CodeInfo = code("RF1007", "there is no such run", Retry::Permanent, Exit::Usage);
const NOT_HERE: CodeInfo =
    code("RF1008", "a step cannot be performed on this host", Retry::Permanent, Exit::Refused);
const FOREIGN: CodeInfo =
    code("RF1010", "something that is not ours is in the way", Retry::Permanent, Exit::Failed);
const UNCLEAR: CodeInfo =
    code("RF1011", "what is there cannot be told", Retry::Retry, Exit::Failed);
const TIMEOUT: CodeInfo =
    code("RF1012", "a step did not answer in its time", Retry::Retry, Exit::Failed);
const VANISHED: CodeInfo =
    code("RF1013", "what was under way is not there any more", Retry::Retry, Exit::Failed);
const STUCK: CodeInfo = code("RF1014", "a step does not move", Retry::Permanent, Exit::Failed);
const HALF: CodeInfo = code("RF1015", "a step was done by half", Retry::Permanent, Exit::Failed);

/// The user-facing errors of this crate; those of steps stand in journals and reports.
pub const CODES: &[CodeInfo] = &[
    BUG,
    FACT,
    LOST,
    UNREACHABLE,
    DAMAGED,
    NEWER,
    NO_RUN,
    NOT_HERE,
    FOREIGN,
    UNCLEAR,
    TIMEOUT,
    VANISHED,
    STUCK,
    HALF,
    crate::alert::UNREADABLE,
    crate::alert::UNSIGNED,
];

impl Diagnostic for HomeError {
    fn info(&self) -> &'static CodeInfo {
        match self {
            Self::Lost { .. } => &LOST,
            Self::Unreachable { .. } => &UNREACHABLE,
            Self::Damaged { .. } => &DAMAGED,
            Self::Newer { .. } => &NEWER,
            Self::NoRun { .. } => &NO_RUN,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Lost { run, .. } => {
                vec![format!("`rollforward run show {run}` says what goes on")]
            }
            Self::Unreachable { run, .. } => vec![format!(
                "nothing new was begun; when it answers again: `rollforward run resume {run}`"
            )],
            Self::Damaged { .. } => {
                vec!["the copies of the journal hold the same bytes: see the guide".into()]
            }
            Self::Newer { .. } => {
                vec!["drive it with the version that began it, or a later one".into()]
            }
            Self::NoRun { .. } => {
                vec!["`rollforward runs` and `rollforward incident list` list them".into()]
            }
        }
    }
}

impl Diagnostic for RunError {
    fn info(&self) -> &'static CodeInfo {
        match self {
            Self::Journal(error) => error.info(),
            Self::Apply(_) => &DAMAGED,
            Self::NoProvider { .. } | Self::OtherHost { .. } => &NOT_HERE,
            Self::Died(_) | Self::NoStep(_) => &BUG,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Journal(error) => error.hints(),
            Self::OtherHost { host, .. } => {
                vec![format!("go on there: `rollforward run takeover` on '{host}'")]
            }
            Self::NoProvider { .. } => {
                vec![
                    "follow the runbook by hand from that step on; it stands beside the journal"
                        .into(),
                ]
            }
            Self::Apply(_) | Self::Died(_) | Self::NoStep(_) => {
                vec!["keep the journal: it tells what happened".into()]
            }
        }
    }
}
