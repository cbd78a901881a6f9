//! A disk that fails takes its partitions offline and nothing else: what was acknowledged stays
//! acknowledged, what cannot be written is refused with KAFKA_STORAGE_ERROR, the broker stays up.
//!
//! The full disk is a small file system of its own, which only root can mount. (Failing and lying
//! disks of every other kind are the simulated ones of `storage`'s own tests.)

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::client::{Client, batch_of};
use support::{Broker, log_of};

const KAFKA_STORAGE_ERROR: i16 = 56;
const PARTITIONS: i32 = 4;
/// More batches of 100 kB than the small file system can take.
const BATCHES_MAX: usize = 2_000;

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

    fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        let status = Command::new("mount").args(["-o", &options]).arg(&self.0).status();
        assert!(status.expect("mount runs").success());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn start(large: &Path, small: &Path) -> Broker {
    let small = small.to_str().expect("UTF-8");
    let flags = ["--data-dir", small, "--cores", "0", "--set", "journal.file.bytes=4MiB"];
    Broker::start(large, &flags)
}

/// Produces to all partitions until one refuses; returns how many each has acknowledged, and who
/// refuses.
fn fill(client: &mut Client) -> (Vec<i64>, Vec<bool>) {
    let batch = batch_of(1, &[b'x'; 100_000]).bytes();
    let mut acked = vec![0; PARTITIONS as usize];
    let mut offline = vec![false; PARTITIONS as usize];
    for _ in 0..BATCHES_MAX {
        for (index, partition) in (0..PARTITIONS).enumerate() {
            let produced = client.produce("t", partition, &batch);
            match produced.error {
                0 => {
                    assert!(!offline[index], "who has failed does not come back");
                    assert_eq!(produced.base_offset, acked[index], "offsets follow each other");
                    acked[index] += 1;
                }
                error => {
                    assert_eq!(error, KAFKA_STORAGE_ERROR);
                    offline[index] = true;
                }
            }
        }
        if offline.contains(&true) {
            return (acked, offline);
        }
    }
    panic!("the small file system never was full");
}

#[test]
fn a_full_disk_takes_its_partitions_offline_and_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(tmpfs) = Tmpfs::mount(dir.path().join("small"), "40m") else {
        eprintln!("SKIPPED: only root can mount a small file system");
        return;
    };
    let (large, small) = (dir.path().join("large"), tmpfs.0.join("data"));
    let broker = start(&large, &small);
    let mut client = Client::connect(broker.address());
    assert_eq!(client.create_topic("t", PARTITIONS, &[]), 0);
    let (acked, offline) = fill(&mut client);
    println!("acknowledged before the disk was full: {acked:?}, offline: {offline:?}");

    // All partitions of the failed directory are offline, the others and the broker go on.
    let batch = batch_of(1, b"after").bytes();
    let mut healthy = 0;
    for partition in 0..PARTITIONS {
        let error = client.produce("t", partition, &batch).error;
        assert!(error == 0 || error == KAFKA_STORAGE_ERROR, "partition {partition}: {error}");
        let fetched = client.fetch("t", partition, 0, 1 << 20).error;
        assert!(fetched == error || fetched == 0, "partition {partition}: fetch says {fetched}");
        healthy += i32::from(error == 0);
    }
    assert!(healthy > 0 && healthy < PARTITIONS, "{healthy} of {PARTITIONS} are healthy");
    assert_eq!(client.create_topic("another", 1, &[]), 0, "topics can be created");
    let log = std::fs::read_to_string(log_of(&large)).expect("a log");
    let lines = log.lines().filter(|line| line.contains("offline")).count();
    assert_eq!(lines, 1, "one line says it:\n{log}");
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(broker.stop().code(), Some(7), "the stop says that a disk failed");

    // With room again, the next start has everything that was acknowledged.
    tmpfs.resize("200m");
    let broker = start(&large, &small);
    let mut client = Client::connect(broker.address());
    for (partition, acked) in (0..PARTITIONS).zip(acked) {
        let stored = client.read_all("t", partition, 0);
        assert!(stored.len() as i64 >= acked, "partition {partition}: {} of {acked}", stored.len());
        assert_eq!(client.produce("t", partition, &batch).error, 0, "and takes more");
    }
    assert_eq!(broker.stop().code(), Some(0));
}
