//! Sessions of API servers, by the names of their tables.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::config::{ExecInteractiveMode, KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config};
use recovery::effect::{Failure, StepContext};
use serde_json::Value;
use tokio::sync::Mutex;

use super::FIELD_MANAGER;
use super::failure::{Request, failure, is_absent, is_login_refused, late, said};
use super::patience::{DEADLINE, PATIENCE, patient};

/// Longest wait for a kubeconfig's login program.
const LOGIN_DEADLINE: Duration = Duration::from_secs(30);

/// Longest wait for what a request comes to, with its repetitions.
const WHOLE: Duration = DEADLINE.saturating_add(PATIENCE);

/// Objects in one page of a listing.
const PAGE_LEN: u32 = 250;

/// How a cluster is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesAccess {
    /// The context of the kubeconfig.
    pub context: String,
    /// The kubeconfig; `None`: what kubectl would take.
    pub kubeconfig: Option<String>,
    /// The UID of namespace kube-system, as it was declared.
    pub uid: Option<String>,
}

/// Clusters by the names of their tables; a session is made when it is needed. Clones share them.
#[derive(Clone)]
pub(crate) struct Clusters {
    access: Arc<BTreeMap<String, KubernetesAccess>>,
    made: Arc<Mutex<BTreeMap<String, Cluster>>>,
}

impl Clusters {
    pub(crate) fn new(access: BTreeMap<String, KubernetesAccess>) -> Self {
        Self { access: Arc::new(access), made: Arc::default() }
    }

    /// The cluster that a step means: its identity is compared each time.
    pub(crate) async fn of(&self, context: &StepContext) -> Result<Cluster, Failure> {
        let table = context.parameter("context")?;
        let cluster = self.named(table).await?;
        let Some(expected) = context.step.identity.get("kubernetes") else { return Ok(cluster) };
        match cluster.must_be(expected).await {
            // Somebody may have renewed it since: a driver lives longer than a token.
            Err(failure) if is_login_refused(&failure) => {
                self.made.lock().await.remove(table);
                let anew = self.named(table).await?;
                anew.must_be(expected).await.map(|()| anew)
            }
            compared => compared.map(|()| cluster),
        }
    }

    /// The cluster of a table.
    pub(crate) async fn named(&self, table: &str) -> Result<Cluster, Failure> {
        let mut made = self.made.lock().await;
        if let Some(cluster) = made.get(table) {
            return Ok(cluster.clone());
        }
        let access = self.access.get(table).ok_or_else(|| {
            Failure::terminal("RF1122", format!("there is no table [kubernetes.{table}]"))
        })?;
        let cluster = Cluster { client: connect(table, access).await?, table: table.into() };
        made.insert(table.into(), cluster.clone());
        Ok(cluster)
    }
}

async fn connect(table: &str, access: &KubernetesAccess) -> Result<Client, Failure> {
    let refused = |error: String| {
        Failure::terminal("RF1122", format!("kubernetes.{table}: {error}"))
            .hint("does the kubeconfig have this context? `kubectl config get-contexts`")
    };
    let kubeconfig = match &access.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let options =
        KubeConfigOptions { context: Some(access.context.clone()), ..KubeConfigOptions::default() };
    let kubeconfig = kubeconfig.map_err(|error| refused(error.to_string()))?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| refused(error.to_string()))?;
    config.connect_timeout = Some(DEADLINE);
    // Ours repeats only what changed nothing: kube's own would repeat writes as well.
    config.default_retry = false;
    // Nobody sits before a run who could answer a login program.
    if let Some(program) = &mut config.auth_info.exec {
        program.interactive_mode = Some(ExecInteractiveMode::Never);
    }
    // It is run here, and may hang.
    let made = tokio::task::spawn_blocking(move || Client::try_from(config));
    let made = tokio::time::timeout(LOGIN_DEADLINE, made).await.map_err(|_| {
        let seconds = LOGIN_DEADLINE.as_secs();
        refused(format!("its login program gave no credential in {seconds} s"))
            .hint("log in beforehand: `kubectl get namespaces` must ask nothing")
    })?;
    let client = made.map_err(|error| refused(error.to_string()))?;
    client.map(patient).map_err(|error| refused(said(&error)))
}

/// One cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(super) client: Client,
    pub(super) table: String,
}

/// A kind of object that every cluster has.
pub(super) fn known(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// `namespace/name`.
pub(super) fn split(object: &str) -> (&str, &str) {
    object.split_once('/').unwrap_or(("default", object))
}

pub(super) async fn answered<T>(
    request: Request,
    what: &str,
    future: impl Future<Output = kube::Result<T>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(WHOLE, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(failure(&error, request, what)),
        Err(_) => Err(late(request, what, WHOLE.as_secs())),
    }
}

impl Cluster {
    pub(super) fn api(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
    ) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
            None => Api::all_with(self.client.clone(), resource),
        }
    }

    /// Whether the API server knows a kind in this version.
    pub(super) async fn has(&self, resource: &ApiResource) -> Result<bool, Failure> {
        let what = format!("kinds of {} ({})", resource.api_version, self.table);
        let listed = self.client.list_api_group_resources(&resource.api_version);
        match tokio::time::timeout(WHOLE, listed).await {
            Ok(Ok(listed)) => Ok(listed.resources.iter().any(|it| it.name == resource.plural)),
            Ok(Err(error)) if is_absent(&error) => Ok(false),
            Ok(Err(error)) => Err(failure(&error, Request::Read, &what)),
            Err(_) => Err(late(Request::Read, &what, WHOLE.as_secs())),
        }
    }

    /// The UID of namespace kube-system: what tells clusters apart.
    pub(super) async fn uid(&self) -> Result<String, Failure> {
        let api = self.api(&known("", "v1", "Namespace", "namespaces"), None);
        let what = format!("namespace kube-system ({})", self.table);
        let seen = answered(Request::Read, &what, api.get("kube-system")).await?;
        Ok(seen.metadata.uid.unwrap_or_default())
    }

    async fn must_be(&self, expected: &str) -> Result<(), Failure> {
        let seen = self.uid().await?;
        match seen == expected {
            true => Ok(()),
            false => Err(Failure::terminal(
                "RF1103",
                format!(
                    "kubernetes.{}: expected the cluster whose kube-system has UID {expected}, seen {seen}",
                    self.table
                ),
            )
            .hint("the context of the kubeconfig leads to another cluster now")),
        }
    }

    /// An object as JSON; `None` when there is none.
    pub(super) async fn get(
        &self,
        resource: &ApiResource,
        object: &str,
    ) -> Result<Option<Value>, Failure> {
        let (namespace, name) = split(object);
        let what = format!("{} {object} ({})", resource.kind, self.table);
        let api = self.api(resource, Some(namespace));
        let got = answered(Request::Read, &what, api.get_opt(name)).await?;
        Ok(got.map(|seen| serde_json::to_value(seen).unwrap_or_default()))
    }

    /// An object without a namespace; `None` when there is none.
    pub(super) async fn get_of_cluster(
        &self,
        resource: &ApiResource,
        name: &str,
    ) -> Result<Option<Value>, Failure> {
        let what = format!("{} {name} ({})", resource.kind, self.table);
        let api = self.api(resource, None);
        let got = answered(Request::Read, &what, api.get_opt(name)).await?;
        Ok(got.map(|seen| serde_json::to_value(seen).unwrap_or_default()))
    }

    /// An object that must be there.
    pub(super) async fn must_get(
        &self,
        resource: &ApiResource,
        object: &str,
    ) -> Result<Value, Failure> {
        self.get(resource, object).await?.ok_or_else(|| {
            Failure::terminal(
                "RF1120",
                format!("there is no {} {object} ({})", resource.kind, self.table),
            )
            .hint("is the name right, and the cluster the one that is meant?")
        })
    }

    /// All objects of a kind in a namespace, page by page; none where the kind is not known.
    pub(super) async fn list(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        labels: &str,
    ) -> Result<Vec<Value>, Failure> {
        let what = format!("{} ({})", resource.plural, self.table);
        let api = self.api(resource, namespace);
        let mut all = Vec::new();
        let mut page = ListParams::default().labels(labels).limit(PAGE_LEN);
        loop {
            let listed = match tokio::time::timeout(WHOLE, api.list(&page)).await {
                Ok(Ok(listed)) => listed,
                Ok(Err(error)) if is_absent(&error) => return Ok(all),
                Ok(Err(error)) => return Err(failure(&error, Request::Read, &what)),
                Err(_) => return Err(late(Request::Read, &what, WHOLE.as_secs())),
            };
            all.extend(listed.items.iter().filter_map(|it| serde_json::to_value(it).ok()));
            match listed.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(all),
            }
        }
    }

    /// Changes some fields of an object, and nothing else.
    pub(super) async fn merge(
        &self,
        resource: &ApiResource,
        object: &str,
        change: &Value,
    ) -> Result<(), Failure> {
        let (namespace, name) = split(object);
        let what = format!("change {} {object} ({})", resource.kind, self.table);
        let parameters =
            PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..<_>::default() };
        let patch = Patch::Merge(change);
        let api = self.api(resource, Some(namespace));
        answered(Request::Write, &what, api.patch(name, &parameters, &patch)).await.map(drop)
    }

    /// Server-side apply of what `owner` has in the object: fields that the same owner applied
    /// before and that are not in it any more go. With `dry_run` nothing is changed. What the
    /// object is then.
    pub(super) async fn apply(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        object: &Value,
        (owner, dry_run): (&str, bool),
    ) -> Result<Value, Failure> {
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let what = format!("apply {} {name} ({})", resource.kind, self.table);
        let mut parameters = PatchParams::apply(owner).force();
        if dry_run {
            parameters = parameters.dry_run();
        }
        let request = if dry_run { Request::Read } else { Request::Write };
        let api = self.api(resource, namespace);
        let patch = Patch::Apply(object);
        let applied = answered(request, &what, api.patch(name, &parameters, &patch)).await?;
        Ok(serde_json::to_value(applied).unwrap_or_default())
    }
}

/// A text inside of an object.
pub(super) fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer).and_then(Value::as_str)
}

/// A number inside of an object.
pub(super) fn number(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer).and_then(Value::as_i64)
}
