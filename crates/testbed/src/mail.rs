//! A server that takes mail.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::account::as_postgres;
use crate::tools::INSTALL_COMMAND;
use crate::{Port, Workdir, poll};

const DEADLINE: Duration = Duration::from_secs(60);

/// An SMTP server (aiosmtpd) on 127.0.0.1 that keeps every message.
#[derive(Debug)]
pub struct MailServer {
    folder: Workdir,
    port: Port,
    process: Option<Child>,
}

impl MailServer {
    /// A server that listens.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start() -> Self {
        let mut it = Self::absent();
        it.appear();
        it
    }

    /// A server that does not listen yet.
    pub fn absent() -> Self {
        Self { folder: Workdir::new(), port: Port::reserve(), process: None }
    }

    /// Starts one that does not listen yet.
    ///
    /// # Panics
    /// When it does not start.
    pub fn appear(&mut self) {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-m", "aiosmtpd", "-n", "-l", &self.address()]);
        command.args(["-c", "aiosmtpd.handlers.Mailbox"]).arg(self.folder.join("mails"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let spawned = as_postgres(&mut command).spawn();
        self.process = Some(spawned.unwrap_or_else(|error| panic!("{error}: `{INSTALL_COMMAND}`")));
        poll(DEADLINE, "the mail server", || {
            std::net::TcpStream::connect(("127.0.0.1", self.port.number())).is_ok()
        });
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// Every message with its headers, in no order.
    pub fn messages(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.folder.join("mails/new")) else { return Vec::new() };
        let texts = entries.map(|entry| fs::read_to_string(entry.expect("an entry").path()));
        texts.map(|text| text.expect("a message is text")).collect()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
