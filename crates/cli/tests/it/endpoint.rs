//! An HTTP server of somebody else: a door that is moved by calls, and a channel.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// `PUT /shut`.
    pub(crate) line: String,
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
}

/// The server. `PUT /shut` and `PUT /open` need the token; `GET /door` tells; `POST /room` is kept.
pub(crate) struct Endpoint {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Endpoint {
    pub(crate) fn start(token: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (kept, bearer) = (Arc::clone(&seen), format!("authorization: Bearer {token}"));
        thread::spawn(move || {
            let mut shut = false;
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read(&mut stream) else { continue };
                let known = request.headers.contains(&bearer);
                let (status, body) = match (request.line.as_str(), known) {
                    ("PUT /shut" | "PUT /open", false) => ("403 Forbidden", "who?"),
                    ("PUT /shut" | "PUT /open", true) => {
                        shut = request.line == "PUT /shut";
                        ("200 OK", "")
                    }
                    ("GET /door", _) => ("200 OK", if shut { "shut" } else { "open" }),
                    ("POST /room", _) => ("200 OK", ""),
                    ("POST /pager", _) => ("202 Accepted", "{\"status\": \"success\"}"),
                    ("POST /chat", _) => ("200 OK", "ok"),
                    _ => ("404 Not Found", "shut, open and all other words"),
                };
                kept.lock().unwrap().push(request);
                let length = body.len();
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n");
                let _ = write!(stream, "{head}Connection: close\r\n\r\n{body}");
            }
        });
        Self { port, seen }
    }

    pub(crate) fn seen(&self, line: &str) -> Vec<Request> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|request| request.line == line).cloned().collect()
    }
}

pub(crate) fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let line = line.rsplit_once(' ')?.0.to_owned();
    let mut headers = Vec::new();
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        if header.trim().is_empty() {
            break;
        }
        let (name, value) = header.trim().split_once(": ")?;
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().ok()?;
        }
        headers.push(format!("{}: {value}", name.to_ascii_lowercase()));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { line, headers, body: String::from_utf8(body).ok()? })
}
