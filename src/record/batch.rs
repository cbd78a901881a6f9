//! A checked batch on its way into a log.

use bytes::Bytes;
use zerocopy::IntoBytes;

use crate::base::crc::{crc32c, crc32c_append, crc32c_combine};
use crate::base::ids::{LeaderEpoch, Offset};

use super::compression::Compression;
use super::error::BatchError;
use super::header::{
    BATCH_HEADER_BYTES, BatchHeader, LENGTH_PREFIX_BYTES, ProducerStamp, TimestampType,
};
use super::stored::StoredBatch;

/// What the leader writes into a batch while it copies it into the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// `Some(now)` on topics with `message.timestamp.type=LogAppendTime`.
    pub log_append_time_ms: Option<i64>,
}

/// One batch of version 2 whose header and CRC were checked. Immutable; clones share the bytes.
#[derive(Clone, Debug)]
pub struct RecordBatch {
    bytes: Bytes,
    header: BatchHeader,
    fills_memory: bool,
}

impl RecordBatch {
    /// Takes bytes that were checked or just built; `header` is a copy of their first 61.
    pub(super) fn trusted(bytes: Bytes, header: BatchHeader) -> RecordBatch {
        debug_assert_eq!(header.len_bytes(), Some(bytes.len()));
        RecordBatch { bytes, header, fills_memory: false }
    }

    pub(super) fn filling_memory(self, fills_memory: bool) -> RecordBatch {
        RecordBatch { fills_memory, ..self }
    }

    /// See [`super::UncheckedBatch::filling_memory`].
    #[must_use]
    pub fn fills_memory(&self) -> bool {
        self.fills_memory
    }

    /// Puts `header` in front of `payload`, with length and CRC computed.
    ///
    /// # Errors
    /// `TooLarge` beyond the 2 GiB that the length field can say.
    pub(super) fn seal(mut header: BatchHeader, payload: &[u8]) -> Result<RecordBatch, BatchError> {
        let total = BATCH_HEADER_BYTES + payload.len();
        let length = i32::try_from(total - LENGTH_PREFIX_BYTES)
            .map_err(|_| BatchError::TooLarge { bytes_max: i32::MAX as usize })?;
        header.set_len_bytes(length);
        header.set_crc(crc32c_append(crc32c(header.checksummed()), payload));
        let mut bytes = Vec::with_capacity(total);
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(payload);
        Ok(RecordBatch::trusted(Bytes::from(bytes), header))
    }

    /// The whole batch as it came.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Bytes of the whole batch.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The header as it came.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Number of records; positive for batches of clients.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        self.header.record_count()
    }

    /// Offsets that the batch takes, minus one.
    #[must_use]
    pub fn last_offset_delta(&self) -> i32 {
        self.header.last_offset_delta()
    }

    /// The producer's base timestamp, in milliseconds.
    #[must_use]
    pub fn base_timestamp(&self) -> i64 {
        self.header.base_timestamp()
    }

    /// The largest record timestamp as the producer claims it, in milliseconds.
    #[must_use]
    pub fn max_timestamp(&self) -> i64 {
        self.header.max_timestamp()
    }

    /// The producer's stamp, if the batch is idempotent or transactional.
    #[must_use]
    pub fn producer(&self) -> Option<ProducerStamp> {
        self.header.producer()
    }

    /// The codec of the records.
    #[must_use]
    pub fn compression(&self) -> Compression {
        self.header.compression().unwrap_or_default()
    }

    /// What the timestamps mean. A producer says `CreateTime`; where a topic does not use
    /// LogAppendTime, Kafka answers the other with INVALID_TIMESTAMP.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        self.header.timestamp_type()
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.header.is_transactional()
    }

    /// Whether this is a control batch (never from a client).
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.header.is_control()
    }

    /// The same bytes seen as a batch of a log, for the readers of records.
    #[must_use]
    pub fn as_stored(&self) -> StoredBatch<'_> {
        StoredBatch::trusted(&self.header, &self.bytes)
    }

    /// The header that the batch gets in the log: with offset, epoch and (if asked) append time.
    /// The CRC changes only with the append time, since offset and epoch lie outside it.
    #[must_use]
    pub fn stamped(&self, stamp: &Stamp) -> BatchHeader {
        let mut header = self.header;
        header.set_place(stamp.base_offset, stamp.leader_epoch);
        if let Some(append_time_ms) = stamp.log_append_time_ms {
            header.set_log_append_time(append_time_ms);
            header.set_crc(self.crc_with(&header));
        }
        header
    }

    /// Copies the batch into `dst` behind `header`, which [`RecordBatch::stamped`] gave: all of it,
    /// or as much of its front as `dst` holds.
    ///
    /// # Panics
    /// If `dst` is longer than the batch: the caller reserved wrongly.
    pub fn copy_front(&self, dst: &mut [u8], header: &BatchHeader) {
        dst.copy_from_slice(self.bytes.split_at(dst.len()).0);
        if let Some(front) = dst.first_chunk_mut::<BATCH_HEADER_BYTES>() {
            front.copy_from_slice(header.as_bytes());
        }
    }

    /// The batch with another claim of its largest timestamp: what Kafka corrects when it has
    /// walked the records.
    #[must_use]
    pub fn with_max_timestamp(&self, max_timestamp_ms: i64) -> RecordBatch {
        let mut header = self.header;
        header.set_max_timestamp(max_timestamp_ms);
        header.set_crc(self.crc_with(&header));
        let mut bytes = Vec::from(self.bytes.as_ref());
        if let Some(front) = bytes.first_chunk_mut::<BATCH_HEADER_BYTES>() {
            front.copy_from_slice(header.as_bytes());
        }
        RecordBatch::trusted(Bytes::from(bytes), header)
    }

    /// The records as they lie behind the header, compressed or not.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(BATCH_HEADER_BYTES..).unwrap_or_default()
    }

    /// CRC of this batch with `header` in place of its own. CRCs are linear, so a large payload
    /// need not be read again: the difference of the two headers' CRCs, moved over the payload's
    /// length, is the difference of the results.
    fn crc_with(&self, header: &BatchHeader) -> u32 {
        /// Below this the plain pass (10-16 GB/s) is as fast as the combination (under 1 us).
        const COMBINE_FROM_BYTES: usize = 16 * 1024;
        let payload = self.payload();
        let fresh = crc32c(header.checksummed());
        if payload.len() < COMBINE_FROM_BYTES {
            return crc32c_append(fresh, payload);
        }
        let stale = crc32c(self.header.checksummed());
        self.header.crc() ^ crc32c_combine(stale ^ fresh, 0, payload.len())
    }
}
