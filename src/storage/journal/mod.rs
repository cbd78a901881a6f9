//! The journal: what must be on disk before an acknowledgement, for all logs of one store.
//!
//! Not here: which log owns which bytes behind the acknowledgement (`log`, `segment`), and when
//! files may be released (`checkpoint`).
//! Invariants: one group is written at a time, in order of sequence; what is staged meanwhile fills
//! the next ones. `durable_through` in a group's header is the last group that was known durable
//! when it was sealed; a durable group makes everything before it durable too.
//! Callers: [`super::Log`] stages, the store commits.

mod arena;
mod demand;
mod file_set;
pub(in crate::storage) mod format;
mod group;
mod group_bytes;
mod open;
pub(in crate::storage) mod reader;
mod shared_group;
mod upkeep;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::base::clock::Clock;
use crate::base::ids::Offset;
use crate::base::limits::LARGE_BATCH_BYTES;
use crate::base::signal::Event;
use crate::io::file::File;
use crate::record::{RecordBatch, Stamp};

use arena::Arena;
pub(in crate::storage) use demand::{Commit, Membership, StageFor, Staged, WrittenExtents};
use file_set::Placed;
pub(in crate::storage) use file_set::{FileSet, FileSetConfig, SpareFile, file_number};
use format::{SegmentPlace, group_bytes};
use group::lent_pages;
pub(in crate::storage) use group::{Member, OpenGroup, SealedGroup};
pub(in crate::storage) use open::{JournalParts, ReplayFrom};
pub(in crate::storage) use shared_group::Group;

use super::copy_ledger::CopyLedger;
use super::error::StorageError;
use super::latch::FailureLatch;
use super::segment::{OpenSegment, SegmentKey};

/// Smallest buffer of a group: enough for a dozen small batches, little enough that a trickle does
/// not fill the read cache with unused memory.
const GROUP_BUFFER_BYTES_MIN: usize = 32 * 1024;

/// How many times larger a group may be with batches that stay where they were received: a write
/// and a sync for several of them cost little more than for one.
const LENT_FACTOR: usize = 6;

/// Bytes in segments that count as one of the journal: a replay only reads them.
const EXTENT_BYTES_WEIGHT: u64 = 4;

/// What the logs of one store have to say before they may be believed. Single-threaded.
pub struct Journal {
    files: FileSet,
    state: RefCell<JournalState>,
    staged: Event,
    room: Event,
    latch: Rc<FailureLatch>,
    ledger: Rc<CopyLedger>,
    clock: Clock,
    group_bytes_max: usize,
    staged_bytes_max: usize,
}

struct JournalState {
    /// Full groups, oldest first.
    sealed: VecDeque<OpenGroup>,
    filling: Option<OpenGroup>,
    arena: Arena,
    next_group: u64,
    buffer_bytes: usize,
    staged_bytes: usize,
    durable_through: u64,
    /// Files with groups that were written and not synced.
    dirty: Vec<(u64, File)>,
    /// Segments with batches of such groups.
    dirty_extents: FxHashMap<SegmentKey, Rc<OpenSegment>>,
    dirty_due_ms: i64,
    sync_requested: bool,
    in_flight: bool,
    /// The group in flight while it waits for its place.
    unplaced: Option<u64>,
    /// The place of the group in flight, from when it has one until it is sealed.
    unsealed: Option<ReplayFrom>,
    bytes_written: u64,
}

impl Journal {
    /// Whether another batch may be staged. Staging itself never refuses, so whoever appends asks
    /// first: without this the tail would grow through every stall of the disk.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.state.borrow().staged_bytes < self.staged_bytes_max
    }

    /// Waits until [`Journal::has_room`].
    ///
    /// # Errors
    /// `Failed` once the store has failed.
    pub async fn room(&self) -> Result<(), StorageError> {
        loop {
            self.latch.check()?;
            if self.has_room() {
                return Ok(());
            }
            self.latch.or_wait(&self.room).await;
        }
    }

    /// Copies the batch into the group that is being filled: the one copy before its
    /// acknowledgement, but for pages that may stay where they were received.
    pub(in crate::storage) fn stage_batch(
        &self,
        demand: &StageFor,
        batch: &RecordBatch,
        stamp: &Stamp,
        last: Offset,
    ) -> Staged {
        let mut state = self.state.borrow_mut();
        let lent_bytes = lent_pages(batch).map_or(0, |pages| pages.len());
        let open = state.group_for(batch.len_bytes(), lent_bytes, self.group_bytes_max);
        let entry = u32::try_from(open.entry_count()).expect("bounded by its bytes");
        let start = open.push_batch(demand.topic_partition, batch, stamp, last);
        if demand.durable {
            open.make_durable();
        } else if demand.flush_ms < i64::MAX {
            open.sync_by(self.clock.wall_ms().saturating_add(demand.flush_ms));
        }
        let large_bytes = batch.len_bytes();
        let large_bytes = if large_bytes < LARGE_BATCH_BYTES { 0 } else { large_bytes };
        let membership = note_member(open, demand, demand.member(last.plus(1), large_bytes));
        let group = open.shared().clone();
        state.staged_bytes += lent_bytes;
        drop(state);
        self.ledger.count_staged(batch.len_bytes() - lent_bytes);
        self.staged.notify();
        Staged { group, start, entry, membership }
    }

    /// Waits for something to write: a group, or nothing but a sync that was asked for. One caller
    /// at a time. If what the caller does with the group is dropped before [`Journal::finish`], the
    /// store is failed: nobody knows what reached the disk.
    pub(in crate::storage) async fn next_group(&self) -> Result<Option<OpenGroup>, StorageError> {
        loop {
            self.latch.check()?;
            if self.state.borrow().in_flight {
                let error = std::io::Error::other("a commit was abandoned while it was written");
                return Err(self.latch.trip("journal", &error));
            }
            if let Some(group) = self.take_next() {
                return Ok(Some(group));
            }
            if self.state.borrow().sync_requested {
                return Ok(None);
            }
            self.latch.check_open()?;
            self.latch.or_wait(&self.staged).await;
        }
    }

    fn take_next(&self) -> Option<OpenGroup> {
        let mut state = self.state.borrow_mut();
        let mut next = state.sealed.pop_front().or_else(|| state.close_filling())?;
        state.in_flight = true;
        state.unplaced = Some(next.shared().seq());
        // Follows the load up at once and down slowly: a burst that needs two groups because the
        // buffer had shrunk between them costs a second write.
        let slowly = state.buffer_bytes - state.buffer_bytes / 8;
        let wanted = next.own_bytes().saturating_mul(2).max(slowly);
        state.buffer_bytes = wanted.max(GROUP_BUFFER_BYTES_MIN).min(self.group_bytes_max);
        let due_ms = next.sync_due_ms().min(state.dirty_due_ms);
        let is_due = due_ms < i64::MAX && due_ms <= self.clock.wall_ms();
        if std::mem::take(&mut state.sync_requested) || is_due {
            next.make_durable();
        }
        Some(next)
    }

    /// Room for the group in a file.
    pub(in crate::storage) async fn place(&self, open: &OpenGroup) -> Result<Placed, StorageError> {
        let group = open.shared().seq();
        let placed = self.files.place(open.total_bytes() as u64, group).await;
        let placed = placed.map_err(|error| self.latch.trip("write of the journal", &error))?;
        let Placed { file_seq, pos, .. } = placed;
        let mut state = self.state.borrow_mut();
        (state.unplaced, state.unsealed) = (None, Some(ReplayFrom { file_seq, pos, group }));
        Ok(placed)
    }

    /// The group's bytes as they will be written; the batches in `elsewhere` (entry and place, in
    /// order) go to their segments instead.
    pub(in crate::storage) fn seal(
        &self,
        open: OpenGroup,
        placed: Placed,
        elsewhere: &[(u32, SegmentPlace)],
    ) -> SealedGroup {
        let mut state = self.state.borrow_mut();
        state.unsealed = None;
        let sealed = open.seal(placed, state.bytes_written, state.durable_through, elsewhere);
        self.files.give_back(&sealed.placed, sealed.bytes);
        sealed
    }

    /// Writes the group. A durable one is written so if nothing before it waits for a sync;
    /// otherwise a durable write alone would leave a hole before it, so the files are synced.
    pub(in crate::storage) async fn write(&self, sealed: &mut SealedGroup) -> std::io::Result<()> {
        let Placed { file, pos, .. } = &sealed.placed;
        let slices = std::mem::take(&mut sealed.slices);
        file.write_slices_at(slices, *pos, self.writes_durably(sealed.durable)).await
    }

    /// The group is written, and so are `extents` that belong to it: makes all of it durable where
    /// it has to be and is not yet, and says whose it was.
    pub(in crate::storage) async fn finish(
        &self,
        sealed: SealedGroup,
        extents: &WrittenExtents,
    ) -> Result<Commit, StorageError> {
        let clean = self.note_dirty(&sealed, extents);
        if sealed.durable && !clean {
            let synced = self.sync_dirty().await;
            synced.map_err(|error| self.latch.trip("sync of the journal", &error))?;
        }
        // Whatever failed meanwhile, of whichever file: nothing is acknowledged after it.
        self.latch.check()?;
        let mut state = self.state.borrow_mut();
        state.in_flight = false;
        state.staged_bytes -= sealed.held_bytes;
        state.bytes_written += sealed.bytes + extents.bytes / EXTENT_BYTES_WEIGHT;
        if sealed.durable {
            state.become_durable(sealed.shared.seq());
        } else {
            state.dirty_due_ms = state.dirty_due_ms.min(sealed.sync_due_ms);
        }
        drop(state);
        self.room.notify();
        let SealedGroup { shared, members, durable, .. } = sealed;
        Ok(Commit { members, group: Some(shared), durable })
    }

    /// Notes what a sync would have to cover. Returns whether there is nothing of that kind.
    fn note_dirty(&self, sealed: &SealedGroup, extents: &WrittenExtents) -> bool {
        let mut state = self.state.borrow_mut();
        let clean = state.dirty.is_empty();
        if !sealed.durable || !clean {
            let Placed { file, file_seq, .. } = &sealed.placed;
            if state.dirty.last().is_none_or(|(seq, _)| seq != file_seq) {
                state.dirty.push((*file_seq, file.clone()));
            }
        }
        state.dirty_extents.extend(extents.dirty.iter().map(|(key, file)| (*key, file.clone())));
        clean
    }
}

fn note_member(open: &mut OpenGroup, demand: &StageFor, member: Member) -> Membership {
    let group = open.shared().seq();
    let known = demand.membership.filter(|known| known.group == group).map(|known| known.index);
    let index = open.note_member(known, member);
    Membership { group, index }
}

impl JournalState {
    /// All through `group` is durable.
    fn become_durable(&mut self, group: u64) {
        self.durable_through = group;
        self.dirty.clear();
        self.dirty_extents.clear();
        self.dirty_due_ms = i64::MAX;
    }

    /// The group that takes the next entry; a full one is set aside to be written.
    fn group_for(
        &mut self,
        batch_bytes: usize,
        lent_bytes: usize,
        group_bytes_max: usize,
    ) -> &mut OpenGroup {
        if self.filling.as_ref().is_some_and(|open| !open.fits(batch_bytes, lent_bytes)) {
            let full = self.close_filling();
            self.sealed.extend(full);
            // It was full before the device came to it: the next one is larger.
            self.buffer_bytes = (self.buffer_bytes * 2).min(group_bytes_max);
        }
        if self.filling.is_none() {
            let usual = self.buffer_bytes.max(GROUP_BUFFER_BYTES_MIN).min(group_bytes_max);
            let capacity = usual.max(group_bytes(batch_bytes, 1) - lent_bytes);
            let bytes_max = group_bytes_max * LENT_FACTOR;
            let buf = self.arena.take(capacity);
            self.staged_bytes += buf.len();
            self.filling = Some(OpenGroup::new(self.next_group, buf, bytes_max));
            self.next_group += 1;
        }
        self.filling.as_mut().expect("just filled")
    }
}
