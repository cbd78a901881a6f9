//! What each idempotent producer last wrote into one partition (KIP-98, KIP-360).

use rkyv::{Archive, Deserialize, Serialize};
use rustc_hash::FxHashMap;

use crate::base::ids::{Offset, ProducerEpoch, ProducerId, Sequence};
use crate::base::limits::PRODUCER_BATCHES_REMEMBERED;
use crate::record::ProducerStamp;

/// Producer ids that one table remembers unless told otherwise. Kafka sets no bound, so that a
/// client that asks for a new id with every batch fills its heap (reliability case 108). Seven
/// eighths of 16,384: what a hash table of that many places holds before it doubles, 3 MB.
pub const PRODUCER_IDS_MAX_DEFAULT: usize = 14_336;

/// What the table says of a batch that wants to be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceCheck {
    /// It comes next: append it.
    New,
    /// It is in the log already, as this batch; a retry, to be answered as the original was.
    Duplicate(AppendedBatch),
}

/// Why a batch may not be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// The sequence does not follow the last one of its epoch, or a new epoch does not begin at 0.
    /// A retry older than the remembered batches is this too, as in Kafka.
    #[error("sequence {got} of producer {id} does not follow {last}", got = .got.0, last = .last.0)]
    OutOfOrder {
        /// The producer.
        id: ProducerId,
        /// Last sequence in the log.
        last: Sequence,
        /// First sequence of the refused batch.
        got: Sequence,
    },
    /// A newer incarnation of the producer has written: this one is fenced.
    #[error("epoch {got} of producer {id} is older than {current}")]
    StaleEpoch {
        /// The producer.
        id: ProducerId,
        /// Its newest epoch in the log.
        current: ProducerEpoch,
        /// Epoch of the refused batch.
        got: ProducerEpoch,
    },
}

/// One remembered batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendedBatch {
    /// Sequence of its first record.
    pub base_sequence: Sequence,
    /// Sequence of its last record.
    pub last_sequence: Sequence,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// Its max timestamp as stored, milliseconds since the epoch.
    pub timestamp_ms: i64,
}

/// What is known of one producer: its epoch and its last batches of that epoch, oldest first,
/// never none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerEntry {
    epoch: ProducerEpoch,
    batches: [AppendedBatch; PRODUCER_BATCHES_REMEMBERED],
    batch_count: usize,
}

impl ProducerEntry {
    fn new(epoch: ProducerEpoch, first: AppendedBatch) -> ProducerEntry {
        ProducerEntry { epoch, batches: [first; PRODUCER_BATCHES_REMEMBERED], batch_count: 1 }
    }

    /// The producer's newest epoch in this log.
    #[must_use]
    pub fn epoch(&self) -> ProducerEpoch {
        self.epoch
    }

    /// The remembered batches, oldest first.
    #[must_use]
    pub fn batches(&self) -> &[AppendedBatch] {
        &self.batches[..self.batch_count]
    }

    /// The newest batch.
    #[must_use]
    pub fn last(&self) -> &AppendedBatch {
        &self.batches[self.batch_count - 1]
    }

    fn push(&mut self, batch: AppendedBatch) {
        if self.batch_count == PRODUCER_BATCHES_REMEMBERED {
            self.batches.rotate_left(1);
        } else {
            self.batch_count += 1;
        }
        self.batches[self.batch_count - 1] = batch;
    }

    fn find(&self, stamp: &ProducerStamp) -> Option<&AppendedBatch> {
        self.batches().iter().find(|batch| {
            batch.base_sequence == stamp.base_sequence && batch.last_sequence == stamp.last_sequence
        })
    }
}

/// The producers of one partition, with the semantics of Kafka 4 (`ProducerAppendInfo`): the last
/// five batches of each are remembered, a retry of any of them is recognised, a gap or a fenced
/// epoch is refused, and an id that is not known may begin with any sequence (KIP-360: its state
/// may have expired here while the producer lived on).
///
/// [`ProducerTable::check`] asks and changes nothing; [`ProducerTable::record`] tells and refuses
/// nothing, so replay and followers use it alone. Two tables that are told the same batches in the
/// same order are equal. Bounded: a table that is full forgets the sixteenth of its producers whose
/// last batch lies furthest back in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerTable {
    producers: FxHashMap<ProducerId, ProducerEntry>,
    ids_max: usize,
}

impl Default for ProducerTable {
    fn default() -> ProducerTable {
        ProducerTable::new(PRODUCER_IDS_MAX_DEFAULT)
    }
}

impl ProducerTable {
    /// A table without producers that will hold at most `ids_max` (at least one).
    #[must_use]
    pub fn new(ids_max: usize) -> ProducerTable {
        ProducerTable { producers: FxHashMap::default(), ids_max: ids_max.max(1) }
    }

    /// Producers known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Whether no producer is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// What is known of `id`.
    #[must_use]
    pub fn get(&self, id: ProducerId) -> Option<&ProducerEntry> {
        self.producers.get(&id)
    }

    /// Every known producer, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (ProducerId, &ProducerEntry)> {
        self.producers.iter().map(|(id, entry)| (*id, entry))
    }

    /// Whether a batch with this stamp comes next, is there already, or must be refused.
    ///
    /// # Errors
    /// [`SequenceError`], in Kafka's order: the duplicate is looked for first, then the epoch is
    /// compared, then the sequence.
    pub fn check(&self, stamp: &ProducerStamp) -> Result<SequenceCheck, SequenceError> {
        let Some(entry) = self.producers.get(&stamp.id) else { return Ok(SequenceCheck::New) };
        if stamp.epoch < entry.epoch {
            return Err(SequenceError::StaleEpoch {
                id: stamp.id,
                current: entry.epoch,
                got: stamp.epoch,
            });
        }
        let last = entry.last().last_sequence;
        let expected = if stamp.epoch == entry.epoch {
            if let Some(original) = entry.find(stamp) {
                return Ok(SequenceCheck::Duplicate(*original));
            }
            last.plus(1)
        } else {
            Sequence(0)
        };
        if stamp.base_sequence == expected {
            Ok(SequenceCheck::New)
        } else {
            Err(SequenceError::OutOfOrder { id: stamp.id, last, got: stamp.base_sequence })
        }
    }

    /// Notes a batch that is in the log. Of another epoch than the last one, it begins the
    /// producer's memory anew. Not for control batches, which have no place in the sequence.
    pub fn record(
        &mut self,
        stamp: &ProducerStamp,
        base_offset: Offset,
        last_offset: Offset,
        timestamp_ms: i64,
    ) {
        let batch = AppendedBatch {
            base_sequence: stamp.base_sequence,
            last_sequence: stamp.last_sequence,
            base_offset,
            last_offset,
            timestamp_ms,
        };
        match self.producers.get_mut(&stamp.id) {
            Some(entry) if entry.epoch == stamp.epoch => entry.push(batch),
            Some(entry) => *entry = ProducerEntry::new(stamp.epoch, batch),
            None => {
                self.make_room();
                self.producers.insert(stamp.id, ProducerEntry::new(stamp.epoch, batch));
            }
        }
    }

    /// Forgets producers whose last batch is `expiration_ms` old or older at `now_ms`, by its
    /// timestamp as Kafka does (`producer.id.expiration.ms`). Returns how many. Looks at every
    /// producer: for a housekeeping task, not for the append path.
    pub fn expire(&mut self, now_ms: i64, expiration_ms: i64) -> usize {
        let before = self.producers.len();
        self.producers
            .retain(|_, entry| now_ms.saturating_sub(entry.last().timestamp_ms) < expiration_ms);
        before - self.producers.len()
    }

    /// Forgets batches at `log_end` or beyond, which a truncation took out of the log. A producer
    /// all of whose remembered batches are gone becomes unknown, although older ones may be left
    /// in the log: whoever has a snapshot from before `log_end` should replay from it instead.
    pub fn truncate_end(&mut self, log_end: Offset) {
        self.producers.retain(|_, entry| {
            entry.batch_count =
                entry.batches().iter().filter(|batch| batch.last_offset < log_end).count();
            entry.batch_count > 0
        });
    }

    /// The table's form on disk, the producers that wrote longest ago first.
    #[must_use]
    pub fn image(&self) -> ProducerTableImage {
        let mut producers: Vec<ProducerImage> =
            self.iter().map(|(id, entry)| ProducerImage::of(id, entry)).collect();
        producers.sort_unstable_by_key(|producer| {
            (producer.batches.last().map(|batch| batch.base_offset), producer.producer_id)
        });
        ProducerTableImage { producers }
    }

    /// The table that [`ProducerTable::image`] was taken of, bounded anew by `ids_max`; `None` if
    /// the image says what no table can (no or too many batches, negative numbers, offsets that do
    /// not rise, an id twice): then the bytes are not one of ours.
    #[must_use]
    pub fn from_image(image: &ProducerTableImage, ids_max: usize) -> Option<ProducerTable> {
        let mut table = ProducerTable::new(ids_max);
        for producer in &image.producers {
            let id = ProducerId(producer.producer_id);
            if table.producers.contains_key(&id) {
                return None;
            }
            let entry = producer.entry()?;
            table.make_room();
            table.producers.insert(id, entry);
        }
        Some(table)
    }

    /// Makes sure that one more producer fits. Amortised: the scan is paid once for a sixteenth of
    /// the table's size in new ids.
    fn make_room(&mut self) {
        if self.producers.len() < self.ids_max {
            return;
        }
        let mut last_offsets: Vec<Offset> =
            self.producers.values().map(|entry| entry.last().last_offset).collect();
        let newest_to_go = last_offsets.len() / 16;
        let (_, bound, _) = last_offsets.select_nth_unstable(newest_to_go);
        let bound = *bound;
        self.producers.retain(|_, entry| entry.last().last_offset > bound);
    }
}

/// A [`ProducerTable`] on disk.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerTableImage {
    /// The producers, those that wrote longest ago first.
    pub producers: Vec<ProducerImage>,
}

/// One producer on disk.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ProducerImage {
    /// The producer's id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Its last batches, oldest first; one to five.
    pub batches: Vec<BatchImage>,
}

/// One remembered batch on disk. Offsets and sequences of its last record follow from the delta.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchImage {
    /// Sequence of the first record.
    pub base_sequence: i32,
    /// Records in the batch, less one.
    pub last_offset_delta: i32,
    /// Offset of the first record.
    pub base_offset: i64,
    /// Max timestamp, milliseconds since the epoch.
    pub timestamp_ms: i64,
}

impl ProducerImage {
    fn of(id: ProducerId, entry: &ProducerEntry) -> ProducerImage {
        let batches = entry.batches().iter().map(|batch| BatchImage {
            base_sequence: batch.base_sequence.0,
            last_offset_delta: i32::try_from(batch.last_offset.0 - batch.base_offset.0)
                .expect("a batch holds at most i32::MAX records"),
            base_offset: batch.base_offset.0,
            timestamp_ms: batch.timestamp_ms,
        });
        ProducerImage {
            producer_id: id.0,
            producer_epoch: entry.epoch.0,
            batches: batches.collect(),
        }
    }

    fn entry(&self) -> Option<ProducerEntry> {
        if self.producer_id < 0 || self.producer_epoch < 0 {
            return None;
        }
        if self.batches.len() > PRODUCER_BATCHES_REMEMBERED {
            return None;
        }
        let mut batches = self.batches.iter().map(BatchImage::batch);
        let epoch = ProducerEpoch(self.producer_epoch);
        let mut entry = ProducerEntry::new(epoch, batches.next()??);
        for batch in batches {
            let batch = batch?;
            if batch.base_offset <= entry.last().last_offset {
                return None;
            }
            entry.push(batch);
        }
        Some(entry)
    }
}

impl BatchImage {
    fn batch(&self) -> Option<AppendedBatch> {
        if self.base_sequence < 0 || self.last_offset_delta < 0 || self.base_offset < 0 {
            return None;
        }
        let last_offset = self.base_offset.checked_add(i64::from(self.last_offset_delta))?;
        Some(AppendedBatch {
            base_sequence: Sequence(self.base_sequence),
            last_sequence: Sequence(self.base_sequence).plus(self.last_offset_delta),
            base_offset: Offset(self.base_offset),
            last_offset: Offset(last_offset),
            timestamp_ms: self.timestamp_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stamp(id: i64, epoch: i16, base: i32, count: i32) -> ProducerStamp {
        ProducerStamp {
            id: ProducerId(id),
            epoch: ProducerEpoch(epoch),
            base_sequence: Sequence(base),
            last_sequence: Sequence(base).plus(count - 1),
        }
    }

    /// Appends batches of one record, each at the offset that follows the last.
    fn write(table: &mut ProducerTable, id: i64, epoch: i16, sequences: &[i32], offset: i64) {
        for (sequence, offset) in sequences.iter().zip(offset..) {
            let stamp = stamp(id, epoch, *sequence, 1);
            table.record(&stamp, Offset(offset), Offset(offset), offset * 10);
        }
    }

    fn out_of_order(id: i64, last: i32, got: i32) -> Result<SequenceCheck, SequenceError> {
        let (last, got) = (Sequence(last), Sequence(got));
        Err(SequenceError::OutOfOrder { id: ProducerId(id), last, got })
    }

    #[test]
    fn an_unknown_producer_may_begin_anywhere() {
        let table = ProducerTable::default();
        assert_eq!(table.check(&stamp(1, 0, 0, 1)), Ok(SequenceCheck::New));
        assert_eq!(table.check(&stamp(1, 7, 123, 4)), Ok(SequenceCheck::New));
    }

    #[test]
    fn the_next_sequence_is_new_and_a_gap_is_refused() {
        let mut table = ProducerTable::default();
        table.record(&stamp(1, 0, 0, 10), Offset(0), Offset(9), 5);
        assert_eq!(table.check(&stamp(1, 0, 10, 3)), Ok(SequenceCheck::New));
        assert_eq!(table.check(&stamp(1, 0, 11, 3)), out_of_order(1, 9, 11));
        assert_eq!(table.check(&stamp(1, 0, 9, 3)), out_of_order(1, 9, 9));
    }

    #[test]
    fn each_of_the_last_five_batches_is_recognised_with_its_original_place() {
        let mut table = ProducerTable::default();
        write(&mut table, 1, 0, &[0, 1, 2, 3, 4, 5], 100);
        for sequence in 1..=5 {
            let offset = Offset(100 + i64::from(sequence));
            let original = AppendedBatch {
                base_sequence: Sequence(sequence),
                last_sequence: Sequence(sequence),
                base_offset: offset,
                last_offset: offset,
                timestamp_ms: offset.0 * 10,
            };
            let check = table.check(&stamp(1, 0, sequence, 1));
            assert_eq!(check, Ok(SequenceCheck::Duplicate(original)));
        }
        // The sixth-last is not remembered: Kafka cannot tell it from a gap either.
        assert_eq!(table.check(&stamp(1, 0, 0, 1)), out_of_order(1, 5, 0));
    }

    #[test]
    fn a_retry_of_another_shape_is_no_duplicate() {
        let mut table = ProducerTable::default();
        table.record(&stamp(1, 0, 0, 10), Offset(0), Offset(9), 5);
        assert_eq!(table.check(&stamp(1, 0, 0, 9)), out_of_order(1, 9, 0));
        assert_eq!(table.check(&stamp(1, 0, 0, 11)), out_of_order(1, 9, 0));
    }

    #[test]
    fn an_older_epoch_is_fenced_even_where_the_batch_is_known() {
        let mut table = ProducerTable::default();
        write(&mut table, 1, 3, &[0, 1], 0);
        let stale = SequenceError::StaleEpoch {
            id: ProducerId(1),
            current: ProducerEpoch(3),
            got: ProducerEpoch(2),
        };
        assert_eq!(table.check(&stamp(1, 2, 1, 1)), Err(stale));
        assert_eq!(table.check(&stamp(1, 2, 2, 1)), Err(stale));
    }

    #[test]
    fn a_newer_epoch_begins_at_zero_and_forgets_the_old_batches() {
        let mut table = ProducerTable::default();
        write(&mut table, 1, 0, &[0, 1], 0);
        assert_eq!(table.check(&stamp(1, 1, 2, 1)), out_of_order(1, 1, 2));
        assert_eq!(table.check(&stamp(1, 1, 0, 1)), Ok(SequenceCheck::New));
        write(&mut table, 1, 1, &[0], 2);
        assert_eq!(table.check(&stamp(1, 1, 1, 1)), Ok(SequenceCheck::New));
        let entry = table.get(ProducerId(1)).expect("known");
        assert_eq!((entry.epoch(), entry.batches().len()), (ProducerEpoch(1), 1));
    }

    #[test]
    fn sequences_wrap_to_zero_after_the_largest_int() {
        let mut table = ProducerTable::default();
        table.record(&stamp(1, 0, i32::MAX - 1, 2), Offset(0), Offset(1), 0);
        assert_eq!(table.check(&stamp(1, 0, 0, 1)), Ok(SequenceCheck::New));
        assert_eq!(table.check(&stamp(1, 0, 1, 1)), out_of_order(1, i32::MAX, 1));

        let mut table = ProducerTable::default();
        let across = stamp(1, 0, i32::MAX - 1, 4);
        assert_eq!(across.last_sequence, Sequence(1));
        table.record(&across, Offset(0), Offset(3), 0);
        assert_eq!(table.check(&stamp(1, 0, 2, 1)), Ok(SequenceCheck::New));
        assert!(matches!(table.check(&across), Ok(SequenceCheck::Duplicate(_))));
    }

    #[test]
    fn producers_expire_by_the_age_of_their_last_batch() {
        let mut table = ProducerTable::default();
        write(&mut table, 1, 0, &[0, 1], 10); // timestamps 100, 110
        write(&mut table, 2, 0, &[0], 20); // 200
        assert_eq!(table.expire(209, 100), 0);
        assert_eq!(table.expire(210, 100), 1);
        assert!(table.get(ProducerId(1)).is_none() && table.get(ProducerId(2)).is_some());
        // A timestamp from the far past or future overflows nothing.
        table.record(&stamp(3, 0, 0, 1), Offset(30), Offset(30), i64::MIN);
        table.record(&stamp(4, 0, 0, 1), Offset(31), Offset(31), i64::MAX);
        assert_eq!(table.expire(0, 100), 1);
    }

    #[test]
    fn a_full_table_forgets_those_who_wrote_longest_ago() {
        let mut table = ProducerTable::new(32);
        for id in 0..32 {
            write(&mut table, id, 0, &[0], id);
        }
        write(&mut table, 0, 0, &[1], 32); // the first writes again: now it is the newest
        assert_eq!(table.len(), 32);
        write(&mut table, 99, 0, &[0], 33);
        assert!(table.len() <= 32);
        let gone: Vec<i64> = (0..32).filter(|id| table.get(ProducerId(*id)).is_none()).collect();
        assert_eq!(gone, [1, 2, 3]);
        assert!(table.get(ProducerId(99)).is_some());
    }

    #[test]
    fn a_million_ids_stay_within_the_bound() {
        let mut table = ProducerTable::new(100);
        for id in 0..1_000_000 {
            write(&mut table, id, 0, &[0], id);
            assert!(table.len() <= 100);
        }
        assert!(table.get(ProducerId(999_999)).is_some());
    }

    #[test]
    fn truncation_forgets_what_it_took_out_of_the_log() {
        let mut table = ProducerTable::default();
        write(&mut table, 1, 0, &[0, 1, 2], 10);
        write(&mut table, 2, 0, &[0], 13);
        table.truncate_end(Offset(12));
        assert_eq!(table.check(&stamp(1, 0, 2, 1)), Ok(SequenceCheck::New));
        assert!(matches!(table.check(&stamp(1, 0, 1, 1)), Ok(SequenceCheck::Duplicate(_))));
        assert!(table.get(ProducerId(2)).is_none());
    }

    #[test]
    fn an_archive_gives_the_table_back() {
        let mut table = ProducerTable::new(50);
        write(&mut table, 7, 0, &[0, 1, 2, 3, 4, 5, 6], 0);
        table.record(&stamp(8, 2, i32::MAX, 3), Offset(7), Offset(9), -1);
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&table.image()).expect("serialize");
        let image = rkyv::from_bytes::<ProducerTableImage, rkyv::rancor::Error>(&bytes);
        assert_eq!(ProducerTable::from_image(&image.expect("valid"), 50), Some(table));
    }

    #[test]
    fn an_image_that_no_table_gives_is_refused() {
        let batch =
            BatchImage { base_sequence: 0, last_offset_delta: 0, base_offset: 5, timestamp_ms: 0 };
        let later = BatchImage { base_offset: 6, ..batch };
        let image = |producer_id, producer_epoch, batches: &[BatchImage]| ProducerImage {
            producer_id,
            producer_epoch,
            batches: batches.to_vec(),
        };
        let accepted = |producers: Vec<ProducerImage>| {
            ProducerTable::from_image(&ProducerTableImage { producers }, 10).is_some()
        };
        assert!(accepted(vec![image(1, 0, &[batch, later])]));
        assert!(!accepted(vec![image(1, 0, &[])]));
        assert!(!accepted(vec![image(1, 0, &[later, batch])]));
        assert!(!accepted(vec![image(-1, 0, &[batch])]));
        assert!(!accepted(vec![image(1, -1, &[batch])]));
        assert!(!accepted(vec![image(1, 0, &[batch]), image(1, 0, &[batch])]));
        assert!(!accepted(vec![image(1, 0, &[BatchImage { base_sequence: -1, ..batch }])]));
        assert!(!accepted(vec![image(1, 0, &[BatchImage { last_offset_delta: -1, ..batch }])]));
        assert!(!accepted(vec![image(1, 0, &[BatchImage { base_offset: i64::MAX, ..batch }; 2])]));
    }

    /// The whole history of each producer, asked the long way round.
    #[derive(Default)]
    struct Model(Vec<(ProducerStamp, i64)>);

    impl Model {
        fn check(&self, stamp: &ProducerStamp) -> Result<Option<i64>, &'static str> {
            let mine: Vec<_> = self.0.iter().filter(|(old, _)| old.id == stamp.id).collect();
            let Some((last, _)) = mine.last() else { return Ok(None) };
            let of_epoch: Vec<_> =
                mine.iter().rev().take_while(|(old, _)| old.epoch == last.epoch).take(5).collect();
            if let Some((_, offset)) = of_epoch.iter().find(|(old, _)| old == stamp) {
                return Ok(Some(*offset));
            }
            if stamp.epoch.0 < last.epoch.0 {
                return Err("stale");
            }
            let next = if stamp.epoch.0 > last.epoch.0 {
                0
            } else {
                i32::try_from((i64::from(last.last_sequence.0) + 1) % (1 << 31)).expect("in range")
            };
            if stamp.base_sequence.0 == next { Ok(None) } else { Err("out of order") }
        }
    }

    proptest! {
        #[test]
        fn the_table_answers_as_the_whole_history_would(
            steps in prop::collection::vec((0..3i64, 0..3i16, -8..2i32, 1..4i32), 1..120),
            start in prop_oneof![Just(0), Just(i32::MAX - 6)],
        ) {
            let (mut table, mut model) = (ProducerTable::default(), Model::default());
            let (mut next, mut offset) = ([start; 3], 0i64);
            for (id, epoch, shift, count) in steps {
                // Near what comes next: often right, often a retry, sometimes a gap.
                let at = next[usize::try_from(id).expect("small")];
                let base = if shift >= 0 { at } else { at.saturating_add(shift).max(0) };
                let base = if epoch > 0 && shift == 1 { 0 } else { base };
                let stamp = stamp(id, epoch, base, count);
                let got = table.check(&stamp);
                match model.check(&stamp) {
                    Ok(None) => {
                        prop_assert_eq!(got, Ok(SequenceCheck::New));
                        let last = offset + i64::from(count) - 1;
                        table.record(&stamp, Offset(offset), Offset(last), offset);
                        model.0.push((stamp, offset));
                        next[usize::try_from(id).expect("small")] = stamp.last_sequence.plus(1).0;
                        offset = last + 1;
                    }
                    Ok(Some(original)) => {
                        let is_original = matches!(
                            got, Ok(SequenceCheck::Duplicate(batch))
                                if batch.base_offset.0 == original && batch.timestamp_ms == original
                        );
                        prop_assert!(is_original, "{:?} for {:?}", got, stamp);
                    }
                    Err(what) => {
                        let got = match got {
                            Err(SequenceError::StaleEpoch { .. }) => "stale",
                            Err(SequenceError::OutOfOrder { .. }) => "out of order",
                            Ok(_) => "accepted",
                        };
                        prop_assert_eq!(got, what);
                    }
                }
                let image = table.image();
                let back = ProducerTable::from_image(&image, PRODUCER_IDS_MAX_DEFAULT);
                prop_assert_eq!(back.as_ref(), Some(&table));
            }
        }
    }
}
