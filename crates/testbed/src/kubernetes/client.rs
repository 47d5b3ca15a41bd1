//! A plain client of the API server.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, IpAddr, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Speaks to one API server as one user.
#[derive(Clone, Debug)]
pub(super) struct Client {
    address: SocketAddr,
    token: String,
    tls: Arc<ClientConfig>,
}

/// A status, and the body when it is JSON, else its text as a string.
pub(super) type Answer = (u16, Value);

impl Client {
    /// A client that trusts the certificates in `authority` (PEM).
    pub(super) fn new(port: u16, token: &str, authority: &Path) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(authority).map_err(io::Error::other)? {
            roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let address = (Ipv4Addr::LOCALHOST, port).into();
        Ok(Self { address, token: token.to_owned(), tls: Arc::new(tls) })
    }

    /// The same server as another user.
    pub(super) fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// Sends one request; `content` is the type of the body and the body.
    pub(super) fn call(
        &self,
        method: &str,
        path: &str,
        content: Option<(&str, &Value)>,
    ) -> io::Result<Answer> {
        let body = content.map(|(_, body)| body.to_string()).unwrap_or_default();
        // The older protocol: its answers end with the connection and come in one piece.
        let head = format!(
            "{method} {path} HTTP/1.0\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             accept: application/json\r\ncontent-type: {}\r\ncontent-length: {}\r\n\r\n",
            self.address,
            self.token,
            content.map_or("application/json", |(kind, _)| kind),
            body.len()
        );
        let answer = self.send((head + &body).as_bytes())?;
        parse_answer(&answer).ok_or_else(|| io::Error::other("not an HTTP answer"))
    }

    /// Sends the bytes of a request, whoever it is from, and returns those of the answer.
    pub(super) fn send(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let stream = TcpStream::connect_timeout(&self.address, REQUEST_TIMEOUT)?;
        stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
        stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
        // The handshake's small writes must not wait for acknowledgements.
        stream.set_nodelay(true)?;
        let name = ServerName::IpAddress(IpAddr::from(self.address.ip()));
        let session = ClientConnection::new(Arc::clone(&self.tls), name);
        let mut stream = StreamOwned::new(session.map_err(io::Error::other)?, stream);
        stream.write_all(request)?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            // A server that is done need not say so.
            Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(error),
            _ => Ok(answer),
        }
    }
}

/// Splits `HTTP/1.0 200 OK`, headers, an empty line and the body (RFC 9112), not chunked.
fn parse_answer(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = answer.get(end + 4..)?;
    let text = || Value::from(String::from_utf8_lossy(body).into_owned());
    Some((status, serde_json::from_slice(body).unwrap_or_else(|_| text())))
}
