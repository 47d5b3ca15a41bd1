//! What leads users to one site or another: looked at before a run touches anything, switched
//! behind the smoke tests, put back by a rollback.
//!
//! Each kind is a [`Way`]: where users are led now, to the standby site, and back. A change that
//! somebody else made meanwhile is never overwritten.

mod dns;
mod haproxy;
mod nginx;
mod nsupdate;
mod powerdns;
mod record;
mod tsig;

use std::sync::Arc;

use async_trait::async_trait;
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::plan::{Parameters, Step, StepKind};
use recovery::service::{Traffic, TrafficHow};
use reqwest::Client;
use stdx::Clock;

use crate::Secrets;
use crate::looked::Looked;

/// Where users are led.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Where they were led before, or partly so.
    Primary,
    /// To the standby site.
    Standby,
    /// Elsewhere: somebody else has changed it.
    Other(String),
}

/// One way of leading users. `before` is what [`Way::now`] said before anything was touched.
#[async_trait]
trait Way: Send + Sync {
    /// Where users are led now, as a text that [`Way::back`] understands. No secret is in it.
    async fn now(&self) -> Result<String, Failure>;

    /// Whether it could be switched, as far as that can be told without a change; how long its
    /// answer may be cached, in seconds.
    async fn ready(&self) -> Result<Option<u64>, Failure>;

    /// Where users are led now.
    async fn place(&self, before: Option<&str>) -> Result<Place, Failure>;

    /// Leads them to the standby site; repeatable.
    async fn switch(&self, before: &str) -> Result<(), Failure>;

    /// Users are really led there: seen from where they ask. Waits as long as caches may.
    async fn seen(&self, before: Option<&str>) -> Result<(), Failure>;

    /// Leads them to where they were led before; repeatable.
    async fn back(&self, before: &str) -> Result<(), Failure>;
}

/// Every kind of traffic that this binary can switch.
pub(crate) struct Traffics {
    client: Client,
    secrets: Arc<dyn Secrets>,
    clock: Arc<dyn Clock>,
    looked: Looked,
}

impl Traffics {
    /// # Errors
    /// The HTTP client cannot be made.
    pub(crate) fn new(secrets: Arc<dyn Secrets>, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let client = Client::builder().timeout(powerdns::DEADLINE).build();
        let client = client.map_err(|error| error.to_string())?;
        Ok(Self { client, secrets, clock, looked: Looked::default() })
    }

    pub(crate) fn set_clock(&mut self, clock: Arc<dyn Clock>) {
        self.clock = clock;
    }

    pub(crate) fn of(&self, step: &Step) -> Option<&dyn Effect> {
        step.parameters.contains_key("traffic").then_some(self as &dyn Effect)
    }

    fn secret(&self, reference: &str) -> Result<zeroize::Zeroizing<String>, Failure> {
        self.secrets.resolve(reference).map_err(|why| {
            Failure::terminal("RF1110", format!("secret {reference} does not resolve: {why}"))
        })
    }

    fn way(&self, traffic: Traffic) -> Result<Box<dyn Way>, Failure> {
        Ok(match traffic.how {
            TrafficHow::Nsupdate { server, key, record } => {
                let key = tsig::Key::parse(&self.secret(&key)?, &key)?;
                let clock = Arc::clone(&self.clock);
                let store = nsupdate::Nsupdate::new(server, key, &record, clock)?;
                Box::new(record::Record::new(record, Box::new(store))?)
            }
            TrafficHow::PowerDns { url, server, login, record } => {
                let key = self.secret(&login)?;
                let client = self.client.clone();
                let store = powerdns::PowerDns::new(client, &url, &server, key, &record);
                Box::new(record::Record::new(record, Box::new(store))?)
            }
            TrafficHow::HaProxy { socket, backend, primary, standby } => {
                Box::new(haproxy::HaProxy { socket, backend, primary, standby })
            }
            TrafficHow::Nginx { file, standby, test, reload, probe_url, probe_word } => {
                let client = self.client.clone();
                let probe = probe_url.map(|url| nginx::Probe { client, url, word: probe_word });
                Box::new(nginx::Nginx { file: nginx::meant(&file), standby, test, reload, probe })
            }
        })
    }

    fn way_of(&self, context: &StepContext) -> Result<(String, Box<dyn Way>), Failure> {
        let traffic = Traffic::from_parameters(&context.parameters)
            .map_err(|why| Failure::terminal("RF1001", why))?;
        let name = traffic.name.clone();
        Ok((name, self.way(traffic)?))
    }

    /// Whether traffic could be switched, as far as can be seen; how long its answer may be
    /// cached.
    pub(crate) async fn check(&self, traffic: &Traffic) -> Result<Option<u64>, Failure> {
        self.way(traffic.clone())?.ready().await
    }

    async fn look(&self, context: &StepContext) -> Result<Parameters, Failure> {
        let (name, way) = self.way_of(context)?;
        let now = way.now().await?;
        let cached_s = way.ready().await?;
        let seconds = |name: &str| -> u64 {
            context.parameters.get(name).and_then(|text| text.parse().ok()).unwrap_or_default()
        };
        let most = seconds("ttl_s_max").max(seconds("ttl_s_planned"));
        if let Some(cached_s) = cached_s.filter(|cached_s| *cached_s > most) {
            return Err(Failure::terminal(
                "RF1164",
                format!("'{name}' may be cached for {cached_s} s, expected at most {most} s"),
            )
            .hint("plan again: the time that users are led to the old site must be in the plan"));
        }
        Ok(Parameters::from([(fact(&name), now)]))
    }
}

/// The fact that says where users were led when the run began.
fn fact(name: &str) -> String {
    format!("traffic.{name}")
}

/// The object whose original is kept.
fn object(name: &str) -> String {
    format!("traffic {name}")
}

/// Where users were led before this incident touched anything.
fn before<'c>(context: &'c StepContext, name: &str) -> Option<&'c str> {
    let original = context.originals.get(&object(name));
    original.or_else(|| context.facts.get(&fact(name))).map(String::as_str)
}

/// Somebody else has changed it meanwhile.
fn changed(name: &str, what: &str) -> Failure {
    Failure::terminal("RF1163", format!("'{name}' was changed by somebody else: {what}")).hint(
        "nothing of that is overwritten: ask who did it; put it as it was, then `run retry`, or \
         lead users by hand and `run skip`",
    )
}

/// What [`Way::now`] said, read back.
fn read_before<T: serde::de::DeserializeOwned>(before: &str) -> Result<T, Failure> {
    serde_json::from_str(before).map_err(|error| {
        Failure::terminal("RF1001", format!("what was kept of it cannot be read: {error}"))
    })
}

#[async_trait]
impl Effect for Traffics {
    async fn original(&self, context: &StepContext) -> Result<Option<(String, String)>, Failure> {
        if context.step.kind == StepKind::CheckTraffic {
            return Ok(None);
        }
        let (name, way) = self.way_of(context)?;
        Ok(Some((object(&name), way.now().await?)))
    }

    async fn precheck(&self, context: &StepContext) -> Result<(), Failure> {
        if context.step.kind == StepKind::SwitchTraffic {
            self.way_of(context)?.1.ready().await?;
        }
        Ok(())
    }

    async fn probe(&self, context: &StepContext) -> Found {
        if context.step.kind == StepKind::CheckTraffic {
            return self.looked.probe(context);
        }
        let place = async {
            let (name, way) = self.way_of(context)?;
            way.place(before(context, &name)).await
        };
        match place.await {
            Ok(Place::Primary) => Found::Absent,
            Ok(Place::Standby) => Found::Done,
            Ok(Place::Other(what)) => Found::Foreign(what),
            Err(failure) => Found::Unknown(failure.message),
        }
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        if context.step.kind == StepKind::CheckTraffic {
            let outputs = self.look(context).await?;
            self.looked.remember(context, outputs);
            return Ok(());
        }
        let (name, way) = self.way_of(context)?;
        let before = match context.originals.get(&object(&name)) {
            Some(before) => before.clone(),
            None => way.now().await?,
        };
        way.switch(&before).await
    }

    async fn verify(&self, context: &StepContext) -> Result<Parameters, Failure> {
        if context.step.kind == StepKind::CheckTraffic {
            return Ok(self.looked.outputs(context).unwrap_or_default());
        }
        let (name, way) = self.way_of(context)?;
        way.seen(before(context, &name)).await?;
        Ok(Parameters::new())
    }

    async fn undo(&self, context: &StepContext) -> Result<String, Failure> {
        if context.step.kind == StepKind::CheckTraffic {
            return Ok("it only looked".into());
        }
        let (name, way) = self.way_of(context)?;
        let Some(before) = context.originals.get(&object(&name)) else {
            return Ok("it was never touched".into());
        };
        if let Place::Other(what) = way.place(Some(before)).await? {
            return Err(changed(&name, &what));
        }
        way.back(before).await?;
        Ok("users are led to where they were led before".into())
    }
}

/// Whether traffic could be switched now, as far as can be seen without a change; how long its
/// answer may be cached, in seconds, where it is.
///
/// # Errors
/// Why it could not be switched.
pub async fn check_traffic(
    traffic: &Traffic,
    secrets: Arc<dyn Secrets>,
    clock: Arc<dyn Clock>,
) -> Result<Option<u64>, Failure> {
    let traffics = Traffics::new(secrets, clock).map_err(|why| Failure::terminal("RF1161", why))?;
    traffics.check(traffic).await
}
