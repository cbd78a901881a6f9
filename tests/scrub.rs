//! A broker's scrub: damage in a closed segment is found without anybody reading it, said with file
//! and position, never sent, and the rest is served.

mod support;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use support::client::{Client, batch_of};
use support::{Broker, log_of, until};

const KAFKA_STORAGE_ERROR: i16 = 56;
const BATCHES: i64 = 60;

/// The oldest segment of the only partition that there is.
fn first_segment(data: &Path) -> PathBuf {
    let topic = std::fs::read_dir(data.join("topics")).expect("listed").next().expect("a topic");
    topic.expect("listed").path().join("0").join("00000000000000000000.log")
}

/// Turns one bit of the third block of 100 kB or so; returns where.
fn rot(segment: &Path) -> u64 {
    let file = std::fs::File::options().read(true).write(true).open(segment).expect("opened");
    let mut header = [0; 80];
    let mut pos = 0;
    for _ in 0..2 {
        file.read_exact_at(&mut header, pos).expect("read");
        assert_eq!(&header[..4], b"TWSB");
        let payload = u32::from_le_bytes(header[28..32].try_into().expect("4"));
        pos += (80 + u64::from(payload)).next_multiple_of(4096);
    }
    let mut byte = [0];
    file.read_exact_at(&mut byte, pos + 1000).expect("read");
    file.write_all_at(&[byte[0] ^ 4], pos + 1000).expect("written");
    file.sync_all().expect("synced");
    pos
}

fn filled(data: &Path, flags: &[&str]) -> (Broker, Client) {
    let small =
        ["--cores", "0", "--set", "journal.file.bytes=4MiB", "--set", "read.cache.bytes=1MiB"];
    let broker = Broker::start(data, &[&small[..], flags].concat());
    let mut client = Client::connect(broker.address());
    assert_eq!(client.create_topic("t", 1, &[("segment.bytes", "1048576")]), 0);
    for number in 0..BATCHES {
        let produced = client.produce("t", 0, &batch_of(1, &[b'x'; 100_000]).bytes());
        assert_eq!((produced.error, produced.base_offset), (0, number));
    }
    (broker, client)
}

/// The first line of a broker's log that contains `what`, as soon as there is one.
fn wait_for(data: &Path, what: &str) -> String {
    let mut found = None;
    until(what, || {
        let log = std::fs::read_to_string(log_of(data)).expect("a log");
        found = log.lines().find(|line| line.contains(what)).map(str::to_owned);
        found.is_some()
    });
    found.expect("just found")
}

#[test]
fn rotten_bits_are_found_by_the_scrub_with_file_and_position_and_never_sent() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let (broker, mut client) = filled(&data, &["--set", "scrub.interval.ms=50"]);
    let segment = first_segment(&data);
    wait_for(&data, "everything is as it was written");
    let pos = rot(&segment);
    let line = wait_for(&data, "the scrub found damage");
    assert!(line.contains(segment.to_str().expect("UTF-8")), "{line}");
    let place = line.split("pos=").nth(1).and_then(|rest| rest.split(' ').next()).expect("a place");
    let place: u64 = place.parse().expect("a number");
    assert!((pos..pos + 1000).contains(&place), "{line}: {pos}");
    wait_for(&data, "there is damage");

    // The damaged batch alone is kept back.
    let mut kept_back = 0;
    for offset in 0..BATCHES {
        let fetched = client.fetch("t", 0, offset, 1 << 10);
        match fetched.error {
            0 => assert!(!fetched.records.is_empty(), "{offset}"),
            error => {
                assert_eq!((error, fetched.records.len()), (KAFKA_STORAGE_ERROR, 0));
                kept_back += 1;
            }
        }
    }
    assert_eq!(kept_back, 1);
    assert_eq!(client.produce("t", 0, &batch_of(1, b"more").bytes()).error, 0);
    assert_eq!(broker.stop().code(), Some(0), "damage is no reason to stop badly");
}

#[test]
fn a_scrub_that_is_switched_off_reads_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let (broker, mut client) = filled(&data, &["--set", "scrub.interval.ms=0"]);
    rot(&first_segment(&data));
    // By the time that another broker's scrub has found the same, this one would have, too.
    let control_data = dir.path().join("control");
    let (control, _) = filled(&control_data, &["--set", "scrub.interval.ms=50"]);
    rot(&first_segment(&control_data));
    wait_for(&control_data, "the scrub found damage");
    assert_eq!(control.stop().code(), Some(0));
    assert_eq!(client.read_all("t", 0, 10).len() as i64, BATCHES - 10);
    let log = std::fs::read_to_string(log_of(&data)).expect("a log");
    assert!(!log.contains("scrub"), "{log}");
    assert_eq!(broker.stop().code(), Some(0));
}
