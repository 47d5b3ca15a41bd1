//! A proxy that spoils HTTP requests on the wire, one per connection.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// It is forwarded and answered.
    None,
    /// The connection is closed before the server sees the request.
    Refused,
    /// The proxy answers 503, as a busy S3 does.
    Busy,
    /// The server acts on it, and the connection is cut before its answer passes.
    LostAnswer,
    /// It is forwarded without its `If-None-Match`: what is there is replaced, and the answer says
    /// that it was created. Some S3 look-alikes ignore the header.
    Unconditional,
}

/// Which request meets which mishap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Any of them with the same chance, by this seed.
    Random(u64),
    /// The first request the first one, and so on, again and again.
    InTurn,
}

/// An HTTP server on 127.0.0.1 that passes requests on to another one, and spoils some of them.
///
/// It takes bodies whose length is given, not chunked ones. It ends on drop; a request that is
/// under way then ends with its client.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    script: Arc<Script>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Script {
    server: String,
    order: Order,
    mishaps: Vec<Mishap>,
    requests: AtomicUsize,
    struck: AtomicUsize,
    has_ended: AtomicBool,
}

impl Script {
    fn next(&self) -> Mishap {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) as u64;
        let number = match self.order {
            Order::InTurn => number,
            Order::Random(seed) => {
                let mut hasher = DefaultHasher::new();
                (seed, number).hash(&mut hasher);
                hasher.finish()
            }
        };
        let at = number % self.mishaps.len() as u64;
        self.mishaps[usize::try_from(at).expect("it is below a length")]
    }
}

impl Proxy {
    /// Starts one in front of `endpoint`, such as [`S3::endpoint`](crate::S3::endpoint); each
    /// request meets one of `mishaps`.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn start(endpoint: &str, order: Order, mishaps: &[Mishap]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen on 127.0.0.1");
        let address = listener.local_addr().expect("learn the proxy's port");
        let script = Arc::new(Script {
            server: endpoint.trim_start_matches("http://").to_owned(),
            order,
            mishaps: mishaps.to_vec(),
            requests: AtomicUsize::new(0),
            struck: AtomicUsize::new(0),
            has_ended: AtomicBool::new(false),
        });
        let shared = Arc::clone(&script);
        let listener = thread::spawn(move || listen(&listener, &shared));
        Self { address, script, listener: Some(listener) }
    }

    /// Returns its address, such as `http://127.0.0.1:40123`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns how many requests were spoiled so far. A test that wants mishaps asserts that there
    /// were some.
    pub fn struck(&self) -> usize {
        self.script.struck.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.script.has_ended.store(true, Ordering::SeqCst);
        // Wakes the listener, which then looks.
        let _ = TcpStream::connect(self.address);
        let _ = self.listener.take().map(JoinHandle::join);
    }
}

fn listen(listener: &TcpListener, script: &Arc<Script>) {
    for client in listener.incoming() {
        if script.has_ended.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        let script = Arc::clone(script);
        // An error is a closed connection, which is what this proxy is for.
        thread::spawn(move || pass(client, &script));
    }
}

const BUSY: &[u8] = b"HTTP/1.1 503 Slow Down\r\ncontent-type: application/xml\r\n\
content-length: 71\r\nconnection: close\r\n\r\n\
<Error><Code>SlowDown</Code><Message>Reduce your rate</Message></Error>";

/// A request's head, whatever of the body came with it, and how much of the body is to come.
struct Request {
    head: String,
    body: Vec<u8>,
    missing: u64,
}

impl Request {
    /// Reads it; `None` when the client goes without one: clients open connections in reserve.
    fn read(client: &mut TcpStream) -> io::Result<Option<Self>> {
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
        let body = begun.split_off(head_end);
        let head = String::from_utf8(begun).map_err(io::Error::other)?;
        let body_len = head.lines().find_map(|line| value_of(line, "content-length"));
        let body_len = body_len.map_or(Ok(0), str::parse).map_err(io::Error::other)?;
        let missing = body_len - body.len() as u64;
        Ok(Some(Self { head, body, missing }))
    }

    /// The head as it is passed on: one request per connection, so that each meets its mishap.
    fn head_without(&self, dropped: Option<&str>) -> String {
        let (first, rest) = self.head.split_once("\r\n").expect("a head has a first line");
        let mut head = format!("{first}\r\nconnection: close\r\n");
        for line in rest.split_inclusive("\r\n") {
            if dropped.is_none_or(|name| value_of(line, name).is_none()) {
                head.push_str(line);
            }
        }
        head
    }

    fn has(&self, name: &str) -> bool {
        self.head.lines().any(|line| value_of(line, name).is_some())
    }
}

/// The value of the header `name` if this line is it.
fn value_of<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (found, value) = line.split_once(':')?;
    found.eq_ignore_ascii_case(name).then(|| value.trim())
}

fn pass(mut client: TcpStream, script: &Script) -> io::Result<()> {
    let Some(request) = Request::read(&mut client)? else { return Ok(()) };
    let mishap = script.next();
    let condition = "if-none-match";
    let struck = match mishap {
        Mishap::None => false,
        Mishap::Unconditional => request.has(condition),
        Mishap::Refused | Mishap::Busy | Mishap::LostAnswer => true,
    };
    script.struck.fetch_add(usize::from(struck), Ordering::Relaxed);
    let mut rest = client.try_clone()?.take(request.missing);
    match mishap {
        Mishap::Refused => return Ok(()),
        Mishap::Busy => {
            io::copy(&mut rest, &mut io::sink())?;
            client.write_all(BUSY)?;
            return client.shutdown(Shutdown::Write);
        }
        Mishap::None | Mishap::LostAnswer | Mishap::Unconditional => {}
    }
    let mut upstream = TcpStream::connect(&script.server)?;
    // Head and body are separate writes: without this each pair waits for an acknowledgement.
    upstream.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let dropped = (mishap == Mishap::Unconditional).then_some(condition);
    upstream.write_all(request.head_without(dropped).as_bytes())?;
    upstream.write_all(&request.body)?;
    io::copy(&mut rest, &mut upstream)?;
    if mishap == Mishap::LostAnswer {
        // Once it answers, it has acted.
        return upstream.read_exact(&mut [0]);
    }
    io::copy(&mut upstream, &mut client).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::S3;

    /// Sends a put of `body`, on the condition that there is no object, and returns the status.
    fn put(endpoint: &str, path: &str, body: &str) -> Option<u16> {
        let address = endpoint.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).unwrap();
        let head = format!(
            "PUT {path} HTTP/1.1\r\nhost: {address}\r\nIf-None-Match: *\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // The other side may be gone already.
        let _ = stream.write_all(body.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        answer.split(' ').nth(1).map(|status| status.parse().unwrap())
    }

    #[test]
    fn every_mishap_does_what_it_says() {
        let s3 = S3::start();
        let check = |mishap: Mishap, key: &str, status: Option<u16>, keys: &[&str]| {
            let proxy = Proxy::start(&s3.endpoint(), Order::InTurn, &[mishap]);
            let path = format!("/{}/{key}", s3.bucket());
            assert_eq!(put(&proxy.endpoint(), &path, "body"), status, "{mishap:?}");
            assert_eq!(proxy.struck(), usize::from(mishap != Mishap::None));
            assert_eq!(s3.keys(), keys, "{mishap:?}");
        };
        check(Mishap::Refused, "a", None, &[]);
        check(Mishap::Busy, "a", Some(503), &[]);
        check(Mishap::LostAnswer, "a", None, &["a"]);
        check(Mishap::None, "a", Some(412), &["a"]);
        check(Mishap::Unconditional, "a", Some(200), &["a"]);
        check(Mishap::None, "b", Some(200), &["a", "b"]);
    }

    #[test]
    fn the_order_decides_and_nobody_listens_after_the_drop() {
        let s3 = S3::start();
        let statuses = |order: Order| -> Vec<Option<u16>> {
            let proxy = Proxy::start(&s3.endpoint(), order, &[Mishap::None, Mishap::Busy]);
            (0..32).map(|_| put(&proxy.endpoint(), "/no-such-bucket/key", "")).collect()
        };
        let turns = statuses(Order::InTurn);
        assert_eq!(turns[..4], [Some(404), Some(503), Some(404), Some(503)]);
        let first = statuses(Order::Random(1));
        assert_eq!(first, statuses(Order::Random(1)));
        assert_ne!(first, statuses(Order::Random(2)));
        let busy = first.iter().filter(|status| **status == Some(503)).count();
        assert!((8..25).contains(&busy), "{busy} of 32");
        let proxy = Proxy::start(&s3.endpoint(), Order::InTurn, &[Mishap::None]);
        let address = proxy.address;
        drop(proxy);
        assert!(TcpStream::connect(address).is_err());
    }
}
