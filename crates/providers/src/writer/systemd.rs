//! A unit of systemd, over the system's D-Bus (org.freedesktop.systemd1; systemd.io, man page
//! org.freedesktop.systemd1(5)).

use std::time::{Duration, Instant};

use recovery::effect::Failure;
use zbus::wire::{OwnedObjectPath, OwnedVariant};
use zbus::{Connection, Message};

use super::{Runs, Way};

const SERVICE: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// What the manager answers about a unit that is not in memory: it may exist all the same.
const NOT_LOADED: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// Longest wait for one answer of the manager.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// How often a unit that starts or stops is looked at.
const POLL: Duration = Duration::from_millis(100);

/// How long a job may be queued before the unit's state counts.
const QUEUED_MAX: Duration = Duration::from_secs(10);

/// Where units are.
#[derive(Debug, Default)]
pub(super) struct Systemd {
    /// The bus's address; `None`: the system's.
    pub(super) address: Option<String>,
}

/// A question that the manager did not answer, or answered with an error.
enum Unanswered {
    NotLoaded,
    Other(String),
}

impl From<zbus::Error> for Unanswered {
    fn from(error: zbus::Error) -> Self {
        match &error {
            zbus::Error::MethodError(name, ..) if name.as_str() == NOT_LOADED => Self::NotLoaded,
            _ => Self::Other(error.to_string()),
        }
    }
}

fn failure(unit: &str, why: &str) -> Failure {
    Failure::ambiguous("RF1101", format!("systemd, unit '{unit}': {why}"))
        .hint("may this user manage units? `busctl status org.freedesktop.systemd1`")
}

impl Systemd {
    async fn bus(&self) -> zbus::Result<Connection> {
        let builder = match &self.address {
            Some(address) => zbus::connection::Builder::address(address.as_str()),
            None => zbus::connection::Builder::system(),
        };
        builder.method_timeout(ANSWER_MAX).build().await
    }

    /// Whether a unit runs.
    ///
    /// # Errors
    /// There is no such unit, or no answer.
    pub(super) async fn runs(&self, unit: &str) -> Result<Runs, Failure> {
        let look = async {
            let bus = self.bus().await?;
            let path = unit_path(&bus, unit).await?;
            let loaded = property(&bus, &path, "LoadState").await?;
            let active = property(&bus, &path, "ActiveState").await?;
            Ok::<_, Unanswered>((loaded, active))
        };
        let (loaded, active) = look.await.map_err(|error| match error {
            Unanswered::NotLoaded => failure(unit, "it is not known"),
            Unanswered::Other(why) => failure(unit, &why),
        })?;
        if !matches!(loaded.as_str(), "loaded" | "masked") {
            return Err(Failure::terminal(
                "RF1101",
                format!("expected unit '{unit}' to be loaded, seen '{loaded}'"),
            )
            .hint(format!("systemctl status {unit}")));
        }
        Ok(match active.as_str() {
            "active" | "reloading" => Runs::Yes,
            "inactive" | "failed" => Runs::No,
            "activating" => Runs::Between(Way::Up),
            _ => Runs::Between(Way::Down),
        })
    }

    /// Starts or stops a unit, and waits until it is there.
    ///
    /// # Errors
    /// It did not get there.
    pub(super) async fn bring(&self, unit: &str, to_run: bool) -> Result<(), Failure> {
        let verb = if to_run { "StartUnit" } else { "StopUnit" };
        let asked = async {
            let bus = self.bus().await?;
            manager(&bus, verb, &(unit, "replace")).await
        };
        asked.await.map_err(|error| failure(unit, &format!("{verb}: {error}")))?;
        let began = Instant::now();
        loop {
            match self.runs(unit).await? {
                Runs::Yes if to_run => return Ok(()),
                Runs::No if !to_run => return Ok(()),
                Runs::Between(_) => tokio::time::sleep(POLL).await,
                // The job may still wait for others.
                _ if began.elapsed() < QUEUED_MAX => tokio::time::sleep(POLL).await,
                _ => {
                    let what =
                        if to_run { "started, and runs no more" } else { "stopped, and runs" };
                    return Err(Failure::ambiguous("RF1101", format!("unit '{unit}' was {what}"))
                        .hint(format!("journalctl -u {unit}; systemctl status {unit}")));
                }
            }
        }
    }
}

async fn manager<B>(bus: &Connection, method: &str, body: &B) -> zbus::Result<Message>
where
    B: serde::Serialize + zbus::wire::DynamicType,
{
    bus.call_method(Some(SERVICE), MANAGER_PATH, Some(MANAGER), method, body).await
}

/// The unit's object; one that is not in memory is loaded.
async fn unit_path(bus: &Connection, unit: &str) -> Result<OwnedObjectPath, Unanswered> {
    let answer = match manager(bus, "GetUnit", &(unit,)).await.map_err(Unanswered::from) {
        Err(Unanswered::NotLoaded) => manager(bus, "LoadUnit", &(unit,)).await?,
        answer => answer?,
    };
    Ok(answer.body().deserialize::<OwnedObjectPath>()?)
}

async fn property(bus: &Connection, path: &OwnedObjectPath, name: &str) -> zbus::Result<String> {
    let answer =
        bus.call_method(Some(SERVICE), path, Some(PROPERTIES), "Get", &(UNIT, name)).await?;
    let value: OwnedVariant = answer.body().deserialize()?;
    String::try_from(value)
}
