//! Texts for stakeholders: words with placeholders, filled with what is known.
//!
//! A template never stops a recovery: what nobody knows is said to be not known, and a placeholder
//! that does not exist stays as it was written. `check` finds those beforehand.

use crate::plan::Parameters;

/// What can stand in braces, and what it means.
pub const PLACEHOLDERS: &[(&str, &str)] = &[
    ("contact", "whom to ask"),
    ("data", "which data are affected"),
    ("environment", "which environment"),
    ("eta", "when users can expect to be back"),
    ("event", "what is told: incident opened, recovery begun, restored"),
    ("impact", "what users notice"),
    ("incident", "the incident's id"),
    ("issue", "what happened"),
    ("rpo", "how much may be lost"),
    ("rto", "how long it may take"),
    ("run", "the run's id"),
    ("runbook", "where the runbook is"),
    ("service", "the service"),
    ("severity", "how bad it is"),
    ("started", "since when"),
    ("target", "what it is restored to"),
    ("text", "the message as people on call get it"),
];

/// What is said of what nobody knows.
const NOT_KNOWN: &str = "not known";

/// The template that is there without any configuration.
pub const BUILT_IN: (&str, &str, &str) = (
    "stakeholders",
    "[{environment}] {service}: {event}",
    "Environment: {environment}\nService: {service}\nStatus: {event}\nIssue: {issue}\n\
     Since: {started}\nData affected: {data}\nImpact: {impact}\nRestored to: {target}\n\
     Expected back: {eta}\nContact: {contact}\nIncident: {incident}\n",
);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(String),
}

/// A text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

impl Template {
    /// Reads a text. `{{` and `}}` are braces.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            plain.push_str(before);
            let doubled = ["{{", "}}"].into_iter().find(|it| from.starts_with(it));
            if let Some(after) = doubled.and_then(|it| from.strip_prefix(it)) {
                plain.extend(from.chars().next());
                rest = after;
                continue;
            }
            let inside = from.strip_prefix('{').and_then(|it| it.split_once('}'));
            match inside.filter(|(name, _)| is_name(name)) {
                Some((name, after)) => {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                    parts.push(Part::Value(name.to_owned()));
                    rest = after;
                }
                None => {
                    plain.extend(from.chars().next());
                    rest = from.get(1..).unwrap_or_default();
                }
            }
        }
        plain.push_str(rest);
        parts.push(Part::Text(plain));
        Self(parts)
    }

    /// Placeholders that do not exist.
    #[must_use]
    pub fn unknown(&self) -> Vec<&str> {
        let named = self.0.iter().filter_map(|part| match part {
            Part::Value(name) => Some(name.as_str()),
            Part::Text(_) => None,
        });
        named.filter(|name| !is_known(name)).collect()
    }

    /// The text with its values.
    #[must_use]
    pub fn render(&self, values: &Parameters) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Value(name) if is_known(name) => {
                    let value = values.get(name).filter(|value| !value.is_empty());
                    text.push_str(value.map_or(NOT_KNOWN, String::as_str));
                }
                Part::Value(name) => text.push_str(&format!("{{{name}}}")),
            }
        }
        text
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

fn is_known(name: &str) -> bool {
    PLACEHOLDERS.iter().any(|(known, _)| *known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str, unknown: &[&str]) {
        let values = Parameters::from([
            ("service".into(), "shop".into()),
            ("issue".into(), "{eta} is no placeholder here".into()),
            ("impact".into(), String::new()),
        ]);
        let template = Template::parse(text);
        assert_eq!(
            (template.render(&values).as_str(), template.unknown()),
            (expect, unknown.to_vec())
        );
    }

    #[test]
    fn placeholders_are_filled_and_everything_else_stays() {
        check("{service}: {impact}", "shop: not known", &[]);
        check("{issue}", "{eta} is no placeholder here", &[]);
        check("{servise} {eta}", "{servise} not known", &["servise"]);
        check("{{service}} {Ä} { } {service", "{service} {Ä} { } {service", &[]);
        check("}{", "}{", &[]);
    }

    #[test]
    fn the_built_in_template_knows_its_placeholders() {
        for text in [BUILT_IN.1, BUILT_IN.2] {
            assert_eq!(Template::parse(text).unknown(), Vec::<&str>::new());
        }
        assert!(PLACEHOLDERS.is_sorted(), "the guide lists them in this order");
    }
}
