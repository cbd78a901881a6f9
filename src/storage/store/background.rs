//! The background steps: writing behind, checkpoints, spare journal files, closing.

use std::rc::Rc;

use crate::base::parallel::run_parallel;
#[cfg(feature = "planted-bugs")]
use crate::base::planted::{Bug, is_planted};
use crate::io::disk::is_out_of_room;

use super::super::checkpoint::{Checkpoint, JournalStart};
use super::super::error::StorageError;
use super::super::journal::{Group, ReplayFrom};
use super::super::log::{IndexFlush, LogState};
use super::super::segment::{SegmentKey, write_extent};
use super::{CheckpointTurns, LogRef, SlotOf, Store};

/// Index files that a checkpoint writes at the same time: opening them is what takes long.
const INDEXES_AT_ONCE: usize = 16;

/// Logs whose extents are written at the same time: beginning a segment takes the file system a
/// dozen times as long as writing to one.
const WRITES_AT_ONCE: usize = 8;

/// A moment's state of the store, to be made durable.
struct Image {
    from: ReplayFrom,
    bytes_written: u64,
    states: Vec<LogState>,
    flushes: Vec<(LogRef, IndexFlush)>,
    garbage: Vec<Garbage>,
}

/// A segment that has left its log.
pub(super) type Garbage = (LogRef, SegmentKey);

impl Store {
    /// One step of writing behind: an extent of each of a few logs that have a whole one, or that
    /// have waited for longer than the window of journal bytes, or of those that wait longest when
    /// the journal has no free file. Waits when there is nothing to do.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn write_behind(&self) -> Result<(), StorageError> {
        loop {
            self.latch.check()?;
            let written: Option<Result<(), StorageError>> = {
                let _turn = self.write_gate.enter().await;
                let picked = self.pick_to_write();
                let writes = picked.iter().map(|(slot, log)| self.write_log(*slot, log));
                let written = run_parallel(WRITES_AT_ONCE, writes).await.into_iter().collect();
                (!picked.is_empty()).then_some(written)
            };
            match written {
                // Not inside the gate: what is deleted meanwhile makes room.
                Some(Err(StorageError::NoRoom)) => return self.until_room().await,
                Some(written) => return written,
                None => self.wait_for_work().await?,
            }
        }
    }

    /// Makes what is in segments durable, says so in a checkpoint, and frees the journal files that
    /// neither of the two checkpoint copies needs.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn checkpoint(&self) -> Result<(), StorageError> {
        self.checkpoint_as(false).await
    }

    /// Waits until a checkpoint would be worth it (enough journal was written since the last, or
    /// a commit waits for a free file), then does it.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn checkpoint_when_due(&self) -> Result<(), StorageError> {
        loop {
            self.latch.check()?;
            if self.checkpoint_is_due() {
                return self.checkpoint().await;
            }
            self.wait_for_work().await?;
        }
    }

    /// Waits until a spare journal file is missing, then writes one.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn prewrite(&self) -> Result<(), StorageError> {
        let files = self.journal.files();
        loop {
            self.latch.check_open()?;
            if files.wants_spare() && !self.room.refuses() {
                return match files.prewrite().await {
                    Err(error) if is_out_of_room(&error) => self.until_room().await,
                    written => {
                        written.map_err(|error| self.latch.trip("spare journal file", &error))
                    }
                };
            }
            let changed =
                futures_lite::future::or(files.changed().wait(), self.room.retry().wait());
            futures_lite::future::or(changed, self.latch.until_over()).await;
        }
    }

    /// Lets the loops of the steps end with `Closing`: commits once nothing is staged, the others
    /// when no commit can need them any more. Call [`Store::close`] when all have ended.
    pub fn begin_close(&self) {
        self.latch.begin_close();
    }

    /// Writes everything into segments and leaves a checkpoint behind which the next start reads
    /// nothing. The loops that call the other steps have ended: see [`Store::begin_close`].
    ///
    /// # Errors
    /// `Failed`: the next start replays the journal, as after a crash.
    pub async fn close(self: Rc<Self>) -> Result<(), StorageError> {
        while !self.journal.is_idle() {
            self.request_sync();
            self.commit_group().await?;
        }
        {
            let _turn = self.write_gate.enter().await;
            for log in self.open_logs() {
                while write_extent(&self.files, &log, self.clock.wall_ms()).await?.is_some() {}
            }
        }
        let dirty = !self.garbage.borrow().is_empty()
            || self.open_logs().iter().any(|log| log.borrow().has_garbage());
        if dirty {
            self.checkpoint_as(false).await?;
        }
        self.checkpoint_as(true).await?;
        self.remove_before_end().await
    }

    /// Whether [`Store::write_behind`] would do something.
    pub(super) fn has_write_work(&self) -> bool {
        !self.ready.borrow().is_empty() || self.pressing().is_some()
    }

    /// Whether [`Store::checkpoint_when_due`] would do something.
    pub(super) fn checkpoint_is_due(&self) -> bool {
        let turns = self.turns.get();
        let since = self.journal.bytes_written() - turns.bytes_at_last;
        if since >= self.config.checkpoint_bytes {
            return true;
        }
        // Somebody waits for a file: would this or the next one free any?
        self.journal.files().is_starved()
            && (turns.previous.file_seq < turns.last.file_seq
                || turns.last.file_seq < self.replay_from().file_seq)
    }

    async fn wait_for_work(&self) -> Result<(), StorageError> {
        // A commit that is still to come may need a journal file that only we can free.
        if self.journal.is_idle() {
            self.latch.check_open()?;
        }
        let either = futures_lite::future::or(
            self.latch.or_wait(&self.work),
            self.journal.files().changed().wait(),
        );
        either.await;
        Ok(())
    }

    /// The log that waits longest, if it must be written now, however little it has.
    fn pressing(&self) -> Option<(SlotOf, LogRef)> {
        let (slot, log) = self.longest_waiting()?;
        if self.journal.files().is_starved() {
            return Some((slot, log));
        }
        let behind = self.bytes_behind(&log)?;
        (behind >= self.window_bytes()).then_some((slot, log))
    }

    /// How much journal a batch may wait for to go into its segment. With thousands of logs each gets
    /// a small part of it, and writing a segment costs about the same for one batch as for fifty.
    fn window_bytes(&self) -> u64 {
        let shared = self.aging.borrow().len() as u64 * self.config.write_behind_bytes_per_log;
        let journal_bytes = self.config.journal_file_bytes * self.config.journal_files_max as u64;
        shared.min(journal_bytes / 2).max(self.config.write_behind_window_bytes)
    }

    /// Journal bytes since the log's oldest batch that is in no segment.
    fn bytes_behind(&self, log: &LogRef) -> Option<u64> {
        let place = log.borrow().oldest_unsettled().and_then(|group| group.place())?;
        Some(self.journal.bytes_written() - place.bytes_before)
    }

    /// Waits while writing behind is so far behind that the journal would soon have no free file:
    /// many short waits instead of a long one.
    ///
    /// # Errors
    /// `Failed`.
    pub(super) async fn wait_for_write_behind(&self) -> Result<(), StorageError> {
        let journal_bytes = self.config.journal_file_bytes * self.config.journal_files_max as u64;
        let bound = (2 * self.config.write_behind_window_bytes).max(journal_bytes / 4 * 3);
        loop {
            self.latch.check()?;
            if self.room.is_stuck() {
                // Appends are refused; what frees room must get into the journal.
                return Ok(());
            }
            let longest = self.longest_waiting();
            if longest.and_then(|(_, log)| self.bytes_behind(&log)).is_none_or(|it| it < bound) {
                return Ok(());
            }
            self.latch.or_wait(&self.written_behind).await;
        }
    }

    /// The front of the queue, rid of logs that have nothing to write any more.
    fn longest_waiting(&self) -> Option<(SlotOf, LogRef)> {
        loop {
            let slot = *self.aging.borrow().front()?;
            if let Some(log) = self.log_in(slot) {
                if log.borrow().has_unsettled_written() {
                    return Some((slot, log));
                }
                log.borrow_mut().flags().aging = false;
            }
            self.aging.borrow_mut().pop_front();
        }
    }

    /// Logs to write an extent of, each of them once.
    fn pick_to_write(&self) -> Vec<(SlotOf, LogRef)> {
        let mut picked: Vec<(SlotOf, LogRef)> = Vec::new();
        while picked.len() < WRITES_AT_ONCE {
            let Some((slot, log)) = self.next_to_write() else { break };
            picked.push((slot, log));
        }
        picked
    }

    fn next_to_write(&self) -> Option<(SlotOf, LogRef)> {
        loop {
            let ready = self.ready.borrow_mut().pop_front();
            let Some(slot) = ready else { break };
            if let Some(log) = self.log_in(slot) {
                log.borrow_mut().flags().ready = false;
                if self.begin_write(&log) {
                    return Some((slot, log));
                }
            }
        }
        loop {
            let (slot, log) = self.pressing()?;
            self.aging.borrow_mut().pop_front();
            log.borrow_mut().flags().aging = false;
            if self.begin_write(&log) {
                return Some((slot, log));
            }
        }
    }

    /// Whether nobody else writes an extent of the log; nobody else does from now on. A log that
    /// its commit writes is queued again by it.
    fn begin_write(&self, log: &LogRef) -> bool {
        let mut log = log.borrow_mut();
        let flags = log.flags();
        !flags.claimed && !std::mem::replace(&mut flags.writing, true)
    }

    async fn write_log(&self, slot: SlotOf, log: &LogRef) -> Result<(), StorageError> {
        let done = match write_extent(&self.files, log, self.clock.wall_ms()).await {
            Err(StorageError::NoRoom) => Err(StorageError::NoRoom),
            done => Ok(done?),
        };
        if let Some(key) = log.borrow().last_segment() {
            self.spare_segment(key);
        }
        let freed = done.as_ref().ok().cloned().flatten();
        freed.into_iter().flatten().for_each(|group| self.keep_for_readers(group));
        {
            let mut log = log.borrow_mut();
            let left = log.has_unsettled_written() && !log.is_deleted();
            let whole_extent = log.unsettled_bytes() >= self.config.extent_bytes;
            let flags = log.flags();
            flags.writing = false;
            if left && !flags.aging {
                // What is left waited as long as the others at the front.
                flags.aging = true;
                self.aging.borrow_mut().push_front(slot);
            }
            if left && whole_extent && !flags.ready {
                flags.ready = true;
                self.ready.borrow_mut().push_back(slot);
            }
        }
        self.written_behind.notify();
        if self.checkpoint_is_due() {
            self.work.notify();
        }
        done.map(|_| ())
    }

    fn replay_from(&self) -> ReplayFrom {
        self.journal.replay_from(self.oldest_needed().as_deref())
    }

    /// The oldest group with batches that are in no segment.
    fn oldest_needed(&self) -> Option<Rc<Group>> {
        let slots = self.slots.borrow();
        let groups =
            slots.logs.iter().flatten().filter_map(|log| log.borrow().oldest_unsettled().cloned());
        groups.min_by_key(|group| group.seq())
    }

    async fn checkpoint_as(&self, clean: bool) -> Result<(), StorageError> {
        while !self.try_checkpoint(clean).await? {
            if !self.journal.files().give_back_spare().await {
                self.until_room().await?;
            }
        }
        Ok(())
    }

    /// Says whether there was room for it.
    async fn try_checkpoint(&self, clean: bool) -> Result<bool, StorageError> {
        let _turn = self.checkpoint_gate.enter().await;
        self.latch.check()?;
        let image = self.image();
        match self.write_checkpoint(&image, clean).await {
            Err(error) if is_out_of_room(&error) => {
                let unforgotten = image.garbage.into_iter();
                unforgotten.for_each(|(log, key)| log.borrow_mut().return_garbage(key));
                return Ok(false);
            }
            written => written.map_err(|error| self.latch.trip("checkpoint", &error))?,
        }
        for (log, flush) in &image.flushes {
            log.borrow_mut().index_flushed(flush);
        }
        let turns = self.turns.get();
        self.turns.set(CheckpointTurns {
            sequence: turns.sequence + 1,
            last: image.from,
            previous: turns.last,
            bytes_at_last: image.bytes_written,
        });
        // The older copy must stay good.
        self.journal.release_before(turns.last.file_seq);
        #[cfg(feature = "planted-bugs")]
        if is_planted(Bug::JournalFreedTooEarly) {
            self.journal.release_before(image.from.file_seq);
        }
        self.journal.forget_synced(|key| self.files.is_synced(key));
        // These had left their logs before the checkpoint before this one: neither names them.
        let unnamed = self.garbage.replace(image.garbage);
        unnamed.into_iter().for_each(|(log, key)| self.doom_segment(log, key));
        Ok(true)
    }

    fn image(&self) -> Image {
        let next_entry = self.journal.next_entry();
        let logs = self.open_logs();
        let touched = logs.iter().filter(|log| log.borrow().is_touched());
        let states = touched.map(|log| log.borrow().to_state(next_entry)).collect();
        let flushes = logs
            .iter()
            .flat_map(|log| log.borrow().index_flushes().into_iter().map(|f| (log.clone(), f)))
            .collect();
        let garbage = logs.iter().flat_map(|log| {
            let keys = log.borrow_mut().take_garbage();
            keys.into_iter().map(|key| (log.clone(), key)).collect::<Vec<_>>()
        });
        Image {
            from: self.replay_from(),
            bytes_written: self.journal.bytes_written(),
            states,
            flushes,
            garbage: garbage.collect(),
        }
    }

    async fn write_checkpoint(&self, image: &Image, clean: bool) -> std::io::Result<()> {
        let flushes = image.flushes.iter().filter(|(log, _)| !log.borrow().is_deleted());
        let writes = flushes.map(|(_, flush)| async {
            let written = self.files.write_index(flush.key, flush.first, &flush.entries).await;
            super::super::segment::missing_is_none(written)
        });
        for written in run_parallel(INDEXES_AT_ONCE, writes).await {
            written?;
        }
        self.files.sync_written().await?;
        let checkpoint = Checkpoint {
            generation: self.generation,
            clean,
            journals: vec![JournalStart::new(self.shard.0, image.from, true)],
            logs: image.states.clone(),
        };
        let sequence = self.turns.get().sequence + 1;
        self.checkpoints.write(&self.disk, sequence, &checkpoint).await
    }
}
