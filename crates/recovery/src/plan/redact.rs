//! Taking secrets out of a text that leaves the house.

/// What stands for a secret.
const HIDDEN: &str = "…";

/// Keys of connection settings whose value is a secret.
const KEYS: [&str; 2] = ["password", "pwd"];

/// The text without passwords of connection strings (`password=…`, also in quotes) and of addresses
/// (`scheme://user:…@host`). What stands around them stays.
#[must_use]
pub fn without_secrets(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((begin, len)) = next_secret(rest) {
        out.push_str(rest.get(..begin).unwrap_or_default());
        out.push_str(HIDDEN);
        rest = rest.get(begin + len..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// Where the first secret begins, and its length, in bytes.
fn next_secret(text: &str) -> Option<(usize, usize)> {
    let keyed = KEYS.iter().filter_map(|key| keyed(text, key));
    keyed.chain(in_address(text)).min_by_key(|(begin, _)| *begin)
}

fn keyed(text: &str, key: &str) -> Option<(usize, usize)> {
    let lower = text.to_ascii_lowercase();
    lower.match_indices(key).find_map(|(at, _)| {
        let rest = text.get(at + key.len()..)?;
        let value = rest.trim_start().strip_prefix('=')?.trim_start();
        let begin = text.len() - value.len();
        let len = match value.strip_prefix('\'') {
            Some(quoted) => quoted.find('\'').map_or(value.len(), |end| end + 2),
            None => value
                .find(|c: char| c.is_whitespace() || "&;\"`'".contains(c))
                .unwrap_or(value.len()),
        };
        let is_shown = value.get(..len).is_none_or(|value| value.is_empty() || value == HIDDEN);
        (!is_shown).then_some((begin, len))
    })
}

fn in_address(text: &str) -> Option<(usize, usize)> {
    text.match_indices("://").find_map(|(at, _)| {
        let begin = at + 3;
        let rest = text.get(begin..)?;
        let end = rest.find(|c: char| c.is_whitespace() || "/?#\"`'".contains(c));
        let authority = rest.get(..end.unwrap_or(rest.len()))?;
        let user = authority.rfind('@')?;
        let colon = authority.get(..user)?.find(':')? + 1;
        let secret = authority.get(colon..user)?;
        (!secret.is_empty() && secret != HIDDEN).then_some((begin + colon, secret.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_go_and_everything_else_stays() {
        for (text, expected) in [
            ("host=db password=s3cret user=a", "host=db password=… user=a"),
            ("password = 'it is; long' dbname=x", "password = … dbname=x"),
            ("Host=a;Password=s3cret;Port=1", "Host=a;Password=…;Port=1"),
            ("postgres://u:p%40w@db:5432/x?a=b", "postgres://u:…@db:5432/x?a=b"),
            ("`curl https://admin:pw@door/shut` then", "`curl https://admin:…@door/shut` then"),
            ("postgres://u@db/x?password=s3cret&b=1", "postgres://u@db/x?password=…&b=1"),
            ("two: a://b:c@d e://f:g@h", "two: a://b:…@d e://f:…@h"),
            (
                "nothing: http://h:80/a@b, passwords are safe",
                "nothing: http://h:80/a@b, passwords are safe",
            ),
        ] {
            assert_eq!(without_secrets(text), expected);
            assert_eq!(without_secrets(expected), expected, "twice is once");
        }
    }
}
