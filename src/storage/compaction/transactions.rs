//! Which transactions of a part of a log were aborted, and where one is still open (KIP-98).
//!
//! Filled by a walk of its own over the part, with batches in order, before any key is noted: data of
//! a transaction comes before its marker, and what was aborted, or may be, supersedes nothing.

use rustc_hash::FxHashMap;

use crate::base::ids::{Offset, ProducerId};
use crate::record::{StoredBatch, records};

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    Abort,
    Commit,
}

/// The marker of a control batch; `None` for an emptied batch and for other control records.
pub(super) fn marker_of(batch: StoredBatch<'_>) -> Option<Marker> {
    let mut walk = records(batch, 0).ok()?;
    let record = walk.next_record()?.ok()?;
    // Version and type of the control record, both of 16 bits, big-endian.
    match record.key()? {
        [_, _, 0, 0, ..] => Some(Marker::Abort),
        [_, _, 0, 1, ..] => Some(Marker::Commit),
        _ => None,
    }
}

/// Transactions seen so far.
#[derive(Default)]
pub(super) struct Transactions {
    /// First offset of each producer's open transaction.
    open: FxHashMap<ProducerId, Offset>,
    /// First and last offset of aborted ones, by producer, in order.
    aborted: FxHashMap<ProducerId, Vec<(Offset, Offset)>>,
}

impl Transactions {
    /// The next batch of the pass.
    pub(super) fn note(&mut self, batch: StoredBatch<'_>) {
        let Some(producer) = batch.producer() else { return };
        if !batch.is_control() {
            if batch.is_transactional() {
                self.open.entry(producer.id).or_insert(batch.base_offset());
            }
            return;
        }
        let Some(marker) = marker_of(batch) else { return };
        let first = self.open.remove(&producer.id);
        if let (Marker::Abort, Some(first)) = (marker, first) {
            self.aborted.entry(producer.id).or_default().push((first, batch.last_offset()));
        }
    }

    /// Where the first transaction begins that has no end yet.
    pub(super) fn first_open(&self) -> Option<Offset> {
        self.open.values().min().copied()
    }

    /// Whether the batch's records were aborted.
    pub(super) fn is_aborted(&self, batch: StoredBatch<'_>) -> bool {
        let Some(producer) = batch.producer().filter(|_| batch.is_transactional()) else {
            return false;
        };
        let Some(ranges) = self.aborted.get(&producer.id) else { return false };
        let offset = batch.base_offset();
        let begun = ranges.partition_point(|(first, _)| *first <= offset);
        begun.checked_sub(1).is_some_and(|last| offset <= ranges[last].1)
    }
}
