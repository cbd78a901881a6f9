//! Batches as they lie in our own log: trusted, walked by their lengths.

use crate::base::crc::crc32c;
use crate::base::ids::{LeaderEpoch, Offset};

use super::compression::Compression;
use super::error::BatchError;
use super::header::{
    BATCH_HEADER_BYTES, BatchHeader, CRC_COVERS_FROM, MAGIC_V2, ProducerStamp, TimestampType,
};

/// One batch of a log, in place. Only framing was checked (length, magic): the CRC was when it was
/// appended, and [`StoredBatch::crc_matches`] checks again where bytes come from a disk. May be
/// empty: compaction keeps the header of an emptied batch.
#[derive(Clone, Copy, Debug)]
pub struct StoredBatch<'a> {
    header: &'a BatchHeader,
    bytes: &'a [u8],
}

impl<'a> StoredBatch<'a> {
    pub(super) fn trusted(header: &'a BatchHeader, bytes: &'a [u8]) -> StoredBatch<'a> {
        StoredBatch { header, bytes }
    }

    /// The first batch of `bytes` and what follows it.
    ///
    /// # Errors
    /// `Corrupt` if no whole batch of version 2 begins there.
    pub fn split_first(bytes: &'a [u8]) -> Result<(StoredBatch<'a>, &'a [u8]), BatchError> {
        let corrupt = |reason| BatchError::Corrupt { reason };
        let header = BatchHeader::peek(bytes).ok_or(corrupt("the log ends inside a header"))?;
        if header.magic() != MAGIC_V2 {
            return Err(corrupt("a batch of the log has another magic than 2"));
        }
        let len = header.len_bytes().ok_or(corrupt("a batch of the log has a wrong length"))?;
        let (batch, rest) =
            bytes.split_at_checked(len).ok_or(corrupt("the log ends inside a batch"))?;
        Ok((StoredBatch { header, bytes: batch }, rest))
    }

    /// Offset of the first record (or of the first that was there before compaction).
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        self.header.base_offset()
    }

    /// Offset of the last record, inclusive; kept by compaction.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        self.header.last_offset()
    }

    /// Epoch of the leader that appended the batch.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.header.leader_epoch()
    }

    /// Base of the records' timestamp deltas, in milliseconds.
    #[must_use]
    pub fn base_timestamp(&self) -> i64 {
        self.header.base_timestamp()
    }

    /// The largest record timestamp, or the append time, in milliseconds.
    #[must_use]
    pub fn max_timestamp(&self) -> i64 {
        self.header.max_timestamp()
    }

    /// What the timestamps mean.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        self.header.timestamp_type()
    }

    /// Number of records; 0 in an emptied batch.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        self.header.record_count()
    }

    /// The codec; `None` if the id has no meaning, which no checked batch has.
    #[must_use]
    pub fn compression(&self) -> Option<Compression> {
        self.header.compression()
    }

    /// The producer's stamp, if there is one.
    #[must_use]
    pub fn producer(&self) -> Option<ProducerStamp> {
        self.header.producer()
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.header.is_transactional()
    }

    /// Whether this is a control batch.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.header.is_control()
    }

    /// Bytes of the whole batch.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The header in place.
    #[must_use]
    pub fn header(&self) -> &'a BatchHeader {
        self.header
    }

    /// The whole batch in place.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records behind the header, compressed or not.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(BATCH_HEADER_BYTES..).unwrap_or_default()
    }

    /// Whether the bytes are still those that were appended. Base offset and leader epoch lie
    /// outside the CRC.
    #[must_use]
    pub fn crc_matches(&self) -> bool {
        crc32c(self.bytes.get(CRC_COVERS_FROM..).unwrap_or_default()) == self.header.crc()
    }
}

/// Iterator of [`stored_batches`].
#[derive(Clone, Debug)]
pub struct StoredBatches<'a> {
    rest: &'a [u8],
}

/// Walks concatenated batches by their lengths. After the first error it ends: nothing behind a
/// broken length can be found again.
#[must_use]
pub fn stored_batches(bytes: &[u8]) -> StoredBatches<'_> {
    StoredBatches { rest: bytes }
}

impl<'a> Iterator for StoredBatches<'a> {
    type Item = Result<StoredBatch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match StoredBatch::split_first(self.rest) {
            Ok((batch, rest)) => {
                self.rest = rest;
                Some(Ok(batch))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}
