//! PagerDuty, Opsgenie and Statuspage as their published contracts describe them: every request is
//! checked, and what does not fit is answered the way the vendor answers it.

use std::collections::VecDeque;
use std::io::Write;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use crate::endpoint::{Request, read};

/// What every key of every vendor is here: PagerDuty's have 32 characters.
pub(crate) const KEY: &str = "pl4nted0pl4nted0pl4nted0pl4nted0";

#[derive(Default)]
struct State {
    seen: Vec<(Request, String)>,
    /// Answers that come before any other: part of a path, status and headers.
    troubles: VecDeque<(&'static str, &'static str)>,
    /// Requests to Opsgenie that were asked for once.
    polled: Vec<String>,
    page: Vec<Value>,
}

/// The vendors, on one port.
pub(crate) struct Vendors {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

impl Vendors {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read(&mut stream) else { continue };
                let mut state = shared.lock().unwrap();
                let (status, body) = answer(&mut state, &request);
                state.seen.push((request, status.clone()));
                let length = body.len();
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n");
                let _ = write!(stream, "{head}Connection: close\r\n\r\n{body}");
            }
        });
        Self { port, state }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The next request whose line has this part is answered so: `503 Busy\r\nRetry-After: 1`.
    pub(crate) fn trouble(&self, part: &'static str, answer: &'static str) {
        self.state.lock().unwrap().troubles.push_back((part, answer));
    }

    /// Bodies of requests whose line begins so, that were answered with a status that begins so.
    pub(crate) fn bodies(&self, line: &str, status: &str) -> Vec<Value> {
        let state = self.state.lock().unwrap();
        let fits = state
            .seen
            .iter()
            .filter(|(request, seen)| request.line.starts_with(line) && seen.starts_with(status));
        fits.map(|(request, _)| serde_json::from_str(&request.body).unwrap_or_default()).collect()
    }

    /// Every request that was refused as wrong.
    pub(crate) fn refused(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let wrong = state.seen.iter().filter(|(request, seen)| {
            seen.starts_with('4') && !seen.starts_with("429") && !request.line.starts_with("GET")
        });
        wrong.map(|(request, seen)| format!("{seen}: {request:?}")).collect()
    }

    /// The incidents of the status page.
    pub(crate) fn page(&self) -> Vec<Value> {
        self.state.lock().unwrap().page.clone()
    }
}

fn answer(state: &mut State, request: &Request) -> (String, String) {
    if let Some((part, trouble)) = state.troubles.front().copied()
        && request.line.contains(part)
    {
        state.troubles.pop_front();
        return (trouble.into(), String::new());
    }
    let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
    let (method, path) = request.line.split_once(' ').unwrap();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let made = match (method, &parts[..]) {
        ("POST", ["v2", "enqueue"]) => event(&body),
        ("PUT", ["incidents", _]) => change(request, &body),
        ("POST", ["incidents", _, "notes"]) => note(request, &body),
        ("POST", ["v2", "alerts"]) => alert(request, &body),
        ("POST", ["v2", "alerts", _, "close" | "acknowledge"]) => None,
        ("POST", ["v2", "alerts", alias, verb]) => {
            let known = ["close?identifierType=alias", "acknowledge?identifierType=alias"];
            let ok = known.contains(verb) && alias.starts_with("rollforward%20shop");
            (ok && has(request, &format!("authorization: GenieKey {KEY}"))).then(accepted)
        }
        ("GET", ["v2", "alerts", "requests", id]) => {
            // It is processed a little later.
            let is_known = state.polled.iter().any(|seen| seen == id);
            state.polled.push((*id).to_owned());
            let done = json!({ "data": { "success": true, "isSuccess": true, "status": "done" } });
            if is_known { Some(("200 OK", done)) } else { return not_found() }
        }
        (_, ["v1", "pages", "p4ge", rest @ ..]) => status_page(state, request, rest, &body),
        _ => return not_found(),
    };
    match made {
        Some((status, body)) => (status.into(), body.to_string()),
        None => ("400 Bad Request".into(), json!({ "status": "invalid event" }).to_string()),
    }
}

type Answer = Option<(&'static str, Value)>;

fn not_found() -> (String, String) {
    ("404 Not Found".into(), "{}".into())
}

fn accepted() -> (&'static str, Value) {
    let id = format!("r-{}", std::process::id());
    ("202 Accepted", json!({ "result": "Request will be processed", "took": 0.1, "requestId": id }))
}

fn has(request: &Request, header: &str) -> bool {
    request.headers.iter().any(|it| it == header)
}

fn within(value: &Value, pointer: &str, len: usize) -> bool {
    let text = value.pointer(pointer).and_then(Value::as_str);
    text.is_some_and(|text| !text.is_empty() && text.chars().count() <= len)
}

/// PagerDuty, Events API v2.
fn event(body: &Value) -> Answer {
    let action = body["event_action"].as_str()?;
    let is_trigger = action == "trigger";
    let fits = body["routing_key"].as_str()?.len() == 32
        && ["trigger", "acknowledge", "resolve"].contains(&action)
        && within(body, "/dedup_key", 255)
        && (!is_trigger
            || (within(body, "/payload/summary", 1024)
                && within(body, "/payload/source", 1024)
                && ["critical", "error", "warning", "info"]
                    .contains(&body["payload"]["severity"].as_str()?)))
        && body["links"].as_array().is_none_or(|links| {
            links.iter().all(|link| link["href"].as_str().is_some_and(|it| it.starts_with("http")))
        });
    let processed = json!({ "status": "success", "message": "Event processed", "dedup_key": body["dedup_key"] });
    fits.then_some(("202 Accepted", processed))
}

/// PagerDuty, REST API.
fn is_rest(request: &Request) -> bool {
    has(request, &format!("authorization: Token token={KEY}"))
        && has(request, "accept: application/vnd.pagerduty+json;version=2")
        && request.headers.iter().any(|it| it.starts_with("from: ") && it.contains('@'))
}

fn change(request: &Request, body: &Value) -> Answer {
    let incident = &body["incident"];
    let status = ["acknowledged", "resolved", "triggered"].contains(&incident["status"].as_str()?);
    let fits = is_rest(request) && incident["type"] == "incident_reference" && status;
    fits.then(|| ("200 OK", json!({ "incident": incident })))
}

fn note(request: &Request, body: &Value) -> Answer {
    let fits = is_rest(request) && within(body, "/note/content", 2000);
    fits.then(|| ("201 Created", body.clone()))
}

/// Opsgenie, Alert API v2.
fn alert(request: &Request, body: &Value) -> Answer {
    let fits = has(request, &format!("authorization: GenieKey {KEY}"))
        && within(body, "/message", 130)
        && within(body, "/alias", 512)
        && ["P1", "P2", "P3", "P4", "P5"].contains(&body["priority"].as_str()?)
        && body["details"].is_object();
    fits.then(accepted)
}

/// Statuspage, incidents.
fn status_page(state: &mut State, request: &Request, rest: &[&str], body: &Value) -> Answer {
    if !has(request, &format!("authorization: OAuth {KEY}")) {
        return None;
    }
    let method = request.line.split(' ').next()?;
    let change = &body["incident"];
    let states = ["investigating", "identified", "monitoring", "resolved"];
    let is_state = change["status"].as_str().is_some_and(|it| states.contains(&it));
    let update = json!({ "status": change["status"], "body": change["body"] });
    match (method, rest) {
        ("GET", ["incidents", "unresolved"]) => {
            let open = state.page.iter().filter(|it| it["status"] != "resolved");
            Some(("200 OK", open.cloned().collect()))
        }
        ("POST", ["incidents"]) if is_state && within(change, "/name", 255) => {
            let mut made = change.clone();
            made["id"] = format!("i{}", state.page.len()).into();
            made["incident_updates"] = json!([update]);
            state.page.insert(0, made.clone());
            Some(("201 Created", made))
        }
        ("PATCH", ["incidents", id]) if is_state => {
            let there = state.page.iter_mut().find(|it| it["id"] == *id)?;
            there["status"] = change["status"].clone();
            there["incident_updates"].as_array_mut()?.insert(0, update);
            Some(("200 OK", there.clone()))
        }
        _ => None,
    }
}
