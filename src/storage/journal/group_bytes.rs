//! The bytes of a sealed group: put together in one buffer, but for pages of large batches that stay
//! where they were received.

use std::ops::Range;

use bytes::Bytes;

/// Pages of a large batch, in the memory in which it was received.
#[derive(Clone, Debug)]
pub(in crate::storage) struct LentPages {
    /// Where they lie in the group, in bytes.
    pub(in crate::storage) at: usize,
    /// A multiple of 4 KiB, aligned to it.
    pub(in crate::storage) pages: Bytes,
}

impl LentPages {
    fn end(&self) -> usize {
        self.at + self.pages.len()
    }
}

/// A group's bytes. Cheap to clone: clones share them.
#[derive(Clone, Debug)]
pub(in crate::storage) struct GroupBytes {
    /// Everything but the lent pages, without gaps.
    own: Bytes,
    /// In order of their places.
    lent: Vec<LentPages>,
}

impl GroupBytes {
    pub(super) fn new(own: Bytes, lent: Vec<LentPages>) -> GroupBytes {
        GroupBytes { own, lent }
    }

    /// Length of the whole group.
    pub(in crate::storage) fn len(&self) -> usize {
        self.own.len() + self.lent.iter().map(|lent| lent.pages.len()).sum::<usize>()
    }

    /// Adds the slices that make up `start..end` of the group, in order.
    pub(in crate::storage) fn add_range(&self, start: usize, end: usize, slices: &mut Vec<Bytes>) {
        let (mut at, mut lent_before) = (start, 0);
        for lent in self.lent.iter().take_while(|lent| lent.at < end) {
            if at < lent.at {
                slices.push(self.own.slice(at - lent_before..lent.at - lent_before));
                at = lent.at;
            }
            if at < end.min(lent.end()) {
                let stop = end.min(lent.end());
                slices.push(lent.pages.slice(at - lent.at..stop - lent.at));
                at = stop;
            }
            lent_before += lent.pages.len();
        }
        if at < end {
            slices.push(self.own.slice(at - lent_before..end - lent_before));
        }
    }

    /// All slices of the group, in order, but for the ranges in `without`, which are in order too.
    pub(in crate::storage) fn slices(&self, without: &[Range<usize>]) -> Vec<Bytes> {
        let mut slices = Vec::with_capacity(2 * self.lent.len() + 1);
        let mut at = 0;
        for gap in without {
            self.add_range(at, gap.start, &mut slices);
            at = gap.end;
        }
        self.add_range(at, self.len(), &mut slices);
        slices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_of_a_group_is_what_one_buffer_would_hold() {
        let whole: Vec<u8> = (0..64_u8).collect();
        for cuts in [vec![], vec![(8, 16)], vec![(8, 16), (16, 24), (40, 56)], vec![(8, 64)]] {
            let is_lent = |at: &usize| cuts.iter().any(|(from, to)| (*from..*to).contains(at));
            let own = (0..64).filter(|at| !is_lent(at)).map(|at| whole[at]).collect::<Vec<u8>>();
            let lent = cuts.iter().map(|(from, to)| LentPages {
                at: *from,
                pages: Bytes::copy_from_slice(&whole[*from..*to]),
            });
            let group = GroupBytes::new(Bytes::from(own), lent.collect());
            assert_eq!(group.len(), 64);
            assert_eq!(group.slices(&[]).concat(), whole);
            let without =
                [whole[..4].to_vec(), whole[20..50].to_vec(), whole[60..].to_vec()].concat();
            assert_eq!(group.slices(&[4..20, 50..60]).concat(), without);
            for start in 0..64 {
                for end in start..=64 {
                    let mut slices = Vec::new();
                    group.add_range(start, end, &mut slices);
                    assert!(slices.iter().all(|slice| !slice.is_empty()));
                    assert_eq!(slices.concat(), whole[start..end], "{cuts:?} {start}..{end}");
                }
            }
        }
    }
}
