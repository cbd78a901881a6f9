//! A batch as a client sent it, and the checks that make it a [`RecordBatch`].

use bytes::Bytes;

use crate::base::crc::crc32c;

use super::batch::RecordBatch;
use super::error::BatchError;
use super::header::{BatchHeader, CRC_COVERS_FROM, LENGTH_PREFIX_BYTES, MAGIC_V2};

/// The smallest record: length, attributes, timestamp delta, offset delta, key length, value
/// length and header count, one byte each.
pub(super) const RECORD_BYTES_MIN: usize = 7;

/// Bytes that hold exactly one batch of version 2 by its length field, and are not checked beyond
/// that. Cheap to clone and to send to the owning core.
#[derive(Clone, Debug)]
pub struct UncheckedBatch {
    bytes: Bytes,
    header: BatchHeader,
    fills_memory: bool,
}

fn corrupt(reason: &'static str) -> BatchError {
    BatchError::Corrupt { reason }
}

fn invalid(reason: &'static str) -> BatchError {
    BatchError::Invalid { reason }
}

impl UncheckedBatch {
    /// Takes the `records` field of one partition of a produce request (v3 and later): exactly one
    /// batch, magic 2, that fills the field (KIP-98).
    ///
    /// # Errors
    /// `Corrupt` if the length field is smaller than a header or points beyond the bytes;
    /// `Invalid` for no batch, another magic, or more bytes than one batch.
    pub fn from_produce(records: Bytes) -> Result<UncheckedBatch, BatchError> {
        if records.is_empty() {
            return Err(invalid("a produce request must hold one batch for each partition"));
        }
        // The magic byte has its place in every version of the format, the length too: a message
        // set of an old client may be shorter than our header and still deserves the right word.
        if let Some(&magic) = records.get(LENGTH_PREFIX_BYTES + 4)
            && magic != MAGIC_V2 as u8
        {
            return Err(invalid("only record batches of version 2 (magic 2) are accepted"));
        }
        let Some(&header) = BatchHeader::peek(&records) else {
            return Err(corrupt("the batch is shorter than its header"));
        };
        let Some(len) = header.len_bytes() else {
            return Err(corrupt("the batch length is smaller than a header"));
        };
        if len > records.len() {
            return Err(corrupt("the batch length points beyond the bytes"));
        }
        if len < records.len() {
            return Err(invalid("a produce request must hold exactly one batch a partition"));
        }
        Ok(UncheckedBatch { bytes: records, header, fills_memory: false })
    }

    /// Notes whether the memory that the batch lies in holds little else, so that keeping the one
    /// costs hardly more than keeping the other.
    #[must_use]
    pub fn filling_memory(self, fills_memory: bool) -> UncheckedBatch {
        UncheckedBatch { fills_memory, ..self }
    }

    /// Bytes of the batch, header included: what `max.message.bytes` is compared with.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The header as the client wrote it.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Checks what needs no decompression: CRC, record count against last offset delta, producer
    /// fields, codec, and the bits that belong to the broker.
    ///
    /// # Errors
    /// `Corrupt` for a wrong CRC; `UnsupportedCompression`; `InvalidProducerEpoch`; `Invalid` for
    /// everything else that a client may not say.
    pub fn check(self) -> Result<RecordBatch, BatchError> {
        self.check_crc()?;
        check_client_rules(&self.header)?;
        self.check_codec_and_room()?;
        Ok(RecordBatch::trusted(self.bytes, self.header).filling_memory(self.fills_memory))
    }

    /// Checks a batch that a leader's log had accepted before (replication, replay): as
    /// [`UncheckedBatch::check`], but control batches, delete horizons, and the gaps and empty
    /// batches that compaction leaves are legal.
    ///
    /// # Errors
    /// As [`UncheckedBatch::check`].
    pub fn check_replica(self) -> Result<RecordBatch, BatchError> {
        self.check_crc()?;
        let count = self.header.record_count();
        let delta = self.header.last_offset_delta();
        if delta < 0 || count < 0 || i64::from(count) > i64::from(delta) + 1 {
            return Err(invalid("the record count does not fit the last offset delta"));
        }
        self.check_codec_and_room()?;
        Ok(RecordBatch::trusted(self.bytes, self.header))
    }

    fn check_crc(&self) -> Result<(), BatchError> {
        let covered = self.bytes.get(CRC_COVERS_FROM..).unwrap_or_default();
        if crc32c(covered) != self.header.crc() {
            return Err(corrupt("the batch's CRC-32C does not match its bytes"));
        }
        Ok(())
    }

    fn check_codec_and_room(&self) -> Result<(), BatchError> {
        let Some(compression) = self.header.compression() else {
            let codec_id = (self.header.attributes() & 0x07) as u8;
            return Err(BatchError::UnsupportedCompression { codec_id });
        };
        // Without decompression only plain records show that a count cannot be true.
        let count = usize::try_from(self.header.record_count()).unwrap_or(usize::MAX);
        let payload = self.bytes.len().saturating_sub(super::BATCH_HEADER_BYTES);
        if compression == super::Compression::None && count > payload / RECORD_BYTES_MIN {
            return Err(invalid("the record count does not fit the batch's bytes"));
        }
        Ok(())
    }
}

/// What a client may say in a header (Kafka's `LogValidator.validateBatch`, and the two bits of
/// compaction and control that only brokers set).
fn check_client_rules(header: &BatchHeader) -> Result<(), BatchError> {
    if header.is_control() {
        return Err(invalid("clients may not write control batches"));
    }
    if header.has_delete_horizon() {
        return Err(invalid("clients may not set a delete horizon"));
    }
    let count = header.record_count();
    if count <= 0 {
        return Err(invalid("the record count is not positive"));
    }
    let delta = header.last_offset_delta();
    if delta < 0 {
        return Err(invalid("the last offset delta is negative"));
    }
    if i64::from(delta) + 1 != i64::from(count) {
        return Err(invalid("the record count does not match the last offset delta"));
    }
    let (producer_id, producer_epoch, base_sequence) = header.raw_producer();
    if producer_id < -1 {
        return Err(invalid("the producer id is negative"));
    }
    if producer_id == -1 {
        if header.is_transactional() {
            return Err(invalid("a transactional batch has no producer id"));
        }
        return Ok(());
    }
    if producer_epoch < 0 {
        return Err(BatchError::InvalidProducerEpoch);
    }
    if base_sequence < 0 {
        return Err(invalid("a batch with a producer id has a negative base sequence"));
    }
    Ok(())
}
