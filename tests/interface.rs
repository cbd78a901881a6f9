//! What scripts and service managers rely on: defaults, the ready line, exit codes and what they
//! say, a stop that is bounded and clean, refusals that touch nothing, and cores that cost nothing
//! while nothing happens.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::client::{Client, batch_of};
use support::wire::Got;
use support::{Broker, failed_start, log_of, until};

/// Longest a stop may take that has only waiting clients to end.
const STOP_MAX: Duration = Duration::from_secs(3);
/// Wake-ups a second of a parked broker of one core, over all its threads: it has a timer of
/// 100 ms, and each interruption was seen to give up the core up to three times.
const IDLE_WAKE_UPS_MAX: f64 = 60.0;
/// Share of its core that a broker takes that spins instead of parking, even if the core has other
/// tenants.
const SPINNING_CPU_MIN: f64 = 0.3;

const ANY_PORT: &str = "127.0.0.1:0";

fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thalweg"));
    command.stdin(Stdio::null());
    // Whoever runs the tests may have settings of their own.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("THALWEG_")) {
        command.env_remove(name);
    }
    command
}

fn terminate(pid: u32) {
    let status = Command::new("kill").args(["-TERM", &pid.to_string()]).status();
    assert!(status.expect("kill runs").success());
}

/// The reports of all recoveries in a broker's log, the oldest first.
fn recoveries(dir: &Path) -> Vec<String> {
    let log = fs::read_to_string(log_of(dir)).expect("the log can be read");
    log.lines().filter(|line| line.contains("recovered")).map(str::to_owned).collect()
}

/// Everything in a directory but the lock: path and content.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.file_name().is_none_or(|name| name != ".lock") {
                let bytes = fs::read(&path).expect("a file");
                found.insert(path, bytes);
            }
        }
    }
    found
}

// --- defaults and outputs ------------------------------------------------------------------------

#[test]
fn defaults_are_kafkas_port_on_loopback_and_a_directory_here() {
    let out = binary().args(["config", "explain"]).output().expect("it runs");
    assert!(out.status.success());
    let text = String::from_utf8(out.stdout).expect("UTF-8");
    for line in [
        "listen = \"127.0.0.1:9092\"",
        "log.dirs = \"thalweg-data\"",
        "cores = \"\"",
        "shard.idle.spin.us = 0",
        "flush.messages = 1",
        "insecure = false",
    ] {
        let wanted = |found: &str| found == line || found == format!("log.{line}");
        let kafkas_name = line.replace("flush.messages", "log.flush.interval.messages");
        let there = text.lines().any(|found| wanted(found) || found == kafkas_name);
        assert!(there, "{line} is not in\n{text}");
    }
}

#[test]
fn start_without_flags_serves_and_keeps_its_data_here() {
    let here = tempfile::tempdir().expect("a directory");
    // Only the port differs from what a user types: 9092 may be taken on this machine.
    let mut child = binary()
        .arg("start")
        .env("THALWEG_LISTEN", ANY_PORT)
        .current_dir(here.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut ready = String::new();
    out.read_line(&mut ready).expect("a line");
    let address = ready.trim_end().strip_prefix("thalweg ready on ");
    let address: SocketAddr = address.expect("the ready line").parse().expect("an address");
    assert!(address.ip().is_loopback());
    Client::connect(address);
    assert!(here.path().join("thalweg-data/thalweg.meta").exists());
    terminate(child.id());
    let (mut more, mut log) = (String::new(), String::new());
    out.read_to_string(&mut more).expect("the rest of the output");
    let mut err = child.stderr.take().expect("piped");
    err.read_to_string(&mut log).expect("the log");
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{log}");
    assert_eq!(more, "", "one line on standard output and no other");
    assert!(log.contains("INFO") && !log.contains("thalweg ready on"), "{log}");
}

#[test]
fn explained_settings_are_a_settings_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = binary().args(["config", "explain", "--set", "num.partitions=7"]).output();
    let file = dir.path().join("all.toml");
    fs::write(&file, out.expect("it runs").stdout).expect("a file");
    let again = binary().args(["config", "explain", "--config"]).arg(&file).output();
    let again = again.expect("it runs");
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert!(String::from_utf8_lossy(&again.stdout).contains("num.partitions = 7"));
}

// --- refusals ------------------------------------------------------------------------------------

#[test]
fn wrong_settings_exit_2_and_say_what_is_right() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("wrong.toml");
    fs::write(&file, "num.partitons = 3\n").expect("a file");
    let file = file.to_str().expect("UTF-8");
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("unknown", &["--set", "num.partition=3"], &["num.partition", "num.partitions"]),
        (
            "unknown-in-file",
            &["--config", file],
            &["num.partitons", "num.partitions", "wrong.toml"],
        ),
        ("value", &["--set", "num.partitions=many"], &["num.partitions", "many"]),
        ("cores", &["--cores", "0-"], &["cores", "0-"]),
        ("no-such-cpu", &["--cores", "4095"], &["4095", "--cores"]),
        ("twice", &["--cores", "0,0"], &["0,0"]),
        ("flag", &["--core", "0"], &["--core", "--cores"]),
        ("set", &["--set", "num.partitions"], &["num.partitions"]),
        ("level", &["--set", "log.level=thalweg=loud"], &["log.level"]),
    ];
    for (name, flags, words) in cases {
        let data = dir.path().join(name);
        let (code, log) = failed_start(&data, ANY_PORT, flags);
        assert_eq!(code, 2, "{name}: {log}");
        for word in *words {
            assert!(log.contains(word), "{name}: {word:?} is not in {log:?}");
        }
    }
}

#[test]
fn other_machines_are_not_served_without_saying_so() {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, listen) in [("all", "0.0.0.0:0"), ("all-6", "[::]:0")] {
        let data = dir.path().join(name);
        let (code, log) = failed_start(&data, listen, &[]);
        assert_eq!(code, 2, "{log}");
        assert!(log.contains("--insecure"), "{log}");
        assert!(!data.exists(), "nothing was touched");
    }
    let data = dir.path().join("meant");
    let flags = ["--insecure", "--cores", "0"];
    let broker = Broker::start_on(&data, "0.0.0.0:0", &flags);
    Client::connect(SocketAddr::from(([127, 0, 0, 1], broker.address().port())));
    assert_eq!(broker.stop().code(), Some(0));
}

#[test]
fn a_directory_in_use_exits_4_and_names_its_user() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let broker = Broker::start(&data, &["--cores", "0"]);
    let (code, log) = failed_start(&data, ANY_PORT, &["--cores", "0"]);
    assert_eq!(code, 4, "{log}");
    assert!(log.contains(&format!("process {}", broker.pid())), "{log}");
    // Its user is not disturbed, and the lock goes with it, however it ends.
    Client::connect(broker.address());
    broker.kill();
    let broker = Broker::start(&data, &["--cores", "0"]);
    assert_eq!(broker.stop().code(), Some(0));
}

#[test]
fn a_port_in_use_exits_6_and_names_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let taken = TcpListener::bind(ANY_PORT).expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let (code, log) = failed_start(&dir.path().join("data"), &address, &["--cores", "0"]);
    assert_eq!(code, 6, "{log}");
    assert!(log.contains(&address), "{log}");
    // Another broker's port is in use, too, although both would share it with SO_REUSEPORT.
    let broker = Broker::start(&dir.path().join("first"), &["--cores", "0"]);
    let address = broker.address().to_string();
    let (code, log) = failed_start(&dir.path().join("second"), &address, &["--cores", "0"]);
    assert_eq!(code, 6, "{log}");
    assert!(log.contains(&address), "{log}");
}

/// A directory with a topic and records, cleanly stopped.
fn used_directory(data: &Path) {
    let broker = Broker::start(data, &["--cores", "0"]);
    let mut client = Client::connect(broker.address());
    assert_eq!(client.create_topic("kept", 1, &[]), 0);
    assert_eq!(client.produce("kept", 0, &batch_of(3, b"value").bytes()).error, 0);
    assert_eq!(broker.stop().code(), Some(0));
}

fn refused(data: &Path, flags: &[&str], what: &str) -> String {
    let before = contents(data);
    let (code, log) = failed_start(data, ANY_PORT, flags);
    assert_eq!(code, 5, "{what}: {log}");
    assert!(!log.contains("panicked"), "{what}: {log}");
    let after = contents(data);
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after), "{what}: no file comes or goes");
    // Every start is noted in the metadata before the log is looked at.
    let is_noted = |path: &Path| {
        log.contains("recovery") && path.file_name().is_some_and(|name| name == "metadata.redb")
    };
    for (path, bytes) in &before {
        let same = after[path] == *bytes || is_noted(path);
        assert!(same, "{what}: {} changes", path.display());
    }
    log
}

#[test]
fn directories_that_are_not_ours_or_damaged_exit_5_and_stay_as_they_are() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    used_directory(&data);
    let meta = data.join("thalweg.meta");
    let good = fs::read(&meta).expect("it is there");

    let log = refused(&data, &["--set", "node.id=7"], "another node's");
    assert!(log.contains("node 1 of cluster") && log.contains("node 7"), "{log}");

    let other = dir.path().join("other");
    used_directory(&other);
    let both = ["--data-dir", other.to_str().expect("UTF-8")];
    let log = refused(&data, &both, "another cluster's");
    assert!(log.contains("belongs to"), "{log}");

    let mut future = good.clone();
    future[8] = 99;
    fs::write(&meta, &future).expect("a file");
    let log = refused(&data, &[], "a future version");
    assert!(log.contains("version 99"), "{log}");

    let mut damaged = good.clone();
    damaged[30] ^= 1;
    fs::write(&meta, &damaged).expect("a file");
    assert!(refused(&data, &[], "a damaged identity").contains("thalweg.meta"));
    fs::write(&meta, &good[..20]).expect("a file");
    assert!(refused(&data, &[], "a cut identity").contains("thalweg.meta"));
    fs::remove_file(&meta).expect("it was there");
    assert!(refused(&data, &[], "content without identity").contains("thalweg.meta"));
    fs::write(&meta, &good).expect("a file");

    let metadata = data.join("metadata.redb");
    let good_metadata = fs::read(&metadata).expect("it is there");
    for (what, bytes) in [
        ("metadata of zeros", vec![0; good_metadata.len()]),
        ("metadata that is text", b"this is not a database".to_vec()),
        ("metadata cut to a half", good_metadata[..good_metadata.len() / 2].to_vec()),
    ] {
        fs::write(&metadata, &bytes).expect("a file");
        refused(&data, &[], what);
    }
    fs::remove_file(&metadata).expect("it was there");
    refused(&data, &[], "topics without metadata");
    fs::write(&metadata, &good_metadata).expect("a file");

    let broker = Broker::start(&data, &["--cores", "0"]);
    assert_eq!(Client::connect(broker.address()).end_offset("kept", 0), 3, "all is as it was");
}

#[test]
fn damaged_checkpoints_exit_5_and_stay_as_they_are() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    used_directory(&data);
    for entry in fs::read_dir(data.join("checkpoint")).expect("a directory") {
        let path = entry.expect("an entry").path();
        let mut bytes = fs::read(&path).expect("a file");
        let middle = bytes.len() / 2;
        bytes[middle..].iter_mut().for_each(|byte| *byte ^= 0x5a);
        bytes[..64.min(middle)].iter_mut().for_each(|byte| *byte ^= 0x5a);
        fs::write(&path, bytes).expect("a file");
    }
    refused(&data, &[], "no checkpoint is good");
}

// --- stop and start ------------------------------------------------------------------------------

fn stop_with_a_parked_fetch(cores: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let broker = Broker::start(&data, &["--cores", cores]);
    let mut idle = Client::connect(broker.address());
    assert_eq!(idle.create_topic("t", 4, &[]), 0);
    for partition in 0..4 {
        let batch = batch_of(2, b"value").bytes();
        assert_eq!(idle.produce("t", partition, &batch).error, 0);
    }
    let mut parked: Vec<Client> = (0..4).map(|_| Client::connect(broker.address())).collect();
    for (client, partition) in parked.iter_mut().zip(0..) {
        client.send_fetch(("t", partition, 2), 1 << 20, 60_000);
    }
    let mut half = Client::connect(broker.address());
    half.wire().send_raw(&[0, 0, 1, 0, 0]);
    // The same fetches, sent later and for a short time, have been parked and are answered.
    for partition in 0..4 {
        let mut control = Client::connect(broker.address());
        control.send_fetch(("t", partition, 2), 1 << 20, 100);
        assert!(control.fetched().is_some_and(|it| it.error == 0 && it.records.is_empty()));
    }
    let begin = Instant::now();
    let status = broker.stop();
    let took = begin.elapsed();
    println!("--cores {cores}: a stop with four fetches parked took {took:?}");
    let log = fs::read_to_string(log_of(&data)).expect("a log");
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(took < STOP_MAX, "--cores {cores}: the stop took {took:?}");
    let broker = Broker::start(&data, &["--cores", cores]);
    assert_eq!(Client::connect(broker.address()).end_offset("t", 3), 2);
    let reports = recoveries(&data);
    assert_eq!(reports.len(), 2, "{reports:?}");
    let nothing = "groups_replayed: 0, batches_replayed: 0";
    assert!(reports[1].contains(nothing), "a clean stop leaves nothing to replay: {reports:?}");
}

#[test]
fn a_stop_does_not_wait_for_long_polls_and_leaves_nothing_to_replay() {
    stop_with_a_parked_fetch("0");
}

#[test]
fn the_same_on_two_cores() {
    if std::thread::available_parallelism().is_ok_and(|count| count.get() < 2) {
        eprintln!("SKIPPED: this machine has one CPU");
        return;
    }
    stop_with_a_parked_fetch("0,1");
}

#[test]
fn a_connection_without_requests_is_closed_after_its_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let flags = ["--cores", "0", "--set", "connections.max.idle.ms=1000"];
    let broker = Broker::start(&dir.path().join("data"), &flags);
    let mut client = Client::connect(broker.address());
    assert_eq!(client.create_topic("t", 1, &[]), 0);
    // A long poll is not idleness.
    client.send_fetch(("t", 0, 0), 1 << 20, 4_000);
    let fetched = client.fetched().expect("a parked fetch is answered, not cut");
    assert_eq!(fetched.error, 0);
    assert_eq!(client.wire().receive(), Got::Closed, "then nothing more is asked");
}

#[test]
fn a_client_that_does_not_read_its_answer_does_not_spoil_the_stop() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let broker = Broker::start(&data, &["--cores", "0"]);
    let mut client = Client::connect(broker.address());
    assert_eq!(client.create_topic("t", 1, &[]), 0);
    let batch = batch_of(1, &vec![b'x'; 1_000_000]).bytes();
    for _ in 0..24 {
        assert_eq!(client.produce("t", 0, &batch).error, 0);
    }
    // More than the sockets of both ends hold.
    for _ in 0..4 {
        client.send_fetch(("t", 0, 0), 24 << 20, 0);
    }
    client.wire().wait_for_answer();
    let begin = Instant::now();
    assert_eq!(broker.stop().code(), Some(0));
    println!("a stop with answers that nobody reads took {:?}", begin.elapsed());
    assert!(begin.elapsed() < STOP_MAX + Duration::from_secs(5));
    drop(client);
}

#[test]
fn a_second_signal_does_not_spoil_the_stop() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let broker = Broker::start(&data, &["--cores", "0"]);
    terminate(broker.pid());
    terminate(broker.pid());
    assert_eq!(broker.stop().code(), Some(0));
}

/// Time from the start of the process to the first answer.
fn answers_after(data: &Path) -> (Duration, Broker) {
    let begin = Instant::now();
    let broker = Broker::start(data, &["--cores", "0"]);
    Client::connect(broker.address());
    (begin.elapsed(), broker)
}

#[test]
fn a_start_answers_soon() {
    // The number for docs/BENCHMARKS.md is made with a release build on a quiet machine; here it
    // is only printed.
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let (first, broker) = answers_after(&data);
    println!("first start: {first:?}");
    let mut client = Client::connect(broker.address());
    assert_eq!(broker.stop().code(), Some(0));
    for _ in 0..3 {
        let (empty, broker) = answers_after(&data);
        println!("start of a cleanly stopped empty directory: {empty:?}");
        client = Client::connect(broker.address());
        assert_eq!(broker.stop().code(), Some(0));
    }
    drop(client);
    let (_, broker) = answers_after(&data);
    let mut client = Client::connect(broker.address());
    assert_eq!(client.create_topic("many", 100, &[]), 0);
    for partition in 0..100 {
        assert_eq!(client.produce("many", partition, &batch_of(1, b"v").bytes()).error, 0);
    }
    assert_eq!(broker.stop().code(), Some(0));
    for _ in 0..3 {
        let (full, broker) = answers_after(&data);
        println!("start of a cleanly stopped directory with 100 partitions: {full:?}");
        assert_eq!(Client::connect(broker.address()).end_offset("many", 99), 1);
        assert_eq!(broker.stop().code(), Some(0));
    }
}

// --- what a broker costs -------------------------------------------------------------------------

/// How often the threads of a process gave up a core because they had nothing to do, and how often
/// they were made to (proc(5), `status`).
fn context_switches(pid: u32) -> [u64; 2] {
    let mut sums = [0; 2];
    for task in fs::read_dir(format!("/proc/{pid}/task")).expect("it lives") {
        // A worker thread of io_uring may end just now.
        let status = fs::read_to_string(task.expect("an entry").path().join("status"));
        for line in status.unwrap_or_default().lines() {
            let count = |name: &str| line.strip_prefix(name)?.trim().parse::<u64>().ok();
            sums[0] += count("voluntary_ctxt_switches:").unwrap_or(0);
            sums[1] += count("nonvoluntary_ctxt_switches:").unwrap_or(0);
        }
    }
    sums
}

/// Asked of the number of wake-ups and not of the time that they take, which other tenants of the
/// machine stretch. A broker that spins does not wake up; it is made to give up the core.
#[test]
fn an_idle_broker_costs_next_to_no_cpu() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let broker = Broker::start(&data, &["--cores", "0"]);
    let mut client = Client::connect(broker.address());
    assert_eq!(client.create_topic("t", 4, &[]), 0);
    assert_eq!(client.produce("t", 0, &batch_of(1, b"v").bytes()).error, 0);
    client.send_fetch(("t", 0, 1), 1 << 20, 60_000);
    // A spare journal file is written in the background after a start, and has its name when it is.
    let spare = data.join("journal/0/001.journal");
    until("the spare journal file is there", || spare.exists());
    let before = context_switches(broker.pid());
    let cpu_before = cpu_time(broker.pid());
    let begin = Instant::now();
    std::thread::sleep(Duration::from_secs(2));
    let after = context_switches(broker.pid());
    let seconds = begin.elapsed().as_secs_f64();
    let cpu = (cpu_time(broker.pid()) - cpu_before).as_secs_f64() / seconds;
    let per_second = [0, 1].map(|kind| count_of(after[kind] - before[kind]) / seconds);
    println!("idle, a fetch parked: {per_second:.0?} switches/s, {:.1} % of a core", cpu * 100.0);
    assert!(per_second[0] < IDLE_WAKE_UPS_MAX, "{} wake-ups a second", per_second[0]);
    assert!(cpu < SPINNING_CPU_MIN, "an idle broker spins: {:.0} % of a core", cpu * 100.0);
}

fn count_of(switches: u64) -> f64 {
    f64::from(u32::try_from(switches).expect("few"))
}

/// CPU time of all threads of a process.
fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let after_name = stat.rsplit(')').next().expect("a name in parentheses");
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    // utime and stime are fields 14 and 15 of proc(5), in ticks of which a second has 100; the
    // first after the name is 3.
    let ticks: u64 = fields[11..13].iter().map(|f| f.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

/// Resident memory of a process, bytes.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
}

#[test]
fn clients_that_do_not_take_their_answers_hold_no_more_than_their_share_of_memory() {
    const SLOW_CLIENTS: usize = 60;
    const MIB: u64 = 1 << 20;
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let flags = ["--cores", "0", "--set", "shard.memory.bytes=64MiB"];
    let broker = Broker::start(&data, &flags);
    let mut client = Client::connect(broker.address());
    assert_eq!(client.create_topic("t", 1, &[]), 0);
    let value = vec![7; 900_000];
    for _ in 0..20 {
        assert_eq!(client.produce("t", 0, &batch_of(1, &value).bytes()).error, 0);
    }
    assert_eq!(broker.stop().code(), Some(0));
    // Nothing is in memory after a start.
    let broker = Broker::start(&data, &flags);
    let before = resident(broker.pid());
    let mut slow: Vec<Client> = (0..SLOW_CLIENTS)
        .map(|_| {
            let mut client = Client::connect(broker.address());
            client.send_fetch(("t", 0, 0), 50 << 20, 0);
            client
        })
        .collect();
    // Each gets an answer: some of them records, the others, after a while, none.
    slow.iter_mut().for_each(|client| client.wire().wait_for_answer());
    let grown = resident(broker.pid()).saturating_sub(before) / MIB;
    println!("{SLOW_CLIENTS} clients asked for 17 MiB each: {grown} MiB more than before");
    // 16 MiB of answers, the buffers of a few reads, read-ahead, journal; 480 MiB if all were read.
    assert!(grown < 120, "{grown} MiB");
    // Others are served meanwhile, and these, once the slow ones are gone.
    let mut client = Client::connect(broker.address());
    assert_eq!(client.produce("t", 0, &batch_of(1, b"v").bytes()).error, 0);
    drop(slow);
    let fetched = client.fetch("t", 0, 0, 50 << 20);
    assert_eq!(fetched.error, 0);
    // One answer brings 8 MiB from disk at most, whatever the client allows.
    let whole = fetched.records.len() as u64;
    assert!((7 * MIB..=8 * MIB).contains(&whole), "{whole} bytes");
    assert_eq!(broker.stop().code(), Some(0));
}

/// A mounted file system that goes with the value.
struct Mounted(PathBuf);

impl Mounted {
    fn ramfs(dir: PathBuf) -> Option<Mounted> {
        fs::create_dir(&dir).expect("a directory");
        let mounted = Command::new("mount").args(["-t", "ramfs", "none"]).arg(&dir).status();
        mounted.is_ok_and(|status| status.success()).then_some(Mounted(dir))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_file_system_without_direct_io_is_used_after_one_loud_warning() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(mounted) = Mounted::ramfs(dir.path().join("ram")) else {
        eprintln!("SKIPPED: only root can mount a file system without direct I/O");
        return;
    };
    let data = mounted.0.join("data");
    let small = ["--cores", "0", "--set", "journal.file.bytes=4MiB"];
    for round in 0..2 {
        let broker = start_logging_outside(&data, &small, &dir.path().join("log"));
        let mut client = Client::connect(broker.1);
        if round == 0 {
            assert_eq!(client.create_topic("t", 1, &[]), 0);
        }
        let produced = client.produce("t", 0, &batch_of(1, b"v").bytes());
        assert_eq!((produced.error, produced.base_offset), (0, round));
        assert_eq!(client.read_all("t", 0, 0).len(), usize::try_from(round + 1).expect("few"));
        let mut child = broker.0;
        terminate(child.id());
        assert_eq!(child.wait().expect("it ends").code(), Some(0));
        let log = fs::read_to_string(dir.path().join("log")).expect("a log");
        let warnings = log.lines().filter(|line| line.contains("HAS NO DIRECT I/O")).count();
        assert_eq!(warnings, usize::try_from(round + 1).expect("few"), "{log}");
    }
}

fn start_logging_outside(data: &Path, flags: &[&str], log: &Path) -> (Child, SocketAddr) {
    let log = fs::OpenOptions::new().create(true).append(true).open(log).expect("a log file");
    let mut child = binary()
        .args(["start", "--listen", ANY_PORT, "--data-dir"])
        .arg(data)
        .args(flags)
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .expect("it runs");
    let mut line = String::new();
    let out = child.stdout.take().expect("piped");
    BufReader::new(out).read_line(&mut line).expect("a line");
    let address = line.trim().strip_prefix("thalweg ready on ");
    let address = address.unwrap_or_else(|| panic!("the broker did not start"));
    (child, address.parse().expect("an address"))
}
