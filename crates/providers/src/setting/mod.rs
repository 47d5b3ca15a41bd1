//! The connection setting in a file: checked, switched, put back. Only host, port and database
//! change; the password is never read out, noted or journaled.

pub(crate) mod forms;
pub(crate) mod place;

use async_trait::async_trait;
use pgclient::ConnectOptions;
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::plan::{Parameters, Step, StepKind};
use recovery::service::Form;

use crate::looked::Looked;
use forms::{Parts, parts, replace_parts};
use place::{read_value, write_value};

#[derive(Debug, Default)]
pub(crate) struct FileSetting {
    looked: Looked,
}

impl FileSetting {
    pub(crate) fn of(&self, _step: &Step) -> &dyn Effect {
        self
    }
}

fn form(context: &StepContext) -> Result<Form, Failure> {
    let text = context.parameter("form")?;
    Form::parse(text).ok_or_else(|| Failure::terminal("RF1001", format!("a form '{text}'")))
}

fn fields(context: &StepContext) -> Parameters {
    let named = context.parameters.iter();
    named
        .filter_map(|(name, field)| Some((name.strip_prefix("field.")?.to_owned(), field.clone())))
        .collect()
}

fn unreadable(context: &StepContext, why: &str) -> Failure {
    let path = context.parameters.get("path").map_or("", String::as_str);
    Failure::terminal("RF1104", format!("setting in '{path}': {why}"))
}

fn current(context: &StepContext) -> Result<Parts, Failure> {
    let key = context.parameters.get("key").map(String::as_str);
    let value =
        read_value(context.parameter("path")?, key).map_err(|why| unreadable(context, &why))?;
    parts(&value, form(context)?, &fields(context)).map_err(|why| unreadable(context, &why))
}

fn wanted(context: &StepContext) -> Result<Parts, Failure> {
    Ok(Parts {
        host: Some(context.fact("host")?.to_owned()),
        port: Some(context.fact("port")?.to_owned()),
        // The database keeps its name.
        database: None,
    })
}

fn write(context: &StepContext, parts: &Parts) -> Result<(), Failure> {
    let path = context.parameter("path")?;
    let key = context.parameters.get("key").map(String::as_str);
    let value = read_value(path, key).map_err(|why| unreadable(context, &why))?;
    let replaced = replace_parts(&value, form(context)?, &fields(context), parts)
        .map_err(|why| unreadable(context, &why))?;
    if replaced == value {
        return Ok(());
    }
    write_value(path, key, &replaced)
        .map_err(|why| Failure::retry("RF1104", format!("setting in '{path}': {why}")))
}

/// Whether what is there says the same where something is wanted.
fn agrees(there: &Parts, wanted: &Parts) -> bool {
    let same =
        |there: &Option<String>, wanted: &Option<String>| wanted.is_none() || there == wanted;
    same(&there.host, &wanted.host)
        && same(&there.port, &wanted.port)
        && same(&there.database, &wanted.database)
}

/// The setting must point to the declared database now: the same host and port, or this machine.
fn points_to_the_database(context: &StepContext) -> Result<Parameters, Failure> {
    let seen = current(context)?;
    let options = ConnectOptions::parse(context.parameter("connection")?)
        .map_err(|error| unreadable(context, &error.to_string()))?;
    let (host, port) = options.host_and_port();
    let is_local = |host: &str| {
        host.is_empty()
            || host.starts_with('/')
            || matches!(host, "localhost" | "127.0.0.1" | "::1")
    };
    let seen_host = seen.host.clone().unwrap_or_default();
    let same_host = seen_host == host || (is_local(&seen_host) && is_local(host));
    let seen_port = seen.port.unwrap_or_else(|| "5432".into());
    if same_host && seen_port == port.to_string() {
        return Ok(Parameters::from([(
            "setting_before".into(),
            format!("{seen_host}:{seen_port}"),
        )]));
    }
    Err(Failure::terminal(
        "RF1104",
        format!("the setting points to {seen_host}:{seen_port}, expected {host}:{port}"),
    )
    .hint(
        "the service's setting is not the one that its applications read, or was switched before",
    ))
}

#[async_trait]
impl Effect for FileSetting {
    async fn original(&self, context: &StepContext) -> Result<Option<(String, String)>, Failure> {
        let seen = current(context)?;
        let text = serde_json::json!({
            "host": seen.host, "port": seen.port, "database": seen.database,
        });
        Ok(Some(("setting".into(), text.to_string())))
    }

    async fn probe(&self, context: &StepContext) -> Found {
        if context.step.kind == StepKind::CheckSetting {
            return self.looked.probe(context);
        }
        let look = || Ok::<bool, Failure>(agrees(&current(context)?, &wanted(context)?));
        match look() {
            Ok(true) => Found::Done,
            Ok(false) => Found::Absent,
            Err(failure) => Found::Unknown(failure.message),
        }
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        if context.step.kind == StepKind::CheckSetting {
            let outputs = points_to_the_database(context)?;
            self.looked.remember(context, outputs);
            return Ok(());
        }
        write(context, &wanted(context)?)
    }

    async fn verify(&self, context: &StepContext) -> Result<Parameters, Failure> {
        Ok(self.looked.outputs(context).unwrap_or_default())
    }

    async fn undo(&self, context: &StepContext) -> Result<String, Failure> {
        let Some(original) = context.originals.get("setting") else {
            return Ok("it was never touched".into());
        };
        let value: serde_json::Value = serde_json::from_str(original)
            .map_err(|error| unreadable(context, &error.to_string()))?;
        let part = |name: &str| value.get(name).and_then(|it| it.as_str()).map(str::to_owned);
        let parts = Parts { host: part("host"), port: part("port"), database: part("database") };
        let path = context.parameter("path")?;
        let key = context.parameters.get("key").map(String::as_str);
        let there = read_value(path, key).map_err(|why| unreadable(context, &why))?;
        let back = forms::restore_parts(&there, form(context)?, &fields(context), &parts)
            .map_err(|why| unreadable(context, &why))?;
        if back != there {
            write_value(path, key, &back)
                .map_err(|why| Failure::retry("RF1104", format!("setting in '{path}': {why}")))?;
        }
        Ok("the old host, port and database stand there again".into())
    }
}
