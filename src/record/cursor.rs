//! The records inside a batch, one after the other, borrowed from the (decompressed) payload.

use std::borrow::Cow;

use crate::base::ids::Offset;
use crate::base::varint;

use super::codec::decompress;
use super::compression::Compression;
use super::error::BatchError;
use super::header::TimestampType;
use super::stored::StoredBatch;

/// Bytes that are read from the front; every reader says what is wrong in fixed words.
#[derive(Clone, Copy, Debug)]
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn varint(&mut self, reason: &'static str) -> Result<i32, &'static str> {
        let (value, len) = varint::read_signed(self.rest).ok_or(reason)?;
        self.rest = self.rest.get(len..).ok_or(reason)?;
        Ok(value)
    }

    fn varlong(&mut self, reason: &'static str) -> Result<i64, &'static str> {
        let (value, len) = varint::read_signed_long(self.rest).ok_or(reason)?;
        self.rest = self.rest.get(len..).ok_or(reason)?;
        Ok(value)
    }

    fn take(&mut self, len: i32, reason: &'static str) -> Result<&'a [u8], &'static str> {
        let len = usize::try_from(len).map_err(|_| reason)?;
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(reason)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A length of -1 is null.
    fn nullable(&mut self, reason: &'static str) -> Result<Option<&'a [u8]>, &'static str> {
        match self.varint(reason)? {
            -1 => Ok(None),
            len => self.take(len, reason).map(Some),
        }
    }
}

/// One record as its bytes say it, relative to its batch. All of it, headers included, was parsed
/// once, so that nothing that is read from it later can fail.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawRecord<'a> {
    pub(super) offset_delta: i32,
    pub(super) timestamp_delta_ms: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Headers<'a>,
}

/// Reads the record at the front of `bytes` and gives the rest. The rules are those of Kafka's
/// `DefaultRecord.readFrom`.
pub(super) fn split_record(bytes: &[u8]) -> Result<(RawRecord<'_>, &[u8]), &'static str> {
    let mut outer = Reader { rest: bytes };
    let len = outer.varint("the record length is not a varint")?;
    let body = outer.take(len, "the record length is negative or points beyond the batch")?;
    let mut reader = Reader { rest: body };
    // The record's own attributes byte is unused in version 2; Kafka ignores its value.
    reader.take(1, "the record has no attributes")?;
    let timestamp_delta_ms = reader.varlong("the timestamp delta is not a varlong")?;
    let offset_delta = reader.varint("the offset delta is not a varint")?;
    let key = reader.nullable("the key's length is wrong")?;
    let value = reader.nullable("the value's length is wrong")?;
    let count = reader.varint("the header count is not a varint")?;
    let count = u32::try_from(count).map_err(|_| "the header count is negative")?;
    let headers = Headers { reader, left: count };
    for _ in 0..count {
        // Each turn takes at least two bytes or fails: a lying count ends with the bytes.
        let len = reader.varint("a header key's length is not a varint")?;
        reader.take(len, "a header key is null or points beyond the record")?;
        reader.nullable("a header value's length is wrong")?;
    }
    if !reader.rest.is_empty() {
        return Err("bytes are left after the record's headers");
    }
    Ok((RawRecord { offset_delta, timestamp_delta_ms, key, value, headers }, outer.rest))
}

/// One record of a log.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    offset: Offset,
    timestamp_ms: i64,
    raw: RawRecord<'a>,
}

/// What the records of a batch are relative to.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordBase {
    offset: Offset,
    timestamp_ms: i64,
    append_time_ms: Option<i64>,
}

impl RecordBase {
    pub(super) fn of(batch: &StoredBatch<'_>) -> RecordBase {
        let append_time_ms = match batch.timestamp_type() {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(batch.max_timestamp()),
        };
        let (offset, timestamp_ms) = (batch.base_offset(), batch.base_timestamp());
        RecordBase { offset, timestamp_ms, append_time_ms }
    }

    pub(super) fn record<'a>(&self, raw: RawRecord<'a>) -> Record<'a> {
        let offset = Offset(self.offset.0.saturating_add(i64::from(raw.offset_delta)));
        // Java adds with wrap-around; clients see the same sum.
        let own_ms = self.timestamp_ms.wrapping_add(raw.timestamp_delta_ms);
        Record { offset, timestamp_ms: self.append_time_ms.unwrap_or(own_ms), raw }
    }
}

impl<'a> Record<'a> {
    /// The record's offset.
    #[must_use]
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// The record's timestamp in milliseconds: its own, or the batch's append time.
    #[must_use]
    pub fn timestamp(&self) -> i64 {
        self.timestamp_ms
    }

    /// The key; `None` is Kafka's null.
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.raw.key
    }

    /// The value; `None` is Kafka's null, a tombstone on compacted topics.
    #[must_use]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.raw.value
    }

    /// The headers in order, duplicates included.
    #[must_use]
    pub fn headers(&self) -> Headers<'a> {
        self.raw.headers
    }
}

/// A record's headers (KIP-82): key and value bytes, in the order in which they were written. A
/// key is whatever bytes the producer sent; a key may come twice.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    reader: Reader<'a>,
    left: u32,
}

impl Headers<'_> {
    /// Headers that are left.
    #[must_use]
    pub fn count_left(&self) -> usize {
        self.left as usize
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let len = self.reader.varint("").ok()?;
        let key = self.reader.take(len, "").ok()?;
        let value = self.reader.nullable("").ok()?;
        Some((key, value))
    }
}

/// The records of one batch; lends each record until the next is asked for.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    payload: Cow<'a, [u8]>,
    position: usize,
    left: i32,
    base: RecordBase,
}

/// Opens a batch's records, decompressing them into at most `limit` bytes. Plain records are read in
/// place and cost nothing, whatever the limit.
///
/// # Errors
/// `Corrupt` or `TooLarge` from the codec, `UnsupportedCompression`.
pub fn records(batch: StoredBatch<'_>, limit: usize) -> Result<Records<'_>, BatchError> {
    Ok(Records {
        payload: plain_payload(batch, limit)?,
        position: 0,
        left: batch.record_count().max(0),
        base: RecordBase::of(&batch),
    })
}

/// The records' bytes without compression: borrowed where they are plain.
pub(super) fn plain_payload(
    batch: StoredBatch<'_>,
    limit: usize,
) -> Result<Cow<'_, [u8]>, BatchError> {
    let Some(compression) = batch.compression() else {
        let codec_id = (batch.header().attributes() & 0x07) as u8;
        return Err(BatchError::UnsupportedCompression { codec_id });
    };
    // An emptied batch keeps its codec bits and has no payload at all.
    if compression == Compression::None || batch.payload().is_empty() {
        return Ok(Cow::Borrowed(batch.payload()));
    }
    Ok(Cow::Owned(decompress(compression, batch.payload(), limit)?))
}

impl Records<'_> {
    /// The next record; `None` after the last. An error ends the walk.
    ///
    /// # Errors
    /// `Invalid` if a record's inner lengths do not fit, the records end before the count of the
    /// header, or bytes are left after the last.
    pub fn next_record(&mut self) -> Option<Result<Record<'_>, BatchError>> {
        let rest = self.payload.get(self.position..).unwrap_or_default();
        if self.left == 0 {
            if rest.is_empty() {
                return None;
            }
            self.position = self.payload.len();
            return Some(Err(BatchError::Invalid {
                reason: "bytes are left after the last record of the batch",
            }));
        }
        match split_record(rest) {
            Ok((raw, after)) => {
                self.position = self.payload.len() - after.len();
                self.left -= 1;
                Some(Ok(self.base.record(raw)))
            }
            Err(reason) => {
                self.left = 0;
                self.position = self.payload.len();
                Some(Err(BatchError::Invalid { reason }))
            }
        }
    }
}
