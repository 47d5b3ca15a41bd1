//! When a job runs: a few words that systemd and cron both understand, or systemd's own.

use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Names of weekdays; cron counts them from Sunday.
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const FORMS: &str = "'every 15m', 'hourly 10', 'daily 02:00', 'weekly sun 04:00', \
    'monthly 1 04:00', 'quarterly 1 04:00', 'yearly 1 04:00' or 'calendar EXPRESSION'";

/// When a job runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// Every so many minutes, which divide an hour.
    Minutes(u8),
    /// At this minute of every hour.
    Hourly(u8),
    /// At a time of the days that `days` says.
    Clock {
        /// Which days.
        days: Days,
        /// The hour.
        hour: u8,
        /// The minute.
        minute: u8,
    },
    /// An expression of systemd, and the longest time between two runs.
    Calendar(String, Duration),
}

/// Days on which a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Days {
    /// Every one.
    All,
    /// One of every week, counted from Sunday.
    Weekday(u8),
    /// That day of every month, of every third, of January.
    Month {
        /// The day, 1 to 28.
        day: u8,
        /// Every how many months.
        every: u8,
    },
}

impl At {
    /// Reads what the configuration says.
    pub(crate) fn parse(text: &str, period: Option<Duration>) -> Result<Self, String> {
        let wrong = || format!("expected {FORMS}, seen '{text}'");
        if let Some(expression) = text.strip_prefix("calendar ") {
            let expression = expression.trim();
            let is_clean = !expression.is_empty() && !expression.contains(char::is_control);
            let period = period.filter(|period| !period.is_zero() && is_clean);
            return period.map(|period| Self::Calendar(expression.into(), period)).ok_or_else(|| {
                "expected 'period' beside an expression of systemd: the longest time between two \
                 runs, such as '3d'"
                    .into()
            });
        }
        if period.is_some() {
            return Err("'period' belongs to 'calendar' only".into());
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let at = |days: Option<Days>, clock: &str| {
            let (hour, minute) = clock
                .split_once(':')
                .and_then(|(hour, minute)| Some((number(hour, 0, 23)?, number(minute, 0, 59)?)))?;
            Some(Self::Clock { days: days?, hour, minute })
        };
        let month = |day: &str, every| Some(Days::Month { day: number(day, 1, 28)?, every });
        let parsed = match words[..] {
            ["every", span] => span
                .strip_suffix('m')
                .and_then(|minutes| number(minutes, 1, 60))
                .filter(|minutes| 60 % minutes == 0)
                .map(
                    |minutes| if minutes == 60 { Self::Hourly(0) } else { Self::Minutes(minutes) },
                ),
            ["hourly"] => Some(Self::Hourly(0)),
            ["hourly", minute] => number(minute, 0, 59).map(Self::Hourly),
            ["daily", clock] => at(Some(Days::All), clock),
            ["weekly", day, clock] => at(weekday(day), clock),
            ["monthly", day, clock] => at(month(day, 1), clock),
            ["quarterly", day, clock] => at(month(day, 3), clock),
            ["yearly", day, clock] => at(month(day, 12), clock),
            _ => None,
        };
        parsed.ok_or_else(wrong)
    }

    /// As systemd's `OnCalendar=` takes it (systemd.time(7)).
    pub(crate) fn on_calendar(&self) -> String {
        match self {
            Self::Minutes(minutes) => format!("*:0/{minutes}:00"),
            Self::Hourly(minute) => format!("*:{minute:02}:00"),
            Self::Calendar(expression, _) => expression.clone(),
            Self::Clock { days, hour, minute } => {
                let clock = format!("{hour:02}:{minute:02}:00");
                match days {
                    Days::All => format!("*-*-* {clock}"),
                    Days::Weekday(day) => {
                        let name = WEEKDAYS.get(usize::from(*day)).copied().unwrap_or_default();
                        let mut name = name.to_owned();
                        if let Some(first) = name.get_mut(..1) {
                            first.make_ascii_uppercase();
                        }
                        format!("{name} *-*-* {clock}")
                    }
                    Days::Month { day, every } => match every {
                        1 => format!("*-*-{day:02} {clock}"),
                        12 => format!("*-01-{day:02} {clock}"),
                        every => format!("*-01/{every}-{day:02} {clock}"),
                    },
                }
            }
        }
    }

    /// The five fields of a crontab (crontab(5)); an expression of systemd has none.
    pub(crate) fn cron(&self) -> Option<String> {
        Some(match self {
            Self::Minutes(minutes) => format!("*/{minutes} * * * *"),
            Self::Hourly(minute) => format!("{minute} * * * *"),
            Self::Clock { days, hour, minute } => {
                let days = match days {
                    Days::All => "* * *".to_owned(),
                    Days::Weekday(day) => format!("* * {day}"),
                    Days::Month { day, every: 1 } => format!("{day} * *"),
                    Days::Month { day, every: 12 } => format!("{day} 1 *"),
                    Days::Month { day, every } => format!("{day} */{every} *"),
                };
                format!("{minute} {hour} {days}")
            }
            Self::Calendar(..) => return None,
        })
    }

    /// The longest time between two runs.
    pub(crate) fn period(&self) -> Duration {
        Duration::from_secs(match self {
            Self::Minutes(minutes) => u64::from(*minutes) * MINUTE,
            Self::Hourly(_) => HOUR,
            Self::Calendar(_, period) => return *period,
            // Once a year a day has 25 hours.
            Self::Clock { days, .. } => {
                HOUR + match days {
                    Days::All => DAY,
                    Days::Weekday(_) => 7 * DAY,
                    Days::Month { every: 1, .. } => 31 * DAY,
                    Days::Month { every: 12, .. } => 366 * DAY,
                    Days::Month { every, .. } => u64::from(*every) * 31 * DAY,
                }
            }
        })
    }
}

fn number(text: &str, least: u8, most: u8) -> Option<u8> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_plain && (least..=most).contains(number))
}

fn weekday(text: &str) -> Option<Days> {
    let at = WEEKDAYS.iter().position(|name| name.eq_ignore_ascii_case(text))?;
    u8::try_from(at).ok().map(Days::Weekday)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_the_same_to_systemd_and_to_cron() {
        for (text, calendar, cron, hours) in [
            ("every 15m", "*:0/15:00", "*/15 * * * *", 0),
            ("hourly", "*:00:00", "0 * * * *", 1),
            ("hourly 10", "*:10:00", "10 * * * *", 1),
            ("daily 02:05", "*-*-* 02:05:00", "5 2 * * *", 25),
            ("weekly Sun 04:00", "Sun *-*-* 04:00:00", "0 4 * * 0", 169),
            ("monthly 1 04:00", "*-*-01 04:00:00", "0 4 1 * *", 745),
            ("quarterly 15 04:30", "*-01/3-15 04:30:00", "30 4 15 */3 *", 2233),
            ("yearly 1 00:00", "*-01-01 00:00:00", "0 0 1 1 *", 8785),
        ] {
            let at = At::parse(text, None).unwrap();
            assert_eq!((at.on_calendar().as_str(), at.cron().as_deref()), (calendar, Some(cron)));
            assert_eq!(at.period().as_secs() / HOUR, hours, "{text}");
        }
        let at = At::parse("calendar Mon..Fri 02:00", Some(Duration::from_secs(3 * DAY))).unwrap();
        assert_eq!((at.on_calendar().as_str(), at.cron()), ("Mon..Fri 02:00", None));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for bad in [
            "",
            "daily",
            "daily 24:00",
            "daily 2",
            "every 7m",
            "every 0m",
            "every 2h",
            "hourly 60",
            "weekly 1 04:00",
            "monthly 29 04:00",
            "monthly 0 04:00",
            "daily 02:00 x",
            "daily +2:00",
            "calendar Mon",
        ] {
            assert!(At::parse(bad, None).is_err(), "{bad}");
        }
        assert!(At::parse("daily 02:00", Some(Duration::from_secs(1))).is_err());
    }
}
