//! Mail, by SMTP.

use std::time::Duration;

use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use recovery::effect::Failure;
use zeroize::Zeroizing;

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
    /// The service that is spoken of.
    pub service: String,
}

impl Mail {
    pub(super) async fn send(
        &self,
        what: &str,
        text: &str,
        deadline: Duration,
    ) -> Result<(), Failure> {
        let failed =
            |why: String| Failure::retry("RF1109", format!("mail by '{}': {why}", self.server));
        let mailbox = |address: &str| {
            address.parse::<Mailbox>().map_err(|error| failed(format!("'{address}': {error}")))
        };
        let mut message = Message::builder()
            .from(mailbox(&self.from)?)
            .subject(format!("[{}] {what}", self.service));
        for to in &self.to {
            message = message.to(mailbox(to)?);
        }
        let message = message.body(text.to_owned()).map_err(|error| failed(error.to_string()))?;
        let (host, port) = match self.server.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()),
            None => (self.server.as_str(), None),
        };
        type Transport = AsyncSmtpTransport<Tokio1Executor>;
        let mut builder = match self.is_plain {
            true => Transport::builder_dangerous(host),
            false => Transport::relay(host).map_err(|error| failed(error.to_string()))?,
        };
        if let Some(port) = port {
            builder = builder.port(port);
        }
        if let Some((user, password)) = self.login.as_ref().and_then(|login| login.split_once(':'))
        {
            builder = builder.credentials(Credentials::new(user.into(), password.into()));
        }
        let transport = builder.timeout(Some(deadline)).build();
        transport.send(message).await.map(drop).map_err(|error| failed(error.to_string()))
    }
}
