//! Cutting a log at either end.

use std::rc::Rc;

use crate::base::ids::{LeaderEpoch, Offset};

use super::super::journal::Journal;
use super::super::journal::format::EntryKind;
use super::super::segment::SegmentKey;
use super::Log;

impl Log {
    /// Cuts the log so that it ends at `end` or, where `end` falls into a batch that is in memory,
    /// before that batch; a batch whose group is still being filled goes with its neighbours there
    /// (nobody was told of them). Returns the new end. Does nothing at or behind the log's end.
    ///
    /// Offsets that were cut may be given out again: only replication calls this, and only for
    /// records that were never committed (KIP-101). In a segment nothing is rewritten: blocks that
    /// follow supersede what was cut.
    pub fn truncate_to(&mut self, journal: &Journal, end: Offset) -> Offset {
        if end >= self.log_end {
            return self.log_end;
        }
        self.cut_end(end);
        let epoch = self.epochs.latest().unwrap_or(LeaderEpoch(-1));
        self.stage_control(journal, EntryKind::Truncate, epoch, self.log_end);
        self.log_end
    }

    /// Deletes the records before `start` (DeleteRecords, retention). Never goes back, also over a
    /// crash once [`Journal::until_durable`] has seen [`Log::start_group`]: until then nobody may be
    /// told. Then the segments before it may go: [`Log::drop_segments_before`].
    pub fn advance_log_start(&mut self, journal: &Journal, start: Offset) {
        let start = start.min(self.written_end);
        if start > self.log_start {
            self.move_start(start);
            let epoch = self.epochs.latest().unwrap_or(LeaderEpoch(-1));
            self.stage_control(journal, EntryKind::LogStart, epoch, start);
            self.start_group = journal.next_entry().0;
        }
    }

    /// The group of the journal with the last move of the start.
    #[must_use]
    pub fn start_group(&self) -> u64 {
        self.start_group
    }

    /// The effect of a truncation, also in replay.
    pub(in crate::storage) fn cut_end(&mut self, end: Offset) {
        if end >= self.log_end {
            return;
        }
        self.truncations += 1;
        self.touched = true;
        let (end, released) = self.tail.truncate(end);
        self.released.extend(released);
        self.membership = None;
        if end < self.segment_end {
            self.cut_segments(end);
        }
        self.log_end = end;
        self.cuts.push((self.truncations, end));
        self.written_end = self.written_end.min(end);
        self.durable_end = self.durable_end.min(end);
        self.flush_point = self.flush_point.min(end);
        self.log_start = self.log_start.min(end);
        self.first_at_open = self.first_at_open.min(end);
        self.clean_end = self.clean_end.min(end);
        self.epochs.truncate_end(end);
        self.producers.truncate_end(end);
        self.segment_producers.truncate_end(end);
        self.check_invariants();
    }

    /// The effect of a move of the start, also in replay. May be ahead of what replay has seen.
    pub(in crate::storage) fn cut_start(&mut self, start: Offset) {
        self.move_start(start);
        // The last one stays: what follows in the journal may have its place in it.
        self.drop_closed_segments(self.log_start);
    }

    fn move_start(&mut self, start: Offset) {
        self.log_start = start.max(self.log_start).min(self.log_end);
        self.touched = true;
        self.epochs.truncate_start(self.log_start);
        self.check_invariants();
    }

    fn cut_segments(&mut self, end: Offset) {
        self.segment_end = end;
        // The next segment may take the name of one that begins at `end`; it empties the file.
        while let Some(last) = self.segments.pop_if(|last| last.base_offset >= end) {
            self.garbage.push(last.key(self.topic_partition));
            self.last_is_sealed = false;
        }
        // Nothing is appended to what compaction wrote: the journal could not name it.
        self.last_is_sealed |= self.segments.last().is_some_and(|last| last.revision > 0);
        let Some(last) = self.segments.last_mut() else { return };
        // A sealed segment's snapshot says more than it holds now: the next one begins at `end`.
        if self.last_is_sealed {
            return;
        }
        let stored_is_whole = last.pending.first().is_some_and(|first| first.base_offset <= end);
        let pending = Rc::make_mut(&mut last.pending);
        pending.retain(|entry| entry.base_offset < end);
        if !stored_is_whole && last.index.is_none_or(|mark| mark.count > 0) {
            // Which stored entries are cut is not known without reading them.
            last.index = None;
            pending.clear();
        }
    }

    /// Segments that have left the log, to be removed when no checkpoint names them.
    pub(in crate::storage) fn take_garbage(&mut self) -> Vec<SegmentKey> {
        std::mem::take(&mut self.garbage)
    }

    /// Whether files may be left over from an earlier run: of segments before the first, or of a
    /// compaction.
    pub(in crate::storage) fn may_have_left_overs(&self) -> bool {
        let is_compacted = self.segments.iter().any(|segment| segment.revision > 0);
        self.first_at_open.0 > 0 || is_compacted || self.config.compaction.is_some()
    }

    /// Takes back what [`Log::take_garbage`] gave: the checkpoint that was to forget it was not
    /// written.
    pub(in crate::storage) fn return_garbage(&mut self, key: SegmentKey) {
        self.garbage.push(key);
    }

    /// The same, not taken away.
    pub(in crate::storage) fn garbage(&self) -> &[SegmentKey] {
        &self.garbage
    }

    pub(in crate::storage) fn has_garbage(&self) -> bool {
        !self.garbage.is_empty()
    }

    /// Whether a segment of that name is part of the log (again), or is about to become one.
    pub(in crate::storage) fn has_segment(&self, key: SegmentKey) -> bool {
        let is_kept = self.segments.iter().any(|kept| kept.key(self.topic_partition) == key);
        is_kept || self.compaction_output == Some(key)
    }
}
