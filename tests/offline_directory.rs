//! The first failed write of a data directory takes that directory offline for good, on every core,
//! and nothing else: what clients see of it is what Kafka 4.3 shows of an offline log directory.
//!
//! The directory is broken without any privilege: a file stands where its segments ought to go, so
//! that the next one cannot be made.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use support::client::{Client, LeaderSeen, batch_of};
use support::{Broker, failed_start, log_of};

const KAFKA_STORAGE_ERROR: i16 = 56;
const LEADER_NOT_AVAILABLE: i16 = 5;
const PARTITIONS: i32 = 8;
const PATIENCE: Duration = Duration::from_secs(30);

fn start(first: &Path, second: &Path) -> Broker {
    let second = second.to_str().expect("UTF-8");
    let cores = if cpus() > 1 { "0,1" } else { "0" };
    let flags = ["--data-dir", second, "--cores", cores, "--set", "journal.file.bytes=4MiB"];
    Broker::start(first, &flags)
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Puts a file where the directory's segments ought to go.
fn break_directory(dir: &Path) {
    if dir.join("topics").exists() {
        std::fs::rename(dir.join("topics"), dir.join("topics.away")).expect("moved");
    }
    std::fs::write(dir.join("topics"), "in the way").expect("written");
}

fn mend_directory(dir: &Path) {
    std::fs::remove_file(dir.join("topics")).expect("removed");
    if dir.join("topics.away").exists() {
        std::fs::rename(dir.join("topics.away"), dir.join("topics")).expect("moved back");
    }
}

/// Partitions by the data directory that holds their files, as far as they have any.
fn partitions_in(dir: &Path) -> Vec<PathBuf> {
    let Ok(topics) = std::fs::read_dir(dir.join("topics")) else { return Vec::new() };
    let topics = topics.map(|topic| topic.expect("listed").path());
    let partitions = topics.flat_map(|topic| std::fs::read_dir(topic).expect("listed"));
    partitions.map(|partition| partition.expect("listed").path()).collect()
}

/// Produces to all partitions until some are refused; returns how many batches each has
/// acknowledged, and which are refused. Nothing is acknowledged by who has refused once.
fn produce_until_refused(client: &mut Client, acked: &mut [i64]) -> Vec<i32> {
    let batch = batch_of(1, &[b'x'; 100_000]).bytes();
    let deadline = Instant::now() + PATIENCE;
    let mut refused = BTreeMap::new();
    while refused.len() < acked.len() / 2 {
        for partition in 0..PARTITIONS {
            let produced = client.produce("t", partition, &batch);
            match produced.error {
                0 => {
                    assert!(!refused.contains_key(&partition), "who has failed does not come back");
                    assert_eq!(produced.base_offset, acked[partition as usize]);
                    acked[partition as usize] += 1;
                }
                error => {
                    assert_eq!(error, KAFKA_STORAGE_ERROR);
                    refused.insert(partition, ());
                }
            }
        }
        assert!(Instant::now() < deadline, "only {refused:?} are refused");
    }
    refused.into_keys().collect()
}

fn check_refused(client: &mut Client, partition: i32) {
    let batch = batch_of(1, b"late").bytes();
    assert_eq!(client.produce("t", partition, &batch).error, KAFKA_STORAGE_ERROR);
    assert_eq!(client.fetch("t", partition, 0, 1 << 20).error, KAFKA_STORAGE_ERROR);
    for timestamp in [-1, -2, 0] {
        assert_eq!(client.list_offset("t", partition, timestamp).0, KAFKA_STORAGE_ERROR);
    }
    assert_eq!(client.delete_records("t", partition, 0), (-1, KAFKA_STORAGE_ERROR));
}

#[test]
fn a_directory_whose_write_fails_is_offline_on_every_core_and_the_others_serve() {
    let dir = tempfile::tempdir().expect("a directory");
    let (good, bad) = (dir.path().join("good"), dir.path().join("bad"));
    let broker = start(&good, &bad);
    let mut client = Client::connect(broker.address());
    assert_eq!(client.create_topic("t", PARTITIONS, &[]), 0);
    let mut acked = vec![0; PARTITIONS as usize];
    for partition in 0..PARTITIONS {
        assert_eq!(client.produce("t", partition, &batch_of(1, b"first").bytes()).error, 0);
        acked[partition as usize] = 1;
    }
    break_directory(&bad);
    let refused = produce_until_refused(&mut client, &mut acked);

    let of_all = LeaderSeen {
        error: 0,
        leader: 1,
        replicas: vec![1],
        in_sync: vec![1],
        offline: Vec::new(),
    };
    // As Kafka 4.3 was seen to answer.
    let of_offline = LeaderSeen {
        error: LEADER_NOT_AVAILABLE,
        leader: -1,
        in_sync: Vec::new(),
        offline: vec![1],
        ..of_all.clone()
    };
    let seen = client.metadata("t");
    assert_eq!(seen.error, 0, "the topic itself is there");
    for partition in 0..PARTITIONS {
        let shown = &seen.leaders[partition as usize];
        if refused.contains(&partition) {
            assert_eq!(*shown, of_offline);
            check_refused(&mut client, partition);
        } else {
            assert_eq!(*shown, of_all);
            let produced = client.produce("t", partition, &batch_of(1, b"after").bytes());
            assert_eq!(produced.error, 0, "partition {partition} is served");
            acked[partition as usize] += 1;
            let stored = client.read_all("t", partition, 0);
            assert_eq!(stored.len() as i64, acked[partition as usize]);
        }
    }

    // What is new goes where it can be written, and topics that were there can be deleted.
    assert_eq!(client.create_topic("new", 6, &[]), 0);
    for partition in 0..6 {
        let produced = client.produce("new", partition, &batch_of(1, b"new").bytes());
        assert_eq!(produced.error, 0, "new-{partition}");
    }
    assert!(client.metadata("new").leaders.iter().all(|shown| *shown == of_all));
    assert_eq!(client.delete_topic("new"), 0);
    let log = std::fs::read_to_string(log_of(&good)).expect("a log");
    assert!(log.contains("a data directory is offline"), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(broker.stop().code(), Some(7), "the stop says that a disk failed");

    mend_directory(&bad);
    let broker = start(&good, &bad);
    let mut client = Client::connect(broker.address());
    for (partition, acked) in (0..PARTITIONS).zip(acked) {
        let stored = client.read_all("t", partition, 0);
        assert!(stored.len() as i64 >= acked, "partition {partition}: {} of {acked}", stored.len());
        assert_eq!(client.produce("t", partition, &batch_of(1, b"again").bytes()).error, 0);
    }
    assert_eq!(broker.stop().code(), Some(0));
}

#[test]
fn with_every_directory_offline_nothing_can_be_created_and_the_broker_still_answers() {
    let dir = tempfile::tempdir().expect("a directory");
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let broker = start(&first, &second);
    let mut client = Client::connect(broker.address());
    assert_eq!(client.create_topic("t", PARTITIONS, &[]), 0);
    break_directory(&first);
    break_directory(&second);
    let batch = batch_of(1, &[b'x'; 100_000]).bytes();
    let deadline = Instant::now() + PATIENCE;
    while (0..PARTITIONS).any(|partition| client.produce("t", partition, &batch).error == 0) {
        assert!(Instant::now() < deadline, "not offline");
    }
    assert_eq!(client.create_topic("another", 1, &[]), KAFKA_STORAGE_ERROR);
    assert!(client.metadata("t").leaders.iter().all(|shown| shown.leader == -1));
    assert_eq!(client.set_topic_config("t", "retention.ms", "1000"), 0, "metadata is elsewhere");
    assert_eq!(broker.stop().code(), Some(7));
}

#[test]
fn new_partitions_are_spread_over_all_directories_and_cores() {
    let dir = tempfile::tempdir().expect("a directory");
    let dirs = ["a", "b", "c"].map(|name| dir.path().join(name));
    let texts = dirs.each_ref().map(|dir| dir.to_str().expect("UTF-8").to_owned());
    let flags = ["--data-dir", &texts[1], "--data-dir", &texts[2], "--cores", "0"];
    let broker = Broker::start(&dirs[0], &flags);
    let mut client = Client::connect(broker.address());
    // One large topic and many small ones: both are spread.
    assert_eq!(client.create_topic("large", 12, &[]), 0);
    for number in 0..9 {
        assert_eq!(client.create_topic(&format!("small{number}"), 1, &[]), 0);
    }
    for partition in 0..12 {
        assert_eq!(client.produce("large", partition, &batch_of(1, b"x").bytes()).error, 0);
    }
    for number in 0..9 {
        let topic = format!("small{number}");
        assert_eq!(client.produce(&topic, 0, &batch_of(1, b"x").bytes()).error, 0);
    }
    // A stop writes everything into segments, whose directories can be counted.
    assert_eq!(broker.stop().code(), Some(0));
    let counts = dirs.each_ref().map(|dir| partitions_in(dir).len());
    assert_eq!(counts, [7, 7, 7]);

    // Who has fewer comes first: a directory that is added gets the next ones.
    let fourth = dir.path().join("d");
    let with_fourth = ["--data-dir", fourth.to_str().expect("UTF-8")];
    let flags: Vec<&str> = flags.iter().chain(&with_fourth).copied().collect();
    let broker = Broker::start(&dirs[0], &flags);
    let mut client = Client::connect(broker.address());
    for number in 0..4 {
        let topic = format!("late{number}");
        assert_eq!(client.create_topic(&topic, 1, &[]), 0);
        assert_eq!(client.produce(&topic, 0, &batch_of(1, b"x").bytes()).error, 0);
    }
    assert_eq!(broker.stop().code(), Some(0));
    assert_eq!(partitions_in(&fourth).len(), 4);
    assert_eq!(dirs.each_ref().map(|dir| partitions_in(dir).len()), [7, 7, 7]);
}

#[test]
fn a_directory_that_cannot_be_used_at_the_start_refuses_it_and_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let (good, bad) = (dir.path().join("good"), dir.path().join("bad"));
    let broker = start(&good, &bad);
    let mut client = Client::connect(broker.address());
    assert_eq!(client.create_topic("t", PARTITIONS, &[]), 0);
    for partition in 0..PARTITIONS {
        assert_eq!(client.produce("t", partition, &batch_of(1, b"x").bytes()).error, 0);
    }
    broker.kill();
    break_directory(&bad);
    let text = bad.to_str().expect("UTF-8");
    let (code, log) = failed_start(&good, "127.0.0.1:0", &["--data-dir", text]);
    assert_eq!(code, 5, "{log}");
    assert!(log.contains("draining the journals failed") && log.contains(text), "{log}");
}
