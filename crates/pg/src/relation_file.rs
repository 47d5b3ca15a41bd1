//! What a file in the data directory holds of a relation, by its path.

use std::fmt;

use crate::{BlockNumber, MajorVersion, Oid};

/// The tablespace of `base/`. PostgreSQL: `DEFAULTTABLESPACE_OID`.
pub const DEFAULT_TABLESPACE: Oid = Oid::new(1663);

/// The tablespace of `global/`. PostgreSQL: `GLOBALTABLESPACE_OID`.
pub const GLOBAL_TABLESPACE: Oid = Oid::new(1664);

/// One segment file of one fork of a relation. All of them consist of pages, which carry checksums
/// when the cluster has them.
///
/// PostgreSQL: `GetRelationPath`, src/common/relpath.c; `parse_filename_for_nontemp_relation`,
/// src/backend/storage/file/reinit.c.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationFile {
    /// The tablespace: [`DEFAULT_TABLESPACE`], [`GLOBAL_TABLESPACE`] or one in `pg_tblspc`.
    pub tablespace: Oid,
    /// The database; [`Oid::INVALID`] for relations that all databases share.
    pub database: Oid,
    /// The relation's file number. PostgreSQL: `relfilenode`.
    pub relfilenode: Oid,
    /// Which of the relation's forks.
    pub fork: Fork,
    /// The place of the file among the fork's files, from 0.
    pub segment: u32,
    /// The number of the backend whose temporary relation it is.
    pub temporary: Option<u32>,
}

/// A file series of a relation. PostgreSQL: `ForkNumber`, src/include/common/relpath.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fork {
    /// The rows or index entries.
    Main,
    /// The free space map; its changes are not in the WAL.
    FreeSpaceMap,
    /// The visibility map.
    VisibilityMap,
    /// What an unlogged relation is reset to after a crash.
    Init,
}

/// The name of a file in a database's directory, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RelationFileName {
    pub relfilenode: Oid,
    pub fork: Fork,
    pub segment: u32,
    pub temporary: Option<u32>,
}

impl Fork {
    const ALL: [Self; 4] = [Self::Main, Self::FreeSpaceMap, Self::VisibilityMap, Self::Init];

    /// The fork with PostgreSQL's number, as WAL records have it: 0 main, 1 free space map,
    /// 2 visibility map, 3 init.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// What follows the file number in the name: nothing for the main fork.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::FreeSpaceMap => "_fsm",
            Self::VisibilityMap => "_vm",
            Self::Init => "_init",
        }
    }
}

impl RelationFile {
    /// Takes a path relative to the data directory apart: `global/1262`, `base/5/16384_fsm.3`,
    /// `pg_tblspc/16400/PG_16_202307071/5/t3_16401`. `None` for every other path: such a file has
    /// no pages.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let (directory, name) = path.rsplit_once('/')?;
        let mut parts = directory.split('/');
        let (tablespace, database) = match (parts.next()?, parts.next(), parts.next(), parts.next())
        {
            ("global", None, ..) => (GLOBAL_TABLESPACE, Oid::INVALID),
            ("base", Some(database), None, _) => (DEFAULT_TABLESPACE, oid(database)?),
            ("pg_tblspc", Some(tablespace), Some(version), Some(database)) => {
                is_version_directory(version).then_some(())?;
                (oid(tablespace)?, oid(database)?)
            }
            _ => return None,
        };
        parts.next().is_none().then_some(())?;
        let RelationFileName { relfilenode, fork, segment, temporary } =
            RelationFileName::parse(name)?;
        Some(Self { tablespace, database, relfilenode, fork, segment, temporary })
    }

    /// The path relative to the data directory. `version_directory` is the one that a tablespace
    /// has for this cluster, [`version_directory`].
    #[must_use]
    pub fn path(&self, version_directory: &str) -> String {
        let name = RelationFileName {
            relfilenode: self.relfilenode,
            fork: self.fork,
            segment: self.segment,
            temporary: self.temporary,
        };
        match self.tablespace {
            GLOBAL_TABLESPACE => format!("global/{name}"),
            DEFAULT_TABLESPACE => format!("base/{}/{name}", self.database),
            other => format!("pg_tblspc/{other}/{version_directory}/{}/{name}", self.database),
        }
    }

    /// The number of the file's first page in its fork, given how many pages a file has at most
    /// (`pg_control` says); `None` when no page can have that number.
    #[must_use]
    pub fn first_block(&self, relation_segment_blocks: u32) -> Option<BlockNumber> {
        self.segment.checked_mul(relation_segment_blocks).map(BlockNumber::new)
    }
}

/// Whether the file at this path, relative to the data directory, consists of pages with checksums.
///
/// PostgreSQL: the complement of `noChecksumFiles`, src/backend/backup/basebackup.c.
#[must_use]
pub fn is_page_file(path: &str) -> bool {
    RelationFile::parse(path).is_some()
}

/// The directory that a cluster makes in each of its tablespaces, such as `PG_16_202307071`.
///
/// PostgreSQL: `TABLESPACE_VERSION_DIRECTORY`, src/include/common/relpath.h.
#[must_use]
pub fn version_directory(major: MajorVersion, catalog_version: u32) -> String {
    format!("PG_{major}_{catalog_version}")
}

pub(crate) fn is_version_directory(name: &str) -> bool {
    let parts = name.strip_prefix("PG_").and_then(|rest| rest.split_once('_'));
    parts.is_some_and(|(major, catalog)| number(major).is_some() && number(catalog).is_some())
}

impl RelationFileName {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (name, segment) = match name.split_once('.') {
            Some((name, segment)) => (name, number(segment).filter(|segment| *segment != 0)?),
            None => (name, 0),
        };
        let (temporary, name) = match name.strip_prefix('t') {
            Some(rest) => {
                let (backend, name) = rest.split_once('_')?;
                (Some(number(backend)?), name)
            }
            None => (None, name),
        };
        let end = name.find('_').unwrap_or(name.len());
        let (relfilenode, suffix) = name.split_at_checked(end)?;
        let fork = Fork::ALL.into_iter().find(|fork| fork.suffix() == suffix)?;
        Some(Self { relfilenode: oid(relfilenode)?, fork, segment, temporary })
    }
}

impl fmt::Display for RelationFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(backend) = self.temporary {
            write!(f, "t{backend}_")?;
        }
        write!(f, "{}{}", self.relfilenode, self.fork.suffix())?;
        if self.segment > 0 {
            write!(f, ".{}", self.segment)?;
        }
        Ok(())
    }
}

pub(crate) fn oid(text: &str) -> Option<Oid> {
    number(text).filter(|oid| *oid != 0).map(Oid::new)
}

/// A decimal number as PostgreSQL prints it: digits only, no leading zero.
fn number(text: &str) -> Option<u32> {
    let canonical =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    canonical.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn takes_relation_paths_apart() {
        let check = |path: &str, expect: (u32, u32, u32, Fork, u32, Option<u32>)| {
            let file = RelationFile::parse(path).unwrap();
            let (tablespace, database, relfilenode) =
                (file.tablespace.get(), file.database.get(), file.relfilenode.get());
            let seen = (tablespace, database, relfilenode, file.fork, file.segment, file.temporary);
            assert_eq!(seen, expect, "{path}");
            assert_eq!(file.path("PG_16_202307071"), path);
        };
        check("global/1262", (1664, 0, 1262, Fork::Main, 0, None));
        check("global/1262_fsm", (1664, 0, 1262, Fork::FreeSpaceMap, 0, None));
        check("base/5/16384_fsm.3", (1663, 5, 16384, Fork::FreeSpaceMap, 3, None));
        check("base/5/16384.12", (1663, 5, 16384, Fork::Main, 12, None));
        check("base/1/2619_vm", (1663, 1, 2619, Fork::VisibilityMap, 0, None));
        check("base/5/16390_init", (1663, 5, 16390, Fork::Init, 0, None));
        check("base/5/t3_16401_vm", (1663, 5, 16401, Fork::VisibilityMap, 0, Some(3)));
        check("pg_tblspc/16400/PG_16_202307071/5/16401.1", (16400, 5, 16401, Fork::Main, 1, None));
    }

    #[test]
    fn other_files_have_no_pages() {
        for path in [
            "",
            "1262",
            "global/pg_control",
            "global/pg_filenode.map",
            "global/pg_internal.init",
            "global/5/1262",
            "base/5/PG_VERSION",
            "base/5/pg_filenode.map",
            "base/pgsql_tmp/pgsql_tmp12.0",
            "base/5/16384_foo",
            "base/5/16384.0",
            "base/5/16384.01",
            "base/5/016384",
            "base/5/0",
            "base/5/4294967296",
            "base/5/t_16384",
            "base/5/t3_",
            "base/5/16384 ",
            "base/x/16384",
            "base/16384",
            "base/5/6/7",
            "pg_tblspc/16400/16401",
            "pg_tblspc/16400/PG_16/5/16401",
            "pg_tblspc/16400/PG_16_202307071/5/6/16401",
            "pg_xact/0000",
            "pg_wal/000000010000000000000001",
        ] {
            assert!(!is_page_file(path), "{path}");
        }
    }

    #[test]
    fn knows_where_a_segment_file_starts() {
        let first = |path: &str| RelationFile::parse(path).unwrap().first_block(131_072);
        assert_eq!(first("base/5/16384"), Some(BlockNumber::new(0)));
        assert_eq!(first("base/5/16384.2"), Some(BlockNumber::new(262_144)));
        assert_eq!(first("base/5/16384.32768"), None);
    }

    proptest! {
        #[test]
        fn what_is_taken_apart_is_put_together_again(
            path in "(global|base/[0-9]{1,6}|pg_tblspc/[1-9]/PG_16_1/[1-9])/(t[0-9]_)?[0-9]{1,11}(_fsm|_vm|_init)?(\\.[0-9]{1,2})?"
        ) {
            if let Some(file) = RelationFile::parse(&path) {
                prop_assert_eq!(file.path("PG_16_1"), path);
            }
        }

        #[test]
        fn any_path_is_judged(path in "(?s).*") {
            let _ = RelationFile::parse(&path);
        }
    }
}
