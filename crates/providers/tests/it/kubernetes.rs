//! Kubernetes: the conformance suite on a real API server, and what it refuses.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use providers::{KubernetesAccess, OwnProgram, Providers};
use recovery::effect::{Effects, Found, StepContext};
use recovery::inventory::{KubernetesFact, KubernetesFacts, Probe};
use recovery::journal::FailureClass;
use recovery::plan::Mode;
use recovery::service::{
    Database, Door, Form, Network, Service, Setting, SettingPlace, Workload, Writer,
};
use recovery::testing::{conformance, sample};
use serde_json::{Value, json};
use testbed::{Kubernetes, poll};

use crate::conformance::{Known, context_of};

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn access(kubernetes: &Kubernetes, user: &str) -> BTreeMap<String, KubernetesAccess> {
    let access = KubernetesAccess {
        context: "test".into(),
        kubeconfig: Some(kubernetes.kubeconfig(user).display().to_string()),
        uid: None,
    };
    BTreeMap::from([("prod".to_owned(), access)])
}

pub(crate) fn providers(access: BTreeMap<String, KubernetesAccess>) -> Providers {
    let own = OwnProgram { program: "/does/not/exist".into(), config: "/does/not/exist".into() };
    Providers::new(own, Arc::new(Known), BTreeMap::new(), access).unwrap()
}

fn uid(kubernetes: &Kubernetes) -> String {
    let seen = kubernetes.get("/api/v1/namespaces/kube-system");
    seen["metadata"]["uid"].as_str().unwrap().to_owned()
}

pub(crate) fn facts(kubernetes: &Kubernetes) -> KubernetesFacts {
    let fact = KubernetesFact { uid: uid(kubernetes), context: "test".into() };
    let clusters = BTreeMap::from([("prod".to_owned(), fact)]);
    KubernetesFacts { clusters, ..KubernetesFacts::default() }
}

fn context(service: &Service, facts: &KubernetesFacts, id: &str) -> StepContext {
    let inventory =
        recovery::inventory::Inventory { kubernetes: facts.clone(), ..sample::inventory() };
    let plan = sample::plan(service, Mode::Incident, &inventory).unwrap();
    context_of(&plan, id)
}

pub(crate) async fn undoable(
    providers: &Providers,
    service: &Service,
    facts: &KubernetesFacts,
    id: &str,
) {
    let mut context = context(service, facts, id);
    let effect = providers.of(&context.step).unwrap_or_else(|| panic!("nothing performs {id}"));
    let outcome = conformance::undoable(effect, &mut context).await;
    outcome.unwrap_or_else(|why| panic!("{id}: {why}"));
}

pub(crate) fn workload(kind: &str, name: &str, replicas: u32) -> Value {
    let template = forever();
    let mut spec = json!({
        "replicas": replicas,
        "selector": { "matchLabels": { "app": name } },
        "template": { "metadata": { "labels": { "app": name } }, "spec": template },
    });
    if kind == "StatefulSet" {
        spec["serviceName"] = json!(name);
    }
    json!({ "apiVersion": "apps/v1", "kind": kind,
            "metadata": { "name": name, "namespace": "default" }, "spec": spec })
}

fn forever() -> Value {
    json!({ "terminationGracePeriodSeconds": 1, "containers": [
        { "name": "app", "image": "app", "command": ["tail", "-f", "/dev/null"] } ] })
}

pub(crate) fn writer(kind: Workload, name: &str) -> Writer {
    let object = format!("default/{name}");
    Writer::Kubernetes { context: "prod".into(), kind, object, replicas: None }
}

pub(crate) fn setting(
    kind: &'static str,
    object: &str,
    key: &str,
    inside: Option<&str>,
) -> Setting {
    Setting {
        place: SettingPlace::Kubernetes {
            context: "prod".into(),
            kind,
            object: object.into(),
            key: key.into(),
            inside: inside.map(str::to_owned),
        },
        form: Form::Uri,
        fields: BTreeMap::new(),
    }
}

pub(crate) fn with(writer: Writer) -> Service {
    Service { writers: vec![writer], ..sample::shop() }
}

#[tokio::test(flavor = "multi_thread")]
async fn workloads_are_stopped_and_come_back_with_the_replicas_they_had() {
    let kubernetes = Kubernetes::start();
    let providers = providers(access(&kubernetes, "admin"));
    let facts = facts(&kubernetes);
    kubernetes.apply(&workload("Deployment", "api", 2));
    kubernetes.wait_for_rollout("default", "api");
    let service = with(writer(Workload::Deployment, "api"));
    undoable(&providers, &service, &facts, "shut.writer.default/api").await;
    kubernetes.wait_for_rollout("default", "api");
    assert_eq!(kubernetes.running("default", "api").len(), 2);

    // Started by a step: pods that know the key, as many as there were.
    let mut context = context(&service, &facts, "start.writer.default/api");
    context.originals.insert("writer prod deployment default/api".into(), "2".into());
    kubernetes.patch(
        "/apis/apps/v1/namespaces/default/deployments/api",
        &json!({ "spec": { "replicas": 0 } }),
    );
    poll(DEADLINE, "no pod", || kubernetes.running("default", "api").is_empty());
    let effect = providers.of(&context.step).unwrap();
    conformance::undoable(effect, &mut context).await.unwrap();
    assert!(kubernetes.running("default", "api").is_empty(), "undone: it is stopped");

    kubernetes.apply(&workload("StatefulSet", "queue", 1));
    poll(DEADLINE, "the pod", || kubernetes.running("default", "queue").len() == 1);
    let service = with(writer(Workload::StatefulSet, "queue"));
    undoable(&providers, &service, &facts, "shut.writer.default/queue").await;

    let job = json!({ "spec": { "template": { "spec": {
        "restartPolicy": "Never", "containers": forever()["containers"] } } } });
    let cron = json!({ "apiVersion": "batch/v1beta1", "kind": "CronJob",
        "metadata": { "name": "nightly", "namespace": "default" },
        "spec": { "schedule": "0 3 * * *", "jobTemplate": job } });
    kubernetes.create("/apis/batch/v1beta1/namespaces/default/cronjobs", &cron);
    let service = with(writer(Workload::CronJob, "nightly"));
    undoable(&providers, &service, &facts, "shut.writer.default/nightly").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_crashes_a_pod_that_never_dies_and_no_replicas_are_told() {
    let kubernetes = Kubernetes::start();
    let providers = providers(access(&kubernetes, "admin"));
    let facts = facts(&kubernetes);
    let mut crashes = workload("Deployment", "crashes", 0);
    crashes["spec"]["minReadySeconds"] = json!(5);
    crashes["spec"]["template"]["metadata"]["annotations"] =
        json!({ "rollforward.test/crashes": "true" });
    kubernetes.apply(&crashes);
    let service = with(writer(Workload::Deployment, "crashes"));
    let mut started = context(&service, &facts, "start.writer.default/crashes");
    let effect = providers.of(&started.step).unwrap();
    let failure = effect.precheck(&started).await.unwrap_err();
    assert!(failure.message.contains("had no replicas"), "{}", failure.message);
    started.parameters.insert("replicas".into(), "1".into());
    effect.precheck(&started).await.unwrap();
    effect.act(&started).await.unwrap();
    let broken = ended(effect, &started).await;
    assert!(broken.contains("CrashLoopBackOff"), "{broken}");

    // One that does not come up in time.
    let mut late = workload("Deployment", "late", 0);
    late["spec"]["progressDeadlineSeconds"] = json!(2);
    late["spec"]["template"]["metadata"]["annotations"] =
        json!({ "rollforward.test/never-ready": "true" });
    kubernetes.apply(&late);
    let service = with(writer(Workload::Deployment, "late"));
    let mut started = context(&service, &facts, "start.writer.default/late");
    started.parameters.insert("replicas".into(), "1".into());
    effect.act(&started).await.unwrap();
    let broken = ended(effect, &started).await;
    assert!(broken.contains("ProgressDeadlineExceeded"), "{broken}");

    let mut stays = workload("Deployment", "stays", 1);
    stays["spec"]["template"]["metadata"]["annotations"] =
        json!({ "rollforward.test/never-dies": "true" });
    kubernetes.apply(&stays);
    kubernetes.wait_for_rollout("default", "stays");
    let service = with(writer(Workload::Deployment, "stays"));
    let stopped = context(&service, &facts, "shut.writer.default/stays");
    effect.act(&stopped).await.unwrap();
    let found = effect.probe(&stopped).await;
    assert!(matches!(found, Found::Running { .. }), "{found:?}");
    let broken = ended(effect, &stopped).await;
    assert!(broken.contains("does not end") && broken.contains("--force"), "{broken}");
}

/// What a step says that never gets there.
async fn ended(effect: &dyn recovery::effect::Effect, context: &StepContext) -> String {
    loop {
        match effect.probe(context).await {
            Found::Running { .. } => tokio::task::yield_now().await,
            Found::Broken(what) => return what,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_in_every_place_are_switched_and_come_back_byte_for_byte() {
    let kubernetes = Kubernetes::start();
    let providers = providers(access(&kubernetes, "admin"));
    let facts = facts(&kubernetes);
    let uri = "postgres://u:p%40@db1:5432/shop?a=b";
    let ado = "Host=db1;Port=5432;Database=shop;Username=u;Password=p;";
    let json =
        format!("{{\n  \"ConnectionStrings\": {{ \"Default\": \"{ado}\" }},\n  \"x\": 1\n}}\n");
    let env = format!("A=1\nDB=\"{uri}\"\n# end\n");
    kubernetes.apply(&json!({ "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "settings", "namespace": "default" },
        "data": { "uri": uri, "ado": ado, "libpq": "host=db1 port=5432 dbname=shop",
                  "appsettings.json": json, ".env": env, "other": "stays" } }));
    kubernetes.apply(&json!({ "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": "db", "namespace": "default" },
        "stringData": { "DATABASE_URL": uri, "db.json": "{\"host\": \"db1\", \"port\": 5432}" } }));
    let map = "/api/v1/namespaces/default/configmaps/settings";
    let secret = "/api/v1/namespaces/default/secrets/db";
    let before = (kubernetes.get(map)["data"].clone(), kubernetes.get(secret)["data"].clone());
    let cases = [
        ("configmap", "default/settings", "uri", None, Form::Uri),
        ("configmap", "default/settings", "ado", None, Form::Ado),
        ("configmap", "default/settings", "libpq", None, Form::Libpq),
        (
            "configmap",
            "default/settings",
            "appsettings.json",
            Some("ConnectionStrings:Default"),
            Form::Ado,
        ),
        ("configmap", "default/settings", ".env", Some("DB"), Form::Uri),
        ("secret", "default/db", "DATABASE_URL", None, Form::Uri),
        ("secret", "default/db", "db.json", None, Form::Json),
    ];
    for (kind, object, key, inside, form) in cases {
        let mut setting = setting(kind, object, key, inside);
        setting.form = form;
        if form == Form::Json {
            let fields = [("host", "host"), ("port", "port")];
            setting.fields = fields.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        }
        let service = Service { setting: Some(setting), ..sample::shop() };
        undoable(&providers, &service, &facts, "switch.setting").await;
        let after = (kubernetes.get(map)["data"].clone(), kubernetes.get(secret)["data"].clone());
        assert_eq!(after, before, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_of_manifests_and_a_job_keep_the_contract() {
    let kubernetes = Kubernetes::start();
    let providers = providers(access(&kubernetes, "admin"));
    let mut facts = facts(&kubernetes);
    a_door_of_manifests(&kubernetes, &providers, &mut facts).await;
    a_job(&providers, &mut facts).await;
}

async fn a_door_of_manifests(
    kubernetes: &Kubernetes,
    providers: &Providers,
    facts: &mut KubernetesFacts,
) {
    let map = |on: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: door, namespace: default}}\n\
             data: {{maintenance: \"{on}\"}}\n"
        )
    };
    let folder = tempfile::tempdir().unwrap();
    for (name, on) in [("shut.yaml", "true"), ("open.yaml", "false")] {
        fs::write(folder.path().join(name), map(on)).unwrap();
    }
    let path = |name: &str| folder.path().join(name).display().to_string();
    let door = Door::Kubernetes {
        context: "prod".into(),
        shut: path("shut.yaml"),
        open: path("open.yaml"),
    };
    kubernetes.kubectl("admin").args(["apply", "-f"]).arg(path("open.yaml")).status().unwrap();
    let service = Service { door: Some(door), ..sample::shop() };
    let asked = providers::KubernetesAsked {
        writers: Vec::new(),
        settings: Vec::new(),
        doors: service.door.iter().collect(),
        probes: BTreeMap::new(),
    };
    let looked = providers::look_at_kubernetes(&access(kubernetes, "admin"), &asked).await;
    assert_eq!(looked.problems, Vec::<String>::new());
    facts.manifests = looked.facts.manifests;
    undoable(providers, &service, facts, "shut.door").await;
    let seen = kubernetes.get("/api/v1/namespaces/default/configmaps/door");
    assert_eq!(seen["data"]["maintenance"], "false");
}

async fn a_job(providers: &Providers, facts: &mut KubernetesFacts) {
    facts.probes = BTreeMap::from([(
        "prod".to_owned(),
        Probe {
            namespace: "default".into(),
            image: "postgres:16".into(),
            command: ["sh", "-c", "test {host}:{port} = 127.0.0.1:6543"].map(str::to_owned).into(),
        },
    )]);
    let mut service = with(writer(Workload::Deployment, "api"));
    if let Database::Cluster(place) = &mut service.database {
        let (address, clients) = ("127.0.0.1".to_owned(), vec!["127.0.0.0/8".to_owned()]);
        place.network = Some(Box::new(Network {
            listen: address.clone(),
            address,
            clients,
            databases: Vec::new(),
        }));
    }
    undoable(providers, &service, facts, "switch.reach.prod").await;
    let mut other = context(&service, facts, "switch.reach.prod");
    other.facts.insert("port".into(), "1".into());
    other.key = "another".into();
    let effect = providers.of(&other.step).unwrap();
    effect.act(&other).await.unwrap();
    while matches!(effect.probe(&other).await, Found::Running { .. }) {}
    let failure = effect.verify(&other).await.unwrap_err();
    assert!(failure.message.contains("exit code 1"), "{}", failure.message);
    assert_eq!(failure.class, FailureClass::Terminal);
}

/// A workload, and an immutable ConfigMap.
fn immutable(kubernetes: &Kubernetes) -> Service {
    kubernetes.apply(&workload("Deployment", "api", 1));
    kubernetes.apply(&json!({ "apiVersion": "v1", "kind": "ConfigMap", "immutable": true,
        "metadata": { "name": "fixed", "namespace": "default" },
        "data": { "uri": "postgres://u@db1:5432/shop" } }));
    let fixed = setting("configmap", "default/fixed", "uri", None);
    Service { setting: Some(fixed), ..with(writer(Workload::Deployment, "api")) }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_and_what_cannot_be_changed_are_told_beforehand() {
    let kubernetes = Kubernetes::start();
    let service = immutable(&kubernetes);
    let asked = || providers::KubernetesAsked {
        writers: service.writers.iter().collect(),
        settings: service.setting.iter().collect(),
        doors: Vec::new(),
        probes: BTreeMap::new(),
    };

    // Without rights, with exactly those that are printed, and with everything.
    let look = |user: &'static str| {
        let access = access(&kubernetes, user);
        let asked = asked();
        async move { providers::look_at_kubernetes(&access, &asked).await }
    };
    let looked = look("recovery").await;
    assert!(looked.problems.iter().any(|it| it.contains("403")), "{:?}", looked.problems);
    let needs =
        providers::needs(&service.writers, service.setting.iter(), Vec::new(), &BTreeMap::new());
    let manifest = kubernetes.folder().join("rbac.yaml");
    fs::write(&manifest, providers::rbac_manifest(&needs, "recovery")).unwrap();
    let applied =
        kubernetes.kubectl("admin").args(["apply", "-f"]).arg(&manifest).output().unwrap();
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let looked = look("recovery").await;
    assert!(
        matches!(looked.problems.as_slice(), [only] if only.contains("immutable")),
        "{:?}",
        looked.problems
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_told_and_changes_nothing() {
    let kubernetes = Kubernetes::start();
    let service = immutable(&kubernetes);
    let mut facts = facts(&kubernetes);
    // The immutable object stays what it is.
    let providers_of = |user: &str| providers(access(&kubernetes, user));
    let switched = context(&service, &facts, "switch.setting");
    let admin = providers_of("admin");
    let effect = admin.of(&switched.step).unwrap();
    let failure = effect.act(&switched).await.unwrap_err();
    assert!(failure.message.contains("immutable"), "{}", failure.message);

    // A stranger is refused by the API server itself; nothing changes.
    let stranger = providers_of("stranger");
    let stopped = context(&service, &facts, "shut.writer.default/api");
    let effect = stranger.of(&stopped.step).unwrap();
    let failure = effect.act(&stopped).await.unwrap_err();
    assert!(failure.message.contains("403"), "{}", failure.message);
    assert!(failure.hint.contains("rbac"), "{}", failure.hint);
    assert_eq!(failure.class, FailureClass::Terminal);

    // A wrong token.
    let bad = kubernetes.folder().join("bad.kubeconfig");
    let text = fs::read_to_string(kubernetes.kubeconfig("admin")).unwrap();
    fs::write(&bad, text.replace(&kubernetes.token("admin"), "wrong")).unwrap();
    let mut wrong = access(&kubernetes, "admin");
    wrong.get_mut("prod").unwrap().kubeconfig = Some(bad.display().to_string());
    let refused = providers(wrong);
    let failure = refused.of(&stopped.step).unwrap().act(&stopped).await.unwrap_err();
    assert!(failure.message.contains("401"), "{}", failure.message);

    // Another cluster under the same name.
    facts.clusters.get_mut("prod").unwrap().uid = "another".into();
    let elsewhere = context(&service, &facts, "shut.writer.default/api");
    let failure = admin.of(&elsewhere.step).unwrap().act(&elsewhere).await.unwrap_err();
    assert_eq!(failure.code, "RF1103");
    let seen = kubernetes.get("/apis/apps/v1/namespaces/default/deployments/api");
    assert_eq!(seen["spec"]["replicas"], 1);

    // An API server that takes requests and never answers.
    kubernetes.pause();
    let found = admin.of(&stopped.step).unwrap().probe(&stopped).await;
    kubernetes.resume();
    assert!(matches!(&found, Found::Unknown(why) if why.contains("no answer")), "{found:?}");
    assert_eq!(admin.of(&stopped.step).unwrap().probe(&stopped).await, Found::Absent);
}
