//! Our own commands as steps: what a person would type, with `--json`.

use std::path::PathBuf;
use std::process::Stdio;

use recovery::effect::Failure;
use recovery::journal::FailureClass;
use serde_json::Value;
use tokio::process::Command;

use crate::command::shown;

/// Codes of our commands that say that stored data are unusable: damaged, truncated, missing.
const DATA_CODES: [&str; 7] =
    ["RF0301", "RF0303", "RF0304", "RF0305", "RF0308", "RF0704", "RF0311"];

/// Codes that say that somebody did not answer: another try may succeed.
const RETRY_CODES: [&str; 4] = ["RF0201", "RF0203", "RF0501", "RF0502"];

/// This program and its configuration.
#[derive(Clone, Debug)]
pub struct OwnProgram {
    /// Its path.
    pub program: PathBuf,
    /// The configuration's path.
    pub config: PathBuf,
}

impl OwnProgram {
    /// Runs one of our commands to its end, and gives its JSON document.
    ///
    /// # Errors
    /// A failure with the command's own code, message and hint.
    pub async fn run(&self, words: &[String]) -> Result<Value, Failure> {
        let mut command = Command::new(&self.program);
        command.args(["--json", "--quiet", "--config"]).arg(&self.config).args(words);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.map_err(|error| {
            Failure::terminal(
                "RF1102",
                format!("'{}' cannot be run: {error}", self.program.display()),
            )
        })?;
        let text = String::from_utf8_lossy(&output.stdout);
        let document: Value = text
            .lines()
            .last()
            .and_then(|line| serde_json::from_str(line).ok())
            .unwrap_or_default();
        if output.status.success() {
            return Ok(document);
        }
        Err(failure(words, &document, &String::from_utf8_lossy(&output.stderr)))
    }
}

fn failure(words: &[String], document: &Value, said: &str) -> Failure {
    let error = document.get("error");
    let field = |name: &str| error.and_then(|error| error.get(name)).and_then(Value::as_str);
    let code = field("code").unwrap_or("RF1102");
    let causes = error.and_then(|error| error.get("causes")).and_then(Value::as_array);
    let causes = causes.into_iter().flatten().filter_map(Value::as_str);
    let mut message = field("message").map_or_else(|| shown(said.trim()), str::to_owned);
    for cause in causes {
        message.push_str(": ");
        message.push_str(cause);
    }
    let hints = error.and_then(|error| error.get("hints")).and_then(Value::as_array);
    let hint = hints.and_then(|hints| hints.first()).and_then(Value::as_str).unwrap_or_default();
    let class = if DATA_CODES.contains(&code) {
        FailureClass::Data
    } else if RETRY_CODES.contains(&code) {
        FailureClass::Retry
    } else {
        FailureClass::Terminal
    };
    let verb = words.first().map_or("", String::as_str);
    Failure::new(class, code, format!("`rollforward {verb}`: {message}")).hint(hint)
}

/// A text of a document.
pub(crate) fn text(document: &Value, pointer: &str) -> Option<String> {
    match document.pointer(pointer)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
