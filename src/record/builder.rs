//! Builds batches as a producer does: for clients, internal topics, tests and the load generator.

use bytes::Bytes;

use crate::base::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
use crate::base::varint::{write_signed, write_signed_long};

use super::batch::RecordBatch;
use super::codec;
use super::compression::Compression;
use super::error::BatchError;
use super::header::{ATTRIBUTE_CONTROL, ATTRIBUTE_TRANSACTIONAL, BatchHeader, HeaderFields};

/// A batch under construction. Records get consecutive offsets.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    compression: Compression,
    level: Option<i32>,
    fields: HeaderFields,
    payload: Vec<u8>,
    scratch: Vec<u8>,
    too_large: bool,
}

impl BatchBuilder {
    /// An empty batch. `base_timestamp` (milliseconds) is what the records' timestamps are stored
    /// relative to: the first record's timestamp, as a rule.
    #[must_use]
    pub fn new(compression: Compression, base_timestamp: i64) -> BatchBuilder {
        BatchBuilder {
            compression,
            level: None,
            fields: HeaderFields {
                attributes: compression.id(),
                base_offset: Offset::ZERO,
                leader_epoch: LeaderEpoch(-1),
                base_timestamp_ms: base_timestamp,
                max_timestamp_ms: -1,
                producer_id: ProducerId::NONE,
                producer_epoch: ProducerEpoch(-1),
                base_sequence: Sequence(-1),
                last_offset_delta: -1,
                record_count: 0,
            },
            payload: Vec::new(),
            scratch: Vec::new(),
            too_large: false,
        }
    }

    /// Compresses at `level` instead of the codec's default: gzip 1 to 9, zstd -131072 to 22, and
    /// none that the others would know.
    pub fn level(&mut self, level: Option<i32>) -> &mut BatchBuilder {
        self.level = level;
        self
    }

    /// Appends one record. Null keys, values and header values are `None`; a header's key cannot
    /// be null. Timestamps are milliseconds.
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> &mut BatchBuilder {
        let offset_delta = self.fields.record_count;
        let deltas = (timestamp.wrapping_sub(self.fields.base_timestamp_ms), offset_delta);
        let headers = (headers.len(), headers.iter().copied());
        let fits =
            write_record(&mut self.payload, &mut self.scratch, deltas, (key, value), headers);
        self.too_large |= !fits || self.payload.len() > i32::MAX as usize;
        self.fields.last_offset_delta = offset_delta;
        self.fields.record_count = offset_delta.saturating_add(1);
        self.fields.max_timestamp_ms =
            if offset_delta == 0 { timestamp } else { self.fields.max_timestamp_ms.max(timestamp) };
        self
    }

    /// Makes the batch idempotent: producer id, epoch, and the first record's sequence (KIP-98).
    pub fn producer(
        &mut self,
        id: ProducerId,
        epoch: ProducerEpoch,
        base_sequence: Sequence,
    ) -> &mut BatchBuilder {
        self.fields.producer_id = id;
        self.fields.producer_epoch = epoch;
        self.fields.base_sequence = base_sequence;
        self
    }

    /// Marks the batch as part of a transaction.
    pub fn transactional(&mut self) -> &mut BatchBuilder {
        self.fields.attributes |= ATTRIBUTE_TRANSACTIONAL;
        self
    }

    /// Marks the batch as a control batch: brokers only.
    pub fn control(&mut self) -> &mut BatchBuilder {
        self.fields.attributes |= ATTRIBUTE_CONTROL;
        self
    }

    /// Sets offset and epoch as a log would hold them. Producers leave 0 and -1.
    pub fn place(&mut self, base_offset: Offset, leader_epoch: LeaderEpoch) -> &mut BatchBuilder {
        self.fields.base_offset = base_offset;
        self.fields.leader_epoch = leader_epoch;
        self
    }

    /// Records so far.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        self.fields.record_count
    }

    /// Bytes of the records so far, before compression and without the header.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.payload.len()
    }

    /// The finished batch, ready for a produce request.
    ///
    /// # Errors
    /// `TooLarge` if it exceeds the 2 GiB that the format can say.
    pub fn build(&self) -> Result<Bytes, BatchError> {
        Ok(self.build_batch()?.bytes().clone())
    }

    /// The finished batch, ready for a log: built here, it needs no check. (An empty builder gives
    /// an empty batch, which [`super::UncheckedBatch::check`] would refuse.)
    ///
    /// # Errors
    /// As [`BatchBuilder::build`].
    pub fn build_batch(&self) -> Result<RecordBatch, BatchError> {
        if self.too_large {
            return Err(BatchError::TooLarge { bytes_max: i32::MAX as usize });
        }
        let header = BatchHeader::unsealed(&self.fields);
        if self.compression == Compression::None {
            return RecordBatch::seal(header, &self.payload);
        }
        RecordBatch::seal(header, &codec::compress_at(self.compression, self.level, &self.payload)?)
    }
}

/// Writes one record: its deltas of timestamp and offset, key and value, headers with their number.
/// False if the format cannot say a length. `scratch` is overwritten.
pub(super) fn write_record<'a>(
    out: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
    (timestamp_delta_ms, offset_delta): (i64, i32),
    (key, value): (Option<&[u8]>, Option<&[u8]>),
    (header_count, headers): (usize, impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>),
) -> bool {
    let body = scratch;
    body.clear();
    body.push(0); // attributes, unused in version 2
    write_signed_long(body, timestamp_delta_ms);
    write_signed(body, offset_delta);
    let mut fits = write_nullable(body, key);
    fits &= write_nullable(body, value);
    fits &= write_len(body, header_count);
    for (name, value) in headers {
        fits &= write_nullable(body, Some(name));
        fits &= write_nullable(body, value);
    }
    fits &= write_len(out, body.len());
    out.extend_from_slice(body);
    fits
}

/// Writes a length; false if the format cannot say it.
fn write_len(out: &mut Vec<u8>, len: usize) -> bool {
    let len = i32::try_from(len);
    write_signed(out, len.unwrap_or(i32::MAX));
    len.is_ok()
}

fn write_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) -> bool {
    let Some(bytes) = bytes else {
        write_signed(out, -1);
        return true;
    };
    let fits = write_len(out, bytes.len());
    out.extend_from_slice(bytes);
    fits
}
