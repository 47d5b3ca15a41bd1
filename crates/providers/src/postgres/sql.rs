//! A service's own SQL: read-only, a limit for each statement, OK or FAILED.

use std::time::Duration;

use async_trait::async_trait;
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::plan::Parameters;

use super::restored_session;
use crate::looked::Looked;

/// Longest run of one statement.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(60);

/// A file that is not SQL as this runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SplitError {
    /// A command of psql, by its name.
    Backslash {
        /// Its line, from 1.
        line: usize,
        /// The command.
        command: String,
    },
    /// A quote, comment or dollar quote that does not end.
    Unended {
        /// The line it begins in.
        line: usize,
    },
}

impl std::fmt::Display for SplitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Backslash { line, command } => {
                write!(f, "line {line}: '{command}' is a command of psql, not SQL")
            }
            Self::Unended { line } => write!(f, "line {line}: a quote or comment does not end"),
        }
    }
}

/// One statement, where it begins, and what is expected of its first value.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// Its line, from 1.
    pub line: usize,
    /// Its text.
    pub sql: String,
    /// `-- expect: >= 1000`: operator and number.
    pub expect: Option<(String, f64)>,
}

/// Splits a file into statements: at semicolons outside of quotes, dollar quotes and comments.
///
/// # Errors
/// [`SplitError`].
pub fn split_statements(text: &str) -> Result<Vec<Statement>, SplitError> {
    let mut splitter = Splitter { rest: text, line: 1, ..Splitter::default() };
    while !splitter.rest.is_empty() {
        splitter.step()?;
    }
    splitter.end();
    Ok(splitter.statements)
}

#[derive(Default)]
struct Splitter<'t> {
    rest: &'t str,
    line: usize,
    sql: String,
    begins: usize,
    /// The line in which the last statement ended.
    ended: usize,
    expect: Option<(String, f64)>,
    statements: Vec<Statement>,
}

impl<'t> Splitter<'t> {
    fn step(&mut self) -> Result<(), SplitError> {
        let line = self.line;
        let unended = SplitError::Unended { line };
        if let Some(rest) = self.rest.strip_prefix("--") {
            let comment = rest.lines().next().unwrap_or_default();
            if let Some(expected) = comment.trim().strip_prefix("expect:") {
                self.expected(expectation(expected));
            }
            self.take(2 + comment.len(), false);
        } else if self.rest.starts_with("/*") {
            let len = block_comment(self.rest).ok_or(unended)?;
            self.take(len, false);
        } else if let Some(quote) = self.rest.chars().next().filter(|c| *c == '\'' || *c == '"') {
            let escapes = quote == '\'' && self.sql.ends_with(['e', 'E']);
            let len = quoted(self.rest, quote, escapes).ok_or(unended)?;
            self.take(len, true);
        } else if let Some(tag) = dollar_tag(self.rest).filter(|_| !self.ends_in_word()) {
            let body = self.rest.get(tag.len()..).unwrap_or_default();
            let len = body.find(tag).ok_or(unended)? + 2 * tag.len();
            self.take(len, true);
        } else if self.rest.starts_with(';') {
            self.take(1, false);
            self.end();
        } else if self.rest.starts_with('\\') && self.sql.trim().is_empty() {
            let command = self.rest.split_whitespace().next().unwrap_or_default().to_owned();
            return Err(SplitError::Backslash { line, command });
        } else {
            let len = self.rest.chars().next().map_or(1, char::len_utf8);
            self.take(len, true);
        }
        Ok(())
    }

    /// Before a statement or in it, an expectation is its own; behind its semicolon in the same
    /// line, too.
    fn expected(&mut self, expect: Option<(String, f64)>) {
        let (line, is_between) = (self.line, self.sql.trim().is_empty());
        match self.statements.last_mut() {
            Some(last) if is_between && self.ended == line => last.expect = expect,
            _ => self.expect = expect,
        }
    }

    fn ends_in_word(&self) -> bool {
        self.sql.chars().last().is_some_and(|c| c.is_alphanumeric() || c == '_')
    }

    fn take(&mut self, len: usize, keeps: bool) {
        let (taken, rest) = self.rest.split_at_checked(len).unwrap_or((self.rest, ""));
        if keeps {
            if self.sql.trim().is_empty() && !taken.trim().is_empty() {
                self.begins = self.line;
            }
            self.sql.push_str(taken);
        }
        self.line += taken.matches('\n').count();
        self.rest = rest;
    }

    fn end(&mut self) {
        let sql = std::mem::take(&mut self.sql).trim().to_owned();
        let expect = self.expect.take();
        self.ended = self.line;
        if !sql.is_empty() {
            self.statements.push(Statement { line: self.begins, sql, expect });
        }
    }
}

fn block_comment(text: &str) -> Option<usize> {
    let (mut depth, mut at) = (0_u32, 0);
    loop {
        let rest = text.get(at..)?;
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += rest.chars().next()?.len_utf8();
        }
    }
}

fn quoted(text: &str, quote: char, escapes: bool) -> Option<usize> {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && escapes {
            chars.next();
        } else if c == quote {
            match chars.peek() {
                Some((_, next)) if *next == quote => drop(chars.next()),
                _ => return Some(at + c.len_utf8()),
            }
        }
    }
    None
}

/// `$$` or `$name$` at the beginning.
fn dollar_tag(text: &str) -> Option<&str> {
    let rest = text.strip_prefix('$')?;
    let name = rest.find('$')?;
    let is_name = rest
        .get(..name)?
        .chars()
        .enumerate()
        .all(|(at, c)| c == '_' || c.is_alphabetic() || (at > 0 && c.is_numeric()));
    is_name.then(|| text.get(..name + 2))?
}

fn expectation(text: &str) -> Option<(String, f64)> {
    let text = text.trim();
    let split = text.find(|c: char| !"<>=!".contains(c))?;
    let (operator, number) = text.split_at(split);
    Some((operator.to_owned(), number.trim().parse().ok()?))
}

fn holds(seen: f64, operator: &str, expected: f64) -> bool {
    match operator {
        ">=" => seen >= expected,
        "<=" => seen <= expected,
        ">" => seen > expected,
        "<" => seen < expected,
        "=" | "==" | "" => (seen - expected).abs() < f64::EPSILON,
        "!=" | "<>" => (seen - expected).abs() >= f64::EPSILON,
        _ => false,
    }
}

/// Why a statement's first value says that something is wrong.
fn wrong(statement: &Statement, first: Option<&str>) -> Option<String> {
    if let Some((operator, expected)) = &statement.expect {
        let seen = first.and_then(|text| text.trim().parse::<f64>().ok());
        return match seen {
            Some(seen) if holds(seen, operator, *expected) => None,
            _ => {
                Some(format!("expected {operator} {expected}, seen {}", first.unwrap_or("nothing")))
            }
        };
    }
    let says_no = first.is_some_and(|text| {
        let text = text.trim();
        text == "f"
            || text.eq_ignore_ascii_case("false")
            || text.to_uppercase().starts_with("FAILED")
    });
    says_no.then(|| format!("it says '{}'", first.unwrap_or_default()))
}

#[derive(Debug, Default)]
pub(crate) struct RunSql {
    looked: Looked,
}

fn read(context: &StepContext) -> Result<Vec<Statement>, Failure> {
    let path = context.parameter("path")?;
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::terminal("RF1107", format!("'{path}': {error}")))?;
    split_statements(&text)
        .map_err(|error| Failure::terminal("RF1107", format!("'{path}', {error}")))
}

#[async_trait]
impl Effect for RunSql {
    async fn precheck(&self, context: &StepContext) -> Result<(), Failure> {
        read(context).map(drop)
    }

    async fn probe(&self, context: &StepContext) -> Found {
        self.looked.probe(context)
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        let statements = read(context)?;
        let client = restored_session(context).await?;
        let failed = |statement: &Statement, why: String| {
            Failure::terminal(
                "RF1107",
                format!(
                    "'{}', line {}: {why}: {}",
                    context.parameters.get("path").map_or("", String::as_str),
                    statement.line,
                    crate::command::shown(&statement.sql)
                ),
            )
        };
        let timeout = context.parameters.get("timeout_ms").and_then(|ms| ms.parse().ok());
        let timeout = timeout.map_or(STATEMENT_DEADLINE, Duration::from_millis);
        let begin = format!(
            "SET statement_timeout = '{}ms'; BEGIN TRANSACTION READ ONLY",
            timeout.as_millis()
        );
        client
            .query_text(&begin, STATEMENT_DEADLINE)
            .await
            .map_err(|error| super::sql_failure(&error))?;
        for statement in &statements {
            // A little later than the server's own limit, so that its words are heard.
            let rows = client
                .query_text(&statement.sql, timeout + Duration::from_secs(5))
                .await
                .map_err(|error| failed(statement, error.to_string()))?;
            let first = rows.first().and_then(|row| row.first()).and_then(Option::as_deref);
            if let Some(why) = wrong(statement, first) {
                return Err(failed(statement, why));
            }
        }
        let outputs = Parameters::from([(
            "validation".into(),
            format!("{} statements OK", statements.len()),
        )]);
        self.looked.remember(context, outputs);
        Ok(())
    }

    async fn verify(&self, context: &StepContext) -> Result<Parameters, Failure> {
        Ok(self.looked.outputs(context).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        split_statements(text).unwrap().into_iter().map(|it| it.sql).collect()
    }

    #[test]
    fn statements_end_at_semicolons_that_end_them() {
        assert_eq!(
            texts("SELECT 1; SELECT ';'; -- ; no\nSELECT \";\" "),
            ["SELECT 1", "SELECT ';'", "SELECT \";\"",]
        );
        assert_eq!(
            texts("SELECT $$a;b$$; SELECT $x$ $$;$$ $x$"),
            ["SELECT $$a;b$$", "SELECT $x$ $$;$$ $x$",]
        );
        assert_eq!(texts("/* ; /* ; */ ; */ SELECT 'it''s; fine'"), ["SELECT 'it''s; fine'"]);
        assert_eq!(texts("SELECT E'\\';' ; SELECT 2"), ["SELECT E'\\';'", "SELECT 2"]);
        assert_eq!(texts("SELECT a$1 FROM b$2;"), ["SELECT a$1 FROM b$2"]);
        assert_eq!(texts(" ;; \n"), [""; 0]);
    }

    #[test]
    fn commands_of_psql_and_what_does_not_end_are_refused_by_name() {
        let error = split_statements("SELECT 1;\n\\copy a to b").unwrap_err();
        assert_eq!(error, SplitError::Backslash { line: 2, command: "\\copy".into() });
        assert_eq!(split_statements("SELECT 'a").unwrap_err(), SplitError::Unended { line: 1 });
        assert_eq!(split_statements("\n/* a").unwrap_err(), SplitError::Unended { line: 2 });
        assert_eq!(split_statements("SELECT $$ a").unwrap_err(), SplitError::Unended { line: 1 });
    }

    #[test]
    fn expectations_are_about_the_first_value() {
        let all =
            split_statements("-- expect: >= 10\nSELECT 5;\nSELECT 7; -- expect: = 7\nSELECT 8;")
                .unwrap();
        assert_eq!(all[2].expect, None);
        assert_eq!(wrong(&all[0], Some("5")).unwrap(), "expected >= 10, seen 5");
        assert_eq!(wrong(&all[0], Some("10")), None);
        assert_eq!(wrong(&all[1], Some("7")), None);
        assert!(wrong(&all[0], None).is_some());
        let plain = Statement { line: 1, sql: String::new(), expect: None };
        for (first, is_wrong) in [
            (Some("f"), true),
            (Some("false"), true),
            (Some("FAILED: orders"), true),
            (Some("OK"), false),
            (Some("t"), false),
            (None, false),
        ] {
            assert_eq!(wrong(&plain, first).is_some(), is_wrong, "{first:?}");
        }
    }
}
