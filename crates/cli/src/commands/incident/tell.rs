//! `rollforward incident tell`: stakeholders hear of an incident, in the words of a template.

use recovery::duty::HEARD;
use recovery::journal::{IncidentEntry, append_incident, load_incident};
use recovery::plan::Parameters;
use recovery::template::BUILT_IN;
use stdx::{Clock, SystemClock};

use super::super::Context;
use crate::config::{ChannelKind, Config};
use crate::failure::Error;
use crate::orchestra::attend::{Told, say};
use crate::orchestra::channels::{about_incident, template};
use crate::orchestra::driver::providers_in_words;
use crate::orchestra::{open_home_of, persons};
use crate::wiring::block_on;

/// What such a message is called.
const WHAT: &str = "update";

/// Arguments of `incident tell`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    one: super::say::OneArguments,
    /// The template, a table [template.NAME]
    #[arg(long, value_name = "NAME", default_value = BUILT_IN.0)]
    template: String,
    /// The channel; may be repeated [default: mail, webhooks and Slack of the service]
    #[arg(long, value_name = "CHANNEL")]
    to: Vec<String>,
    /// Show what would be told, and tell nobody
    #[arg(long)]
    show: bool,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let clock = SystemClock::new();
    let words = template(&config, &arguments.template).map_err(Error::Usage)?;
    block_on(async {
        let home = open_home_of(&config, &arguments.one.id, true, context.printer).await?;
        let id = &arguments.one.id;
        let incident = load_incident(&home, id).await?;
        let about = about_incident(&config, &incident);
        let mut values = about.values.clone();
        values.insert("service".into(), incident.service.clone());
        values.insert("event".into(), WHAT.into());
        let text = words.1.render(&values);
        let channels = channels(&config, &incident.service, &arguments.to)?;
        let mut told = Vec::new();
        let teller = providers_in_words(&config, about, &words)?;
        for channel in channels.iter().filter(|_| !arguments.show) {
            let outcome = teller.tell(channel, WHAT, "").await;
            let outcome = outcome.map_or_else(|failure| failure.message, |()| HEARD.into());
            let fields = Parameters::from([
                ("channel".into(), channel.clone()),
                ("what".into(), WHAT.into()),
                ("template".into(), arguments.template.clone()),
                ("outcome".into(), outcome.clone()),
            ]);
            let by = persons::requester(arguments.one.person.as_deref());
            let entry = IncidentEntry { kind: "told".into(), at: clock.now(), by, fields };
            append_incident(&home, id, &entry).await?;
            told.push(Told { channel: channel.clone(), what: WHAT, outcome });
        }
        let document = serde_json::json!({ "incident": id, "text": text, "told": told });
        context.printer.result(&document, text.trim_end());
        say(&told, context.printer);
        Ok(if told.iter().all(Told::is_heard) { 0 } else { 3 })
    })
}

/// The channels that hear it. A pager is no place for news, and a public page has its own words.
fn channels(config: &Config, service: &str, given: &[String]) -> anyhow::Result<Vec<String>> {
    if let Some(unknown) = given.iter().find(|name| !config.channels.contains_key(*name)) {
        return Err(Error::Usage(format!("there is no channel '{unknown}' in [notify]")).into());
    }
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    let is_for_people = |name: &&String| {
        config.channels.get(*name).is_some_and(|channel| {
            matches!(
                channel.kind,
                ChannelKind::Email { .. } | ChannelKind::Webhook { .. } | ChannelKind::Slack(_)
            )
        })
    };
    let tell = config.services.get(service).map(|service| &service.tell);
    let found: Vec<String> = tell.into_iter().flatten().filter(is_for_people).cloned().collect();
    match found.is_empty() {
        true => Err(Error::Usage(format!(
            "service '{service}' tells nobody by mail, webhook or Slack; name a channel with --to"
        ))
        .into()),
        false => Ok(found),
    }
}
