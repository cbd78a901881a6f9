//! The physical reference: what the device gives to durable writes, measured in the same block as
//! the brokers. A ratio to a reference of another hour means nothing.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::load::schedule::Random;

const BLOCK_BYTES: usize = 1 << 20;
/// Blocks that are written again and again: growing a file costs commits of the file system.
const BLOCKS: u64 = 64;
/// O_DIRECT wants memory that is aligned like the device's blocks.
const ALIGN: usize = 4096;

/// Durable writes of 1 MiB over written blocks in `folder`, one at a time, for `length`; MB/s.
///
/// # Errors
/// Where the file system has no O_DIRECT.
pub fn durable_writes_mb_per_s(folder: &Path, length: Duration) -> io::Result<f64> {
    let path = folder.join("raw-writes");
    let result = measure(&path, length);
    // What matters is the result; the folder goes as a whole.
    let _ = fs::remove_file(&path);
    result
}

fn measure(path: &Path, length: Duration) -> io::Result<f64> {
    let flags = (OFlags::DIRECT | OFlags::DSYNC).bits();
    let file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .custom_flags(flags.cast_signed())
        .open(path)?;
    let mut random = Random::new(1);
    let bytes: Vec<u8> =
        (0..(BLOCK_BYTES + ALIGN) / 8).flat_map(|_| random.next_u64().to_le_bytes()).collect();
    let start = bytes.as_ptr().align_offset(ALIGN);
    let block = bytes
        .get(start..start + BLOCK_BYTES)
        .ok_or_else(|| io::Error::other("memory cannot be aligned"))?;
    let write = |count: u64| file.write_all_at(block, count % BLOCKS * BLOCK_BYTES as u64);
    (0..BLOCKS).try_for_each(write)?;
    let (begin, mut count) = (Instant::now(), 0);
    while begin.elapsed() < length {
        write(count)?;
        count += 1;
    }
    let bytes = count as f64 * BLOCK_BYTES as f64;
    Ok(bytes / begin.elapsed().as_secs_f64() / 1e6)
}
