//! Leader epochs as clients use them: is the broker the leader that the client knows, and where
//! did an epoch end (KIP-101, KIP-279, KIP-320).

use crate::base::ids::{LeaderEpoch, Offset};
use crate::storage::epoch_history::EpochHistory;

use super::{CloseReason, Partition};

/// Why a partition does not answer a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The client's leader epoch is older than the leader's: it has to learn of the new one
    /// (FENCED_LEADER_EPOCH, 74).
    #[error("the client's leader epoch is older than {current}")]
    FencedEpoch {
        /// The leader's epoch.
        current: LeaderEpoch,
    },
    /// The client's leader epoch is newer: this broker has to learn of it
    /// (UNKNOWN_LEADER_EPOCH, 75).
    #[error("the client's leader epoch is newer than {current}")]
    UnknownEpoch {
        /// The leader's epoch.
        current: LeaderEpoch,
    },
    /// The partition is not served here any more.
    #[error("the partition was closed: {0}")]
    Closed(CloseReason),
}

/// Holds the epoch that a client says against the leader's own; `None`: the client says none.
///
/// # Errors
/// [`AccessError::FencedEpoch`] or [`AccessError::UnknownEpoch`].
pub fn check_leader_epoch(
    current: LeaderEpoch,
    claimed: Option<LeaderEpoch>,
) -> Result<(), AccessError> {
    match claimed {
        Some(claimed) if claimed < current => Err(AccessError::FencedEpoch { current }),
        Some(claimed) if claimed > current => Err(AccessError::UnknownEpoch { current }),
        _ => Ok(()),
    }
}

/// What the leader's history says of a reader who has read up to `fetch_offset`, its last record
/// in `last_fetched_epoch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lineage {
    /// The reader's log is a prefix of the leader's.
    Same,
    /// It is not: the reader has to go back to the end of the largest epoch that both may share.
    Diverging(LeaderEpoch, Offset),
    /// The history does not reach to that epoch.
    Unknown,
}

/// Compares a reader's log with the leader's (Kafka's `Partition.readRecords`, KIP-595).
#[must_use]
pub fn lineage(
    history: &EpochHistory,
    log_end: Offset,
    last_fetched_epoch: LeaderEpoch,
    fetch_offset: Offset,
) -> Lineage {
    match history.end_offset_for(last_fetched_epoch, log_end) {
        None => Lineage::Unknown,
        Some((epoch, end)) if epoch < last_fetched_epoch || end < fetch_offset => {
            Lineage::Diverging(epoch, end)
        }
        Some(_) => Lineage::Same,
    }
}

impl Partition {
    /// Where `epoch` ends, as the OffsetForLeaderEpoch API asks: the largest epoch not above it
    /// and its exclusive end; `None` where that is undefined (epoch -1 and offset -1 on the wire).
    ///
    /// # Errors
    /// [`AccessError`] if `current_leader_epoch` is not the leader's, or the partition is closed.
    pub fn offset_for_epoch(
        &self,
        current_leader_epoch: Option<LeaderEpoch>,
        epoch: LeaderEpoch,
    ) -> Result<Option<(LeaderEpoch, Offset)>, AccessError> {
        self.check_access(current_leader_epoch)?;
        let log = self.log.borrow();
        Ok(log.epochs().end_offset_for(epoch, self.offsets.get().log_end))
    }

    /// Whether a client may be answered at all.
    pub(super) fn check_access(
        &self,
        current_leader_epoch: Option<LeaderEpoch>,
    ) -> Result<(), AccessError> {
        match self.closed {
            Some(reason) => Err(AccessError::Closed(reason)),
            None => check_leader_epoch(self.leader_epoch, current_leader_epoch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(pairs: &[(i32, i64)]) -> EpochHistory {
        let mut history = EpochHistory::new();
        for &(epoch, start) in pairs {
            history.assign(LeaderEpoch(epoch), Offset(start));
        }
        history
    }

    fn ask(history: &EpochHistory, log_end: i64, epoch: i32, fetch_offset: i64) -> Lineage {
        lineage(history, Offset(log_end), LeaderEpoch(epoch), Offset(fetch_offset))
    }

    #[test]
    fn an_older_epoch_is_fenced_and_a_newer_one_unknown() {
        let current = LeaderEpoch(5);
        assert_eq!(check_leader_epoch(current, None), Ok(()));
        assert_eq!(check_leader_epoch(current, Some(LeaderEpoch(5))), Ok(()));
        let fenced = AccessError::FencedEpoch { current };
        assert_eq!(check_leader_epoch(current, Some(LeaderEpoch(4))), Err(fenced));
        let unknown = AccessError::UnknownEpoch { current };
        assert_eq!(check_leader_epoch(current, Some(LeaderEpoch(6))), Err(unknown));
    }

    #[test]
    fn a_reader_that_followed_this_leader_goes_on() {
        let leader = history(&[(0, 0), (2, 20)]);
        assert_eq!(ask(&leader, 30, 2, 25), Lineage::Same);
        assert_eq!(ask(&leader, 30, 2, 30), Lineage::Same);
        // It stands at the border: its last record is of the epoch before.
        assert_eq!(ask(&leader, 30, 0, 20), Lineage::Same);
    }

    #[test]
    fn a_reader_beyond_the_end_of_its_epoch_is_told_where_that_ended() {
        // KIP-320: an unclean election cut epoch 0 at 20; the consumer had read to 24.
        let leader = history(&[(0, 0), (1, 20)]);
        assert_eq!(ask(&leader, 30, 0, 24), Lineage::Diverging(LeaderEpoch(0), Offset(20)));
        // Of the newest epoch, more than the log has.
        assert_eq!(ask(&leader, 30, 1, 31), Lineage::Diverging(LeaderEpoch(1), Offset(30)));
    }

    #[test]
    fn a_fast_double_failover_is_walked_back_epoch_by_epoch() {
        // KAFKA-6361 (KIP-279): two brokers led in turn, each writing what the other lacks.
        // Leader B: epoch 0 at 0, epoch 2 at 11. Follower A: epoch 0 at 0, epoch 1 at 10, end 11.
        let leader = history(&[(0, 0), (2, 11)]);
        // A's last record is of epoch 1, which B never knew: B names epoch 0, which ends at 11 on
        // B. A knows that its own epoch 0 ends at 10, and truncates there instead of keeping the
        // record at 10 that B has otherwise.
        assert_eq!(ask(&leader, 12, 1, 11), Lineage::Diverging(LeaderEpoch(0), Offset(11)));
        // After the truncation A asks again with epoch 0 and is on B's line.
        assert_eq!(ask(&leader, 12, 0, 10), Lineage::Same);
    }

    #[test]
    fn several_unshared_epochs_are_all_walked_back() {
        let leader = history(&[(0, 0), (5, 30)]);
        let mut follower = history(&[(0, 0), (1, 10), (3, 20), (4, 25)]);
        let (mut last_epoch, mut end) = (4, 28);
        let mut rounds = 0;
        while let Lineage::Diverging(epoch, leader_end) = ask(&leader, 40, last_epoch, end) {
            // What a follower does with the answer (KIP-595).
            let own_end = follower.end_offset_for(epoch, Offset(end)).map_or(0, |(_, end)| end.0);
            end = leader_end.0.min(own_end).min(end);
            follower.truncate_end(Offset(end));
            last_epoch = follower.latest().map_or(-1, |epoch| epoch.0);
            rounds += 1;
        }
        assert_eq!((last_epoch, end, rounds), (0, 10, 1));
    }

    #[test]
    fn a_history_that_does_not_reach_there_says_so() {
        assert_eq!(ask(&history(&[]), 0, 0, 0), Lineage::Unknown);
        assert_eq!(ask(&history(&[(1, 0)]), 10, 3, 5), Lineage::Unknown);
    }

    #[test]
    fn an_epoch_from_before_the_log_start_is_the_same_line_up_to_it() {
        // Retention took epochs 0 to 2; whoever read those goes on at the log start.
        let leader = history(&[(3, 50)]);
        assert_eq!(ask(&leader, 60, 1, 50), Lineage::Same);
        assert_eq!(ask(&leader, 60, 1, 55), Lineage::Diverging(LeaderEpoch(1), Offset(50)));
    }
}
