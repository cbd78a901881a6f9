//! The mark of a record in verify mode: who sent it, which of its records it is, and a checksum
//! over all of it, at the front of the value.

use thalweg::base::crc::{crc32c, crc32c_append};

/// Bytes of a mark; a value has room for one at least.
pub const MARK_BYTES: usize = 28;

const MAGIC: [u8; 4] = [0xC7, 0x9A, 0xF1, 0x56];

/// A record's identity. Sequences count the records of one lane to one partition, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Tells runs apart that share a topic.
    pub run: u64,
    /// The sending lane.
    pub lane: u16,
    /// Which record of the lane's to this partition.
    pub sequence: u64,
}

/// What a value turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A record of ours, whole.
    Whole(Mark),
    /// It carries our magic and is not what was sent.
    Corrupt,
    /// Somebody else's.
    Foreign,
}

impl Mark {
    /// Writes the mark over the front of `value`.
    ///
    /// # Panics
    /// If the value is shorter than [`MARK_BYTES`]; flags are checked before a run.
    pub fn put(&self, value: &mut [u8]) {
        value[..4].copy_from_slice(&MAGIC);
        value[4..12].copy_from_slice(&self.run.to_be_bytes());
        value[12..14].copy_from_slice(&self.lane.to_be_bytes());
        value[14..16].fill(0);
        value[16..24].copy_from_slice(&self.sequence.to_be_bytes());
        let sum = checksum(value);
        value[24..28].copy_from_slice(&sum.to_be_bytes());
    }

    /// Reads the mark of `value`.
    #[must_use]
    pub fn find(value: &[u8]) -> Found {
        let Some(head) = value.first_chunk::<MARK_BYTES>() else { return Found::Foreign };
        if head[..4] != MAGIC {
            return Found::Foreign;
        }
        if checksum(value).to_be_bytes() != head[24..28] {
            return Found::Corrupt;
        }
        let long =
            |at: usize| head[at..at + 8].iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        Found::Whole(Mark {
            run: long(4),
            lane: u16::from_be_bytes([head[12], head[13]]),
            sequence: long(16),
        })
    }
}

/// Over the whole value but the checksum itself.
fn checksum(value: &[u8]) -> u32 {
    crc32c_append(crc32c(&value[..24]), &value[MARK_BYTES..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_again_and_any_changed_byte_shows() {
        let mark = Mark { run: 7 << 40, lane: 513, sequence: u64::MAX - 1 };
        let mut value = vec![0x2E; 40];
        mark.put(&mut value);
        assert_eq!(Mark::find(&value), Found::Whole(mark));
        for at in 0..value.len() {
            let mut bad = value.clone();
            bad[at] ^= 1;
            let expected = if at < 4 { Found::Foreign } else { Found::Corrupt };
            assert_eq!(Mark::find(&bad), expected, "byte {at}");
        }
        assert_eq!(Mark::find(&value[..27]), Found::Foreign);
    }
}
