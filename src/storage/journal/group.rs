//! A commit group while it is filled, until it is written as one piece.

use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;
use zerocopy::IntoBytes;

use crate::base::ids::{Offset, TopicPartition};
use crate::io::buf::IoBuf;
use crate::record::{RecordBatch, Stamp};

use super::file_set::Placed;
use super::format::{
    ENTRY_BYTES, EntryHeader, EntryKind, GROUP_HEADER_BYTES, GroupHeader, LARGE_BATCH_FRONT_BYTES,
    SegmentPlace, batch_begin, entries_begin, group_bytes, page_range, whole_pages,
};
use super::group_bytes::{GroupBytes, LentPages};
use super::shared_group::{Group, GroupPlace};

/// Batches of one group that lend their pages: bounds the pieces of its write.
const LENDERS_MAX: usize = 100;

/// A log that has batches in a group.
#[derive(Clone, Copy, Debug)]
pub(in crate::storage) struct Member {
    pub(in crate::storage) slot: u32,
    pub(in crate::storage) topic_partition: TopicPartition,
    /// End of the log after its last entry in the group.
    pub(in crate::storage) end: Offset,
    /// The log's count of truncations then: a later one bounds `end`.
    pub(in crate::storage) truncations: u64,
    /// Bytes of the log's large batches in the group.
    pub(in crate::storage) large_bytes: usize,
}

/// A group that is being filled, or waits to be written.
pub(in crate::storage) struct OpenGroup {
    shared: Rc<Group>,
    buf: IoBuf,
    bytes_max: usize,
    /// What batches lend to it: in the group, but not in `buf`.
    lent: Vec<LentPages>,
    lent_bytes: usize,
    payload_bytes: usize,
    entries: Vec<EntryHeader>,
    members: Vec<Member>,
    durable: bool,
    sync_due_ms: i64,
}

impl OpenGroup {
    /// A group that is full with its buffer, or at `bytes_max`, lent pages included.
    pub(in crate::storage) fn new(seq: u64, buf: IoBuf, bytes_max: usize) -> OpenGroup {
        OpenGroup {
            shared: Group::new(seq),
            buf,
            bytes_max,
            lent: Vec::new(),
            lent_bytes: 0,
            payload_bytes: 0,
            entries: Vec::new(),
            members: Vec::new(),
            durable: false,
            sync_due_ms: i64::MAX,
        }
    }

    /// Whether one more entry fits that has `batch_bytes` of payload and lends `lent_bytes` of them.
    pub(in crate::storage) fn fits(&self, batch_bytes: usize, lent_bytes: usize) -> bool {
        let begin = batch_begin(self.payload_bytes, batch_bytes);
        let payload_bytes = begin + batch_bytes - GROUP_HEADER_BYTES;
        let total = group_bytes(payload_bytes, self.entries.len() + 1);
        let is_first = self.entries.is_empty();
        total - self.lent_bytes - lent_bytes <= self.buf.len()
            && (is_first || lent_bytes == 0 || total <= self.bytes_max)
            && (lent_bytes == 0 || self.lent.len() < LENDERS_MAX)
    }

    pub(in crate::storage) fn shared(&self) -> &Rc<Group> {
        &self.shared
    }

    /// Memory that it holds: its buffer, and what is lent to it.
    pub(in crate::storage) fn held_bytes(&self) -> usize {
        self.buf.len() + self.lent_bytes
    }

    /// Nothing more comes into it: what is left of its buffer.
    pub(in crate::storage) fn take_rest(&mut self) -> IoBuf {
        self.buf.split_off(self.own_bytes())
    }

    pub(in crate::storage) fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of its buffer that it needs as it stands.
    pub(in crate::storage) fn own_bytes(&self) -> usize {
        self.total_bytes() - self.lent_bytes
    }

    /// Bytes that the group takes on disk as it stands.
    pub(in crate::storage) fn total_bytes(&self) -> usize {
        group_bytes(self.payload_bytes, self.entries.len())
    }

    /// The logs that have entries in it.
    pub(in crate::storage) fn members(&self) -> &[Member] {
        &self.members
    }

    pub(in crate::storage) fn sync_due_ms(&self) -> i64 {
        self.sync_due_ms
    }

    pub(in crate::storage) fn make_durable(&mut self) {
        self.durable = true;
    }

    pub(in crate::storage) fn sync_by(&mut self, due_ms: i64) {
        self.sync_due_ms = self.sync_due_ms.min(due_ms);
    }

    /// The one copy of a batch before its acknowledgement; of one that lends its whole pages, only
    /// what lies around them. Returns where it begins.
    pub(in crate::storage) fn push_batch(
        &mut self,
        topic_partition: TopicPartition,
        batch: &RecordBatch,
        stamp: &Stamp,
        last: Offset,
    ) -> u32 {
        let lent = lent_pages(batch);
        let lent_bytes = lent.as_ref().map_or(0, Bytes::len);
        assert!(self.fits(batch.len_bytes(), lent_bytes), "the journal opens a group that fits");
        let start = batch_begin(self.payload_bytes, batch.len_bytes());
        // Places in the buffer, which has no room for what is lent.
        let gap = GROUP_HEADER_BYTES + self.payload_bytes - self.lent_bytes;
        let begin = start - self.lent_bytes;
        self.buf[gap..begin].fill(0);
        let header = batch.stamped(stamp);
        let own = &mut self.buf[begin..begin + batch.len_bytes() - lent_bytes];
        if let Some(pages) = lent {
            let (front, rest) = own.split_at_mut(LARGE_BATCH_FRONT_BYTES);
            batch.copy_front(front, &header);
            rest.copy_from_slice(&batch.bytes()[front.len() + lent_bytes..]);
            self.lent.push(LentPages { at: start + front.len(), pages });
            self.lent_bytes += lent_bytes;
        } else {
            batch.copy_front(own, &header);
        }
        self.payload_bytes = start + batch.len_bytes() - GROUP_HEADER_BYTES;
        let start = u32::try_from(start).expect("a group is smaller than 4 GiB");
        let len = u32::try_from(batch.len_bytes()).expect("a batch is smaller than 2 GiB");
        self.entries.push(EntryHeader::append(
            topic_partition,
            stamp.leader_epoch,
            (start, len),
            header.crc(),
            (stamp.base_offset, last),
        ));
        start
    }

    pub(in crate::storage) fn push_control(&mut self, entry: EntryHeader) {
        assert!(self.fits(0, 0), "the journal opens a group that fits");
        self.entries.push(entry);
        self.durable = true;
    }

    /// Notes where a log ends; `known` is its index among the members if it has one here already.
    pub(in crate::storage) fn note_member(
        &mut self,
        known: Option<usize>,
        member: Member,
    ) -> usize {
        if let Some(index) = known {
            let entry = &mut self.members[index];
            debug_assert_eq!(entry.slot, member.slot);
            let large_bytes = entry.large_bytes + member.large_bytes;
            *entry = Member { large_bytes, ..member };
            return index;
        }
        self.members.push(member);
        self.members.len() - 1
    }

    /// Writes header, entries and padding; the bytes are then readable and ready to be written.
    /// The whole pages of the batches in `elsewhere` (entry and place, in order) are not written with
    /// the group.
    pub(in crate::storage) fn seal(
        mut self,
        placed: Placed,
        bytes_before: u64,
        durable_through: u64,
        elsewhere: &[(u32, SegmentPlace)],
    ) -> SealedGroup {
        let total = self.total_bytes();
        let without = self.place_entries(elsewhere);
        let gone: usize = without.iter().map(Range::len).sum();
        let payload_bytes = u32::try_from(self.payload_bytes - gone).expect("below 4 GiB");
        let header = GroupHeader::sealed(
            placed.file_seq,
            self.shared.seq(),
            durable_through,
            payload_bytes,
            &self.entries,
        );
        self.buf[..GROUP_HEADER_BYTES].copy_from_slice(header.as_bytes());
        let payload_end = GROUP_HEADER_BYTES + self.payload_bytes - self.lent_bytes;
        let begin = entries_begin(self.payload_bytes) - self.lent_bytes;
        let end = begin + self.entries.len() * ENTRY_BYTES;
        let own_bytes = total - self.lent_bytes;
        // The buffer may hold an earlier group's bytes.
        self.buf[payload_end..begin].fill(0);
        self.buf[begin..end].copy_from_slice(self.entries.as_bytes());
        self.buf[end..own_bytes].fill(0);
        let held_bytes = self.held_bytes();
        let bytes = GroupBytes::new(self.buf.freeze(own_bytes), self.lent);
        let slots = self.members.iter().map(|member| member.slot).collect();
        let slices = bytes.slices(&without);
        let Placed { file_seq, pos, .. } = placed;
        self.shared.seal(bytes, held_bytes, GroupPlace { file_seq, pos, bytes_before }, slots);
        SealedGroup {
            shared: self.shared,
            slices,
            bytes: (total - gone) as u64,
            placed,
            members: self.members,
            durable: self.durable,
            sync_due_ms: self.sync_due_ms,
            held_bytes,
        }
    }

    /// Lets the entries say where the batches lie on disk. Returns what lies elsewhere than in the
    /// group.
    fn place_entries(&mut self, placed: &[(u32, SegmentPlace)]) -> Vec<Range<usize>> {
        let (mut without, mut gone) = (Vec::with_capacity(placed.len()), 0);
        let mut placed = placed.iter().peekable();
        for (entry, number) in self.entries.iter_mut().zip(0_u32..) {
            if let Some((_, place)) = placed.next_if(|(other, _)| *other == number) {
                let Range { start, end } = page_range(entry.batch_bytes());
                let begin = entry.range().start;
                without.push(begin + start..begin + end);
                gone += end - start;
                *entry = entry.placed(*place);
            } else if gone > 0 && entry.kind() == Some(EntryKind::Append) {
                *entry = entry.shifted(gone);
            }
        }
        without
    }
}

/// A group on its way to the device.
pub(in crate::storage) struct SealedGroup {
    pub(in crate::storage) shared: Rc<Group>,
    /// What is written, `bytes` long.
    pub(in crate::storage) slices: Vec<Bytes>,
    pub(in crate::storage) bytes: u64,
    pub(super) placed: Placed,
    pub(in crate::storage) members: Vec<Member>,
    /// Synced before it is acknowledged.
    pub(in crate::storage) durable: bool,
    pub(super) sync_due_ms: i64,
    pub(super) held_bytes: usize,
}

/// The whole pages of a batch that need not be copied: they lie in memory as they will lie on disk,
/// and little else is kept alive with them.
pub(super) fn lent_pages(batch: &RecordBatch) -> Option<Bytes> {
    let pages = whole_pages(batch.bytes()).filter(|_| batch.fills_memory())?;
    Some(batch.bytes().slice(pages))
}
