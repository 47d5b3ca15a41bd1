//! What leads users to one site or another: a DNS record, a load balancer, a proxy.

use std::collections::BTreeMap;

/// So long a record may be cached before a plan warns of it, when nothing else is configured.
pub const TTL_S_MAX_DEFAULT: u64 = 300;

/// What leads users to the service, and how it is switched to the standby site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// A short name: the record's, the backend's, the file's.
    pub name: String,
    /// How it is switched.
    pub how: TrafficHow,
}

/// How traffic is switched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrafficHow {
    /// A dynamic update of a DNS record (RFC 2136), signed with a key (RFC 8945).
    Nsupdate {
        /// The primary server of the zone: host and port.
        server: String,
        /// The key, as a reference: name, algorithm and secret.
        key: String,
        /// The record.
        record: TrafficRecord,
    },
    /// A record in PowerDNS, by its HTTP API.
    PowerDns {
        /// The API's address, without a path.
        url: String,
        /// The server's id, `localhost` as a rule.
        server: String,
        /// The API key, as a reference.
        login: String,
        /// The record.
        record: TrafficRecord,
    },
    /// Servers of a backend of HAProxy, by its runtime API.
    HaProxy {
        /// The socket: an absolute path, or host and port.
        socket: String,
        /// The backend.
        backend: String,
        /// The servers that users are led to now.
        primary: Vec<String>,
        /// The server that they are led to instead.
        standby: String,
    },
    /// A file that nginx includes, and a reload.
    Nginx {
        /// The file.
        file: String,
        /// The file whose content takes its place.
        standby: String,
        /// Says with 0 that nginx would take its configuration.
        test: Vec<String>,
        /// Makes nginx take it.
        reload: Vec<String>,
        /// Who serves is asked here.
        probe_url: Option<String>,
        /// What the answer of the standby site contains.
        probe_word: Option<String>,
    },
}

/// A DNS record that leads to one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficRecord {
    /// The zone it stands in.
    pub zone: String,
    /// Its name.
    pub name: String,
    /// `A`, `AAAA` or `CNAME`.
    pub kind: String,
    /// What it says when it leads to the standby site.
    pub standby: String,
    /// How long it may be cached from the switch on, in seconds.
    pub ttl_s: u64,
    /// How long it may be cached today without a warning, in seconds.
    pub ttl_s_max: u64,
    /// Resolvers that must see the switch, as addresses with ports.
    pub resolvers: Vec<String>,
}

impl Traffic {
    /// For people.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.how {
            TrafficHow::Nsupdate { server, record, .. } => {
                format!("{} record '{}' at {server}", record.kind, record.name)
            }
            TrafficHow::PowerDns { url, record, .. } => {
                format!("{} record '{}' in PowerDNS {url}", record.kind, record.name)
            }
            TrafficHow::HaProxy { socket, backend, .. } => {
                format!("backend '{backend}' of HAProxy {socket}")
            }
            TrafficHow::Nginx { file, .. } => format!("nginx by file '{file}'"),
        }
    }

    /// Where it leads to after the switch, for people.
    #[must_use]
    pub fn standby(&self) -> &str {
        match &self.how {
            TrafficHow::Nsupdate { record, .. } | TrafficHow::PowerDns { record, .. } => {
                &record.standby
            }
            TrafficHow::HaProxy { standby, .. } | TrafficHow::Nginx { standby, .. } => standby,
        }
    }

    /// The DNS record, if it is one.
    #[must_use]
    pub fn record(&self) -> Option<&TrafficRecord> {
        match &self.how {
            TrafficHow::Nsupdate { record, .. } | TrafficHow::PowerDns { record, .. } => {
                Some(record)
            }
            TrafficHow::HaProxy { .. } | TrafficHow::Nginx { .. } => None,
        }
    }

    /// The reference to the secret that it needs, if any.
    #[must_use]
    pub fn secret(&self) -> Option<&str> {
        match &self.how {
            TrafficHow::Nsupdate { key, .. } => Some(key),
            TrafficHow::PowerDns { login, .. } => Some(login),
            TrafficHow::HaProxy { .. } | TrafficHow::Nginx { .. } => None,
        }
    }

    /// What a provider needs of it, as parameters of a step.
    #[must_use]
    pub fn parameters(&self) -> BTreeMap<String, String> {
        let mut named = vec![("name", self.name.clone())];
        match &self.how {
            TrafficHow::Nsupdate { server, key, record } => {
                named.extend([
                    ("traffic", "nsupdate".to_owned()),
                    ("server", server.clone()),
                    ("key", key.clone()),
                ]);
                named.extend(record.parameters());
            }
            TrafficHow::PowerDns { url, server, login, record } => {
                named.extend([
                    ("traffic", "powerdns".to_owned()),
                    ("url", url.clone()),
                    ("server", server.clone()),
                    ("login", login.clone()),
                ]);
                named.extend(record.parameters());
            }
            TrafficHow::HaProxy { socket, backend, primary, standby } => named.extend([
                ("traffic", "haproxy".to_owned()),
                ("socket", socket.clone()),
                ("backend", backend.clone()),
                ("primary", words(primary)),
                ("standby", standby.clone()),
            ]),
            TrafficHow::Nginx { file, standby, test, reload, probe_url, probe_word } => {
                named.extend([
                    ("traffic", "nginx".to_owned()),
                    ("file", file.clone()),
                    ("standby", standby.clone()),
                    ("test", words(test)),
                    ("reload", words(reload)),
                ]);
                named.extend(probe_url.clone().map(|url| ("probe_url", url)));
                named.extend(probe_word.clone().map(|word| ("probe_word", word)));
            }
        }
        named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The traffic that a step's parameters say.
    ///
    /// # Errors
    /// The parameter that is missing or is no list.
    pub fn from_parameters(parameters: &BTreeMap<String, String>) -> Result<Self, String> {
        let text = |name: &str| {
            parameters.get(name).cloned().ok_or_else(|| format!("there is no parameter '{name}'"))
        };
        let list = |name: &str| {
            serde_json::from_str::<Vec<String>>(&text(name)?)
                .map_err(|_| format!("parameter '{name}' is no list of words"))
        };
        let seconds = |name: &str| {
            text(name)?.parse().map_err(|_| format!("parameter '{name}' is no number of seconds"))
        };
        let record = || {
            Ok::<_, String>(TrafficRecord {
                zone: text("zone")?,
                name: text("record")?,
                kind: text("type")?,
                standby: text("standby")?,
                ttl_s: seconds("ttl_s")?,
                ttl_s_max: seconds("ttl_s_max")?,
                resolvers: list("resolvers")?,
            })
        };
        let how = match text("traffic")?.as_str() {
            "nsupdate" => TrafficHow::Nsupdate {
                server: text("server")?,
                key: text("key")?,
                record: record()?,
            },
            "powerdns" => TrafficHow::PowerDns {
                url: text("url")?,
                server: text("server")?,
                login: text("login")?,
                record: record()?,
            },
            "haproxy" => TrafficHow::HaProxy {
                socket: text("socket")?,
                backend: text("backend")?,
                primary: list("primary")?,
                standby: text("standby")?,
            },
            "nginx" => TrafficHow::Nginx {
                file: text("file")?,
                standby: text("standby")?,
                test: list("test")?,
                reload: list("reload")?,
                probe_url: parameters.get("probe_url").cloned(),
                probe_word: parameters.get("probe_word").cloned(),
            },
            other => return Err(format!("traffic cannot be switched by '{other}'")),
        };
        Ok(Self { name: text("name")?, how })
    }
}

impl TrafficRecord {
    fn parameters(&self) -> [(&'static str, String); 7] {
        [
            ("zone", self.zone.clone()),
            ("record", self.name.clone()),
            ("type", self.kind.clone()),
            ("standby", self.standby.clone()),
            ("ttl_s", self.ttl_s.to_string()),
            ("ttl_s_max", self.ttl_s_max.to_string()),
            ("resolvers", words(&self.resolvers)),
        ]
    }
}

fn words(words: &[String]) -> String {
    serde_json::to_string(words).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_say_all_of_it() {
        let record = TrafficRecord {
            zone: "acme.example".into(),
            name: "odoo.acme.example".into(),
            kind: "CNAME".into(),
            standby: "odoo-dr.acme.example".into(),
            ttl_s: 60,
            ttl_s_max: 300,
            resolvers: vec!["127.0.0.1:53".into()],
        };
        let all = [
            TrafficHow::Nsupdate {
                server: "ns1:53".into(),
                key: "env:KEY".into(),
                record: record.clone(),
            },
            TrafficHow::PowerDns {
                url: "http://127.0.0.1:8081".into(),
                server: "localhost".into(),
                login: "env:PDNS_KEY".into(),
                record,
            },
            TrafficHow::HaProxy {
                socket: "/run/haproxy/admin.sock".into(),
                backend: "odoo".into(),
                primary: vec!["a".into(), "b".into()],
                standby: "dr".into(),
            },
            TrafficHow::Nginx {
                file: "/etc/nginx/up.inc".into(),
                standby: "/etc/nginx/dr.inc".into(),
                test: vec!["nginx".into(), "-t".into()],
                reload: vec!["nginx".into()],
                probe_url: Some("http://127.0.0.1/".into()),
                probe_word: None,
            },
        ];
        for how in all {
            let traffic = Traffic { name: "odoo".into(), how };
            let parameters = traffic.parameters();
            assert_eq!(Traffic::from_parameters(&parameters), Ok(traffic));
            for name in parameters.keys().filter(|name| !name.starts_with("probe_")) {
                let mut fewer = parameters.clone();
                fewer.remove(name);
                let why = Traffic::from_parameters(&fewer).unwrap_err();
                assert!(why.contains(name), "{name}: {why}");
            }
        }
    }
}
