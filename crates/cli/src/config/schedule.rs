//! From `[schedule]` to jobs: checked, typed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::service::duration;
use super::wire::{JobTable, ScheduleTable};
use super::{Channel, absolute};
use crate::schedule::At;

/// Jobs of one machine begin within this after their time, unless the file says otherwise, so that
/// not all hosts ask one repository in the same second.
const DELAY_DEFAULT: Duration = Duration::from_secs(300);

/// A job is late when it did not succeed for its period and this.
const GRACE_DEFAULT: Duration = Duration::from_secs(3600);

/// What may run by itself: nothing that touches production or needs a person.
const VERBS: [&str; 6] = ["backup", "check", "drill", "dump", "expire", "verify"];

/// Longest name of a job: it becomes part of names of files.
const NAME_LEN_MAX: usize = 64;

/// What runs by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// Jobs by name.
    pub(crate) jobs: BTreeMap<String, Job>,
    /// Channels that hear of what is wrong with no job of its own.
    pub(crate) tell: Vec<String>,
    /// The file for node_exporter's textfile collector.
    pub(crate) metrics: Option<PathBuf>,
    /// Who runs the jobs; `None`: whoever the units or the crontab belong to.
    pub(crate) user: Option<String>,
    /// The longest random delay.
    pub(crate) delay: Duration,
}

/// One job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// Its name.
    pub(crate) name: String,
    /// The command's words, without the program.
    pub(crate) words: Vec<String>,
    /// When it runs.
    pub(crate) at: At,
    /// How long after its period without success it is late.
    pub(crate) grace: Duration,
    /// Channels that hear of it.
    pub(crate) tell: Vec<String>,
}

impl Job {
    /// The command, for people.
    pub(crate) fn run(&self) -> String {
        self.words.join(" ")
    }

    /// What two jobs must not do at the same time: `backup.shop`, `dump.create.shop`.
    pub(crate) fn kind(&self) -> String {
        let plain = |word: &&String| !word.starts_with('-');
        // The verb, which for dumps has two words, and the cluster or service.
        let count = if self.words.first().is_some_and(|word| word == "dump") { 3 } else { 2 };
        let words: Vec<&str> =
            self.words.iter().take_while(plain).take(count).map(String::as_str).collect();
        let fit = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
        words.join(".").chars().map(fit).collect()
    }
}

type Problem = (String, String);

pub(super) fn schedule(
    table: ScheduleTable,
    channels: &BTreeMap<String, Channel>,
) -> Result<Schedule, Problem> {
    let span = |key: &str, text: Option<&String>, default: Duration| match text {
        None => Ok(default),
        Some(text) => duration(text).ok_or_else(|| {
            (key.to_owned(), format!("expected a duration like '15m' or '4h', seen '{text}'"))
        }),
    };
    let grace = span("grace", table.grace.as_ref(), GRACE_DEFAULT)?;
    let delay = span("delay", table.delay.as_ref(), DELAY_DEFAULT)?;
    known("tell", &table.tell, channels)?;
    let metrics = table.metrics.as_deref().map(absolute).transpose();
    let mut jobs = BTreeMap::new();
    for (name, job) in table.job {
        let key = |field: &str| format!("job.{name}.{field}");
        if !is_name(&name) {
            let why = "expected a name of small letters, digits and '-', not 'check'".to_owned();
            return Err((format!("job.{name}"), why));
        }
        let grace = span(&key("grace"), job.grace.as_ref(), grace)?;
        let tell = job.tell.clone().unwrap_or_else(|| table.tell.clone());
        known(&key("tell"), &tell, channels)?;
        let words = words(&job).map_err(|why| (key("run"), why))?;
        let at = at(&job).map_err(|why| (key("at"), why))?;
        jobs.insert(name.clone(), Job { name, words, at, grace, tell });
    }
    Ok(Schedule {
        jobs,
        tell: table.tell,
        metrics: metrics.map_err(|why| ("metrics".to_owned(), why))?,
        user: table.user,
        delay,
    })
}

/// Names become names of units and files; `check` is the watchdog's.
fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_short = (1..=NAME_LEN_MAX).contains(&name.len());
    is_short && name.bytes().all(fits) && !name.starts_with('-') && name != "check"
}

fn known(key: &str, tell: &[String], channels: &BTreeMap<String, Channel>) -> Result<(), Problem> {
    match tell.iter().find(|name| !channels.contains_key(*name)) {
        Some(unknown) => {
            Err((key.to_owned(), format!("there is no channel '{unknown}' in [notify]")))
        }
        None => Ok(()),
    }
}

fn words(job: &JobTable) -> Result<Vec<String>, String> {
    let words: Vec<String> = job.run.split_whitespace().map(str::to_owned).collect();
    let verb = words.first().map(String::as_str).unwrap_or_default();
    match VERBS.contains(&verb) {
        true => Ok(words),
        false => Err(format!("expected one of {}, seen '{verb}'", VERBS.join(", "))),
    }
}

fn at(job: &JobTable) -> Result<At, String> {
    let period = match &job.period {
        None => None,
        Some(text) => Some(
            duration(text).ok_or_else(|| format!("expected a period like '1d', seen '{text}'"))?,
        ),
    };
    At::parse(&job.at, period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_of_two_clusters_are_of_two_kinds() {
        let check = |run: &str, expect: &str| {
            let job = Job {
                name: "j".into(),
                words: run.split(' ').map(str::to_owned).collect(),
                at: At::Hourly(0),
                grace: GRACE_DEFAULT,
                tell: Vec::new(),
            };
            assert_eq!(job.kind(), expect, "{run}");
        };
        check("dump create shop --jobs 2", "dump.create.shop");
        check("dump create crm", "dump.create.crm");
        check("dump expire shop", "dump.expire.shop");
        check("backup shop --note again", "backup.shop");
        check("verify shop 20261120T030000Z", "verify.shop");
        check("check", "check");
    }
}
