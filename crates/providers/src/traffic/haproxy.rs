//! Servers of a backend of HAProxy, by its runtime API (HAProxy management guide, section 9.3).
//!
//! The standby server is taken in first; the others go to maintenance when it is seen to run. What
//! was changed lives in HAProxy's memory: its configuration must say the same before it is
//! restarted.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use recovery::effect::Failure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::{Place, Way, changed, read_before};

/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// Longest wait for a server that was taken in to be seen to run.
const UP_DEADLINE: Duration = Duration::from_secs(15);

/// How often it is asked meanwhile.
const PERIOD: Duration = Duration::from_millis(200);

/// Longest answer that is read.
const ANSWER_LEN_MAX: u64 = 1 << 20;

/// Bits of `srv_admin_state`: somebody forced maintenance, or draining (include/haproxy/server-t.h,
/// SRV_ADMF_FMAINT, SRV_ADMF_FDRAIN).
const FORCED_MAINTENANCE: u32 = 0x01;
const FORCED_DRAIN: u32 = 0x08;

/// `srv_op_state` of a server that takes sessions (SRV_ST_RUNNING).
const RUNNING: u32 = 2;

/// Bit of `srv_check_state`: the server is checked (include/haproxy/check-t.h, CHK_ST_ENABLED).
const CHECKED: u32 = 0x04;

/// `srv_check_result` of a check that has passed (CHK_RES_PASSED; above it, conditionally).
const PASSED: u32 = 3;

/// States by server: `ready`, `drain` or `maint`.
type States = BTreeMap<String, String>;

/// A backend.
pub(super) struct HaProxy {
    pub(super) socket: String,
    pub(super) backend: String,
    pub(super) primary: Vec<String>,
    pub(super) standby: String,
}

/// What HAProxy says of a server.
struct Server {
    state: &'static str,
    is_running: bool,
}

impl HaProxy {
    async fn ask(&self, command: &str) -> Result<String, Failure> {
        let silent = |why: String| {
            let text = format!("HAProxy {} does not answer '{command}': {why}", self.socket);
            Failure::ambiguous("RF1161", text)
                .hint("does it run, with `stats socket … level admin`, and may this user open it?")
        };
        let talk = async {
            match self.socket.starts_with('/') {
                true => speak(UnixStream::connect(&self.socket).await?, command).await,
                false => speak(TcpStream::connect(&self.socket).await?, command).await,
            }
        };
        match tokio::time::timeout(DEADLINE, talk).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(silent(error.to_string())),
            Err(_) => Err(silent(format!("nothing within {} s", DEADLINE.as_secs()))),
        }
    }

    /// A command that answers with nothing when it was done.
    async fn tell(&self, command: &str) -> Result<(), Failure> {
        let answer = self.ask(command).await?;
        let said = answer.trim();
        match said.is_empty() {
            true => Ok(()),
            false => Err(Failure::terminal(
                "RF1162",
                format!("HAProxy {} refuses '{command}': {said}", self.socket),
            )
            .hint("does the socket have `level admin`?")),
        }
    }

    async fn servers(&self) -> Result<BTreeMap<String, Server>, Failure> {
        let answer = self.ask(&format!("show servers state {}", self.backend)).await?;
        let servers = parse(&answer).ok_or_else(|| {
            let said: String = answer.trim().chars().take(200).collect();
            Failure::terminal(
                "RF1164",
                format!("HAProxy {} says of backend '{}': {said}", self.socket, self.backend),
            )
            .hint("compare the backend's name: `show servers state`")
        })?;
        let mut ours = self.primary.iter().chain([&self.standby]);
        if let Some(missing) = ours.find(|name| !servers.contains_key(*name)) {
            let known: Vec<&str> = servers.keys().map(String::as_str).collect();
            return Err(Failure::terminal(
                "RF1164",
                format!(
                    "backend '{}' has no server '{missing}'; it has {}",
                    self.backend,
                    known.join(", ")
                ),
            ));
        }
        Ok(servers)
    }

    /// The states of the servers that we change.
    async fn states(&self) -> Result<States, Failure> {
        let servers = self.servers().await?;
        let ours = self.primary.iter().chain([&self.standby]);
        let states = ours.filter_map(|name| {
            servers.get(name).map(|server| (name.clone(), server.state.to_owned()))
        });
        Ok(states.collect())
    }

    fn wanted(&self, server: &str) -> &'static str {
        if server == self.standby { "ready" } else { "maint" }
    }

    /// A server whose state is neither what it was nor what is wanted.
    fn foreign(&self, now: &States, before: &States) -> Option<String> {
        let mut all = now.iter();
        let (server, state) = all.find(|(server, state)| {
            state.as_str() != self.wanted(server) && before.get(*server) != Some(*state)
        })?;
        let was = before.get(server).map_or("unknown", String::as_str);
        Some(format!("server '{server}' is in state {state}, expected {was}"))
    }

    async fn set(&self, server: &str, state: &str) -> Result<(), Failure> {
        let server = format!("{}/{server}", self.backend);
        self.tell(&format!("set server {server} state {state}")).await?;
        if state != "ready" {
            // Sessions would go on where users shall not be any more.
            self.tell(&format!("shutdown sessions server {server}")).await?;
        }
        Ok(())
    }

    /// Waits until the standby server is seen to run.
    async fn runs(&self) -> Result<(), Failure> {
        let began = tokio::time::Instant::now();
        loop {
            let servers = self.servers().await?;
            if servers.get(&self.standby).is_some_and(|server| server.is_running) {
                return Ok(());
            }
            if began.elapsed() > UP_DEADLINE {
                return Err(Failure::terminal(
                    "RF1165",
                    format!(
                        "server '{}/{}' was taken in and is not up after {} s",
                        self.backend,
                        self.standby,
                        UP_DEADLINE.as_secs()
                    ),
                )
                .hint("its check fails: `show stat` on the socket says why (check_status)"));
            }
            tokio::time::sleep(PERIOD).await;
        }
    }
}

async fn speak(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    command: &str,
) -> std::io::Result<String> {
    stream.write_all(format!("{command}\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_LEN_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The servers of `show servers state`: a version, a line of names behind `#`, a line for each.
fn parse(answer: &str) -> Option<BTreeMap<String, Server>> {
    let mut lines = answer.lines();
    let names: Vec<&str> =
        lines.find_map(|line| line.strip_prefix("# "))?.split_whitespace().collect();
    let at = |name: &str| names.iter().position(|seen| *seen == name);
    let (name, admin, operation) = (at("srv_name")?, at("srv_admin_state")?, at("srv_op_state")?);
    let (check, passed) = (at("srv_check_state")?, at("srv_check_result")?);
    let mut servers = BTreeMap::new();
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u32>().ok();
        let admin = number(admin)?;
        let state = match admin {
            admin if admin & FORCED_MAINTENANCE != 0 => "maint",
            admin if admin & FORCED_DRAIN != 0 => "drain",
            _ => "ready",
        };
        // Taken in, it counts as running until its first check: what did not pass one does not.
        let is_well = number(check)? & CHECKED == 0 || number(passed)? >= PASSED;
        let server = Server { state, is_running: is_well && number(operation)? == RUNNING };
        servers.insert((*fields.get(name)?).to_owned(), server);
    }
    Some(servers)
}

#[async_trait]
impl Way for HaProxy {
    async fn now(&self) -> Result<String, Failure> {
        serde_json::to_string(&self.states().await?)
            .map_err(|error| Failure::terminal("RF1001", error.to_string()))
    }

    async fn ready(&self) -> Result<Option<u64>, Failure> {
        let servers = self.servers().await?;
        let level = self.ask("show cli level").await?;
        if level.trim() != "admin" {
            return Err(Failure::terminal(
                "RF1162",
                format!("HAProxy {} gives level '{}', expected admin", self.socket, level.trim()),
            )
            .hint("write `stats socket … level admin`"));
        }
        let standby = servers.get(&self.standby);
        if standby.is_some_and(|server| server.state == "ready" && !server.is_running) {
            return Err(Failure::terminal(
                "RF1164",
                format!("server '{}/{}' is down", self.backend, self.standby),
            )
            .hint("its check fails: `show stat` on the socket says why (check_status)"));
        }
        Ok(None)
    }

    async fn place(&self, before: Option<&str>) -> Result<Place, Failure> {
        let now = self.states().await?;
        if now.iter().all(|(server, state)| state == self.wanted(server)) {
            return Ok(Place::Standby);
        }
        let before: Option<States> = before.map(read_before).transpose()?;
        let foreign = before.and_then(|before| self.foreign(&now, &before));
        Ok(foreign.map_or(Place::Primary, Place::Other))
    }

    async fn switch(&self, before: &str) -> Result<(), Failure> {
        let now = self.states().await?;
        if let Some(what) = self.foreign(&now, &read_before(before)?) {
            return Err(changed(&self.backend, &what));
        }
        self.set(&self.standby, "ready").await?;
        self.runs().await?;
        for server in &self.primary {
            self.set(server, "maint").await?;
        }
        Ok(())
    }

    async fn seen(&self, _before: Option<&str>) -> Result<(), Failure> {
        self.runs().await
    }

    async fn back(&self, before: &str) -> Result<(), Failure> {
        let before: States = read_before(before)?;
        let now = self.states().await?;
        let is_as_before = |server: &String| now.get(server) == before.get(server);
        // The standby server goes last: somebody must serve.
        for server in self.primary.iter().chain([&self.standby]) {
            if let (false, Some(state)) = (is_as_before(server), before.get(server)) {
                self.set(server, state).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_and_what_is_no_answer_is_none() {
        let answer = "1\n# be_id be_name srv_id srv_name srv_op_state srv_admin_state \
                      srv_check_result srv_check_state\n3 app 1 a 2 0 0 0\n3 app 2 b 2 8 3 6\n\
                      3 app 3 dr 0 5 0 14\n3 app 4 new 2 4 0 6\n\n";
        let servers = parse(answer).unwrap();
        let seen = servers.iter().map(|(name, it)| (name.as_str(), it.state, it.is_running));
        assert_eq!(
            seen.collect::<Vec<_>>(),
            [
                ("a", "ready", true),
                ("b", "drain", true),
                ("dr", "maint", false),
                ("new", "ready", false),
            ]
        );
        for wrong in
            ["", "Can't find backend.\n", "1\n# srv_name\na\n", &answer.replace(" 5 0", " x 0")]
        {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }
}
