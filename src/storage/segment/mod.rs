//! Segments: where a log's batches lie for good, in aligned blocks, written behind the journal.
//!
//! Not here: what is acknowledged (the journal's business). Nothing in a segment is trusted beyond
//! what the last checkpoint says of it; what lies behind is written again from the journal.
//! Invariants: a file only grows, by whole blocks; a block holds whole batches; a later block whose
//! base offset is not above an earlier one's last offset supersedes it from there on (truncation
//! writes nothing). The index is derived: it is rebuilt from the block headers when it does not
//! check.

mod adopt;
mod block;
mod damage;
mod files;
mod index;
mod open_files;
mod read_ahead;
mod read_pace;
mod reader;
mod removal;
mod reserve;
mod scrub;
mod time_look_up;
mod unsynced;
mod writer;

use std::rc::Rc;

use rkyv::{Archive, Deserialize, Serialize};

use crate::base::clock::Moment;
use crate::base::ids::{Offset, TopicPartition};

pub(super) use adopt::{Adopted, adopt_next, read_large};
pub(super) use block::{
    BLOCK_HEADER_BYTES, BlockHeader, FRONT_BYTES, SEGMENT_VERSION, block_bytes,
};
pub(super) use files::{SegmentFiles, SegmentLimits, SegmentName, missing_is_none};
pub(super) use index::{
    INDEX_ENTRY_BYTES, IndexEntry, IndexMark, decode as decode_index, push as push_entry,
};
pub(super) use open_files::OpenSegment;
pub(super) use read_pace::ReadPace;
pub(super) use reader::SegmentReader;
pub(super) use reserve::reserve;
pub use scrub::Damage;
pub(super) use scrub::SegmentScrub;
pub(super) use time_look_up::latest_batch;
pub(super) use writer::{BlockPlan, ExtentPlan, write_extent, write_planned};

/// One segment file of a log, as the log holds it in memory.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) base_offset: Offset,
    /// See [`SegmentKey::revision`].
    pub(super) revision: u32,
    /// Bytes of whole blocks; the file may be longer, by what no checkpoint knew.
    pub(super) file_bytes: u64,
    /// What the index file holds; `None`: it must be rebuilt.
    pub(super) index: Option<IndexMark>,
    /// Entries that are not in the index file yet.
    pub(super) pending: Rc<Vec<IndexEntry>>,
    pub(super) max_timestamp: i64,
    /// Wall time of the first write.
    pub(super) created_ms: i64,
    /// When its last batch was written, there or to the journal: what retention counts from.
    pub(super) written: Moment,
}

impl Segment {
    pub(super) fn new(base_offset: Offset, created_ms: i64, written: Moment) -> Segment {
        Segment {
            base_offset,
            revision: 0,
            file_bytes: 0,
            index: Some(IndexMark::default()),
            pending: Rc::default(),
            max_timestamp: i64::MIN,
            created_ms,
            written,
        }
    }

    pub(super) fn from_state(state: &SegmentState, now: Moment) -> Segment {
        let base_offset = Offset(state.base_offset);
        let mark = state.index_entries.map(|count| IndexMark { count, crc: state.index_crc });
        let pending = mark.and_then(|mark| {
            index::decode_from(base_offset, mark.count, &state.index_pending, state.file_bytes)
        });
        Segment {
            base_offset,
            revision: state.revision,
            file_bytes: state.file_bytes,
            index: mark.filter(|_| pending.is_some()),
            pending: Rc::new(pending.unwrap_or_default()),
            max_timestamp: state.max_timestamp,
            created_ms: state.created_ms,
            written: Moment::of_wall(state.written_ms, now),
        }
    }

    /// Its name in the log of `topic_partition`.
    pub(super) fn key(&self, topic_partition: TopicPartition) -> SegmentKey {
        SegmentKey { topic_partition, base_offset: self.base_offset, revision: self.revision }
    }

    /// Whether a checkpoint writes the pending entries into the index file. A few are in the
    /// checkpoint itself: with thousands of logs, each write of one more entry would cost as much as
    /// the write of its block.
    pub(super) fn flushes_index(&self, unwritten_max: usize) -> bool {
        self.index.is_some() && self.pending.len() > unwritten_max
    }

    /// What a checkpoint says; pending entries that it does not hold are written to the index file
    /// beforehand, and if that file is lost, it is rebuilt.
    pub(super) fn to_state(&self, unwritten_max: usize) -> SegmentState {
        let written = if self.flushes_index(unwritten_max) { &self.pending[..] } else { &[] };
        let index = self.index.map(|mark| mark.and(self.base_offset, written));
        let behind = if written.is_empty() { &self.pending[..] } else { &[] };
        SegmentState {
            base_offset: self.base_offset.0,
            revision: self.revision,
            file_bytes: self.file_bytes,
            index_entries: index.map(|mark| mark.count),
            index_crc: index.unwrap_or_default().crc,
            index_pending: index
                .map(|mark| index::encode(self.base_offset, mark.count, behind))
                .unwrap_or_default(),
            max_timestamp: self.max_timestamp,
            created_ms: self.created_ms,
            written_ms: self.written.wall_ms,
        }
    }
}

/// One segment in a checkpoint.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct SegmentState {
    /// Offset that names the file.
    pub base_offset: i64,
    /// How often compaction has written it anew, which is in the name, too.
    pub revision: u32,
    /// Bytes of whole blocks that were durable.
    pub file_bytes: u64,
    /// Entries of the index; `None`: rebuild it.
    pub index_entries: Option<u32>,
    /// CRC of those entries' bytes.
    pub index_crc: u32,
    /// Entries behind those, as they would be in the file.
    pub index_pending: Vec<u8>,
    /// Largest batch timestamp.
    pub max_timestamp: i64,
    /// Wall time of the first write, for `segment.ms`.
    pub created_ms: i64,
    /// Wall time of the last write, for `retention.ms`.
    pub written_ms: i64,
}

/// What one step of a removal did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Removed {
    /// What it counts for, about the bytes that were given back.
    pub(super) bytes: u64,
    /// Nothing is left.
    pub(super) is_whole: bool,
}

/// Names one segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SegmentKey {
    pub(super) topic_partition: TopicPartition,
    pub(super) base_offset: Offset,
    /// 0 as first written; one more each time that compaction writes it anew.
    pub(super) revision: u32,
}
