//! The protocol's stops of both routes. Produce: reading a request in place. Fetch: gathering a
//! response around the log's slices. Each beside its physical reference: walking the same lengths
//! with nothing checked but the bounds, and copying the response's bytes into one buffer.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use thalweg::base::ids::{Offset, PartitionIndex};
use thalweg::protocol::fetch::{self, PartitionResult};
use thalweg::protocol::produce::{
    self, PartitionResult as Produced, ProduceBatch, ProduceHead, ProduceRequest,
};
use thalweg::protocol::{ClientHeader, ErrorCode, RequestHeader, TopicRef};

const VERSIONS: [i16; 2] = [7, 9];
const PARTITIONS: [i32; 2] = [1, 100];
const BATCH_BYTES: usize = 1024;

fn produce_frame(version: i16, partitions: i32) -> Bytes {
    let batch = |partition| ProduceBatch {
        topic: TopicRef::Name("bench-topic".into()),
        partition: PartitionIndex(partition),
        records: Bytes::from(vec![7; BATCH_BYTES]),
    };
    let header = ClientHeader { version, correlation_id: 1, client_id: Some("bench") };
    let head = ProduceHead { transactional_id: None, acks: -1, timeout_ms: 30_000 };
    let batches: Vec<_> = (0..partitions).map(batch).collect();
    let slices = produce::encode_request(&header, &head, &batches).expect("a small request");
    Bytes::from(slices.concat()).slice(4..)
}

/// Parses and walks a request as a handler does, without taking references to the batches.
fn walk(body: &Bytes, version: i16) -> usize {
    let request = ProduceRequest::parse(body.clone(), version).expect("our request");
    let partitions = request.topics().flat_map(|topic| topic.partitions());
    partitions.map(|partition| partition.record_bytes().map_or(0, <[u8]>::len)).sum()
}

/// The least that finding the batches costs: hop over them by their lengths. Only for version 7,
/// where entries are an index and a 32-bit length, after `first` bytes.
fn hop(body: &[u8], first: usize) -> usize {
    let mut record_bytes = 0;
    let mut rest = &body[first..];
    while let Some((entry, after)) = rest.split_first_chunk::<8>() {
        let len = u32::from_be_bytes([entry[4], entry[5], entry[6], entry[7]]) as usize;
        record_bytes += len;
        rest = &after[len..];
    }
    record_bytes
}

fn produce_request(c: &mut Criterion) {
    let mut group = c.benchmark_group("produce_request");
    for partitions in PARTITIONS {
        let total = partitions as usize * BATCH_BYTES;
        group.throughput(Throughput::Elements(partitions as u64));
        for version in VERSIONS {
            let frame = produce_frame(version, partitions);
            let (_, body) = RequestHeader::parse(&frame).expect("our request");
            assert_eq!(walk(&body, version), total);
            let name = format!("parse_and_walk_v{version}");
            group.bench_function(BenchmarkId::new(name, partitions), |b| {
                b.iter(|| walk(black_box(&body), version));
            });
            let name = format!("with_header_and_slices_v{version}");
            group.bench_function(BenchmarkId::new(name, partitions), |b| {
                b.iter(|| {
                    let (header, body) = RequestHeader::parse(black_box(&frame)).expect("ours");
                    let request = ProduceRequest::parse(body, header.version()).expect("ours");
                    for partition in request.topics().flat_map(|topic| topic.partitions()) {
                        black_box(partition.records());
                    }
                });
            });
        }
        let frame = produce_frame(7, partitions);
        let (_, body) = RequestHeader::parse(&frame).expect("our request");
        // Transactional id, acks, timeout, topic count, name, partition count.
        let first = 2 + 2 + 4 + 4 + (2 + "bench-topic".len()) + 4;
        assert_eq!(hop(&body, first), total);
        group.bench_function(BenchmarkId::new("hop_over_lengths", partitions), |b| {
            b.iter(|| hop(black_box(&body), first));
        });
    }
    group.finish();
}

fn produce_response(c: &mut Criterion) {
    let mut group = c.benchmark_group("produce_response");
    for partitions in PARTITIONS {
        let frame = produce_frame(9, partitions);
        let (_, body) = RequestHeader::parse(&frame).expect("our request");
        let request = ProduceRequest::parse(body, 9).expect("our request");
        let head =
            produce::ResponseHead { correlation_id: 1, throttle_time_ms: 0, node_endpoints: &[] };
        group.throughput(Throughput::Elements(partitions as u64));
        group.bench_function(BenchmarkId::new("encode_v9", partitions), |b| {
            b.iter(|| {
                let results =
                    (0..partitions).map(|_| Produced::appended(Offset(5), -1, Offset::ZERO));
                produce::encode_response(black_box(&request), &head, results)
            });
        });
    }
    group.finish();
}

fn fetch_response(c: &mut Criterion) {
    let mut group = c.benchmark_group("fetch_response");
    for partitions in PARTITIONS {
        for batch_bytes in [BATCH_BYTES, 1 << 20] {
            if partitions > 1 && batch_bytes > BATCH_BYTES {
                continue;
            }
            let records = Bytes::from(vec![7; batch_bytes]);
            let results: Vec<_> = (0..partitions)
                .map(|partition| PartitionResult {
                    high_watermark: Offset(10),
                    last_stable: Offset(10),
                    log_start: Offset::ZERO,
                    records: vec![records.clone()],
                    ..PartitionResult::failed(
                        TopicRef::Name("bench-topic".into()),
                        PartitionIndex(partition),
                        ErrorCode::None,
                    )
                })
                .collect();
            let head = fetch::ResponseHead {
                correlation_id: 1,
                throttle_time_ms: 0,
                error: ErrorCode::None,
                session_id: 0,
                node_endpoints: &[],
            };
            let sent = fetch::encode_response(12, &head, results.clone()).expect("a small answer");
            let what = format!("{partitions}x{batch_bytes}");
            group.throughput(Throughput::Bytes(sent.iter().map(|s| s.len() as u64).sum()));
            group.bench_function(BenchmarkId::new("gather_v12", &what), |b| {
                b.iter_batched(
                    || results.clone(),
                    |results| fetch::encode_response(12, black_box(&head), results),
                    criterion::BatchSize::SmallInput,
                );
            });
            let mut flat = Vec::with_capacity(sent.iter().map(Bytes::len).sum());
            group.bench_function(BenchmarkId::new("memcpy_of_it", &what), |b| {
                b.iter(|| {
                    flat.clear();
                    for slice in black_box(&sent) {
                        flat.extend_from_slice(slice);
                    }
                    flat.len()
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, produce_request, produce_response, fetch_response);
criterion_main!(benches);
