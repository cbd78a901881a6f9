//! CRC-32C of a batch whose tail never changes, in time that does not depend on the tail's length.
//!
//! Appending `n` bytes to a message changes its CRC by a linear map that depends on `n` only. The
//! map for one template's tail is folded into four tables once; after that a patched head of some
//! hundred bytes costs its own CRC, four look-ups and one XOR, instead of a pass over a megabyte.

use crc32c::{crc32c, crc32c_combine};

/// A fixed tail: its CRC and the map that its length applies to the CRC of what stands before it.
#[derive(Clone)]
pub struct CrcTail {
    tail_crc: u32,
    shift: Box<[[u32; 256]; 4]>,
}

impl CrcTail {
    /// Prepares `tail`.
    #[must_use]
    pub fn new(tail: &[u8]) -> CrcTail {
        // combine(crc, 0, n) is the map alone; it is linear, so 32 one-bit inputs describe it.
        let column: Vec<u32> = (0..32).map(|bit| crc32c_combine(1 << bit, 0, tail.len())).collect();
        let mut shift = Box::new([[0u32; 256]; 4]);
        for (lane, table) in shift.iter_mut().enumerate() {
            for (value, entry) in table.iter_mut().enumerate() {
                *entry = (0..8)
                    .filter(|bit| value >> bit & 1 == 1)
                    .fold(0, |sum, bit| sum ^ column[lane * 8 + bit]);
            }
        }
        CrcTail { tail_crc: crc32c(tail), shift }
    }

    /// The CRC of `head` followed by the tail.
    #[inline]
    #[must_use]
    pub fn crc_after(&self, head: &[u8]) -> u32 {
        let [a, b, c, d] = crc32c(head).to_le_bytes();
        self.tail_crc
            ^ self.shift[0][usize::from(a)]
            ^ self.shift[1][usize::from(b)]
            ^ self.shift[2][usize::from(c)]
            ^ self.shift[3][usize::from(d)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folded_crc_equals_a_pass_over_all_bytes() {
        let bytes: Vec<u8> = (0..70_000u32).map(|i| (i * 31 % 251) as u8).collect();
        for split in [0, 1, 61, 100, 4096, 65_536, 69_999, 70_000] {
            let (head, tail) = bytes.split_at(split);
            assert_eq!(CrcTail::new(tail).crc_after(head), crc32c(&bytes), "split at {split}");
        }
    }
}
