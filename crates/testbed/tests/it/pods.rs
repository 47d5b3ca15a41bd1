//! Kubernetes' node: pods as processes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::{Kubernetes, Running, poll, poll_for};

const DEADLINE: Duration = Duration::from_secs(60);
const SHOP: &str = "/apis/apps/v1/namespaces/default/deployments/shop";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// Writes what it was given to a page, and serves it at the pod's address.
const SERVE: &str = "echo \"$HOST $(cat $FILES/mode) $PASSWORD\" > index.html && \
    exec python3 -u -m http.server --bind $(IP) 8080";

fn map(host: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shop"},
        "data": {"HOST": host, "mode": format!("mode-of-{host}")},
    })
}

fn shop(kubernetes: &Kubernetes) -> Value {
    let files = kubernetes.folder().join("mounted");
    let address = json!({"fieldRef": {"fieldPath": "status.podIP"}});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop"},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": "shop"}},
            "template": {
                "metadata": {"labels": {"app": "shop"}},
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    "volumes": [{"name": "files", "configMap": {"name": "shop"}}],
                    "containers": [{
                        "name": "shop", "image": "shop:1", "command": ["sh", "-c"],
                        "args": [SERVE],
                        "env": [
                            {"name": "IP", "valueFrom": address},
                            {"name": "FILES", "value": files},
                            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {
                                "name": "shop", "key": "password"}}},
                        ],
                        "envFrom": [{"configMapRef": {"name": "shop"}}],
                        "ports": [{"name": "http", "containerPort": 8080}],
                        "volumeMounts": [{"name": "files", "mountPath": files}],
                        "readinessProbe": {"httpGet": {"path": "/index.html", "port": "http"}},
                    }],
                },
            },
        },
    })
}

fn secret() -> Value {
    let data = json!({"password": "swordfish"});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shop"}, "stringData": data})
}

/// What each pod's server says, and what the pods are.
fn pages(kubernetes: &Kubernetes) -> Vec<String> {
    let pods = kubernetes.get(&format!("{PODS}?labelSelector=app%3Dshop"));
    let address = |pod: &Value| pod["status"]["podIP"].as_str().unwrap().to_owned();
    pods["items"].as_array().unwrap().iter().map(|pod| page(&address(pod)).unwrap()).collect()
}

fn page(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((address, 8080))?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split("\r\n\r\n").nth(1).unwrap_or_default().trim_end().to_owned())
}

fn exists(running: &Running) -> bool {
    std::path::Path::new(&format!("/proc/{}", running.pid)).exists()
}

fn kubectl(kubernetes: &Kubernetes, arguments: &[&str]) -> String {
    let output = kubernetes.kubectl("admin").args(arguments).output().unwrap();
    assert!(output.status.success(), "kubectl {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A pod that runs `script`, with these annotations.
fn pod(name: &str, script: &str, annotations: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "it", "image": "none", "command": ["sh", "-c", script]}],
        },
    })
}

fn status(kubernetes: &Kubernetes, name: &str, pointer: &str) -> Value {
    let pod = kubernetes.get(&format!("{PODS}/{name}"));
    pod["status"].pointer(pointer).cloned().unwrap_or_default()
}

fn wait_for(kubernetes: &Kubernetes, name: &str, pointer: &str, expected: &Value) {
    let what = format!("{name}: {pointer} = {expected}");
    poll(DEADLINE, &what, || status(kubernetes, name, pointer) == *expected);
}

#[test]
fn a_deployment_is_served_scaled_and_gets_new_values_by_a_restart_only() {
    let kubernetes = Kubernetes::start();
    // Without its values the pods wait.
    kubernetes.apply(&shop(&kubernetes));
    let reason = "/items/0/status/containerStatuses/0/state/waiting/reason";
    poll(DEADLINE, "the missing values to show", || {
        let pods = kubernetes.get(PODS);
        pods.pointer(reason).is_some_and(|reason| reason == "CreateContainerConfigError")
    });
    kubernetes.apply(&map("a"));
    kubernetes.apply(&secret());
    kubernetes.wait_for_rollout("default", "shop");
    assert_eq!(pages(&kubernetes), ["a mode-of-a swordfish", "a mode-of-a swordfish"]);

    kubernetes.apply(&map("b"));
    assert_eq!(pages(&kubernetes), ["a mode-of-a swordfish", "a mode-of-a swordfish"]);
    kubectl(&kubernetes, &["rollout", "restart", "deployment/shop"]);
    kubectl(&kubernetes, &["rollout", "status", "deployment/shop", "--timeout=60s"]);
    kubernetes.wait_for_rollout("default", "shop");
    poll(DEADLINE, "the old pods to go", || {
        kubernetes.get(PODS)["items"].as_array().unwrap().len() == 2
    });
    assert_eq!(pages(&kubernetes), ["b mode-of-b swordfish", "b mode-of-b swordfish"]);

    let before = kubernetes.running("default", "shop-");
    assert_eq!(before.iter().filter(|running| exists(running)).count(), 2);
    kubectl(&kubernetes, &["scale", "deployment/shop", "--replicas=0"]);
    poll(DEADLINE, "no pod to be left", || {
        kubernetes.get(PODS)["items"].as_array().unwrap().is_empty()
    });
    assert!(!before.iter().any(exists));
    let scale = kubernetes.get(&format!("{SHOP}/scale"));
    assert_eq!(scale["status"]["replicas"], 0);
}

#[test]
fn a_jobs_end_shows() {
    let kubernetes = Kubernetes::start();
    let job = |name: &str, script: &str| {
        let template = pod(name, script, &json!({}))["spec"].clone();
        let mut template = json!({"spec": template});
        template["spec"]["restartPolicy"] = "Never".into();
        kubernetes.apply(&json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
            "spec": {"backoffLimit": 0, "template": template},
        }));
    };
    job("good", "echo migrated");
    job("bad", "echo cannot migrate >&2; exit 3");
    let ended = |name: &str, condition: &str| {
        kubectl(
            &kubernetes,
            &["wait", &format!("job/{name}"), &format!("--for=condition={condition}")],
        );
        let pods = kubernetes.get(&format!("{PODS}?labelSelector=job-name%3D{name}"));
        pods["items"][0]["status"]["containerStatuses"][0]["state"]["terminated"].clone()
    };
    let good = ended("good", "complete");
    assert_eq!((&good["exitCode"], &good["message"]), (&json!(0), &json!("migrated\n")));
    let bad = ended("bad", "failed");
    assert_eq!((&bad["exitCode"], &bad["message"]), (&json!(3), &json!("cannot migrate\n")));
}

#[test]
fn a_pod_that_ends_starts_again_ever_later() {
    let kubernetes = Kubernetes::start();
    kubernetes.apply(&pod("crash", "echo broken; exit 7", &json!({})));
    let container = |pointer: &str| format!("/containerStatuses/0{pointer}");
    let reason = container("/state/waiting/reason");
    wait_for(&kubernetes, "crash", &reason, &"CrashLoopBackOff".into());
    let last = container("/lastState/terminated");
    assert_eq!(status(&kubernetes, "crash", &format!("{last}/exitCode")), 7);
    assert_eq!(status(&kubernetes, "crash", &format!("{last}/message")), "broken\n");
    let restarts = container("/restartCount");
    poll_for(DEADLINE, "three restarts", || {
        status(&kubernetes, "crash", &restarts).as_u64().filter(|count| *count >= 3)
    });
    // What is killed from outside starts again as well.
    kubernetes.apply(&pod("killed", "exec sleep 600", &json!({})));
    let ready = container("/ready");
    wait_for(&kubernetes, "killed", &ready, &true.into());
    let first = kubernetes.running("default", "killed").remove(0);
    let pid = rustix::process::Pid::from_raw(first.pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    wait_for(&kubernetes, "killed", &restarts, &1.into());
    wait_for(&kubernetes, "killed", &ready, &true.into());
    assert_eq!(status(&kubernetes, "killed", &format!("{last}/exitCode")), 128 + 9);
}

#[test]
fn pods_make_trouble_when_told_so() {
    let kubernetes = Kubernetes::start();
    let trouble = |kind: &str| json!({format!("rollforward.test/{kind}"): "true"});
    let sleep = "exec sleep 600";
    kubernetes.apply(&pod("crashing", sleep, &trouble("crashes")));
    kubernetes.apply(&pod("unready", sleep, &trouble("never-ready")));
    kubernetes.apply(&pod("undying", sleep, &trouble("never-dies")));
    // This one only ignores the order to end, and goes when its grace period is over.
    let stubborn = "trap '' TERM; while true; do sleep 600; done";
    kubernetes.apply(&pod("stubborn", stubborn, &json!({})));
    let reason = "/containerStatuses/0/state/waiting/reason";
    wait_for(&kubernetes, "crashing", reason, &"CrashLoopBackOff".into());
    for name in ["unready", "undying", "stubborn"] {
        wait_for(&kubernetes, name, "/phase", &"Running".into());
    }
    wait_for(&kubernetes, "undying", "/containerStatuses/0/ready", &true.into());
    assert_eq!(status(&kubernetes, "unready", "/containerStatuses/0/ready"), false);

    let processes: Vec<Running> = ["undying", "stubborn"]
        .iter()
        .flat_map(|name| kubernetes.running("default", name))
        .collect();
    assert_eq!(processes.len(), 2);
    for name in ["undying", "stubborn"] {
        kubernetes.delete(&format!("{PODS}/{name}"));
    }
    poll(DEADLINE, "the stubborn pod to go", || {
        kubernetes.find(&format!("{PODS}/stubborn")).is_none()
    });
    assert!(!exists(&processes[1]));
    assert!(exists(&processes[0]), "it had the same time");
    // Deleted by force, only its object goes; this is how two writers come to be.
    let options = json!({"gracePeriodSeconds": 0});
    let content = Some(("application/json", &options));
    kubernetes.call("admin", "DELETE", &format!("{PODS}/undying"), content);
    assert_eq!(kubernetes.find(&format!("{PODS}/undying")), None);
    kubernetes.apply(&pod("later", "exit 0", &json!({})));
    wait_for(&kubernetes, "later", "/containerStatuses/0/restartCount", &1.into());
    assert!(exists(&processes[0]));
    drop(kubernetes);
    assert!(!exists(&processes[0]), "nothing is left in the end");
}
