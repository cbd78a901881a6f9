//! The log's side of the large lane: which of its batches are written straight into its segment,
//! together with the group that they came in.

use std::rc::Rc;

use crate::base::limits::LARGE_BATCH_BYTES;

use super::super::journal::format::SegmentPlace;
use super::super::segment::ExtentPlan;
use super::Log;
use super::tail::Run;
use super::write_behind::pack_blocks;

/// What is in no segment yet goes into the same extent, in order. Small batches of more bytes than
/// this, which have to be copied for it, are written behind first.
const SMALL_BACKLOG_BYTES_MAX: usize = 4 << 20;

impl Log {
    /// The extent that ends with the log's last large batch in `group`, which is about to be
    /// written and the first that is not. `None` if the batches have to go into the journal, because
    /// no segment has room or too much waits before them. Its bytes come later ([`Log::fill`]).
    pub(in crate::storage) fn plan_large(&self, group: u64, now_ms: i64) -> Option<ExtentPlan> {
        let segment = self.segments.last().filter(|_| !self.last_is_sealed && !self.deleted)?;
        let key = segment.key(self.topic_partition);
        let is_young = now_ms.saturating_sub(segment.created_ms) < self.config.segment_ms;
        if !is_young {
            return None;
        }
        let (mut count, mut small_bytes) = (0, 0);
        for (run, number) in self.unsettled_through(group).zip(1..) {
            if !is_large(run) {
                small_bytes += run.len_bytes();
            } else if run.group().seq() == group {
                count = number;
            }
        }
        if count == 0 || small_bytes > SMALL_BACKLOG_BYTES_MAX {
            return None;
        }
        let runs = self.unsettled_through(group).take(count);
        let blocks = pack_blocks(runs, self.files.limits().block_bytes, usize::MAX);
        let (pos, truncations) = (segment.file_bytes, self.truncations);
        let plan =
            ExtentPlan { key, creates: false, pos, blocks, is_named: true, truncations, now_ms };
        (pos + plan.file_bytes() as u64 <= self.config.segment_bytes).then_some(plan)
    }

    /// The entries of `group` whose batches the plan takes, with their places, in order.
    pub(in crate::storage) fn placed_entries(
        &self,
        group: u64,
        plan: &ExtentPlan,
    ) -> Vec<(u32, SegmentPlace)> {
        let mut runs = self.tail.unsettled();
        let segment = plan.key.base_offset;
        let blocks = plan.places().filter_map(|(block, pos)| {
            let run = runs.by_ref().take(block.run_count).last()?;
            let (seq, entry) = run.journal_entry();
            let goes = block.is_large() && seq == group;
            goes.then_some((entry, SegmentPlace { segment, pos }))
        });
        blocks.collect()
    }

    fn unsettled_through(&self, group: u64) -> impl Iterator<Item = &Run> {
        self.tail.unsettled().take_while(move |run| run.group().seq() <= group)
    }

    /// An extent was written, and the log was truncated meanwhile. An entry of the journal names its
    /// place, so nothing else may be written there: it stays, and what follows supersedes it.
    pub(in crate::storage) fn leave_dead(&mut self, plan: &ExtentPlan) {
        if !plan.is_named || self.deleted {
            return;
        }
        let last = self.segments.last_mut().filter(|it| it.base_offset == plan.key.base_offset);
        let Some(segment) = last else { return };
        segment.file_bytes = plan.pos + plan.file_bytes() as u64;
        segment.index = None;
        Rc::make_mut(&mut segment.pending).clear();
    }
}

fn is_large(run: &Run) -> bool {
    run.is_single() && run.len_bytes() >= LARGE_BATCH_BYTES
}
