//! A file that nginx includes: replaced in one step, tested, loaded; the old content is kept.
//!
//! Beside the file lie two of ours that no `include` with a pattern takes, because a dot leads
//! their names: the old content, and a mark that says what nginx was told to load.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use recovery::effect::Failure;
use reqwest::Client;
use serde::{Deserialize, Serialize};

use super::{Place, Way, changed, read_before};
use crate::command::{self, PROBE_DEADLINE};

/// Longest wait for new workers that answer alone.
const SEEN_DEADLINE: Duration = Duration::from_secs(15);

/// So long every answer must come from a new worker: an old one takes connections until it has
/// heard of the reload, which is after the new ones have begun (nginx: `ngx_master_process_cycle`
/// waits 100 ms between the two).
const STEADY: Duration = Duration::from_secs(2);

/// How often it is asked meanwhile.
const PERIOD: Duration = Duration::from_millis(200);

/// Larger files are no part of a configuration.
const FILE_LEN_MAX: u64 = 1 << 20;

/// nginx was told to load this content, or has been told.
const LOADING: &str = "loading";
const LOADED: &str = "loaded";

/// Who serves is asked here.
pub(super) struct Probe {
    pub(super) client: Client,
    pub(super) url: String,
    pub(super) word: Option<String>,
}

/// An included file.
pub(super) struct Nginx {
    pub(super) file: PathBuf,
    pub(super) standby: String,
    pub(super) test: Vec<String>,
    pub(super) reload: Vec<String>,
    pub(super) probe: Option<Probe>,
}

/// What is kept of the old content.
#[derive(Serialize, Deserialize)]
struct Kept {
    sha256: String,
    /// Where its bytes are kept once the file is replaced.
    copy: String,
}

/// The file behind a symbolic link, as in `sites-enabled`.
pub(super) fn meant(file: &str) -> PathBuf {
    std::fs::canonicalize(file).unwrap_or_else(|_| PathBuf::from(file))
}

fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unreadable(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::terminal("RF1164", format!("'{}' cannot be read: {why}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let meta = std::fs::metadata(path).map_err(|error| unreadable(path, error))?;
    if !meta.is_file() || meta.len() > FILE_LEN_MAX {
        return Err(unreadable(path, "expected a file of at most 1 MiB"));
    }
    std::fs::read(path).map_err(|error| unreadable(path, error))
}

impl Nginx {
    fn beside(&self, what: &str) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(self.file.file_name().unwrap_or_default());
        name.push(".rollforward-");
        name.push(what);
        self.file.with_file_name(name)
    }

    fn mark(&self) -> Option<String> {
        std::fs::read_to_string(self.beside("mark")).ok()
    }

    fn set_mark(&self, state: &str, content: &[u8]) -> Result<(), Failure> {
        self.write(&self.beside("mark"), format!("{state} {}\n", sha256(content)).as_bytes())
    }

    /// Writes in one step, with owner and mode of the included file.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
        let failed = |error: std::io::Error| {
            let text = format!("'{}' cannot be written: {error}", path.display());
            Failure::retry("RF1161", text)
        };
        stdx::durable::write_like(path, bytes, &self.file).map_err(failed)
    }

    fn standby(&self) -> Result<Vec<u8>, Failure> {
        let path = Path::new(&self.standby);
        let content = read(path)?;
        match content.is_empty() {
            true => Err(unreadable(path, "it is empty")),
            false => Ok(content),
        }
    }

    /// Whether nginx would take its configuration as it is.
    async fn tested(&self) -> Result<(), Failure> {
        let ran = command::run(&self.test, Some(PROBE_DEADLINE)).await?;
        match ran.code {
            Some(0) => Ok(()),
            _ => Err(Failure::terminal(
                "RF1164",
                format!("nginx refuses its configuration: {}", ran.said),
            )
            .hint(format!("mend it: `{}`", self.test.join(" ")))),
        }
    }

    /// Makes nginx load what stands in the file.
    async fn load(&self, content: &[u8]) -> Result<(), Failure> {
        self.set_mark(LOADING, content)?;
        command::run_well(&self.reload).await?;
        self.set_mark(LOADED, content)
    }

    /// The old content, as it was kept.
    fn kept(&self, before: &Kept) -> Result<Vec<u8>, Failure> {
        let path = Path::new(&before.copy);
        let content = read(path)?;
        match sha256(&content) == before.sha256 {
            true => Ok(content),
            false => Err(unreadable(path, "it is not what was kept")),
        }
    }
}

#[async_trait]
impl Way for Nginx {
    async fn now(&self) -> Result<String, Failure> {
        let sha256 = sha256(&read(&self.file)?);
        let short: String = sha256.chars().take(16).collect();
        let kept = Kept { copy: self.beside(&short).display().to_string(), sha256 };
        serde_json::to_string(&kept).map_err(|error| Failure::terminal("RF1001", error.to_string()))
    }

    async fn ready(&self) -> Result<Option<u64>, Failure> {
        read(&self.file)?;
        self.standby()?;
        stdx::durable::may_replace(&self.file).map_err(|error| {
            let text = format!("'{}' cannot be replaced: {error}", self.file.display());
            Failure::terminal("RF1164", text)
                .hint("run rollforward as its owner (who may write into its folder) or root")
        })?;
        self.tested().await?;
        if let Some(probe) = &self.probe {
            let asked = probe.client.get(&probe.url).send().await;
            asked.map_err(|error| {
                let text = format!("{} does not answer: {}", probe.url, error.without_url());
                Failure::retry("RF1161", text).hint("does nginx run, and does it listen there?")
            })?;
        }
        Ok(None)
    }

    async fn place(&self, before: Option<&str>) -> Result<Place, Failure> {
        let (now, standby) = (sha256(&read(&self.file)?), sha256(&self.standby()?));
        let before: Option<Kept> = before.map(read_before).transpose()?;
        Ok(match before {
            _ if now == standby && self.mark() == Some(format!("{LOADED} {now}\n")) => {
                Place::Standby
            }
            Some(before) if now != standby && now != before.sha256 => Place::Other(format!(
                "'{}' has sha256 {now}, expected {}",
                self.file.display(),
                before.sha256
            )),
            _ => Place::Primary,
        })
    }

    async fn switch(&self, before: &str) -> Result<(), Failure> {
        let before: Kept = read_before(before)?;
        let (now, standby) = (read(&self.file)?, self.standby()?);
        if now != standby {
            if sha256(&now) != before.sha256 {
                let what = format!("'{}' has another content", self.file.display());
                return Err(changed(&self.file.display().to_string(), &what));
            }
            self.write(Path::new(&before.copy), &now)?;
            // Whatever a switch before has left: this content is not loaded yet.
            self.set_mark(LOADING, &standby)?;
            self.write(&self.file, &standby)?;
        }
        if let Err(failure) = self.tested().await {
            // Nothing was loaded: what is served did not change, and the file shall not, either.
            if let Ok(old) = self.kept(&before) {
                self.write(&self.file, &old)?;
            }
            return Err(failure);
        }
        self.load(&standby).await
    }

    async fn seen(&self, _before: Option<&str>) -> Result<(), Failure> {
        let Some(probe) = &self.probe else { return Ok(()) };
        let began = tokio::time::Instant::now();
        let mut right_since = None;
        loop {
            let Some(what) = probe.differs().await else {
                let since = *right_since.get_or_insert_with(tokio::time::Instant::now);
                if since.elapsed() >= STEADY {
                    return Ok(());
                }
                tokio::time::sleep(PERIOD).await;
                continue;
            };
            right_since = None;
            if began.elapsed() > SEEN_DEADLINE {
                return Err(Failure::terminal(
                    "RF1165",
                    format!("nginx was told to load the new file and does not serve it: {what}"),
                )
                .hint("its error log says why it keeps the old one"));
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    async fn back(&self, before: &str) -> Result<(), Failure> {
        let before: Kept = read_before(before)?;
        let mut now = read(&self.file)?;
        if sha256(&now) == before.sha256 && self.mark().is_none() {
            return Ok(());
        }
        if sha256(&now) != before.sha256 {
            now = self.kept(&before)?;
            self.write(&self.file, &now)?;
        }
        self.tested().await?;
        self.load(&now).await?;
        stdx::durable::remove(&self.beside("mark")).map_err(|error| {
            Failure::retry("RF1161", format!("the mark beside the file stays: {error}"))
        })
    }
}

impl Probe {
    /// What is answered, when it is not the standby site's.
    async fn differs(&self) -> Option<String> {
        let url = &self.url;
        // A connection of its own: one that is kept may still belong to an old worker.
        let asked = self.client.get(url).header("Connection", "close").send().await;
        let answer = match asked {
            Ok(answer) => answer,
            Err(error) => return Some(format!("{url}: {}", error.without_url())),
        };
        let status = answer.status();
        if !status.is_success() {
            return Some(format!("{url}: status {status}"));
        }
        let word = self.word.as_ref()?;
        match answer.text().await {
            Ok(body) if body.contains(word) => None,
            Ok(_) => Some(format!("{url}: the answer does not contain '{word}'")),
            Err(error) => Some(format!("{url}: {}", error.without_url())),
        }
    }
}
