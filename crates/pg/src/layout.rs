//! What to do with each file of a data directory when it is backed up.

use std::collections::BTreeSet;

use crate::Oid;
use crate::backup_label::{BACKUP_LABEL_FILE, TABLESPACE_MAP_FILE};
use crate::control::CONTROL_FILE_PATH;
use crate::relation_file::{Fork, RelationFileName, is_version_directory, oid};

/// What a directory entry is, links not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A socket, pipe or device.
    Special,
}

/// What a backup does with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Copy it; of a directory, look at what is in it; of a link in `pg_tblspc`, follow it.
    Copy,
    /// Copy it after everything else: `pg_control`, whose presence says that the rest is there.
    CopyLast,
    /// Leave it out, with all below it.
    SkipFile,
    /// Keep the directory and nothing that is in it. When it is a link (often `pg_wal`), a restore
    /// makes a directory or the link again.
    SkipContents,
}

/// Directories whose content the server makes anew, or that come from elsewhere (`pg_wal`).
/// PostgreSQL: `excludeDirContents`, src/backend/backup/basebackup.c.
const EMPTIED_DIRECTORIES: [&str; 8] = [
    "pg_wal",
    "pg_stat_tmp",
    "pg_replslot",
    "pg_dynshmem",
    "pg_notify",
    "pg_serial",
    "pg_snapshots",
    "pg_subtrans",
];

/// Files at the top that belong to the running server, to another backup or to another recovery.
/// PostgreSQL: `excludeFiles`, src/backend/backup/basebackup.c, and below the line what it leaves
/// to the operator.
const LEFT_OUT_FILES: [&str; 14] = [
    "postmaster.pid",
    "postmaster.opts",
    "postgresql.auto.conf.tmp",
    "current_logfiles.tmp",
    BACKUP_LABEL_FILE,
    TABLESPACE_MAP_FILE,
    "backup_manifest",
    // An older backup's label and map, set aside by recovery.
    "backup_label.old",
    "tablespace_map.old",
    // With these the restored cluster would recover other than asked for.
    "recovery.signal",
    "standby.signal",
    // Only its presence keeps PostgreSQL 12 and later from starting; `.done` is its leftover.
    "recovery.conf",
    "recovery.done",
    // A manifest that `pg_basebackup` was writing.
    "backup_manifest.tmp",
];

/// PostgreSQL: `PG_TEMP_FILE_PREFIX`, src/include/common/file_utils.h.
const TEMPORARY_PREFIX: &str = "pgsql_tmp";

/// PostgreSQL: `RELCACHE_INIT_FILENAME`, src/include/utils/relcache.h; also with a process id
/// behind.
const RELATION_CACHE_PREFIX: &str = "pg_internal.init";

/// Decides about an entry by its path relative to the data directory, with `/` between the parts
/// and none at either end.
///
/// What it cannot see from one path is whether a relation is unlogged: see [`UnloggedRelations`].
///
/// PostgreSQL: `sendDir`, src/backend/backup/basebackup.c, 13 to 18.
#[must_use]
pub fn classify(path: &str, kind: EntryKind) -> Treatment {
    let (top, below) = match path.split_once('/') {
        Some((top, below)) => (top, Some(below)),
        None => (path, None),
    };
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    match (EMPTIED_DIRECTORIES.contains(&top), below) {
        (true, None) if matches!(kind, EntryKind::Directory | EntryKind::Symlink) => {
            return Treatment::SkipContents;
        }
        // What `pg_wal` has below it is made by the server, so an empty directory costs nothing.
        (true, Some(_)) if kind == EntryKind::Directory => return Treatment::SkipContents,
        (true, Some(_)) => return Treatment::SkipFile,
        _ => {}
    }
    let left_out = kind == EntryKind::Special
        || below.is_none() && LEFT_OUT_FILES.contains(&name)
        || path.split('/').any(|part| part.starts_with(TEMPORARY_PREFIX))
        || holds_relations(directory) && is_rebuilt(name);
    match path {
        _ if left_out => Treatment::SkipFile,
        CONTROL_FILE_PATH => Treatment::CopyLast,
        _ => Treatment::Copy,
    }
}

/// Whether the path is that of a database's directory, `base/5` or
/// `pg_tblspc/16400/PG_16_202307071/5`: where unlogged relations can be.
#[must_use]
pub fn is_database_directory(path: &str) -> bool {
    let mut parts = path.split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("base"), Some(database), None, ..) => oid(database).is_some(),
        (Some("pg_tblspc"), Some(tablespace), Some(version), Some(database), None) => {
            oid(tablespace).is_some() && is_version_directory(version) && oid(database).is_some()
        }
        _ => false,
    }
}

fn holds_relations(directory: &str) -> bool {
    directory == "global" || is_database_directory(directory)
}

/// Caches that the server writes again and temporary relations that it removes.
fn is_rebuilt(name: &str) -> bool {
    name.starts_with(RELATION_CACHE_PREFIX)
        || RelationFileName::parse(name).is_some_and(|file| file.temporary.is_some())
}

/// The unlogged relations of one database directory: those with an init fork. Recovery resets them
/// to it, so of their files only that fork is backed up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnloggedRelations(BTreeSet<Oid>);

impl UnloggedRelations {
    /// Finds them in the names of all files of one database directory
    /// ([`is_database_directory`]).
    #[must_use]
    pub fn of_directory<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let init_fork = |name| {
            let file = RelationFileName::parse(name)?;
            (file.fork == Fork::Init && file.temporary.is_none()).then_some(file.relfilenode)
        };
        Self(names.into_iter().filter_map(init_fork).collect())
    }

    /// Whether the file of this name, in that same directory, is left out of a backup: a fork of an
    /// unlogged relation other than its init fork.
    #[must_use]
    pub fn leaves_out(&self, name: &str) -> bool {
        RelationFileName::parse(name).is_some_and(|file| {
            file.temporary.is_none()
                && file.fork != Fork::Init
                && self.0.contains(&file.relfilenode)
        })
    }

    /// The relations' file numbers.
    pub fn iter(&self) -> impl Iterator<Item = Oid> + '_ {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EntryKind::{Directory, File, Special, Symlink};
    use Treatment::{Copy, CopyLast, SkipContents, SkipFile};
    use proptest::prelude::*;

    #[test]
    fn decides_about_every_kind_of_entry() {
        let check = |path: &str, kind, expect| assert_eq!(classify(path, kind), expect, "{path}");
        check("PG_VERSION", File, Copy);
        check("postgresql.conf", Symlink, Copy);
        check("postgresql.auto.conf", File, Copy);
        check("postgresql.auto.conf.tmp", File, SkipFile);
        check("current_logfiles", File, Copy);
        check("current_logfiles.tmp", File, SkipFile);
        check("global", Directory, Copy);
        check("global/pg_control", File, CopyLast);
        check("global/pg_filenode.map", File, Copy);
        check("global/pg_internal.init", File, SkipFile);
        check("global/pg_internal.init.4711", File, SkipFile);
        check("base/5/pg_internal.init", File, SkipFile);
        check("base/5/16384", File, Copy);
        check("base/5/16384_init", File, Copy);
        check("base/5/t3_16384", File, SkipFile);
        check("base/5/t3_16384_fsm.1", File, SkipFile);
        check("base/pgsql_tmp", Directory, SkipFile);
        check("base/pgsql_tmp/pgsql_tmp99.0", File, SkipFile);
        check("base/pgsql_tmp/pgsql_tmp99.0.fileset/0.0", File, SkipFile);
        check("pg_tblspc", Directory, Copy);
        check("pg_tblspc/16400", Symlink, Copy);
        check("pg_tblspc/16400/PG_16_202307071/5/16401", File, Copy);
        check("pg_tblspc/16400/PG_16_202307071/5/t1_16401", File, SkipFile);
        check("pg_tblspc/16400/PG_16_202307071/5/pg_internal.init", File, SkipFile);
        check("pg_tblspc/16400/PG_16_202307071/pgsql_tmp", Directory, SkipFile);
        check("pg_wal", Directory, SkipContents);
        check("pg_wal", Symlink, SkipContents);
        check("pg_wal/000000010000000000000001", File, SkipFile);
        check("pg_wal/archive_status", Directory, SkipContents);
        check("pg_wal/archive_status/000000010000000000000001.done", File, SkipFile);
        check("pg_wal/summaries", Directory, SkipContents);
        for directory in ["pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial"] {
            check(directory, Directory, SkipContents);
            check(&format!("{directory}/x/state"), File, SkipFile);
        }
        for directory in ["pg_snapshots", "pg_stat_tmp", "pg_subtrans"] {
            check(directory, Directory, SkipContents);
            check(&format!("{directory}/0000"), File, SkipFile);
        }
        for directory in ["pg_xact/0000", "pg_multixact/offsets/0000", "pg_commit_ts/0000"] {
            check(directory, File, Copy);
        }
        check("pg_logical/replorigin_checkpoint", File, Copy);
        check("pg_stat/pgstat.stat", File, Copy);
        check("pg_twophase/0000A1B2", File, Copy);
        for file in ["postmaster.pid", "postmaster.opts", "backup_label", "backup_label.old"] {
            check(file, File, SkipFile);
        }
        for file in ["tablespace_map", "tablespace_map.old", "backup_manifest", "recovery.signal"] {
            check(file, File, SkipFile);
        }
        for file in ["standby.signal", "recovery.conf", "recovery.done"] {
            check(file, File, SkipFile);
        }
        check("backup_manifest.tmp", File, SkipFile);
        check("extension/backup_label", File, Copy);
        check("log/postgresql.log", File, Copy);
        check(".s.PGSQL.5432", Special, SkipFile);
        check("pg_walrus", Directory, Copy);
    }

    #[test]
    fn of_unlogged_relations_only_the_init_fork_is_kept() {
        let names =
            ["16384", "16384_fsm", "16390", "16390_init", "16390.1", "16390_vm", "t4_1_init"];
        let unlogged = UnloggedRelations::of_directory(names);
        assert_eq!(unlogged.iter().collect::<Vec<_>>(), [Oid::new(16390)]);
        let left_out: Vec<_> = names.into_iter().filter(|name| unlogged.leaves_out(name)).collect();
        assert_eq!(left_out, ["16390", "16390.1", "16390_vm"]);
    }

    #[test]
    fn knows_database_directories() {
        for good in ["base/5", "pg_tblspc/16400/PG_16_202307071/5"] {
            assert!(is_database_directory(good), "{good}");
        }
        for bad in ["base", "global", "base/5/6", "base/pgsql_tmp", "pg_tblspc/16400", "pg_xact/5"]
        {
            assert!(!is_database_directory(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_classified(path in "(?s).*") {
            for kind in [File, Directory, Symlink, Special] {
                let _ = classify(&path, kind);
            }
            let _ = UnloggedRelations::of_directory([path.as_str()]).leaves_out(&path);
        }
    }
}
