//! Is it there, does it answer, what do its files say.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use pg::control::ClusterState;
use pgclient::{Client, ConnectOptions};
use recovery::diagnosis::{Evidence, Says, condition};
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::plan::Parameters;

use super::postmaster;
use crate::looked::Looked;

/// A database that needs longer for `SELECT 1` is as good as down.
const SLOW: Duration = Duration::from_secs(5);

/// Questions and what an answer other than the expected one means.
const QUESTIONS: [(&str, &str, &str, Says); 4] = [
    ("basic query", "SELECT 'ok'", "ok", Says::Damage),
    (
        "takes writes",
        "SELECT CASE WHEN pg_is_in_recovery() THEN 'in recovery' ELSE 'ok' END",
        "ok",
        Says::Trouble,
    ),
    (
        "page checksums",
        "SELECT CASE WHEN sum(checksum_failures) > 0 THEN sum(checksum_failures) || ' failures' \
         ELSE 'ok' END FROM pg_stat_database",
        "ok",
        Says::Damage,
    ),
    (
        "replication",
        "SELECT CASE WHEN count(*) FILTER (WHERE state <> 'streaming') > 0 THEN \
         count(*) FILTER (WHERE state <> 'streaming') || ' standbys do not stream' ELSE 'ok' END \
         FROM pg_stat_replication",
        "ok",
        Says::Trouble,
    ),
];

/// Words in the last part of a server's log that speak of damage.
const ALARMING: [&str; 5] = [
    "invalid page in block",
    "could not read block",
    "PANIC:",
    "unexpected pageaddr",
    "could not access status of transaction",
];

/// Bytes of the log that are read.
const LOG_LEN: u64 = 256 << 10;

/// Looks at a cluster of this host.
pub async fn diagnose(
    data_directory: &Path,
    connection: &str,
    database: Option<&str>,
) -> Vec<Evidence> {
    let mut evidence = vec![files(data_directory)];
    evidence.extend(process(data_directory));
    evidence.extend(ask(connection, database).await);
    evidence.push(log(data_directory));
    evidence
}

fn files(directory: &Path) -> Evidence {
    let what = "data directory";
    let path = directory.join(pg::control::CONTROL_FILE_PATH);
    match std::fs::read(&path) {
        Err(error) => {
            Evidence { what, seen: format!("'{}': {error}", path.display()), says: Says::Gone }
        }
        Ok(bytes) => match pg::ControlFile::decode(&bytes) {
            Err(error) => Evidence { what, seen: format!("pg_control: {error}"), says: Says::Gone },
            Ok(control) => Evidence {
                what,
                seen: format!(
                    "'{}', system identifier {}, {}",
                    directory.display(),
                    control.system_id,
                    control.state
                ),
                says: Says::Fine,
            },
        },
    }
}

fn process(directory: &Path) -> Option<Evidence> {
    let what = "server process";
    let crashed =
        super::control(directory).is_ok_and(|control| control.state == ClusterState::InProduction);
    Some(match postmaster(directory) {
        Ok(Some(found)) => {
            Evidence { what, seen: format!("runs (process {})", found.pid), says: Says::Fine }
        }
        Ok(None) => Evidence {
            what,
            seen: if crashed { "gone without a shutdown" } else { "does not run" }.into(),
            says: Says::Damage,
        },
        Err(failure) => Evidence { what, seen: failure.message, says: Says::Nothing },
    })
}

async fn ask(connection: &str, database: Option<&str>) -> Vec<Evidence> {
    let what = "connection";
    let options = match ConnectOptions::parse(connection) {
        Ok(options) => options.with_application_name("rollforward"),
        Err(error) => return vec![Evidence { what, seen: error.to_string(), says: Says::Nothing }],
    };
    let options = match database {
        Some(database) => options.with_database(database),
        None => options,
    };
    let client = match Client::connect(&options).await {
        Ok(client) => client,
        Err(error) => return vec![Evidence { what, seen: error.to_string(), says: Says::Damage }],
    };
    let mut evidence = vec![Evidence { what, seen: client.address().to_owned(), says: Says::Fine }];
    for (what, sql, expected, otherwise) in QUESTIONS {
        evidence.push(match client.query_text(sql, SLOW).await {
            Ok(rows) => {
                let seen = rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten();
                let seen = seen.unwrap_or_default();
                let says = if seen == expected { Says::Fine } else { otherwise };
                Evidence { what, seen, says }
            }
            Err(error) => Evidence { what, seen: error.to_string(), says: otherwise },
        });
    }
    evidence
}

/// Where a server's log may be: what the server's own collector notes in its data directory, the
/// newest in the folder it writes to by default, and beside the data directory, where our own
/// starts write it.
fn log_file(directory: &Path) -> PathBuf {
    let noted = std::fs::read_to_string(directory.join("current_logfiles")).unwrap_or_default();
    let noted = noted.lines().find_map(|line| line.strip_prefix("stderr "));
    if let Some(path) = noted.map(|name| directory.join(name)).filter(|path| path.exists()) {
        return path;
    }
    let beside = directory.with_extension("log");
    let entries = std::fs::read_dir(directory.join("log")).into_iter().flatten().flatten();
    let changed = |path: &PathBuf| std::fs::metadata(path).and_then(|it| it.modified()).ok();
    let all = entries.map(|entry| entry.path()).chain([beside.clone()]);
    all.filter(|path| path.is_file()).max_by_key(changed).unwrap_or(beside)
}

/// What the end of the log says.
fn log(directory: &Path) -> Evidence {
    use std::io::{Read, Seek, SeekFrom};
    let what = "server log";
    let path = log_file(directory);
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(&path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(LOG_LEN)))?;
        let mut bytes = Vec::new();
        file.take(LOG_LEN).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Err(_) => {
            Evidence { what, seen: format!("none at '{}'", path.display()), says: Says::Nothing }
        }
        Ok(text) => {
            match text.lines().rev().find(|line| ALARMING.iter().any(|it| line.contains(it))) {
                Some(line) => {
                    Evidence { what, seen: crate::command::shown(line), says: Says::Damage }
                }
                None => Evidence { what, seen: "no alarming line".into(), says: Says::Fine },
            }
        }
    }
}

/// Who follows the cluster: they cannot follow the restored one, and have to be rebuilt.
async fn standbys(context: &StepContext) -> Option<String> {
    let options = ConnectOptions::parse(context.parameter("connection").ok()?).ok()?;
    let options = options.with_application_name("rollforward");
    let client = Client::connect(&options).await.ok()?;
    let sql = "SELECT string_agg(application_name || coalesce(' at ' || host(client_addr), ''), ', ' \
               ORDER BY application_name) FROM pg_stat_replication";
    super::value(&client, sql).await.ok()?.filter(|names| !names.is_empty())
}

/// The step: what is seen is a fact of the run; whatever the verdict, it goes on.
#[derive(Debug, Default)]
pub(crate) struct DiagnoseStep {
    looked: Looked,
}

#[async_trait]
impl Effect for DiagnoseStep {
    async fn probe(&self, context: &StepContext) -> Found {
        self.looked.probe(context)
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        let directory = Path::new(context.parameter("data_directory")?).to_owned();
        let database = context.parameters.get("database").map(String::as_str);
        let evidence = diagnose(&directory, context.parameter("connection")?, database).await;
        let mut outputs =
            Parameters::from([("condition".into(), condition(&evidence).text().to_owned())]);
        for it in &evidence {
            outputs.insert(format!("seen {}", it.what), format!("{}: {}", it.says.text(), it.seen));
        }
        let standbys = standbys(context).await;
        outputs.extend(standbys.map(|names| ("standbys".to_owned(), names)));
        self.looked.remember(context, outputs);
        Ok(())
    }

    async fn verify(&self, context: &StepContext) -> Result<Parameters, Failure> {
        Ok(self.looked.outputs(context).unwrap_or_default())
    }
}
