//! The token file: what a host shows to archive into a lineage.
//!
//! It lies outside the data directory, so that a copy of the cluster does not carry it along. The
//! repository keeps a digest of the token, and the place it was given to.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use repository::LineageId;
use repository::seal::Secret;
use stdx::Id;

use crate::error::Error;

/// The first line of a token file of this version.
const TITLE: &str = "rollforward writer v1";
/// A token file has about 150 bytes.
const SIZE_MAX: u64 = 4096;

/// Who may archive into a lineage, with the token that proves it.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The lineage.
    pub lineage: LineageId,
    /// The registered writer.
    pub writer: Id,
    /// 256 random bits; never printed.
    pub token: Secret,
    /// The file it was read from.
    pub file: PathBuf,
}

impl Credential {
    /// Writes the token file, mode 0600, replacing an older one in one step.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write(&self) -> Result<(), Error> {
        let mut text = format!("{TITLE}\nlineage {}\nwriter {}\ntoken ", self.lineage, self.writer);
        for byte in self.token.expose() {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
        stdx::durable::write_atomic(&self.file, text.as_bytes(), 0o600)
            .map_err(Error::file("write", &self.file))
    }

    /// Reads a token file.
    ///
    /// # Errors
    /// [`Error::TokenFile`] when it is missing, others than its owner may read it, or it is not
    /// what [`Credential::write`] writes.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let refuse = |reason: String| Error::TokenFile { path: path.to_owned(), reason };
        let file = File::open(path).map_err(|error| refuse(error.to_string()))?;
        let meta = file.metadata().map_err(|error| refuse(error.to_string()))?;
        if meta.mode() & 0o077 != 0 {
            return Err(refuse(format!("expected mode 0600, seen {:04o}", meta.mode() & 0o7777)));
        }
        let mut text = String::new();
        let read = file.take(SIZE_MAX).read_to_string(&mut text);
        read.map_err(|error| refuse(error.to_string()))?;
        let (lineage, writer, token) = parse(&text)
            .ok_or_else(|| refuse(format!("expected '{TITLE}' and its three lines")))?;
        Ok(Self { lineage, writer, token, file: path.to_owned() })
    }
}

fn parse(text: &str) -> Option<(LineageId, Id, Secret)> {
    let mut lines = text.lines();
    if lines.next()? != TITLE {
        return None;
    }
    let lineage = lines.next()?.strip_prefix("lineage ")?.parse().ok()?;
    let writer = lines.next()?.strip_prefix("writer ")?.parse().ok()?;
    let token = hex32(lines.next()?.strip_prefix("token ")?)?;
    lines.next().is_none().then_some((lineage, writer, Secret::from_bytes(token)))
}

fn hex32(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let digit = |c: &u8| char::from(*c).to_digit(16);
        *byte = u8::try_from(digit(high)? << 4 | digit(low)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn credential(file: PathBuf) -> Credential {
        Credential {
            lineage: LineageId(Id::random()),
            writer: Id::random(),
            token: Secret::random(),
            file,
        }
    }

    #[test]
    fn is_read_as_it_was_written_and_readable_by_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let written = credential(dir.path().join("token"));
        written.write().unwrap();
        let read = Credential::read(&written.file).unwrap();
        assert_eq!((read.lineage, read.writer), (written.lineage, written.writer));
        assert_eq!(read.token.expose(), written.token.expose());
        fs::set_permissions(&written.file, Permissions::from_mode(0o640)).unwrap();
        let error = Credential::read(&written.file).unwrap_err().to_string();
        assert!(error.ends_with("cannot be used: expected mode 0600, seen 0640"), "{error}");
        assert!(!format!("{written:?}").contains("token: Secret(["), "the token is not printed");
    }

    #[test]
    fn anything_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let written = credential(dir.path().join("token"));
        written.write().unwrap();
        let good = fs::read_to_string(&written.file).unwrap();
        assert!(parse(&good).is_some());
        for bad in [
            String::new(),
            good.replace("v1", "v2"),
            good.replace("lineage ", ""),
            good.replace("token ", "token 0"),
            good.replace("token ", "token é"),
            good.trim_end().trim_end_matches(|c: char| c != ' ').to_owned(),
            format!("{good}more\n"),
        ] {
            assert!(parse(&bad).is_none(), "{bad}");
        }
        let missing = dir.path().join("missing");
        assert!(matches!(Credential::read(&missing), Err(Error::TokenFile { .. })));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(rollforward writer v1\n)?(lineage [0-9a-z]{26}\n)?.{0,90}") {
            let _ = parse(&text);
        }
    }
}
