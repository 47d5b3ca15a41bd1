//! Connections as they are written: host, port and database are found and replaced; everything else
//! stays byte for byte.

use std::collections::BTreeMap;
use std::ops::Range;

use recovery::service::Form;

/// The parts that change. `None`: not said, or not to be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The host, or a socket's folder.
    pub host: Option<String>,
    /// The port.
    pub port: Option<String>,
    /// The database.
    pub database: Option<String>,
}

/// Where a user and a password stand.
#[derive(Clone, Debug, Default)]
pub(super) struct Login {
    pub(super) user: Option<Range<usize>>,
    pub(super) password: Option<Range<usize>>,
}

/// Where a part stands, and what to write around it when it is not there.
#[derive(Clone, Debug, Default)]
struct Places {
    host: Option<Range<usize>>,
    port: Option<Range<usize>>,
    database: Option<Range<usize>>,
    login: Login,
    /// Where a missing port is put, and what before it.
    port_at: Option<(usize, &'static str)>,
    /// Where a missing host is put, and what before it.
    host_at: Option<(usize, &'static str)>,
    /// What follows a port or host that is put where nothing was.
    after: &'static str,
}

/// The parts that a value says.
///
/// # Errors
/// A sentence without the value: it holds a password.
pub(crate) fn parts(
    value: &str,
    form: Form,
    fields: &BTreeMap<String, String>,
) -> Result<Parts, String> {
    let places = places(value, form, fields)?;
    let text = |range: &Option<Range<usize>>| {
        range.as_ref().and_then(|range| value.get(range.clone())).map(str::to_owned)
    };
    Ok(Parts {
        host: text(&places.host),
        port: text(&places.port),
        database: text(&places.database),
    })
}

/// The value with other parts; a part that is `None` stays.
///
/// # Errors
/// As `parts`: the text has no such form.
pub fn replace_parts(
    value: &str,
    form: Form,
    fields: &BTreeMap<String, String>,
    parts: &Parts,
) -> Result<String, String> {
    let places = places(value, form, fields)?;
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    let mut edit = |range: &Option<Range<usize>>,
                    at: Option<(usize, &'static str)>,
                    wanted: &Option<String>| {
        let Some(wanted) = wanted else { return Ok(()) };
        match (range, at) {
            (Some(range), _) => edits.push((range.clone(), wanted.clone())),
            (None, Some((at, before))) => {
                edits.push((at..at, format!("{before}{wanted}{}", places.after)));
            }
            (None, None) => return Err("a part that has to change is not in it".to_owned()),
        }
        Ok(())
    };
    edit(&places.host, places.host_at, &parts.host)?;
    edit(&places.port, places.port_at, &parts.port)?;
    edit(&places.database, None, &parts.database)?;
    Ok(applied(value, edits))
}

/// The value with its old parts: a part that was not said before is taken out again.
///
/// # Errors
/// As [`parts`].
pub(crate) fn restore_parts(
    value: &str,
    form: Form,
    fields: &BTreeMap<String, String>,
    old: &Parts,
) -> Result<String, String> {
    let restored = replace_parts(value, form, fields, old)?;
    let now = places(&restored, form, fields)?;
    let mut edits = Vec::new();
    // What was put around it is taken out with it.
    let (host_before, port_before, after) = match form {
        Form::Uri => (None, Some(":"), 0),
        Form::Libpq => (Some(" host="), Some(" port="), 0),
        Form::Ado => (Some("Host="), Some("Port="), 1),
        Form::Json => (None, None, 0),
    };
    for (old, now, before) in
        [(&old.host, &now.host, host_before), (&old.port, &now.port, port_before)]
    {
        if let (None, Some(now), Some(before)) = (old, now, before) {
            edits.push((now.start.saturating_sub(before.len())..now.end + after, String::new()));
        }
    }
    Ok(applied(&restored, edits))
}

/// Where the value says who logs in.
pub(super) fn login(
    value: &str,
    form: Form,
    fields: &BTreeMap<String, String>,
) -> Result<Login, String> {
    Ok(places(value, form, fields)?.login)
}

fn applied(value: &str, mut edits: Vec<(Range<usize>, String)>) -> String {
    // Of two at one place the first one stands first: it is written last.
    edits.reverse();
    edits.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
    let mut out = value.to_owned();
    for (range, text) in edits {
        out.replace_range(range, &text);
    }
    out
}

fn places(value: &str, form: Form, fields: &BTreeMap<String, String>) -> Result<Places, String> {
    match form {
        Form::Uri => uri(value),
        Form::Libpq => libpq(value),
        Form::Ado => ado(value),
        Form::Json => json(value, fields),
    }
}

/// `postgres://user:password@host:port/database?options`
fn uri(value: &str) -> Result<Places, String> {
    let begin = value.find("://").ok_or("expected a URI like postgres://…")? + 3;
    let rest = value.get(begin..).unwrap_or_default();
    let authority_len = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = rest.get(..authority_len).unwrap_or_default();
    let host_begin = begin + authority.rfind('@').map_or(0, |at| at + 1);
    let end = begin + authority_len;
    let host_port = value.get(host_begin..end).unwrap_or_default();
    if host_port.contains(',') {
        return Err("expected one host, seen several".into());
    }
    // An IPv6 address stands in brackets.
    let colon = match host_port.find(']') {
        Some(bracket) => {
            host_port.get(bracket..).and_then(|rest| rest.find(':')).map(|at| bracket + at)
        }
        None => host_port.find(':'),
    };
    let mut places = Places { after: "", ..Places::default() };
    if let Some(at) = authority.rfind('@') {
        let colon = authority.get(..at).and_then(|login| login.find(':'));
        places.login.user = Some(begin..begin + colon.unwrap_or(at));
        places.login.password = colon.map(|colon| begin + colon + 1..begin + at);
    }
    let host_end = host_begin + colon.unwrap_or(host_port.len());
    places.host = Some(host_begin..host_end);
    match colon {
        Some(at) => places.port = Some(host_begin + at + 1..end),
        None => places.port_at = Some((host_end, ":")),
    }
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    let names = query.split('&').filter_map(|pair| pair.split('=').next());
    if names.into_iter().any(|name| matches!(name, "host" | "hostaddr" | "port")) {
        return Err(
            "expected host and port before the '?', seen them behind it, where they win".into()
        );
    }
    if value.get(end..=end) == Some("/") {
        let path = value.get(end + 1..).unwrap_or_default();
        let len = path.find(['?', '#']).unwrap_or(path.len());
        places.database = Some(end + 1..end + 1 + len);
    }
    Ok(places)
}

/// `host=… port='…' dbname=…`
fn libpq(value: &str) -> Result<Places, String> {
    let mut places = Places {
        port_at: Some((value.trim_end().len(), " port=")),
        host_at: Some((value.trim_end().len(), " host=")),
        ..Places::default()
    };
    let (mut at, mut hosts) = (0, 0);
    while let Some(rest) = value.get(at..).filter(|rest| !rest.trim().is_empty()) {
        at += rest.len() - rest.trim_start().len();
        let rest = value.get(at..).unwrap_or_default();
        let equals = rest.find('=').ok_or("expected name=value")?;
        let name = rest.get(..equals).unwrap_or_default().trim().to_owned();
        at += equals + 1;
        let rest = value.get(at..).unwrap_or_default();
        at += rest.len() - rest.trim_start().len();
        let (range, next) = libpq_value(value, at)?;
        match name.as_str() {
            "host" | "hostaddr" => {
                places.host = Some(range);
                hosts += 1;
            }
            "port" => places.port = Some(range),
            "dbname" => places.database = Some(range),
            "user" => places.login.user = Some(range),
            "password" => places.login.password = Some(range),
            _ => {}
        }
        at = next;
    }
    if hosts > 1 {
        return Err("expected one of host and hostaddr, seen several".into());
    }
    Ok(places)
}

/// The range of a value and where the next pair begins.
fn libpq_value(text: &str, begin: usize) -> Result<(Range<usize>, usize), String> {
    let rest = text.get(begin..).unwrap_or_default();
    if !rest.starts_with('\'') {
        let len = rest.find(char::is_whitespace).unwrap_or(rest.len());
        return Ok((begin..begin + len, begin + len));
    }
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            '\\' if !escaped => escaped = true,
            '\'' if !escaped => return Ok((begin + 1..begin + at, begin + at + 1)),
            _ => escaped = false,
        }
    }
    Err("a quote does not end".into())
}

/// `Host=…;Port=…;Database=…`
fn ado(value: &str) -> Result<Places, String> {
    let mut places = Places {
        after: ";",
        port_at: Some((0, "Port=")),
        host_at: Some((0, "Host=")),
        ..Places::default()
    };
    let mut at = 0;
    for pair in value.split(';') {
        let begin = at;
        at += pair.len() + 1;
        if pair.trim().is_empty() {
            continue;
        }
        let equals = pair.find('=').ok_or("expected Name=value;…")?;
        let name = pair.get(..equals).unwrap_or_default().trim().to_lowercase();
        let raw = pair.get(equals + 1..).unwrap_or_default();
        let lead = raw.len() - raw.trim_start().len();
        let start = begin + equals + 1 + lead;
        let range = start..start + raw.trim().len();
        match name.as_str() {
            "host" | "server" | "data source" => places.host = Some(range),
            "port" => places.port = Some(range),
            "database" | "db" | "initial catalog" => places.database = Some(range),
            "username" | "user id" | "user" | "uid" => places.login.user = Some(range),
            "password" | "pwd" => places.login.password = Some(range),
            _ => {}
        }
    }
    Ok(places)
}

/// A JSON object with a field for each part.
fn json(value: &str, fields: &BTreeMap<String, String>) -> Result<Places, String> {
    let place = |part: &str| {
        let field = fields.get(part).map_or(part, String::as_str);
        super::place::json_value(value, &[field])
    };
    let host = place("host").ok_or("it has no field with the host")?;
    Ok(Places {
        host: Some(host),
        port: place("port"),
        database: place("database"),
        login: Login {
            user: place("user").or_else(|| place("username")),
            password: place("password"),
        },
        ..Places::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> Parts {
        Parts { host: Some("127.0.0.1".into()), port: Some("41234".into()), database: None }
    }

    fn check(form: Form, value: &str, expect: &str) {
        let fields = BTreeMap::from([("host".to_owned(), "server".to_owned())]);
        let old = parts(value, form, &fields).unwrap();
        let replaced = replace_parts(value, form, &fields, &new()).unwrap();
        assert_eq!(replaced, expect);
        let seen = parts(&replaced, form, &fields).unwrap();
        assert_eq!((seen.host, seen.port), (new().host, new().port), "{value}");
        assert_eq!(restore_parts(&replaced, form, &fields, &old).unwrap(), value, "back");
    }

    #[test]
    fn only_host_and_port_change_and_they_change_back() {
        check(
            Form::Uri,
            "postgres://shop:p%40:ss@db1.acme.example:5432/shop?sslmode=require#x",
            "postgres://shop:p%40:ss@127.0.0.1:41234/shop?sslmode=require#x",
        );
        check(Form::Uri, "postgresql://db1/shop", "postgresql://127.0.0.1:41234/shop");
        check(Form::Uri, "postgres://u@[::1]:5433/d", "postgres://u@127.0.0.1:41234/d");
        check(
            Form::Libpq,
            "host=db1 port=5432 dbname='my db' password='a b\\'c' sslmode=require",
            "host=127.0.0.1 port=41234 dbname='my db' password='a b\\'c' sslmode=require",
        );
        check(
            Form::Libpq,
            "dbname=shop user=shop",
            "dbname=shop user=shop host=127.0.0.1 port=41234",
        );
        check(Form::Ado, "Database=engine", "Host=127.0.0.1;Port=41234;Database=engine");
        check(Form::Uri, "postgres:///shop", "postgres://127.0.0.1:41234/shop");
        check(Form::Libpq, "host=db1 dbname=shop", "host=127.0.0.1 dbname=shop port=41234");
        check(
            Form::Ado,
            "Host=db1; Port = 5432 ;Database=engine;Username=u;Password=p=x",
            "Host=127.0.0.1; Port = 41234 ;Database=engine;Username=u;Password=p=x",
        );
        check(
            Form::Ado,
            "Server=db1;Database=engine",
            "Port=41234;Server=127.0.0.1;Database=engine",
        );
        check(
            Form::Json,
            "{ \"server\": \"db1\", \"port\": 5432, \"password\": \"x\\\"y\" }",
            "{ \"server\": \"127.0.0.1\", \"port\": 41234, \"password\": \"x\\\"y\" }",
        );
    }

    #[test]
    fn what_is_no_connection_is_refused_without_showing_it() {
        let none = BTreeMap::new();
        for (form, value) in [
            (Form::Uri, "secret"),
            (Form::Uri, "postgres://u:secret@a,b/d"),
            (Form::Uri, "postgres://u:secret@/d?sslmode=require&host=/run/postgresql"),
            (Form::Libpq, "hostaddr=10.0.0.1 host=db1 password=secret"),
            (Form::Libpq, "password='secret"),
            (Form::Ado, "secret"),
            (Form::Json, "{\"secret\":1}"),
        ] {
            let error = parts(value, form, &none).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
