//! Who owns what is restored.

use std::fs::{self, Metadata};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, chown, fchown};
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Uid};

use crate::Error;

/// The user and group of the restored files: PostgreSQL wants one owner for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Set when files must be handed over: a restore by root for somebody else.
    hand_over: Option<(u32, u32)>,
}

/// Names of an owner and a group, or their numbers, as the backup recorded them.
pub(crate) type Recorded<'a> = Option<(&'a str, &'a str)>;

impl Owner {
    /// Of a target that exists its owner counts, else the owner of the folder it will be made in.
    /// Only root may restore for somebody else; where root owns the target, which no server
    /// accepts, the owner that the backup recorded counts if this machine knows it. Says too
    /// whether an owner was found that PostgreSQL can run as.
    pub(crate) fn of_target(
        directory: &Path,
        recorded: Recorded<'_>,
    ) -> Result<(Self, bool), Error> {
        let uid = rustix::process::geteuid().as_raw();
        let existing = existing(directory)?;
        if uid != 0 {
            if let Some(metadata) = existing.filter(|metadata| metadata.uid() != uid) {
                return Err(foreign(directory, uid, &metadata));
            }
            return Ok((Self { hand_over: None }, true));
        }
        let nearest = existing
            .or_else(|| directory.ancestors().skip(1).find_map(|folder| fs::metadata(folder).ok()));
        let of_folder = nearest.map(|meta| (meta.uid(), meta.gid())).filter(|(uid, _)| *uid != 0);
        let hand_over = of_folder.or_else(|| recorded.and_then(look_up));
        Ok((Self { hand_over }, hand_over.is_some()))
    }

    /// Refuses another folder that exists and belongs to somebody else. Root's own is taken over.
    pub(crate) fn check(self, folder: &Path) -> Result<(), Error> {
        let Some(metadata) = existing(folder)? else { return Ok(()) };
        let own = rustix::process::geteuid().as_raw();
        let expected = self.hand_over.map_or(own, |(uid, _)| uid);
        let seen = metadata.uid();
        if seen == expected || (own == 0 && seen == 0) {
            return Ok(());
        }
        Err(foreign(folder, expected, &metadata))
    }

    /// Hands an open file over.
    pub(crate) fn give(self, file: &fs::File) -> std::io::Result<()> {
        match self.hand_over {
            Some((uid, gid)) => fchown(file, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    /// Hands a folder or file over that nobody else can have replaced.
    pub(crate) fn give_path(self, path: &Path) -> std::io::Result<()> {
        match self.hand_over {
            Some((uid, gid)) => chown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    /// Hands over what stands under a name in a folder; of a link, the link itself.
    pub(crate) fn give_at(self, folder: impl AsFd, name: &[u8]) -> std::io::Result<()> {
        let Some((uid, gid)) = self.hand_over else { return Ok(()) };
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        Ok(rustix::fs::chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

fn existing(folder: &Path) -> Result<Option<Metadata>, Error> {
    match fs::metadata(folder) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("look at", folder, error)),
    }
}

fn foreign(path: &Path, expected: u32, metadata: &Metadata) -> Error {
    Error::ForeignOwner { path: path.into(), expected, seen: metadata.uid() }
}

/// The numbers of an account on this machine. A server never runs as root.
fn look_up((user, group): (&str, &str)) -> Option<(u32, u32)> {
    let table = |path| fs::read_to_string(path).unwrap_or_default();
    let uid = number(&table("/etc/passwd"), user).filter(|uid| *uid != 0)?;
    let gid = number(&table("/etc/group"), group)?;
    Some((uid, gid))
}

/// The third field of `name:password:number:…`, passwd(5) and group(5); a name of digits that is
/// not in the table is itself the number.
fn number(table: &str, name: &str) -> Option<u32> {
    let line = table.lines().find(|line| line.split(':').next() == Some(name));
    match line {
        Some(line) => line.split(':').nth(2)?.parse().ok(),
        None => name.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn names_are_looked_up_and_numbers_stay() {
        let table = "root:x:0:0::/root:\npostgres:x:109:117::/:\nbroken\n";
        for (name, expect) in
            [("postgres", Some(109)), ("4711", Some(4711)), ("nobody", None), ("broken", None)]
        {
            assert_eq!(number(table, name), expect, "{name}");
        }
    }
}
