//! What makes a copied directory a cluster that recovers: labels, settings, and `pg_control` last.

use std::path::Path;

use pg::recovery::{LEFTOVER_SETTINGS, RECOVERY_SIGNAL_FILE, STANDBY_SIGNAL_FILE, TARGET_SETTINGS};
use repository::root::Root;
use stdx::durable;

use crate::owner::Owner;
use crate::tablespaces::Place;
use crate::{Error, Options, copy};

/// Settings that name other places than the restored directory; a restored copy that followed them
/// would read or write the original's files.
const PLACE_SETTINGS: [&str; 5] =
    ["data_directory", "config_file", "hba_file", "ident_file", "external_pid_file"];

/// Writes the rest. The order matters: everything else is durable before `pg_control` appears, and
/// without it PostgreSQL does not start.
pub(crate) fn run(
    root: &Root,
    options: &Options,
    places: &[Place],
    control: &[u8],
    owner: Owner,
) -> Result<Vec<String>, Error> {
    let directory = options.directory.as_path();
    let write = |name: &str, bytes: &[u8]| write(&directory.join(name), bytes, owner);
    write("backup_label", &root.details.backup_label)?;
    let mut taken_out = Vec::new();
    for name in ["postgresql.conf", "postgresql.auto.conf"] {
        let path = directory.join(name);
        if let Some(text) = read_text(&path)? {
            let (text, lines) = neutralise(name, &text)?;
            taken_out.extend(lines);
            write(name, text.as_bytes())?;
        }
    }
    if read_text(&directory.join("postgresql.conf"))?.is_none() {
        // Configuration outside the data directory stays there; the server needs a file all the same.
        write(
            "postgresql.conf",
            b"# Restored by rollforward: the original lay outside the data directory.\n",
        )?;
    }
    let auto = read_text(&directory.join("postgresql.auto.conf"))?.unwrap_or_default();
    let text = options.quarantine.apply(root, &auto)?;
    write("postgresql.auto.conf", text.as_bytes())?;
    for (name, text) in options.quarantine.files() {
        write(name, text.as_bytes())?;
    }
    for name in [STANDBY_SIGNAL_FILE, "postmaster.pid"] {
        let path = directory.join(name);
        durable::remove(&path).map_err(|error| Error::file("remove", &path, error))?;
    }
    if options.quarantine.recovers() {
        write(RECOVERY_SIGNAL_FILE, b"")?;
    }
    copy::sync_file_system(directory)?;
    for place in places {
        copy::sync_file_system(&place.directory)?;
    }
    // Without its label the cluster would start from the checkpoint in pg_control and skip WAL it
    // needs: an impossible position there makes PostgreSQL refuse instead (pitfall 1).
    let control = pg::ControlFile::with_invalid_checkpoint(control).map_err(|error| {
        Error::Entry { path: pg::control::CONTROL_FILE_PATH.into(), reason: error.to_string() }
    })?;
    write(pg::control::CONTROL_FILE_PATH, &control)?;
    Ok(taken_out)
}

fn write(path: &Path, bytes: &[u8], owner: Owner) -> Result<(), Error> {
    durable::write_atomic(path, bytes, 0o600).map_err(|error| Error::file("write", path, error))?;
    owner.give_path(path).map_err(|error| Error::file("hand over", path, error))
}

fn read_text(path: &Path) -> Result<Option<String>, Error> {
    match std::fs::read(path) {
        // Comments may be in any encoding; what matters of a setting is ASCII.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("read", path, error)),
    }
}

/// Takes out of effect what would steer the restored cluster elsewhere. An older block of ours goes.
fn neutralise(name: &str, text: &str) -> Result<(String, Vec<String>), Error> {
    let text = pg::recovery::strip_block(text)
        .map_err(|error| Error::Settings { reason: format!("{name}: {error}") })?;
    let names: Vec<&str> =
        TARGET_SETTINGS.iter().chain(&LEFTOVER_SETTINGS).chain(&PLACE_SETTINGS).copied().collect();
    let neutral = pg::recovery::neutralise(&text, &names);
    let lines = neutral
        .taken_out
        .iter()
        .map(|line| format!("{name}:{} {}", line.line, line.name))
        .collect();
    Ok((neutral.text, lines))
}
