//! Who owns what is restored.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, chown, fchown, lchown};
use std::path::Path;

use crate::Error;

/// The user and group of the restored files: PostgreSQL wants one owner for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Set when files must be handed over: a restore by root into somebody's directory.
    hand_over: Option<(u32, u32)>,
}

impl Owner {
    /// Of a target that exists its owner counts, else the owner of the folder it will be made in.
    /// Only root may restore for somebody else.
    pub(crate) fn of_target(directory: &Path) -> Result<Self, Error> {
        let uid = rustix::process::geteuid().as_raw();
        let existing = match std::fs::metadata(directory) {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::file("look at", directory, error)),
        };
        if uid == 0 {
            return Ok(Self { hand_over: Self::for_root(directory, existing.as_ref()) });
        }
        match existing {
            Some(metadata) if metadata.uid() != uid => Err(Error::ForeignOwner {
                path: directory.into(),
                expected: uid,
                seen: metadata.uid(),
            }),
            _ => Ok(Self { hand_over: None }),
        }
    }

    fn for_root(directory: &Path, existing: Option<&Metadata>) -> Option<(u32, u32)> {
        let owner = |metadata: &Metadata| (metadata.uid(), metadata.gid());
        let found = match existing {
            Some(metadata) => Some(owner(metadata)),
            None => directory
                .ancestors()
                .skip(1)
                .find_map(|folder| std::fs::metadata(folder).ok())
                .as_ref()
                .map(owner),
        };
        found.filter(|(uid, _)| *uid != 0)
    }

    /// Hands an open file over.
    pub(crate) fn give(self, file: &std::fs::File) -> std::io::Result<()> {
        match self.hand_over {
            Some((uid, gid)) => fchown(file, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    /// Hands a folder over.
    pub(crate) fn give_path(self, path: &Path) -> std::io::Result<()> {
        match self.hand_over {
            Some((uid, gid)) => chown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    /// Hands a symbolic link itself over.
    pub(crate) fn give_link(self, path: &Path) -> std::io::Result<()> {
        match self.hand_over {
            Some((uid, gid)) => lchown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }
}
