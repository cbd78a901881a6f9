//! The log's side of writing behind: what comes next, and what has come to pass.

use std::rc::Rc;

use rkyv::{Archive, Deserialize, Serialize};

use crate::base::ids::Offset;

use super::super::epoch_history::{EpochHistory, EpochStart};
use super::super::journal::Group;
use super::super::producer_table::ProducerTableImage;
use super::super::segment::{
    BlockPlan, ExtentPlan, IndexEntry, IndexMark, Segment, SegmentKey, block_bytes, push_entry,
};
use super::Log;
use super::append::note_producer;
use super::tail::Run;

/// What to do next for a log's segments.
pub(in crate::storage) enum WriteStep {
    /// Everything written is in segments.
    Nothing,
    /// Close the current segment.
    Seal(Box<SegmentSnapshot>),
    /// Write batches.
    Extent(ExtentPlan),
}

/// What is kept beside a sealed segment, so that it can be shipped whole.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(in crate::storage) struct SealedState {
    /// End of the segment.
    pub(in crate::storage) end_offset: i64,
    pub(in crate::storage) producers: ProducerTableImage,
    pub(in crate::storage) epochs: Vec<EpochStart>,
}

/// A segment about to be sealed.
pub(in crate::storage) struct SegmentSnapshot {
    pub(in crate::storage) key: SegmentKey,
    pub(in crate::storage) index: Option<IndexMark>,
    pub(in crate::storage) pending: Rc<Vec<IndexEntry>>,
    pub(in crate::storage) state: SealedState,
    /// Length of its file without what is reserved.
    pub(in crate::storage) file_bytes: u64,
    truncations: u64,
}

/// Index entries on their way to the index file.
pub(in crate::storage) struct IndexFlush {
    pub(in crate::storage) key: SegmentKey,
    pub(in crate::storage) first: u32,
    pub(in crate::storage) entries: Rc<Vec<IndexEntry>>,
    truncations: u64,
}

impl Log {
    /// Bytes of batches that are in no segment yet.
    #[must_use]
    pub fn unsettled_bytes(&self) -> usize {
        self.tail.unsettled_bytes()
    }

    /// The group of the oldest batch that is in no segment.
    pub(in crate::storage) fn oldest_unsettled(&self) -> Option<&Rc<Group>> {
        self.tail.unsettled().next().map(Run::group)
    }

    /// Whether written batches wait to go into segments.
    pub(in crate::storage) fn has_unsettled_written(&self) -> bool {
        self.tail.unsettled().next().is_some_and(|run| run.last_offset < self.written_end)
    }

    /// The next step of writing behind.
    pub(in crate::storage) fn next_write(&self, now_ms: i64) -> WriteStep {
        let Some(first) = self.tail.unsettled().next() else { return WriteStep::Nothing };
        if self.deleted || first.last_offset >= self.written_end {
            return WriteStep::Nothing;
        }
        let open = self.segments.last().filter(|_| !self.last_is_sealed);
        let Some(segment) = open else {
            return self.plan_extent(self.new_key(first.base_offset), true, 0, now_ms);
        };
        let full =
            segment.file_bytes + block_bytes(first.len_bytes()) as u64 > self.config.segment_bytes;
        // A wall clock that was set back makes a segment young again: it then lives a little
        // longer, and no record is lost by it.
        let old = now_ms.saturating_sub(segment.created_ms) >= self.config.segment_ms;
        if segment.file_bytes > 0 && (full || old) {
            return WriteStep::Seal(Box::new(self.seal_snapshot(segment)));
        }
        self.plan_extent(segment.key(self.topic_partition), false, segment.file_bytes, now_ms)
    }

    pub(super) fn seal_snapshot(&self, segment: &Segment) -> SegmentSnapshot {
        let mut epochs =
            EpochHistory::from_entries(self.epochs.entries().to_vec()).expect("a history is one");
        epochs.truncate_end(self.segment_end);
        SegmentSnapshot {
            key: segment.key(self.topic_partition),
            index: segment.index,
            pending: segment.pending.clone(),
            file_bytes: segment.file_bytes,
            state: SealedState {
                end_offset: self.segment_end.0,
                producers: self.segment_producers.image(),
                epochs: epochs.entries().to_vec(),
            },
            truncations: self.truncations,
        }
    }

    fn plan_extent(&self, key: SegmentKey, creates: bool, pos: u64, now_ms: i64) -> WriteStep {
        let limits = self.files.limits();
        let room = self.config.segment_bytes.saturating_sub(pos);
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(limits.extent_bytes);
        let runs = self.tail.unsettled().take_while(|run| run.last_offset < self.written_end);
        let blocks = pack_blocks(runs, limits.block_bytes, room);
        let truncations = self.truncations;
        let mut plan =
            ExtentPlan { key, creates, pos, blocks, is_named: false, truncations, now_ms };
        self.fill(&mut plan);
        WriteStep::Extent(plan)
    }

    /// Gives a plan its bytes.
    pub(in crate::storage) fn fill(&self, plan: &mut ExtentPlan) {
        let mut runs = self.tail.unsettled();
        for block in &mut plan.blocks {
            for run in runs.by_ref().take(block.run_count) {
                let is_here = run.add_to(&mut block.slices);
                assert!(is_here, "what is not in a segment stays in memory");
            }
        }
    }

    /// The extent's write is complete. Returns the groups that nothing waits for any more. If the
    /// log was truncated meanwhile, the write never happened: its place is written again.
    pub(in crate::storage) fn extent_written(&mut self, plan: &ExtentPlan) -> Vec<Rc<Group>> {
        if self.truncations != plan.truncations {
            self.leave_dead(plan);
            return Vec::new();
        }
        if plan.creates {
            self.segments.push(Segment::new(plan.key.base_offset, plan.now_ms, self.written));
            self.last_is_sealed = false;
        }
        let segment = self.segments.last_mut().expect("planned for it");
        assert_eq!(segment.file_bytes, plan.pos, "one writer a log");
        let entries = plan.index_entries(segment.max_timestamp);
        segment.file_bytes += plan.file_bytes() as u64;
        segment.written = self.written;
        if let Some(last) = entries.last() {
            segment.max_timestamp = last.max_timestamp_so_far;
        }
        if segment.index.is_some() {
            let pending = Rc::make_mut(&mut segment.pending);
            for entry in entries {
                push_entry(pending, entry);
            }
        }
        for header in plan.blocks.iter().flat_map(BlockPlan::batch_headers) {
            let offsets = (header.base_offset(), header.last_offset());
            let (producer, time) = (header.producer(), header.max_timestamp());
            note_producer(&mut self.segment_producers, producer, offsets, time);
        }
        let last = plan.blocks.last().map_or(Offset(-1), |block| block.last_offset);
        self.segment_end = last.plus(1);
        self.check_invariants();
        self.tail.settle(plan.run_count())
    }

    /// The segment is closed on disk.
    pub(in crate::storage) fn segment_sealed(&mut self, snapshot: &SegmentSnapshot) {
        if self.truncations == snapshot.truncations {
            self.last_is_sealed = true;
            self.note_index(snapshot.key, snapshot.pending.len());
        }
    }

    /// Index entries that a checkpoint taken now needs in their file.
    pub(in crate::storage) fn index_flushes(&self) -> Vec<IndexFlush> {
        let unwritten_max = self.files.limits().index_entries_unwritten_max;
        let waiting = self.segments.iter().filter(|segment| segment.flushes_index(unwritten_max));
        let flush = |segment: &Segment| {
            segment.index.map(|held| IndexFlush {
                key: segment.key(self.topic_partition),
                first: held.count,
                entries: segment.pending.clone(),
                truncations: self.truncations,
            })
        };
        waiting.filter_map(flush).collect()
    }

    /// The entries are in the index file.
    pub(in crate::storage) fn index_flushed(&mut self, flush: &IndexFlush) {
        if self.truncations == flush.truncations {
            self.note_index(flush.key, flush.entries.len());
        }
    }

    fn note_index(&mut self, key: SegmentKey, count: usize) {
        let tp = self.topic_partition;
        let found = self.segments.iter_mut().find(|segment| segment.key(tp) == key);
        let Some(segment) = found else { return };
        let Some(held) = segment.index else { return };
        let pending = Rc::make_mut(&mut segment.pending);
        let written: Vec<IndexEntry> = pending.drain(..count.min(pending.len())).collect();
        pending.shrink_to_fit();
        segment.index = Some(held.and(key.base_offset, &written));
    }
}

/// Packs runs into blocks of about `block_bytes`, as many as go into `room` bytes of a file, but at
/// least one. Their bytes come later.
pub(super) fn pack_blocks<'a>(
    runs: impl Iterator<Item = &'a Run>,
    block_bytes_max: usize,
    room: usize,
) -> Vec<BlockPlan> {
    let (mut blocks, mut bytes): (Vec<BlockPlan>, usize) = Default::default();
    for run in runs {
        let len = run.len_bytes();
        // A large batch has a block of its own, to be written from where it lies.
        let joins = blocks.last().is_some_and(|last| last.has_room_for(len, block_bytes_max));
        let held = blocks.last().filter(|_| joins).map_or(0, |last| last.payload_bytes);
        let before = if joins { block_bytes(held) } else { 0 };
        let after = bytes - before + block_bytes(held + len);
        if !blocks.is_empty() && after > room {
            break;
        }
        bytes = after;
        match blocks.last_mut().filter(|_| joins) {
            Some(block) => block.add(run),
            None => blocks.push(BlockPlan::of(run)),
        }
    }
    blocks
}

impl BlockPlan {
    pub(super) fn of(run: &Run) -> BlockPlan {
        BlockPlan {
            payload_bytes: run.len_bytes(),
            slices: Vec::new(),
            run_count: 1,
            is_one_batch: run.is_single(),
            base_offset: run.base_offset,
            last_offset: run.last_offset,
            max_timestamp: run.max_timestamp,
        }
    }

    pub(super) fn add(&mut self, run: &Run) {
        self.payload_bytes += run.len_bytes();
        self.run_count += 1;
        self.is_one_batch = false;
        self.last_offset = run.last_offset;
        self.max_timestamp = self.max_timestamp.max(run.max_timestamp);
    }
}
