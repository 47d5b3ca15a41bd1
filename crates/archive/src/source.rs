//! A file that PostgreSQL wants archived: what it is by its name, and which cluster it lies in.

use std::fs;
use std::path::{Path, PathBuf};

use pg::{MajorVersion, TimelineHistory, TimelineId, WalFileName};

use crate::error::Error;

/// A WAL file in a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Where it is, absolute.
    pub path: PathBuf,
    /// Its name.
    pub name: WalFileName,
    /// The real path of the data directory it lies in. `pg_wal` itself may be a link to elsewhere.
    pub data_directory: PathBuf,
}

impl SourceFile {
    /// Finds the data directory of the file at `path`, `%p` of an archive command made absolute:
    /// `<data directory>/pg_wal/<name>`.
    ///
    /// # Errors
    /// [`Error::NotWal`] when the name is none that PostgreSQL archives or the path does not lead
    /// through a data directory, [`Error::File`] when that cannot be looked at.
    pub fn locate(path: &Path) -> Result<Self, Error> {
        let refuse = |reason: String| Error::NotWal { name: path.display().to_string(), reason };
        let text = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = text
            .parse()
            .map_err(|error: pg::wal_file_name::ParseWalFileNameError| refuse(error.to_string()))?;
        let folder = path.parent().filter(|folder| folder.file_name() == Some("pg_wal".as_ref()));
        let data = folder.and_then(Path::parent).filter(|data| data.is_absolute());
        let data = data.ok_or_else(|| {
            refuse("expected an absolute path '<data directory>/pg_wal/<name>'".into())
        })?;
        let data_directory = fs::canonicalize(data).map_err(Error::file("read", data))?;
        if !data_directory.join("global/pg_control").is_file() {
            let reason = format!("expected a data directory at '{}'", data_directory.display());
            return Err(refuse(reason));
        }
        Ok(Self { path: path.to_owned(), name, data_directory })
    }

    /// The major version of the data directory.
    ///
    /// # Errors
    /// [`Error::File`], or [`Error::NotWal`] for a version that is not supported.
    pub fn major_version(&self) -> Result<MajorVersion, Error> {
        let path = self.data_directory.join("PG_VERSION");
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        MajorVersion::from_version_file(&text).map_err(|error| Error::NotWal {
            name: self.name.to_string(),
            reason: error.to_string(),
        })
    }

    /// The history of `timeline` as it lies beside the file; `None` when there is none that can be
    /// read.
    #[must_use]
    pub fn history(&self, timeline: TimelineId) -> Option<TimelineHistory> {
        let name = WalFileName::History(timeline).to_string();
        let bytes = fs::read(self.path.with_file_name(name)).ok()?;
        TimelineHistory::parse(timeline, &bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_directory_is_the_one_the_path_leads_through() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let data = root.join("data");
        fs::create_dir_all(data.join("global")).unwrap();
        fs::create_dir(root.join("wal-disk")).unwrap();
        std::os::unix::fs::symlink(root.join("wal-disk"), data.join("pg_wal")).unwrap();
        std::os::unix::fs::symlink(&data, root.join("link")).unwrap();
        let path = root.join("link/pg_wal/000000010000000000000001");
        assert!(matches!(SourceFile::locate(&path), Err(Error::NotWal { .. })), "no pg_control");
        fs::write(data.join("global/pg_control"), "").unwrap();
        assert_eq!(SourceFile::locate(&path).unwrap().data_directory, data);
        for bad in [
            root.join("wal-disk/000000010000000000000001"),
            root.join("link/pg_wal/archive_status"),
            root.join("nowhere/pg_wal/000000010000000000000001"),
            PathBuf::from("pg_wal/000000010000000000000001"),
            PathBuf::from("/"),
        ] {
            assert!(SourceFile::locate(&bad).is_err(), "{}", bad.display());
        }
    }
}
