//! A commit group as its logs see it, from the moment its first batch is staged until the read cache
//! drops it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;

use super::group_bytes::GroupBytes;

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
    bytes: RefCell<Option<GroupBytes>>,
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
        *group.bytes.borrow_mut() = Some(GroupBytes::new(bytes, Vec::new()));
        group
    }

    /// The group is complete and will be written at `place`; `slots` have batches in it.
    pub(super) fn seal(
        &self,
        bytes: GroupBytes,
        charged_bytes: usize,
        place: GroupPlace,
        slots: Vec<u32>,
    ) {
        self.charged_bytes.set(charged_bytes);
        *self.bytes.borrow_mut() = Some(bytes);
        self.place.set(Some(place));
        *self.slots.borrow_mut() = slots;
    }

    pub(in crate::storage) fn seq(&self) -> u64 {
        self.seq
    }

    /// Memory that the bytes hold, including what is unused of their buffer.
    pub(in crate::storage) fn charged_bytes(&self) -> usize {
        self.charged_bytes.get()
    }

    /// Adds the slices that make up `start..end` of the group. Returns `false`, and adds nothing,
    /// while it is filled and after it was evicted.
    pub(in crate::storage) fn add_range(&self, start: u32, end: u32, to: &mut Vec<Bytes>) -> bool {
        let bytes = self.bytes.borrow();
        let Some(bytes) = bytes.as_ref() else { return false };
        bytes.add_range(start as usize, end as usize, to);
        true
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
