//! The one way of a produced batch into a partition.

use crate::base::ids::Offset;
use crate::record::{RecordBatch, UncheckedBatch};
use crate::storage::producer_table::{AppendedBatch, SequenceCheck, SequenceError};
use crate::storage::{Journal, StampChoice};

use super::Partition;
use super::ack_queue::Acked;
use super::admission::admit;
pub use super::append_error::AppendError;
use super::config::TimestampRule;
use super::offsets::OffsetChain;

/// A batch that has its place. Sequenced when [`Partition::append`] returns; acknowledged when
/// `acked` resolves.
pub struct AppendTicket {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// What the response says as log append time: the time of the append where the topic uses it;
    /// for a retry the original's largest timestamp, as Kafka answers; else `None` (-1).
    pub log_append_time_ms: Option<i64>,
    /// The first record that exists.
    pub log_start: Offset,
    /// Whether the batch was in the log already.
    pub is_duplicate: bool,
    /// Resolves in offset order, once the batch (or the original of a retry) may be acknowledged.
    pub acked: Acked,
}

impl Partition {
    /// Appends one batch of a producer, or finds that it is in the log already. Sequenced at once,
    /// in the order of the calls, without waiting; the caller has made sure that the journal has
    /// room. The order of the checks is Kafka's (`UnifiedLog.append`): the batch, then its
    /// producer, so a broken retry is refused and not recognised.
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn append(
        &mut self,
        journal: &Journal,
        batch: UncheckedBatch,
        now_ms: i64,
    ) -> Result<AppendTicket, AppendError> {
        if let Some(reason) = self.closed {
            return Err(AppendError::Closed(reason));
        }
        let batch = admit(&self.config, batch, now_ms)?;
        if let Some(original) = self.check_producer(&batch)? {
            return Ok(self.duplicate(&original));
        }
        journal.check_disk()?;
        Ok(self.sequence(journal, &batch, now_ms))
    }

    /// The original, if the batch is a retry; `None` if it comes next.
    fn check_producer(&self, batch: &RecordBatch) -> Result<Option<AppendedBatch>, AppendError> {
        let Some(stamp) = batch.producer() else { return Ok(None) };
        let check = self.log.borrow().producers().check(&stamp);
        // Kafka's order again: a retry and a fenced producer are told so even in a transaction
        // that nobody knows.
        let is_gap = matches!(check, Err(SequenceError::OutOfOrder { .. }));
        if batch.is_transactional() && (is_gap || check == Ok(SequenceCheck::New)) {
            return Err(AppendError::NoTransaction);
        }
        match check? {
            SequenceCheck::New => Ok(None),
            SequenceCheck::Duplicate(original) => Ok(Some(original)),
        }
    }

    fn sequence(&mut self, journal: &Journal, batch: &RecordBatch, now_ms: i64) -> AppendTicket {
        let log_append_time_ms = match self.config.timestamps {
            TimestampRule::CreateTime { .. } => None,
            TimestampRule::LogAppendTime => Some(now_ms),
        };
        let stamp = StampChoice { leader_epoch: self.leader_epoch, log_append_time_ms };
        let appended = self.log.borrow_mut().append(journal, batch, stamp);
        let before = *self.offsets.get();
        assert_eq!(appended.base_offset, before.log_end, "the log and its leader disagree");
        let log_end = appended.last_offset.plus(1);
        self.offsets.set(OffsetChain { log_end, ..before });
        AppendTicket {
            base_offset: appended.base_offset,
            last_offset: appended.last_offset,
            log_append_time_ms,
            log_start: before.log_start,
            is_duplicate: false,
            acked: self.acks.wait_for(log_end, before.ackable),
        }
    }

    fn duplicate(&mut self, original: &AppendedBatch) -> AppendTicket {
        let offsets = *self.offsets.get();
        AppendTicket {
            base_offset: original.base_offset,
            last_offset: original.last_offset,
            log_append_time_ms: Some(original.timestamp_ms),
            log_start: offsets.log_start,
            is_duplicate: true,
            acked: self.acks.wait_for(original.last_offset.plus(1), offsets.ackable),
        }
    }
}
