//! Jobs as units of systemd and as a crontab.

use std::path::Path;

use crate::config::{Config, Job, Schedule};
use crate::failure::Error;

/// How files of ours begin: others are never touched.
pub(super) const MARK: &str = "# Written by `rollforward schedule install`: changes are lost.";

/// How often the watchdog looks, as systemd and cron write it.
const CHECK_CALENDAR: &str = "*:0/5:00";
const CHECK_CRON: &str = "*/5 * * * *";

/// cron sends what is printed as mail: a line for every run belongs into the log.
const LOGGED: &str = "2>&1 | logger -t rollforward";

/// Names of units of ours begin with this.
pub(super) const UNIT_PREFIX: &str = "rollforward-job-";

/// The watchdog's unit.
pub(super) const CHECK_UNIT: &str = "rollforward-schedule-check";

/// Names and contents of all units.
pub(crate) fn units(config: &Config, program: &Path) -> Vec<(String, String)> {
    let schedule = &config.schedule;
    let mut units = Vec::new();
    for job in schedule.jobs.values() {
        let name = format!("{UNIT_PREFIX}{}", job.name);
        let title = format!("Rollforward: {}", job.run());
        let words = ["schedule", "run", &job.name];
        let service = service(&title, schedule, &command(config, program, &words));
        let timer = timer(&title, &job.at.on_calendar(), schedule.delay.as_secs());
        units.push((format!("{name}.service"), service));
        units.push((format!("{name}.timer"), timer));
    }
    let title = "Rollforward: are the jobs on time, is WAL archived";
    let service = service(title, schedule, &command(config, program, &["schedule", "check"]));
    units.push((format!("{CHECK_UNIT}.service"), service));
    units.push((format!("{CHECK_UNIT}.timer"), timer(title, CHECK_CALENDAR, 0)));
    units
}

fn command(config: &Config, program: &Path, words: &[&str]) -> Vec<String> {
    let mut all = vec![program.display().to_string()];
    all.extend(words.iter().map(|word| (*word).to_owned()));
    all.extend(["--config".to_owned(), config.path.display().to_string()]);
    all
}

fn service(title: &str, schedule: &Schedule, words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| unit_word(word)).collect();
    let user = schedule.user.as_ref().map_or_else(String::new, |user| format!("User={user}\n"));
    format!(
        "{MARK}\n[Unit]\nDescription={}\nWants=network-online.target\n\
         After=network-online.target\n\n\
         [Service]\nType=oneshot\n{user}ExecStart={}\n\
         # 8: another one of its kind runs; 3 of the watchdog: something is wrong, and was told.\n\
         SuccessExitStatus=3 8\nNice=10\nIOSchedulingClass=best-effort\nIOSchedulingPriority=7\n\
         # The command is asked to end, and gives up in order.\nTimeoutStopSec=120\n",
        title.replace('%', "%%"),
        words.join(" ")
    )
}

fn timer(title: &str, calendar: &str, delay_s: u64) -> String {
    format!(
        "{MARK}\n[Unit]\nDescription={}\n\n[Timer]\nOnCalendar={}\nRandomizedDelaySec={delay_s}\n\
         # What was missed while the machine was off is made up for.\nPersistent=true\n\n\
         [Install]\nWantedBy=timers.target\n",
        title.replace('%', "%%"),
        calendar.replace('%', "%%")
    )
}

/// A word of `ExecStart=` (systemd.service(5), Command lines).
fn unit_word(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"");
    let escaped = escaped.replace('%', "%%").replace('$', "$$");
    match word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,@+".contains(c)) {
        true => escaped,
        false => format!("\"{escaped}\""),
    }
}

/// The whole crontab. With a user it is a file of `/etc/cron.d`, without one a user's own.
pub(crate) fn crontab(config: &Config, program: &Path) -> Result<String, Error> {
    let schedule = &config.schedule;
    let user = schedule.user.as_ref().map_or_else(String::new, |user| format!("{user} "));
    let mut text = format!(
        "{MARK}\n# cron makes nothing up for that it missed: the watchdog says what is late.\n\
         SHELL=/bin/sh\n"
    );
    let delay = schedule.delay.as_secs().to_string();
    for job in schedule.jobs.values() {
        let fields = job.at.cron().ok_or_else(|| no_cron(job))?;
        let words = ["schedule", "run", &job.name, "--delay-max", &delay];
        let line = cron_line(&command(config, program, &words));
        text.push_str(&format!("{fields} {user}nice -n 10 {line} --log-line {LOGGED}\n"));
    }
    let line = cron_line(&command(config, program, &["schedule", "check"]));
    text.push_str(&format!("{CHECK_CRON} {user}nice -n 10 {line} {LOGGED}\n"));
    Ok(text)
}

fn no_cron(job: &Job) -> Error {
    Error::Usage(format!(
        "job '{}' runs at '{}', which is an expression of systemd: cron has none for it",
        job.name,
        job.at.on_calendar()
    ))
}

/// Words of a command in a crontab, where `%` is a line's end (crontab(5)).
fn cron_line(words: &[String]) -> String {
    let quoted = words.iter().map(|word| {
        match word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,@+".contains(c)) {
            true => word.clone(),
            false => format!("'{}'", word.replace('\'', r"'\''")),
        }
    });
    quoted.collect::<Vec<_>>().join(" ").replace('%', r"\%")
}

#[cfg(test)]
mod tests {
    use super::{cron_line, unit_word};

    #[test]
    fn words_are_quoted_as_each_reader_wants_them() {
        for (word, unit, cron) in [
            ("/usr/bin/x", "/usr/bin/x", "/usr/bin/x"),
            ("a b", "\"a b\"", "'a b'"),
            ("50%", "\"50%%\"", r"'50\%'"),
            ("$HOME", "\"$$HOME\"", "'$HOME'"),
            ("it's", "\"it's\"", r"'it'\''s'"),
        ] {
            assert_eq!(unit_word(word), unit);
            assert_eq!(cron_line(&[word.to_owned()]), cron);
        }
    }
}
