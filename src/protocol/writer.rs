//! Writing Kafka's primitive encodings, as whole frames: fresh memory for headers, and record
//! bytes passed through as they are.

use bytes::Bytes;
use zerocopy::{Immutable, IntoBytes};

use super::{EncodeError, FRAME_PREFIX_BYTES};
use crate::base::varint;

/// Builds one frame. The first error sticks and comes out of the finishing call, so that encoders
/// read as plain lists of fields.
pub(super) struct Writer {
    out: Vec<u8>,
    flexible: bool,
    /// Slices to send, each after the first `usize` bytes of `out`.
    gathered: Vec<(usize, Bytes)>,
    gathered_bytes: usize,
    failure: Option<EncodeError>,
}

impl Writer {
    /// Starts a frame; its length prefix is filled in at the end.
    pub(super) fn frame(flexible: bool, bytes_expected: usize) -> Writer {
        let mut out = Vec::with_capacity(FRAME_PREFIX_BYTES + bytes_expected);
        out.extend_from_slice(&[0; FRAME_PREFIX_BYTES]);
        Writer { out, flexible, gathered: Vec::new(), gathered_bytes: 0, failure: None }
    }

    /// Starts a piece of a frame: the content of a tagged field.
    fn piece() -> Writer {
        Writer {
            out: Vec::new(),
            flexible: true,
            gathered: Vec::new(),
            gathered_bytes: 0,
            failure: None,
        }
    }

    /// Makes room for `count` slices to gather.
    pub(super) fn expect_slices(&mut self, count: usize) {
        self.gathered.reserve(count);
    }

    pub(super) fn fail(&mut self, error: EncodeError) {
        self.failure.get_or_insert(error);
    }

    #[inline]
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Fields of fixed size at once.
    #[inline]
    pub(super) fn fixed(&mut self, fields: &(impl IntoBytes + Immutable)) {
        self.raw(fields.as_bytes());
    }

    pub(super) fn i8(&mut self, value: i8) {
        self.raw(&value.to_be_bytes());
    }

    pub(super) fn i16(&mut self, value: i16) {
        self.raw(&value.to_be_bytes());
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.raw(&value.to_be_bytes());
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.raw(&value.to_be_bytes());
    }

    pub(super) fn varint(&mut self, value: u32) {
        varint::write_unsigned(&mut self.out, value);
    }

    /// Length or count; `None` is null. Longer than a frame can be: the frame fails at its end.
    fn long_len(&mut self, len: Option<usize>) {
        if self.flexible {
            let len = len.map_or(0, |len| len.saturating_add(1));
            self.varint(u32::try_from(len).unwrap_or(u32::MAX));
        } else {
            let len = len.map_or(-1, |len| i32::try_from(len).unwrap_or(i32::MAX));
            self.i32(len);
        }
    }

    pub(super) fn array_len(&mut self, count: usize) {
        self.long_len(Some(count));
    }

    pub(super) fn null_array(&mut self) {
        self.long_len(None);
    }

    pub(super) fn string(&mut self, bytes: &[u8]) {
        self.nullable_string(Some(bytes));
    }

    pub(super) fn nullable_string(&mut self, bytes: Option<&[u8]>) {
        if self.flexible {
            self.long_len(bytes.map(<[u8]>::len));
        } else {
            match bytes.map(|bytes| i16::try_from(bytes.len()).map_err(|_| bytes.len())) {
                None => self.i16(-1),
                Some(Ok(len)) => self.i16(len),
                Some(Err(len)) => self.fail(EncodeError::StringTooLong(len)),
            }
        }
        self.raw(bytes.unwrap_or_default());
    }

    /// A string that is never compact: the client id of every header version.
    pub(super) fn legacy_nullable_string(&mut self, bytes: Option<&[u8]>) {
        let flexible = std::mem::replace(&mut self.flexible, false);
        self.nullable_string(bytes);
        self.flexible = flexible;
    }

    /// Nullable bytes whose content is `slices`, in order: only their length is written here.
    pub(super) fn gathered_bytes<S>(&mut self, slices: Option<S>)
    where
        S: IntoIterator<Item = Bytes> + AsRef<[Bytes]>,
    {
        let Some(slices) = slices else {
            return self.long_len(None);
        };
        let len = slices.as_ref().iter().map(Bytes::len).sum();
        self.long_len(Some(len));
        self.gathered_bytes += len;
        let at = self.out.len();
        self.gathered
            .extend(slices.into_iter().filter(|slice| !slice.is_empty()).map(|slice| (at, slice)));
    }

    /// Ends a structure that has no tagged fields to send.
    pub(super) fn no_tagged_fields(&mut self) {
        self.tagged_field_count(0);
    }

    /// Announces the tagged fields of a structure; nothing in a non-flexible version.
    pub(super) fn tagged_field_count(&mut self, count: u32) {
        if self.flexible {
            self.varint(count);
        }
    }

    /// One tagged field. Callers write them in ascending order.
    pub(super) fn tagged_field(&mut self, tag: u32, content: impl FnOnce(&mut Writer)) {
        let mut field = Writer::piece();
        content(&mut field);
        self.varint(tag);
        self.varint(u32::try_from(field.out.len()).unwrap_or(u32::MAX));
        self.raw(&field.out);
        if let Some(failure) = field.failure {
            self.fail(failure);
        }
    }

    /// Ends a frame that gathered nothing.
    pub(super) fn finish(self) -> Result<Bytes, EncodeError> {
        debug_assert!(self.gathered.is_empty());
        let (memory, _) = self.seal()?;
        Ok(memory)
    }

    /// Ends the frame: what to send, in order.
    pub(super) fn finish_gathered(self) -> Result<Vec<Bytes>, EncodeError> {
        let (memory, gathered) = self.seal()?;
        let mut slices = Vec::with_capacity(2 * gathered.len() + 1);
        let mut sent = 0;
        for (at, slice) in gathered {
            if at > sent {
                slices.push(memory.slice(sent..at));
                sent = at;
            }
            slices.push(slice);
        }
        if sent < memory.len() {
            slices.push(memory.slice(sent..));
        }
        Ok(slices)
    }

    fn seal(mut self) -> Result<(Bytes, Vec<(usize, Bytes)>), EncodeError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let len = self.out.len() + self.gathered_bytes - FRAME_PREFIX_BYTES;
        let prefix = i32::try_from(len).map_err(|_| EncodeError::FrameTooLong(len))?;
        if let Some(place) = self.out.first_chunk_mut::<FRAME_PREFIX_BYTES>() {
            *place = prefix.to_be_bytes();
        }
        Ok((Bytes::from(self.out), self.gathered))
    }
}
