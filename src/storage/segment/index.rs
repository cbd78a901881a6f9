//! A segment's index: one entry a block, for look-ups by offset and by time.

use std::rc::Rc;

use zerocopy::little_endian::{I64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::base::crc::{crc32c, crc32c_append};
use crate::base::ids::Offset;
use crate::base::limits::BLOCK_ALIGN;
#[cfg(feature = "planted-bugs")]
use crate::base::planted::{Bug, is_planted};

use super::block::block_bytes;

/// Bytes of an entry in the index file.
pub(in crate::storage) const INDEX_ENTRY_BYTES: usize = 40;

/// One block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) struct IndexEntry {
    pub(in crate::storage) base_offset: Offset,
    pub(in crate::storage) last_offset: Offset,
    pub(in crate::storage) pos: u64,
    pub(in crate::storage) payload_bytes: u32,
    /// Largest batch timestamp of this block and all before it in the segment.
    pub(in crate::storage) max_timestamp_so_far: i64,
}

impl IndexEntry {
    /// Bytes of the block in the file.
    pub(in crate::storage) fn block_bytes(&self) -> u64 {
        block_bytes(self.payload_bytes as usize) as u64
    }
}

/// The entry in the file. The CRC is seeded with the segment and the entry's number, so that an
/// entry of another place or another use of the name is not taken for this one.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct StoredEntry {
    base_offset: I64,
    last_offset: I64,
    /// Position in units of 4 KiB.
    block: U32,
    payload_bytes: U32,
    max_timestamp_so_far: I64,
    reserved: U32,
    crc: U32,
}

const _: () = assert!(size_of::<StoredEntry>() == INDEX_ENTRY_BYTES);

fn checksum(entry: &StoredEntry, segment: Offset, number: u32) -> u32 {
    let seed = crc32c_append(crc32c(&segment.0.to_le_bytes()), &number.to_le_bytes());
    crc32c_append(seed, &entry.as_bytes()[..INDEX_ENTRY_BYTES - 4])
}

/// The bytes of `entries`, the first of which is number `first` of the segment's index.
pub(in crate::storage) fn encode(segment: Offset, first: u32, entries: &[IndexEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * INDEX_ENTRY_BYTES);
    for (entry, number) in entries.iter().zip(first..) {
        let mut stored = StoredEntry {
            base_offset: entry.base_offset.0.into(),
            last_offset: entry.last_offset.0.into(),
            block: u32::try_from(entry.pos / BLOCK_ALIGN as u64)
                .expect("a segment is below 16 TiB")
                .into(),
            payload_bytes: entry.payload_bytes.into(),
            max_timestamp_so_far: entry.max_timestamp_so_far.into(),
            reserved: 0.into(),
            crc: 0.into(),
        };
        stored.crc = checksum(&stored, segment, number).into();
        out.extend_from_slice(stored.as_bytes());
    }
    out
}

/// What the index file ought to hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::storage) struct IndexMark {
    /// Number of entries.
    pub(in crate::storage) count: u32,
    /// CRC of their bytes: entries of an earlier life of the file check each by itself.
    pub(in crate::storage) crc: u32,
}

impl IndexMark {
    /// The mark that fits these bytes, whatever they are.
    pub(in crate::storage) fn of_bytes(bytes: &[u8]) -> IndexMark {
        let count = u32::try_from(bytes.len() / INDEX_ENTRY_BYTES).unwrap_or(u32::MAX);
        let len = count as usize * INDEX_ENTRY_BYTES;
        IndexMark { count, crc: bodies_crc(0, &bytes[..len]) }
    }

    /// The mark when `entries` are written behind what it covers.
    pub(in crate::storage) fn and(self, segment: Offset, entries: &[IndexEntry]) -> IndexMark {
        let added = u32::try_from(entries.len()).expect("fewer blocks than 2^32");
        let bytes = encode(segment, self.count, entries);
        IndexMark { count: self.count + added, crc: bodies_crc(self.crc, &bytes) }
    }
}

/// Continues `crc` over the entries without their own CRCs: over both it would be the same for any
/// entries that check, since a CRC over a message and its CRC is a constant.
fn bodies_crc(crc: u32, bytes: &[u8]) -> u32 {
    bytes.chunks(INDEX_ENTRY_BYTES).fold(crc, |crc, entry| {
        crc32c_append(crc, &entry[..entry.len().min(INDEX_ENTRY_BYTES - 4)])
    })
}

/// The entries in `bytes`, or `None` unless they are exactly those of the mark, follow each other
/// and end before the segment's `file_bytes`.
pub(in crate::storage) fn decode(
    segment: Offset,
    bytes: &[u8],
    mark: IndexMark,
    file_bytes: u64,
) -> Option<Vec<IndexEntry>> {
    let len = (mark.count as usize).checked_mul(INDEX_ENTRY_BYTES)?;
    let is_marked = bodies_crc(0, bytes.get(..len)?) == mark.crc;
    #[cfg(feature = "planted-bugs")]
    let is_marked = is_marked || is_planted(Bug::IndexNewerThanLog);
    if !is_marked {
        return None;
    }
    decode_from(segment, 0, bytes.get(..len)?, file_bytes)
}

/// The entries in `bytes`, the first of which is number `first` of the segment's index, or `None`
/// unless each checks, follows the one before it and ends before the segment's `file_bytes`.
pub(in crate::storage) fn decode_from(
    segment: Offset,
    first: u32,
    bytes: &[u8],
    file_bytes: u64,
) -> Option<Vec<IndexEntry>> {
    let stored = <[StoredEntry]>::ref_from_bytes(bytes).ok()?;
    let mut entries: Vec<IndexEntry> = Vec::with_capacity(stored.len());
    for (stored, number) in stored.iter().zip(first..) {
        let is_whole = stored.crc.get() == checksum(stored, segment, number);
        #[cfg(feature = "planted-bugs")]
        let is_whole = is_whole || is_planted(Bug::IndexNewerThanLog);
        if !is_whole {
            return None;
        }
        let entry = IndexEntry {
            base_offset: Offset(stored.base_offset.get()),
            last_offset: Offset(stored.last_offset.get()),
            pos: u64::from(stored.block.get()) * BLOCK_ALIGN as u64,
            payload_bytes: stored.payload_bytes.get(),
            max_timestamp_so_far: stored.max_timestamp_so_far.get(),
        };
        let rises = entries.last().is_none_or(|last| last.base_offset < entry.base_offset);
        let fits = rises && entry.pos + entry.block_bytes() <= file_bytes;
        #[cfg(feature = "planted-bugs")]
        let fits = fits || is_planted(Bug::IndexNewerThanLog);
        if !fits {
            return None;
        }
        entries.push(entry);
    }
    Some(entries)
}

/// Appends an entry; what it supersedes (after a truncation) goes.
pub(in crate::storage) fn push(entries: &mut Vec<IndexEntry>, entry: IndexEntry) {
    while entries.last().is_some_and(|last| last.base_offset >= entry.base_offset) {
        entries.pop();
    }
    entries.push(entry);
}

/// A segment's index as one reader sees it: what the file held and what is not in it yet.
#[derive(Clone)]
pub(in crate::storage) struct IndexView {
    stored: Rc<Vec<IndexEntry>>,
    /// How many of `stored` this view was taken with.
    stored_count: usize,
    pending: Rc<Vec<IndexEntry>>,
}

impl IndexView {
    pub(in crate::storage) fn new(
        stored: Rc<Vec<IndexEntry>>,
        stored_count: usize,
        pending: Rc<Vec<IndexEntry>>,
    ) -> IndexView {
        let stored_count = stored_count.min(stored.len());
        IndexView { stored, stored_count, pending }
    }

    pub(in crate::storage) fn len(&self) -> usize {
        self.stored_count + self.pending.len()
    }

    pub(in crate::storage) fn get(&self, index: usize) -> Option<&IndexEntry> {
        if index < self.stored_count {
            self.stored.get(index)
        } else {
            self.pending.get(index - self.stored_count)
        }
    }

    /// Where the block's records end at the latest: the next block's base offset.
    pub(in crate::storage) fn end_of(&self, index: usize) -> Offset {
        self.get(index + 1).map_or(Offset(i64::MAX), |next| next.base_offset)
    }

    /// The first block that may hold a record at or after `offset`. A block that was cut by a
    /// later one may say a larger last offset than it has: the base offsets decide.
    pub(in crate::storage) fn find_offset(&self, offset: Offset) -> usize {
        let begun = self.partition_point(|entry| entry.base_offset <= offset);
        match begun.checked_sub(1) {
            Some(last) if self.get(last).is_some_and(|entry| entry.last_offset >= offset) => last,
            _ => begun,
        }
    }

    /// The first block up to which some batch has a timestamp of at least `target_ms`.
    pub(in crate::storage) fn find_timestamp(&self, target_ms: i64) -> usize {
        self.partition_point(|entry| entry.max_timestamp_so_far < target_ms)
    }

    fn partition_point(&self, before: impl Fn(&IndexEntry) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.get(middle) {
                Some(entry) if before(entry) => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: i64) -> IndexEntry {
        IndexEntry {
            base_offset: Offset(number * 10),
            last_offset: Offset(number * 10 + 9),
            pos: number as u64 * 8192,
            payload_bytes: 5000,
            max_timestamp_so_far: number * 100,
        }
    }

    #[test]
    fn an_index_that_is_cut_changed_or_of_another_segment_is_not_believed() {
        let entries: Vec<IndexEntry> = (0..5).map(entry).collect();
        let bytes = encode(Offset(0), 0, &entries);
        let mark = IndexMark::default().and(Offset(0), &entries[..2]).and(Offset(0), &entries[2..]);
        let file_bytes = 5 * 8192;
        let shorter = IndexMark::default().and(Offset(0), &entries[..4]);
        assert_eq!(decode(Offset(0), &bytes, shorter, file_bytes), Some(entries[..4].to_vec()));
        assert_eq!(decode(Offset(0), &bytes, mark, file_bytes), Some(entries));
        assert_eq!(decode(Offset(7), &bytes, mark, file_bytes), None);
        assert_eq!(decode(Offset(0), &bytes[1..], shorter, file_bytes), None);
        assert_eq!(decode(Offset(0), &bytes, mark, file_bytes - 1), None);
        let earlier_life = IndexMark { crc: mark.crc ^ 1, ..mark };
        assert_eq!(decode(Offset(0), &bytes, earlier_life, file_bytes), None);
        for cut in 0..bytes.len() {
            assert_eq!(decode(Offset(0), &bytes[..cut], mark, file_bytes), None);
            let mut bad = bytes.clone();
            bad[cut] ^= 4;
            assert_eq!(decode(Offset(0), &bad, mark, file_bytes), None, "byte {cut}");
        }
        // An entry in another place is not that place's.
        let mut swapped = bytes.clone();
        swapped.copy_within(INDEX_ENTRY_BYTES..2 * INDEX_ENTRY_BYTES, 0);
        let mark = IndexMark { crc: bodies_crc(0, &swapped), ..mark };
        assert_eq!(decode(Offset(0), &swapped, mark, file_bytes), None);
    }

    #[test]
    fn entries_that_check_one_by_one_but_are_of_an_earlier_life_are_not_believed() {
        let now: Vec<IndexEntry> = (0..5).map(entry).collect();
        let mut earlier = now.clone();
        earlier[2].last_offset = Offset(27);
        let mark = IndexMark::default().and(Offset(0), &now);
        let bytes = encode(Offset(0), 0, &earlier);
        assert_eq!(decode(Offset(0), &bytes, mark, 5 * 8192), None);
    }

    #[test]
    fn look_ups_span_what_is_stored_and_what_is_pending() {
        let stored = Rc::new((0..3).map(entry).collect());
        let view = IndexView::new(stored, 3, Rc::new((3..6).map(entry).collect()));
        assert_eq!(view.find_offset(Offset(0)), 0);
        assert_eq!(view.find_offset(Offset(29)), 2);
        assert_eq!(view.find_offset(Offset(30)), 3);
        assert_eq!(view.find_offset(Offset(60)), 6);
        assert_eq!(view.find_timestamp(401), 5);
        assert_eq!(view.end_of(2), Offset(30));
        assert_eq!(view.end_of(5), Offset(i64::MAX));
    }

    #[test]
    fn a_block_after_a_truncation_supersedes_what_began_behind_it() {
        let mut entries: Vec<IndexEntry> = (0..4).map(entry).collect();
        push(&mut entries, IndexEntry { base_offset: Offset(15), ..entry(9) });
        let bases: Vec<i64> = entries.iter().map(|entry| entry.base_offset.0).collect();
        assert_eq!(bases, [0, 10, 15]);
    }
}
