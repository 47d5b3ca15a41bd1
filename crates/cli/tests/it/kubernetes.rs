//! Whole runs over other workloads, doors and managers in Kubernetes.

use std::path::Path;
use std::process::Command;
use std::{fs, thread};

use serde_json::{Value, json};
use testbed::{Kubernetes, poll};

use crate::program::text;
use crate::services::verdict;
use crate::site::DEADLINE;
use crate::transformations::{DEPLOYMENT, Engine, Place};

const SQL: &str = "SELECT id, name FROM transformation_scripts ORDER BY id";

/// Declares a door of manifests: one object that both have, and one that only a shut door has.
fn with_a_door() -> Engine {
    let engine = Engine::with(Place::File, |text| {
        let folder = text.split("directory = \"").nth(1).unwrap().split('"').next().unwrap();
        let door = format!(
            "door = {{ kubernetes = \"prod\", shut = \"{folder}/shut.yaml\", \
             open = \"{folder}/open.yaml\" }}\n"
        );
        text + &door
    });
    let map = |name: &str, maintenance: &str| {
        json!({ "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": name, "namespace": "engine" },
            "data": { "maintenance": maintenance } })
    };
    let page = map("page", "we are back soon");
    let shut = format!("{}\n---\n{page}\n", map("door", "true"));
    engine.site.folder.file("shut.yaml", shut);
    engine.site.folder.file("open.yaml", map("door", "false").to_string());
    engine.kubernetes.apply(&map("door", "false"));
    engine
}

#[test]
fn the_printed_rights_suffice_for_a_door_of_manifests_and_one_less_is_told_beforehand() {
    let engine = with_a_door();
    let (site, kubernetes) = (&engine.site, &engine.kubernetes);
    engine.act_as("recovery");
    for missing in ["create", "get", "patch"] {
        let left: Vec<String> = ["create", "get", "patch"]
            .into_iter()
            .filter(|verb| *verb != missing)
            .map(|verb| format!("\"{verb}\""))
            .collect();
        engine.grant(&[], |manifest| {
            let all = "resourceNames: [\"door\"]\n    verbs: [\"create\", \"get\", \"patch\"]";
            assert_eq!(manifest.matches(all).count(), 1, "{manifest}");
            assert!(!manifest.contains("guess"), "{manifest}");
            let less = format!("resourceNames: [\"door\"]\n    verbs: [{}]", left.join(", "));
            manifest.replace(all, &less)
        });
        let says = format!("not allowed in kubernetes.prod: {missing} configmaps engine/door");
        for command in ["plan engine --latest", "check engine"] {
            poll(DEADLINE, &says, || {
                let ran = site.run(command);
                // Only the one right is missing, once the API server knows.
                ran.status.code() != Some(0)
                    && ran.stdout.contains(&says)
                    && ran.stdout.matches("not allowed in").count() == 1
            });
        }
        site.run("plan engine --latest").failed("RF0912", 4);
    }
    engine.grant(&[], |manifest| manifest);
    poll(DEADLINE, "the rights", || site.run("plan engine --latest").status.success());
    let (before, rows) = (engine.before(), engine.destroy());
    let report = engine.recover("--confirm-any").done();
    engine.assert_restored(&report, &rows, &before);
    let seen = |name: &str| kubernetes.get(&format!("/api/v1/namespaces/engine/configmaps/{name}"));
    assert_eq!(seen("door")["data"]["maintenance"], "false");
    assert_eq!(seen("page")["data"]["maintenance"], "we are back soon", "it was made");

    // Where the API server does not answer, what is printed says that it is a guess.
    let nowhere = site.folder.join("nowhere");
    let recovery = fs::read_to_string(kubernetes.kubeconfig("recovery")).unwrap();
    fs::write(&nowhere, recovery.replace(&kubernetes.url(), "https://127.0.0.1:1")).unwrap();
    let known = kubernetes.kubeconfig("recovery").display().to_string();
    site.edit_config(&known, &nowhere.display().to_string());
    let printed = site.run("kubernetes rbac engine").done();
    let manifest = text(&printed, "manifest");
    assert_eq!(manifest.matches("# A guess from kind ConfigMap").count(), 2, "{manifest}");
    assert!(manifest.contains("resources: [\"configmaps\"]\n    resourceNames: [\"page\"]"));
}

/// Makes a kind of a manager known, and an object of it that says nothing but `spec`.
fn install(kubernetes: &Kubernetes, kind: [&str; 4], object: &str, spec: &Value) -> String {
    let [group, version, kind, plural] = kind;
    let (namespace, name) = object.split_once('/').unwrap();
    kubernetes.apply(&json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.{group}") },
        "spec": { "group": group, "scope": "Namespaced",
            "names": { "plural": plural, "singular": kind.to_lowercase(), "kind": kind,
                       "listKind": format!("{kind}List") },
            "versions": [{ "name": version, "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object",
                    "x-kubernetes-preserve-unknown-fields": true } } }] } }));
    let made = json!({ "apiVersion": format!("{group}/{version}"), "kind": kind,
        "metadata": { "name": name, "namespace": namespace }, "spec": spec });
    let list = format!("/apis/{group}/{version}/namespaces/{namespace}/{plural}");
    poll(DEADLINE, "the kind", || {
        kubernetes.call("admin", "POST", &list, Some(("application/json", &made))).0 == 201
    });
    format!("{list}/{name}")
}

/// Managers of production's objects, and of the drill's: by their paths.
fn managers(engine: &Engine) -> [[String; 2]; 2] {
    const KUSTOMIZATION: [&str; 4] =
        ["kustomize.toolkit.fluxcd.io", "v1", "Kustomization", "kustomizations"];
    const RELEASE: [&str; 4] = ["helm.toolkit.fluxcd.io", "v2", "HelmRelease", "helmreleases"];
    const APPLICATION: [&str; 4] = ["argoproj.io", "v1alpha1", "Application", "applications"];
    let kubernetes = &engine.kubernetes;
    let automated = json!({ "syncPolicy": { "automated": { "selfHeal": true } } });
    let interval = json!({ "interval": "1m" });
    let production = [
        install(kubernetes, KUSTOMIZATION, "engine/apps", &interval),
        install(kubernetes, APPLICATION, "engine/settings", &automated),
    ];
    let drills = [
        install(kubernetes, RELEASE, "engine-drill/apps", &interval),
        install(kubernetes, APPLICATION, "engine-drill/settings", &automated),
    ];
    [production, drills]
}

/// Flux's mark on the workload, and Argo CD's on the setting, of a namespace.
fn are_managed(engine: &Engine, namespace: &str, flux: &str) {
    let at = |path: &str| path.replace("/engine/", &format!("/{namespace}/"));
    let labels = json!({ "metadata": { "labels": { format!("{flux}/name"): "apps",
        format!("{flux}/namespace"): namespace } } });
    engine.kubernetes.patch(&at(DEPLOYMENT), &labels);
    let id = format!("{namespace}_settings:/ConfigMap:{namespace}/settings");
    let tracked =
        json!({ "metadata": { "annotations": { "argocd.argoproj.io/tracking-id": id } } });
    let settings = "/api/v1/namespaces/engine/configmaps/settings";
    engine.kubernetes.patch(&at(settings), &tracked);
}

#[test]
fn a_drill_lets_only_those_wait_that_manage_its_own_objects() {
    let engine = Engine::open(Place::File);
    let (site, kubernetes) = (&engine.site, &engine.kubernetes);
    engine.declare_drill();
    let [production, drills] = managers(&engine);
    are_managed(&engine, "engine", "kustomize.toolkit.fluxcd.io");
    site.archive();
    // The user has no right to tell production's managers anything.
    engine.act_as("recovery");
    engine.grant(&[], |manifest| manifest);
    poll(DEADLINE, "the rights", || site.run("plan engine --mode drill").status.success());
    let seen = |paths: &[String; 2]| {
        paths.clone().map(|path| {
            let it = kubernetes.get(&path);
            (it["spec"].clone(), it["metadata"]["resourceVersion"].clone())
        })
    };
    let pauses = || {
        let plan = site.run("plan engine --mode drill").done();
        let steps = plan["plan"]["steps"].as_array().unwrap();
        let ids = steps.iter().map(|step| text(step, "id"));
        ids.filter(|id| id.contains(".pause.")).collect::<Vec<_>>()
    };
    let before = (seen(&production), seen(&drills));
    assert_eq!(pauses(), Vec::<String>::new());
    let report = site.run("drill engine --as oncall").done();
    assert_eq!(verdict(&report), ("restored".into(), "old".into()), "{report}");
    assert_eq!((seen(&production), seen(&drills)), before, "nobody was told anything");

    // Its own objects are managed as well: those managers wait, and go on as they did.
    are_managed(&engine, "engine-drill", "helm.toolkit.fluxcd.io");
    let words = [
        "--manager",
        "flux-helmrelease=engine-drill/apps",
        "--manager",
        "argocd=engine-drill/settings",
    ];
    engine.grant(&words, |manifest| manifest);
    poll(DEADLINE, "the rights", || site.run("plan engine --mode drill").status.success());
    assert_eq!(pauses(), ["stage.pause.engine-drill/apps", "stage.pause.engine-drill/settings"]);
    let report = site.run("drill engine --as oncall").done();
    assert_eq!(verdict(&report), ("restored".into(), "old".into()), "{report}");
    assert_eq!(seen(&production), before.0, "production's managers were told nothing");
    let after = seen(&drills);
    for (after, before) in after.iter().zip(&before.1) {
        assert_eq!(after.0, before.0, "it goes on as it did");
        assert_ne!(after.1, before.1, "it waited");
    }
}

const SET: &str = "/apis/apps/v1/namespaces/engine/statefulsets/api";
const NIGHTLY: &str = "/apis/batch/v1beta1/namespaces/engine/cronjobs/nightly";

/// The application as a `StatefulSet`, and a nightly job of which one runs.
fn as_a_stateful_set(engine: &Engine) {
    let kubernetes = &engine.kubernetes;
    kubernetes.delete(DEPLOYMENT);
    poll(DEADLINE, "the deployment to go", || engine.pods("engine").is_empty());
    let mut set = engine.deployment("engine", 2, SQL);
    set["kind"] = json!("StatefulSet");
    set["spec"]["serviceName"] = json!("api");
    kubernetes.apply(&set);
    poll(DEADLINE, "the stateful set", || kubernetes.get(SET)["status"]["readyReplicas"] == 2);
    let forever = json!({ "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
        "containers": [{ "name": "job", "image": "job", "command": ["tail", "-f", "/dev/null"] }] });
    let cron = json!({ "apiVersion": "batch/v1beta1", "kind": "CronJob",
        "metadata": { "name": "nightly", "namespace": "engine" },
        "spec": { "schedule": "0 3 1 1 *", "jobTemplate": { "spec": {
            "template": { "spec": forever } } } } });
    let made = kubernetes.create(NIGHTLY.trim_end_matches("/nightly"), &cron);
    // As its controller makes it.
    let job = json!({ "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": "nightly-1", "namespace": "engine", "ownerReferences": [{
            "apiVersion": "batch/v1beta1", "kind": "CronJob", "name": "nightly",
            "uid": made["metadata"]["uid"], "controller": true }] },
        "spec": { "template": { "spec": forever } } });
    kubernetes.create("/apis/batch/v1/namespaces/engine/jobs", &job);
    poll(DEADLINE, "the job's pod", || kubernetes.running("engine", "nightly-1").len() == 1);
    let deployment = "deployment = \"engine/api\" }";
    let both = "statefulset = \"engine/api\" }, \
                { kubernetes = \"prod\", cronjob = \"engine/nightly\" }";
    engine.site.edit_config(deployment, both);
}

/// What a server says first to somebody at a pod's address who wants that database: `R` asks for a
/// password, `E` refuses.
fn first_word(folder: &Path, database: &str) -> String {
    const ASK: &str = "import socket, struct, sys\n\
        port, database = sys.argv[1:]\n\
        server = socket.create_connection(('127.0.0.2', int(port)), 5, ('127.10.200.1', 0))\n\
        words = f'user\\0engine\\0database\\0{database}\\0\\0'.encode()\n\
        server.sendall(struct.pack('!II', len(words) + 8, 196608) + words)\n\
        print(server.recv(1).decode())";
    let file = fs::read_to_string(folder.join("postmaster.pid")).unwrap();
    let port = file.lines().nth(3).unwrap();
    let output = Command::new("python3").args(["-c", ASK, port, database]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn a_stateful_set_and_a_cron_job_are_stopped_and_go_on_in_a_whole_run() {
    let engine = Engine::open(Place::Variable);
    let (site, kubernetes) = (&engine.site, &engine.kubernetes);
    as_a_stateful_set(&engine);
    engine.act_as("recovery");
    engine.grant(&[], |manifest| manifest);
    poll(DEADLINE, "the rights", || site.run("plan engine --latest").status.success());
    poll(DEADLINE, "the engine's rows", || engine.rows().is_some());
    let pids = || {
        let running = kubernetes.running("engine", "api").into_iter();
        running.map(|it| it.pid).collect::<Vec<_>>()
    };
    let (before, old, rows) = (engine.before(), pids(), engine.destroy());
    let mut command =
        site.command("recover engine --before-incident --as oncall --confirm-any --no-wait");
    command.env("ROLLFORWARD_FAULT", "Before act:switch.setting");
    thread::scope(|scope| {
        // The job that runs is waited for: somebody ends it when no other begins.
        scope.spawn(|| {
            poll(DEADLINE, "the cron job to be suspended", || {
                kubernetes.get(NIGHTLY)["spec"]["suspend"] == true
            });
            assert!(site.cluster.is_running(), "the old server is not stopped before");
            kubernetes.delete(
                "/apis/batch/v1/namespaces/engine/jobs/nightly-1?propagationPolicy=Background",
            );
        });
        let died = command.output().unwrap();
        assert_eq!(died.status.code(), None, "{died:?}");
    });
    assert_eq!(kubernetes.get(NIGHTLY)["spec"]["suspend"], true);
    assert_eq!(kubernetes.get(SET)["spec"]["replicas"], 0);
    assert!(kubernetes.running("engine", "").is_empty());
    // Not yet adopted, the restored cluster lets applications into their own database only.
    let made = engine.made();
    assert_eq!(["engine", "postgres"].map(|it| first_word(&made[0], it)), ["R", "E"]);
    let run = text(&site.run("runs").done(), "runs.0.run");
    let report = site.run(&format!("run resume {run} --as oncall --no-wait")).done();
    assert_eq!(verdict(&report), ("restored".into(), "new".into()), "{report}");
    assert_eq!(engine.rows(), Some(rows));
    assert_eq!(engine.data("engine"), before.with_port(&text(&report, "facts.port")));
    let set = kubernetes.get(SET);
    assert_eq!((&set["spec"]["replicas"], &set["status"]["readyReplicas"]), (&json!(2), &json!(2)));
    assert_eq!(set.pointer("/metadata/annotations/rollforward.dev~1replicas"), None);
    assert_eq!(kubernetes.get(NIGHTLY)["spec"]["suspend"], false);
    let new = pids();
    assert!(new.len() == 2 && old.iter().all(|pid| !new.contains(pid)), "{old:?} {new:?}");
}
