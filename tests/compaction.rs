//! A running broker compacts in the background: clients read the last record of each key, before and
//! after a kill, and nothing else changes for them.

mod support;

use std::collections::HashMap;

use support::client::{Client, Stored};
use support::{Broker, until};
use thalweg::record::{BatchBuilder, Compression, StoredBatch, records};

const INVALID_RECORD: i16 = 87;

/// Looks for what may be compacted all the time.
const OFTEN: [&str; 4] =
    ["--set", "log.cleaner.backoff.ms=20", "--set", "log.retention.check.interval.ms=20"];

const COMPACTED: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "1048576"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("file.delete.delay.ms", "0"),
];

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.expect("after 1970").as_millis()).expect("before the year 292 million")
}

/// Writes rounds of 100 keys, 1,000 bytes each, and enough of others that all are in closed segments.
fn write_rounds(client: &mut Client, topic: &str, codec: Compression, rounds: usize) -> i64 {
    for round in 0..rounds {
        let mut builder = BatchBuilder::new(codec, now_ms());
        for key in 0..100 {
            let value = format!("{round} {:>990}", key * 7919 * round);
            let key = format!("key {key}");
            builder.append(now_ms(), Some(key.as_bytes()), Some(value.as_bytes()), &[]);
        }
        assert_eq!(client.produce(topic, 0, &builder.build().expect("a batch")).error, 0);
    }
    let end = client.end_offset(topic, 0);
    let value = vec![7; 600_000];
    for filler in 0..6 {
        let mut builder = BatchBuilder::new(Compression::None, now_ms());
        let key = format!("filler {filler} of {end}");
        builder.append(now_ms(), Some(key.as_bytes()), Some(&value), &[]);
        assert_eq!(client.produce(topic, 0, &builder.build().expect("a batch")).error, 0);
    }
    end
}

/// Keys and values below `upto`, with their offsets.
fn content(batches: &[Stored], upto: i64) -> Vec<(i64, String, String)> {
    let mut all = Vec::new();
    for stored in batches {
        let (batch, _) = StoredBatch::split_first(&stored.bytes).expect("a whole batch");
        let mut walk = records(batch, 4 << 20).expect("readable");
        while let Some(record) = walk.next_record() {
            let record = record.expect("readable");
            let text = |bytes: Option<&[u8]>| {
                String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
            };
            if record.offset().0 < upto {
                all.push((record.offset().0, text(record.key()), text(record.value())));
            }
        }
    }
    all
}

#[test]
fn the_last_record_of_each_key_is_what_a_reader_finds_and_a_kill_changes_nothing() {
    let home = tempfile::tempdir().expect("a directory");
    let data = home.path().join("data");
    let broker = Broker::start(&data, &OFTEN);
    let mut client = Client::connect(broker.address());
    let mut ends = HashMap::new();
    for (topic, codec) in [("plain", Compression::None), ("packed", Compression::Zstd)] {
        assert_eq!(client.create_topic(topic, 1, &COMPACTED), 0);
        ends.insert(topic, write_rounds(&mut client, topic, codec, 40));
    }
    let look = |client: &mut Client| {
        let mut seen = Vec::new();
        for topic in ["plain", "packed"] {
            seen.push(content(&client.read_all(topic, 0, 0), ends[topic]));
        }
        seen
    };
    until("100 records are left of each", || {
        look(&mut client).iter().all(|records| records.len() == 100)
    });
    let before = look(&mut client);
    for records in &before {
        let expected: Vec<i64> = (3_900..4_000).collect();
        let offsets: Vec<i64> = records.iter().map(|record| record.0).collect();
        assert_eq!(offsets, expected, "the last of each key, where it was");
        assert!(records.iter().all(|(_, _, value)| value.starts_with("39 ")));
    }
    broker.kill();
    let broker = Broker::start(&data, &OFTEN);
    let mut client = Client::connect(broker.address());
    until("as before, or compacted again", || look(&mut client) == before);
    assert_eq!(client.list_offset("plain", 0, -2).2, 0, "the log begins where it began");
}

#[test]
fn a_topic_may_be_compacted_and_cut_by_size_and_its_policy_may_change() {
    let home = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(&home.path().join("data"), &OFTEN);
    let mut client = Client::connect(broker.address());
    assert_eq!(client.create_topic("t", 1, &COMPACTED), 0);
    assert_eq!(client.set_topic_config("t", "cleanup.policy", "delete"), 0);
    let end = write_rounds(&mut client, "t", Compression::None, 40);
    // Another topic shows that the compactor has been there since.
    assert_eq!(client.create_topic("control", 1, &COMPACTED), 0);
    let control_end = write_rounds(&mut client, "control", Compression::None, 2);
    let left = |client: &mut Client| content(&client.read_all("control", 0, 0), control_end).len();
    until("the control is compacted", || left(&mut client) == 100);
    assert_eq!(content(&client.read_all("t", 0, 0), end).len(), 4_000, "nothing is compacted");
    assert_eq!(client.set_topic_config("t", "cleanup.policy", "compact,delete"), 0);
    until("100 are left", || content(&client.read_all("t", 0, 0), end).len() == 100);
    assert_eq!(client.set_topic_config("t", "retention.bytes", "2000000"), 0);
    until("the compacted part goes", || client.list_offset("t", 0, -2).2 >= end);
}

#[test]
fn a_compacted_topic_takes_no_record_without_a_key() {
    let home = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(&home.path().join("data"), &[]);
    let mut client = Client::connect(broker.address());
    assert_eq!(client.create_topic("t", 1, &COMPACTED), 0);
    let mut builder = BatchBuilder::new(Compression::Lz4, 5);
    builder.append(5, Some(b"k"), None, &[]).append(5, None, Some(b"v"), &[]);
    assert_eq!(client.produce("t", 0, &builder.build().expect("a batch")).error, INVALID_RECORD);
}
