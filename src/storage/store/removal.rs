//! Files that nothing needs any more go away piece by piece, in the background.
//!
//! A segment comes here when neither copy of the checkpoint names it, a partition when it was
//! deleted. What a crash leaves is found by [`Store::sweep`] at the next start.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::PathBuf;

use rustc_hash::FxHashSet;

use crate::base::ids::{ShardId, TopicPartition};
use crate::io::disk::is_out_of_room;

use super::super::error::StorageError;
use super::super::segment::{Removed, SegmentKey};
use super::{LogRef, Store};

/// What the end waits for: each may take the device a millisecond and more.
const REMOVED_AT_END_MAX: usize = 64;

/// Files to be removed.
pub(super) struct Removal {
    what: Doomed,
    /// By the monotonic clock.
    due_ms: i64,
}

enum Doomed {
    Segment(LogRef, SegmentKey),
    /// A deleted partition's directory.
    Directory(PathBuf),
}

/// Files to be removed, in order.
#[derive(Default)]
pub(super) struct Removals {
    waiting: RefCell<VecDeque<Removal>>,
    /// The segment that is removed just now, unless its name was taken again.
    current: Cell<Option<SegmentKey>>,
}

impl Store {
    /// Removes files that are due, about `removal_piece_bytes` of them. Says whether there was that
    /// much: the caller lets others use the disk before the next piece.
    ///
    /// # Errors
    /// `Failed`, or `Closing`.
    pub async fn remove_piece(&self) -> Result<bool, StorageError> {
        self.latch.check_open()?;
        let mut left = self.config.removal_piece_bytes;
        while left > 0 {
            let Some(removal) = self.take_due() else { return Ok(false) };
            let (bytes, is_whole) = self.remove(&removal.what, left).await?;
            if !is_whole {
                self.removals.waiting.borrow_mut().push_front(removal);
            }
            left = left.saturating_sub(bytes);
        }
        Ok(true)
    }

    /// Whether files wait to be removed, now or later.
    #[must_use]
    pub fn has_removals(&self) -> bool {
        !self.removals.waiting.borrow().is_empty()
    }

    /// Waits until there are more files to remove than now, or until the store closes.
    pub async fn removals_come(&self) {
        if self.latch.check_open().is_ok() {
            self.latch.or_wait(&self.doomed).await;
        }
    }

    /// Resolves when the store closes, or has failed.
    pub async fn until_over(&self) {
        self.latch.until_over().await;
    }

    /// Has the checkpoints forget the segments that have left their logs, so that their files can go.
    ///
    /// # Errors
    /// `Failed`, or `Closing`.
    pub async fn forget_dropped(&self) -> Result<(), StorageError> {
        self.latch.check_open()?;
        if self.open_logs().iter().any(|log| log.borrow().has_garbage()) {
            self.checkpoint().await?;
        }
        if self.garbage.borrow().is_empty() { Ok(()) } else { self.checkpoint().await }
    }

    /// Looks for files of segments that left their logs before the last start, and of partitions that
    /// were deleted, and were not all removed then. Once, after the logs were opened.
    ///
    /// # Errors
    /// `Failed`, or `Closing`.
    pub async fn sweep(&self) -> Result<(), StorageError> {
        for log in self.open_logs() {
            self.latch.check_open()?;
            let tp = log.borrow().topic_partition();
            let may_have = log.borrow().may_have_left_overs() && !log.borrow().is_deleted();
            if may_have {
                // A checkpoint under way holds segments that only the one before it names, and no
                // new one is made while it is not known to its log.
                let _checkpoint = self.checkpoint_gate.enter().await;
                let _turn = self.write_gate.enter().await;
                let found = self.files.segments_found(tp).await;
                let found = found.map_err(|error| self.latch.trip("look for segments", &error))?;
                let waiting = self.dropped_segments();
                let is_left =
                    |key: &SegmentKey| !log.borrow().has_segment(*key) && !waiting.contains(key);
                let left = found.into_iter().filter(is_left);
                left.for_each(|key| self.doom(Doomed::Segment(log.clone(), key), 0));
                futures_lite::future::yield_now().await;
            }
        }
        if self.shard == ShardId(0) {
            // Whichever shard they were on.
            let left = self.files.retired_partitions().await;
            let left = left.map_err(|error| self.latch.trip("look for partitions", &error))?;
            left.into_iter().for_each(|dir| self.doom(Doomed::Directory(dir), 0));
        }
        Ok(())
    }

    /// The name was taken by a new segment, after a truncation: nothing that was doomed under it may
    /// be removed any more, also once the new one has left its log. Checkpoints may name that one.
    pub(super) fn spare_segment(&self, key: SegmentKey) {
        if self.removals.current.get() == Some(key) {
            self.removals.current.set(None);
        }
        let is_other = |removal: &Removal| match &removal.what {
            Doomed::Segment(_, doomed) => *doomed != key,
            Doomed::Directory(_) => true,
        };
        self.removals.waiting.borrow_mut().retain(is_other);
    }

    /// Segments that left their logs in this run: checkpoints may still name them, or readers may be
    /// in their files.
    fn dropped_segments(&self) -> FxHashSet<SegmentKey> {
        let removals = self.removals.waiting.borrow();
        let doomed = removals.iter().filter_map(|removal| match &removal.what {
            Doomed::Segment(_, key) => Some(*key),
            Doomed::Directory(_) => None,
        });
        let unnamed = self.garbage.borrow();
        let mut dropped: FxHashSet<SegmentKey> = doomed.collect();
        dropped.extend(unnamed.iter().map(|(_, key)| *key));
        dropped.extend(self.open_logs().iter().flat_map(|log| log.borrow().garbage().to_vec()));
        dropped
    }

    /// No checkpoint names the segment any more.
    pub(super) fn doom_segment(&self, log: LogRef, key: SegmentKey) {
        let delay_ms = log.borrow().config().file_delete_delay_ms;
        self.doom(Doomed::Segment(log, key), delay_ms);
    }

    /// Takes the directories of partitions that are no more out of the way, to be removed.
    pub(super) async fn retire_partitions(
        &self,
        gone: &[TopicPartition],
    ) -> Result<(), StorageError> {
        let retired = self.files.retire_partitions(gone).await;
        let retired = retired.map_err(|error| self.latch.trip("removal of a partition", &error))?;
        retired.into_iter().for_each(|dir| self.doom(Doomed::Directory(dir), 0));
        Ok(())
    }

    /// Removes a few, due or not; the rest is found at the next start.
    pub(super) async fn remove_before_end(&self) -> Result<(), StorageError> {
        for removal in self.removals.waiting.take().into_iter().take(REMOVED_AT_END_MAX) {
            self.remove(&removal.what, self.config.removal_piece_bytes).await?;
        }
        Ok(())
    }

    fn doom(&self, what: Doomed, delay_ms: i64) {
        let due_ms = self.clock.now().steady_ms.saturating_add(delay_ms);
        self.removals.waiting.borrow_mut().push_back(Removal { what, due_ms });
        self.doomed.notify();
    }

    fn take_due(&self) -> Option<Removal> {
        let now_ms = self.clock.now().steady_ms;
        let mut removals = self.removals.waiting.borrow_mut();
        let place = removals.iter().position(|removal| removal.due_ms <= now_ms)?;
        removals.remove(place)
    }

    async fn remove(&self, what: &Doomed, bytes_max: u64) -> Result<(u64, bool), StorageError> {
        let removed = match what {
            Doomed::Directory(dir) => self.files.remove_directory(dir, bytes_max).await,
            Doomed::Segment(log, key) => {
                self.removals.current.set(Some(*key));
                // No segment may take the name again while its old file is removed.
                let _turn = self.write_gate.enter().await;
                let is_wanted =
                    self.removals.current.take() != Some(*key) || log.borrow().has_segment(*key);
                if is_wanted || log.borrow().is_deleted() {
                    return Ok((0, true));
                }
                self.files.remove_segment(*key, bytes_max).await
            }
        };
        let removed = match removed {
            // Some file systems need room to give room back.
            Err(error) if is_out_of_room(&error) => {
                self.until_room().await?;
                Removed { bytes: 0, is_whole: false }
            }
            removed => removed.map_err(|error| self.latch.trip("removal of a segment", &error))?,
        };
        Ok((removed.bytes, removed.is_whole))
    }
}
