//! Channels as the configuration names them, with their secrets, and what they speak of.

use std::collections::BTreeMap;

use providers::{
    About, Channel, Kind, Mail, Opsgenie, Page, PagerDuty, PagerDutyRest, Place, StatusPage,
};
use recovery::journal::{Incident, IncidentEntry};
use recovery::machine::State;
use recovery::plan::{Mode, Parameters, duration_text};
use recovery::template::{BUILT_IN, Template};

use crate::config::{ChannelKind, Config, PagePlace, TemplateText};
use crate::secrets;

/// Every channel; one whose secret or template cannot be had says so when it is used.
pub(crate) fn resolved(config: &Config) -> BTreeMap<String, Channel> {
    let channels = config.channels.iter().map(|(name, channel)| {
        let kind = kind(&channel.kind, name);
        let template = channel.template.as_deref().map(|wanted| template(config, wanted));
        let made = match (kind, template.transpose()) {
            (Ok(kind), Ok(template)) => Channel { kind, template },
            // Without its template a channel still tells what happened.
            (Ok(kind), Err(why)) => {
                tracing::warn!("channel '{name}' does without its template: {why}");
                Channel { kind, template: None }
            }
            (Err(why), _) => Channel { kind: Kind::Unusable(why), template: None },
        };
        (name.clone(), made)
    });
    channels.collect()
}

/// Subject and text of a template.
pub(crate) fn template(config: &Config, name: &str) -> Result<(Template, Template), String> {
    let (subject, text) = match config.templates.get(name) {
        None if name == BUILT_IN.0 => (BUILT_IN.1.to_owned(), BUILT_IN.2.to_owned()),
        None => {
            let known: Vec<&str> = config.templates.keys().map(String::as_str).collect();
            let known = [&known[..], &[BUILT_IN.0]].concat().join(", ");
            return Err(format!("there is no table [template.{name}]; known: {known}"));
        }
        Some(known) => {
            let subject = known.subject.clone().unwrap_or_else(|| BUILT_IN.1.to_owned());
            let text = match &known.text {
                TemplateText::Here(text) => text.clone(),
                TemplateText::File(path) => std::fs::read_to_string(path)
                    .map_err(|error| format!("'{}': {error}", path.display()))?,
            };
            (subject, text)
        }
    };
    Ok((Template::parse(&subject), Template::parse(&text)))
}

fn kind(kind: &ChannelKind, name: &str) -> Result<Kind, String> {
    let secret = |reference: &String| secrets::resolve_text(reference, name);
    Ok(match kind {
        ChannelKind::Email { server, from, to, login, is_plain } => Kind::Mail(Mail {
            server: server.clone(),
            from: from.clone(),
            to: to.clone(),
            login: login.as_ref().map(secret).transpose()?,
            is_plain: *is_plain,
        }),
        ChannelKind::Webhook { url, secret: reference } => {
            Kind::Webhook { url: url.clone(), secret: reference.as_ref().map(secret).transpose()? }
        }
        ChannelKind::PagerDuty { key, url, rest } => {
            let rest = rest.as_ref().map(|(url, token, from)| {
                let (url, from) = (url.clone(), from.clone());
                Ok::<_, String>(PagerDutyRest { url, token: secret(token)?, from })
            });
            Kind::PagerDuty(PagerDuty {
                url: url.clone(),
                key: secret(key)?,
                rest: rest.transpose()?,
            })
        }
        ChannelKind::Opsgenie { key, url } => {
            Kind::Opsgenie(Opsgenie { url: url.clone(), key: secret(key)? })
        }
        ChannelKind::Slack(reference) => Kind::Slack(secret(reference)?),
        ChannelKind::StatusPage { page, key, url, name } => Kind::StatusPage(StatusPage {
            url: url.clone(),
            page: page.clone(),
            key: secret(key)?,
            name: name.clone(),
        }),
        ChannelKind::Page { place: at, name: public } => {
            Kind::Page(Page { place: place(at, name)?, name: public.clone() })
        }
    })
}

fn place(place: &PagePlace, channel: &str) -> Result<Place, String> {
    let (bucket, prefix, options, key) = match place {
        PagePlace::Directory(path) => return Ok(Place::Directory(path.clone())),
        PagePlace::Bucket { bucket, prefix, options, key } => (bucket, prefix, options, key),
    };
    let secret = |reference: &String| secrets::resolve_text(reference, channel);
    let key = match key {
        Some((id, secret_key)) => Some((secret(id)?, secret(secret_key)?)),
        None => None,
    };
    let environment = std::env::vars().filter(|(name, _)| name.starts_with("AWS_")).collect();
    let key = key.as_ref().map(|(id, secret)| (id.as_str(), secret.as_str()));
    Place::bucket(bucket, prefix, options, key, &environment)
}

/// What is known of a service without any incident.
fn about_service(config: &Config, service: &str) -> About {
    let mut values = Parameters::new();
    if let Some(known) = config.about.get(service) {
        values.extend(known.values.clone());
    }
    if let Some(known) = config.services.get(service) {
        values.insert("rpo".into(), duration_text(known.objectives.rpo.as_secs()));
        values.insert("rto".into(), duration_text(known.objectives.rto.as_secs()));
    }
    About { service: service.into(), values, ..About::default() }
}

/// What is known of something that runs by itself, and of one alarm about it.
pub(crate) fn about_job(subject: &str, alarm: &str) -> About {
    let scheduled = Some(format!("{subject}: {alarm}"));
    About { service: subject.into(), scheduled, ..About::default() }
}

/// What is known of an incident.
pub(crate) fn about_incident(config: &Config, incident: &Incident) -> About {
    let mut about = about_service(config, &incident.service);
    about.is_public = true;
    let values = &mut about.values;
    values.insert("incident".into(), incident.id.clone());
    values.insert("issue".into(), incident.summary.clone());
    values.insert("started".into(), incident.started.to_string());
    for name in ["data", "target", "impact", "eta", "severity", "links", "run"] {
        if let Some(said) = incident.said(name) {
            values.insert(name.into(), said.into());
        }
    }
    let is_theirs = |entry: &&IncidentEntry| {
        entry.fields.get("alert.source").is_some_and(|source| source == "pagerduty")
    };
    let theirs = incident.entries.iter().find(is_theirs);
    if let Some(id) = theirs.and_then(|entry| entry.fields.get("alert.subject")) {
        values.insert("pagerduty_incident".into(), id.clone());
    }
    about
}

/// What is known of a run, and of its incident where it can be read.
pub(crate) fn about_run(config: &Config, state: &State, incident: Option<&Incident>) -> About {
    let service = &state.plan.service;
    let mut about = match incident {
        Some(incident) => about_incident(config, incident),
        None => about_service(config, service),
    };
    about.is_public = state.plan.mode == Mode::Incident;
    about.job = Some((state.run.clone(), state.declared_at));
    let seconds = i64::try_from(state.plan.predicted_rto_s()).unwrap_or(i64::MAX);
    let eta = state.declared_at.checked_add(jiff::SignedDuration::from_secs(seconds));
    let values = &mut about.values;
    values.insert("run".into(), state.run.clone());
    values.insert("target".into(), state.plan.target.to_string());
    if let Ok(eta) = eta {
        let eta = eta.round(jiff::Unit::Minute).unwrap_or(eta);
        values.entry("eta".into()).or_insert_with(|| eta.to_string());
    }
    about
}
