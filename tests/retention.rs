//! Old records go from a running broker, by age, by size and on request, and do not come back.

mod support;

use std::path::Path;

use support::batch::RawBatch;
use support::client::{Client, batch_of};
use support::{Broker, until};

const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const POLICY_VIOLATION: i16 = 44;

/// Looks for what may go all the time.
const OFTEN: [&str; 2] = ["--set", "log.retention.check.interval.ms=20"];

fn earliest(client: &mut Client, topic: &str) -> i64 {
    let (error, _, offset) = client.list_offset(topic, 0, -2);
    assert_eq!(error, 0);
    offset
}

fn megabytes(client: &mut Client, topic: &str, count: usize) {
    let batch: RawBatch = batch_of(1, &vec![7; 500_000]);
    for _ in 0..2 * count {
        assert_eq!(client.produce(topic, 0, &batch.bytes()).error, 0);
    }
}

/// Bytes of segment files.
fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_below(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

#[test]
fn deleted_records_stay_deleted_after_a_kill() {
    let home = tempfile::tempdir().expect("a directory");
    let data = home.path().join("data");
    let broker = Broker::start(&data, &[]);
    let mut client = Client::connect(broker.address());
    assert_eq!(client.create_topic("t", 2, &[]), 0);
    for _ in 0..10 {
        assert_eq!(client.produce("t", 0, &batch_of(3, b"value").bytes()).error, 0);
    }
    assert_eq!(client.delete_records("t", 0, 7), (7, 0));
    assert_eq!(earliest(&mut client, "t"), 7);
    assert_eq!(client.fetch("t", 0, 6, 1 << 20).error, OFFSET_OUT_OF_RANGE);
    assert_eq!(client.read_all("t", 0, 7).first().map(|batch| batch.base_offset), Some(6));
    assert_eq!(client.delete_records("t", 0, 3), (7, 0), "never back");
    assert_eq!(client.delete_records("t", 0, 31), (-1, OFFSET_OUT_OF_RANGE));
    assert_eq!(client.delete_records("t", 0, -2), (-1, OFFSET_OUT_OF_RANGE));
    assert_eq!(client.delete_records("t", 2, 0), (-1, UNKNOWN_TOPIC_OR_PARTITION));
    assert_eq!(client.delete_records("none", 0, 0), (-1, UNKNOWN_TOPIC_OR_PARTITION));
    broker.kill();
    let broker = Broker::start(&data, &[]);
    let mut client = Client::connect(broker.address());
    assert_eq!(earliest(&mut client, "t"), 7);
    assert_eq!(client.delete_records("t", 0, -1), (30, 0));
    assert_eq!(client.produce("t", 0, &batch_of(1, b"next").bytes()).base_offset, 30);
    broker.kill();
    let broker = Broker::start(&data, &[]);
    let mut client = Client::connect(broker.address());
    assert_eq!((earliest(&mut client, "t"), client.end_offset("t", 0)), (30, 31));
}

#[test]
fn records_of_a_compacted_topic_are_not_deleted_on_request() {
    let home = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(&home.path().join("data"), &[]);
    let mut client = Client::connect(broker.address());
    assert_eq!(client.create_topic("compact", 1, &[("cleanup.policy", "compact")]), 0);
    assert_eq!(client.create_topic("both", 1, &[("cleanup.policy", "compact,delete")]), 0);
    assert_eq!(client.delete_records("compact", 0, 0), (-1, POLICY_VIOLATION));
    assert_eq!(client.delete_records("both", 0, 0), (0, 0));
}

#[test]
fn old_segments_go_by_size_with_their_files() {
    let home = tempfile::tempdir().expect("a directory");
    let data = home.path().join("data");
    let broker = Broker::start(&data, &OFTEN);
    let mut client = Client::connect(broker.address());
    let small = [("segment.bytes", "1048576"), ("file.delete.delay.ms", "0")];
    let configs = [small[0], small[1], ("retention.bytes", "3000000")];
    assert_eq!(client.create_topic("small", 1, &configs), 0);
    megabytes(&mut client, "small", 20);
    // Segments of two batches, 20 of them: the last three hold no more than is kept.
    until("the log shrinks", || earliest(&mut client, "small") >= 34);
    let start = earliest(&mut client, "small");
    assert_eq!(start, 34, "retention.bytes are kept");
    until("the files go", || bytes_below(&data.join("topics")) < 8_000_000);
    let kept = client.read_all("small", 0, start);
    assert_eq!(kept.last().map(|batch| batch.last_offset), Some(39));
    assert_eq!(client.fetch("small", 0, start - 1, 1 << 20).error, OFFSET_OUT_OF_RANGE);
    broker.kill();
    let broker = Broker::start(&data, &[]);
    let mut client = Client::connect(broker.address());
    assert!(earliest(&mut client, "small") >= start, "the start never goes back");
    assert_eq!(client.end_offset("small", 0), 40);
}

#[test]
fn a_change_of_retention_takes_effect_without_a_restart_and_the_whole_log_may_go() {
    let home = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(&home.path().join("data"), &OFTEN);
    let mut client = Client::connect(broker.address());
    assert_eq!(client.create_topic("t", 1, &[]), 0);
    assert_eq!(client.create_topic("kept", 1, &[("cleanup.policy", "compact")]), 0);
    for topic in ["t", "kept"] {
        let mut builder = thalweg::record::BatchBuilder::new(thalweg::record::Compression::None, 0);
        builder.append(0, Some(b"key"), Some(b"value"), &[]);
        let batch = builder.build_batch().expect("a batch");
        assert_eq!(client.produce(topic, 0, batch.bytes()).error, 0);
    }
    // Another topic shows that retention has been there since.
    assert_eq!(client.create_topic("control", 1, &[("retention.ms", "50")]), 0);
    assert_eq!(client.produce("control", 0, &batch_of(1, b"value").bytes()).error, 0);
    until("the control is cut", || earliest(&mut client, "control") == 1);
    assert_eq!(earliest(&mut client, "t"), 0, "a timestamp from 1970 deletes nothing");
    assert_eq!(client.set_topic_config("t", "retention.ms", "100"), 0);
    assert_eq!(client.set_topic_config("kept", "retention.ms", "100"), 0);
    until("the segment that is written to goes, too", || earliest(&mut client, "t") == 1);
    assert_eq!(client.produce("t", 0, &batch_of(1, b"next").bytes()).base_offset, 1);
    assert_eq!(earliest(&mut client, "kept"), 0, "compacted logs are not cut by age");
}
