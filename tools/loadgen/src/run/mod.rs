//! A whole run: the topic, the load cores, the collector, the report.
//!
//! Not here: the load itself (`load`), what the report looks like (`report`).
//! Lives on the process's first thread, which sleeps nearly all of the time.
//! Callers: `main`, `first_light`, `saturate`, `compare_brokers`; `agents` for parts of a run.

pub mod collect;
pub mod cores;
pub mod plan;
pub mod setup;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thalweg::io::reactor::probe_io_uring;

use crate::args::{Idle, RunArgs, Workload};
use crate::client::admin::{Leader, NewTopic};
use crate::client::dial::Dialer;
use crate::client::features::Needs;
use crate::client::security::SecurityArgs;
use crate::clock::RunClock;
use crate::load::core::CoreEnd;
use crate::load::frame_pool::FrameSet;
use crate::load::progress::Drain;
use crate::load::recorder::Window;
use crate::measure::host::Host;
use crate::measure::proc;
use crate::report::condition::Verdict;
use crate::report::hlog::HistogramLog;
use crate::report::live::LiveLine;
use crate::report::parts::{self, CatchUp};
use crate::report::{Generator, Report, Secured, Target, csv, files, html, pictures, table};
use crate::wire::pool::BatchPool;
use collect::{Collected, Collector};
use cores::Part;
use setup::{Ready, TopicChoice, Wanted};

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
    /// How connections are secured.
    pub security: SecurityArgs,
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
    check_outputs(args)?;
    let workloads = args.workload.all();
    let mut worst = Outcome::Fine;
    for workload in workloads {
        let mut one = args.clone();
        if workloads.len() > 1 {
            let files = [&mut one.json, &mut one.csv, &mut one.hlog, &mut one.html];
            for path in files.into_iter().flatten() {
                *path = with_name(path, &workload.name);
            }
            if let Some(folder) = &mut one.charts {
                *folder = folder.join(file_name(&workload.name));
            }
        }
        let outcome = one_of(&one, workload)?;
        worst = match (worst, outcome) {
            (Outcome::Failed, _) | (_, Outcome::Failed) => Outcome::Failed,
            (Outcome::Condition, _) | (_, Outcome::Condition) => Outcome::Condition,
            _ => Outcome::Fine,
        };
    }
    Ok(worst)
}

/// `out.json` of workload `a` is `out.a.json`.
fn with_name(path: &Path, name: &str) -> PathBuf {
    let name = file_name(name);
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    path.with_extension(format!("{name}.{extension}"))
}

fn file_name(name: &str) -> String {
    let safe = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    name.chars().map(safe).collect()
}

fn one_of(args: &RunArgs, workload: &Workload) -> Result<Outcome, RunError> {
    tell(args, &execute(&spec_of(args, workload))?)
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
    if let Some(path) = &args.html {
        let page = html::of_run(report);
        files::write_html(
            path,
            &page.map_err(|error| RunError::Io("the page", io::Error::other(error)))?,
        )?;
    }
    if let Some(folder) = &args.charts {
        files::write_charts(folder, &pictures::of_run(report))?;
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

/// Refuses output files that cannot be before anything is measured.
///
/// # Errors
/// The flag and what is wrong with it.
pub fn check_outputs(args: &RunArgs) -> Result<(), RunError> {
    files::check_folders([
        ("--json", args.json.as_deref()),
        ("--csv", args.csv.as_deref()),
        ("--hlog", args.hlog.as_deref()),
        ("--html", args.html.as_deref()),
        ("--charts", args.charts.as_deref()),
    ])
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
        security: args.security.clone(),
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

/// A run whose batches are built and whose topics are there.
pub struct Prepared {
    wanted: Wanted,
    pool: Arc<BatchPool>,
    frames: Arc<FrameSet>,
    ready: Ready,
}

impl Prepared {
    /// Who leads which partition.
    #[must_use]
    pub fn leaders(&self) -> &[Leader] {
        &self.ready.leaders
    }

    /// Deletes the run's own topics, unless they are to stay.
    pub fn clean_up(&self, spec: &RunSpec) {
        if matches!(spec.topic, TopicChoice::Fresh(_))
            && !spec.keep_topic
            && let Err(error) = setup::clean_up(spec.cores[0], self.wanted.clone())
        {
            eprintln!("thalweg-bench: topic {} stays: {error}", spec.topic.name());
        }
    }
}

/// Takes one run from its topic to its report.
pub fn execute(spec: &RunSpec) -> Result<Report, RunError> {
    let prepared = prepare(spec)?;
    let result = load(spec, &prepared);
    prepared.clean_up(spec);
    result
}

/// Builds the batches and prepares the topic.
///
/// # Errors
/// When the flags cannot be, or the broker does not let us.
pub fn prepare(spec: &RunSpec) -> Result<Prepared, RunError> {
    check(spec)?;
    probe_io_uring().map_err(|error| RunError::Io("this machine", error))?;
    let pool =
        BatchPool::build(&spec.workload).map_err(|error| RunError::Flags(error.to_string()))?;
    let dialer = Dialer::new(spec.security.load().map_err(RunError::Flags)?);
    let wanted = Wanted {
        bootstrap: bootstrap_addr(&dialer, &spec.bootstrap)?,
        dialer,
        topic: spec.topic.clone(),
        needs: needs(spec),
        // The group goes by the name of the run's first topic.
        group: spec.workload.has_group().then(|| spec.topic.names().swap_remove(0)),
        lasts: cores::lasts(spec),
    };
    let ready = setup::prepare(spec.cores[0], wanted.clone())
        .map_err(|error| RunError::Io("preparing the run", error))?;
    let frames = cores::frames_of(&spec.workload, &ready, &pool);
    Ok(Prepared { wanted, pool: Arc::new(pool), frames, ready })
}

fn load(spec: &RunSpec, prepared: &Prepared) -> Result<Report, RunError> {
    let clock = RunClock::start();
    let part = Part {
        clock,
        start_ns: cores::start_ns(spec, prepared, clock),
        first_core: 0,
        core_count: spec.cores.len(),
        others_produce: false,
    };
    let running = cores::begin(spec, prepared, &part)?;
    let window = running.window;
    let live = LiveLine::new(!spec.quiet, spec.workload.warmup + spec.workload.duration);
    let hlog = spec.hlog.as_deref().map(HistogramLog::create).transpose();
    let hlog = hlog.map_err(|error| RunError::Io("the histogram log", error))?;
    let collector = Collector::new(window, clock, part.core_count, spec.broker_pid, live, hlog);
    let collected = collector.collect(&running.intervals).ok_or_else(|| {
        RunError::Io("a load core", io::Error::other("is stuck: the run is lost, start it again"))
    })?;
    let progress = running.progress.clone();
    let end = running.join()?;
    let drain = spec.workload.backlog.gt(&0).then(|| progress.drain());
    Ok(report(spec, prepared, window, collected, end, drain))
}

/// Puts together what came in and what is known of the run; `drain` tells how its backlog was read,
/// if it had one.
#[must_use]
pub fn report(
    spec: &RunSpec,
    prepared: &Prepared,
    window: Window,
    collected: Collected,
    end: CoreEnd,
    drain: Option<Drain>,
) -> Report {
    let Prepared { pool, ready, .. } = prepared;
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
    let verification = workload.verify.then(|| ledger.judge(workload.read_committed));
    let mut report = Report::new(
        spec.label.clone(),
        workload,
        target,
        generator,
        collected,
        Duration::from_nanos(measured_ns),
    );
    report.verification = verification;
    report.parts = parts;
    report.catch_up = drain.map(|drain| CatchUp::of(drain, window));
    report.find_warnings();
    report
}

fn target_of(spec: &RunSpec, ready: &Ready) -> Target {
    let leaders: BTreeSet<SocketAddr> = ready.leaders.iter().map(|it| it.addr).collect();
    Target {
        bootstrap: spec.bootstrap.clone(),
        topic: spec.topic.name().to_owned(),
        leaders: leaders.len(),
        versions: ready.versions,
        topic_configs: ready.topic_configs.clone(),
        broker_configs: ready.broker_configs.clone(),
        features: ready.features.clone(),
        host: spec.broker_pid.map(Host::of),
        security: Secured {
            protocol: spec.security.protocol(),
            mechanism: spec.security.sasl_mechanism,
            encryption: ready.encryption.clone(),
        },
        pid: spec.broker_pid,
        cpus: spec.broker_pid.and_then(proc::working_cpus),
    }
}

fn bootstrap_addr(dialer: &Dialer, bootstrap: &str) -> Result<SocketAddr, RunError> {
    let flags = || RunError::Flags(format!("`{bootstrap}` is not HOST:PORT"));
    let (host, port) = bootstrap.rsplit_once(':').ok_or_else(flags)?;
    let port = port.parse().map_err(|_| flags())?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    dialer.resolve(host, port).map_err(|error| RunError::Io("the bootstrap address", error))
}

/// What the run needs of the brokers.
fn needs(spec: &RunSpec) -> Needs {
    Needs {
        topic: matches!(spec.topic, TopicChoice::Fresh(_)),
        produce: spec.workload.producers > 0,
        fetch: spec.workload.consumers > 0,
        idempotence: spec.workload.idempotent,
        transactions: spec.workload.transactional,
        groups: spec.workload.has_group(),
    }
}

/// Looks for flags that cannot be.
///
/// # Errors
/// Says which.
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
