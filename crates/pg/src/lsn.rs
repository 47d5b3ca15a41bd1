//! Positions in the write-ahead log.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

/// A byte position in the write-ahead log. Written as PostgreSQL writes it: the upper and the lower
/// half in upper-case hexadecimal without leading zeros, `16/B374D848`.
///
/// PostgreSQL: `XLogRecPtr`, `LSN_FORMAT_ARGS`, src/include/access/xlogdefs.h.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

/// The text is not two groups of one to eight hexadecimal digits with a slash between them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an LSN such as '16/B374D848', seen '{seen}'")]
pub struct ParseLsnError {
    seen: String,
}

impl Lsn {
    /// Zero, which PostgreSQL uses for "no position": no record ever starts there.
    ///
    /// PostgreSQL: `InvalidXLogRecPtr`.
    pub const INVALID: Self = Self(0);

    /// The last position that 64 bits hold.
    pub const MAX: Self = Self(u64::MAX);

    /// The position at `bytes` from the start of the write-ahead log.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes before this position.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether this is a position at all, that is, not [`Lsn::INVALID`].
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.0 != 0
    }

    /// The position `bytes` later; `None` past [`Lsn::MAX`]. For lengths that come from disk or the
    /// network; `+` is for those that cannot overflow.
    #[must_use]
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The bytes from `earlier` to this position; `None` when `earlier` is in truth later.
    #[must_use]
    pub const fn checked_sub(self, earlier: Self) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }
}

impl Add<u64> for Lsn {
    type Output = Self;

    fn add(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}

impl Sub for Lsn {
    type Output = u64;

    fn sub(self, earlier: Self) -> u64 {
        self.0 - earlier.0
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lsn({self})")
    }
}

impl FromStr for Lsn {
    type Err = ParseLsnError;

    /// Reads PostgreSQL's form, in either case. PostgreSQL: `pg_lsn_in_internal`.
    fn from_str(text: &str) -> Result<Self, ParseLsnError> {
        text.split_once('/')
            .and_then(|(high, low)| Some((hex_half(high)?, hex_half(low)?)))
            .map(|(high, low)| Self(high << 32 | low))
            .ok_or_else(|| ParseLsnError { seen: text.to_owned() })
    }
}

fn hex_half(text: &str) -> Option<u64> {
    let well_formed =
        (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    well_formed.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_and_writes_postgresql_form() {
        let check = |text: &str, expect: u64| {
            let lsn: Lsn = text.parse().unwrap();
            assert_eq!(lsn.get(), expect, "{text}");
            assert_eq!(lsn.to_string(), text);
        };
        check("0/0", 0);
        check("0/1000028", 0x0100_0028);
        check("16/B374D848", 0x16_B374_D848);
        check("FFFFFFFF/FFFFFFFF", u64::MAX);
        assert_eq!("00000016/b374d848".parse(), Ok(Lsn::new(0x16_B374_D848)));
    }

    #[test]
    fn refuses_what_is_no_lsn() {
        for bad in ["", "/", "0", "0/", "/0", "+1/2", "1/+2", "1/2/3", " 1/2", "1/2 ", "G/1", "-/1"]
        {
            assert!(bad.parse::<Lsn>().is_err(), "{bad}");
        }
        assert!("123456789/0".parse::<Lsn>().is_err());
    }

    #[test]
    fn arithmetic_knows_its_ends() {
        assert_eq!(Lsn::new(5) + 3, Lsn::new(8));
        assert_eq!(Lsn::new(8) - Lsn::new(5), 3);
        assert_eq!(Lsn::MAX.checked_add(1), None);
        assert_eq!(Lsn::new(1).checked_sub(Lsn::new(2)), None);
        assert!(!Lsn::INVALID.is_valid());
    }

    proptest! {
        #[test]
        fn text_round_trips(bytes: u64) {
            prop_assert_eq!(Lsn::new(bytes).to_string().parse(), Ok(Lsn::new(bytes)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = text.parse::<Lsn>();
        }
    }
}
