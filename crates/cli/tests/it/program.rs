//! Running the program, and what came of it.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Output};

use serde_json::Value;
use testbed::{as_postgres, binary};

/// The variables that would change what the program does, on a developer's machine.
const FOREIGN_VARIABLES: [&str; 8] = [
    "ROLLFORWARD_CONFIG",
    "ROLLFORWARD_LOG",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
];

/// The program, to be run as user `postgres`.
pub(crate) fn program() -> Command {
    let mut command = program_as_root();
    as_postgres(&mut command);
    command
}

/// The program, to be run as the test's own user.
pub(crate) fn program_as_root() -> Command {
    let mut command = Command::new(binary("rollforward"));
    for name in FOREIGN_VARIABLES {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C.UTF-8").stdin(std::process::Stdio::null());
    command
}

/// What a run of the program ended with.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) words: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Runs it to its end.
    pub(crate) fn of(command: &mut Command) -> Self {
        let words = format!("{command:?}");
        let output = command.output().expect("run rollforward");
        Self::from_output(words, &output)
    }

    /// What `output` of `words` says.
    pub(crate) fn from_output(words: String, output: &Output) -> Self {
        Self {
            words,
            status: output.status,
            stdout: String::from_utf8(output.stdout.clone()).expect("standard output is UTF-8"),
            stderr: String::from_utf8(output.stderr.clone()).expect("standard error is UTF-8"),
        }
    }

    fn show(&self) -> String {
        format!("{}\n{}\n{}{}", self.words, self.status, self.stdout, self.stderr)
    }

    /// Checks the exit code and returns the one JSON document on standard output.
    #[track_caller]
    pub(crate) fn ended(&self, exit: i32) -> Value {
        assert_eq!(self.status.code(), Some(exit), "{}", self.show());
        self.json()
    }

    /// [`ended`](Self::ended) with success.
    #[track_caller]
    pub(crate) fn done(&self) -> Value {
        self.ended(0)
    }

    /// The one JSON document on standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("not one JSON document ({error}): {}", self.show()))
    }

    /// Checks that it failed with this code and exit code, in JSON and for people, and returns the
    /// whole message: sentences and hints.
    #[track_caller]
    pub(crate) fn failed(&self, code: &str, exit: i32) -> String {
        assert_eq!(self.status.code(), Some(exit), "expected {code}: {}", self.show());
        let error = self.json()["error"].clone();
        assert_eq!(error["code"], code, "{}", self.show());
        let text = self.stderr.lines().find(|line| line.starts_with("error["));
        assert!(
            text.is_some_and(|line| line.starts_with(&format!("error[{code}]: "))),
            "{}",
            self.show()
        );
        let hints = error["hints"].as_array().map_or(0, Vec::len);
        assert!(hints > 0, "an error without a hint: {}", self.show());
        let mut parts = vec![error["message"].clone()];
        for list in ["causes", "hints"] {
            parts.extend(error[list].as_array().cloned().unwrap_or_default());
        }
        let parts: Vec<&str> = parts.iter().filter_map(Value::as_str).collect();
        parts.join("\n")
    }

    /// Checks that it ended by SIGABRT: what PostgreSQL does not take for the archive's end.
    #[track_caller]
    pub(crate) fn aborted(&self) -> String {
        assert_eq!(self.status.signal(), Some(6), "{}", self.show());
        self.stderr.clone()
    }
}

/// The field at `path` (names joined by points), as text.
#[track_caller]
pub(crate) fn text(value: &Value, path: &str) -> String {
    let found = path.split('.').fold(value, |value, name| match name.parse::<usize>() {
        Ok(index) => &value[index],
        Err(_) => &value[name],
    });
    found.as_str().unwrap_or_else(|| panic!("no text at '{path}' of {value}")).to_owned()
}
