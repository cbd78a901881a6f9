//! Recovery: from checkpoints and journals to segments, before any shard runs.
//!
//! Every journal, whichever shard wrote it, is replayed from where its checkpoint says and drained
//! into segments; then one base checkpoint says so. So shards always start with empty journals,
//! and any number of them can.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::base::clock::Clock;
use crate::base::ids::{ShardId, TopicPartition};
use crate::io::buf::IoBuf;
use crate::io::disk::Disk;
use crate::record::StoredBatch;

use super::checkpoint::{BASE_NAME, Checkpoint, CheckpointFiles, Found, JournalStart};
use super::copy_ledger::CopyLedger;
use super::error::{RecoveryError, StorageError};
use super::health::DirectoryHealth;
use super::journal::format::{EntryHeader, EntryKind, FIRST_GROUP_POS};
use super::journal::reader::{JournalReader, LargeBatches, LargeFound, ReplayedGroup};
use super::journal::{Group, ReplayFrom, SpareFile};
use super::latch::FailureLatch;
use super::log::{Log, LogState};
use super::segment::{
    Adopted, ReadPace, SegmentFiles, SegmentKey, SegmentLimits, SegmentName, adopt_next,
    missing_is_none, read_large, write_extent,
};
use super::settings::{LogConfig, StoreConfig};

/// Replayed bytes held in memory before they are written to segments.
const PENDING_BYTES_MAX: usize = 32 << 20;

/// Buffers kept for the next read while recovery runs: memory that was touched before is several
/// times faster than fresh one.
const POOL_BYTES: usize = 48 << 20;

/// What recovery did, for the log line and for tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Groups read from journals.
    pub groups_replayed: u64,
    /// Batches put into segments.
    pub batches_replayed: u64,
    /// Logs in checkpoints or journals that do not live any more. Their files are left alone: that
    /// the metadata does not know them may also mean that it is not the metadata that wrote them.
    pub strays: Vec<TopicPartition>,
}

/// A recovered directory, to be split among shards. Plain data: travels between threads.
#[derive(Debug)]
pub struct Recovered {
    directory_id: [u8; 16],
    generation: u64,
    journals: BTreeMap<u16, RecoveredJournal>,
    logs: FxHashMap<TopicPartition, LogState>,
    report: RecoveryReport,
    health: Arc<DirectoryHealth>,
}

/// A drained journal.
#[derive(Clone, Debug)]
pub(super) struct RecoveredJournal {
    pub(super) from: ReplayFrom,
    pub(super) spares: Vec<SpareFile>,
}

impl RecoveredJournal {
    fn fresh() -> RecoveredJournal {
        let from = ReplayFrom { file_seq: 1, pos: FIRST_GROUP_POS, group: 1 };
        RecoveredJournal { from, spares: Vec::new() }
    }
}

/// One shard's part of a recovered directory.
#[derive(Debug)]
pub struct ShardRecovered {
    pub(super) shard: ShardId,
    pub(super) directory_id: [u8; 16],
    pub(super) generation: u64,
    pub(super) journal: RecoveredJournal,
    pub(super) logs: FxHashMap<TopicPartition, LogState>,
    pub(super) health: Arc<DirectoryHealth>,
}

impl Recovered {
    /// How the directory will be, on all cores together.
    #[must_use]
    pub fn health(&self) -> Arc<DirectoryHealth> {
        self.health.clone()
    }

    /// The logs that were found and live.
    #[must_use]
    pub fn logs(&self) -> &FxHashMap<TopicPartition, LogState> {
        &self.logs
    }

    /// What was done.
    #[must_use]
    pub fn report(&self) -> &RecoveryReport {
        &self.report
    }

    /// Takes out what `shard` will own: its journal's files and the logs that `owns` names. Logs
    /// that no shard takes stay in the base checkpoint.
    pub fn take_shard(
        &mut self,
        shard: ShardId,
        owns: impl Fn(&TopicPartition) -> bool,
    ) -> ShardRecovered {
        let taken: Vec<_> = self.logs.keys().copied().filter(owns).collect();
        let logs = taken.iter().filter_map(|tp| self.logs.remove_entry(tp)).collect();
        let journal = self.journals.remove(&shard.0).unwrap_or_else(RecoveredJournal::fresh);
        let (directory_id, generation) = (self.directory_id, self.generation);
        let health = self.health.clone();
        ShardRecovered { shard, directory_id, generation, journal, logs, health }
    }
}

/// Recovers a data directory. `live` gives the settings of the logs that exist; entries of others
/// are passed over, so that nothing that was deleted comes back. An empty directory is a fresh
/// start.
///
/// Changes nothing until everything was read and judged whole up to the point where it is written;
/// repeated after a crash of its own it does the same again. Runs on a thread without a reactor.
///
/// # Errors
/// [`RecoveryError`]; nothing is deleted then.
pub async fn recover(
    disk: &Disk,
    dir: &Path,
    directory_id: [u8; 16],
    config: &StoreConfig,
    now_ms: i64,
    live: &dyn Fn(&TopicPartition) -> Option<LogConfig>,
) -> Result<Recovered, RecoveryError> {
    let _pool = Pool::widen();
    let (starts, states, generation) = load_checkpoints(disk, dir, directory_id).await?;
    let mut replay = Replay::new(disk, dir, config, now_ms, live);
    replay.take_states(states, dir)?;
    let mut journals = BTreeMap::new();
    for (shard, start) in starts {
        let path = dir.join("journal").join(shard.to_string());
        let mut reader = JournalReader::open(
            disk,
            &path,
            directory_id,
            start.journal.from(),
            start.journal.activated,
            start.clean,
        )
        .await?;
        while let Some(group) = reader.next(&replay).await? {
            replay.group(&group).await?;
        }
        let (file_seq, group) = reader.next_numbers();
        let from = ReplayFrom { file_seq, pos: FIRST_GROUP_POS, group };
        journals.insert(shard, RecoveredJournal { from, spares: reader.spares() });
    }
    replay.drain_all(Drain::Last).await?;
    replay.sync_all().await?;
    let generation = generation + 1;
    let journal_starts = journals
        .iter()
        .map(|(shard, journal)| JournalStart::new(*shard, journal.from, false))
        .collect();
    let mut logs = replay.states();
    let base = Checkpoint {
        generation,
        clean: false,
        journals: journal_starts,
        logs: logs.values().cloned().collect(),
    };
    write_base(disk, dir, directory_id, &base).await?;
    replay.clean_up().await?;
    logs.retain(|tp, _| live(tp).is_some());
    let (report, health) = (replay.report, Arc::default());
    Ok(Recovered { directory_id, generation, journals, logs, report, health })
}

/// A pool of buffers for this thread, which has none before its shards run.
struct Pool;

impl Pool {
    fn widen() -> Pool {
        IoBuf::set_pool_bytes_max(POOL_BYTES);
        Pool
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        IoBuf::set_pool_bytes_max(0);
    }
}

fn drain_error(error: StorageError) -> RecoveryError {
    RecoveryError::Drain(error.to_string())
}

struct ShardStart {
    journal: JournalStart,
    clean: bool,
}

type Loaded = (BTreeMap<u16, ShardStart>, FxHashMap<TopicPartition, LogState>, u64);

/// The newest word on every journal and log: a shard's checkpoint of the last start, else the base.
async fn load_checkpoints(
    disk: &Disk,
    dir: &Path,
    directory_id: [u8; 16],
) -> Result<Loaded, RecoveryError> {
    let base_files = CheckpointFiles::new(dir, BASE_NAME, directory_id);
    let base = base_files.load(disk).await?.map(|found| found.checkpoint);
    let generation = base.as_ref().map_or(0, |base| base.generation);
    let (mut starts, mut states) = (BTreeMap::new(), FxHashMap::default());
    let (base_journals, base_logs) = base.map_or_else(Default::default, |b| (b.journals, b.logs));
    for shard in shard_names(disk, dir).await? {
        let known = base_journals.iter().find(|journal| journal.shard == shard).cloned();
        let fresh = || JournalStart::new(shard, RecoveredJournal::fresh().from, false);
        let start = ShardStart { journal: known.unwrap_or_else(fresh), clean: false };
        starts.insert(shard, start);
    }
    states.extend(base_logs.into_iter().map(|log| (log.topic_partition(), log)));
    let shards: Vec<u16> = starts.keys().copied().collect();
    for shard in shards {
        let files = CheckpointFiles::new(dir, shard.to_string(), directory_id);
        let Some(Found { checkpoint, .. }) = files.load(disk).await? else { continue };
        if checkpoint.generation > generation {
            let reason = format!(
                "the checkpoint of shard {shard} is of start {}, the base of start {generation}",
                checkpoint.generation
            );
            return Err(RecoveryError::Corrupt { path: dir.join("checkpoint"), reason });
        }
        if checkpoint.generation < generation {
            continue; // drained by an earlier recovery
        }
        let clean = checkpoint.clean;
        if let Some(journal) = checkpoint.journals.into_iter().next() {
            starts.insert(shard, ShardStart { journal, clean });
        }
        states.extend(checkpoint.logs.into_iter().map(|log| (log.topic_partition(), log)));
    }
    Ok((starts, states, generation))
}

/// Shards that have a journal.
async fn shard_names(disk: &Disk, dir: &Path) -> Result<Vec<u16>, RecoveryError> {
    let path = dir.join("journal");
    let names = missing_is_none(disk.list(&path).await)
        .map_err(|error| RecoveryError::Io { path, error })?
        .unwrap_or_default();
    Ok(names.iter().filter(|e| e.is_dir).filter_map(|entry| entry.name.parse().ok()).collect())
}

async fn write_base(
    disk: &Disk,
    dir: &Path,
    directory_id: [u8; 16],
    base: &Checkpoint,
) -> Result<(), RecoveryError> {
    let path = dir.join("checkpoint");
    let failed = |error| RecoveryError::Io { path: path.clone(), error };
    disk.create_dir_all(&path).await.map_err(failed)?;
    disk.sync_dir(dir).await.map_err(failed)?;
    let files = CheckpointFiles::new(dir, BASE_NAME, directory_id);
    // Both copies say the same: the shards' journals begin anew behind it.
    for turn in 0..2 {
        let sequence = base.generation * 2 + turn;
        files.write(disk, sequence, base).await.map_err(failed)?;
    }
    Ok(())
}

/// When a log is drained.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Drain {
    /// More of it may follow.
    Midway,
    /// It is about to be cut.
    Cut,
    /// Nothing follows.
    Last,
}

/// A replay in progress.
struct Replay<'a> {
    files: Rc<SegmentFiles>,
    config: &'a StoreConfig,
    now_ms: i64,
    live: &'a dyn Fn(&TopicPartition) -> Option<LogConfig>,
    logs: FxHashMap<TopicPartition, ReplayedLog>,
    /// States of logs that are not live, as they were.
    pending_bytes: usize,
    report: RecoveryReport,
}

struct ReplayedLog {
    log: Rc<RefCell<Log>>,
    /// First entry that the checkpoint does not know.
    from: (u64, u32),
}

impl LargeBatches for Replay<'_> {
    async fn find(
        &self,
        seq: u64,
        number: u32,
        entry: &EntryHeader,
    ) -> Result<LargeFound, RecoveryError> {
        let topic_partition = entry.topic_partition();
        let is_known = |replayed: &ReplayedLog| (seq, number) < replayed.from;
        if (self.live)(&topic_partition).is_none()
            || self.logs.get(&topic_partition).is_some_and(is_known)
        {
            return Ok(LargeFound::NotNeeded);
        }
        let place = entry.segment_place();
        // Nothing is appended to what compaction wrote.
        let key = SegmentKey { topic_partition, base_offset: place.segment, revision: 0 };
        let found = read_large(&self.files, (key, place.pos), entry.batch_bytes()).await;
        Ok(found.map_err(drain_error)?.map_or(LargeFound::Missing, LargeFound::Batch))
    }
}

impl<'a> Replay<'a> {
    fn new(
        disk: &Disk,
        dir: &Path,
        config: &'a StoreConfig,
        now_ms: i64,
        live: &'a dyn Fn(&TopicPartition) -> Option<LogConfig>,
    ) -> Replay<'a> {
        let ledger = Rc::new(CopyLedger::default());
        let latch = Rc::new(FailureLatch::default());
        let (limits, pace) = (SegmentLimits::of(config), ReadPace::new(None));
        let files = SegmentFiles::new(disk.clone(), dir, limits, (latch, ledger), pace);
        Replay {
            files,
            config,
            now_ms,
            live,
            logs: FxHashMap::default(),
            pending_bytes: 0,
            report: RecoveryReport::default(),
        }
    }

    fn take_states(
        &mut self,
        states: FxHashMap<TopicPartition, LogState>,
        dir: &Path,
    ) -> Result<(), RecoveryError> {
        for (tp, state) in states {
            let Some(config) = (self.live)(&tp) else {
                self.report.strays.push(tp);
                continue;
            };
            let from = (state.replay_group, state.replay_entry);
            let log = self.log_of(&state, config).filter(|_| state.is_sane());
            let Some(log) = log else {
                let reason = format!("the checkpoint's state of {tp} makes no sense");
                return Err(RecoveryError::Corrupt { path: dir.join("checkpoint"), reason });
            };
            self.logs.insert(tp, ReplayedLog { log, from });
        }
        Ok(())
    }

    fn log_of(&self, state: &LogState, config: LogConfig) -> Option<Rc<RefCell<Log>>> {
        let ids_max = self.config.producer_ids_max;
        let (files, clock) = (self.files.clone(), Clock::standing(self.now_ms));
        let log = Log::from_state(state, 0, config, files, clock, ids_max)?;
        Some(Rc::new(RefCell::new(log)))
    }

    async fn group(&mut self, read: &ReplayedGroup) -> Result<(), RecoveryError> {
        self.report.groups_replayed += 1;
        let group = Group::replayed(read.seq, read.bytes.clone());
        for (entry, number) in read.entries().iter().zip(0..) {
            if entry.kind() == Some(EntryKind::Truncate) {
                // What was cut has its place in the segment, too.
                let log = self.logs.get(&entry.topic_partition()).map(|it| it.log.clone());
                if let Some(log) = log {
                    self.drain(&log, Drain::Cut).await?;
                }
            }
            self.entry(read, &group, entry, number)?;
        }
        if self.pending_bytes >= PENDING_BYTES_MAX {
            self.drain_all(Drain::Midway).await?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        read: &ReplayedGroup,
        group: &Rc<Group>,
        entry: &EntryHeader,
        number: u32,
    ) -> Result<(), RecoveryError> {
        let tp = entry.topic_partition();
        let Some(replayed) = self.replayed_log(tp) else { return Ok(()) };
        if (group.seq(), number) < replayed.from {
            return Ok(());
        }
        let log = replayed.log.clone();
        let mut log = log.borrow_mut();
        match entry.kind() {
            Some(kind @ (EntryKind::Append | EntryKind::SegmentExtent)) => {
                if entry.first() < log.log_end() {
                    let reason = format!(
                        "group {} appends to {tp} at {}, but the log ends at {}",
                        group.seq(),
                        entry.first(),
                        log.log_end()
                    );
                    return Err(RecoveryError::Corrupt { path: read.file.clone(), reason });
                }
                let (group, range, place) = match kind {
                    EntryKind::Append => (group.clone(), entry.range(), None),
                    _ => {
                        let batch = read.large_batch(number);
                        let range = 0..batch.len();
                        let group = Group::replayed(group.seq(), batch);
                        (group, range, Some(entry.segment_place()))
                    }
                };
                let start = u32::try_from(range.start).expect("a field of 32 bits");
                let mut bytes = Vec::new();
                group.add_range(start, range.end as u32, &mut bytes);
                let batch = bytes.first().and_then(|bytes| StoredBatch::split_first(bytes).ok());
                let (batch, _) = batch.expect("checked when the group was read");
                self.pending_bytes += batch.len_bytes();
                self.report.batches_replayed += 1;
                log.replay_append(&group, (number, start), batch, place);
            }
            Some(EntryKind::Truncate) => log.cut_end(entry.first()),
            Some(EntryKind::LogStart) => log.cut_start(entry.first()),
            Some(EntryKind::EpochStart) => log.replay_epoch(entry.leader_epoch(), entry.first()),
            Some(EntryKind::Drop) => {
                log.delete();
                self.logs.remove(&tp);
                self.report.strays.push(tp);
            }
            None => {}
        }
        Ok(())
    }

    /// The log of an entry, made now if this is its first; `None` if it does not live.
    fn replayed_log(&mut self, tp: TopicPartition) -> Option<&ReplayedLog> {
        if !self.logs.contains_key(&tp) {
            if self.report.strays.contains(&tp) {
                return None;
            }
            let Some(config) = (self.live)(&tp) else {
                self.report.strays.push(tp);
                return None;
            };
            let log = self.log_of(&LogState::empty(tp), config)?;
            self.logs.insert(tp, ReplayedLog { log, from: (0, 0) });
        }
        self.logs.get(&tp)
    }

    /// Writes everything that was replayed into segments. Nothing of it is believed before the base
    /// checkpoint says so.
    async fn drain_all(&mut self, when: Drain) -> Result<(), RecoveryError> {
        for replayed in self.logs.values() {
            self.drain(&replayed.log, when).await?;
        }
        self.pending_bytes = 0;
        Ok(())
    }

    /// Puts what was replayed of a log into segments: what lies there already is taken as it is,
    /// wherever a batch of the large lane lies behind it or may do so.
    async fn drain(&self, log: &Rc<RefCell<Log>>, when: Drain) -> Result<(), RecoveryError> {
        loop {
            if when != Drain::Last || log.borrow().has_placed() {
                match adopt_next(&self.files, log, self.now_ms).await.map_err(drain_error)? {
                    Adopted::Block => continue,
                    Adopted::Other if when == Drain::Midway => break,
                    Adopted::Other | Adopted::Nothing => {}
                }
            }
            if when == Drain::Cut {
                break; // what is not there may never have been, and what follows the cut may be
            }
            let written = write_extent(&self.files, log, self.now_ms).await;
            if written.map_err(drain_error)?.is_none() {
                break;
            }
        }
        log.borrow_mut().prune_tail_all();
        Ok(())
    }

    /// Makes what was drained durable, once for all.
    async fn sync_all(&mut self) -> Result<(), RecoveryError> {
        for replayed in self.logs.values() {
            let flushes = replayed.log.borrow().index_flushes();
            for flush in flushes {
                let written = self.files.write_index(flush.key, flush.first, &flush.entries).await;
                written.map_err(|error| RecoveryError::Drain(error.to_string()))?;
                replayed.log.borrow_mut().index_flushed(&flush);
            }
        }
        let synced = self.files.sync_written().await;
        synced.map_err(|error| RecoveryError::Drain(error.to_string()))
    }

    fn states(&self) -> FxHashMap<TopicPartition, LogState> {
        self.logs
            .iter()
            .map(|(tp, replayed)| (*tp, replayed.log.borrow().to_state((0, 0))))
            .collect()
    }

    /// Removes what no log holds any more, and what a crashed run left behind the known ends of
    /// the logs that it had written to. The base checkpoint is durable by now.
    async fn clean_up(&mut self) -> Result<(), RecoveryError> {
        for (tp, replayed) in &self.logs {
            if !replayed.log.borrow().is_touched() {
                continue; // nothing was ever written behind what the checkpoint knew
            }
            let dir = self.files.partition_dir(*tp);
            let result = self.clean_up_log(&dir, &replayed.log).await;
            result.map_err(|error| RecoveryError::Io { path: dir, error })?;
        }
        Ok(())
    }

    async fn clean_up_log(&self, dir: &Path, log: &Rc<RefCell<Log>>) -> std::io::Result<()> {
        let Some(names) = missing_is_none(self.files.disk().list(dir).await)? else {
            return Ok(());
        };
        let tp = log.borrow().topic_partition();
        let known = log.borrow().segment_ends();
        let last = known.last().map_or(log.borrow().segment_end(), |(key, _)| key.base_offset);
        for entry in names {
            let Some((name, extension)) = SegmentName::parse(&entry.name) else { continue };
            let path = dir.join(&entry.name);
            match known.iter().find(|(key, _)| *key == name.key(tp)) {
                // What lies before the last one may be large: it goes later, in pieces.
                None if name.base_offset < last => {}
                None => self.files.disk().remove_file(&path).await?,
                Some((key, end)) if extension == "log" && entry.len > *end => {
                    self.files.open(*key).await?.file().truncate(*end).await?;
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}
