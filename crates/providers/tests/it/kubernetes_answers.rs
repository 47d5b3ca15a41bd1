//! Bad answers of an API server, on the wire in front of a real one: which are waited out, with
//! each change made once, and which end a step at once.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use providers::Providers;
use recovery::inventory::{KubernetesFacts, Probe};
use recovery::journal::{FailureClass, ServiceState, Verdict};
use recovery::plan::{Mode, Plan};
use recovery::runner::Ended;
use recovery::service::{Database, Network, Service, Workload};
use recovery::testing::sample;
use serde_json::{Value, json};
use testbed::ApiMishap::{Busy, Cut, Leaves, LostAnswer, Silence, Status};
use testbed::{ApiMishap, ApiRequest, ApiWire, Kubernetes};

use crate::driving::{Driven, driven};
use crate::kubernetes::{access, facts, providers, setting, with, workload, writer};

const SETTINGS: &str = "/api/v1/namespaces/default/configmaps/settings";
const API: &str = "/apis/apps/v1/namespaces/default/deployments/api";

/// The longest time a step may take that ends at once: the machine is shared.
const AT_ONCE: Duration = Duration::from_secs(10);

/// An API server behind a wire, and what steps of the product say through it.
struct Bench {
    // Ends first: what it forwards goes to the other.
    wire: Arc<ApiWire>,
    kubernetes: Arc<Kubernetes>,
    facts: KubernetesFacts,
    service: Service,
}

impl Bench {
    fn open() -> Self {
        let kubernetes = Arc::new(Kubernetes::start());
        let wire = Arc::new(kubernetes.wire());
        let mut facts = facts(&kubernetes);
        let command = ["sh", "-c", "test {host}:{port} = 127.0.0.1:6543"].map(str::to_owned);
        let probe = Probe {
            namespace: "default".into(),
            image: "postgres:16".into(),
            command: command.into(),
        };
        facts.probes = BTreeMap::from([("prod".to_owned(), probe)]);
        let mut service = Service {
            setting: Some(setting("configmap", "default/settings", "uri", None)),
            ..with(writer(Workload::Deployment, "api"))
        };
        if let Database::Cluster(place) = &mut service.database {
            let (address, clients) = ("127.0.0.1".to_owned(), vec!["127.0.0.0/8".to_owned()]);
            place.network = Some(Box::new(Network {
                listen: address.clone(),
                address,
                clients,
                databases: Vec::new(),
            }));
        }
        let bench = Self { wire, kubernetes, facts, service };
        bench.reset();
        bench.kubernetes.apply(&workload("Deployment", "api", 1));
        bench.kubernetes.wait_for_rollout("default", "api");
        bench
    }

    /// The setting as it was.
    fn reset(&self) {
        self.kubernetes.apply(&json!({ "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "settings", "namespace": "default" },
            "data": { "uri": "postgres://u:p%40@db1:5432/shop?a=b", "other": " stays\tas it is \n",
                      "more": "{ \"a\": 1.0e1 }" } }));
    }

    fn data(&self) -> Value {
        self.kubernetes.get(SETTINGS)["data"].clone()
    }

    fn plan(&self) -> Plan {
        let inventory = recovery::inventory::Inventory {
            kubernetes: self.facts.clone(),
            ..sample::inventory()
        };
        sample::plan(&self.service, Mode::Incident, &inventory).unwrap()
    }

    /// The product, with a session of its own through the wire.
    fn product(&self) -> Arc<Providers> {
        let mut access = access(&self.kubernetes, "admin");
        let kubeconfig = self.wire.kubeconfig("admin").display().to_string();
        access.get_mut("prod").unwrap().kubeconfig = Some(kubeconfig);
        Arc::new(providers(access))
    }

    async fn drive(&self, id: &str) -> Driven {
        driven(self.product(), self.plan(), id, || {}).await
    }

    /// The first requests that `is_meant` come to these ends, all others to their own.
    fn spoil(&self, is_meant: fn(&ApiRequest) -> bool, mishaps: Vec<ApiMishap>) {
        let mut mishaps = mishaps.into_iter();
        self.wire.spoil(move |request| match is_meant(request) {
            true => mishaps.next().unwrap_or(ApiMishap::None),
            false => ApiMishap::None,
        });
    }
}

fn is_change(request: &ApiRequest) -> bool {
    request.is_change()
}

fn is_read(request: &ApiRequest) -> bool {
    !request.is_change()
}

fn restored() -> Ended {
    Ended::Closed { verdict: Verdict::Restored, service: ServiceState::New }
}

fn codes(driven: &Driven) -> Vec<(&str, FailureClass)> {
    driven.failed.iter().map(|it| (it.code.as_str(), it.class)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_pass_are_waited_out_and_the_setting_is_written_once() {
    use FailureClass::{Ambiguous, Retry};
    let bench = Bench::open();
    let before = bench.data();
    let mut after = before.clone();
    after["uri"] = json!("postgres://u:p%40@127.0.0.1:6543/shop?a=b");
    type Case =
        (fn(&ApiRequest) -> bool, &'static [ApiMishap], &'static [(&'static str, FailureClass)]);
    let cases: [Case; 13] = [
        (is_change, &[], &[]),
        // Nobody heard it: it is sent again.
        (is_change, &[Busy(None), Busy(None)], &[]),
        (is_change, &[Busy(Some(2))], &[]),
        (is_change, &[Status(429)], &[]),
        // It wishes for more than one request may take: the driver waits.
        (is_change, &[Busy(Some(60))], &[("RF1120", Retry)]),
        (is_change, &[Status(409), Status(409)], &[("RF1120", Retry), ("RF1120", Retry)]),
        (is_change, &[Status(500)], &[("RF1120", Ambiguous)]),
        (is_change, &[Status(503)], &[("RF1120", Ambiguous)]),
        (is_change, &[Cut], &[("RF1121", Ambiguous)]),
        // It is there: it is not written again.
        (is_change, &[LostAnswer], &[("RF1121", Ambiguous)]),
        (is_change, &[Silence], &[("RF1121", Ambiguous)]),
        (is_read, &[Status(500), Cut, Busy(None), Status(503), LostAnswer], &[]),
        (is_read, &[Busy(Some(1)), Status(504), Status(503)], &[]),
    ];
    for (is_meant, mishaps, failed) in cases {
        bench.reset();
        bench.spoil(is_meant, mishaps.to_vec());
        let driven = bench.drive("switch.setting").await;
        assert_eq!(driven.ended, restored(), "{mishaps:?}: {driven:?}");
        assert_eq!(codes(&driven), failed, "{mishaps:?}: {driven:?}");
        assert_eq!(bench.wire.struck(), mishaps);
        assert_eq!(bench.wire.changes().len(), 1, "{mishaps:?}: {:?}", bench.wire.changes());
        assert_eq!(bench.data(), after, "{mishaps:?}: all else stays byte for byte");
        let wished = if mishaps == [Busy(Some(2))] { 2 } else { 0 };
        assert!(driven.took >= Duration::from_secs(wished), "{driven:?}");
        assert!(driven.took < Duration::from_secs(60), "{mishaps:?}: {driven:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workloads_and_jobs_are_changed_once_whatever_is_lost() {
    let bench = Bench::open();
    for mishap in [LostAnswer, Status(409), Status(503), Cut] {
        bench.kubernetes.patch(API, &json!({ "spec": { "replicas": 1 } }));
        bench.kubernetes.wait_for_rollout("default", "api");
        bench.spoil(is_change, vec![mishap]);
        let driven = bench.drive("shut.writer.default/api").await;
        assert_eq!(driven.ended, restored(), "{mishap:?}: {driven:?}");
        assert_eq!((driven.failed.len(), bench.wire.changes().len()), (1, 1), "{mishap:?}");
        let seen = bench.kubernetes.get(API);
        assert_eq!(seen["spec"]["replicas"], 0);
        assert_eq!(seen["metadata"]["annotations"]["rollforward.dev/replicas"], "1");
    }
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    for mishap in [LostAnswer, Cut, Status(500)] {
        for job in bench.kubernetes.get(jobs)["items"].as_array().unwrap() {
            let name = job["metadata"]["name"].as_str().unwrap();
            bench.kubernetes.delete(&format!("{jobs}/{name}?propagationPolicy=Background"));
        }
        bench.spoil(is_change, vec![mishap]);
        let driven = bench.drive("switch.reach.prod").await;
        assert_eq!(driven.ended, restored(), "{mishap:?}: {driven:?}");
        assert_eq!((driven.failed.len(), bench.wire.changes().len()), (1, 1), "{mishap:?}");
        assert_eq!(bench.kubernetes.get(jobs)["items"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_writes_in_between_is_read_again_and_stays() {
    let bench = Bench::open();
    let (kubernetes, mut is_first) = (Arc::clone(&bench.kubernetes), true);
    bench.wire.spoil(move |request| {
        if request.is_change() && is_first {
            is_first = false;
            kubernetes.patch(SETTINGS, &json!({ "data": { "other": "theirs" } }));
        }
        ApiMishap::None
    });
    let driven = bench.drive("switch.setting").await;
    assert_eq!(driven.ended, restored(), "{driven:?}");
    assert_eq!(codes(&driven), [("RF1120", FailureClass::Retry)], "{driven:?}");
    assert!(driven.failed[0].message.contains("409 Conflict"), "{driven:?}");
    let data = bench.data();
    assert_eq!((&data["other"], &data["more"]), (&json!("theirs"), &json!("{ \"a\": 1.0e1 }")));
    assert_eq!(data["uri"], "postgres://u:p%40@127.0.0.1:6543/shop?a=b");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_goes_away_between_two_calls_is_waited_for() {
    let bench = Bench::open();
    // The last look before the change is answered; then nobody listens.
    let mut looks = 0;
    bench.wire.spoil(move |request| {
        let is_meant = request.path.starts_with(SETTINGS);
        looks += u32::from(is_meant);
        if is_meant && looks == 3 { Leaves } else { ApiMishap::None }
    });
    let (product, plan, wire) = (bench.product(), bench.plan(), Arc::clone(&bench.wire));
    let driven = driven(product, plan, "switch.setting", move || wire.comes_back()).await;
    assert_eq!(driven.ended, restored(), "{driven:?}");
    assert_eq!(bench.wire.struck(), [Leaves]);
    assert_eq!(codes(&driven), [("RF1121", FailureClass::Ambiguous)], "{driven:?}");
    assert_eq!(bench.wire.changes().len(), 1);
    assert_eq!(bench.data()["uri"], "postgres://u:p%40@127.0.0.1:6543/shop?a=b");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_stay_end_the_step_at_once_and_say_what_to_do() {
    let bench = Bench::open();
    let before = bench.data();
    let cases = [(401, "renew it"), (403, "rollforward kubernetes rbac"), (422, "see its words")];
    for (status, hint) in cases {
        let which: [fn(&ApiRequest) -> bool; 2] = [is_change, is_read];
        for is_meant in which {
            bench.wire.spoil(move |request| match is_meant(request) {
                true => Status(status),
                false => ApiMishap::None,
            });
            let driven = bench.drive("switch.setting").await;
            assert!(matches!(driven.ended, Ended::Closed { .. }), "{status}: {driven:?}");
            assert_ne!(driven.ended, restored());
            assert_eq!(codes(&driven), [("RF1120", FailureClass::Terminal)], "{driven:?}");
            let only = &driven.failed[0];
            assert!(only.message.contains(&format!(": {status} ")), "{only:?}");
            assert!(only.hint.contains(hint), "{only:?}");
            assert!(driven.took < AT_ONCE, "{status}: {driven:?}");
            assert_eq!(bench.wire.changes(), []);
            assert_eq!(bench.data(), before, "{status}: nothing is half switched");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_that_does_not_end_is_given_up_within_a_bound() {
    let bench = Bench::open();
    let before = bench.data();
    for (mishap, code) in [(Status(409), "RF1120"), (Status(503), "RF1120"), (Cut, "RF1121")] {
        bench.wire.spoil(move |request| match request.is_change() {
            true => mishap,
            false => ApiMishap::None,
        });
        let driven = bench.drive("switch.setting").await;
        // What never happened needs no way back.
        let expected = Ended::Closed { verdict: Verdict::RolledBack, service: ServiceState::Old };
        assert_eq!(driven.ended, expected, "{mishap:?}: {driven:?}");
        assert_eq!(driven.undone, (1, 0), "{mishap:?}");
        let (last, tries) = driven.failed.split_last().unwrap();
        assert_eq!((last.code.as_str(), last.class), (code, FailureClass::Terminal));
        assert!(!last.hint.is_empty(), "{last:?}");
        assert_eq!(tries.len(), 4, "{driven:?}");
        assert!(driven.took > Duration::from_secs(1 + 2 + 4 + 8), "it waits longer each time");
        assert!(driven.took < Duration::from_secs(60), "{mishap:?}: {driven:?}");
        assert_eq!((bench.wire.changes(), bench.data()), (Vec::new(), before.clone()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_was_renewed_meanwhile_is_read_again() {
    let bench = Bench::open();
    let path = bench.kubernetes.folder().join("renewed.kubeconfig");
    let good = fs::read_to_string(bench.kubernetes.kubeconfig("admin")).unwrap();
    let token = bench.kubernetes.token("admin");
    fs::write(&path, good.replace(&token, "expired")).unwrap();
    let mut access = access(&bench.kubernetes, "admin");
    access.get_mut("prod").unwrap().kubeconfig = Some(path.display().to_string());
    let product = Arc::new(providers(access));
    let plan = bench.plan();
    let refused = driven(Arc::clone(&product), plan.clone(), "switch.setting", || {}).await;
    assert_eq!(codes(&refused), [("RF1120", FailureClass::Terminal)], "{refused:?}");
    assert!(refused.failed[0].message.contains(": 401 "), "{refused:?}");
    // The same process, as a driver that waits for a person.
    fs::write(&path, good).unwrap();
    let driven = driven(product, plan, "switch.setting", || {}).await;
    assert_eq!((driven.ended, driven.failed), (restored(), Vec::new()));
}
