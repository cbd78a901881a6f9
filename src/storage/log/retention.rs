//! Which of a log's oldest segments may go, by age and by size (Kafka's `deleteOldSegments`).
//!
//! Whole segments go, the oldest first, up to the first that stays. The segment that is written to
//! counts together with what is in no segment yet; if it goes, a new one begins with the next batch.
//!
//! Age: Kafka counts `retention.ms` from a segment's largest timestamp, by the wall clock. Here the
//! segment must also have been written that long ago, by the monotonic clock too: neither a
//! timestamp from the past nor a wall clock that jumps ahead deletes what was written just now. A
//! timestamp that lies in the future, or that is none (-1), does not count: it keeps nothing.

use crate::base::clock::Moment;
use crate::base::ids::Offset;

use super::super::segment::{Segment, SegmentKey};
use super::Log;
use super::tail::Run;

/// What goes or stays as a whole.
struct Unit {
    /// Offset behind its last record.
    end: Offset,
    bytes: u64,
    max_timestamp: i64,
    written: Moment,
}

impl Log {
    /// Where the log begins once everything that `retention.ms` and `retention.bytes` give up below
    /// `upto` has gone; `None` if nothing goes. The log does not begin there yet:
    /// [`Log::advance_log_start`].
    #[must_use]
    pub fn retention_start(&self, upto: Offset, now: Moment) -> Option<Offset> {
        let bytes_max = u64::try_from(self.config.retention_bytes).ok();
        let mut excess = bytes_max.and_then(|max| self.size_bytes().checked_sub(max));
        let mut start = self.log_start;
        for unit in self.units().take_while(|unit| unit.end <= upto) {
            let is_excess = excess.is_some_and(|excess| excess >= unit.bytes);
            if !is_excess && !self.is_expired(&unit, now) {
                break;
            }
            excess = excess.and_then(|excess| excess.checked_sub(unit.bytes));
            start = start.max(unit.end);
        }
        (start > self.log_start).then_some(start)
    }

    /// Lets go of the segments that lie wholly before `start`, at most the log's own start; of the
    /// one that is written to only while nothing is on its way into it. Their files go later.
    pub fn drop_segments_before(&mut self, start: Offset) {
        let start = start.min(self.log_start);
        self.drop_closed_segments(start);
        let rests = !self.flags.writing && !self.flags.claimed;
        let rests = rests && self.tail.unsettled().next().is_none();
        if start >= self.segment_end && self.segments.len() == 1 && (rests || self.last_is_sealed) {
            let tp = self.topic_partition;
            self.garbage.extend(self.segments.pop().map(|segment| segment.key(tp)));
            self.last_is_sealed = false;
            self.touched = true;
        }
        self.check_invariants();
    }

    /// As [`Log::drop_segments_before`], but for the last segment.
    pub(super) fn drop_closed_segments(&mut self, start: Offset) {
        let ends = self.segments.windows(2).map(|pair| pair[1].base_offset);
        let gone = ends.take_while(|end| *end <= start).count();
        self.touched |= gone > 0;
        let tp = self.topic_partition;
        self.garbage.extend(self.segments.drain(..gone).map(|segment| segment.key(tp)));
    }

    /// The segments that take no more with the lengths of their files, the oldest first.
    pub(in crate::storage) fn closed_segments(&self) -> Vec<(SegmentKey, u64)> {
        let mut segments = self.segment_ends();
        if !self.last_is_sealed {
            segments.pop();
        }
        segments
    }

    fn is_expired(&self, unit: &Unit, now: Moment) -> bool {
        let keep_ms = self.config.retention_ms;
        keep_ms >= 0 && is_older(unit.max_timestamp, unit.written, keep_ms, now)
    }

    /// The oldest first.
    fn units(&self) -> impl Iterator<Item = Unit> {
        let closed = self.segments.len() - usize::from(self.open_segment().is_some());
        let ends = self.segments.iter().skip(1).map(|next| next.base_offset);
        let ends = ends.chain([self.segment_end]);
        let closed = self.segments[..closed].iter().zip(ends).map(|(segment, end)| Unit {
            end,
            bytes: segment.file_bytes,
            max_timestamp: segment.max_timestamp,
            written: segment.written,
        });
        closed.chain(std::iter::once_with(|| self.active_unit()).flatten())
    }

    fn active_unit(&self) -> Option<Unit> {
        let open = self.open_segment();
        let latest = self.tail.unsettled().map(|run: &Run| run.max_timestamp).max();
        let max_timestamp = open.map(|segment| segment.max_timestamp).max(latest)?;
        let in_segment = open.filter(|_| latest.is_none());
        Some(Unit {
            end: self.log_end,
            bytes: open.map_or(0, |segment| segment.file_bytes) + self.unsettled_bytes() as u64,
            max_timestamp,
            written: in_segment.map_or(self.written, |segment| segment.written),
        })
    }

    fn open_segment(&self) -> Option<&Segment> {
        self.segments.last().filter(|_| !self.last_is_sealed)
    }
}

/// Whether what was last written then, with that largest timestamp, is older than `age_ms`, by every
/// clock that can tell.
pub(super) fn is_older(max_timestamp: i64, written: Moment, age_ms: i64, now: Moment) -> bool {
    if now.steady_ms.saturating_sub(written.steady_ms) <= age_ms {
        return false;
    }
    let counts = (0..=now.wall_ms).contains(&max_timestamp);
    let young_ms = if counts { max_timestamp } else { i64::MIN }.max(written.wall_ms);
    // Written in the wall clock's future: it was set back, and knows nothing of the age.
    young_ms > now.wall_ms || now.wall_ms.saturating_sub(young_ms) > age_ms
}
