//! Moves of the log's start: retention and the DeleteRecords API.
//!
//! Both in two steps: the move is staged in the journal, and once it is durable
//! ([`crate::storage::Journal::until_durable`]) readers are told and the segments go. So nobody ever
//! sees a start that a power cut takes back.

use crate::base::clock::Moment;
use crate::base::ids::Offset;
use crate::storage::Journal;

use super::offsets::OffsetChain;
use super::{CloseReason, Partition};

/// A move of the start that was staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the move is made with `start_moved`"]
pub struct StagedStart {
    /// The first record that stays.
    pub start: Offset,
    /// The journal's group that has to be durable first.
    pub group: u64,
}

/// Why records are not deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteRecordsError {
    /// The partition takes no more work.
    #[error("the partition is closed: {0}")]
    Closed(CloseReason),
    /// Negative, or beyond the high watermark (OFFSET_OUT_OF_RANGE, 1).
    #[error("offset {offset} is not within 0 to {high_watermark}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// The most that may be asked for.
        high_watermark: Offset,
    },
    /// `cleanup.policy` is `compact` alone (POLICY_VIOLATION, 44).
    #[error("cleanup.policy does not let records be deleted")]
    Compacted,
}

impl Partition {
    /// Stages the deletion of the records before `before`; -1 stands for the high watermark. No
    /// error if they are gone already.
    ///
    /// # Errors
    /// [`DeleteRecordsError`]; nothing has changed then.
    pub fn delete_records(
        &mut self,
        journal: &Journal,
        before: Offset,
    ) -> Result<StagedStart, DeleteRecordsError> {
        if let Some(reason) = self.closed {
            return Err(DeleteRecordsError::Closed(reason));
        }
        if !self.config.deletable {
            return Err(DeleteRecordsError::Compacted);
        }
        let high_watermark = self.offsets.get().high_watermark;
        let offset = if before == Offset::UNKNOWN { high_watermark } else { before };
        if offset < Offset::ZERO || offset > high_watermark {
            return Err(DeleteRecordsError::OutOfRange { offset, high_watermark });
        }
        Ok(self.stage_start(journal, offset))
    }

    /// Stages what `retention.ms` and `retention.bytes` ask for, if anything: never beyond what is
    /// committed.
    pub fn retain(&mut self, journal: &Journal, now: Moment) -> Option<StagedStart> {
        if self.closed.is_some() {
            return None;
        }
        let OffsetChain { log_start, last_stable, .. } = *self.offsets.get();
        let start = {
            let mut log = self.log.borrow_mut();
            // What could not go when the start moved, because it was written to.
            log.drop_segments_before(log_start);
            log.retention_start(last_stable, now)?
        };
        Some(self.stage_start(journal, start))
    }

    /// The staged move is durable: readers are told, and the segments before it leave the log.
    /// Returns where the log begins now.
    pub fn start_moved(&mut self, staged: StagedStart) -> Offset {
        let before = *self.offsets.get();
        let log_start = before.log_start.max(staged.start);
        let local_log_start = before.local_log_start.max(log_start);
        self.offsets.set(OffsetChain { log_start, local_log_start, ..before });
        self.log.borrow_mut().drop_segments_before(log_start);
        log_start
    }

    fn stage_start(&self, journal: &Journal, start: Offset) -> StagedStart {
        let mut log = self.log.borrow_mut();
        log.advance_log_start(journal, start);
        StagedStart { start, group: log.start_group() }
    }
}
