//! A commit group: filled in memory, written as one piece, kept for readers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use zerocopy::IntoBytes;

use crate::base::ids::{Offset, TopicPartition};
use crate::io::buf::IoBuf;
use crate::record::{RecordBatch, Stamp};

use super::format::{
    ENTRY_BYTES, EntryHeader, GROUP_HEADER_BYTES, GroupHeader, batch_begin, entries_begin,
    group_bytes,
};

/// Where a group lies in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) struct GroupPlace {
    pub(in crate::storage) file_seq: u64,
    pub(in crate::storage) pos: u64,
    /// Journal bytes written before it since the store was opened.
    pub(in crate::storage) bytes_before: u64,
}

/// A group as its logs see it. The bytes are there from the moment it is sealed until the read
/// cache drops them.
pub(in crate::storage) struct Group {
    seq: u64,
    charged_bytes: Cell<usize>,
    bytes: RefCell<Option<Bytes>>,
    place: Cell<Option<GroupPlace>>,
    /// Runs of this group that are not in segments yet.
    runs_pending: Cell<usize>,
    cached: Cell<bool>,
    slots: RefCell<Vec<u32>>,
}

impl Group {
    pub(in crate::storage) fn new(seq: u64) -> Rc<Group> {
        Rc::new(Group {
            seq,
            charged_bytes: Cell::new(0),
            bytes: RefCell::new(None),
            place: Cell::new(None),
            runs_pending: Cell::new(0),
            cached: Cell::new(false),
            slots: RefCell::new(Vec::new()),
        })
    }

    /// A group read back from a journal; `bytes` begin with its header.
    pub(in crate::storage) fn replayed(seq: u64, bytes: Bytes) -> Rc<Group> {
        let group = Group::new(seq);
        *group.bytes.borrow_mut() = Some(bytes);
        group
    }

    pub(in crate::storage) fn seq(&self) -> u64 {
        self.seq
    }

    /// Memory that the bytes hold, including what is unused of their buffer.
    pub(in crate::storage) fn charged_bytes(&self) -> usize {
        self.charged_bytes.get()
    }

    /// A slice of the group; `None` while it is filled or after it was evicted.
    pub(in crate::storage) fn slice(&self, start: u32, end: u32) -> Option<Bytes> {
        self.bytes.borrow().as_ref().map(|bytes| bytes.slice(start as usize..end as usize))
    }

    pub(in crate::storage) fn is_in_memory(&self) -> bool {
        self.bytes.borrow().is_some()
    }

    /// Where it lies; `None` before the write was issued.
    pub(in crate::storage) fn place(&self) -> Option<GroupPlace> {
        self.place.get()
    }

    /// Drops the bytes; whoever holds slices keeps them.
    pub(in crate::storage) fn evict(&self) {
        *self.bytes.borrow_mut() = None;
    }

    /// Slots of the logs that had batches in it.
    pub(in crate::storage) fn take_slots(&self) -> Vec<u32> {
        self.slots.take()
    }

    pub(in crate::storage) fn run_added(&self) {
        self.runs_pending.set(self.runs_pending.get() + 1);
    }

    /// One run is in a segment, or was truncated. Returns whether it was the last.
    pub(in crate::storage) fn run_settled(&self) -> bool {
        let left = self.runs_pending.get().checked_sub(1).expect("a run settles once");
        self.runs_pending.set(left);
        left == 0
    }

    /// Whether the read cache may take it: written, in segments, and not there before. Says yes
    /// once.
    pub(in crate::storage) fn may_be_cached(&self) -> bool {
        self.is_settled() && self.is_in_memory() && !self.cached.replace(true)
    }

    pub(in crate::storage) fn is_settled(&self) -> bool {
        self.runs_pending.get() == 0
    }
}

/// A log that has batches in a group.
#[derive(Clone, Copy, Debug)]
pub(in crate::storage) struct Member {
    pub(in crate::storage) slot: u32,
    pub(in crate::storage) topic_partition: TopicPartition,
    /// End of the log after its last entry in the group.
    pub(in crate::storage) end: Offset,
    /// The log's count of truncations then: a later one bounds `end`.
    pub(in crate::storage) truncations: u64,
}

/// A group that is being filled, or waits to be written.
pub(in crate::storage) struct OpenGroup {
    shared: Rc<Group>,
    buf: IoBuf,
    payload_bytes: usize,
    entries: Vec<EntryHeader>,
    members: Vec<Member>,
    durable: bool,
    sync_due_ms: i64,
}

impl OpenGroup {
    pub(in crate::storage) fn new(seq: u64, capacity: usize) -> OpenGroup {
        let buf = IoBuf::alloc(capacity);
        let shared = Group::new(seq);
        shared.charged_bytes.set(buf.len());
        OpenGroup {
            shared,
            buf,
            payload_bytes: 0,
            entries: Vec::new(),
            members: Vec::new(),
            durable: false,
            sync_due_ms: i64::MAX,
        }
    }

    /// Whether one more entry with `batch_bytes` of payload fits.
    pub(in crate::storage) fn fits(&self, batch_bytes: usize) -> bool {
        let begin = batch_begin(self.payload_bytes, batch_bytes);
        let payload_bytes = begin + batch_bytes - GROUP_HEADER_BYTES;
        group_bytes(payload_bytes, self.entries.len() + 1) <= self.buf.len()
    }

    pub(in crate::storage) fn shared(&self) -> &Rc<Group> {
        &self.shared
    }

    pub(in crate::storage) fn capacity(&self) -> usize {
        self.buf.len()
    }

    pub(in crate::storage) fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// Bytes that the group takes on disk as it stands.
    pub(in crate::storage) fn total_bytes(&self) -> usize {
        group_bytes(self.payload_bytes, self.entries.len())
    }

    pub(in crate::storage) fn is_durable(&self) -> bool {
        self.durable
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

    /// The one copy of a batch before its acknowledgement. Returns where it begins.
    pub(in crate::storage) fn push_batch(
        &mut self,
        topic_partition: TopicPartition,
        batch: &RecordBatch,
        stamp: &Stamp,
        last: Offset,
    ) -> u32 {
        assert!(self.fits(batch.len_bytes()), "the journal opens a group that fits");
        let start = batch_begin(self.payload_bytes, batch.len_bytes());
        self.buf[GROUP_HEADER_BYTES + self.payload_bytes..start].fill(0);
        let dst = &mut self.buf[start..start + batch.len_bytes()];
        batch.stamp_into(dst, stamp);
        let crc = u32::from_be_bytes(dst[17..21].try_into().expect("four bytes"));
        let start = u32::try_from(start).expect("a group is smaller than 4 GiB");
        let len = u32::try_from(batch.len_bytes()).expect("a batch is smaller than 2 GiB");
        self.entries.push(EntryHeader::append(
            topic_partition,
            stamp.leader_epoch,
            (start, len),
            crc,
            (stamp.base_offset, last),
        ));
        self.payload_bytes = start as usize + batch.len_bytes() - GROUP_HEADER_BYTES;
        start
    }

    pub(in crate::storage) fn push_control(&mut self, entry: EntryHeader) {
        assert!(self.fits(0), "the journal opens a group that fits");
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
            *entry = member;
            return index;
        }
        self.members.push(member);
        self.members.len() - 1
    }

    /// Writes header, entries and padding; the bytes are then readable and ready to be written.
    pub(in crate::storage) fn seal(
        mut self,
        place: GroupPlace,
        durable_through: u64,
    ) -> SealedGroup {
        let total = self.total_bytes();
        let payload_bytes = u32::try_from(self.payload_bytes).expect("smaller than 4 GiB");
        let header = GroupHeader::sealed(
            place.file_seq,
            self.shared.seq,
            durable_through,
            payload_bytes,
            &self.entries,
        );
        self.buf[..GROUP_HEADER_BYTES].copy_from_slice(header.as_bytes());
        let payload_end = GROUP_HEADER_BYTES + self.payload_bytes;
        let begin = entries_begin(self.payload_bytes);
        let end = begin + self.entries.len() * ENTRY_BYTES;
        // The buffer may hold an earlier group's bytes.
        self.buf[payload_end..begin].fill(0);
        self.buf[begin..end].copy_from_slice(self.entries.as_bytes());
        self.buf[end..total].fill(0);
        let bytes = self.buf.freeze(total);
        *self.shared.bytes.borrow_mut() = Some(bytes.clone());
        *self.shared.slots.borrow_mut() = self.members.iter().map(|member| member.slot).collect();
        self.shared.place.set(Some(place));
        SealedGroup { shared: self.shared, bytes, members: self.members }
    }
}

/// A group on its way to the device.
pub(in crate::storage) struct SealedGroup {
    pub(in crate::storage) shared: Rc<Group>,
    pub(in crate::storage) bytes: Bytes,
    pub(in crate::storage) members: Vec<Member>,
}
