//! A whole run: the topic, the load cores, the collector, the report.
//!
//! Not here: the load itself (`load`), what the report looks like (`report`).
//! Lives on the process's first thread, which sleeps nearly all of the time.
//! Callers: `main`, `first_light`.

pub mod collect;
pub mod plan;
pub mod setup;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use thalweg::io::reactor::probe_io_uring;

use crate::args::{Acks, Idle, RunArgs, Workload};
use crate::client::admin::{self, NewTopic};
use crate::clock::RunClock;
use crate::load::consumer::ConsumerPlan;
use crate::load::core::{CorePlan, start};
use crate::load::recorder::Window;
use crate::measure::ledger::Ledger;
use crate::measure::proc;
use crate::report::condition::Verdict;
use crate::report::hlog::HistogramLog;
use crate::report::live::LiveLine;
use crate::report::{Generator, Report, Target, csv, table};
use crate::wire::batch::{BatchShape, BatchTemplate};
use crate::wire::fetch::FetchLimits;
use crate::wire::mark::MARK_BYTES;
use collect::Collector;
use setup::{Ready, TopicChoice};

/// Time for the load cores to come up and connect, and for each connection more.
const COME_UP: Duration = Duration::from_millis(300);
const COME_UP_EACH: Duration = Duration::from_millis(1);
/// How long answers may come after the last intended send.
const GRACE: Duration = Duration::from_secs(10);
/// Longest wait of a fetch that finds nothing.
const FETCH_WAIT_MS: i32 = 500;

/// Why a run could not take place.
#[derive(Debug)]
pub enum RunError {
    /// Flags that cannot be.
    Flags(String),
    /// The operating system, the broker's answers, the threads.
    Io(&'static str, io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Flags(text) => f.write_str(text),
            RunError::Io(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for RunError {}

/// A run, with nothing left to be chosen.
#[derive(Clone, Debug)]
pub struct RunSpec {
    /// HOST:PORT of a broker.
    pub bootstrap: String,
    /// CPU ids of the load cores.
    pub cores: Vec<usize>,
    /// The workload.
    pub workload: Workload,
    /// The topic.
    pub topic: TopicChoice,
    /// Whether a fresh topic stays.
    pub keep_topic: bool,
    /// A broker's process on this machine.
    pub broker_pid: Option<u32>,
    /// What an idle load core does.
    pub idle: Idle,
    /// Name of the run.
    pub label: String,
    /// No live line.
    pub quiet: bool,
    /// Where the histograms of each second go.
    pub hlog: Option<PathBuf>,
}

/// How a run that took place is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to complain about.
    Fine,
    /// Requests failed.
    Failed,
    /// A condition of `--fail-if` holds.
    Condition,
}

/// `thalweg-bench run`.
pub fn command(args: &RunArgs) -> Result<Outcome, RunError> {
    let report = execute(&spec_of(args))?;
    print!("{}", table::render(&report));
    if let Some(path) = &args.json {
        write_json(path, &report)?;
    }
    if let Some(path) = &args.csv {
        std::fs::write(path, csv::render(&report))
            .map_err(|error| RunError::Io("writing the CSV file", error))?;
    }
    let mut holds = false;
    for condition in &args.fail_if {
        match condition.judge(&report) {
            Verdict::No => {}
            Verdict::Yes(text) | Verdict::Missing(text) => {
                println!("FAIL {text}");
                holds = true;
            }
        }
    }
    Ok(match (report.failed(), holds) {
        (true, _) => Outcome::Failed,
        (false, true) => Outcome::Condition,
        (false, false) => Outcome::Fine,
    })
}

/// The run that the flags ask for.
#[must_use]
pub fn spec_of(args: &RunArgs) -> RunSpec {
    let topic = match &args.topic {
        Some(name) => TopicChoice::Existing {
            name: name.clone(),
            from_beginning: args.workload.from_beginning,
        },
        None => fresh_topic(&args.workload, args.topic_configs.clone(), args.replication),
    };
    RunSpec {
        bootstrap: args.bootstrap.clone(),
        cores: match &args.cores {
            Some(cores) => cores.clone(),
            None => default_cores(),
        },
        workload: args.workload.clone(),
        topic,
        keep_topic: args.keep_topic,
        broker_pid: args.broker_pid,
        idle: args.idle,
        label: args.label.clone(),
        quiet: args.quiet,
        hlog: args.hlog.clone(),
    }
}

/// Writes `value` as JSON to `path`.
pub fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<(), RunError> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::other);
    text.and_then(|text| std::fs::write(path, text + "\n"))
        .map_err(|error| RunError::Io("writing the JSON report", error))
}

/// A topic for one run; the name tells when and by whom it was made, should it stay behind.
#[must_use]
pub fn fresh_topic(
    workload: &Workload,
    configs: Vec<(String, String)>,
    replication: i16,
) -> TopicChoice {
    let name = format!("thalweg-bench-{}-{}", RunClock::start().wall_ms(0), std::process::id());
    let partitions = i32::try_from(workload.partitions).unwrap_or(i32::MAX);
    TopicChoice::Fresh(NewTopic { name, partitions, replication, configs })
}

/// All CPUs that this process may use, without the first, which is left to the broker.
#[must_use]
pub fn default_cores() -> Vec<usize> {
    let mut cores = allowed_cpus();
    if cores.len() > 1 {
        cores.remove(0);
    }
    cores
}

/// The CPUs that this process may use.
#[must_use]
pub fn allowed_cpus() -> Vec<usize> {
    let mut ids: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|it| it.id).collect();
    ids.sort_unstable();
    if ids.is_empty() { vec![0] } else { ids }
}

/// Takes one run from its topic to its report.
pub fn execute(spec: &RunSpec) -> Result<Report, RunError> {
    check(spec)?;
    probe_io_uring().map_err(|error| RunError::Io("this machine", error))?;
    let shape = BatchShape {
        records: spec.workload.batch_records,
        record_bytes: spec.workload.record_bytes,
        compression: spec.workload.compression,
        entropy: spec.workload.entropy,
    };
    let batch = BatchTemplate::build(shape).map_err(|error| RunError::Flags(error.to_string()))?;
    let addr = bootstrap_addr(&spec.bootstrap)?;
    let ready = setup::prepare(spec.cores[0], addr, spec.topic.clone())
        .map_err(|error| RunError::Io("preparing the run", error))?;
    let result = load(spec, &ready, &batch);
    if matches!(spec.topic, TopicChoice::Fresh(_)) && !spec.keep_topic {
        let topic = spec.topic.name().to_owned();
        if let Err(error) = setup::clean_up(spec.cores[0], addr, topic) {
            eprintln!("thalweg-bench: topic {} stays: {error}", spec.topic.name());
        }
    }
    result
}

fn load(spec: &RunSpec, ready: &Ready, batch: &BatchTemplate) -> Result<Report, RunError> {
    let clock = RunClock::start();
    let plans = core_plans(spec, ready, batch, clock)?;
    let window = plans[0].window;
    let (out, intervals) = mpsc::channel();
    let mut cores = Vec::new();
    for plan in plans {
        let core = start(plan, out.clone())
            .map_err(|error| RunError::Io("starting a load core", error))?;
        cores.push(core);
    }
    drop(out);
    let live = LiveLine::new(!spec.quiet, spec.workload.warmup + spec.workload.duration);
    let hlog = spec.hlog.as_deref().map(HistogramLog::create).transpose();
    let hlog = hlog.map_err(|error| RunError::Io("the histogram log", error))?;
    let collector = Collector::new(window, clock, cores.len(), spec.broker_pid, live, hlog);
    let collected = collector.collect(&intervals).ok_or_else(|| {
        RunError::Io("a load core", io::Error::other("is stuck: the run is lost, start it again"))
    })?;
    let mut finished_ns = 0;
    let mut ledger = Ledger::default();
    for core in cores {
        let end = core
            .join()
            .map_err(|_| io::Error::other("its thread died"))
            .and_then(|result| result)
            .map_err(|error| RunError::Io("a load core", error))?;
        finished_ns = finished_ns.max(end.finished_ns);
        ledger.merge(&end.ledger);
    }
    let measured_ns = finished_ns.clamp(window.measure_ns, window.end_ns) - window.measure_ns;
    let target = Target {
        bootstrap: spec.bootstrap.clone(),
        topic: spec.topic.name().to_owned(),
        leaders: plan::by_leader(
            &ready.leaders.iter().map(|it| it.partition).collect::<Vec<_>>(),
            &ready.leaders,
        )
        .len(),
        versions: ready.versions,
        topic_configs: ready.topic_configs.clone(),
        pid: spec.broker_pid,
        cpus: spec.broker_pid.and_then(proc::working_cpus),
    };
    let generator = Generator {
        cores: spec.cores.clone(),
        idle: spec.idle,
        wire_bytes_per_batch: batch.bytes().len(),
        stamped: batch.stamp_at().is_some() && !spec.workload.verify,
    };
    let workload = spec.workload.clone();
    let verification = workload.verify.then(|| ledger.judge());
    let mut report = Report::new(
        spec.label.clone(),
        workload,
        target,
        generator,
        collected,
        Duration::from_nanos(measured_ns),
    );
    report.verification = verification;
    Ok(report)
}

fn core_plans(
    spec: &RunSpec,
    ready: &Ready,
    batch: &BatchTemplate,
    clock: RunClock,
) -> Result<Vec<CorePlan>, RunError> {
    let workload = &spec.workload;
    let connections = workload.producers + workload.consumers;
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4);
    let start_ns = clock.now_ns() + nanos(COME_UP + COME_UP_EACH * connections);
    let measure_ns = start_ns + nanos(workload.warmup);
    let end_ns = measure_ns + nanos(workload.duration);
    let window = Window { start_ns, measure_ns, end_ns, deadline_ns: end_ns + nanos(GRACE) };
    let idempotent_version = match (workload.idempotent, ready.versions.init_producer_id) {
        (false, _) => None,
        (true, Some(version)) => Some(version),
        (true, None) => {
            return Err(RunError::Flags("the broker does not offer InitProducerId".to_owned()));
        }
    };
    // Stamps of runs that share a topic differ; a collision costs nothing but a strange sample.
    let run = (clock.wall_ms(0) & 0xff) as u8;
    let greeting = ready.versions.api_versions;
    let verify = workload.verify.then(|| verify_run(clock));
    let lanes =
        plan::lanes(workload, &ready.leaders, start_ns, run, idempotent_version, greeting, verify);
    let producing = Arc::new(AtomicUsize::new(lanes.len()));
    let mut plans: Vec<CorePlan> = spec
        .cores
        .iter()
        .enumerate()
        .map(|(index, &cpu)| CorePlan {
            index,
            cpu,
            idle: spec.idle,
            clock,
            window,
            topic: spec.topic.name().to_owned(),
            produce_version: ready.versions.produce,
            acks: workload.acks.wire(),
            batch: batch.clone(),
            lanes: Vec::new(),
            consumers: Vec::new(),
            producing: producing.clone(),
        })
        .collect();
    let consumers = consumer_plans(spec, ready, batch, run, verify);
    let count = plans.len();
    let offset = lanes.len();
    for (idx, lane) in lanes.into_iter().enumerate() {
        plans[idx % count].lanes.push(lane);
    }
    for (idx, consumer) in consumers.into_iter().enumerate() {
        plans[(offset + idx) % count].consumers.push(consumer);
    }
    Ok(plans)
}

fn consumer_plans(
    spec: &RunSpec,
    ready: &Ready,
    batch: &BatchTemplate,
    run: u8,
    verify: Option<u64>,
) -> Vec<ConsumerPlan> {
    let workload = &spec.workload;
    let partition_bytes_max = i32::try_from(workload.fetch_bytes).unwrap_or(i32::MAX);
    let limits = FetchLimits {
        wait_ms: FETCH_WAIT_MS,
        bytes_min: 1,
        bytes_max: partition_bytes_max.max(50 << 20),
        partition_bytes_max,
    };
    let mut plans = Vec::new();
    for consumer in 0..workload.consumers {
        let mine = plan::share(consumer, workload.consumers, ready.leaders.len() as u32);
        for (leader, partitions) in plan::by_leader(&mine, &ready.leaders) {
            plans.push(ConsumerPlan {
                leader,
                topic: spec.topic.name().to_owned(),
                partitions: partitions
                    .into_iter()
                    .map(|part| (part, ready.offsets.get(&part).copied().unwrap_or(0)))
                    .collect(),
                limits,
                greeting: ready.versions.api_versions,
                run,
                stamp_at: batch.stamp_at().filter(|_| verify.is_none()),
                timed: workload.producers > 0,
                verify,
            });
        }
    }
    plans
}

/// A number that no other run on this topic has: when it began, and who ran it.
fn verify_run(clock: RunClock) -> u64 {
    clock.wall_ms(0).cast_unsigned() << 16 | u64::from(std::process::id() & 0xffff)
}

fn bootstrap_addr(bootstrap: &str) -> Result<SocketAddr, RunError> {
    let flags = || RunError::Flags(format!("`{bootstrap}` is not HOST:PORT"));
    let (host, port) = bootstrap.rsplit_once(':').ok_or_else(flags)?;
    let port = port.parse().map_err(|_| flags())?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    admin::resolve(host, port)
        .map_err(|error| RunError::Io("the bootstrap address", io::Error::other(error)))
}

fn check(spec: &RunSpec) -> Result<(), RunError> {
    let workload = &spec.workload;
    let allowed = allowed_cpus();
    let flaw = if spec.cores.is_empty() {
        Some("no load core is given".to_owned())
    } else if let Some(cpu) = spec.cores.iter().find(|cpu| !allowed.contains(cpu)) {
        Some(format!("this process may not use CPU {cpu} (it may use {allowed:?})"))
    } else if workload.producers == 0 && workload.consumers == 0 {
        Some("there is nothing to do: no producers, no consumers".to_owned())
    } else if workload.producers > 0 && workload.in_flight == 0 {
        Some("--in-flight must be 1 or more".to_owned())
    } else if workload.partitions == 0 || workload.partitions > 100_000 {
        Some("--partitions must be 1 to 100000".to_owned())
    } else if workload.idempotent && workload.acks.wire() != -1 {
        Some("--idempotent needs --acks all".to_owned())
    } else if workload.idempotent && workload.in_flight > 5 {
        Some("--idempotent allows at most 5 requests in flight (KIP-98)".to_owned())
    } else if workload.producers > 0 && workload.record_bytes == 0 {
        Some("--record-bytes must be 1 or more".to_owned())
    } else if workload.verify && (workload.consumers == 0 || workload.producers == 0) {
        Some("--verify needs producers and consumers".to_owned())
    } else if workload.verify && workload.record_bytes < MARK_BYTES {
        Some(format!("--verify needs --record-bytes of {MARK_BYTES} or more"))
    } else if workload.verify && workload.acks == Acks::None {
        Some("--verify needs acknowledgements: --acks all or 1".to_owned())
    } else if workload.duration.is_zero() {
        Some("--duration must be above zero".to_owned())
    } else if spec.topic.name().is_empty() || spec.topic.name().len() > 249 {
        Some("a topic's name has 1 to 249 characters".to_owned())
    } else {
        None
    };
    flaw.map_or(Ok(()), |text| Err(RunError::Flags(text)))
}
