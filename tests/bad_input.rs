//! Bad input gets the right Kafka error or a closed connection, costs no memory beyond what arrived,
//! and everybody else keeps being served. The numbers are those of the catalogue of bad input that
//! this project keeps; each line of a table is one case.

mod support;

use std::time::Duration;

use support::Broker;
use support::batch::{RawBatch, record, record_with_headers, varint};
use support::wire::{Body, Got, Wire, header};

const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
const LIST_OFFSETS: i16 = 2;
const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;
const CREATE_TOPICS: i16 = 19;
const DELETE_TOPICS: i16 = 20;
const INIT_PRODUCER_ID: i16 = 22;
const OFFSET_FOR_LEADER_EPOCH: i16 = 23;

/// Memory that the whole suite may cost a broker beyond what it had.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

struct Stage {
    broker: Broker,
    _dir: tempfile::TempDir,
}

fn stage(flags: &[&str]) -> Stage {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let broker = Broker::start(&dir.path().join("data"), flags);
    Stage { broker, _dir: dir }
}

impl Stage {
    fn wire(&self) -> Wire {
        Wire::connect(self.broker.address())
    }

    fn create(&self, topic: &str, configs: &[(&str, &str)]) {
        assert_eq!(create_topic(&mut self.wire(), topic, 1, 1, configs), 0, "{topic} is created");
    }

    /// A well-behaved client gets an answer.
    fn still_serves(&self, after: &str) {
        let mut answer = self.wire().call(API_VERSIONS, 0, false, &[]);
        assert_eq!(answer.i16(), 0, "after {after}: others are served");
    }
}

// --- requests ------------------------------------------------------------------------------------

fn create_topic(
    wire: &mut Wire,
    topic: &str,
    partitions: i32,
    replication: i16,
    configs: &[(&str, &str)],
) -> i16 {
    create_bytes(wire, topic.as_bytes(), partitions, replication, configs)
}

fn create_bytes(
    wire: &mut Wire,
    topic: &[u8],
    partitions: i32,
    replication: i16,
    configs: &[(&str, &str)],
) -> i16 {
    let mut body = Body::new().i32(1).string(topic).i32(partitions).i16(replication).i32(0);
    body = body.i32(i32::try_from(configs.len()).expect("few"));
    for (name, value) in configs {
        body = body.string(name).string(value);
    }
    let body = body.i32(10_000).i8(0);
    let mut answer = wire.call(CREATE_TOPICS, 2, false, &body.0);
    answer.skip(4); // throttle
    assert_eq!(answer.i32(), 1);
    let name_len = answer.i16();
    answer.skip(usize::try_from(name_len).expect("a name"));
    answer.i16()
}

fn produce_body(topic: &str, partition: i32, acks: i16, records: Option<&[u8]>) -> Vec<u8> {
    let body = Body::new().null_string().i16(acks).i32(5000).i32(1).string(topic).i32(1);
    let body = body.i32(partition);
    match records {
        None => body.i32(-1).0,
        Some(records) => body.bytes(records).0,
    }
}

struct Produced {
    error: i16,
    base_offset: i64,
}

fn produce(wire: &mut Wire, version: i16, body: &[u8]) -> Produced {
    let mut answer = wire.call(PRODUCE, version, false, body);
    assert_eq!(answer.i32(), 1);
    answer.string();
    assert_eq!(answer.i32(), 1);
    answer.i32();
    Produced { error: answer.i16(), base_offset: answer.i64() }
}

fn fetch(wire: &mut Wire, topic: &str, offset: i64, limits: (i32, i32, i32)) -> i16 {
    let (wait_ms, bytes_min, bytes_max) = limits;
    let body = Body::new().i32(-1).i32(wait_ms).i32(bytes_min).i32(bytes_max).i8(0).i32(1);
    let body = body.string(topic).i32(1).i32(0).i64(offset).i32(bytes_max);
    let mut answer = wire.call(FETCH, 4, false, &body.0);
    answer.skip(4);
    assert_eq!(answer.i32(), 1);
    answer.string();
    assert_eq!(answer.i32(), 1);
    answer.i32();
    answer.i16()
}

// --- frames and headers --------------------------------------------------------------------------

#[test]
fn frames_that_are_none_close_the_connection() {
    let stage = stage(&["--cores", "0"]);
    let cases: &[(u32, &str, Vec<u8>)] = &[
        (1, "length -1", (-1_i32).to_be_bytes().to_vec()),
        (2, "length -2^31", i32::MIN.to_be_bytes().to_vec()),
        (3, "length 0", 0_i32.to_be_bytes().to_vec()),
        (4, "shorter than a header", [&7_i32.to_be_bytes()[..], &[0; 7]].concat()),
        (5, "length 2^31-1", i32::MAX.to_be_bytes().to_vec()),
        (6, "one over the limit", (100 * 1024 * 1024 + 1_i32).to_be_bytes().to_vec()),
        // 8, the smaller limit before authentication, comes with authentication: without it every
        // connection is as authenticated as it will ever be, and may begin with a large produce.
        (10, "TLS ClientHello", vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01]),
        (11, "HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ];
    for (number, what, bytes) in cases {
        let mut wire = stage.wire();
        wire.send_raw(bytes);
        assert_eq!(wire.receive(), Got::Closed, "case {number}: {what}");
    }
    stage.still_serves("bad frames");
}

#[test]
fn headers_that_are_none_close_the_connection() {
    let stage = stage(&["--cores", "0"]);
    let ok = |api: i16, version: i16| header(api, version, false, 1);
    let with_client_len = |len: i16| {
        let mut bytes = ok(METADATA, 1);
        bytes.truncate(8);
        [bytes, len.to_be_bytes().to_vec(), b"abc".to_vec()].concat()
    };
    let flexible_with = |tags: &[u8]| {
        let mut bytes = header(METADATA, 9, true, 1);
        bytes.pop();
        [bytes, tags.to_vec()].concat()
    };
    let cases: &[(u32, &str, Vec<u8>)] = &[
        (13, "unknown api key", ok(9999, 0)),
        (14, "api key -1", ok(-1, 0)),
        (15, "version 32767", ok(METADATA, 32767)),
        (16, "version -1", ok(METADATA, -1)),
        (18, "client id longer than the frame", with_client_len(1000)),
        (19, "2^32-1 tagged fields", flexible_with(&[0xff, 0xff, 0xff, 0xff, 0x0f])),
        (20, "a tagged field longer than the frame", flexible_with(&[1, 0, 0xff, 0x7f])),
        (21, "descending tags", flexible_with(&[2, 5, 0, 4, 0])),
        (22, "a varint of six bytes", flexible_with(&[0x80, 0x80, 0x80, 0x80, 0x80, 0])),
        (25, "an API between brokers", ok(52, 0)),
    ];
    for (number, what, frame) in cases {
        let mut wire = stage.wire();
        wire.send_frame(frame);
        assert_eq!(wire.receive(), Got::Closed, "case {number}: {what}");
    }
    stage.still_serves("bad headers");
}

#[test]
fn odd_but_legal_headers_are_answered() {
    let stage = stage(&["--cores", "0"]);
    // 15: ApiVersions in an unknown version is answered in version 0 with error 35 and one entry.
    let mut answer = stage.wire().call(API_VERSIONS, 32767, true, &[]);
    assert_eq!(answer.i16(), 35, "case 15");
    assert_eq!((answer.i32(), answer.i16(), answer.i16(), answer.i16()), (1, 18, 0, 4));
    assert!(answer.rest().is_empty(), "case 15: exactly version 0");
    // 17: a client software name of illegal characters.
    let body = Body::new().compact("bad name!").compact("1.0").no_tags();
    let mut answer = stage.wire().call(API_VERSIONS, 3, true, &body.0);
    assert_eq!(answer.i16(), 42, "case 17");
    // 18: a null client id, and one of 32 KiB.
    for client in [None, Some(vec![b'x'; 32_000])] {
        let mut frame = Body::new().i16(API_VERSIONS).i16(0).i32(5);
        frame = match &client {
            None => frame.null_string(),
            Some(id) => frame.string(id),
        };
        let mut wire = stage.wire();
        wire.send_frame(&frame.0);
        assert!(matches!(wire.receive(), Got::Frame(_)), "case 18");
    }
    // 24: a negative correlation id is echoed.
    let mut wire = stage.wire();
    wire.send_frame(&header(API_VERSIONS, 0, false, -7));
    let Got::Frame(frame) = wire.receive() else { panic!("case 24: an answer") };
    assert_eq!(frame[..4], (-7_i32).to_be_bytes(), "case 24");
}

#[test]
fn bodies_that_lie_close_the_connection() {
    let stage = stage(&["--cores", "0"]);
    let produce_head = || Body::new().null_string().i16(1).i32(1000);
    type Case = (u32, &'static str, i16, i16, bool, Vec<u8>);
    let cases: &[Case] = &[
        (31, "array of 2^31-1", METADATA, 1, false, Body::new().i32(i32::MAX).0),
        (31, "the same, produce", PRODUCE, 7, false, produce_head().i32(i32::MAX).0),
        (32, "array of -2", METADATA, 1, false, Body::new().i32(-2).0),
        (33, "null where an array must be", PRODUCE, 9, true, vec![0, 0, 1, 0, 0, 0, 0, 0, 0]),
        (34, "more elements than bytes", PRODUCE, 7, false, produce_head().i32(1 << 20).0),
        (35, "string longer than the rest", METADATA, 1, false, Body::new().i32(1).i16(99).0),
        (31, "compact array bomb", METADATA, 12, true, vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0]),
    ];
    for (number, what, api, version, flexible, body) in cases {
        let got = stage.wire().try_call(*api, *version, *flexible, body);
        assert_eq!(got, Got::Closed, "case {number}: {what}");
    }
    stage.still_serves("bodies that lie");
    // 23: bytes behind a body are ignored, as Kafka does; librdkafka sends some.
    let body = Body::new().i32(0).raw(b"xyz").0;
    let got = stage.wire().try_call(METADATA, 1, false, &body);
    assert!(matches!(got, Got::Frame(_)), "case 23: {got:?}");
}

#[test]
fn a_client_that_never_reads_is_held_to_a_bound() {
    let stage = stage(&["--cores", "0"]);
    let before = stage.broker.resident_bytes();
    let mut wire = stage.wire();
    let request = header(API_VERSIONS, 0, false, 1);
    let mut burst = Vec::new();
    for _ in 0..10_000 {
        burst.extend_from_slice(&i32::try_from(request.len()).expect("short").to_be_bytes());
        burst.extend_from_slice(&request);
    }
    wire.send_raw(&burst);
    stage.still_serves("case 26: 10,000 requests whose answers nobody reads");
    assert!(stage.broker.resident_bytes() < before + GROWTH_BYTES_MAX, "case 26");
    for _ in 0..10_000 {
        assert!(matches!(wire.receive(), Got::Frame(_)), "case 26: all are answered in the end");
    }
}

// --- names and topics ----------------------------------------------------------------------------

#[test]
fn topics_that_cannot_be_are_refused_with_kafkas_codes() {
    let stage = stage(&["--cores", "0"]);
    stage.create("taken.name", &[]);
    let long = "x".repeat(250);
    let names: &[(u32, &[u8], i16)] = &[
        (37, b"", 17),
        (38, b".", 17),
        (39, b"..", 17),
        (40, b"../../etc", 17),
        (40, b"a/b", 17),
        (41, long.as_bytes(), 17),
        (42, b"bad\xff\xfename", 17),
        (43, b"nul\0name", 17),
        (44, b"taken_name", 17),
    ];
    for (number, name, code) in names {
        let got = create_bytes(&mut stage.wire(), name, 1, 1, &[]);
        assert_eq!(got, *code, "case {number}: {:?}", String::from_utf8_lossy(name));
    }
    type Shape = (u32, i32, i16, &'static [(&'static str, &'static str)], i16);
    let shapes: &[Shape] = &[
        (51, 0, 1, &[], 37),
        (51, -5, 1, &[], 37),
        (52, 1, 0, &[], 38),
        (52, 1, 32767, &[], 38),
        (54, 1, 1, &[("no.such.config", "1")], 40),
        (54, 1, 1, &[("retention.ms", "soon")], 40),
        (54, 1, 1, &[("segment.bytes", "-1")], 40),
    ];
    for (number, partitions, replication, configs, code) in shapes {
        let got = create_topic(&mut stage.wire(), "shape", *partitions, *replication, configs);
        assert_eq!(got, *code, "case {number}: {partitions} x {replication} {configs:?}");
    }
    stage.still_serves("bad topics");
}

#[test]
fn repeated_names_and_unknown_topics_are_refused() {
    let stage = stage(&["--cores", "0", "--set", "auto.create.topics.enable=false"]);
    stage.create("there", &[]);
    // 45: the same topic twice in one CreateTopics.
    let one = || Body::new().string("twice").i32(1).i16(1).i32(0).i32(0).0;
    let body = Body::new().i32(2).raw(&one()).raw(&one()).i32(1000).i8(0);
    let mut answer = stage.wire().call(CREATE_TOPICS, 2, false, &body.0);
    answer.skip(4);
    assert!(answer.i32() >= 1);
    answer.string();
    assert_eq!(answer.i16(), 42, "case 45");
    // Deleting what is not there.
    let body = Body::new().i32(1).string("missing").i32(1000);
    let mut answer = stage.wire().call(DELETE_TOPICS, 1, false, &body.0);
    answer.skip(8);
    answer.string();
    assert_eq!(answer.i16(), 3);
    // 47: a partition twice in ListOffsets.
    let ask = || Body::new().i32(0).i64(-1).0;
    let body = Body::new().i32(-1).i32(1).string("there").i32(2).raw(&ask()).raw(&ask());
    let mut answer = stage.wire().call(LIST_OFFSETS, 1, false, &body.0);
    answer.skip(4);
    answer.string();
    answer.skip(8);
    assert_eq!(answer.i16(), 42, "case 47");
    // 49: partitions that are not there; 92: a timestamp without a meaning.
    for (number, partition, timestamp, code) in
        [(49, -1, -1_i64, 3), (49, i32::MAX, -1, 3), (92, 0, -99, 35)]
    {
        let body = Body::new().i32(-1).i32(1).string("there").i32(1).i32(partition).i64(timestamp);
        let mut answer = stage.wire().call(LIST_OFFSETS, 1, false, &body.0);
        answer.skip(4);
        answer.string();
        answer.skip(8);
        assert_eq!(answer.i16(), code, "case {number}");
    }
    // 48, 49: produce to nowhere.
    let batch = RawBatch::of(1).bytes();
    for (number, topic, partition, code) in
        [(49, "there", -1, 3), (49, "there", 7, 3), (48, "__consumer_offsets", 0, 3)]
    {
        let body = produce_body(topic, partition, 1, Some(&batch));
        assert_eq!(produce(&mut stage.wire(), 7, &body).error, code, "case {number}: {topic}");
    }
    // Metadata does not create what it may not.
    let body = Body::new().i32(1).string("missing").i8(1);
    let answer = stage.wire().call(METADATA, 4, false, &body.0);
    assert!(!answer.rest().is_empty());
    stage.still_serves("unknown topics");
}

// --- batches -------------------------------------------------------------------------------------

#[test]
fn batches_that_break_the_format_are_refused_by_default() {
    let stage = stage(&["--cores", "0"]);
    stage.create("t", &[]);
    stage.create("small", &[("max.message.bytes", "1000")]);
    let with = |change: &dyn Fn(&mut RawBatch)| {
        let mut batch = RawBatch::of(3);
        change(&mut batch);
        batch.bytes()
    };
    let day_ms = 24 * 3600 * 1000;
    let two = [RawBatch::of(1).bytes(), RawBatch::of(1).bytes()].concat();
    let cases: &[(u32, &str, Vec<u8>, i16)] = &[
        (60, "two batches", two, 87),
        (61, "magic 0", with(&|b| b.magic = 0), 87),
        (61, "magic 1", with(&|b| b.magic = 1), 87),
        (61, "magic 3", with(&|b| b.magic = 3), 87),
        (62, "length 48", with(&|b| b.length = Some(48)), 2),
        (62, "length beyond the bytes", with(&|b| b.length = Some(1 << 20)), 2),
        (63, "length -1", with(&|b| b.length = Some(-1)), 2),
        (64, "wrong CRC", with(&|b| b.crc = Some(1)), 2),
        (65, "2^31-1 records", with(&|b| b.count = i32::MAX), 87),
        (66, "no records", with(&|b| b.count = 0), 87),
        (66, "-1 records", with(&|b| b.count = -1), 87),
        (67, "count and delta differ", with(&|b| b.last_offset_delta = 7), 87),
        (68, "negative delta", with(&|b| b.last_offset_delta = -1), 87),
        (75, "codec 5", with(&|b| b.attributes = 5), 76),
        (75, "codec 7", with(&|b| b.attributes = 7), 76),
        (82, "control batch", with(&|b| b.attributes = 0x20), 87),
        (
            83,
            "producer id without sequence",
            with(&|b| (b.producer_id, b.producer_epoch) = (5, 0)),
            87,
        ),
        (85, "negative producer epoch", with(&|b| (b.producer_id, b.base_sequence) = (5, 0)), 47),
        (87, "two days ahead", with(&|b| b.max_timestamp += 2 * day_ms), 32),
        (87, "LogAppendTime from a producer", with(&|b| b.attributes = 0x08), 32),
    ];
    for (number, what, batch, code) in cases {
        let body = produce_body("t", 0, -1, Some(batch));
        let got = produce(&mut stage.wire(), 7, &body).error;
        assert_eq!(got, *code, "case {number}: {what}");
    }
    let body = produce_body("t", 0, -1, None);
    assert_eq!(produce(&mut stage.wire(), 7, &body).error, 87, "case 59: null records");
    let body = produce_body("t", 0, 2, Some(&RawBatch::of(1).bytes()));
    assert_eq!(produce(&mut stage.wire(), 7, &body).error, 21, "case 58: acks=2");
    let mut large = RawBatch::of(1);
    large.payload = record(0, None, &[b'x'; 2000]);
    let body = produce_body("small", 0, -1, Some(&large.bytes()));
    assert_eq!(produce(&mut stage.wire(), 7, &body).error, 10, "case 89: max.message.bytes");
    let body = produce_body("t", 0, 0, Some(&with(&|b| b.crc = Some(1))));
    assert_eq!(stage.wire().try_call(PRODUCE, 7, false, &body), Got::Closed, "acks=0 and an error");
    // 90: what the client says of offset and epoch is not believed; nothing before was appended.
    let claims = with(&|b| (b.base_offset, b.leader_epoch) = (1 << 40, 77));
    let produced = produce(&mut stage.wire(), 7, &produce_body("t", 0, -1, Some(&claims)));
    assert_eq!((produced.error, produced.base_offset), (0, 0), "case 90");
    stage.still_serves("bad batches");
}

#[test]
fn sequences_follow_each_other_or_are_refused() {
    let stage = stage(&["--cores", "0"]);
    stage.create("t", &[]);
    let mut wire = stage.wire();
    let mut answer = wire.call(INIT_PRODUCER_ID, 0, false, &Body::new().null_string().i32(0).0);
    answer.skip(4);
    assert_eq!(answer.i16(), 0);
    let producer_id = answer.i64();
    let mut send = |sequence: i32, epoch: i16| {
        let mut batch = RawBatch::of(2);
        (batch.producer_id, batch.producer_epoch, batch.base_sequence) =
            (producer_id, epoch, sequence);
        produce(&mut wire, 7, &produce_body("t", 0, -1, Some(&batch.bytes())))
    };
    let first = send(0, 0);
    assert_eq!((first.error, first.base_offset), (0, 0));
    let second = send(2, 0);
    assert_eq!((second.error, second.base_offset), (0, 2));
    assert_eq!(send(9, 0).error, 45, "case 86: a gap");
    let again = send(0, 0);
    assert_eq!((again.error, again.base_offset), (0, 0), "case 86: a duplicate, where it was");
    assert_eq!(send(0, 1).error, 0, "a newer epoch starts anew");
    assert_eq!(send(4, 0).error, 47, "case 85: an older epoch");
}

#[test]
fn records_that_break_the_format_are_refused_with_full_validation() {
    let stage = stage(&["--cores", "0", "--set", "record.validation=full"]);
    stage.create("t", &[]);
    stage.create("compacted", &[("cleanup.policy", "compact")]);
    let of = |payload: Vec<u8>, count: i32| RawBatch { payload, ..RawBatch::of(count) }.bytes();
    let three = |a: i32, b: i32, c: i32| {
        [record(a, None, b"v"), record(b, None, b"v"), record(c, None, b"v")].concat()
    };
    let mut negative_len = varint(-5);
    negative_len.extend_from_slice(&[0; 8]);
    let cases: &[(u32, &str, Vec<u8>, &[i16])] = &[
        (69, "deltas descend", of(three(2, 1, 0), 3), &[87]),
        (69, "deltas repeat", of(three(0, 0, 1), 3), &[87]),
        (70, "negative record length", of(negative_len, 1), &[87, 2]),
        (70, "record beyond the batch", of(varint(5000), 1), &[87, 2]),
        (71, "negative header count", of(record_with_headers(0, &varint(-1)), 1), &[87]),
        (71, "more headers than bytes", of(record_with_headers(0, &varint(1000)), 1), &[87]),
        (
            72,
            "null header key",
            of(record_with_headers(0, &[varint(1), varint(-1)].concat()), 1),
            &[87],
        ),
        (74, "bytes after the last record", of([three(0, 1, 2), vec![0; 9]].concat(), 3), &[87]),
    ];
    for (number, what, batch, codes) in cases {
        let body = produce_body("t", 0, -1, Some(batch));
        let got = produce(&mut stage.wire(), 7, &body).error;
        assert!(codes.contains(&got), "case {number}: {what}: got {got}, want one of {codes:?}");
    }
    let keyless = RawBatch { payload: record(0, None, b"v"), ..RawBatch::of(1) }.bytes();
    let body = produce_body("compacted", 0, -1, Some(&keyless));
    assert_eq!(produce(&mut stage.wire(), 7, &body).error, 87, "case 88: no key");
    stage.still_serves("bad records");
}

#[test]
fn compressed_lies_cost_no_memory() {
    let stage = stage(&["--cores", "0", "--set", "record.validation=full"]);
    stage.create("t", &[]);
    let before = stage.broker.resident_bytes();
    let packed = |codec: i16, payload: Vec<u8>| {
        RawBatch { attributes: codec, payload, ..RawBatch::of(1) }.bytes()
    };
    let bomb = {
        use std::io::Write;
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        for _ in 0..512 {
            writer.write_all(&vec![0; 1 << 20]).expect("memory");
        }
        writer.finish().expect("memory")
    };
    let xerial = |chunk_len: i32| {
        let mut out = vec![0x82];
        out.extend_from_slice(b"SNAPPY\0");
        out.extend_from_slice(&1_i32.to_be_bytes());
        out.extend_from_slice(&1_i32.to_be_bytes());
        out.extend_from_slice(&chunk_len.to_be_bytes());
        out
    };
    let lz4_bad = vec![0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x00, 1, 2, 3];
    let zstd_window = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 0x00, 0x00, 0x00];
    let cases: &[(u32, &str, Vec<u8>, &[i16])] = &[
        (77, "gzip bomb of 512 MiB", packed(1, bomb), &[10, 87]),
        (78, "snappy chunk of 2^31-1", packed(2, xerial(i32::MAX)), &[2, 87]),
        (78, "snappy chunk of -1", packed(2, xerial(-1)), &[2, 87]),
        (79, "lz4 with a wrong header checksum", packed(3, lz4_bad), &[2, 87]),
        (80, "zstd with a huge window", packed(4, zstd_window), &[2, 10, 87]),
        (79, "gzip that is none", packed(1, b"not gzip".to_vec()), &[2, 87]),
    ];
    for (number, what, batch, codes) in cases {
        let body = produce_body("t", 0, -1, Some(batch));
        let got = produce(&mut stage.wire(), 7, &body).error;
        assert!(codes.contains(&got), "case {number}: {what}: got {got}, want one of {codes:?}");
    }
    let zstd = packed(4, vec![0; 32]);
    let body = produce_body("t", 0, -1, Some(&zstd));
    assert_eq!(produce(&mut stage.wire(), 6, &body).error, 76, "case 76: zstd before Produce 7");
    assert!(stage.broker.resident_bytes() < before + GROWTH_BYTES_MAX, "cases 77-80: memory");
    stage.still_serves("compressed lies");
}

// --- fetch ---------------------------------------------------------------------------------------

#[test]
fn fetches_outside_the_log_are_refused_and_limits_are_clamped() {
    let stage = stage(&["--cores", "0"]);
    stage.create("t", &[]);
    let body = produce_body("t", 0, -1, Some(&RawBatch::of(3).bytes()));
    assert_eq!(produce(&mut stage.wire(), 7, &body).error, 0);
    let sane = (0, 1, 1 << 20);
    for (number, offset, limits, code) in [
        (91, -1, sane, 1),
        (91, i64::MIN, sane, 1),
        (91, 4, sane, 1),
        (91, 3, sane, 0),
        (95, 0, (0, 1, 0), 0),
        (95, 0, (0, 1, -5), 0),
        (95, 0, (0, i32::MAX, i32::MAX), 0),
        (95, 0, (i32::MIN, 1, 1 << 20), 0),
    ] {
        let got = fetch(&mut stage.wire(), "t", offset, limits);
        assert_eq!(got, code, "case {number}: offset {offset} {limits:?}");
    }
    // 94: a client that claims to be a replica.
    let body = Body::new().i32(3).i32(0).i32(1).i32(1000).i8(0).i32(1).string("t").i32(1);
    let body = body.i32(0).i64(0).i32(1000);
    let mut answer = stage.wire().call(FETCH, 4, false, &body.0);
    answer.skip(8);
    answer.string();
    answer.skip(8);
    assert_eq!(answer.i16(), 31, "case 94");
    // 93: leader epochs; 98: epochs that never were.
    for (number, current, epoch, code, end) in
        [(93, 99, 0, 75, -1_i64), (98, -1, 50, 0, -1), (98, -1, -1, 0, -1)]
    {
        let body = Body::new().i32(-1).i32(1).string("t").i32(1).i32(0).i32(current).i32(epoch);
        let mut answer = stage.wire().call(OFFSET_FOR_LEADER_EPOCH, 3, false, &body.0);
        answer.skip(8);
        answer.string();
        answer.skip(4);
        assert_eq!(answer.i16(), code, "case {number}");
        answer.skip(8);
        assert_eq!(answer.i64(), end, "case {number}");
    }
    stage.still_serves("bad fetches");
}

#[test]
fn a_dribbling_client_does_not_hold_up_the_others() {
    let stage = stage(&["--cores", "0"]);
    // 7, 9: a frame that never ends, and a length that never ends.
    let mut slow = stage.wire().with_patience(Duration::from_millis(50));
    slow.send_raw(&400_000_i32.to_be_bytes());
    slow.send_raw(&[0; 10]);
    let mut slower = stage.wire();
    slower.send_raw(&[0, 0]);
    for _ in 0..20 {
        stage.still_serves("cases 7 and 9");
    }
    assert_eq!(slow.receive(), Got::Nothing, "it is waited for, up to its time");
}
