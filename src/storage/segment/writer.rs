//! Writes what is acknowledged into segments: large, aligned, sequential, behind everybody's back.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use zerocopy::IntoBytes;

use crate::base::ids::Offset;
use crate::base::limits::{BLOCK_ALIGN, LARGE_BATCH_BYTES};
use crate::io::buf::IoBuf;
use crate::io::disk::is_out_of_room;
use crate::record::{BatchHeader, stored_batches};

use super::super::checkpoint::{self, SNAPSHOT_MAGIC};
use super::super::error::StorageError;
use super::super::journal::Group;
use super::super::journal::format::whole_pages;
use super::super::log::{Log, SegmentSnapshot, WriteStep};
use super::SegmentKey;
use super::block::{BLOCK_HEADER_BYTES, BlockHeader, block_bytes, fronts_crc};
use super::files::SegmentFiles;
use super::index::IndexEntry;
use super::reserve::{give_back, reserve};

/// One block to be written: batches of one log, back to back.
pub(in crate::storage) struct BlockPlan {
    /// The batches' bytes in order. Each slice is of whole batches, unless there is only one batch.
    pub(in crate::storage) slices: Vec<Bytes>,
    pub(in crate::storage) is_one_batch: bool,
    /// Runs of the log's tail that it takes.
    pub(in crate::storage) run_count: usize,
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
    /// Whether an entry of the journal names its place.
    pub(in crate::storage) is_named: bool,
    /// The log's count of truncations when it was planned: another one voids it.
    pub(in crate::storage) truncations: u64,
    pub(in crate::storage) now_ms: i64,
}

impl ExtentPlan {
    /// Runs of the log's tail that it takes.
    pub(in crate::storage) fn run_count(&self) -> usize {
        self.blocks.iter().map(|block| block.run_count).sum()
    }

    /// Where each of its blocks lies.
    pub(in crate::storage) fn places(&self) -> impl Iterator<Item = (&BlockPlan, u64)> {
        let mut pos = self.pos;
        self.blocks.iter().map(move |block| {
            let place = pos;
            pos += block_bytes(block.payload_bytes) as u64;
            (block, place)
        })
    }

    /// Bytes in the file.
    pub(in crate::storage) fn file_bytes(&self) -> usize {
        self.blocks.iter().map(|block| block_bytes(block.payload_bytes)).sum()
    }

    /// The index entries of its blocks, if everything before them reached `max_timestamp`.
    pub(in crate::storage) fn index_entries(&self, mut max_timestamp: i64) -> Vec<IndexEntry> {
        let mut entries = Vec::with_capacity(self.blocks.len());
        for (block, pos) in self.places() {
            max_timestamp = max_timestamp.max(block.max_timestamp);
            entries.push(IndexEntry {
                base_offset: block.base_offset,
                last_offset: block.last_offset,
                pos,
                payload_bytes: u32::try_from(block.payload_bytes).expect("below 4 GiB"),
                max_timestamp_so_far: max_timestamp,
            });
        }
        entries
    }

    /// The bytes to write. Small batches are copied into it, the one copy of record bytes behind
    /// the acknowledgement; of a large one only what shares a page with a block's ends.
    pub(in crate::storage) fn assemble(&self, files: &SegmentFiles) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        let mut copied: &[BlockPlan] = &[];
        for (index, block) in self.blocks.iter().enumerate() {
            if let Some(parts) = block.pages() {
                pieces.extend(copy_blocks(self.key, copied, files));
                pieces.extend(self.around(block, parts, files));
                copied = &[];
            } else {
                copied = &self.blocks[index - copied.len()..=index];
            }
        }
        pieces.extend(copy_blocks(self.key, copied, files));
        pieces
    }

    /// A block whose batch already lies in memory as in a block: its first page, with the header,
    /// the pages that are written as they are, and its last page.
    fn around(
        &self,
        block: &BlockPlan,
        [front, pages, rest]: [Bytes; 3],
        files: &SegmentFiles,
    ) -> [Bytes; 3] {
        let mut first = IoBuf::alloc(BLOCK_ALIGN);
        first[..BLOCK_HEADER_BYTES].copy_from_slice(block.header(self.key).as_bytes());
        first[BLOCK_HEADER_BYTES..BLOCK_ALIGN].copy_from_slice(&front);
        let mut last = IoBuf::alloc(BLOCK_ALIGN);
        last[..rest.len()].copy_from_slice(&rest);
        last[rest.len()..BLOCK_ALIGN].fill(0);
        files.ledger().count_extent(front.len() + rest.len());
        let last_bytes = if rest.is_empty() { 0 } else { BLOCK_ALIGN };
        [first.freeze(BLOCK_ALIGN), pages, last.freeze(last_bytes)]
    }
}

/// Blocks put together in memory of their own; nothing if there are none.
fn copy_blocks(key: SegmentKey, blocks: &[BlockPlan], files: &SegmentFiles) -> Option<Bytes> {
    let total: usize = blocks.iter().map(|block| block_bytes(block.payload_bytes)).sum();
    if total == 0 {
        return None;
    }
    let mut buf = IoBuf::alloc(total);
    let mut pos = 0;
    for block in blocks {
        let end = pos + block_bytes(block.payload_bytes);
        buf[pos..pos + BLOCK_HEADER_BYTES].copy_from_slice(block.header(key).as_bytes());
        pos += BLOCK_HEADER_BYTES;
        for slice in &block.slices {
            buf[pos..pos + slice.len()].copy_from_slice(slice);
            pos += slice.len();
        }
        files.ledger().count_extent(block.payload_bytes);
        buf[pos..end].fill(0);
        pos = end;
    }
    Some(buf.freeze(total))
}

impl BlockPlan {
    fn header(&self, key: SegmentKey) -> BlockHeader {
        BlockHeader::new(
            key.topic_partition,
            self.payload_bytes,
            (self.base_offset, self.last_offset),
            self.max_timestamp,
            fronts_crc(self.batch_headers()),
        )
    }

    /// Whether `len` bytes more may join it in a block of `block_bytes_max`: not large ones, which have
    /// a block of their own.
    pub(in crate::storage) fn has_room_for(&self, len: usize, block_bytes_max: usize) -> bool {
        let is_small = len < LARGE_BATCH_BYTES && !self.is_large();
        is_small && self.payload_bytes + len <= block_bytes_max
    }

    /// Whether it is one large batch.
    pub(in crate::storage) fn is_large(&self) -> bool {
        self.is_one_batch && self.payload_bytes >= LARGE_BATCH_BYTES
    }

    /// The headers of its batches, in order.
    pub(in crate::storage) fn batch_headers(&self) -> impl Iterator<Item = &BatchHeader> {
        let whole = if self.is_one_batch { &[][..] } else { &self.slices[..] };
        let one = self.slices.first().filter(|_| self.is_one_batch);
        let one = one.map(|slice| BatchHeader::peek(slice).expect("a front holds the header"));
        let walked = whole.iter().flat_map(|slice| stored_batches(slice));
        one.into_iter()
            .chain(walked.map(|batch| batch.expect("a log's memory holds whole batches").header()))
    }

    /// What lies before the whole pages of a large batch, these, and what lies behind them, if they
    /// lie in memory as they will in the file: those of a large batch in a journal's group do.
    fn pages(&self) -> Option<[Bytes; 3]> {
        match &self.slices[..] {
            _ if !self.is_large() => None,
            [batch] => {
                let pages = whole_pages(batch)?;
                let (front, rest) = (batch.slice(..pages.start), batch.slice(pages.end..));
                Some([front, batch.slice(pages), rest])
            }
            [front, pages] => Some([front.clone(), pages.clone(), Bytes::new()]),
            [front, pages, rest] => Some([front.clone(), pages.clone(), rest.clone()]),
            _ => None,
        }
    }
}

/// Writes the next extent of a log, closing its segment first if it is full or old. Returns the
/// groups that are now wholly in segments; `None` if there was nothing to write. One caller a log.
///
/// # Errors
/// `Failed`: the store is latched. `NoRoom`: nothing has changed, and it may be called again; what
/// it was to write stays in the journal until then.
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
                let result = trim_and_seal(files, log, *snapshot).await;
                result.map_err(|error| failed(files, "close of a segment", &error))?;
            }
            WriteStep::Extent(plan) => {
                let result = write_planned(files, &plan).await;
                result.map_err(|error| failed(files, "write of a segment", &error))?;
                return Ok(Some(log.borrow_mut().extent_written(&plan)));
            }
        }
    }
}

fn failed(files: &SegmentFiles, what: &str, error: &std::io::Error) -> StorageError {
    if is_out_of_room(error) { StorageError::NoRoom } else { files.latch().trip(what, error) }
}

/// Writes an extent to where it was planned, and makes its segment if it is the first.
pub(in crate::storage) async fn write_planned(
    files: &Rc<SegmentFiles>,
    plan: &ExtentPlan,
) -> std::io::Result<()> {
    let segment =
        if plan.creates { files.create(plan.key).await? } else { files.open(plan.key).await? };
    segment.file().write_slices_at(plan.assemble(files), plan.pos, false).await?;
    files.note_written(plan.key);
    if plan.creates && plan.blocks.iter().any(BlockPlan::is_large) {
        // The large lane begins where a name is durable, and writes into reserved room.
        reserve(segment.file(), plan.file_bytes() as u64 + 1).await?;
        files.sync_names(plan.key).await?;
    }
    Ok(())
}

/// Closes a segment of a log that knows all that is in it, which one that is recovered does not.
async fn trim_and_seal(
    files: &Rc<SegmentFiles>,
    log: &Rc<RefCell<Log>>,
    snapshot: SegmentSnapshot,
) -> std::io::Result<()> {
    let segment = files.open(snapshot.key).await?;
    give_back(segment.file(), snapshot.file_bytes).await?;
    seal(files, log, snapshot).await
}

pub(in crate::storage) async fn seal(
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
