//! Whole runs against the null broker, over real sockets and rings.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use thalweg::protocol::ErrorCode;
use thalweg_bench::args::{Cli, Command, Idle};
use thalweg_bench::null_broker::{Misdeed, NullOptions, start};
use thalweg_bench::report::{Report, table};
use thalweg_bench::run::{self, RunSpec};

fn load(addr: SocketAddr, flags: &str) -> Report {
    load_to(addr, flags, None)
}

fn load_to(addr: SocketAddr, flags: &str, hlog: Option<PathBuf>) -> Report {
    load_with(addr, flags, hlog, Idle::Park) // tests share their machine
}

fn load_with(addr: SocketAddr, flags: &str, hlog: Option<PathBuf>, idle: Idle) -> Report {
    let line = format!("x run --bootstrap {addr} {flags}");
    let cli = Cli::try_parse_from(line.split_whitespace()).expect("flags");
    let Command::Run(args) = cli.command else { panic!("not a run") };
    let workload = args.workload.only().expect("one").clone();
    let cpus = run::allowed_cpus();
    let spec = RunSpec {
        bootstrap: addr.to_string(),
        security: args.security,
        cores: vec![*cpus.last().expect("a CPU")],
        topic: run::fresh_topic(&workload, Vec::new(), -1),
        workload,
        keep_topic: false,
        broker_pid: None,
        idle,
        label: String::new(),
        quiet: true,
        hlog,
    };
    let report = run::execute(&spec).expect("the run takes place");
    eprintln!("{}", table::render(&report));
    report
}

fn broker(options: NullOptions) -> SocketAddr {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    start(run::allowed_cpus()[0], listen, options).expect("the null broker starts")
}

#[test]
fn an_open_loop_offers_its_rate_and_every_batch_reaches_a_consumer() {
    let addr = broker(NullOptions { keep: true, ..NullOptions::default() });
    let report = load(
        addr,
        "--producers 3 --consumers 2 --partitions 4 --record-bytes 100 --batch-records 5 \
         --rate 2000records/s --warmup 300ms --duration 2s",
    );
    let counters = &report.counters;
    assert!(!report.failed(), "{:?}", report.errors);
    // 400 batches a second for 2 s; each of the lanes may round by one.
    assert!((795..=805).contains(&counters.sent_requests), "{}", counters.sent_requests);
    let latency = &report.latency;
    let acked = latency.response.as_ref().expect("acks").samples;
    assert_eq!(acked, counters.sent_requests);
    assert_eq!(latency.end_to_end.as_ref().expect("consumers").samples, acked);
    assert_eq!(counters.offset_gaps, 0);
    assert!(report.seconds.iter().any(|second| second.measured && second.acked_records > 0));
}

#[test]
fn a_stall_of_the_broker_shows_in_the_open_loop_and_hides_in_the_closed_one() {
    let stall = Some((Duration::from_millis(1_000), Duration::from_millis(1_000)));
    let flags = "--record-bytes 100 --batch-records 1 --in-flight 1 --warmup 500ms --duration 3s";
    let stalling = || broker(NullOptions { stall, ..NullOptions::default() });

    let open = load(stalling(), &format!("{flags} --rate 500records/s"));
    // A third of the requests fell due during the stall or its aftermath.
    let response = open.latency.response.as_ref().expect("acks");
    assert!(response.us("p90").expect("p90") > 500_000.0, "{response:?}");
    assert!(response.us("p99.9").expect("p99.9") > 900_000.0, "{response:?}");
    // Only one request was in flight: a closed-loop tool's figure misses the stall.
    let service = open.latency.service.as_ref().expect("acks");
    assert!(service.us("p99").expect("p99") < 500_000.0, "{service:?}");
    assert!(service.max_us > 500_000.0);

    let closed = load(stalling(), &format!("{flags} --rate max"));
    let response = closed.latency.response.as_ref().expect("acks");
    assert!(response.us("p99.9").expect("p99.9") < 500_000.0, "{response:?}");
    assert!(closed.warnings.iter().any(|warning| warning.kind == "closed-loop"));
}

#[test]
fn the_generator_says_so_when_it_and_not_the_broker_is_the_limit() {
    let says_so = |report: &Report| report.warnings.iter().any(|it| it.kind == "generator-busy");
    // Batches that are built and compressed for each send cost far more than this broker does.
    let addr = broker(NullOptions { keep: true, ..NullOptions::default() });
    let flags = "--producers 2 --consumers 1 --record-bytes 1000 --batch-records 200 \
                 --compression gzip --verify --warmup 200ms --duration 1s";
    let report = load_with(addr, flags, None, Idle::Spin);
    assert!(says_so(&report), "{:?}", report.warnings);
    // The same of a broker that is the limit would be a false alarm.
    let capacity = Some(2_000.0);
    let addr = broker(NullOptions { capacity, ..NullOptions::default() });
    let flags = "--record-bytes 100 --batch-records 10 --warmup 200ms --duration 1s";
    let report = load(addr, flags);
    assert!(!says_so(&report), "{:?}", report.warnings);
}

#[test]
fn errors_are_counted_by_name_and_are_in_no_latency_figure() {
    let fail_every = Some((10, ErrorCode::NotLeaderOrFollower));
    let addr = broker(NullOptions { fail_every, ..NullOptions::default() });
    let report = load(addr, "--record-bytes 64 --rate 10k/s --warmup 0s --duration 1s");
    assert!(report.failed());
    let [error] = &report.errors[..] else { panic!("{:?}", report.errors) };
    assert_eq!((error.api, error.name.as_str()), ("Produce", "NOT_LEADER_OR_FOLLOWER"));
    assert_eq!(error.count, report.counters.failed_requests);
    assert_eq!(error.count, report.counters.sent_requests / 10);
    let samples = report.latency.response.as_ref().expect("acks").samples;
    assert_eq!(samples + error.count, report.counters.sent_requests);
    assert!(report.warnings.iter().any(|warning| warning.kind == "failures"));
}

#[test]
fn an_idempotent_producer_goes_on_under_a_new_id_after_an_error() {
    let fail_every = Some((50, ErrorCode::NotLeaderOrFollower));
    let addr = broker(NullOptions { fail_every, ..NullOptions::default() });
    let report = load(
        addr,
        "--record-bytes 64 --batch-records 1 --rate 500records/s --warmup 0s --duration 2s \
         --idempotent",
    );
    let [error] = &report.errors[..] else { panic!("{:?}", report.errors) };
    assert_eq!((error.api, error.name.as_str()), ("Produce", "NOT_LEADER_OR_FOLLOWER"));
    let counters = &report.counters;
    assert_eq!(error.count, counters.failed_requests);
    assert!((10..=20).contains(&error.count), "{}", error.count);
    assert_eq!(counters.acked_requests + counters.failed_requests, counters.sent_requests);
    assert!(counters.sent_requests >= 995, "{}", counters.sent_requests);
}

#[test]
fn requests_that_leave_in_one_send_are_each_answered_and_counted() {
    let addr = broker(NullOptions { keep: true, ..NullOptions::default() });
    // More often than a parked core wakes: several are due each time.
    let flags = "--producers 2 --consumers 1 --partitions 3 --record-bytes 100 --batch-records 2 \
                 --rate 20k/s --warmup 0s --duration 1s";
    for window in ["--idempotent --in-flight 5", "--in-flight 40"] {
        let report = load(addr, &format!("{flags} {window}"));
        let counters = &report.counters;
        assert!(!report.failed(), "{window}: {:?}", report.errors);
        assert!((9_990..=10_010).contains(&counters.sent_requests), "{}", counters.sent_requests);
        let samples = |it: &Option<thalweg_bench::measure::percentiles::Summary>| {
            it.as_ref().map_or(0, |it| it.samples)
        };
        assert_eq!(samples(&report.latency.response), counters.sent_requests);
        assert_eq!(samples(&report.latency.delay), counters.sent_requests);
        assert_eq!(counters.offset_gaps, 0);
    }
}

#[test]
fn acks_0_idempotence_and_every_codec_run() {
    let addr = broker(NullOptions::default());
    let short = "--record-bytes 100 --rate 20k/s --warmup 0s --duration 500ms";
    for flags in [
        "--acks 0",
        "--acks 1",
        "--idempotent",
        "--compression gzip",
        "--compression snappy",
        "--compression lz4",
        "--compression zstd",
        "--arrivals poisson --producers 2",
    ] {
        let report = load(addr, &format!("{short} {flags}"));
        assert!(!report.failed(), "{flags}: {:?}", report.errors);
        assert!(report.counters.acked_requests > 50, "{flags}");
    }
}

#[test]
fn a_broker_that_is_not_there_is_an_error_before_the_run() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let addr = free.local_addr().expect("has an address");
    drop(free);
    let line = format!("x run --bootstrap {addr}");
    let cli = Cli::try_parse_from(line.split_whitespace()).expect("flags");
    let Command::Run(args) = cli.command else { panic!("not a run") };
    assert!(run::command(&args).is_err());
}

#[test]
fn seconds_and_histograms_are_written_for_other_tools_and_add_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let hlog = dir.path().join("run.hlog");
    let addr = broker(NullOptions::default());
    let flags =
        "--record-bytes 100 --batch-records 1 --rate 500records/s --warmup 1s --duration 2s";
    let report = load_to(addr, flags, Some(hlog.clone()));
    let logged = thalweg_bench::report::hlog::read(&hlog).expect("readable");
    assert_eq!(logged.keys().collect::<Vec<_>>(), ["delay", "publish", "service"]);
    let publish = &logged["publish"];
    let expected = report.latency.response.as_ref().expect("acks");
    assert_eq!(publish.len(), expected.samples);
    let p99_us = publish.value_at_quantile(0.99) as f64 / 1e3;
    assert!((p99_us / expected.us("p99").expect("p99") - 1.0).abs() < 0.01);
    // The JSON holds the same distribution.
    let whole = &report.histograms["publish"];
    assert_eq!(&thalweg_bench::measure::encoded::decode(whole).expect("readable"), publish);

    let table = thalweg_bench::report::csv::render(&report);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{table}");
    let column = rows[0].iter().position(|name| *name == "acked_records").expect("a column");
    let acked: u64 =
        rows[1..].iter().map(|row| row[column].parse::<u64>().expect("a number")).sum();
    assert!(acked >= report.counters.acked_records, "the warm-up's come on top");
}

#[test]
fn a_condition_that_holds_is_told_with_its_figure() {
    use thalweg_bench::report::condition::{Condition, Verdict};
    let addr = broker(NullOptions::default());
    let report = load(
        addr,
        "--record-bytes 100 --batch-records 1 --rate 200records/s --warmup 0s --duration 1s",
    );
    let judge = |text: &str| text.parse::<Condition>().expect("a condition").judge(&report);
    assert_eq!(judge("p99 > 10m"), Verdict::No);
    assert!(matches!(judge("p50 > 0us"), Verdict::Yes(text) if text.contains("p50 > 0us")));
    assert_eq!(judge("errors > 0"), Verdict::No);
    assert!(matches!(judge("records < 1k/s"), Verdict::Yes(_)));
    // Nobody consumed, and nobody named the broker's process.
    assert!(matches!(judge("e2e.p99 > 1h"), Verdict::Missing(_)));
    assert!(matches!(judge("core-s/GB > 100"), Verdict::Missing(_)));
}

#[test]
fn verify_finds_nothing_wrong_with_a_broker_that_keeps_its_word() {
    let addr = broker(NullOptions { keep: true, ..NullOptions::default() });
    let flags = "--producers 3 --consumers 2 --partitions 4 --record-bytes 100 --batch-records 5 \
                 --rate 2000records/s --warmup 300ms --duration 2s --verify";
    for compression in ["none", "lz4", "zstd"] {
        let report = load(addr, &format!("{flags} --compression {compression}"));
        let found = report.verification.as_ref().expect("it was asked for");
        assert!(found.acked_records >= 4000, "{found:?}");
        assert_eq!(found.acked_records, found.seen_records);
        assert!(found.holds(true) && !report.failed(), "{found:?}");
    }
}

#[test]
fn verify_finds_what_a_broker_loses_repeats_or_spoils() {
    let flags = "--consumers 1 --record-bytes 100 --batch-records 5 --rate 500records/s --warmup 0s \
                 --duration 2s --verify";
    let found = |misdeed| {
        let options = NullOptions { keep: true, misdeed: Some(misdeed), ..NullOptions::default() };
        let report = load(broker(options), flags);
        assert!(report.failed());
        report.verification.expect("it was asked for")
    };
    assert!(found(Misdeed::Lose).lost_records >= 5);
    let repeated = found(Misdeed::Repeat);
    assert!(repeated.duplicated_records >= 5 && repeated.lost_records == 0, "{repeated:?}");
    let spoilt = found(Misdeed::Spoil);
    assert!(spoilt.corrupt_records >= 5 && spoilt.lost_records >= 5, "{spoilt:?}");
}
