//! Reading Kafka's primitive encodings in place. Every read is bounded by the bytes that are left,
//! and no read allocates.

use zerocopy::big_endian::{I16, I32, I64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::Malformed;
use crate::base::varint;

/// Most tagged fields that one structure may carry. Kafka 4.3 defines at most four for any
/// structure; the rest is room for versions to come.
const TAGGED_FIELDS_MAX: u32 = 64;

/// A place in a header or body. Cheap to copy: iterators keep one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    end: usize,
    flexible: bool,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`; `flexible` chooses KIP-482's compact encodings.
    pub(super) fn new(bytes: &'a [u8], flexible: bool) -> Reader<'a> {
        Reader { rest: bytes, end: bytes.len(), flexible }
    }

    /// The same place, read with or without compact encodings.
    pub(super) fn with_flexible(self, flexible: bool) -> Reader<'a> {
        Reader { flexible, ..self }
    }

    /// A place `at` bytes after this one; the end, if that comes first.
    pub(super) fn skipped_to(self, at: usize) -> Reader<'a> {
        Reader { rest: self.rest.get(at..).unwrap_or_default(), ..self }
    }

    /// Bytes that were read.
    pub(super) fn at(&self) -> usize {
        self.end - self.rest.len()
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(super) fn malformed<T>(&self, what: &'static str) -> Result<T, Malformed> {
        Err(Malformed::new(what, self.at()))
    }

    /// The next `len` bytes.
    #[inline]
    pub(super) fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        match self.rest.split_at_checked(len) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => self.malformed(what),
        }
    }

    /// A structure of fixed size, in place.
    #[inline]
    pub(super) fn fixed<T>(&mut self, what: &'static str) -> Result<&'a T, Malformed>
    where
        T: FromBytes + KnownLayout + Immutable + Unaligned,
    {
        match T::ref_from_prefix(self.rest) {
            Ok((value, rest)) => {
                self.rest = rest;
                Ok(value)
            }
            Err(_) => self.malformed(what),
        }
    }

    /// `count` structures of fixed size, in place.
    #[inline]
    pub(super) fn fixed_slice<T>(
        &mut self,
        count: usize,
        what: &'static str,
    ) -> Result<&'a [T], Malformed>
    where
        T: FromBytes + KnownLayout + Immutable + Unaligned,
    {
        match <[T]>::ref_from_prefix_with_elems(self.rest, count) {
            Ok((values, rest)) => {
                self.rest = rest;
                Ok(values)
            }
            Err(_) => self.malformed(what),
        }
    }

    #[inline]
    pub(super) fn i8(&mut self, what: &'static str) -> Result<i8, Malformed> {
        self.fixed::<i8>(what).copied()
    }

    #[inline]
    pub(super) fn i16(&mut self, what: &'static str) -> Result<i16, Malformed> {
        self.fixed::<I16>(what).map(|value| value.get())
    }

    #[inline]
    pub(super) fn i32(&mut self, what: &'static str) -> Result<i32, Malformed> {
        self.fixed::<I32>(what).map(|value| value.get())
    }

    #[inline]
    pub(super) fn i64(&mut self, what: &'static str) -> Result<i64, Malformed> {
        self.fixed::<I64>(what).map(|value| value.get())
    }

    #[inline]
    pub(super) fn varint(&mut self, what: &'static str) -> Result<u32, Malformed> {
        // Most are one byte: lengths of names, tag counts.
        if let Some((&first, rest)) = self.rest.split_first()
            && first < 0x80
        {
            self.rest = rest;
            return Ok(u32::from(first));
        }
        match varint::read_unsigned(self.rest) {
            Some((value, len)) => {
                self.take(len, what)?;
                Ok(value)
            }
            None => self.malformed(what),
        }
    }

    /// Length prefix of a nullable string: 16 bits, or compact.
    #[inline]
    fn string_len(&mut self, what: &'static str) -> Result<Option<usize>, Malformed> {
        if self.flexible {
            return self.compact_len(what);
        }
        match self.i16(what)? {
            -1 => Ok(None),
            len => match usize::try_from(len) {
                Ok(len) => Ok(Some(len)),
                Err(_) => self.malformed(what),
            },
        }
    }

    /// Length prefix of nullable bytes or of an array: 32 bits, or compact.
    #[inline]
    fn long_len(&mut self, what: &'static str) -> Result<Option<usize>, Malformed> {
        if self.flexible {
            return self.compact_len(what);
        }
        match self.i32(what)? {
            -1 => Ok(None),
            len => match usize::try_from(len) {
                Ok(len) => Ok(Some(len)),
                Err(_) => self.malformed(what),
            },
        }
    }

    #[inline]
    fn compact_len(&mut self, what: &'static str) -> Result<Option<usize>, Malformed> {
        Ok(self.varint(what)?.checked_sub(1).map(|len| len as usize))
    }

    #[inline]
    pub(super) fn nullable_string(
        &mut self,
        what: &'static str,
    ) -> Result<Option<&'a [u8]>, Malformed> {
        match self.string_len(what)? {
            Some(len) => self.take(len, what).map(Some),
            None => Ok(None),
        }
    }

    #[inline]
    pub(super) fn string(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        match self.nullable_string(what)? {
            Some(bytes) => Ok(bytes),
            None => self.malformed(what),
        }
    }

    #[inline]
    pub(super) fn nullable_bytes(
        &mut self,
        what: &'static str,
    ) -> Result<Option<&'a [u8]>, Malformed> {
        match self.long_len(what)? {
            Some(len) => self.take(len, what).map(Some),
            None => Ok(None),
        }
    }

    /// Element count of an array whose elements take at least `element_bytes_min` bytes each: a
    /// count that the bytes left cannot hold is refused before anyone loops over it.
    #[inline]
    pub(super) fn nullable_array_len(
        &mut self,
        element_bytes_min: usize,
        what: &'static str,
    ) -> Result<Option<usize>, Malformed> {
        match self.long_len(what)? {
            Some(count) if count > self.left() / element_bytes_min => self.malformed(what),
            count => Ok(count),
        }
    }

    /// As [`Reader::nullable_array_len`], where null is not allowed.
    #[inline]
    pub(super) fn array_len(
        &mut self,
        element_bytes_min: usize,
        what: &'static str,
    ) -> Result<usize, Malformed> {
        match self.nullable_array_len(element_bytes_min, what)? {
            Some(count) => Ok(count),
            None => self.malformed(what),
        }
    }

    /// The tagged fields of one structure (KIP-482); nothing in a non-flexible version. `known`
    /// reads the fields it knows to their end and returns true; others are skipped. Tags must
    /// ascend, so none comes twice.
    #[inline]
    pub(super) fn tagged_fields(
        &mut self,
        known: impl FnMut(u32, &mut Reader<'a>) -> Result<bool, Malformed>,
    ) -> Result<(), Malformed> {
        if !self.flexible {
            return Ok(());
        }
        match self.varint("tagged field count")? {
            0 => Ok(()),
            count => self.tagged_fields_some(count, known),
        }
    }

    /// Tagged fields of which none is known.
    #[inline]
    pub(super) fn skip_tagged_fields(&mut self) -> Result<(), Malformed> {
        self.tagged_fields(|_, _| Ok(false))
    }

    fn tagged_fields_some(
        &mut self,
        count: u32,
        mut known: impl FnMut(u32, &mut Reader<'a>) -> Result<bool, Malformed>,
    ) -> Result<(), Malformed> {
        if count > TAGGED_FIELDS_MAX {
            return self.malformed("tagged field count");
        }
        let mut previous = None;
        for _ in 0..count {
            let tag = self.varint("tag")?;
            if previous.is_some_and(|previous| tag <= previous) {
                return self.malformed("order of tags");
            }
            previous = Some(tag);
            let size = self.varint("tagged field size")? as usize;
            let start = self.at();
            let bytes = self.take(size, "tagged field")?;
            let mut field = Reader { rest: bytes, end: start + size, flexible: true };
            if known(tag, &mut field)? && field.left() != 0 {
                return field.malformed("tagged field");
            }
        }
        Ok(())
    }

    /// Nothing may follow: for answers. See `protocol`'s module page.
    pub(super) fn finish(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { self.malformed("trailing bytes") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_the_bytes_left_cannot_hold_is_refused() {
        let mut bytes = 5_i32.to_be_bytes().to_vec();
        bytes.extend([0; 19]);
        assert!(Reader::new(&bytes, false).array_len(4, "array").is_err());
        bytes.push(0);
        assert_eq!(Reader::new(&bytes, false).array_len(4, "array"), Ok(5));
        let bytes = i32::MAX.to_be_bytes();
        assert!(Reader::new(&bytes, false).array_len(1, "array").is_err());
    }

    #[test]
    fn tags_must_ascend_and_known_fields_must_be_read_to_their_end() {
        let skip = |bytes: &[u8]| Reader::new(bytes, true).skip_tagged_fields();
        assert!(skip(&[2, 0, 1, 9, 4, 0]).is_ok());
        assert!(skip(&[2, 4, 0, 0, 1, 9]).is_err(), "descending");
        assert!(skip(&[2, 0, 0, 0, 0]).is_err(), "twice");
        assert!(skip(&[1, 0, 2, 9]).is_err(), "longer than what is left");
        assert!(skip(&[0xff, 0xff, 0xff, 0xff, 0x0f]).is_err(), "2^32-1 fields");
        let known = Reader::new(&[1, 0, 5, 0, 0, 0, 0, 9], true)
            .tagged_fields(|_, field| field.i32("int").map(|_| true));
        assert_eq!(known, Err(Malformed::new("tagged field", 7)));
    }

    #[test]
    fn null_and_negative_lengths_are_told_apart() {
        let string =
            |bytes: &[u8]| Reader::new(bytes, false).nullable_string("s").map(|s| s.is_some());
        assert_eq!(string(&[0xff, 0xff]), Ok(false));
        assert!(string(&[0xff, 0xfe]).is_err());
        assert!(string(&[0, 1]).is_err());
        assert_eq!(string(&[0, 1, 7]), Ok(true));
        assert!(Reader::new(&[0], true).string("s").is_err(), "null where there must be a string");
    }
}
