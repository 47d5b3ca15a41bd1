//! What the records of single resource managers say, as far as recovery targets and destructive
//! transactions need it. Of all others the block references are enough.
//!
//! Each `decode` takes a record of its own resource manager; an unknown kind is an error, because
//! what such a record did is unknown.

pub mod database;
pub mod heap;
pub mod standby;
pub mod storage;
pub mod tablespace;
pub mod xact;
pub mod xlog;

use super::cursor::Cursor;
use super::error::MalformedRecord;
use super::record::{Record, RelFileLocator};
use crate::{Oid, Xid};

/// The error for `record`, saying what does not fit.
fn malformed(record: &Record<'_>, what: &'static str) -> MalformedRecord {
    MalformedRecord { at: record.start, rmgr: record.rmgr, info: record.info, what }
}

macro_rules! list {
    ($(#[$doc:meta])* $name:ident of $entry:ty, $size:expr, $read:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq)]
        pub struct $name<'a>(&'a [u8]);

        impl<'a> $name<'a> {
            /// Takes `count` entries.
            fn take(cursor: &mut Cursor<'a>, count: u32) -> Option<Self> {
                cursor.entries(count, $size).map(Self)
            }

            /// The number of entries.
            #[must_use]
            pub const fn len(&self) -> usize {
                self.0.len() / $size
            }

            /// Whether there is none.
            #[must_use]
            pub const fn is_empty(&self) -> bool {
                self.0.is_empty()
            }

            /// The entries in their stored order.
            pub fn iter(&self) -> impl Iterator<Item = $entry> + use<'a> {
                let mut cursor = Cursor::new(self.0);
                std::iter::from_fn(move || cursor.$read())
            }
        }

        impl std::fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_list().entries(self.iter()).finish()
            }
        }
    };
}

list! {
    /// Transaction ids in a record.
    Xids of Xid, 4, xid
}
list! {
    /// Object identifiers in a record.
    Oids of Oid, 4, oid
}
list! {
    /// Relation files in a record.
    Relations of RelFileLocator, RelFileLocator::SIZE, relation
}
