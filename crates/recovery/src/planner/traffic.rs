//! What leads users here: looked at first, switched last.

use super::build::{shell, step};
use crate::inventory::{Inventory, TrafficFact};
use crate::plan::{Class, Stage, Step, StepKind, UndoWhen, duration_text};
use crate::service::{Traffic, TrafficHow, TrafficRecord};

/// Asking a server and seeing its answer, in seconds.
const ASKED_S: u64 = 5;

/// Everything that leads users here can be switched; touches nothing.
pub(super) fn check_traffic(traffic: &[Traffic], inventory: &Inventory) -> Vec<Step> {
    let steps = traffic.iter().map(|traffic| {
        let draft = step(Stage::Assess, "traffic", &traffic.name, StepKind::CheckTraffic)
            .effect(format!("{} can be switched to {}", traffic.describe(), traffic.standby()))
            .with_all(traffic.parameters())
            .command(look_command(traffic))
            .predicted(ASKED_S);
        match ttl_s(traffic, inventory) {
            // What was warned of already is no reason to stop at night.
            Some(ttl_s) => draft.with("ttl_s_planned", ttl_s.to_string()).done(),
            None => draft.done(),
        }
    });
    steps.collect()
}

/// Users are led to the standby site. Behind the point of no return nothing is put back; before it
/// a rollback does.
pub(super) fn switch_traffic(
    traffic: &[Traffic],
    inventory: &Inventory,
    is_final: bool,
) -> Vec<Step> {
    let steps = traffic.iter().map(|traffic| {
        let (class, when, undo) = match is_final {
            true => (Class::Final, UndoWhen::Never, "none: it is behind the point of no return"),
            false => (Class::Undoable, UndoWhen::Always, "leads users where they were led before"),
        };
        step(Stage::Open, "traffic", &traffic.name, StepKind::SwitchTraffic)
            .effect(effect(traffic, inventory))
            .undo(class, when, undo)
            .with_all(traffic.parameters())
            .command(switch_command(traffic))
            .predicted(ASKED_S + wait_s(traffic, inventory))
            .done()
    });
    steps.collect()
}

/// What the operator must see of it beforehand.
pub(super) fn warnings(traffic: &[Traffic], inventory: &Inventory) -> Vec<String> {
    let warnings =
        traffic.iter().filter_map(|traffic| match inventory.traffic.get(&traffic.name)? {
            TrafficFact::Fails(why) => {
                Some(format!("{} cannot be switched now: {why}", traffic.describe()))
            }
            TrafficFact::Ready { ttl_s } => {
                let (ttl_s, record) = ((*ttl_s)?, traffic.record()?);
                (ttl_s > record.ttl_s_max).then(|| {
                    format!(
                        "{} may be cached for {}, expected at most {}: so long users are led to \
                         the old site",
                        traffic.describe(),
                        duration_text(ttl_s),
                        duration_text(record.ttl_s_max)
                    )
                })
            }
        });
    warnings.collect()
}

fn ttl_s(traffic: &Traffic, inventory: &Inventory) -> Option<u64> {
    match inventory.traffic.get(&traffic.name)? {
        TrafficFact::Ready { ttl_s } => *ttl_s,
        TrafficFact::Fails(_) => None,
    }
}

/// How long users may still be led to the old site after the switch.
fn wait_s(traffic: &Traffic, inventory: &Inventory) -> u64 {
    let known = ttl_s(traffic, inventory);
    traffic.record().map_or(0, |record| known.unwrap_or(record.ttl_s))
}

fn effect(traffic: &Traffic, inventory: &Inventory) -> String {
    let leads = format!("leads users to {}: {}", traffic.standby(), traffic.describe());
    match traffic.record() {
        Some(record) if record.resolvers.is_empty() => format!(
            "{leads}; caches may give the old answer for {}",
            duration_text(wait_s(traffic, inventory))
        ),
        Some(record) => format!(
            "{leads}; waits until {} see it, {} at most",
            record.resolvers.join(", "),
            duration_text(wait_s(traffic, inventory))
        ),
        None => leads,
    }
}

/// Words, quoted where they have to be.
fn words(words: &[&str]) -> String {
    shell(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
}

fn host_and_port(server: &str) -> (&str, &str) {
    server.rsplit_once(':').unwrap_or((server, "53"))
}

/// What gives a secret at a shell, so that it stands in no command.
fn secret(reference: &str) -> String {
    match reference.split_once(':') {
        Some(("env", name)) => format!("${name}"),
        Some(("file", path)) => format!("$(cat {})", words(&[path])),
        _ => "$SECRET".into(),
    }
}

fn socat(socket: &str) -> String {
    match socket.starts_with('/') {
        true => format!("socat - {}", words(&[&format!("UNIX-CONNECT:{socket}")])),
        false => format!("socat - {}", words(&[&format!("TCP:{socket}")])),
    }
}

/// What a person would type to look at it.
fn look_command(traffic: &Traffic) -> String {
    match &traffic.how {
        TrafficHow::Nsupdate { server, record, .. } => {
            let (host, port) = host_and_port(server);
            let server = format!("@{host}");
            words(&["dig", &server, "-p", port, &record.name, &record.kind, "+noall", "+answer"])
        }
        TrafficHow::PowerDns { record, .. } => match record.resolvers.first() {
            Some(resolver) => {
                let (host, port) = host_and_port(resolver);
                let server = format!("@{host}");
                words(&["dig", &server, "-p", port, &record.name, &record.kind])
            }
            None => words(&["dig", &record.name, &record.kind]),
        },
        TrafficHow::HaProxy { socket, backend, .. } => {
            format!("echo 'show servers state {backend}' | {}", socat(socket))
        }
        TrafficHow::Nginx { file, standby, test, .. } => {
            format!("{}; {}", words(&["diff", file, standby]), shell(test))
        }
    }
}

/// What a person would type to switch it.
fn switch_command(traffic: &Traffic) -> String {
    match &traffic.how {
        TrafficHow::Nsupdate { server, key, record } => {
            let (host, port) = host_and_port(server);
            let TrafficRecord { zone, name, kind, standby, ttl_s, .. } = record;
            let key = match key.split_once(':') {
                Some(("file", path)) => words(&[path]),
                _ => format!("<(echo \"{}\")", secret(key)),
            };
            format!(
                "printf '%s\\n' 'server {host} {port}' 'zone {zone}' \
                 'prereq yxrrset {name} {kind}' 'update delete {name} {kind}' \
                 'update add {name} {ttl_s} {kind} {standby}' send | nsupdate -k {key}"
            )
        }
        TrafficHow::PowerDns { url, server, login, record } => {
            let dot = |name: &str| format!("{}.", name.trim_end_matches('.'));
            let content = match record.kind.as_str() {
                "CNAME" => dot(&record.standby),
                _ => record.standby.clone(),
            };
            let body = serde_json::json!({ "rrsets": [{
                "name": dot(&record.name), "type": record.kind, "ttl": record.ttl_s,
                "changetype": "REPLACE", "records": [{ "content": content, "disabled": false }],
            }] });
            format!(
                "curl -fsS -X PATCH -H \"X-API-Key: {}\" -d {} {}",
                secret(login),
                words(&[&body.to_string()]),
                words(&[&format!("{url}/api/v1/servers/{server}/zones/{}", dot(&record.zone))])
            )
        }
        TrafficHow::HaProxy { socket, backend, primary, standby } => {
            let primary = primary.iter().map(|server| {
                format!(
                    "; set server {backend}/{server} state maint; \
                     shutdown sessions server {backend}/{server}"
                )
            });
            format!(
                "echo 'set server {backend}/{standby} state ready{}' | {}",
                primary.collect::<String>(),
                socat(socket)
            )
        }
        TrafficHow::Nginx { file, standby, test, reload, .. } => {
            let before = format!("{file}.before");
            [
                words(&["cp", "-p", file, &before]),
                words(&["cp", standby, file]),
                shell(test),
                shell(reload),
            ]
            .join(" && ")
        }
    }
}
