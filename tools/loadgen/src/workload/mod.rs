//! The workload: what is offered to a broker and what is read back, apart from which broker.
//!
//! One struct, filled by flags ([`flags`]) and by files ([`mod@file`]) alike; a key of a file is a flag
//! without its dashes. Plain data: nothing here touches the network.
//! Callers: `args`, `run`, `saturate`, `first_light`.

pub mod check;
pub mod explain;
pub mod file;
pub mod flags;
pub mod keys;
pub mod sizes;
pub mod steps;

use std::time::Duration;

use clap::{ArgAction, Args};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thalweg::record::Compression;

use crate::args::Acks;
use crate::load::schedule::Arrivals;
use crate::load::txn::EndsAfter;
use crate::units::{Rate, bytes_in_file, duration_in_file, parse_bytes, parse_duration, read};
use keys::Keys;
use sizes::RecordBytes;
use steps::Step;

/// What is offered and what is read back. Defaults are [`Workload::default`]'s; a flag has none of
/// its own, so that a file's value stands where no flag was given.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Workload {
    /// What a file calls it.
    #[arg(skip)]
    pub name: String,
    /// Producers, each with a connection of its own to every leader it sends to [default: 1]
    #[arg(long)]
    pub producers: u32,
    /// Consumers, each with partitions assigned to it; they share the partitions [default: 0]
    #[arg(long)]
    pub consumers: u32,
    /// Independent readers, each of so many consumers: every reader gets everything [default: 1]
    #[arg(long)]
    pub fan_out: u32,
    /// Topics, all alike [default: 1]
    #[arg(long)]
    pub topics: u32,
    /// Partitions of each topic [default: 1]
    #[arg(long)]
    pub partitions: u32,
    /// Bytes of each record's value: `1024`, `uniform:100..2KiB`, `normal:MEAN,DEVIATION`,
    /// `lognormal:MEDIAN,SIGMA`, `weighted:100=0.8,10KiB=0.2` [default: 1024]
    #[arg(long)]
    pub record_bytes: RecordBytes,
    /// Records in a batch; a request carries one batch [default: 100]
    #[arg(long)]
    pub batch_records: u32,
    /// Keys of the records: `none`, `sequential`, `uniform`, `zipf`, `zipf:EXPONENT`. A key decides
    /// its record's partition, as it does with Kafka's clients [default: none]
    #[arg(long)]
    pub keys: Keys,
    /// Different keys that there are [default: 10000]
    #[arg(long)]
    pub key_count: u32,
    /// Bytes of each key [default: 8]
    #[arg(long)]
    pub key_bytes: usize,
    /// Prebuilt batches to choose among, for each partition if there are keys; 0: one if all would
    /// be alike, else as many as show the distributions and fit 64 MiB [default: 0]
    #[arg(long)]
    pub pool_batches: u32,
    /// Offered load: `max` (closed loop), or `100MB/s`, `50000records/s` (open loop) [default: max]
    #[arg(long)]
    pub rate: Rate,
    /// Rates in turn instead of --rate and --duration, like `50MB/s:10s,100MB/s:10s`; the warm-up
    /// runs at the first
    #[arg(long, value_delimiter = ',')]
    pub steps: Vec<Step>,
    /// How open-loop arrivals are spread [default: constant]
    #[arg(long)]
    pub arrivals: Arrivals,
    /// Requests in flight on each producer's connection [default: 5]
    #[arg(long)]
    pub in_flight: u32,
    /// Acknowledgements asked for [default: all]
    #[arg(long)]
    pub acks: Acks,
    /// Codec of the batches, compressed once, before the run [default: none]
    #[arg(long, value_parser = parse_compression)]
    #[serde(serialize_with = "compression_name", deserialize_with = "named_compression")]
    pub compression: Compression,
    /// Level of the codec: gzip 1 to 9, zstd -131072 to 22 [default: the codec's own]
    #[arg(long, allow_hyphen_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression_level: Option<i32>,
    /// Part of each value that is random, 0 to 1; the rest compresses away [default: 0.5]
    #[arg(long)]
    pub entropy: f64,
    /// Choose the entropy so that the codec makes a batch's records this many times smaller
    /// (0: take --entropy) [default: 0]
    #[arg(long)]
    pub compress_ratio: f64,
    /// Idempotent producers [default: false]
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub idempotent: bool,
    /// Transactional producers: every connection that produces is one [default: false]
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub transactional: bool,
    /// Commit a transaction after so long [default: 100ms]
    #[arg(long, value_parser = parse_duration)]
    #[serde(with = "duration_in_file")]
    pub txn_duration: Duration,
    /// Commit after so many batches, whatever --txn-duration says (0: take that) [default: 0]
    #[arg(long, value_name = "N")]
    pub txn_batches: u64,
    /// Abort every N-th transaction instead of committing it (0: none) [default: 0]
    #[arg(long, value_name = "N")]
    pub txn_abort_every: u64,
    /// Consumers see what is committed only [default: false]
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub read_committed: bool,
    /// Every record carries who sent it, its number and a checksum; what comes back is compared with
    /// what was acknowledged. Exit code 3 if anything is lost, reordered or corrupt (or, from
    /// idempotent producers, there twice). Slow: not for figures [default: false]
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub verify: bool,
    /// Bytes of one partition that a fetch asks for [default: 1MiB]
    #[arg(long, value_parser = parse_bytes)]
    #[serde(with = "bytes_in_file")]
    pub fetch_bytes: usize,
    /// Read what the topic holds already, too (with `--topic`) [default: false]
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub from_beginning: bool,
    /// Consumers begin when so many bytes of values wait for them, and producers go on: the time to
    /// catch up and the rate are reported [default: 0]
    #[arg(long, value_parser = parse_bytes)]
    #[serde(with = "bytes_in_file")]
    pub backlog: usize,
    /// Connections a second that are opened, used for one request and closed, beside whatever else
    /// goes on [default: 0]
    #[arg(long)]
    pub churn: f64,
    /// A consumer group of which one member joins or leaves this often, beside whatever else goes
    /// on; the time to the new assignment is reported [default: 0s, none]
    #[arg(long, value_parser = parse_duration)]
    #[serde(with = "duration_in_file")]
    pub rebalance_every: Duration,
    /// Members of that group that stay [default: 4]
    #[arg(long)]
    pub group_members: u32,
    /// Time between two heartbeats of a member: it learns of a rebalance from the next one
    /// [default: 3s]
    #[arg(long, value_parser = parse_duration)]
    #[serde(with = "duration_in_file")]
    pub heartbeat: Duration,
    /// Time before anything is counted [default: 5s]
    #[arg(long, value_parser = parse_duration)]
    #[serde(with = "duration_in_file")]
    pub warmup: Duration,
    /// Time that is measured [default: 30s]
    #[arg(long, value_parser = parse_duration)]
    #[serde(with = "duration_in_file")]
    pub duration: Duration,
}

impl Default for Workload {
    fn default() -> Workload {
        Workload {
            name: String::new(),
            producers: 1,
            consumers: 0,
            fan_out: 1,
            topics: 1,
            partitions: 1,
            record_bytes: RecordBytes::Fixed(1024),
            batch_records: 100,
            keys: Keys::None,
            key_count: 10_000,
            key_bytes: 8,
            pool_batches: 0,
            rate: Rate::Max,
            steps: Vec::new(),
            arrivals: Arrivals::Constant,
            in_flight: 5,
            acks: Acks::All,
            compression: Compression::None,
            compression_level: None,
            entropy: 0.5,
            compress_ratio: 0.0,
            idempotent: false,
            transactional: false,
            txn_duration: Duration::from_millis(100),
            txn_batches: 0,
            txn_abort_every: 0,
            read_committed: false,
            verify: false,
            fetch_bytes: 1 << 20,
            from_beginning: false,
            backlog: 0,
            churn: 0.0,
            rebalance_every: Duration::ZERO,
            group_members: 4,
            heartbeat: Duration::from_secs(3),
            warmup: Duration::from_secs(5),
            duration: Duration::from_secs(30),
        }
    }
}

impl Workload {
    /// Whether a consumer group's rebalances are measured.
    #[must_use]
    pub fn has_group(&self) -> bool {
        !self.rebalance_every.is_zero()
    }

    /// Whether producers promise that nothing is there twice.
    #[must_use]
    pub fn exactly_once(&self) -> bool {
        self.idempotent || self.transactional
    }

    /// When a transaction ends.
    #[must_use]
    pub fn txn_ends_after(&self) -> EndsAfter {
        match self.txn_batches {
            0 => EndsAfter::Ns(u64::try_from(self.txn_duration.as_nanos()).unwrap_or(u64::MAX)),
            batches => EndsAfter::Batches(batches),
        }
    }

    /// Whether the loop is closed.
    #[must_use]
    pub fn is_closed_loop(&self) -> bool {
        self.steps.is_empty() && self.rate == Rate::Max
    }

    /// The rates in turn and how long each lasts: the steps, or the one rate.
    #[must_use]
    pub fn rates(&self) -> Vec<Step> {
        match &self.steps[..] {
            [] => vec![Step { rate: self.rate, length: self.duration }],
            steps => steps.to_vec(),
        }
    }

    /// The workload with what follows from its other settings filled in: steps decide the duration.
    #[must_use]
    pub fn settled(mut self) -> Workload {
        if !self.steps.is_empty() {
            self.duration = self.steps.iter().map(|step| step.length).sum();
            self.rate = self.steps[0].rate;
        }
        self
    }
}

fn parse_compression(name: &str) -> Result<Compression, String> {
    Compression::from_name(name)
        .ok_or_else(|| "a codec is none, gzip, snappy, lz4 or zstd".to_owned())
}

fn named_compression<'de, D: Deserializer<'de>>(from: D) -> Result<Compression, D::Error> {
    read(from, parse_compression)
}

fn compression_name<S: Serializer>(
    compression: &Compression,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(compression.name())
}
