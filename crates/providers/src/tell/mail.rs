//! Mail, by SMTP. An answer 4yz passes (a server that greylists takes it the second time), 5yz does
//! not.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use recovery::effect::Failure;
use zeroize::Zeroizing;

type Transport = AsyncSmtpTransport<Tokio1Executor>;

/// A mail channel.
pub struct Mail {
    /// Host and port.
    pub server: String,
    /// The sender.
    pub from: String,
    /// The recipients.
    pub to: Vec<String>,
    /// `user:password`.
    pub login: Option<Zeroizing<String>>,
    /// Without TLS: for a relay on this machine.
    pub is_plain: bool,
}

impl Mail {
    pub(super) async fn send(
        &self,
        subject: &str,
        text: &str,
        deadline: Duration,
    ) -> Result<(), Failure> {
        let message = self.message(subject, text)?;
        let transport = self.transport(deadline)?;
        transport.send(message).await.map(drop).map_err(|error| {
            let why = format!("mail by '{}': {error}", self.server);
            match error.is_permanent() {
                true => Failure::terminal("RF1109", why)
                    .hint("are sender, recipients and login of this channel right?"),
                false => Failure::retry("RF1109", why),
            }
        })
    }

    fn message(&self, subject: &str, text: &str) -> Result<Message, Failure> {
        let wrong =
            |why: String| Failure::terminal("RF1109", format!("mail by '{}': {why}", self.server));
        let mailbox = |address: &str| {
            address.parse::<Mailbox>().map_err(|error| wrong(format!("'{address}': {error}")))
        };
        let from = mailbox(&self.from)?;
        // The same mail has the same id however often it is sent.
        let id = digest(&SHA256, [&self.from, subject, text].join("\n").as_bytes());
        let id: String = id.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let mut message = Message::builder()
            .message_id(Some(format!("<{id}@{}>", from.email.domain())))
            .from(from)
            .subject(subject);
        for to in &self.to {
            message = message.to(mailbox(to)?);
        }
        message.body(text.to_owned()).map_err(|error| wrong(error.to_string()))
    }

    fn transport(&self, deadline: Duration) -> Result<Transport, Failure> {
        let (host, port) = match self.server.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()),
            None => (self.server.as_str(), None),
        };
        let mut builder = match self.is_plain {
            true => Transport::builder_dangerous(host),
            false => Transport::relay(host).map_err(|error| {
                Failure::retry("RF1109", format!("mail by '{}': {error}", self.server))
            })?,
        };
        if let Some(port) = port {
            builder = builder.port(port);
        }
        if let Some((user, password)) = self.login.as_ref().and_then(|login| login.split_once(':'))
        {
            builder = builder.credentials(Credentials::new(user.into(), password.into()));
        }
        Ok(builder.timeout(Some(deadline)).build())
    }
}
