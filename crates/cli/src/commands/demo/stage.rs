//! Where the demo is played: its folder, its programs, its clock, and what runs on it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pgclient::local::{LocalServer, Programs, StopMode};
use pgclient::{Client, ConnectOptions};
use serde::Serialize;
use serde_json::Value;
use tokio::process::Command;

use super::Arguments;
use crate::failure::Error;
use crate::output::Printer;

/// The cluster's name in the demo's configuration.
pub(super) const CLUSTER: &str = "shop";

/// A server that makes no progress for this long is given up.
pub(super) const QUIET_MAX: Duration = Duration::from_secs(120);

/// One timed step.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
pub(super) struct Phase {
    pub(super) name: String,
    pub(super) seconds: f64,
}

/// The demo's surroundings.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub(super) printer: &'a Printer,
    pub(super) directory: PathBuf,
    pub(super) programs: Programs,
    /// Port of the first cluster.
    pub(super) port: u16,
    pub(super) password: String,
    pub(super) phases: Vec<Phase>,
    begun: Option<(String, Instant)>,
    servers: Vec<LocalServer>,
    /// What stops the shop when the demo ends.
    pub(super) shop_script: Option<PathBuf>,
}

impl<'a> Stage<'a> {
    pub(super) async fn new(
        printer: &'a Printer,
        directory: &Path,
        arguments: &Arguments,
    ) -> anyhow::Result<Self> {
        let programs = match &arguments.bin_directory {
            Some(bin) => Programs::at(bin).await?,
            None => {
                Programs::discover(&[]).await.into_iter().next().ok_or_else(|| Error::Failed {
                    what: "no PostgreSQL 14 to 18 is installed here".into(),
                    hint: "`make tools` installs one; or name its folder with --bin-directory"
                        .into(),
                })?
            }
        };
        printer.note(&format!(
            "PostgreSQL {} from '{}', everything below '{}'",
            programs.version(),
            programs.bindir().display(),
            directory.display()
        ));
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
        let port = listener.local_addr()?.port();
        Ok(Self {
            printer,
            directory: directory.into(),
            programs,
            port,
            password: stdx::Id::random().to_string(),
            phases: Vec::new(),
            begun: None,
            servers: Vec::new(),
            shop_script: None,
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The next part of the story.
    pub(super) fn act(&mut self, title: &str) {
        self.printer.note(&format!("\n── {title} ──"));
    }

    /// Says what happens now, and keeps its time.
    pub(super) fn begin(&mut self, name: &str) {
        self.end();
        self.printer.note(&format!("· {name}"));
        self.begun = Some((name.into(), Instant::now()));
    }

    /// The step that was begun is over.
    pub(super) fn end(&mut self) {
        if let Some((name, begun)) = self.begun.take() {
            self.phases.push(Phase { name, seconds: begun.elapsed().as_secs_f64() });
        }
    }

    /// The server of a data directory; it is stopped when the demo ends.
    pub(super) fn server(&mut self, directory: &Path) -> anyhow::Result<LocalServer> {
        let log = directory.with_extension("log");
        let server = LocalServer::new(self.programs.clone(), directory, &log)?;
        if !self.servers.iter().any(|known| known.data_dir() == server.data_dir()) {
            self.servers.push(server.clone());
        }
        Ok(server)
    }

    /// A session as superuser, through the socket.
    pub(super) async fn connect(
        &self,
        folder: &Path,
        port: u16,
        database: &str,
    ) -> anyhow::Result<Client> {
        let options = ConnectOptions::local(folder, port, "postgres").with_database(database);
        Ok(Client::connect(&options).await?)
    }

    /// Types a command of this program and reads its JSON; `accepted` are further exit codes that
    /// are no failure.
    pub(super) async fn type_command(
        &self,
        words: &[&str],
        accepted: &[i32],
    ) -> anyhow::Result<Value> {
        self.printer.note(&format!("  $ rollforward {}", words.join(" ")));
        let program = crate::wiring::own_program()?;
        let output = Command::new(&program)
            .args(["--json", "--quiet", "--config"])
            .arg(self.path("rollforward.toml"))
            .args(words)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("run '{}'", program.display()))?;
        let code = output.status.code().unwrap_or(-1);
        if code != 0 && !accepted.contains(&code) {
            return Err(Error::Failed {
                what: format!(
                    "`rollforward {}` ended with {}: {}",
                    words.join(" "),
                    output.status,
                    String::from_utf8_lossy(&output.stderr).trim()
                ),
                hint: "repeat with --keep and look at the logs".into(),
            }
            .into());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().last().unwrap_or("null");
        serde_json::from_str(last)
            .with_context(|| format!("read the answer of `rollforward {}`", words.join(" ")))
    }

    /// Types a command that is to be watched: what it says goes to the terminal.
    pub(super) async fn type_aloud(&self, words: &[&str]) -> anyhow::Result<Value> {
        self.printer.note(&format!("  $ rollforward {}\n", words.join(" ")));
        let program = crate::wiring::own_program()?;
        let mut command = Command::new(&program);
        command.args(["--json", "--config"]).arg(self.path("rollforward.toml")).args(words);
        if !self.printer.is_noisy() {
            command.arg("--quiet");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let child = command.kill_on_drop(true).spawn();
        let child = child.with_context(|| format!("run '{}'", program.display()))?;
        let output = child.wait_with_output().await?;
        if !output.status.success() {
            return Err(Error::Failed {
                what: format!("`rollforward {}` ended with {}", words.join(" "), output.status),
                hint: "repeat with --keep and look at the logs".into(),
            }
            .into());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(text.lines().last().unwrap_or("null"))
            .with_context(|| format!("read the answer of `rollforward {}`", words.join(" ")))
    }

    /// Ends everything that runs.
    pub(super) async fn strike(&mut self) {
        self.end();
        if let Some(script) = self.shop_script.take() {
            let _ = Command::new(script).arg("stop").stdin(Stdio::null()).status().await;
        }
        for server in &self.servers {
            if let Err(error) = server.stop(StopMode::Immediate, QUIET_MAX).await {
                self.printer.note(&format!("warning: {error}"));
            }
        }
    }
}

/// A text field of a JSON answer.
pub(super) fn text(value: &Value, pointer: &str) -> anyhow::Result<String> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.map(str::to_owned).with_context(|| format!("expected text at {pointer} of {value}"))
}

/// A number of a JSON answer.
pub(super) fn number(value: &Value, pointer: &str) -> anyhow::Result<u64> {
    let found = value.pointer(pointer).and_then(Value::as_u64);
    found.with_context(|| format!("expected a number at {pointer} of {value}"))
}
