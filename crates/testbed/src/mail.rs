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
    handler: Handler,
    process: Option<Child>,
}

/// What a server does with mail.
#[derive(Clone, Copy, Debug)]
enum Handler {
    /// Takes it.
    Takes,
    /// Refuses a mail the first time with 451, as a server does that greylists.
    Greylists,
    /// Refuses it for good, with 550.
    Refuses,
}

/// aiosmtpd's mailbox behind an answer to the first attempts.
const HANDLERS: &str = "\
import aiosmtpd.handlers
class Greylists(aiosmtpd.handlers.Mailbox):
    seen = set()
    async def handle_RCPT(self, server, session, envelope, address, options):
        if (envelope.mail_from, address) not in self.seen:
            self.seen.add((envelope.mail_from, address))
            return '451 4.7.1 Greylisted, come again'
        envelope.rcpt_tos.append(address)
        return '250 OK'
class Refuses(aiosmtpd.handlers.Mailbox):
    async def handle_RCPT(self, server, session, envelope, address, options):
        return '550 5.1.1 No such mailbox'
";

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
        Self::with(Handler::Takes)
    }

    /// A server that refuses every recipient the first time, for now.
    ///
    /// # Panics
    /// When it does not start.
    pub fn greylisting() -> Self {
        let mut it = Self::with(Handler::Greylists);
        it.appear();
        it
    }

    /// A server that refuses every recipient for good.
    ///
    /// # Panics
    /// When it does not start.
    pub fn refusing() -> Self {
        let mut it = Self::with(Handler::Refuses);
        it.appear();
        it
    }

    fn with(handler: Handler) -> Self {
        Self { folder: Workdir::new(), port: Port::reserve(), handler, process: None }
    }

    /// Starts one that does not listen yet.
    ///
    /// # Panics
    /// When it does not start.
    pub fn appear(&mut self) {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-m", "aiosmtpd", "-n", "-l", &self.address()]);
        let handler = match self.handler {
            Handler::Takes => "aiosmtpd.handlers.Mailbox",
            Handler::Greylists => "answers.Greylists",
            Handler::Refuses => "answers.Refuses",
        };
        let path = self.folder.file("answers.py", HANDLERS);
        command.env("PYTHONPATH", path.parent().expect("a folder"));
        command.args(["-c", handler]).arg(self.folder.join("mails"));
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
