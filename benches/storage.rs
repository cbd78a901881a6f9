//! The stops of both routes that storage owns, each beside its physical reference in the same run:
//! stage and commit beside a bare durable write of the same bytes over written blocks, an extent
//! beside a bare write at a growing file's end, a read from memory beside a memcpy, a read from
//! disk beside a bare read.
//!
//! `cargo bench --bench storage` prints medians of interleaved rounds with CPU time, then
//! criterion's view of the two commits. `IO_BENCH_DIR` chooses the disk. `STORAGE_RESTART_GB=8`
//! does something else: it builds a log of that size, drops the store as a kill would, and times
//! recovery.
#![allow(missing_docs)]

use std::cell::RefCell;
use std::hint::black_box;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use criterion::{Criterion, Throughput};
use thalweg::base::clock::Clock;
use thalweg::base::ids::{LeaderEpoch, Offset, PartitionIndex, ShardId, TopicId, TopicPartition};
use thalweg::io::buf::IoBuf;
use thalweg::io::disk::{Disk, OpenOptions};
use thalweg::record::{BatchBuilder, Compression, RecordBatch};
use thalweg::storage::{Log, LogConfig, StampChoice, Store, StoreConfig, recover};

#[path = "io_support/mod.rs"]
mod support;
use support::{Cost, Meter, SLEEPING, SPINNING, on_ring, pin, print_row, table_then_criterion};

const TP: TopicPartition =
    TopicPartition { topic_id: TopicId([7; 16]), partition: PartitionIndex(0) };
const DIRECTORY: [u8; 16] = [1; 16];
const LEADER: StampChoice = StampChoice { leader_epoch: LeaderEpoch(0), log_append_time_ms: None };
/// Reads and extents.
const MIB: usize = 1 << 20;
/// Where the bare programs write.
const BLOCKS: &str = "blocks";
const BLOCKS_BYTES: u64 = 256 << 20;

/// One record of about `bytes`.
fn batch(bytes: usize) -> RecordBatch {
    let mut builder = BatchBuilder::new(Compression::None, 1_700_000_000_000);
    builder.append(1_700_000_000_000, None, Some(&vec![0x5A; bytes]), &[]);
    builder.build_batch().expect("built")
}

async fn open(disk: Disk, dir: &Path, durable: bool) -> (Rc<Store>, Rc<RefCell<Log>>) {
    let flush_messages = if durable { 1 } else { i64::MAX };
    let log_config = LogConfig { flush_messages, ..LogConfig::default() };
    // A small cache, so that buffers go round as they do in a broker that has run for a while.
    let config = StoreConfig { read_cache_bytes: MIB, ..StoreConfig::default() };
    let live = |_: &TopicPartition| Some(log_config.clone());
    let recovered = recover(&disk, dir, DIRECTORY, &config, 0, &live).await;
    let shard = recovered.expect("recovered").take_shard(ShardId(0), |_| true);
    // As a shard has it; recovery leaves a thread without a pool.
    IoBuf::set_pool_bytes_max(64 << 20);
    let opened = Store::open(disk, dir.to_owned(), config, Clock::real(), shard).await;
    let store = opened.expect("opened");
    let log = store.open_log(TP, log_config).expect("a log");
    (store, log)
}

/// Commits all that is staged.
async fn commit(store: &Store) {
    while store.journal().staged_bytes() > 0 {
        store.commit_group().await.expect("committed");
    }
}

/// Everything that makes a whole extent goes into segments; the checkpoint frees journal files.
async fn write_all_behind(store: &Rc<Store>, log: &Rc<RefCell<Log>>) {
    while log.borrow().unsettled_bytes() >= MIB {
        store.write_behind().await.expect("written");
    }
    for _ in 0..2 {
        store.checkpoint().await.expect("checkpoint");
    }
}

/// Leaves journal files behind whose blocks are written, as a broker has after its first minutes,
/// and a file of written blocks for the bare programs.
fn prepare(dir: &Path) {
    let (store_dir, dir) = (dir.to_owned(), dir.to_owned());
    on_ring(0, SLEEPING, move || async move {
        let (store, log) = open(Disk::Ring, &store_dir, false).await;
        for _ in 0..2 {
            store.prewrite().await.expect("a spare");
            for _ in 0..64 {
                log.borrow_mut().append(store.journal(), &batch(MIB - 200), LEADER);
                commit(&store).await;
            }
        }
        store.close().await.expect("closed");
    });
    let file = std::fs::File::create(dir.join(BLOCKS)).expect("created");
    let chunk = vec![0xA5; MIB];
    for at in (0..BLOCKS_BYTES).step_by(MIB) {
        file.write_all_at(&chunk, at).expect("written");
    }
    file.sync_all().expect("synced");
}

#[derive(Clone, Copy)]
struct Load {
    /// Of one record.
    bytes: usize,
    /// Batches staged before each commit.
    group: usize,
    ops: u64,
}

impl Load {
    /// Bytes that one commit writes.
    fn written(self) -> usize {
        let payload = 64 + self.group * batch(self.bytes).len_bytes();
        (payload.next_multiple_of(8) + self.group * 64).next_multiple_of(4096)
    }
}

fn stage_and_commit(dir: &Path, load: Load) -> Cost {
    let dir = dir.to_owned();
    on_ring(0, SPINNING, move || async move {
        let (store, log) = open(Disk::Ring, &dir, true).await;
        let batch = batch(load.bytes);
        // The first pass touches the memory, which the second uses again.
        let mut cost = Cost::default();
        for _ in 0..2 {
            let meter = Meter::start();
            for _ in 0..load.ops {
                for _ in 0..load.group {
                    log.borrow_mut().append(store.journal(), &batch, LEADER);
                }
                commit(&store).await;
            }
            cost = meter.stop();
            write_all_behind(&store, &log).await;
        }
        store.close().await.expect("closed");
        cost
    })
}

/// On a thread of its own, pinned, with pooled buffers as a shard has them.
fn alone<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let run = move || {
        pin(0);
        IoBuf::set_pool_bytes_max(64 << 20);
        body()
    };
    std::thread::spawn(run).join().expect("the run ends")
}

fn direct(path: &Path, flags: i32) -> std::fs::File {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.custom_flags(libc::O_DIRECT | flags).open(path).expect("opened")
}

fn bare_durable_write(dir: &Path, load: Load) -> Cost {
    let path = dir.join(BLOCKS);
    alone(move || {
        let file = direct(&path, libc::O_DSYNC);
        let mut bytes = IoBuf::alloc(load.written());
        bytes.fill(0x5A);
        let meter = Meter::start();
        for i in 0..load.ops {
            let pos = i * bytes.len() as u64 % (BLOCKS_BYTES / 2);
            file.write_all_at(&bytes, pos).expect("written");
        }
        meter.stop()
    })
}

/// The broker's own file without storage on top: what of the difference is the device's way.
fn file_durable_write(dir: &Path, load: Load) -> Cost {
    let path = dir.join(BLOCKS);
    on_ring(0, SPINNING, move || async move {
        let options = OpenOptions { write: true, create: false, direct: true };
        let file = Disk::Ring.open(&path, options).await.expect("opened");
        let mut bytes = IoBuf::alloc(load.written());
        bytes.fill(0x5A);
        let len = bytes.len();
        let bytes = bytes.freeze(len);
        let meter = Meter::start();
        for i in 0..load.ops {
            let pos = i * len as u64 % (BLOCKS_BYTES / 2);
            file.write_at(bytes.clone(), pos, true).await.expect("written");
        }
        meter.stop()
    })
}

fn extents(dir: &Path, ops: u64) -> Cost {
    let dir = dir.to_owned();
    on_ring(0, SPINNING, move || async move {
        let (store, log) = open(Disk::Ring, &dir, false).await;
        let batch = batch(MIB / 16 - 200);
        let mut cost = Cost::default();
        for _ in 0..2 {
            for _ in 0..ops * 16 {
                log.borrow_mut().append(store.journal(), &batch, LEADER);
                commit(&store).await;
            }
            let meter = Meter::start();
            while log.borrow().unsettled_bytes() >= MIB {
                store.write_behind().await.expect("written");
            }
            cost = meter.stop();
        }
        store.close().await.expect("closed");
        cost
    })
}

fn bare_growing_write(dir: &Path, ops: u64) -> Cost {
    let path = dir.join("growing");
    alone(move || {
        let file = direct(&path, 0);
        let mut bytes = IoBuf::alloc(MIB);
        bytes.fill(0x5A);
        let meter = Meter::start();
        for i in 0..ops {
            file.write_all_at(&bytes, i * MIB as u64).expect("written");
        }
        let cost = meter.stop();
        std::fs::remove_file(&path).expect("removed");
        cost
    })
}

/// Reads of 1 MiB, from the log's start if `cold` (from disk), else of what was just written.
fn reads(dir: &Path, ops: u64, cold: bool) -> Cost {
    let dir = dir.to_owned();
    on_ring(0, SPINNING, move || async move {
        let (store, log) = open(Disk::Ring, &dir, false).await;
        let batch = batch(MIB / 16 - 200);
        let start = if cold { Offset(0) } else { log.borrow().log_end() };
        for _ in 0..16 * 8 {
            log.borrow_mut().append(store.journal(), &batch, LEADER);
        }
        commit(&store).await;
        let end = log.borrow().written_end();
        let mut next = start;
        let meter = Meter::start();
        for _ in 0..ops {
            let plan = { log.borrow().plan_read(next, end, MIB) };
            assert_eq!(plan.is_ready().is_none(), cold);
            let slices = plan.read().await.expect("read");
            let last = slices.last().expect("something");
            let batches = thalweg::record::stored_batches(last).flatten();
            next = batches.last().expect("a batch").last_offset().plus(1);
            if next.0 + 20 > end.0 {
                next = start;
            }
        }
        let cost = meter.stop();
        store.close().await.expect("closed");
        cost
    })
}

fn bare_read(dir: &Path, ops: u64) -> Cost {
    let path = dir.join(BLOCKS);
    alone(move || {
        let file = direct(&path, 0);
        let meter = Meter::start();
        for i in 0..ops {
            let mut bytes = IoBuf::alloc(MIB);
            file.read_exact_at(&mut bytes, i * MIB as u64 % BLOCKS_BYTES).expect("read");
            black_box(&bytes);
        }
        meter.stop()
    })
}

fn memcpy(ops: u64) -> Cost {
    alone(move || {
        let from = vec![0x5A_u8; 8 * MIB];
        let mut to = vec![0_u8; MIB];
        let meter = Meter::start();
        for i in 0..ops as usize {
            let at = i % 8 * MIB;
            to.copy_from_slice(&from[at..at + MIB]);
            black_box(&to);
        }
        meter.stop()
    })
}

type Contender<'a> = (&'a str, &'a dyn Fn() -> Cost);

/// Runs the contenders in turns and prints the medians.
fn duel(title: &str, ops: u64, op_bytes: usize, contenders: &[Contender<'_>]) {
    const ROUNDS: usize = 5;
    println!("\n{title}");
    let mut costs = vec![Vec::new(); contenders.len()];
    for round in 0..=ROUNDS {
        for ((_, run), costs) in contenders.iter().zip(&mut costs) {
            let cost = run();
            if round > 0 {
                costs.push(cost);
            }
        }
    }
    for ((name, _), costs) in contenders.iter().zip(costs) {
        print_row(name, ops, op_bytes as u64, costs);
    }
}

fn tables(dir: &Path) {
    let loads = [
        ("1 KiB batch, committed alone", Load { bytes: 1024, group: 1, ops: 1500 }),
        ("32 batches of 1 KiB in a group", Load { bytes: 1024, group: 32, ops: 600 }),
        ("1 MiB batch, committed alone", Load { bytes: MIB, group: 1, ops: 40 }),
    ];
    for (title, load) in loads {
        let ours = || stage_and_commit(dir, load);
        let file = || file_durable_write(dir, load);
        let bare = || bare_durable_write(dir, load);
        let contenders: [Contender<'_>; 3] = [
            ("stage and commit", &ours),
            ("durable write of the group, our file", &file),
            ("durable write of the group, bare pwrite", &bare),
        ];
        duel(title, load.ops, load.group * batch(load.bytes).len_bytes(), &contenders);
    }
    let (ours, bare) = (|| extents(dir, 48), || bare_growing_write(dir, 48));
    let contenders: [Contender<'_>; 2] =
        [("write behind", &ours), ("bare write of a growing file", &bare)];
    duel("1 MiB extents", 48, MIB, &contenders);
    let (ours, bare) = (|| reads(dir, 200, true), || bare_read(dir, 200));
    let contenders: [Contender<'_>; 2] = [("plan and read from disk", &ours), ("bare read", &bare)];
    duel("1 MiB reads from disk", 200, MIB, &contenders);
    let (ours, bare) = (|| reads(dir, 2000, false), || memcpy(2000));
    let contenders: [Contender<'_>; 2] = [("plan and read from memory", &ours), ("memcpy", &bare)];
    duel("1 MiB reads from memory", 2000, MIB, &contenders);
}

fn criterion_view(dir: &Path, criterion: &mut Criterion) {
    for bytes in [1024, MIB] {
        let load = Load { bytes, group: 1, ops: 1 };
        let mut group = criterion.benchmark_group(format!("storage/durable/{bytes}"));
        group.sample_size(10).throughput(Throughput::Bytes(bytes as u64));
        group.bench_function("stage and commit", |bencher| {
            bencher.iter_custom(|ops| stage_and_commit(dir, Load { ops, ..load }).wall);
        });
        group.bench_function("bare write", |bencher| {
            bencher.iter_custom(|ops| bare_durable_write(dir, Load { ops, ..load }).wall);
        });
        group.finish();
    }
}

/// Builds a log, kills the store, recovers.
fn restart(dir: &Path, bytes: u64) {
    let (fill_dir, dir) = (dir.to_owned(), dir.to_owned());
    on_ring(0, SPINNING, move || async move {
        let (store, log) = open(Disk::Ring, &fill_dir, false).await;
        let (writer, checkpointer) = (store.clone(), store.clone());
        let behind =
            glommio::spawn_local(async move { while writer.write_behind().await.is_ok() {} });
        let checkpoints = glommio::spawn_local(async move {
            while checkpointer.checkpoint_when_due().await.is_ok() {}
        });
        let batch = batch(64 << 10);
        let started = Instant::now();
        for _ in 0..bytes / batch.len_bytes() as u64 {
            log.borrow_mut().append(store.journal(), &batch, LEADER);
            if !store.journal().has_room() || store.journal().staged_bytes() > 4 * MIB {
                commit(&store).await;
            }
        }
        commit(&store).await;
        println!("built {} MiB in {:?}", log.borrow().size_bytes() >> 20, started.elapsed());
        behind.cancel().await;
        checkpoints.cancel().await;
    });
    for round in ["after a kill", "again, after another"] {
        let started = Instant::now();
        let live = |_: &TopicPartition| Some(LogConfig::default());
        let config = StoreConfig::default();
        let recovery = recover(&Disk::Blocking, &dir, DIRECTORY, &config, 0, &live);
        let recovered = futures_lite::future::block_on(recovery).expect("recovered");
        let end = recovered.logs()[&TP].log_end();
        println!("{round}: recovered {end} in {:?}: {:?}", started.elapsed(), recovered.report());
    }
}

fn main() {
    let root = std::env::var("IO_BENCH_DIR").unwrap_or_else(|_| "target".into());
    let dir = tempfile::tempdir_in(root).expect("a directory");
    let path: PathBuf = dir.path().to_owned();
    if let Some(gb) = std::env::var("STORAGE_RESTART_GB").ok().and_then(|gb| gb.parse::<u64>().ok())
    {
        return restart(&path, gb << 30);
    }
    prepare(&path);
    table_then_criterion(|| tables(&path), |criterion| criterion_view(&path, criterion));
}
