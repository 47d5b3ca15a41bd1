//! An S3-compatible server.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::account::as_postgres;
use crate::port::Port;
use crate::tools::{self, INSTALL_COMMAND};
use crate::workdir::Workdir;
use crate::{poll, poll_for};

const START_DEADLINE: Duration = Duration::from_secs(60);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// A bucket of its own on a real S3-compatible server (ministack), on 127.0.0.1.
///
/// The server honours `If-None-Match`, `If-Match`, multipart, ranges, paging, versions and object
/// lock as S3 does; it does not check signatures, and takes parts below 5 MiB. It keeps all
/// objects in memory. It ends when the last of its buckets is dropped.
#[derive(Debug)]
pub struct S3 {
    server: Arc<Server>,
    bucket: String,
}

impl S3 {
    /// Returns a new bucket on the server of this process, which is started when none runs.
    ///
    /// # Panics
    /// When the server is not installed or does not start.
    pub fn start() -> Self {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let server =
            shared.upgrade().unwrap_or_else(|| Arc::new(Server::start(Ipv4Addr::LOCALHOST)));
        *shared = Arc::downgrade(&server);
        drop(shared);
        Self::with_bucket(server)
    }

    /// Returns a bucket on a server of its own: for tests that pause or kill it.
    ///
    /// # Panics
    /// When the server is not installed or does not start.
    pub fn private() -> Self {
        Self::at(Ipv4Addr::LOCALHOST)
    }

    /// Returns a bucket on a server of its own that listens on another address of this machine.
    ///
    /// # Panics
    /// When the server is not installed or does not start.
    pub fn at(address: Ipv4Addr) -> Self {
        Self::with_bucket(Arc::new(Server::start(address)))
    }

    /// Returns the server's address, such as `http://127.0.0.1:20123`; buckets are in the path.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Returns the bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Returns the region to sign for.
    #[allow(clippy::unused_self)] // what a caller needs is asked of one value
    pub fn region(&self) -> &'static str {
        "eu-central-1"
    }

    /// Returns the access key id.
    #[allow(clippy::unused_self)] // what a caller needs is asked of one value
    pub fn access_key(&self) -> &'static str {
        "ROLLFORWARDTESTKEY"
    }

    /// Returns the secret access key.
    #[allow(clippy::unused_self)] // what a caller needs is asked of one value
    pub fn secret_key(&self) -> &'static str {
        "rollforward/test/secret/key"
    }

    /// Returns the keys of the bucket's objects in order, at most 1000.
    ///
    /// # Panics
    /// When the server does not list them.
    pub fn keys(&self) -> Vec<String> {
        let path = format!("/{}?list-type=2", self.bucket);
        let answer = request(self.server.address(), "GET", &path, b"");
        let (status, body) = answer.expect("ask the S3 server for a listing");
        let text = String::from_utf8(body).expect("a listing is text");
        assert_eq!(status, 200, "list bucket '{}': {text}", self.bucket);
        // Keys of ours need no decoding.
        let keys = text.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
        keys.map(|(key, _)| key.to_owned()).collect()
    }

    /// Puts an object, as an application would.
    ///
    /// # Panics
    /// When the server does not take it.
    pub fn put(&self, key: &str, content: &[u8]) {
        let path = format!("/{}/{key}", self.bucket);
        let answer = request(self.server.address(), "PUT", &path, content);
        assert_eq!(answer.expect("ask the S3 server to put").0, 200, "put '{path}'");
    }

    /// Returns the text of an object; `None` when there is none.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn text(&self, key: &str) -> Option<String> {
        let path = format!("/{}/{key}", self.bucket);
        let answer = request(self.server.address(), "GET", &path, b"");
        let (status, body) = answer.expect("ask the S3 server for an object");
        (status == 200).then(|| String::from_utf8(body).expect("it is text"))
    }

    /// Returns an object's content.
    ///
    /// # Panics
    /// When there is none.
    pub fn get(&self, key: &str) -> Vec<u8> {
        let path = format!("/{}/{key}", self.bucket);
        let answer = request(self.server.address(), "GET", &path, b"");
        let (status, body) = answer.expect("ask the S3 server to get");
        assert_eq!(status, 200, "get '{path}'");
        body
    }

    /// Stops the server's process without ending it: requests are accepted and never answered.
    pub fn pause(&self) {
        self.server.signal(Signal::STOP);
    }

    /// Lets a paused server go on.
    pub fn resume(&self) {
        self.server.signal(Signal::CONT);
    }

    /// Kills the server: connections are refused, all objects are lost.
    ///
    /// # Panics
    /// When it goes on taking connections.
    pub fn kill(&self) {
        self.server.signal(Signal::KILL);
        let gone = || TcpStream::connect(self.server.address()).is_err();
        poll(START_DEADLINE, "the killed server to refuse connections", gone);
    }

    fn with_bucket(server: Arc<Server>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let bucket = format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let answer = request(server.address(), "PUT", &format!("/{bucket}"), b"");
        let (status, body) = answer.expect("ask the S3 server for a bucket");
        assert_eq!(status, 200, "create bucket '{bucket}': {}", String::from_utf8_lossy(&body));
        Self { server, bucket }
    }
}

#[derive(Debug)]
struct Server {
    child: Child,
    host: Ipv4Addr,
    port: Port,
    workdir: Workdir,
}

impl Server {
    fn start(host: Ipv4Addr) -> Self {
        let program = tools::find("ministack/bin/ministack")
            .unwrap_or_else(|| panic!("the S3 server is not installed; run: {INSTALL_COMMAND}"));
        let port = Port::reserve();
        let workdir = Workdir::new();
        let log = File::create(workdir.join("log")).expect("create the S3 server's log");
        let mut command = Command::new(program);
        // It need not be root, and takes orders from many variables: it gets only these.
        as_postgres(&mut command);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", workdir.path())
            .env("TMPDIR", workdir.path())
            .env("LC_ALL", "C.UTF-8")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            // Its own default is every interface.
            .env("BIND_HOST", host.to_string())
            .env("GATEWAY_PORT", port.number().to_string())
            .env("LOG_LEVEL", "WARNING")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the S3 server's log"))
            .stderr(log);
        let child = command.spawn().expect("run the S3 server");
        let mut server = Self { child, host, port, workdir };
        server.wait_until_ready();
        server
    }

    fn address(&self) -> SocketAddr {
        (self.host, self.port.number()).into()
    }

    fn wait_until_ready(&mut self) {
        poll_for(START_DEADLINE, "the S3 server to answer", || {
            if let Some(status) = self.child.try_wait().expect("look after the S3 server") {
                let log = fs::read_to_string(self.workdir.join("log")).unwrap_or_default();
                panic!("the S3 server ended while starting ({status}):\n{log}");
            }
            let answer = request(self.address(), "GET", "/", b"");
            answer.ok().filter(|(status, _)| *status == 200)
        });
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.expect("process ids fit");
        kill_process(pid, signal).expect("signal the S3 server");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends one unsigned request and returns status and body.
fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &[u8],
) -> io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&address, REQUEST_TIMEOUT)?;
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let _ = stream.shutdown(Shutdown::Both);
    parse_answer(&answer).ok_or_else(|| io::Error::other("not an HTTP answer"))
}

/// Splits `HTTP/1.1 200 OK`, headers, an empty line and the body (RFC 9112), not chunked.
fn parse_answer(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.get(end + 4..)?.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_kept_and_a_second_create_is_refused() {
        let s3 = S3::start();
        let other = S3::start();
        assert_eq!(s3.endpoint(), other.endpoint());
        assert_ne!(s3.bucket(), other.bucket());
        let key = format!("/{}/key", s3.bucket());
        let address = s3.server.address();
        assert_eq!(request(address, "PUT", &key, b"hello").unwrap().0, 200);
        assert_eq!(request(address, "GET", &key, b"").unwrap(), (200, b"hello".to_vec()));
        let missing = format!("/{}/key", other.bucket());
        assert_eq!(request(address, "GET", &missing, b"").unwrap().0, 404);
        // The condition travels as one more header line.
        let conditional = format!("{key} HTTP/1.1\r\nif-none-match: *\r\nx-rest:");
        assert_eq!(request(address, "PUT", &conditional, b"other").unwrap().0, 412);
    }

    #[test]
    fn it_listens_on_loopback_only() {
        let s3 = S3::start();
        // Columns: slot, local address in hexadecimal (network order), remote, state (0A listens).
        let port = format!(":{:04X}", s3.server.port.number());
        let table = fs::read_to_string("/proc/net/tcp").unwrap()
            + &fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
        let listeners: Vec<&str> = table
            .lines()
            .filter_map(|line| {
                let mut fields = line.split_whitespace().skip(1);
                let (local, _remote, state) = (fields.next()?, fields.next()?, fields.next()?);
                (state == "0A" && local.ends_with(&port)).then_some(local)
            })
            .collect();
        assert_eq!(listeners, [format!("0100007F{port}")]);
    }

    #[test]
    fn a_killed_server_refuses_and_the_last_drop_ends_it() {
        let s3 = S3::private();
        let address = s3.server.address();
        s3.kill();
        assert!(request(address, "GET", "/", b"").is_err());
        let shared = S3::private();
        let address = shared.server.address();
        drop(shared);
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn a_paused_server_does_not_answer_until_it_goes_on() {
        let s3 = S3::private();
        s3.pause();
        let mut stream = TcpStream::connect(s3.server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut byte = [0];
        assert!(stream.read(&mut byte).is_err());
        s3.resume();
        stream.set_read_timeout(Some(REQUEST_TIMEOUT)).unwrap();
        assert_eq!(stream.read(&mut byte).unwrap(), 1);
    }
}
