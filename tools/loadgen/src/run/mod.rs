//! A whole run: the topic, the load cores, the collector, the report.
//!
//! Not here: the load itself (`load`), what the report looks like (`report`).
//! Lives on the process's first thread, which sleeps nearly all of the time.
//! Callers: `main`, `first_light`, `saturate`, `compare_brokers`; `agents` for parts of a run.

pub mod collect;
pub mod plan;
pub mod setup;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use thalweg::io::reactor::probe_io_uring;

use crate::args::{Acks, Idle, RunArgs, Workload};
use crate::client::admin::{self, Leader, NewTopic};
use crate::clock::RunClock;
use crate::load::consumer::ConsumerPlan;
use crate::load::core::{CoreEnd, CorePlan, start};
use crate::load::recorder::{Interval, Window};
use crate::measure::ledger::Ledger;
use crate::measure::proc;
use crate::report::condition::Verdict;
use crate::report::hlog::HistogramLog;
use crate::report::live::LiveLine;
use crate::report::parts::{self, CatchUp};
use crate::report::{Generator, Report, Target, csv, table};
use crate::wire::batch::{BatchShape, BatchTemplate};
use crate::wire::fetch::FetchLimits;
use crate::wire::mark::MARK_BYTES;
use collect::{Collected, Collector};
use setup::{Ready, TopicChoice};

/// Time for the load cores to come up and connect, and for each connection more.
const COME_UP: Duration = Duration::from_millis(300);
const COME_UP_EACH: Duration = Duration::from_millis(1);
/// Time for each MiB of frames that a load core copies: memory that is touched first is slow.
const COME_UP_EACH_MIB: Duration = Duration::from_millis(4);
/// How long a broker may take for one Produce request.
const PRODUCE_TIMEOUT_MS: i32 = 30_000;
/// How long answers may come after the last intended send.
const GRACE: Duration = Duration::from_secs(10);

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

/// `thalweg-bench run`: its workloads, one after the other. The outcome is the worst.
pub fn command(args: &RunArgs) -> Result<Outcome, RunError> {
    let report = execute(&spec_of(args))?;
    tell(args, &report)
}

/// Prints the report, writes the files that `args` ask for, and judges.
///
/// # Errors
/// When a file cannot be written.
pub fn tell(args: &RunArgs, report: &Report) -> Result<Outcome, RunError> {
    print!("{}", table::render(report));
    if let Some(path) = &args.json {
        write_json(path, report)?;
    }
    if let Some(path) = &args.csv {
        std::fs::write(path, csv::render(report))
            .map_err(|error| RunError::Io("writing the CSV file", error))?;
    }
    let mut holds = false;
    for condition in &args.fail_if {
        match condition.judge(report) {
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

/// The run of `workload` that the flags ask for.
#[must_use]
pub fn spec_of(args: &RunArgs, workload: &Workload) -> RunSpec {
    let topic = match &args.topic {
        Some(name) => {
            TopicChoice::Existing { name: name.clone(), from_beginning: workload.from_beginning }
        }
        None => fresh_topic(workload, args.topic_configs.clone(), args.replication),
    };
    RunSpec {
        bootstrap: args.bootstrap.clone(),
        cores: match &args.cores {
            Some(cores) => cores.clone(),
            None => default_cores(),
        },
        workload: workload.clone(),
        topic,
        keep_topic: args.keep_topic,
        broker_pid: args.broker_pid,
        idle: args.idle,
        label: if args.label.is_empty() { workload.name.clone() } else { args.label.clone() },
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
    let count = workload.topics;
    TopicChoice::Fresh(NewTopic { name, count, partitions, replication, configs })
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

/// A run whose batch is built and whose topic is there.
pub struct Prepared {
    addr: SocketAddr,
    batch: BatchTemplate,
    ready: Ready,
}

impl Prepared {
    /// Who leads which partition.
    #[must_use]
    pub fn leaders(&self) -> &[Leader] {
        &self.ready.leaders
    }

    /// Deletes the run's own topic, unless it is to stay.
    pub fn clean_up(&self, spec: &RunSpec) {
        if matches!(spec.topic, TopicChoice::Fresh(_)) && !spec.keep_topic {
            let topic = spec.topic.name().to_owned();
            if let Err(error) = setup::clean_up(spec.cores[0], self.addr, topic) {
                eprintln!("thalweg-bench: topic {} stays: {error}", spec.topic.name());
            }
        }
    }
}

/// Which of a run's load cores are this process's.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The run's clock.
    pub clock: RunClock,
    /// First send.
    pub start_ns: u64,
    /// Index of this process's first load core.
    pub first_core: usize,
    /// Load cores of all processes.
    pub core_count: usize,
    /// Whether other processes produce, too: [`Running::producing`] stays above zero by one until
    /// somebody knows that they do not any more.
    pub others_produce: bool,
}

/// Load cores at work.
pub struct Running {
    /// The run's parts.
    pub window: Window,
    /// What they see, second by second.
    pub intervals: mpsc::Receiver<Interval>,
    /// Producers' connections that have not ended; consumers wait for them.
    pub producing: Arc<AtomicUsize>,
    cores: Vec<JoinHandle<io::Result<CoreEnd>>>,
}

impl Running {
    /// Waits for the end of all.
    ///
    /// # Errors
    /// When one of them died.
    pub fn join(self) -> Result<CoreEnd, RunError> {
        let mut all = CoreEnd { finished_ns: 0, ledger: Ledger::default() };
        for core in self.cores {
            let end = core
                .join()
                .map_err(|_| io::Error::other("its thread died"))
                .and_then(|result| result)
                .map_err(|error| RunError::Io("a load core", error))?;
            all.finished_ns = all.finished_ns.max(end.finished_ns);
            all.ledger.merge(&end.ledger);
        }
        Ok(all)
    }
}

/// Takes one run from its topic to its report.
pub fn execute(spec: &RunSpec) -> Result<Report, RunError> {
    let prepared = prepare(spec)?;
    let result = load(spec, &prepared);
    prepared.clean_up(spec);
    result
}

/// Builds the batch and prepares the topic.
///
/// # Errors
/// When the flags cannot be, or the broker does not let us.
pub fn prepare(spec: &RunSpec) -> Result<Prepared, RunError> {
    check(spec)?;
    probe_io_uring().map_err(|error| RunError::Io("this machine", error))?;
    let pool =
        BatchPool::build(&spec.workload).map_err(|error| RunError::Flags(error.to_string()))?;
    let addr = bootstrap_addr(&spec.bootstrap)?;
    // The group goes by the name of the run's first topic.
    let group = spec.workload.has_group().then(|| spec.topic.names().swap_remove(0));
    let ready = setup::prepare(spec.cores[0], addr, spec.topic.clone(), group)
        .map_err(|error| RunError::Io("preparing the run", error))?;
    Ok(Prepared { addr, batch, ready })
}

fn load(spec: &RunSpec, prepared: &Prepared) -> Result<Report, RunError> {
    let clock = RunClock::start();
    let part = Part {
        clock,
        start_ns: start_ns(spec, clock),
        first_core: 0,
        core_count: spec.cores.len(),
        others_produce: false,
    };
    let running = begin(spec, prepared, &part)?;
    let window = running.window;
    let live = LiveLine::new(!spec.quiet, spec.workload.warmup + spec.workload.duration);
    let hlog = spec.hlog.as_deref().map(HistogramLog::create).transpose();
    let hlog = hlog.map_err(|error| RunError::Io("the histogram log", error))?;
    let collector = Collector::new(window, clock, part.core_count, spec.broker_pid, live, hlog);
    let collected = collector.collect(&running.intervals).ok_or_else(|| {
        RunError::Io("a load core", io::Error::other("is stuck: the run is lost, start it again"))
    })?;
    let end = running.join()?;
    Ok(report(spec, prepared, window, collected, end))
}

/// Starts this process's load cores.
///
/// # Errors
/// When they cannot be started.
pub fn begin(spec: &RunSpec, prepared: &Prepared, part: &Part) -> Result<Running, RunError> {
    let window = window(spec, part.start_ns);
    let producing = Arc::new(AtomicUsize::new(usize::from(part.others_produce)));
    let (out, intervals) = mpsc::channel();
    let mut cores = Vec::new();
    for plan in core_plans(spec, &prepared.ready, &prepared.batch, part, &producing)? {
        let core = start(plan, out.clone())
            .map_err(|error| RunError::Io("starting a load core", error))?;
        cores.push(core);
    }
    Ok(Running { window, intervals, producing, cores })
}

/// When a run can begin that is started now: its load cores have to come up and connect.
#[must_use]
pub fn start_ns(spec: &RunSpec, clock: RunClock) -> u64 {
    let connections = spec.workload.producers + spec.workload.consumers;
    clock.now_ns() + nanos(COME_UP + COME_UP_EACH * connections)
}

/// The parts of a run that begins at `start_ns`.
#[must_use]
pub fn window(spec: &RunSpec, start_ns: u64) -> Window {
    let measure_ns = start_ns + nanos(spec.workload.warmup);
    let end_ns = measure_ns + nanos(spec.workload.duration);
    Window { start_ns, measure_ns, end_ns, deadline_ns: end_ns + nanos(GRACE) }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

/// Puts together what came in and what is known of the run.
#[must_use]
pub fn report(
    spec: &RunSpec,
    prepared: &Prepared,
    window: Window,
    collected: Collected,
    end: CoreEnd,
) -> Report {
    let Prepared { batch, ready, .. } = prepared;
    let CoreEnd { finished_ns, ledger } = end;
    let measured_ns = finished_ns.clamp(window.measure_ns, window.end_ns) - window.measure_ns;
    let target = target_of(spec, ready);
    let generator = Generator {
        cores: spec.cores.clone(),
        idle: spec.idle,
        stamped: !pool.stamp_places().is_empty() && !spec.workload.verify,
        pool: pool.facts().clone(),
    };
    let parts = parts::find(&spec.workload, &generator.pool, &collected.parts, window, drain);
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
    report
}

/// The plans of this process's load cores: the whole run is planned for the cores of all processes,
/// and each takes its own.
fn core_plans(
    spec: &RunSpec,
    ready: &Ready,
    batch: &BatchTemplate,
    part: &Part,
    producing: &Arc<AtomicUsize>,
) -> Result<Vec<CorePlan>, RunError> {
    let workload = &spec.workload;
    let clock = part.clock;
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
    let verify = workload.verify.then(|| verify_run(part));
    let lanes = plan::lanes(
        workload,
        &ready.leaders,
        part.start_ns,
        run,
        idempotent_version,
        greeting,
        verify,
    );
    let mut plans: Vec<CorePlan> = spec
        .cores
        .iter()
        .enumerate()
        .map(|(index, &cpu)| CorePlan {
            index: part.first_core + index,
            cpu,
            idle: spec.idle,
            clock,
            window: window(spec, part.start_ns),
            topic: spec.topic.name().to_owned(),
            produce_version: ready.versions.produce,
            acks: workload.acks.wire(),
            batch: batch.clone(),
            lanes: Vec::new(),
            consumers: Vec::new(),
            churn: churn.next().flatten(),
            rebalances: plan::rebalances(&common).filter(|_| index == 0),
            progress: progress.clone(),
        })
        .collect();
    let consumers = consumer_plans(spec, ready, batch, run, verify);
    // Connection by connection over all cores; those of other processes are theirs.
    let own = |idx: usize| (idx % part.core_count).checked_sub(part.first_core);
    let offset = lanes.len();
    for (idx, lane) in lanes.into_iter().enumerate() {
        if let Some(plan) = own(idx).and_then(|core| plans.get_mut(core)) {
            plan.lanes.push(lane);
            producing.fetch_add(1, Ordering::Relaxed);
        }
    }
    for (idx, consumer) in consumers.into_iter().enumerate() {
        if let Some(plan) = own(offset + idx).and_then(|core| plans.get_mut(core)) {
            plan.consumers.push(consumer);
        }
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

/// A number that no other run on this topic has, and all processes of this one: when it began, to
/// the ns.
fn verify_run(part: &Part) -> u64 {
    part.clock.wall_ms(0).cast_unsigned() << 16 | part.start_ns & 0xffff
}

fn bootstrap_addr(bootstrap: &str) -> Result<SocketAddr, RunError> {
    let flags = || RunError::Flags(format!("`{bootstrap}` is not HOST:PORT"));
    let (host, port) = bootstrap.rsplit_once(':').ok_or_else(flags)?;
    let port = port.parse().map_err(|_| flags())?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    admin::resolve(host, port)
        .map_err(|error| RunError::Io("the bootstrap address", io::Error::other(error)))
}

/// Whether the flags can be.
///
/// # Errors
/// When they cannot, and why.
pub fn check(spec: &RunSpec) -> Result<(), RunError> {
    let workload = &spec.workload;
    let allowed = allowed_cpus();
    let flaw = if spec.cores.is_empty() {
        Some("no load core is given".to_owned())
    } else if let Some(cpu) = spec.cores.iter().find(|cpu| !allowed.contains(cpu)) {
        Some(format!("this process may not use CPU {cpu} (it may use {allowed:?})"))
    } else if workload.topics != 1 && matches!(spec.topic, TopicChoice::Existing { .. }) {
        Some("--topic names one topic: it needs --topics 1".to_owned())
    } else if spec.topic.name().is_empty() || spec.topic.name().len() > 240 {
        Some("a topic's name has 1 to 240 characters".to_owned())
    } else {
        workload.flaw()
    };
    flaw.map_or(Ok(()), |text| Err(RunError::Flags(text)))
}
