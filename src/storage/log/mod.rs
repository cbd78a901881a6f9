//! One partition's log: its offsets, its batches in memory, its segments.
//!
//! Not here: the high watermark and everything that waits (`partition`). Nothing in here waits;
//! reads are planned here and done by the plan.
//! Held in `Rc<RefCell<Log>>` by the store and by its partition; never borrowed across an `.await`.
//! The methods are spread by verb: `append`, `keep`, `large_lane`, `truncate`, `write_behind`, `adoption`,
//! `read_plan`, `timestamp_plan`, `retention`, `compaction`.

mod adoption;
mod append;
mod compaction;
mod keep;
mod large_lane;
mod read_plan;
mod retention;
mod state;
mod tail;
mod timestamp_plan;
mod truncate;
mod write_behind;

use std::rc::Rc;

use crate::base::clock::{Clock, Moment};
use crate::base::ids::{LeaderEpoch, Offset, TopicPartition};

pub(super) use adoption::Match;
pub use append::{Appended, StampChoice};
pub(super) use compaction::{CompactionPlan, CompactionSource};
pub use read_plan::ReadPlan;
pub use state::LogState;
use tail::{Tail, TailBatch};
pub use timestamp_plan::{TimestampFound, TimestampPlan};
pub(super) use write_behind::{IndexFlush, SealedState, SegmentSnapshot, WriteStep};

use super::epoch_history::EpochHistory;
use super::journal::{Group, Membership};
use super::producer_table::ProducerTable;
use super::segment::{Segment, SegmentFiles, SegmentKey};
use super::settings::LogConfig;

/// The log of one partition.
pub struct Log {
    topic_partition: TopicPartition,
    slot: u32,
    config: LogConfig,
    files: Rc<SegmentFiles>,
    clock: Clock,
    log_start: Offset,
    /// The journal's group with the last move of the start; 0: none that may not be durable.
    start_group: u64,
    log_end: Offset,
    written_end: Offset,
    durable_end: Offset,
    segment_end: Offset,
    /// End at the last demand for a durable group: what `flush.messages` counts from.
    flush_point: Offset,
    epochs: EpochHistory,
    producers: ProducerTable,
    segment_producers: ProducerTable,
    tail: Tail,
    segments: Vec<Segment>,
    /// When a batch was last written.
    written: Moment,
    /// Where the files began when the log was opened: what lies before is no part of it.
    first_at_open: Offset,
    /// The last segment takes no more.
    last_is_sealed: bool,
    membership: Option<Membership>,
    truncations: u64,
    /// Number and end of each truncation that a group may still be on its way from before.
    cuts: Vec<(u64, Offset)>,
    deleted: bool,
    /// Everything before this is compacted.
    clean_end: Offset,
    /// The segment that compaction writes just now.
    compaction_output: Option<SegmentKey>,
    /// Segments that are no part of the log any more; removed after the next checkpoint.
    garbage: Vec<SegmentKey>,
    /// Groups that waited for nothing but what a truncation cut.
    released: Vec<Rc<Group>>,
    /// Something changed since recovery: the next checkpoint must say so.
    touched: bool,
    flags: QueueFlags,
}

/// Where the log waits to be written behind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct QueueFlags {
    /// In the queue of logs with anything unwritten.
    pub(super) aging: bool,
    /// In the queue of logs with a whole extent.
    pub(super) ready: bool,
    /// In the list of logs with written bytes that are not durable.
    pub(super) unsynced: bool,
    /// A commit waits to write an extent of it.
    pub(super) claimed: bool,
    /// An extent of it is being written: only one may be.
    pub(super) writing: bool,
}

impl Log {
    /// The log as a checkpoint or a recovery knew it; a new one if that is empty.
    pub(super) fn from_state(
        state: &LogState,
        slot: u32,
        config: LogConfig,
        files: Rc<SegmentFiles>,
        clock: Clock,
        producer_ids_max: usize,
    ) -> Option<Log> {
        #[cfg(feature = "planted-bugs")]
        let state = &state.with_planted_bug();
        let epochs = EpochHistory::from_entries(state.epochs.clone())?;
        let producers = ProducerTable::from_image(&state.producers, producer_ids_max)?;
        let end = Offset(state.segment_end);
        let now = clock.now();
        let first = state.segments.first().map_or(end, |first| Offset(first.base_offset));
        Some(Log {
            topic_partition: state.topic_partition(),
            slot,
            config,
            files,
            clock,
            log_start: Offset(state.log_start),
            start_group: 0,
            log_end: end,
            written_end: end,
            durable_end: end,
            segment_end: end,
            flush_point: end,
            epochs,
            segment_producers: producers.clone(),
            producers,
            tail: Tail::default(),
            segments: state.segments.iter().map(|it| Segment::from_state(it, now)).collect(),
            written: now,
            first_at_open: first,
            last_is_sealed: state.last_is_sealed,
            membership: None,
            truncations: 0,
            cuts: Vec::new(),
            deleted: false,
            clean_end: Offset(state.clean_end),
            compaction_output: None,
            garbage: Vec::new(),
            released: Vec::new(),
            touched: false,
            flags: QueueFlags::default(),
        })
    }

    /// Which partition.
    #[must_use]
    pub fn topic_partition(&self) -> TopicPartition {
        self.topic_partition
    }

    /// First offset that may be read.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    /// Offset of the next record.
    #[must_use]
    pub fn log_end(&self) -> Offset {
        self.log_end
    }

    /// End of what is written (in the page of the device or beyond): survives kill -9.
    #[must_use]
    pub fn written_end(&self) -> Offset {
        self.written_end
    }

    /// End of what survives a power cut.
    #[must_use]
    pub fn durable_end(&self) -> Offset {
        self.durable_end
    }

    /// End of what is in segments.
    #[must_use]
    pub fn segment_end(&self) -> Offset {
        self.segment_end
    }

    /// Bytes of the segments and of what is not in them yet.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let in_segments: u64 = self.segments.iter().map(|segment| segment.file_bytes).sum();
        in_segments + self.tail.unsettled_bytes() as u64
    }

    /// The leader epochs.
    #[must_use]
    pub fn epochs(&self) -> &EpochHistory {
        &self.epochs
    }

    /// Where `epoch` ends (KIP-101, KIP-279): [`EpochHistory::end_offset_for`] at this log's end.
    #[must_use]
    pub fn epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.epochs.end_offset_for(epoch, self.log_end)
    }

    /// The idempotent producers as of the log's end.
    #[must_use]
    pub fn producers(&self) -> &ProducerTable {
        &self.producers
    }

    /// For the expiry of producers by time, which is the caller's to decide.
    pub fn expire_producers(&mut self, now_ms: i64, expiration_ms: i64) {
        self.producers.expire(now_ms, expiration_ms);
        self.segment_producers.expire(now_ms, expiration_ms);
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Replaces the settings; counts from the next append on.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    /// The end that may be acknowledged at this log's level of durability: the durable end where
    /// every record is synced first (`flush.messages=1`), the written end elsewhere.
    #[must_use]
    pub fn ackable_end(&self) -> Offset {
        if self.config.flush_messages <= 1 { self.durable_end } else { self.written_end }
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.deleted
    }

    pub(super) fn flags(&mut self) -> &mut QueueFlags {
        &mut self.flags
    }

    /// A group's write is complete, in which the log reached `end` when it had been truncated
    /// `truncations` times. What was truncated since does not count: the offsets behind the cut
    /// are others now.
    pub(super) fn on_written(&mut self, end: Offset, truncations: u64) {
        self.cuts.retain(|(number, _)| *number > truncations);
        let end = self.cuts.iter().fold(end, |end, (_, cut)| end.min(*cut));
        if end > self.written_end {
            self.written = self.clock.now();
        }
        self.written_end = self.written_end.max(end);
    }

    /// Everything written is durable. Says whether that moved anything.
    pub(super) fn on_durable(&mut self) -> bool {
        let moved = self.durable_end < self.written_end;
        self.durable_end = self.written_end;
        self.flush_point = self.flush_point.max(self.durable_end);
        moved
    }

    /// Marks the log deleted and lets go of its memory.
    pub(super) fn delete(&mut self) {
        self.deleted = true;
        self.truncations += 1;
        self.segments.clear();
        let released = self.tail.clear();
        self.released.extend(released);
    }

    /// Groups that nothing of this log holds in memory any more.
    pub(super) fn take_released(&mut self) -> Vec<Rc<Group>> {
        std::mem::take(&mut self.released)
    }

    pub(super) fn is_touched(&self) -> bool {
        self.touched
    }

    /// The segment that was last written to.
    pub(super) fn last_segment(&self) -> Option<SegmentKey> {
        self.segments.last().map(|segment| segment.key(self.topic_partition))
    }

    /// The segments with the lengths of their files.
    pub(super) fn segment_ends(&self) -> Vec<(SegmentKey, u64)> {
        let tp = self.topic_partition;
        self.segments.iter().map(|segment| (segment.key(tp), segment.file_bytes)).collect()
    }

    /// Forgets every batch that is in a segment.
    pub(super) fn prune_tail_all(&mut self) {
        self.tail.forget_settled();
    }

    /// Forgets cached batches whose bytes are gone.
    pub(super) fn prune_tail(&mut self) {
        self.tail.prune();
    }

    /// The key of a segment that begins there as batches are written.
    fn new_key(&self, base_offset: Offset) -> SegmentKey {
        SegmentKey { topic_partition: self.topic_partition, base_offset, revision: 0 }
    }

    /// Asserts what must always hold; cheap, so also in release.
    fn check_invariants(&self) {
        assert!(
            self.segment_end <= self.written_end
                && self.written_end <= self.log_end
                && self.durable_end <= self.written_end
                && self.log_start <= self.log_end,
            "log {}: start {} segment {} written {} durable {} end {}",
            self.topic_partition,
            self.log_start,
            self.segment_end,
            self.written_end,
            self.durable_end,
            self.log_end,
        );
    }
}
