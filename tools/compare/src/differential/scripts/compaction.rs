//! What compaction leaves of a log: batch by batch, record by record.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use kafka_protocol::messages::{BrokerId, FetchResponse, InitProducerIdRequest};
use kafka_protocol::records::RecordBatchDecoder;

use super::BASE_TIMESTAMP;
use crate::batch::{Batch, HEADER_BYTES, Record};
use crate::differential::normalize::Fields;
use crate::differential::script::{Outcome, Script};

/// The longest that a broker may take to compact a few megabytes.
const PATIENCE: Duration = Duration::from_secs(60);

const CONFIGS: [(&str, &str); 3] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "1048576"),
    ("min.cleanable.dirty.ratio", "0.0001"),
];

pub fn run(script: &mut Script) {
    keys(script);
    tombstones(script, "tombstones for a day", "86400000");
    tombstones(script, "tombstones for no time", "0");
    producers(script);
    both_policies(script);
}

fn pair(key: &str, value: Option<&str>) -> Record {
    Record {
        key: Some(key.as_bytes().to_vec()),
        value: value.map(|value| value.as_bytes().to_vec()),
        ..Record::default()
    }
}

fn batch(records: &[(&str, Option<&str>)]) -> Batch {
    let records: Vec<Record> = records
        .iter()
        .zip(0..)
        .map(|((key, value), delta)| Record { timestamp_delta: delta, ..pair(key, *value) })
        .collect();
    Batch::of_records(BASE_TIMESTAMP, &records)
}

/// Fills enough segments that everything before them is in closed ones. Returns where they begin.
fn close_segments(script: &mut Script, name: &str, round: usize) -> i64 {
    let before = end_of(script, name);
    let value = "f".repeat(600_000);
    for filler in 0..5 {
        script.seed(name, &batch(&[(&format!("filler {round} {filler}"), Some(&value))]));
    }
    before
}

fn end_of(script: &mut Script, name: &str) -> i64 {
    let partition = ListOffsetsPartition::default().with_timestamp(-1);
    let topic =
        ListOffsetsTopic::default().with_name(script.topic(name)).with_partitions(vec![partition]);
    let request =
        ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    let answer = script.call(7, &request);
    answer.and_then(|answer| Some(answer.topics.first()?.partitions.first()?.offset)).unwrap_or(-1)
}

/// The stored batches from an offset on.
fn fetch(script: &mut Script, name: &str, from: i64) -> Option<Bytes> {
    let partition =
        FetchPartition::default().with_fetch_offset(from).with_partition_max_bytes(8 << 20);
    let topic =
        FetchTopic::default().with_topic(script.topic(name)).with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_bytes(8 << 20)
        .with_topics(vec![topic]);
    let answer: FetchResponse = script.call(12, &request)?;
    answer.responses.first()?.partitions.first()?.records.clone()
}

/// Everything below `upto`.
fn content(script: &mut Script, name: &str, upto: i64) -> Fields {
    let (mut fields, mut next) = (BTreeMap::new(), 0);
    while next < upto {
        let Some(mut bytes) = fetch(script, name, next) else { break };
        let before = next;
        while let Some(length) = bytes.get(8..12) {
            let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
            let Some(total) = usize::try_from(length).ok().map(|len| len + 12) else { break };
            if bytes.len() < total {
                break;
            }
            let stored = bytes.split_to(total);
            let base = describe(&stored, upto, &mut fields);
            next = next.max(base + 1);
        }
        if next == before {
            break;
        }
    }
    fields
}

/// Puts a stored batch into `fields`; returns its last offset.
fn describe(stored: &Bytes, upto: i64, fields: &mut Fields) -> i64 {
    let mut header = stored.clone();
    let base = header.get_i64();
    header.advance(4 + 4 + 1 + 4);
    let attributes = header.get_i16();
    let last = base + i64::from(header.get_i32());
    let (_, max_timestamp) = (header.get_i64(), header.get_i64());
    let has_producer = header.get_i64() >= 0;
    let (epoch, sequence, count) = (header.get_i16(), header.get_i32(), header.get_i32());
    if base >= upto {
        return last;
    }
    let mut note = |what: &str, value: String| {
        fields.insert(format!("batch {base}.{what}"), value);
    };
    note("last offset", last.to_string());
    note("attributes", attributes.to_string());
    note("max timestamp", max_timestamp.to_string());
    note("producer", format!("{has_producer} {epoch} {sequence}"));
    note("records", count.to_string());
    if count == 0 {
        note("bytes", (stored.len() - HEADER_BYTES).to_string());
        return last;
    }
    match RecordBatchDecoder::decode(&mut BytesMut::from(&stored[..]).freeze()) {
        Err(error) => note("unreadable", error.to_string()),
        Ok(set) => {
            for record in set.records {
                let text = |bytes: &Option<Bytes>| {
                    let text = bytes.as_ref().map(|bytes| String::from_utf8_lossy(bytes));
                    text.map(|text| text.chars().take(40).collect::<String>())
                };
                let (key, value) = (text(&record.key), text(&record.value));
                let place = format!("record {}", record.offset);
                note(&place, format!("{} {key:?} = {value:?}", record.timestamp));
            }
        }
    }
    last
}

/// Waits until what lies below `upto` is what `is_done` wants to see, and keeps it as a case.
fn settle(
    script: &mut Script,
    case: &str,
    name: &str,
    upto: i64,
    is_done: impl Fn(&Fields) -> bool,
) {
    let deadline = Instant::now() + PATIENCE;
    let mut found = content(script, name, upto);
    while !is_done(&found) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
        found = content(script, name, upto);
    }
    script.outcomes.push((format!("compaction, {case}"), Outcome::Answer(found)));
}

fn has(fields: &Fields, offset: i64) -> bool {
    let suffix = format!(".record {offset}");
    fields.keys().any(|path| path.ends_with(&suffix))
}

fn keys(script: &mut Script) {
    script.create("compact-keys", 1, &CONFIGS);
    let name = "compact-keys";
    script.seed(name, &batch(&[("a", Some("1")), ("b", Some("1")), ("a", Some("2"))])); // 0..=2
    script.seed(name, &batch(&[("c", Some("1")), ("b", Some("2"))]).gzip()); // 3, 4
    script.seed(name, &batch(&[("d", Some("1"))])); // 5: goes as a whole
    script.seed(name, &batch(&[("d", Some("2")), ("", Some("empty key"))])); // 6, 7
    script.seed(name, &batch(&[("e", Some("only"))])); // 8: stays as it is
    script.seed(name, &batch(&[("c", Some("2")), ("f", Some("1")), ("f", Some("2"))]).gzip());
    let upto = close_segments(script, name, 0);
    settle(script, "keys", name, upto, |found| !has(found, 0));
    script.seed(name, &batch(&[("e", Some("again")), ("g", Some("1"))]));
    let upto = close_segments(script, name, 1);
    settle(script, "keys, second pass", name, upto, |found| !has(found, 8));
}

fn tombstones(script: &mut Script, name: &str, retention_ms: &str) {
    let topic = format!("compact-{}", retention_ms);
    let configs: Vec<_> =
        CONFIGS.into_iter().chain([("delete.retention.ms", retention_ms)]).collect();
    script.create(&topic, 1, &configs);
    script.seed(&topic, &batch(&[("a", Some("1")), ("b", Some("1")), ("c", None)])); // 0..=2
    script.seed(&topic, &batch(&[("a", None), ("b", Some("2"))])); // 3, 4
    script.seed(&topic, &batch(&[("d", None)]).gzip()); // 5
    let upto = close_segments(script, &topic, 0);
    settle(script, &format!("{name}, first pass"), &topic, upto, |found| !has(found, 0));
    let upto = upto.min(6);
    let stays = retention_ms != "0";
    script.seed(&topic, &batch(&[("b", Some("3"))]));
    close_segments(script, &topic, 1);
    settle(script, &format!("{name}, second pass"), &topic, upto, |found| {
        !has(found, 4) && (stays || !has(found, 3))
    });
}

fn producers(script: &mut Script) {
    let name = "compact-producers";
    script.create(name, 1, &CONFIGS);
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(i32::MAX);
    let mut ids = Vec::new();
    for _ in 0..200 {
        let answer = script.call(4, &request).filter(|answer| answer.error_code == 0);
        ids.extend(answer.map(|answer| answer.producer_id.0));
        if ids.len() == 2 {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let [first, second] = ids[..] else {
        script.troubles.push("compaction: no producer ids".to_owned());
        return;
    };
    for sequence in 0..3 {
        script.seed(name, &batch(&[("a", Some("first"))]).by(first, 0, sequence)); // 0, 1, 2
    }
    script.seed(name, &batch(&[("a", Some("x")), ("b", Some("x"))]).gzip().by(second, 0, 0)); // 3, 4
    script.seed(name, &batch(&[("a", Some("of none")), ("b", Some("of none"))])); // 5, 6
    let upto = close_segments(script, name, 0);
    settle(script, "producers", name, upto, |found| !has(found, 0));
    // What was emptied still makes a duplicate of a duplicate.
    let batch = batch(&[("a", Some("x")), ("b", Some("x"))]).gzip().by(second, 0, 0);
    let topic = script.topic(name);
    script.produce("compaction, a retry of what is gone", 9, &topic, 0, Some(batch.encode()));
}

fn both_policies(script: &mut Script) {
    let name = "compact-delete";
    let configs: Vec<_> = CONFIGS
        .into_iter()
        .filter(|(name, _)| *name != "cleanup.policy")
        .chain([("cleanup.policy", "compact,delete")])
        .collect();
    script.create(name, 1, &configs);
    script.seed(name, &batch(&[("a", Some("1")), ("a", Some("2"))]));
    let upto = close_segments(script, name, 0);
    settle(script, "compacted and deleted", name, upto, |found| !has(found, 0));
}
