//! `thalweg-bench limits`: what this tool can offer, beside what the machine can carry at all.
//!
//! Two pairs, measured in turn so that a change of the machine falls on both: requests of 1 MiB
//! beside a raw loopback stream, and one-record requests over many connections beside a raw
//! io_uring client that sends the same bytes to the same null broker. The null broker runs as a
//! process of its own on the first core, everything that sends on the second.
//!
//! Not here: the load itself (`run`), the other end (`null_broker`).
//! Lives on the process's first thread. Callers: `main`.

mod raw_ring;
mod raw_stream;

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::Parser;
use serde::Serialize;

use crate::args::{Cli, Command as BenchCommand, LimitsArgs, RunArgs};
use crate::client::call::CLIENT_ID;
use crate::report::env::Environment;
use crate::run::setup::{self, Wanted};
use crate::run::{self, Outcome, RunError};
use crate::wire::batch::{BatchShape, BatchTemplate};
use crate::wire::produce::{FrameTemplate, Send};
use crate::wire::stamp::Stamp;
use raw_ring::RawClient;
use thalweg::record::Compression;

/// What one core must offer in requests of 1 MiB, MB/s, or ...
const STREAM_MB_PER_S: f64 = 3_000.0;
/// ... this part of the raw loopback stream.
const STREAM_RATIO: f64 = 0.95;
/// What one core must offer in one-record requests a second, or ...
const REQUESTS_PER_S: f64 = 200_000.0;
/// ... this part of the raw io_uring client.
const REQUESTS_RATIO: f64 = 0.90;

/// Value of the record that makes a Produce request of about 1 MiB: Kafka's default bound of a
/// batch is 1 MiB and 12 bytes, headers and all.
const STREAM_VALUE_BYTES: usize = 1_048_000;
/// Connections and value bytes of the one-record requests.
const CONNECTIONS: u32 = 64;
const REQUEST_VALUE_BYTES: usize = 1024;

/// Several measurements of one thing.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Series {
    /// One for each round.
    pub values: Vec<f64>,
}

impl Series {
    /// The middle value; 0 if there is none.
    #[must_use]
    pub fn median(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => 0.0,
            len if len % 2 == 1 => sorted[len / 2],
            len => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
        }
    }

    fn text(&self, digits: usize) -> String {
        let low = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self.values.iter().copied().fold(0.0, f64::max);
        format!("{:.digits$} [{low:.digits$}..{high:.digits$}]", self.median())
    }
}

/// The generator beside its raw reference.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// What was sent.
    pub what: &'static str,
    /// Unit of both series.
    pub unit: &'static str,
    /// The generator.
    pub generator: Series,
    /// The reference.
    pub raw: Series,
    /// Generator over reference, round by round.
    pub ratio: Series,
    /// Enough on its own.
    pub enough: f64,
    /// Enough beside the reference.
    pub enough_ratio: f64,
    /// Whether either is reached, by the medians.
    pub holds: bool,
}

impl Pair {
    fn new(what: &'static str, unit: &'static str, enough: f64, enough_ratio: f64) -> Pair {
        let (generator, raw, ratio) = Default::default();
        Pair { what, unit, generator, raw, ratio, enough, enough_ratio, holds: false }
    }

    fn push(&mut self, generator: f64, raw: f64) {
        self.generator.values.push(generator);
        self.raw.values.push(raw);
        self.ratio.values.push(generator / raw.max(1e-9));
        self.holds =
            self.generator.median() >= self.enough || self.ratio.median() >= self.enough_ratio;
    }

    fn text(&self) -> String {
        let verdict = if self.holds { "holds" } else { "DOES NOT HOLD" };
        format!(
            "{}\n  generator {:>38} {}\n  raw       {:>38} {}\n  ratio     {:>38}\n  {verdict}: at \
             least {:.0} {}, or {:.2} of raw\n",
            self.what,
            self.generator.text(0),
            self.unit,
            self.raw.text(0),
            self.unit,
            self.ratio.text(2),
            self.enough,
            self.unit,
            self.enough_ratio
        )
    }
}

/// What `limits` found.
#[derive(Clone, Debug, Serialize)]
pub struct Limits {
    /// As of a run's report.
    pub schema_version: u32,
    /// Machine and command.
    pub environment: Environment,
    /// CPU of the receiving end, and of the sending one.
    pub cores: [usize; 2],
    /// Requests of 1 MiB beside a raw loopback stream.
    pub stream: Pair,
    /// One-record requests beside a raw io_uring client.
    pub requests: Pair,
}

/// `thalweg-bench limits`.
///
/// # Errors
/// Flags that cannot be, or a run that could not take place.
pub fn command(args: &LimitsArgs) -> Result<Outcome, RunError> {
    let found = measure(args)?;
    println!("receiving end on CPU {}, sending end on CPU {}\n", found.cores[0], found.cores[1]);
    println!("{}", found.stream.text());
    println!("{}", found.requests.text());
    if let Some(path) = &args.json {
        run::write_json(path, &found)?;
    }
    let holds = found.stream.holds && found.requests.holds;
    Ok(if holds { Outcome::Fine } else { Outcome::Condition })
}

fn measure(args: &LimitsArgs) -> Result<Limits, RunError> {
    let [broker_cpu, load_cpu] = two_cores(args)?;
    if args.in_flight == 0 || args.rounds == 0 || args.duration.is_zero() {
        let text = "--in-flight, --rounds and --duration must be above zero";
        return Err(RunError::Flags(text.to_owned()));
    }
    thalweg::io::probe_io_uring().map_err(|error| RunError::Io("this machine", error))?;
    let mut stream =
        Pair::new("requests of 1 MiB, one connection", "MB/s", STREAM_MB_PER_S, STREAM_RATIO);
    let mut requests = Pair::new(
        "one-record requests of 1 KiB over 64 connections",
        "requests/s",
        REQUESTS_PER_S,
        REQUESTS_RATIO,
    );
    for round in 0..args.rounds {
        let raw_first = round % 2 == 1;
        let raw = || raw_stream::mb_per_s(broker_cpu, load_cpu, args.warmup, args.duration);
        let before = raw_first.then(raw).transpose()?;
        let (mb, generator, raw_ring) = {
            let broker = NullBroker::start(broker_cpu)?;
            let before = raw_first.then(|| raw_requests(args, &broker, load_cpu)).transpose()?;
            let mb = generate(args, &broker, load_cpu, &stream_flags())?.0;
            let generator = generate(args, &broker, load_cpu, &request_flags(args))?.1;
            let raw = before.map_or_else(|| raw_requests(args, &broker, load_cpu), Ok)?;
            (mb, generator, raw)
        };
        stream.push(mb, before.map_or_else(raw, Ok)?);
        requests.push(generator, raw_ring);
        eprintln!("round {} of {} done", round + 1, args.rounds);
    }
    Ok(Limits {
        schema_version: crate::report::SCHEMA_VERSION,
        environment: Environment::capture(),
        cores: [broker_cpu, load_cpu],
        stream,
        requests,
    })
}

/// The CPUs of the receiving and of the sending end.
fn two_cores(args: &LimitsArgs) -> Result<[usize; 2], RunError> {
    let allowed = run::allowed_cpus();
    let cores = args.cores.clone().unwrap_or_else(|| allowed.iter().copied().take(2).collect());
    match cores[..] {
        [one, other] if one != other && allowed.contains(&one) && allowed.contains(&other) => {
            Ok([one, other])
        }
        _ => Err(RunError::Flags(format!(
            "limits needs two CPUs, one for each end (--cores 0,1); this process may use {allowed:?}"
        ))),
    }
}

fn stream_flags() -> String {
    format!(
        "--producers 1 --partitions 1 --record-bytes {STREAM_VALUE_BYTES} --batch-records 1 \
         --in-flight 5"
    )
}

fn request_flags(args: &LimitsArgs) -> String {
    format!(
        "--producers {CONNECTIONS} --partitions {CONNECTIONS} --record-bytes {REQUEST_VALUE_BYTES} \
         --batch-records 1 --in-flight {}",
        args.in_flight
    )
}

fn run_args(addr: SocketAddr, flags: &str) -> Result<RunArgs, RunError> {
    let line = format!("thalweg-bench run --quiet --bootstrap {addr} --rate max {flags}");
    let parsed = Cli::try_parse_from(line.split_whitespace());
    match parsed.map(|cli| cli.command) {
        Ok(BenchCommand::Run(args)) => Ok(args),
        _ => Err(RunError::Flags(format!("`{line}` is no run"))),
    }
}

/// MB/s and requests/s of a closed loop of the generator.
fn generate(
    args: &LimitsArgs,
    broker: &NullBroker,
    cpu: usize,
    flags: &str,
) -> Result<(f64, f64), RunError> {
    let mut run_args = run_args(broker.addr, flags)?;
    run_args.cores = Some(vec![cpu]);
    let mut workload = run_args.workload.only().map_err(RunError::Flags)?.clone();
    (workload.warmup, workload.duration) = (args.warmup, args.duration);
    let report = run::execute(&run::spec_of(&run_args, &workload))?;
    if report.failed() {
        let text = format!("requests failed against the null broker: {:?}", report.errors);
        return Err(RunError::Io("the generator", io::Error::other(text)));
    }
    Ok((report.throughput.produced_mb_per_s, report.throughput.requests_per_s))
}

/// Requests/s of the raw client with the generator's own frames, one partition a connection.
fn raw_requests(args: &LimitsArgs, broker: &NullBroker, cpu: usize) -> Result<f64, RunError> {
    let failed = |error| RunError::Io("the raw client", error);
    let run_args = run_args(broker.addr, &request_flags(args))?;
    let workload = run_args.workload.only().map_err(RunError::Flags)?;
    let topic = run::fresh_topic(workload, Vec::new(), -1);
    let name = topic.name().to_owned();
    let ready = setup::prepare(cpu, Wanted::plain(broker.addr, topic)).map_err(failed)?;
    let shape = BatchShape {
        records: 1,
        record_bytes: REQUEST_VALUE_BYTES,
        compression: Compression::None,
        level: None,
        entropy: workload.entropy,
    };
    let batch = BatchTemplate::build(shape).map_err(|error| RunError::Flags(error.to_string()))?;
    let template = FrameTemplate::new(&name, CLIENT_ID, -1, 30_000, ready.versions.produce, &batch);
    let frames = (0..CONNECTIONS).map(|partition| {
        let mut frame = template.frame().to_vec();
        let stamp = Stamp { run: 0, lane: 0, sequence: 0, intended_ns: 0 };
        let partition = partition.cast_signed();
        let send = Send { correlation_id: 1, partition, wall_ms: 0, identity: None, stamp };
        template.patch(&mut frame, &send);
        frame
    });
    let client = RawClient {
        cpu,
        addr: broker.addr,
        frames: frames.collect(),
        in_flight: args.in_flight as usize,
        warmup: args.warmup,
        duration: args.duration,
    };
    client.requests_per_s().map_err(failed)
}

/// A null broker in a process of its own; killed when dropped.
struct NullBroker {
    child: Child,
    addr: SocketAddr,
}

impl NullBroker {
    fn start(cpu: usize) -> Result<NullBroker, RunError> {
        let failed = |error| RunError::Io("the null broker", error);
        let program = std::env::current_exe().map_err(failed)?;
        let mut child = Command::new(program)
            .args(["null-broker", "--listen", "127.0.0.1:0", "--core", &cpu.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let mut line = String::new();
        let stdout = child.stdout.take().map(BufReader::new);
        let mut broker = NullBroker { child, addr: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let read = stdout.map_or(Ok(0), |mut stdout| stdout.read_line(&mut line));
        read.map_err(failed)?;
        // "null broker ready at ADDR, cpu N"
        let addr = line.split_whitespace().find_map(|word| word.trim_end_matches(',').parse().ok());
        broker.addr = addr.ok_or_else(|| failed(io::Error::other("it did not become ready")))?;
        Ok(broker)
    }
}

impl Drop for NullBroker {
    fn drop(&mut self) {
        // It keeps nothing; it may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Pins the calling thread.
fn pin(cpu: usize) -> io::Result<()> {
    if core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
        Ok(())
    } else {
        Err(io::Error::other(format!("this thread cannot be pinned to CPU {cpu}")))
    }
}

/// Counts only between the end of the warm-up and the end.
#[derive(Clone, Copy)]
struct Measured {
    from: std::time::Instant,
    until: std::time::Instant,
}

impl Measured {
    fn after(warmup: Duration, duration: Duration) -> Measured {
        let from = std::time::Instant::now() + warmup;
        Measured { from, until: from + duration }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_holds_by_its_own_figure_or_by_its_ratio() {
        let pair = |generator, raw| {
            let mut pair = Pair::new("x", "MB/s", 100.0, 0.9);
            pair.push(generator, raw);
            pair.holds
        };
        assert!(pair(100.0, 1_000.0));
        assert!(pair(90.0, 100.0));
        assert!(!pair(89.0, 100.0));
    }

    #[test]
    fn one_bad_round_of_three_does_not_decide() {
        let mut pair = Pair::new("x", "MB/s", 1e9, 0.9);
        for (generator, raw) in [(95.0, 100.0), (10.0, 100.0), (96.0, 100.0)] {
            pair.push(generator, raw);
        }
        assert!((pair.ratio.median() - 0.95).abs() < 1e-9);
        assert!(pair.holds);
        assert_eq!(Series::default().median(), 0.0);
        assert!((Series { values: vec![4.0, 2.0] }.median() - 3.0).abs() < 1e-9);
    }
}
