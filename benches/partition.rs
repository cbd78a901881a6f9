//! The whole of a partition's append (checks, producer table, the copy into the journal's group)
//! beside what no broker can save: one CRC-32C over the bytes and one copy of them.
//!
//! `cargo bench --bench partition`. Both sides read batches that lie in memory once for each
//! append, and write into buffers that were used before. Nothing is written to a disk: from time to
//! time the partition is only told so, so that its queues are as long as behind a real one.
#![allow(missing_docs)]

use std::cell::RefCell;
use std::hint::black_box;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_lite::future::block_on;
use thalweg::base::clock::Clock;
use thalweg::base::crc::crc32c;
use thalweg::base::ids::{
    LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, ShardId, TopicId,
    TopicPartition,
};
use thalweg::io::buf::IoBuf;
use thalweg::io::disk::Disk;
use thalweg::partition::Partition;
use thalweg::partition::config::PartitionConfig;
use thalweg::record::{BatchBuilder, Compression, UncheckedBatch};
use thalweg::storage::{Store, StoreConfig, recover};

/// Bytes that one round appends: more than the caches hold, less than a store may stage.
const ROUND_BYTES: usize = 48 << 20;
/// Bytes after which the partition is told that they are committed, as in a group of the journal.
const GROUP_BYTES: usize = 256 << 10;
const NOW_MS: i64 = 1_700_000_000_000;
const TP: TopicPartition =
    TopicPartition { topic_id: TopicId([7; 16]), partition: PartitionIndex(0) };

/// A batch of `bytes` in one record, with a place in a producer's sequence.
fn batch(bytes: usize, sequence: i32) -> Bytes {
    let value = vec![b'x'; bytes.saturating_sub(80)];
    let mut builder = BatchBuilder::new(Compression::None, NOW_MS);
    builder.append(NOW_MS, None, Some(&value), &[]);
    builder.producer(ProducerId(1), ProducerEpoch(0), Sequence(sequence));
    builder.build().expect("builds")
}

/// A round's batches, each in memory of its own.
fn round(bytes: usize) -> Vec<Bytes> {
    let count = i32::try_from(ROUND_BYTES / bytes).expect("fits");
    (0..count).map(|sequence| batch(bytes, sequence)).collect()
}

/// An empty partition on a store in `dir`; nothing of it will be written.
fn partition(dir: &Path) -> (Rc<Store>, RefCell<Partition>) {
    let config = StoreConfig {
        journal_file_bytes: 1 << 20,
        staged_bytes_max: usize::MAX,
        ..StoreConfig::default()
    };
    let topic = PartitionConfig::default();
    block_on(async {
        let disk = Disk::Blocking;
        let recovered = recover(&disk, dir, [0; 16], &config, NOW_MS, &|_| None).await;
        let shard = recovered.expect("recovers").take_shard(ShardId(0), |_| true);
        let store = Store::open(disk, dir.into(), config, Clock::real(), shard).await;
        let store = store.expect("opens");
        let log = store.open_log(TP, topic.log.clone()).expect("opens");
        let partition = Partition::open(log, store.journal(), LeaderEpoch(0), topic);
        (store, RefCell::new(partition))
    })
}

/// Time of `count` appends, in rounds; each round is one store, built outside of the measure.
fn time_appends(dir: &Path, batches: &[Bytes], count: u64) -> Duration {
    let mut left = usize::try_from(count).expect("fits");
    let group_len = (GROUP_BYTES / batches[0].len()).max(1);
    let mut spent = Duration::ZERO;
    while left > 0 {
        let (store, partition) = partition(dir);
        let of_round = &batches[..left.min(batches.len())];
        let start = Instant::now();
        for group in of_round.chunks(group_len) {
            for bytes in group {
                let unchecked = UncheckedBatch::from_produce(bytes.clone()).expect("one batch");
                let ticket = partition.borrow_mut().append(store.journal(), unchecked, NOW_MS);
                drop(black_box(ticket.expect("appends")).acked);
            }
            let mut partition = partition.borrow_mut();
            let log_end = partition.offsets().log_end;
            partition.on_committed(log_end, log_end);
        }
        spent += start.elapsed();
        assert_eq!(partition.borrow().offsets().log_end, Offset(of_round.len() as i64));
        left -= of_round.len();
    }
    spent
}

fn append(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    IoBuf::set_pool_bytes_max(2 * ROUND_BYTES);
    let mut group = c.benchmark_group("append");
    group.sample_size(20);
    for bytes in [1 << 10, 1 << 20] {
        let batches = round(bytes);
        let len = batches[0].len();
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::new("crc_and_memcpy", bytes), |b| {
            let mut copies = vec![1u8; ROUND_BYTES];
            let mut place = 0;
            b.iter(|| {
                let batch = &batches[place];
                let crc = crc32c(black_box(&batch[21..]));
                copies[place * len..][..len].copy_from_slice(batch);
                place = (place + 1) % batches.len();
                crc
            });
            black_box(&copies);
        });
        group.bench_function(BenchmarkId::new("partition_append", bytes), |b| {
            b.iter_custom(|count| time_appends(dir.path(), &batches, count));
        });
    }
    group.finish();
}

/// What a retry costs, which nothing is copied for.
fn duplicate(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (store, partition) = partition(dir.path());
    let bytes = batch(1 << 10, 0);
    let offer = || {
        let unchecked = UncheckedBatch::from_produce(bytes.clone()).expect("one batch");
        partition.borrow_mut().append(store.journal(), unchecked, NOW_MS).expect("known")
    };
    drop(offer().acked);
    // So that the queue of waiting acknowledgements stays empty.
    partition.borrow_mut().on_committed(Offset(1), Offset(1));
    let mut group = c.benchmark_group("duplicate");
    group.bench_function("crc_alone/1024", |b| b.iter(|| crc32c(black_box(&bytes[21..]))));
    group.bench_function("partition_append/1024", |b| b.iter(|| offer().is_duplicate));
    group.finish();
}

criterion_group!(benches, append, duplicate);
criterion_main!(benches);
