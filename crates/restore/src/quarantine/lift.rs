//! The end of a quarantine.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use pg::MajorVersion;
use pg::recovery::RecoveryError;

use super::{QUARANTINE_FILE, RecoverySettings};
use crate::Error;
use crate::conf_line::{decode, encode, parse};
use crate::config::put;
use crate::owner::Owner;

const AUTO_FILE: &str = "postgresql.auto.conf";

/// Whether the cluster in `directory` is in quarantine: our block stands in its settings, or the
/// file beside them that repeats it.
///
/// # Errors
/// The file system's.
pub fn is_quarantined(directory: &Path) -> Result<bool, Error> {
    let text = read(&directory.join(AUTO_FILE))?.unwrap_or_default();
    let marked = decode(&text).lines().any(|line| line.trim() == pg::recovery::BEGIN_MARK);
    Ok(marked || read(&directory.join(QUARANTINE_FILE))?.is_some())
}

/// Lifts the quarantine: its settings go and `settings` (name and value), which the adopted cluster
/// needs, stand in their place. Takes effect at the next start, or at a reload where a setting
/// allows it. What `ALTER SYSTEM` changed during the quarantine stays changed.
///
/// Returns the names of the settings that were lifted, in the order in which they stood; one that
/// is in `settings` with the same value is not among them. The file for client authentication
/// stays: a running server reads it until it is restarted.
///
/// # Errors
/// [`Error::NotQuarantined`]; [`Error::Settings`] when a block is not whole; the file system's. The
/// cluster is then still in quarantine.
pub fn lift(
    directory: &Path,
    settings: &[(&str, String)],
    major: MajorVersion,
) -> Result<Vec<String>, Error> {
    let path = directory.join(AUTO_FILE);
    if !is_quarantined(directory)? {
        return Err(Error::NotQuarantined {
            path: directory.into(),
            reason: format!("expected '{}' in {AUTO_FILE}", pg::recovery::BEGIN_MARK),
        });
    }
    let failed = |error: RecoveryError| Error::Settings { reason: error.to_string() };
    let text = decode(&read(&path)?.unwrap_or_default());
    let repeated = decode(&read(&directory.join(QUARANTINE_FILE))?.unwrap_or_default());
    let kept = pg::recovery::strip_block(&text).map_err(failed)?;
    let marked = kept != text;
    let ours = values(if marked { &text } else { &repeated }, marked);
    // Without its marks the block's lines are known by name and value.
    let lines = kept.split_inclusive('\n');
    let kept: String = if marked {
        lines.collect()
    } else {
        lines
            .filter(|line| parse(line).is_none_or(|(name, value)| !has(&ours, name, &value)))
            .collect()
    };
    let mut block = RecoverySettings::new(major);
    for (name, value) in settings {
        block.add(name, value).map_err(failed)?;
    }
    let mut bytes = encode(&kept);
    if !bytes.is_empty() && !bytes.ends_with(b"\n") {
        bytes.push(b'\n');
    }
    if !settings.is_empty() {
        bytes.extend_from_slice(block.render().as_bytes());
    }
    let meta = std::fs::metadata(directory);
    let meta = meta.map_err(|error| Error::file("look at", directory, error))?;
    let mode = if meta.mode() & 0o050 == 0 { 0o600 } else { 0o640 };
    let (owner, _) = Owner::of_target(directory, None)?;
    put(&path, &bytes, mode, owner)?;
    let repeated = directory.join(QUARANTINE_FILE);
    stdx::durable::remove(&repeated).map_err(|error| Error::file("remove", &repeated, error))?;
    let stays = |(name, value): &(String, String)| {
        let decoded = decode(value.as_bytes());
        settings.iter().any(|(other, kept)| other == name && (kept == value || *kept == decoded))
    };
    Ok(ours.iter().filter(|ours| !stays(ours)).map(|(name, _)| name.clone()).collect())
}

/// Names and values of the lines of a text; of those in our block only, if `inside`.
fn values(text: &str, inside: bool) -> Vec<(String, String)> {
    let mut within = !inside;
    let mut values = Vec::new();
    for line in text.lines() {
        match line.trim() {
            pg::recovery::BEGIN_MARK => within = true,
            pg::recovery::END_MARK => within = !inside,
            _ if within => {
                values.extend(parse(line).map(|(name, value)| (name.to_owned(), value)));
            }
            _ => {}
        }
    }
    values
}

fn has(values: &[(String, String)], name: &str, value: &str) -> bool {
    values.iter().any(|(known, expected)| known.eq_ignore_ascii_case(name) && expected == value)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("read", path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str =
        "# BEGIN rollforward\nport = '7000'\narchive_mode = 'on'\n# END rollforward\n";

    fn check(
        auto: &str,
        repeated: Option<&str>,
        settings: &[(&str, &str)],
        expect: (&str, &[&str]),
    ) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(AUTO_FILE), auto).unwrap();
        if let Some(text) = repeated {
            std::fs::write(folder.path().join(QUARANTINE_FILE), text).unwrap();
        }
        let settings: Vec<_> = settings.iter().map(|(a, b)| (*a, (*b).to_owned())).collect();
        let lifted = lift(folder.path(), &settings, MajorVersion::V18).unwrap();
        let text = std::fs::read_to_string(folder.path().join(AUTO_FILE)).unwrap();
        assert_eq!(
            (text.as_str(), lifted.iter().map(String::as_str).collect::<Vec<_>>()),
            (expect.0, expect.1.to_vec())
        );
        assert!(is_quarantined(folder.path()).unwrap() != settings.is_empty());
        assert!(!folder.path().join(QUARANTINE_FILE).exists());
    }

    #[test]
    fn its_settings_go_and_those_of_the_source_stay() {
        let auto = format!("port = '5432'\n{BLOCK}");
        check(&auto, Some(BLOCK), &[], ("port = '5432'\n", &["port", "archive_mode"]));
        let kept = "port = '5432'\n# BEGIN rollforward\narchive_mode = 'on'\n# END rollforward\n";
        check(&auto, None, &[("archive_mode", "on")], (kept, &["port"]));
    }

    #[test]
    fn a_block_that_alter_system_flattened_is_found_by_its_values() {
        let auto =
            "# Do not edit\nport = '5432'\nport = '7000'\narchive_mode = 'off'\nwork_mem = '1MB'\n";
        let rest = "# Do not edit\nport = '5432'\narchive_mode = 'off'\nwork_mem = '1MB'\n";
        check(auto, Some(BLOCK), &[], (rest, &["port", "archive_mode"]));
    }

    #[test]
    fn a_cluster_without_quarantine_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = lift(folder.path(), &[], MajorVersion::V18).unwrap_err();
        assert!(matches!(error, Error::NotQuarantined { .. }), "{error}");
    }
}
