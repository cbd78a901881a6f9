//! `compare-brokers`: starts Thalweg and an Apache Kafka on this machine, gives both the same
//! workloads in turn, and prints one report with ratios.
//!
//! Not here: a run (`run`), what a run reports (`report`).
//! Lives on the process's first thread; the load is on its own core, the brokers are processes on
//! another. Invariants: rounds of all brokers are interleaved, so that a machine that changes
//! changes for all; a ratio is of runs of one round; a broker that was not warmed with what is
//! measured is not measured; processes and data go when the command ends, however it ends.
//! Callers: `main`.

pub mod args;
pub mod bench;
pub mod fetch;
pub mod kafka;
pub mod process;
pub mod produce;
pub mod reference;
pub mod render;
pub mod restart;
pub mod result;
pub mod stats;
pub mod thalweg;
pub mod workloads;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::report::env::Environment;
use crate::run::{self, Outcome, RunError};
use args::{CompareBrokersArgs, Part};
use bench::{Bench, Contender, Topic};
use fetch::FetchPlan;
use kafka::Kafka;
use process::{Keeper, Process};
use produce::ProducePlan;
use result::{Comparison, SCHEMA_VERSION, Settings, Software};
use stats::Spread;
use thalweg::Thalweg;
use workloads::Workload;

/// The configuration that makes Kafka sync before it acknowledges, as Thalweg always does.
const FLUSH_EACH: (&str, &str) = ("flush.messages", "1");

/// Longest wait for a broker that starts: after a kill it may read all of its log first.
const START_WAIT: Duration = Duration::from_secs(600);
/// How often it is asked meanwhile.
const ASK_EACH: Duration = Duration::from_millis(5);

/// Which software a broker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Thalweg.
    Thalweg,
    /// Apache Kafka.
    Kafka,
}

impl Kind {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Thalweg => "Thalweg",
            Kind::Kafka => "Kafka",
        }
    }

    /// Its role in the tables, run as it ships.
    #[must_use]
    pub fn role(self) -> &'static str {
        match self {
            Kind::Thalweg => "Thalweg, synced",
            Kind::Kafka => "Kafka, no sync",
        }
    }

    fn starting(self) -> &'static str {
        match self {
            Kind::Thalweg => "starting Thalweg",
            Kind::Kafka => "starting Kafka",
        }
    }
}

/// A broker that runs.
pub struct Started {
    /// Its process.
    pub process: Process,
    /// HOST:PORT.
    pub address: String,
}

/// Both brokers' software, and what is needed to start it.
pub struct Brokers<'a> {
    /// Thalweg.
    pub thalweg: Thalweg,
    /// Kafka.
    pub kafka: Kafka,
    /// Ends what is still there in the end.
    pub keeper: &'a Arc<Keeper>,
    /// Where their data is.
    pub folder: &'a Path,
    /// CPU of the brokers.
    pub broker_core: usize,
    /// How runs are made.
    pub bench: Bench,
}

impl Brokers<'_> {
    /// Starts one on the data in `home`; it is ready when `answers` says so of its address. Thalweg
    /// is pinned; Kafka is free until [`process::pin`].
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start(
        &self,
        kind: Kind,
        home: &Path,
        answers: impl Fn(&str) -> bool,
    ) -> Result<Started, RunError> {
        let (mut process, address) = match kind {
            Kind::Thalweg => self.thalweg.start(self.keeper, home, self.broker_core)?,
            Kind::Kafka => self.kafka.start(self.keeper, home)?,
        };
        let started = Instant::now();
        while !answers(&address) {
            let why = match process.ended() {
                Some(status) => format!("it ended with {status}"),
                None if started.elapsed() > START_WAIT => "it does not answer".to_owned(),
                None => {
                    thread::sleep(ASK_EACH);
                    continue;
                }
            };
            let said = kafka::last_words(home);
            let text = format!("{why}{said}");
            return Err(RunError::Io(kind.starting(), io::Error::other(text)));
        }
        Ok(Started { process, address })
    }

    /// Whether a broker takes a topic and records.
    #[must_use]
    pub fn takes_records(&self, address: &str) -> bool {
        let contender = contender("", address, None, &[]);
        let times = (Duration::ZERO, Duration::from_millis(100));
        let flags = "--producers 1 --partitions 1 --batch-records 1";
        self.bench.run_at_once(&contender, flags, times, Topic::Fresh).is_ok()
    }
}

fn contender(
    name: &str,
    address: &str,
    pid: Option<u32>,
    topic_configs: &[(&str, &str)],
) -> Contender {
    Contender {
        name: name.to_owned(),
        address: address.to_owned(),
        pid,
        topic_configs: topic_configs
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
    }
}

/// `thalweg-bench compare-brokers`.
///
/// # Errors
/// When the comparison cannot take place; single runs that cannot are part of its report.
pub fn command(args: &CompareBrokersArgs) -> Result<Outcome, RunError> {
    let comparison = compare(args)?;
    print!("{}", render::text(&comparison));
    if let Some(path) = &args.markdown {
        std::fs::write(path, render::markdown(&comparison))
            .map_err(|error| RunError::Io("writing the Markdown file", error))?;
    }
    if let Some(path) = &args.json {
        run::write_json(path, &comparison)?;
    }
    Ok(if comparison.failed() { Outcome::Failed } else { Outcome::Fine })
}

/// Compares.
///
/// # Errors
/// See [`command`].
pub fn compare(args: &CompareBrokersArgs) -> Result<Comparison, RunError> {
    let workloads = workloads::chosen(&args.workload)?;
    let (broker_core, load_core) = cores(args)?;
    let thalweg = Thalweg::find(args.thalweg.as_deref())?;
    let keeper = Keeper::install()?;
    // Dropped last, after the processes that write to it.
    let scratch = keeper.folder(&args.dir)?;
    let jvm = [args.kafka_heap.as_str(), args.kafka_jvm.as_str()];
    let kafka = Kafka::find(&args.kafka, scratch.path(), &args.java, &jvm, &args.kafka_settings)?;
    let brokers = Brokers {
        thalweg,
        kafka,
        keeper: &keeper,
        folder: scratch.path(),
        broker_core,
        bench: Bench { load_core, idle: args.idle, settle: args.settle },
    };
    let mut comparison = empty(args, &brokers);
    if args.only.contains(&Part::Produce) || args.only.contains(&Part::Fetch) {
        under_load(args, &brokers, &workloads, &mut comparison)?;
    }
    if args.only.contains(&Part::Restart) {
        let block = restart::compare(&brokers, args.restarts, args.restart_bytes as u64);
        comparison.blocks.push(block);
    }
    Ok(comparison)
}

/// The parts for which both brokers run side by side; they are gone when this returns.
fn under_load(
    args: &CompareBrokersArgs,
    brokers: &Brokers<'_>,
    workloads: &[Workload],
    comparison: &mut Comparison,
) -> Result<(), RunError> {
    let start = |kind: Kind| {
        let home = brokers.folder.join(kind.name());
        brokers.start(kind, &home, |address| brokers.takes_records(address))
    };
    let thalweg = start(Kind::Thalweg)?;
    let kafka = start(Kind::Kafka)?;
    let (thalweg_pid, kafka_pid) = (Some(thalweg.process.pid()), Some(kafka.process.pid()));
    let contenders = [
        contender(Kind::Thalweg.role(), &thalweg.address, thalweg_pid, &[]),
        contender(Kind::Kafka.role(), &kafka.address, kafka_pid, &[]),
        contender("Kafka, flush.messages=1", &kafka.address, kafka_pid, &[FLUSH_EACH]),
    ];
    for contender in &contenders[..2] {
        warm_up(args, brokers.bench, contender, workloads)?;
    }
    process::pin(kafka.process.pid(), brokers.broker_core)
        .map_err(|error| RunError::Io("pinning Kafka", error))?;
    if args.only.contains(&Part::Produce) {
        let plan = ProducePlan {
            bench: brokers.bench,
            rounds: args.rounds,
            times: (args.run_warmup, args.duration),
            folder: brokers.folder,
        };
        let produced = produce::compare(&plan, &contenders, workloads)?;
        comparison.raw_durable_write_mb_per_s = Spread::of(produced.raw_mb_per_s);
        let raw_failed = produced.raw_failed;
        comparison.left_out.extend(raw_failed.map(|why| format!("raw durable writes: {why}")));
        comparison.blocks.extend(produced.blocks);
    }
    if args.only.contains(&Part::Fetch) {
        let plan = FetchPlan {
            bench: brokers.bench,
            rounds: args.rounds,
            fill_bytes: args.fill_bytes as u64,
        };
        // Whether Kafka synced what is read is nothing to the reader.
        let fetched = fetch::compare(&plan, &contenders[..2], workloads)?;
        comparison.left_out.extend(fetched.left_out);
        comparison.blocks.extend(fetched.blocks);
    }
    Ok(())
}

/// The longest that one topic of a warm-up lives: a minute of it may be more than a disk has.
const WARM_UP_TURN: Duration = Duration::from_secs(8);

/// Loads a broker with all that will be measured: Kafka's compiler needs a minute of it, and memory
/// that is touched first is slow for every broker.
fn warm_up(
    args: &CompareBrokersArgs,
    bench: Bench,
    contender: &Contender,
    workloads: &[Workload],
) -> Result<(), RunError> {
    if args.warmup.is_zero() {
        return Ok(());
    }
    let each = args.warmup / u32::try_from(workloads.len()).unwrap_or(u32::MAX).max(1);
    for workload in workloads {
        eprintln!("{}: warming up with {} for {:.0?}", contender.name, workload.name, each);
        let readers = workload.readers.filter(|_| args.only.contains(&Part::Fetch));
        let flags =
            format!("{} --rate max --consumers {}", workload.flags, readers.unwrap_or_default());
        let mut left = each;
        while !left.is_zero() {
            let turn = left.min(WARM_UP_TURN);
            bench.run_at_once(contender, &flags, (Duration::ZERO, turn), Topic::Fresh)?;
            left -= turn;
        }
    }
    Ok(())
}

/// CPU of the brokers, CPU of the generator.
fn cores(args: &CompareBrokersArgs) -> Result<(usize, usize), RunError> {
    let allowed = run::allowed_cpus();
    let broker = args.broker_core.unwrap_or(allowed[0]);
    let load = args.load_core.or_else(|| allowed.iter().copied().find(|&cpu| cpu != broker));
    let Some(load) = load else {
        return Err(RunError::Flags(
            "a comparison needs two CPUs, one for the brokers and one for the generator; with \
             --load-core they share the one there is"
                .to_owned(),
        ));
    };
    match [broker, load].iter().find(|cpu| !allowed.contains(cpu)) {
        Some(cpu) => Err(RunError::Flags(format!(
            "this process may not use CPU {cpu} (it may use {allowed:?})"
        ))),
        None => Ok((broker, load)),
    }
}

fn empty(args: &CompareBrokersArgs, brokers: &Brokers<'_>) -> Comparison {
    let kafka_settings: Vec<String> =
        args.kafka_settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut kafka_flags = brokers.kafka.jvm_flags();
    if !kafka_settings.is_empty() {
        kafka_flags = format!("{kafka_flags}; {}", kafka_settings.join(" "));
    }
    Comparison {
        schema_version: SCHEMA_VERSION,
        environment: Environment::capture(),
        settings: Settings {
            rounds: args.rounds,
            duration_s: args.duration.as_secs_f64(),
            run_warmup_s: args.run_warmup.as_secs_f64(),
            warmup_s: args.warmup.as_secs_f64(),
            broker_core: brokers.broker_core,
            load_core: brokers.bench.load_core,
        },
        software: vec![
            Software {
                name: Kind::Thalweg.name(),
                version: brokers.thalweg.version().to_owned(),
                flags: format!("--cores {}", brokers.broker_core),
            },
            Software {
                name: Kind::Kafka.name(),
                version: brokers.kafka.version().to_owned(),
                flags: kafka_flags,
            },
        ],
        raw_durable_write_mb_per_s: None,
        blocks: Vec::new(),
        left_out: Vec::new(),
    }
}
