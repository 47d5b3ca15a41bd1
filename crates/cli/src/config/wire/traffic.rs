//! `traffic` of a service as it is written: one table, or several.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// What leads users here: exactly one of its kinds.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct TrafficTable {
    pub(in crate::config) nsupdate: Option<String>,
    pub(in crate::config) powerdns: Option<String>,
    pub(in crate::config) haproxy: Option<String>,
    pub(in crate::config) nginx: Option<String>,
    pub(in crate::config) standby: Option<String>,
    pub(in crate::config) zone: Option<String>,
    pub(in crate::config) name: Option<String>,
    #[serde(rename = "type")]
    pub(in crate::config) kind: Option<String>,
    pub(in crate::config) ttl: Option<String>,
    pub(in crate::config) ttl_max: Option<String>,
    pub(in crate::config) key: Option<String>,
    pub(in crate::config) login: Option<String>,
    pub(in crate::config) server: Option<String>,
    pub(in crate::config) resolvers: Option<Vec<String>>,
    pub(in crate::config) backend: Option<String>,
    pub(in crate::config) primary: Option<Vec<String>>,
    pub(in crate::config) test: Option<Vec<String>>,
    pub(in crate::config) reload: Option<Vec<String>>,
    pub(in crate::config) probe_url: Option<String>,
    pub(in crate::config) probe_word: Option<String>,
}

/// One table or a list of them.
#[derive(Debug, Default)]
pub(in crate::config) struct TrafficTables(pub(in crate::config) Vec<TrafficTable>);

impl<'de> Deserialize<'de> for TrafficTables {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMany)
    }
}

/// Reads both without giving up the place of an error, as an untagged enum would.
struct OneOrMany;

impl<'de> Visitor<'de> for OneOrMany {
    type Value = TrafficTables;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table or a list of tables")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TrafficTables, A::Error> {
        let table = TrafficTable::deserialize(MapAccessDeserializer::new(map))?;
        Ok(TrafficTables(vec![table]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<TrafficTables, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(TrafficTables)
    }
}
