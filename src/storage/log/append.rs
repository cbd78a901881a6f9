//! Appending as the leader, which assigns offsets. What keeps offsets is in `keep`.

use crate::base::ids::{LeaderEpoch, Offset};
use crate::record::{ProducerStamp, RecordBatch, Stamp};

use super::super::journal::{Journal, StageFor, Staged};
use super::super::producer_table::ProducerTable;
use super::{Log, TailBatch};

/// What the leader puts into a batch beside its offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StampChoice {
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// `Some(now)` on topics with LogAppendTime.
    pub log_append_time_ms: Option<i64>,
}

/// Where a batch came to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// Its max timestamp as stored.
    pub max_timestamp: i64,
}

impl Log {
    /// Appends as the leader: assigns the next offsets, copies the batch into the journal's tail.
    /// Nothing is written yet; the log's ends move when the group was committed. Whether there is
    /// room, and whether the store has failed, is asked before ([`Journal::room`]).
    pub fn append(
        &mut self,
        journal: &Journal,
        batch: &RecordBatch,
        choice: StampChoice,
    ) -> Appended {
        let stamp = Stamp {
            base_offset: self.log_end,
            leader_epoch: choice.leader_epoch,
            log_append_time_ms: choice.log_append_time_ms,
        };
        self.append_stamped(journal, batch, &stamp)
    }

    pub(super) fn demand(&self, durable: bool) -> StageFor {
        StageFor {
            slot: self.slot,
            topic_partition: self.topic_partition,
            membership: self.membership,
            durable,
            flush_ms: self.config.flush_ms,
            truncations: self.truncations,
        }
    }

    pub(super) fn append_stamped(
        &mut self,
        journal: &Journal,
        batch: &RecordBatch,
        stamp: &Stamp,
    ) -> Appended {
        let base_offset = stamp.base_offset;
        let last_offset = base_offset.plus(i64::from(batch.last_offset_delta()));
        let max_timestamp = stamp.log_append_time_ms.unwrap_or(batch.max_timestamp());
        let next_end = last_offset.plus(1);
        let durable = next_end.0 - self.flush_point.0 >= self.config.flush_messages;
        if durable {
            self.flush_point = next_end;
        }
        let Staged { group, start, entry, membership } =
            journal.stage_batch(&self.demand(durable), batch, stamp, last_offset);
        self.membership = Some(membership);
        let len = u32::try_from(batch.len_bytes()).expect("a batch is smaller than 2 GiB");
        let tail = TailBatch {
            group,
            start,
            len,
            entry,
            base_offset,
            last_offset,
            max_timestamp,
            place: None,
        };
        self.take_batch(tail, stamp.leader_epoch, batch.producer());
        Appended { base_offset, last_offset, max_timestamp }
    }

    pub(super) fn take_batch(
        &mut self,
        batch: TailBatch,
        leader_epoch: LeaderEpoch,
        producer: Option<ProducerStamp>,
    ) {
        let (base, last, max_timestamp) =
            (batch.base_offset, batch.last_offset, batch.max_timestamp);
        assert!(base >= self.log_end && last >= base, "offsets only rise");
        if leader_epoch.0 >= 0 {
            self.epochs.assign(leader_epoch, base);
        }
        note_producer(&mut self.producers, producer, (base, last), max_timestamp);
        self.tail.push(batch);
        self.touched = true;
        self.log_end = last.plus(1);
        self.check_invariants();
    }
}

/// Tells a table of a batch. Control batches carry no sequence.
pub(super) fn note_producer(
    table: &mut ProducerTable,
    producer: Option<ProducerStamp>,
    (base, last): (Offset, Offset),
    max_timestamp: i64,
) {
    let Some(stamp) = producer.filter(|stamp| stamp.base_sequence.0 >= 0) else { return };
    table.record(&stamp, base, last, max_timestamp);
}
