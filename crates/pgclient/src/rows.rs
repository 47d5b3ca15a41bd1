//! Rows in text form, read by column name into our types, and text into SQL.

use std::str::FromStr;

use tokio_postgres::SimpleQueryRow;

use crate::Error;

/// One row of an answer to `verb`.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    row: &'a SimpleQueryRow,
    verb: &'static str,
}

impl<'a> Row<'a> {
    pub(crate) fn new(row: &'a SimpleQueryRow, verb: &'static str) -> Self {
        Self { row, verb }
    }

    /// The column's text, `None` for NULL.
    pub(crate) fn opt_text(self, column: &str) -> Result<Option<&'a str>, Error> {
        self.row.try_get(column).map_err(|_| Error::Unexpected {
            verb: self.verb,
            expected: format!("a column '{column}'"),
            seen: format!("{} other columns", self.row.len()),
        })
    }

    /// The column's text; NULL is an error.
    pub(crate) fn text(self, column: &str) -> Result<&'a str, Error> {
        self.opt_text(column)?.ok_or_else(|| self.unexpected(column, "a value", "NULL"))
    }

    pub(crate) fn string(self, column: &str) -> Result<String, Error> {
        self.text(column).map(str::to_owned)
    }

    pub(crate) fn opt_string(self, column: &str) -> Result<Option<String>, Error> {
        Ok(self.opt_text(column)?.map(str::to_owned))
    }

    /// The column's value; NULL or another form is an error.
    pub(crate) fn parse<T: FromStr>(self, column: &str) -> Result<T, Error> {
        let text = self.text(column)?;
        text.parse().map_err(|_| self.unexpected(column, std::any::type_name::<T>(), text))
    }

    pub(crate) fn opt_parse<T: FromStr>(self, column: &str) -> Result<Option<T>, Error> {
        match self.opt_text(column)? {
            Some(_) => self.parse(column).map(Some),
            None => Ok(None),
        }
    }

    /// A boolean as PostgreSQL prints one (`t`, `f`) or a setting does (`on`, `off`).
    pub(crate) fn bool(self, column: &str) -> Result<bool, Error> {
        match self.text(column)? {
            "t" | "on" | "true" => Ok(true),
            "f" | "off" | "false" => Ok(false),
            other => Err(self.unexpected(column, "a boolean", other)),
        }
    }

    pub(crate) fn oid(self, column: &str) -> Result<pg::Oid, Error> {
        self.parse(column).map(pg::Oid::new)
    }

    /// An instant selected as seconds since 1970 with `extract(epoch …)`; `None` for NULL.
    pub(crate) fn opt_time(self, column: &str) -> Result<Option<jiff::Timestamp>, Error> {
        let Some(text) = self.opt_text(column)? else { return Ok(None) };
        parse_epoch(text)
            .map(Some)
            .ok_or_else(|| self.unexpected(column, "seconds since 1970", text))
    }

    /// Bytes selected with `encode(…, 'hex')`.
    pub(crate) fn hex(self, column: &str) -> Result<Vec<u8>, Error> {
        let text = self.text(column)?;
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let bytes: Option<Vec<u8>> = pairs
            .iter()
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok())
            .collect();
        bytes
            .filter(|_| rest.is_empty())
            .ok_or_else(|| self.unexpected(column, "hexadecimal digits", text))
    }

    pub(crate) fn unexpected(self, column: &str, expected: &str, seen: &str) -> Error {
        let seen: String = seen.chars().take(80).collect();
        Error::Unexpected {
            verb: self.verb,
            expected: format!("{expected} as '{column}'"),
            seen: format!("'{seen}'"),
        }
    }
}

/// Seconds with up to six decimals, exactly.
fn parse_epoch(text: &str) -> Option<jiff::Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(6).collect();
    let micros: i64 = digits.parse().ok()?;
    let seconds: i64 = whole.parse().ok()?;
    let micros = if whole.starts_with('-') { -micros } else { micros };
    jiff::Timestamp::from_microsecond(seconds.checked_mul(1_000_000)?.checked_add(micros)?).ok()
}

/// `text` as an SQL string constant, whatever `standard_conforming_strings` says.
///
/// PostgreSQL: `quote_literal_internal`, src/backend/utils/adt/quote.c.
#[must_use]
pub fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// `name` as a quoted SQL identifier.
#[must_use]
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A setting's name as SQL; those of extensions have two parts.
pub(crate) fn setting_name(name: &str) -> String {
    name.split('.').map(identifier).collect::<Vec<_>>().join(".")
}

/// List settings whose elements PostgreSQL quotes one by one: as a single string, `a, b` would
/// become one library of that name. PostgreSQL: `GUC_LIST_QUOTE`, src/include/utils/guc.h;
/// `variable_is_guc_list_quote`, src/bin/pg_dump/dumputils.c.
const LIST_SETTINGS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// A setting's value, as it would stand in the configuration file, as SQL.
pub(crate) fn setting_value(name: &str, value: &str) -> String {
    if !LIST_SETTINGS.contains(&name.to_ascii_lowercase().as_str()) {
        return literal(value);
    }
    match list_elements(value).iter().map(|one| literal(one)).collect::<Vec<_>>() {
        none if none.is_empty() => "''".to_owned(),
        elements => elements.join(", "),
    }
}

/// The elements of a list setting: bare ones without blanks around them, quoted ones as they are.
///
/// PostgreSQL: `SplitGUCList`, src/bin/pg_dump/dumputils.c.
pub(crate) fn list_elements(list: &str) -> Vec<String> {
    let mut elements = Vec::new();
    let mut rest = list.trim();
    while !rest.is_empty() {
        let (element, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_element(quoted),
            None => {
                let (bare, after) = rest.split_once(',').unwrap_or((rest, ""));
                (bare.trim().to_owned(), after)
            }
        };
        if !element.is_empty() {
            elements.push(element);
        }
        rest = after.trim_start();
    }
    elements
}

/// The element up to its closing quote, doubled quotes made single, and what follows the comma.
fn quoted_element(quoted: &str) -> (String, &str) {
    let mut element = String::new();
    let mut rest = quoted;
    while let Some((before, after)) = rest.split_once('"') {
        element.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                element.push('"');
                rest = more;
            }
            None => return (element, after.split_once(',').map_or("", |(_, next)| next)),
        }
    }
    (element + rest, "")
}

#[cfg(test)]
mod tests {
    use super::{identifier, literal, parse_epoch, setting_value};

    #[test]
    fn list_settings_are_quoted_element_by_element() {
        let check = |value: &str, expect: &str| {
            assert_eq!(setting_value("search_path", value), expect, "{value}");
        };
        check(r#""$user", public"#, "'$user', 'public'");
        check(r#" a ,"b, c","d""e""#, r#"'a', 'b, c', 'd"e'"#);
        check("", "''");
        check(r#""open"#, "'open'");
        assert_eq!(setting_value("work_mem", "4MB, x"), "'4MB, x'");
    }

    #[test]
    fn text_cannot_leave_its_quotes() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"\'"), r"E'\\'''");
        assert_eq!(identifier(r#"a"b"#), r#""a""b""#);
    }

    #[test]
    fn seconds_are_read_to_the_microsecond() {
        let check = |text: &str, micros: i64| {
            assert_eq!(parse_epoch(text).map(|t| t.as_microsecond()), Some(micros), "{text}");
        };
        check("1700000000.000001", 1_700_000_000_000_001);
        check("1700000000", 1_700_000_000_000_000);
        check("-1.5", -1_500_000);
        assert_eq!(parse_epoch("soon"), None);
    }
}
