//! `compare-brokers` as people run it, with null brokers of known capacity in both roles.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use thalweg_bench::run::allowed_cpus;

const BENCH: &str = env!("CARGO_BIN_EXE_thalweg-bench");

/// Programs that look like `thalweg` and `java`, and are null brokers.
struct StandIns {
    folder: tempfile::TempDir,
    thalweg: SocketAddr,
}

impl StandIns {
    /// Thalweg's takes `thalweg_capacity` records a second, Kafka's `kafka_capacity`.
    fn new(thalweg_capacity: &str, kafka_capacity: &str) -> StandIns {
        let folder = tempfile::tempdir().expect("a folder");
        let free = TcpListener::bind("127.0.0.1:0").expect("binds");
        let thalweg = free.local_addr().expect("has an address");
        let broker = format!("exec {BENCH} null-broker --keep --idle park --core {}", cpus().0);
        let port = thalweg.port();
        script(
            &folder.path().join("thalweg"),
            &format!(
                "[ \"$1\" = --version ] && {{ echo stand-in 1.0; exit; }}\n\
                 (until : </dev/tcp/127.0.0.1/{port}; do sleep 0.05; done\n\
                 echo thalweg ready on {thalweg}) 2>/dev/null &\n\
                 {broker} --listen {thalweg} --capacity {thalweg_capacity} >/dev/null"
            ),
        );
        script(
            &folder.path().join("java"),
            &format!(
                "case \"$*\" in\n\
                 -version) echo 'openjdk version \"0\"' >&2 ;;\n\
                 *StorageTool*) ;;\n\
                 *-XX:+UseG1GC*kafka.Kafka*)\n\
                 address=$(sed -n 's|^listeners=PLAINTEXT://\\([^,]*\\),.*|\\1|p' server.properties)\n\
                 {broker} --listen $address --capacity {kafka_capacity} ;;\n\
                 *) echo \"unexpected: $*\" >&2; exit 1 ;;\n\
                 esac"
            ),
        );
        fs::create_dir_all(folder.path().join("jars")).expect("makes it");
        fs::write(folder.path().join("jars/kafka_2.13-9.9.9.jar"), "").expect("writes");
        fs::create_dir_all(folder.path().join("scratch")).expect("makes it");
        StandIns { folder, thalweg }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, flags: &str) -> Command {
        self.command_but(flags, ("", ""))
    }

    /// The command with one of its flags replaced.
    fn command_but(&self, flags: &str, (replaced, value): (&str, &str)) -> Command {
        let path = |name: &str| self.path(name).to_string_lossy().into_owned();
        let (broker_core, load_core) = cpus();
        let mut command = Command::new(BENCH);
        command.args(["compare-brokers", "--idle", "park", "--settle", "50ms"]);
        for (flag, usual) in [
            ("--kafka", path("jars")),
            ("--thalweg", path("thalweg")),
            ("--java", path("java")),
            ("--dir", path("scratch")),
            ("--broker-core", broker_core.to_string()),
            ("--load-core", load_core.to_string()),
        ] {
            command.args([flag, if flag == replaced { value } else { usual.as_str() }]);
        }
        command.args(flags.split_whitespace());
        command
    }

    /// The comparison as JSON and as Markdown.
    fn compare(&self, flags: &str, workload: &str) -> (Value, String) {
        let (json, markdown) = (self.path("out.json"), self.path("out.md"));
        let mut command = self.command(flags);
        command.args(["--workload", workload]);
        command.arg("--json").arg(&json).arg("--markdown").arg(&markdown);
        let output = command.output().expect("runs");
        assert!(output.status.success(), "{}", text(&output));
        let json = fs::read_to_string(&json).expect("JSON");
        let markdown = fs::read_to_string(&markdown).expect("Markdown");
        (serde_json::from_str(&json).expect("JSON"), markdown)
    }

    fn assert_nothing_is_left(&self) {
        let left: Vec<_> = fs::read_dir(self.path("scratch")).expect("is there").collect();
        assert!(left.is_empty(), "{left:?}");
        assert_gone(&self.thalweg.to_string());
    }
}

/// The kernel closes the sockets of a ring a little after its process is gone.
fn assert_gone(address: &str) {
    let begin = Instant::now();
    while TcpStream::connect(address).is_ok() {
        assert!(begin.elapsed() < Duration::from_secs(20), "a broker still runs at {address}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn cpus() -> (usize, usize) {
    let cpus = allowed_cpus();
    (cpus[0], *cpus.last().expect("a CPU"))
}

fn script(path: &Path, body: &str) {
    fs::write(path, format!("#!/bin/bash\n{body}\n")).expect("writes");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}\n{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

fn block<'a>(comparison: &'a Value, part: &str, mode: &str) -> &'a Vec<Value> {
    let blocks = comparison["blocks"].as_array().expect("blocks");
    let found = blocks.iter().find(|it| it["part"] == part && it["mode"] == mode);
    found.unwrap_or_else(|| panic!("no {part} {mode}"))["rows"].as_array().expect("rows")
}

fn column<'a>(row: &'a Value, figure: &str) -> &'a Value {
    let columns = row["columns"].as_array().expect("columns");
    columns.iter().find(|it| it["figure"] == figure).unwrap_or_else(|| panic!("no {figure}"))
}

#[test]
fn the_report_is_complete_and_its_ratios_are_those_of_brokers_of_known_capacity() {
    // Far below what a busy machine can do: the capacities are the limit.
    let stand_ins = StandIns::new("4k/s", "1k/s");
    let (comparison, markdown) = stand_ins.compare(
        "--only produce --rounds 2 --duration 1s --run-warmup 300ms --warmup 1s",
        "16 KiB batches, 1 KiB",
    );
    let rows = block(&comparison, "produce", "max");
    let names: Vec<&str> = rows.iter().filter_map(|row| row["broker"].as_str()).collect();
    assert_eq!(names, ["Thalweg, synced", "Kafka, no sync", "Kafka, flush.messages=1"]);
    for mode in ["max", "half"] {
        for row in block(&comparison, "produce", mode) {
            for figure in ["produced_mb_per_s", "k_records_per_s"] {
                let values = column(row, figure)["values"].as_array().expect("values");
                assert!(values.len() == 2 && values.iter().all(|it| it.as_f64() > Some(0.0)));
            }
            for figure in ["core_s_per_gb", "written_per_byte", "p50_ms", "p99_ms", "p99_9_ms"] {
                assert!(column(row, figure)["spread"]["median"].is_number(), "{figure}: {row}");
            }
            assert_eq!(row["reports"].as_array().map(Vec::len), Some(2));
        }
    }
    // Four times the capacity, however busy this machine is: both are slower than they could be.
    for row in &rows[1..] {
        let ratio = column(row, "produced_mb_per_s")["ratio"]["median"].as_f64();
        assert!(ratio > Some(2.5) && ratio < Some(6.0), "{ratio:?}");
    }
    let of = |row: &Value, round: usize| column(row, "k_records_per_s")["values"][round].as_f64();
    let by_hand = |round: usize| of(&rows[0], round).zip(of(&rows[1], round));
    let by_hand = [by_hand(0), by_hand(1)].map(|it| it.map(|(a, b)| a / b).expect("figures"));
    let told = column(&rows[1], "k_records_per_s")["ratio"]["median"].as_f64().expect("a ratio");
    assert!((told - (by_hand[0] + by_hand[1]) / 2.0).abs() < 1e-9);
    // Each at half of its own.
    let half = |at: usize| {
        let row = &block(&comparison, "produce", "half")[at];
        column(row, "produced_mb_per_s")["spread"]["median"].as_f64().expect("a median")
    };
    assert!(half(0) > 2.0 * half(1), "{} and {}", half(0), half(1));
    let software = comparison["software"].to_string();
    assert!(software.contains("stand-in 1.0") && software.contains("Apache Kafka 9.9.9"));
    for line in ["### Summary", "| produce, MB/s | 16 KiB batches, 1 KiB |"] {
        assert!(markdown.contains(line), "{line} is not in:\n{markdown}");
    }
    stand_ins.assert_nothing_is_left();
}

#[test]
fn a_backlog_is_read_from_both_brokers_in_turn() {
    let stand_ins = StandIns::new("20k/s", "20k/s");
    let (comparison, markdown) = stand_ins
        .compare("--only fetch --rounds 1 --warmup 0s --fill-bytes 10MB", "1 partition, 1 KiB");
    let rows = block(&comparison, "fetch", "page cache");
    let names: Vec<&str> = rows.iter().filter_map(|row| row["broker"].as_str()).collect();
    assert_eq!(names, ["Thalweg, synced", "Kafka, no sync"]);
    for row in rows {
        assert!(column(row, "fetched_mb_per_s")["spread"]["median"].as_f64() > Some(0.0), "{row}");
    }
    // Where the page cache is not ours to drop, it is said.
    let dropped = markdown.contains("| fetch, page cache dropped, MB/s | 1 partition, 1 KiB |");
    let said = comparison["left_out"].to_string().contains("drop_caches");
    assert!(dropped != said, "{markdown}");
    stand_ins.assert_nothing_is_left();
}

#[test]
fn ctrl_c_leaves_no_broker_and_no_data() {
    let stand_ins = StandIns::new("10k/s", "10k/s");
    let mut command = stand_ins.command("--only produce --warmup 10m --workload 64");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
    let begin = Instant::now();
    let kafka = stand_ins.path("scratch");
    let loaded = || {
        let folder = fs::read_dir(&kafka).ok().and_then(|mut it| it.next()?.ok());
        let address =
            folder.and_then(|it| fs::read_to_string(it.path().join("Kafka/address")).ok());
        address.filter(|it| TcpStream::connect(it).is_ok())
    };
    let kafka = loop {
        if let Some(address) = loaded() {
            break address;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "the brokers are not up");
        assert!(child.try_wait().expect("waits").is_none(), "it ended");
        thread::sleep(Duration::from_millis(50));
    };
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("small")).expect("a pid");
    kill_process(pid, Signal::INT).expect("is there");
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    assert_gone(&kafka);
    stand_ins.assert_nothing_is_left();
}

#[test]
fn what_cannot_be_compared_is_said_before_anything_is_started() {
    let stand_ins = StandIns::new("10k/s", "10k/s");
    let refused = |mut command: Command| {
        let output = command.output().expect("runs");
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        stand_ins.assert_nothing_is_left();
        text(&output)
    };
    assert!(refused(stand_ins.command("--workload 2MiB")).contains("`64 connections"));
    let but = |flag: &str, value: &str| refused(stand_ins.command_but("", (flag, value)));
    assert!(but("--java", "/nowhere/java").contains("/nowhere/java"));
    assert!(but("--thalweg", "/nowhere/thalweg").contains("/nowhere/thalweg"));
    assert!(but("--load-core", "4095").contains("may not use CPU 4095"));
    let empty = stand_ins.path("scratch").to_string_lossy().into_owned();
    assert!(but("--kafka", &empty).contains("no kafka_2.*.jar"));
}
