//! The content of one simulated file: what a reader sees now, and what would survive a power cut.

use std::collections::BTreeMap;

/// What a disk writes at once: a power cut tears a write between sectors, never inside one.
pub(super) const SECTOR_BYTES: usize = 512;

const BLOCK_BYTES: usize = 4096;
const SECTORS_PER_BLOCK: usize = BLOCK_BYTES / SECTOR_BYTES;

type Blocks = BTreeMap<u64, Box<[u8; BLOCK_BYTES]>>;

/// One file's content. Absent blocks are zeros, so that a large empty file costs nothing.
#[derive(Clone, Default)]
pub(super) struct Node {
    live: Blocks,
    live_len: u64,
    durable: Blocks,
    durable_len: u64,
    /// Per block, one bit for each sector whose write has not been synced.
    dirty: BTreeMap<u64, u8>,
}

/// A part of one block.
struct Piece {
    block: u64,
    start: usize,
    end: usize,
}

/// Cuts `len` bytes at `pos` at the borders of blocks.
fn pieces(pos: u64, len: usize) -> impl Iterator<Item = Piece> {
    let end = pos + len as u64;
    let mut at = pos;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let block = at / BLOCK_BYTES as u64;
        let start = (at % BLOCK_BYTES as u64) as usize;
        let length = ((end - at) as usize).min(BLOCK_BYTES - start);
        at += length as u64;
        Some(Piece { block, start, end: start + length })
    })
}

/// The sectors that `piece` touches, as bits.
fn sectors(piece: &Piece) -> u8 {
    let first = piece.start / SECTOR_BYTES;
    let last = (piece.end - 1) / SECTOR_BYTES;
    (first..=last).fold(0, |mask, sector| mask | 1 << sector)
}

impl Node {
    pub(super) fn len(&self) -> u64 {
        self.live_len
    }

    /// Fewer bytes than asked only at the end of the file.
    pub(super) fn read(&self, pos: u64, into: &mut [u8]) -> usize {
        let available = self.live_len.saturating_sub(pos).min(into.len() as u64) as usize;
        let mut done = 0;
        for piece in pieces(pos, available) {
            let target = &mut into[done..done + piece.end - piece.start];
            match self.live.get(&piece.block) {
                Some(block) => target.copy_from_slice(&block[piece.start..piece.end]),
                None => target.fill(0),
            }
            done += target.len();
        }
        available
    }

    pub(super) fn write(&mut self, pos: u64, bytes: &[u8]) {
        let mut done = 0;
        for piece in pieces(pos, bytes.len()) {
            let length = piece.end - piece.start;
            let block = self.live.entry(piece.block).or_insert_with(zeros);
            block[piece.start..piece.end].copy_from_slice(&bytes[done..done + length]);
            *self.dirty.entry(piece.block).or_default() |= sectors(&piece);
            done += length;
        }
        self.live_len = self.live_len.max(pos + bytes.len() as u64);
    }

    /// Makes a range durable, with the length needed to read it: what a durable write does.
    pub(super) fn sync_range(&mut self, pos: u64, len: usize) {
        for piece in pieces(pos, len) {
            let mask = sectors(&piece);
            self.settle(piece.block, mask);
        }
        self.durable_len = self.durable_len.max((pos + len as u64).min(self.live_len));
    }

    /// Makes everything durable.
    pub(super) fn sync(&mut self) {
        while let Some((&block, &mask)) = self.dirty.first_key_value() {
            self.settle(block, mask);
        }
        self.durable_len = self.live_len;
    }

    /// What Linux does when a sync fails: the pages are clean, the bytes are not on the disk, and
    /// the next sync succeeds.
    pub(super) fn forget_dirty(&mut self) {
        self.dirty.clear();
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.live_len {
            let keep = len.div_ceil(BLOCK_BYTES as u64);
            for (block, _) in self.live.split_off(&keep) {
                self.dirty.insert(block, u8::MAX);
            }
            let inside = (len % BLOCK_BYTES as u64) as usize;
            let last = len / BLOCK_BYTES as u64;
            if inside > 0
                && let Some(block) = self.live.get_mut(&last)
            {
                block[inside..].fill(0);
                let piece = Piece { block: last, start: inside, end: BLOCK_BYTES };
                *self.dirty.entry(last).or_default() |= sectors(&piece);
            }
        }
        self.live_len = len;
    }

    /// Flips one bit where it hurts: on the disk and for every reader.
    pub(super) fn flip_bit(&mut self, pos: u64, bit: u8) {
        let (block, at) = (pos / BLOCK_BYTES as u64, (pos % BLOCK_BYTES as u64) as usize);
        for blocks in [&mut self.live, &mut self.durable] {
            blocks.entry(block).or_insert_with(zeros)[at] ^= 1 << (bit & 7);
        }
    }

    /// The file after a power cut. `keep` decides for each unsynced sector, and for an unsynced
    /// length, whether it reached the disk.
    pub(super) fn crashed(&self, keep: &mut dyn FnMut() -> bool) -> Node {
        let mut after = self.clone();
        let unsynced: Vec<(u64, u8)> = after.dirty.iter().map(|(&b, &m)| (b, m)).collect();
        for (block, mask) in unsynced {
            let kept = (0..SECTORS_PER_BLOCK)
                .filter(|sector| mask & 1 << sector != 0 && keep())
                .fold(0u8, |kept, sector| kept | 1 << sector);
            after.settle(block, kept);
        }
        if after.durable_len != after.live_len && keep() {
            after.durable_len = after.live_len;
        }
        after.live_len = after.durable_len;
        after.dirty.clear();
        // What lies behind the end reads as zeros if the file grows again.
        after.durable.split_off(&after.live_len.div_ceil(BLOCK_BYTES as u64));
        let inside = (after.live_len % BLOCK_BYTES as u64) as usize;
        let last = after.live_len / BLOCK_BYTES as u64;
        if inside > 0
            && let Some(block) = after.durable.get_mut(&last)
        {
            block[inside..].fill(0);
        }
        after.live = after.durable.clone();
        after
    }

    /// Copies the sectors in `mask` to the durable image.
    fn settle(&mut self, block: u64, mask: u8) {
        if let Some(dirty) = self.dirty.get_mut(&block) {
            *dirty &= !mask;
            if *dirty == 0 {
                self.dirty.remove(&block);
            }
        }
        if mask == 0 {
            return;
        }
        match self.live.get(&block) {
            None if mask == u8::MAX => {
                self.durable.remove(&block);
            }
            live => {
                let durable = self.durable.entry(block).or_insert_with(zeros);
                for sector in (0..SECTORS_PER_BLOCK).filter(|sector| mask & 1 << sector != 0) {
                    let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                    match live {
                        Some(live) => durable[range.clone()].copy_from_slice(&live[range]),
                        None => durable[range].fill(0),
                    }
                }
            }
        }
    }
}

fn zeros() -> Box<[u8; BLOCK_BYTES]> {
    Box::new([0; BLOCK_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(node: &Node) -> Vec<u8> {
        let mut out = vec![0xEE; usize::try_from(node.len()).expect("small")];
        assert_eq!(node.read(0, &mut out), out.len());
        out
    }

    #[test]
    fn synced_sectors_survive_whatever_is_lost() {
        let mut node = Node::default();
        node.write(0, &[1; 8192]);
        node.sync();
        node.write(512, &[2; 1024]);
        node.sync_range(512, 512);
        let after = node.crashed(&mut || false);
        let bytes = content(&after);
        assert_eq!(bytes.len(), 8192);
        assert!(bytes[512..1024].iter().all(|byte| *byte == 2));
        assert!(bytes[1024..].iter().all(|byte| *byte == 1));
        assert_eq!(content(&node.crashed(&mut || true)), content(&node));
    }

    #[test]
    fn a_power_cut_tears_a_write_between_sectors_only() {
        let mut node = Node::default();
        node.write(0, &[1; 4096]);
        node.sync();
        node.write(0, &[2; 4096]);
        let mut turn = 0;
        let after = node.crashed(&mut || {
            turn += 1;
            turn % 3 == 0
        });
        let bytes = content(&after);
        let sectors: Vec<u8> = bytes.chunks(SECTOR_BYTES).map(|sector| sector[0]).collect();
        assert!(bytes.chunks(SECTOR_BYTES).all(|s| s.iter().all(|byte| *byte == s[0])));
        assert!(sectors.contains(&1) && sectors.contains(&2));
    }

    #[test]
    fn what_was_truncated_does_not_come_back_once_synced() {
        let mut node = Node::default();
        node.write(0, &[1; 10_000]);
        node.sync();
        node.set_len(100);
        assert_eq!(node.crashed(&mut || false).len(), 10_000);
        node.sync();
        node.set_len(10_000);
        let bytes = content(&node);
        assert!(bytes[..100].iter().all(|byte| *byte == 1));
        assert!(bytes[100..].iter().all(|byte| *byte == 0));
        node.sync();
        assert_eq!(content(&node.crashed(&mut || false)), bytes);
    }

    #[test]
    fn after_a_failed_sync_the_next_one_saves_nothing() {
        let mut node = Node::default();
        node.write(0, &[1; 512]);
        node.sync();
        node.write(0, &[2; 512]);
        node.forget_dirty();
        node.sync();
        assert_eq!(content(&node), [2; 512]);
        assert_eq!(content(&node.crashed(&mut || true)), [1; 512]);
    }
}
