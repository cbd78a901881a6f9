//! The log's side of recovery from its segments: which blocks behind the checkpoint's end hold what
//! the journal says.

use crate::base::ids::Offset;

use super::super::journal::format::SegmentPlace;
use super::super::segment::{BlockPlan, ExtentPlan, SegmentKey};
use super::Log;
use super::tail::Run;
use super::write_behind::WriteStep;

/// What lies at a place where the next batches may be.
pub(in crate::storage) enum Match {
    /// The first runs that are in no segment, so many of them.
    Runs(usize),
    /// Others, or these and some that were not replayed yet.
    Other,
    /// No block.
    Nothing,
}

impl Log {
    /// Where the next batches may lie: behind the current segment's end, or at the front of one
    /// that begins with them.
    pub(in crate::storage) fn adoption_places(&self) -> Vec<(SegmentKey, u64)> {
        let Some(first) = self.tail.unsettled().next() else { return Vec::new() };
        let current = self.segments.last().filter(|_| !self.last_is_sealed);
        let current = current.map(|it| (it.key(self.topic_partition), it.file_bytes));
        let next = self.new_key(first.base_offset);
        let is_new = !self.has_segment(next);
        current.into_iter().chain(is_new.then_some((next, 0))).collect()
    }

    /// Whether a batch waits that was written straight into a segment.
    pub(in crate::storage) fn has_placed(&self) -> bool {
        self.tail.unsettled().any(|run| run.place().is_some())
    }

    /// The place of the next batch, if it was written straight into a segment: it was checked there.
    pub(in crate::storage) fn next_place(&self) -> Option<SegmentPlace> {
        self.tail.unsettled().next().and_then(Run::place)
    }

    /// Compares a block's payload, which begins at `base`, with the next batches.
    pub(in crate::storage) fn match_payload(&self, base: Offset, payload: &[u8]) -> Match {
        let (mut rest, mut count) = (payload, 0);
        for run in self.tail.unsettled() {
            let is_next = (count > 0 || run.base_offset == base) && run.place().is_none();
            let bytes = run.bytes().filter(|_| is_next);
            let Some(left) = bytes.and_then(|bytes| rest.strip_prefix(&bytes[..])) else { break };
            (rest, count) = (left, count + 1);
            if rest.is_empty() {
                return Match::Runs(count);
            }
        }
        Match::Other
    }

    /// What it takes to begin a segment: the current one is closed first.
    pub(in crate::storage) fn close_step(&self) -> Option<WriteStep> {
        let open = self.segments.last().filter(|_| !self.last_is_sealed)?;
        Some(WriteStep::Seal(Box::new(self.seal_snapshot(open))))
    }

    /// The block of the next `count` runs, which lies at this place.
    pub(in crate::storage) fn plan_found(
        &self,
        (key, pos): (SegmentKey, u64),
        count: usize,
        now_ms: i64,
    ) -> ExtentPlan {
        let mut runs = self.tail.unsettled().take(count);
        let first = runs.next().map(BlockPlan::of);
        let block = first.map(|mut block| {
            runs.for_each(|run| block.add(run));
            block
        });
        let mut plan = ExtentPlan {
            key,
            creates: !self.has_segment(key),
            pos,
            blocks: block.into_iter().collect(),
            is_named: false,
            truncations: self.truncations,
            now_ms,
        };
        self.fill(&mut plan);
        plan
    }
}
