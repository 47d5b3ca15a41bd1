//! What an error owes its reader: a stable code, what to do next, whether trying again can help.
//!
//! Each crate declares its codes in a table beside its error type (`CODES`) and implements
//! [`Diagnostic`]; the binary collects the tables, prints `error[RF0107]: …` with the hints, and
//! shows the page of a code with `rollforward explain`.

use std::fmt;

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same call fails again until a person changes something.
    Permanent,
    /// The same call may succeed at once or soon; repeat with back-off.
    Retry,
    /// Something has to happen first (another process ends, WAL arrives); wait for it.
    Wait,
}

/// The process's exit code that belongs to an error (design: command line contract).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 1: it was tried and failed.
    Failed,
    /// 2: the request itself is wrong.
    Usage,
    /// 3: it worked and found a problem.
    Found,
    /// 4: refused by policy or for safety.
    Refused,
    /// 8: another process has it.
    Busy,
}

impl Exit {
    /// The number the process ends with.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Found => 3,
            Self::Refused => 4,
            Self::Busy => 8,
        }
    }
}

/// One user-facing error, declared once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeInfo {
    /// `RF` and four digits; never reused, never renumbered.
    pub code: &'static str,
    /// One line, lower case, what happened in general.
    pub title: &'static str,
    /// Whether trying again can help.
    pub retry: Retry,
    /// How the process ends.
    pub exit: Exit,
}

impl fmt::Display for CodeInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)
    }
}

/// An error that a user sees.
pub trait Diagnostic: std::error::Error {
    /// The declared error this one is an instance of.
    fn info(&self) -> &'static CodeInfo;

    /// The operator's next moves, one sentence each, most useful first.
    fn hints(&self) -> Vec<String> {
        Vec::new()
    }
}
