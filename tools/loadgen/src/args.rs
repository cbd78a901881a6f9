//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Deserializer, Serialize};

use crate::agents::args::{AgentArgs, CoordinateArgs};
use crate::client::security::SecurityArgs;
use crate::compare_brokers::args::CompareBrokersArgs;
use crate::report::condition::Condition;
use crate::units::{Rate, parse_cpus, parse_duration, parse_pair, read};
pub use crate::workload::Workload;
pub use crate::workload::flags::WorkloadArgs;

/// Measures brokers that speak Kafka's wire protocol: throughput, and latency from the intended
/// send time.
#[derive(Parser, Debug)]
#[command(name = "thalweg-bench", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Load a running broker and report.
    Run(RunArgs),
    /// Start a Thalweg next to this program, run data through it, show the figures, stop it.
    FirstLight(FirstLightArgs),
    /// Find the highest rate that a broker holds, and draw latency over throughput up to it.
    Saturate(SaturateArgs),
    /// Compare runs, or groups of runs, by their JSON reports.
    Compare(CompareArgs),
    /// Start Thalweg and an Apache Kafka, give both the same workloads in turn, report with ratios.
    CompareBrokers(Box<CompareBrokersArgs>),
    /// Share a run between agents, other processes or hosts, and report what they all saw.
    Coordinate(Box<CoordinateArgs>),
    /// Take a share of a coordinator's run.
    Agent(AgentArgs),
    /// A broker that answers at once and keeps nothing: load it to learn this tool's own limit.
    NullBroker(NullBrokerArgs),
    /// Measure what this tool can offer, beside raw senders on the same two cores.
    Limits(LimitsArgs),
    /// Look at workloads.
    #[command(subcommand)]
    Workload(WorkloadCommand),
}

/// When a producer's request counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
pub enum Acks {
    /// All in-sync replicas have it.
    #[value(name = "all", alias = "-1")]
    #[serde(rename = "all")]
    All,
    /// The leader has it.
    #[value(name = "1")]
    #[serde(rename = "1")]
    Leader,
    /// No answer at all; only the sending is timed.
    #[value(name = "0")]
    #[serde(rename = "0")]
    None,
}

impl Acks {
    /// The value on the wire.
    #[must_use]
    pub fn wire(self) -> i16 {
        match self {
            Acks::All => -1,
            Acks::Leader => 1,
            Acks::None => 0,
        }
    }
}

impl<'de> Deserialize<'de> for Acks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Acks, D::Error> {
        let what = |_| "acks are `all`, 1 or 0".to_owned();
        read(deserializer, |text| <Acks as ValueEnum>::from_str(text, true).map_err(what))
    }
}

/// What an idle load core does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Idle {
    /// Spin: sends on time, takes the whole core.
    Spin,
    /// Sleep: for load cores that are shared with something else.
    Park,
}

/// `thalweg-bench run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// A broker of the cluster, HOST:PORT.
    #[arg(long)]
    pub bootstrap: String,
    /// CPU ids of the load cores, like `1` or `2,3` or `1-3`. Default: all that this process may
    /// use but the first, which is left to the broker.
    #[arg(long, value_parser = parse_cpus)]
    pub cores: Option<std::vec::Vec<usize>>,
    /// How connections are secured.
    #[command(flatten)]
    pub security: SecurityArgs,
    /// The workload, or several from a file.
    #[command(flatten)]
    pub workload: WorkloadArgs,
    /// Use this existing topic instead of a fresh one.
    #[arg(long)]
    pub topic: Option<String>,
    /// Configuration of the fresh topic, `key=value`; may be repeated.
    #[arg(long = "topic-config", value_parser = parse_pair)]
    pub topic_configs: Vec<(String, String)>,
    /// Replication factor of the fresh topic (-1: the broker's default).
    #[arg(long, default_value_t = -1)]
    pub replication: i16,
    /// Do not delete the fresh topic afterwards.
    #[arg(long)]
    pub keep_topic: bool,
    /// Process id of a broker on this machine: its CPU and disk bytes join the report.
    #[arg(long)]
    pub broker_pid: Option<u32>,
    /// What an idle load core does.
    #[arg(long, default_value = "spin")]
    pub idle: Idle,
    /// Write the report as JSON to this file.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Write a line for each second as CSV to this file.
    #[arg(long)]
    pub csv: Option<PathBuf>,
    /// Write the histograms of each measured second to this file, in HdrHistogram's log format.
    #[arg(long)]
    pub hlog: Option<PathBuf>,
    /// Write the report as one HTML page, charts and all, to this file.
    #[arg(long)]
    pub html: Option<PathBuf>,
    /// Write each of its charts as SVG and PNG into this folder.
    #[arg(long)]
    pub charts: Option<PathBuf>,
    /// Exit with 4 if this holds, like `p99 > 5ms` or `produced < 100MB/s`; may be repeated.
    #[arg(long)]
    pub fail_if: Vec<Condition>,
    /// A name for this run, kept in the report.
    #[arg(long, default_value = "")]
    pub label: String,
    /// No live line.
    #[arg(long)]
    pub quiet: bool,
}

/// `thalweg-bench saturate`.
#[derive(Args, Clone, Debug)]
pub struct SaturateArgs {
    /// The workload of each step; `--warmup` and `--duration` are a step's. With `--rate` the search
    /// begins there, else with what a closed loop reaches.
    #[command(flatten)]
    pub run: RunArgs,
    /// A rate is held if the publish latency's p99 is at most this, ...
    #[arg(long, default_value = "50ms", value_parser = parse_duration)]
    pub p99_max: Duration,
    /// ... the p99 of the delay between intended and actual send at most this, and 99 % of what was
    /// offered is acknowledged in time.
    #[arg(long, default_value = "20ms", value_parser = parse_duration)]
    pub delay_max: Duration,
    /// The search ends when the lowest rate that was not held is this part above the highest that
    /// was.
    #[arg(long, default_value_t = 0.02)]
    pub precision: f64,
}

/// `thalweg-bench compare`.
#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    /// JSON reports of runs: two or more groups, each `A.json` or `A1.json,A2.json,...` or
    /// `NAME=A1.json,...`. The first group is what the others are compared with. Runs that were
    /// taken in turn (A B B A ...) make the comparison an honest one, five of each a firm one.
    #[arg(required = true, num_args = 2..)]
    pub groups: Vec<String>,
    /// Compare different workloads all the same.
    #[arg(long)]
    pub force: bool,
    /// The n-th run of a group belongs to the n-th of the others: compare the ratios of such
    /// pairs, which the machine's own ups and downs touch less.
    #[arg(long)]
    pub paired: bool,
    /// Seed of the confidence intervals' random choices: the same runs give the same intervals.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write the comparison as JSON to this file.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Write the comparison as one HTML page, charts and all, to this file.
    #[arg(long)]
    pub html: Option<PathBuf>,
    /// Write each of its charts as SVG and PNG into this folder.
    #[arg(long)]
    pub charts: Option<PathBuf>,
}

/// `thalweg-bench first-light`.
#[derive(Args, Clone, Debug)]
pub struct FirstLightArgs {
    /// The broker's binary. Default: `thalweg` beside this program.
    #[arg(long)]
    pub thalweg: Option<PathBuf>,
    /// The broker's data directory. Default: a fresh one under the current directory (a memory file
    /// system cannot show what a disk costs), removed afterwards.
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// Time before anything is counted.
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    pub warmup: Duration,
    /// Time that is measured, for each of the two parts.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Write the reports as JSON to this file.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// `thalweg-bench workload`.
#[derive(Subcommand, Clone, Debug)]
pub enum WorkloadCommand {
    /// Print the workload that a file and flags make together, as a file that reads back, and what
    /// follows from it.
    Explain {
        /// The workload, or several from a file.
        #[command(flatten)]
        workload: WorkloadArgs,
    },
}

/// `thalweg-bench null-broker`.
#[derive(Args, Clone, Debug)]
pub struct NullBrokerArgs {
    /// Where it listens.
    #[arg(long, default_value = "127.0.0.1:9092")]
    pub listen: std::net::SocketAddr,
    /// CPU that it is pinned to.
    #[arg(long, default_value_t = 0)]
    pub core: usize,
    /// Keep the latest batches in memory, so that consumers get something.
    #[arg(long)]
    pub keep: bool,
    /// Take no more than this many records a second, like `200k/s`: a broker of known capacity.
    #[arg(long)]
    pub capacity: Option<Rate>,
    /// What it does when idle.
    #[arg(long, default_value = "spin")]
    pub idle: Idle,
}

/// `thalweg-bench limits`.
#[derive(Args, Clone, Debug)]
pub struct LimitsArgs {
    /// CPU ids of the receiving and of the sending end, like `0,1`. Default: the first two that this
    /// process may use.
    #[arg(long, value_parser = parse_cpus)]
    pub cores: Option<std::vec::Vec<usize>>,
    /// Times that everything is measured, in turn.
    #[arg(long, default_value_t = 5)]
    pub rounds: u32,
    /// One-record requests in flight on each connection.
    #[arg(long, default_value_t = 5)]
    pub in_flight: u32,
    /// Time before anything is counted, for each measurement.
    #[arg(long, default_value = "500ms", value_parser = parse_duration)]
    pub warmup: Duration,
    /// Time that is measured, for each measurement.
    #[arg(long, default_value = "1500ms", value_parser = parse_duration)]
    pub duration: Duration,
    /// Write the figures as JSON to this file.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use thalweg::record::Compression;

    #[test]
    fn the_command_line_is_sound_and_the_documented_form_is_read() {
        Cli::command().debug_assert();
        let cli = Cli::try_parse_from(
            "thalweg-bench run --bootstrap localhost:9092 --cores 1 --producers 2 --consumers 1 \
             --partitions 4 --record-bytes 1024 --batch-records 100 --rate 50MB/s --in-flight 5 \
             --acks all --compression lz4 --warmup 5s --duration 30s --json x.json --label a \
             --topic-config flush.messages=1"
                .split_whitespace(),
        )
        .expect("parses");
        let Command::Run(run) = cli.command else { panic!("not a run") };
        let workload = run.workload.only().expect("one");
        assert_eq!(workload.rate, Rate::BytesPerSecond(50e6));
        assert_eq!(workload.compression, Compression::Lz4);
        assert_eq!(run.topic_configs, [("flush.messages".to_owned(), "1".to_owned())]);
        assert_eq!(run.cores, Some(vec![1]));
    }
}
