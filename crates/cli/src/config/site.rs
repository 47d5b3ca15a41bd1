//! Other places for a service: a drill, a staging sibling, standby sites.

use std::collections::BTreeMap;

use recovery::service::{BindingPlace, Bindings, Site};

use super::kubernetes::network;
use super::service::{Problem, door, files, health, setting, smokes, writers, wrong};
use super::{traffic, wire};

fn place(key: &str, table: &wire::BindingTable) -> Result<BindingPlace, Problem> {
    match (&table.directory, &table.subnet_group) {
        (Some(path), None) if path.starts_with('/') => Ok(BindingPlace::Directory(path.clone())),
        (None, Some(group)) => Ok(BindingPlace::Network {
            subnet_group: group.clone(),
            security_groups: table.security_groups.clone(),
        }),
        _ => wrong(
            &format!("{key}.database"),
            "expected 'directory', an absolute path, or 'subnet_group'",
        ),
    }
}

pub(super) fn bindings(key: &str, table: &wire::BindingsTable) -> Result<Bindings, Problem> {
    let at = |name: &str| format!("{key}.{name}");
    let database = &table.database;
    let clients = (database.clients.as_slice(), database.databases.as_slice());
    let (address, listen) = (database.address.as_ref(), database.listen.as_ref());
    Ok(Bindings {
        database: place(key, database)?,
        network: network(&at("database"), address, listen, clients)?.map(Box::new),
        setting: table.setting.as_ref().map(|it| setting(&at("setting"), it)).transpose()?,
        health: health(&at("writers"), &table.writers)?,
        writers: writers(&at("writers"), &table.writers)?,
        activate: writers(&at("activate"), &table.activate)?,
        door: table.door.as_ref().map(|it| door(&at("door"), it)).transpose()?,
        files: files::files(&at("files"), &table.files)?,
        smoke: smokes(&at("smoke"), &table.smoke)?,
        traffic: traffic::traffic(&at("traffic"), &table.traffic)?,
    })
}

pub(super) fn sites(
    tables: BTreeMap<String, wire::SiteTable>,
) -> Result<BTreeMap<String, Site>, Problem> {
    let sites = tables.into_iter().map(|(name, table)| {
        let site = site(&format!("site.{name}"), table)?;
        Ok((name, site))
    });
    sites.collect()
}

fn site(key: &str, table: wire::SiteTable) -> Result<Site, Problem> {
    let real = traffic::traffic(&format!("{key}.traffic"), &table.traffic)?;
    let bindings = wire::BindingsTable {
        database: table.database,
        setting: table.setting,
        writers: table.writers,
        activate: table.activate,
        door: table.door,
        files: table.files,
        smoke: table.smoke,
        traffic: table.drill.traffic,
    };
    Ok(Site {
        host: table.host,
        bindings: self::bindings(key, &bindings)?,
        traffic: real,
        checklist: table.checklist,
    })
}
