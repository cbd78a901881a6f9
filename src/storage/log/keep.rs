//! Appending with offsets and epochs that somebody else gave: the leader's, or the journal's in
//! recovery.

use std::rc::Rc;

use crate::base::ids::{LeaderEpoch, Offset};
use crate::record::{RecordBatch, Stamp, StoredBatch};

use super::super::error::FollowerAppendError;
use super::super::journal::format::{EntryKind, SegmentPlace};
use super::super::journal::{Group, Journal};
use super::append::Appended;
use super::{Log, TailBatch};

impl Log {
    /// Appends as a follower: offsets and epoch are the leader's.
    ///
    /// # Errors
    /// `OutOfOrder` if the batch begins before the log's end. A gap is legal: compaction leaves
    /// them.
    pub fn append_as_follower(
        &mut self,
        journal: &Journal,
        batch: &RecordBatch,
    ) -> Result<Appended, FollowerAppendError> {
        let stored = batch.as_stored();
        if stored.base_offset() < self.log_end {
            let (log_end, found) = (self.log_end, stored.base_offset());
            return Err(FollowerAppendError::OutOfOrder { log_end, found });
        }
        let stamp = Stamp {
            base_offset: stored.base_offset(),
            leader_epoch: stored.leader_epoch(),
            log_append_time_ms: None,
        };
        Ok(self.append_stamped(journal, batch, &stamp))
    }

    /// Notes that `epoch` begins at the log's end, durably (the leader's first act).
    pub fn start_epoch(&mut self, journal: &Journal, epoch: LeaderEpoch) {
        if self.epochs.assign(epoch, self.log_end) {
            self.touched = true;
            self.stage_control(journal, EntryKind::EpochStart, epoch, self.log_end);
        }
    }

    /// The start of an epoch as recovery read it.
    pub(in crate::storage) fn replay_epoch(&mut self, epoch: LeaderEpoch, start: Offset) {
        if epoch.0 >= 0 && start.0 >= 0 {
            self.epochs.assign(epoch, start);
            self.touched = true;
        }
    }

    pub(super) fn stage_control(
        &mut self,
        journal: &Journal,
        kind: EntryKind,
        epoch: LeaderEpoch,
        first: Offset,
    ) {
        let demand = self.demand(true);
        let membership = journal.stage_control(&demand, kind, epoch, first, self.log_end);
        self.membership = Some(membership);
    }

    /// Takes a batch that recovery read from a journal, or at `place` of a segment.
    pub(in crate::storage) fn replay_append(
        &mut self,
        group: &Rc<Group>,
        (entry, start): (u32, u32),
        batch: StoredBatch<'_>,
        place: Option<SegmentPlace>,
    ) {
        let tail = TailBatch {
            group: group.clone(),
            start,
            len: u32::try_from(batch.len_bytes()).expect("a batch is smaller than 2 GiB"),
            entry,
            base_offset: batch.base_offset(),
            last_offset: batch.last_offset(),
            max_timestamp: batch.max_timestamp(),
            place,
        };
        self.take_batch(tail, batch.leader_epoch(), batch.producer());
        self.on_written(self.log_end, self.truncations);
        self.on_durable();
    }
}
