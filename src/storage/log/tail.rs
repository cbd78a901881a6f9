//! A log's batches in memory: those not yet in segments, and those that the read cache still holds.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;

use crate::base::ids::Offset;
use crate::record::stored_batches;

use super::super::journal::Group;
use super::super::journal::format::SegmentPlace;

/// A run is closed at this size, so that the walk to one batch in it stays short.
const RUN_BYTES_MAX: u32 = 64 * 1024;

/// Batches of one log that lie back to back in one group.
#[derive(Clone)]
pub(in crate::storage) struct Run {
    pub(in crate::storage) base_offset: Offset,
    pub(in crate::storage) last_offset: Offset,
    pub(in crate::storage) max_timestamp: i64,
    group: Rc<Group>,
    start: u32,
    end: u32,
    first_entry: u32,
    last_entry: u32,
    place: Option<SegmentPlace>,
}

/// One batch that comes to the tail.
pub(in crate::storage) struct TailBatch {
    pub(in crate::storage) group: Rc<Group>,
    pub(in crate::storage) start: u32,
    pub(in crate::storage) len: u32,
    pub(in crate::storage) entry: u32,
    pub(in crate::storage) base_offset: Offset,
    pub(in crate::storage) last_offset: Offset,
    pub(in crate::storage) max_timestamp: i64,
    /// Where it lies, if recovery found it in a segment.
    pub(in crate::storage) place: Option<SegmentPlace>,
}

impl Run {
    /// The batches' bytes; `None` while the group is filled, or if the cache dropped them. Where
    /// pages of a large batch lie elsewhere than its ends, they are put together: for look-ups.
    pub(in crate::storage) fn bytes(&self) -> Option<Bytes> {
        let mut slices = Vec::new();
        self.add_to(&mut slices).then(|| match &slices[..] {
            [whole] => whole.clone(),
            pieces => Bytes::from(pieces.concat()),
        })
    }

    /// Adds the batches' bytes to `slices` without a copy; `false` if they are not in memory.
    pub(in crate::storage) fn add_to(&self, slices: &mut Vec<Bytes>) -> bool {
        self.group.add_range(self.start, self.end, slices)
    }

    /// Whether it is one batch.
    pub(in crate::storage) fn is_single(&self) -> bool {
        self.first_entry == self.last_entry
    }

    pub(in crate::storage) fn len_bytes(&self) -> usize {
        (self.end - self.start) as usize
    }

    pub(in crate::storage) fn group(&self) -> &Rc<Group> {
        &self.group
    }

    /// Where it lies, if recovery found it in a segment.
    pub(in crate::storage) fn place(&self) -> Option<SegmentPlace> {
        self.place
    }

    /// Group and entry of the first batch.
    pub(in crate::storage) fn journal_entry(&self) -> (u64, u32) {
        (self.group.seq(), self.first_entry)
    }

    fn takes(&self, next: &TailBatch) -> bool {
        Rc::ptr_eq(&self.group, &next.group)
            && self.end == next.start
            && self.last_entry + 1 == next.entry
            && self.last_offset.plus(1) == next.base_offset
            && self.end - self.start + next.len <= RUN_BYTES_MAX
    }
}

/// Runs in order of offset. The first `settled` are in segments too and may lose their bytes; the
/// others keep them until they are.
#[derive(Default)]
pub(in crate::storage) struct Tail {
    runs: VecDeque<Run>,
    settled: usize,
    unsettled_bytes: usize,
}

impl Tail {
    pub(in crate::storage) fn push(&mut self, batch: TailBatch) {
        self.unsettled_bytes += batch.len as usize;
        if self.runs.len() > self.settled
            && let Some(last) = self.runs.back_mut().filter(|last| last.takes(&batch))
        {
            last.end += batch.len;
            last.last_entry = batch.entry;
            last.last_offset = batch.last_offset;
            last.max_timestamp = last.max_timestamp.max(batch.max_timestamp);
            return;
        }
        batch.group.run_added();
        self.runs.push_back(Run {
            base_offset: batch.base_offset,
            last_offset: batch.last_offset,
            max_timestamp: batch.max_timestamp,
            group: batch.group,
            start: batch.start,
            end: batch.start + batch.len,
            first_entry: batch.entry,
            last_entry: batch.entry,
            place: batch.place,
        });
    }

    /// Bytes of batches that are in no segment.
    pub(in crate::storage) fn unsettled_bytes(&self) -> usize {
        self.unsettled_bytes
    }

    /// The runs that are in no segment, oldest first.
    pub(in crate::storage) fn unsettled(&self) -> impl Iterator<Item = &Run> {
        self.runs.range(self.settled..)
    }

    /// The runs from the one that may hold `from`, if they are in memory.
    pub(in crate::storage) fn runs_from(&self, from: Offset) -> impl Iterator<Item = &Run> {
        let first = self.runs.partition_point(|run| run.last_offset < from);
        self.runs.range(first..)
    }

    /// The first `count` unsettled runs are in a segment now. Returns the groups of which nothing
    /// else is missing.
    pub(in crate::storage) fn settle(&mut self, count: usize) -> Vec<Rc<Group>> {
        let mut done = Vec::new();
        for run in self.runs.range(self.settled..self.settled + count) {
            self.unsettled_bytes -= run.len_bytes();
            if run.group.run_settled() {
                done.push(run.group.clone());
            }
        }
        self.settled += count;
        done
    }

    /// Forgets every settled run.
    pub(in crate::storage) fn forget_settled(&mut self) {
        self.runs.drain(..self.settled);
        self.settled = 0;
    }

    /// Forgets settled runs at the front whose bytes are gone.
    pub(in crate::storage) fn prune(&mut self) {
        while self.settled > 0 && !self.runs.front().is_some_and(|run| run.group.is_in_memory()) {
            self.runs.pop_front();
            self.settled -= 1;
        }
        if self.runs.is_empty() {
            self.runs.shrink_to_fit();
        }
    }

    /// Cuts what is at or behind `end`; a batch that `end` falls into goes as a whole. Returns where
    /// the log then ends (at most `end`), and the groups that waited for nothing but what went.
    pub(in crate::storage) fn truncate(&mut self, end: Offset) -> (Offset, Vec<Rc<Group>>) {
        let (mut done, mut new_end) = (Vec::new(), end);
        while let Some(mut run) = self.runs.pop_back_if(|run| run.last_offset >= end) {
            let settled = self.runs.len() < self.settled;
            let before = run.len_bytes();
            let kept = run.cut(end);
            if !settled {
                self.unsettled_bytes -= before - run.len_bytes();
                // A group that is still filled cannot be read: its run goes as a whole.
                new_end = new_end.min(run.last_offset.plus(1));
            }
            if kept {
                new_end = new_end.min(run.last_offset.plus(1));
                self.runs.push_back(run);
                break;
            }
            if settled {
                self.settled -= 1;
            } else if run.group.run_settled() {
                done.push(run.group.clone());
            }
        }
        (new_end, done)
    }

    /// Lets go of everything; the log is deleted.
    pub(in crate::storage) fn clear(&mut self) -> Vec<Rc<Group>> {
        self.truncate(Offset(i64::MIN)).1
    }
}

impl Run {
    /// Cuts the batches that end at or behind `end`. Says whether any are left.
    fn cut(&mut self, end: Offset) -> bool {
        let bytes = if self.is_single() { None } else { self.bytes() }.unwrap_or_default();
        let (mut keep, mut last) = (0, Offset(self.base_offset.0 - 1));
        let mut max_timestamp = i64::MIN;
        let whole = stored_batches(&bytes).map_while(Result::ok);
        for batch in whole.take_while(|batch| batch.last_offset() < end) {
            keep += batch.len_bytes();
            last = batch.last_offset();
            max_timestamp = max_timestamp.max(batch.max_timestamp());
        }
        self.end = self.start + u32::try_from(keep).expect("within the run");
        self.last_offset = last;
        self.max_timestamp = max_timestamp;
        keep > 0
    }
}
