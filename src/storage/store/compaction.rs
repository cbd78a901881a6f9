//! Compaction as the store's caller sees it: begin a pass, do it step by step.

use crate::base::ids::{Offset, TopicPartition};
use crate::io::disk::is_out_of_room;

use super::super::compaction::{Compaction, CompactionError, CompactionStep};
use super::super::error::StorageError;
use super::Store;

/// How a step of a pass ended.
#[derive(Debug)]
pub enum CompactionProgress {
    /// It did something; there may be more.
    Step(CompactionStep),
    /// The pass has ended early and left the log as it was: it was overtaken by a truncation or by
    /// retention, the disk is full, or a part of the log cannot be read.
    GaveUp(Option<StorageError>),
}

impl Store {
    /// A pass over a log of this store, up to the last closed segment that ends at or before `upto`;
    /// `None` if there is nothing to do. The keys that it notes take at most about `map_bytes_max`. At
    /// most one pass a log at a time.
    #[must_use]
    pub fn begin_compaction(
        &self,
        tp: TopicPartition,
        upto: Offset,
        map_bytes_max: usize,
    ) -> Option<Compaction> {
        if self.room.refuses() {
            return None; // what it writes would come from the reserve
        }
        let log = self.log(tp)?;
        let now = self.clock.now();
        let plan = log.borrow().plan_compaction(upto, now)?;
        let files = self.files.clone();
        Some(Compaction::new(log, files, plan, now.wall_ms, map_bytes_max))
    }

    /// Does a little of a pass: reads and writes about a quarter of a megabyte. Call it until it is over or has given up.
    ///
    /// # Errors
    /// `Failed` (a write or sync failed), or `Closing`.
    pub async fn compact_a_little(
        &self,
        pass: &mut Compaction,
    ) -> Result<CompactionProgress, StorageError> {
        self.latch.check_open()?;
        let output = pass.next_output();
        let _turn = match output {
            // Not while a file of that name is removed, which a crash left; nor may it be later.
            Some(key) => {
                let turn = self.write_gate.enter().await;
                self.spare_segment(key);
                Some(turn)
            }
            None => None,
        };
        let step = match self.room.refuses() {
            true => Err(CompactionError::Read(StorageError::NoRoom)),
            false => pass.step().await,
        };
        match step {
            Ok(step) => Ok(CompactionProgress::Step(step)),
            Err(error) => {
                let why = match error {
                    CompactionError::Overtaken => None,
                    CompactionError::Write(_) if pass.is_void() => None,
                    CompactionError::Read(error @ StorageError::Failed(_)) => return Err(error),
                    CompactionError::Read(error) => Some(error),
                    CompactionError::Write(error) if is_out_of_room(&error) => {
                        Some(StorageError::read("writing a compacted segment", error))
                    }
                    CompactionError::Write(error) => {
                        return Err(self.latch.trip("write of a compacted segment", &error));
                    }
                };
                if pass.is_void() {
                    // A write may have made the directory again.
                    self.retire_partitions(&[pass.topic_partition()]).await?;
                    return Ok(CompactionProgress::GaveUp(why));
                }
                let removed = pass.abandon(self.config.removal_piece_bytes).await;
                removed.map_err(|error| self.latch.trip("removal of a segment", &error))?;
                Ok(CompactionProgress::GaveUp(why))
            }
        }
    }
}
