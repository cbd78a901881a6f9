//! The stamp: when a request was meant to leave, carried in the first record's value, so that
//! whoever reads the batch can tell the end-to-end latency with nothing shared between cores.

/// Bytes of a stamp.
pub const STAMP_BYTES: usize = 16;

/// Not ASCII and not zero, so that neither payload nor foreign data is taken for a stamp.
const MAGIC: [u8; 3] = [0xC7, 0x9A, 0xF1];

/// A stamp, valid within one process: its clock is the run's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Tells runs apart that share a topic.
    pub run: u8,
    /// The sending lane.
    pub lane: u16,
    /// Low bits of the lane's request count.
    pub sequence: u16,
    /// Intended send time, ns of the run's clock (the send itself in a closed loop).
    pub intended_ns: u64,
}

impl Stamp {
    /// The stamp as it travels.
    #[inline]
    #[must_use]
    pub fn encode(&self) -> [u8; STAMP_BYTES] {
        let mut out = [0; STAMP_BYTES];
        out[..3].copy_from_slice(&MAGIC);
        out[3] = self.run;
        out[4..6].copy_from_slice(&self.lane.to_be_bytes());
        out[6..8].copy_from_slice(&self.sequence.to_be_bytes());
        out[8..].copy_from_slice(&self.intended_ns.to_be_bytes());
        out
    }

    /// Reads a stamp; `None` if these bytes are not one.
    #[inline]
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Stamp> {
        let bytes: &[u8; STAMP_BYTES] = bytes.get(..STAMP_BYTES)?.try_into().ok()?;
        if bytes[..3] != MAGIC {
            return None;
        }
        let mut intended = [0; 8];
        intended.copy_from_slice(&bytes[8..]);
        Some(Stamp {
            run: bytes[3],
            lane: u16::from_be_bytes([bytes[4], bytes[5]]),
            sequence: u16::from_be_bytes([bytes[6], bytes[7]]),
            intended_ns: u64::from_be_bytes(intended),
        })
    }
}

/// Where a run's stamps may lie in a batch.
#[derive(Clone, Debug)]
pub struct StampPlaces {
    /// This run's number in its stamps.
    pub run: u8,
    /// Bytes from the batch's start; empty where its batches have none.
    pub places: Vec<usize>,
}

impl StampPlaces {
    /// The stamp of `batch`, if it is one of this run's. Foreign bytes are taken for one with a
    /// probability of 2^-32 for each place.
    #[inline]
    #[must_use]
    pub fn find(&self, batch: &[u8]) -> Option<Stamp> {
        let stamp_at =
            |&at: &usize| Stamp::decode(batch.get(at..)?).filter(|stamp| stamp.run == self.run);
        self.places.iter().find_map(stamp_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_the_trip_and_foreign_bytes_are_not_one() {
        let stamp = Stamp { run: 7, lane: 513, sequence: 65_535, intended_ns: u64::MAX - 3 };
        assert_eq!(Stamp::decode(&stamp.encode()), Some(stamp));
        assert_eq!(Stamp::decode(&[0; STAMP_BYTES]), None);
        assert_eq!(Stamp::decode(&stamp.encode()[..15]), None);
    }
}
