//! A log as a checkpoint holds it, and as recovery hands it to its shard.

use rkyv::{Archive, Deserialize, Serialize};

use crate::base::ids::{Offset, PartitionIndex, TopicId, TopicPartition};

use super::super::epoch_history::EpochStart;
use super::super::producer_table::ProducerTableImage;
use super::super::segment::SegmentState;
use super::Log;

/// Everything of a log that its segments alone do not say. Plain numbers: travels between threads
/// and to disk.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// The topic's id.
    pub topic_id: [u8; 16],
    /// The partition's index.
    pub partition: i32,
    /// First offset that may be read.
    pub log_start: i64,
    /// End of what the segments hold.
    pub segment_end: i64,
    /// Journal group of the first entry that is not part of this state.
    pub replay_group: u64,
    /// Number of that entry in its group.
    pub replay_entry: u32,
    /// Everything before this is compacted.
    pub clean_end: i64,
    /// Whether the last segment takes no more.
    pub last_is_sealed: bool,
    /// The leader epochs.
    pub epochs: Vec<EpochStart>,
    /// The producers as of `segment_end`.
    pub producers: ProducerTableImage,
    /// The segments, by base offset.
    pub segments: Vec<SegmentState>,
}

impl LogState {
    /// A log without records.
    #[must_use]
    pub fn empty(topic_partition: TopicPartition) -> LogState {
        LogState {
            topic_id: topic_partition.topic_id.0,
            partition: topic_partition.partition.0,
            ..LogState::default()
        }
    }

    /// Which partition.
    #[must_use]
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition {
            topic_id: TopicId(self.topic_id),
            partition: PartitionIndex(self.partition),
        }
    }

    /// End of the log: after recovery everything is in segments.
    #[must_use]
    pub fn log_end(&self) -> Offset {
        Offset(self.segment_end)
    }

    /// Whether the numbers can be a log's: what a CRC does not say.
    pub(in crate::storage) fn is_sane(&self) -> bool {
        let rises = self.segments.windows(2).all(|pair| pair[0].base_offset < pair[1].base_offset);
        let last = self.segments.last().map_or(0, |segment| segment.base_offset);
        0 <= self.log_start
            && self.log_start <= self.segment_end
            && rises
            && last <= self.segment_end
            && (0..=self.segment_end).contains(&self.clean_end)
    }
}

#[cfg(feature = "planted-bugs")]
impl LogState {
    pub(super) fn with_planted_bug(&self) -> LogState {
        use crate::base::planted::{Bug, is_planted};
        let mut state = self.clone();
        if is_planted(Bug::OffsetReuse) && self.log_start == self.segment_end {
            let end = self.segments.last().map_or(0, |last| last.base_offset);
            (state.log_start, state.segment_end) = (end, end);
        }
        state
    }
}

impl Log {
    /// The state as of the segments' end: what lies behind it comes back from the journal, if it
    /// was durable. `next_entry` is the journal's next place, for a log of which nothing waits.
    pub(in crate::storage) fn to_state(&self, next_entry: (u64, u32)) -> LogState {
        let first = self.tail.unsettled().next();
        let (replay_group, replay_entry) = first.map_or(next_entry, |run| run.journal_entry());
        let epochs = self.epochs.entries().iter();
        let unwritten_max = self.files.limits().index_entries_unwritten_max;
        let segments = self.segments.iter().map(|segment| segment.to_state(unwritten_max));
        LogState {
            topic_id: self.topic_partition.topic_id.0,
            partition: self.topic_partition.partition.0,
            log_start: self.log_start.min(self.segment_end).0,
            segment_end: self.segment_end.0,
            replay_group,
            replay_entry,
            clean_end: self.clean_end.0,
            last_is_sealed: self.last_is_sealed,
            epochs: epochs.filter(|e| e.start_offset <= self.segment_end.0).copied().collect(),
            producers: self.segment_producers.image(),
            segments: segments.collect(),
        }
    }
}
