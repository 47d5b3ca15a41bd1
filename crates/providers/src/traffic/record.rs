//! A DNS record that leads users: kept, switched, waited for, put back; wherever it is stored.

use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use recovery::effect::Failure;
use recovery::service::TrafficRecord;

use super::dns::{self, Owner, RecordSet};
use super::{Place, Way, changed, read_before};

/// A resolver may give an old answer for so long after its time is over: it asks again, and
/// secondaries take the zone over.
const MARGIN: Duration = Duration::from_secs(10);

/// How often resolvers are asked.
const PERIOD: Duration = Duration::from_millis(500);

/// Where the record is changed.
#[async_trait]
pub(super) trait Store: Send + Sync {
    /// The records that are there; `None`: there are none.
    async fn read(&self) -> Result<Option<RecordSet>, Failure>;

    /// Whether we may change them, as far as that can be told without a change.
    async fn prove_right(&self, now: &RecordSet) -> Result<(), Failure>;

    /// Replaces them when they are still `from`.
    async fn replace(&self, from: &RecordSet, to: &RecordSet) -> Result<(), Failure>;
}

/// A record and where it is changed.
pub(super) struct Record {
    record: TrafficRecord,
    owner: Owner,
    wanted: RecordSet,
    store: Box<dyn Store>,
}

impl Record {
    pub(super) fn new(record: TrafficRecord, store: Box<dyn Store>) -> Result<Self, Failure> {
        let wrong = |why: String| Failure::terminal("RF1164", why);
        let owner = Owner::new(&record.name, &record.kind).map_err(wrong)?;
        let values = vec![owner.canonical(&record.standby).map_err(wrong)?];
        let ttl_s = u32::try_from(record.ttl_s)
            .map_err(|_| wrong(format!("{} s is no time that a record may have", record.ttl_s)))?;
        Ok(Self { record, owner, wanted: RecordSet { ttl_s, values }, store })
    }

    async fn current(&self) -> Result<RecordSet, Failure> {
        self.store.read().await?.ok_or_else(|| {
            let TrafficRecord { name, kind, zone, .. } = &self.record;
            Failure::terminal(
                "RF1164",
                format!("there is no {kind} record '{name}' in zone '{zone}'"),
            )
            .hint("what users ask for must be there, with this type, before it can be switched")
        })
    }

    /// Every resolver answers, and the standby name leads somewhere.
    async fn ask_resolvers(&self) -> Result<(), Failure> {
        for resolver in &self.record.resolvers {
            let answer = dns::resolve(resolver, &self.owner.name, self.owner.kind).await?;
            if self.owner.records_in(&answer).is_none() {
                return Err(Failure::terminal(
                    "RF1164",
                    format!(
                        "resolver {resolver} says {} and no {} record '{}'",
                        dns::code(answer.response_code),
                        self.record.kind,
                        self.record.name
                    ),
                )
                .hint("name resolvers that users ask, or servers that serve the zone"));
            }
        }
        match (self.record.resolvers.first(), self.owner.kind) {
            (Some(resolver), RecordType::CNAME) => self.leads_somewhere(resolver).await,
            _ => Ok(()),
        }
    }

    async fn leads_somewhere(&self, resolver: &str) -> Result<(), Failure> {
        let target = dns::name(&self.record.standby);
        let target = target.map_err(|why| Failure::terminal("RF1164", why))?;
        let mut knows = false;
        for kind in [RecordType::A, RecordType::AAAA] {
            let answer = dns::resolve(resolver, &target, kind).await?;
            if answer.answers.iter().any(|record| record.record_type() == kind) {
                return Ok(());
            }
            knows |= is_binding(&answer);
        }
        // A server that serves this zone only knows nothing of another one's names.
        match knows {
            false => Ok(()),
            true => Err(Failure::terminal(
                "RF1164",
                format!("'{}' has no address: users would be led nowhere", self.record.standby),
            )
            .hint(format!("`dig @{resolver} {}`", self.record.standby))),
        }
    }

    /// What a resolver says, when it is not what is wanted.
    async fn differs(&self, resolver: &str) -> Option<String> {
        match dns::resolve(resolver, &self.owner.name, self.owner.kind).await {
            Err(failure) => Some(failure.message),
            Ok(answer) => match self.owner.records_in(&answer) {
                Some(seen) if seen.values == self.wanted.values => None,
                Some(seen) => Some(format!("{resolver} answers {}", seen.describe())),
                None => Some(format!("{resolver} says {}", dns::code(answer.response_code))),
            },
        }
    }
}

/// Whether an answer proves that a name has no address.
fn is_binding(answer: &Message) -> bool {
    let is_known = answer.authoritative || answer.recursion_available;
    let is_empty = answer.answers.is_empty();
    is_known
        && match answer.response_code {
            ResponseCode::NXDomain => true,
            ResponseCode::NoError => is_empty,
            _ => false,
        }
}

#[async_trait]
impl Way for Record {
    async fn now(&self) -> Result<String, Failure> {
        let current = self.current().await?;
        serde_json::to_string(&current)
            .map_err(|error| Failure::terminal("RF1001", error.to_string()))
    }

    async fn ready(&self) -> Result<Option<u64>, Failure> {
        let current = self.current().await?;
        self.store.prove_right(&current).await?;
        self.ask_resolvers().await?;
        Ok(Some(u64::from(current.ttl_s)))
    }

    async fn place(&self, before: Option<&str>) -> Result<Place, Failure> {
        let current = self.store.read().await?;
        let before: Option<RecordSet> = before.map(read_before).transpose()?;
        Ok(match (current, before) {
            (Some(current), _) if current.values == self.wanted.values => Place::Standby,
            (Some(current), Some(before)) if current.values != before.values => Place::Other(
                format!("it says {}, expected {}", current.describe(), before.describe()),
            ),
            (None, Some(before)) => {
                Place::Other(format!("it is gone, expected {}", before.describe()))
            }
            _ => Place::Primary,
        })
    }

    async fn switch(&self, before: &str) -> Result<(), Failure> {
        let before: RecordSet = read_before(before)?;
        let current = self.current().await?;
        if current.values == self.wanted.values {
            return Ok(());
        }
        if current.values != before.values {
            return Err(changed(&self.record.name, &format!("it says {}", current.describe())));
        }
        self.store.replace(&before, &self.wanted).await
    }

    async fn seen(&self, before: Option<&str>) -> Result<(), Failure> {
        let before: Option<RecordSet> = before.map(read_before).transpose()?;
        let cached_s = match before {
            Some(before) => u64::from(before.ttl_s),
            None => self.record.ttl_s_max,
        };
        let wait = Duration::from_secs(cached_s.max(self.record.ttl_s)) + MARGIN;
        let began = tokio::time::Instant::now();
        for resolver in &self.record.resolvers {
            while let Some(what) = self.differs(resolver).await {
                if began.elapsed() > wait {
                    return Err(Failure::terminal(
                        "RF1165",
                        format!(
                            "the change was taken and is not served: {what}, expected {}, {} s \
                             after the switch",
                            self.wanted.describe(),
                            began.elapsed().as_secs()
                        ),
                    )
                    .hint(
                        "does this server get its zone from the one that took the change (view, \
                         transfer, NOTIFY)? then `rollforward run retry RUN`",
                    ));
                }
                tokio::time::sleep(PERIOD).await;
            }
        }
        Ok(())
    }

    async fn back(&self, before: &str) -> Result<(), Failure> {
        let before: RecordSet = read_before(before)?;
        let current = self.current().await?;
        if current.values == before.values {
            return Ok(());
        }
        if current.values != self.wanted.values {
            return Err(changed(&self.record.name, &format!("it says {}", current.describe())));
        }
        self.store.replace(&current, &before).await
    }
}
