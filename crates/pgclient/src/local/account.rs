//! Whose process a program of PostgreSQL becomes.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Gid, Uid};

use crate::Error;

/// The account a program runs under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunAs {
    /// The caller's own.
    Caller,
    /// Another one; only root can do that.
    Account {
        /// Its user id.
        uid: u32,
        /// Its primary group.
        gid: u32,
        /// All its groups: `ssl-cert`, for one, is how a server reads its key on Debian.
        groups: Vec<u32>,
    },
}

impl RunAs {
    /// The owner of `path` when the caller is root, else the caller.
    ///
    /// # Errors
    /// [`Error::Io`] if `path` cannot be looked at, or if root owns it: PostgreSQL refuses root.
    pub fn owner_of(path: &Path) -> Result<Self, Error> {
        let failed =
            |source| Error::Io { verb: "run a server as the owner of", path: path.into(), source };
        let owner = std::fs::metadata(path).map_err(failed)?;
        if !is_root() {
            return Ok(Self::Caller);
        }
        if owner.uid() == 0 {
            return Err(failed(io::Error::other("root owns it, and PostgreSQL refuses root")));
        }
        // Owners without a line in the account database exist: in containers.
        let looked_up = look_up(&owner.uid().to_string()).ok();
        let (uid, gid) = (owner.uid(), owner.gid());
        Ok(looked_up.unwrap_or(Self::Account { uid, gid, groups: vec![gid] }))
    }

    /// The account `name` when the caller is root, else the caller.
    ///
    /// # Errors
    /// [`Error::Io`] if there is no such account.
    pub fn user(name: &str) -> Result<Self, Error> {
        if !is_root() {
            return Ok(Self::Caller);
        }
        look_up(name).map_err(|source| Error::Io {
            verb: "find the account",
            path: name.into(),
            source,
        })
    }

    /// The user and group that files of this account have; `None` for the caller's own.
    #[must_use]
    pub fn ids(&self) -> Option<(u32, u32)> {
        match self {
            Self::Caller => None,
            Self::Account { uid, gid, .. } => Some((*uid, *gid)),
        }
    }

    /// Makes the calling *thread* this account, for good: processes it starts inherit that. Only
    /// for threads that end afterwards. `CommandExt` could set user and group, but takes the
    /// groups away.
    pub(super) fn assume(&self) -> io::Result<()> {
        let Self::Account { uid, gid, groups } = self else { return Ok(()) };
        let groups: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        // The user comes last: without root the others could not be set.
        rustix::thread::set_thread_groups(&groups)?;
        rustix::thread::set_thread_gid(Gid::from_raw(*gid))?;
        rustix::thread::set_thread_uid(Uid::from_raw(*uid))?;
        Ok(())
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Asks `id`, which knows every source of accounts that the system has.
fn look_up(user: &str) -> io::Result<RunAs> {
    let ask = |what: &str| -> io::Result<Vec<u32>> {
        let output = Command::new("id").args([what, "--", user]).env("LC_ALL", "C").output()?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let numbers = String::from_utf8_lossy(&output.stdout)
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<Vec<u32>, _>>();
        numbers.ok().filter(|numbers| !numbers.is_empty()).ok_or_else(|| io::Error::other(said))
    };
    let (uid, gid) = (ask("-u")?, ask("-g")?);
    match (uid.as_slice(), gid.as_slice()) {
        ([uid], [gid]) => Ok(RunAs::Account { uid: *uid, gid: *gid, groups: ask("-G")? }),
        _ => Err(io::Error::other("expected one user and one group")),
    }
}
