//! What channels speak of, and what kind of news it is.

use jiff::Timestamp;
use recovery::plan::Parameters;

/// What a channel speaks of.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The service.
    pub service: String,
    /// What templates are filled with, by placeholder; besides those `links`, and
    /// `pagerduty_incident` when the alert came from there.
    pub values: Parameters,
    /// Whether users may be told: not of a drill.
    pub is_public: bool,
    /// The run, if there is one, and when it was declared.
    pub job: Option<(String, Timestamp)>,
    /// What of the schedule it is about, when it is about no service: `job backup-shop: job late`.
    pub scheduled: Option<String>,
}

impl About {
    /// A value that is there and says something.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// What the alert of this news is known by. What somebody has to do something about at once has
    /// an alert of its own: news that joins an open alert rings nobody.
    pub(super) fn key(&self, what: &str) -> String {
        match CRITICAL.contains(&what) && self.scheduled.is_none() {
            true => format!("{} {what}", self.alias()),
            false => self.alias(),
        }
    }

    /// Everything that is acknowledged and that ends together.
    pub(super) fn keys(&self) -> Vec<String> {
        let own = CRITICAL.iter().filter(|_| self.scheduled.is_none()).map(|what| self.key(what));
        std::iter::once(self.alias()).chain(own).collect()
    }

    /// What one alert of a pager is known by: what comes later joins it.
    fn alias(&self) -> String {
        match &self.scheduled {
            Some(what) => format!("{SCHEDULE_ALIAS_PREFIX}{what}"),
            None => format!("{ALIAS_PREFIX}{}", self.service),
        }
    }
}

/// How the key of a service's alert begins: a pager that sends it back does not begin a circle.
const ALIAS_PREFIX: &str = "rollforward ";

/// The same of what runs by itself. No service's key begins so, whatever its name is: the end of a
/// job's alarm must not end an incident.
pub const SCHEDULE_ALIAS_PREFIX: &str = "rollforward-schedule ";

/// The service whose alert of ours has this key.
#[must_use]
pub fn service_of_key(key: &str) -> Option<&str> {
    let rest = key.strip_prefix(ALIAS_PREFIX)?;
    let own = CRITICAL.iter().find_map(|what| rest.strip_suffix(what)?.strip_suffix(' '));
    Some(own.unwrap_or(rest))
}

/// What ends an alert: users are back, or somebody says that it is over.
const RESOLVES: [&str; 4] = ["restored", "open again", "incident closed", "recovered"];

/// What somebody has to do something about at once.
pub(super) const CRITICAL: [&str; 7] = [
    "another alert",
    "halted",
    "no driver",
    "nobody answered",
    "objective in danger",
    "rolled_back",
    "rolled_back_with_errors",
];

/// How a run ends.
const VERDICTS: [&str; 4] = ["restored", "rolled_back", "rolled_back_with_errors", "superseded"];

/// What a pager does with a piece of news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Trigger,
    Acknowledge,
    Resolve,
}

pub(super) fn action(what: &str) -> Action {
    match what {
        "incident acknowledged" => Action::Acknowledge,
        what if RESOLVES.contains(&what) => Action::Resolve,
        _ => Action::Trigger,
    }
}

/// How bad it is, in PagerDuty's words.
pub(super) fn severity<'a>(about: &'a About, what: &str) -> &'a str {
    match what {
        "incident opened" => about.value("severity").unwrap_or("critical"),
        what if CRITICAL.contains(&what) => "critical",
        "waits for approval" | "waits without a driver" => "error",
        _ => "warning",
    }
}

/// Whether a run has ended this way.
pub(super) fn is_verdict(what: &str) -> bool {
    VERDICTS.contains(&what) || what == "halted"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_never_has_the_key_of_a_service() {
        let key = |service: &str, scheduled: Option<&str>| {
            let scheduled = scheduled.map(str::to_owned);
            About { service: service.into(), scheduled, ..About::default() }.alias()
        };
        assert_eq!(key("backup-shop", None), "rollforward backup-shop");
        let job = key("job backup-shop", Some("job backup-shop: job late"));
        assert_eq!(job, "rollforward-schedule job backup-shop: job late");
        for service in ["job backup-shop", "-schedule job backup-shop: job late", "schedule job"] {
            assert_ne!(key(service, None), job);
        }
        assert!(!job.starts_with(ALIAS_PREFIX));
    }

    #[test]
    fn what_rings_again_has_a_key_of_its_own_and_ends_with_the_rest() {
        let about = About { service: "shop".into(), ..About::default() };
        assert_eq!(about.key("incident opened"), "rollforward shop");
        assert_eq!(about.key("nobody answered"), "rollforward shop nobody answered");
        assert_eq!(about.keys().len(), CRITICAL.len() + 1);
        for key in about.keys() {
            assert_eq!(service_of_key(&key), Some("shop"), "{key}");
        }
        assert_eq!(service_of_key("rollforward halted"), Some("halted"));
        assert_eq!(service_of_key("theirs"), None);
        let job = About { scheduled: Some("job a: job late".into()), ..about };
        assert_eq!(job.keys(), ["rollforward-schedule job a: job late"]);
        assert_eq!(service_of_key(&job.keys()[0]), None);
    }
}
