//! Producers: as fast as it goes, then each broker at half of what it reached.

use std::path::Path;
use std::time::Duration;

use super::args::Part;
use super::bench::{Bench, Contender, Topic};
use super::reference;
use super::result::{Block, Figure, Round};
use super::workloads::Workload;
use crate::report::Report;
use crate::run::RunError;
use crate::run::setup::{self, TopicChoice, Wanted};

/// Figures of the produce tables.
const FIGURES: [Figure; 7] = [
    Figure::ProducedMbPerS,
    Figure::KRecordsPerS,
    Figure::CoreSPerGb,
    Figure::WrittenPerByte,
    Figure::P50Ms,
    Figure::P99Ms,
    Figure::P999Ms,
];

/// A rate below this is not worth halving, MB/s.
const HALF_RATE_MIN: f64 = 0.1;
/// Time for each look at the raw device.
const RAW_WRITES: Duration = Duration::from_secs(1);

/// How the producers run.
pub struct ProducePlan<'a> {
    /// What all runs have in common.
    pub bench: Bench,
    /// Rounds.
    pub rounds: u32,
    /// Time before anything is counted, and time that is measured.
    pub times: (Duration, Duration),
    /// A folder on the brokers' disk.
    pub folder: &'a Path,
}

/// What came of it.
#[derive(Default)]
pub struct Produced {
    /// Two blocks for each workload.
    pub blocks: Vec<Block>,
    /// The raw device before each round, MB/s.
    pub raw_mb_per_s: Vec<f64>,
    /// Why there are no such figures.
    pub raw_failed: Option<String>,
}

/// Runs all `workloads` on all `contenders`, in turn.
///
/// # Errors
/// When a topic that all runs share cannot be made.
pub fn compare(
    plan: &ProducePlan<'_>,
    contenders: &[Contender],
    workloads: &[Workload],
) -> Result<Produced, RunError> {
    let mut produced = Produced::default();
    for workload in workloads {
        let topics = kept_topics(plan, contenders, workload)?;
        let at_max = |_: usize| "max".to_owned();
        let full = rounds(plan, contenders, workload, &topics, &mut produced, at_max);
        let full = block("max", workload, contenders, full);
        let at_half = |index: usize| {
            let reached = full.rows.get(index).and_then(|it| it.median(Figure::ProducedMbPerS));
            format!("{:.1}MB/s", (reached.unwrap_or_default() / 2.0).max(HALF_RATE_MIN))
        };
        let half = rounds(plan, contenders, workload, &topics, &mut produced, at_half);
        produced.blocks.push(full);
        produced.blocks.push(block("half", workload, contenders, half));
        for (contender, topic) in contenders.iter().zip(&topics) {
            delete_topic(plan.bench, contender, topic);
        }
    }
    Ok(produced)
}

fn block(
    mode: &'static str,
    workload: &Workload,
    contenders: &[Contender],
    runs: Vec<Vec<Round>>,
) -> Block {
    let names = contenders.iter().map(|it| it.name.clone());
    let brokers = names.zip(runs).collect();
    Block::new((Part::Produce, mode), workload.name, workload.flags, &FIGURES, brokers)
}

/// Every contender's rounds.
fn rounds(
    plan: &ProducePlan<'_>,
    contenders: &[Contender],
    workload: &Workload,
    topics: &[String],
    produced: &mut Produced,
    rate_of: impl Fn(usize) -> String,
) -> Vec<Vec<Round>> {
    let mut runs: Vec<Vec<Round>> = contenders.iter().map(|_| Vec::new()).collect();
    for round in 1..=plan.rounds {
        match reference::durable_writes_mb_per_s(plan.folder, RAW_WRITES) {
            Ok(raw) => produced.raw_mb_per_s.push(raw),
            Err(error) => produced.raw_failed = Some(error.to_string()),
        }
        for (index, contender) in contenders.iter().enumerate() {
            let rate = rate_of(index);
            let flags = format!("{} --rate {rate}", workload.flags);
            let topic = topics.get(index).map_or(Topic::Fresh, |name| Topic::Existing(name));
            let what = format!("{} at {rate}, round {round}", workload.name);
            let result = plan.bench.run(contender, &flags, plan.times, topic);
            runs[index].push(noted(contender, &what, result));
        }
    }
    runs
}

/// Tells people what came of a run, and keeps it.
pub fn noted(contender: &Contender, what: &str, result: Result<Report, RunError>) -> Round {
    match result {
        Ok(report) => {
            let rates = &report.throughput;
            let moved = rates.produced_mb_per_s.max(rates.fetched_mb_per_s);
            let failed = if report.failed() { ", REQUESTS FAILED" } else { "" };
            eprintln!("{}: {what}: {moved:.1} MB/s{failed}", contender.name);
            Round::Run(Box::new(report))
        }
        Err(error) => {
            eprintln!("{}: {what}: NO RUN: {error}", contender.name);
            Round::Failed(error.to_string())
        }
    }
}

/// A topic for each contender, if the workload's runs share one; it has been written to for a
/// while, since the first second of a thousand partitions is their beginning.
fn kept_topics(
    plan: &ProducePlan<'_>,
    contenders: &[Contender],
    workload: &Workload,
) -> Result<Vec<String>, RunError> {
    if !workload.keeps_topic {
        return Ok(Vec::new());
    }
    let flags = format!("{} --rate max", workload.flags);
    let times = (Duration::ZERO, plan.times.0 * 2 + Duration::from_millis(100));
    let made = contenders
        .iter()
        .map(|it| Ok(plan.bench.run(it, &flags, times, Topic::Kept)?.target.topic));
    made.collect()
}

/// Gives the disk back before the next workload.
pub fn delete_topic(bench: Bench, contender: &Contender, topic: &str) {
    let choice = TopicChoice::Existing { name: topic.to_owned(), from_beginning: false };
    let deleted = contender
        .address
        .parse()
        .map_err(std::io::Error::other)
        .and_then(|address| setup::clean_up(bench.load_core, Wanted::plain(address, choice)));
    if let Err(error) = deleted {
        eprintln!("{}: topic {topic} stays: {error}", contender.name);
    }
}
