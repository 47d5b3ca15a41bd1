//! A dynamic update of a DNS record (RFC 2136), signed with a key (RFC 8945).
//!
//! Every update names the records that it expects: when somebody has changed them meanwhile, the
//! server refuses it as a whole.

use std::sync::Arc;

use async_trait::async_trait;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::tsig::TsigError;
use hickory_proto::rr::{DNSClass, Name, Record as DnsRecord};
use recovery::effect::Failure;
use recovery::service::TrafficRecord;
use stdx::Clock;

use super::dns::{self, Owner, RecordSet};
use super::record::Store;
use super::tsig::Key;

/// The primary server of a zone.
pub(super) struct Nsupdate {
    server: String,
    key: Key,
    zone: Name,
    owner: Owner,
    clock: Arc<dyn Clock>,
}

impl Nsupdate {
    pub(super) fn new(
        server: String,
        key: Key,
        record: &TrafficRecord,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Failure> {
        let wrong = |why: String| Failure::terminal("RF1164", why);
        let zone = dns::name(&record.zone).map_err(wrong)?;
        let owner = Owner::new(&record.name, &record.kind).map_err(wrong)?;
        Ok(Self { server, key, zone, owner, clock })
    }

    /// Sends a signed update. The server does all of it or nothing.
    async fn send(&self, expected: &RecordSet, changes: Vec<DnsRecord>) -> Result<(), Failure> {
        let prerequisites = self.owner.records(&expected.values, 0, DNSClass::IN)?;
        let mut message = dns::update(&self.zone, prerequisites, changes);
        let now = u64::try_from(self.clock.now().as_second()).unwrap_or_default();
        let unsigned = |what: String| Failure::terminal("RF1162", what);
        let verifier = message
            .finalize(&self.key.signer, now)
            .map_err(|error| unsigned(format!("key '{}' does not sign: {error}", self.key.name)))?;
        let addresses = dns::addresses(&self.server).await?;
        let bytes = dns::encode(&message)?;
        let (answer, raw) = dns::over_tcp(&addresses, &self.server, &bytes, message.id).await?;
        if answer.response_code != ResponseCode::NoError {
            return Err(self.refused(&answer, expected));
        }
        let is_signed = verifier.is_none_or(|mut verifier| verifier.verify(&raw).is_ok());
        match is_signed {
            true => Ok(()),
            // Whoever said so does not have the key.
            false => Err(Failure::ambiguous(
                "RF1161",
                format!(
                    "the answer of '{}' is not signed with key '{}'",
                    self.server, self.key.name
                ),
            )),
        }
    }

    /// Why the server did not take an update.
    fn refused(&self, answer: &Message, expected: &RecordSet) -> Failure {
        let Self { server, zone, owner, .. } = self;
        let key = &self.key.name;
        let code = answer.response_code;
        let seen = dns::code(code);
        let refused = |what: String, hint: String| {
            Failure::terminal("RF1162", format!("'{server}' says {seen}: {what}")).hint(hint)
        };
        let error = answer.signature.as_ref().and_then(|signature| signature.data.error);
        match (code, error) {
            (ResponseCode::NotAuth, Some(TsigError::BadKey)) => refused(
                format!("BADKEY: it does not know key '{key}', or not with this algorithm"),
                format!(
                    "compare the key's name and algorithm: `named-checkconf -p | grep -A3 '{key}'`"
                ),
            ),
            (ResponseCode::NotAuth, Some(TsigError::BadSig)) => refused(
                format!("BADSIG: its key '{key}' has another secret"),
                "put the server's secret where the configuration's `key` points to".into(),
            ),
            (ResponseCode::NotAuth, Some(TsigError::BadTime)) => refused(
                "BADTIME: the clocks of this host and of the server differ by more than 5 min"
                    .into(),
                "compare `date -u` on both; synchronise them".into(),
            ),
            (ResponseCode::NotAuth, _) => refused(
                format!("it is not the primary server of zone '{zone}'"),
                format!("which one is? `dig SOA {zone}`"),
            ),
            (ResponseCode::NotZone, _) => refused(
                format!("'{}' is not in zone '{zone}'", owner.name),
                format!("which zone is it in? `dig SOA {}`", owner.name),
            ),
            (ResponseCode::Refused, _) => refused(
                format!("key '{key}' may not change {} '{}'", owner.kind, owner.name),
                format!(
                    "the zone needs: update-policy {{ grant {key} name {} {}; }};",
                    owner.name, owner.kind
                ),
            ),
            (
                ResponseCode::NXRRSet
                | ResponseCode::YXRRSet
                | ResponseCode::NXDomain
                | ResponseCode::YXDomain,
                _,
            ) => super::changed(
                &owner.name.to_ascii(),
                &format!("'{server}' says {seen}, expected there {}", expected.describe()),
            ),
            (ResponseCode::FormErr | ResponseCode::NotImp, _) => refused(
                "it takes no dynamic updates".into(),
                "is it the primary server, and does it take RFC 2136 updates?".into(),
            ),
            _ => Failure::ambiguous("RF1161", format!("'{server}' says {seen}"))
                .hint("see the server's log; a frozen zone and a full disk look like this"),
        }
    }
}

#[async_trait]
impl Store for Nsupdate {
    async fn read(&self) -> Result<Option<RecordSet>, Failure> {
        let answer = dns::ask(&self.server, &self.owner.name, self.owner.kind).await?;
        let code = answer.response_code;
        match code {
            ResponseCode::NoError | ResponseCode::NXDomain if answer.authoritative => {
                Ok(self.owner.records_in(&answer))
            }
            ResponseCode::ServFail => Err(Failure::ambiguous(
                "RF1161",
                format!("'{}' says {}", self.server, dns::code(code)),
            )),
            _ => Err(Failure::terminal(
                "RF1162",
                format!(
                    "'{}' does not serve zone '{}': it says {}, not authoritative",
                    self.server,
                    self.zone,
                    dns::code(code)
                ),
            )
            .hint(format!("which server does? `dig SOA {}`", self.zone))),
        }
    }

    /// Asks to add what is there already: the server checks key and rights, and changes nothing.
    async fn prove_right(&self, now: &RecordSet) -> Result<(), Failure> {
        let same = self.owner.records(&now.values, now.ttl_s, DNSClass::IN)?;
        self.send(now, same).await
    }

    async fn replace(&self, from: &RecordSet, to: &RecordSet) -> Result<(), Failure> {
        let mut changes = self.owner.records(&from.values, 0, DNSClass::NONE)?;
        changes.extend(self.owner.records(&to.values, to.ttl_s, DNSClass::IN)?);
        self.send(from, changes).await
    }
}
