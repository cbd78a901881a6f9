//! The prebuilt bytes against the library's own readers.

use bytes::{BufMut, Bytes, BytesMut};
use thalweg::base::varint::write_unsigned;
use thalweg::record::{BATCH_HEADER_BYTES, Compression, UncheckedBatch};

use super::batch::{BatchShape, BatchTemplate, crc_matches};
use super::fetch::{FetchLimits, FetchRequest, parse_response, walk_batches};
use super::produce::{FrameTemplate, ProducerIdentity, Send};
use super::stamp::{Stamp, StampPlaces};

fn shape(records: u32, record_bytes: usize, compression: Compression) -> BatchShape {
    BatchShape { records, record_bytes, compression, level: None, entropy: 0.5 }
}

fn stamp(intended_ns: u64) -> Stamp {
    Stamp { run: 9, lane: 3, sequence: 77, intended_ns }
}

fn send(intended_ns: u64) -> Send {
    Send {
        correlation_id: 4711,
        partition: 5,
        wall_ms: 1_700_000_000_123,
        identity: Some((ProducerIdentity { id: 42, epoch: 7 }, 1_000)),
        stamp: stamp(intended_ns),
    }
}

/// The batch inside a patched frame: what stands before the three closing tag bytes.
fn batch_of(frame: &[u8], template: &BatchTemplate) -> Bytes {
    let end = frame.len() - 3;
    Bytes::copy_from_slice(&frame[end - template.bytes().len()..end])
}

#[test]
fn a_patched_batch_is_one_that_the_broker_accepts() {
    for compression in Compression::ALL {
        for (records, bytes) in [(1, 1), (1, 16), (3, 100), (100, 1024)] {
            let template =
                BatchTemplate::build(shape(records, bytes, compression)).expect("builds");
            let frame = FrameTemplate::new("t", "c", -1, 1000, 9, &template);
            let mut bytes = BytesMut::from(frame.frame());
            for intended_ns in [0, 123_456_789, u64::MAX] {
                frame.patch(&mut bytes, &send(intended_ns));
                let batch = batch_of(&bytes, &template);
                assert!(crc_matches(&batch), "{compression:?} {records} x {bytes:?}");
                let checked = UncheckedBatch::from_produce(batch.clone())
                    .and_then(UncheckedBatch::check)
                    .expect("the broker's own check passes");
                assert_eq!(checked.record_count(), records as i32);
                let producer = checked.producer().expect("idempotent");
                assert_eq!((producer.id.0, producer.epoch.0), (42, 7));
                assert_eq!(producer.base_sequence.0, 1_000);
                assert_eq!(checked.max_timestamp(), 1_700_000_000_123);
                if let Some(at) = template.stamp_at() {
                    assert_eq!(Stamp::decode(&batch[at..]), Some(stamp(intended_ns)));
                }
            }
        }
    }
}

#[test]
fn a_stamp_is_found_where_a_codec_leaves_it_readable() {
    for compression in [Compression::None, Compression::Lz4, Compression::Snappy] {
        let template = BatchTemplate::build(shape(10, 100, compression)).expect("builds");
        assert!(template.stamp_at().is_some(), "{compression:?}");
    }
    let short = BatchTemplate::build(shape(10, 15, Compression::None)).expect("builds");
    assert_eq!(short.stamp_at(), None);
}

#[test]
fn payload_compresses_as_far_as_its_entropy_says() {
    let size = |entropy| {
        let shape = BatchShape { entropy, ..shape(100, 1024, Compression::Zstd) };
        BatchTemplate::build(shape).expect("builds").bytes().len() as f64 / (100.0 * 1024.0)
    };
    assert!(size(1.0) > 0.99);
    assert!((0.4..0.6).contains(&size(0.5)));
    assert!(size(0.0) < 0.02);
}

#[test]
fn a_higher_level_compresses_further() {
    for (compression, low, high) in [(Compression::Gzip, 1, 9), (Compression::Zstd, -50, 19)] {
        let size = |level| {
            let shape = BatchShape { level: Some(level), ..shape(100, 1000, compression) };
            BatchTemplate::build(shape).expect("builds").bytes().len()
        };
        assert!(size(high) < size(low), "{compression:?}");
    }
}

#[test]
fn a_transactional_frame_says_so_in_its_head_and_in_its_batch() {
    use thalweg::protocol::RequestHeader;
    use thalweg::protocol::produce::ProduceRequest;
    let template = BatchTemplate::build(shape(2, 64, Compression::Lz4)).expect("builds");
    let plain = FrameTemplate::new("some-topic", "bench", -1, 1500, 11, &template);
    let frame = plain.with_transactional_id("bench-1", &template);
    let mut bytes = BytesMut::from(frame.frame());
    frame.patch(&mut bytes, &send(1));
    let batch = batch_of(&bytes, &template);
    assert!(crc_matches(&batch));
    let checked = UncheckedBatch::from_produce(batch).and_then(UncheckedBatch::check);
    assert!(checked.expect("the broker's own check passes").is_transactional());
    let request = Bytes::copy_from_slice(&bytes[4..]);
    let (_, body) = RequestHeader::parse(&request).expect("header");
    let request = ProduceRequest::parse(body, 11).expect("body");
    let id = request.transactional_id().map(|id| id.to_lossy().into_owned());
    assert_eq!(id.as_deref(), Some("bench-1"));
    // Around another batch, as verify mode sends it, too.
    let other = frame.with_batch(&template);
    assert_eq!(other.frame(), frame.frame());
}

#[test]
fn a_produce_frame_reads_back_through_the_brokers_parser() {
    use thalweg::protocol::RequestHeader;
    use thalweg::protocol::produce::ProduceRequest;
    let template = BatchTemplate::build(shape(2, 64, Compression::None)).expect("builds");
    for version in 9..=12 {
        let frame = FrameTemplate::new("some-topic", "bench", -1, 1500, version, &template);
        let mut bytes = BytesMut::from(frame.frame());
        frame.patch(&mut bytes, &send(1));
        assert_eq!(bytes.len() - 4, i32::from_be_bytes(bytes[..4].try_into().expect("4")) as usize);
        let request = Bytes::copy_from_slice(&bytes[4..]);
        let (header, body) = RequestHeader::parse(&request).expect("header");
        assert_eq!((header.version(), header.correlation_id()), (version, 4711));
        let request = ProduceRequest::parse(body, version).expect("body");
        assert_eq!((request.acks(), request.timeout_ms()), (-1, 1500));
        let topics: Vec<_> = request.topics().collect();
        assert_eq!(topics.len(), 1);
        let partitions: Vec<_> = topics[0].partitions().collect();
        assert_eq!(partitions.len(), 1);
        assert_eq!(partitions[0].index().0, 5);
        assert_eq!(partitions[0].records().map(|it| it.len()), Some(template.bytes().len()));
    }
}

#[test]
fn a_fetch_answer_is_walked_to_the_last_whole_batch() {
    let template = BatchTemplate::build(shape(4, 32, Compression::None)).expect("builds");
    let frame = FrameTemplate::new("t", "c", 1, 0, 12, &template);
    let mut bytes = BytesMut::from(frame.frame());
    frame.patch(&mut bytes, &send(555));
    let mut records = batch_of(&bytes, &template).to_vec();
    let mut second = records.clone();
    second[..8].copy_from_slice(&4i64.to_be_bytes());
    records.extend_from_slice(&second);
    records.extend_from_slice(&second[..BATCH_HEADER_BYTES + 5]); // cut off, as a broker may

    let mut answer = Vec::new();
    answer.put_i32(1); // correlation id
    answer.push(0);
    answer.put_i32(0);
    answer.put_i16(0);
    answer.put_i32(0);
    answer.push(2);
    answer.extend_from_slice(&[2, b't', 2]);
    answer.put_i32(5);
    answer.put_i16(0);
    answer.put_i64(8); // high watermark
    answer.put_i64(8);
    answer.put_i64(0);
    answer.push(0); // no aborted transactions
    answer.put_i32(-1);
    write_unsigned(&mut answer, records.len() as u32 + 1);
    answer.extend_from_slice(&records);
    answer.extend_from_slice(&[0, 0, 0]);

    let places = template.stamp_at().into_iter().collect();
    let stamps = StampPlaces { run: stamp(555).run, places };
    let mut seen = Vec::new();
    let error = parse_response(&answer, |partition| {
        assert_eq!((partition.partition, partition.error), (5, 0));
        assert_eq!(partition.high_watermark, 8);
        let walked = walk_batches(partition.records, Some(&stamps), |batch| {
            seen.push((batch.base_offset, batch.next_offset, batch.record_count, batch.stamp));
        });
        assert_eq!(walked, Ok(()));
    });
    assert_eq!(error, Ok(0));
    assert_eq!(seen, [(0, 4, 4, Some(stamp(555))), (4, 8, 4, Some(stamp(555)))]);
    for cut in 0..answer.len() {
        // Whatever is missing, it is an error and not a panic.
        assert!(parse_response(&answer[..cut], |_| {}).is_err(), "cut at {cut}");
    }
}

#[test]
fn what_is_not_a_batch_is_refused() {
    let template = BatchTemplate::build(shape(1, 32, Compression::None)).expect("builds");
    let mut magic = template.bytes().to_vec();
    magic[16] = 1;
    let mut negative = template.bytes().to_vec();
    negative[8..12].copy_from_slice(&(-1i32).to_be_bytes());
    for bytes in [magic, negative] {
        assert!(walk_batches(&bytes, None, |_| {}).is_err());
    }
}

#[test]
fn a_fetch_request_reads_back_through_the_brokers_parser() {
    use thalweg::protocol::RequestHeader;
    use thalweg::protocol::fetch::FetchRequest as Parsed;
    let limits = FetchLimits {
        wait_ms: 500,
        bytes_min: 1,
        bytes_max: 1 << 20,
        partition_bytes_max: 1 << 16,
        read_committed: false,
    };
    let mut request = FetchRequest::new("bench", &[("topic", vec![3, 8])], &limits);
    let frame = Bytes::copy_from_slice(&request.patch(99, [1_000, 2_000].into_iter())[4..]);
    let (header, body) = RequestHeader::parse(&frame).expect("header");
    assert_eq!((header.version(), header.correlation_id()), (12, 99));
    let parsed = Parsed::parse(body, 12).expect("body");
    let topics: Vec<_> = parsed.topics().collect();
    let offsets: Vec<_> =
        topics[0].partitions().map(|it| (it.index().0, it.fetch_offset().0)).collect();
    assert_eq!(topics.len(), 1);
    assert_eq!(offsets, [(3, 1_000), (8, 2_000)]);
}
