//! Incidents: what happened, noticed when and by whom; open until somebody closes it.

use jiff::Timestamp;
use repository::journal as objects;
use serde_json::{Value, json};
use store::Created;

use super::home::{Home, HomeError};
use crate::canonical::canonical;
use crate::duty::driverless::LOG_PREFIX;
use crate::plan::Parameters;
use crate::plan::wire::{Reader, parameters_value};

/// How often an entry is tried when others append at the same time.
const ATTEMPTS_MAX: u32 = 16;

/// One thing that was said of an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncidentEntry {
    /// `open`, `ack`, `note`, `told`, `resolved`, `evidence`, `originals`, `run`, `close`.
    pub kind: String,
    /// When.
    pub at: Timestamp,
    /// Who or what.
    pub by: String,
    /// Named values.
    pub fields: Parameters,
}

/// Whether an incident needs somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncidentState {
    /// Nobody has taken it.
    Open,
    /// Somebody has.
    Acknowledged,
    /// It is over.
    Closed,
}

/// An incident: the sum of its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// Its id.
    pub id: String,
    /// The service.
    pub service: String,
    /// What happened, in the words of whoever opened it.
    pub summary: String,
    /// When it was noticed.
    pub started: Timestamp,
    /// When it was opened.
    pub opened: Timestamp,
    /// What state it is in.
    pub state: IncidentState,
    /// Everything that was said, in order.
    pub entries: Vec<IncidentEntry>,
}

impl Incident {
    /// What objects were before the first run touched them.
    #[must_use]
    pub fn originals(&self) -> Parameters {
        let mut originals = Parameters::new();
        for entry in self.entries.iter().filter(|entry| entry.kind == "originals") {
            for (object, value) in &entry.fields {
                // The first one counts: later ones saw what a run had made of it.
                originals.entry(object.clone()).or_insert_with(|| value.clone());
            }
        }
        originals
    }

    /// The runs of the incident, in order.
    #[must_use]
    pub fn runs(&self) -> Vec<&str> {
        let runs = self.entries.iter().filter(|entry| entry.kind == "run");
        runs.filter_map(|entry| entry.fields.get("run").map(String::as_str)).collect()
    }

    /// What was last said about something: `data`, `target`, `impact`, `eta`.
    #[must_use]
    pub fn said(&self, name: &str) -> Option<&str> {
        let of_people = |entry: &&IncidentEntry| entry.kind != "told" && entry.kind != "originals";
        let said = self.entries.iter().rev().filter(of_people);
        said.filter_map(|entry| entry.fields.get(name))
            .map(String::as_str)
            .find(|it| !it.is_empty())
    }

    /// Whether this value was ever said under this name.
    #[must_use]
    pub fn has_said(&self, name: &str, value: &str) -> bool {
        self.entries.iter().any(|it| it.fields.get(name).is_some_and(|seen| seen == value))
    }

    /// Whether the alert of this key fires, as far as its sender has said: a repeat of one that is
    /// over is another alert.
    #[must_use]
    pub fn fires(&self, key: &str) -> bool {
        let is = |it: &IncidentEntry, name: &str| it.fields.get(name).is_some_and(|it| it == key);
        let last = self.entries.iter().rev().find_map(|it| match it.kind.as_str() {
            "resolved" if is(it, "said.key") => Some(false),
            _ if is(it, "alert.key") => Some(true),
            _ => None,
        });
        self.state != IncidentState::Closed && last == Some(true)
    }

    pub(crate) fn of(id: &str, entries: Vec<IncidentEntry>) -> Option<Self> {
        let opened = entries.iter().find(|entry| entry.kind == "open")?;
        let field = |name: &str| opened.fields.get(name).cloned().unwrap_or_default();
        let says = |kind: &str| entries.iter().any(|entry| entry.kind == kind);
        let state = match (says("close"), says("ack")) {
            (true, _) => IncidentState::Closed,
            (false, true) => IncidentState::Acknowledged,
            (false, false) => IncidentState::Open,
        };
        Some(Self {
            id: id.into(),
            service: field("service"),
            summary: field("summary"),
            started: field("started").parse().unwrap_or(opened.at),
            opened: opened.at,
            state,
            entries,
        })
    }
}

/// Appends to an incident; the first entry makes it.
///
/// # Errors
/// [`HomeError`].
pub async fn append_incident(
    home: &Home,
    id: &str,
    entry: &IncidentEntry,
) -> Result<(), HomeError> {
    let bad = |reason: String| HomeError::Damaged { run: id.into(), sequence: 0, reason };
    let content = canonical(&json!({
        "kind": entry.kind, "at": entry.at.to_string(), "by": entry.by,
        "fields": parameters_value(&entry.fields),
    }))
    .map_err(|error| bad(error.to_string()))?;
    for _ in 0..ATTEMPTS_MAX {
        let there = keys(home, id).await?;
        let number = u32::try_from(there.len()).unwrap_or(u32::MAX);
        let key = objects::incident_entry(id, number)
            .ok_or_else(|| bad("its name does not fit".into()))?;
        let sealed = objects::seal(&home.keys, objects::Link::NONE, &content);
        match home.store.put_if_absent(&key, vec![sealed.clone()]).await {
            Ok(Created::New) => return Ok(()),
            _ => match home.store.get(&key).await {
                Ok(seen) if seen == sealed => return Ok(()),
                Ok(_) | Err(store::Error::NotFound { .. }) => {}
                Err(source) => return Err(unreachable(home, id, source)),
            },
        }
    }
    Err(bad("others append all the time".into()))
}

/// An incident.
///
/// # Errors
/// [`HomeError::NoRun`] when there is none; the others.
pub async fn load_incident(home: &Home, id: &str) -> Result<Incident, HomeError> {
    let mut entries = Vec::new();
    for key in keys(home, id).await? {
        let stored = home.store.get(&key).await.map_err(|error| unreachable(home, id, error))?;
        let bad = |reason: String| HomeError::Damaged { run: id.into(), sequence: 0, reason };
        let content =
            objects::open(&home.keys, &stored).map_err(|error| bad(format!("{error:?}")))?;
        let value: Value =
            serde_json::from_slice(&content).map_err(|error| bad(error.to_string()))?;
        let it = Reader { value: &value, at: "incident".into() };
        let read = || -> Option<IncidentEntry> {
            Some(IncidentEntry {
                kind: it.text("kind").ok()?,
                at: it.text("at").ok()?.parse().ok()?,
                by: it.text("by").ok()?,
                fields: it.parameters("fields").ok()?,
            })
        };
        entries.push(read().ok_or_else(|| bad("it is no entry".into()))?);
    }
    Incident::of(id, entries)
        .ok_or_else(|| HomeError::NoRun { run: id.into(), home: home.store.address().into() })
}

/// Begins the id of a finding: something that a drill showed and that has to be mended. It is kept
/// like an incident, and never counts as one.
pub const FINDING_PREFIX: &str = "finding-";

/// Every incident that can be read, newest first: one that is damaged must not keep the others from
/// being seen. [`incidents_and_damaged`] names those.
///
/// # Errors
/// [`HomeError`].
pub async fn incidents(home: &Home) -> Result<Vec<Incident>, HomeError> {
    Ok(incidents_and_damaged(home).await?.0)
}

/// Every incident, newest first, and why others cannot be read.
///
/// # Errors
/// [`HomeError`].
pub async fn incidents_and_damaged(
    home: &Home,
) -> Result<(Vec<Incident>, Vec<HomeError>), HomeError> {
    named(home, |id| !id.starts_with(FINDING_PREFIX) && !id.starts_with(LOG_PREFIX)).await
}

/// Every finding that can be read, newest first.
///
/// # Errors
/// [`HomeError`].
pub async fn findings(home: &Home) -> Result<Vec<Incident>, HomeError> {
    Ok(named(home, |id| id.starts_with(FINDING_PREFIX)).await?.0)
}

async fn named(
    home: &Home,
    is_wanted: fn(&str) -> bool,
) -> Result<(Vec<Incident>, Vec<HomeError>), HomeError> {
    let mut names: Vec<String> = Vec::new();
    for key in list(home, objects::INCIDENTS, "*").await? {
        let rest = key.as_str().strip_prefix(objects::INCIDENTS).unwrap_or_default();
        let name = rest.split('/').next().unwrap_or_default().to_owned();
        if names.last() != Some(&name) && is_wanted(&name) {
            names.push(name);
        }
    }
    let (mut found, mut damaged) = (Vec::new(), Vec::new());
    for name in names {
        match load_incident(home, &name).await {
            Ok(incident) => found.push(incident),
            Err(error) if error.is_of_one_incident() => damaged.push(error),
            Err(error) => return Err(error),
        }
    }
    found.sort_by_key(|incident| std::cmp::Reverse(incident.opened));
    Ok((found, damaged))
}

async fn keys(home: &Home, id: &str) -> Result<Vec<store::Key>, HomeError> {
    list(home, &objects::incident(id), id).await
}

async fn list(home: &Home, prefix: &str, id: &str) -> Result<Vec<store::Key>, HomeError> {
    let mut found: Vec<store::Key> = Vec::new();
    loop {
        let page = home.store.list(prefix, found.last(), 1000).await;
        let page = page.map_err(|error| unreachable(home, id, error))?;
        let complete = page.len() < 1000;
        found.extend(page.into_iter().map(|meta| meta.key));
        if complete {
            return Ok(found);
        }
    }
}

fn unreachable(home: &Home, id: &str, source: store::Error) -> HomeError {
    HomeError::Unreachable {
        run: id.into(),
        home: home.store.address().into(),
        source: Box::new(source),
    }
}
