//! What a run says in the end: one value, printed as a table, written as JSON and as a page.
//!
//! Not here: measuring. Lives on the process's first thread. Invariant: nothing is left out because
//! it looks bad; doubts about a figure stand beside it.
//! Callers: `run`, `first_light`.

pub mod condition;
pub mod csv;
pub mod env;
pub mod files;
pub mod hlog;
pub mod html;
pub mod live;
pub mod parts;
pub mod pictures;
pub mod table;
pub mod warnings;
pub mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::agents::AgentFigures;
use crate::args::{Idle, Workload};
use crate::client::admin::HotVersions;
use crate::client::sasl::Mechanism;
use crate::measure::encoded;
use crate::measure::host::Host;
use crate::measure::ledger::Verification;
use crate::measure::percentiles::Summary;
use crate::measure::tally::{Counters, Latencies};
use crate::run::collect::{BrokerUse, Collected, Second};
use crate::wire::pool::PoolFacts;
use env::Environment;
use parts::{CatchUp, Part};
use warnings::Warning;

/// Rises when a reader of the JSON would stumble.
pub const SCHEMA_VERSION: u32 = 1;

/// How connections were secured.
#[derive(Clone, Debug, Serialize)]
pub struct Secured {
    /// Kafka's name of the protocol: `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT`, `SASL_SSL`.
    pub protocol: &'static str,
    /// SASL mechanism.
    pub mechanism: Option<Mechanism>,
    /// TLS version and cipher suite.
    pub encryption: Option<String>,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    /// HOST:PORT that was given.
    pub bootstrap: String,
    /// The topic.
    pub topic: String,
    /// Addresses that lead partitions of it.
    pub leaders: usize,
    /// Versions spoken.
    pub versions: HotVersions,
    /// The topic's configuration that says what an acknowledgement means, as the broker tells it.
    pub topic_configs: BTreeMap<String, String>,
    /// How connections were secured.
    pub security: Secured,
    /// What is set on the broker besides its defaults, as it tells.
    pub broker_configs: BTreeMap<String, String>,
    /// Feature levels of the cluster (`metadata.version`), as the broker tells.
    pub features: BTreeMap<String, i16>,
    /// The broker's program, data directory and device, where its process was named.
    pub host: Option<Host>,
    /// The broker's process.
    pub pid: Option<u32>,
    /// CPUs that its working threads may run on.
    pub cpus: Option<Vec<usize>>,
}

/// With what it was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Generator {
    /// CPU ids of the load cores.
    pub cores: Vec<usize>,
    /// What they do when idle.
    pub idle: Idle,
    /// Whether batches carry a stamp in ns; else end-to-end latency has a resolution of 1 ms.
    pub stamped: bool,
    /// The batches that were sent.
    #[serde(flatten)]
    pub pool: PoolFacts,
}

/// Rates over the measured part.
#[derive(Clone, Debug, Serialize)]
pub struct Throughput {
    /// Length of the measured part, s.
    pub measured_s: f64,
    /// Offered requests a second; none in a closed loop.
    pub offered_requests_per_s: Option<f64>,
    /// Acknowledged requests a second.
    pub requests_per_s: f64,
    /// Acknowledged records a second.
    pub records_per_s: f64,
    /// Acknowledged record values, MB/s (10^6).
    pub produced_mb_per_s: f64,
    /// Fetched records a second.
    pub fetched_records_per_s: f64,
    /// Fetched batches, MB/s (10^6), headers and all.
    pub fetched_mb_per_s: f64,
}

/// The latency distributions.
#[derive(Clone, Debug, Serialize)]
pub struct LatencySummaries {
    /// From the intended send to the acknowledgement.
    pub response: Option<Summary>,
    /// From the actual send to the acknowledgement.
    pub service: Option<Summary>,
    /// From the intended to the actual send.
    pub delay: Option<Summary>,
    /// From the intended send to the consumer.
    pub end_to_end: Option<Summary>,
    /// From asking for a transaction's commit to its end.
    pub commit: Option<Summary>,
    /// Churn: from the intended time to the connection.
    pub connect: Option<Summary>,
    /// Churn: from the intended time to the answer to the connection's first request.
    pub first_request: Option<Summary>,
    /// From a member's intended coming or going until each member had its new assignment.
    pub rebalance: Option<Summary>,
    /// From the moment a member knew of a rebalance to its new assignment.
    pub member_pause: Option<Summary>,
}

impl LatencySummaries {
    fn of(latencies: &Latencies) -> LatencySummaries {
        let more = |name| latencies.more.get(name).and_then(Summary::of);
        LatencySummaries {
            response: Summary::of(&latencies.response),
            service: Summary::of(&latencies.service),
            delay: Summary::of(&latencies.delay),
            end_to_end: Summary::of(&latencies.end_to_end),
            commit: Summary::of(&latencies.commit),
            connect: more("connect"),
            first_request: more("first_request"),
            rebalance: more("rebalance"),
            member_pause: more("member_pause"),
        }
    }
}

/// What the broker's process used, related to what it did.
#[derive(Clone, Debug, Serialize)]
pub struct BrokerFigures {
    /// As read.
    #[serde(flatten)]
    pub used: BrokerUse,
    /// Cores that it kept busy.
    pub cores_busy: f64,
    /// CPU seconds for each 10^9 bytes of record values produced (or bytes fetched, if nothing was
    /// produced).
    pub core_s_per_gb: Option<f64>,
    /// CPU µs for each request acknowledged.
    pub us_per_request: Option<f64>,
    /// Bytes sent to storage for each byte of record values produced.
    pub written_per_byte: Option<f64>,
}

/// One load core.
#[derive(Clone, Debug, Serialize)]
pub struct CoreFigures {
    /// CPU id.
    pub cpu: usize,
    /// Part of its time that was work.
    pub busy: f64,
    /// CPU that its work took (without spinning), s.
    pub work_cpu_s: f64,
    /// Its longest turn, µs: how long a due send may have waited.
    pub turn_max_us: f64,
}

/// One kind of error.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorCount {
    /// API, or `connection`.
    pub api: &'static str,
    /// Kafka's name, or what the operating system said.
    pub name: String,
    /// How often, in the measured part.
    pub count: u64,
}

/// The report of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Name of the run.
    pub label: String,
    /// Machine and command.
    pub environment: Environment,
    /// What was measured.
    pub target: Target,
    /// With what.
    pub generator: Generator,
    /// The workload.
    pub workload: Workload,
    /// Rates.
    pub throughput: Throughput,
    /// Latencies.
    pub latency: LatencySummaries,
    /// The whole distributions of the measured part, ns, by the names of the `.hlog` file's tags, as
    /// [`encoded`] writes them.
    pub histograms: BTreeMap<&'static str, String>,
    /// Counters of the measured part.
    pub counters: Counters,
    /// Errors of the measured part.
    pub errors: Vec<ErrorCount>,
    /// Errors of the warm-up and after the end.
    pub errors_outside: u64,
    /// Load cores.
    pub cores: Vec<CoreFigures>,
    /// Agents that the load cores belong to, in their order, where the run had several processes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<AgentFigures>,
    /// Their work's CPU seconds for each 10^9 bytes produced and fetched.
    pub generator_core_s_per_gb: Option<f64>,
    /// Broker side.
    pub broker: Option<BrokerFigures>,
    /// The measured time part by part: steps, or before, during and after a catch-up; empty if it
    /// has only one.
    pub parts: Vec<Part>,
    /// How a backlog was read.
    pub catch_up: Option<CatchUp>,
    /// What verify mode found.
    pub verification: Option<Verification>,
    /// Doubts.
    pub warnings: Vec<Warning>,
    /// Second by second.
    pub seconds: Vec<Second>,
}

impl Report {
    /// Puts a report together.
    #[must_use]
    pub fn new(
        label: String,
        workload: Workload,
        target: Target,
        generator: Generator,
        collected: Collected,
        measured: Duration,
    ) -> Report {
        let total = &collected.total;
        let counters = total.counters.clone();
        let measured_s = measured.as_secs_f64().max(1e-9);
        let per_second = |count: u64| count as f64 / measured_s;
        let throughput = Throughput {
            measured_s,
            offered_requests_per_s: parts::offered_requests_per_s(&workload, &generator.pool),
            requests_per_s: per_second(counters.acked_requests),
            records_per_s: per_second(counters.acked_records),
            produced_mb_per_s: per_second(counters.acked_value_bytes) / 1e6,
            fetched_records_per_s: per_second(counters.fetched_records),
            fetched_mb_per_s: per_second(counters.fetched_bytes) / 1e6,
        };
        let histograms = total.latencies.tagged().into_iter();
        let histograms = histograms.filter_map(|(tag, it)| Some((tag, encoded::encode(it)?)));
        let errors = total
            .errors
            .iter()
            .map(|(key, &count)| ErrorCount { api: key.api, name: key.name.clone(), count })
            .collect();
        let cores: Vec<CoreFigures> = collected
            .cores
            .iter()
            .zip(&generator.cores)
            .map(|(tally, &cpu)| core_figures(cpu, &tally.counters))
            .collect();
        let broker = collected.broker.map(|used| broker_figures(used, &counters, measured_s));
        let moved = counters.acked_value_bytes + counters.fetched_bytes;
        let generator_core_s_per_gb = (moved > 0)
            .then(|| cores.iter().map(|core| core.work_cpu_s).sum::<f64>() * 1e9 / moved as f64);
        let mut report = Report {
            schema_version: SCHEMA_VERSION,
            label,
            environment: Environment::capture(),
            target,
            generator,
            workload,
            throughput,
            latency: LatencySummaries::of(&total.latencies),
            histograms: histograms.collect(),
            counters,
            errors,
            errors_outside: collected.outside_errors,
            cores,
            agents: Vec::new(),
            generator_core_s_per_gb,
            broker,
            parts: Vec::new(),
            catch_up: None,
            verification: None,
            warnings: Vec::new(),
            seconds: collected.seconds,
        };
        report.find_warnings();
        report
    }

    /// Finds the doubts anew, after something was added.
    pub fn find_warnings(&mut self) {
        self.warnings = warnings::find(self);
    }

    /// Whether anything went wrong that the exit code should tell.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.counters.failed_requests > 0
            || self.counters.unanswered_requests > 0
            || !self.errors.is_empty()
            || self.verification.as_ref().is_some_and(|it| !it.holds(self.workload.exactly_once()))
    }
}

fn core_figures(cpu: usize, counters: &Counters) -> CoreFigures {
    let all = (counters.busy_ns + counters.idle_ns).max(1);
    CoreFigures {
        cpu,
        busy: counters.busy_ns as f64 / all as f64,
        work_cpu_s: counters.work_cpu_ns as f64 / 1e9,
        turn_max_us: counters.gap_ns_max as f64 / 1e3,
    }
}

fn broker_figures(used: BrokerUse, counters: &Counters, measured_s: f64) -> BrokerFigures {
    let cpu_s = used.process.cpu_s();
    let produced = counters.acked_value_bytes;
    let moved = if produced > 0 { produced } else { counters.fetched_bytes };
    let ratio = |of: f64, by: u64| (by > 0).then(|| of / by as f64);
    BrokerFigures {
        cores_busy: cpu_s / measured_s,
        core_s_per_gb: ratio(cpu_s * 1e9, moved),
        us_per_request: ratio(cpu_s * 1e6, counters.acked_requests),
        written_per_byte: ratio(used.process.write_bytes as f64, produced),
        used,
    }
}
