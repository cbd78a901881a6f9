//! What a fetch may see of a partition, decided in one moment without waiting.

use crate::base::ids::{LeaderEpoch, Offset};
use crate::storage::ReadPlan;
use crate::storage::epoch_history::EpochHistory;

use super::Partition;
use super::epochs::{AccessError, Lineage, lineage};
use super::offsets::OffsetChain;

/// How far a reader sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// To the high watermark.
    ReadUncommitted,
    /// To the last stable offset.
    ReadCommitted,
}

/// What a fetch wants of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    /// The next record that the reader lacks. Any number, as it came.
    pub fetch_offset: Offset,
    /// Bytes that are wanted; a batch that is larger comes whole all the same (KIP-74). 0 plans
    /// nothing and still tells of offsets and epochs.
    pub bytes_max: usize,
    /// The leader's epoch as the reader knows it.
    pub current_leader_epoch: Option<LeaderEpoch>,
    /// Epoch of the last record that the reader has (Fetch v12 and later).
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// How far the reader may see.
    pub isolation: Isolation,
}

/// What a fetch gets.
pub struct ReadOutcome {
    /// The batches to send; `None` if there is nothing to read (yet), or the reader diverges.
    pub plan: Option<ReadPlan>,
    /// End of what is committed.
    pub high_watermark: Offset,
    /// End of what `read_committed` readers see.
    pub last_stable: Offset,
    /// The first record that exists.
    pub log_start: Offset,
    /// Set if the reader's log is not a prefix of ours: the largest epoch that both may share and
    /// where it ends here. The reader truncates and asks again (KIP-320, KIP-595).
    pub diverging: Option<(LeaderEpoch, Offset)>,
}

/// Why a fetch gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Not this leader, or no leader.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The offset does not exist (OFFSET_OUT_OF_RANGE, 1).
    #[error("offset {fetch_offset} is not within {log_start} to {log_end}")]
    OutOfRange {
        /// What was asked for.
        fetch_offset: Offset,
        /// The first record.
        log_start: Offset,
        /// The end of the log.
        log_end: Offset,
    },
}

/// What [`decide`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Read { from: Offset, upto: Offset },
    Nothing,
    Diverging(LeaderEpoch, Offset),
}

/// Kafka's order (`Partition.readRecords`, then `UnifiedLog.read`): lineage first, then the range.
/// An offset between the reader's bound and the log end is not an error: the reader waits there.
fn decide(
    request: &ReadRequest,
    offsets: &OffsetChain,
    history: &EpochHistory,
) -> Result<Decision, ReadError> {
    let fetch_offset = request.fetch_offset;
    let OffsetChain { log_start, log_end, .. } = *offsets;
    let out_of_range = ReadError::OutOfRange { fetch_offset, log_start, log_end };
    // Before the epochs: an offset that retention took is gone, whatever line it was on.
    if fetch_offset < log_start {
        return Err(out_of_range);
    }
    if let Some(epoch) = request.last_fetched_epoch {
        match lineage(history, log_end, epoch, fetch_offset) {
            Lineage::Same => {}
            Lineage::Diverging(epoch, end) => return Ok(Decision::Diverging(epoch, end)),
            Lineage::Unknown => return Err(out_of_range),
        }
    }
    if fetch_offset > log_end {
        return Err(out_of_range);
    }
    let upto = match request.isolation {
        Isolation::ReadUncommitted => offsets.high_watermark,
        Isolation::ReadCommitted => offsets.last_stable,
    };
    if fetch_offset >= upto || request.bytes_max == 0 {
        return Ok(Decision::Nothing);
    }
    Ok(Decision::Read { from: fetch_offset, upto })
}

impl Partition {
    /// Plans a read. The plan holds what it needs: the partition may be changed, moved or closed
    /// while it is read.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn plan_read(&self, request: &ReadRequest) -> Result<ReadOutcome, ReadError> {
        self.check_access(request.current_leader_epoch)?;
        let log = self.log.borrow();
        let offsets = *self.offsets.get();
        let mut outcome = ReadOutcome {
            plan: None,
            high_watermark: offsets.high_watermark,
            last_stable: offsets.last_stable,
            log_start: offsets.log_start,
            diverging: None,
        };
        match decide(request, &offsets, log.epochs())? {
            Decision::Read { from, upto } => {
                outcome.plan = Some(log.plan_read(from, upto, request.bytes_max));
            }
            Decision::Nothing => {}
            Decision::Diverging(epoch, end) => outcome.diverging = Some((epoch, end)),
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFSETS: OffsetChain = OffsetChain {
        log_start: Offset(10),
        local_log_start: Offset(10),
        last_stable: Offset(30),
        high_watermark: Offset(40),
        ackable: Offset(45),
        log_end: Offset(50),
    };

    fn at(fetch_offset: i64) -> ReadRequest {
        ReadRequest {
            fetch_offset: Offset(fetch_offset),
            bytes_max: 1000,
            current_leader_epoch: None,
            last_fetched_epoch: None,
            isolation: Isolation::ReadUncommitted,
        }
    }

    fn history() -> EpochHistory {
        let mut history = EpochHistory::new();
        history.assign(LeaderEpoch(1), Offset(10));
        history.assign(LeaderEpoch(3), Offset(20));
        history
    }

    fn ask(request: &ReadRequest) -> Result<Decision, ReadError> {
        decide(request, &OFFSETS, &history())
    }

    fn is_out_of_range(request: &ReadRequest) -> bool {
        matches!(ask(request), Err(ReadError::OutOfRange { .. }))
    }

    #[test]
    fn readers_see_to_the_high_watermark_or_the_last_stable_offset() {
        let (from, upto) = (Offset(10), Offset(40));
        assert_eq!(ask(&at(10)), Ok(Decision::Read { from, upto }));
        let committed = ReadRequest { isolation: Isolation::ReadCommitted, ..at(10) };
        assert_eq!(ask(&committed), Ok(Decision::Read { from, upto: Offset(30) }));
    }

    #[test]
    fn offsets_that_do_not_exist_are_out_of_range() {
        // Reliability case 91.
        for offset in [i64::MIN, -1, 9, 51, i64::MAX] {
            assert!(is_out_of_range(&at(offset)), "{offset}");
        }
    }

    #[test]
    fn a_reader_at_or_beyond_its_bound_waits() {
        for offset in [40, 45, 50] {
            assert_eq!(ask(&at(offset)), Ok(Decision::Nothing), "{offset}");
        }
        let committed = ReadRequest { isolation: Isolation::ReadCommitted, ..at(30) };
        assert_eq!(ask(&committed), Ok(Decision::Nothing));
        assert_eq!(ask(&ReadRequest { bytes_max: 0, ..at(10) }), Ok(Decision::Nothing));
    }

    #[test]
    fn a_diverging_reader_is_told_before_its_offset_is_judged() {
        let with_epoch = |offset, epoch| ReadRequest {
            last_fetched_epoch: Some(LeaderEpoch(epoch)),
            ..at(offset)
        };
        assert_eq!(ask(&with_epoch(25, 1)), Ok(Decision::Diverging(LeaderEpoch(1), Offset(20))),);
        // Beyond the log end too: that is how a truncated log is found out.
        assert_eq!(ask(&with_epoch(60, 3)), Ok(Decision::Diverging(LeaderEpoch(3), Offset(50))),);
        assert_eq!(ask(&with_epoch(40, 3)), Ok(Decision::Nothing));
        assert!(is_out_of_range(&with_epoch(9, 1)));
        assert!(is_out_of_range(&with_epoch(20, 7)));
    }
}
