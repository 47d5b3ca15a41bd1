//! Channels: mail, signed webhooks, PagerDuty, Opsgenie, Slack, and status pages.

mod about;
mod mail;
mod opsgenie;
mod page;
mod pagerduty;
mod public;
mod send;
mod slack;
mod statuspage;
mod step;
mod webhook;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use recovery::effect::Failure;
use recovery::journal::FailureClass;
use recovery::template::Template;
use stdx::{Clock, SystemClock};
use zeroize::Zeroizing;

pub use about::{About, SCHEDULE_ALIAS_PREFIX, service_of_key};
pub use mail::Mail;
pub use opsgenie::{OPSGENIE_URL, Opsgenie};
pub use page::{Page, Place};
pub use pagerduty::{PAGERDUTY_API, PAGERDUTY_URL, PagerDuty, PagerDutyRest};
pub use statuspage::{STATUSPAGE_URL, StatusPage};
pub(crate) use step::TellStep;

use send::{Patience, Refusal};

/// Longest wait for one answer of a channel.
const DEADLINE: Duration = Duration::from_secs(20);

/// A channel, with its secrets resolved.
pub struct Channel {
    /// What it is.
    pub kind: Kind,
    /// What its messages look like: subject and text; `None`: as people on call get them.
    pub template: Option<(Template, Template)>,
}

/// What a channel is.
pub enum Kind {
    /// Mail.
    Mail(Mail),
    /// A POST of JSON.
    Webhook {
        /// Where to.
        url: String,
        /// What signs.
        secret: Option<Zeroizing<String>>,
    },
    /// PagerDuty.
    PagerDuty(PagerDuty),
    /// Opsgenie.
    Opsgenie(Opsgenie),
    /// A Slack incoming webhook: its address, which is a secret.
    Slack(Zeroizing<String>),
    /// A status page at a vendor.
    StatusPage(StatusPage),
    /// A status page of one's own.
    Page(Page),
    /// One that cannot be used, and why.
    Unusable(String),
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.kind {
            Kind::Mail(_) => "Mail",
            Kind::Webhook { .. } => "Webhook",
            Kind::PagerDuty(_) => "PagerDuty",
            Kind::Opsgenie(_) => "Opsgenie",
            Kind::Slack(_) => "Slack",
            Kind::StatusPage(_) => "StatusPage",
            Kind::Page(_) => "Page",
            Kind::Unusable(_) => "Unusable",
        })
    }
}

/// Channels by their names, and what they speak of.
#[derive(Debug)]
pub(crate) struct Channels {
    by_name: Arc<BTreeMap<String, Channel>>,
    about: About,
    patience: Patience,
    clock: Arc<dyn Clock>,
}

impl Channels {
    pub(crate) fn new(by_name: BTreeMap<String, Channel>) -> Self {
        Self {
            by_name: Arc::new(by_name),
            about: About::default(),
            patience: Patience::COMMAND,
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// The same channels, speaking of something else.
    pub(crate) fn with_about(&self, about: About) -> Self {
        let patience = if about.job.is_some() { Patience::RUN } else { Patience::COMMAND };
        let (by_name, clock) = (Arc::clone(&self.by_name), Arc::clone(&self.clock));
        Self { by_name, about, patience, clock }
    }

    /// Tells the channel of that name; what passes is tried again for a while.
    pub(crate) async fn tell(&self, name: &str, what: &str, text: &str) -> Result<(), Failure> {
        let Some(channel) = self.by_name.get(name) else {
            return Err(Failure::terminal("RF1109", format!("there is no channel '{name}'")));
        };
        let mut attempt = 1;
        loop {
            let Err(refusal) = self.once(channel, what, text).await else { return Ok(()) };
            let passes = refusal.failure.class == FailureClass::Retry;
            let pause = self.patience.pause(attempt, refusal.after).filter(|_| passes);
            let Some(pause) = pause else { return Err(refusal.failure) };
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    async fn once(&self, channel: &Channel, what: &str, text: &str) -> Result<(), Refusal> {
        let (about, now) = (&self.about, self.clock.now());
        let (subject, text) = self.words(channel, what, text);
        let (text, said) = (text.as_str(), (what, text.as_str()));
        match &channel.kind {
            Kind::Mail(mail) => Ok(mail.send(&subject, text, DEADLINE).await?),
            Kind::Webhook { url, secret } => {
                webhook::post((url, secret.as_ref()), about, said, DEADLINE, now).await
            }
            Kind::PagerDuty(it) => it.tell(about, said, DEADLINE, now).await,
            Kind::Opsgenie(it) => it.tell(about, said, DEADLINE, now).await,
            Kind::Slack(url) => {
                slack::slack(url, (&about.service, what, text), DEADLINE, now).await
            }
            Kind::StatusPage(it) => it.tell(about, what, DEADLINE, now).await,
            Kind::Page(it) => it.tell(about, what, now).await,
            Kind::Unusable(why) => Err(Failure::terminal("RF1109", why.clone()).into()),
        }
    }

    /// Subject and text as the channel's template has them.
    fn words(&self, channel: &Channel, what: &str, text: &str) -> (String, String) {
        let about = &self.about;
        let Some((subject, body)) = &channel.template else {
            return (format!("[{}] {what}", about.service), text.to_owned());
        };
        let mut values = about.values.clone();
        values.insert("service".into(), about.service.clone());
        values.insert("event".into(), what.to_owned());
        values.insert("text".into(), text.to_owned());
        let subject = subject.render(&values);
        // A header is one line.
        (subject.lines().collect::<Vec<_>>().join(" "), body.render(&values))
    }
}
