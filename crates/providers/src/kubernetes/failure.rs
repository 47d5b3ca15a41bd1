//! What an API server's answers mean for a step.

use kube::Error;
use kube::client::AuthError;
use recovery::effect::Failure;
use recovery::journal::FailureClass;

/// Whether a request could have changed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// It only read.
    Read,
    /// It was to change something.
    Write,
}

/// A failure of a request about `what`.
pub(super) fn failure(error: &Error, request: Request, what: &str) -> Failure {
    let Error::Api(status) = error else { return unanswered(error, request, what) };
    let said = status.message.trim();
    let (class, hint) = match status.code {
        401 => (
            FailureClass::Terminal,
            "the login of the kubeconfig is refused: renew it; then `run retry` when the run waits, \
             or begin a new one when it has ended",
        ),
        403 => (
            FailureClass::Terminal,
            "rights are missing: `rollforward kubernetes rbac SERVICE` prints what is needed",
        ),
        404 => {
            (FailureClass::Terminal, "is the name right, and the cluster the one that is meant?")
        }
        // Somebody else changed it in between: read again, decide again.
        409 => (FailureClass::Retry, "somebody else changes it at the same time"),
        422 | 400 | 415 => {
            (FailureClass::Terminal, "the API server refuses the change itself: see its words")
        }
        429 => (FailureClass::Retry, "the API server is busy"),
        _ if request == Request::Read => (FailureClass::Retry, "the API server is in trouble"),
        _ => (FailureClass::Ambiguous, "the API server is in trouble"),
    };
    Failure::new(class, "RF1120", format!("{what}: {} {}: {said}", status.code, status.reason))
        .hint(hint)
}

/// What an error says; of a login program only how it ended: its arguments, variables and words
/// may hold secrets.
pub(super) fn said(error: &Error) -> String {
    let Error::Auth(auth) = error else { return error.to_string() };
    match auth {
        AuthError::AuthExecRun { out, .. } => {
            format!("the login program of the kubeconfig ended with {}", out.status)
        }
        AuthError::AuthExecStart(error) => {
            format!("the login program of the kubeconfig cannot be started: {error}")
        }
        AuthError::ReadTokenFile(error, path) => {
            format!("the token file '{}' cannot be read: {error}", path.display())
        }
        _ => "the login of the kubeconfig yields no credential".into(),
    }
}

fn unanswered(error: &Error, request: Request, what: &str) -> Failure {
    let mut text = said(error);
    let is_login = matches!(error, Error::Auth(_));
    let mut cause = std::error::Error::source(error).filter(|_| !is_login);
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    let class = match (request, error) {
        (_, Error::Auth(_) | Error::InferKubeconfig(_) | Error::InferConfig(_)) => {
            FailureClass::Terminal
        }
        (_, Error::BuildRequest(_) | Error::TlsRequired) => FailureClass::Terminal,
        (Request::Read, _) => FailureClass::Retry,
        (Request::Write, _) => FailureClass::Ambiguous,
    };
    Failure::new(class, "RF1121", format!("{what}: no answer of the API server: {text}"))
        .hint("does it answer? `kubectl version`")
}

/// No answer in time.
pub(super) fn late(request: Request, what: &str, seconds: u64) -> Failure {
    let class = match request {
        Request::Read => FailureClass::Retry,
        Request::Write => FailureClass::Ambiguous,
    };
    Failure::new(class, "RF1121", format!("{what}: no answer of the API server in {seconds} s"))
}

/// The failure says that the login does not count, or no more.
pub(super) fn is_login_refused(failure: &Failure) -> bool {
    failure.code == "RF1120" && failure.message.contains(": 401 ")
}

/// The failure says that there is no such object.
pub(super) fn is_gone(failure: &Failure) -> bool {
    failure.code == "RF1120" && failure.message.contains(": 404 ")
}

/// The failure says that a right is missing.
pub(super) fn is_forbidden(failure: &Failure) -> bool {
    failure.code == "RF1120" && failure.message.contains(": 403 ")
}

/// The error says that there is no such object, or no such kind.
pub(super) fn is_absent(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 404)
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn class(code: u16, request: Request) -> FailureClass {
        let status = Status::failure("no", "Because").with_code(code);
        failure(&Error::Api(Box::new(status)), request, "apply ConfigMap a").class
    }

    #[test]
    fn a_login_program_that_fails_takes_its_secrets_with_it() {
        let output = std::process::Output {
            status: std::os::unix::process::ExitStatusExt::from_raw(256),
            stdout: b"pl4nted".to_vec(),
            stderr: b"pl4nted".to_vec(),
        };
        let cmd = "kubelogin --client-secret=pl4nted".to_owned();
        let error = Error::Auth(AuthError::AuthExecRun { cmd, out: Box::new(output) });
        let text = failure(&error, Request::Read, "look").message + &said(&error);
        assert!(text.contains("ended with exit status: 1") && !text.contains("pl4nted"), "{text}");
    }

    #[test]
    fn an_answer_says_whether_another_try_makes_sense() {
        use FailureClass::{Ambiguous, Retry, Terminal};
        for code in [401, 403, 404, 422] {
            assert_eq!(class(code, Request::Read), Terminal, "{code}");
            assert_eq!(class(code, Request::Write), Terminal, "{code}");
        }
        for code in [409, 429] {
            assert_eq!(class(code, Request::Write), Retry, "{code}");
        }
        for code in [500, 503, 504] {
            assert_eq!(class(code, Request::Read), Retry, "{code}");
            assert_eq!(class(code, Request::Write), Ambiguous, "{code}");
        }
    }

    #[test]
    fn what_was_asked_and_what_was_said_stand_in_the_message() {
        let status = Status::failure("immutable", "Invalid").with_code(422);
        let seen = failure(&Error::Api(Box::new(status)), Request::Write, "apply ConfigMap a");
        assert_eq!(seen.message, "apply ConfigMap a: 422 Invalid: immutable");
    }
}
