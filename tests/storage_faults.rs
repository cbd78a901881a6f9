//! A full disk refuses produce with KAFKA_STORAGE_ERROR, and nothing else: reads, deletions and
//! changes go on, what was acknowledged stays so, and produce comes back without a restart.
//!
//! The full disk is a small file system of its own, which only root can mount. (Failing and lying
//! disks of every other kind are the simulated ones of `storage`'s own tests.)

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use support::client::{Client, batch_of};
use support::{Broker, log_of, until};

const KAFKA_STORAGE_ERROR: i16 = 56;
const PARTITIONS: i32 = 4;
/// More batches of 100 kB than the small file system can take.
const BATCHES_MAX: usize = 4_000;
const RESERVE_BYTES: u64 = 32 << 20;
/// What the log says when the disk gets full.
const FULL: &str = "the disk is full";

/// A file system in memory that goes with the value.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(dir: PathBuf, size: &str) -> Option<Tmpfs> {
        std::fs::create_dir(&dir).expect("a directory");
        let size = format!("size={size}");
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &size, "none"]).arg(&dir).status();
        mounted.is_ok_and(|status| status.success()).then_some(Tmpfs(dir))
    }

    fn free_bytes(&self) -> u64 {
        thalweg::io::disk::Disk::Blocking.room(&self.0).expect("mounted").free_bytes
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Two data directories, the second on a small file system of its own; `None` without root.
fn a_large_and_a_small_directory(size: &str) -> Option<(TempDir, Tmpfs, PathBuf, PathBuf)> {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(tmpfs) = Tmpfs::mount(dir.path().join("small"), size) else {
        eprintln!("SKIPPED: only root can mount a small file system");
        return None;
    };
    let (large, small) = (dir.path().join("large"), tmpfs.0.join("data"));
    Some((dir, tmpfs, large, small))
}

fn start(large: &Path, small: &Path) -> Broker {
    let small = small.to_str().expect("UTF-8");
    let reserve = format!("disk.reserve.bytes={RESERVE_BYTES}");
    let flags = ["--data-dir", small, "--cores", "0", "--set", "journal.file.bytes=4MiB"];
    let often = ["--set", "log.retention.check.interval.ms=50", "--set", &reserve];
    Broker::start(large, &[&flags[..], &often].concat())
}

struct Load {
    client: Client,
    batch: Vec<u8>,
    acked: Vec<i64>,
}

impl Load {
    fn produce(&mut self, partition: i32) -> i16 {
        let produced = self.client.produce("t", partition, &self.batch);
        if produced.error == 0 {
            let acked = &mut self.acked[partition as usize];
            assert_eq!(produced.base_offset, *acked, "offsets follow each other");
            *acked += 1;
        }
        produced.error
    }

    /// Produces to all partitions until some refuse; returns these.
    fn fill(&mut self) -> Vec<i32> {
        for _ in 0..BATCHES_MAX {
            let answers = (0..PARTITIONS).map(|partition| (partition, self.produce(partition)));
            let refused: Vec<(i32, i16)> = answers.filter(|(_, error)| *error != 0).collect();
            if !refused.is_empty() {
                assert!(refused.iter().all(|(_, error)| *error == KAFKA_STORAGE_ERROR));
                break;
            }
        }
        let refused = (0..PARTITIONS).filter(|partition| self.produce(*partition) != 0);
        let refused: Vec<i32> = refused.collect();
        assert!(!refused.is_empty(), "the small file system never was full");
        refused
    }

    fn until_taken(&mut self, partition: i32) {
        until("produce comes back", || self.produce(partition) == 0);
    }

    /// Everything but produce is as ever.
    fn check_the_rest(&mut self, full: &[i32]) {
        let seen = self.client.metadata("t");
        assert!(seen.leaders.iter().all(|shown| shown.error == 0 && shown.leader == 1));
        for partition in 0..PARTITIONS {
            let acked = self.acked[partition as usize];
            assert_eq!(self.client.end_offset("t", partition), acked);
            let fetched = self.client.fetch("t", partition, acked - 1, 1 << 20);
            assert!(fetched.error == 0 && !fetched.records.is_empty());
            let refused = self.produce(partition) != 0;
            assert_eq!(refused, full.contains(&partition), "the other directory has room");
        }
    }
}

#[test]
fn a_full_disk_refuses_produce_and_nothing_else_until_it_has_room_again() {
    let Some((_dir, tmpfs, large, small)) = a_large_and_a_small_directory("160m") else { return };
    let broker = start(&large, &small);
    let mut client = Client::connect(broker.address());
    let configs = [("file.delete.delay.ms", "0"), ("segment.bytes", "4194304")];
    assert_eq!(client.create_topic("t", PARTITIONS, &configs), 0);
    let batch = batch_of(1, &[b'x'; 100_000]).bytes();
    let mut load = Load { client, batch, acked: vec![0; PARTITIONS as usize] };

    // The reserve, reached by producing; room, made by deleting records.
    let full = load.fill();
    assert_eq!(full.len() as i32, PARTITIONS / 2, "{full:?}");
    assert!(tmpfs.free_bytes() > 0, "produce was refused before the disk was full");
    load.check_the_rest(&full);
    assert_eq!(load.client.set_topic_config("t", "retention.ms", "-1"), 0);
    assert_eq!(load.client.create_topic("new", 3, &[]), 0);
    for partition in 0..3 {
        let produced = load.client.produce("new", partition, &batch_of(1, b"x").bytes());
        assert_eq!(produced.error, 0, "what is new goes where there is room");
    }
    for partition in &full {
        let (_, error) = load.client.delete_records("t", *partition, -1);
        assert_eq!(error, 0, "records can be deleted");
    }
    full.iter().for_each(|partition| load.until_taken(*partition));

    // Somebody else takes the last byte, and gives it back.
    let ballast = tmpfs.0.join("ballast");
    let taken = std::fs::write(&ballast, vec![b'b'; 200 << 20]);
    assert!(taken.is_err() && tmpfs.free_bytes() < 4096, "the disk is full");
    let full_too = load.fill();
    assert_eq!(full_too, full);
    // What is done in the background has had its turn: on the other disk it was done.
    let configs = [("retention.ms", "50"), ("segment.bytes", "1048576")];
    assert_eq!(load.client.create_topic("control", 1, &configs), 0);
    assert_eq!(load.client.produce("control", 0, &batch_of(1, b"value").bytes()).error, 0);
    until("the control is cut", || load.client.list_offset("control", 0, -2).2 == 1);
    load.check_the_rest(&full);
    std::fs::remove_file(&ballast).expect("removed");
    full.iter().for_each(|partition| load.until_taken(*partition));

    let log = std::fs::read_to_string(log_of(&large)).expect("a log");
    let count = |what: &str| log.matches(what).count();
    assert!(count(FULL) >= 2, "{log}");
    assert_eq!(count(FULL), count("the disk has room again"), "{log}");
    assert!(log.contains("free_bytes=") && log.contains("reserve_bytes=33554432"), "{log}");
    assert_eq!(count("offline"), 0, "{log}");
    assert_eq!(count("panicked"), 0, "{log}");
    assert_eq!(broker.stop().code(), Some(0));

    let broker = start(&large, &small);
    let mut client = Client::connect(broker.address());
    for (partition, acked) in (0..PARTITIONS).zip(load.acked) {
        let start = client.list_offset("t", partition, -2).2;
        let stored = client.read_all("t", partition, start);
        assert_eq!(start + stored.len() as i64, acked, "partition {partition}");
    }
    assert_eq!(broker.stop().code(), Some(0));
}

#[test]
fn a_topic_on_a_full_disk_can_be_deleted_and_a_kill_there_loses_nothing() {
    let Some((_dir, tmpfs, large, small)) = a_large_and_a_small_directory("160m") else { return };
    let broker = start(&large, &small);
    let mut client = Client::connect(broker.address());
    assert_eq!(client.create_topic("t", PARTITIONS, &[]), 0);
    let batch = batch_of(1, &[b'x'; 100_000]).bytes();
    let mut load = Load { client, batch, acked: vec![0; PARTITIONS as usize] };
    let full = load.fill();
    broker.kill();

    // The reserve is what the next start writes its journals into.
    let broker = start(&large, &small);
    load.client = Client::connect(broker.address());
    for (partition, acked) in (0..PARTITIONS).zip(&load.acked) {
        let stored = load.client.read_all("t", partition, 0).len() as i64;
        assert_eq!(stored, *acked, "partition {partition}");
    }
    assert_eq!(load.produce(full[0]), KAFKA_STORAGE_ERROR, "it is full as before");
    assert_eq!(load.client.delete_topic("t"), 0);
    until("the topic's room is free", || tmpfs.free_bytes() >= 2 * RESERVE_BYTES);
    assert_eq!(load.client.create_topic("t", PARTITIONS, &[]), 0);
    load.acked = vec![0; PARTITIONS as usize];
    (0..PARTITIONS).for_each(|partition| load.until_taken(partition));
    assert_eq!(broker.stop().code(), Some(0));
}

#[test]
fn large_batches_on_a_disk_that_somebody_else_fills_wait_and_lose_nothing() {
    let Some((_dir, tmpfs, data, small)) = a_large_and_a_small_directory("200m") else { return };
    // Through a link, so that the broker's own log lies elsewhere.
    std::fs::create_dir(&small).expect("a directory");
    std::os::unix::fs::symlink(small, &data).expect("a link");
    let flags = ["--cores", "0", "--set", "journal.file.bytes=4MiB"];
    let no_reserve = ["--set", "disk.reserve.bytes=0"];
    let flags = [&flags[..], &no_reserve].concat();
    let broker = Broker::start(&data, &flags);
    let mut client = Client::connect(broker.address());
    assert_eq!(client.create_topic("t", PARTITIONS, &[]), 0);
    let batch = batch_of(1, &[b'x'; 1_000_000]).bytes();
    let mut load = Load { client, batch, acked: vec![0; PARTITIONS as usize] };
    for round in 0..4 {
        for _ in 0..3 {
            (0..PARTITIONS).for_each(|partition| load.until_taken(partition));
        }
        let ballast = tmpfs.0.join("ballast");
        let times_full =
            || std::fs::read_to_string(log_of(&data)).expect("a log").matches(FULL).count();
        let before = times_full();
        assert!(std::fs::write(&ballast, vec![b'b'; 300 << 20]).is_err(), "the disk is full");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                until("a write has found no room", || times_full() > before);
                std::fs::remove_file(&ballast).expect("removed");
            });
            // What is reserved for the segments takes some first.
            while ballast.exists() {
                (0..PARTITIONS).for_each(|partition| load.until_taken(partition));
            }
        });
        assert!(load.client.metadata("t").leaders.iter().all(|it| it.leader == 1), "{round}");
    }
    broker.kill();
    let log = std::fs::read_to_string(log_of(&data)).expect("a log");
    assert!(log.contains("a write failed") && !log.contains("offline"), "{log}");
    let broker = Broker::start(&data, &flags);
    let mut client = Client::connect(broker.address());
    for (partition, acked) in (0..PARTITIONS).zip(load.acked) {
        let stored = client.read_all("t", partition, 0).len() as i64;
        assert!(stored >= acked, "partition {partition}: {stored} of {acked}");
    }
    assert_eq!(broker.stop().code(), Some(0));
}
