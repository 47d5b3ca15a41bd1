//! From `traffic` as it is written to what is switched: checked, typed, nothing resolved.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use recovery::plan::{Stage, StepId};
use recovery::service::{TTL_S_MAX_DEFAULT, Traffic, TrafficHow, TrafficRecord};

use super::service::{Problem, one_of, reference, span, wrong};
use super::wire::{TrafficTable, TrafficTables};

/// Where DNS is served when nothing else is said.
const DNS_PORT: u16 = 53;

/// How long a switched record may be cached when nothing else is said, in seconds.
const TTL_S_DEFAULT: u64 = 60;

/// The longest time that a record may be given, in seconds.
const TTL_S_MAX: u64 = 86_400;

/// Longest name in DNS, and longest label of one (RFC 1035, section 2.3.4).
const NAME_LEN_MAX: usize = 253;
const LABEL_LEN_MAX: usize = 63;

/// The tables of a service, or of one of its sites.
pub(super) fn traffic(key: &str, tables: &TrafficTables) -> Result<Vec<Traffic>, Problem> {
    let mut all: Vec<Traffic> = Vec::new();
    for (at, table) in tables.0.iter().enumerate() {
        let key = match tables.0.len() {
            1 => key.to_owned(),
            _ => format!("{key}[{at}]"),
        };
        let one = one(&key, table)?;
        let id = |traffic: &Traffic| StepId::new(Stage::Open, "traffic", &traffic.name);
        if all.iter().any(|other| id(other) == id(&one)) {
            return wrong(&format!("{key}.name"), format!("'{}' stands there twice", one.name));
        }
        all.push(one);
    }
    Ok(all)
}

fn one(key: &str, table: &TrafficTable) -> Result<Traffic, Problem> {
    let (kind, value) = one_of(
        key,
        &[
            ("nsupdate", table.nsupdate.clone()),
            ("powerdns", table.powerdns.clone()),
            ("haproxy", table.haproxy.clone()),
            ("nginx", table.nginx.clone()),
        ],
    )?;
    only_its_own(key, kind, table)?;
    match kind {
        "nsupdate" => nsupdate(key, table, &value),
        "powerdns" => powerdns(key, table, &value),
        "haproxy" => haproxy(key, table, value),
        _ => nginx(key, table, value),
    }
}

/// A key of another kind would be ignored, and somebody relied on it.
fn only_its_own(key: &str, kind: &str, table: &TrafficTable) -> Result<(), Problem> {
    const RECORD: [&str; 2] = ["nsupdate", "powerdns"];
    let given = [
        ("zone", table.zone.is_some(), &RECORD[..]),
        ("type", table.kind.is_some(), &RECORD),
        ("ttl", table.ttl.is_some(), &RECORD),
        ("ttl_max", table.ttl_max.is_some(), &RECORD),
        ("resolvers", table.resolvers.is_some(), &RECORD),
        ("key", table.key.is_some(), &["nsupdate"]),
        ("login", table.login.is_some(), &["powerdns"]),
        ("server", table.server.is_some(), &["powerdns"]),
        ("backend", table.backend.is_some(), &["haproxy"]),
        ("primary", table.primary.is_some(), &["haproxy"]),
        ("test", table.test.is_some(), &["nginx"]),
        ("reload", table.reload.is_some(), &["nginx"]),
        ("probe_url", table.probe_url.is_some(), &["nginx"]),
        ("probe_word", table.probe_word.is_some(), &["nginx"]),
    ];
    let mut others =
        given.iter().filter(|(_, is_given, kinds)| *is_given && !kinds.contains(&kind));
    match others.next() {
        Some((name, _, kinds)) => {
            wrong(&format!("{key}.{name}"), format!("belongs to {}", kinds.join(" and ")))
        }
        None => Ok(()),
    }
}

fn needed(key: &str, name: &str, value: &Option<String>) -> Result<String, Problem> {
    match value.as_deref() {
        Some(value) if !value.is_empty() => Ok(value.to_owned()),
        _ => wrong(&format!("{key}.{name}"), "is missing"),
    }
}

fn nsupdate(key: &str, table: &TrafficTable, server: &str) -> Result<Traffic, Problem> {
    let server = host_and_port(&format!("{key}.nsupdate"), server, Some(DNS_PORT))?;
    let secret = needed(key, "key", &table.key)?;
    let secret = reference(&format!("{key}.key"), &secret)?;
    let record = record(key, table)?;
    Ok(Traffic {
        name: record.name.clone(),
        how: TrafficHow::Nsupdate { server, key: secret, record },
    })
}

fn powerdns(key: &str, table: &TrafficTable, url: &str) -> Result<Traffic, Problem> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let is_plain = |rest: &str| !rest.is_empty() && !rest.contains(['/', '?', '#', '@', ' ']);
    let url = url.trim_end_matches('/');
    if !rest.is_some_and(|rest| is_plain(rest.trim_end_matches('/'))) {
        let why = "expected http:// or https:// with host and port, without a path or a login";
        return wrong(&format!("{key}.powerdns"), why);
    }
    let server = table.server.clone().unwrap_or_else(|| "localhost".into());
    word(&format!("{key}.server"), &server)?;
    let login = needed(key, "login", &table.login)?;
    let login = reference(&format!("{key}.login"), &login)?;
    let record = record(key, table)?;
    Ok(Traffic {
        name: record.name.clone(),
        how: TrafficHow::PowerDns { url: url.into(), server, login, record },
    })
}

fn record(key: &str, table: &TrafficTable) -> Result<TrafficRecord, Problem> {
    let zone = name(&format!("{key}.zone"), &needed(key, "zone", &table.zone)?)?;
    let owner = name(&format!("{key}.name"), &needed(key, "name", &table.name)?)?;
    let is_apex = owner == zone;
    if !is_apex && !owner.ends_with(&format!(".{zone}")) {
        return wrong(&format!("{key}.name"), format!("expected a name in zone '{zone}'"));
    }
    let kind = needed(key, "type", &table.kind)?;
    let standby = needed(key, "standby", &table.standby)?;
    let standby_key = format!("{key}.standby");
    let standby = match kind.as_str() {
        "CNAME" if is_apex => {
            return wrong(&format!("{key}.type"), "a zone's own name cannot be a CNAME");
        }
        "CNAME" if standby.parse::<IpAddr>().is_ok() => {
            return wrong(&standby_key, "expected a name: the record is a CNAME");
        }
        "CNAME" => name(&standby_key, &standby)?,
        "A" if standby.parse::<Ipv4Addr>().is_err() => {
            return wrong(&standby_key, "expected an IPv4 address: the record is an A");
        }
        "AAAA" if standby.parse::<Ipv6Addr>().is_err() => {
            return wrong(&standby_key, "expected an IPv6 address: the record is an AAAA");
        }
        "A" | "AAAA" => standby,
        other => {
            let why = format!("expected A, AAAA or CNAME, seen '{other}'");
            return wrong(&format!("{key}.type"), why);
        }
    };
    if standby == owner {
        return wrong(&standby_key, "expected another name than the record's own");
    }
    let ttl_s = seconds(&format!("{key}.ttl"), table.ttl.as_deref(), TTL_S_DEFAULT)?;
    let ttl_s_max =
        seconds(&format!("{key}.ttl_max"), table.ttl_max.as_deref(), TTL_S_MAX_DEFAULT)?;
    let given = table.resolvers.iter().flatten().enumerate();
    let resolvers = given.map(|(at, text)| resolver(&format!("{key}.resolvers[{at}]"), text));
    let resolvers = resolvers.collect::<Result<_, _>>()?;
    Ok(TrafficRecord { zone, name: owner, kind, standby, ttl_s, ttl_s_max, resolvers })
}

fn haproxy(key: &str, table: &TrafficTable, socket: String) -> Result<Traffic, Problem> {
    let socket = match socket.starts_with('/') {
        true => socket,
        false => host_and_port(&format!("{key}.haproxy"), &socket, None)?,
    };
    let backend = needed(key, "backend", &table.backend)?;
    word(&format!("{key}.backend"), &backend)?;
    let standby = needed(key, "standby", &table.standby)?;
    word(&format!("{key}.standby"), &standby)?;
    let primary = table.primary.clone().unwrap_or_default();
    if primary.is_empty() {
        return wrong(&format!("{key}.primary"), "expected the servers that users are led to now");
    }
    for (at, server) in primary.iter().enumerate() {
        word(&format!("{key}.primary[{at}]"), server)?;
    }
    if primary.contains(&standby) {
        return wrong(&format!("{key}.standby"), "is one of 'primary'");
    }
    let name = table.name.clone().unwrap_or_else(|| backend.clone());
    let how = TrafficHow::HaProxy { socket, backend, primary, standby };
    Ok(Traffic { name, how })
}

fn nginx(key: &str, table: &TrafficTable, file: String) -> Result<Traffic, Problem> {
    let standby = needed(key, "standby", &table.standby)?;
    for (name, path) in [("nginx", &file), ("standby", &standby)] {
        if !path.starts_with('/') {
            return wrong(&format!("{key}.{name}"), "expected an absolute path");
        }
    }
    if file == standby {
        return wrong(&format!("{key}.standby"), "expected another file than the included one");
    }
    let command = |name: &str, given: &Option<Vec<String>>, default: &[&str]| match given {
        None => Ok(default.iter().map(|word| (*word).to_owned()).collect()),
        Some(words) if !words.is_empty() => Ok(words.clone()),
        Some(_) => wrong(&format!("{key}.{name}"), "expected a command: a list of words"),
    };
    let is_url = |url: &String| url.starts_with("http://") || url.starts_with("https://");
    if table.probe_url.as_ref().is_some_and(|url| !is_url(url)) {
        return wrong(&format!("{key}.probe_url"), "expected http:// or https://");
    }
    if table.probe_word.is_some() && table.probe_url.is_none() {
        return wrong(&format!("{key}.probe_word"), "expected 'probe_url' beside it");
    }
    let last = file.rsplit('/').next().unwrap_or_default().to_owned();
    Ok(Traffic {
        name: table.name.clone().unwrap_or(last),
        how: TrafficHow::Nginx {
            test: command("test", &table.test, &["nginx", "-t"])?,
            reload: command("reload", &table.reload, &["nginx", "-s", "reload"])?,
            probe_url: table.probe_url.clone(),
            probe_word: table.probe_word.clone(),
            file,
            standby,
        },
    })
}

/// A name of DNS, in lower case and without its final dot.
fn name(key: &str, text: &str) -> Result<String, Problem> {
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    let is_label = |label: &str| {
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        !label.is_empty() && label.len() <= LABEL_LEN_MAX && label.bytes().all(is_fit)
    };
    match name.len() <= NAME_LEN_MAX && name.split('.').all(is_label) {
        true => Ok(name),
        false => wrong(key, format!("expected a name of DNS, seen '{text}'")),
    }
}

/// A word of HAProxy's: a blank, a slash or a semicolon would be another command.
fn word(key: &str, text: &str) -> Result<(), Problem> {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    match !text.is_empty() && text.chars().all(is_fit) {
        true => Ok(()),
        false => wrong(key, format!("expected letters, digits and -_.: only, seen '{text}'")),
    }
}

fn host_and_port(key: &str, text: &str, default: Option<u16>) -> Result<String, Problem> {
    if text.parse::<SocketAddr>().is_ok() {
        return Ok(text.into());
    }
    if let (Ok(address), Some(port)) = (text.parse::<IpAddr>(), default) {
        return Ok(SocketAddr::from((address, port)).to_string());
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)),
        None => (text, default),
    };
    match (name(key, host), port) {
        (Ok(host), Some(port)) => Ok(format!("{host}:{port}")),
        _ => wrong(key, format!("expected host and port, seen '{text}'")),
    }
}

fn resolver(key: &str, text: &str) -> Result<String, Problem> {
    let bare = text.parse::<IpAddr>().map(|address| SocketAddr::from((address, DNS_PORT)));
    match text.parse::<SocketAddr>().or(bare) {
        Ok(address) => Ok(address.to_string()),
        // A name would have to be resolved by what is asked here.
        Err(_) => wrong(key, format!("expected an address like 127.0.0.1:53, seen '{text}'")),
    }
}

fn seconds(key: &str, text: Option<&str>, default: u64) -> Result<u64, Problem> {
    let Some(text) = text else { return Ok(default) };
    match span(key, text)?.as_secs() {
        seconds @ 1..=TTL_S_MAX => Ok(seconds),
        _ => wrong(key, format!("expected 1s to 1d, seen '{text}'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Traffic>, String> {
        #[derive(serde::Deserialize)]
        struct Service {
            traffic: TrafficTables,
        }
        let service: Service = toml::from_str(text).map_err(|error| error.to_string())?;
        traffic("traffic", &service.traffic).map_err(|(key, why)| format!("{key}: {why}"))
    }

    const RECORD: &str = "nsupdate = \"ns1.acme.example\", zone = \"acme.example\", \
        key = \"env:K\", name = \"Odoo.acme.example.\", type = \"CNAME\", \
        standby = \"odoo-dr.acme.example\"";
    const POWERDNS: &str = "powerdns = \"http://127.0.0.1:8081/\", zone = \"acme.example\", \
        login = \"env:K\", name = \"acme.example\", type = \"A\", standby = \"10.0.0.1\"";
    const HAPROXY: &str =
        r#"haproxy = "127.0.0.1:9999", backend = "odoo", standby = "dr", primary = ["a", "b"]"#;
    const NGINX: &str = r#"nginx = "/etc/nginx/up.inc", standby = "/etc/nginx/dr.inc""#;

    #[test]
    fn every_kind_is_read_alone_and_in_a_list() {
        let one =
            read(&format!("traffic = {{ {RECORD}, resolvers = [\"127.0.0.1\", \"[::1]:5353\"] }}"));
        let one = one.unwrap();
        assert_eq!(one.len(), 1);
        assert_eq!(one[0].name, "odoo.acme.example");
        let record = one[0].record().unwrap();
        assert_eq!(record.resolvers, ["127.0.0.1:53", "[::1]:5353"]);
        assert_eq!((record.ttl_s, record.ttl_s_max), (60, 300));
        let all = [RECORD, POWERDNS, HAPROXY, NGINX];
        let list = all.map(|table| format!("{{ {table} }}")).join(", ");
        let names: Vec<String> =
            read(&format!("traffic = [{list}]")).unwrap().into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["odoo.acme.example", "acme.example", "odoo", "up.inc"]);
        let tables = "[[traffic]]\nnginx = \"/a\"\nstandby = \"/b\"\nname = \"web\"\n";
        assert_eq!(read(tables).unwrap()[0].name, "web");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key() {
        let check = |table: &str, from: &str, to: &str, expect: &str| {
            assert!(table.contains(from), "{from}");
            let seen = read(&format!("traffic = {{ {} }}", table.replacen(from, to, 1)));
            let seen = seen.unwrap_err();
            assert!(seen.contains(expect), "expected {expect:?}, seen {seen:?}");
        };
        check(RECORD, "key = \"env:K\", ", "", "traffic.key: is missing");
        check(RECORD, "env:K", "s3cret", "traffic.key: expected a reference");
        check(RECORD, "zone = \"acme.example\", ", "", "traffic.zone: is missing");
        check(RECORD, "zone = \"acme", "zone = \"other", "expected a name in zone");
        check(RECORD, "CNAME", "TXT", "expected A, AAAA or CNAME, seen 'TXT'");
        check(RECORD, "CNAME", "A", "expected an IPv4 address");
        check(RECORD, "CNAME", "AAAA", "expected an IPv6 address");
        check(RECORD, "odoo-dr.acme.example", "10.0.0.1", "expected a name");
        check(RECORD, "odoo-dr.acme.example", "odoo.acme.example", "than the record's own");
        check(RECORD, "odoo-dr", "odoo dr", "expected a name of DNS");
        check(RECORD, "ns1.acme.example", "ns1.acme.example:x", "traffic.nsupdate: expected host");
        check(RECORD, "nsupdate", "ttl = \"0s\", nsupdate", "traffic.ttl: expected 1s to 1d");
        check(RECORD, "nsupdate", "ttl = \"60\", nsupdate", "traffic.ttl: expected a duration");
        check(
            RECORD,
            "nsupdate",
            "resolvers = [\"ns\"], nsupdate",
            "traffic.resolvers[0]: expected",
        );
        check(
            RECORD,
            "nsupdate",
            "backend = \"x\", nsupdate",
            "traffic.backend: belongs to haproxy",
        );
        check(RECORD, "nsupdate", "tll = \"1s\", nsupdate", "unknown field `tll`");
        check(RECORD, "nsupdate", "nginx = \"/x\", nsupdate", "expected exactly one of: nsupdate");
        check(POWERDNS, "type = \"A\"", "type = \"CNAME\"", "traffic.type: a zone's own name");
        check(POWERDNS, "8081/", "8081/api", "traffic.powerdns: expected http://");
        check(POWERDNS, "http://", "http://u:p@", "traffic.powerdns: expected http://");
        check(POWERDNS, "login = \"env:K\", ", "", "traffic.login: is missing");
        check(HAPROXY, "127.0.0.1:9999", "admin.sock", "traffic.haproxy: expected host and port");
        check(HAPROXY, "\"odoo\"", "\"odoo; clear table t\"", "traffic.backend: expected letters");
        check(HAPROXY, "\"a\", \"b\"", "", "traffic.primary: expected the servers");
        check(HAPROXY, "\"dr\"", "\"b\"", "traffic.standby: is one of 'primary'");
        check(HAPROXY, "\"b\"", "\"b/c\"", "traffic.primary[1]: expected letters");
        check(NGINX, "\"/etc/nginx/up.inc\"", "\"up.inc\"", "traffic.nginx: expected an absolute");
        check(NGINX, "dr.inc", "up.inc", "traffic.standby: expected another file");
        check(NGINX, "nginx =", "test = [], nginx =", "traffic.test: expected a command");
        check(NGINX, "nginx =", "probe_word = \"x\", nginx =", "expected 'probe_url' beside it");
        check(NGINX, "nginx =", "probe_url = \"x\", nginx =", "traffic.probe_url: expected http");
        let twice = format!("traffic = [{{ {NGINX} }}, {{ {NGINX}, name = \"up-inc\" }}]");
        assert!(read(&twice).unwrap_err().contains("traffic[1].name: 'up-inc' stands there twice"));
    }
}
