//! A dump, restored by our own `dump restore` into a database beside the old one. From its creation
//! to its end the database says in its comment which run made it.

use std::time::Duration;

use async_trait::async_trait;
use pgclient::{Client, identifier};
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::plan::Parameters;

use super::{
    Listed, POLL, RESTORED_OID, by_name, change, end_sessions, same_server, server, session,
};
use crate::OwnProgram;
use crate::postgres::{postmaster, value};

/// What the journal says of a name that nobody had.
const ABSENT: &str = "absent";

/// How long a restore that is told to stop may take.
const STOP_MAX: Duration = Duration::from_secs(30);

/// Objects that somebody has made in a database.
const HOLDS: &str = "SELECT count(*)::text FROM pg_catalog.pg_class WHERE oid >= 16384";

#[derive(Debug)]
pub(in crate::postgres) struct RestoreDump {
    own: OwnProgram,
}

impl RestoreDump {
    pub(in crate::postgres) fn new(own: OwnProgram) -> Self {
        Self { own }
    }

    async fn restore(&self, context: &StepContext, new: &str) -> Result<(), Failure> {
        let mut words = vec!["dump".to_owned(), "restore".into()];
        words.extend([context.parameter("cluster")?.into(), context.parameter("dump")?.into()]);
        words.extend(["--target".into(), context.parameter("server")?.into()]);
        words.extend(["--source-database".into(), context.parameter("database")?.into()]);
        words.extend(["--database".into(), new.to_owned(), "--create".into()]);
        words.extend(["--analyze".into(), "--comment".into(), marked(context)]);
        if let Some(bin) = context.parameters.get("bin_directory") {
            words.extend(["--bin-directory".into(), bin.clone()]);
        }
        self.own.run(&words).await.map(drop)
    }
}

/// What the comment of this step's database says.
fn marked(context: &StepContext) -> String {
    format!("rollforward: restored by run {}, {}", context.run, context.key)
}

fn object(new: &str) -> String {
    format!("database {new}")
}

/// How far this step's database is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Unfinished,
    Whole,
    Strange(String),
}

/// Whose a database is: what is there decides, and what the journal knew before.
async fn stage(context: &StepContext, there: &Listed) -> Result<Stage, Failure> {
    let mark = marked(context);
    let comment = there.comment.as_deref().unwrap_or_default();
    if comment == mark {
        return Ok(Stage::Whole);
    }
    if comment.contains(&mark) {
        return Ok(Stage::Unfinished);
    }
    let said = match comment {
        "" => "says of nobody".to_owned(),
        comment => format!("says '{comment}'"),
    };
    let strange = Stage::Strange(format!("database '{}', which {said}", there.name));
    // Cut between its creation and its mark: nobody had the name before, and nothing is in it.
    let was_absent = context.originals.get(&object(&there.name)).is_some_and(|it| it == ABSENT);
    if !was_absent || !comment.is_empty() || !there.takes_sessions {
        return Ok(strange);
    }
    let inside = session(context.parameter("server")?, Some(&there.name)).await?;
    Ok(match value(&inside, HOLDS).await?.as_deref() {
        Some("0") => Stage::Unfinished,
        _ => strange,
    })
}

/// Processes of ours that restore into the database.
fn restores(new: &str) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let has = |one: &[u8], other: &[u8]| {
            words.windows(2).any(|pair| pair.first() == Some(&one) && pair.last() == Some(&other))
        };
        has(b"dump", b"restore") && has(b"--database", new.as_bytes())
    })
    .collect()
}

async fn end_restores(new: &str) -> Result<(), Failure> {
    let mut waited = Duration::ZERO;
    loop {
        let pids = restores(new);
        if pids.is_empty() {
            return Ok(());
        }
        for pid in &pids {
            let _ = tokio::process::Command::new("kill").arg(pid.to_string()).status().await;
        }
        if waited > STOP_MAX {
            return Err(Failure::retry("RF1101", format!("restores {pids:?} do not end")));
        }
        tokio::time::sleep(POLL).await;
        waited += POLL;
    }
}

async fn look(context: &StepContext) -> Result<Found, Failure> {
    let new = context.parameter("new_database")?;
    let client = server(context).await?;
    let runs = !restores(new).is_empty();
    let Some(there) = by_name(&client, new).await? else {
        let progress = "it begins".to_owned();
        return Ok(if runs { Found::Running { progress } } else { Found::Absent });
    };
    Ok(match stage(context, &there).await? {
        Stage::Strange(what) => Found::Foreign(what),
        Stage::Unfinished if runs => Found::Running { progress: progress(&client, &there).await? },
        Stage::Unfinished => Found::Broken(format!("an unfinished restore in '{new}'")),
        Stage::Whole => Found::Done,
    })
}

async fn progress(client: &Client, there: &Listed) -> Result<String, Failure> {
    let sql = format!("SELECT pg_catalog.pg_database_size({}::oid)::text", there.oid);
    let bytes = value(client, &sql).await?.and_then(|text| text.parse().ok()).unwrap_or_default();
    Ok(stdx::ByteCount::new(bytes).to_string())
}

#[async_trait]
impl Effect for RestoreDump {
    async fn original(&self, context: &StepContext) -> Result<Option<(String, String)>, Failure> {
        let new = context.parameter("new_database")?;
        let there = by_name(&server(context).await?, new).await?;
        let value = there.map_or_else(|| ABSENT.to_owned(), |there| format!("oid {}", there.oid));
        Ok(Some((object(new), value)))
    }

    async fn precheck(&self, context: &StepContext) -> Result<(), Failure> {
        same_server(context).await
    }

    async fn probe(&self, context: &StepContext) -> Found {
        look(context).await.unwrap_or_else(|failure| Found::Unknown(failure.message))
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        let new = context.parameter("new_database")?;
        let client = server(context).await?;
        let stage = match by_name(&client, new).await? {
            Some(there) => Some(stage(context, &there).await?),
            None => None,
        };
        match stage {
            None => self.restore(context, new).await,
            Some(Stage::Whole) => Ok(()),
            // The next look says that it is half-made.
            Some(Stage::Unfinished) => {
                Err(Failure::ambiguous("RF1105", format!("'{new}' is unfinished")))
            }
            Some(Stage::Strange(what)) => Err(Failure::terminal("RF1010", what)),
        }
    }

    async fn verify(&self, context: &StepContext) -> Result<Parameters, Failure> {
        let new = context.parameter("new_database")?;
        let client = server(context).await?;
        let there = by_name(&client, new).await?.ok_or_else(|| {
            Failure::retry("RF1105", format!("the restored database '{new}' is not there"))
        })?;
        let directory = context.parameter("data_directory")?;
        let found = postmaster(std::path::Path::new(directory))?
            .ok_or_else(|| Failure::retry("RF1105", format!("no server runs in '{directory}'")))?;
        let version = value(&client, "SHOW server_version").await?.unwrap_or_default();
        let host = found.listen_address.unwrap_or_else(|| "127.0.0.1".into());
        let mut outputs = Parameters::from([
            ("directory".into(), directory.to_owned()),
            ("host".into(), host),
            ("port".into(), found.port.unwrap_or_default().to_string()),
            (RESTORED_OID.into(), there.oid.to_string()),
            ("restored_database".into(), there.name.clone()),
            ("restored_dump".into(), context.parameter("dump")?.to_owned()),
            // A dump holds what was committed when it was begun.
            ("newest_commit".into(), context.parameter("taken")?.to_owned()),
            ("version".into(), version),
        ]);
        let socket = found.socket_dir.map(|path| path.display().to_string());
        outputs.extend(socket.map(|path| ("socket".to_owned(), path)));
        Ok(outputs)
    }

    async fn undo(&self, context: &StepContext) -> Result<String, Failure> {
        let new = context.parameter("new_database")?;
        if !context.originals.contains_key(&object(new)) {
            return Ok("it was never begun".into());
        }
        end_restores(new).await?;
        let client = server(context).await?;
        let Some(there) = by_name(&client, new).await? else {
            return Ok("nothing was there".into());
        };
        // Once it was done the journal knows it, whatever its comment says meanwhile.
        let is_known = context.facts.get(RESTORED_OID) == Some(&there.oid.to_string());
        if !is_known && let Stage::Strange(what) = stage(context, &there).await? {
            // Where somebody else's is, nothing of ours is.
            return Ok(format!("nothing of this run was there: {what} stays"));
        }
        end_sessions(&client, &there).await?;
        change(&client, &format!("DROP DATABASE {} WITH (FORCE)", identifier(new))).await?;
        Ok(format!("database '{new}' is dropped"))
    }
}
