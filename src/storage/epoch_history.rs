//! Which leader epoch began where in one partition's log (KIP-101, KIP-320).

use rkyv::{Archive, Deserialize, Serialize};

use crate::base::ids::{LeaderEpoch, Offset};

/// One leader epoch and the offset of the first record written in it. Plain integers: this is also
/// the form on disk.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// The leader epoch, from 0.
    pub leader_epoch: i32,
    /// The first offset that belongs to it.
    pub start_offset: i64,
}

/// The leader epochs of a log, with Kafka's semantics (`LeaderEpochFileCache`): both epochs and
/// start offsets rise strictly from entry to entry, so an epoch in which nothing was written leaves
/// no trace once a later one begins at the same offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochHistory {
    entries: Vec<EpochStart>,
}

impl EpochHistory {
    /// A history without entries.
    #[must_use]
    pub fn new() -> EpochHistory {
        EpochHistory::default()
    }

    /// The history with these entries, as read from disk; `None` if they do not rise strictly in
    /// both columns or any is negative: then the bytes are not a history.
    #[must_use]
    pub fn from_entries(entries: Vec<EpochStart>) -> Option<EpochHistory> {
        let rises = entries.windows(2).all(|pair| {
            pair[0].leader_epoch < pair[1].leader_epoch
                && pair[0].start_offset < pair[1].start_offset
        });
        let first_is_sane =
            entries.first().is_none_or(|first| first.leader_epoch >= 0 && first.start_offset >= 0);
        (rises && first_is_sane).then_some(EpochHistory { entries })
    }

    /// The entries, oldest first: what a snapshot stores.
    #[must_use]
    pub fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    /// The newest entry's epoch.
    #[must_use]
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|entry| LeaderEpoch(entry.leader_epoch))
    }

    /// Notes that `epoch` begins at `start`. Entries that would then not rise (a later or equal
    /// epoch, a start at or behind `start`) are replaced. Saying the same or an earlier thing of
    /// the newest epoch changes nothing. Returns whether anything changed.
    ///
    /// # Panics
    /// If either is negative: neither the broker's own epochs nor offsets in a log are.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        assert!(epoch.0 >= 0 && start.0 >= 0, "epoch {epoch} at {start} names no place in a log");
        let known = self
            .entries
            .last()
            .is_some_and(|last| last.leader_epoch == epoch.0 && last.start_offset <= start.0);
        if known {
            return false;
        }
        while self
            .entries
            .last()
            .is_some_and(|last| last.leader_epoch >= epoch.0 || last.start_offset >= start.0)
        {
            self.entries.pop();
        }
        self.entries.push(EpochStart { leader_epoch: epoch.0, start_offset: start.0 });
        true
    }

    /// The log now ends at `log_end`: epochs that begin there or later are gone.
    pub fn truncate_end(&mut self, log_end: Offset) {
        while self.entries.last().is_some_and(|last| last.start_offset >= log_end.0) {
            self.entries.pop();
        }
    }

    /// The log now starts at `log_start`: epochs that ended before are gone, and the one that
    /// holds `log_start` begins there.
    pub fn truncate_start(&mut self, log_start: Offset) {
        let begun = self.entries.partition_point(|entry| entry.start_offset <= log_start.0);
        if begun > 0 {
            self.entries[begun - 1].start_offset = log_start.0;
            self.entries.drain(..begun - 1);
        }
    }

    /// The epoch in which the record at `offset` was written; `None` before the first known epoch.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let begun = self.entries.partition_point(|entry| entry.start_offset <= offset.0);
        begun.checked_sub(1).map(|place| LeaderEpoch(self.entries[place].leader_epoch))
    }

    /// Where `epoch` ends: the largest known epoch not above it, and that epoch's exclusive end
    /// (the next one's start, or `log_end` for the newest). Kafka's `endOffsetFor`:
    /// - an epoch older than all known ones ends, under its own number, where the oldest known one
    ///   begins: its records are gone, and whoever asks goes on from there;
    /// - a negative epoch, one newer than the newest, or an empty history: `None`, which the wire
    ///   says as epoch -1 and offset -1 (reliability case 98).
    #[must_use]
    pub fn end_offset_for(
        &self,
        epoch: LeaderEpoch,
        log_end: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        let newest = self.entries.last()?;
        if epoch.0 < 0 || epoch.0 > newest.leader_epoch {
            return None;
        }
        if epoch.0 == newest.leader_epoch {
            return Some((epoch, log_end));
        }
        let not_above = self.entries.partition_point(|entry| entry.leader_epoch <= epoch.0);
        let end = Offset(self.entries[not_above].start_offset);
        match not_above.checked_sub(1) {
            None => Some((epoch, end)),
            Some(place) => Some((LeaderEpoch(self.entries[place].leader_epoch), end)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn history(pairs: &[(i32, i64)]) -> EpochHistory {
        let mut history = EpochHistory::new();
        for &(epoch, start) in pairs {
            history.assign(LeaderEpoch(epoch), Offset(start));
        }
        history
    }

    fn pairs(history: &EpochHistory) -> Vec<(i32, i64)> {
        history.entries().iter().map(|entry| (entry.leader_epoch, entry.start_offset)).collect()
    }

    fn end(history: &EpochHistory, epoch: i32, log_end: i64) -> Option<(i32, i64)> {
        history
            .end_offset_for(LeaderEpoch(epoch), Offset(log_end))
            .map(|(epoch, offset)| (epoch.0, offset.0))
    }

    #[test]
    fn the_newest_epoch_ends_at_the_log_end() {
        assert_eq!(end(&history(&[(2, 0)]), 2, 7), Some((2, 7)));
    }

    #[test]
    fn nothing_is_known_of_no_epochs_negative_ones_and_future_ones() {
        assert_eq!(end(&EpochHistory::new(), 0, 7), None);
        assert_eq!(end(&history(&[(5, 0)]), -1, 7), None);
        assert_eq!(end(&history(&[(5, 0)]), 6, 7), None);
    }

    #[test]
    fn an_epoch_ends_where_the_next_one_begins() {
        let history = history(&[(1, 10), (2, 20), (7, 40)]);
        assert_eq!(end(&history, 1, 99), Some((1, 20)));
        assert_eq!(end(&history, 2, 99), Some((2, 40)));
    }

    #[test]
    fn an_epoch_that_wrote_nothing_is_answered_by_the_one_before() {
        let history = history(&[(1, 10), (2, 20), (7, 40)]);
        assert_eq!(end(&history, 4, 99), Some((2, 40)));
    }

    #[test]
    fn an_epoch_older_than_the_log_ends_where_the_log_begins() {
        let history = history(&[(5, 50), (6, 60)]);
        assert_eq!(end(&history, 3, 99), Some((3, 50)));
    }

    #[test]
    fn the_first_word_on_the_newest_epoch_stands() {
        let mut history = history(&[(2, 6)]);
        assert!(!history.assign(LeaderEpoch(2), Offset(7)));
        assert!(!history.assign(LeaderEpoch(2), Offset(6)));
        assert_eq!(pairs(&history), [(2, 6)]);
        // An earlier start for the newest epoch is a truncation that has happened: it counts.
        assert!(history.assign(LeaderEpoch(2), Offset(3)));
        assert_eq!(pairs(&history), [(2, 3)]);
    }

    #[test]
    fn an_epoch_without_records_is_replaced_by_the_next() {
        assert_eq!(pairs(&history(&[(1, 0), (2, 8), (3, 8)])), [(1, 0), (3, 8)]);
    }

    #[test]
    fn entries_that_contradict_a_new_one_go() {
        // An older epoch or an older offset: what stands beyond it was truncated.
        assert_eq!(pairs(&history(&[(1, 5), (2, 10), (3, 15), (2, 12)])), [(1, 5), (2, 12)]);
        assert_eq!(pairs(&history(&[(1, 5), (2, 10), (3, 15), (4, 7)])), [(1, 5), (4, 7)]);
        assert_eq!(pairs(&history(&[(3, 15), (1, 20)])), [(1, 20)]);
    }

    #[test]
    fn truncation_at_the_end_keeps_the_epoch_that_holds_the_last_record() {
        let mut history = history(&[(2, 6), (3, 8), (4, 11)]);
        history.truncate_end(Offset(11));
        assert_eq!(pairs(&history), [(2, 6), (3, 8)]);
        history.truncate_end(Offset(9));
        assert_eq!(pairs(&history), [(2, 6), (3, 8)]);
        history.truncate_end(Offset(6));
        assert_eq!(pairs(&history), []);
    }

    #[test]
    fn truncation_at_the_start_moves_the_epoch_that_holds_the_first_record() {
        let base = history(&[(2, 6), (3, 8), (4, 11)]);
        let after = |start| {
            let mut history = base.clone();
            history.truncate_start(Offset(start));
            pairs(&history)
        };
        assert_eq!(after(5), [(2, 6), (3, 8), (4, 11)]);
        assert_eq!(after(7), [(2, 7), (3, 8), (4, 11)]);
        assert_eq!(after(8), [(3, 8), (4, 11)]);
        assert_eq!(after(9), [(3, 9), (4, 11)]);
        assert_eq!(after(100), [(4, 100)]);
    }

    #[test]
    fn an_offset_knows_its_epoch() {
        let history = history(&[(2, 6), (3, 8)]);
        assert_eq!(history.epoch_at(Offset(5)), None);
        assert_eq!(history.epoch_at(Offset(7)), Some(LeaderEpoch(2)));
        assert_eq!(history.epoch_at(Offset(8)), Some(LeaderEpoch(3)));
    }

    #[test]
    fn entries_that_do_not_rise_are_no_history() {
        let entry = |leader_epoch, start_offset| EpochStart { leader_epoch, start_offset };
        assert!(EpochHistory::from_entries(vec![entry(1, 5), entry(1, 6)]).is_none());
        assert!(EpochHistory::from_entries(vec![entry(1, 5), entry(2, 5)]).is_none());
        assert!(EpochHistory::from_entries(vec![entry(-1, 5)]).is_none());
        assert!(EpochHistory::from_entries(vec![entry(0, 0), entry(4, 5)]).is_some());
    }

    #[test]
    fn an_archive_gives_the_entries_back() {
        let history = history(&[(0, 0), (3, 9)]);
        let stored = history.entries().to_vec();
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&stored).expect("serialize");
        let back = rkyv::from_bytes::<Vec<EpochStart>, rkyv::rancor::Error>(&bytes).expect("valid");
        assert_eq!(EpochHistory::from_entries(back), Some(history));
    }

    proptest! {
        #[test]
        fn a_history_always_rises(steps in prop::collection::vec((0..8i32, 0..40i64, 0..4u8), 0..60)) {
            let mut history = EpochHistory::new();
            for (epoch, offset, what) in steps {
                match what {
                    0 => history.truncate_end(Offset(offset)),
                    1 => history.truncate_start(Offset(offset)),
                    _ => {
                        history.assign(LeaderEpoch(epoch), Offset(offset));
                    }
                }
                let stored = history.entries().to_vec();
                prop_assert!(EpochHistory::from_entries(stored).is_some());
            }
        }
    }
}
