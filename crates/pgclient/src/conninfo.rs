//! libpq's two notations, taken apart into (keyword, value) pairs in the order written.
//!
//! PostgreSQL: `conninfo_parse`, `conninfo_uri_parse_options`, src/interfaces/libpq/fe-connect.c.
//! No error of this file repeats a piece of the input other than a keyword.

use crate::Error;

/// The pairs of a connection string in either notation.
///
/// # Errors
/// [`Error::Conninfo`].
pub(crate) fn parse(text: &str) -> Result<Vec<(String, String)>, Error> {
    for scheme in ["postgresql://", "postgres://"] {
        if let Some(rest) = text.strip_prefix(scheme) {
            return parse_uri(rest);
        }
    }
    parse_pairs(text)
}

pub(crate) fn bad(reason: impl Into<String>) -> Error {
    Error::Conninfo { reason: reason.into() }
}

fn parse_pairs(text: &str) -> Result<Vec<(String, String)>, Error> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or_else(|| bad("a keyword without '='"))?;
        let key = key.trim_end();
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(bad("expected keyword = value pairs"));
        }
        let (value, after) = parse_value(after.trim_start())?;
        pairs.push((key.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// One value, quoted with `'` or bare up to white space; `\` takes the next character as it is.
fn parse_value(text: &str) -> Result<(String, &str), Error> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            '\'' if quoted => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            c if !quoted && c.is_whitespace() => {
                return Ok((value, text.get(at..).unwrap_or_default()));
            }
            c => value.push(c),
        }
    }
    if quoted { Err(bad("a quoted value has no end")) } else { Ok((value, "")) }
}

fn parse_uri(rest: &str) -> Result<Vec<(String, String)>, Error> {
    let mut pairs = Vec::new();
    let rest = match rest.split_once('@') {
        Some((userinfo, after)) if !userinfo.contains('/') => {
            push_userinfo(&mut pairs, userinfo)?;
            after
        }
        _ => rest,
    };
    let (hosts_and_path, query) = match rest.split_once('?') {
        Some((before, query)) => (before, Some(query)),
        None => (rest, None),
    };
    let (hosts, path) = match hosts_and_path.split_once('/') {
        Some((hosts, path)) => (hosts, path),
        None => (hosts_and_path, ""),
    };
    // An '@' here is most likely part of a password; as a host or a database it would be shown.
    if hosts.contains('@') || path.contains('@') {
        return Err(bad("an '@' outside of the separator must be written as %40"));
    }
    push_hosts(&mut pairs, hosts)?;
    if !path.is_empty() {
        pairs.push(("dbname".into(), percent_decode(path)?));
    }
    for part in query.into_iter().flat_map(|query| query.split('&')).filter(|p| !p.is_empty()) {
        let (key, value) =
            part.split_once('=').ok_or_else(|| bad("a URI parameter without '='"))?;
        let key = percent_decode(key)?;
        // JDBC's spelling, which libpq also takes.
        if key == "ssl" && value == "true" {
            pairs.push(("sslmode".into(), "require".into()));
        } else {
            pairs.push((key, percent_decode(value)?));
        }
    }
    Ok(pairs)
}

fn push_userinfo(pairs: &mut Vec<(String, String)>, userinfo: &str) -> Result<(), Error> {
    let (user, password) = match userinfo.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (userinfo, None),
    };
    if !user.is_empty() {
        pairs.push(("user".into(), percent_decode(user)?));
    }
    if let Some(password) = password.filter(|password| !password.is_empty()) {
        pairs.push(("password".into(), percent_decode(password)?));
    }
    Ok(())
}

fn push_hosts(pairs: &mut Vec<(String, String)>, hosts: &str) -> Result<(), Error> {
    if hosts.is_empty() {
        return Ok(());
    }
    let mut names = Vec::new();
    let mut ports = Vec::new();
    for host in hosts.split(',') {
        let (name, port) = match host.strip_prefix('[') {
            Some(v6) => {
                let (name, rest) =
                    v6.split_once(']').ok_or_else(|| bad("an IPv6 address without ']'"))?;
                let port = match rest.strip_prefix(':') {
                    None if !rest.is_empty() => return Err(bad("text after ']'")),
                    port => port.unwrap_or(""),
                };
                (name, port)
            }
            None => host.split_once(':').unwrap_or((host, "")),
        };
        names.push(percent_decode(name)?);
        ports.push(port.to_owned());
    }
    if names.iter().any(|name| !name.is_empty()) {
        pairs.push(("host".into(), names.join(",")));
    }
    if ports.iter().any(|port| !port.is_empty()) {
        pairs.push(("port".into(), ports.join(",")));
    }
    Ok(())
}

fn percent_decode(text: &str) -> Result<String, Error> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) =
            rest.split_first_chunk::<2>().ok_or_else(|| bad("'%' without two digits"))?;
        let value = str::from_utf8(digits)
            .ok()
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .ok_or_else(|| bad("'%' without two hexadecimal digits; '%' itself is %25"))?;
        if value == 0 {
            return Err(bad("a zero byte (%00)"));
        }
        bytes.push(value);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| bad("not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn check(text: &str, expect: &str) {
        let seen = match parse(text) {
            Ok(pairs) => {
                pairs.iter().map(|(k, v)| format!("{k}<{v}>")).collect::<Vec<_>>().join(" ")
            }
            Err(error) => format!("{error}").replace("not a PostgreSQL connection string: ", "! "),
        };
        assert_eq!(seen, expect, "{text}");
    }

    #[test]
    fn reads_keyword_value_pairs_as_libpq_does() {
        check("", "");
        check("host=a port = 5433", "host<a> port<5433>");
        check(r"password='it\'s \\ x' user=u\ v", r"password<it's \ x> user<u v>");
        check("host='' dbname=", "host<> dbname<>");
        check("host", "! a keyword without '='");
        check("password='open", "! a quoted value has no end");
        check("a b=c", "! expected keyword = value pairs");
    }

    #[test]
    fn reads_uris_as_libpq_does() {
        check("postgresql://", "");
        check("postgres://h", "host<h>");
        check(
            "postgres://u:p%40w@h:1,[::1]:2/d%2Fb?sslmode=require",
            "user<u> password<p@w> host<h,::1> port<1,2> dbname<d/b> sslmode<require>",
        );
        check("postgres:///shop?host=/run/pg&port=6000", "dbname<shop> host</run/pg> port<6000>");
        check("postgres://%2Frun%2Fpg:6000/shop", "host</run/pg> port<6000> dbname<shop>");
        check("postgres://h/?ssl=true", "host<h> sslmode<require>");
        check("postgres://u:p?w@h/d", "user<u> password<p?w> host<h> dbname<d>");
    }
}
