//! The conformance suite of `recovery` on doors, writers, settings and secrets.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use providers::{OwnProgram, Providers, Secrets};
use recovery::effect::{Effects, Found, StepContext};
use recovery::plan::{Mode, Parameters, Plan};
use recovery::service::{Door, Service, Setting, SettingPlace, Writer};
use recovery::testing::{conformance, sample};
use testbed::Units;
use zeroize::Zeroizing;

use crate::door;

#[derive(Debug)]
pub(crate) struct Known;

impl Secrets for Known {
    fn resolve(&self, reference: &str) -> Result<Zeroizing<String>, String> {
        match reference {
            "env:KNOWN" => Ok(Zeroizing::new("value".into())),
            _ => Err("there is no such variable".into()),
        }
    }
}

pub(crate) fn providers() -> Providers {
    let own = OwnProgram { program: "/does/not/exist".into(), config: "/does/not/exist".into() };
    Providers::new(own, Arc::new(Known), BTreeMap::new(), BTreeMap::new()).unwrap()
}

/// The step of that id in the plan of a service, as a driver would hand it to its provider.
pub(crate) fn context(service: &Service, id: &str) -> StepContext {
    let plan = sample::plan(service, Mode::Incident, &sample::inventory()).unwrap();
    context_of(&plan, id)
}

/// The step of that id in a plan.
pub(crate) fn context_of(plan: &Plan, id: &str) -> StepContext {
    let step = plan.steps.iter().find(|step| step.id.as_str() == id);
    let step = step.unwrap_or_else(|| panic!("no step {id}")).clone();
    StepContext {
        run: "shop-1126-test".into(),
        parameters: step.parameters.clone(),
        key: format!("shop-1126-test.{id}.1"),
        step,
        facts: Parameters::from([
            ("host".into(), "127.0.0.1".into()),
            ("port".into(), "6543".into()),
        ]),
        originals: Parameters::new(),
    }
}

#[track_caller]
fn script(folder: &Path, name: &str, body: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\ncd '{}' || exit 9\n{body}", folder.display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

pub(crate) async fn undoable(service: &Service, id: &str) {
    undoable_by(&providers(), service, id).await;
}

async fn undoable_by(providers: &Providers, service: &Service, id: &str) {
    let mut context = context(service, id);
    let effect = providers.of(&context.step).unwrap_or_else(|| panic!("nothing performs {id}"));
    let outcome = conformance::undoable(effect, &mut context).await;
    outcome.unwrap_or_else(|why| panic!("{id}: {why}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn doors_of_every_kind_shut_and_open() {
    let folder = tempfile::tempdir().unwrap();
    let doors = script(
        folder.path(),
        "door.sh",
        "case $1 in shut) : >shut ;; open) rm -f shut ;; probe) [ -e shut ] ;; esac\n",
    );
    let words = |verb: &str| vec![doors.clone(), verb.to_owned()];
    let url = door::serve(Arc::default()).await;
    let maintenance = folder.path().join("maintenance").display().to_string();
    let all = [
        Door::File { path: maintenance, content: "closed\n".into() },
        Door::Command { shut: words("shut"), open: words("open"), probe: words("probe") },
        Door::Http {
            shut: format!("{url}/locked/shut"),
            open: format!("{url}/locked/open"),
            probe: format!("{url}/locked/door"),
            shut_word: "shut".into(),
            login: Some("env:KNOWN".into()),
        },
    ];
    for door in all {
        let service = Service { door: Some(door), ..sample::shop() };
        undoable(&service, "shut.door").await;
        typed(&service).await;
    }
}

/// What a runbook prints for a door moves it, as a person types it.
pub(crate) async fn typed(service: &Service) {
    let providers = providers();
    for id in ["shut.door", "open.door"] {
        let context = context(service, id);
        let effect = providers.of(&context.step).unwrap();
        assert_eq!(effect.probe(&context).await, Found::Absent, "{id}");
        let printed = context.step.command.clone().unwrap_or_else(|| panic!("{id}: no command"));
        for line in printed.lines() {
            let mut command = tokio::process::Command::new("bash");
            command.args(["-o", "pipefail", "-uc", line]).env("KNOWN", "value");
            let output = command.output().await.unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "$ {line}\n{said}");
        }
        assert_eq!(effect.probe(&context).await, Found::Done, "{id}: {printed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_page_says_nothing_about_a_door() {
    let broken = Arc::new(AtomicBool::new(false));
    let url = door::serve(Arc::clone(&broken)).await;
    let door = Door::Http {
        shut: format!("{url}/shut"),
        open: format!("{url}/open"),
        probe: format!("{url}/door"),
        shut_word: "shut".into(),
        login: None,
    };
    let service = Service { door: Some(door), ..sample::shop() };
    let providers = providers();
    for id in ["shut.door", "open.door"] {
        let context = context(&service, id);
        let effect = providers.of(&context.step).unwrap();
        broken.store(true, Ordering::Relaxed);
        let found = effect.probe(&context).await;
        assert!(matches!(found, Found::Unknown(_)), "{id}: {found:?}");
        assert!(effect.act(&context).await.is_err(), "{id}");
        broken.store(false, Ordering::Relaxed);
        effect.act(&context).await.unwrap();
        assert_eq!(effect.probe(&context).await, Found::Done, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_is_stopped_and_started_as_a_process() {
    let folder = tempfile::tempdir().unwrap();
    let program = script(
        folder.path(),
        "app.sh",
        "pid=$(cat pid 2>/dev/null)\n\
         runs() { [ -n \"$pid\" ] && grep -qs ') [^XZ]' /proc/$pid/stat || return 1; }\n\
         case $1 in\n\
         start) runs && exit 0\nsetsid tail -f /dev/null </dev/null >/dev/null 2>&1 & echo $! >pid ;;\n\
         stop) runs || exit 0\nkill \"$pid\"\nwhile runs; do :; done ;;\n\
         probe) runs ;;\nesac\n",
    );
    let words = |verb: &str| vec![program.clone(), verb.to_owned()];
    let writer = Writer::Command {
        name: "app".into(),
        start: words("start"),
        stop: words("stop"),
        probe: words("probe"),
    };
    let service = Service { writers: vec![writer], ..sample::shop() };
    undoable(&service, "start.writer.app").await;
    let run = |verb: &str| {
        let ended = std::process::Command::new(&program).arg(verb).status().unwrap();
        assert!(ended.success(), "{verb}: {ended}");
    };
    run("start");
    undoable(&service, "shut.writer.app").await;
    run("stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_of_systemd_is_stopped_and_started_over_the_bus() {
    let units = Units::start(&["shop-web.service"]);
    let unit = "shop-web.service".to_owned();
    let service = Service { writers: vec![Writer::Systemd { unit }], ..sample::shop() };
    let providers = providers().with_bus(&units.address());
    undoable_by(&providers, &service, "start.writer.shop-web-service").await;
    assert_eq!(units.state("shop-web.service"), "inactive");
    units.tell("StartUnit", "shop-web.service");
    undoable_by(&providers, &service, "shut.writer.shop-web-service").await;
    assert_eq!(units.state("shop-web.service"), "active", "it runs again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_nobody_knows_and_a_bus_that_is_away_say_nothing_about_a_writer() {
    let units = Units::start(&["shop-web.service"]);
    let unit = "another.service".to_owned();
    let service = Service { writers: vec![Writer::Systemd { unit }], ..sample::shop() };
    let context = context(&service, "shut.writer.another-service");
    for address in [units.address(), "unix:path=/does/not/exist".into()] {
        let providers = providers().with_bus(&address);
        let effect = providers.of(&context.step).unwrap();
        let found = effect.probe(&context).await;
        assert!(matches!(&found, Found::Unknown(why) if why.contains("another")), "{found:?}");
        let failure = effect.act(&context).await.unwrap_err();
        assert!(failure.hint.contains("systemd1"), "{failure:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_is_switched_in_every_form_and_comes_back_byte_for_byte() {
    use recovery::service::Form;
    let cases = [
        (Form::Uri, Some("DB"), "A=1\nDB=\"postgres://u:p%40@db1:5432/shop?a=b\"\n\n# end"),
        (Form::Libpq, Some("DB"), "DB=host=db1 port=5432 dbname=shop password='it\\'s'\n"),
        (Form::Ado, Some("DB"), "DB=Host=db1;Port=5432;Database=shop;Password=p;\r\n"),
        (Form::Json, None, "{ \"host\": \"db1\",\n  \"port\": 5432, \"other\": [1] }\n"),
    ];
    for (form, key, text) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings");
        fs::write(&path, text).unwrap();
        let fields = [("host", "host"), ("port", "port")];
        let fields = fields.map(|(part, field)| (part.to_owned(), field.to_owned()));
        let place =
            SettingPlace::File { path: path.display().to_string(), key: key.map(str::to_owned) };
        let setting = Setting { place, form, fields: fields.into() };
        let service = Service { setting: Some(setting), ..sample::shop() };
        undoable(&service, "switch.setting").await;
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "{form:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_resolve_or_the_step_says_which_one_does_not() {
    let mut service = sample::shop();
    service.smoke[0].login = Some("env:KNOWN".into());
    let providers = providers();
    let known = context(&service, "assess.secrets");
    let effect = providers.of(&known.step).unwrap();
    conformance::looking(effect, &known).await.unwrap();
    service.smoke[0].login = Some("env:UNKNOWN".into());
    let unknown = context(&service, "assess.secrets");
    let failure = effect.act(&unknown).await.unwrap_err();
    assert!(failure.message.contains("env:UNKNOWN"), "{}", failure.message);
}
