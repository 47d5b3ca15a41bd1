//! Which way to take: the decision tree of requirement C3, as a table with reasons.

use jiff::Timestamp;

use crate::inventory::{Inventory, SnapshotFact};
use crate::plan::Target;

/// A way to bring the data back (requirements R1 to R5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// The newest automated snapshot, or the newest backup as it is.
    AutomatedSnapshot,
    /// A snapshot or backup that a person chose.
    ManualSnapshot,
    /// A point in time.
    Pitr,
    /// A logical dump.
    Dump,
    /// Another region or site.
    CrossRegion,
}

impl Method {
    /// Every method and its name.
    pub const ALL: [(&'static str, Self); 5] = [
        ("automated-snapshot", Self::AutomatedSnapshot),
        ("manual-snapshot", Self::ManualSnapshot),
        ("pitr", Self::Pitr),
        ("dump", Self::Dump),
        ("cross-region", Self::CrossRegion),
    ];

    /// The method of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(name, _)| *name == text).map(|(_, method)| method)
    }

    /// Its name.
    #[must_use]
    pub fn text(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, method)| *method == self).map_or("", |(name, _)| name)
    }
}

/// What the operator asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// A method, when one was named.
    pub method: Option<Method>,
    /// A target, when one was named.
    pub target: Option<Target>,
    /// Up to just before the damage that was found.
    pub before_incident: bool,
}

/// The way taken and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The method.
    pub method: Method,
    /// Where the data are taken from.
    pub target: Target,
    /// Why.
    pub reason: String,
}

/// Why no way can be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct NoWay {
    /// What is missing.
    pub what: String,
    /// The operator's next move.
    pub hint: String,
}

/// One row of the table.
struct Row {
    /// When it applies.
    when: fn(&Situation<'_>) -> bool,
    method: Method,
    /// Why, in the operator's words.
    reason: &'static str,
}

/// What the rows look at.
struct Situation<'a> {
    wish: &'a Wish,
    inventory: &'a Inventory,
    /// The moment of the target, when it is known.
    moment: Option<Timestamp>,
    /// Whether the target is a position in a log of ours.
    is_position: bool,
}

/// The table: the first row that applies decides.
const TABLE: [Row; 7] = [
    Row {
        when: |it| it.inventory.is_site_lost,
        method: Method::CrossRegion,
        reason: "the region or site of the database is lost",
    },
    Row {
        when: |it| matches!(it.wish.target, Some(Target::Snapshot(_))),
        method: Method::ManualSnapshot,
        reason: "a snapshot was named: for tests, investigations, or the state before a migration",
    },
    Row {
        when: |it| matches!(it.wish.target, Some(Target::Dump(_))),
        method: Method::Dump,
        reason: "a dump was named",
    },
    Row {
        when: |it| it.is_position,
        method: Method::Pitr,
        reason: "the position is known exactly",
    },
    Row {
        when: |it| it.moment.is_some() && it.is_inside(),
        method: Method::Pitr,
        reason: "the moment is known and inside the window",
    },
    Row {
        when: |it| it.is_before_window() && it.older_dump().is_some(),
        method: Method::Dump,
        reason: "the moment is older than the window, and a dump from before it is there",
    },
    Row {
        when: |it| it.moment.is_none(),
        method: Method::AutomatedSnapshot,
        reason: "the moment is not known: the newest snapshot is the best guess",
    },
];

impl Situation<'_> {
    fn is_inside(&self) -> bool {
        let (Some(moment), Some(window)) = (self.moment, self.inventory.window) else {
            return false;
        };
        (window.earliest..=window.latest).contains(&moment)
    }

    fn is_before_window(&self) -> bool {
        let Some(moment) = self.moment else { return false };
        self.inventory.window.is_none_or(|window| moment < window.earliest)
    }

    /// The newest dump from before the moment.
    fn older_dump(&self) -> Option<&str> {
        let moment = self.moment?;
        let older = self.inventory.dumps.iter().filter(|dump| dump.taken < moment);
        older.max_by_key(|dump| dump.taken).map(|dump| dump.label.as_str())
    }

    /// The newest snapshot of a kind that is from before the moment, when that is known.
    fn snapshot(&self, fits: impl Fn(&SnapshotFact) -> bool) -> Option<&SnapshotFact> {
        let early = |snapshot: &&SnapshotFact| {
            fits(snapshot) && self.moment.is_none_or(|moment| snapshot.finished < moment)
        };
        self.inventory.snapshots.iter().filter(early).max_by_key(|snapshot| snapshot.finished)
    }
}

/// Decides.
///
/// # Errors
/// [`NoWay`] when nothing that is there leads to what was asked for.
pub fn choose(wish: &Wish, inventory: &Inventory) -> Result<Choice, NoWay> {
    let target = wished_target(wish, inventory)?;
    let moment = match &target {
        Some(Target::Time(time)) => time.parse().ok(),
        _ => inventory.damage.as_ref().filter(|_| wish.before_incident).map(|damage| damage.at),
    };
    let is_position = matches!(
        target,
        Some(
            Target::Before(_)
                | Target::Lsn(_)
                | Target::Xid(_)
                | Target::Name(_)
                | Target::Latest
                | Target::Immediate
        )
    );
    let situation = Situation { wish, inventory, moment, is_position };
    let (method, reason) = match wish.method {
        Some(method) => (method, "asked for".to_owned()),
        None => {
            let row = TABLE.iter().find(|row| (row.when)(&situation));
            let row = row.ok_or_else(|| out_of_reach(&situation))?;
            (row.method, row.reason.to_owned())
        }
    };
    let target = target_of(method, target, &situation)?;
    Ok(Choice { method, target, reason })
}

fn wished_target(wish: &Wish, inventory: &Inventory) -> Result<Option<Target>, NoWay> {
    if !wish.before_incident {
        return Ok(wish.target.clone());
    }
    let damage = inventory.damage.as_ref().ok_or_else(|| NoWay {
        what: "no destructive transaction is known".into(),
        hint: "look for it with `rollforward locate`, or name a target: --target-time".into(),
    })?;
    Ok(Some(match &damage.before {
        Some(position) => Target::Before(position.clone()),
        // A managed database takes whole seconds: the last one before the damage.
        None => {
            let second = match damage.at.subsec_nanosecond() {
                0 => damage.at.as_second() - 1,
                _ => damage.at.as_second(),
            };
            Target::Time(Timestamp::from_second(second).unwrap_or(damage.at).to_string())
        }
    }))
}

fn target_of(
    method: Method,
    target: Option<Target>,
    situation: &Situation<'_>,
) -> Result<Target, NoWay> {
    let no = |what: &str, hint: &str| NoWay { what: what.into(), hint: hint.into() };
    match method {
        Method::Pitr => match target {
            Some(Target::Time(_)) if !situation.is_inside() => Err(out_of_reach(situation)),
            Some(Target::Snapshot(_) | Target::Dump(_)) | None => Err(no(
                "a recovery to a point needs the point",
                "name it: --target-time, --before-incident",
            )),
            Some(target) => Ok(target),
        },
        Method::AutomatedSnapshot if situation.inventory.snapshots.is_empty() => {
            match situation.inventory.backups.iter().any(|backup| backup.is_valid) {
                true => Ok(Target::Immediate),
                false => {
                    Err(no("there is no valid backup", "rollforward backups; rollforward verify"))
                }
            }
        }
        Method::AutomatedSnapshot => {
            let found = situation.snapshot(|snapshot| snapshot.is_automated);
            found.map(|snapshot| Target::Snapshot(snapshot.id.clone())).ok_or_else(|| {
                no("no automated snapshot is old enough", "name a manual one, or a dump")
            })
        }
        Method::ManualSnapshot => match target {
            Some(snapshot @ Target::Snapshot(_)) => Ok(snapshot),
            _ => situation
                .snapshot(|snapshot| !snapshot.is_automated)
                .map(|snapshot| Target::Snapshot(snapshot.id.clone()))
                .ok_or_else(|| no("no manual snapshot is there", "name another method")),
        },
        Method::Dump => match target {
            Some(dump @ Target::Dump(_)) => Ok(dump),
            _ => {
                let label = situation.older_dump().map(str::to_owned);
                let newest = situation.inventory.dumps.first().map(|dump| dump.label.clone());
                label
                    .or(newest.filter(|_| situation.moment.is_none()))
                    .map(Target::Dump)
                    .ok_or_else(|| {
                        no("no dump from before the damage is there", "name another method")
                    })
            }
        },
        Method::CrossRegion => match target {
            Some(Target::Time(_)) if !situation.is_inside() => Err(out_of_reach(situation)),
            target => Ok(target.unwrap_or(Target::Latest)),
        },
    }
}

fn out_of_reach(situation: &Situation<'_>) -> NoWay {
    let window = situation.inventory.window.map_or_else(
        || "nothing can be reached by time".to_owned(),
        |window| format!("reachable are {} to {}", window.earliest, window.latest),
    );
    NoWay {
        what: format!(
            "{} cannot be reached: {window}",
            situation.moment.map_or_else(|| "the target".to_owned(), |moment| moment.to_string())
        ),
        hint: "take a target inside the window, or name a snapshot or dump".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{BackupFact, Damage, DumpFact, WindowFact};

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn inventory() -> Inventory {
        let snapshot = |id: &str, is_automated, at: &str| SnapshotFact {
            id: id.into(),
            is_automated,
            finished: time(at),
            region: "eu-central-1".into(),
        };
        Inventory {
            snapshots: vec![
                snapshot("rds:new", true, "2026-11-20T03:00:00Z"),
                snapshot("before-migration", false, "2026-11-19T10:00:00Z"),
                snapshot("rds:old", true, "2026-11-19T03:00:00Z"),
            ],
            dumps: vec![DumpFact {
                label: "20261001".into(),
                taken: time("2026-10-01T00:00:00Z"),
                size: 1,
            }],
            window: Some(WindowFact {
                earliest: time("2026-11-13T00:00:00Z"),
                latest: time("2026-11-20T14:30:00Z"),
            }),
            ..Inventory::empty(time("2026-11-20T14:40:00Z"))
        }
    }

    fn check(wish: &Wish, inventory: &Inventory, expect: &str) {
        let seen = match choose(wish, inventory) {
            Ok(choice) => {
                format!("{} to {}: {}", choice.method.text(), choice.target, choice.reason)
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(seen, expect);
    }

    fn at(target: &str) -> Wish {
        Wish { target: Some(Target::Time(target.into())), ..Wish::default() }
    }

    #[test]
    fn the_table_decides_and_says_why() {
        let all = inventory();
        check(
            &at("2026-11-20T14:31:00Z"),
            &all,
            "2026-11-20T14:31:00Z cannot be reached: reachable are 2026-11-13T00:00:00Z to 2026-11-20T14:30:00Z",
        );
        check(
            &at("2026-11-20T14:29:00Z"),
            &all,
            "pitr to time 2026-11-20T14:29:00Z: the moment is known and inside the window",
        );
        check(
            &at("2026-10-30T00:00:00Z"),
            &all,
            "dump to dump '20261001': the moment is older than the window, and a dump from before it is there",
        );
        check(
            &Wish::default(),
            &all,
            "automated-snapshot to snapshot 'rds:new': the moment is not known: the newest snapshot is the best guess",
        );
        let named = Wish { target: Some(Target::Snapshot("x".into())), ..Wish::default() };
        check(
            &named,
            &all,
            "manual-snapshot to snapshot 'x': a snapshot was named: for tests, investigations, or the state before a migration",
        );
        let lost = Inventory { is_site_lost: true, ..inventory() };
        check(
            &Wish::default(),
            &lost,
            "cross-region to the end of the WAL: the region or site of the database is lost",
        );
    }

    #[test]
    fn a_wish_is_followed_as_far_as_something_is_there() {
        let all = inventory();
        let manual = Wish { method: Some(Method::ManualSnapshot), ..Wish::default() };
        check(&manual, &all, "manual-snapshot to snapshot 'before-migration': asked for");
        let dump = Wish { method: Some(Method::Dump), ..Wish::default() };
        check(&dump, &Inventory::empty(all.now), "no dump from before the damage is there");
        let pitr = Wish { method: Some(Method::Pitr), ..Wish::default() };
        check(&pitr, &all, "a recovery to a point needs the point");
    }

    #[test]
    fn before_the_incident_is_a_position_where_there_is_one() {
        let before = Wish { before_incident: true, ..Wish::default() };
        check(&before, &inventory(), "no destructive transaction is known");
        let damage = Damage {
            at: time("2026-11-20T14:20:00.5Z"),
            before: Some("0/29C692D0".into()),
            xid: Some(870),
            what: "DELETE".into(),
            last_good: None,
            transactions_lost: None,
        };
        let ours = Inventory { damage: Some(damage.clone()), ..inventory() };
        check(
            &before,
            &ours,
            "pitr to before the record at 0/29C692D0: the position is known exactly",
        );
        let managed = Inventory { damage: Some(Damage { before: None, ..damage }), ..inventory() };
        check(
            &before,
            &managed,
            "pitr to time 2026-11-20T14:20:00Z: the moment is known and inside the window",
        );
    }

    #[test]
    fn without_snapshots_the_newest_backup_is_taken_as_it_is() {
        let backup = BackupFact {
            label: "b".into(),
            finished: time("2026-11-20T03:00:00Z"),
            size: 1,
            wal_to_target: 0,
            is_valid: true,
            reaches_target: true,
            is_suspect: false,
        };
        let ours =
            Inventory { backups: vec![backup], ..Inventory::empty(time("2026-11-20T14:40:00Z")) };
        check(
            &Wish::default(),
            &ours,
            "automated-snapshot to the first consistent point: the moment is not known: the newest snapshot is the best guess",
        );
    }
}
