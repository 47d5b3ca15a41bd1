//! The five services of the requirements as data: T, V, X, O and G.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::sample;
use crate::diagnosis::Condition;
use crate::inventory::{Damage, DumpFact, Inventory, SnapshotFact, WindowFact};
use crate::plan::Parameters;
use crate::service::{
    BindingPlace, Bindings, ClusterPlace, Database, Door, Expectation, Files, Form, LocalCluster,
    Network, Objectives, OnFailure, Policy, Rds, SchemaTool, Service, Setting, SettingPlace, Site,
    Smoke, TTL_S_MAX_DEFAULT, TableCheck, Traffic, TrafficHow, TrafficRecord, Validation, Workload,
    Writer,
};

const MINUTE: u64 = 60;

fn deployment(context: &str, name: &str) -> Writer {
    Writer::Kubernetes {
        context: context.into(),
        kind: Workload::Deployment,
        object: name.into(),
        replicas: None,
    }
}

fn smoke(method: &'static str, url: &str, login: Option<&str>) -> Smoke {
    Smoke {
        method,
        url: url.into(),
        body: None,
        login: login.map(str::to_owned),
        expect: Expectation { within: Some(Duration::from_secs(2)), ..Expectation::default() },
    }
}

fn rds(instance: &str, login: Option<&str>) -> Database {
    Database::Rds(Rds {
        instance: instance.into(),
        region: "eu-central-1".into(),
        login: login.map(str::to_owned),
    })
}

fn secret(name: &str) -> Setting {
    Setting {
        place: SettingPlace::AwsSecret { name: name.into() },
        form: Form::Json,
        fields: Parameters::from([("host".into(), "host".into()), ("port".into(), "port".into())]),
    }
}

fn cluster(name: &str, restore_host: Option<&str>) -> Database {
    Database::Cluster(ClusterPlace {
        cluster: LocalCluster {
            name: name.into(),
            host: Some("db1.acme.example".into()),
            data_directory: "/var/lib/postgresql/16/main".into(),
            connection: "host=/run/postgresql user=rollforward".into(),
            database: None,
            bin_directory: None,
            repositories: vec!["main".into(), "offsite".into()],
        },
        restore_host: restore_host.map(str::to_owned),
        restore_below: None,
        network: None,
    })
}

fn empty(name: &str, database: Database, rpo: u64, rto: u64) -> Service {
    Service {
        name: name.into(),
        objectives: Objectives { rpo: Duration::from_secs(rpo), rto: Duration::from_secs(rto) },
        database,
        setting: None,
        door: None,
        writers: Vec::new(),
        activate: Vec::new(),
        health: BTreeMap::new(),
        files: Vec::new(),
        validation: Validation::default(),
        smoke: Vec::new(),
        traffic: Vec::new(),
        checklist: Vec::new(),
        policy: Policy::default(),
        tell: vec!["pager".into()],
        escalate: Vec::new(),
        drill: None,
        staging: None,
        sites: BTreeMap::new(),
        site: None,
        breach: None,
    }
}

/// T: Odoo on Kubernetes with RDS and a secret of AWS.
#[must_use]
pub fn tms() -> Service {
    let table =
        TableCheck { newest: Some("write_date".into()), within: None, min_rows: Some(1000) };
    let login = Some("aws-secret:tms/smoke");
    Service {
        setting: Some(secret("tms/db")),
        door: Some(Door::Kubernetes {
            context: "prod".into(),
            shut: "maintenance.yaml".into(),
            open: "production.yaml".into(),
        }),
        writers: vec![deployment("prod", "tms/tms-app")],
        files: vec![Files {
            bucket: "s3://tms-filestore".into(),
            keys_sql: "select store_fname from ir_attachment where store_fname is not null".into(),
            ..Files::default()
        }],
        validation: Validation {
            timeout: None,
            sql: Some("tms-validate.sql".into()),
            schema: Some(SchemaTool::Odoo),
            tables: BTreeMap::from([("account_move".into(), table)]),
        },
        smoke: vec![
            smoke("GET", "https://tms-internal.acme.example/web/health", None),
            smoke("POST", "https://tms-internal.acme.example/api/ping", login),
        ],
        policy: Policy {
            on_failure: OnFailure::StayShut,
            final_persons: 2,
            extra_loss: Duration::from_secs(15 * MINUTE),
            ..Policy::default()
        },
        ..empty("tms", rds("tms-prod", Some("aws-secret:tms/master")), 15 * MINUTE, 240 * MINUTE)
    }
}

/// V: functions on Vercel, restarted by a deployment.
#[must_use]
pub fn web() -> Service {
    Service {
        setting: Some(Setting {
            place: SettingPlace::Vercel { project: "web".into(), variable: "DATABASE_URL".into() },
            form: Form::Uri,
            fields: Parameters::new(),
        }),
        writers: vec![Writer::Workflow {
            repository: "acme/web".into(),
            workflow: "deploy.yml".into(),
        }],
        smoke: vec![smoke("GET", "https://web.acme.example/dashboard", None)],
        ..empty("web", rds("web-prod", None), 24 * 60 * MINUTE, 240 * MINUTE)
    }
}

/// X: ASP.NET Core on a PostgreSQL of ours, with a setting in a ConfigMap and no door.
#[must_use]
pub fn engine() -> Service {
    let url = "https://engine.acme.example/api/v1/transformations";
    let mut answers = smoke("GET", url, Some("file:/etc/rollforward/engine-admin"));
    answers.expect.min_items = Some(1);
    Service {
        setting: Some(Setting {
            place: SettingPlace::Kubernetes {
                context: "prod".into(),
                kind: "configmap",
                object: "engine/settings".into(),
                key: "ConnectionStrings:DefaultConnection".into(),
                inside: None,
            },
            form: Form::Ado,
            fields: Parameters::new(),
        }),
        writers: vec![deployment("prod", "engine/api")],
        smoke: vec![answers],
        ..empty("engine", cluster("engine", None), 60 * MINUTE, 240 * MINUTE)
    }
}

/// O: several applications with a standby site, to which a DNS record leads.
#[must_use]
pub fn odoo() -> Service {
    let names = ["odoo/odoo", "odoo/n8n", "odoo/gateway", "odoo/notify"];
    Service {
        setting: Some(odoo_setting("primary")),
        writers: names.map(|name| deployment("primary", name)).into(),
        smoke: vec![smoke("GET", "https://odoo-primary.acme.example/web/health", None)],
        sites: BTreeMap::from([("dr".to_owned(), odoo_standby())]),
        ..empty("odoo", cluster("odoo", None), 15 * MINUTE, 240 * MINUTE)
    }
}

fn odoo_setting(context: &str) -> Setting {
    Setting {
        place: SettingPlace::Kubernetes {
            context: context.into(),
            kind: "secret",
            object: "odoo/db".into(),
            key: "DATABASE_URL".into(),
            inside: None,
        },
        form: Form::Uri,
        fields: Parameters::new(),
    }
}

fn odoo_standby() -> Site {
    let names = ["odoo/odoo", "odoo/n8n", "odoo/gateway", "odoo/notify"];
    let health = |name: &str| smoke("GET", &format!("https://{name}.dr.acme.example/health"), None);
    Site {
        host: Some("db2.acme.example".into()),
        bindings: Bindings {
            network: Some(Box::new(Network {
                address: "db2.acme.example".into(),
                listen: "*".into(),
                clients: vec!["10.2.0.0/16".into()],
                databases: ["odoo", "n8n"].map(str::to_owned).into(),
            })),
            setting: Some(odoo_setting("standby")),
            writers: names.map(|name| deployment("standby", name)).into(),
            activate: vec![Writer::Systemd { unit: "minio.service".into() }],
            health: BTreeMap::from([("odoo/odoo".to_owned(), health("odoo"))]),
            smoke: vec![smoke("GET", "https://odoo-standby.acme.example/web/health", None)],
            traffic: vec![odoo_record("odoo-drill.acme.example")],
            ..Bindings::below("/var/lib/postgresql/16")
        },
        traffic: vec![odoo_record("odoo.acme.example")],
        checklist: vec!["the site's own backups are switched on".into()],
    }
}

fn odoo_record(name: &str) -> Traffic {
    Traffic {
        name: name.into(),
        how: TrafficHow::Nsupdate {
            server: "ns1.acme.example:53".into(),
            key: "file:/etc/rollforward/tsig.key".into(),
            record: TrafficRecord {
                zone: "acme.example".into(),
                name: name.into(),
                kind: "CNAME".into(),
                standby: "odoo-dr.acme.example".into(),
                ttl_s: 60,
                ttl_s_max: TTL_S_MAX_DEFAULT,
                resolvers: vec!["10.0.0.53:53".into()],
            },
        },
    }
}

/// G: a gateway on RDS whose cut-over is tried on staging first.
#[must_use]
pub fn gateway() -> Service {
    let names = ["gw/api-gateway", "gw/indexer", "gw/rpc-orchestrator"];
    let place = |object: &str| Setting {
        place: SettingPlace::Kubernetes {
            context: "prod".into(),
            kind: "secret",
            object: object.into(),
            key: "DATABASE_URL".into(),
            inside: None,
        },
        form: Form::Uri,
        fields: Parameters::new(),
    };
    Service {
        setting: Some(place("gw/db")),
        writers: names.map(|name| deployment("prod", name)).into(),
        smoke: vec![
            smoke("GET", "https://gw.acme.example/health", None),
            smoke("GET", "https://gw.acme.example/v1/accounts", Some("env:GW_TOKEN")),
        ],
        staging: Some(Bindings {
            database: BindingPlace::Network {
                subnet_group: "staging".into(),
                security_groups: vec!["sg-staging".into()],
            },
            setting: Some(place("gw-staging/db")),
            writers: vec![deployment("prod", "gw-staging/api-gateway")],
            smoke: vec![smoke("GET", "https://gw-staging.acme.example/health", None)],
            ..Bindings::below("")
        }),
        ..empty("gateway", rds("gw-prod", None), 5 * MINUTE, 30 * MINUTE)
    }
}

/// What is known of an instance of RDS: snapshots in two regions, a dump, a window of a week, and
/// a DELETE ten minutes ago whose moment is known.
#[must_use]
pub fn instance() -> Inventory {
    let now = sample::now();
    let ago = |seconds: i64| Timestamp::from_second(now.as_second() - seconds).unwrap_or(now);
    let snapshot = |id: &str, is_automated: bool, age: i64, region: &str| SnapshotFact {
        id: id.into(),
        is_automated,
        finished: ago(age),
        region: region.into(),
    };
    Inventory {
        condition: Condition::Damaged,
        size: 200 << 30,
        snapshots: vec![
            snapshot("rds:prod-2026-11-26-03-00", true, 2 * 3600, "eu-central-1"),
            snapshot("before-migration-42", false, 5 * 86_400, "eu-central-1"),
            snapshot("copy-2026-11-26", true, 3 * 3600, "eu-west-1"),
        ],
        dumps: vec![DumpFact {
            label: "2026-11-01".into(),
            taken: ago(25 * 86_400),
            size: 40 << 30,
        }],
        window: Some(WindowFact { earliest: ago(7 * 86_400), latest: ago(300) }),
        damage: Some(Damage {
            at: ago(600),
            before: None,
            xid: None,
            what: "orders are gone".into(),
            last_good: Some(ago(601)),
            transactions_lost: None,
        }),
        identity: Parameters::from([("resource_id".into(), "db-ABCDEFGHIJ".into())]),
        ..Inventory::empty(now)
    }
}
