//! What the operating system said, before the names of store and object are known.

use std::io;

use rustix::io::Errno;

use crate::{Error, Key};

/// What was being done, for the message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verb {
    Read,
    Write,
    List,
    Delete,
}

impl Verb {
    const fn text(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

/// A failure inside the local store.
#[derive(Debug)]
pub(super) enum Fault {
    /// There is no such object, though the root is there.
    NotFound,
    /// A folder stands where an object was asked for.
    IsFolder,
    /// Not allowed, with the reason.
    Denied(String),
    /// The disk, the quota or the process's file size limit is exhausted.
    NoSpace,
    /// Everything else: worth another try at most.
    Unavailable(String),
    /// The range is not inside the object.
    Range { size: u64, start: u64, end: u64 },
}

impl Fault {
    /// A symbolic link stands on the way; it is never followed.
    pub(super) fn link(name: &str) -> Self {
        Self::Denied(format!(
            "'{name}' is a symbolic link, which is not followed (a bind mount is)"
        ))
    }

    /// The thread that did the work ended without an answer.
    pub(super) fn stopped() -> Self {
        Self::Unavailable("the working thread stopped".into())
    }

    /// The crate's error, with the names that a person needs.
    pub(super) fn at(self, store: &str, verb: Verb, object: &str) -> Error {
        let (store, key, verb) = (store.to_owned(), object.to_owned(), verb.text());
        let named = Key::new(object).ok();
        match (self, named) {
            (Self::NotFound, Some(key)) => Error::NotFound { store, key },
            (Self::Range { size, start, end }, Some(key)) => {
                Error::Range { store, key, size, start, end }
            }
            (Self::Denied(reason), _) => Error::Denied { store, verb, key, reason },
            (Self::NoSpace, _) => Error::NoSpace { store, key },
            (Self::IsFolder, _) => {
                let reason = "a folder of that name exists".into();
                Error::Denied { store, verb, key, reason }
            }
            (Self::Unavailable(reason), _) => Error::Unavailable { store, verb, key, reason },
            // Only objects can be missing or too short, and those have keys.
            (fault @ (Self::NotFound | Self::Range { .. }), None) => {
                Error::Unavailable { store, verb, key, reason: format!("{fault:?}") }
            }
        }
    }
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR => Self::NotFound,
            Errno::ISDIR => Self::IsFolder,
            Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::NAMETOOLONG => {
                Self::Denied(text(errno))
            }
            // A file size limit is a kind of full disk to the writer: no retry helps.
            Errno::NOSPC | Errno::DQUOT | Errno::FBIG => Self::NoSpace,
            other => Self::Unavailable(text(other)),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(errno) => errno.into(),
            None => Self::Unavailable(error.to_string()),
        }
    }
}

fn text(errno: Errno) -> String {
    io::Error::from(errno).to_string()
}
