//! What users are told: fixed sentences. No name of a host, no statement, no message of a program
//! can come onto a public page, because none is ever put there.

use super::About;

/// Where an incident stands, in the words of status pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Investigating,
    Identified,
    Monitoring,
    Resolved,
}

impl Phase {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Investigating => "investigating",
            Self::Identified => "identified",
            Self::Monitoring => "monitoring",
            Self::Resolved => "resolved",
        }
    }
}

/// One update of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Update {
    pub(super) phase: Phase,
    pub(super) body: String,
}

/// What users hear of a piece of news; `None`: nothing.
pub(super) fn update(about: &About, what: &str) -> Option<Update> {
    if !about.is_public {
        return None;
    }
    let is = |phase: Phase, body: &str| Some(Update { phase, body: body.into() });
    match what {
        "incident opened" => {
            is(Phase::Investigating, "Something is wrong. We are looking into it.")
        }
        "recovery begun" => {
            let until = about.value("eta").filter(|eta| eta.parse::<jiff::Timestamp>().is_ok());
            let mut body = "We know what is wrong and are restoring the service.".to_owned();
            if let Some(eta) = until {
                body.push_str(&format!(" We expect to be back by {eta}."));
            }
            Some(Update { phase: Phase::Identified, body })
        }
        "rolling back" | "rolled_back" | "rolled_back_with_errors" | "falling back" | "halted" => {
            is(
                Phase::Identified,
                "Our first repair did not succeed. We are working on another one.",
            )
        }
        "open again" | "restored" => {
            is(Phase::Monitoring, "The service works again. We keep watching it.")
        }
        "incident closed" => is(Phase::Resolved, "The problem is solved."),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_hear_sentences_and_nothing_of_a_drill() {
        let mut about = About { is_public: true, ..About::default() };
        let seen = |about: &About, what| update(about, what).map(|it| it.phase);
        assert_eq!(seen(&about, "incident opened"), Some(Phase::Investigating));
        assert_eq!(seen(&about, "rolled_back"), Some(Phase::Identified));
        assert_eq!(seen(&about, "restored"), Some(Phase::Monitoring));
        assert_eq!(seen(&about, "incident closed"), Some(Phase::Resolved));
        assert_eq!(seen(&about, "waits for approval"), None);
        about.values.insert("eta".into(), "when db-7.internal is back".into());
        let body = update(&about, "recovery begun").unwrap().body;
        assert!(!body.contains("db-7"), "{body}");
        about.values.insert("eta".into(), "2026-11-26T13:00:00Z".into());
        let body = update(&about, "recovery begun").unwrap().body;
        assert!(body.ends_with("back by 2026-11-26T13:00:00Z."), "{body}");
        about.is_public = false;
        assert_eq!(seen(&about, "incident opened"), None);
    }
}
