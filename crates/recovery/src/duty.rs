//! Who has to be told what of an incident now, and of a run that nobody drives. Pure: what was
//! told stands in the incident, so any command, at any time, on any host, finds the same duties and
//! finds none twice.

pub mod driverless;

use std::time::Duration;

use jiff::Timestamp;

use crate::journal::{Incident, IncidentEntry, IncidentState};
use crate::plan::{Parameters, duration_text};
use crate::service::Escalation;

/// What stands in an entry when a channel heard it.
pub const HEARD: &str = "told";

/// Names the field of an entry that says what of the incident it is about.
const OF: &str = "of";

/// So long a channel is not told of another alert after it was: a storm is one message.
const ANOTHER_PAUSE: Duration = Duration::from_secs(300);

/// So often a channel that does not take a message is tried.
pub const TRIES_MAX: u32 = 20;

/// The pause after the first try, which doubles, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(900));

/// What a channel has to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// There is an incident.
    Opened,
    /// Somebody has taken it.
    Acknowledged,
    /// Nobody has, for so long: this person is asked.
    Unanswered {
        /// Whom the channel reaches.
        to: String,
    },
    /// Something else is wrong since somebody has taken it, or since a recovery of it began.
    Another,
    /// It is over.
    Closed,
    /// The driver of its run is gone.
    NoDriver,
    /// Its run waits for somebody, and no driver would notice.
    WaitsAlone,
}

impl What {
    /// As channels hear it.
    #[must_use]
    pub const fn text(&self) -> &'static str {
        match self {
            Self::Opened => "incident opened",
            Self::Acknowledged => "incident acknowledged",
            Self::Unanswered { .. } => "nobody answered",
            Self::Another => "another alert",
            Self::Closed => "incident closed",
            Self::NoDriver => "no driver",
            Self::WaitsAlone => "waits without a driver",
        }
    }
}

/// One message that one channel has to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duty {
    /// The channel.
    pub channel: String,
    /// What.
    pub what: What,
    /// What of the incident it is about: an alert that joined it, a run; empty: the incident.
    pub of: String,
}

impl Duty {
    /// The entry that keeps how it went.
    #[must_use]
    pub fn entry(&self, at: Timestamp, by: &str, outcome: &str) -> IncidentEntry {
        let mut fields = Parameters::from([
            ("channel".into(), self.channel.clone()),
            ("what".into(), self.what.text().into()),
            ("outcome".into(), outcome.into()),
        ]);
        if !self.of.is_empty() {
            fields.insert(OF.into(), self.of.clone());
        }
        IncidentEntry { kind: "told".into(), at, by: by.into(), fields }
    }
}

/// What has to be told now.
#[must_use]
pub fn duties(
    incident: &Incident,
    tell: &[String],
    escalate: &[Escalation],
    now: Timestamp,
) -> Vec<Duty> {
    let is_taken = !incident.runs().is_empty();
    let mut wanted: Vec<Duty> = Vec::new();
    let mut want = |channel: &str, what: What| {
        wanted.push(Duty { channel: channel.into(), what, of: String::new() });
    };
    match incident.state {
        // Whoever recovers has answered, and the run tells people itself.
        IncidentState::Open if !is_taken => {
            tell.iter().for_each(|channel| want(channel, What::Opened));
            for escalation in escalate.iter().filter(|it| has_passed(incident, it.after, now)) {
                want(&escalation.channel, What::Unanswered { to: escalation.to.clone() });
            }
        }
        IncidentState::Open => {}
        IncidentState::Acknowledged => {
            for channel in tell.iter().filter(|it| has_heard(incident, it, &What::Opened)) {
                want(channel, What::Acknowledged);
            }
        }
        IncidentState::Closed => {
            let knows = |it: &&String| is_taken || has_heard(incident, it, &What::Opened);
            for channel in tell.iter().filter(knows) {
                want(channel, What::Closed);
            }
        }
    }
    if incident.state != IncidentState::Closed {
        wanted.extend(tell.iter().flat_map(|channel| of_another(incident, channel, now)));
    }
    wanted.retain(|duty| is_owed(&incident.entries, duty, now));
    wanted
}

/// The newest alert that joined an incident after somebody took it, or after a recovery began:
/// whoever is busy with the first one, or was, does not know of it.
#[must_use]
pub fn another(incident: &Incident) -> Option<(usize, &IncidentEntry)> {
    let entries = incident.entries.iter().enumerate();
    let taken = entries.clone().find(|(_, it)| it.kind == "ack" || it.kind == "run")?.0;
    // Other notes name no service.
    let joined = |it: &IncidentEntry| it.kind == "note" && it.fields.contains_key("service");
    entries.skip(taken).rfind(|(_, it)| joined(it))
}

fn of_another(incident: &Incident, channel: &str, now: Timestamp) -> Vec<Duty> {
    let Some((place, _)) = another(incident) else { return Vec::new() };
    let of = format!("alert {place}");
    let duty = |what| Duty { channel: channel.to_owned(), what, of: of.clone() };
    let mut wanted = Vec::new();
    let tries_of_any = tries_of(&incident.entries, channel, &What::Another);
    let last = tries_of_any.filter(|it| says(it, "outcome", HEARD)).map(|it| it.at).max();
    if last.is_none_or(|last| now.duration_since(last).unsigned_abs() >= ANOTHER_PAUSE) {
        wanted.push(duty(What::Another));
    }
    // What it rang is silent when somebody takes it once more.
    let is_taken = incident.entries.iter().skip(place).any(|it| it.kind == "ack");
    if is_taken && is_heard(tries(&incident.entries, &of, channel, &What::Another)) {
        wanted.push(duty(What::Acknowledged));
    }
    wanted
}

/// Whether a channel has not heard it, and the pause since the last try is over.
fn is_owed(entries: &[IncidentEntry], duty: &Duty, now: Timestamp) -> bool {
    let Duty { channel, what, of } = duty;
    !is_heard(tries(entries, of, channel, what)) && is_due(tries(entries, of, channel, what), now)
}

fn has_passed(incident: &Incident, after: Duration, now: Timestamp) -> bool {
    // Also when it is dated in the future: a clock that was ahead must not silence anybody.
    now.duration_since(incident.opened).unsigned_abs() >= after
}

fn says(entry: &IncidentEntry, name: &str, value: &str) -> bool {
    entry.fields.get(name).map_or("", String::as_str) == value
}

fn tries<'i>(
    entries: &'i [IncidentEntry],
    of: &'i str,
    channel: &'i str,
    what: &'i What,
) -> impl Iterator<Item = &'i IncidentEntry> {
    tries_of(entries, channel, what).filter(move |entry| says(entry, OF, of))
}

/// Tries of telling a channel something, whatever of the incident it was about.
fn tries_of<'i>(
    entries: &'i [IncidentEntry],
    channel: &'i str,
    what: &'i What,
) -> impl Iterator<Item = &'i IncidentEntry> {
    entries.iter().filter(move |entry| {
        entry.kind == "told" && says(entry, "channel", channel) && says(entry, "what", what.text())
    })
}

fn has_heard(incident: &Incident, channel: &str, what: &What) -> bool {
    is_heard(tries(&incident.entries, "", channel, what))
}

fn is_heard<'i>(tries: impl Iterator<Item = &'i IncidentEntry>) -> bool {
    tries.filter_map(|it| it.fields.get("outcome")).any(|outcome| outcome == HEARD)
}

fn is_due<'i>(tries: impl Iterator<Item = &'i IncidentEntry>, now: Timestamp) -> bool {
    let (count, last) = tries.fold((0_u32, None), |(count, _), it| (count + 1, Some(it.at)));
    let Some(last) = last else { return true };
    let pause = PAUSES.0.saturating_mul(2_u32.saturating_pow(count - 1)).min(PAUSES.1);
    count < TRIES_MAX && now.duration_since(last).unsigned_abs() >= pause
}

/// What a channel hears, in words. The first line says what happened.
#[must_use]
pub fn message(incident: &Incident, what: &What, runbook: Option<&str>, now: Timestamp) -> String {
    let Incident { id, service, summary, started, .. } = incident;
    let summary = if summary.is_empty() { "no summary" } else { summary };
    let waited = duration_text(now.duration_since(incident.opened).unsigned_abs().as_secs());
    match what {
        What::Opened => opened(incident, summary, runbook),
        What::Acknowledged => {
            let taken = incident.entries.iter().rev().find(|entry| entry.kind == "ack");
            let by = taken.map_or("somebody", |entry| &entry.by);
            format!("{summary}\n{by} has taken incident {id} of '{service}'")
        }
        What::Unanswered { to } => format!(
            "{summary}\nnobody has acknowledged incident {id} for {waited}: {to} is asked now\n\
             rollforward incident ack {id}"
        ),
        What::Another => {
            let joined = another(incident).and_then(|(_, entry)| entry.fields.get("summary"));
            format!(
                "{}\nanother alert of '{service}' has joined incident {id} ({summary}), which is \
                 {} already\nrollforward incident show {id}",
                joined.filter(|it| !it.is_empty()).map_or("no summary", String::as_str),
                if incident.runs().is_empty() { "acknowledged" } else { "being recovered" },
            )
        }
        What::Closed => format!("{summary}\nincident {id} is closed; it began at {started}"),
        // Said in the words of the run: `driverless::message`.
        What::NoDriver | What::WaitsAlone => summary.to_owned(),
    }
}

fn opened(incident: &Incident, summary: &str, runbook: Option<&str>) -> String {
    let Incident { id, service, started, .. } = incident;
    let mut text = format!("{summary}\nincident {id} of service '{service}', since {started}\n");
    for (name, label) in
        [("data", "data affected"), ("truncated", "alerts the sender left out"), ("links", "see")]
    {
        if let Some(value) = incident.said(name) {
            text.push_str(&format!("{label}: {value}\n"));
        }
    }
    let after = format!("--before-incident --started-at {started}");
    text.push_str(&format!("runbook: {}\n", runbook.unwrap_or("made from the plan, 4. below")));
    text.push_str(&format!(
        "\n1. rollforward incident ack {id}\n2. rollforward diagnose {service}\n\
         3. rollforward plan {service} {after}\n4. rollforward runbook {service} {after}\n\
         5. rollforward recover {service} {after}\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + seconds).unwrap()
    }

    fn entry(kind: &str, seconds: i64, fields: &[(&str, &str)]) -> IncidentEntry {
        let fields = fields.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        IncidentEntry {
            kind: kind.into(),
            at: at(seconds),
            by: "x".into(),
            fields: fields.collect(),
        }
    }

    fn told(channel: &str, what: &str, seconds: i64, outcome: &str) -> IncidentEntry {
        entry("told", seconds, &[("channel", channel), ("what", what), ("outcome", outcome)])
    }

    #[track_caller]
    fn check(entries: &[IncidentEntry], seconds: i64, expect: &str) {
        let open = entry("open", 0, &[("service", "shop"), ("summary", "orders are gone")]);
        let all = [&[open], entries].concat();
        let incident = Incident::of("i", all).unwrap();
        let tell = ["pager".to_owned(), "chat".to_owned()];
        let escalate = [Escalation {
            channel: "pager".into(),
            after: Duration::from_secs(600),
            to: "secondary".into(),
        }];
        let found = duties(&incident, &tell, &escalate, at(seconds));
        let seen: Vec<String> =
            found.iter().map(|it| format!("{} {}", it.channel, it.what.text())).collect();
        assert_eq!(seen.join(", "), expect);
    }

    #[test]
    fn everybody_hears_once_and_the_next_person_when_nobody_takes_it() {
        check(&[], 0, "pager incident opened, chat incident opened");
        let heard =
            [told("pager", "incident opened", 1, HEARD), told("chat", "incident opened", 1, HEARD)];
        check(&heard, 599, "");
        check(&heard, 600, "pager nobody answered");
        let later = [&heard[..], &[told("pager", "nobody answered", 601, HEARD)]].concat();
        check(&later, 9000, "");
        let taken = [&heard[..], &[entry("ack", 30, &[])]].concat();
        check(&taken, 9000, "pager incident acknowledged, chat incident acknowledged");
        let runs = [&heard[..], &[entry("run", 30, &[("run", "r")])]].concat();
        check(&runs, 9000, "");
        let closed = [&heard[..], &[entry("close", 30, &[])]].concat();
        check(&closed, 9000, "pager incident closed, chat incident closed");
        check(&[entry("close", 30, &[])], 9000, "");
        check(
            &[entry("run", 1, &[("run", "r")]), entry("close", 30, &[])],
            40,
            "pager incident closed, chat incident closed",
        );
    }

    #[test]
    fn a_channel_that_is_down_is_tried_after_a_pause_that_doubles_and_not_for_ever() {
        let mut entries = vec![told("chat", "incident opened", 1, HEARD)];
        entries.push(told("pager", "incident opened", 1, "down"));
        check(&entries, 15, "");
        check(&entries, 16, "pager incident opened");
        entries.push(told("pager", "incident opened", 16, "down"));
        check(&entries, 45, "");
        check(&entries, 46, "pager incident opened");
        let down = told("pager", "incident opened", 46, "down");
        entries.extend(std::iter::repeat_n(down, TRIES_MAX as usize));
        check(&entries, 599, "");
    }

    #[test]
    fn another_alert_is_heard_once_by_each_channel_when_somebody_was_busy_with_the_first() {
        let joined = |seconds, summary: &str| {
            entry("note", seconds, &[("service", "shop"), ("summary", summary)])
        };
        let first =
            [told("pager", "incident opened", 1, HEARD), told("chat", "incident opened", 1, HEARD)];
        check(&[&first[..], &[joined(20, "b")]].concat(), 25, "");
        for taken in [entry("ack", 30, &[]), entry("run", 30, &[("run", "r")])] {
            let is_ack = taken.kind == "ack";
            let mut entries = [&first[..], &[joined(20, "b"), taken]].concat();
            if is_ack {
                entries.push(told("pager", "incident acknowledged", 31, HEARD));
                entries.push(told("chat", "incident acknowledged", 31, HEARD));
            }
            check(&entries, 40, "");
            entries.push(joined(50, "c"));
            let of = format!("alert {}", entries.len());
            let another = |channel, seconds, outcome| {
                let mut told = told(channel, "another alert", seconds, outcome);
                told.fields.insert(OF.into(), of.clone());
                told
            };
            check(&entries, 51, "pager another alert, chat another alert");
            entries.push(another("pager", 52, HEARD));
            entries.push(another("chat", 52, "down"));
            check(&entries, 53, "");
            check(&entries, 67, "chat another alert");
            entries.push(another("chat", 67, HEARD));
            check(&entries, 9000, "");
            // A storm is one message, and what came last is not lost.
            entries.push(joined(70, "d"));
            entries.push(joined(71, "e"));
            check(&entries, 351, "");
            check(&entries, 352, "pager another alert");
            entries.push(entry("close", 400, &[]));
            check(&entries, 401, "pager incident closed, chat incident closed");
        }
    }

    #[test]
    fn whoever_takes_another_alert_silences_what_it_rang() {
        let mut entries = vec![
            told("pager", "incident opened", 1, HEARD),
            entry("ack", 2, &[]),
            told("pager", "incident acknowledged", 3, HEARD),
            entry("note", 4, &[("service", "shop"), ("summary", "b")]),
        ];
        let mut rung = told("pager", "another alert", 5, HEARD);
        rung.fields.insert(OF.into(), "alert 4".into());
        entries.push(rung);
        check(&entries, 6, "chat another alert");
        entries.push(entry("ack", 7, &[]));
        check(&entries, 8, "pager incident acknowledged, chat another alert");
    }

    #[test]
    fn a_clock_that_was_ahead_silences_nobody() {
        let heard = [
            told("pager", "incident opened", 0, HEARD),
            told("chat", "incident opened", 86_400, "down"),
        ];
        check(&heard, -300, "chat incident opened");
        check(&heard, -86_400, "chat incident opened, pager nobody answered");
    }

    #[test]
    fn the_first_message_says_what_to_do() {
        let open = entry("open", 0, &[("service", "shop"), ("summary", "orders are gone")]);
        let incident = Incident::of("shop-1", vec![open]).unwrap();
        let text = message(&incident, &What::Opened, Some("https://wiki/shop"), at(1));
        assert!(text.starts_with("orders are gone\nincident shop-1 of service 'shop', since"));
        assert!(text.contains("runbook: https://wiki/shop\n"), "{text}");
        assert!(text.contains("1. rollforward incident ack shop-1\n"), "{text}");
    }
}
