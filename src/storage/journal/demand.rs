//! What a log asks of the journal, and what it is told.

use std::rc::Rc;

use crate::base::ids::{Offset, TopicPartition};

use super::super::segment::{OpenSegment, SegmentKey};
use super::{Group, Member};

/// Where a log's batches lie in the group that is being filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) struct Membership {
    pub(super) group: u64,
    pub(super) index: usize,
}

/// One log's demand on the journal.
#[derive(Clone, Copy)]
pub(in crate::storage) struct StageFor {
    pub(in crate::storage) slot: u32,
    pub(in crate::storage) topic_partition: TopicPartition,
    pub(in crate::storage) membership: Option<Membership>,
    /// Synced before it is acknowledged.
    pub(in crate::storage) durable: bool,
    /// If not durable: synced within this time, `i64::MAX` for never.
    pub(in crate::storage) flush_ms: i64,
    /// How often the log was truncated.
    pub(in crate::storage) truncations: u64,
}

impl StageFor {
    pub(super) fn member(&self, end: Offset, large_bytes: usize) -> Member {
        Member {
            large_bytes,
            slot: self.slot,
            topic_partition: self.topic_partition,
            end,
            truncations: self.truncations,
        }
    }
}

/// Where a batch was staged.
pub(in crate::storage) struct Staged {
    pub(in crate::storage) group: Rc<Group>,
    pub(in crate::storage) start: u32,
    pub(in crate::storage) entry: u32,
    pub(in crate::storage) membership: Membership,
}

/// A committed group, or a sync alone.
pub(in crate::storage) struct Commit {
    pub(in crate::storage) members: Vec<Member>,
    /// Kept so that a group all of whose runs were settled early still reaches the cache.
    pub(in crate::storage) group: Option<Rc<Group>>,
    /// Whether everything written so far is durable.
    pub(in crate::storage) durable: bool,
}

/// What was written straight into segments, together with a group.
#[derive(Default)]
pub(in crate::storage) struct WrittenExtents {
    pub(in crate::storage) bytes: u64,
    /// Segments that are not synced; none if the group is durable.
    pub(in crate::storage) dirty: Vec<(SegmentKey, Rc<OpenSegment>)>,
}
