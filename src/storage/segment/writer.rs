//! Writes what is acknowledged into segments: large, aligned, sequential, behind everybody's back.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use zerocopy::IntoBytes;

use crate::base::ids::Offset;
use crate::io::buf::IoBuf;

use super::super::checkpoint::{self, SNAPSHOT_MAGIC};
use super::super::error::StorageError;
use super::super::journal::Group;
use super::super::log::{Log, SegmentSnapshot, WriteStep};
use super::SegmentKey;
use super::block::{BLOCK_HEADER_BYTES, BlockHeader, block_bytes, fronts_crc};
use super::files::SegmentFiles;
use super::index::IndexEntry;

/// One block to be written: batches of one log, back to back.
pub(in crate::storage) struct BlockPlan {
    pub(in crate::storage) slices: Vec<Bytes>,
    pub(in crate::storage) payload_bytes: usize,
    pub(in crate::storage) base_offset: Offset,
    pub(in crate::storage) last_offset: Offset,
    pub(in crate::storage) max_timestamp: i64,
}

/// One write into a segment.
pub(in crate::storage) struct ExtentPlan {
    pub(in crate::storage) key: SegmentKey,
    /// Whether it begins the segment.
    pub(in crate::storage) creates: bool,
    pub(in crate::storage) pos: u64,
    pub(in crate::storage) blocks: Vec<BlockPlan>,
    /// Runs of the log's tail that it takes.
    pub(in crate::storage) run_count: usize,
    /// The log's count of truncations when it was planned: another one voids it.
    pub(in crate::storage) truncations: u64,
    pub(in crate::storage) now_ms: i64,
}

impl ExtentPlan {
    /// Bytes in the file.
    pub(in crate::storage) fn file_bytes(&self) -> usize {
        self.blocks.iter().map(|block| block_bytes(block.payload_bytes)).sum()
    }

    /// The index entries of its blocks, if everything before them reached `max_timestamp`.
    pub(in crate::storage) fn index_entries(&self, mut max_timestamp: i64) -> Vec<IndexEntry> {
        let mut pos = self.pos;
        let mut entries = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            max_timestamp = max_timestamp.max(block.max_timestamp);
            entries.push(IndexEntry {
                base_offset: block.base_offset,
                last_offset: block.last_offset,
                pos,
                payload_bytes: u32::try_from(block.payload_bytes).expect("below 4 GiB"),
                max_timestamp_so_far: max_timestamp,
            });
            pos += block_bytes(block.payload_bytes) as u64;
        }
        entries
    }

    /// The bytes to write: the one copy of record bytes behind the acknowledgement.
    fn assemble(&self, files: &SegmentFiles) -> Bytes {
        let total = self.file_bytes();
        let mut buf = IoBuf::alloc(total);
        let mut pos = 0;
        for block in &self.blocks {
            let end = pos + block_bytes(block.payload_bytes);
            let fronts = block.slices.iter().fold(0, |crc, slice| {
                fronts_crc(crc, slice).expect("a log's memory holds whole batches")
            });
            let header = BlockHeader::new(
                self.key.topic_partition,
                block.payload_bytes,
                (block.base_offset, block.last_offset),
                block.max_timestamp,
                fronts,
            );
            buf[pos..pos + BLOCK_HEADER_BYTES].copy_from_slice(header.as_bytes());
            pos += BLOCK_HEADER_BYTES;
            for slice in &block.slices {
                buf[pos..pos + slice.len()].copy_from_slice(slice);
                pos += slice.len();
            }
            files.ledger().count_extent(block.payload_bytes);
            buf[pos..end].fill(0);
            pos = end;
        }
        buf.freeze(total)
    }
}

/// Writes the next extent of a log, closing its segment first if it is full or old. Returns the
/// groups that are now wholly in segments; `None` if there was nothing to write. One caller a log.
///
/// # Errors
/// `Failed`: the store is latched.
pub(in crate::storage) async fn write_extent(
    files: &Rc<SegmentFiles>,
    log: &Rc<RefCell<Log>>,
    now_ms: i64,
) -> Result<Option<Vec<Rc<Group>>>, StorageError> {
    loop {
        files.latch().check()?;
        let step = log.borrow().next_write(now_ms);
        match step {
            WriteStep::Nothing => return Ok(None),
            WriteStep::Seal(snapshot) => {
                let result = seal(files, log, *snapshot).await;
                result.map_err(|error| files.latch().trip("close of a segment", &error))?;
            }
            WriteStep::Extent(plan) => {
                let result = write(files, &plan).await;
                result.map_err(|error| files.latch().trip("write of a segment", &error))?;
                return Ok(Some(log.borrow_mut().extent_written(&plan)));
            }
        }
    }
}

async fn write(files: &Rc<SegmentFiles>, plan: &ExtentPlan) -> std::io::Result<()> {
    let segment =
        if plan.creates { files.create(plan.key).await? } else { files.open(plan.key).await? };
    segment.file().write_at(plan.assemble(files), plan.pos, false).await?;
    files.note_written(plan.key);
    Ok(())
}

async fn seal(
    files: &Rc<SegmentFiles>,
    log: &Rc<RefCell<Log>>,
    snapshot: SegmentSnapshot,
) -> std::io::Result<()> {
    files.sync_segment(snapshot.key).await?;
    if let Some(held) = snapshot.index {
        files.write_index(snapshot.key, held.count, &snapshot.pending).await?;
    }
    files.write_snapshot(snapshot.key, sealed_snapshot(&snapshot)).await?;
    log.borrow_mut().segment_sealed(&snapshot);
    Ok(())
}

/// The content of a sealed segment's `.snapshot`.
pub(in crate::storage) fn sealed_snapshot(snapshot: &SegmentSnapshot) -> Bytes {
    let archive = rkyv::to_bytes::<rkyv::rancor::Error>(&snapshot.state)
        .expect("plain vectors of numbers serialize");
    Bytes::from(checkpoint::frame(SNAPSHOT_MAGIC, 0, [0; 16], &archive))
}
