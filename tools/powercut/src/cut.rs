//! The cuts: the device as the power left it, and a broker started on that.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::block_log::{BlockLog, Entry};
use crate::broker::{Recipe, data_dir};
use crate::device::{DEVICE_BYTES, Rig};
use crate::fuse::Blocks;
use crate::offline;
use crate::promises::{Mark, Promises};
use crate::shell::during;
use crate::tools::random::Random;
use crate::verify::{Seen, verify};
use crate::workload::cores;

/// A write is torn between sectors, never inside one.
const SECTOR_BYTES: usize = 512;
const BLOCK_BYTES: usize = 4096;

/// What was on the medium at the last flush, with what came after on top of it, in memory.
struct CutDisk {
    base: File,
    over: Mutex<HashMap<u64, Box<[u8; BLOCK_BYTES]>>>,
}

impl Blocks for CutDisk {
    fn read(&self, pos: u64, into: &mut [u8]) -> std::io::Result<()> {
        self.base.read_exact_at(into, pos)?;
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        for (block, range, at) in pieces(pos, into.len()) {
            if let Some(newer) = over.get(&block) {
                let len = range.len();
                into[at..at + len].copy_from_slice(&newer[range]);
            }
        }
        Ok(())
    }

    fn write(&self, pos: u64, bytes: &[u8]) -> std::io::Result<()> {
        let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        for (block, range, at) in pieces(pos, bytes.len()) {
            let len = range.len();
            if let std::collections::hash_map::Entry::Vacant(empty) = over.entry(block) {
                let mut older = Box::new([0; BLOCK_BYTES]);
                if len < BLOCK_BYTES {
                    self.base.read_exact_at(&mut older[..], block * BLOCK_BYTES as u64)?;
                }
                empty.insert(older);
            }
            if let Some(block) = over.get_mut(&block) {
                block[range].copy_from_slice(&bytes[at..at + len]);
            }
        }
        Ok(())
    }

    fn flush(&self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Blocks that `len` bytes at `pos` touch: the block, the part of it, where that is in the bytes.
fn pieces(pos: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at == len {
            return None;
        }
        let (place, from) = (pos + at as u64, at);
        let start = (place % BLOCK_BYTES as u64) as usize;
        let end = (start + len - at).min(BLOCK_BYTES);
        at += end - start;
        Some((place / BLOCK_BYTES as u64, start..end, from))
    })
}

/// All cuts of one recorded workload.
pub struct Cutter<'a> {
    rig: &'a Rig,
    recipe: Recipe,
    entries: Vec<Entry>,
    /// Where the power goes, each with a seed of its own, in order.
    cuts: Vec<(usize, u64)>,
    /// The writes that every later cut has.
    base: File,
    in_base: usize,
    done: usize,
    seen: Seen,
    torn: usize,
    slowest: Duration,
}

impl<'a> Cutter<'a> {
    /// Cuts at `count` places behind entry `from`.
    pub fn new(
        rig: &'a Rig,
        recipe: Recipe,
        from: usize,
        count: u32,
        random: &mut Random,
    ) -> Result<Cutter<'a>, String> {
        let entries = rig.log().close();
        let is_ack = |at: &usize| matches!(entries[*at], Entry::Mark(Mark::Acked { .. }));
        let acks: Vec<usize> = (from..entries.len()).filter(is_ack).collect();
        let mut place = || match random.chance(50) && !acks.is_empty() {
            // Just after a promise: what is lost then was promised a moment ago.
            true => random.pick(&acks) + 1,
            false => from + random.below((entries.len() - from) as u64 + 1) as usize,
        };
        let mut places: Vec<usize> = (0..count).map(|_| place()).collect();
        places.sort_unstable();
        let cuts = places.into_iter().map(|at| (at, random.next())).collect();
        let base = empty_disk(&rig.dir().join("base"))?;
        let (seen, torn, slowest) = (Seen::default(), 0, Duration::ZERO);
        Ok(Cutter { rig, recipe, entries, cuts, base, in_base: 0, done: 0, seen, torn, slowest })
    }

    /// Makes all cuts up to the first broken promise, which it tells.
    pub fn all(&mut self) -> Result<Option<String>, String> {
        for (at, seed) in self.cuts.clone() {
            let start = Instant::now();
            let disk = self.disk_at(at, &mut Random::new(seed)).map_err(during("a cut's disk"))?;
            let promises = Promises::of(&self.entries[..at]);
            let looked = self.look(disk, &promises, &mut Random::new(seed ^ 1))?;
            if let Err(what) = looked {
                self.leave_trail(at, seed).map_err(during("what led to it"))?;
                return Ok(Some(format!(
                    "power cut {} of {}, after entry {at}: {what}",
                    self.done + 1,
                    self.cuts.len()
                )));
            }
            self.done += 1;
            self.slowest = self.slowest.max(start.elapsed());
        }
        Ok(None)
    }

    /// Leaves a list of what the device got before the cut, for whoever looks into it.
    fn leave_trail(&self, at: usize, seed: u64) -> std::io::Result<()> {
        let mut trail = format!(
            "cut before {at}, choices of seed {seed}; all before {} is in base\n",
            self.in_base
        );
        for (number, entry) in self.entries[..at].iter().enumerate() {
            match entry {
                Entry::Write { pos, len, at } => {
                    trail += &format!("{number} write {len} bytes at {pos}, from {at} of writes\n");
                }
                Entry::Flush => trail += &format!("{number} flush\n"),
                Entry::Mark(_) => {}
            }
        }
        std::fs::write(self.rig.dir().join("trail"), trail)
    }

    pub fn summary(&self) -> String {
        let Seen { batches, lost, compacted } = self.seen;
        format!(
            "{} power cuts: {batches} batches read, {compacted} compacted away, {lost} records gone \
             that were never synced, {} torn groups, slowest cut {} ms",
            self.done,
            self.torn,
            self.slowest.as_millis()
        )
    }

    /// The disk when the power goes after `at` entries: all before the last flush, and each later
    /// write whole, not at all, or torn.
    fn disk_at(&mut self, at: usize, random: &mut Random) -> std::io::Result<CutDisk> {
        let before = &self.entries[..at];
        let is_flush = |entry: &Entry| matches!(entry, Entry::Flush);
        let flushed = before.iter().rposition(is_flush).unwrap_or(0).max(self.in_base);
        let log = self.rig.log();
        for entry in &self.entries[self.in_base..flushed] {
            if let Entry::Write { pos, len, at } = entry {
                self.base.write_all_at(&log.content(*len, *at)?, *pos)?;
            }
        }
        self.in_base = flushed;
        let disk = CutDisk { base: self.base.try_clone()?, over: Mutex::default() };
        // Of a hundred: none survives, few, half, most, all.
        let kept_percent = *random.pick(&[0, 10, 50, 90, 100]);
        let torn_percent = *random.pick(&[0, 0, 30]);
        for entry in &self.entries[flushed..at] {
            let Entry::Write { pos, len, at } = entry else { continue };
            let is_torn = random.chance(torn_percent);
            if is_torn || random.chance(kept_percent) {
                keep(&disk, log, (*pos, *len, *at), is_torn.then_some(&mut *random))?;
            }
        }
        Ok(disk)
    }

    /// Mounts the disk and looks what a broker makes of it. The inner error is a broken promise, the
    /// outer one the machine's.
    fn look(
        &mut self,
        disk: CutDisk,
        promises: &Promises,
        random: &mut Random,
    ) -> Result<Result<(), String>, String> {
        let mounted = self.rig.mount(Arc::new(disk))?;
        let looked = self.start_and_verify(mounted.path(), promises, random);
        mounted.unmount()?;
        Ok(looked)
    }

    fn start_and_verify(
        &mut self,
        data: &Path,
        promises: &Promises,
        random: &mut Random,
    ) -> Result<(), String> {
        self.torn += offline::torn_journals(&offline::program()?, &data_dir(data))?;
        if random.chance(25) {
            // And the process dies while it recovers.
            let patience = Duration::from_millis(random.below(120));
            let recipe = Recipe { patience, ..self.recipe.clone() };
            let _ = recipe.start(data, cores(random.below(3) as usize));
        }
        let broker = self.recipe.start(data, cores(random.below(3) as usize))?;
        let address = broker.address();
        let looked = catch_unwind(AssertUnwindSafe(|| verify(address, promises)));
        let seen = looked.unwrap_or_else(|panic| Err(said(panic.as_ref())))?;
        self.seen.batches += seen.batches;
        self.seen.lost += seen.lost;
        self.seen.compacted += seen.compacted;
        if random.chance(20) { broker.stop() } else { broker.kill() }
    }
}

/// Puts a write on the disk, or only the sectors of it that `torn` chooses.
fn keep(
    disk: &CutDisk,
    log: &BlockLog,
    (pos, len, at): (u64, usize, u64),
    torn: Option<&mut Random>,
) -> std::io::Result<()> {
    let bytes = log.content(len, at)?;
    let Some(random) = torn else { return disk.write(pos, &bytes) };
    for (number, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
        if random.chance(50) {
            disk.write(pos + (number * SECTOR_BYTES) as u64, sector)?;
        }
    }
    Ok(())
}

fn empty_disk(path: &Path) -> Result<File, String> {
    let options = File::options().read(true).write(true).create(true).truncate(true).clone();
    let file = options.open(path).map_err(during(path.display()))?;
    file.set_len(DEVICE_BYTES).map_err(during(path.display()))?;
    Ok(file)
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_over_the_base_is_read_back_and_the_base_stays() {
        let path = std::env::temp_dir().join(format!("powercut-{}", std::process::id()));
        let base = empty_disk(&path).expect("a file");
        base.write_all_at(&[1; 9000], 0).expect("written");
        let disk = CutDisk { base: base.try_clone().expect("a file"), over: Mutex::default() };
        disk.write(4000, &[2; 600]).expect("written");
        let mut bytes = vec![0; 9000];
        disk.read(0, &mut bytes).expect("read");
        std::fs::remove_file(path).expect("removed");
        assert!(bytes[..4000].iter().chain(&bytes[4600..]).all(|byte| *byte == 1));
        assert!(bytes[4000..4600].iter().all(|byte| *byte == 2));
        base.read_exact_at(&mut bytes, 0).expect("read");
        assert!(bytes.iter().all(|byte| *byte == 1));
    }
}
