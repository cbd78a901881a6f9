//! The leader's offsets of one partition, kept in order.

use crate::base::ids::Offset;

/// The offsets that bound what exists, what may be acknowledged and what may be read, from the
/// lowest to the highest. Ends are exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetChain {
    /// The first record that still exists anywhere.
    pub log_start: Offset,
    /// The first record that lies on this machine (above `log_start` once a log is tiered).
    pub local_log_start: Offset,
    /// End of what `read_committed` readers see: no open transaction begins below it.
    pub last_stable: Offset,
    /// End of what readers see: committed on every in-sync replica.
    pub high_watermark: Offset,
    /// End of what this broker may acknowledge: durable or, where the topic asks for no sync
    /// first, written.
    pub ackable: Offset,
    /// End of what was sequenced: the next record's offset.
    pub log_end: Offset,
}

/// An [`OffsetChain`] that is always in order and, on a leader, never goes back. Offsets of one
/// partition live here and nowhere else; [`Offsets::set`] is the only way to change them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    chain: OffsetChain,
}

impl Offsets {
    /// The offsets of a log in which everything was recovered: all of it is committed, since on a
    /// single replica what survived a crash can no longer be lost.
    #[must_use]
    pub fn recovered(log_start: Offset, log_end: Offset) -> Offsets {
        let chain = OffsetChain {
            log_start,
            local_log_start: log_start,
            last_stable: log_end,
            high_watermark: log_end,
            ackable: log_end,
            log_end,
        };
        chain.assert_ordered();
        Offsets { chain }
    }

    /// All of them.
    #[must_use]
    pub fn get(&self) -> &OffsetChain {
        &self.chain
    }

    /// Replaces all of them.
    ///
    /// # Panics
    /// If they are not in order, or if one goes back: readers have seen what lies below the
    /// watermarks, and producers were told of what lies below `ackable`. Checked in release too:
    /// a broker that acknowledges what it does not have must not go on.
    pub fn set(&mut self, next: OffsetChain) {
        next.assert_ordered();
        let before = self.chain;
        assert!(
            before.log_start <= next.log_start
                && before.local_log_start <= next.local_log_start
                && before.last_stable <= next.last_stable
                && before.high_watermark <= next.high_watermark
                && before.ackable <= next.ackable
                && before.log_end <= next.log_end,
            "a leader's offsets went back: {before:?} to {next:?}"
        );
        self.chain = next;
    }
}

impl OffsetChain {
    fn assert_ordered(&self) {
        assert!(
            Offset::ZERO <= self.log_start
                && self.log_start <= self.local_log_start
                && self.local_log_start <= self.last_stable
                && self.last_stable <= self.high_watermark
                && self.high_watermark <= self.ackable
                && self.ackable <= self.log_end,
            "offsets out of order: {self:?}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets() -> Offsets {
        Offsets::recovered(Offset(2), Offset(10))
    }

    #[test]
    fn everything_that_was_recovered_is_committed() {
        let chain = *offsets().get();
        assert_eq!((chain.log_start, chain.local_log_start), (Offset(2), Offset(2)));
        assert_eq!((chain.last_stable, chain.high_watermark), (Offset(10), Offset(10)));
        assert_eq!((chain.ackable, chain.log_end), (Offset(10), Offset(10)));
    }

    #[test]
    #[should_panic(expected = "out of order")]
    fn the_high_watermark_cannot_pass_what_may_be_acknowledged() {
        let mut offsets = offsets();
        let chain = OffsetChain { log_end: Offset(12), ackable: Offset(11), ..*offsets.get() };
        offsets.set(chain);
        offsets.set(OffsetChain { high_watermark: Offset(12), ..chain });
    }

    #[test]
    #[should_panic(expected = "out of order")]
    fn the_log_start_cannot_pass_the_last_stable_offset() {
        let mut offsets = offsets();
        let chain = OffsetChain {
            log_start: Offset(11),
            local_log_start: Offset(11),
            log_end: Offset(12),
            ..*offsets.get()
        };
        offsets.set(chain);
    }

    #[test]
    #[should_panic(expected = "went back")]
    fn no_offset_of_a_leader_goes_back() {
        let mut offsets = offsets();
        let chain = *offsets.get();
        offsets.set(OffsetChain { last_stable: Offset(9), ..chain });
    }
}
