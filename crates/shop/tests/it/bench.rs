//! Running the shop and talking HTTP with it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use testbed::postgres::Cluster;

/// How long anything here may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn url(cluster: &Cluster) -> String {
    format!("postgres://postgres@127.0.0.1:{}/postgres", cluster.port())
}

/// A temporary file with the connection string of `cluster`.
pub(crate) fn settings(cluster: &Cluster) -> (testbed::Workdir, std::path::PathBuf) {
    let work = testbed::Workdir::new();
    let file = work.file("shop.env", format!("# shop\nDATABASE_URL={}\n", url(cluster)));
    (work, file)
}

/// Loads `size` into `cluster`.
pub(crate) fn load(cluster: &Cluster, size: &str, seed: &str) {
    let (_work, file) = settings(cluster);
    let output = Command::new(testbed::binary("rollforward-shop"))
        .args(["load", "--size", size, "--seed", seed, "--settings"])
        .arg(file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A running shop; killed at the end if it was not stopped.
pub(crate) struct Shop {
    child: Child,
    address: String,
}

impl Shop {
    pub(crate) fn start(settings: &Path, writes_per_second: &str) -> Self {
        let mut child = Command::new(testbed::binary("rollforward-shop"))
            .args(["--writes-per-second", writes_per_second, "--settings"])
            .arg(settings)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let address = said["listening"].as_str().unwrap().to_owned();
        Self { child, address }
    }

    /// Status and body of a GET.
    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap())
    }

    pub(crate) fn orders_placed(&self) -> u64 {
        self.get("/api/stats").1["shop"]["orders_placed"].as_u64().unwrap()
    }

    /// Waits until the shop has placed some more orders.
    pub(crate) fn wait_for_orders(&self, more: u64) {
        let before = self.orders_placed();
        testbed::poll(DEADLINE, "more orders", || self.orders_placed() >= before + more);
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        testbed::poll_for(DEADLINE, "the shop to stop", || self.child.try_wait().unwrap())
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
