//! The steps around the database: door, writers, setting, smoke tests, people.

use std::collections::BTreeMap;

use super::build::{Draft, shell, step};
use super::traffic::switch_traffic;
use super::{by_hand, by_hand_door};
use crate::inventory::Inventory;
use crate::plan::{Class, Parameters, Stage, Step, StepKind, UndoWhen};
use crate::service::{Door, Service, Setting, SettingPlace, Smoke, Writer};

/// What a run shuts, in order: the door, then the writers, the last started first.
pub(super) fn shut(door: Option<&Door>, writers: &[Writer]) -> Vec<Step> {
    let door_step = door.map(|door| {
        step(Stage::Shut, "door", "", StepKind::ShutDoor)
            .effect(format!("keeps users out: {}", door.describe()))
            .undo(Class::Undoable, UndoWhen::Reopening, "opens it again")
            .with_all(door_parameters(door))
            .maybe_command(by_hand_door::moved(door, true))
            .done()
    });
    let writers = writers.iter().rev().map(|writer| {
        with_command(
            step(Stage::Shut, "writer", writer.name(), StepKind::StopWriter),
            writer,
            false,
        )
        .effect(format!("stops {} and sees that it is gone", writer.describe()))
        .undo(Class::Undoable, UndoWhen::Reopening, "starts it again as it was")
        .with_all(writer_parameters(writer))
        .predicted(10)
        .done()
    });
    door_step.into_iter().chain(writers).collect()
}

/// The setting goes to the new database.
pub(super) fn switch(setting: &Setting) -> Step {
    step(Stage::Switch, "setting", "", StepKind::SwitchSetting)
        .effect(format!(
            "writes host, port and database of the new database into {}; all else stays byte for byte",
            setting.place.describe()
        ))
        .undo(Class::Undoable, UndoWhen::Always, "puts the old value back")
        .with_all(setting_parameters(setting))
        .maybe_command(by_hand::switch(&setting.place))
        .done()
}

/// The writers, in order, each with what it must answer before the next one; then what proves that
/// they serve.
pub(super) fn start(
    writers: &[Writer],
    health: &BTreeMap<String, Smoke>,
    smoke: &[Smoke],
) -> Vec<Step> {
    let mut steps = Vec::new();
    for writer in writers {
        let draft = step(Stage::Start, "writer", writer.name(), StepKind::StartWriter);
        steps.push(
            with_command(draft, writer, true)
                .effect(format!("starts {} and waits until it runs", writer.describe()))
                .undo(Class::Undoable, UndoWhen::Always, "stops it again")
                .with_all(writer_parameters(writer))
                .predicted(20)
                .done(),
        );
        let gate = health.get(writer.name());
        steps.extend(gate.map(|it| asked("health", writer.name(), StepKind::HealthGate, it)));
    }
    let numbered = smoke.iter().enumerate();
    steps.extend(
        numbered.map(|(at, it)| asked("smoke", &(at + 1).to_string(), StepKind::Smoke, it)),
    );
    steps
}

/// Something is asked like a user would.
fn asked(verb: &str, object: &str, kind: StepKind, smoke: &Smoke) -> Step {
    step(Stage::Start, verb, object, kind)
        .effect(format!("asks {} {} like a user: {}", smoke.method, smoke.url, expected(smoke)))
        .with_all(smoke_parameters(smoke))
        .command(shell(&["curl".into(), "-fsS".into(), smoke.url.clone()]))
        .predicted(5)
        .done()
}

/// What a standby site needs before anything else is brought up.
pub(super) fn activate(writers: &[Writer]) -> Vec<Step> {
    let steps = writers.iter().map(|writer| {
        let draft = step(Stage::Secure, "activate", writer.name(), StepKind::ActivateSite);
        with_command(draft, writer, true)
            .effect(format!("brings up {} at this site", writer.describe()))
            .undo(Class::Undoable, UndoWhen::Always, "takes it down again, if it was down")
            .with_all(writer_parameters(writer))
            .predicted(20)
            .done()
    });
    steps.collect()
}

/// The point of no return, then the door.
pub(super) fn open(
    door: Option<&Door>,
    service: &Service,
    inventory: &Inventory,
    cost: &str,
) -> Vec<Step> {
    let point = step(Stage::Open, "point", "", StepKind::PointOfNoReturn)
        .effect("records that from here on nothing is undone by itself")
        .undo(Class::Final, UndoWhen::Never, "none: users write into the new database from here on")
        .with("cost", cost)
        .with("persons", service.policy.final_persons.to_string())
        .predicted(1)
        .done();
    let door = door.map(|door| {
        step(Stage::Open, "door", "", StepKind::OpenDoor)
            .effect(format!("lets users in: {}", door.describe()))
            .undo(Class::Final, UndoWhen::Never, "none: it is behind the point of no return")
            .with_all(door_parameters(door))
            .maybe_command(by_hand_door::moved(door, false))
            .done()
    });
    let traffic = switch_traffic(&service.traffic, inventory, true);
    std::iter::once(point).chain(door).chain(traffic).collect()
}

/// What only a person can confirm.
pub(super) fn checklist(service: &Service) -> Vec<Step> {
    let numbered = service.checklist.iter().enumerate();
    numbered
        .map(|(at, text)| {
            step(Stage::Prove, "confirm", &(at + 1).to_string(), StepKind::Confirm)
                .effect(format!("a person confirms: {text}"))
                .with("text", text.clone())
                .predicted(60)
                .done()
        })
        .collect()
}

/// The channels that are told at the end.
pub(super) fn tell(service: &Service) -> Vec<Step> {
    let channels = service.tell.iter().map(|channel| {
        step(Stage::Tell, "channel", channel, StepKind::Tell)
            .effect(format!("tells '{channel}' that the service is restored, with the report"))
            .undo(Class::Final, UndoWhen::Never, "none: a message cannot be taken back")
            .with("channel", channel.clone())
            .optional()
            .done()
    });
    channels.collect()
}

fn with_command(draft: Draft, writer: &Writer, starts: bool) -> Draft {
    let words = match (writer, starts) {
        (Writer::Command { start, .. }, true) => start.clone(),
        (Writer::Command { stop, .. }, false) => stop.clone(),
        (Writer::Systemd { unit }, _) => {
            ["systemctl", if starts { "start" } else { "stop" }, unit].map(str::to_owned).to_vec()
        }
        (Writer::Kubernetes { context, kind, object, replicas }, _) => {
            let replicas = replicas.map(u64::from);
            return draft.command(by_hand::scale(context, *kind, object, replicas, starts));
        }
        (Writer::Workflow { repository, workflow }, true) => {
            ["gh", "workflow", "run", workflow, "-R", repository].map(str::to_owned).to_vec()
        }
        (Writer::Workflow { .. }, false) => return draft,
    };
    draft.command(shell(&words))
}

fn expected(smoke: &Smoke) -> String {
    let expect = &smoke.expect;
    let mut text = format!("status {}", expect.status);
    for (pointer, value) in &expect.json {
        text.push_str(&format!(", {pointer} = {value}"));
    }
    if let Some(items) = expect.min_items {
        text.push_str(&format!(", at least {items} items"));
    }
    if let Some(within) = expect.within {
        text.push_str(&format!(", median of five within {} ms", within.as_millis()));
    }
    text
}

fn named<const N: usize>(pairs: [(&str, String); N]) -> Parameters {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A list of words as one parameter: JSON, so that no separator is lost.
pub(super) fn words_parameter(words: &[String]) -> String {
    serde_json::to_string(words).unwrap_or_default()
}

/// What a provider needs of a door.
pub(super) fn door_parameters(door: &Door) -> Parameters {
    match door {
        Door::File { path, content } => {
            named([("door", "file".into()), ("path", path.clone()), ("content", content.clone())])
        }
        Door::Command { shut, open, probe } => named([
            ("door", "command".into()),
            ("shut", words_parameter(shut)),
            ("open", words_parameter(open)),
            ("probe", words_parameter(probe)),
        ]),
        Door::Http { shut, open, probe, shut_word, login } => {
            let mut parameters = named([
                ("door", "http".into()),
                ("shut", shut.clone()),
                ("open", open.clone()),
                ("probe", probe.clone()),
                ("shut_word", shut_word.clone()),
            ]);
            parameters.extend(login.clone().map(|login| ("login".into(), login)));
            parameters
        }
        Door::PgBouncer { admin, database } => named([
            ("door", "pgbouncer".into()),
            ("admin", admin.clone()),
            ("database", database.clone()),
        ]),
        Door::Kubernetes { context, shut, open } => named([
            ("door", "kubernetes".into()),
            ("context", context.clone()),
            ("shut", shut.clone()),
            ("open", open.clone()),
        ]),
    }
}

/// What a provider needs of a writer.
pub(super) fn writer_parameters(writer: &Writer) -> Parameters {
    match writer {
        Writer::Kubernetes { context, kind, object, replicas } => {
            let mut parameters = named([
                ("writer", "kubernetes".into()),
                ("context", context.clone()),
                ("workload", kind.text().into()),
                ("object", object.clone()),
            ]);
            parameters.extend(replicas.map(|count| ("replicas".into(), count.to_string())));
            parameters
        }
        Writer::Systemd { unit } => named([("writer", "systemd".into()), ("unit", unit.clone())]),
        Writer::Command { name, start, stop, probe } => named([
            ("writer", "command".into()),
            ("name", name.clone()),
            ("start", words_parameter(start)),
            ("stop", words_parameter(stop)),
            ("probe", words_parameter(probe)),
        ]),
        Writer::Workflow { repository, workflow } => named([
            ("writer", "workflow".into()),
            ("repository", repository.clone()),
            ("workflow", workflow.clone()),
        ]),
    }
}

/// What a provider needs of a setting.
pub(super) fn setting_parameters(setting: &Setting) -> Parameters {
    let mut parameters = match &setting.place {
        SettingPlace::File { path, key } => {
            let mut parameters = named([("setting", "file".into()), ("path", path.clone())]);
            parameters.extend(key.clone().map(|key| ("key".into(), key)));
            parameters
        }
        SettingPlace::AwsSecret { name } => {
            named([("setting", "aws-secret".into()), ("name", name.clone())])
        }
        SettingPlace::Kubernetes { context, kind, object, key, inside } => {
            let mut parameters = named([
                ("setting", "kubernetes".into()),
                ("context", context.clone()),
                ("kind", (*kind).into()),
                ("object", object.clone()),
                ("key", key.clone()),
            ]);
            parameters.extend(inside.clone().map(|inside| ("inside".into(), inside)));
            parameters
        }
        SettingPlace::Vercel { project, variable } => named([
            ("setting", "vercel".into()),
            ("project", project.clone()),
            ("variable", variable.clone()),
        ]),
        SettingPlace::AppConfiguration { endpoint, key } => named([
            ("setting", "app-configuration".into()),
            ("endpoint", endpoint.clone()),
            ("key", key.clone()),
        ]),
    };
    parameters.insert("form".into(), setting.form.text().into());
    let fields: BTreeMap<String, String> = setting
        .fields
        .iter()
        .map(|(part, field)| (format!("field.{part}"), field.clone()))
        .collect();
    parameters.extend(fields);
    parameters
}

/// What a provider needs of a smoke test.
pub(super) fn smoke_parameters(smoke: &Smoke) -> Parameters {
    let expect = &smoke.expect;
    let mut parameters = named([
        ("method", smoke.method.into()),
        ("url", smoke.url.clone()),
        ("status", expect.status.to_string()),
    ]);
    let optional = [
        ("body", smoke.body.clone()),
        ("login", smoke.login.clone()),
        ("min_items", expect.min_items.map(|items| items.to_string())),
        ("within_ms", expect.within.map(|within| within.as_millis().to_string())),
    ];
    for (name, value) in optional {
        parameters.extend(value.map(|value| (name.to_owned(), value)));
    }
    for (pointer, value) in &expect.json {
        parameters.insert(format!("json.{pointer}"), value.clone());
    }
    parameters
}
