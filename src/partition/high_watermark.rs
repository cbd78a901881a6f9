//! What a committed group of the journal means for a partition.

use crate::base::ids::Offset;

use super::Partition;
use super::offsets::OffsetChain;

impl Partition {
    /// The journal has written the log up to `written_end` and made it durable up to
    /// `durable_end`. Moves what may be acknowledged and, being the only replica, what is
    /// committed; releases the acknowledgements below, then wakes the fetches. Reports may come
    /// late or twice: the best one counts. A closed partition stays as it is.
    ///
    /// # Panics
    /// If the report names records that were never sequenced.
    pub fn on_committed(&mut self, written_end: Offset, durable_end: Offset) {
        if self.closed.is_some() {
            return;
        }
        let before = *self.offsets.get();
        let reported = if self.config.syncs_before_ack() {
            durable_end.max(written_end.min(self.written_is_enough_below))
        } else {
            written_end
        };
        let ackable = before.ackable.max(reported);
        if ackable == before.ackable {
            return;
        }
        self.offsets.set(OffsetChain {
            ackable,
            high_watermark: ackable,
            last_stable: ackable,
            ..before
        });
        self.acks.release(ackable);
        self.fetches.wake();
    }

    /// Producers that wait for an acknowledgement.
    #[must_use]
    pub fn waiting_acks(&self) -> usize {
        self.acks.len()
    }
}
