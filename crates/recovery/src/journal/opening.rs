//! Opening and closing: one open incident for each service, however many alerts come at once.

use super::claim::{claim, release};
use super::home::{Home, HomeError};
use super::incident::{
    Incident, IncidentEntry, IncidentState, append_incident, incidents, load_incident,
};

/// What a service's incident is claimed under; runs claim the service itself.
fn claimed(service: &str) -> String {
    format!("incident\n{service}")
}

/// The incident that an entry now belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The incident.
    pub id: String,
    /// Whether the entry opened it.
    pub is_new: bool,
}

/// The open incident of a service.
///
/// # Errors
/// [`HomeError`].
pub async fn open_incident_of(home: &Home, service: &str) -> Result<Option<Incident>, HomeError> {
    let all = incidents(home).await?.into_iter();
    let mut open = all.filter(|it| it.service == service && it.state != IncidentState::Closed);
    Ok(open.next())
}

/// Opens an incident of a service under this id, unless one is open: then the entry is a note on
/// that one. Of several that come at the same moment one opens it.
///
/// # Errors
/// [`HomeError`].
pub async fn open_incident(
    home: &Home,
    service: &str,
    id: &str,
    entry: &IncidentEntry,
) -> Result<Opened, HomeError> {
    if let Some(open) = open_incident_of(home, service).await? {
        let note = IncidentEntry { kind: "note".into(), ..entry.clone() };
        append_incident(home, &open.id, &note).await?;
        return Ok(Opened { id: open.id, is_new: false });
    }
    let name = claimed(service);
    let id = match claim(home, &name, id, None).await? {
        Ok(mine) => mine.run,
        Err(there) => match load_incident(home, &there.run).await {
            // Somebody closed it and died before giving it back.
            Ok(closed) if closed.state == IncidentState::Closed => {
                instead_of(home, &name, id, &there.run).await?
            }
            // Somebody opens it this very moment, or died before: the first entry opens it.
            Ok(_) | Err(HomeError::NoRun { .. }) => there.run,
            // Nobody can see it: what is said of it would be lost.
            Err(HomeError::Damaged { .. }) => instead_of(home, &name, id, &there.run).await?,
            Err(error) => return Err(error),
        },
    };
    append_incident(home, &id, entry).await?;
    let is_new = load_incident(home, &id).await?.entries.first() == Some(entry);
    Ok(Opened { id, is_new })
}

/// Claims a service's incident under this id instead of under that of one that is no more.
async fn instead_of(home: &Home, name: &str, id: &str, old: &str) -> Result<String, HomeError> {
    Ok(match claim(home, name, id, Some(old)).await? {
        Ok(mine) => mine.run,
        Err(quicker) => quicker.run,
    })
}

/// Closes an incident. Safe to repeat.
///
/// # Errors
/// [`HomeError`].
pub async fn close_incident(
    home: &Home,
    incident: &Incident,
    entry: &IncidentEntry,
) -> Result<(), HomeError> {
    if incident.state != IncidentState::Closed {
        append_incident(home, &incident.id, entry).await?;
    }
    release(home, &claimed(&incident.service), &incident.id).await
}
