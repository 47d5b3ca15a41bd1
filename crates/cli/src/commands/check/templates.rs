//! Texts for stakeholders: a placeholder that does not exist is found before the night.

use recovery::template::PLACEHOLDERS;

use super::Findings;
use crate::config::Config;
use crate::orchestra::channels::template;

pub(super) fn check(config: &Config, findings: &mut Findings) {
    for name in config.templates.keys() {
        let subject = format!("template '{name}'");
        let (head, text) = match template(config, name) {
            Ok(words) => words,
            Err(why) => {
                findings.problem(&subject, why, "make the file readable for this user");
                continue;
            }
        };
        let unknown: Vec<&str> = head.unknown().into_iter().chain(text.unknown()).collect();
        if unknown.is_empty() {
            findings.good(&subject, "every placeholder is known");
        }
        for unknown in unknown {
            let nearest = PLACEHOLDERS
                .iter()
                .map(|(known, _)| (strsim::damerau_levenshtein(unknown, known), *known))
                .min()
                .map_or("", |(_, known)| known);
            findings.problem(
                &subject,
                format!("unknown placeholder '{{{unknown}}}'"),
                format!("did you mean '{{{nearest}}}'? docs/guide/alerts.md lists them"),
            );
        }
    }
}
