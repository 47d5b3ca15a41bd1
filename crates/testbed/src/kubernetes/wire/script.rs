//! Requests, and what happens to them.

use std::io::{self, Read};

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiMishap {
    /// It is passed on and answered.
    None,
    /// The wire answers with this status and a `Status` object, as the API server does; nothing is
    /// passed on.
    Status(u16),
    /// The wire answers 429 in plain text, as an API server with too many requests in flight does,
    /// with these seconds as `Retry-After`; nothing is passed on.
    Busy(Option<u32>),
    /// It is neither passed on nor answered.
    Silence,
    /// The connection is cut before the API server sees it.
    Cut,
    /// The API server acts on it, and the connection is cut before its answer passes.
    LostAnswer,
    /// It is passed on and answered; when the answer comes, nobody listens any more, until
    /// [`ApiWire::comes_back`](super::ApiWire::comes_back).
    Leaves,
}

impl ApiMishap {
    pub(super) fn answer(self) -> Vec<u8> {
        let (code, more, body) = match self {
            Self::Busy(after) => {
                let after = after.map(|seconds| format!("Retry-After: {seconds}\r\n"));
                let body = "Too many requests, please try again later.\n".to_owned();
                (429, after.unwrap_or_default(), body)
            }
            Self::Status(code) => {
                let body = serde_json::json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "message": "the wire says so", "reason": reason(code), "code": code,
                });
                (code, "Content-Type: application/json\r\n".to_owned(), body.to_string())
            }
            _ => return Vec::new(),
        };
        let head = format!(
            "HTTP/1.1 {code} {}\r\n{more}Content-Length: {}\r\nConnection: close\r\n\r\n",
            reason(code),
            body.len()
        );
        (head + &body).into_bytes()
    }
}

/// As k8s.io/apimachinery names them (`StatusReason`).
fn reason(code: u16) -> &'static str {
    match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        409 => "Conflict",
        422 => "Invalid",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "",
    }
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiRequest {
    /// `GET`, `PATCH`, and so on.
    pub method: String,
    /// Path and query.
    pub path: String,
}

impl ApiRequest {
    /// Whether it would change an object: no dry run, and no question about rights.
    pub fn is_change(&self) -> bool {
        self.method != "GET"
            && !self.path.contains("dryRun=")
            && !self.path.contains("subjectaccessreviews")
    }
}

/// A request that the API server saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// It.
    pub request: ApiRequest,
    /// The status that was answered.
    pub status: u16,
}

impl Passed {
    pub(super) fn is_change(&self) -> bool {
        self.request.is_change() && (200..300).contains(&self.status)
    }
}

/// A request as it came.
pub(super) struct Request {
    pub(super) asked: ApiRequest,
    headers: String,
    body: Vec<u8>,
}

impl Request {
    /// Reads it; `None` when the client goes without one: clients open connections in reserve.
    pub(super) fn read(client: &mut impl Read) -> io::Result<Option<Self>> {
        let mut begun = Vec::new();
        let mut piece = [0; 16 << 10];
        let head_end = loop {
            let len = client.read(&mut piece)?;
            if len == 0 {
                return Ok(None);
            }
            begun.extend_from_slice(&piece[..len]);
            if let Some(at) = begun.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let mut body = begun.split_off(head_end);
        let head = String::from_utf8(begun).map_err(io::Error::other)?;
        let (first, headers) = head.split_once("\r\n").expect("a head has a first line");
        let value = |name: &str| headers.lines().find_map(|line| value_of(line, name));
        assert_eq!(value("transfer-encoding"), None, "bodies have a length");
        let len = value("content-length").map_or(Ok(0), str::parse).map_err(io::Error::other)?;
        let missing = len - body.len() as u64;
        client.take(missing).read_to_end(&mut body)?;
        let mut words = first.split(' ').map(str::to_owned);
        let mut word = || words.next().unwrap_or_default();
        let asked = ApiRequest { method: word(), path: word() };
        Ok(Some(Self { asked, headers: headers.to_owned(), body }))
    }

    /// As it is passed on, in the older protocol: its answers end with the connection and come in
    /// one piece.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.0\r\n", self.asked.method, self.asked.path);
        for line in self.headers.split_inclusive("\r\n") {
            if value_of(line, "connection").is_none() {
                head.push_str(line);
            }
        }
        [head.as_bytes(), &self.body].concat()
    }
}

/// The value of the header `name` if this line is it.
fn value_of<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (found, value) = line.split_once(':')?;
    found.eq_ignore_ascii_case(name).then(|| value.trim())
}
