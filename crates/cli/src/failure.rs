//! How an error reaches the operator: code, what happened, why, what to do next.

use std::fmt::Write as _;
use std::process::ExitCode;

use stdx::Diagnostic;
use stdx::diagnostic::CodeInfo;

use crate::output::Printer;

/// A mistake in how a command was called, or a refusal of the command line itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The request contradicts itself or lacks something.
    #[error("{0}")]
    Usage(String),
    /// Refused for safety; the hint says what would make it possible.
    #[error("{what}")]
    Refused {
        /// What was refused and why.
        what: String,
        /// The operator's next move.
        hint: String,
    },
    /// A program or a server of this machine did not do what was asked.
    #[error("{what}")]
    Failed {
        /// What was expected and what was seen.
        what: String,
        /// The operator's next move.
        hint: String,
    },
}

const USAGE: CodeInfo = CodeInfo {
    code: "RF0911",
    title: "the command was called in a way that means nothing",
    retry: stdx::Retry::Permanent,
    exit: stdx::Exit::Usage,
};
const REFUSED: CodeInfo = CodeInfo {
    code: "RF0912",
    title: "refused for safety",
    retry: stdx::Retry::Permanent,
    exit: stdx::Exit::Refused,
};
const FAILED: CodeInfo = CodeInfo {
    code: "RF0913",
    title: "a step on this machine failed",
    retry: stdx::Retry::Permanent,
    exit: stdx::Exit::Failed,
};

/// The user-facing errors of the command line itself.
pub(crate) const CODES: &[CodeInfo] = &[USAGE, REFUSED, FAILED];

impl Diagnostic for Error {
    fn info(&self) -> &'static CodeInfo {
        match self {
            Self::Usage(_) => &USAGE,
            Self::Refused { .. } => &REFUSED,
            Self::Failed { .. } => &FAILED,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Usage(_) => vec!["`rollforward --help` and `rollforward COMMAND --help`".into()],
            Self::Refused { hint, .. } | Self::Failed { hint, .. } => vec![hint.clone()],
        }
    }
}

/// The declared error inside a chain, if there is one: the outermost wins.
pub(crate) fn diagnostic(error: &anyhow::Error) -> Option<&dyn Diagnostic> {
    error.chain().find_map(|cause| {
        let mut found: Option<&dyn Diagnostic> = None;
        macro_rules! any_of {
            ($($type:ty),*) => {
                $(if let Some(error) = cause.downcast_ref::<$type>() {
                    found = found.or(Some(error));
                })*
            };
        }
        any_of!(
            Error,
            crate::config::Error,
            archive::Error,
            backup::dump::DumpError,
            backup::Error,
            restore::Error,
            pgclient::Error,
            repository::Error,
            recovery::alert::AlertError,
            recovery::journal::HomeError,
            recovery::runner::RunError,
            store::prove::ProofError,
            store::Error
        );
        found
    })
}

/// Prints an error and says how the process ends.
pub(crate) fn report(error: &anyhow::Error, printer: &Printer) -> ExitCode {
    let declared = diagnostic(error);
    let causes: Vec<String> = distinct(error);
    let hints = declared.map(Diagnostic::hints).unwrap_or_default();
    let code = declared.map(|declared| declared.info().code);
    if printer.is_json() {
        printer.document(&serde_json::json!({
            "error": { "code": code, "message": causes.first(), "causes": causes.get(1..), "hints": hints }
        }));
    }
    printer.error_text(&render(code, &causes, &hints));
    ExitCode::from(declared.map_or(1, |declared| declared.info().exit.code()))
}

/// The chain's sentences; a wrapper that only repeats its source is left out.
fn distinct(error: &anyhow::Error) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        if causes.last() != Some(&cause) {
            causes.push(cause);
        }
    }
    causes
}

fn render(code: Option<&str>, causes: &[String], hints: &[String]) -> String {
    let mut text = match code {
        Some(code) => format!("error[{code}]: "),
        None => "error: ".into(),
    };
    text.push_str(causes.first().map_or("unknown", String::as_str));
    for cause in causes.iter().skip(1) {
        let _ = write!(text, "\n  because: {cause}");
    }
    for hint in hints {
        let _ = write!(text, "\nhint: {hint}");
    }
    let explain = code.map(|code| format!("`rollforward explain {code}`"));
    if let Some(explain) = explain.filter(|explain| !hints.contains(explain)) {
        let _ = write!(text, "\nhint: {explain}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Error, diagnostic, distinct, render};

    #[test]
    fn prints_code_causes_and_the_next_move() {
        let error = anyhow::Error::new(Error::Refused {
            what: "directory '/data' is not empty".into(),
            hint: "name an empty directory".into(),
        })
        .context("restore cluster 'shop'");
        let declared = diagnostic(&error).unwrap();
        assert_eq!(
            render(Some(declared.info().code), &distinct(&error), &declared.hints()),
            "error[RF0912]: restore cluster 'shop'\n  because: directory '/data' is not empty\n\
             hint: name an empty directory\nhint: `rollforward explain RF0912`"
        );
    }
}
