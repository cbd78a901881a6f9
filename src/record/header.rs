//! The 61 bytes before a batch's records, read in place.

use zerocopy::big_endian::{I16, I32, I64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::base::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

use super::compression::Compression;

/// Bytes of a batch's header, from the base offset to the record count.
pub const BATCH_HEADER_BYTES: usize = 61;

/// Bytes before the part that the length field counts: base offset and the field itself.
pub(super) const LENGTH_PREFIX_BYTES: usize = 12;

/// Where the part that the CRC covers begins: at the attributes. Base offset and leader epoch lie
/// before it, so a broker assigns them without touching the checksum.
pub(super) const CRC_COVERS_FROM: usize = 21;

/// The only batch format on the wire since Kafka 4.0 (KIP-724).
pub(super) const MAGIC_V2: i8 = 2;

pub(super) const ATTRIBUTE_CODEC: i16 = 0x07;
pub(super) const ATTRIBUTE_LOG_APPEND_TIME: i16 = 1 << 3;
pub(super) const ATTRIBUTE_TRANSACTIONAL: i16 = 1 << 4;
pub(super) const ATTRIBUTE_CONTROL: i16 = 1 << 5;
pub(super) const ATTRIBUTE_DELETE_HORIZON: i16 = 1 << 6;

/// What a batch's timestamps mean (KIP-32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// Each record has its own, given by the producer.
    CreateTime,
    /// All records have the batch's max timestamp: when the broker appended it.
    LogAppendTime,
}

/// A batch's place in its producer's sequence (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerStamp {
    /// The producer; never negative.
    pub id: ProducerId,
    /// Its incarnation.
    pub epoch: ProducerEpoch,
    /// Sequence of the first record. -1 in control batches only.
    pub base_sequence: Sequence,
    /// Sequence of the last record, wrapped as Kafka wraps it. -1 in control batches only.
    pub last_sequence: Sequence,
}

/// The header as it lies in memory and on disk, big-endian and unaligned.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct BatchHeader {
    base_offset: I64,
    length: I32,
    partition_leader_epoch: I32,
    magic: i8,
    crc: U32,
    attributes: I16,
    last_offset_delta: I32,
    base_timestamp: I64,
    max_timestamp: I64,
    producer_id: I64,
    producer_epoch: I16,
    base_sequence: I32,
    record_count: I32,
}

const _: () = assert!(size_of::<BatchHeader>() == BATCH_HEADER_BYTES);

/// The fields that a builder fills; everything else of a fresh header is fixed or computed.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeaderFields {
    pub(super) attributes: i16,
    pub(super) base_offset: Offset,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) base_timestamp_ms: i64,
    pub(super) max_timestamp_ms: i64,
    pub(super) producer_id: ProducerId,
    pub(super) producer_epoch: ProducerEpoch,
    pub(super) base_sequence: Sequence,
    pub(super) last_offset_delta: i32,
    pub(super) record_count: i32,
}

impl BatchHeader {
    /// The header in front of `bytes`, in place; `None` if they are too short. Nothing is checked.
    #[inline]
    #[must_use]
    pub fn peek(bytes: &[u8]) -> Option<&BatchHeader> {
        BatchHeader::ref_from_prefix(bytes).ok().map(|(header, _rest)| header)
    }

    /// A header without length and CRC, which [`BatchHeader::seal`] computes.
    pub(super) fn unsealed(fields: &HeaderFields) -> BatchHeader {
        BatchHeader {
            base_offset: fields.base_offset.0.into(),
            length: 0.into(),
            partition_leader_epoch: fields.leader_epoch.0.into(),
            magic: MAGIC_V2,
            crc: 0.into(),
            attributes: fields.attributes.into(),
            last_offset_delta: fields.last_offset_delta.into(),
            base_timestamp: fields.base_timestamp_ms.into(),
            max_timestamp: fields.max_timestamp_ms.into(),
            producer_id: fields.producer_id.0.into(),
            producer_epoch: fields.producer_epoch.0.into(),
            base_sequence: fields.base_sequence.0.into(),
            record_count: fields.record_count.into(),
        }
    }

    /// Offset of the first record; in a produce request whatever the client wrote.
    #[inline]
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        Offset(self.base_offset.get())
    }

    /// Offset of the last record (inclusive).
    #[inline]
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.get().saturating_add(i64::from(self.last_offset_delta.get())))
    }

    /// Bytes of the whole batch as the length field announces them, or `None` if the field is
    /// smaller than a header.
    #[inline]
    #[must_use]
    pub fn len_bytes(&self) -> Option<usize> {
        let total = usize::try_from(self.length.get()).ok()?.checked_add(LENGTH_PREFIX_BYTES)?;
        (total >= BATCH_HEADER_BYTES).then_some(total)
    }

    /// Epoch of the leader that appended the batch.
    #[inline]
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.partition_leader_epoch.get())
    }

    /// Format version; 2 is the only one that is served.
    #[inline]
    #[must_use]
    pub fn magic(&self) -> i8 {
        self.magic
    }

    /// CRC-32C over everything from the attributes to the end of the batch.
    #[inline]
    #[must_use]
    pub fn crc(&self) -> u32 {
        self.crc.get()
    }

    /// The attribute bits: 0-2 codec, 3 timestamp type, 4 transactional, 5 control, 6 delete
    /// horizon (KIP-534).
    #[inline]
    #[must_use]
    pub fn attributes(&self) -> i16 {
        self.attributes.get()
    }

    /// Offset of the last record minus the base offset. Compaction keeps it.
    #[inline]
    #[must_use]
    pub fn last_offset_delta(&self) -> i32 {
        self.last_offset_delta.get()
    }

    /// What the records' timestamp deltas are relative to, in milliseconds.
    #[inline]
    #[must_use]
    pub fn base_timestamp(&self) -> i64 {
        self.base_timestamp.get()
    }

    /// The largest record timestamp in milliseconds, or the append time.
    #[inline]
    #[must_use]
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp.get()
    }

    /// Number of records, unchecked.
    #[inline]
    #[must_use]
    pub fn record_count(&self) -> i32 {
        self.record_count.get()
    }

    /// The codec; `None` if the id has no meaning.
    #[inline]
    #[must_use]
    pub fn compression(&self) -> Option<Compression> {
        Compression::from_attributes(self.attributes())
    }

    /// What the timestamps mean.
    #[inline]
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes() & ATTRIBUTE_LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    #[inline]
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes() & ATTRIBUTE_TRANSACTIONAL != 0
    }

    /// Whether the batch holds a control record (a transaction's end) that consumers do not see.
    #[inline]
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes() & ATTRIBUTE_CONTROL != 0
    }

    /// Whether the base timestamp is a compaction delete horizon (KIP-534).
    #[inline]
    #[must_use]
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes() & ATTRIBUTE_DELETE_HORIZON != 0
    }

    pub(super) fn raw_producer(&self) -> (i64, i16, i32) {
        (self.producer_id.get(), self.producer_epoch.get(), self.base_sequence.get())
    }

    /// The producer's stamp, if the batch is idempotent or transactional.
    #[must_use]
    pub fn producer(&self) -> Option<ProducerStamp> {
        let (id, epoch, base) = self.raw_producer();
        if id < 0 {
            return None;
        }
        let base_sequence = Sequence(base);
        // Control batches carry -1, which has no successor.
        let last_sequence = if base < 0 {
            base_sequence
        } else {
            base_sequence.plus(self.last_offset_delta().max(0))
        };
        Some(ProducerStamp {
            id: ProducerId(id),
            epoch: ProducerEpoch(epoch),
            base_sequence,
            last_sequence,
        })
    }

    pub(super) fn set_place(&mut self, base_offset: Offset, leader_epoch: LeaderEpoch) {
        self.base_offset = base_offset.0.into();
        self.partition_leader_epoch = leader_epoch.0.into();
    }

    pub(super) fn set_log_append_time(&mut self, append_time_ms: i64) {
        self.attributes = (self.attributes() | ATTRIBUTE_LOG_APPEND_TIME).into();
        self.max_timestamp = append_time_ms.into();
    }

    pub(super) fn set_max_timestamp(&mut self, max_timestamp_ms: i64) {
        self.max_timestamp = max_timestamp_ms.into();
    }

    pub(super) fn set_compression(&mut self, compression: Compression) {
        self.attributes = ((self.attributes() & !ATTRIBUTE_CODEC) | compression.id()).into();
    }

    pub(super) fn set_len_bytes(&mut self, total: i32) {
        self.length = total.into();
    }

    pub(super) fn set_crc(&mut self, crc: u32) {
        self.crc = crc.into();
    }

    /// The header's own bytes under the CRC.
    pub(super) fn checksummed(&self) -> &[u8] {
        self.as_bytes().get(CRC_COVERS_FROM..).unwrap_or_default()
    }
}
