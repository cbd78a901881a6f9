//! The header of a block: the unit of a segment and of its index.

use zerocopy::little_endian::{I32, I64, U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::base::crc::{crc32c, crc32c_append};
use crate::base::ids::{Offset, PartitionIndex, TopicId, TopicPartition};
use crate::base::limits::{BATCH_PLACE, BLOCK_ALIGN};
use crate::record::{BatchHeader, stored_batches};

const BLOCK_MAGIC: [u8; 4] = *b"TWSB";
/// Version of the blocks' format.
pub(in crate::storage) const SEGMENT_VERSION: u16 = 1;

/// Bytes of a block's header; its batches follow at once.
pub(in crate::storage) const BLOCK_HEADER_BYTES: usize = BATCH_PLACE;

/// Bytes of a batch before those that its CRC covers.
pub(in crate::storage) const FRONT_BYTES: usize = 21;

/// First bytes of a block.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(in crate::storage) struct BlockHeader {
    magic: [u8; 4],
    version: U16,
    header_bytes: U16,
    topic_id: [u8; 16],
    partition: I32,
    payload_bytes: U32,
    base_offset: I64,
    last_offset: I64,
    max_timestamp: I64,
    fronts_crc: U32,
    reserved: [u8; 16],
    crc: U32,
}

const _: () = assert!(size_of::<BlockHeader>() == BLOCK_HEADER_BYTES);

impl BlockHeader {
    pub(in crate::storage) fn new(
        topic_partition: TopicPartition,
        payload_bytes: usize,
        (base, last): (Offset, Offset),
        max_timestamp: i64,
        fronts_crc: u32,
    ) -> BlockHeader {
        let mut header = BlockHeader {
            magic: BLOCK_MAGIC,
            version: SEGMENT_VERSION.into(),
            header_bytes: (BLOCK_HEADER_BYTES as u16).into(),
            topic_id: topic_partition.topic_id.0,
            partition: topic_partition.partition.0.into(),
            payload_bytes: u32::try_from(payload_bytes).expect("a block is below 4 GiB").into(),
            base_offset: base.0.into(),
            last_offset: last.0.into(),
            max_timestamp: max_timestamp.into(),
            fronts_crc: fronts_crc.into(),
            reserved: [0; 16],
            crc: 0.into(),
        };
        header.crc = header.checksum().into();
        header
    }

    fn checksum(&self) -> u32 {
        crc32c(&self.as_bytes()[..BLOCK_HEADER_BYTES - 4])
    }

    /// The version that a whole header of ours at the front of `bytes` names, known or not.
    pub(in crate::storage) fn version_of(bytes: &[u8]) -> Option<u16> {
        let (header, _) = BlockHeader::ref_from_prefix(bytes).ok()?;
        let right = header.magic == BLOCK_MAGIC && header.crc.get() == header.checksum();
        right.then(|| header.version.get())
    }

    /// The header at the front of `bytes`, if it is whole and of this partition.
    pub(in crate::storage) fn find(bytes: &[u8], owner: TopicPartition) -> Option<&BlockHeader> {
        let (header, _) = BlockHeader::ref_from_prefix(bytes).ok()?;
        let right = header.magic == BLOCK_MAGIC
            && header.version.get() == SEGMENT_VERSION
            && header.crc.get() == header.checksum()
            && header.topic_partition() == owner;
        right.then_some(header)
    }

    fn topic_partition(&self) -> TopicPartition {
        TopicPartition {
            topic_id: TopicId(self.topic_id),
            partition: PartitionIndex(self.partition.get()),
        }
    }

    pub(in crate::storage) fn payload_bytes(&self) -> usize {
        self.payload_bytes.get() as usize
    }

    pub(in crate::storage) fn base_offset(&self) -> Offset {
        Offset(self.base_offset.get())
    }

    pub(in crate::storage) fn last_offset(&self) -> Offset {
        Offset(self.last_offset.get())
    }

    pub(in crate::storage) fn max_timestamp(&self) -> i64 {
        self.max_timestamp.get()
    }

    /// [`fronts_crc`] of the batches as they were written.
    pub(in crate::storage) fn fronts_crc(&self) -> u32 {
        self.fronts_crc.get()
    }

    /// Bytes of the whole block in the file.
    pub(in crate::storage) fn block_bytes(&self) -> u64 {
        block_bytes(self.payload_bytes()) as u64
    }
}

/// CRC over what each batch's own CRC leaves out (base offset, length, leader epoch, magic and the
/// CRC itself), so that both together cover every byte.
pub(in crate::storage) fn fronts_crc<'a>(headers: impl Iterator<Item = &'a BatchHeader>) -> u32 {
    headers.fold(0, |crc, header| crc32c_append(crc, &header.as_bytes()[..FRONT_BYTES]))
}

/// [`fronts_crc`] of the batches that `bytes` are; `None` if these are not whole batches.
pub(in crate::storage) fn fronts_crc_of(bytes: &[u8]) -> Option<u32> {
    let mut whole = true;
    let headers = stored_batches(bytes).map_while(|batch| {
        whole = batch.is_ok();
        batch.ok().map(|batch| batch.header())
    });
    let crc = fronts_crc(headers);
    whole.then_some(crc)
}

/// Bytes in the file of a block with that much payload.
pub(in crate::storage) fn block_bytes(payload_bytes: usize) -> usize {
    (BLOCK_HEADER_BYTES + payload_bytes).next_multiple_of(BLOCK_ALIGN)
}
