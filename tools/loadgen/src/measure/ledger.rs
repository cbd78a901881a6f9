//! What was sent, what was acknowledged, what came back: the books of verify mode. Each load core
//! keeps its own; they are added up after the run.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::de::Deserializer;
use serde::{Deserialize, Serialize, Serializer};

/// One lane's records in one partition.
pub type Stream = (u16, i32);

/// A set of numbers as ranges that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Ranges(BTreeMap<u64, u64>);

impl From<Ranges> for Vec<(u64, u64)> {
    fn from(ranges: Ranges) -> Vec<(u64, u64)> {
        ranges.0.into_iter().collect()
    }
}

impl From<Vec<(u64, u64)>> for Ranges {
    fn from(pairs: Vec<(u64, u64)>) -> Ranges {
        let mut ranges = Ranges::default();
        pairs.into_iter().for_each(|(start, end)| _ = ranges.add(start..end));
        ranges
    }
}

impl Ranges {
    /// Adds `added`; returns how many of its numbers were there already.
    pub fn add(&mut self, added: Range<u64>) -> u64 {
        if added.is_empty() {
            return 0;
        }
        let (mut start, mut end, mut known) = (added.start, added.end, 0);
        let touching: Vec<(u64, u64)> = self
            .0
            .range(..=added.end)
            .rev()
            .take_while(|(_, other_end)| **other_end >= added.start)
            .map(|(other_start, other_end)| (*other_start, *other_end))
            .collect();
        for (other_start, other_end) in touching {
            known += other_end.min(added.end).saturating_sub(other_start.max(added.start));
            self.0.remove(&other_start);
            start = start.min(other_start);
            end = end.max(other_end);
        }
        self.0.insert(start, end);
        known
    }

    /// How many numbers there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }

    /// The ranges, in order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().map(|(start, end)| *start..*end)
    }

    /// How many of these numbers `other` has, too.
    #[must_use]
    pub fn shared_with(&self, other: &Ranges) -> u64 {
        let overlap = |range: Range<u64>| {
            let inside = other.0.range(..range.end).rev();
            let inside = inside.take_while(|(_, end)| **end > range.start);
            inside.map(|(start, end)| end.min(&range.end) - start.max(&range.start)).sum::<u64>()
        };
        self.iter().map(overlap).sum()
    }
}

/// The books of one load core, or of all.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    #[serde(serialize_with = "as_pairs", deserialize_with = "from_pairs")]
    acked: BTreeMap<Stream, Ranges>,
    #[serde(serialize_with = "as_pairs", deserialize_with = "from_pairs")]
    aborted: BTreeMap<Stream, Ranges>,
    #[serde(serialize_with = "as_pairs", deserialize_with = "from_pairs")]
    seen: BTreeMap<Stream, Ranges>,
    /// Records that came back more than once.
    pub duplicated: u64,
    /// Records that came back after one that was sent later.
    pub reordered: u64,
    /// Records, or whole batches, that are not what was sent.
    pub corrupt: u64,
    /// Records of somebody else.
    pub foreign: u64,
}

/// JSON has no keys but strings.
fn as_pairs<S: Serializer>(
    books: &BTreeMap<Stream, Ranges>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(books)
}

fn from_pairs<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<Stream, Ranges>, D::Error> {
    Ok(Vec::<(Stream, Ranges)>::deserialize(deserializer)?.into_iter().collect())
}

/// What the books say in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Records acknowledged.
    pub acked_records: u64,
    /// Different records that came back.
    pub seen_records: u64,
    /// Acknowledged and not seen.
    pub lost_records: u64,
    /// Seen and never acknowledged (no answer, or an error): allowed.
    pub unacknowledged_records: u64,
    /// Sent in transactions that were aborted, acknowledged or not.
    pub aborted_records: u64,
    /// Of these, seen by consumers that want committed records only.
    pub dirty_records: u64,
    /// Seen again.
    pub duplicated_records: u64,
    /// Seen after one that was sent later to the same partition by the same connection.
    pub reordered_records: u64,
    /// Not what was sent.
    pub corrupt_records: u64,
    /// Of somebody else, in the same topic.
    pub foreign_records: u64,
}

impl Ledger {
    /// Notes acknowledged records.
    pub fn acked(&mut self, stream: Stream, records: Range<u64>) {
        self.acked.entry(stream).or_default().add(records);
    }

    /// Notes records of a transaction that was aborted: nobody is owed them.
    pub fn aborted(&mut self, stream: Stream, records: Range<u64>) {
        self.aborted.entry(stream).or_default().add(records);
    }

    /// Notes a record that came back.
    pub fn seen(&mut self, stream: Stream, sequence: u64) {
        let known = self.seen.entry(stream).or_default().add(sequence..sequence + 1);
        self.duplicated += known;
    }

    /// Adds another core's books.
    pub fn merge(&mut self, other: &Ledger) {
        // Two consumers of one partition read it twice: that is no duplicate in the log.
        for (books, more) in [
            (&mut self.acked, &other.acked),
            (&mut self.aborted, &other.aborted),
            (&mut self.seen, &other.seen),
        ] {
            for (stream, ranges) in more {
                let all = books.entry(*stream).or_default();
                ranges.iter().for_each(|range| _ = all.add(range));
            }
        }
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupt += other.corrupt;
        self.foreign += other.foreign;
    }

    /// Compares what was acknowledged with what came back, to consumers that want committed
    /// records only or all.
    #[must_use]
    pub fn judge(&self, read_committed: bool) -> Verification {
        let none = Ranges::default();
        let count = |books: &BTreeMap<Stream, Ranges>| books.values().map(Ranges::count).sum();
        let both = |books: &BTreeMap<Stream, Ranges>| -> u64 {
            let seen = |stream| self.seen.get(stream).unwrap_or(&none);
            books.iter().map(|(stream, ranges)| ranges.shared_with(seen(stream))).sum()
        };
        let (acked_records, seen_records): (u64, u64) = (count(&self.acked), count(&self.seen));
        let (acked_seen, aborted_seen) = (both(&self.acked), both(&self.aborted));
        Verification {
            acked_records,
            seen_records,
            lost_records: acked_records - acked_seen,
            unacknowledged_records: seen_records - acked_seen - aborted_seen,
            aborted_records: count(&self.aborted),
            dirty_records: if read_committed { aborted_seen } else { 0 },
            duplicated_records: self.duplicated,
            reordered_records: self.reordered,
            corrupt_records: self.corrupt,
            foreign_records: self.foreign,
        }
    }
}

impl Verification {
    /// Whether the broker kept its promise. A duplicate breaks it only where producers are
    /// idempotent.
    #[must_use]
    pub fn holds(&self, idempotent: bool) -> bool {
        let duplicated = idempotent && self.duplicated_records > 0;
        let broken =
            self.lost_records + self.reordered_records + self.corrupt_records + self.dirty_records;
        broken == 0 && !duplicated
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ranges_are_the_set_of_their_numbers() {
        let mut random = crate::load::schedule::Random::new(5);
        for _ in 0..200 {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            let mut other = (Ranges::default(), BTreeSet::new());
            for step in 0..30 {
                let start = random.next_u64() % 60;
                let range = start..start + random.next_u64() % 12;
                if step % 3 == 0 {
                    other.0.add(range.clone());
                    other.1.extend(range);
                    continue;
                }
                let known = range.clone().filter(|number| model.contains(number)).count() as u64;
                assert_eq!(ranges.add(range.clone()), known);
                model.extend(range);
                assert_eq!(ranges.iter().flatten().collect::<BTreeSet<_>>(), model);
                assert_eq!(ranges.count(), model.len() as u64);
            }
            let shared = model.intersection(&other.1).count() as u64;
            assert_eq!(ranges.shared_with(&other.0), shared);
        }
    }

    #[test]
    fn loss_duplicates_and_what_nobody_acknowledged_are_told_apart() {
        let (mut producer, mut consumer) = (Ledger::default(), Ledger::default());
        producer.acked((1, 0), 0..10);
        producer.acked((1, 0), 12..20);
        (0..9).chain(10..20).for_each(|sequence| consumer.seen((1, 0), sequence));
        consumer.seen((1, 0), 3);
        consumer.seen((2, 0), 0);
        producer.merge(&consumer);
        let found = producer.judge(false);
        assert_eq!((found.acked_records, found.seen_records), (18, 20));
        assert_eq!((found.lost_records, found.unacknowledged_records), (1, 3));
        assert_eq!(found.duplicated_records, 1);
        assert!(!found.holds(false));
        let fine = Verification { duplicated_records: 1, ..Verification::default() };
        assert!(fine.holds(false) && !fine.holds(true));
    }

    #[test]
    fn records_of_aborted_transactions_are_not_lost_and_must_not_be_read_as_committed() {
        let mut books = Ledger::default();
        books.acked((1, 0), 0..10);
        books.aborted((1, 0), 10..20);
        (0..10).for_each(|sequence| books.seen((1, 0), sequence));
        let found = books.judge(true);
        assert_eq!((found.lost_records, found.aborted_records, found.dirty_records), (0, 10, 0));
        assert!(found.holds(true));
        books.seen((1, 0), 15);
        let found = books.judge(true);
        assert_eq!((found.dirty_records, found.unacknowledged_records), (1, 0));
        assert!(!found.holds(true));
        assert!(books.judge(false).holds(true), "who reads uncommitted records may see it");
    }
}
