//! The steps that restore a dump on the server that runs: into a database beside the old one, whose
//! name it takes when it is proved.

use stdx::ByteCount;

use super::build::{shell, step};
use super::cluster::{Site, stamp};
use super::{PlanError, Request, around, by_hand, traffic};
use crate::inventory::{DumpFact, Inventory, ServerFact};
use crate::method::{Choice, NoWay};
use crate::plan::{Class, Mode, Stage, Step, StepKind, Target, UndoWhen};
use crate::service::{ClusterPlace, Service};

/// Longest name of a database, in bytes (NAMEDATALEN - 1).
const NAME_LEN_MAX: usize = 63;

/// The dump that a choice means.
pub(super) fn dump_for<'i>(choice: &Choice, inventory: &'i Inventory) -> Option<&'i DumpFact> {
    let Target::Dump(wanted) = &choice.target else { return None };
    inventory.dumps.iter().find(|dump| dump.label == *wanted)
}

/// Restoring a dump, in seconds.
pub(super) fn load_s(choice: &Choice, inventory: &Inventory) -> u64 {
    let size = dump_for(choice, inventory).map_or(inventory.size, |dump| dump.size);
    size.div_ceil(inventory.speeds.load.max(1)) + 5
}

/// Refuses what cannot be restored beside the service's database.
pub(super) fn check(
    place: &ClusterPlace,
    mode: Mode,
    choice: &Choice,
    inventory: &Inventory,
) -> Result<(), NoWay> {
    let Target::Dump(label) = &choice.target else { return Ok(()) };
    let name = &place.cluster.name;
    let no = |what: String, hint: String| Err(NoWay { what, hint });
    let Some(database) = &place.cluster.database else {
        return no(
            format!("the service does not say which database of cluster '{name}' is its own"),
            "name it: database = { cluster = …, name = \"…\" }".into(),
        );
    };
    let Some(dump) = dump_for(choice, inventory) else {
        return no(
            format!("cluster '{name}' has no dump '{label}' of database '{database}'"),
            format!(
                "rollforward dump list {name}; what others made is restored by hand: \
                 rollforward dump restore NAME LABEL --target CONNINFO --database NEW --create"
            ),
        );
    };
    check_server(place, mode, dump, database, inventory)
}

/// Refuses a server that takes no database beside the service's own.
fn check_server(
    place: &ClusterPlace,
    mode: Mode,
    dump: &DumpFact,
    database: &str,
    inventory: &Inventory,
) -> Result<(), NoWay> {
    let (name, label) = (&place.cluster.name, &dump.label);
    let no = |what: String, hint: String| Err(NoWay { what, hint });
    let elsewhere = format!(
        "mend that; or make another server: initdb -D DIR; pg_ctl -D DIR start; \
         rollforward dump restore {name} {label} --target CONNINFO --database {database} \
         --create --globals; point the setting there. Or name a backup's target: --immediate"
    );
    if inventory.is_site_lost {
        let what =
            format!("dump '{label}' is restored into the server that runs: its site is lost");
        return no(what, elsewhere);
    }
    match &inventory.server {
        ServerFact::Fails(why) => no(
            format!("dump '{label}' is restored into the server of cluster '{name}': {why}"),
            elsewhere,
        ),
        ServerFact::NoDatabase => no(
            format!("cluster '{name}' has no database '{database}': nothing has to be replaced"),
            format!(
                "rollforward dump restore {name} {label} --target {} --database {} --create \
                 --analyze; then start what uses it",
                shell(&[by_hand::connected(&place.cluster, None)]),
                shell(&[database.to_owned()])
            ),
        ),
        // In an incident it is a warning: whoever has no other way makes room meanwhile.
        ServerFact::Ready { size, free, .. }
            if mode != Mode::Incident && is_tight(*size, *free, dump) =>
        {
            no(
                tight(*size, *free, dump),
                "make room, or restore it elsewhere: rollforward dump restore".into(),
            )
        }
        ServerFact::Ready { .. } => Ok(()),
    }
}

fn needed(size: u64, dump: &DumpFact) -> u64 {
    size.max(dump.size)
}

fn is_tight(size: u64, free: u64, dump: &DumpFact) -> bool {
    free < needed(size, dump)
}

fn tight(size: u64, free: u64, dump: &DumpFact) -> String {
    format!(
        "the restored database needs about {} beside the old one, {} are free",
        ByteCount::new(needed(size, dump)),
        ByteCount::new(free)
    )
}

/// What the operator must know of a plan that restores a dump.
pub(super) fn warnings(choice: &Choice, mode: Mode, inventory: &Inventory) -> Vec<String> {
    let Some(dump) = dump_for(choice, inventory) else { return Vec::new() };
    let mut warnings = Vec::new();
    warnings.push(match mode {
        Mode::Incident => format!(
            "everything that was written after {} is lost: a dump reaches one moment only",
            dump.taken
        ),
        Mode::Drill | Mode::Copy => format!(
            "it is restored into production's own server, which writes about {} and their WAL",
            ByteCount::new(dump.size)
        ),
    });
    if let ServerFact::Ready { size, free, slots } = &inventory.server {
        warnings.extend(is_tight(*size, *free, dump).then(|| tight(*size, *free, dump)));
        if mode == Mode::Incident {
            warnings.extend(slots.iter().map(|slot| {
                format!(
                    "replication slot '{slot}' stays with the old database and keeps WAL: drop it \
                     afterwards, and set its consumer up anew"
                )
            }));
        }
    }
    warnings
}

/// A name for a database beside another one, as long as PostgreSQL lets it be.
fn beside(database: &str, what: &str, inventory: &Inventory) -> String {
    let suffix = format!("_{what}_{}", stamp(inventory.now).to_lowercase());
    let mut end = NAME_LEN_MAX.saturating_sub(suffix.len()).min(database.len());
    while !database.is_char_boundary(end) {
        end -= 1;
    }
    database.get(..end).unwrap_or_default().to_owned() + &suffix
}

/// The steps of a plan.
pub(super) fn steps(site: &Site<'_>, request: &Request) -> Result<Vec<Step>, PlanError> {
    let no = |what: String, hint: &str| NoWay { what, hint: hint.into() };
    if request.is_breach {
        return Err(no(
            "after a breach no dump is restored into the same server: it is not trusted".into(),
            "take a backup's target, or make another server: initdb, rollforward dump restore",
        )
        .into());
    }
    check(site.place, request.mode, site.choice, site.inventory)?;
    let (Some(dump), Some(database)) =
        (dump_for(site.choice, site.inventory), site.place.cluster.database.as_ref())
    else {
        return Err(no("nothing was chosen".into(), "name a dump: --dump LABEL").into());
    };
    let dumped = Dumped { site, dump, database };
    match request.mode {
        Mode::Incident => Ok(dumped.incident()),
        Mode::Drill | Mode::Copy => dumped.drill(),
    }
}

/// What the steps look at.
struct Dumped<'a> {
    site: &'a Site<'a>,
    dump: &'a DumpFact,
    database: &'a String,
}

impl Dumped<'_> {
    fn incident(&self) -> Vec<Step> {
        let (site, service) = (self.site, self.site.service);
        let mut steps = vec![site.diagnose()];
        steps.extend(site.check_setting());
        steps.extend(site.resolve_secrets());
        steps.extend(traffic::check_traffic(&service.traffic, site.inventory));
        steps.extend(around::shut(service.door.as_ref(), &service.writers));
        steps.push(self.fence());
        steps.push(self.restore());
        steps.extend(site.prove());
        steps.extend(around::checklist(service));
        steps.push(self.rename());
        steps.extend(around::start(&service.writers, &service.health, &service.smoke));
        steps.extend(site.prove_application());
        let cost = site.cost();
        steps.extend(around::open(service.door.as_ref(), service, site.inventory, &cost));
        steps.push(site.backup(
            "a full backup; cluster, system identifier and archiving are the same: nothing is adopted",
        ));
        steps.extend(around::tell(service));
        steps
    }

    /// Restored, proved and dropped again: applications would need a server of their own.
    fn drill(&self) -> Result<Vec<Step>, PlanError> {
        let service: &Service = self.site.service;
        if self.site.mode == Mode::Drill && service.drill.is_none() {
            return Err(PlanError::Undeclared { service: service.name.clone(), what: "drill" });
        }
        let mut steps = vec![self.restore()];
        steps.extend(self.site.prove());
        Ok(steps)
    }

    fn fence(&self) -> Step {
        let cluster = &self.site.place.cluster;
        step(Stage::Secure, "fence", self.database, StepKind::FenceDatabase)
            .effect(format!(
                "database '{}' of {} takes no sessions, open ones are ended; its server goes on",
                self.database,
                self.site.name()
            ))
            .undo(
                Class::Undoable,
                UndoWhen::Reopening,
                "it takes sessions again, if it took them before",
            )
            .with_all(self.site.cluster())
            .identity(&self.site.inventory.identity)
            .host(cluster.host.as_ref())
            .command(by_hand::fence_database(cluster, self.database))
            .predicted(5)
            .done()
    }

    fn restore(&self) -> Step {
        let cluster = &self.site.place.cluster;
        let new = self.restored();
        let mut words: Vec<String> =
            ["rollforward", "dump", "restore", &cluster.name, &self.dump.label]
                .map(str::to_owned)
                .to_vec();
        let server = by_hand::connected(cluster, None);
        words.extend(["--target".into(), server]);
        words.extend(["--source-database".into(), self.database.clone()]);
        words.extend(["--database".into(), new.clone(), "--create".into(), "--analyze".into()]);
        step(Stage::Restore, "dump", &self.dump.label, StepKind::RestoreDump)
            .effect(format!(
                "restores database '{}' of dump '{}' into a new one beside it, '{new}', and \
                 analyses it",
                self.database, self.dump.label
            ))
            .undo(Class::Own, UndoWhen::Always, format!("drops '{new}'"))
            .with_all(self.site.cluster())
            .with("dump", self.dump.label.clone())
            .with("taken", self.dump.taken.to_string())
            .with("new_database", new)
            .identity(&self.site.inventory.identity)
            .host(cluster.host.as_ref())
            .command(shell(&words))
            .predicted(load_s(self.site.choice, self.site.inventory))
            .done()
    }

    fn rename(&self) -> Step {
        let cluster = &self.site.place.cluster;
        let (new, kept) = (self.restored(), beside(self.database, "before", self.site.inventory));
        step(Stage::Switch, "database", self.database, StepKind::RenameDatabase)
            .effect(format!(
                "renames '{}' to '{kept}', which is kept, and '{new}' to '{0}', in one \
                 transaction, with the owner, rights, settings and comment of the old one",
                self.database
            ))
            .undo(Class::Undoable, UndoWhen::Always, "both have their names again")
            .with_all(self.site.cluster())
            .with("new_database", new.clone())
            .with("kept_database", kept.clone())
            .identity(&self.site.inventory.identity)
            .host(cluster.host.as_ref())
            .command(by_hand::rename_database(cluster, self.database, &kept, &new))
            .predicted(5)
            .done()
    }

    fn restored(&self) -> String {
        restored(self.database, self.site.inventory)
    }
}

/// The name of the restored database until it gets the service's.
pub(super) fn restored(database: &str, inventory: &Inventory) -> String {
    beside(database, "restored", inventory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sample;

    #[test]
    fn names_are_as_long_as_postgresql_lets_them_be() {
        let check = |name: &str, expect: &str| {
            let seen = beside(name, "restored", &sample::inventory());
            assert!(seen.len() <= NAME_LEN_MAX, "{seen}");
            assert_eq!(seen, expect);
        };
        check("shop", "shop_restored_20261126t050000z");
        let (long, cut) = ("x".repeat(60), "x".repeat(37));
        check(&long, &format!("{cut}_restored_20261126t050000z"));
        // A character is not cut in two.
        let (long, cut) = ("ü".repeat(31), "ü".repeat(18));
        check(&long, &format!("{cut}_restored_20261126t050000z"));
    }
}
