//! A proxy that spoils HTTP requests on the wire, one per connection.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// It is forwarded and answered.
    None,
    /// The connection is closed before the server sees the request.
    Refused,
    /// The proxy answers 503, as a busy S3 does.
    Busy,
    /// The server acts on it, and the connection is cut before its answer passes.
    LostAnswer,
}

pub(crate) struct Proxy {
    address: String,
    script: Arc<Script>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Script {
    seed: u64,
    mishaps: Vec<Mishap>,
    requests: AtomicUsize,
    struck: AtomicUsize,
}

impl Script {
    /// What the next request meets: any of the mishaps with the same chance, by the seed.
    fn next(&self) -> Mishap {
        let mut hasher = DefaultHasher::new();
        (self.seed, self.requests.fetch_add(1, Ordering::Relaxed)).hash(&mut hasher);
        let at = hasher.finish() % self.mishaps.len() as u64;
        let mishap = self.mishaps[usize::try_from(at).unwrap()];
        self.struck.fetch_add(usize::from(mishap != Mishap::None), Ordering::Relaxed);
        mishap
    }
}

impl Proxy {
    /// Starts one in front of `server`; each request meets one of `mishaps`, by the seed.
    pub(crate) async fn start(server: &str, seed: u64, mishaps: &[Mishap]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let script = Arc::new(Script {
            seed,
            mishaps: mishaps.to_vec(),
            requests: AtomicUsize::new(0),
            struck: AtomicUsize::new(0),
        });
        let (shared, server) = (Arc::clone(&script), server.to_owned());
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                // An error is a closed connection, which is what proxies are for.
                tokio::spawn(pass(client, server.clone(), Arc::clone(&shared)));
            }
        });
        Self { address, script, task }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests were spoiled so far.
    pub(crate) fn struck(&self) -> usize {
        self.script.struck.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const BUSY: &[u8] = b"HTTP/1.1 503 Slow Down\r\ncontent-type: application/xml\r\n\
content-length: 71\r\nconnection: close\r\n\r\n\
<Error><Code>SlowDown</Code><Message>Reduce your rate</Message></Error>";

async fn pass(mut client: TcpStream, server: String, script: Arc<Script>) -> std::io::Result<()> {
    // The head, and whatever of the body came with it.
    let mut begun = Vec::new();
    let head_end = loop {
        if client.read_buf(&mut begun).await? == 0 {
            return Ok(());
        }
        if let Some(at) = begun.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
    };
    // Not when it connects: clients open connections in reserve.
    let mishap = script.next();
    if mishap == Mishap::Refused {
        return Ok(());
    }
    let head = String::from_utf8_lossy(&begun[..head_end]).to_lowercase();
    let body_len: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .map_or(0, |value| value.trim().parse().unwrap());
    let missing = body_len - (begun.len() - head_end);
    if mishap == Mishap::Busy {
        let mut rest = vec![0; missing];
        client.read_exact(&mut rest).await?;
        client.write_all(BUSY).await?;
        return client.shutdown().await;
    }
    let mut upstream = TcpStream::connect(server).await?;
    // Head and body are separate writes: without this each pair waits for an acknowledgement.
    upstream.set_nodelay(true)?;
    client.set_nodelay(true)?;
    // One request per connection, so that each meets its mishap.
    let line_end = begun.windows(2).position(|two| two == b"\r\n").unwrap() + 2;
    begun.splice(line_end..line_end, *b"connection: close\r\n");
    upstream.write_all(&begun).await?;
    if mishap == Mishap::LostAnswer {
        let mut rest = vec![0; missing];
        client.read_exact(&mut rest).await?;
        upstream.write_all(&rest).await?;
        // Once it answers, it has acted.
        upstream.read_u8().await?;
        return Ok(());
    }
    copy_bidirectional(&mut client, &mut upstream).await.map(|_| ())
}
