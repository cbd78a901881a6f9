//! The journal's bytes: file header, group header, entries. Little-endian, read in place.
//!
//! ```text
//! file  = header block (4 KiB), groups, each at a multiple of 4 KiB
//! group = GroupHeader (80) | payload: stamped batches | pad to 8 | EntryHeader (64) for each entry |
//!         zeros up to 4 KiB
//! ```
//! One CRC covers a group's header and its entries. The payload has none of its own: an entry
//! repeats every field of its batch that lies outside the batch's CRC, so that both together cover
//! every byte without a second pass.

use std::ops::Range;

use zerocopy::little_endian::{I32, I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::base::crc::{crc32c, crc32c_append};
use crate::base::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicPartition};
use crate::base::limits::{BATCH_PLACE, BLOCK_ALIGN, LARGE_BATCH_BYTES};

/// Version of the journal's format.
pub(in crate::storage) const JOURNAL_VERSION: u16 = 4;

const FILE_MAGIC: [u8; 4] = *b"TWJF";
const GROUP_MAGIC: [u8; 4] = *b"TWJG";

/// Bytes of a group's header: as many as of a segment block's, so that a large batch lies in a group
/// as it will lie in a block, and most of it can be written there as it is.
pub(in crate::storage) const GROUP_HEADER_BYTES: usize = BATCH_PLACE;
/// Bytes of a large batch before its first whole page.
pub(in crate::storage) const LARGE_BATCH_FRONT_BYTES: usize = BLOCK_ALIGN - BATCH_PLACE;
/// Bytes of one entry.
pub(in crate::storage) const ENTRY_BYTES: usize = 64;
/// Where a file's first group lies.
pub(in crate::storage) const FIRST_GROUP_POS: u64 = BLOCK_ALIGN as u64;

/// Flag of a file whose every block was written before: overwriting it needs no allocation.
pub(in crate::storage) const FILE_PREWRITTEN: u16 = 1;

/// First bytes of a journal file. The rest of the block is zeros.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(in crate::storage) struct FileHeader {
    magic: [u8; 4],
    version: U16,
    flags: U16,
    directory_id: [u8; 16],
    file_seq: U64,
    first_group: U64,
    file_bytes: U64,
    crc: U32,
}

/// What a journal file's header block says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) enum HeaderFound {
    /// A header of ours.
    Valid {
        /// Rises with every use of any slot.
        file_seq: u64,
        /// Sequence of the first group in it.
        first_group: u64,
        /// Length of the file when this header was written: it never gets shorter while it is used.
        file_bytes: u64,
        /// [`FILE_PREWRITTEN`].
        flags: u16,
    },
    /// A header of another directory.
    Foreign,
    /// A header of a version that is not known.
    UnknownVersion(u16),
    /// None (never used, torn, or damaged).
    Invalid,
}

impl FileHeader {
    pub(in crate::storage) const BYTES: usize = size_of::<FileHeader>();

    pub(in crate::storage) fn new(
        directory_id: [u8; 16],
        (file_seq, first_group): (u64, u64),
        file_bytes: u64,
        flags: u16,
    ) -> FileHeader {
        let mut header = FileHeader {
            magic: FILE_MAGIC,
            version: JOURNAL_VERSION.into(),
            flags: flags.into(),
            directory_id,
            file_seq: file_seq.into(),
            first_group: first_group.into(),
            file_bytes: file_bytes.into(),
            crc: 0.into(),
        };
        header.crc = header.checksum().into();
        header
    }

    fn checksum(&self) -> u32 {
        crc32c(&self.as_bytes()[..Self::BYTES - 4])
    }

    /// Judges the first block of a file.
    pub(in crate::storage) fn find(block: &[u8], directory_id: [u8; 16]) -> HeaderFound {
        let Ok((header, _)) = FileHeader::ref_from_prefix(block) else {
            return HeaderFound::Invalid;
        };
        if header.magic != FILE_MAGIC || header.crc.get() != header.checksum() {
            return HeaderFound::Invalid;
        }
        if header.version.get() != JOURNAL_VERSION {
            return HeaderFound::UnknownVersion(header.version.get());
        }
        if header.directory_id != directory_id {
            return HeaderFound::Foreign;
        }
        HeaderFound::Valid {
            file_seq: header.file_seq.get(),
            first_group: header.first_group.get(),
            file_bytes: header.file_bytes.get(),
            flags: header.flags.get(),
        }
    }
}

/// First bytes of a group.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(in crate::storage) struct GroupHeader {
    magic: [u8; 4],
    crc: U32,
    file_seq: U64,
    group: U64,
    durable_through: U64,
    payload_bytes: U32,
    entry_count: U32,
    reserved: [u8; 40],
}

const _: () = assert!(size_of::<GroupHeader>() == GROUP_HEADER_BYTES);

impl GroupHeader {
    /// A header whose CRC covers it and `entries`.
    pub(in crate::storage) fn sealed(
        file_seq: u64,
        group: u64,
        durable_through: u64,
        payload_bytes: u32,
        entries: &[EntryHeader],
    ) -> GroupHeader {
        let mut header = GroupHeader {
            magic: GROUP_MAGIC,
            crc: 0.into(),
            file_seq: file_seq.into(),
            group: group.into(),
            durable_through: durable_through.into(),
            payload_bytes: payload_bytes.into(),
            entry_count: u32::try_from(entries.len()).expect("bounded by the group's bytes").into(),
            reserved: [0; 40],
        };
        header.crc = header.checksum(entries.as_bytes()).into();
        header
    }

    fn checksum(&self, entries: &[u8]) -> u32 {
        crc32c_append(self.crc_before_entries(), entries)
    }

    /// The header at the front of `bytes` if its magic is right; nothing else is checked.
    pub(in crate::storage) fn peek(bytes: &[u8]) -> Option<&GroupHeader> {
        let (header, _) = GroupHeader::ref_from_prefix(bytes).ok()?;
        (header.magic == GROUP_MAGIC).then_some(header)
    }

    pub(in crate::storage) fn file_seq(&self) -> u64 {
        self.file_seq.get()
    }

    pub(in crate::storage) fn group(&self) -> u64 {
        self.group.get()
    }

    pub(in crate::storage) fn durable_through(&self) -> u64 {
        self.durable_through.get()
    }

    pub(in crate::storage) fn payload_bytes(&self) -> u32 {
        self.payload_bytes.get()
    }

    pub(in crate::storage) fn entry_count(&self) -> u32 {
        self.entry_count.get()
    }

    pub(in crate::storage) fn crc(&self) -> u32 {
        self.crc.get()
    }

    /// What the CRC is before the entries, for who reads them piece by piece.
    pub(in crate::storage) fn crc_before_entries(&self) -> u32 {
        crc32c(&self.as_bytes()[8..])
    }

    /// The header at the front of `bytes` whatever its magic, and whether that is right: for who
    /// wants to know whether a header lies there that was damaged.
    pub(in crate::storage) fn suspect(bytes: &[u8]) -> Option<(&GroupHeader, bool)> {
        let (header, _) = GroupHeader::ref_from_prefix(bytes).ok()?;
        Some((header, header.magic == GROUP_MAGIC))
    }

    /// Bytes of the whole group on disk, a multiple of the block size.
    pub(in crate::storage) fn total_bytes(&self) -> u64 {
        let payload = u64::from(self.payload_bytes.get());
        let entries = u64::from(self.entry_count.get());
        total_bytes(payload, entries)
    }

    /// The entries, if `bytes` holds the whole group and its CRC is right.
    pub(in crate::storage) fn entries<'a>(&self, bytes: &'a [u8]) -> Option<&'a [EntryHeader]> {
        let begin = entries_begin(self.payload_bytes.get() as usize);
        let len = (self.entry_count.get() as usize).checked_mul(ENTRY_BYTES)?;
        let table = bytes.get(begin..begin.checked_add(len)?)?;
        if self.checksum(table) != self.crc.get() {
            return None;
        }
        <[EntryHeader]>::ref_from_bytes(table).ok()
    }
}

/// Where the entries lie in a group with that much payload.
pub(in crate::storage) fn entries_begin(payload_bytes: usize) -> usize {
    (GROUP_HEADER_BYTES + payload_bytes).next_multiple_of(8)
}

/// Where a batch lies in a group that has `payload_bytes` before it.
pub(in crate::storage) fn batch_begin(payload_bytes: usize, batch_bytes: usize) -> usize {
    let next = GROUP_HEADER_BYTES + payload_bytes;
    if batch_bytes < LARGE_BATCH_BYTES {
        return next;
    }
    (next - BATCH_PLACE).next_multiple_of(BLOCK_ALIGN) + BATCH_PLACE
}

/// The whole pages of a large batch, if it lies in memory as it will lie on disk.
pub(in crate::storage) fn whole_pages(batch: &[u8]) -> Option<Range<usize>> {
    let begin = batch.as_ptr().addr().wrapping_add(LARGE_BATCH_FRONT_BYTES);
    let is_large = batch.len() >= LARGE_BATCH_BYTES;
    (is_large && begin.is_multiple_of(BLOCK_ALIGN)).then(|| page_range(batch.len()))
}

/// The whole pages of a large batch where it lies as on disk.
pub(in crate::storage) fn page_range(batch_bytes: usize) -> Range<usize> {
    let whole = (batch_bytes - LARGE_BATCH_FRONT_BYTES) / BLOCK_ALIGN * BLOCK_ALIGN;
    LARGE_BATCH_FRONT_BYTES..LARGE_BATCH_FRONT_BYTES + whole
}

fn total_bytes(payload_bytes: u64, entry_count: u64) -> u64 {
    let payload_end = (GROUP_HEADER_BYTES as u64 + payload_bytes).next_multiple_of(8);
    (payload_end + entry_count * ENTRY_BYTES as u64).next_multiple_of(BLOCK_ALIGN as u64)
}

/// Bytes on disk of a group with that much payload and that many entries.
pub(in crate::storage) fn group_bytes(payload_bytes: usize, entry_count: usize) -> usize {
    (entries_begin(payload_bytes) + entry_count * ENTRY_BYTES).next_multiple_of(BLOCK_ALIGN)
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) enum EntryKind {
    /// A batch in this group's payload.
    Append,
    /// The log was cut: it ends at `first`.
    Truncate,
    /// Records before `first` are gone.
    LogStart,
    /// The leader epoch begins at `first`.
    EpochStart,
    /// The partition was deleted.
    Drop,
    /// A batch that was written straight into its segment: the large lane.
    SegmentExtent,
}

impl EntryKind {
    fn code(self) -> u8 {
        match self {
            EntryKind::Append => 1,
            EntryKind::Truncate => 2,
            EntryKind::LogStart => 3,
            EntryKind::EpochStart => 4,
            EntryKind::Drop => 5,
            EntryKind::SegmentExtent => 6,
        }
    }
}

/// Where a block lies: in which segment of its log, and at which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) struct SegmentPlace {
    pub(in crate::storage) segment: Offset,
    pub(in crate::storage) pos: u64,
}

/// One entry of a group.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(in crate::storage) struct EntryHeader {
    kind: u8,
    reserved: [u8; 3],
    leader_epoch: I32,
    topic_id: [u8; 16],
    partition: I32,
    start: U32,
    len: U32,
    batch_crc: U32,
    first: I64,
    last: I64,
    place: U64,
}

const _: () = assert!(size_of::<EntryHeader>() == ENTRY_BYTES);

impl EntryHeader {
    /// An entry for the batch at `start..start + len` of the group.
    pub(in crate::storage) fn append(
        topic_partition: TopicPartition,
        leader_epoch: LeaderEpoch,
        (start, len): (u32, u32),
        batch_crc: u32,
        (first, last): (Offset, Offset),
    ) -> EntryHeader {
        EntryHeader {
            start: start.into(),
            len: len.into(),
            batch_crc: batch_crc.into(),
            last: last.0.into(),
            ..EntryHeader::control(EntryKind::Append, topic_partition, leader_epoch, first)
        }
    }

    /// This entry, when `bytes` of the payload before it are not written with the group.
    pub(in crate::storage) fn shifted(self, bytes: usize) -> EntryHeader {
        let start = self.start.get() - u32::try_from(bytes).expect("less than the group");
        EntryHeader { start: start.into(), ..self }
    }

    /// This entry of a batch, when it is written to `place` and not with the group.
    pub(in crate::storage) fn placed(self, place: SegmentPlace) -> EntryHeader {
        let block = u32::try_from(place.pos / BLOCK_ALIGN as u64).expect("below 16 TiB");
        let segment = place.segment.0.cast_unsigned();
        let kind = EntryKind::SegmentExtent.code();
        EntryHeader { kind, start: block.into(), place: segment.into(), ..self }
    }

    /// Where a batch lies that is not in the group.
    pub(in crate::storage) fn segment_place(&self) -> SegmentPlace {
        SegmentPlace {
            segment: Offset(self.place.get().cast_signed()),
            pos: u64::from(self.start.get()) * BLOCK_ALIGN as u64,
        }
    }

    /// Bytes of the batch.
    pub(in crate::storage) fn batch_bytes(&self) -> usize {
        self.len.get() as usize
    }

    /// An entry without payload.
    pub(in crate::storage) fn control(
        kind: EntryKind,
        topic_partition: TopicPartition,
        leader_epoch: LeaderEpoch,
        first: Offset,
    ) -> EntryHeader {
        EntryHeader {
            kind: kind.code(),
            reserved: [0; 3],
            leader_epoch: leader_epoch.0.into(),
            topic_id: topic_partition.topic_id.0,
            partition: topic_partition.partition.0.into(),
            start: 0.into(),
            len: 0.into(),
            batch_crc: 0.into(),
            first: first.0.into(),
            last: (-1).into(),
            place: 0.into(),
        }
    }

    /// The kind; `None` for a number that this version does not know.
    pub(in crate::storage) fn kind(&self) -> Option<EntryKind> {
        match self.kind {
            1 => Some(EntryKind::Append),
            2 => Some(EntryKind::Truncate),
            3 => Some(EntryKind::LogStart),
            4 => Some(EntryKind::EpochStart),
            5 => Some(EntryKind::Drop),
            6 => Some(EntryKind::SegmentExtent),
            _ => None,
        }
    }

    pub(in crate::storage) fn topic_partition(&self) -> TopicPartition {
        TopicPartition {
            topic_id: TopicId(self.topic_id),
            partition: PartitionIndex(self.partition.get()),
        }
    }

    pub(in crate::storage) fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.leader_epoch.get())
    }

    /// Where the batch lies in its group.
    pub(in crate::storage) fn range(&self) -> Range<usize> {
        let start = self.start.get() as usize;
        start..start.saturating_add(self.len.get() as usize)
    }

    pub(in crate::storage) fn batch_crc(&self) -> u32 {
        self.batch_crc.get()
    }

    pub(in crate::storage) fn first(&self) -> Offset {
        Offset(self.first.get())
    }

    pub(in crate::storage) fn last(&self) -> Offset {
        Offset(self.last.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_another_directory_or_version_is_told_from_a_damaged_one() {
        let header = FileHeader::new([7; 16], (3, 40), 1 << 20, FILE_PREWRITTEN);
        let mut block = vec![0; BLOCK_ALIGN];
        block[..FileHeader::BYTES].copy_from_slice(header.as_bytes());
        let (file_bytes, flags) = (1 << 20, FILE_PREWRITTEN);
        let valid = HeaderFound::Valid { file_seq: 3, first_group: 40, file_bytes, flags };
        assert_eq!(FileHeader::find(&block, [7; 16]), valid);
        assert_eq!(FileHeader::find(&block, [8; 16]), HeaderFound::Foreign);
        for byte in 0..FileHeader::BYTES {
            let mut bad = block.clone();
            bad[byte] ^= 0x10;
            assert_eq!(FileHeader::find(&bad, [7; 16]), HeaderFound::Invalid, "byte {byte}");
        }
        let mut newer = header;
        newer.version = 9.into();
        newer.crc = newer.checksum().into();
        assert_eq!(FileHeader::find(newer.as_bytes(), [7; 16]), HeaderFound::UnknownVersion(9));
        assert_eq!(FileHeader::find(&block[..20], [7; 16]), HeaderFound::Invalid);
    }

    #[test]
    fn any_changed_bit_of_header_or_entries_is_noticed() {
        let tp = TopicPartition { topic_id: TopicId([9; 16]), partition: PartitionIndex(4) };
        let entries = [
            EntryHeader::append(tp, LeaderEpoch(2), (64, 100), 77, (Offset(5), Offset(9))),
            EntryHeader::control(EntryKind::Truncate, tp, LeaderEpoch(2), Offset(5)),
        ];
        let header = GroupHeader::sealed(1, 2, 1, 100, &entries);
        let mut group = vec![0; group_bytes(100, 2)];
        group[..GROUP_HEADER_BYTES].copy_from_slice(header.as_bytes());
        let begin = entries_begin(100);
        group[begin..begin + 2 * ENTRY_BYTES].copy_from_slice(entries.as_bytes());
        assert_eq!(header.total_bytes(), group.len() as u64);
        assert!(GroupHeader::peek(&group).expect("magic").entries(&group).is_some());
        let covered = (0..GROUP_HEADER_BYTES).chain(begin..begin + 2 * ENTRY_BYTES);
        for byte in covered {
            let mut bad = group.clone();
            bad[byte] ^= 1;
            let entries = GroupHeader::peek(&bad).and_then(|header| header.entries(&bad));
            assert!(entries.is_none(), "byte {byte}");
        }
    }
}
