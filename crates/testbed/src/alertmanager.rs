//! A real Alertmanager that sends every alert to one webhook.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::tools::INSTALL_COMMAND;
use crate::{Port, Workdir, poll};

const DEADLINE: Duration = Duration::from_secs(60);

/// Alertmanager on 127.0.0.1.
#[derive(Debug)]
pub struct Alertmanager {
    _folder: Workdir,
    port: Port,
    process: Child,
}

impl Alertmanager {
    /// One that sends to `url`, at once, at most so many alerts at a time, and again every second.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(url: &str, max_alerts: u32) -> Self {
        let folder = Workdir::new();
        let config = folder.join("alertmanager.yml");
        let text = format!(
            "route:\n  receiver: r\n  group_by: [nothing]\n  group_wait: 0s\n  group_interval: 1s\n  \
             repeat_interval: 1s\nreceivers:\n  - name: r\n    webhook_configs:\n      - url: {url}\n        \
             max_alerts: {max_alerts}\n        send_resolved: true\n"
        );
        fs::write(&config, text).expect("write the configuration");
        let port = Port::reserve();
        let mut command = Command::new("/usr/bin/prometheus-alertmanager");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.path={}", folder.join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{}", port.number()));
        command.arg("--cluster.listen-address=");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process =
            command.spawn().unwrap_or_else(|error| panic!("{error}: `{INSTALL_COMMAND}`"));
        let it = Self { _folder: folder, port, process };
        poll(DEADLINE, "Alertmanager", || it.request("GET", "/-/ready", "").starts_with("200"));
        it
    }

    /// Posts alerts, as Prometheus does.
    ///
    /// # Panics
    /// When they are not taken.
    pub fn post(&self, alerts: &str) {
        let answer = self.request("POST", "/api/v2/alerts", alerts);
        assert!(answer.starts_with("200"), "{answer}");
    }

    fn request(&self, method: &str, path: &str, body: &str) -> String {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port.number())) else {
            return String::new();
        };
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n");
        let kind = "Content-Type: application/json\r\nConnection: close\r\n\r\n";
        let mut answer = String::new();
        let sent = write!(stream, "{head}{kind}{body}");
        let _ = sent.and_then(|()| stream.read_to_string(&mut answer));
        answer.split_once(' ').map_or_else(String::new, |(_, rest)| rest.to_owned())
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
