//! The segment that a pass writes in place of several others.

use std::io;
use std::rc::Rc;

use bytes::Bytes;

use crate::record::StoredBatch;

use super::super::log::CompactionSource;
use super::super::segment::{
    BlockPlan, ExtentPlan, IndexEntry, Segment, SegmentFiles, SegmentKey, push_entry, write_planned,
};

/// A segment under construction. No checkpoint names it before it is whole.
pub(super) struct Output {
    key: SegmentKey,
    blocks: Vec<BlockPlan>,
    /// Payload of the blocks that are not written yet.
    waiting_bytes: usize,
    file_bytes: u64,
    entries: Vec<IndexEntry>,
    max_timestamp: i64,
}

impl Output {
    pub(super) fn new(key: SegmentKey) -> Output {
        Output {
            key,
            blocks: Vec::new(),
            waiting_bytes: 0,
            file_bytes: 0,
            entries: Vec::new(),
            max_timestamp: i64::MIN,
        }
    }

    /// Payload of the blocks that are not written yet, in bytes.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Takes the next batch of the log.
    pub(super) fn push(&mut self, batch: StoredBatch<'_>, bytes: Bytes, block_bytes_max: usize) {
        let len = bytes.len();
        self.waiting_bytes += len;
        if let Some(last) =
            self.blocks.last_mut().filter(|last| last.has_room_for(len, block_bytes_max))
        {
            last.slices.push(bytes);
            last.payload_bytes += len;
            last.is_one_batch = false;
            last.last_offset = batch.last_offset();
            last.max_timestamp = last.max_timestamp.max(batch.max_timestamp());
            return;
        }
        self.blocks.push(BlockPlan {
            slices: vec![bytes],
            is_one_batch: true,
            run_count: 0,
            payload_bytes: len,
            base_offset: batch.base_offset(),
            last_offset: batch.last_offset(),
            max_timestamp: batch.max_timestamp(),
        });
    }

    /// Writes the blocks so far. Returns the bytes that went to the file.
    pub(super) async fn write(&mut self, files: &Rc<SegmentFiles>) -> io::Result<u64> {
        if self.blocks.is_empty() {
            return Ok(0);
        }
        let plan = ExtentPlan {
            key: self.key,
            creates: self.file_bytes == 0,
            pos: self.file_bytes,
            blocks: std::mem::take(&mut self.blocks),
            is_named: false,
            truncations: 0,
            now_ms: 0,
        };
        self.waiting_bytes = 0;
        write_planned(files, &plan).await?;
        for entry in plan.index_entries(self.max_timestamp) {
            self.max_timestamp = entry.max_timestamp_so_far;
            push_entry(&mut self.entries, entry);
        }
        self.file_bytes += plan.file_bytes() as u64;
        Ok(plan.file_bytes() as u64)
    }

    /// Makes the segment durable but for its name, with index and snapshot. It takes the place of
    /// those from `first` to `last`. `None` if nothing was left of them.
    pub(super) async fn finish(
        mut self,
        files: &Rc<SegmentFiles>,
        first: &CompactionSource,
        last: &CompactionSource,
    ) -> io::Result<Option<Segment>> {
        self.write(files).await?;
        if self.file_bytes == 0 {
            return Ok(None);
        }
        files.sync_segment(self.key).await?;
        files.write_index(self.key, 0, &self.entries).await?;
        if let Some(snapshot) = files.read_snapshot(last.key).await? {
            files.write_snapshot(self.key, snapshot).await?;
        }
        let base_offset = self.key.base_offset;
        let (created_ms, written) = (first.segment.created_ms, last.segment.written);
        let mut segment = Segment::new(base_offset, created_ms, written);
        segment.revision = self.key.revision;
        segment.file_bytes = self.file_bytes;
        segment.index = segment.index.map(|mark| mark.and(base_offset, &self.entries));
        segment.max_timestamp = self.max_timestamp;
        Ok(Some(segment))
    }
}
