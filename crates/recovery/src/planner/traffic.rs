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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{five, sample};

    fn seen(fact: TrafficFact) -> Inventory {
        let mut inventory = sample::inventory();
        inventory.traffic.insert("odoo.acme.example".into(), fact);
        inventory
    }

    #[test]
    fn a_long_time_in_caches_is_warned_of_and_counts() {
        let traffic = five::odoo().sites["dr"].traffic.clone();
        let slow = seen(TrafficFact::Ready { ttl_s: Some(3600) });
        assert_eq!(switch_traffic(&traffic, &slow, true)[0].predicted_s, 3605);
        assert_eq!(check_traffic(&traffic, &slow)[0].parameters["ttl_s_planned"], "3600");
        assert_eq!(
            warnings(&traffic, &slow),
            ["CNAME record 'odoo.acme.example' at ns1.acme.example:53 may be cached for 60 min, \
              expected at most 5 min: so long users are led to the old site"]
        );
        let quick = seen(TrafficFact::Ready { ttl_s: Some(300) });
        assert_eq!(warnings(&traffic, &quick), Vec::<String>::new());
        let fails = seen(TrafficFact::Fails("no answer".into()));
        assert_eq!(switch_traffic(&traffic, &fails, true)[0].predicted_s, 65, "as it is declared");
        assert!(warnings(&traffic, &fails)[0].ends_with("cannot be switched now: no answer"));
    }

    #[test]
    fn before_the_point_of_no_return_a_rollback_leads_users_back() {
        let traffic = five::odoo().sites["dr"].traffic.clone();
        let of = |is_final| switch_traffic(&traffic, &sample::inventory(), is_final).remove(0);
        let (last, back) = (of(true), of(false));
        assert_eq!((last.class, last.undo_when), (Class::Final, UndoWhen::Never));
        assert_eq!((back.class, back.undo_when), (Class::Undoable, UndoWhen::Always));
        assert_eq!(back.id, last.id);
    }

    #[test]
    fn a_person_sees_what_to_type_and_no_secret() {
        let check = |how: TrafficHow, expect: &str| {
            let traffic = Traffic { name: "odoo".into(), how };
            assert_eq!(switch_command(&traffic), expect);
        };
        let record = five::odoo().sites["dr"].traffic[0].record().unwrap().clone();
        let nsupdate = |key: &str| TrafficHow::Nsupdate {
            server: "ns1.acme.example:53".into(),
            key: key.into(),
            record: record.clone(),
        };
        let update = "printf '%s\\n' 'server ns1.acme.example 53' 'zone acme.example' \
                      'prereq yxrrset odoo.acme.example CNAME' \
                      'update delete odoo.acme.example CNAME' \
                      'update add odoo.acme.example 60 CNAME odoo-dr.acme.example' send";
        check(nsupdate("file:/etc/tsig.key"), &format!("{update} | nsupdate -k /etc/tsig.key"));
        check(nsupdate("env:TSIG"), &format!("{update} | nsupdate -k <(echo \"$TSIG\")"));
        let powerdns = TrafficHow::PowerDns {
            url: "http://127.0.0.1:8081".into(),
            server: "localhost".into(),
            login: "env:PDNS_KEY".into(),
            record: record.clone(),
        };
        check(
            powerdns,
            "curl -fsS -X PATCH -H \"X-API-Key: $PDNS_KEY\" -d \
             '{\"rrsets\":[{\"changetype\":\"REPLACE\",\"name\":\"odoo.acme.example.\",\
             \"records\":[{\"content\":\"odoo-dr.acme.example.\",\"disabled\":false}],\
             \"ttl\":60,\"type\":\"CNAME\"}]}' \
             http://127.0.0.1:8081/api/v1/servers/localhost/zones/acme.example.",
        );
        let haproxy = TrafficHow::HaProxy {
            socket: "/run/admin.sock".into(),
            backend: "odoo".into(),
            primary: vec!["a".into()],
            standby: "dr".into(),
        };
        check(
            haproxy,
            "echo 'set server odoo/dr state ready; set server odoo/a state maint; \
             shutdown sessions server odoo/a' | socat - UNIX-CONNECT:/run/admin.sock",
        );
        let nginx = TrafficHow::Nginx {
            file: "/etc/nginx/up.inc".into(),
            standby: "/etc/nginx/dr.inc".into(),
            test: vec!["nginx".into(), "-t".into()],
            reload: vec!["nginx".into(), "-s".into(), "reload".into()],
            probe_url: None,
            probe_word: None,
        };
        check(
            nginx,
            "cp -p /etc/nginx/up.inc /etc/nginx/up.inc.before && \
             cp /etc/nginx/dr.inc /etc/nginx/up.inc && nginx -t && nginx -s reload",
        );
    }
}
