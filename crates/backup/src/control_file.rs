//! Reading `pg_control` while the server writes it.

use std::path::Path;
use std::time::Duration;

use pg::control::CONTROL_FILE_PATH;
use pg::{ControlFile, ControlFileError};

use crate::error::{Error, unreadable};

/// How often it is read until it is whole. The server writes it in one call; catching it twice in
/// the middle is rare, fifty times means that it is damaged.
const READS_MAX: u32 = 50;

/// Between two reads.
const READ_PAUSE: Duration = Duration::from_millis(10);

/// The bytes of `pg_control` with a right CRC, and what they say.
///
/// # Errors
/// [`Error::Unreadable`]; [`Error::ControlFile`] when it is of another version, or never whole.
pub(crate) async fn read(root: &Path) -> Result<(Vec<u8>, ControlFile), Error> {
    let path = root.join(CONTROL_FILE_PATH);
    let mut reads = 1;
    loop {
        let bytes = std::fs::read(&path).map_err(|error| unreadable(&path, &error))?;
        match ControlFile::decode(&bytes) {
            Ok(control) => return Ok((bytes, control)),
            Err(ControlFileError::Short { .. } | ControlFileError::Crc { .. })
                if reads < READS_MAX =>
            {
                reads += 1;
                tokio::time::sleep(READ_PAUSE).await;
            }
            Err(error) => return Err(Error::ControlFile { path, reason: error.to_string() }),
        }
    }
}
