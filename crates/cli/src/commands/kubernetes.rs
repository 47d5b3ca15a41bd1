//! `rollforward kubernetes rbac SERVICE`: the rights that a recovery needs, as manifests.

use providers::{Need, door_needs, manager_need, needs, rbac_manifest};
use recovery::service::{Bindings, Door, Service, Setting, Writer};
use serde::Serialize;

use super::Context;
use crate::failure::Error;
use crate::orchestra::kubernetes::{access as kubernetes_access, probes};
use crate::wiring::block_on;

/// Subcommands of `kubernetes`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print roles and bindings with the rights that a recovery of a service needs, and no more
    Rbac(Arguments),
}

/// Arguments of `kubernetes rbac`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The service; may be left out when there is only one
    service: Option<String>,
    /// Who gets them: a user, or NAMESPACE/NAME of a service account
    #[arg(long, value_name = "SUBJECT", default_value = "rollforward")]
    subject: String,
    /// The table [kubernetes.NAME] whose cluster they are for, when the service has several
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// What manages its objects and has to wait meanwhile: KIND is argocd, flux-kustomization,
    /// flux-helmrelease or keda; `check` says which
    #[arg(long, value_name = "KIND=NAMESPACE/NAME")]
    manager: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    service: String,
    cluster: String,
    needs: Vec<String>,
    manifest: String,
}

pub(crate) fn run(context: &Context<'_>, command: &Command) -> anyhow::Result<u8> {
    let Command::Rbac(arguments) = command;
    let config = context.config()?;
    let service = config.service(arguments.service.as_deref())?;
    let doors: Vec<&Door> = doors(service).collect();
    let access = kubernetes_access(&config);
    let doors = block_on(async { Ok(door_needs(&access, &doors).await) })?;
    let doors = doors.map_err(|what| Error::Refused {
        what,
        hint: "ask where the door's manifests are: their objects need rights as well".into(),
    })?;
    let mut all = needs(writers(service), settings(service), doors, &probes(&config, service));
    let mut tables: Vec<String> = all.iter().map(|need| need.table.clone()).collect();
    tables.sort();
    tables.dedup();
    let table = match (&arguments.cluster, tables.as_slice()) {
        (Some(name), _) if tables.contains(name) => name.clone(),
        (None, [only]) => only.clone(),
        (_, []) => {
            let what = format!("service '{}' has nothing in Kubernetes", service.name);
            return Err(Error::Refused { what, hint: "name another service".into() }.into());
        }
        _ => {
            let what = format!("expected --cluster with one of: {}", tables.join(", "));
            return Err(Error::Usage(what).into());
        }
    };
    all.retain(|need| need.table == table);
    for text in &arguments.manager {
        all.push(manager(&table, text)?);
    }
    let manifest = rbac_manifest(&all, &arguments.subject);
    let needs = all.iter().map(|need| need.describe(need.verbs)).collect();
    let report = Report { service: service.name.clone(), cluster: table, needs, manifest };
    context.printer.result(&report, report.manifest.trim_end());
    if all.iter().any(|need| need.guessed.is_some()) {
        let note = "the API server was not asked for the kinds of a door's manifests: what is marked \
                    as a guess has to be compared";
        context.printer.note(note);
    }
    context.printer.next(&format!("rollforward check {}", service.name));
    Ok(0)
}

/// `flux-kustomization=flux-system/apps`.
fn manager(table: &str, text: &str) -> anyhow::Result<Need> {
    let need = text
        .split_once('=')
        .filter(|(_, object)| object.split('/').filter(|part| !part.is_empty()).count() == 2)
        .and_then(|(kind, object)| manager_need(table, kind, object));
    need.ok_or_else(|| {
        let what = format!("expected --manager KIND=NAMESPACE/NAME, seen '{text}'");
        Error::Usage(what).into()
    })
}

/// Every place of the service but production's own.
fn others(service: &Service) -> impl Iterator<Item = &Bindings> {
    service.drill.iter().chain(service.sites.values().map(|site| &site.bindings))
}

fn writers(service: &Service) -> impl Iterator<Item = &Writer> {
    let theirs = others(service).flat_map(|place| place.writers.iter().chain(&place.activate));
    service.writers.iter().chain(theirs)
}

/// Doors that incidents move; a drill moves none.
fn doors(service: &Service) -> impl Iterator<Item = &Door> {
    let sites = service.sites.values().filter_map(|site| site.bindings.door.as_ref());
    service.door.iter().chain(sites)
}

fn settings(service: &Service) -> impl Iterator<Item = &Setting> {
    service.setting.iter().chain(others(service).flat_map(|place| &place.setting))
}
