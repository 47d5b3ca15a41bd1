//! A run that has not ended and that nobody drives: its driver was killed, or ended because the run
//! waits for a person. Nobody else would say so.

use std::time::Duration;

use jiff::Timestamp;

use super::{Duty, OF, What, is_owed};
use crate::journal::{IncidentEntry, Loaded};
use crate::machine::{Awaited, Next, State};
use crate::plan::{Parameters, duration_text};
use crate::runner::LEASE_TTL;
use crate::service::Escalation;

/// A run that nothing was written of for so long is history: it is not told of any more.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(7 * 86_400);

/// So long somebody who set out to tell is believed to be telling.
const TELLING_MAX_SECONDS: i64 = 120;

/// Begins the name under which is kept what was told of a run that belongs to no incident.
pub const LOG_PREFIX: &str = "driverless-";

/// A run without a driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driverless {
    /// The run.
    pub run: String,
    /// How many records it has: a driver that goes on, and is gone again, has written more.
    records: u32,
    /// When the last of them was written, by the store's clock.
    silent_since: Timestamp,
    /// What it waits for; `None`: it was under way.
    awaits: Option<Awaited>,
    text: String,
}

impl Driverless {
    /// What is known of the run, when its lease is over at `now`, by the store's clock.
    #[must_use]
    pub fn of(loaded: &Loaded, state: &State, now: Timestamp) -> Option<Self> {
        let silent_since = loaded.last_written;
        let silent = now.duration_since(silent_since);
        let is_over = silent.as_secs() >= i64::try_from(LEASE_TTL.as_secs()).unwrap_or(i64::MAX);
        if state.is_closed() || !is_over {
            return None;
        }
        let awaits = match state.next() {
            Next::Await(awaited) => Some(awaited),
            _ => None,
        };
        let text = text(state, awaits.as_ref());
        let records = loaded.end.next();
        Some(Self { run: state.run.clone(), records, silent_since, awaits, text })
    }

    fn what(&self) -> What {
        match self.awaits {
            Some(_) => What::WaitsAlone,
            None => What::NoDriver,
        }
    }

    /// Names this absence of a driver.
    fn name(&self) -> String {
        format!("{} {}", self.run, self.records)
    }

    /// What has to be told now, from what was told before. Those who come next are asked when
    /// nobody has taken the incident since it was told first.
    #[must_use]
    pub fn duties(
        &self,
        log: &[IncidentEntry],
        tell: &[String],
        escalate: &[Escalation],
        now: Timestamp,
    ) -> Vec<Duty> {
        let name = self.name();
        let is_of_this = |entry: &&IncidentEntry| entry.fields.get(OF) == Some(&name);
        let first = log.iter().position(|entry| is_of_this(&entry));
        let duty =
            |channel: &String, what| Duty { channel: channel.clone(), what, of: name.clone() };
        let mut wanted: Vec<Duty> = tell.iter().map(|channel| duty(channel, self.what())).collect();
        if let Some((told, later)) = first.and_then(|at| Some((log.get(at)?, log.get(at..)?))) {
            let waited = now.duration_since(told.at).unsigned_abs();
            let is_taken = later.iter().any(|entry| entry.kind == "ack");
            // Who paused it knows.
            let is_known = matches!(self.awaits, Some(Awaited::Resume { .. }));
            let due = escalate.iter().filter(|it| waited >= it.after && !is_taken && !is_known);
            wanted.extend(due.map(|it| {
                let what = What::Unanswered { to: it.to.clone() };
                duty(&it.channel, what)
            }));
        }
        wanted.retain(|duty| is_owed(log, duty, now));
        wanted
    }

    /// The entry that says that somebody sets out to tell, or is over with it: several hosts look
    /// in the same second, and entries have one order for all of them.
    #[must_use]
    pub fn telling(&self, teller: &str, is_over: bool, at: Timestamp) -> IncidentEntry {
        let fields = Parameters::from([
            (OF.into(), self.name()),
            ("teller".into(), teller.to_owned()),
            ("over".into(), is_over.to_string()),
        ]);
        IncidentEntry { kind: "telling".into(), at, by: "rollforward".into(), fields }
    }

    /// Whether it is this one's to tell: of those who set out, the first that has not come to an
    /// end or been away for too long.
    #[must_use]
    pub fn is_told_by(&self, log: &[IncidentEntry], teller: &str) -> bool {
        let name = self.name();
        let mut holder: Option<(&str, Timestamp)> = None;
        for entry in log.iter().filter(|it| it.kind == "telling") {
            let field = |name: &str| entry.fields.get(name).map_or("", String::as_str);
            if field(OF) != name {
                continue;
            }
            let is_gone =
                |since: Timestamp| entry.at.duration_since(since).as_secs() >= TELLING_MAX_SECONDS;
            holder = match holder {
                Some((id, _)) if id == field("teller") => None,
                Some(held) if !is_gone(held.1) => Some(held),
                _ if field("over") == "true" => None,
                _ => Some((field("teller"), entry.at)),
            };
        }
        holder.is_some_and(|(id, _)| id == teller)
    }

    /// The entry that begins a log of its own.
    #[must_use]
    pub fn opening(&self, service: &str, at: Timestamp) -> IncidentEntry {
        let fields = Parameters::from([
            ("service".into(), service.to_owned()),
            ("summary".into(), format!("run {} has no driver", self.run)),
        ]);
        IncidentEntry { kind: "open".into(), at, by: "rollforward".into(), fields }
    }

    /// What a channel hears. The first line says what happened.
    #[must_use]
    pub fn message(&self, duty: &Duty, now: Timestamp) -> String {
        let silent = now.duration_since(self.silent_since).unsigned_abs().as_secs();
        let asked = match &duty.what {
            What::Unanswered { to } => format!("nobody has answered: {to} is asked now; "),
            _ => String::new(),
        };
        format!("{asked}{}, for {}{}", self.headline(), duration_text(silent), self.text)
    }

    fn headline(&self) -> String {
        let run = &self.run;
        match &self.awaits {
            None => format!("run {run} has no driver"),
            Some(Awaited::Resume { by }) => {
                format!("run {run} was paused by {by}, without a driver")
            }
            Some(_) => format!("run {run} waits for a person, without a driver"),
        }
    }
}

/// Where the run stands, and what to type.
fn text(state: &State, awaits: Option<&Awaited>) -> String {
    let run = &state.run;
    let resume =
        format!("rollforward run resume {run}\nfrom another host: rollforward run takeover {run}");
    match awaits {
        Some(Awaited::Approval { gate, missing, text }) => format!(
            "\n{gate} waits for {missing} more approval(s): {text}\n\
             1. rollforward run approve {run} --gate {gate}\n2. {resume}"
        ),
        Some(Awaited::Decision { reason }) => {
            format!("\nhalted: {reason}\n1. rollforward run retry|skip|abort {run}\n2. {resume}")
        }
        Some(Awaited::Resume { .. }) => format!("\n{resume}"),
        None => {
            let step = state.current().and_then(|at| state.step(at));
            let step = step.map_or_else(String::new, |(step, _)| format!("\nat {}", step.id));
            format!("{step}\n{resume}")
        }
    }
}
