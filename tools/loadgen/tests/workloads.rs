//! Each kind of workload against the null broker, over real sockets and rings.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command as Process;

use clap::Parser;
use thalweg_bench::args::{Cli, Command, RunArgs};
use thalweg_bench::null_broker::{NullOptions, start};
use thalweg_bench::report::{Report, table};
use thalweg_bench::run::{self, Outcome};

fn broker() -> SocketAddr {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = NullOptions { keep: true, ..NullOptions::default() };
    start(run::allowed_cpus()[0], listen, options).expect("the null broker starts")
}

fn args(addr: SocketAddr, flags: &str) -> RunArgs {
    // Tests share their machine: the load core parks.
    let cpu = *run::allowed_cpus().last().expect("a CPU");
    let line = format!("x run --bootstrap {addr} --cores {cpu} --idle park --quiet {flags}");
    let cli = Cli::try_parse_from(line.split_whitespace()).expect("flags");
    let Command::Run(args) = cli.command else { panic!("not a run") };
    args
}

fn load(flags: &str) -> Report {
    let args = args(broker(), flags);
    let workload = args.workload.only().expect("one");
    let report = run::execute(&run::spec_of(&args, workload)).expect("the run takes place");
    eprintln!("{}", table::render(&report));
    assert!(!report.failed(), "{:?}", report.errors);
    report
}

/// Everything that was acknowledged reached each of `readers`, in order and timed.
fn all_arrived(report: &Report, readers: u64) {
    let counters = &report.counters;
    assert!(counters.acked_records > 0);
    assert_eq!(counters.offset_gaps, 0);
    let samples = |of: &Option<thalweg_bench::measure::percentiles::Summary>| {
        of.as_ref().map_or(0, |summary| summary.samples)
    };
    let latency = &report.latency;
    // Without a stamp times are cut to ms: the first batch's may fall before the measured time.
    let cut = if report.generator.stamped { 0 } else { readers };
    let missing = readers * samples(&latency.response) - samples(&latency.end_to_end);
    assert!(missing <= cut, "{missing} batches did not arrive");
    assert_eq!(samples(&latency.response), counters.sent_requests);
}

#[test]
fn records_of_many_sizes_are_offered_at_the_rate_in_bytes_and_timed_to_the_consumer() {
    for sizes in ["uniform:100..900", "lognormal:400,0.7", "weighted:20=9,2000=1"] {
        let report = load(&format!(
            "--record-bytes {sizes} --batch-records 8 --producers 2 --consumers 1 --partitions 3 \
             --rate 1MB/s --warmup 0s --duration 1s"
        ));
        all_arrived(&report, 1);
        assert!(report.generator.stamped);
        let counters = &report.counters;
        let offered = report.throughput.offered_requests_per_s.expect("open loop");
        assert!(counters.sent_requests.abs_diff(offered as u64) <= 2, "{offered}");
        // A second at 1 MB/s; what is sent in a second does not show all of the pool's batches.
        let megabytes = counters.sent_requests as f64 * report.generator.pool.value_bytes_per_batch;
        assert!((megabytes / 1e6 - 1.0).abs() < 0.02, "{megabytes}");
    }
}

#[test]
fn keyed_records_go_where_their_keys_belong_and_all_arrive() {
    for keys in ["zipf:1.1", "uniform", "sequential"] {
        let report = load(&format!(
            "--keys {keys} --key-count 300 --partitions 5 --producers 2 --consumers 2 \
             --record-bytes 100 --batch-records 4 --rate 4000records/s --warmup 0s --duration 1s \
             --idempotent"
        ));
        all_arrived(&report, 1);
        assert!(report.generator.pool.distinct_keys > 150, "{:?}", report.generator.pool);
    }
}

#[test]
fn every_codec_runs_with_a_ratio_and_with_varied_batches() {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let report = load(&format!(
            "--compression {codec} --compress-ratio 2 --record-bytes uniform:200..600 \
             --batch-records 20 --pool-batches 20 --consumers 1 --rate 2000records/s --warmup 0s \
             --duration 500ms"
        ));
        all_arrived(&report, 1);
        let ratio = report.generator.pool.compress_ratio;
        let wanted = if codec == "none" { 1.0 } else { 2.0 };
        assert!((ratio / wanted - 1.0).abs() < 0.05, "{codec}: {ratio}");
    }
}

#[test]
fn each_step_is_offered_and_reported_for_itself() {
    let report = load(
        "--steps 200records/s:1s,1000records/s:500ms,100records/s:1s --record-bytes 50 \
         --batch-records 1 --producers 2 --warmup 500ms",
    );
    let parts: Vec<(String, u64)> = report
        .parts
        .iter()
        .map(|part| (part.name.clone(), part.response.as_ref().map_or(0, |it| it.samples)))
        .collect();
    let names: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["200 records/s:1s", "1000 records/s:500ms", "100 records/s:1s"]);
    // Two lanes may round by one each; the warm-up is in none of them.
    for ((name, samples), expected) in parts.iter().zip([200u64, 500, 100]) {
        assert!(samples.abs_diff(expected) <= 2, "{name}: {samples}");
    }
    assert_eq!(report.counters.sent_requests, parts.iter().map(|(_, count)| count).sum::<u64>());
    let offered = report.throughput.offered_requests_per_s.expect("open loop");
    assert!((offered - 320.0).abs() < 0.1, "{offered}");
}

#[test]
fn records_come_back_from_the_topic_and_partition_that_they_were_sent_to() {
    // Verify mode finds each record in the partition that its mark was made for.
    let report = load(
        "--topics 7 --partitions 3 --producers 4 --consumers 3 --record-bytes 60 \
         --batch-records 2 --rate 2000records/s --warmup 0s --duration 1s --verify",
    );
    let found = report.verification.as_ref().expect("it was asked for");
    assert!(found.holds(true) && found.acked_records >= 1990, "{found:?}");
    assert_eq!(found.acked_records, found.seen_records);
}

#[test]
fn every_reader_of_a_fan_out_gets_everything() {
    let report = load(
        "--fan-out 3 --consumers 2 --topics 2 --partitions 2 --record-bytes 80 --batch-records 5 \
         --rate 2000records/s --warmup 0s --duration 1s",
    );
    all_arrived(&report, 3);
    // What trickles in behind the end is not in the measured time.
    assert!(report.counters.fetched_records <= 3 * report.counters.acked_records);
    assert!(report.counters.fetched_records > report.counters.acked_records);
}

#[test]
fn consumers_begin_when_the_backlog_stands_and_its_reading_is_reported() {
    let report = load(
        "--backlog 100kB --consumers 2 --partitions 4 --producers 2 --record-bytes 100 \
         --batch-records 5 --rate 1000records/s --warmup 0s --duration 3s",
    );
    all_arrived(&report, 1);
    let catch_up = report.catch_up.as_ref().expect("it was asked for");
    assert!((100_000..250_000).contains(&catch_up.backlog_bytes), "{catch_up:?}");
    // 100 kB/s are offered: the backlog stands after a second, at the earliest.
    assert!(catch_up.began_s.is_some_and(|at| (0.95..3.0).contains(&at)), "{catch_up:?}");
    assert!(catch_up.caught_up_after_s.is_some_and(|took| took > 0.0), "{catch_up:?}");
    assert!(catch_up.drained_bytes > catch_up.backlog_bytes, "whole batches, and what came");
    let names: Vec<&str> = report.parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(names, ["building the backlog", "reading it", "caught up"]);
    assert_eq!(report.parts[0].fetched_mb_per_s, 0.0);
    let samples = report.parts.iter().filter_map(|part| part.response.as_ref());
    let samples: u64 = samples.map(|response| response.samples).sum();
    assert_eq!(samples, report.counters.sent_requests);
    // The first batch waited for about a second.
    let oldest = report.latency.end_to_end.as_ref().expect("consumers").max_us;
    assert!(oldest > 900_000.0, "{oldest}");
}

#[test]
fn a_backlog_that_is_never_built_is_said_so() {
    let report = load(
        "--backlog 1GB --consumers 1 --record-bytes 100 --batch-records 5 --rate 1000records/s \
         --warmup 0s --duration 1s",
    );
    assert!(report.warnings.iter().any(|warning| warning.kind == "backlog-not-built"));
}

#[test]
fn churn_opens_its_connections_beside_the_load_and_alone() {
    for producers in [0, 1] {
        let report = load(&format!(
            "--churn 200 --producers {producers} --rate 500records/s --batch-records 1 \
             --record-bytes 50 --warmup 200ms --duration 1s"
        ));
        assert!(report.counters.churned_connections.abs_diff(200) <= 2);
        assert_eq!(report.counters.sent_requests > 0, producers > 0);
        let connect = report.latency.connect.as_ref().expect("churn");
        let first = report.latency.first_request.as_ref().expect("churn");
        assert_eq!(connect.samples, report.counters.churned_connections);
        assert_eq!(first.samples, connect.samples);
        assert!(first.max_us >= connect.max_us);
    }
}

#[test]
fn rebalances_are_refused_by_the_names_of_the_apis_that_the_broker_lacks() {
    let args = args(broker(), "--rebalance-every 1s --warmup 0s --duration 1s");
    let error = run::command(&args).expect_err("no groups here").to_string();
    assert!(error.contains("rebalances need consumer groups"), "{error}");
    assert!(error.contains("FindCoordinator, JoinGroup, SyncGroup"), "{error}");
}

#[test]
fn the_workloads_of_a_file_run_one_after_the_other_with_a_report_each() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("two.toml");
    let text = "record_bytes = 50\nrate = \"500records/s\"\nwarmup = \"0s\"\nduration = \"300ms\"\n\
                [[workload]]\nname = \"small\"\nbatch_records = 1\n\
                [[workload]]\nname = \"large\"\nbatch_records = 10\n";
    std::fs::write(&file, text).expect("writes");
    let json = dir.path().join("out.json");
    let flags = format!("--workload {} --json {}", file.display(), json.display());
    let outcome = run::command(&args(broker(), &flags)).expect("both take place");
    assert_eq!(outcome, Outcome::Fine);
    for (name, batch_records) in [("small", 1), ("large", 10)] {
        let text = std::fs::read_to_string(dir.path().join(format!("out.{name}.json")));
        let report: serde_json::Value =
            serde_json::from_str(&text.expect("a report")).expect("JSON");
        assert_eq!(report["label"], name);
        assert_eq!(report["workload"]["batch_records"], batch_records);
        assert_eq!(report["workload"]["duration"], "300ms");
    }
}

#[test]
fn a_file_with_an_unknown_key_ends_the_program_with_its_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("w.toml");
    std::fs::write(&file, "producers = 1\nproduzers = 2\n").expect("writes");
    let run = |command: &[&str], file: &Path| {
        let mut process = Process::new(env!("CARGO_BIN_EXE_thalweg-bench"));
        let output = process.args(command).arg("--workload").arg(file).output().expect("runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, _, stderr) = run(&["run", "--bootstrap", "localhost:1"], &file);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("line 2") && stderr.contains("produzers"), "{stderr}");

    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads/hot-keys.toml");
    let explain = ["workload", "explain", "--only", "zipf", "--rate", "1MB/s"];
    let (code, stdout, stderr) = run(&explain, &ours);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("keys = \"zipf:0.99\"") && stdout.contains("rate = \"1 MB/s\""));
}
