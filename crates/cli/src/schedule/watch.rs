//! The watchdog: jobs that are late or were killed, archiving that falls behind, and who is told.

use jiff::Timestamp;
use recovery::plan::duration_text;
use serde::{Deserialize, Serialize};
use stdx::{Clock, SystemClock};

use super::alarm::{Wrong, heard, messages, wrong_with};
use super::facts::{self, Position};
use super::record::{Alarms, Kept, Record};
use crate::config::{Config, Job};
use crate::orchestra::{channels as told_channels, driver};

/// What is remembered of a cluster's archiving.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Archiving {
    /// The next transaction id when it was last looked at.
    xid: Option<String>,
    /// The first position seen that was written and is not archived yet.
    pending: Option<Pending>,
    #[serde(default)]
    pub(crate) alarms: Alarms,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pending {
    seen: Timestamp,
    segment: String,
}

/// Something that is wrong now, for people.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    pub(crate) subject: String,
    pub(crate) what: &'static str,
    pub(crate) text: String,
}

/// Looks at a job, and tells who has not heard yet.
pub(super) async fn job(
    config: &Config,
    job: &Job,
    kept: &mut Kept<Record>,
) -> anyhow::Result<Vec<Found>> {
    let now = SystemClock::new().now();
    kept.value.bury(now);
    let wrong = wrong_with(job, &kept.value, now);
    let subject = format!("job {}", job.name);
    tell(config, &subject, &mut kept.value.alarms, &wrong, &job.tell, now).await?;
    kept.store()?;
    Ok(found(&subject, wrong))
}

fn found(subject: &str, wrong: Vec<Wrong>) -> Vec<Found> {
    let found = wrong.into_iter().map(|wrong| Found {
        subject: subject.to_owned(),
        what: wrong.what,
        text: wrong.text,
    });
    found.collect()
}

async fn tell(
    config: &Config,
    subject: &str,
    alarms: &mut Alarms,
    wrong: &[Wrong],
    channels: &[String],
    now: Timestamp,
) -> anyhow::Result<()> {
    let messages = messages(alarms, wrong, channels, now);
    if messages.is_empty() {
        return Ok(());
    }
    for message in messages {
        // A key for each alarm: the end of one must not end another at a pager.
        let about = told_channels::about_job(subject, &message.alarm);
        let effects = driver::providers(config, about)?;
        match effects.tell(&message.channel, message.what, &message.text).await {
            Ok(()) => heard(alarms, &message),
            // The next look tries again.
            Err(failure) => tracing::warn!("{}: {}", message.channel, failure.message),
        }
    }
    Ok(())
}

/// Everything that is wrong now.
pub(crate) async fn all(config: &Config) -> anyhow::Result<Vec<Found>> {
    let mut wrong = Vec::new();
    for each in config.schedule.jobs.values() {
        let mut kept = super::run::open(config, each, SystemClock::new().now())?;
        wrong.extend(job(config, each, &mut kept).await?);
    }
    for cluster in config.clusters.keys() {
        wrong.extend(archiving(config, cluster).await?);
    }
    Ok(wrong)
}

/// Where a cluster's archiving is remembered: no job has a name with an underscore.
pub(crate) fn archiving_name(cluster: &str) -> String {
    format!("archiving_{}", cluster.replace('/', "_"))
}

/// Whether what was written is archived within the objective of the services on the cluster.
async fn archiving(config: &Config, cluster: &str) -> anyhow::Result<Vec<Found>> {
    let Some(rpo) = facts::rpo(config, cluster) else { return Ok(Vec::new()) };
    let now = SystemClock::new().now();
    let mut kept = Kept::open(config, &archiving_name(cluster), Archiving::default)?;
    let (position, archived) =
        (facts::position(config, cluster).await, facts::archived(config, cluster).await);
    note(&mut kept.value, position.as_ref(), archived.as_deref(), now);
    let age = age(&kept.value, now);
    let limit = i64::try_from(rpo.as_secs()).unwrap_or(i64::MAX);
    let mut wrong = Vec::new();
    if age > limit {
        let text = format!(
            "cluster '{cluster}': what was written {} ago is not archived, the objective is {}; \
             last archived: {}",
            duration_text(u64::try_from(age).unwrap_or(0)),
            duration_text(rpo.as_secs()),
            archived.as_deref().unwrap_or("nothing that can be seen")
        );
        wrong.push(Wrong { what: "archiving behind", text });
    }
    let subject = format!("archiving {cluster}");
    let channels = &config.schedule.tell;
    tell(config, &subject, &mut kept.value.alarms, &wrong, channels, now).await?;
    kept.store()?;
    Ok(found(&subject, wrong))
}

/// How old the oldest write is that is not archived, in seconds; 0: everything is.
pub(crate) fn age(archiving: &Archiving, now: Timestamp) -> i64 {
    let pending = archiving.pending.as_ref();
    pending.map_or(0, |pending| now.duration_since(pending.seen).as_secs().max(0))
}

/// Takes note of how far the server has written and how far it is archived. A server in which
/// nothing is written has nothing to archive, however old its newest segment is.
fn note(
    archiving: &mut Archiving,
    position: Option<&Position>,
    archived: Option<&str>,
    now: Timestamp,
) {
    let is_archived =
        |segment: &str| archived.is_some_and(|last| counter(last) >= counter(segment));
    archiving.pending.take_if(|pending| is_archived(&pending.segment));
    let Some(position) = position else { return };
    // What was written before the first look is not known.
    let wrote = archiving.xid.as_ref().is_some_and(|xid| *xid != position.xid);
    archiving.xid = Some(position.xid.clone());
    if wrote && archiving.pending.is_none() && !is_archived(&position.segment) {
        archiving.pending = Some(Pending { seen: now, segment: position.segment.clone() });
    }
}

/// A segment's name without its timeline: its place in the log.
fn counter(segment: &str) -> &str {
    segment.get(8..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: [&str; 3] =
        ["000000010000000000000001", "000000010000000000000002", "000000020000000000000003"];

    #[test]
    fn only_what_was_written_and_is_not_archived_grows_old() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut archiving = Archiving::default();
        let mut look = |second, xid: &str, segment: usize, archived: Option<usize>| {
            let position = Position { xid: xid.to_owned(), segment: SEGMENT[segment].to_owned() };
            note(&mut archiving, Some(&position), archived.map(|at| SEGMENT[at]), at(second));
            age(&archiving, at(second))
        };
        assert_eq!(look(0, "5", 0, None), 0);
        assert_eq!(look(100, "5", 0, None), 0, "nothing is written");
        assert_eq!(look(200, "9", 1, None), 0, "written just now");
        assert_eq!(look(300, "12", 2, Some(0)), 100, "the oldest write counts");
        assert_eq!(look(400, "12", 2, Some(1)), 0, "that one is archived, and nothing new written");
        assert_eq!(look(500, "12", 2, Some(1)), 0, "an idle server is not behind");
        assert_eq!(look(600, "13", 2, Some(1)), 0);
        assert_eq!(look(750, "13", 2, Some(1)), 150);
        assert_eq!(look(790, "13", 2, Some(2)), 0, "archived on a later timeline");
        note(&mut archiving, None, None, at(800));
        assert_eq!(age(&archiving, at(800)), 0, "a server that does not answer says nothing new");
    }
}
