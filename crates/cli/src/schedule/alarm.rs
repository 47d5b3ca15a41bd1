//! What is wrong, and who has heard of it: once when it begins, once when it is over.

use jiff::{SignedDuration, Timestamp};
use recovery::plan::duration_text;

use super::record::{Alarm, Alarms, Record};
use crate::config::Job;

/// A backup of less than this part of the one before is strange: half.
const SHRUNK_PART: u64 = 2;

/// Something that is wrong now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// What it is about, and what channels are told: `job failed`.
    pub(super) what: &'static str,
    pub(super) text: String,
}

/// What channels are told when it is over.
pub(super) const RECOVERED: &str = "recovered";

/// What is wrong with a job.
pub(super) fn wrong_with(job: &Job, record: &Record, now: Timestamp) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    if let Some(last) = record.last.as_ref().filter(|last| !last.is_success) {
        let message = last.message.as_deref().unwrap_or("it said nothing");
        let exit = last.exit.map_or_else(String::new, |exit| format!(" (exit code {exit})"));
        wrong.push(Wrong {
            what: "job failed",
            text: format!("`rollforward {}` failed at {}{exit}: {message}", job.run(), last.ended),
        });
    }
    let since = record.last_success.as_ref().map_or(record.since, |last| last.ended);
    let limit =
        SignedDuration::try_from(job.at.period() + job.grace).unwrap_or(SignedDuration::MAX);
    let grace = SignedDuration::try_from(job.grace).unwrap_or(SignedDuration::MAX);
    let age = now.duration_since(since);
    if age > limit {
        let age = duration_text(u64::try_from(age.as_secs()).unwrap_or(0));
        let allowed = duration_text((job.at.period() + job.grace).as_secs());
        let text = match &record.last_success {
            Some(_) => format!("`rollforward {}` has not succeeded for {age}", job.run()),
            None => format!("`rollforward {}` has never succeeded, in {age}", job.run()),
        };
        wrong.push(Wrong { what: "job late", text: format!("{text}; allowed are {allowed}") });
    } else if age < -grace {
        // A clock was ahead: how old the success is nobody knows, and it must not count for years.
        let text = format!(
            "the last success of `rollforward {}` is dated {since}, which is in the future: its \
             age is not known",
            job.run()
        );
        wrong.push(Wrong { what: "job late", text });
    }
    let bytes = record.last_success.as_ref().and_then(|last| last.bytes);
    if let (Some(before), Some(bytes)) = (record.bytes_before, bytes)
        && bytes < before / SHRUNK_PART
    {
        wrong.push(Wrong {
            what: "job shrank",
            text: format!(
                "`rollforward {}` came to {bytes} bytes, {before} the time before: is something \
                 missing in it?",
                job.run()
            ),
        });
    }
    wrong
}

/// Something to tell one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) channel: String,
    /// Which alarm it is about.
    pub(super) alarm: String,
    pub(super) what: &'static str,
    pub(super) text: String,
}

/// Takes note of what is wrong now, and says who is to be told what. An alarm that began and ended
/// before anybody could be told is forgotten.
pub(super) fn messages(
    alarms: &mut Alarms,
    wrong: &[Wrong],
    channels: &[String],
    now: Timestamp,
) -> Vec<Message> {
    let mut messages = Vec::new();
    for it in wrong {
        let new = Alarm { since: now, text: it.text.clone(), told: Vec::new() };
        let alarm = alarms.entry(it.what.to_owned()).or_insert(new);
        for channel in channels.iter().filter(|name| !alarm.told.contains(name)) {
            messages.push(Message {
                channel: channel.clone(),
                alarm: it.what.into(),
                what: it.what,
                text: alarm.text.clone(),
            });
        }
    }
    alarms.retain(|what, alarm| wrong.iter().any(|it| it.what == what) || !alarm.told.is_empty());
    for (what, alarm) in alarms.iter() {
        if wrong.iter().any(|it| it.what == what) {
            continue;
        }
        let took = u64::try_from(now.duration_since(alarm.since).as_secs()).unwrap_or(0);
        for channel in &alarm.told {
            messages.push(Message {
                channel: channel.clone(),
                alarm: what.clone(),
                what: RECOVERED,
                text: format!("over after {}: {}", duration_text(took), alarm.text),
            });
        }
    }
    messages
}

/// A channel has heard a message.
pub(super) fn heard(alarms: &mut Alarms, message: &Message) {
    let Some(alarm) = alarms.get_mut(&message.alarm) else { return };
    if message.what != RECOVERED {
        alarm.told.push(message.channel.clone());
        return;
    }
    alarm.told.retain(|channel| *channel != message.channel);
    if alarm.told.is_empty() {
        alarms.remove(&message.alarm);
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Ended;
    use super::*;
    use crate::schedule::At;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn job() -> Job {
        Job {
            name: "backup-shop".into(),
            words: ["backup", "shop"].map(str::to_owned).into(),
            at: At::Hourly(0),
            grace: std::time::Duration::from_secs(600),
            tell: vec!["pager".into()],
        }
    }

    fn ran(record: &mut Record, second: i64, is_success: bool, bytes: u64) {
        record.end(Ended {
            began: at(second - 1),
            ended: at(second),
            milliseconds: 1000,
            is_success,
            exit: Some(i32::from(!is_success)),
            message: None,
            bytes: Some(bytes),
            label: None,
        });
    }

    fn whats(record: &Record, second: i64) -> Vec<&'static str> {
        wrong_with(&job(), record, at(second)).into_iter().map(|wrong| wrong.what).collect()
    }

    #[test]
    fn a_job_is_late_after_its_period_and_grace_and_shrunk_below_half() {
        let mut record = Record::new(at(0));
        assert_eq!(whats(&record, 4200), [""; 0]);
        assert_eq!(whats(&record, 4201), ["job late"], "it never ran");
        ran(&mut record, 4300, true, 100);
        assert_eq!(whats(&record, 8500), [""; 0]);
        assert_eq!(whats(&record, 8501), ["job late"]);
        ran(&mut record, 8600, false, 0);
        assert_eq!(whats(&record, 8601), ["job failed", "job late"]);
        ran(&mut record, 8700, true, 50);
        assert_eq!(whats(&record, 8701), [""; 0], "half is not less than half");
        ran(&mut record, 8800, true, 24);
        assert_eq!(whats(&record, 8801), ["job shrank"]);
        ran(&mut record, 8900, true, 24);
        assert_eq!(whats(&record, 8901), [""; 0]);
        // The clock was ahead, by less than the grace and by years.
        ran(&mut record, 9500, true, 24);
        assert_eq!(whats(&record, 8900), [""; 0]);
        ran(&mut record, 900_000_000, true, 24);
        assert_eq!(whats(&record, 9000), ["job late"]);
    }

    #[test]
    fn each_channel_hears_of_an_alarm_once_and_of_its_end_once() {
        let (mut alarms, now) = (Alarms::new(), at(0));
        let wrong = [Wrong { what: "job failed", text: "no".into() }];
        let both = ["pager".to_owned(), "room".to_owned()];
        let first = messages(&mut alarms, &wrong, &both, now);
        assert_eq!(first.len(), 2);
        heard(&mut alarms, &first[0]);
        // The room did not answer: it is told again, the pager is not.
        let again = messages(&mut alarms, &wrong, &both, now);
        assert_eq!(again, [first[1].clone()]);
        heard(&mut alarms, &again[0]);
        assert_eq!(messages(&mut alarms, &wrong, &both, now), []);
        let over = messages(&mut alarms, &[], &both, at(90));
        assert_eq!(over.iter().map(|it| it.what).collect::<Vec<_>>(), [RECOVERED; 2]);
        heard(&mut alarms, &over[0]);
        let rest = messages(&mut alarms, &[], &both, at(91));
        assert_eq!(rest.len(), 1, "the other one has not heard yet");
        heard(&mut alarms, &rest[0]);
        assert!(alarms.is_empty());
        // What nobody heard of needs no end.
        messages(&mut alarms, &wrong, &both, now);
        assert_eq!(messages(&mut alarms, &[], &both, now), []);
        assert!(alarms.is_empty());
    }
}
