//! The watchdog: jobs that are late or were killed, archiving that falls behind, and who is told.

use std::path::PathBuf;

use jiff::Timestamp;
use recovery::plan::duration_text;
use serde::{Deserialize, Serialize};
use stdx::{Clock, SystemClock};

use super::alarm::{Wrong, heard, messages, wrong_with};
use super::facts::{self, Server};
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
    /// The last position seen that was written: what is archived up to `pending` may not be up to
    /// this one.
    #[serde(default)]
    latest: Option<Pending>,
    /// Since when the server cannot be asked.
    #[serde(default)]
    unknown_since: Option<Timestamp>,
    #[serde(default)]
    is_standby: bool,
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

/// What a look at everything found.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) wrong: Vec<Found>,
    /// Clusters of which nobody knows what they write.
    pub(crate) unknown: Vec<String>,
    /// What could not be looked at, and was told to nobody.
    pub(crate) errors: Vec<String>,
}

/// Looks at a job, and tells who has not heard yet.
pub(super) async fn job(
    config: &Config,
    job: &Job,
    kept: &mut Kept<Record>,
) -> anyhow::Result<Vec<Found>> {
    let now = SystemClock::new().now();
    kept.value.bury(now);
    let mut wrong = wrong_with(job, &kept.value, now);
    wrong.extend(unreadable(kept.set_aside()));
    let subject = format!("job {}", job.name);
    tell(config, &subject, &mut kept.value.alarms, &wrong, &job.tell, now).await?;
    kept.store()?;
    Ok(found(&subject, wrong))
}

/// A record that could not be read: what was known of runs and alarms begins anew.
fn unreadable(aside: Option<PathBuf>) -> Option<Wrong> {
    let text = format!(
        "a record could not be read and lies now in '{}': what it knew of runs and alarms is \
         forgotten; this ends when the file is taken away",
        aside?.display()
    );
    Some(Wrong { what: "record unreadable", text })
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

/// Everything that is wrong now. What cannot be looked at keeps nothing else from being looked at.
pub(crate) async fn all(config: &Config) -> Seen {
    let mut seen = Seen::default();
    for each in config.schedule.jobs.values() {
        match opened(config, each).await {
            Ok(wrong) => seen.wrong.extend(wrong),
            Err(error) => seen.errors.push(format!("job {}: {error:#}", each.name)),
        }
    }
    for cluster in config.clusters.keys() {
        match archiving(config, cluster).await {
            Ok((wrong, is_known)) => {
                seen.wrong.extend(wrong);
                seen.unknown.extend((!is_known).then(|| cluster.clone()));
            }
            Err(error) => seen.errors.push(format!("archiving {cluster}: {error:#}")),
        }
    }
    seen
}

async fn opened(config: &Config, each: &Job) -> anyhow::Result<Vec<Found>> {
    let mut kept = super::run::open(config, each, SystemClock::new().now())?;
    job(config, each, &mut kept).await
}

/// Where a cluster's archiving is remembered: no job has a name with an underscore.
pub(crate) fn archiving_name(cluster: &str) -> String {
    format!("archiving_{}", cluster.replace('/', "_"))
}

/// Whether what was written is archived within the objective of the services on the cluster; and
/// whether the server could be asked.
async fn archiving(config: &Config, cluster: &str) -> anyhow::Result<(Vec<Found>, bool)> {
    let Some(rpo) = facts::rpo(config, cluster) else { return Ok((Vec::new(), true)) };
    let now = SystemClock::new().now();
    let mut kept = Kept::open(config, &archiving_name(cluster), Archiving::default)?;
    let (server, archived) =
        (facts::server(config, cluster).await, facts::archived(config, cluster).await);
    note(&mut kept.value, &server, archived.as_deref(), now);
    let limit = i64::try_from(rpo.as_secs()).unwrap_or(i64::MAX);
    let span = |seconds: i64| duration_text(u64::try_from(seconds).unwrap_or(0));
    let mut wrong = Vec::new();
    if let Some(age) = age(&kept.value, now).filter(|age| *age > limit) {
        let last = archived.as_ref().map(|all| all.join(", ")).filter(|last| !last.is_empty());
        let text = format!(
            "cluster '{cluster}': what was written {} ago is not archived, the objective is {}; \
             last archived: {}",
            span(age),
            span(limit),
            last.as_deref().unwrap_or("nothing that can be seen")
        );
        wrong.push(Wrong { what: "archiving behind", text });
    }
    let silent = kept.value.unknown_since.map_or(0, |since| now.duration_since(since).as_secs());
    if let Some(why) = server.unknown().filter(|_| silent > limit) {
        let text = format!(
            "cluster '{cluster}': the server cannot be asked for {}, so whether what it writes is \
             archived is not known; the objective is {}: {why}",
            span(silent),
            span(limit)
        );
        wrong.push(Wrong { what: "archiving unknown", text });
    }
    wrong.extend(unreadable(kept.set_aside()));
    let subject = format!("archiving {cluster}");
    let channels = &config.schedule.tell;
    tell(config, &subject, &mut kept.value.alarms, &wrong, channels, now).await?;
    kept.store()?;
    Ok((found(&subject, wrong), server.unknown().is_none()))
}

/// How old the oldest write is that is not archived, in seconds; 0: everything is; `None`: nobody
/// knows what was written.
pub(crate) fn age(archiving: &Archiving, now: Timestamp) -> Option<i64> {
    match &archiving.pending {
        Some(pending) => Some(now.duration_since(pending.seen).as_secs().max(0)),
        None if archiving.unknown_since.is_some() || archiving.is_standby => None,
        None => Some(0),
    }
}

/// Takes note of how far the server has written and how far each timeline is archived. A server in
/// which nothing is written has nothing to archive, however old its newest segment is.
fn note(archiving: &mut Archiving, server: &Server, archived: Option<&[String]>, now: Timestamp) {
    let is_archived = |segment: &str| {
        // A timeline below has another history from where this one began.
        let mut all = archived.unwrap_or_default().iter();
        all.any(|last| timeline(last) >= timeline(segment) && counter(last) >= counter(segment))
    };
    for known in [&mut archiving.pending, &mut archiving.latest] {
        known.take_if(|known| is_archived(&known.segment));
        // The clock was ahead.
        known.iter_mut().for_each(|known| known.seen = known.seen.min(now));
    }
    let is_unknown = server.unknown().is_some();
    let since = archiving.unknown_since.map_or(now, |since| since.min(now));
    archiving.unknown_since = is_unknown.then_some(since);
    if !is_unknown {
        archiving.is_standby = *server == Server::Standby;
    }
    if let Server::Primary(position) = server {
        // What was written before the first look is not known.
        let wrote = archiving.xid.as_ref().is_some_and(|xid| *xid != position.xid);
        archiving.xid = Some(position.xid.clone());
        let is_seen =
            archiving.latest.as_ref().is_some_and(|latest| latest.segment == position.segment);
        if wrote && !is_seen && !is_archived(&position.segment) {
            archiving.latest = Some(Pending { seen: now, segment: position.segment.clone() });
        }
    }
    if archiving.pending.is_none() {
        archiving.pending = archiving.latest.clone();
    }
}

fn timeline(segment: &str) -> &str {
    segment.get(..8).unwrap_or_default()
}

/// A segment's name without its timeline: its place in the log.
fn counter(segment: &str) -> &str {
    segment.get(8..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::facts::Position;
    use super::*;

    const SEGMENT: [&str; 5] = [
        "000000010000000000000001",
        "000000010000000000000002",
        "000000020000000000000003",
        "000000010000000000000009",
        "000000020000000000000004",
    ];

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// One look at a server that has written so far, of which so much is archived.
    fn look(
        archiving: &mut Archiving,
        second: i64,
        (xid, segment): (&str, usize),
        archived: &[usize],
    ) -> Option<i64> {
        let position = Position { xid: xid.to_owned(), segment: SEGMENT[segment].to_owned() };
        let archived: Vec<String> = archived.iter().map(|at| SEGMENT[*at].to_owned()).collect();
        note(archiving, &Server::Primary(position), Some(&archived), at(second));
        age(archiving, at(second))
    }

    #[test]
    fn only_what_was_written_and_is_not_archived_grows_old() {
        let mut archiving = Archiving::default();
        let mut look = |second, wrote, archived: &[usize]| {
            look(&mut archiving, second, wrote, archived).unwrap()
        };
        assert_eq!(look(0, ("5", 0), &[]), 0);
        assert_eq!(look(100, ("5", 0), &[]), 0, "nothing is written");
        assert_eq!(look(200, ("9", 1), &[]), 0, "written just now");
        assert_eq!(look(300, ("12", 2), &[0]), 100, "the oldest write counts");
        assert_eq!(look(400, ("12", 2), &[1]), 100, "that one is archived, the later one is not");
        assert_eq!(look(450, ("12", 2), &[2]), 0);
        assert_eq!(look(500, ("12", 2), &[2]), 0, "an idle server is not behind");
        assert_eq!(look(600, ("13", 4), &[2]), 0);
        assert_eq!(look(650, ("14", 4), &[2]), 50);
        assert_eq!(look(750, ("14", 4), &[2]), 150);
        assert_eq!(look(790, ("14", 4), &[4]), 0, "archived on its timeline");
    }

    #[test]
    fn what_a_timeline_below_has_archived_says_nothing_of_a_new_one() {
        let mut archiving = Archiving::default();
        look(&mut archiving, 0, ("5", 2), &[3]);
        assert_eq!(look(&mut archiving, 100, ("6", 2), &[3]), Some(0));
        assert_eq!(look(&mut archiving, 200, ("6", 2), &[3]), Some(100));
        assert_eq!(look(&mut archiving, 300, ("6", 2), &[3, 2]), Some(0));
        // What was written before the switch counts when the new timeline goes beyond it.
        let mut archiving = Archiving::default();
        look(&mut archiving, 0, ("5", 0), &[0]);
        look(&mut archiving, 100, ("6", 1), &[0]);
        assert_eq!(look(&mut archiving, 200, ("6", 2), &[0, 2]), Some(0));
    }

    #[test]
    fn a_server_that_cannot_be_asked_is_not_one_that_writes_nothing() {
        let mut archiving = Archiving::default();
        look(&mut archiving, 0, ("5", 0), &[0]);
        let away = Server::Unknown("refused".into());
        note(&mut archiving, &away, None, at(100));
        note(&mut archiving, &away, None, at(200));
        assert_eq!((age(&archiving, at(200)), archiving.unknown_since), (None, Some(at(100))));
        note(&mut archiving, &Server::Standby, None, at(300));
        assert_eq!((age(&archiving, at(300)), archiving.unknown_since), (None, None));
        assert_eq!(look(&mut archiving, 400, ("6", 1), &[0]), Some(0));
        note(&mut archiving, &away, None, at(500));
        assert_eq!(age(&archiving, at(500)), Some(100), "what was seen before is not archived");
        // Seen while the clock was ahead: it grows old from now on.
        archiving.pending.as_mut().unwrap().seen = at(900_000);
        note(&mut archiving, &away, None, at(600));
        assert_eq!(age(&archiving, at(700)), Some(100));
    }
}
