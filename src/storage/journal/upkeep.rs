//! What happens to the journal beside batches and their commits: control entries, syncs without a
//! group, where a replay begins, files that nothing needs any more.

use crate::base::ids::{LeaderEpoch, Offset};
#[cfg(feature = "planted-bugs")]
use crate::base::planted::{Bug, is_planted};

use super::super::error::{DiskFull, StorageError};
use super::super::segment::SegmentKey;
use super::format::{EntryHeader, EntryKind};
use super::{
    Commit, Group, Journal, JournalState, Membership, OpenGroup, ReplayFrom, StageFor, note_member,
};

impl JournalState {
    /// Sequence of the first group that is not being written.
    fn first_waiting(&self) -> u64 {
        let open = self.sealed.front().or(self.filling.as_ref());
        open.map_or(self.next_group, |open| open.shared().seq())
    }
}

impl Journal {
    /// Whether appends may be staged, as far as the file system's room goes. What is not appended
    /// (truncations, moves of a log's start, drops) may always be staged.
    ///
    /// # Errors
    /// Not now.
    pub fn check_disk(&self) -> Result<(), DiskFull> {
        self.files.room().check()
    }

    /// Bytes that are held in groups that are not written yet.
    #[must_use]
    pub fn staged_bytes(&self) -> usize {
        self.state.borrow().staged_bytes
    }

    /// The place of the next entry, for a log of which nothing is pending.
    pub(in crate::storage) fn next_entry(&self) -> (u64, u32) {
        let state = self.state.borrow();
        match &state.filling {
            Some(group) => {
                let entries = u32::try_from(group.entry_count()).expect("bounded by its bytes");
                (group.shared().seq(), entries)
            }
            None => (state.next_group, 0),
        }
    }

    /// Stages an entry without payload; always durable. `log_end` is the log's end then.
    pub(in crate::storage) fn stage_control(
        &self,
        demand: &StageFor,
        kind: EntryKind,
        leader_epoch: LeaderEpoch,
        first: Offset,
        log_end: Offset,
    ) -> Membership {
        let mut state = self.state.borrow_mut();
        let open = state.group_for(0, 0, self.group_bytes_max);
        let entry = EntryHeader::control(kind, demand.topic_partition, leader_epoch, first);
        open.push_control(entry);
        let membership = note_member(open, demand, demand.member(log_end, 0));
        drop(state);
        self.staged.notify();
        membership
    }

    /// Whether written records wait for a sync that is due by now (`flush.ms`).
    pub(in crate::storage) fn sync_due(&self, now_ms: i64) -> bool {
        let state = self.state.borrow();
        let open = state.sealed.iter().chain(&state.filling).map(OpenGroup::sync_due_ms).min();
        state.dirty_due_ms.min(open.unwrap_or(i64::MAX)) <= now_ms
    }

    /// Makes the next commit a durable one, even if nothing is staged.
    pub(in crate::storage) fn request_sync(&self) {
        self.state.borrow_mut().sync_requested = true;
        self.staged.notify();
    }

    /// Waits until `group` and everything before it is durable. Somebody must have asked for that:
    /// its control entries do.
    ///
    /// # Errors
    /// `Failed` once the store has failed.
    pub async fn until_durable(&self, group: u64) -> Result<(), StorageError> {
        while self.state.borrow().durable_through < group {
            self.latch.check()?;
            self.latch.or_wait(&self.room).await;
        }
        Ok(())
    }

    /// Segments that a sync would have to cover.
    #[cfg(test)]
    pub(in crate::storage) fn unsynced_extents(&self) -> usize {
        self.state.borrow().dirty_extents.len()
    }

    /// Whether anything waits to be written or synced on request.
    pub(in crate::storage) fn is_idle(&self) -> bool {
        let state = self.state.borrow();
        state.sealed.is_empty() && state.filling.is_none() && !state.in_flight
    }

    /// Bytes of groups written since the store was opened.
    pub(in crate::storage) fn bytes_written(&self) -> u64 {
        self.state.borrow().bytes_written
    }

    /// Where a replay must begin if `oldest` is the oldest group that it needs.
    pub(in crate::storage) fn replay_from(&self, oldest: Option<&Group>) -> ReplayFrom {
        if let Some((place, group)) = oldest.and_then(|group| Some((group.place()?, group.seq()))) {
            return ReplayFrom { file_seq: place.file_seq, pos: place.pos, group };
        }
        // Nothing that is placed is needed: begin with the first group that is not.
        let state = self.state.borrow();
        if let Some(from) = state.unsealed {
            return from;
        }
        let group = state.unplaced.unwrap_or_else(|| state.first_waiting());
        let (file_seq, pos) = self.files.head();
        ReplayFrom { file_seq, pos, group }
    }

    /// Frees the files before `file_seq`; everything in them is durable in segments.
    pub(in crate::storage) fn release_before(&self, file_seq: u64) {
        self.state.borrow_mut().dirty.retain(|(seq, _)| *seq >= file_seq);
        self.files.release_before(file_seq);
    }

    /// Forgets the segments that need no sync any more: a checkpoint has synced them, or they are
    /// gone.
    pub(in crate::storage) fn forget_synced(&self, is_synced: impl Fn(SegmentKey) -> bool) {
        self.state.borrow_mut().dirty_extents.retain(|key, _| !is_synced(*key));
    }

    /// Makes what was written durable; for when [`Journal::next_group`] had no group.
    pub(in crate::storage) async fn sync(&self) -> Result<Commit, StorageError> {
        {
            let mut state = self.state.borrow_mut();
            state.sync_requested = false;
            state.in_flight = true;
        }
        if let Err(error) = self.sync_dirty().await {
            return Err(self.latch.trip("sync of the journal", &error));
        }
        self.latch.check()?;
        let mut state = self.state.borrow_mut();
        state.in_flight = false;
        let last = state.first_waiting() - 1;
        state.become_durable(last);
        Ok(Commit { members: Vec::new(), group: None, durable: true })
    }

    /// Whether a group is written so that it is durable at once: nothing before it waits for a sync.
    pub(super) fn writes_durably(&self, durable: bool) -> bool {
        #[cfg(feature = "planted-bugs")]
        if is_planted(Bug::AckBeforeSync) {
            return false;
        }
        durable && self.state.borrow().dirty.is_empty()
    }

    pub(super) async fn sync_dirty(&self) -> std::io::Result<()> {
        #[cfg(feature = "planted-bugs")]
        if is_planted(Bug::AckBeforeSync) {
            return Ok(());
        }
        let (extents, groups) = {
            let state = self.state.borrow();
            (state.dirty_extents.clone(), state.dirty.clone())
        };
        for segment in extents.into_values() {
            segment.sync(&self.latch).await?;
        }
        for (_, file) in groups {
            file.datasync().await?;
        }
        Ok(())
    }
}
