//! What was promised and what was seen: for each partition, which record stands at which offset.
//! An offset that was acknowledged or read once must show the same record for ever.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A record by its number in its partition, from 0 in the order of sending.
pub type Number = u64;

/// A topic's place in [`super::load::TOPICS`] and a partition of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub topic: usize,
    pub partition: usize,
}

const UNSEEN: Number = Number::MAX;

#[derive(Clone, Default)]
struct Partition {
    /// Record at each offset.
    log: Vec<Number>,
    /// Behind the last offset that was acknowledged or read.
    known_end: u64,
    acknowledged: u64,
    sent: u64,
}

#[derive(Default)]
struct State {
    partitions: Vec<Vec<Partition>>,
    violation: Option<String>,
}

/// Shared between the producers, the reader and the killer.
pub struct Ledger(Mutex<State>);

impl Ledger {
    pub fn new(topics: usize, partitions: usize) -> Ledger {
        let partitions = vec![vec![Partition::default(); partitions]; topics];
        Ledger(Mutex::new(State { partitions, violation: None }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere fails the run anyway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next number of the partition, which is sent now.
    pub fn send(&self, place: Place) -> Number {
        let mut state = self.lock();
        let partition = &mut state.partitions[place.topic][place.partition];
        partition.sent += 1;
        partition.sent - 1
    }

    /// The broker acknowledged the record; without an offset if it only said that it has it.
    pub fn acknowledge(&self, place: Place, number: Number, offset: Option<u64>) {
        let mut state = self.lock();
        state.partitions[place.topic][place.partition].acknowledged += 1;
        if let Some(offset) = offset {
            state.place(place, offset, number, "acknowledged");
        }
    }

    /// The record was read.
    pub fn read(&self, place: Place, offset: u64, number: Number) {
        self.lock().place(place, offset, number, "read");
    }

    /// Something broke a promise; only the first is kept.
    pub fn violate(&self, what: String) {
        self.lock().violation.get_or_insert(what);
    }

    pub fn violation(&self) -> Option<String> {
        self.lock().violation.clone()
    }

    /// Behind the last offset that was acknowledged or read.
    pub fn known_end(&self, place: Place) -> u64 {
        self.lock().partitions[place.topic][place.partition].known_end
    }

    /// Acknowledged records of a topic.
    pub fn acknowledged(&self, topic: usize) -> u64 {
        self.lock().partitions[topic].iter().map(|partition| partition.acknowledged).sum()
    }

    /// Sent and acknowledged records of a partition.
    pub fn counts(&self, place: Place) -> (u64, u64) {
        let state = self.lock();
        let partition = &state.partitions[place.topic][place.partition];
        (partition.sent, partition.acknowledged)
    }
}

impl State {
    fn place(&mut self, place: Place, offset: u64, number: Number, how: &str) {
        let partition = &mut self.partitions[place.topic][place.partition];
        // An offset that is far off is a violation too, and no reason to fill the memory.
        if offset > partition.sent * 4 + 1_000 {
            self.violation.get_or_insert(format!("{place:?}: {how} at offset {offset}"));
            return;
        }
        let at = offset as usize;
        if partition.log.len() <= at {
            partition.log.resize(at + 1, UNSEEN);
        }
        let known = partition.log[at];
        if known != UNSEEN && known != number {
            self.violation.get_or_insert(format!(
                "{place:?}: offset {offset} held record {known} and now record {number} ({how})"
            ));
        }
        partition.log[at] = number;
        partition.known_end = partition.known_end.max(offset + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { topic: 0, partition: 0 };

    #[test]
    fn an_offset_that_shows_another_record_is_a_violation() {
        let ledger = Ledger::new(1, 1);
        let number = ledger.send(PLACE);
        ledger.acknowledge(PLACE, number, Some(5));
        ledger.read(PLACE, 5, number);
        assert_eq!((ledger.violation(), ledger.known_end(PLACE)), (None, 6));
        let other = ledger.send(PLACE);
        ledger.read(PLACE, 5, other);
        assert!(ledger.violation().is_some_and(|violation| violation.contains("offset 5")));
    }

    #[test]
    fn an_offset_out_of_this_world_is_a_violation() {
        let ledger = Ledger::new(1, 1);
        ledger.acknowledge(PLACE, 0, Some(u64::MAX));
        assert!(ledger.violation().is_some());
    }
}
