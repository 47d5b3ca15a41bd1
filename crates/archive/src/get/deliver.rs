//! Puts a file where PostgreSQL wants it, whole or not at all.

use std::fs;
use std::path::Path;

use stdx::durable::Draft;

use crate::error::Error;

/// PostgreSQL's files are for their owner alone.
const MODE: u32 = 0o600;

/// Writes `content` beside `destination`, makes it durable, and gives it the name.
///
/// # Errors
/// [`Error::File`]; the destination is then what it was before.
pub(super) fn deliver(destination: &Path, content: &[u8]) -> Result<(), Error> {
    let mut draft = begin(destination)?;
    draft.write(content).map_err(Error::file("write", destination))?;
    finish(draft)
}

/// Begins what will be delivered.
///
/// # Errors
/// [`Error::File`].
pub(super) fn begin(destination: &Path) -> Result<Draft, Error> {
    remove_left_over(destination);
    Draft::create(destination, MODE).map_err(Error::file("write", destination))
}

/// Delivers it.
///
/// # Errors
/// As [`deliver`].
pub(super) fn finish(draft: Draft) -> Result<(), Error> {
    let destination = draft.path().to_owned();
    draft.commit().map_err(Error::file("write", &destination))
}

/// Removes what killed restore commands left beside `destination`: PostgreSQL runs one at a time,
/// so nobody writes them any more. Failing to is no reason not to deliver.
fn remove_left_over(destination: &Path) {
    let Some(name) = destination.file_name().and_then(|name| name.to_str()) else { return };
    let prefix = format!(".{name}.");
    let Some(entries) = destination.parent().and_then(|folder| fs::read_dir(folder).ok()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_left_over = name
            .to_str()
            .and_then(|name| name.strip_prefix(&prefix)?.strip_suffix(".tmp"))
            .is_some_and(|id| id.parse::<stdx::Id>().is_ok());
        if is_left_over {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_command_left_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let destination = dir.path().join("RECOVERYXLOG");
        let left = stdx::durable::temp_sibling(&destination);
        let other = dir.path().join(".RECOVERYXLOG.keep.tmp");
        fs::write(&left, "half").unwrap();
        fs::write(&other, "mine").unwrap();
        deliver(&destination, b"whole").unwrap();
        assert_eq!(fs::read(&destination).unwrap(), b"whole");
        assert!(!left.exists() && other.exists());
    }
}
