//! Running somebody's command: words, no shell; its output kept short for errors.

use std::process::Stdio;
use std::time::Duration;

use recovery::effect::{Failure, StepContext};
use tokio::process::Command;

/// Characters of a command's output that an error shows.
const SHOWN_LEN: usize = 600;

/// Longest wait for a command that only asks.
pub(crate) const PROBE_DEADLINE: Duration = Duration::from_secs(20);

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) said: String,
}

/// A parameter that is a list of words.
pub(crate) fn words(context: &StepContext, name: &str) -> Result<Vec<String>, Failure> {
    let text = context.parameter(name)?;
    let words: Vec<String> = serde_json::from_str(text).map_err(|_| {
        Failure::terminal("RF1001", format!("parameter '{name}' is no list of words"))
    })?;
    match words.is_empty() {
        true => Err(Failure::terminal("RF1001", format!("parameter '{name}' is empty"))),
        false => Ok(words),
    }
}

/// Runs a command to its end.
pub(crate) async fn run(words: &[String], deadline: Option<Duration>) -> Result<Ran, Failure> {
    let (program, arguments) = words.split_first().map_or(("", &[][..]), |(p, a)| (p.as_str(), a));
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output();
    let output = match deadline {
        Some(deadline) => tokio::time::timeout(deadline, output).await.map_err(|_| {
            Failure::ambiguous(
                "RF1101",
                format!("'{program}' did not end within {} s", deadline.as_secs()),
            )
        })?,
        None => output.await,
    };
    let output = output.map_err(|error| {
        Failure::terminal("RF1101", format!("'{program}' cannot be run: {error}"))
            .hint("does it exist, and may this user run it?")
    })?;
    let mut said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if said.is_empty() {
        said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    }
    Ok(Ran { code: output.status.code(), said: shown(&said) })
}

/// Runs a command that must end with 0.
pub(crate) async fn run_well(words: &[String]) -> Result<(), Failure> {
    let ran = run(words, None).await?;
    match ran.code {
        Some(0) => Ok(()),
        // What it had done by then only a probe tells.
        code => Err(Failure::ambiguous(
            "RF1101",
            format!(
                "'{}' ended with {}: {}",
                words.first().map_or("", String::as_str),
                code.map_or_else(|| "a signal".into(), |code| code.to_string()),
                ran.said
            ),
        )),
    }
}

/// The end of a text, for an error.
pub(crate) fn shown(text: &str) -> String {
    let begin = text.len().saturating_sub(SHOWN_LEN);
    let begin = (begin..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    text.get(begin..).unwrap_or_default().to_owned()
}
