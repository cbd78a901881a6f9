//! Record batches, each step beside its physical reference: the CRC check beside a bare CRC, the
//! stamping copy beside memcpy, the record walk, and every codec.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use thalweg::base::crc::crc32c;
use thalweg::base::ids::{LeaderEpoch, Offset};
use thalweg::record::{
    BATCH_HEADER_BYTES, BatchBuilder, Compression, RecordBatch, Stamp, UncheckedBatch,
    ValidateOptions, compress, decompress, find_timestamp, records,
};

const SIZES: [usize; 4] = [1 << 10, 16 << 10, 100 << 10, 1 << 20];
const LIMIT: usize = 64 << 20;

/// A batch of about `bytes` plain bytes in records of `record_bytes`, each a line of text that
/// compresses about as well as log lines do.
fn batch(codec: Compression, bytes: usize, record_bytes: usize) -> RecordBatch {
    let mut builder = BatchBuilder::new(codec, 1_700_000_000_000);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    while builder.payload_bytes() + record_bytes <= bytes {
        let mut value = Vec::with_capacity(record_bytes + 64);
        while value.len() < record_bytes.saturating_sub(24) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            value.extend_from_slice(format!("level=info id={state:016x} took_us=").as_bytes());
        }
        value.truncate(record_bytes.saturating_sub(24));
        let timestamp = 1_700_000_000_000 + i64::from(builder.record_count());
        builder.append(timestamp, Some(&state.to_be_bytes()), Some(&value), &[]);
    }
    builder.build_batch().expect("a small batch builds")
}

fn check(c: &mut Criterion) {
    let mut group = c.benchmark_group("check");
    for size in SIZES {
        let batch = batch(Compression::None, size, size.min(1024) - 64);
        let bytes = batch.bytes().clone();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_with_input(BenchmarkId::new("crc_alone", size), &bytes, |b, bytes| {
            b.iter(|| crc32c(black_box(&bytes[21..])));
        });
        group.bench_with_input(
            BenchmarkId::new("from_produce_and_check", size),
            &bytes,
            |b, bytes| {
                b.iter(|| {
                    let unchecked = UncheckedBatch::from_produce(Bytes::clone(black_box(bytes)));
                    unchecked.and_then(UncheckedBatch::check)
                });
            },
        );
    }
    group.finish();
}

fn stamp(c: &mut Criterion) {
    let mut group = c.benchmark_group("stamp");
    for size in SIZES {
        let batch = batch(Compression::None, size, size.min(1024) - 64);
        let mut dst = vec![0; batch.len_bytes()];
        group.throughput(Throughput::Bytes(batch.len_bytes() as u64));
        group.bench_function(BenchmarkId::new("memcpy", size), |b| {
            b.iter(|| black_box(&mut dst).copy_from_slice(black_box(batch.bytes())));
        });
        for (name, log_append_time_ms) in [("create_time", None), ("log_append_time", Some(7))] {
            let stamp =
                Stamp { base_offset: Offset(9), leader_epoch: LeaderEpoch(1), log_append_time_ms };
            group.bench_function(BenchmarkId::new(name, size), |b| {
                b.iter(|| batch.copy_front(black_box(&mut dst), &batch.stamped(black_box(&stamp))));
            });
        }
    }
    group.finish();
}

fn walk(c: &mut Criterion) {
    let mut group = c.benchmark_group("walk");
    for record_bytes in [100, 1024] {
        let batch = batch(Compression::None, 100 << 10, record_bytes);
        group.throughput(Throughput::Elements(batch.record_count() as u64));
        group.bench_function(BenchmarkId::new("records", record_bytes), |b| {
            b.iter(|| {
                let mut records = records(black_box(batch.as_stored()), LIMIT).expect("plain");
                let mut sum = 0;
                while let Some(record) = records.next_record() {
                    sum += record.map_or(0, |record| record.value().map_or(0, <[u8]>::len));
                }
                sum
            });
        });
        let options = ValidateOptions {
            require_keys: true,
            decompressed_bytes_max: LIMIT,
            timestamp_window_ms: None,
        };
        group.bench_function(BenchmarkId::new("validate", record_bytes), |b| {
            b.iter(|| black_box(&batch).validate_records(&options));
        });
        let last = batch.max_timestamp();
        group.bench_function(BenchmarkId::new("find_last_timestamp", record_bytes), |b| {
            b.iter(|| find_timestamp(black_box(batch.as_stored()), last, LIMIT));
        });
    }
    group.finish();
}

fn codecs(c: &mut Criterion) {
    let mut group = c.benchmark_group("codecs");
    for size in [1 << 10, 100 << 10] {
        let plain = batch(Compression::None, size, size.min(1024) - 64);
        let plain = plain.bytes().slice(BATCH_HEADER_BYTES..);
        group.throughput(Throughput::Bytes(plain.len() as u64));
        for codec in Compression::ALL {
            let packed = compress(codec, &plain).expect("it fits");
            let name = codec.name();
            group.bench_function(BenchmarkId::new(format!("compress_{name}"), size), |b| {
                b.iter(|| compress(codec, black_box(&plain)));
            });
            group.bench_function(BenchmarkId::new(format!("decompress_{name}"), size), |b| {
                b.iter(|| decompress(codec, black_box(&packed), LIMIT));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, check, stamp, walk, codecs);
criterion_main!(benches);
