//! Runs over a coordinator and agents, against the null broker: real agents, and some that say what
//! a test wants them to.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use clap::Parser;
use thalweg_bench::agents::args::{AgentArgs, CoordinateArgs, run_flags};
use thalweg_bench::agents::clock::{boot_id, mono_ns};
use thalweg_bench::agents::wire::{FromAgent, Hello, PROTOCOL, ToAgent, pack, receive, send};
use thalweg_bench::agents::{agent, coordinator};
use thalweg_bench::args::{Cli, Command, Idle};
use thalweg_bench::load::recorder::Interval;
use thalweg_bench::measure::ledger::Ledger;
use thalweg_bench::measure::percentiles::Summary;
use thalweg_bench::measure::tally::Tally;
use thalweg_bench::null_broker::{NullOptions, start};
use thalweg_bench::report::{Report, table};
use thalweg_bench::run::{self, RunError};

fn broker() -> SocketAddr {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = NullOptions { keep: true, ..NullOptions::default() };
    start(run::allowed_cpus()[0], listen, options).expect("the null broker starts")
}

/// A coordinator at work: where it listens, and its report.
fn coordinate(agents: u32, flags: &str) -> (SocketAddr, JoinHandle<Result<Report, RunError>>) {
    let line = format!(
        "x coordinate --listen 127.0.0.1:0 --agents {agents} --bootstrap {} \
         --quiet {flags}",
        broker()
    );
    let words = line.split_whitespace().map(str::to_owned);
    let cli = Cli::try_parse_from(line.split_whitespace()).expect("flags");
    let Command::Coordinate(args) = cli.command else { panic!("no coordinator") };
    let args: CoordinateArgs = *args;
    let listener = TcpListener::bind(args.listen).expect("listens");
    let addr = listener.local_addr().expect("has an address");
    let flags = run_flags(words.skip(2));
    (addr, thread::spawn(move || coordinator::coordinate(&listener, &args, &flags)))
}

/// A real agent on the machine's `nth` CPU.
fn real_agent(coordinator: SocketAddr, nth: usize) -> JoinHandle<Result<run::Outcome, RunError>> {
    let cpus = run::allowed_cpus();
    let args = AgentArgs {
        coordinator: coordinator.to_string(),
        cores: Some(vec![cpus[nth % cpus.len()]]),
        idle: Idle::Park, // tests share their machine
        wait: Duration::from_secs(30),
    };
    thread::spawn(move || agent::command(&args))
}

fn hello() -> Hello {
    Hello {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: "test".to_owned(),
        boot_id: boot_id(),
        cores: vec![7],
        idle: Idle::Spin,
    }
}

/// Takes part up to the start; its connection and the index of its core.
fn fake_until_start(coordinator: SocketAddr, hello: Hello) -> (TcpStream, usize) {
    let mut stream = TcpStream::connect(coordinator).expect("connects");
    send(&mut stream, &FromAgent::Hello(hello), &[]).expect("says hello");
    let mut core = 0;
    loop {
        match hear(&mut stream) {
            ToAgent::Ping => {
                send(&mut stream, &FromAgent::Pong { mono_ns: mono_ns() }, &[]).expect("pong");
            }
            ToAgent::Prepare(share) => {
                core = share.first_core;
                let ready = FromAgent::Ready { leaders: "all the same".to_owned() };
                send(&mut stream, &ready, &[]).expect("is ready");
            }
            ToAgent::Start { .. } => return (stream, core),
            other => panic!("{other:?}"),
        }
    }
}

fn hear(stream: &mut TcpStream) -> ToAgent {
    receive(stream).expect("the coordinator speaks").0
}

#[test]
fn two_agents_offer_the_rate_together_and_see_each_other_s_batches() {
    let (addr, report) = coordinate(
        2,
        "--producers 3 --consumers 3 --partitions 4 --record-bytes 100 --batch-records 5 \
         --rate 2000records/s --warmup 300ms --duration 2s",
    );
    let agents = [real_agent(addr, 0), real_agent(addr, 1)];
    let report = report.join().expect("ends").expect("a report");
    eprintln!("{}", table::render(&report));
    for agent in agents {
        agent.join().expect("ends").expect("took part");
    }
    let counters = &report.counters;
    assert!(!report.failed(), "{:?}", report.errors);
    // 400 batches a second for 2 s, as if one process had sent them.
    assert!((795..=805).contains(&counters.sent_requests), "{}", counters.sent_requests);
    let samples = |summary: &Option<Summary>| summary.as_ref().expect("samples").samples;
    assert_eq!(samples(&report.latency.response), counters.sent_requests);
    assert_eq!(samples(&report.latency.end_to_end), counters.sent_requests);
    assert_eq!((counters.offset_gaps, report.cores.len(), report.agents.len()), (0, 2, 2));
    assert!(report.cores.iter().all(|core| core.work_cpu_s > 0.0), "{:?}", report.cores);
    // One kernel, one clock.
    assert!(report.agents.iter().all(|it| it.clock_uncertainty_us == 0.0), "{:?}", report.agents);
    assert!(report.seconds.iter().any(|second| second.measured && second.acked_records > 0));
}

#[test]
fn what_one_agent_sends_and_another_reads_is_verified() {
    // Connections are dealt out in turn: the producer's is the first agent's, the consumer's the
    // second's.
    let (addr, report) = coordinate(
        2,
        "--producers 1 --consumers 1 --record-bytes 100 --batch-records 5 --rate 1000records/s \
         --warmup 0s --duration 1s --verify",
    );
    let agents = [real_agent(addr, 0), real_agent(addr, 1)];
    let report = report.join().expect("ends").expect("a report");
    for agent in agents {
        agent.join().expect("ends").expect("took part");
    }
    let found = report.verification.as_ref().expect("it was asked for");
    assert!(found.acked_records >= 990 && found.seen_records >= found.acked_records, "{found:?}");
    assert!(found.holds(true) && !report.failed(), "{found:?}");
}

#[test]
fn counts_add_up_and_percentiles_are_those_of_the_merged_samples() {
    let dir = tempfile::tempdir().expect("a folder");
    let hlog = dir.path().join("run.hlog");
    let (addr, report) =
        coordinate(2, &format!("--warmup 0s --duration 2s --hlog {}", hlog.display()));
    let tally = |core: usize, second: u64| {
        let mut tally = Tally::new();
        // The second agent is slow, and sends less.
        for value in 1..=1_000 / (core as u64 + 1) {
            let latency_ns = value * 1_000 * if core == 0 { 1 } else { 100 };
            tally.latencies.response.saturating_record(latency_ns + second);
            tally.counters.acked_requests += 1;
            tally.counters.acked_value_bytes += 10;
        }
        tally.counters.gap_ns_max = 5_000 + core as u64;
        tally
    };
    let agents = [(); 2].map(|()| {
        thread::spawn(move || {
            let (mut stream, core) = fake_until_start(addr, hello());
            for second in 0..2 {
                let (warmup, measured) = (Tally::new(), tally(core, second));
                let (message, blobs) =
                    pack(&Interval { core, second, warmup, measured: vec![(0, measured)] })
                        .expect("packs");
                send(&mut stream, &message, &blobs).expect("sends");
            }
            send(&mut stream, &FromAgent::Produced, &[]).expect("sends");
            assert!(matches!(hear(&mut stream), ToAgent::AllProduced));
            let end = FromAgent::End { finished_ns: u64::MAX, ledger: Ledger::default() };
            send(&mut stream, &end, &[]).expect("sends");
            assert!(matches!(hear(&mut stream), ToAgent::Done));
        })
    });
    let report = report.join().expect("ends").expect("a report");
    for agent in agents {
        agent.join().expect("said its part");
    }
    let mut by_hand = Tally::new();
    for core in 0..2 {
        (0..2).for_each(|second| by_hand.merge(&tally(core, second)));
    }
    assert_eq!(report.counters, by_hand.counters);
    assert_eq!(report.counters.acked_requests, 2 * (1_000 + 500));
    assert_eq!(report.latency.response, Summary::of(&by_hand.latencies.response));
    let p99_us = report.latency.response.as_ref().and_then(|it| it.us("p99")).expect("samples");
    // The mean of the two agents' would be near 25 ms.
    assert!(p99_us > 48_000.0, "{p99_us}");
    assert_eq!(report.seconds.len(), 2);
    let hlog = std::fs::read_to_string(&hlog).expect("is written");
    assert_eq!(hlog.lines().filter(|line| line.starts_with("Tag=publish")).count(), 2, "{hlog}");
}

#[test]
fn an_agent_that_dies_ends_the_run_for_all_with_its_name() {
    let (addr, report) = coordinate(2, "--warmup 0s --duration 20s");
    let dies = thread::spawn(move || drop(fake_until_start(addr, hello())));
    let mut other = hello();
    other.host = "the other".to_owned();
    let lives = thread::spawn(move || {
        let (mut stream, _) = fake_until_start(addr, other);
        hear(&mut stream)
    });
    let error = report.join().expect("ends").expect_err("no report").to_string();
    dies.join().expect("died as planned");
    assert!(error.contains("(test, ") && error.contains("died"), "{error}");
    let word = lives.join().expect("heard of it");
    assert!(matches!(&word, ToAgent::Refused { why } if why.contains("(test, ")), "{word:?}");
}

#[test]
fn an_agent_that_never_comes_is_waited_for_no_longer_than_was_said() {
    let (addr, report) = coordinate(2, "--agent-wait 1s --duration 1s");
    let came = real_agent(addr, 0);
    // Nor does one of another version help.
    let mut old = hello();
    old.protocol += 1;
    let mut stream = TcpStream::connect(addr).expect("connects");
    send(&mut stream, &FromAgent::Hello(old), &[]).expect("says hello");
    let word = hear(&mut stream);
    assert!(matches!(&word, ToAgent::Refused { why } if why.contains("protocol")), "{word:?}");
    let error = report.join().expect("ends").expect_err("no report").to_string();
    assert!(error.contains("only 1 of 2 agents came"), "{error}");
    let error = came.join().expect("ends").expect_err("took no part").to_string();
    assert!(error.contains("only 1 of 2 agents came"), "{error}");
}

#[test]
fn an_agent_that_cannot_take_part_says_why() {
    let (addr, report) = coordinate(1, "--duration 1s");
    let args = AgentArgs {
        coordinator: addr.to_string(),
        cores: Some(vec![4095]),
        idle: Idle::Park,
        wait: Duration::from_secs(30),
    };
    assert!(agent::command(&args).is_err());
    let error = report.join().expect("ends").expect_err("no report").to_string();
    assert!(error.contains("agent 1") && error.contains("may not use CPU 4095"), "{error}");
}
