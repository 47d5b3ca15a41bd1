//! The connection setting: checked, switched, put back, wherever it stands. Only host, port and
//! database change, after a breach the password of a rotated role as well. No password is noted or
//! journaled.

pub(crate) mod forms;
mod password;
pub(crate) mod place;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use pgclient::ConnectOptions;
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::plan::{Parameters, Step, StepKind};
use recovery::service::Form;

use crate::Secrets;
use crate::kubernetes::{self, Clusters};
use crate::looked::Looked;
use forms::{Parts, parts, replace_parts};
use place::{read_value, write_value};

pub(crate) struct Settings {
    looked: Looked,
    clusters: Clusters,
    secrets: Arc<dyn Secrets>,
}

impl Settings {
    pub(crate) fn new(clusters: Clusters, secrets: Arc<dyn Secrets>) -> Self {
        Self { looked: Looked::default(), clusters, secrets }
    }

    pub(crate) fn of(&self, step: &Step) -> Option<&dyn Effect> {
        let place = step.parameters.get("setting").map(String::as_str)?;
        matches!(place, "file" | "kubernetes").then_some(self as &dyn Effect)
    }

    async fn value(&self, context: &StepContext) -> Result<String, Failure> {
        if context.parameter("setting")? == "kubernetes" {
            return kubernetes::read_setting(&self.clusters, context).await;
        }
        read_value(context.parameter("path")?, key(context))
            .map_err(|why| unreadable(context, &why))
    }

    async fn change(
        &self,
        context: &StepContext,
        change: &(dyn Fn(&str) -> Result<String, Failure> + Send + Sync),
    ) -> Result<(), Failure> {
        if context.parameter("setting")? == "kubernetes" {
            return kubernetes::write_setting(&self.clusters, context, change).await;
        }
        let path = context.parameter("path")?;
        let value = self.value(context).await?;
        let changed = change(&value)?;
        if changed == value {
            return Ok(());
        }
        write_value(path, key(context), &changed)
            .map_err(|why| Failure::retry("RF1104", format!("setting in '{path}': {why}")))
    }

    async fn current(&self, context: &StepContext) -> Result<Parts, Failure> {
        let value = self.value(context).await?;
        parts(&value, form(context)?, &fields(context)).map_err(|why| unreadable(context, &why))
    }

    /// The value as it shall be: it leads to the restored database, and holds the password that
    /// its role has there.
    fn switched(&self, context: &StepContext, value: &str) -> Result<String, Failure> {
        let (form, fields) = (form(context)?, fields(context));
        let failed = |why: String| unreadable(context, &why);
        let placed = replace_parts(value, form, &fields, &wanted(context)?).map_err(failed)?;
        self.renewed(context, &placed)
    }

    /// The value with the new password of its role, if that gets another one.
    fn renewed(&self, context: &StepContext, value: &str) -> Result<String, Failure> {
        let (form, fields) = (form(context)?, fields(context));
        let failed = |why: String| unreadable(context, &why);
        let role = password::role(value, form, &fields).map_err(failed)?;
        let rotated = role.and_then(|role| context.parameters.get(&format!("password.{role}")));
        let Some(reference) = rotated else { return Ok(value.to_owned()) };
        let resolved = self.secrets.resolve(reference).map_err(|why| {
            Failure::terminal("RF1110", format!("secret {reference} does not resolve: {why}"))
        })?;
        let changed = password::with_password(value, form, &fields, &resolved);
        Ok(changed.map_err(failed)?.to_string())
    }

    /// The setting must point to the declared database now: the same host and port, or this
    /// machine.
    async fn points_to_the_database(&self, context: &StepContext) -> Result<Parameters, Failure> {
        let seen = self.current(context).await?;
        // Whether it can be switched is better known before anything is touched.
        if context.parameter("setting")? == "file" {
            let path = context.parameter("path")?;
            stdx::durable::may_replace(Path::new(path)).map_err(|error| {
                Failure::terminal("RF1104", format!("'{path}' cannot be replaced: {error}"))
                    .hint("run rollforward as its owner (who may write into its folder) or root")
            })?;
        }
        self.renewed(context, &self.value(context).await?)?;
        let options = ConnectOptions::parse(context.parameter("connection")?)
            .map_err(|error| unreadable(context, &error.to_string()))?;
        let (host, port) = options.host_and_port();
        let is_local = |host: &str| {
            host.is_empty()
                || host.starts_with('/')
                || matches!(host, "localhost" | "127.0.0.1" | "::1")
        };
        let seen_host = seen.host.clone().unwrap_or_default();
        // What applications on other machines call the host that we are on.
        let is_its_address = context.parameters.get("address") == Some(&seen_host);
        let same_host =
            seen_host == host || ((is_local(&seen_host) || is_its_address) && is_local(host));
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
            "the service's setting is not the one that its applications read, or was switched \
             before",
        ))
    }
}

fn key(context: &StepContext) -> Option<&str> {
    context.parameters.get("key").map(String::as_str)
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
    let at = ["path", "object"].into_iter().find_map(|name| context.parameters.get(name));
    let at = at.map_or("", String::as_str);
    Failure::terminal("RF1104", format!("setting in '{at}': {why}"))
}

fn wanted(context: &StepContext) -> Result<Parts, Failure> {
    Ok(Parts {
        host: Some(context.fact("host")?.to_owned()),
        port: Some(context.fact("port")?.to_owned()),
        // The database keeps its name.
        database: None,
    })
}

#[async_trait]
impl Effect for Settings {
    async fn original(&self, context: &StepContext) -> Result<Option<(String, String)>, Failure> {
        let seen = self.current(context).await?;
        let text = serde_json::json!({
            "host": seen.host, "port": seen.port, "database": seen.database,
        });
        Ok(Some(("setting".into(), text.to_string())))
    }

    async fn probe(&self, context: &StepContext) -> Found {
        if context.step.kind == StepKind::CheckSetting {
            return self.looked.probe(context);
        }
        let look = async {
            let value = self.value(context).await?;
            Ok::<bool, Failure>(self.switched(context, &value)? == value)
        };
        match look.await {
            Ok(true) => Found::Done,
            Ok(false) => Found::Absent,
            Err(failure) => failure.into(),
        }
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        if context.step.kind == StepKind::CheckSetting {
            let outputs = self.points_to_the_database(context).await?;
            self.looked.remember(context, outputs);
            return Ok(());
        }
        self.change(context, &|value| self.switched(context, value)).await
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
        let (form, fields) = (form(context)?, fields(context));
        self.change(context, &|there| {
            forms::restore_parts(there, form, &fields, &parts)
                .map_err(|why| unreadable(context, &why))
        })
        .await?;
        Ok("the old host, port and database stand there again".into())
    }
}
