//! What a comparison found: figures of every broker in every round, their medians, and ratios to
//! the first broker. One value, drawn as tables and written as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::args::Part;
use super::stats::{Better, Spread, ratios};
use crate::measure::percentiles::Summary;
use crate::report::Report;
use crate::report::env::Environment;

/// Rises when a reader of the JSON would stumble.
pub const SCHEMA_VERSION: u32 = 1;

/// Notes that belong to the way of measuring, not to a single run.
const EXPECTED_NOTES: [&str; 2] = ["closed-loop", "generator-parks"];

/// A column of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// Record values acknowledged, 10^6 bytes a second.
    ProducedMbPerS,
    /// Records acknowledged, thousands a second.
    KRecordsPerS,
    /// Batches fetched, 10^6 bytes a second.
    FetchedMbPerS,
    /// The broker's CPU seconds for each 10^9 bytes.
    CoreSPerGb,
    /// Bytes it sent to storage for each byte of record values.
    WrittenPerByte,
    /// Publish latency, ms.
    P50Ms,
    /// Publish latency, ms.
    P99Ms,
    /// Publish latency, ms.
    #[serde(rename = "p99_9_ms")]
    P999Ms,
    /// From the start after the kill until all partitions answer, s.
    RestartS,
    /// Log that a restart found, 10^9 bytes.
    LogGb,
}

impl Figure {
    /// Its column's head.
    #[must_use]
    pub fn head(self) -> &'static str {
        match self {
            Figure::ProducedMbPerS | Figure::FetchedMbPerS => "MB/s",
            Figure::KRecordsPerS => "k records/s",
            Figure::CoreSPerGb => "core-s/GB",
            Figure::WrittenPerByte => "written per byte",
            Figure::P50Ms => "p50 ms",
            Figure::P99Ms => "p99 ms",
            Figure::P999Ms => "p99.9 ms",
            Figure::RestartS => "s",
            Figure::LogGb => "log GB",
        }
    }

    /// Which way it is better; `None` for what is no merit.
    #[must_use]
    pub fn better(self) -> Option<Better> {
        match self {
            Figure::ProducedMbPerS | Figure::KRecordsPerS | Figure::FetchedMbPerS => {
                Some(Better::Higher)
            }
            Figure::LogGb => None,
            _ => Some(Better::Lower),
        }
    }

    /// Its value in a run, and whether enough samples stand behind it.
    fn of(self, report: &Report) -> (Option<f64>, bool) {
        let rates = &report.throughput;
        let broker = report.broker.as_ref();
        let value = match self {
            Figure::ProducedMbPerS => Some(rates.produced_mb_per_s),
            Figure::KRecordsPerS => Some(rates.records_per_s / 1e3),
            Figure::FetchedMbPerS => Some(rates.fetched_mb_per_s),
            Figure::CoreSPerGb => broker.and_then(|it| it.core_s_per_gb),
            Figure::WrittenPerByte => broker.and_then(|it| it.written_per_byte),
            Figure::P50Ms => return publish(report.latency.response.as_ref(), "p50"),
            Figure::P99Ms => return publish(report.latency.response.as_ref(), "p99"),
            Figure::P999Ms => return publish(report.latency.response.as_ref(), "p99.9"),
            Figure::RestartS | Figure::LogGb => None,
        };
        (value, true)
    }
}

fn publish(summary: Option<&Summary>, name: &str) -> (Option<f64>, bool) {
    let found = summary.and_then(|it| it.percentiles.iter().find(|it| it.name == name));
    (found.map(|it| it.us / 1e3), found.is_none_or(|it| it.firm))
}

/// One figure of one broker.
#[derive(Clone, Debug, Serialize)]
pub struct Column {
    /// Which.
    pub figure: Figure,
    /// Which way it is better.
    pub better: Option<Better>,
    /// Round by round; none where a run failed or has no such figure.
    pub values: Vec<Option<f64>>,
    /// Over all rounds.
    pub spread: Option<Spread>,
    /// How much better the first broker was, round by round; above 1 the first is ahead. None for
    /// the first itself.
    pub ratio: Option<Spread>,
    /// Whether at least 20 samples lay beyond it in every round, where it is a percentile.
    pub firm: bool,
}

/// A doubt about some runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Doubt {
    /// Its word, as in a run's report.
    pub kind: String,
    /// In how many rounds.
    pub rounds: usize,
    /// What it said the first time.
    pub text: String,
}

/// One broker in one block.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The broker in its role.
    pub broker: String,
    /// Its figures.
    pub columns: Vec<Column>,
    /// Rounds without figures: the run could not take place, or requests failed.
    pub failed_rounds: usize,
    /// Doubts.
    pub doubts: Vec<Doubt>,
    /// The report of each round that has one.
    pub reports: Vec<Report>,
}

/// What one round brought for one broker.
pub enum Round {
    /// A run's report.
    Run(Box<Report>),
    /// Figures that come from no run.
    Figures(Vec<(Figure, f64)>),
    /// Nothing, and why.
    Failed(String),
}

/// One workload in one mode: the brokers took turns in it.
#[derive(Clone, Debug, Serialize)]
pub struct Block {
    /// What is compared.
    pub part: Part,
    /// How: `max`, `half`, `page cache`, `page cache dropped`, `kill -9`.
    pub mode: &'static str,
    /// The workload.
    pub workload: String,
    /// The flags of `thalweg-bench run` behind it.
    pub flags: String,
    /// The brokers; ratios are to the first.
    pub rows: Vec<Row>,
}

impl Block {
    /// Puts rows of `figures` together from each broker's rounds.
    #[must_use]
    pub fn new(
        (part, mode): (Part, &'static str),
        workload: &str,
        flags: &str,
        figures: &[Figure],
        brokers: Vec<(String, Vec<Round>)>,
    ) -> Block {
        let mut rows: Vec<Row> = Vec::new();
        for (broker, rounds) in brokers {
            let columns = figures.iter().map(|&figure| {
                let (values, firm): (Vec<_>, Vec<_>) =
                    rounds.iter().map(|round| value(round, figure)).unzip();
                let base = rows.first().and_then(|row| row.column(figure));
                Column {
                    figure,
                    better: figure.better(),
                    spread: Spread::of(values.iter().flatten().copied()),
                    ratio: base
                        .zip(figure.better())
                        .and_then(|(base, better)| ratios(&base.values, &values, better)),
                    values,
                    firm: firm.into_iter().all(|it| it),
                }
            });
            let columns = columns.collect();
            rows.push(Row {
                broker,
                columns,
                failed_rounds: rounds.iter().filter(|round| failed(round)).count(),
                doubts: doubts(&rounds),
                reports: rounds
                    .into_iter()
                    .filter_map(|round| match round {
                        Round::Run(report) => Some(*report),
                        _ => None,
                    })
                    .collect(),
            });
        }
        Block { part, mode, workload: workload.to_owned(), flags: flags.to_owned(), rows }
    }
}

impl Row {
    /// Its column of `figure`.
    #[must_use]
    pub fn column(&self, figure: Figure) -> Option<&Column> {
        self.columns.iter().find(|it| it.figure == figure)
    }

    /// The median of `figure`.
    #[must_use]
    pub fn median(&self, figure: Figure) -> Option<f64> {
        Some(self.column(figure)?.spread?.median)
    }
}

fn failed(round: &Round) -> bool {
    match round {
        Round::Run(report) => report.failed(),
        Round::Figures(_) => false,
        Round::Failed(_) => true,
    }
}

fn value(round: &Round, figure: Figure) -> (Option<f64>, bool) {
    match round {
        // A run with failed requests is faster than it should be.
        Round::Run(report) if report.failed() => (None, true),
        Round::Run(report) => figure.of(report),
        Round::Figures(figures) => {
            (figures.iter().find(|(it, _)| *it == figure).map(|it| it.1), true)
        }
        Round::Failed(_) => (None, true),
    }
}

fn doubts(rounds: &[Round]) -> Vec<Doubt> {
    let mut found: BTreeMap<String, Doubt> = BTreeMap::new();
    let mut add = |kind: &str, text: &str| {
        let fresh = Doubt { kind: kind.to_owned(), rounds: 0, text: text.to_owned() };
        found.entry(kind.to_owned()).or_insert(fresh).rounds += 1;
    };
    for round in rounds {
        match round {
            Round::Run(report) => {
                let notes = report.warnings.iter().filter(|it| !EXPECTED_NOTES.contains(&it.kind));
                notes.for_each(|it| add(it.kind, &it.text));
            }
            Round::Failed(why) => add("no-run", why),
            Round::Figures(_) => {}
        }
    }
    found.into_values().collect()
}

/// A broker as it ran.
#[derive(Clone, Debug, Serialize)]
pub struct Software {
    /// `Thalweg` or `Kafka`.
    pub name: &'static str,
    /// Its version, with its runtime's.
    pub version: String,
    /// How it was run.
    pub flags: String,
}

/// How it was compared.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// Rounds.
    pub rounds: u32,
    /// Measured time of a produce run, s.
    pub duration_s: f64,
    /// Time before it in each run, s.
    pub run_warmup_s: f64,
    /// Load on each broker before the first run, s.
    pub warmup_s: f64,
    /// CPU of the brokers.
    pub broker_core: usize,
    /// CPU of the generator.
    pub load_core: usize,
}

/// The whole comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Machine and command.
    pub environment: Environment,
    /// How.
    pub settings: Settings,
    /// The brokers.
    pub software: Vec<Software>,
    /// Durable writes of 1 MiB on the same disk, one at a time, before each produce round: MB/s.
    pub raw_durable_write_mb_per_s: Option<Spread>,
    /// All blocks, in the order in which they ran.
    pub blocks: Vec<Block>,
    /// What could not be compared, and why.
    pub left_out: Vec<String>,
}

impl Comparison {
    /// Whether any round has no figures.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.blocks.iter().flat_map(|it| &it.rows).any(|row| row.failed_rounds > 0)
    }
}
