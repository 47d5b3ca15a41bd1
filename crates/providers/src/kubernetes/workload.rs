//! Workloads that write: stopped by scaling to nothing, started with the replicas they had, and
//! watched until no pod, or every pod, runs.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use kube::core::ApiResource;
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::plan::StepKind;
use recovery::service::Workload;
use serde_json::{Value, json};
use stdx::{Clock, SystemClock};

use super::ANNOTATION;
use super::client::{Cluster, Clusters, known, number, split, text};
use super::rollout::{self, Rollout};

/// How long behind its grace period a pod may take to end, in seconds.
const GRACE_MARGIN_S: i64 = 30;

/// How long an undo waits for pods to end before it is tried again.
const UNDO_WAIT_MAX: Duration = Duration::from_secs(40);

const UNDO_POLL: Duration = Duration::from_millis(500);

/// Replicas of a CronJob's original: it runs, or it is suspended.
const RUNS: u32 = 1;

pub(super) struct Workloads {
    clusters: Clusters,
}

impl Workloads {
    pub(super) fn new(clusters: Clusters) -> Self {
        Self { clusters }
    }
}

/// The kind of a workload, as addresses name it.
pub(super) fn resource(kind: Workload) -> ApiResource {
    let group = if kind == Workload::CronJob { "batch" } else { "apps" };
    // CronJobs are v1 since 1.21; before that the API server has them as v1beta1 only.
    known(group, "v1", kind.kind(), kind.plural())
}

/// One workload in its cluster.
pub(super) struct Target {
    pub(super) cluster: Cluster,
    pub(super) kind: Workload,
    pub(super) object: String,
    resource: ApiResource,
}

impl Target {
    pub(super) async fn new(
        cluster: Cluster,
        kind: Workload,
        object: &str,
    ) -> Result<Self, Failure> {
        let mut resource = resource(kind);
        if kind == Workload::CronJob && !cluster.has(&resource).await? {
            resource = known("batch", "v1beta1", kind.kind(), kind.plural());
        }
        Ok(Self { cluster, kind, object: object.into(), resource })
    }

    pub(super) async fn get(&self) -> Result<Value, Failure> {
        self.cluster.must_get(&self.resource, &self.object).await
    }

    /// Replicas that are wanted now.
    pub(super) fn replicas(&self, seen: &Value) -> u32 {
        match self.kind {
            Workload::CronJob => {
                let suspended = seen.pointer("/spec/suspend").and_then(Value::as_bool);
                if suspended == Some(true) { 0 } else { RUNS }
            }
            _ => u32::try_from(number(seen, "/spec/replicas").unwrap_or(1)).unwrap_or(0),
        }
    }

    /// Its pods, those that ended left out.
    async fn pods(&self, seen: &Value) -> Result<Vec<Value>, Failure> {
        let (namespace, name) = split(&self.object);
        let pods = known("", "v1", "Pod", "pods");
        if self.kind == Workload::CronJob {
            return self.pods_of_jobs(&pods, namespace, name).await;
        }
        let labels = selector(seen);
        if labels.is_empty() {
            return Err(Failure::terminal(
                "RF1120",
                format!("{} {} has no selector", self.kind.kind(), self.object),
            ));
        }
        let all = self.cluster.list(&pods, Some(namespace), &labels).await?;
        Ok(all.into_iter().filter(rollout::is_alive).collect())
    }

    async fn pods_of_jobs(
        &self,
        pods: &ApiResource,
        namespace: &str,
        name: &str,
    ) -> Result<Vec<Value>, Failure> {
        let jobs = known("batch", "v1", "Job", "jobs");
        let jobs = self.cluster.list(&jobs, Some(namespace), "").await?;
        let ours = jobs.iter().filter(|job| is_owned_by(job, "CronJob", name));
        let mut found = Vec::new();
        for job in ours {
            let named = text(job, "/metadata/name").unwrap_or_default();
            let labels = format!("job-name={named}");
            let pods = self.cluster.list(pods, Some(namespace), &labels).await?;
            let alive = found.len();
            found.extend(pods.into_iter().filter(rollout::is_alive));
            // Between two tries it has none, and begins the next one by itself.
            if found.len() == alive && !is_over(job) {
                found.push(job.clone());
            }
        }
        Ok(found)
    }

    async fn stop(&self) -> Result<(), Failure> {
        let seen = self.get().await?;
        let replicas = self.replicas(&seen);
        if replicas == 0 {
            return Ok(());
        }
        let spec = match self.kind {
            Workload::CronJob => json!({ "suspend": true }),
            _ => json!({ "replicas": 0 }),
        };
        // Whoever finds it without us reads here what it had; and so does a later run.
        let note = json!({ format!("{ANNOTATION}/replicas"): replicas.to_string() });
        let change = json!({ "metadata": { "annotations": note }, "spec": spec });
        self.cluster.merge(&self.resource, &self.object, &change).await
    }

    /// Starts it, with pods that know what was written since: the key marks them.
    async fn start(&self, replicas: u32, key: &str) -> Result<(), Failure> {
        let spec = match self.kind {
            Workload::CronJob => json!({ "suspend": false }),
            _ => json!({
                "replicas": replicas,
                "template": { "metadata": { "annotations": {
                    format!("{ANNOTATION}/restarted"): key } } },
            }),
        };
        let note = json!({ format!("{ANNOTATION}/replicas"): null });
        let change = json!({ "metadata": { "annotations": note }, "spec": spec });
        self.cluster.merge(&self.resource, &self.object, &change).await
    }

    /// Takes our note away.
    async fn forget(&self) -> Result<(), Failure> {
        let note = format!("{ANNOTATION}/replicas");
        let change = json!({ "metadata": { "annotations": { note: null } } });
        self.cluster.merge(&self.resource, &self.object, &change).await
    }

    async fn is_stopped(&self) -> Result<Found, Failure> {
        let seen = self.get().await?;
        if self.replicas(&seen) > 0 {
            return Ok(Found::Absent);
        }
        let pods = self.pods(&seen).await?;
        let now = SystemClock::new().now();
        if let Some(stays) = pods.iter().find_map(|pod| stays(pod, now)) {
            return Ok(Found::Broken(stays));
        }
        Ok(match pods.len() {
            0 => Found::Done,
            left => Found::Running { progress: format!("{left} pods or jobs are left") },
        })
    }

    /// Waits a while: whoever undoes wants to see it gone.
    async fn wait_until_stopped(&self) -> Result<(), Failure> {
        let mut waited = Duration::ZERO;
        loop {
            let found = self.is_stopped().await?;
            let text = match found {
                Found::Done => return Ok(()),
                Found::Running { progress } => progress,
                Found::Broken(what) => return Err(Failure::terminal("RF1123", what)),
                // Somebody started it again in this very moment.
                other => format!("{other:?}"),
            };
            if waited >= UNDO_WAIT_MAX {
                let what = format!("{} {}: {text}", self.kind.kind(), self.object);
                return Err(Failure::retry("RF1123", what));
            }
            tokio::time::sleep(UNDO_POLL).await;
            waited += UNDO_POLL;
        }
    }

    async fn is_started(&self, key: &str) -> Result<Found, Failure> {
        let seen = self.get().await?;
        if self.kind == Workload::CronJob {
            return Ok(if self.replicas(&seen) > 0 { Found::Done } else { Found::Absent });
        }
        let mark = format!("/spec/template/metadata/annotations/{}", marked("restarted"));
        if self.replicas(&seen) == 0 || text(&seen, &mark) != Some(key) {
            return Ok(Found::Absent);
        }
        let rollout = match self.kind {
            Workload::StatefulSet => rollout::stateful_set(&seen),
            _ => rollout::deployment(&seen),
        };
        Ok(match rollout {
            Rollout::Done => Found::Done,
            Rollout::Failed(what) => Found::Broken(what),
            Rollout::Going(progress) => {
                let pods = self.pods(&seen).await?;
                match pods.iter().find_map(rollout::stuck) {
                    Some(what) => Found::Broken(what),
                    None => Found::Running { progress },
                }
            }
        })
    }
}

/// Whether a job will start no further pod.
fn is_over(job: &Value) -> bool {
    let conditions = job.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| {
        matches!(text(condition, "/type"), Some("Complete" | "Failed"))
            && text(condition, "/status") == Some("True")
    })
}

/// An annotation's name in a JSON pointer.
fn marked(name: &str) -> String {
    format!("{ANNOTATION}~1{name}")
}

/// The selector of a workload in the form of a query.
fn selector(seen: &Value) -> String {
    let labels = seen.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    let equal = labels
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some(format!("{name}={}", value.as_str()?)));
    let expressions = seen.pointer("/spec/selector/matchExpressions").and_then(Value::as_array);
    let others = expressions.into_iter().flatten().filter_map(expression);
    equal.chain(others).collect::<Vec<_>>().join(",")
}

fn expression(value: &Value) -> Option<String> {
    let key = text(value, "/key")?;
    let values = value.pointer("/values").and_then(Value::as_array);
    let values: Vec<&str> = values.into_iter().flatten().filter_map(Value::as_str).collect();
    Some(match text(value, "/operator")? {
        "In" => format!("{key} in ({})", values.join(",")),
        "NotIn" => format!("{key} notin ({})", values.join(",")),
        "Exists" => key.to_owned(),
        "DoesNotExist" => format!("!{key}"),
        _ => return None,
    })
}

pub(super) fn is_owned_by(object: &Value, kind: &str, name: &str) -> bool {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners
        .into_iter()
        .flatten()
        .any(|owner| text(owner, "/kind") == Some(kind) && text(owner, "/name") == Some(name))
}

pub(super) fn is_owned_by_kind(object: &Value, kind: &str) -> bool {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.into_iter().flatten().any(|owner| text(owner, "/kind") == Some(kind))
}

/// A pod that should have ended by now.
fn stays(pod: &Value, now: Timestamp) -> Option<String> {
    // The time at which its grace period is over.
    let until: Timestamp = text(pod, "/metadata/deletionTimestamp")?.parse().ok()?;
    if now.as_second() < until.as_second() + GRACE_MARGIN_S {
        return None;
    }
    Some(format!(
        "pod {} on node {} does not end, though its grace period was over at {until}: its node may \
         be gone. Make sure that it does not run any more, then `kubectl delete pod --force \
         --grace-period=0`",
        text(pod, "/metadata/name").unwrap_or_default(),
        text(pod, "/spec/nodeName").unwrap_or("?"),
    ))
}

async fn target(clusters: &Clusters, context: &StepContext) -> Result<Target, Failure> {
    let cluster = clusters.of(context).await?;
    let kind = context.parameter("workload")?;
    let kind = Workload::parse(kind)
        .ok_or_else(|| Failure::terminal("RF1001", format!("a workload '{kind}'")))?;
    Target::new(cluster, kind, context.parameter("object")?).await
}

fn starts(context: &StepContext) -> bool {
    matches!(context.step.kind, StepKind::StartWriter | StepKind::ActivateSite)
}

fn object(context: &StepContext) -> String {
    let table = context.parameters.get("context").map_or("", String::as_str);
    let kind = context.parameters.get("workload").map_or("", String::as_str);
    let name = context.parameters.get("object").map_or("", String::as_str);
    format!("writer {table} {kind} {name}")
}

/// What it had when it was stopped with our mark on it.
fn noted(seen: &Value) -> Option<u32> {
    let note = text(seen, &format!("/metadata/annotations/{}", marked("replicas")))?;
    note.parse().ok().filter(|count| *count > 0)
}

/// Replicas to start with: those it had, else those it had before a run that left it stopped, else
/// what the service says.
fn wanted(context: &StepContext, seen: &Value) -> Result<u32, Failure> {
    let original = context.originals.get(&object(context)).and_then(|text| text.parse().ok());
    let declared = context.parameters.get("replicas").and_then(|text| text.parse().ok());
    let had = original.filter(|count| *count > 0).or_else(|| noted(seen));
    had.or(declared).ok_or_else(|| {
        Failure::terminal(
            "RF1123",
            format!("{} had no replicas: it is not known how many it needs", object(context)),
        )
        .hint("say it in the configuration: writers = [{ …, replicas = 2 }]")
    })
}

#[async_trait]
impl Effect for Workloads {
    async fn original(&self, context: &StepContext) -> Result<Option<(String, String)>, Failure> {
        let target = target(&self.clusters, context).await?;
        let seen = target.get().await?;
        let had = match (target.replicas(&seen), noted(&seen)) {
            (0, Some(noted)) => noted,
            (replicas, _) => replicas,
        };
        Ok(Some((object(context), had.to_string())))
    }

    async fn precheck(&self, context: &StepContext) -> Result<(), Failure> {
        let target = target(&self.clusters, context).await?;
        let seen = target.get().await?;
        if seen.pointer("/spec/paused").and_then(Value::as_bool) == Some(true) {
            return Err(Failure::terminal(
                "RF1123",
                format!("{} {} is paused: no pod is replaced", target.kind.kind(), target.object),
            )
            .hint("kubectl rollout resume"));
        }
        if starts(context) { wanted(context, &seen).map(drop) } else { Ok(()) }
    }

    async fn probe(&self, context: &StepContext) -> Found {
        let look = async {
            let target = target(&self.clusters, context).await?;
            match starts(context) {
                true => target.is_started(&context.key).await,
                false => target.is_stopped().await,
            }
        };
        look.await.unwrap_or_else(Found::from)
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        let target = target(&self.clusters, context).await?;
        match starts(context) {
            true => {
                let seen = target.get().await?;
                target.start(wanted(context, &seen)?, &context.key).await
            }
            false => target.stop().await,
        }
    }

    /// One that was stopped has its replicas again; one that was started is stopped.
    async fn undo(&self, context: &StepContext) -> Result<String, Failure> {
        let target = target(&self.clusters, context).await?;
        let had = context.originals.get(&object(context));
        let had = had.and_then(|text| text.parse::<u32>().ok());
        match (starts(context), had) {
            (_, None) => Ok("it was never touched".into()),
            (false, Some(0)) => Ok("it did not run before: left so".into()),
            (false, Some(had)) => {
                target.start(had, &context.key).await?;
                Ok(format!("it has {had} replicas again"))
            }
            (true, Some(1..)) if context.step.kind == StepKind::ActivateSite => {
                Ok("it ran before: left so".into())
            }
            (true, Some(had)) => {
                target.stop().await?;
                target.wait_until_stopped().await?;
                if had == 0 {
                    // It had none before: nothing of ours stays on it.
                    target.forget().await?;
                }
                Ok("it is stopped".into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_between_two_tries_is_not_over() {
        let job = |conditions: Value| json!({ "status": { "conditions": conditions } });
        assert!(!is_over(&json!({})) && !is_over(&job(json!([]))));
        assert!(!is_over(&job(json!([{ "type": "Suspended", "status": "True" }]))));
        assert!(!is_over(&job(json!([{ "type": "Failed", "status": "False" }]))));
        for kind in ["Complete", "Failed"] {
            assert!(is_over(&job(json!([{ "type": kind, "status": "True" }]))), "{kind}");
        }
    }

    #[test]
    fn a_selector_becomes_a_query() {
        let seen = json!({ "spec": { "selector": {
            "matchLabels": { "app": "odoo" },
            "matchExpressions": [
                { "key": "tier", "operator": "In", "values": ["a", "b"] },
                { "key": "old", "operator": "DoesNotExist" },
            ],
        } } });
        assert_eq!(selector(&seen), "app=odoo,tier in (a,b),!old");
        assert_eq!(selector(&json!({})), "");
    }

    #[test]
    fn a_pod_behind_its_grace_period_is_named() {
        let pod = |until: &str| json!({ "metadata": { "name": "p", "deletionTimestamp": until } });
        let now = "2026-06-01T00:00:40Z".parse().unwrap();
        assert!(stays(&pod("2026-06-01T00:00:00Z"), now).unwrap().contains("pod p"));
        assert_eq!(stays(&pod("2026-06-01T00:00:20Z"), now), None);
        assert_eq!(stays(&json!({ "metadata": { "name": "p" } }), now), None);
    }
}
