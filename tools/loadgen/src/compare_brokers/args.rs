//! The flags of `compare-brokers`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::kafka::{HEAP_FLAGS, PERFORMANCE_FLAGS};
use crate::args::Idle;
use crate::units::{parse_bytes, parse_duration, parse_pair};

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Producers, as fast as it goes and at half of that.
    Produce,
    /// Consumers that read from the beginning of the log.
    Fetch,
    /// Time to answer again after kill -9 under load.
    Restart,
}

/// `thalweg-bench compare-brokers`.
#[derive(Args, Clone, Debug)]
pub struct CompareBrokersArgs {
    /// Apache Kafka: an unpacked release (a folder with libs/), its .tgz, or a folder of its jars.
    #[arg(long)]
    pub kafka: PathBuf,
    /// Thalweg's binary. Default: `thalweg` beside this program.
    #[arg(long)]
    pub thalweg: Option<PathBuf>,
    /// What is compared.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "produce,fetch,restart")]
    pub only: Vec<Part>,
    /// Only workloads with this text in their names; may be repeated.
    #[arg(long, value_name = "TEXT")]
    pub workload: Vec<String>,
    /// Rounds: in each, every broker runs every workload once, in turn.
    #[arg(long, default_value_t = 5)]
    pub rounds: u32,
    /// Measured time of each produce run.
    #[arg(long, default_value = "4s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Time before anything is counted in each produce run.
    #[arg(long, default_value = "3s", value_parser = parse_duration)]
    pub run_warmup: Duration,
    /// Load for each broker before the first run, over all workloads together. Kafka may use all
    /// cores meanwhile and is pinned then: its compiler needs them.
    #[arg(long, default_value = "80s", value_parser = parse_duration)]
    pub warmup: Duration,
    /// Pause before each run, for what the last one left to be written and deleted.
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    pub settle: Duration,
    /// CPU of the brokers. Default: the first that this process may use.
    #[arg(long)]
    pub broker_core: Option<usize>,
    /// CPU of the load generator. Default: the second.
    #[arg(long)]
    pub load_core: Option<usize>,
    /// What an idle load core does.
    #[arg(long, default_value = "spin")]
    pub idle: Idle,
    /// Log that the fetches read, for each broker and workload.
    #[arg(long, default_value = "6GB", value_parser = parse_bytes)]
    pub fill_bytes: usize,
    /// Log that a restart finds.
    #[arg(long, default_value = "8GB", value_parser = parse_bytes)]
    pub restart_bytes: usize,
    /// Restarts of each broker.
    #[arg(long, default_value_t = 3)]
    pub restarts: u32,
    /// Where a scratch folder for both brokers' data is made (it is removed in the end): on the
    /// disk that is to be measured.
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
    /// The Java that runs Kafka.
    #[arg(long, default_value = "java")]
    pub java: PathBuf,
    /// Kafka's heap, as in KAFKA_HEAP_OPTS.
    #[arg(long, default_value = HEAP_FLAGS, allow_hyphen_values = true)]
    pub kafka_heap: String,
    /// Kafka's further JVM flags, as in KAFKA_JVM_PERFORMANCE_OPTS; the default is its start
    /// script's.
    #[arg(long, default_value = PERFORMANCE_FLAGS, allow_hyphen_values = true)]
    pub kafka_jvm: String,
    /// A line of Kafka's server.properties, `key=value`; may be repeated.
    #[arg(long = "kafka-set", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub kafka_settings: Vec<(String, String)>,
    /// Write the comparison with every run's report as JSON to this file.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Write the tables as Markdown to this file.
    #[arg(long)]
    pub markdown: Option<PathBuf>,
}
