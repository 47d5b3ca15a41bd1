//! What makes a copied directory a cluster that recovers: labels, settings, and `pg_control` last.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use pg::recovery::{RECOVERY_SIGNAL_FILE, STANDBY_SIGNAL_FILE};
use pg::{BackupLabel, ControlFile, TimelineId, WalFileName};
use repository::root::Root;
use stdx::durable;

use crate::config::{Configuration, put};
use crate::copy::{self, HeldBack};
use crate::ground::{Ground, LastFolder};
use crate::quarantine::QUARANTINE_FILE;
use crate::tablespaces::Place;
use crate::{Error, Options};

/// Files of another server, another recovery or another backup. None belongs into a backup; with
/// one of them PostgreSQL would not start, or recover other than asked for.
const NEVER: [&str; 8] = [
    STANDBY_SIGNAL_FILE,
    RECOVERY_SIGNAL_FILE,
    "postmaster.pid",
    "postmaster.opts",
    "recovery.conf",
    "backup_label",
    // The links below pg_tblspc are made; with this file PostgreSQL would point them back.
    "tablespace_map",
    "postgresql.auto.conf.tmp",
];

/// Mode of the data directory: PostgreSQL accepts these two.
pub(crate) fn directory_mode(root: &Root) -> u32 {
    match root.details.settings.get("data_directory_mode").map(String::as_str) {
        Some("0750") => 0o750,
        _ => 0o700,
    }
}

/// Refuses a backup that would not make a cluster, before anything is copied.
pub(crate) fn check(root: &Root) -> Result<(), Error> {
    let refuse = |path: &str, reason: String| Error::Entry { path: path.into(), reason };
    let label = String::from_utf8_lossy(&root.details.backup_label);
    let label =
        BackupLabel::parse(&label).map_err(|error| refuse("backup_label", error.to_string()))?;
    if label.start_lsn != root.summary.redo {
        let reason = format!("expected redo {}, seen {}", root.summary.redo, label.start_lsn);
        return Err(refuse("backup_label", reason));
    }
    if !root.details.control.is_empty() {
        control_bytes(root, &root.details.control)?;
    }
    Ok(())
}

/// Without its label the cluster would start from the checkpoint in `pg_control` and skip WAL it
/// needs: an impossible position there makes PostgreSQL refuse instead.
fn control_bytes(root: &Root, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let refuse =
        |reason: String| Error::Entry { path: pg::control::CONTROL_FILE_PATH.into(), reason };
    let control = ControlFile::decode(bytes).map_err(|error| refuse(error.to_string()))?;
    if control.system_id != root.summary.system_id {
        let (expected, seen) = (root.summary.system_id, control.system_id);
        return Err(refuse(format!("expected system identifier {expected}, seen {seen}")));
    }
    ControlFile::with_invalid_checkpoint(bytes).map_err(|error| refuse(error.to_string()))
}

/// Writes the rest. The order matters: everything else is durable before `pg_control` appears, and
/// without it PostgreSQL does not start.
pub(crate) fn run(
    root: &Root,
    options: &Options,
    places: &[Place],
    ground: &Ground,
    held_back: &HeldBack,
) -> Result<Vec<String>, Error> {
    let directory = options.directory.as_path();
    let mode = if directory_mode(root) == 0o750 { 0o640 } else { 0o600 };
    let write = |name: &str, bytes: &[u8]| put(&directory.join(name), bytes, mode, ground.owner);
    let control = held_back.control.as_deref().unwrap_or(&root.details.control);
    let control = control_bytes(root, control)?;
    for name in NEVER {
        let path = directory.join(name);
        durable::remove(&path).map_err(|error| Error::file("remove", &path, error))?;
    }
    write("backup_label", &root.details.backup_label)?;
    let configuration = Configuration::new(ground, directory, root, &held_back.config, mode);
    let (auto, mut taken_out) = configuration.write(root)?;
    let (block, left_out) = options.quarantine.block(root, &options.directory)?;
    taken_out.extend(left_out);
    let mut auto = crate::conf_line::encode(&auto);
    auto.extend_from_slice(block.as_bytes());
    write("postgresql.auto.conf", &auto)?;
    write(QUARANTINE_FILE, block.as_bytes())?;
    for (name, text) in options.quarantine.files() {
        write(name, text.as_bytes())?;
    }
    for (timeline, content) in &options.histories {
        write_history(*timeline, content, mode, ground)?;
    }
    if options.quarantine.recovers() {
        write(RECOVERY_SIGNAL_FILE, b"")?;
    }
    sync(directory, places)?;
    // Through a link the write would land in another cluster.
    let global = directory.join("global");
    if !global.symlink_metadata().is_ok_and(|found| found.is_dir()) {
        return Err(Error::Entry {
            path: "global".into(),
            reason: "expected a directory, seen something else".into(),
        });
    }
    write(pg::control::CONTROL_FILE_PATH, &control)?;
    Ok(taken_out)
}

/// Puts a timeline's history where PostgreSQL keeps it. It is durable with everything else.
fn write_history(
    timeline: TimelineId,
    content: &[u8],
    mode: u32,
    ground: &Ground,
) -> Result<(), Error> {
    let path = format!("pg_wal/{}", WalFileName::History(timeline)).into_bytes();
    let spot = ground.spot(&path, &mut LastFolder::default())?;
    spot.create(mode, ground.owner)
        .and_then(|file| file.write_all_at(content, 0))
        .map_err(|error| Error::file("write", &ground.full(&path), error))
}

/// Makes every file system durable, each once.
fn sync(directory: &Path, places: &[Place]) -> Result<(), Error> {
    let mut done = Vec::new();
    let folders = places.iter().map(|place| place.directory.as_path());
    for folder in [directory].into_iter().chain(folders) {
        let meta = std::fs::metadata(folder);
        let device = meta.map_err(|error| Error::file("look at", folder, error))?.dev();
        if !done.contains(&device) {
            copy::sync_file_system(folder)?;
            done.push(device);
        }
    }
    Ok(())
}
