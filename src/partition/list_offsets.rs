//! Offsets by name and by time, as the ListOffsets API asks for them.

use std::cell::RefCell;
use std::rc::Rc;

use crate::base::ids::{LeaderEpoch, Offset};
use crate::storage::{Log, StorageError, TimestampFound, TimestampPlan};

use super::Partition;
use super::epochs::AccessError;
use super::read_plan::Isolation;

/// Which offset is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The end of what the reader may see (-1).
    Latest,
    /// The first record that exists (-2).
    Earliest,
    /// The first of the records with the largest timestamp (-3, KIP-734).
    MaxTimestamp,
    /// The first record on this machine (-4, KIP-405).
    EarliestLocal,
    /// The last record in tiered storage (-5, KIP-1005).
    LatestTiered,
    /// The first record whose timestamp is at least this, in milliseconds.
    Timestamp(i64),
}

impl OffsetSpec {
    /// What a timestamp in a request means; `None` for a negative one without meaning here, which
    /// Kafka calls an unsupported version (reliability case 92).
    #[must_use]
    pub fn from_timestamp(timestamp_ms: i64) -> Option<OffsetSpec> {
        match timestamp_ms {
            -1 => Some(OffsetSpec::Latest),
            -2 => Some(OffsetSpec::Earliest),
            -3 => Some(OffsetSpec::MaxTimestamp),
            -4 => Some(OffsetSpec::EarliestLocal),
            -5 => Some(OffsetSpec::LatestTiered),
            0.. => Some(OffsetSpec::Timestamp(timestamp_ms)),
            _ => None,
        }
    }
}

/// An offset that was asked for, in the form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset; [`Offset::UNKNOWN`] if there is none.
    pub offset: Offset,
    /// The record's timestamp where it was looked for by time; else -1.
    pub timestamp_ms: i64,
    /// The epoch that the offset belongs to, where it is known.
    pub leader_epoch: Option<LeaderEpoch>,
}

impl ListedOffset {
    /// No such record.
    pub const NONE: ListedOffset =
        ListedOffset { offset: Offset::UNKNOWN, timestamp_ms: -1, leader_epoch: None };
}

/// An answer, or the search that finds it.
pub enum OffsetLookup {
    /// Known at once.
    Known(ListedOffset),
    /// Needs batches to be read: drive it outside of any borrow of the partition.
    Search(OffsetSearch),
}

/// A look-up by time under way. Holds the log, not the partition.
pub struct OffsetSearch {
    log: Rc<RefCell<Log>>,
    plan: TimestampPlan,
}

impl OffsetSearch {
    /// Finds the record, exact inside a compressed batch.
    ///
    /// # Errors
    /// [`StorageError`] if the batch that should hold it cannot be read.
    pub async fn find(self) -> Result<ListedOffset, StorageError> {
        let Some(TimestampFound { offset, timestamp_ms }) = self.plan.find().await? else {
            return Ok(ListedOffset::NONE);
        };
        let leader_epoch = self.log.borrow().epochs().epoch_at(offset);
        Ok(ListedOffset { offset, timestamp_ms, leader_epoch })
    }
}

impl Partition {
    /// Looks an offset up. Readers find no record at or beyond the end that their isolation lets
    /// them see, by time neither.
    ///
    /// # Errors
    /// [`AccessError`] if `current_leader_epoch` is not the leader's, or the partition is closed.
    pub fn list_offset(
        &self,
        spec: OffsetSpec,
        isolation: Isolation,
        current_leader_epoch: Option<LeaderEpoch>,
    ) -> Result<OffsetLookup, AccessError> {
        self.check_access(current_leader_epoch)?;
        let log = self.log.borrow();
        let offsets = self.offsets.get();
        let upto = match isolation {
            Isolation::ReadUncommitted => offsets.high_watermark,
            Isolation::ReadCommitted => offsets.last_stable,
        };
        let known = |offset, leader_epoch| {
            OffsetLookup::Known(ListedOffset { offset, timestamp_ms: -1, leader_epoch })
        };
        let search = |plan| OffsetLookup::Search(OffsetSearch { log: self.log.clone(), plan });
        let epoch_at = |offset| log.epochs().epoch_at(offset);
        Ok(match spec {
            OffsetSpec::Latest => known(upto, Some(self.leader_epoch)),
            OffsetSpec::Earliest => known(offsets.log_start, epoch_at(offsets.log_start)),
            OffsetSpec::EarliestLocal => {
                known(offsets.local_log_start, epoch_at(offsets.local_log_start))
            }
            // Nothing is tiered: Kafka says offset -1 and epoch -1 then.
            OffsetSpec::LatestTiered => OffsetLookup::Known(ListedOffset::NONE),
            OffsetSpec::MaxTimestamp => search(log.plan_max_timestamp(upto)),
            OffsetSpec::Timestamp(target_ms) => search(log.plan_timestamp(target_ms, upto)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_special_timestamps_of_kafka_have_a_meaning() {
        assert_eq!(OffsetSpec::from_timestamp(0), Some(OffsetSpec::Timestamp(0)));
        assert_eq!(OffsetSpec::from_timestamp(-1), Some(OffsetSpec::Latest));
        assert_eq!(OffsetSpec::from_timestamp(-2), Some(OffsetSpec::Earliest));
        assert_eq!(OffsetSpec::from_timestamp(-5), Some(OffsetSpec::LatestTiered));
        for nonsense in [-6, -99, i64::MIN] {
            assert_eq!(OffsetSpec::from_timestamp(nonsense), None);
        }
    }
}
