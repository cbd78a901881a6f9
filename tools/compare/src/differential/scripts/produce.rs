//! Produce: versions, acks, topics and partitions, and what a batch's header may say.

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use kafka_protocol::messages::{TopicName, TransactionalId};
use uuid::Uuid;

use super::BASE_TIMESTAMP;
use crate::batch::{Batch, Record};
use crate::differential::script::{Script, produce_request, text};

pub fn run(script: &mut Script) {
    versions(script);
    refusals(script);
    headers(script);
    timestamps(script);
    sizes(script);
    compacted(script);
    compression(script);
}

fn good() -> Batch {
    Batch::of(BASE_TIMESTAMP, &[b"one", b"two", b"three"])
}

fn versions(script: &mut Script) {
    let (id, _) = script.create("produce", 2, &[]);
    let (known, missing) = (script.topic("produce"), script.topic("missing"));
    let records = Some(good().encode());
    for version in 3..=12 {
        for acks in [-1, 1] {
            let request = produce_request(acks, &known, &[(0, records.clone())]);
            script.ask(&format!("produce v{version}, acks {acks}"), version, &request);
        }
        script.produce(
            &format!("produce v{version}, missing topic"),
            version,
            &missing,
            0,
            records.clone(),
        );
        let two = produce_request(-1, &known, &[(0, records.clone()), (7, records.clone())]);
        script.ask(&format!("produce v{version}, one good, one missing"), version, &two);
    }
    for (what, id) in
        [("known id", id), ("unknown id", Uuid::from_u128(7)), ("zero id", Uuid::nil())]
    {
        let data = PartitionProduceData::default().with_index(0).with_records(records.clone());
        let topic = TopicProduceData::default().with_topic_id(id).with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(10_000)
            .with_topic_data(vec![topic]);
        script.ask(&format!("produce v13, {what}"), 13, &request);
    }
}

fn refusals(script: &mut Script) {
    let known = script.topic("produce");
    let records = Some(good().encode());
    for acks in [2, -2, i16::MAX] {
        for version in [3, 9] {
            let request = produce_request(acks, &known, &[(0, records.clone())]);
            script.ask(&format!("produce v{version}, acks {acks}"), version, &request);
        }
    }
    for partition in [-1, 2, i32::MAX] {
        script.produce(
            &format!("produce v9, partition {partition}"),
            9,
            &known,
            partition,
            records.clone(),
        );
    }
    for (what, name) in [("empty", ""), ("dots", ".."), ("slash", "a/b"), ("replaced", "a\u{fffd}")]
    {
        let name = TopicName(text(name));
        script.produce(&format!("produce v9, bad name: {what}"), 9, &name, 0, records.clone());
    }
    let twice = produce_request(-1, &known, &[(1, records.clone()), (1, records.clone())]);
    script.ask("produce v9, a partition twice", 9, &twice);
    let mut topic_twice = produce_request(-1, &known, &[(1, records.clone())]);
    topic_twice.topic_data.push(topic_twice.topic_data[0].clone());
    script.ask("produce v9, a topic twice", 9, &topic_twice);
    let nothing = ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000);
    script.ask("produce v9, no topics", 9, &nothing);
    let no_partitions = produce_request(-1, &known, &[]);
    script.ask("produce v9, no partitions", 9, &no_partitions);
    for name in ["__consumer_offsets", "__transaction_state"] {
        let name = TopicName(text(name));
        script.produce(&format!("produce v9, {}", name.as_str()), 9, &name, 0, records.clone());
    }
    let transactional = produce_request(-1, &known, &[(0, records.clone())])
        .with_transactional_id(Some(TransactionalId(text("t"))));
    script.ask("produce v9, transactional id on plain records", 9, &transactional);
    for timeout in [0, -1, i32::MIN] {
        let request = produce_request(-1, &known, &[(0, records.clone())]).with_timeout_ms(timeout);
        script.ask(&format!("produce v9, timeout {timeout}"), 9, &request);
    }
}

/// A good batch with a change, encoded.
fn with(change: fn(&mut Batch)) -> Option<Bytes> {
    let mut batch = good();
    change(&mut batch);
    Some(batch.encode())
}

/// Bytes that are not one whole batch.
fn shapes() -> Vec<(&'static str, Option<Bytes>)> {
    let two = [good().encode(), good().encode()].concat();
    let mut behind = good().encode().to_vec();
    behind.extend([0; 7]);
    let cut = good().encode();
    vec![
        ("null records", None),
        ("empty records", Some(Bytes::new())),
        ("two batches", Some(Bytes::from(two))),
        ("bytes behind the batch", Some(Bytes::from(behind))),
        ("cut in the header", Some(cut.slice(..40))),
        ("cut in the records", Some(cut.slice(..cut.len() - 3))),
        ("cut before the magic", Some(cut.slice(..12))),
    ]
}

/// Enough for all cases of [`headers`].
const HEADER_PARTITIONS: i32 = 80;

/// One batch after the other, each wrong in one field of its header, each to a partition of its
/// own: whether one is accepted says nothing about the next.
fn headers(script: &mut Script) {
    script.create("headers", HEADER_PARTITIONS, &[]);
    let known = script.topic("headers");
    let mut partitions = 0..HEADER_PARTITIONS;
    let mut next = || partitions.next().unwrap_or(HEADER_PARTITIONS);
    let mut cases = shapes();
    cases.extend([
        ("magic 0", with(|batch| batch.magic = 0)),
        ("magic 1", with(|batch| batch.magic = 1)),
        ("magic 3", with(|batch| batch.magic = 3)),
        ("magic -1", with(|batch| batch.magic = -1)),
        ("wrong CRC", with(|batch| batch.crc = Some(1))),
        ("length 0", with(|batch| batch.length = Some(0))),
        ("length 48", with(|batch| batch.length = Some(48))),
        ("length -1", with(|batch| batch.length = Some(-1))),
        ("length least", with(|batch| batch.length = Some(i32::MIN))),
        ("length greatest", with(|batch| batch.length = Some(i32::MAX))),
        ("count 0", with(|batch| batch.record_count = 0)),
        ("count -1", with(|batch| batch.record_count = -1)),
        ("count greatest", with(|batch| batch.record_count = i32::MAX)),
        ("count too small", with(|batch| batch.record_count = 2)),
        ("count too large", with(|batch| batch.record_count = 4)),
        ("last offset delta -1", with(|batch| batch.last_offset_delta = -1)),
        ("last offset delta too large", with(|batch| batch.last_offset_delta = 9)),
        (
            "count and delta greatest",
            with(|batch| {
                batch.record_count = i32::MAX;
                batch.last_offset_delta = i32::MAX - 1;
            }),
        ),
        (
            "no records at all",
            with(|batch| {
                batch.payload.clear();
                batch.record_count = 0;
                batch.last_offset_delta = -1;
            }),
        ),
        ("codec 5", with(|batch| batch.attributes = 5)),
        ("codec 7", with(|batch| batch.attributes = 7)),
        ("unknown attribute bits", with(|batch| batch.attributes = 0x4000)),
        ("control bit", with(|batch| batch.attributes = 0x20)),
        ("transactional bit", with(|batch| batch.attributes = 0x10)),
        ("delete horizon bit", with(|batch| batch.attributes = 0x40)),
        ("log append time bit", with(|batch| batch.attributes = 0x8)),
        ("base offset 77", with(|batch| batch.base_offset = 77)),
        ("base offset -5", with(|batch| batch.base_offset = -5)),
        ("leader epoch 9", with(|batch| batch.leader_epoch = 9)),
    ]);
    for (what, records) in cases {
        // Kafka 4.3 never answers null records: once is enough to wait for that.
        let versions: &[i16] = if records.is_none() { &[9] } else { &[3, 9] };
        for version in versions {
            let case = format!("produce v{version}, {what}");
            script.produce(&case, *version, &known, next(), records.clone());
        }
    }
    let zstd = with(|batch| batch.attributes = 4);
    script.produce("produce v6, zstd", 6, &known, next(), zstd.clone());
    script.produce("produce v7, bytes that are no zstd", 7, &known, next(), zstd);
    let gzip = with(|batch| batch.attributes = 1);
    script.produce("produce v9, bytes that are no gzip", 9, &known, next(), gzip);
}

fn timestamps(script: &mut Script) {
    script.create("times", 1, &[]);
    script.create(
        "times-limited",
        1,
        &[
            ("message.timestamp.before.max.ms", "3600000"),
            ("message.timestamp.after.max.ms", "3600000"),
        ],
    );
    script.create("times-append", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let now = script.now_ms;
    const HOUR: i64 = 3_600_000;
    for (what, timestamp) in [
        ("-1", -1),
        ("-2", -2),
        ("least", i64::MIN),
        ("greatest", i64::MAX),
        ("now", now),
        ("in half an hour", now + HOUR / 2),
        ("in two hours", now + 2 * HOUR),
        ("in two days", now + 48 * HOUR),
        ("two hours ago", now - 2 * HOUR),
    ] {
        for name in ["times", "times-limited", "times-append"] {
            let topic = script.topic(name);
            let records = Some(Batch::of(timestamp, &[b"x"]).encode());
            script.produce(&format!("produce v9, {name}, {what}"), 9, &topic, 0, records);
        }
    }
    let topic = script.topic("times");
    let mut batch = good();
    batch.max_timestamp = BASE_TIMESTAMP + 5;
    script.produce("produce v9, max timestamp is no record's", 9, &topic, 0, Some(batch.encode()));
    batch.max_timestamp = -1;
    script.produce("produce v9, max timestamp -1", 9, &topic, 0, Some(batch.encode()));
    batch.max_timestamp = BASE_TIMESTAMP - 5;
    script.produce("produce v9, max timestamp before base", 9, &topic, 0, Some(batch.encode()));
}

fn sizes(script: &mut Script) {
    script.create("small", 1, &[("max.message.bytes", "1000")]);
    let small = script.topic("small");
    let header = Batch::of(0, &[]).encode().len();
    // The value's length that makes the batch just as long as allowed: the record adds ten bytes.
    let fits = 1000 - header - 10;
    for len in [fits - 1, fits, fits + 1, fits + 2, 5_000] {
        let records = Batch::of(BASE_TIMESTAMP, &[&vec![7; len]]).encode();
        let case = format!("produce v9, {} bytes of at most 1000", records.len());
        script.produce(&case, 9, &small, 0, Some(records));
    }
    let large = vec![7; 1_100_000];
    let produce = script.topic("produce");
    let records = Batch::of(BASE_TIMESTAMP, &[&large]).encode();
    script.produce("produce v9, larger than the default allows", 9, &produce, 0, Some(records));
}

fn compacted(script: &mut Script) {
    script.create("compacted", 1, &[("cleanup.policy", "compact")]);
    let compacted = script.topic("compacted");
    let keyed =
        Record { key: Some(b"k".to_vec()), value: Some(b"v".to_vec()), ..Record::default() };
    let tomb = Record { value: None, ..keyed.clone() };
    let keyless = Record { key: None, ..keyed.clone() };
    for (what, records) in [
        ("keyed", vec![keyed.clone(), tomb.clone()]),
        ("keyless", vec![keyless.clone()]),
        ("keyed, keyless", vec![keyed.clone(), keyless.clone()]),
        ("keyless, keyed, keyless", vec![keyless.clone(), keyed, keyless]),
    ] {
        let batch = Batch::of_records(BASE_TIMESTAMP, &records);
        let case = format!("produce v9, compacted, {what}");
        script.produce(&case, 9, &compacted, 0, Some(batch.encode()));
        let case = format!("produce v9, compacted, gzip, {what}");
        script.produce(&case, 9, &compacted, 0, Some(batch.gzip().encode()));
    }
}

/// The topic's own compression: what is stored shows in the fetch cases.
fn compression(script: &mut Script) {
    for (name, codec) in
        [("to-gzip", "gzip"), ("to-none", "uncompressed"), ("to-producer", "producer")]
    {
        script.create(name, 1, &[("compression.type", codec)]);
        let topic = script.topic(name);
        script.produce(&format!("produce v9, plain, {name}"), 9, &topic, 0, Some(good().encode()));
        let gzip = good().gzip().encode();
        script.produce(&format!("produce v9, gzip, {name}"), 9, &topic, 0, Some(gzip));
    }
}
