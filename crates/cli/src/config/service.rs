//! From the tables of services to what plans are made of: checked, typed, nothing resolved.

pub(super) mod files;

use std::collections::BTreeMap;
use std::time::Duration;

use recovery::service::{
    Breach, ClusterPlace, Database, Door, Escalation, Expectation, Form, LocalCluster, Objectives,
    OnFailure, Policy, Rds, SchemaTool, Service, Setting, SettingPlace, Smoke, TableCheck,
    Validation, Writer,
};

use super::kubernetes::{self, KubernetesConfig, contexts, network};
use super::site::{bindings, sites};
use super::wire::{self, Words};
use super::{Channel, ClusterConfig, SecretRef};

/// A key inside a table and what is wrong with it.
pub(in crate::config) type Problem = (String, String);

pub(super) fn wrong<T>(key: &str, why: impl Into<String>) -> Result<T, Problem> {
    Err((key.into(), why.into()))
}

/// `15m`, `4h`, `500ms`, `2d`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let seconds = |factor: u64| number.checked_mul(factor).map(Duration::from_secs);
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        "d" => seconds(86_400),
        _ => None,
    }
}

pub(super) fn span(key: &str, text: &str) -> Result<Duration, Problem> {
    duration(text).map_or_else(
        || wrong(key, format!("expected a duration like '15m', '4h' or '500ms', seen '{text}'")),
        Ok,
    )
}

/// A reference to a secret; the value is not shown: somebody may have written the secret itself.
pub(super) fn reference(key: &str, text: &str) -> Result<String, Problem> {
    let is_known = SecretRef::parse(text).is_some()
        || text.strip_prefix("aws-secret:").is_some_and(|name| !name.is_empty());
    match is_known {
        true => Ok(text.to_owned()),
        false => wrong(
            key,
            "expected a reference, 'env:NAME', 'file:/path' or 'aws-secret:NAME', never the secret itself",
        ),
    }
}

/// Exactly one of the named values.
pub(super) fn one_of<'t, T>(
    key: &str,
    kinds: &[(&'t str, Option<T>)],
) -> Result<(&'t str, T), Problem>
where
    T: Clone,
{
    let mut given =
        kinds.iter().filter_map(|(name, value)| value.clone().map(|value| (*name, value)));
    let names: Vec<&str> = kinds.iter().map(|(name, _)| *name).collect();
    match (given.next(), given.next()) {
        (Some(only), None) => Ok(only),
        _ => wrong(key, format!("expected exactly one of: {}", names.join(", "))),
    }
}

pub(super) fn service(
    name: &str,
    table: wire::ServiceTable,
    clusters: &BTreeMap<String, ClusterConfig>,
    channels: &BTreeMap<String, Channel>,
    clusters_of: &BTreeMap<String, KubernetesConfig>,
) -> Result<Service, Problem> {
    if let Some(unknown) = table.tell.iter().find(|name| !channels.contains_key(*name)) {
        return wrong("tell", format!("there is no channel '{unknown}' in [notify]"));
    }
    let setting = match &table.setting {
        Some(table) => Some(setting("setting", table)?),
        None => None,
    };
    let (drill, staging) = (
        table.drill.as_ref().map(|table| bindings("drill", table)).transpose()?,
        table.staging.as_ref().map(|table| bindings("staging", table)).transpose()?,
    );
    let service = Service {
        name: name.into(),
        objectives: Objectives {
            rpo: span("objectives.rpo", &table.objectives.rpo)?,
            rto: span("objectives.rto", &table.objectives.rto)?,
        },
        database: database(&table.database, clusters)?,
        setting,
        door: table.door.as_ref().map(|table| door("door", table)).transpose()?,
        health: health("writers", &table.writers)?,
        writers: writers("writers", &table.writers)?,
        activate: Vec::new(),
        files: files::files("files", &table.files)?,
        sites: sites(table.site)?,
        site: None,
        breach: table.breach.map(|table| breach(table, channels)).transpose()?,
        validation: validation(table.validate)?,
        smoke: smokes("smoke", &table.smoke)?,
        traffic: super::traffic::traffic("traffic", &table.traffic)?,
        checklist: table.checklist,
        policy: policy(&table.policy)?,
        escalate: escalations(&table.tell, channels),
        tell: table.tell,
        drill,
        staging,
    };
    match contexts(&service).into_iter().find(|context| !clusters_of.contains_key(*context)) {
        Some(unknown) => wrong("", format!("there is no table [kubernetes.{unknown}]")),
        None => Ok(service),
    }
}

/// What the service's channels do when nobody answers.
fn escalations(tell: &[String], channels: &BTreeMap<String, Channel>) -> Vec<Escalation> {
    let with = tell.iter().filter_map(|name| {
        let (after, to) = channels.get(name)?.escalate.clone()?;
        Some(Escalation { channel: name.clone(), after, to })
    });
    with.collect()
}

fn database(
    table: &wire::DatabaseTable,
    clusters: &BTreeMap<String, ClusterConfig>,
) -> Result<Database, Problem> {
    if let Some(instance) = &table.rds {
        let Some(region) = table.region.clone() else {
            return wrong("database.region", "expected the instance's region");
        };
        let login = table.login.as_deref().map(|text| reference("database.login", text));
        return Ok(Database::Rds(Rds {
            instance: instance.clone(),
            region,
            login: login.transpose()?,
        }));
    }
    let Some(name) = &table.cluster else {
        return wrong("database", "expected 'cluster' or 'rds'");
    };
    let Some(cluster) = clusters.get(name) else {
        return wrong("database.cluster", format!("there is no cluster '{name}'"));
    };
    if let Some(restore) = table.restore.as_deref().filter(|restore| *restore != "beside") {
        return wrong("database.restore", format!("expected 'beside', seen '{restore}'"));
    }
    Ok(Database::Cluster(ClusterPlace {
        cluster: LocalCluster {
            name: name.clone(),
            host: cluster.host.clone(),
            data_directory: cluster.data_directory.display().to_string(),
            connection: cluster.connection.clone(),
            database: table.name.clone(),
            bin_directory: cluster.bin_directory.as_ref().map(|path| path.display().to_string()),
            repositories: cluster.repositories.clone(),
        },
        restore_host: table.host.clone(),
        restore_below: table.directory.clone(),
        network: network(
            "database",
            table.address.as_ref(),
            table.listen.as_ref(),
            (&table.clients, &table.databases),
        )?
        .map(Box::new),
    }))
}

pub(super) fn setting(key: &str, table: &wire::SettingTable) -> Result<Setting, Problem> {
    let (kind, value) = one_of(
        key,
        &[
            ("file", table.file.clone()),
            ("aws_secret", table.aws_secret.clone()),
            ("kubernetes", table.kubernetes.clone()),
            ("vercel", table.vercel.clone()),
            ("app_configuration", table.app_configuration.clone()),
        ],
    )?;
    let needed = |name: &str, value: &Option<String>| match value {
        Some(value) => Ok(value.clone()),
        None => wrong(&format!("{key}.{name}"), "is missing"),
    };
    let place = match kind {
        "file" if !value.starts_with('/') => {
            return wrong(&format!("{key}.file"), "expected an absolute path");
        }
        "file" => SettingPlace::File { path: value, key: table.key.clone() },
        "aws_secret" => SettingPlace::AwsSecret { name: value },
        "kubernetes" => {
            let (kind, object) = match (&table.configmap, &table.secret) {
                (Some(object), None) => ("configmap", object.clone()),
                (None, Some(object)) => ("secret", object.clone()),
                _ => return wrong(key, "expected exactly one of: configmap, secret"),
            };
            kubernetes::named(&format!("{key}.{kind}"), &object)?;
            SettingPlace::Kubernetes {
                context: value,
                kind,
                object,
                key: needed("key", &table.key)?,
                inside: table.inside.clone(),
            }
        }
        "vercel" => {
            SettingPlace::Vercel { project: value, variable: needed("variable", &table.variable)? }
        }
        _ => SettingPlace::AppConfiguration { endpoint: value, key: needed("key", &table.key)? },
    };
    let form = match table.form.as_deref() {
        None => Form::Uri,
        Some(text) => match Form::parse(text) {
            Some(form) => form,
            None => {
                return wrong(
                    &format!("{key}.form"),
                    format!("expected uri, libpq, ado or json, seen '{text}'"),
                );
            }
        },
    };
    if let Some(part) =
        table.fields.keys().find(|part| !["host", "port", "database"].contains(&part.as_str()))
    {
        let why = format!("expected host, port or database, seen '{part}'");
        return wrong(&format!("{key}.fields"), why);
    }
    Ok(Setting { place, form, fields: table.fields.clone() })
}

pub(super) fn door(key: &str, table: &wire::DoorTable) -> Result<Door, Problem> {
    let text = |name: &str, words: &Option<Words>| match words {
        Some(Words::Text(text)) => Ok(text.clone()),
        _ => wrong(&format!("{key}.{name}"), "expected a text"),
    };
    let command = |name: &str, words: &Option<Words>| match words {
        Some(Words::Command(words)) if !words.is_empty() => Ok(words.clone()),
        _ => wrong(&format!("{key}.{name}"), "expected a command: a list of words"),
    };
    if let Some(path) = &table.file {
        if !path.starts_with('/') {
            return wrong(&format!("{key}.file"), "expected an absolute path");
        }
        let content = table.content.clone().unwrap_or_else(|| "maintenance\n".into());
        return Ok(Door::File { path: path.clone(), content });
    }
    if let Some(admin) = &table.pgbouncer {
        let Some(database) = table.database.clone() else {
            return wrong(&format!("{key}.database"), "is missing");
        };
        return Ok(Door::PgBouncer { admin: admin.clone(), database });
    }
    if let Some(context) = &table.kubernetes {
        return Ok(Door::Kubernetes {
            context: context.clone(),
            shut: text("shut", &table.shut)?,
            open: text("open", &table.open)?,
        });
    }
    if let Some(probe) = &table.http {
        let login = table
            .login
            .as_deref()
            .map(|text| reference(&format!("{key}.login"), text))
            .transpose()?;
        return Ok(Door::Http {
            shut: text("shut", &table.shut)?,
            open: text("open", &table.open)?,
            probe: probe.clone(),
            shut_word: table.shut_word.clone().unwrap_or_else(|| "shut".into()),
            login,
        });
    }
    Ok(Door::Command {
        shut: command("shut", &table.shut)?,
        open: command("open", &table.open)?,
        probe: command("probe", &table.probe)?,
    })
}

pub(super) fn writers(key: &str, tables: &[wire::WriterTable]) -> Result<Vec<Writer>, Problem> {
    let numbered = tables.iter().enumerate();
    numbered.map(|(at, table)| writer(&format!("{key}[{at}]"), table)).collect()
}

fn writer(key: &str, table: &wire::WriterTable) -> Result<Writer, Problem> {
    let (kind, value) = one_of(
        key,
        &[
            ("kubernetes", table.kubernetes.clone()),
            ("systemd", table.systemd.clone()),
            ("command", table.command.clone()),
            ("workflow", table.workflow.clone()),
        ],
    )?;
    let command = |name: &str, words: &Option<Vec<String>>| match words {
        Some(words) if !words.is_empty() => Ok(words.clone()),
        _ => wrong(&format!("{key}.{name}"), "expected a command: a list of words"),
    };
    Ok(match kind {
        "kubernetes" => kubernetes::writer(key, value, table)?,
        "systemd" => Writer::Systemd { unit: unit(value) },
        "command" => Writer::Command {
            name: value,
            start: command("start", &table.start)?,
            stop: command("stop", &table.stop)?,
            probe: command("probe", &table.probe)?,
        },
        _ => match table.github.clone() {
            Some(repository) => Writer::Workflow { repository, workflow: value },
            None => return wrong(&format!("{key}.github"), "is missing: owner and repository"),
        },
    })
}

fn breach(
    table: wire::BreachTable,
    channels: &BTreeMap<String, Channel>,
) -> Result<Breach, Problem> {
    if let Some(unknown) = table.tell.iter().find(|name| !channels.contains_key(*name)) {
        return wrong("breach.tell", format!("there is no channel '{unknown}' in [notify]"));
    }
    if table.commands.iter().any(Vec::is_empty) {
        return wrong("breach.commands", "expected commands: lists of words");
    }
    for (role, password) in &table.rotate {
        reference(&format!("breach.rotate.{role}"), password)?;
    }
    Ok(Breach { tell: table.tell, roles: table.rotate, commands: table.commands })
}

/// What writers must answer before the next one is started.
pub(super) fn health(
    key: &str,
    tables: &[wire::WriterTable],
) -> Result<BTreeMap<String, Smoke>, Problem> {
    let mut all = BTreeMap::new();
    for (at, table) in tables.iter().enumerate() {
        let Some(asked) = &table.health else { continue };
        let key = format!("{key}[{at}]");
        let name = writer(&key, table)?.name().to_owned();
        let read = smokes(&format!("{key}.health"), std::slice::from_ref(asked))?;
        all.extend(read.into_iter().map(|smoke| (name.clone(), smoke)));
    }
    Ok(all)
}

fn validation(table: wire::ValidateTable) -> Result<Validation, Problem> {
    let schema = match table.schema.as_deref() {
        None => None,
        Some(text) => match SchemaTool::parse(text) {
            Some(tool) => Some(tool),
            None => {
                let known: Vec<&str> = SchemaTool::ALL.iter().map(|(name, ..)| *name).collect();
                let why = format!("expected one of {}, seen '{text}'", known.join(", "));
                return wrong("validate.schema", why);
            }
        },
    };
    let mut tables = BTreeMap::new();
    for (name, table) in table.tables {
        let key = format!("validate.tables.{name}.within");
        if table.within.is_some() && table.newest.is_none() {
            return wrong(&key, "expected 'newest' beside it: the column with a row's time");
        }
        let within = table.within.map(|text| span(&key, &text)).transpose()?;
        let check = TableCheck { newest: table.newest, within, min_rows: table.min_rows };
        tables.insert(name, check);
    }
    let timeout = table.timeout.map(|text| span("validate.timeout", &text)).transpose()?;
    Ok(Validation { sql: table.sql, timeout, schema, tables })
}

/// A unit's whole name: `systemctl` adds `.service` to a bare one, and the bus does not.
fn unit(name: String) -> String {
    const TYPES: [&str; 6] = [".service", ".target", ".socket", ".timer", ".path", ".slice"];
    match TYPES.iter().any(|kind| name.ends_with(kind)) {
        true => name,
        false => format!("{name}.service"),
    }
}

pub(super) fn smokes(key: &str, tables: &[wire::SmokeTable]) -> Result<Vec<Smoke>, Problem> {
    let numbered = tables.iter().enumerate();
    numbered.map(|(at, table)| smoke(&format!("{key}[{at}]"), table)).collect()
}

fn smoke(key: &str, table: &wire::SmokeTable) -> Result<Smoke, Problem> {
    let (method, url) = one_of(key, &[("get", table.get.clone()), ("post", table.post.clone())])?;
    let login =
        table.login.as_deref().map(|text| reference(&format!("{key}.login"), text)).transpose()?;
    let within = table.expect.within.as_deref();
    let json = table.expect.json.iter().map(|(pointer, value)| {
        let value = serde_json::to_value(value).unwrap_or_default();
        (pointer.clone(), value.to_string())
    });
    Ok(Smoke {
        method: if method == "get" { "GET" } else { "POST" },
        url,
        body: table.body.clone(),
        login,
        expect: Expectation {
            status: table.expect.status.unwrap_or(200),
            json: json.collect(),
            min_items: table.expect.min_items,
            within: within.map(|text| span(&format!("{key}.expect.within"), text)).transpose()?,
        },
    })
}

fn policy(table: &wire::PolicyTable) -> Result<Policy, Problem> {
    let on_failure = match table.on_failure.as_deref() {
        None | Some("stay-shut") => OnFailure::StayShut,
        Some("reopen-old") => OnFailure::ReopenOld,
        Some(text) => {
            let why = format!("expected stay-shut or reopen-old, seen '{text}'");
            return wrong("policy.on_failure", why);
        }
    };
    let time = |key: &str, text: &Option<String>, default: Duration| match text {
        Some(text) => span(key, text),
        None => Ok(default),
    };
    let default = Policy::default();
    Ok(Policy {
        on_failure,
        final_persons: table.final_persons.unwrap_or(1).max(1),
        extra_loss: time("policy.extra_loss", &table.extra_loss, default.extra_loss)?,
        keep_old: time("policy.keep_old", &table.keep_old, default.keep_old)?,
    })
}

#[cfg(test)]
mod tests {
    use super::duration;
    use std::time::Duration;

    #[test]
    fn durations_are_numbers_with_a_unit() {
        assert_eq!(duration("15m"), Some(Duration::from_secs(900)));
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("2d"), Some(Duration::from_secs(172_800)));
        for bad in ["", "15", "m", "1.5h", "-1s", "15 m", "99999999999999999999d"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
