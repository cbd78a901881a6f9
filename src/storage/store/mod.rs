//! One shard's part of one data directory: its journal, its logs, and the steps that move bytes.
//!
//! Not here: tasks. The shard calls the steps in loops of its own: [`Store::commit_group`],
//! [`Store::write_behind`], [`Store::checkpoint_when_due`], [`Store::prewrite`]; each waits when
//! there is nothing to do, returns after one piece of work, and must run to its end once begun
//! (stop the loops between calls, then [`Store::close`]). [`Store::remove_piece`] does not wait.

mod background;
mod commit;
mod compaction;
mod faults;
mod large_lane;
mod removal;
mod scrub;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::base::clock::Clock;
use crate::base::ids::{LeaderEpoch, Offset, ShardId, TopicPartition};
use crate::base::signal::Event;
use crate::io::disk::Disk;

pub use commit::{CommittedGroup, CommittedMember};
pub use compaction::CompactionProgress;
pub use scrub::{ScrubPass, Scrubbed};

use super::checkpoint::CheckpointFiles;
use super::copy_ledger::CopyLedger;
use super::error::StorageError;
use super::gate::Gate;
use super::journal::format::EntryKind;
use super::journal::{FileSet, FileSetConfig, Journal, JournalParts, ReplayFrom, StageFor};
use super::latch::FailureLatch;
use super::log::{Log, LogState};
use super::read_cache::ReadCache;
use super::recovery::ShardRecovered;
use super::room::Room;
use super::segment::{ReadPace, SegmentFiles, SegmentLimits};
use super::settings::{LogConfig, StoreConfig};

/// The journal, logs and segments of one shard in one data directory. Single-threaded.
pub struct Store {
    shard: ShardId,
    config: StoreConfig,
    clock: Clock,
    latch: Rc<FailureLatch>,
    room: Rc<Room>,
    ledger: Rc<CopyLedger>,
    journal: Journal,
    files: Rc<SegmentFiles>,
    disk: Disk,
    checkpoints: CheckpointFiles,
    generation: u64,
    slots: RefCell<Slots>,
    /// Recovered logs that nobody has opened yet.
    unopened: RefCell<FxHashMap<TopicPartition, LogState>>,
    /// Logs with written bytes that are not durable.
    unsynced: RefCell<Vec<SlotOf>>,
    cache: RefCell<ReadCache>,
    /// Logs with written bytes that are in no segment, the longest waiting first.
    aging: RefCell<VecDeque<SlotOf>>,
    /// Logs with enough of them for a whole extent.
    ready: RefCell<VecDeque<SlotOf>>,
    /// Something may have become due for the background steps.
    work: Event,
    /// An extent was written behind.
    written_behind: Event,
    commit_gate: Gate,
    write_gate: Gate,
    checkpoint_gate: Gate,
    turns: Cell<CheckpointTurns>,
    /// Segments that the last checkpoint no longer names, but the one before it may.
    garbage: RefCell<Vec<background::Garbage>>,
    /// Files that nothing needs any more.
    removals: removal::Removals,
    /// There are more of them.
    doomed: Event,
}

/// What the last checkpoints said.
#[derive(Clone, Copy)]
struct CheckpointTurns {
    sequence: u64,
    last: ReplayFrom,
    previous: ReplayFrom,
    bytes_at_last: u64,
}

impl CheckpointTurns {
    fn first(generation: u64, from: ReplayFrom) -> CheckpointTurns {
        let sequence = generation << 32;
        CheckpointTurns { sequence, last: from, previous: from, bytes_at_last: 0 }
    }
}

/// A slot, with the log that ought to be in it: slots are used again.
type SlotOf = (u32, TopicPartition);

type LogRef = Rc<RefCell<Log>>;

#[derive(Default)]
struct Slots {
    logs: Vec<Option<LogRef>>,
    free: Vec<u32>,
    by_name: FxHashMap<TopicPartition, u32>,
}

impl Store {
    /// Opens a shard's part of a recovered directory and makes its first journal file ready
    /// (reserved, not written: this takes milliseconds).
    ///
    /// # Errors
    /// `Failed` if the journal cannot be made.
    pub async fn open(
        disk: Disk,
        dir: PathBuf,
        config: StoreConfig,
        clock: Clock,
        recovered: ShardRecovered,
    ) -> Result<Rc<Store>, StorageError> {
        let ShardRecovered { shard, directory_id, generation, journal, logs, health } = recovered;
        let latch = Rc::new(FailureLatch::of(health));
        let room = Room::look_first(disk.clone(), dir.clone(), config.reserve, latch.clone());
        let ledger = Rc::new(CopyLedger::default());
        let journal_dir = dir.join("journal").join(shard.to_string());
        let made = make_dirs(&disk, &dir, &journal_dir).await;
        made.map_err(|error| latch.trip("directories of a store", &error))?;
        let file_set = FileSetConfig {
            disk: disk.clone(),
            dir: journal_dir,
            directory_id,
            file_bytes: config.journal_file_bytes,
            files_max: config.journal_files_max.max(3),
        };
        let (spares, next_file_seq) = (&journal.spares, journal.from.file_seq);
        let files = FileSet::new(file_set, room.clone(), spares, next_file_seq);
        let started = files.start(journal.from.group).await;
        started.map_err(|error| latch.trip("first file of a journal", &error))?;
        let parts = JournalParts {
            latch: latch.clone(),
            ledger: ledger.clone(),
            clock: clock.clone(),
            group_bytes_max: config.group_bytes_max,
            staged_bytes_max: config.staged_bytes_max,
            next_group: journal.from.group,
        };
        let limits = SegmentLimits::of(&config);
        let pace = ReadPace::beside_journal(&disk, &clock);
        let checks = (latch.clone(), ledger.clone());
        let segments = SegmentFiles::new(disk.clone(), &dir, limits, checks, pace);
        let turns = CheckpointTurns::first(generation, journal.from);
        Ok(Rc::new(Store {
            shard,
            clock,
            latch,
            room,
            ledger,
            journal: Journal::new(files, parts),
            files: segments,
            disk,
            checkpoints: CheckpointFiles::new(&dir, shard.to_string(), directory_id),
            generation,
            slots: RefCell::default(),
            unopened: RefCell::new(logs),
            unsynced: RefCell::default(),
            cache: RefCell::new(ReadCache::new(config.read_cache_bytes)),
            aging: RefCell::default(),
            ready: RefCell::default(),
            work: Event::new(),
            written_behind: Event::new(),
            commit_gate: Gate::default(),
            write_gate: Gate::default(),
            checkpoint_gate: Gate::default(),
            turns: Cell::new(turns),
            garbage: RefCell::default(),
            removals: removal::Removals::default(),
            doomed: Event::new(),
            config,
        }))
    }

    /// Where logs stage what must be written.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// How often record bytes were copied.
    #[must_use]
    pub fn copy_ledger(&self) -> &CopyLedger {
        &self.ledger
    }

    /// Why the store has failed, if it has: nothing is acknowledged any more.
    #[must_use]
    pub fn failed(&self) -> Option<StorageError> {
        self.latch.reason().map(StorageError::Failed)
    }

    /// A new log. Touches no file: directories are made with the first segment.
    ///
    /// # Errors
    /// `NoSuchLog` if there is one already.
    pub fn create_log(
        &self,
        tp: TopicPartition,
        config: LogConfig,
    ) -> Result<LogRef, StorageError> {
        let taken = self.log(tp).is_some() || self.unopened.borrow().contains_key(&tp);
        if taken { Err(StorageError::NoSuchLog(tp)) } else { self.open_log(tp, config) }
    }

    /// The log as it was recovered; a new one if the directory knew none (a partition in which
    /// nothing was ever written leaves no trace). The same object for the same log.
    ///
    /// # Errors
    /// `NoSuchLog` if the recovered state makes no sense.
    pub fn open_log(&self, tp: TopicPartition, config: LogConfig) -> Result<LogRef, StorageError> {
        if let Some(log) = self.log(tp) {
            log.borrow_mut().set_config(config);
            return Ok(log);
        }
        let state = self.unopened.borrow_mut().remove(&tp);
        let state = state.unwrap_or_else(|| LogState::empty(tp));
        let mut slots = self.slots.borrow_mut();
        let slot = slots.next();
        let ids_max = self.config.producer_ids_max;
        let (files, clock) = (self.files.clone(), self.clock.clone());
        let log = Log::from_state(&state, slot, config, files, clock, ids_max);
        let Some(log) = log else {
            slots.free.push(slot);
            return Err(StorageError::NoSuchLog(tp));
        };
        let log = Rc::new(RefCell::new(log));
        slots.put(slot, tp, log.clone());
        Ok(log)
    }

    /// The log, if it is open.
    #[must_use]
    pub fn log(&self, tp: TopicPartition) -> Option<LogRef> {
        let slots = self.slots.borrow();
        slots.by_name.get(&tp).and_then(|slot| slots.logs[*slot as usize].clone())
    }

    /// Deletes logs; their files go in the background ([`Store::remove_piece`]). The metadata must
    /// already say that they are gone: after a crash in here, what is left does not come back because
    /// it does not live.
    ///
    /// # Errors
    /// `Failed`; a log that is not there is no error.
    pub async fn delete_logs(&self, gone: &[TopicPartition]) -> Result<(), StorageError> {
        gone.iter().for_each(|tp| self.drop_log(*tp));
        // Not while a segment of theirs may be written.
        let _turn = self.write_gate.enter().await;
        self.retire_partitions(gone).await
    }

    fn drop_log(&self, tp: TopicPartition) {
        self.unopened.borrow_mut().remove(&tp);
        // Of its own: what is released looks at the slots again.
        let taken = self.slots.borrow_mut().take(tp);
        if let Some(log) = taken {
            let released = {
                let mut log = log.borrow_mut();
                log.delete();
                log.take_released()
            };
            released.into_iter().for_each(|group| self.keep_for_readers(group));
        }
        let demand = StageFor {
            slot: u32::MAX,
            topic_partition: tp,
            membership: None,
            durable: true,
            flush_ms: i64::MAX,
            truncations: 0,
        };
        let (epoch, none) = (LeaderEpoch(-1), Offset::UNKNOWN);
        self.journal.stage_control(&demand, EntryKind::Drop, epoch, none, none);
    }

    /// Whether written records wait for a sync that is due (`flush.ms`): call
    /// [`Store::request_sync`] then. For a heartbeat.
    #[must_use]
    pub fn sync_due(&self, now_ms: i64) -> bool {
        self.journal.sync_due(now_ms)
    }

    /// Makes the next commit durable, whatever its members ask, even if nothing is staged.
    pub fn request_sync(&self) {
        self.journal.request_sync();
    }

    #[cfg(test)]
    pub(super) fn files(&self) -> &Rc<SegmentFiles> {
        &self.files
    }

    #[cfg(test)]
    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Memory that the read cache holds, in bytes.
    #[must_use]
    pub fn cached_bytes(&self) -> usize {
        self.cache.borrow().bytes()
    }

    fn log_in(&self, (slot, tp): SlotOf) -> Option<LogRef> {
        let slots = self.slots.borrow();
        let log = slots.logs.get(slot as usize)?.as_ref()?;
        (log.borrow().topic_partition() == tp).then(|| log.clone())
    }

    fn open_logs(&self) -> Vec<LogRef> {
        self.slots.borrow().logs.iter().flatten().cloned().collect()
    }

    /// Puts a group that nothing needs any more into the read cache, and lets logs forget what
    /// fell out of it.
    fn keep_for_readers(&self, group: Rc<super::journal::Group>) {
        if !group.may_be_cached() {
            return;
        }
        let touched = self.cache.borrow_mut().push(group);
        let slots = self.slots.borrow();
        for slot in touched {
            let log = slots.logs.get(slot as usize).and_then(Option::as_ref);
            // A log that is being looked at forgets at the next occasion.
            if let Some(mut log) = log.and_then(|log| log.try_borrow_mut().ok()) {
                log.prune_tail();
            }
        }
    }
}

impl Slots {
    fn next(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.logs.push(None);
            u32::try_from(self.logs.len() - 1).expect("fewer logs than 2^32")
        })
    }

    fn put(&mut self, slot: u32, tp: TopicPartition, log: LogRef) {
        self.logs[slot as usize] = Some(log);
        self.by_name.insert(tp, slot);
    }

    fn take(&mut self, tp: TopicPartition) -> Option<LogRef> {
        let slot = self.by_name.remove(&tp)?;
        self.free.push(slot);
        self.logs[slot as usize].take()
    }
}

/// Makes the directories, and the names in them durable even if an earlier run made them and was
/// killed before it could.
async fn make_dirs(disk: &Disk, dir: &Path, journal_dir: &Path) -> std::io::Result<()> {
    disk.create_dir_all(journal_dir).await?;
    disk.sync_dir(dir).await?;
    disk.sync_dir(&dir.join("journal")).await?;
    disk.sync_dir(journal_dir).await
}
