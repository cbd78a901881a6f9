//! The tool with every feature against Apache Kafka. `cargo dev loadgen` starts the brokers and
//! names them in the environment.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

/// Two producers and two consumers for two seconds, each record checked.
const LOAD: &str = "--producers 2 --consumers 2 --partitions 4 --record-bytes 200 \
                    --batch-records 10 --rate 2000records/s --warmup 500ms --duration 2s --verify";

fn variable(name: &str) -> String {
    let name = format!("BENCH_TEST_{name}");
    std::env::var(&name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo dev loadgen`"))
}

fn certificates() -> String {
    variable("CERTIFICATES")
}

struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    report: Value,
}

fn bench_with(listener: &str, flags: &str, password: &str) -> Run {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let cpu = thalweg_bench::run::allowed_cpus().last().expect("a CPU").to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join(format!("{}.json", COUNT.fetch_add(1, Ordering::Relaxed)));
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_thalweg-bench"))
        .args(["run", "--bootstrap", &variable(listener), "--cores", &cpu])
        .args(["--idle", "park", "--quiet", "--json"])
        .arg(&json)
        .args(LOAD.split_whitespace())
        .args(flags.split_whitespace())
        .env("THALWEG_BENCH_SASL_PASSWORD", password)
        .output()
        .expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let report = std::fs::read_to_string(&json).unwrap_or_default();
    let run = Run {
        code: status.code(),
        stdout: text(&stdout),
        stderr: text(&stderr),
        report: serde_json::from_str(&report).unwrap_or(Value::Null),
    };
    for shown in [&run.stdout, &run.stderr, &report] {
        assert!(!shown.contains(password), "the password is shown");
    }
    run
}

fn bench(listener: &str, flags: &str) -> Run {
    bench_with(listener, flags, &variable("PASSWORD"))
}

impl Run {
    fn number(&self, path: &str) -> u64 {
        self.report.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path}"))
    }

    /// Everything that was acknowledged came back, once, and nothing else is wrong.
    #[track_caller]
    fn assert_whole(&self, flags: &str) {
        assert_eq!(self.code, Some(0), "{flags}\n{}\n{}", self.stdout, self.stderr);
        let sent = self.number("/verification/acked_records")
            + self.number("/verification/aborted_records");
        assert!(sent >= 4_000, "{flags}: {sent} records\n{}", self.stdout);
        for name in ["lost", "duplicated", "reordered", "corrupt", "dirty", "foreign"] {
            let count = self.number(&format!("/verification/{name}_records"));
            assert_eq!(count, 0, "{flags}: {name}\n{}", self.stdout);
        }
    }

    #[track_caller]
    fn assert_refused(&self, flags: &str, reason: &str) {
        assert_eq!(self.code, Some(1), "{flags}\n{}\n{}", self.stdout, self.stderr);
        assert!(self.stderr.contains(reason), "{flags}: {}", self.stderr);
        assert_eq!(self.stderr.trim_end().lines().count(), 1, "{flags}: {}", self.stderr);
    }
}

#[test]
#[ignore = "needs Apache Kafka: cargo dev loadgen"]
fn every_listener_and_mechanism_carries_a_run_without_loss() {
    let dir = certificates();
    let ca = format!("--tls --tls-ca {dir}/ca.pem");
    let sasl = "--sasl-user alice --sasl-mechanism";
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), variable("PASSWORD") + "\n").expect("written");
    let from_file = format!("--sasl-password-file {}", file.path().display());
    for (listener, protocol, flags) in [
        ("PLAINTEXT", "PLAINTEXT", String::new()),
        ("SSL", "SSL", ca.clone()),
        ("SSL", "SSL", format!("{ca} --tls-server-name localhost")),
        ("SSL", "SSL", "--tls --tls-insecure".to_owned()),
        ("MUTUAL", "SSL", format!("{ca} --tls-cert {dir}/client.pem --tls-key {dir}/client.key")),
        ("SASL_PLAINTEXT", "SASL_PLAINTEXT", format!("{sasl} PLAIN")),
        ("SASL_PLAINTEXT", "SASL_PLAINTEXT", format!("{sasl} SCRAM-SHA-256 {from_file}")),
        ("SASL_PLAINTEXT", "SASL_PLAINTEXT", format!("{sasl} SCRAM-SHA-512")),
        ("SASL_SSL", "SASL_SSL", format!("{ca} {sasl} PLAIN")),
        ("SASL_SSL", "SASL_SSL", format!("{ca} {sasl} SCRAM-SHA-512 --idempotent")),
    ] {
        let run = bench(listener, &flags);
        run.assert_whole(&flags);
        let told = run.report.pointer("/target/security/protocol").and_then(Value::as_str);
        assert_eq!(told, Some(protocol));
    }
}

#[test]
#[ignore = "needs Apache Kafka: cargo dev loadgen"]
fn who_may_not_in_is_told_why_and_no_load_begins() {
    let dir = certificates();
    let ca = format!("--tls --tls-ca {dir}/ca.pem");
    let sasl = "--sasl-user alice --sasl-mechanism";
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let flags = format!("{sasl} {mechanism}");
        let run = bench_with("SASL_PLAINTEXT", &flags, "not the right one");
        run.assert_refused(&flags, &format!("does not let alice in ({mechanism})"));
        run.assert_refused(&flags, "SASL_AUTHENTICATION_FAILED");
    }
    for (listener, flags, reason) in [
        ("SSL", format!("--tls --tls-ca {dir}/other-ca.pem"), "UnknownIssuer"),
        ("SSL", format!("{ca} --tls-server-name example.org"), "--tls-server-name"),
        ("MUTUAL", ca.clone(), "--tls-cert"),
        ("SSL", String::new(), "--tls"),
        ("PLAINTEXT", ca.clone(), "does this listener speak TLS?"),
        ("SASL_PLAINTEXT", String::new(), "does this listener want SASL"),
        ("PLAINTEXT", format!("{sasl} PLAIN"), "this listener wants no SASL"),
        ("BRIEF", format!("{sasl} SCRAM-SHA-256"), "connections.max.reauth.ms"),
        ("BRIEF", format!("{sasl} PLAIN"), "this listener takes SCRAM-SHA-256"),
    ] {
        bench(listener, &flags).assert_refused(&flags, reason);
    }
}

#[test]
#[ignore = "needs Apache Kafka: cargo dev loadgen"]
fn idempotent_producers_send_every_codec_without_loss() {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd", "zstd --compression-level 9"] {
        let flags = format!("--idempotent --in-flight 5 --compression {codec}");
        bench("PLAINTEXT", &flags).assert_whole(&flags);
    }
}

/// The transactions of both kinds: partitions added by Produce (KIP-890), and asked for before.
#[test]
#[ignore = "needs Apache Kafka: cargo dev loadgen"]
fn committed_records_are_all_there_and_aborted_ones_for_nobody_who_wants_committed_ones() {
    for (listener, implicit) in [("PLAINTEXT", true), ("OLDER", false)] {
        for ends in ["--txn-duration 50ms", "--txn-batches 7"] {
            let flags = format!("--transactional {ends} --txn-abort-every 3 --read-committed");
            let run = bench(listener, &flags);
            run.assert_whole(&flags);
            let add = run.report.pointer("/target/versions/transactions/add_partitions");
            assert_eq!(add.is_some_and(Value::is_null), implicit);
            let aborted = run.number("/verification/aborted_records");
            assert!(aborted >= 500, "{aborted} records aborted");
            assert_eq!(run.number("/verification/unacknowledged_records"), 0);
            let committed = run.number("/counters/committed_transactions");
            assert!(committed >= 10, "{committed} transactions");
            assert_eq!(run.number("/latency/commit/samples"), committed);
            assert_eq!(run.number("/counters/failed_transactions"), 0);
        }
    }
}

/// The broker refuses every batch; each transaction is aborted, and the next one begins.
#[test]
#[ignore = "needs Apache Kafka: cargo dev loadgen"]
fn a_transaction_in_which_something_fails_is_aborted_and_the_producer_goes_on() {
    for listener in ["PLAINTEXT", "OLDER"] {
        let flags = "--transactional --read-committed --topic-config max.message.bytes=500";
        let run = bench(listener, flags);
        assert_eq!(run.code, Some(3), "{}\n{}", run.stdout, run.stderr);
        let errors = run.report.pointer("/errors").and_then(Value::as_array).expect("a list");
        let names: Vec<_> = errors.iter().filter_map(|error| error["name"].as_str()).collect();
        assert_eq!(names, ["MESSAGE_TOO_LARGE"], "{}", run.stdout);
        assert!(run.number("/counters/failed_transactions") >= 10, "{}", run.stdout);
        assert_eq!(run.number("/counters/committed_transactions"), 0);
        assert_eq!(run.number("/verification/acked_records"), 0);
        assert_eq!(run.number("/verification/seen_records"), 0);
        assert!(run.number("/verification/aborted_records") >= 1_000, "{}", run.stdout);
    }
}

#[test]
#[ignore = "needs Apache Kafka: cargo dev loadgen"]
fn who_reads_uncommitted_records_sees_aborted_ones_and_that_is_no_fault() {
    let flags = "--transactional --txn-abort-every 2";
    let run = bench("PLAINTEXT", flags);
    run.assert_whole(flags);
    let [acked, aborted, seen] = ["acked", "aborted", "seen"]
        .map(|name| run.number(&format!("/verification/{name}_records")));
    assert!(aborted > 0);
    assert_eq!(seen, acked + aborted);
}

#[test]
#[ignore = "needs Apache Kafka: cargo dev loadgen"]
fn what_thalweg_lacks_is_named_before_the_load() {
    let addr = variable("THALWEG");
    for (flags, reason) in [
        (
            "--transactional",
            format!(
                "transactions: {addr} does not offer EndTxn, FindCoordinator, AddPartitionsToTxn"
            ),
        ),
        (
            "--sasl-mechanism PLAIN --sasl-user alice",
            format!("SASL: {addr} does not offer SaslHandshake"),
        ),
        (
            "--tls --tls-insecure",
            format!(
                "{addr} closed the connection in the TLS handshake: does this listener speak TLS?"
            ),
        ),
    ] {
        bench("THALWEG", flags).assert_refused(flags, &reason);
    }
    bench("THALWEG", "--idempotent").assert_whole("--idempotent");
}
