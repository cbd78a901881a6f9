//! The tool on the directory of a real broker: running, killed, damaged; and on what is none.

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::client::{Client, batch_of};
use support::{BROKER_DIR, Broker, dump, serve};

/// Large enough for the large lane.
const LARGE: usize = 900 << 10;

#[test]
#[ignore = "the broker that the other tests start and kill"]
fn a_broker() {
    let dir = std::env::var(BROKER_DIR).expect("told by the test that starts it");
    serve(&dir);
}

fn start(dir: &Path) -> Broker {
    Broker::start(dir, "a_broker")
}

/// What record `number` of a topic says: some small, some large.
fn value(number: usize) -> Vec<u8> {
    let mut value = format!("record {number} ").into_bytes();
    let len = if number % 4 == 3 { LARGE + number } else { 20 + number };
    value.resize(len, b'a' + (number % 26) as u8);
    value
}

/// Produces the records `numbers` of topic `orders`, one a batch.
fn produce(client: &mut Client, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let produced = client.produce("orders", 0, &batch_of(1, &value(number)).bytes());
        assert_eq!((produced.error, produced.base_offset), (0, number as i64));
    }
}

/// A directory of a killed broker with `count` records in topic `orders`.
fn killed(count: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = start(dir.path());
    let mut client = Client::connect(broker.address());
    assert_eq!(client.create_topic("orders", 1, &[]), 0);
    produce(&mut client, 0..count);
    broker.kill();
    dir
}

/// A directory of a killed broker that has used its large lane, and how many records it has.
/// Large batches go there once a segment was begun, which the broker does when it likes.
fn killed_with_large() -> (tempfile::TempDir, usize) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = start(dir.path());
    let mut client = Client::connect(broker.address());
    assert_eq!(client.create_topic("orders", 1, &[]), 0);
    let mut count = 0;
    loop {
        produce(&mut client, count..count + 12);
        count += 12;
        // While it runs.
        let (_, out, _) = dump(dir.path(), &["--journal", "0"]);
        if out.contains("segment extent orders-0") {
            break;
        }
        assert!(count < 600, "the large lane is never used");
    }
    broker.kill();
    (dir, count)
}

fn lines(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect()
}

fn of_type<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == kind).collect()
}

#[test]
fn the_records_of_a_killed_broker_are_those_that_were_produced() {
    let (dir, count) = killed_with_large();
    let limit = (LARGE + 100).to_string();
    let flags = ["--topic", "orders", "--partition", "0", "--records", "--json"];
    let (code, out, err) = dump(dir.path(), &[&flags[..], &["--value-bytes", &limit]].concat());
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let lines = lines(&out);
    let records = of_type(&lines, "record");
    assert_eq!(records.len(), count);
    for (number, record) in records.iter().enumerate() {
        assert_eq!(record["offset"], number);
        assert_eq!(record["key"]["text"], "key");
        let expected = String::from_utf8(value(number)).expect("text");
        assert!(record["value"]["text"] == expected, "record {number}");
    }
    let batches = of_type(&lines, "batch");
    assert!(batches.iter().all(|batch| batch["is_valid"] == true));
    assert!(batches.iter().any(|batch| batch["in"] == "large lane"), "{batches:?}");
    let (code, out, _) = dump(dir.path(), &["--topic", "orders", "--offsets", "3..5", "--records"]);
    assert_eq!(code, 0);
    let shown: Vec<&str> = out.lines().filter(|line| line.starts_with("| offset:")).collect();
    assert_eq!(shown.len(), 2, "{out}");
    assert!(shown[0].contains("offset: 3 ") && shown[0].contains("bytes more)"), "{}", shown[0]);
    assert!(shown[1].ends_with(&String::from_utf8(value(4)).expect("text")), "{}", shown[1]);
}

#[test]
fn the_summary_and_the_journal_of_a_killed_broker_are_sound() {
    let (dir, count) = killed_with_large();
    let (code, out, err) = dump(dir.path(), &["--verify"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("log orders-0 (id "), "{out}");
    assert!(out.contains(&format!("offsets 0 to {count} (exclusive)")), "{out}");
    assert!(out.lines().last().is_some_and(|it| it.starts_with("verdict: sound")), "{out}");
    assert!(out.contains("no broker uses it"), "{out}");
    let (code, out, _) = dump(dir.path(), &["--journal", "0", "--json"]);
    assert_eq!(code, 0);
    let lines = lines(&out);
    let entries = of_type(&lines, "entry");
    assert!(entries.iter().any(|it| it["kind"] == "segment extent"), "{out}");
    assert!(entries.iter().any(|it| it["kind"] == "append" && it["name"] == "orders-0"), "{out}");
    // And a start agrees.
    let broker = start(dir.path());
    assert_eq!(Client::connect(broker.address()).end_offset("orders", 0), count as i64);
    let (_, out, _) = dump(dir.path(), &[]);
    let who = format!("a broker (process {}) uses it", broker.pid());
    assert!(out.contains(&who), "{out}");
}

#[test]
fn damage_ends_with_exit_code_3_and_names_file_byte_and_offsets() {
    let dir = killed(8);
    let journal = dir.path().join("journal/0/000.journal");
    let file = fs::OpenOptions::new().read(true).write(true).open(&journal).expect("open");
    let (code, out, _) = dump(dir.path(), &["--journal", "0", "--json"]);
    assert_eq!(code, 0);
    let lines = lines(&out);
    // The first small batch of ours: a later group knew that it was durable.
    let mut entries = of_type(&lines, "entry").into_iter();
    let ours = entries.find(|it| it["kind"] == "append" && it["name"] == "orders-0");
    let pos = ours.expect("an append")["pos"].as_u64().expect("a number") + 70;
    let mut byte = [0];
    file.read_exact_at(&mut byte, pos).expect("read");
    file.write_all_at(&[byte[0] ^ 8], pos).expect("write");
    let (code, out, _) = dump(dir.path(), &[]);
    assert_eq!(code, 3, "{out}");
    let told = out.lines().find(|line| line.trim_start().starts_with("damaged: byte "));
    let told = told.expect("a finding");
    assert!(told.contains("offsets 0 to 0") && told.contains("its CRC does not match"), "{told}");
    assert!(out.contains("journal/0/000.journal"), "{out}");
    file.write_all_at(&byte, pos).expect("write back");
    assert_eq!(dump(dir.path(), &["--strict"]).0, 0);
}

#[test]
fn wrong_flags_and_what_is_no_data_directory_are_refused() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (code, _, err) = dump(dir.path(), &[]);
    assert_eq!(code, 1);
    assert!(err.contains("is no data directory"), "{err}");
    let missing: PathBuf = dir.path().join("missing");
    assert_eq!(dump(&missing, &[]).0, 1);
    for flags in [
        &["--records"][..],
        &["--offsets", "1..2"],
        &["--topic", "t", "--offsets", "7..2"],
        &["--topic", "t", "--journal", "0"],
        &["--nonsense"],
    ] {
        assert_eq!(dump(dir.path(), flags).0, 2, "{flags:?}");
    }
    fs::create_dir_all(dir.path().join("journal/3")).expect("create");
    let (code, out, err) = dump(dir.path(), &["--journal", "7"]);
    assert_eq!(code, 3, "without thalweg.meta a directory is not sound: {out}");
    assert!(err.contains("no journal of shard 7; there are: 3"), "{err}");
    let (code, _, err) = dump(dir.path(), &["--topic", "orders"]);
    assert_eq!(code, 3);
    assert!(err.contains("names are not known"), "{err}");
}

#[test]
fn random_bytes_in_every_file_are_refused_and_never_end_in_a_panic() {
    let dir = killed(8);
    let mut files = Vec::new();
    let mut folders = vec![dir.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    let mut state = 1_u64;
    for path in files.iter().filter(|path| !path.ends_with(".lock")) {
        let kept = fs::read(path).expect("read");
        if kept.is_empty() {
            continue; // the broker was killed when it had just begun a segment
        }
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        })
        .take(kept.len().min(50_000))
        .collect();
        fs::write(path, &noise).expect("write");
        for flags in [&["--verify"][..], &["--topic", "orders", "--records"]] {
            let (code, out, err) = dump(dir.path(), flags);
            assert!([0, 1, 3].contains(&code), "{}: {out}{err}", path.display());
            assert!(!err.contains("panicked"), "{}: {err}", path.display());
            let is_told = code != 0 || out.contains("stale") || out.contains("torn");
            assert!(is_told, "{} {flags:?}: {out}", path.display());
        }
        fs::write(path, &kept).expect("write back");
    }
}
