//! Takes little-endian numbers off the front of untrusted bytes.

use super::record::RelFileLocator;
use crate::{Lsn, Oid, Xid};

/// What is left to read. Each method returns `None` and consumes nothing when too few bytes are
/// left.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*chunk)
    }

    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    /// Takes `count` entries of `size` bytes each, refusing what would overflow.
    pub(super) fn entries(&mut self, count: u32, size: usize) -> Option<&'a [u8]> {
        self.take(usize::try_from(count).ok()?.checked_mul(size)?)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Option<u8> {
        self.chunk::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Option<u16> {
        self.chunk().map(u16::from_le_bytes)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.chunk().map(u32::from_le_bytes)
    }

    #[inline]
    pub(super) fn u64(&mut self) -> Option<u64> {
        self.chunk().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.chunk().map(i64::from_le_bytes)
    }

    /// Reads a C `int` that counts something; a negative one is refused.
    pub(super) fn count(&mut self) -> Option<u32> {
        let mut ahead = *self;
        let count = ahead.u32().filter(|count| count.cast_signed() >= 0)?;
        *self = ahead;
        Some(count)
    }

    #[inline]
    pub(super) fn oid(&mut self) -> Option<Oid> {
        self.u32().map(Oid::new)
    }

    #[inline]
    pub(super) fn xid(&mut self) -> Option<Xid> {
        self.u32().map(Xid::new)
    }

    pub(super) fn lsn(&mut self) -> Option<Lsn> {
        self.u64().map(Lsn::new)
    }

    #[inline]
    pub(super) fn relation(&mut self) -> Option<RelFileLocator> {
        let mut fields = Cursor::new(self.take(RelFileLocator::SIZE)?);
        Some(RelFileLocator {
            tablespace: fields.oid()?,
            database: fields.oid()?,
            relation: fields.oid()?,
        })
    }

    /// Takes the bytes before the next zero byte, and the zero byte.
    pub(super) fn c_string(&mut self) -> Option<&'a [u8]> {
        let len = self.rest.iter().position(|byte| *byte == 0)?;
        let text = self.take(len)?;
        self.u8()?;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_in_order_and_stops_at_the_end() {
        let mut cursor = Cursor::new(&[1, 2, 0, 3, 0, 0, 0, b'a', 0, 9]);
        assert_eq!(cursor.u8(), Some(1));
        assert_eq!(cursor.u16(), Some(2));
        assert_eq!(cursor.u32(), Some(3));
        assert_eq!(cursor.c_string(), Some(&b"a"[..]));
        assert_eq!(cursor.u16(), None);
        assert_eq!(cursor.rest(), [9]);
    }

    #[test]
    fn refuses_negative_counts_and_overflowing_lists() {
        let mut cursor = Cursor::new(&[0xFF; 8]);
        assert_eq!(cursor.count(), None);
        assert_eq!(cursor.entries(u32::MAX, usize::MAX), None);
        assert_eq!(cursor.rest().len(), 8);
    }
}
