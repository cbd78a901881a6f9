//! Group commit as the logs see it.

use futures_lite::future::zip;

use crate::base::ids::{Offset, TopicPartition};

use super::super::error::StorageError;
use super::super::journal::Commit;
use super::large_lane::{LargeExtent, placed_entries};
use super::{LogRef, SlotOf, Store};

/// A log whose ends a commit moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommittedMember {
    /// Which log.
    pub topic_partition: TopicPartition,
    /// Its written end now.
    pub written_end: Offset,
    /// Its durable end now.
    pub durable_end: Offset,
}

/// What one commit did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommittedGroup {
    /// The logs whose ends moved.
    pub members: Vec<CommittedMember>,
    /// Whether everything written so far is durable.
    pub durable: bool,
}

impl Store {
    /// Waits for staged bytes, writes one group (durable if any member asks for it), moves the
    /// ends of the logs that were in it and says which. The shard calls this for ever; what is
    /// staged meanwhile is the next group.
    ///
    /// # Errors
    /// `Failed`: the write failed, now or earlier; nothing more will be acknowledged.
    pub async fn commit_group(&self) -> Result<CommittedGroup, StorageError> {
        let _turn = self.commit_gate.enter().await;
        let Some(group) = self.journal.next_group().await? else {
            let commit = self.journal.sync().await?;
            return Ok(self.applied(&commit, Vec::new()));
        };
        self.wait_for_write_behind().await?;
        let placed = self.journal.place(&group).await?;
        let claimed = self.claim_large(&group).await?;
        let mut extents = self.plan_large(&group, claimed);
        let elsewhere = placed_entries(&extents, group.shared().seq());
        let mut sealed = self.journal.seal(group, placed, &elsewhere);
        let durable = sealed.durable;
        let written =
            zip(self.journal.write(&mut sealed), self.write_large(&mut extents, durable)).await;
        let failed = |error: std::io::Error| self.latch.trip("write of the journal", &error);
        let written = written.0.and(written.1).map_err(failed)?;
        let commit = self.journal.finish(sealed, &written).await?;
        Ok(self.applied(&commit, extents))
    }

    fn applied(&self, commit: &Commit, extents: Vec<LargeExtent>) -> CommittedGroup {
        self.files.pace().note_commit();
        let committed = self.apply(commit, extents);
        let idle = self.latch.check_open().is_err() && self.journal.is_idle();
        if idle || self.has_write_work() || self.checkpoint_is_due() {
            self.work.notify();
        }
        committed
    }

    fn apply(&self, commit: &Commit, extents: Vec<LargeExtent>) -> CommittedGroup {
        let mut members: Vec<CommittedMember> = Vec::with_capacity(commit.members.len());
        for member in &commit.members {
            let slot = (member.slot, member.topic_partition);
            let Some(log) = self.log_in(slot) else { continue };
            let released = {
                let mut log = log.borrow_mut();
                log.on_written(member.end, member.truncations);
                if commit.durable {
                    log.on_durable();
                }
                log.take_released()
            };
            released.into_iter().for_each(|group| self.keep_for_readers(group));
            members.push(ends_of(&log));
        }
        self.settle_large(extents).into_iter().for_each(|group| self.keep_for_readers(group));
        for member in &commit.members {
            let slot = (member.slot, member.topic_partition);
            let Some(log) = self.log_in(slot) else { continue };
            self.queue(slot, &log, commit.durable);
        }
        if commit.durable {
            for slot in self.unsynced.take() {
                let Some(log) = self.log_in(slot) else { continue };
                log.borrow_mut().flags().unsynced = false;
                if log.borrow_mut().on_durable() {
                    members.push(ends_of(&log));
                }
            }
        }
        if let Some(group) = &commit.group {
            // Nothing of it needs writing behind (control entries only, or cut meanwhile).
            if group.is_settled() {
                self.keep_for_readers(group.clone());
            }
        }
        CommittedGroup { members, durable: commit.durable }
    }

    /// Notes what a log with newly written bytes waits for.
    pub(super) fn queue(&self, slot: SlotOf, log: &LogRef, durable: bool) {
        let mut log = log.borrow_mut();
        let unsettled = log.has_unsettled_written();
        let whole_extent = log.unsettled_bytes() >= self.config.extent_bytes;
        let flags = log.flags();
        if !durable && !flags.unsynced {
            flags.unsynced = true;
            self.unsynced.borrow_mut().push(slot);
        }
        if unsettled && !flags.aging {
            flags.aging = true;
            self.aging.borrow_mut().push_back(slot);
        }
        if unsettled && whole_extent && !flags.ready {
            flags.ready = true;
            self.ready.borrow_mut().push_back(slot);
        }
    }
}

fn ends_of(log: &LogRef) -> CommittedMember {
    let log = log.borrow();
    CommittedMember {
        topic_partition: log.topic_partition(),
        written_end: log.written_end(),
        durable_end: log.durable_end(),
    }
}
