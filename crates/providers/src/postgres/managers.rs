//! What manages a cluster from outside, and would undo what a recovery does to it.
//!
//! Found by what each of them leaves in the data directory; nothing is asked and nothing changed.

use std::path::Path;

use serde_json::Value;

/// A manager of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    /// Its name.
    pub name: &'static str,
    /// What was found.
    pub seen: String,
    /// Whether its files tell if it is paused.
    pub says_when_paused: bool,
    /// Whether it is paused.
    pub is_paused: bool,
    /// What pauses it.
    pub pause: &'static str,
}

/// Patroni's copy of its configuration, which it keeps in the data directory (patroni.config).
const PATRONI: &str = "patroni.dynamic.json";

/// What pg_auto_failover includes from `postgresql.conf`.
const AUTO_FAILOVER: &str = "postgresql-auto-failover.conf";

/// What CloudNativePG includes from `postgresql.conf`.
const CLOUD_NATIVE: [&str; 2] = ["custom.conf", "override.conf"];

/// The manager of a data directory of this host.
#[must_use]
pub fn manager(directory: &Path) -> Option<Manager> {
    let text = |name: &str| std::fs::read_to_string(directory.join(name)).ok();
    if let Some(text) = text(PATRONI) {
        let settings: Value = serde_json::from_str(&text).unwrap_or_default();
        return Some(Manager {
            name: "Patroni",
            seen: format!("'{PATRONI}'"),
            says_when_paused: true,
            is_paused: settings.get("pause").and_then(Value::as_bool).unwrap_or(false),
            pause: "patronictl pause",
        });
    }
    let blind = |name, seen: String, pause| Manager {
        name,
        seen,
        says_when_paused: false,
        is_paused: false,
        pause,
    };
    if directory.join(AUTO_FAILOVER).exists() {
        let pause = "pg_autoctl enable maintenance";
        return Some(blind("pg_auto_failover", format!("'{AUTO_FAILOVER}'"), pause));
    }
    if CLOUD_NATIVE.iter().all(|name| directory.join(name).exists()) {
        let pause = "kubectl annotate cluster NAME cnpg.io/hibernation=on";
        return Some(blind("CloudNativePG", format!("'{}'", CLOUD_NATIVE.join("', '")), pause));
    }
    let settings = ["postgresql.conf", "postgresql.auto.conf"].map(text);
    let preloads = settings.iter().flatten().flat_map(|text| text.lines()).any(|line| {
        line.trim_start().starts_with("shared_preload_libraries") && line.contains("repmgr")
    });
    preloads.then(|| {
        blind("repmgr", "'repmgr' in shared_preload_libraries".into(), "repmgr service pause")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_folder(files: &[(&str, &str)]) -> Option<Manager> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        manager(folder.path())
    }

    #[test]
    fn managers_are_known_by_what_they_leave() {
        assert_eq!(in_folder(&[("postgresql.conf", "#shared_preload_libraries = 'repmgr'")]), None);
        let paused = |text| in_folder(&[(PATRONI, text)]).unwrap().is_paused;
        assert!(paused("{\"ttl\": 30, \"pause\": true}"));
        assert!(!paused("{\"ttl\": 30}") && !paused("half a fi"));
        let name = |files: &[(&str, &str)]| in_folder(files).unwrap().name;
        assert_eq!(name(&[(AUTO_FAILOVER, "")]), "pg_auto_failover");
        assert_eq!(name(&[("custom.conf", ""), ("override.conf", "")]), "CloudNativePG");
        let line = "shared_preload_libraries = 'pg_stat_statements, repmgr'";
        assert_eq!(name(&[("postgresql.auto.conf", line)]), "repmgr");
    }
}
