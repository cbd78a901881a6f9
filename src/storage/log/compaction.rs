//! The log's side of compaction: what of it is due, and putting new segments in the old ones' place.

use rustc_hash::FxHashMap;

use crate::base::clock::Moment;
use crate::base::ids::{Offset, ProducerId};

use super::super::segment::{Segment, SegmentKey, SegmentReader};
use super::Log;
use super::retention::is_older;

/// A closed segment as a pass reads it.
pub(in crate::storage) struct CompactionSource {
    pub(in crate::storage) key: SegmentKey,
    pub(in crate::storage) segment: Segment,
    pub(in crate::storage) reader: SegmentReader,
    /// Offset behind its last record.
    pub(in crate::storage) end: Offset,
}

/// What a pass works on.
pub(in crate::storage) struct CompactionPlan {
    /// The closed segments, from the log's first to the last that may be compacted.
    pub(in crate::storage) sources: Vec<CompactionSource>,
    /// Everything before this is compacted.
    pub(in crate::storage) clean_end: Offset,
    /// Last offset of the last batch of each producer that may still write.
    pub(in crate::storage) last_of_producers: FxHashMap<ProducerId, Offset>,
    pub(in crate::storage) delete_retention_ms: i64,
    /// `segment.bytes`: segments become one up to this length.
    pub(in crate::storage) segment_bytes: u64,
    pub(in crate::storage) truncations: u64,
}

impl Log {
    /// How much the log needs compaction now, if it is due: the share of its closed segments that was
    /// never compacted, 0 to 1. Nothing at or behind `upto` counts.
    #[must_use]
    pub fn compaction_need(&self, upto: Offset, now: Moment) -> Option<f64> {
        let config = self.config.compaction.as_ref().filter(|_| !self.deleted)?;
        let count = self.compactable(upto, now);
        let (mut clean_bytes, mut dirty_bytes, mut oldest_ms) = (0, 0, i64::MAX);
        for (segment, end) in self.closed().take(count) {
            if end <= self.clean_end {
                clean_bytes += segment.file_bytes;
            } else {
                dirty_bytes += segment.file_bytes;
                oldest_ms = oldest_ms.min(segment.created_ms);
            }
        }
        if dirty_bytes == 0 {
            return None;
        }
        let ratio = dirty_bytes as f64 / (clean_bytes + dirty_bytes) as f64;
        let has_waited = now.wall_ms.saturating_sub(oldest_ms) > config.max_lag_ms;
        (ratio > config.min_dirty_ratio || has_waited).then_some(ratio)
    }

    /// What a pass would work on now.
    pub(in crate::storage) fn plan_compaction(
        &self,
        upto: Offset,
        now: Moment,
    ) -> Option<CompactionPlan> {
        let config = self.config.compaction.as_ref()?;
        let count = self.compactable(upto, now);
        let sources = self.closed().take(count).map(|(segment, end)| {
            let key = segment.key(self.topic_partition);
            let reader = SegmentReader::new(&self.files, key, segment);
            CompactionSource { key, segment: segment.clone(), reader, end }
        });
        let last_of = |(id, entry): (ProducerId, &super::super::producer_table::ProducerEntry)| {
            (id, entry.last().last_offset)
        };
        Some(CompactionPlan {
            sources: sources.collect(),
            clean_end: self.clean_end,
            last_of_producers: self.producers.iter().map(last_of).collect(),
            delete_retention_ms: config.delete_retention_ms,
            segment_bytes: self.config.segment_bytes,
            truncations: self.truncations,
        })
    }

    /// Puts `segment`, or none, in the place of those of `keys`. False if they are not all in the log
    /// any more, one behind the other; nothing has changed then.
    pub(in crate::storage) fn replace_segments(
        &mut self,
        keys: &[SegmentKey],
        segment: Option<Segment>,
    ) -> bool {
        let tp = self.topic_partition;
        let place = self.segments.iter().position(|it| Some(&it.key(tp)) == keys.first());
        let Some(place) = place else { return false };
        let held = self.segments.iter().skip(place).map(|it| it.key(tp));
        let is_followed = self.segments.len() > place + keys.len();
        if !is_followed || !held.take(keys.len()).eq(keys.iter().copied()) {
            return false;
        }
        self.segments.splice(place..place + keys.len(), segment);
        self.garbage.extend_from_slice(keys);
        self.compaction_output = None;
        self.touched = true;
        // What is still in memory has what is gone.
        self.tail.forget_settled();
        self.check_invariants();
        true
    }

    /// Everything before `end` is compacted.
    pub(in crate::storage) fn compacted_to(&mut self, end: Offset) {
        self.clean_end = self.clean_end.max(end).min(self.segment_end);
        self.touched = true;
    }

    /// The segment that compaction writes just now.
    pub(in crate::storage) fn compaction_output(&self) -> Option<SegmentKey> {
        self.compaction_output
    }

    /// Notes the segment that compaction writes from now on, or that it writes none.
    pub(in crate::storage) fn set_compaction_output(&mut self, key: Option<SegmentKey>) {
        self.compaction_output = key;
    }

    pub(in crate::storage) fn truncations(&self) -> u64 {
        self.truncations
    }

    /// How many of the closed segments, from the first on, may be compacted.
    fn compactable(&self, upto: Offset, now: Moment) -> usize {
        let min_lag_ms = self.config.compaction.as_ref().map_or(0, |config| config.min_lag_ms);
        let may = |(segment, end): &(&Segment, Offset)| {
            let is_old = min_lag_ms <= 0
                || *end <= self.clean_end
                || is_older(segment.max_timestamp, segment.written, min_lag_ms, now);
            *end <= upto && is_old
        };
        self.closed().take_while(may).count()
    }

    /// The segments that are followed by another, with their ends. The last one is never compacted.
    fn closed(&self) -> impl Iterator<Item = (&Segment, Offset)> {
        self.segments.windows(2).map(|pair| (&pair[0], pair[1].base_offset))
    }
}
