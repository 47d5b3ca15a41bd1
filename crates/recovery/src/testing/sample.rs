//! Services and inventories of the five kinds, for tests and golden plans.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::diagnosis::Condition;
use crate::inventory::{BackupFact, Damage, DumpFact, Inventory, ServerFact, WindowFact};
use crate::method::{Method, Wish};
use crate::plan::{Mode, Parameters, Plan};
use crate::planner::{PlanError, Request, compile};
use crate::service::{
    Bindings, ClusterPlace, Database, Door, Expectation, Form, LocalCluster, Objectives, Persons,
    Policy, Service, Setting, SettingPlace, Smoke, Validation, Writer,
};

/// A fixed moment.
///
/// # Panics
/// Never.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from_second(1_795_669_200).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// An application that is started and stopped by commands.
#[must_use]
pub fn writer(name: &str) -> Writer {
    let command = |verb: &str| vec![format!("/srv/{name}"), verb.to_owned()];
    Writer::Command {
        name: name.into(),
        start: command("start"),
        stop: command("stop"),
        probe: command("status"),
    }
}

/// A shop on a cluster of ours.
#[must_use]
pub fn shop() -> Service {
    let file = |path: &str| Setting {
        place: SettingPlace::File { path: path.into(), key: Some("DATABASE_URL".into()) },
        form: Form::Uri,
        fields: Parameters::new(),
    };
    let smoke = |port: u16| Smoke {
        method: "GET",
        url: format!("http://127.0.0.1:{port}/health"),
        body: None,
        login: None,
        expect: Expectation { within: Some(Duration::from_secs(2)), ..Expectation::default() },
    };
    Service {
        name: "shop".into(),
        objectives: Objectives {
            rpo: Duration::from_secs(900),
            rto: Duration::from_secs(4 * 3600),
        },
        database: Database::Cluster(ClusterPlace {
            cluster: LocalCluster {
                name: "shop".into(),
                host: None,
                data_directory: "/srv/pg/shop".into(),
                connection: "host=/run/postgresql user=postgres dbname=postgres".into(),
                database: Some("shop".into()),
                bin_directory: None,
                repositories: vec!["main".into()],
            },
            restore_host: None,
            restore_below: None,
            network: None,
        }),
        setting: Some(file("/etc/shop.env")),
        door: Some(Door::File { path: "/run/shop/maintenance".into(), content: "1".into() }),
        writers: vec![writer("shop"), writer("worker")],
        activate: Vec::new(),
        health: BTreeMap::new(),
        files: Vec::new(),
        validation: Validation {
            sql: Some("/etc/shop/validate.sql".into()),
            ..Validation::default()
        },
        smoke: vec![smoke(8080)],
        traffic: Vec::new(),
        checklist: Vec::new(),
        policy: Policy::default(),
        tell: vec!["pager".into()],
        escalate: Vec::new(),
        drill: Some(Bindings {
            setting: Some(file("/srv/drill/shop.env")),
            writers: vec![writer("shop-drill")],
            smoke: vec![smoke(8081)],
            ..Bindings::below("/srv/drill")
        }),
        staging: None,
        sites: BTreeMap::new(),
        site: None,
        breach: None,
    }
}

/// Two backups, WAL up to now, and a DELETE a minute ago.
#[must_use]
pub fn inventory() -> Inventory {
    let ago = |seconds: i64| Timestamp::from_second(now().as_second() - seconds).unwrap_or(now());
    let backup = |label: &str, age: i64, wal: u64| BackupFact {
        label: label.into(),
        finished: ago(age),
        size: 5 << 30,
        wal_to_target: wal,
        is_valid: true,
        reaches_target: true,
        is_suspect: false,
    };
    Inventory {
        condition: Condition::Damaged,
        size: 5 << 30,
        backups: vec![
            backup("20261126T010000Z-new1", 4 * 3600, 2 << 30),
            backup("20261125T010000Z-old1", 28 * 3600, 14 << 30),
        ],
        window: Some(WindowFact { earliest: ago(7 * 86_400), latest: ago(5) }),
        damage: Some(Damage {
            at: ago(60),
            before: Some("0/29C692D0".into()),
            xid: Some(870),
            what: "DELETE public.orders, 317789 rows".into(),
            last_good: Some(ago(63)),
            transactions_lost: Some(43),
        }),
        identity: Parameters::from([
            ("system_id".into(), "7712347945863622319".into()),
            ("data_directory".into(), "/srv/pg/shop".into()),
        ]),
        ..Inventory::empty(now())
    }
}

/// The same with a server that runs, and dumps of last week and of the month before.
#[must_use]
pub fn with_dumps() -> Inventory {
    let days_ago =
        |days: i64| Timestamp::from_second(now().as_second() - days * 86_400).unwrap_or(now());
    let dump = |label: &str, days: i64| DumpFact {
        label: label.into(),
        taken: days_ago(days),
        size: 3 << 30,
    };
    Inventory {
        condition: Condition::Healthy,
        dumps: vec![dump("20261118T020000Z-new2", 8), dump("20261027T020000Z-old2", 30)],
        server: ServerFact::Ready { size: 4 << 30, free: 40 << 30, slots: Vec::new() },
        ..inventory()
    }
}

/// A plan that restores a dump.
///
/// # Errors
/// As [`compile`].
pub fn dump_plan(service: &Service, mode: Mode, inventory: &Inventory) -> Result<Plan, PlanError> {
    let wish = Wish { method: Some(Method::Dump), ..Wish::default() };
    let request =
        Request { mode, wish, binary: "0.1.0".into(), persons: Persons::new(), is_breach: false };
    compile(service, &request, inventory)
}

/// A plan for a service and an inventory, up to just before the damage.
///
/// # Errors
/// As [`compile`].
pub fn plan(service: &Service, mode: Mode, inventory: &Inventory) -> Result<Plan, PlanError> {
    let wish = match mode {
        Mode::Incident => Wish { before_incident: true, ..Wish::default() },
        Mode::Drill | Mode::Copy => {
            Wish { target: Some(crate::plan::Target::Latest), ..Wish::default() }
        }
    };
    let request =
        Request { mode, wish, binary: "0.1.0".into(), persons: Persons::new(), is_breach: false };
    compile(service, &request, inventory)
}
