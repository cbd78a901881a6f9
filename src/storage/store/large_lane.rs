//! The large lane: large batches are written once, straight into their segments, while the group
//! that they came in is written to the journal without them.

use std::rc::Rc;

use crate::base::parallel::run_parallel;

use super::super::error::StorageError;
use super::super::journal::format::SegmentPlace;
use super::super::journal::{Group, OpenGroup, WrittenExtents};
use super::super::segment::{ExtentPlan, OpenSegment, reserve};
use super::{LogRef, Store};

/// Extents of one group at most: each is a write and a sync of a file of its own.
const EXTENTS_MAX: usize = 32;

/// An extent that is written together with a group.
pub(super) struct LargeExtent {
    log: LogRef,
    plan: ExtentPlan,
    segment: Rc<OpenSegment>,
    /// The file has writes that no sync has covered: a durable write alone would leave a hole
    /// before it.
    is_dirty: bool,
}

impl Store {
    /// Waits until nobody writes behind to the logs whose large batches may go straight into their
    /// segments, and keeps it so.
    ///
    /// # Errors
    /// `Failed`.
    pub(super) async fn claim_large(&self, group: &OpenGroup) -> Result<Vec<LogRef>, StorageError> {
        let large = group.members().iter();
        let large = large.filter(|member| member.large_bytes >= self.config.large_lane_bytes);
        let logs = large.filter_map(|member| self.log_in((member.slot, member.topic_partition)));
        let claims = |log: &LogRef| {
            let plan = log.borrow().plan_large(group.shared().seq(), self.clock.wall_ms());
            let has_room = !self.room.refuses();
            has_room && plan.is_some_and(|plan| self.files.for_large(plan.key).is_some())
        };
        let logs: Vec<LogRef> = logs.filter(claims).take(EXTENTS_MAX).collect();
        for log in &logs {
            log.borrow_mut().flags().claimed = true;
        }
        for log in &logs {
            while log.borrow_mut().flags().writing {
                self.latch.check()?;
                self.latch.or_wait(&self.written_behind).await;
            }
        }
        Ok(logs)
    }

    /// Chooses what goes straight into segments. Until [`Store::settle_large`] nothing else may be
    /// written to them.
    pub(super) fn plan_large(&self, group: &OpenGroup, claimed: Vec<LogRef>) -> Vec<LargeExtent> {
        let extents = claimed.into_iter().filter_map(|log| {
            log.borrow_mut().flags().claimed = false;
            let plan = log.borrow().plan_large(group.shared().seq(), self.clock.wall_ms())?;
            let (segment, is_dirty) = self.files.for_large(plan.key)?;
            log.borrow_mut().flags().writing = true;
            Some(LargeExtent { log, plan, segment, is_dirty })
        });
        extents.collect()
    }

    /// Writes the extents, durably if the group is.
    pub(super) async fn write_large(
        &self,
        extents: &mut [LargeExtent],
        durable: bool,
    ) -> std::io::Result<WrittenExtents> {
        let mut written = WrittenExtents::default();
        for extent in &mut *extents {
            extent.log.borrow().fill(&mut extent.plan);
            written.bytes += extent.plan.file_bytes() as u64;
            if !durable {
                written.dirty.push((extent.plan.key, extent.segment.clone()));
            }
        }
        let writes = extents.iter().map(|extent| async move {
            let (file, plan) = (extent.segment.file(), &extent.plan);
            let at_once = durable && !extent.is_dirty;
            let write =
                async || file.write_slices_at(plan.assemble(&self.files), plan.pos, at_once).await;
            reserve(file, plan.pos + plan.file_bytes() as u64).await?;
            self.room.retried(write).await?;
            if !durable {
                self.files.note_written(extent.plan.key);
            } else if !at_once {
                extent.segment.sync(&self.latch).await?;
            }
            Ok(())
        });
        let results: std::io::Result<Vec<()>> =
            run_parallel(EXTENTS_MAX, writes).await.into_iter().collect();
        self.ledger.count_large(written.bytes);
        results.map(|_| written)
    }

    /// The group is committed, and the ends of its logs have moved: the extents are parts of their
    /// segments. Returns the groups that nothing waits for any more.
    pub(super) fn settle_large(&self, extents: Vec<LargeExtent>) -> Vec<Rc<Group>> {
        let settle = |extent: LargeExtent| {
            let mut log = extent.log.borrow_mut();
            log.flags().writing = false;
            log.extent_written(&extent.plan)
        };
        extents.into_iter().flat_map(settle).collect()
    }
}

/// The entries of a group whose batches are written elsewhere, in order.
pub(super) fn placed_entries(extents: &[LargeExtent], group: u64) -> Vec<(u32, SegmentPlace)> {
    let mut placed: Vec<(u32, SegmentPlace)> = extents
        .iter()
        .flat_map(|extent| extent.log.borrow().placed_entries(group, &extent.plan))
        .collect();
    placed.sort_unstable_by_key(|(entry, _)| *entry);
    placed
}
