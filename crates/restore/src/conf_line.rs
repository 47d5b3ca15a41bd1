//! One line of a PostgreSQL configuration file.
//!
//! PostgreSQL: src/backend/utils/misc/guc-file.l.

/// Name and value of a line `name = value` or `name value`; `None` for a comment, an empty line, or
/// what PostgreSQL would refuse.
pub(crate) fn parse(line: &str) -> Option<(&str, String)> {
    let blank = [' ', '\t', '\r', '\n', '\x0b', '\x0c'];
    let line = line.trim_start_matches(blank);
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '.')));
    let (name, rest) = line.split_at(end.unwrap_or(line.len()));
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return None;
    }
    let rest = rest.trim_start_matches(blank);
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start_matches(blank);
    let value = match rest.strip_prefix('\'') {
        Some(quoted) => unquote(quoted)?,
        None => {
            let end = rest.find(|c| blank.contains(&c) || c == '#').unwrap_or(rest.len());
            rest.get(..end)?.to_owned()
        }
    };
    Some((name, value))
}

/// The text up to the closing quote. PostgreSQL: `DeescapeQuotedString`.
fn unquote(text: &str) -> Option<String> {
    let mut value = String::new();
    let mut characters = text.chars().peekable();
    loop {
        match characters.next()? {
            '\'' if characters.peek() == Some(&'\'') => {
                characters.next();
                value.push('\'');
            }
            '\'' => return Some(value),
            '\\' => match characters.next()? {
                'b' => value.push('\x08'),
                'f' => value.push('\x0c'),
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                first @ '0'..='7' => value.push(octal(first, &mut characters)),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
}

fn octal(first: char, rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> char {
    let mut number = first.to_digit(8).unwrap_or(0);
    for _ in 0..2 {
        let Some(digit) = rest.peek().and_then(|c| c.to_digit(8)) else { break };
        number = number * 8 + digit;
        rest.next();
    }
    char::from(u8::try_from(number & 0xff).unwrap_or(0))
}

/// Bytes as characters of the same numbers: settings may be in any encoding, their syntax is ASCII,
/// and [`encode`] gives back exactly these bytes.
pub(crate) fn decode(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// The opposite of [`decode`]; a character that it does not make is written as UTF-8.
pub(crate) fn encode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match u8::try_from(u32::from(character)) {
            Ok(byte) => bytes.push(byte),
            Err(_) => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_postgresql_reads() {
        for (line, expect) in [
            ("port = 5432", Some(("port", "5432"))),
            ("  include 'it''s.conf' # x", Some(("include", "it's.conf"))),
            ("include_dir='conf.d'\r\n", Some(("include_dir", "conf.d"))),
            ("a.b\t= /x/y#z", Some(("a.b", "/x/y"))),
            ("a = 'x\\ty\\101\\\\'", Some(("a", "x\tyA\\"))),
            ("a =", Some(("a", ""))),
            ("# port = 1", None),
            ("", None),
            ("a = 'open", None),
            ("1 = 2", None),
        ] {
            assert_eq!(parse(line), expect.map(|(name, value)| (name, value.into())), "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_handled(line in "(?s).*") {
            let _ = parse(&line);
        }

        #[test]
        fn bytes_survive(bytes: Vec<u8>) {
            prop_assert_eq!(encode(&decode(&bytes)), bytes);
        }
    }
}
