//! Tests of the store as a whole, on a real directory and on the simulated disk.

mod basics;
mod bit_rot;
mod campaign;
mod compaction;
mod crash;
mod damage;
mod dump;
mod fault_script;
mod faults;
mod full_disk;
mod large_lane;
mod read_ahead;
mod retention;
mod scrub;
mod world;

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;
use futures_lite::future::{block_on, poll_once};

use crate::base::clock::{Clock, SimClock};
use crate::base::ids::{
    LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, ShardId, TopicId,
    TopicPartition,
};
use crate::base::limits::{BATCH_PLACE, LARGE_BATCH_BYTES};
use crate::io::buf::IoBuf;
use crate::io::disk::Disk;
use crate::record::{BatchBuilder, Compression, RecordBatch, UncheckedBatch, stored_batches};

use super::{
    CommittedGroup, Log, LogConfig, RecoveryError, RecoveryReport, StampChoice, StorageError,
    Store, StoreConfig, recover,
};

const DIRECTORY_ID: [u8; 16] = [0xD1; 16];

fn tp(topic: u8, partition: i32) -> TopicPartition {
    TopicPartition { topic_id: TopicId([topic; 16]), partition: PartitionIndex(partition) }
}

/// Small enough that everything rolls, fills and starves within a few hundred batches.
fn small_config() -> StoreConfig {
    StoreConfig {
        journal_file_bytes: 128 << 10,
        journal_files_max: 4,
        group_bytes_max: 16 << 10,
        staged_bytes_max: 256 << 10,
        extent_bytes: 16 << 10,
        large_lane_bytes: 64 << 10,
        block_bytes: 8 << 10,
        removal_piece_bytes: 300 << 10,
        write_behind_window_bytes: 96 << 10,
        checkpoint_bytes: 64 << 10,
        read_cache_bytes: 48 << 10,
        open_segments_max: 4,
        index_entries_unwritten_max: 2,
        syncs_max: 6,
        ..StoreConfig::default()
    }
}

/// A data directory with its settings, opened and opened again.
struct Home {
    disk: Disk,
    dir: PathBuf,
    config: StoreConfig,
    clock: Clock,
    time: Rc<SimClock>,
    live: RefCell<HashMap<TopicPartition, LogConfig>>,
}

impl Home {
    fn new(disk: Disk, dir: impl Into<PathBuf>, config: StoreConfig) -> Home {
        let (clock, time) = Clock::simulated(1_700_000_000_000);
        Home { disk, dir: dir.into(), config, clock, time, live: RefCell::default() }
    }

    /// A directory on a simulated disk.
    fn simulated(config: StoreConfig) -> (Home, Rc<crate::io::sim_disk::SimDisk>) {
        let disk = crate::io::sim_disk::SimDisk::new();
        let home = Home::new(Disk::Sim(disk.clone()), "/data", config);
        block_on(home.disk.create_dir_all(Path::new("/data"))).expect("create");
        block_on(home.disk.sync_dir(Path::new("/"))).expect("sync");
        (home, disk)
    }

    /// The same directory on another simulated disk: a copy, or what a crash left.
    fn on(&self, disk: Rc<crate::io::sim_disk::SimDisk>) -> Home {
        Home {
            disk: Disk::Sim(disk),
            dir: self.dir.clone(),
            config: self.config.clone(),
            clock: self.clock.clone(),
            time: self.time.clone(),
            live: RefCell::new(self.live.borrow().clone()),
        }
    }

    fn live(&self, tp: TopicPartition, config: LogConfig) {
        self.live.borrow_mut().insert(tp, config);
    }

    fn recover_and_open(&self) -> Result<(Rc<Store>, RecoveryReport), RecoveryError> {
        let live = |tp: &TopicPartition| self.live.borrow().get(tp).cloned();
        let now = self.clock.wall_ms();
        let recovery = recover(&self.disk, &self.dir, DIRECTORY_ID, &self.config, now, &live);
        let mut recovered = block_on(recovery)?;
        let report = recovered.report().clone();
        let shard = recovered.take_shard(ShardId(0), |_| true);
        let opened = Store::open(
            self.disk.clone(),
            self.dir.clone(),
            self.config.clone(),
            self.clock.clone(),
            shard,
        );
        Ok((block_on(opened).expect("the store opens"), report))
    }

    /// As [`Home::recover_and_open`] on a disk that may fail.
    fn recover_and_try_to_open(&self) -> Result<Rc<Store>, String> {
        let live = |tp: &TopicPartition| self.live.borrow().get(tp).cloned();
        let now = self.clock.wall_ms();
        let recovery = recover(&self.disk, &self.dir, DIRECTORY_ID, &self.config, now, &live);
        let mut recovered = block_on(recovery).map_err(|error| error.to_string())?;
        let shard = recovered.take_shard(ShardId(0), |_| true);
        let (disk, dir) = (self.disk.clone(), self.dir.clone());
        let opened = Store::open(disk, dir, self.config.clone(), self.clock.clone(), shard);
        block_on(opened).map_err(|error| error.to_string())
    }

    fn open(&self) -> Rc<Store> {
        self.recover_and_open().expect("recovery").0
    }

    fn log(&self, store: &Store, tp: TopicPartition) -> Rc<RefCell<Log>> {
        let config = self.live.borrow()[&tp].clone();
        store.open_log(tp, config).expect("open")
    }
}

/// A batch whose records all say `tag`, `value_bytes` long each, a millisecond apart.
fn batch(tag: u64, records: i32, value_bytes: usize, time_ms: i64) -> RecordBatch {
    builder(tag, records, value_bytes, time_ms).build_batch().expect("build")
}

/// The batch as a connection receives one: where it can be written from.
fn received(batch: &RecordBatch) -> RecordBatch {
    let mut memory = IoBuf::alloc(BATCH_PLACE + batch.len_bytes());
    memory[BATCH_PLACE..BATCH_PLACE + batch.len_bytes()].copy_from_slice(batch.bytes());
    let bytes = memory.freeze(BATCH_PLACE + batch.len_bytes()).slice(BATCH_PLACE..);
    let batch = UncheckedBatch::from_produce(bytes).expect("one batch");
    batch.filling_memory(true).check().expect("a good one")
}

fn builder(tag: u64, records: i32, value_bytes: usize, time_ms: i64) -> BatchBuilder {
    let mut builder = BatchBuilder::new(Compression::None, time_ms);
    let mut value = tag.to_be_bytes().to_vec();
    value.resize(value_bytes.max(8), tag as u8);
    for record in 0..records {
        builder.append(time_ms + i64::from(record), None, Some(&value), &[]);
    }
    builder
}

fn idempotent(tag: u64, records: i32, id: i64, sequence: i32) -> RecordBatch {
    let mut builder = builder(tag, records, 32, 1000);
    builder.producer(ProducerId(id), ProducerEpoch(0), Sequence(sequence));
    builder.build_batch().expect("build")
}

fn leader(epoch: i32) -> StampChoice {
    StampChoice { leader_epoch: LeaderEpoch(epoch), log_append_time_ms: None }
}

/// Runs a background step as far as it goes; one that waits has nothing to do.
fn step<T>(future: impl Future<Output = T>) -> Option<T> {
    block_on(poll_once(future))
}

/// Commits one group. If it waits for a journal file, the background steps must free one.
fn commit(store: &Store) -> CommittedGroup {
    let mut future = pin!(store.commit_group());
    for _ in 0..100 {
        if let Some(done) = block_on(poll_once(&mut future)) {
            return done.expect("commit");
        }
        if let Some(done) = step(store.write_behind()) {
            done.expect("write behind");
        }
        if let Some(done) = step(store.checkpoint_when_due()) {
            done.expect("checkpoint");
        }
    }
    panic!("the commit never found a journal file");
}

/// Commits all that is staged.
fn commit_all(store: &Store) {
    while store.journal().staged_bytes() > 0 {
        commit(store);
    }
}

/// Does all background work that is due.
fn background(store: &Store) -> Result<(), StorageError> {
    loop {
        let mut done = false;
        if let Some(result) = step(store.write_behind()) {
            result?;
            done = true;
        }
        if let Some(result) = step(store.checkpoint_when_due()) {
            result?;
            done = true;
        }
        if !done {
            return Ok(());
        }
    }
}

/// The tags of stored batches of one record each ([`batch`]).
fn tags(stored: &[Bytes]) -> Vec<u64> {
    let tag = |bytes: &Bytes| {
        let (batch, _) = crate::record::StoredBatch::split_first(bytes).expect("whole");
        let mut records = crate::record::records(batch, 1 << 20).expect("records");
        let record = records.next_record().expect("one").expect("whole");
        u64::from_be_bytes(record.value().expect("a value")[..8].try_into().expect("eight"))
    };
    stored.iter().map(tag).collect()
}

/// Reads everything from `from` on, answer by answer.
fn read_all(log: &RefCell<Log>, from: Offset, bytes_max: usize) -> Vec<Bytes> {
    try_read_all(log, from, bytes_max).expect("read")
}

fn try_read_all(
    log: &RefCell<Log>,
    from: Offset,
    bytes_max: usize,
) -> Result<Vec<Bytes>, StorageError> {
    let mut out = Vec::new();
    let mut next = from;
    loop {
        let plan = { log.borrow().plan_read(next, Offset(i64::MAX), bytes_max) };
        let bytes = Bytes::from(block_on(plan.read())?.concat());
        if bytes.is_empty() {
            return Ok(out);
        }
        for batch in stored_batches(&bytes) {
            let batch = batch.expect("whole batches");
            assert!(batch.last_offset() >= next, "only what was asked for");
            assert!(batch.crc_matches(), "batch at {}", batch.base_offset());
            next = batch.last_offset().plus(1);
            out.push(bytes.slice_ref(batch.bytes()));
        }
    }
}
