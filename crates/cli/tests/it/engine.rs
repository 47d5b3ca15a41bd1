//! A service whose applications run in Kubernetes, recovered on real components.

use std::fs;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::poll;
use testbed::postgres::Cluster;

use crate::program::{Ran, text};
use crate::services::verdict;
use crate::site::{DEADLINE, files};
use crate::transformations::{DEPLOYMENT, Engine, PASSWORD, Place, SCRIPTS, TRANSFORMATIONS};

/// Names the number of replicas that a stopped workload had.
const NOTE: &str = "/metadata/annotations/rollforward.dev~1replicas";

fn ids(plan: &Value) -> Vec<String> {
    plan["plan"]["steps"].as_array().unwrap().iter().map(|step| text(step, "id")).collect()
}

#[test]
fn an_application_in_kubernetes_comes_back_by_one_command() {
    let engine = Engine::open(Place::File);
    let site = &engine.site;
    let (before, rows) = (engine.before(), engine.destroy());
    let plan = site.run("plan engine --before-incident").done();
    assert!(plan["plan"]["warnings"].to_string().contains("there is no door"), "{plan}");
    let code = text(&plan, "confirm");
    let report = engine.recover(&format!("--confirm {code}")).done();
    engine.assert_restored(&report, &rows, &before);
    assert!(report["rpo_reached_ms"].as_i64().unwrap() >= 0, "{report}");
    assert!(report["rto_ms"].as_i64().unwrap() > 0, "{report}");
    assert_eq!(report["missed"], json!([]));
    no_password_is_seen(&engine, &text(&report, "run"));
    // Adopted, it takes sessions where its applications were told to, also when it starts anew.
    let (directory, port) = (text(&report, "facts.directory"), text(&report, "facts.port"));
    let mut adopted =
        Cluster::attach(site.cluster.install(), directory.as_ref(), port.parse().unwrap());
    adopted.restart();
    assert_eq!(adopted.psql("SHOW listen_addresses"), "127.0.0.1,127.0.0.2");
    poll(DEADLINE, "the engine on the adopted cluster", || engine.rows().as_ref() == Some(&rows));
    site.run("backup shop").done();
    site.verify_clean();
}

/// The setting holds it, and nothing that is written or said does.
fn no_password_is_seen(engine: &Engine, run: &str) {
    assert!(engine.data("engine").to_string().contains(PASSWORD));
    let site = &engine.site;
    for words in ["run show", "report"] {
        let said = site.run(&format!("{words} {run}"));
        assert!(!(said.stdout + &said.stderr).contains(PASSWORD), "{words}");
    }
    let written: Vec<_> =
        ["state", "main"].iter().flat_map(|name| files(&site.folder.join(name))).collect();
    assert!(written.iter().any(|path| path.ends_with(format!("{run}.md"))), "{written:?}");
    for path in written {
        let bytes = fs::read(&path).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(PASSWORD), "{}", path.display());
    }
}

/// A release that needs a column which the restored database will not have.
fn release_that_needs_a_migration(engine: &Engine) {
    let run = |sql: &str| engine.site.cluster.psql_in("engine", sql);
    run("ALTER TABLE transformation_scripts ADD COLUMN version int DEFAULT 1");
    run("INSERT INTO transformation_scripts VALUES (1001, 'after the damage')");
    let sql = "SELECT id, name, version FROM transformation_scripts ORDER BY id";
    engine.kubernetes.apply(&engine.deployment("engine", 2, sql));
    engine.kubernetes.wait_for_rollout("engine", "api");
    poll(DEADLINE, "the release", || engine.rows().is_some_and(|rows| rows.len() == 1));
}

fn failure(report: &Value) -> String {
    let steps = report["steps"].as_array().unwrap();
    let found = steps.iter().find_map(|step| step["failure"].as_str());
    found.unwrap_or_else(|| panic!("no failure: {report}")).to_owned()
}

#[test]
fn an_application_that_answers_5xx_on_the_restored_database_is_rolled_back_and_stays_shut() {
    let engine = Engine::open(Place::File);
    engine.destroy();
    release_that_needs_a_migration(&engine);
    let data = engine.data("engine");
    let report = engine.recover("--confirm-any").ended(6);
    assert_eq!(verdict(&report), ("rolled_back".into(), "shut".into()), "{report}");
    assert!(failure(&report).contains("expected status 200, seen 503"), "{report}");
    assert_eq!(engine.data("engine"), data, "the setting is the old one, byte for byte");
    let deployment = engine.kubernetes.get(DEPLOYMENT);
    assert_eq!(deployment["spec"]["replicas"], 0);
    assert_eq!(deployment.pointer(NOTE).unwrap(), "2", "whoever looks is told what it had");
    assert!(engine.pods("engine").is_empty() && engine.made().is_empty());
    assert!(!engine.site.cluster.is_running());
    assert_eq!(engine.get(TRANSFORMATIONS), None);
}

#[test]
fn a_policy_may_let_the_old_database_serve_again_behind_a_door_of_manifests() {
    let engine = Engine::with(Place::Variable, |text| {
        let folder = text.split("directory = \"").nth(1).unwrap().split('"').next().unwrap();
        let door = format!(
            "door = {{ kubernetes = \"prod\", shut = \"{folder}/shut.yaml\", open = \"{folder}/open.yaml\" }}\n\
             policy = {{ on_failure = \"reopen-old\" }}\n"
        );
        text + &door
    });
    for (name, maintenance) in [("shut.yaml", "true"), ("open.yaml", "false")] {
        let object = json!({ "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "door", "namespace": "engine" },
            "data": { "maintenance": maintenance } });
        engine.site.folder.file(name, object.to_string());
        // The last one stands: it is open.
        engine.kubernetes.apply(&object);
    }
    engine.destroy();
    release_that_needs_a_migration(&engine);
    let data = engine.data("engine");
    let mut served = None;
    // A pod of the release before may still answer, or none for a moment.
    poll(DEADLINE, "what the release serves", || {
        served = engine.rows();
        served.as_ref().is_some_and(|rows| rows.iter().all(|row| row.get("version").is_some()))
    });
    let report = engine.recover("--confirm-any").ended(6);
    assert_eq!(verdict(&report), ("rolled_back".into(), "old".into()), "{report}");
    assert!(failure(&report).contains("expected status 200, seen 503"), "{report}");
    assert_eq!(engine.data("engine"), data, "the setting is the old one, byte for byte");
    engine.kubernetes.wait_for_rollout("engine", "api");
    let deployment = engine.kubernetes.get(DEPLOYMENT);
    assert_eq!((&deployment["spec"]["replicas"], deployment.pointer(NOTE)), (&json!(2), None));
    poll(DEADLINE, "the engine on the old database", || engine.rows() == served);
    assert!(engine.site.cluster.is_running() && engine.made().is_empty());
    let door = engine.kubernetes.get("/api/v1/namespaces/engine/configmaps/door");
    assert_eq!(door["data"]["maintenance"], "false");
}

const KUSTOMIZATION: &str =
    "/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/engine/kustomizations/apps";

fn install_flux(engine: &Engine) {
    let kubernetes = &engine.kubernetes;
    kubernetes.apply(&json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "kustomizations.kustomize.toolkit.fluxcd.io" },
        "spec": { "group": "kustomize.toolkit.fluxcd.io", "scope": "Namespaced",
            "names": { "plural": "kustomizations", "singular": "kustomization",
                       "kind": "Kustomization", "listKind": "KustomizationList" },
            "versions": [{ "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object",
                    "x-kubernetes-preserve-unknown-fields": true } } }] } }));
    let apps = json!({ "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
        "metadata": { "name": "apps", "namespace": "engine" }, "spec": { "interval": "1m" } });
    let list = KUSTOMIZATION.trim_end_matches("/apps");
    poll(DEADLINE, "the kind", || {
        kubernetes.call("admin", "POST", list, Some(("application/json", &apps))).0 == 201
    });
}

/// What Flux does with a source: it applies it again and again, unless it is told to wait.
fn reconcile(engine: &Engine, source: &Mutex<Vec<Value>>) {
    let waits = engine.kubernetes.get(KUSTOMIZATION)["spec"]["suspend"] == true;
    if waits {
        return;
    }
    for mut object in source.lock().unwrap().clone() {
        object["metadata"]["labels"] = json!({
            "kustomize.toolkit.fluxcd.io/name": "apps",
            "kustomize.toolkit.fluxcd.io/namespace": "engine" });
        engine.kubernetes.apply(&object);
    }
}

#[test]
fn flux_waits_meanwhile_and_goes_on_when_its_source_names_the_new_database() {
    const PERIOD: Duration = Duration::from_millis(100);
    let engine = Engine::open(Place::File);
    install_flux(&engine);
    let settings = engine.settings("engine", engine.site.cluster.port());
    let sql = "SELECT id, name FROM transformation_scripts ORDER BY id";
    let source = Mutex::new(vec![settings.clone(), engine.deployment("engine", 2, sql)]);
    reconcile(&engine, &source);
    // The right to tell it to wait is asked for by name.
    engine.act_as("recovery");
    engine.grant(&[], |manifest| manifest);
    let manager = "--manager flux-kustomization=engine/apps";
    poll(DEADLINE, "the rights but one", || {
        engine.site.run("plan engine --latest").stdout.contains(manager)
    });
    engine.site.run("plan engine --latest").failed("RF0912", 4);
    engine.grant(&manager.split(' ').collect::<Vec<_>>(), |manifest| manifest);
    poll(DEADLINE, "the rights", || engine.site.run("plan engine --latest").status.success());
    let (before, rows) = (engine.before(), engine.destroy());
    let rounds = AtomicU32::new(0);
    let (stop, stopped) = channel::<()>();
    thread::scope(|scope| {
        // Gone with this scope, also when a check fails: then the other thread ends.
        let _stop = stop;
        let (engine, source, rounds) = (&engine, &source, &rounds);
        scope.spawn(move || {
            while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                reconcile(engine, source);
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        let ids = ids(&engine.site.run("plan engine --before-incident").done());
        let at = |id: &str| ids.iter().position(|it| it == id).unwrap_or_else(|| panic!("{ids:?}"));
        assert!(at("shut.pause.engine/apps") < at("shut.writer.engine/api"));
        assert!(at("protect.confirm.engine/apps") < at("protect.resume.engine/apps"));
        let waiting = engine.recover("--confirm-any --no-wait").ended(5);
        assert_eq!(engine.kubernetes.get(KUSTOMIZATION)["spec"]["suspend"], true);
        assert_eq!(engine.rows().as_ref(), Some(&rows), "users are served already");
        // Somebody commits what stands there now, and says so.
        let mut committed = settings;
        committed["data"] = engine.data("engine");
        source.lock().unwrap()[0] = committed;
        let run = text(&waiting, "run");
        engine.site.run(&format!("run approve {run} --as oncall")).done();
        let resume = format!("run resume {run} --as oncall --no-wait");
        let report = engine.site.run(&resume).done();
        let seen = rounds.load(Ordering::Relaxed);
        poll(DEADLINE, "two rounds of Flux", || rounds.load(Ordering::Relaxed) > seen + 2);
        assert_eq!(engine.kubernetes.get(KUSTOMIZATION)["spec"].get("suspend"), None);
        engine.assert_restored(&report, &rows, &before);
    });
}

#[test]
fn drivers_that_die_around_every_step_and_an_api_server_that_stands_still() {
    let engine = Engine::open(Place::Variable);
    let site = &engine.site;
    let (before, rows) = (engine.before(), engine.destroy());
    let steps = [
        "shut.writer.engine/api",
        "switch.network.shop",
        "switch.reach.prod",
        "switch.setting",
        "start.writer.engine/api",
    ];
    let points =
        steps.iter().flat_map(|step| [format!("Before act:{step}"), format!("After act:{step}")]);
    let mut command =
        site.command("recover engine --before-incident --as oncall --confirm-any --no-wait");
    let mut run = String::new();
    for point in points {
        let ran = Ran::of(command.env("ROLLFORWARD_FAULT", &point));
        assert_eq!(ran.status.code(), None, "{point}: it did not die: {ran:?}");
        run = text(&site.run("runs").done(), "runs.0.run");
        command = site.command(&format!("run resume {run} --as oncall --no-wait"));
    }
    // The next one finds an API server that takes requests and does not answer them.
    engine.kubernetes.pause();
    command.env_remove("ROLLFORWARD_FAULT");
    let driver = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    poll(DEADLINE, "a try without an answer", || {
        site.run(&format!("run show {run}")).stdout.contains("no answer of the API server")
    });
    engine.kubernetes.resume();
    let ran = Ran::from_output("run resume".into(), &driver.wait_with_output().unwrap());
    engine.assert_restored(&ran.done(), &rows, &before);
}

#[test]
fn what_would_fail_at_night_is_refused_beforehand_and_the_printed_rights_suffice() {
    let engine = Engine::open(Place::Variable);
    let (site, kubernetes) = (&engine.site, &engine.kubernetes);
    let refused = |words: &[&str]| {
        let message = site.run("plan engine --latest").failed("RF0912", 4);
        for word in words {
            assert!(message.contains(word), "expected {word:?}: {message}");
        }
    };
    kubernetes.patch(DEPLOYMENT, &json!({ "spec": { "replicas": 0 } }));
    refused(&["has 0 replicas", "add replicas = N"]);
    kubernetes.patch(DEPLOYMENT, &json!({ "spec": { "replicas": 2, "paused": true } }));
    refused(&["is paused"]);
    kubernetes.patch(DEPLOYMENT, &json!({ "spec": { "paused": false } }));
    let uid = text(&kubernetes.get("/api/v1/namespaces/kube-system"), "metadata.uid");
    site.edit_config(&uid, "another");
    refused(&["expected the cluster whose kube-system has UID another", &uid]);
    site.edit_config("uid = \"another\"", &format!("uid = \"{uid}\""));
    site.edit_config("form = \"ado\"", "form = \"uri\"");
    refused(&["expected a URI"]);
    site.edit_config("form = \"uri\"", "form = \"ado\"");

    // Nobody has given it any right; then a few are missing.
    engine.act_as("recovery");
    refused(&["403", "rollforward kubernetes rbac"]);
    site.run("recover engine --latest --as oncall --confirm-any").failed("RF0912", 4);
    engine.grant(&[], |manifest| manifest.replace("\"patch\"", "\"watch\""));
    poll(DEADLINE, "the rights", || {
        !site.run("plan engine --latest").stdout.contains("403 Forbidden")
    });
    refused(&[
        "patch deployments.apps engine/api",
        "patch configmaps engine/settings",
        "rollforward kubernetes rbac",
    ]);
    engine.grant(&[], |manifest| {
        assert!(!manifest.contains('*'), "{manifest}");
        manifest
    });
    poll(DEADLINE, "the rights", || site.run("plan engine --latest").status.success());
    kubernetes.wait_for_rollout("engine", "api");
    let secrets = "/api/v1/namespaces/engine/secrets";
    assert_eq!(kubernetes.call("recovery", "GET", secrets, None).0, 403);
    let (before, rows) = (engine.before(), engine.destroy());
    let report = engine.recover("--confirm-any").done();
    engine.assert_restored(&report, &rows, &before);
}

#[test]
fn a_drill_in_another_namespace_leaves_production_and_itself_as_they_were() {
    let engine = Engine::open(Place::File);
    let (site, kubernetes) = (&engine.site, &engine.kubernetes);
    engine.declare_drill();
    engine.act_as("recovery");
    engine.grant(&[], |manifest| manifest);
    poll(DEADLINE, "the rights", || site.run("plan engine --mode drill").status.success());
    site.cluster
        .psql_in("engine", "INSERT INTO transformation_scripts VALUES (1000, 'the newest')");
    site.archive();
    let drill = DEPLOYMENT.replace("/engine/", "/engine-drill/");
    let seen = || {
        let specs =
            [DEPLOYMENT, &drill].map(|path| kubernetes.get(path)["spec"]["replicas"].clone());
        (engine.data("engine"), engine.data("engine-drill"), engine.pods("engine"), specs)
    };
    let (before, template) = (seen(), kubernetes.get(DEPLOYMENT)["spec"].clone());
    let report = site.run("drill engine --as oncall").done();
    assert_eq!(verdict(&report), ("restored".into(), "old".into()), "{report}");
    let steps = report["steps"].as_array().unwrap();
    for id in ["switch.network.shop", "switch.reach.prod", "start.smoke.1"] {
        let step = steps.iter().find(|step| step["id"] == id);
        assert!(step.is_some_and(|step| step["ended"].is_string()), "{id}: {report}");
    }
    assert!(report["rpo_reached_ms"].as_i64().is_some(), "{report}");
    assert_eq!(seen(), before);
    assert_eq!(kubernetes.get(DEPLOYMENT)["spec"], template, "nothing of production is changed");
    assert_eq!(engine.rows().unwrap().len(), SCRIPTS + 1);
    assert!(site.cluster.is_running() && engine.made().is_empty());
    assert_eq!(kubernetes.get(&drill).pointer(NOTE), None);
    assert!(engine.pods("engine-drill").is_empty());
    poll(DEADLINE, "the job to go", || {
        kubernetes.get("/apis/batch/v1/namespaces/engine/jobs")["items"] == json!([])
    });
    // One that names production's own workload is refused.
    site.edit_config("deployment = \"engine-drill/api\"", "deployment = \"engine/api\"");
    assert!(site.run("drill engine").failed("RF0912", 4).contains("touch production"));
}
