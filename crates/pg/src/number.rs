//! The numbers by which PostgreSQL names things.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($inner);

        impl $name {
            /// Wraps the number; every value of its width is taken.
            #[must_use]
            pub const fn new(number: $inner) -> Self {
                Self(number)
            }

            /// The number itself.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

number! {
    /// One of the histories of a database cluster; a promotion starts the next. Real ones start
    /// at 1; PostgreSQL writes 0 for "none". Decimal here and in SQL, hexadecimal in file names.
    ///
    /// PostgreSQL: `TimeLineID`, src/include/access/xlogdefs.h.
    TimelineId(u32)
}

number! {
    /// The random-looking number `initdb` gives a cluster. Copies of a cluster share it.
    ///
    /// PostgreSQL: `ControlFileData.system_identifier`, src/include/catalog/pg_control.h.
    SystemId(u64)
}

number! {
    /// An object identifier: of a database, tablespace or catalog row; also a relation's file
    /// number. 0 means "none".
    ///
    /// PostgreSQL: `Oid`, `RelFileNumber`, src/include/postgres_ext.h.
    Oid(u32)
}

number! {
    /// A transaction id as stored in rows and WAL records: it wraps around after 2³². Values below
    /// 3 are special. Has no true order across a wrap-around; [`FullXid`] has.
    ///
    /// PostgreSQL: `TransactionId`, src/include/c.h and access/transam.h.
    Xid(u32)
}

number! {
    /// A transaction id that never wraps: the epoch in the upper 32 bits, the [`Xid`] in the lower.
    ///
    /// PostgreSQL: `FullTransactionId`, src/include/access/transam.h.
    FullXid(u64)
}

number! {
    /// The number of a page in one fork of a relation, counted over all its segment files, from 0.
    ///
    /// PostgreSQL: `BlockNumber`, src/include/storage/block.h.
    BlockNumber(u32)
}

impl TimelineId {
    /// The timeline that `initdb` starts.
    pub const FIRST: Self = Self(1);
}

impl Oid {
    /// "None". PostgreSQL: `InvalidOid`.
    pub const INVALID: Self = Self(0);
}

impl Xid {
    /// "No transaction". PostgreSQL: `InvalidTransactionId`.
    pub const INVALID: Self = Self(0);

    /// The first id that a transaction can get; smaller ones have fixed meanings.
    /// PostgreSQL: `FirstNormalTransactionId`.
    pub const FIRST_NORMAL: Self = Self(3);
}

impl FullXid {
    /// Puts an epoch, the number of wrap-arounds so far, and an id together.
    ///
    /// PostgreSQL: `FullTransactionIdFromEpochAndXid`.
    #[must_use]
    pub const fn from_epoch_and_xid(epoch: u32, xid: Xid) -> Self {
        Self((epoch as u64) << 32 | xid.0 as u64)
    }

    /// How often ids had wrapped around.
    #[must_use]
    pub const fn epoch(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The id as rows and WAL records store it.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // the lower half is what is wanted
    pub const fn xid(self) -> Xid {
        Xid(self.0 as u32)
    }

    /// The full id of `xid`, given that it is at most 2³¹ ids away from this one: how an id from a
    /// WAL record is widened with the help of a checkpoint's next id.
    #[must_use]
    pub const fn nearest(self, xid: Xid) -> Self {
        // The wrapping difference, read as signed, is the distance from this one.
        let distance = xid.0.wrapping_sub(self.xid().0).cast_signed();
        Self(self.0.wrapping_add_signed(distance as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_xid_keeps_epoch_and_xid() {
        let full = FullXid::from_epoch_and_xid(7, Xid::new(42));
        assert_eq!(full.get(), 7 << 32 | 42);
        assert_eq!((full.epoch(), full.xid()), (7, Xid::new(42)));
    }

    #[test]
    fn an_xid_is_widened_to_the_nearest_epoch() {
        let check = |near: u64, xid: u32, expect: u64| {
            assert_eq!(FullXid::new(near).nearest(Xid::new(xid)), FullXid::new(expect));
        };
        check(1 << 32 | 5, 4, 1 << 32 | 4);
        check(1 << 32 | 5, u32::MAX, u64::from(u32::MAX));
        check(u64::from(u32::MAX), 3, 1 << 32 | 3);
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        assert_eq!(TimelineId::new(26).to_string(), "26");
        assert_eq!(format!("{:?}", Oid::new(16384)), "Oid(16384)");
        assert_eq!(format!("{:08X}", TimelineId::new(26).get()), "0000001A");
    }
}
