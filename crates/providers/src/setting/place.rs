//! Where a setting stands in a file or another text: the whole of it, a line of an environment
//! file, or a value of a JSON file. Everything around it stays byte for byte.

use std::ops::Range;
use std::path::Path;

/// The value, without what is around it.
///
/// # Errors
/// A sentence without the value.
pub fn read_value(path: &str, key: Option<&str>) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    value_in(&text, key)
}

/// Writes the value, in one step; owner and mode of the file stay, and a link to it.
///
/// # Errors
/// A sentence without the value.
pub(crate) fn write_value(path: &str, key: Option<&str>, value: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let out = replaced_in(&text, key, value)?;
    stdx::durable::replace(Path::new(path), out.as_bytes()).map_err(|error| error.to_string())
}

/// The value in a text.
pub(crate) fn value_in(text: &str, key: Option<&str>) -> Result<String, String> {
    let range = locate(text, key)?;
    Ok(unescaped(text, key, range))
}

/// The text with another value.
pub(crate) fn replaced_in(text: &str, key: Option<&str>, value: &str) -> Result<String, String> {
    let range = locate(text, key)?;
    let mut out = text.to_owned();
    out.replace_range(range, &escaped(text, key, value));
    Ok(out)
}

fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

fn locate(text: &str, key: Option<&str>) -> Result<Range<usize>, String> {
    match key {
        None => {
            let begin = text.len() - text.trim_start().len();
            Ok(begin..begin + text.trim().len())
        }
        Some(key) if is_json(text) => {
            // A colon goes one level down, as in the settings of ASP.NET; a key may hold one, too.
            let path: Vec<&str> = key.split(':').collect();
            json_value(text, &path)
                .or_else(|| json_value(text, &[key]))
                .ok_or_else(|| format!("it has no key '{key}'"))
        }
        Some(key) => env_value(text, key).ok_or_else(|| format!("it has no line '{key}=…'")),
    }
}

/// The value of `KEY=value`, with or without `export` and quotes; the last such line counts.
fn env_value(text: &str, key: &str) -> Option<Range<usize>> {
    let mut at = 0;
    let mut found = None;
    for line in text.split_inclusive('\n') {
        let begin = at;
        at += line.len();
        let trimmed = line.trim_start();
        let named = trimmed.strip_prefix("export ").map_or(trimmed, str::trim_start);
        let Some(rest) = named.strip_prefix(key) else { continue };
        let Some(value) = rest.trim_start().strip_prefix('=') else { continue };
        let value = value.trim_start();
        let start = begin + line.len() - value.len();
        let value = value.trim_end();
        let quote = value.chars().next().filter(|c| *c == '"' || *c == '\'');
        let inner = quote.and_then(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
        found = Some(match inner {
            Some(inner) => start + 1..start + 1 + inner.len(),
            None => start..start + value.len(),
        });
    }
    found
}

/// The range of a value in JSON text, by the names on the way; of a string without its quotes.
pub(crate) fn json_value(text: &str, path: &[&str]) -> Option<Range<usize>> {
    let mut cursor = Json { text, at: 0 };
    cursor.find(path)
}

struct Json<'t> {
    text: &'t str,
    at: usize,
}

impl Json<'_> {
    fn peek(&mut self) -> Option<char> {
        let rest = self.text.get(self.at..)?;
        self.at += rest.len() - rest.trim_start().len();
        self.text.get(self.at..)?.chars().next()
    }

    fn eat(&mut self, wanted: char) -> Option<()> {
        (self.peek()? == wanted).then(|| self.at += 1)
    }

    /// The range inside of a string's quotes.
    fn string(&mut self) -> Option<Range<usize>> {
        self.eat('"')?;
        let begin = self.at;
        let mut escaped = false;
        for (offset, c) in self.text.get(begin..)?.char_indices() {
            match c {
                '\\' if !escaped => escaped = true,
                '"' if !escaped => {
                    self.at = begin + offset + 1;
                    return Some(begin..begin + offset);
                }
                _ => escaped = false,
            }
        }
        None
    }

    /// Passes over any value; its range, of a string without the quotes.
    fn value(&mut self) -> Option<Range<usize>> {
        match self.peek()? {
            '"' => self.string(),
            open @ ('{' | '[') => {
                let begin = self.at;
                self.at += 1;
                let close = if open == '{' { '}' } else { ']' };
                loop {
                    match self.peek()? {
                        c if c == close => {
                            self.at += 1;
                            return Some(begin..self.at);
                        }
                        ',' | ':' => self.at += 1,
                        _ => {
                            self.value()?;
                        }
                    }
                }
            }
            _ => {
                let begin = self.at;
                let rest = self.text.get(begin..)?;
                let len = rest.find(|c: char| ",}] \t\r\n:".contains(c)).unwrap_or(rest.len());
                self.at += len.max(1);
                Some(begin..begin + len)
            }
        }
    }

    fn find(&mut self, path: &[&str]) -> Option<Range<usize>> {
        let Some((name, rest)) = path.split_first() else { return self.value() };
        self.eat('{')?;
        loop {
            match self.peek()? {
                '}' => return None,
                ',' => self.at += 1,
                _ => {
                    let key = self.string()?;
                    let is_ours = self.text.get(key)? == *name;
                    self.eat(':')?;
                    if is_ours {
                        return self.find(rest);
                    }
                    self.value()?;
                }
            }
        }
    }
}

/// The value as it is meant: in a JSON file with its escapes undone.
fn unescaped(text: &str, key: Option<&str>, range: Range<usize>) -> String {
    let raw = text.get(range).unwrap_or_default();
    if key.is_none() || !is_json(text) {
        return raw.to_owned();
    }
    serde_json::from_str::<String>(&format!("\"{raw}\"")).unwrap_or_else(|_| raw.to_owned())
}

fn escaped(text: &str, key: Option<&str>, value: &str) -> String {
    if key.is_none() || !is_json(text) {
        return value.to_owned();
    }
    let quoted = serde_json::Value::String(value.to_owned()).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, key: Option<&str>, value: &str, replaced: &str) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("setting");
        std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        assert_eq!(read_value(path, key).unwrap(), value);
        write_value(path, key, "N\"ew").unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), replaced);
    }

    #[test]
    fn a_value_is_found_and_everything_around_it_stays() {
        check("postgres://u@h/d\n", None, "postgres://u@h/d", "N\"ew\n");
        check(
            "# x\nA=1\nexport DB_URL = 'postgres://u@h/d'  \nB=2\n",
            Some("DB_URL"),
            "postgres://u@h/d",
            "# x\nA=1\nexport DB_URL = 'N\"ew'  \nB=2\n",
        );
        check("DB=a\nDB=b\n", Some("DB"), "b", "DB=a\nDB=N\"ew\n");
        check(
            "{\n  \"Other\": [1, {\"x\": \"}\"}],\n  \"ConnectionStrings\": { \"Default\": \"Host=a;Password=\\\"x\" }\n}\n",
            Some("ConnectionStrings:Default"),
            "Host=a;Password=\"x",
            "{\n  \"Other\": [1, {\"x\": \"}\"}],\n  \"ConnectionStrings\": { \"Default\": \"N\\\"ew\" }\n}\n",
        );
        check("{\"a:b\": \"v\"}", Some("a:b"), "v", "{\"a:b\": \"N\\\"ew\"}");
    }

    #[test]
    fn a_key_that_is_not_there_is_told() {
        let dir = tempfile::tempdir().unwrap();
        for (text, key) in [("A=1\n", "B"), ("{\"a\": {}}", "a:b"), ("{\"a\": \"unended", "a")] {
            let path = dir.path().join("setting");
            std::fs::write(&path, text).unwrap();
            let error = read_value(path.to_str().unwrap(), Some(key)).unwrap_err();
            assert!(error.contains(key), "{error}");
        }
    }
}
