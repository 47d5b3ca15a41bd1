//! A wire to the API server that spoils requests as a test says.

mod script;
mod tls;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::client::Client;
use super::users;
use crate::port::Port;
use crate::workdir::Workdir;
use script::Request;
pub use script::{ApiMishap, ApiRequest, Passed};

/// How often a connection that is never answered looks whether the wire has ended.
const SILENCE_PERIOD: Duration = Duration::from_millis(200);

/// What decides about a request.
type Script = Box<dyn FnMut(&ApiRequest) -> ApiMishap + Send>;

/// A server on 127.0.0.1 that ends TLS with a certificate of its own, passes requests on to an API
/// server, and spoils those that the test's script says. Each request has its own connection.
///
/// It ends on drop; a request that is under way then ends with its client.
pub struct ApiWire {
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
    folder: Workdir,
}

struct Shared {
    port: Port,
    server: Client,
    tls: Arc<ServerConfig>,
    script: Mutex<Script>,
    passed: Mutex<Vec<Passed>>,
    struck: Mutex<Vec<ApiMishap>>,
    /// Whether somebody listens, and a sign when that changes.
    listens: (Mutex<bool>, Condvar),
    is_away: AtomicBool,
    has_ended: AtomicBool,
}

fn locked<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ApiWire {
    pub(super) fn start(server: Client) -> Self {
        let folder = Workdir::new();
        let shared = Arc::new(Shared {
            port: Port::reserve(),
            server,
            tls: tls::config(&folder),
            script: Mutex::new(Box::new(|_: &ApiRequest| ApiMishap::None)),
            passed: Mutex::default(),
            struck: Mutex::default(),
            listens: (Mutex::new(false), Condvar::new()),
            is_away: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
        });
        users::write_kubeconfigs(&folder, shared.port.number(), &tls::authority(&folder));
        let theirs = Arc::clone(&shared);
        let listener = thread::spawn(move || theirs.serve());
        shared.wait_until_it_listens(true);
        Self { shared, listener: Some(listener), folder }
    }

    /// Where it listens: `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.shared.port.number())
    }

    /// The file (PEM) with the certificate that signed its own.
    pub fn authority(&self) -> PathBuf {
        tls::authority(&self.folder)
    }

    /// A configuration for clients that act as `user` through this wire.
    ///
    /// # Panics
    /// When there is no such user.
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        users::token(user); // tells who is there
        users::kubeconfig(&self.folder, user)
    }

    /// From now on `script` says what happens to each request, and what was noted is forgotten.
    pub fn spoil(&self, script: impl FnMut(&ApiRequest) -> ApiMishap + Send + 'static) {
        *locked(&self.shared.script) = Box::new(script);
        locked(&self.shared.passed).clear();
        locked(&self.shared.struck).clear();
    }

    /// Requests that the API server saw, and what it said.
    pub fn passed(&self) -> Vec<Passed> {
        locked(&self.shared.passed).clone()
    }

    /// Changes that the API server took: no dry runs, and no questions about rights.
    pub fn changes(&self) -> Vec<Passed> {
        self.passed().into_iter().filter(Passed::is_change).collect()
    }

    /// What happened to requests that were spoiled. A test that wants mishaps asserts that there
    /// were some.
    pub fn struck(&self) -> Vec<ApiMishap> {
        locked(&self.shared.struck).clone()
    }

    /// Listens again after [`ApiMishap::Leaves`].
    pub fn comes_back(&self) {
        self.shared.wake(|shared| shared.is_away.store(false, Ordering::SeqCst));
        self.shared.wait_until_it_listens(true);
    }
}

impl Drop for ApiWire {
    fn drop(&mut self) {
        self.shared.wake(|shared| shared.has_ended.store(true, Ordering::SeqCst));
        // Wakes the listener, which then looks.
        self.shared.knock();
        let _ = self.listener.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn knock(&self) {
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port.number()));
    }

    fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }

    /// Changes something that the listener waits for.
    fn wake(&self, change: impl FnOnce(&Self)) {
        let held = locked(&self.listens.0);
        change(self);
        drop(held);
        self.listens.1.notify_all();
    }

    fn wait_until_it_listens(&self, wanted: bool) {
        let (listens, sign) = &self.listens;
        let is_other = |now: &mut bool| *now != wanted;
        drop(sign.wait_while(locked(listens), is_other).unwrap_or_else(PoisonError::into_inner));
    }

    fn tell(&self, listens: bool) {
        *locked(&self.listens.0) = listens;
        self.listens.1.notify_all();
    }

    fn serve(self: &Arc<Self>) {
        while !self.has_ended() {
            let address = (Ipv4Addr::LOCALHOST, self.port.number());
            let listener = TcpListener::bind(address).expect("listen on 127.0.0.1");
            self.tell(true);
            for client in listener.incoming() {
                if self.has_ended() || self.is_away.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(client) = client else { continue };
                let shared = Arc::clone(self);
                // An error is a closed connection, which is what this wire is for.
                thread::spawn(move || shared.pass(client));
            }
            drop(listener);
            self.tell(false);
            let (listens, sign) = &self.listens;
            let waits = |_: &mut bool| self.is_away.load(Ordering::SeqCst) && !self.has_ended();
            drop(sign.wait_while(locked(listens), waits).unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn pass(&self, client: TcpStream) -> io::Result<()> {
        // The handshake's small writes must not wait for acknowledgements.
        client.set_nodelay(true)?;
        let session = ServerConnection::new(Arc::clone(&self.tls)).map_err(io::Error::other)?;
        let mut client = StreamOwned::new(session, client);
        let Some(request) = Request::read(&mut client)? else { return Ok(()) };
        let mishap = (*locked(&self.script))(&request.asked);
        if mishap != ApiMishap::None {
            locked(&self.struck).push(mishap);
        }
        match mishap {
            ApiMishap::Cut => Ok(()),
            ApiMishap::Silence => self.keep_silent(client),
            ApiMishap::Status(_) | ApiMishap::Busy(_) => answer(client, &mishap.answer()),
            ApiMishap::LostAnswer => self.forward(&request).map(drop),
            ApiMishap::None => answer(client, &self.forward(&request)?),
            ApiMishap::Leaves => {
                let said = self.forward(&request)?;
                self.is_away.store(true, Ordering::SeqCst);
                self.knock();
                self.wait_until_it_listens(false);
                answer(client, &said)
            }
        }
    }

    /// What the API server says; it has acted then.
    fn forward(&self, request: &Request) -> io::Result<Vec<u8>> {
        let said = self.server.send(&request.bytes())?;
        let status = said.split(|byte| *byte == b' ').nth(1).map(String::from_utf8_lossy);
        let status = status.and_then(|status| status.parse().ok()).unwrap_or(0);
        locked(&self.passed).push(Passed { request: request.asked.clone(), status });
        Ok(said)
    }

    fn keep_silent(&self, mut client: StreamOwned<ServerConnection, TcpStream>) -> io::Result<()> {
        client.sock.set_read_timeout(Some(SILENCE_PERIOD))?;
        while !self.has_ended() {
            match client.sock.read(&mut [0; 64]) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }
}

fn answer(mut client: StreamOwned<ServerConnection, TcpStream>, answer: &[u8]) -> io::Result<()> {
    client.write_all(answer)?;
    client.conn.send_close_notify();
    client.flush()?;
    client.sock.shutdown(Shutdown::Write)
}
