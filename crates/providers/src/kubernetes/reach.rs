//! A connection tried from inside of the cluster: a job that ends with 0 when it reaches the
//! restored database.

use async_trait::async_trait;
use kube::api::{DeleteParams, PostParams};
use kube::core::ApiResource;
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::plan::Parameters;
use serde_json::{Value, json};

use super::ANNOTATION;
use super::client::{Cluster, Clusters, answered, known, number, text};
use super::failure::{Request, is_gone};
use super::rollout;
use crate::command;

/// Characters of a job's name that are the step's key.
const KEY_LEN: usize = 16;

/// A job that does not end by itself is ended, in seconds.
const JOB_DEADLINE_S: u32 = 60;

/// A job that has ended goes by itself after this long, in seconds: a day for whoever wants to read
/// what it said. (Clusters before 1.23 may keep it.)
const JOB_KEPT_S: u32 = 86_400;

pub(super) struct Reach {
    clusters: Clusters,
}

impl Reach {
    pub(super) fn new(clusters: Clusters) -> Self {
        Self { clusters }
    }
}

fn jobs() -> ApiResource {
    known("batch", "v1", "Job", "jobs")
}

fn name(context: &StepContext) -> String {
    let key: String = context.key.chars().filter(char::is_ascii_alphanumeric).collect();
    let key = key.to_ascii_lowercase();
    format!("rollforward-reach-{}", key.get(..KEY_LEN).unwrap_or(&key))
}

fn path(context: &StepContext) -> Result<String, Failure> {
    Ok(format!("{}/{}", context.parameter("namespace")?, name(context)))
}

fn job(context: &StepContext) -> Result<Value, Failure> {
    let words = command::words(context, "command")?;
    let (host, port) = (context.fact("host")?, context.fact("port")?);
    let words: Vec<String> =
        words.iter().map(|word| word.replace("{host}", host).replace("{port}", port)).collect();
    Ok(json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name(context),
            "namespace": context.parameter("namespace")?,
            "annotations": { format!("{ANNOTATION}/run"): context.run.clone() },
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": JOB_DEADLINE_S,
            "ttlSecondsAfterFinished": JOB_KEPT_S,
            "template": { "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "containers": [{
                    "name": "reach",
                    "image": context.parameter("image")?,
                    "command": words,
                }],
            } },
        },
    }))
}

async fn look(cluster: &Cluster, context: &StepContext) -> Result<Found, Failure> {
    let Some(seen) = cluster.get(&jobs(), &path(context)?).await? else {
        return Ok(Found::Absent);
    };
    if number(&seen, "/status/succeeded").unwrap_or(0) > 0 {
        return Ok(Found::Done);
    }
    let conditions = seen.pointer("/status/conditions").and_then(Value::as_array);
    let failed = conditions.into_iter().flatten().find(|condition| {
        text(condition, "/type") == Some("Failed") && text(condition, "/status") == Some("True")
    });
    // It has ended, and will say nothing else: what it says is looked at afterwards.
    if failed.is_some() || number(&seen, "/status/failed").unwrap_or(0) > 0 {
        return Ok(Found::Done);
    }
    let pods = pods(cluster, context).await?;
    Ok(match pods.iter().any(|pod| rollout::stuck(pod).is_some()) {
        true => Found::Done,
        false => Found::Running { progress: "the job runs".into() },
    })
}

async fn pods(cluster: &Cluster, context: &StepContext) -> Result<Vec<Value>, Failure> {
    let pods = known("", "v1", "Pod", "pods");
    let labels = format!("job-name={}", name(context));
    cluster.list(&pods, Some(context.parameter("namespace")?), &labels).await
}

/// What the job's pod ended with, or why it does not run.
async fn said(cluster: &Cluster, context: &StepContext) -> String {
    let pods = pods(cluster, context).await.unwrap_or_default();
    if let Some(what) = pods.iter().find_map(rollout::stuck) {
        return what;
    }
    let statuses = pods.iter().filter_map(|pod| pod.pointer("/status/containerStatuses")?.get(0));
    let ended = statuses.filter_map(|status| status.pointer("/state/terminated")).next();
    let code = ended.and_then(|ended| number(ended, "/exitCode"));
    let code = code.map_or_else(|| "no exit code".into(), |code| format!("exit code {code}"));
    let message = ended.and_then(|ended| text(ended, "/message")).unwrap_or_default();
    format!("the job ended with {code} {}", command::shown(message.trim()))
}

#[async_trait]
impl Effect for Reach {
    async fn probe(&self, context: &StepContext) -> Found {
        let look = async { look(&self.clusters.of(context).await?, context).await };
        look.await.unwrap_or_else(Found::from)
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        let cluster = self.clusters.of(context).await?;
        let job = serde_json::from_value(job(context)?)
            .map_err(|error| Failure::terminal("RF1001", error.to_string()))?;
        let api = cluster.api(&jobs(), Some(context.parameter("namespace")?));
        let what = format!("create job {} ({})", path(context)?, cluster.table);
        let parameters = PostParams::default();
        let created = answered(Request::Write, &what, api.create(&parameters, &job)).await;
        match created {
            // It is there already: a probe tells how far it is.
            Err(failure) if failure.message.contains("AlreadyExists") => Ok(()),
            other => other.map(drop),
        }
    }

    async fn verify(&self, context: &StepContext) -> Result<Parameters, Failure> {
        let cluster = self.clusters.of(context).await?;
        let seen = cluster.must_get(&jobs(), &path(context)?).await?;
        if number(&seen, "/status/succeeded").unwrap_or(0) > 0 {
            return Ok(Parameters::new());
        }
        let address = format!("{}:{}", context.fact("host")?, context.fact("port")?);
        let said = said(&cluster, context).await;
        Err(Failure::terminal(
            "RF1125",
            format!(
                "{address} is not reached from namespace {}: {said}",
                context.parameter("namespace")?
            ),
        )
        .hint("is the address right for the cluster's network, and does a policy forbid it?"))
    }

    async fn undo(&self, context: &StepContext) -> Result<String, Failure> {
        let cluster = self.clusters.of(context).await?;
        if cluster.get(&jobs(), &path(context)?).await?.is_none() {
            return Ok("there was no job".into());
        }
        let api = cluster.api(&jobs(), Some(context.parameter("namespace")?));
        let what = format!("delete job {} ({})", path(context)?, cluster.table);
        let name = name(context);
        let parameters = DeleteParams::background();
        match answered(Request::Write, &what, api.delete(&name, &parameters)).await {
            Ok(_) => Ok("the job is removed".into()),
            // It went in between: an answer before this one was lost.
            Err(failure) if is_gone(&failure) => Ok("the job is gone".into()),
            Err(failure) => Err(failure),
        }
    }
}
