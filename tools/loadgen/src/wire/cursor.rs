//! Reads the two responses of the hot path in place: a cursor over one frame that never panics on
//! what a broker sends.

use thalweg::base::varint;

/// A response that does not parse. The connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A position in a frame.
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Starts at the first of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { rest: bytes }
    }

    /// The next `count` bytes.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        if count > self.rest.len() {
            return Err(Malformed);
        }
        let (taken, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    /// INT16.
    pub fn i16(&mut self) -> Result<i16, Malformed> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    /// INT32.
    pub fn i32(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// INT64.
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// UNSIGNED_VARINT.
    #[inline]
    pub fn unsigned(&mut self) -> Result<usize, Malformed> {
        let (value, len) = varint::read_unsigned(self.rest).ok_or(Malformed)?;
        self.take(len)?;
        usize::try_from(value).map_err(|_| Malformed)
    }

    /// Element count of a compact array; a null one counts 0. Never more than the bytes that are
    /// left, so that a loop over it is bounded by what arrived.
    pub fn compact_count(&mut self) -> Result<usize, Malformed> {
        let count = self.unsigned()?.saturating_sub(1);
        if count > self.rest.len() { Err(Malformed) } else { Ok(count) }
    }

    /// Compact (nullable) string or bytes; null reads as empty.
    #[inline]
    pub fn compact_bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.unsigned()?.saturating_sub(1);
        self.take(len)
    }

    /// Skips tagged fields.
    #[inline]
    pub fn skip_tags(&mut self) -> Result<(), Malformed> {
        for _ in 0..self.unsigned()? {
            self.unsigned()?;
            let len = self.unsigned()?;
            self.take(len)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_beyond_the_frame_are_refused() {
        assert_eq!(Cursor::new(&[0x80]).unsigned(), Err(Malformed));
        assert_eq!(Cursor::new(&[200, 1]).compact_count(), Err(Malformed));
        assert_eq!(Cursor::new(&[5, 1, 2]).compact_bytes(), Err(Malformed));
        assert_eq!(Cursor::new(&[2, 0, 9]).skip_tags(), Err(Malformed));
        assert_eq!(Cursor::new(&[0, 0, 1]).i32(), Err(Malformed));
        assert_eq!(Cursor::new(&[0, 7]).compact_bytes(), Ok(&[][..]));
    }
}
