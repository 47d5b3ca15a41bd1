//! The inventory: what is known before a plan is made. Touches nothing.

use jiff::Timestamp;
use pg::Lsn;
use providers::{Beside, OwnProgram};
use recovery::diagnosis::condition;
use recovery::effect::Failure;
use recovery::inventory::{BackupFact, Damage, DumpFact, Inventory, ServerFact, WindowFact};
use recovery::method::Wish;
use recovery::plan::{Mode, Parameters, Target, without_secrets};
use recovery::planner::beside;
use recovery::service::{ClusterPlace, Database, Door, Service, SettingPlace, TrafficHow};
use serde_json::Value;

use super::{buckets, kubernetes, measured};
use crate::config::Config;
use crate::failure::Error;
use crate::members::{self, Answers, Needed};
use crate::secrets;

/// How far before the alert the search for the damage goes.
const SEARCH_SECONDS: i64 = 24 * 3600;

/// The code of a target that no WAL reaches.
const UNREACHABLE: &str = "RF0312";

/// What is asked for on a command line.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) wish: Wish,
    /// When somebody noticed.
    pub(crate) alert_at: Timestamp,
    /// About when it happened, as somebody remembers.
    pub(crate) about: Option<Timestamp>,
    pub(crate) table: Option<String>,
    /// Somebody has broken in.
    pub(crate) is_breach: bool,
    /// Nothing of the service's own site can be reached.
    pub(crate) is_site_lost: bool,
    /// The only backup to restore from.
    pub(crate) backup: Option<String>,
    pub(crate) now: Timestamp,
}

fn failed(failure: Failure) -> anyhow::Error {
    Error::Failed { what: failure.message, hint: failure.hint }.into()
}

fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer).and_then(Value::as_str).map(str::to_owned)
}

fn time(value: &Value, pointer: &str) -> Option<Timestamp> {
    text(value, pointer)?.parse().ok()
}

/// Gathers everything about a service.
pub(crate) async fn inventory(
    config: &Config,
    own: &OwnProgram,
    service: &Service,
    asked: &Asked,
    mode: Mode,
) -> anyhow::Result<Inventory> {
    let mut inventory = Inventory::empty(asked.now);
    inventory.problems = problems(config, service);
    kubernetes::add(kubernetes::look(config, service, mode).await, &mut inventory);
    let Database::Cluster(place) = &service.database else {
        return Err(Error::Usage(format!(
            "service '{}' depends on {}: this version gathers nothing about it",
            service.name,
            service.database.describe()
        ))
        .into());
    };
    let cluster = &place.cluster;
    inventory.timings = measured::timings(config, &service.name);
    inventory.traffic = super::traffic::facts(service, mode).await;
    inventory.is_site_lost = asked.is_site_lost;
    if asked.is_breach {
        inventory.problems.extend(new_passwords(service));
    }
    if !asked.is_site_lost {
        look_at_database(place, &mut inventory).await;
    }
    let own = &reachable(config, own, place, &mut inventory).await;
    if asked.wish.before_incident {
        inventory.damage = damage(own, service, place, asked).await?;
    }
    let target = inventory.damage.as_ref().and_then(|damage| damage.before.clone());
    let target = match (&asked.wish.target, target) {
        (Some(target), _) => Some(target.clone()),
        (None, Some(before)) => Some(Target::Before(before)),
        (None, None) => None,
    };
    inventory.dumps = dumps(own, place).await;
    if !asked.is_site_lost && !inventory.dumps.is_empty() {
        inventory.server = look_at_server(place).await;
    }
    backups(own, place, target.as_ref(), &mut inventory).await?;
    if let Some(wished) = &asked.backup {
        inventory.backups.retain(|backup| backup.label == *wished);
        if inventory.backups.is_empty() {
            let what = format!("cluster '{}' has no backup '{wished}'", cluster.name);
            let hint = format!("rollforward backups {}", cluster.name);
            return Err(Error::Refused { what, hint }.into());
        }
    }
    Ok(inventory)
}

/// The commands ask only who answers; the operator is told who does not, since what only that one
/// has is not in the plan.
async fn reachable(
    config: &Config,
    own: &OwnProgram,
    place: &ClusterPlace,
    inventory: &mut Inventory,
) -> Own {
    let names = place.cluster.repositories.iter();
    let tables: Vec<_> = names.filter_map(|name| config.repositories.get(name)).collect();
    let Answers { there, away } = members::ask(&tables, Needed::One).await;
    if !there.is_empty() {
        inventory.notes.extend(away.iter().map(|(name, error)| {
            format!("repository '{name}' does not answer, the plan is made without it: {error:#}")
        }));
    }
    let only = match there.as_slice() {
        [only] if !away.is_empty() => Some(only.name.clone()),
        _ => None,
    };
    inventory.only_repository.clone_from(&only);
    Own { program: own.clone(), only }
}

/// Our commands, on one repository when the others are away.
struct Own {
    program: OwnProgram,
    only: Option<String>,
}

impl Own {
    async fn run(&self, words: &[String]) -> Result<Value, Failure> {
        let mut words = words.to_vec();
        if let Some(name) = &self.only {
            words.extend(["--repository".into(), name.clone()]);
        }
        self.program.run(&words).await
    }
}

/// What is seen of a database that may still be there.
async fn look_at_database(place: &ClusterPlace, inventory: &mut Inventory) {
    let cluster = &place.cluster;
    let directory = std::path::Path::new(&cluster.data_directory);
    let evidence =
        providers::diagnose(directory, &cluster.connection, cluster.database.as_deref()).await;
    inventory.condition = condition(&evidence);
    inventory.identity = identity(place);
    if let Some(manager) = providers::manager(directory) {
        match manager.is_paused {
            true => {}
            false if manager.says_when_paused => inventory.problems.push(format!(
                "{} manages '{}' ({}) and would start or replace it in the middle: pause it, `{}`",
                manager.name,
                directory.display(),
                manager.seen,
                manager.pause
            )),
            false => {
                inventory.managers.push(format!("{} (`{}`)", manager.name, manager.pause));
            }
        }
    }
}

/// Whether a dump from before the target is there.
fn has_older_dump(target: &Target, inventory: &Inventory) -> bool {
    let Target::Time(time) = target else { return false };
    let Ok(time) = time.parse::<Timestamp>() else { return false };
    inventory.dumps.iter().any(|dump| dump.taken < time)
}

/// Whether the server that runs takes a database beside the service's own.
async fn look_at_server(place: &ClusterPlace) -> ServerFact {
    let Some(database) = &place.cluster.database else {
        return ServerFact::Fails("nobody says which database is the service's".into());
    };
    let directory = std::path::Path::new(&place.cluster.data_directory);
    let looked = providers::look_beside(directory, &beside(&place.cluster), database).await;
    let free = rustix::fs::statvfs(directory)
        .map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    match looked {
        Ok(Beside::Ready { size, slots }) => ServerFact::Ready { size, free, slots },
        Ok(Beside::NoDatabase) => ServerFact::NoDatabase,
        Err(why) => ServerFact::Fails(why),
    }
}

fn identity(place: &ClusterPlace) -> Parameters {
    let directory = &place.cluster.data_directory;
    let mut identity = Parameters::from([("data_directory".into(), directory.clone())]);
    let path = std::path::Path::new(directory).join(pg::control::CONTROL_FILE_PATH);
    if let Some(control) = std::fs::read(path).ok().and_then(|it| pg::ControlFile::decode(&it).ok())
    {
        identity.insert("system_id".into(), control.system_id.to_string());
    }
    identity
}

/// The destructive transaction that `locate` puts first.
async fn damage(
    own: &Own,
    service: &Service,
    place: &ClusterPlace,
    asked: &Asked,
) -> anyhow::Result<Option<Damage>> {
    let middle = asked.about.unwrap_or(asked.alert_at).as_second();
    let at = |seconds: i64| Timestamp::from_second(middle + seconds).map(|at| at.to_string());
    let mut words: Vec<String> = vec!["locate".into(), place.cluster.name.clone()];
    words.extend(["--since".into(), at(-SEARCH_SECONDS)?, "--until".into(), at(SEARCH_SECONDS)?]);
    if let Some(table) = &asked.table {
        words.extend(["--table".into(), table.clone()]);
    }
    let found = own.run(&words).await.map_err(failed)?;
    let Some(first) = found.pointer("/suspects/0") else {
        return Err(Error::Failed {
            what: format!("no destructive transaction was found for service '{}'", service.name),
            hint: format!(
                "its WAL may not be archived yet: `rollforward wal salvage {}`; or name a target: --target-time",
                place.cluster.name
            ),
        }
        .into());
    };
    let lines = first.pointer("/damage").and_then(Value::as_array);
    let lines: Vec<&str> = lines.into_iter().flatten().filter_map(Value::as_str).collect();
    let xid = first.pointer("/xid").and_then(Value::as_u64);
    let Some(at) = time(first, "/committed") else { return Ok(None) };
    Ok(Some(Damage {
        at,
        before: text(first, "/recover_before"),
        xid,
        what: lines.first().copied().unwrap_or("damage").to_owned(),
        last_good: time(first, "/last_good_commit"),
        transactions_lost: first.pointer("/transactions_lost").and_then(Value::as_u64),
    }))
}

async fn backups(
    own: &Own,
    place: &ClusterPlace,
    target: Option<&Target>,
    inventory: &mut Inventory,
) -> anyhow::Result<()> {
    let cluster = &place.cluster.name;
    let listing = own.run(&["backups".into(), cluster.clone()]).await.map_err(failed)?;
    let window = own.run(&["window".into(), cluster.clone()]).await.map_err(failed)?;
    let spans = window.pointer("/spans").and_then(Value::as_array).cloned().unwrap_or_default();
    inventory.window = spans.last().and_then(|span| {
        let (earliest, latest) = (time(span, "/first_commit")?, time(span, "/last_commit")?);
        Some(WindowFact { earliest, latest })
    });
    let reach = match target {
        Some(Target::Dump(_) | Target::Snapshot(_)) | None => Value::Null,
        Some(target) => {
            let mut words: Vec<String> = vec!["window".into(), cluster.clone()];
            words.extend(target.options());
            match own.run(&words).await {
                // What no WAL reaches may be in a dump.
                Err(failure)
                    if failure.code == UNREACHABLE && has_older_dump(target, inventory) =>
                {
                    Value::Null
                }
                reach => reach.map_err(failed)?,
            }
        }
    };
    let mut reaching: Vec<String> = text(&reach, "/backup").into_iter().collect();
    let others = reach.pointer("/other_backups").and_then(Value::as_array);
    reaching.extend(others.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
    let end = text(&reach, "/wal_until").and_then(|text| text.parse::<Lsn>().ok());
    let usable: Vec<String> = spans
        .iter()
        .filter_map(|span| span.pointer("/backups").and_then(Value::as_array))
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let rows = listing.pointer("/backups").and_then(Value::as_array).cloned().unwrap_or_default();
    let damaged_at = inventory.damage.as_ref().map(|damage| damage.at);
    for row in rows.iter().rev() {
        let (Some(label), Some(finished)) = (text(row, "/label"), time(row, "/stopped")) else {
            continue;
        };
        let start = text(row, "/start_lsn").and_then(|text| text.parse::<Lsn>().ok());
        let wal = start.zip(end).map_or(0, |(start, end)| end.get().saturating_sub(start.get()));
        inventory.backups.push(BackupFact {
            is_valid: usable.contains(&label)
                && row.pointer("/damaged_pages").and_then(Value::as_u64) == Some(0),
            reaches_target: reaching.contains(&label),
            is_suspect: damaged_at.is_some_and(|at| finished > at),
            size: row.pointer("/size").and_then(Value::as_u64).unwrap_or_default(),
            wal_to_target: wal,
            finished,
            label,
        });
    }
    // Those that reach the target, in the resolver's own order, come first.
    let rank = |backup: &BackupFact| {
        reaching.iter().position(|label| *label == backup.label).unwrap_or(usize::MAX)
    };
    inventory.backups.sort_by_key(|backup| (rank(backup), std::cmp::Reverse(backup.finished)));
    inventory.size = inventory.backups.iter().map(|backup| backup.size).max().unwrap_or_default();
    Ok(())
}

/// Dumps that hold the service's database, newest first. A place of others that does not answer
/// hinders no plan: dumps are one alternative of several.
async fn dumps(own: &Own, place: &ClusterPlace) -> Vec<DumpFact> {
    let listing = match own.run(&["dump".into(), "list".into(), place.cluster.name.clone()]).await {
        Ok(listing) => listing,
        Err(failure) => {
            tracing::warn!(what = %failure.message, "dumps are left out of the plan");
            return Vec::new();
        }
    };
    let rows = listing.pointer("/dumps").and_then(Value::as_array).cloned().unwrap_or_default();
    let holds = |row: &Value| {
        let Some(wanted) = place.cluster.database.as_deref() else { return true };
        let names = row.pointer("/databases").and_then(Value::as_array);
        names.into_iter().flatten().any(|name| name.as_str() == Some(wanted))
    };
    let fact = |row: &Value| {
        Some(DumpFact {
            label: text(row, "/label")?,
            taken: time(row, "/started")?,
            size: row.pointer("/size").and_then(Value::as_u64).unwrap_or_default(),
        })
    };
    rows.iter().rev().filter(|row| holds(row)).filter_map(fact).collect()
}

/// Why a recovery of the service would fail, as far as it can be seen beforehand.
pub(crate) fn problems(config: &Config, service: &Service) -> Vec<String> {
    // At a site its own places count, also in a drill: the service's are on another machine.
    let there = service.site.as_deref().and_then(|name| service.at_site(name));
    let service = there.as_ref().unwrap_or(service);
    let mut problems = Vec::new();
    if let Some(setting) = &service.setting
        && let SettingPlace::File { path, key } = &setting.place
        && let Err(why) = providers::read_value(path, key.as_deref())
    {
        problems.push(format!("{} cannot be read: {why}", setting.place.describe()));
    }
    if let Database::Cluster(place) = &service.database
        && without_secrets(&place.cluster.connection) != place.cluster.connection
    {
        problems.push(format!(
            "the connection of cluster '{}' holds a password, which every plan and journal would \
             carry: use peer authentication or a passfile",
            place.cluster.name
        ));
    }
    let shown = shown(service).into_iter();
    problems.extend(shown.filter(|(_, text)| without_secrets(text) != *text).map(|(what, _)| {
        format!(
            "{what} holds a password, which every plan and journal would carry: use a passfile, or \
             'login' where there is one"
        )
    }));
    for (what, reference) in references(service) {
        match secrets::resolve_text(&reference, &what) {
            Ok(value) if value.is_empty() => problems.push(format!("secret {reference} is empty")),
            Ok(_) => {}
            Err(why) => problems.push(why),
        }
    }
    if let Some(path) = &service.validation.sql {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                if let Err(error) = providers::split_statements(&text) {
                    problems.push(format!("'{path}', {error}"));
                }
            }
            Err(error) => problems.push(format!("'{path}' cannot be read: {error}")),
        }
    }
    for (what, why) in buckets::problems(service) {
        problems.push(format!("{what}: {why}"));
    }
    for (name, person) in &config.persons {
        if recovery::person::parse_public(&person.key).is_err() {
            problems.push(format!("the key of person '{name}' is none"));
        }
    }
    let approvers = u32::try_from(config.persons.len()).unwrap_or(u32::MAX);
    if service.policy.final_persons > 1 && approvers < service.policy.final_persons {
        problems.push(format!(
            "final steps need {} persons, {approvers} are declared",
            service.policy.final_persons
        ));
    }
    problems
}

/// What plans and journals show as it is written.
fn shown(service: &Service) -> Vec<(String, String)> {
    let mut shown: Vec<(String, String)> = match &service.door {
        Some(Door::PgBouncer { admin, .. }) => vec![("door.pgbouncer".into(), admin.clone())],
        Some(Door::Http { shut, open, probe, .. }) => {
            [shut, open, probe].map(|url| ("an address of the door".into(), url.clone())).into()
        }
        _ => Vec::new(),
    };
    let tests = service.smoke.iter().chain(service.health.values());
    shown.extend(tests.map(|test| ("the address of a smoke test".into(), test.url.clone())));
    let probes = service.traffic.iter().filter_map(|traffic| match &traffic.how {
        TrafficHow::Nginx { probe_url, .. } => probe_url.clone(),
        _ => None,
    });
    shown.extend(probes.map(|url| ("traffic.probe_url".into(), url)));
    shown
}

/// New passwords that are not there.
fn new_passwords(service: &Service) -> Vec<String> {
    let roles = service.breach.iter().flat_map(|breach| &breach.roles);
    let missing = roles.filter_map(|(role, reference)| {
        secrets::resolve_text(reference, &format!("the new password of '{role}'")).err()
    });
    missing.collect()
}

/// Every reference to a secret and what needs it.
fn references(service: &Service) -> Vec<(String, String)> {
    let smoke = service.smoke.iter().filter_map(|smoke| {
        smoke.login.clone().map(|login| (format!("smoke test {}", smoke.url), login))
    });
    let door = service.door.iter().filter_map(|door| match door {
        Door::Http { login: Some(login), .. } => Some(("the door".to_owned(), login.clone())),
        _ => None,
    });
    let traffic = service.traffic.iter().filter_map(|traffic| {
        traffic.secret().map(|secret| (traffic.describe(), secret.to_owned()))
    });
    smoke.chain(door).chain(traffic).collect()
}
