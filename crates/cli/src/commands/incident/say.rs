//! What people say of an incident: taken, what is known by now, over.

use recovery::alert::shown;
use recovery::journal::{
    IncidentEntry, IncidentState, append_incident, close_incident, load_incident,
};
use recovery::plan::Parameters;
use stdx::{Clock, SystemClock};

use super::super::Context;
use super::super::target_arguments::parse_time;
use crate::failure::Error;
use crate::orchestra::attend::{attend, say};
use crate::orchestra::{open_home_of, persons};
use crate::wiring::block_on;

/// Arguments of the commands about one incident.
#[derive(Debug, clap::Args)]
pub(crate) struct OneArguments {
    /// The incident
    pub(super) id: String,
    /// Who says it
    #[arg(long = "as", value_name = "PERSON")]
    pub(super) person: Option<String>,
}

/// What the record of an incident keeps besides what happened and when.
#[derive(Debug, clap::Args)]
pub(crate) struct Facts {
    /// Which data are affected
    #[arg(long, value_name = "TEXT")]
    data: Option<String>,
    /// The moment, position or name that the data should be restored to
    #[arg(long, value_name = "TEXT")]
    target: Option<String>,
    /// What users notice
    #[arg(long, value_name = "TEXT")]
    impact: Option<String>,
    /// When users can expect to be back
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    eta: Option<jiff::Timestamp>,
}

impl Facts {
    pub(super) fn fields(&self) -> Parameters {
        let eta = self.eta.map(|eta| eta.to_string());
        let all = [
            ("data", self.data.clone()),
            ("target", self.target.clone()),
            ("impact", self.impact.clone()),
            ("eta", eta),
        ];
        let said = all.into_iter().filter_map(|(name, it)| Some((name.into(), shown(&it?))));
        said.collect()
    }
}

/// Arguments of `incident note`.
#[derive(Debug, clap::Args)]
pub(crate) struct NoteArguments {
    #[command(flatten)]
    one: OneArguments,
    /// Anything
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    #[command(flatten)]
    facts: Facts,
}

pub(super) fn note(context: &Context<'_>, arguments: &NoteArguments) -> anyhow::Result<u8> {
    let mut fields = arguments.facts.fields();
    if let Some(text) = &arguments.text {
        fields.insert("text".into(), shown(text));
    }
    if fields.is_empty() {
        let what = "a note says something: --text, --data, --target, --impact or --eta";
        return Err(Error::Usage(what.into()).into());
    }
    said(context, &arguments.one, "note", fields)
}

/// Somebody has taken it: nobody else is asked.
pub(super) fn ack(context: &Context<'_>, arguments: &OneArguments) -> anyhow::Result<u8> {
    said(context, arguments, "ack", Parameters::new())
}

/// It is over.
pub(super) fn close(context: &Context<'_>, arguments: &OneArguments) -> anyhow::Result<u8> {
    said(context, arguments, "close", Parameters::new())
}

fn said(
    context: &Context<'_>,
    arguments: &OneArguments,
    kind: &str,
    fields: Parameters,
) -> anyhow::Result<u8> {
    let config = context.config()?;
    let clock = SystemClock::new();
    block_on(async {
        let home = open_home_of(&config, &arguments.id, true, context.printer).await?;
        let incident = load_incident(&home, &arguments.id).await?;
        let entry = IncidentEntry {
            kind: kind.into(),
            at: clock.now(),
            by: persons::requester(arguments.person.as_deref()),
            fields,
        };
        match (kind, incident.state) {
            ("close", _) => close_incident(&home, &incident, &entry).await?,
            // It is over. One that was taken before may be taken again: its run lost its driver.
            ("ack", IncidentState::Closed) => {}
            _ => append_incident(&home, &arguments.id, &entry).await?,
        }
        let told = attend(&config, &home, &arguments.id, &clock).await?;
        let document = serde_json::json!({ "incident": arguments.id, "said": kind, "told": told });
        context.printer.result(&document, &format!("{}: {kind}", arguments.id));
        Ok(if say(&told, context.printer) { 0 } else { 3 })
    })
}
