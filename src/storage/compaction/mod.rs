//! Compaction: of records with one key, in closed segments, only the last stays (Kafka's
//! `cleanup.policy=compact`).
//!
//! A pass first notes the last offset of every key of the part that was never compacted, then writes
//! all closed segments before its end anew, some of them together as one, without what that part
//! supersedes. The new segment takes the old ones' place in the log at once in memory, and on disk
//! with the next checkpoint; the old files go when no checkpoint names them, as retention's do. A
//! crash leaves files that no checkpoint names.
//!
//! Not here: when, and how fast (`shard`). A pass is made of small steps; between two of them
//! anything may happen to the log, and a pass that meets a change it cannot have gives up.
//! Invariants: offsets, their order and each record's bytes stay; the last record of a key stays
//! until it is a tombstone older than `delete.retention.ms`; the last batch of a producer that may
//! still write stays, without records if need be; what cannot be read is never taken for superseded.

mod judge;
mod offset_map;
mod output;
mod transactions;

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;

use crate::base::ids::{Offset, TopicPartition};
use crate::record::{Compression, StoredBatch, records, stored_batches};

use super::error::StorageError;
use super::log::{CompactionPlan, Log};
use super::segment::{SegmentFiles, SegmentKey};

use judge::{Fate, Judge};
use offset_map::OffsetMap;
use output::Output;

/// Bytes that a step reads at a time, about: what a shard can do without between two of its turns.
const STEP_BYTES: usize = 256 << 10;

/// Bytes that are looked at before others have their turn, counted as if they were not compressed.
const TURN_BYTES: usize = 64 << 10;

/// What compressed records may well expand to, and what it costs to look at them.
const COMPRESSED_WEIGHT: usize = 8;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionStep {
    /// Bytes read and written.
    pub bytes: u64,
    /// The pass is over.
    pub is_over: bool,
}

/// What a pass did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionReport {
    /// Keys in the part that had never been compacted.
    pub keys: usize,
    /// Bytes of the segments that were replaced.
    pub bytes_before: u64,
    /// Bytes of those in their place.
    pub bytes_after: u64,
    /// Everything before this is compacted.
    pub clean_end: Offset,
}

/// One pass over one log.
pub struct Compaction {
    log: Rc<RefCell<Log>>,
    files: Rc<SegmentFiles>,
    plan: CompactionPlan,
    judge: Judge,
    /// The walk over the transactions was made: only where there are any.
    knows_transactions: bool,
    phase: Phase,
    turn: Turn,
    report: CompactionReport,
}

/// How much was looked at since others had their turn, in bytes.
#[derive(Default)]
struct Turn(usize);

impl Turn {
    /// A batch was looked at: lets others go on if that was enough.
    async fn spend(&mut self, batch: StoredBatch<'_>) {
        let is_plain = batch.compression() == Some(Compression::None);
        self.0 += batch.len_bytes() * if is_plain { 1 } else { COMPRESSED_WEIGHT };
        if self.0 >= TURN_BYTES {
            self.0 = 0;
            futures_lite::future::yield_now().await;
        }
    }
}

enum Phase {
    /// Finding out how transactions ended: the next batch is in this segment, from this offset on.
    Transactions {
        next: (usize, Offset),
        then: (usize, Offset),
    },
    /// Noting keys; the next batch is in this segment, from this offset on.
    Map(usize, Offset),
    /// Writing segments anew: groups that are left, the last first, and the one in work.
    Write(Vec<Range<usize>>, Option<Group>),
    Over,
}

/// Segments that become one.
struct Group {
    sources: Range<usize>,
    current: usize,
    next: Offset,
    output: Output,
}

impl Compaction {
    pub(super) fn new(
        log: Rc<RefCell<Log>>,
        files: Rc<SegmentFiles>,
        plan: CompactionPlan,
        now_ms: i64,
        map_bytes_max: usize,
    ) -> Compaction {
        let judge = Judge::new(
            OffsetMap::new(map_bytes_max),
            (now_ms, plan.delete_retention_ms),
            plan.last_of_producers.clone(),
            files.limits().decompressed_bytes_max,
        );
        let first = plan.sources.iter().position(|source| source.end > plan.clean_end);
        let phase = first.map_or(Phase::Over, |first| Phase::Map(first, plan.clean_end));
        let (report, knows_transactions) = (CompactionReport::default(), false);
        let turn = Turn::default();
        Compaction { log, files, plan, judge, knows_transactions, phase, turn, report }
    }

    /// Which log.
    #[must_use]
    pub fn topic_partition(&self) -> TopicPartition {
        self.log.borrow().topic_partition()
    }

    /// What was done so far.
    #[must_use]
    pub fn report(&self) -> CompactionReport {
        self.report
    }

    /// Reads and writes a little. An error ends the pass; what it had not finished is as before.
    pub(super) async fn step(&mut self) -> Result<CompactionStep, CompactionError> {
        self.check()?;
        let bytes = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Over => 0,
            Phase::Transactions { next, then } => self.transactions(next, then).await?,
            Phase::Map(source, next) => self.map(source, next).await?,
            Phase::Write(groups, None) => self.begin_group(groups),
            Phase::Write(groups, Some(group)) => self.write(groups, group).await?,
        };
        Ok(CompactionStep { bytes, is_over: matches!(self.phase, Phase::Over) })
    }

    /// Whether the log was deleted meanwhile: then its files are not there.
    pub(super) fn is_void(&self) -> bool {
        self.log.borrow().is_deleted()
    }

    /// The segment that the next step begins to write, if it begins one.
    pub(super) fn next_output(&self) -> Option<SegmentKey> {
        let Phase::Write(groups, None) = &self.phase else { return None };
        Some(self.output_key(groups.last()?))
    }

    fn output_key(&self, sources: &Range<usize>) -> SegmentKey {
        let first = self.plan.sources[sources.start].key;
        SegmentKey { revision: first.revision + 1, ..first }
    }

    /// Removes what an unfinished pass has written, in pieces: a large file at once would hold up
    /// everybody's syncs.
    pub(super) async fn abandon(&mut self, piece_bytes: u64) -> std::io::Result<()> {
        let output = self.log.borrow().compaction_output();
        let Some(key) = output else { return Ok(()) };
        while !self.files.remove_segment(key, piece_bytes).await?.is_whole {}
        // Only now: until then nobody may take it for left over.
        self.log.borrow_mut().set_compaction_output(None);
        Ok(())
    }

    fn check(&self) -> Result<(), CompactionError> {
        let log = self.log.borrow();
        if log.is_deleted() || log.truncations() != self.plan.truncations {
            return Err(CompactionError::Overtaken);
        }
        Ok(())
    }

    /// Walks on from `next`; when all is known, keys are noted from `then` on.
    async fn transactions(
        &mut self,
        (number, next): (usize, Offset),
        then: (usize, Offset),
    ) -> Result<u64, CompactionError> {
        let source = &self.plan.sources[number];
        let slices = source.reader.read(next, source.end, STEP_BYTES).await?;
        let mut upto = next;
        for batch in slices.iter().flat_map(|slice| stored_batches(slice)) {
            let batch = batch.map_err(|_| unreadable(upto))?;
            self.judge.transactions.note(batch);
            upto = batch.last_offset().plus(1);
        }
        self.phase = match slices.is_empty() {
            false => Phase::Transactions { next: (number, upto), then },
            true if number + 1 < self.plan.sources.len() => {
                Phase::Transactions { next: (number + 1, source.end), then }
            }
            true => {
                self.knows_transactions = true;
                Phase::Map(then.0, then.1)
            }
        };
        Ok(slices.iter().map(|slice| slice.len() as u64).sum())
    }

    async fn map(&mut self, number: usize, next: Offset) -> Result<u64, CompactionError> {
        let source = &self.plan.sources[number];
        let end = source.end;
        let slices = source.reader.read(next, end, STEP_BYTES).await?;
        let bytes = slices.iter().map(|slice| slice.len() as u64).sum();
        let mut next = next;
        for batch in slices.iter().flat_map(|slice| stored_batches(slice)) {
            let batch = batch.map_err(|_| unreadable(next))?;
            if batch.is_transactional() && !self.knows_transactions {
                // Nothing of one was noted so far.
                let here = (number, batch.base_offset());
                self.phase = Phase::Transactions { next: here, then: here };
                return Ok(bytes);
            }
            let is_open = |open: Offset| open <= batch.base_offset();
            if self.judge.transactions.first_open().is_some_and(is_open) || !self.note(batch)? {
                self.judge.end = batch.base_offset();
                self.begin_writing();
                return Ok(bytes);
            }
            next = batch.last_offset().plus(1);
            self.turn.spend(batch).await;
        }
        self.phase = match slices.is_empty() {
            false => Phase::Map(number, next),
            true if number + 1 < self.plan.sources.len() => Phase::Map(number + 1, end),
            true => {
                self.judge.end = end;
                self.begin_writing();
                return Ok(bytes);
            }
        };
        Ok(bytes)
    }

    /// Notes the keys of a batch; false if the map has no room for them.
    fn note(&mut self, batch: StoredBatch<'_>) -> Result<bool, CompactionError> {
        let unreadable = |_| unreadable(batch.base_offset());
        let has_keys = !batch.is_control() && !self.judge.transactions.is_aborted(batch);
        if !has_keys || batch.last_offset() < self.plan.clean_end {
            return Ok(true);
        }
        while batch.record_count().unsigned_abs() as usize > self.judge.map.room() {
            if self.judge.map.len() > 0 {
                return Ok(false);
            }
            self.judge.map.raise_bound();
        }
        let mut walk =
            records(batch, self.files.limits().decompressed_bytes_max).map_err(unreadable)?;
        while let Some(record) = walk.next_record() {
            let record = record.map_err(unreadable)?;
            if let Some(key) = record.key() {
                self.judge.map.put(key, record.offset());
            }
        }
        Ok(true)
    }

    fn begin_writing(&mut self) {
        self.report.keys = self.judge.map.len();
        if self.judge.end <= self.plan.clean_end {
            return;
        }
        let mut groups: Vec<Range<usize>> = Vec::new();
        let mut bytes = 0;
        let touched = self.plan.sources.iter().take_while(|it| it.key.base_offset < self.judge.end);
        for (number, source) in touched.enumerate() {
            bytes += source.segment.file_bytes;
            match groups.last_mut().filter(|_| bytes <= self.plan.segment_bytes) {
                Some(group) => group.end = number + 1,
                None => {
                    groups.push(number..number + 1);
                    bytes = source.segment.file_bytes;
                }
            }
        }
        groups.reverse();
        self.phase = Phase::Write(groups, None);
    }

    fn begin_group(&mut self, mut groups: Vec<Range<usize>>) -> u64 {
        let Some(sources) = groups.pop() else {
            self.report.clean_end = self.judge.end;
            self.log.borrow_mut().compacted_to(self.judge.end);
            return 0;
        };
        let key = self.output_key(&sources);
        self.log.borrow_mut().set_compaction_output(Some(key));
        let (current, next) = (sources.start, key.base_offset);
        let group = Group { sources, current, next, output: Output::new(key) };
        self.phase = Phase::Write(groups, Some(group));
        0
    }

    async fn write(
        &mut self,
        groups: Vec<Range<usize>>,
        mut group: Group,
    ) -> Result<u64, CompactionError> {
        let source = &self.plan.sources[group.current];
        let end = source.end;
        let slices = source.reader.read(group.next, end, STEP_BYTES).await?;
        let mut bytes: u64 = slices.iter().map(|slice| slice.len() as u64).sum();
        for slice in &slices {
            self.sift(slice, &mut group).await?;
        }
        if slices.is_empty() {
            group.current += 1;
            group.next = end;
        }
        if group.output.waiting_bytes() >= self.files.limits().extent_bytes {
            bytes += group.output.write(&self.files).await?;
        }
        if group.current < group.sources.end {
            self.phase = Phase::Write(groups, Some(group));
            return Ok(bytes);
        }
        self.finish(group).await?;
        self.phase = Phase::Write(groups, None);
        Ok(bytes)
    }

    /// Puts what stays of whole batches into the group's output.
    async fn sift(&mut self, slice: &Bytes, group: &mut Group) -> Result<(), CompactionError> {
        let block_bytes = self.files.limits().block_bytes;
        for batch in stored_batches(slice) {
            let batch = batch.map_err(|_| unreadable(group.next))?;
            group.next = batch.last_offset().plus(1);
            match self.judge.fate(batch).map_err(|_| unreadable(batch.base_offset()))? {
                Fate::Stays => {
                    group.output.push(batch, slice.slice_ref(batch.bytes()), block_bytes)
                }
                Fate::Changed(changed) => {
                    group.output.push(changed.as_stored(), changed.bytes().clone(), block_bytes);
                }
                Fate::Goes => {}
            }
            self.turn.spend(batch).await;
        }
        Ok(())
    }

    /// Closes the group's output and puts it into the log.
    async fn finish(&mut self, group: Group) -> Result<(), CompactionError> {
        let sources = &self.plan.sources[group.sources];
        let (Some(first), Some(last)) = (sources.first(), sources.last()) else { return Ok(()) };
        let replaced: Vec<SegmentKey> = sources.iter().map(|source| source.key).collect();
        let before: u64 = sources.iter().map(|source| source.segment.file_bytes).sum();
        let segment = group.output.finish(&self.files, first, last).await?;
        let after = segment.as_ref().map_or(0, |segment| segment.file_bytes);
        self.check()?;
        if !self.log.borrow_mut().replace_segments(&replaced, segment) {
            return Err(CompactionError::Overtaken);
        }
        self.report.bytes_before += before;
        self.report.bytes_after += after;
        Ok(())
    }
}

fn unreadable(offset: Offset) -> CompactionError {
    StorageError::UnreadableRecords { base_offset: offset }.into()
}

/// Why a pass ended early.
#[derive(Debug)]
pub(super) enum CompactionError {
    /// The log was cut or deleted meanwhile, or retention took what was compacted.
    Overtaken,
    /// Something cannot be read.
    Read(StorageError),
    /// Something could not be written.
    Write(std::io::Error),
}

impl From<StorageError> for CompactionError {
    fn from(error: StorageError) -> CompactionError {
        CompactionError::Read(error)
    }
}

impl From<std::io::Error> for CompactionError {
    fn from(error: std::io::Error) -> CompactionError {
        CompactionError::Write(error)
    }
}
