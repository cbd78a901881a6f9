//! Which records, batches and markers a pass keeps: Kafka's rules (`LogCleaner`, KIP-534).

use rustc_hash::{FxHashMap, FxHashSet};

use crate::base::ids::{Offset, ProducerId};
use crate::record::{BatchError, Record, RecordBatch, Retained, StoredBatch, Verdict};

use super::offset_map::OffsetMap;
use super::transactions::{Marker, Transactions, marker_of};

/// What becomes of a batch.
#[derive(Debug)]
pub(super) enum Fate {
    /// It is written as it is.
    Stays,
    /// It has fewer records, none, or a delete horizon now.
    Changed(RecordBatch),
    /// It goes.
    Goes,
}

/// What one pass knows of its log.
pub(super) struct Judge {
    pub(super) map: OffsetMap,
    pub(super) transactions: Transactions,
    /// What lies from here on is kept as it is.
    pub(super) end: Offset,
    /// Wall time, milliseconds since the epoch.
    pub(super) now_ms: i64,
    /// `delete.retention.ms`.
    pub(super) delete_retention_ms: i64,
    /// Last offset of the last batch of each producer that may still write.
    pub(super) last_of: FxHashMap<ProducerId, Offset>,
    pub(super) decompressed_bytes_max: usize,
    /// Producers with data of an aborted transaction in this pass, whose marker is still to come.
    aborted: FxHashSet<ProducerId>,
    /// The same of transactions that were not aborted.
    committed: FxHashSet<ProducerId>,
}

impl Judge {
    pub(super) fn new(
        map: OffsetMap,
        (now_ms, delete_retention_ms): (i64, i64),
        last_of: FxHashMap<ProducerId, Offset>,
        decompressed_bytes_max: usize,
    ) -> Judge {
        Judge {
            map,
            transactions: Transactions::default(),
            end: Offset::ZERO,
            now_ms,
            delete_retention_ms,
            last_of,
            decompressed_bytes_max,
            aborted: FxHashSet::default(),
            committed: FxHashSet::default(),
        }
    }

    /// The next batch of the log, in order.
    ///
    /// # Errors
    /// If its records cannot be read: nothing may be decided then.
    pub(super) fn fate(&mut self, batch: StoredBatch<'_>) -> Result<Fate, BatchError> {
        if batch.base_offset() >= self.end {
            return Ok(Fate::Stays);
        }
        let is_moot = self.is_moot(batch);
        let horizon_ms = batch.delete_horizon_ms();
        let is_over = horizon_ms.is_some_and(|horizon_ms| horizon_ms <= self.now_ms);
        let judge = |record: &Record<'_>| match (batch.is_control(), is_moot) {
            (true, true) if is_over => Verdict::Drop,
            (true, true) => Verdict::KeepForNow,
            (true, false) => Verdict::Keep,
            (false, true) => Verdict::Drop,
            (false, false) => self.verdict(record, is_over),
        };
        let horizon_ms = self.now_ms.saturating_add(self.delete_retention_ms);
        Ok(match batch.retain(horizon_ms, self.decompressed_bytes_max, judge)? {
            Retained::All => Fate::Stays,
            Retained::Some(batch) => Fate::Changed(batch),
            Retained::Nothing if !self.is_last_of_producer(batch) => Fate::Goes,
            Retained::Nothing if batch.record_count() == 0 => Fate::Stays,
            Retained::Nothing => Fate::Changed(batch.emptied()?),
        })
    }

    fn verdict(&self, record: &Record<'_>, horizon_is_over: bool) -> Verdict {
        // Topics that were not always compacted may hold records without a key.
        let Some(key) = record.key() else { return Verdict::Drop };
        let is_latest = self.map.get(key).is_none_or(|latest| record.offset() >= latest);
        match record.value() {
            _ if !is_latest => Verdict::Drop,
            Some(_) => Verdict::Keep,
            None if horizon_is_over => Verdict::Drop,
            None => Verdict::KeepForNow,
        }
    }

    /// Whether a batch of data was aborted, or nothing is left that a marker marks.
    fn is_moot(&mut self, batch: StoredBatch<'_>) -> bool {
        let Some(producer) = batch.producer() else { return false };
        if batch.is_control() {
            return match marker_of(batch) {
                Some(Marker::Abort) => !self.aborted.remove(&producer.id),
                Some(Marker::Commit) => !self.committed.remove(&producer.id),
                None => batch.record_count() == 0,
            };
        }
        if !batch.is_transactional() {
            return false;
        }
        let is_aborted = self.transactions.is_aborted(batch);
        let seen = if is_aborted { &mut self.aborted } else { &mut self.committed };
        seen.insert(producer.id);
        is_aborted
    }

    fn is_last_of_producer(&self, batch: StoredBatch<'_>) -> bool {
        let last = batch.producer().and_then(|producer| self.last_of.get(&producer.id));
        last == Some(&batch.last_offset())
    }
}
