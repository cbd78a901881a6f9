//! Consumers that read a log from its beginning: from the page cache, where a broker has one, and
//! from the disk.

use std::fs;
use std::time::Duration;

use super::args::Part;
use super::bench::{Bench, Contender, Topic};
use super::produce::{delete_topic, noted};
use super::result::{Block, Figure, Round};
use super::workloads::Workload;
use crate::run::RunError;

const FIGURES: [Figure; 2] = [Figure::FetchedMbPerS, Figure::CoreSPerGb];
/// Time that is measured; a log of some GB is read in a second or two.
const READ: Duration = Duration::from_secs(1);
/// One step of filling a topic, and how many there may be: a log is as long as asked for, however
/// slow the broker.
const FILL: Duration = Duration::from_secs(3);
const FILLS_MAX: usize = 40;

/// How the consumers run.
pub struct FetchPlan {
    /// What all runs have in common.
    pub bench: Bench,
    /// Rounds.
    pub rounds: u32,
    /// Bytes of record values that each log holds.
    pub fill_bytes: u64,
}

/// What came of it.
#[derive(Default)]
pub struct Fetched {
    /// Two blocks for each workload; one where the page cache is not ours to drop.
    pub blocks: Vec<Block>,
    /// What was left out, and why.
    pub left_out: Vec<String>,
}

/// Fills a topic on each of `contenders` and reads it, in turn.
///
/// # Errors
/// When a topic cannot be filled.
pub fn compare(
    plan: &FetchPlan,
    contenders: &[Contender],
    workloads: &[Workload],
) -> Result<Fetched, RunError> {
    let mut fetched = Fetched::default();
    let drops = drop_page_cache();
    if let Err(error) = &drops {
        let why = format!("fetch with the page cache dropped: /proc/sys/vm/drop_caches: {error}");
        fetched.left_out.push(why);
    }
    for (workload, readers) in workloads.iter().filter_map(|it| Some((it, it.readers?))) {
        let filled: Result<Vec<String>, RunError> =
            contenders.iter().map(|it| fill(plan, it, workload)).collect();
        let topics = filled?;
        let flags = format!("--producers 0 --consumers {readers} --from-beginning");
        let mut modes = vec![("page cache", Vec::new())];
        if drops.is_ok() {
            modes.push(("page cache dropped", Vec::new()));
        }
        for (_, runs) in &mut modes {
            runs.resize_with(contenders.len(), Vec::new);
        }
        for round in 1..=plan.rounds {
            for (mode, runs) in &mut modes {
                for ((contender, topic), runs) in contenders.iter().zip(&topics).zip(runs) {
                    let what = format!("{} read, {mode}, round {round}", workload.name);
                    let round = read(plan, contender, &flags, topic, mode, &what);
                    runs.push(round);
                }
            }
        }
        for (mode, runs) in modes {
            let brokers = contenders.iter().map(|it| it.name.clone()).zip(runs).collect();
            let about = (Part::Fetch, mode);
            fetched.blocks.push(Block::new(about, workload.name, &flags, &FIGURES, brokers));
        }
        for (contender, topic) in contenders.iter().zip(&topics) {
            delete_topic(plan.bench, contender, topic);
        }
    }
    Ok(fetched)
}

fn read(
    plan: &FetchPlan,
    contender: &Contender,
    flags: &str,
    topic: &str,
    mode: &str,
    what: &str,
) -> Round {
    if mode == "page cache dropped"
        && let Err(error) = drop_page_cache()
    {
        return Round::Failed(format!("dropping the page cache: {error}"));
    }
    let times = (Duration::ZERO, READ);
    noted(contender, what, plan.bench.run(contender, flags, times, Topic::Existing(topic)))
}

/// Writes until the topic holds what is asked for; its name.
fn fill(plan: &FetchPlan, contender: &Contender, workload: &Workload) -> Result<String, RunError> {
    let flags = format!("{} --rate max", workload.flags);
    let mut topic: Option<String> = None;
    let mut bytes = 0;
    for _ in 0..FILLS_MAX {
        let choice = topic.as_deref().map_or(Topic::Kept, Topic::Existing);
        let report = plan.bench.run_at_once(contender, &flags, (Duration::ZERO, FILL), choice)?;
        bytes += report.counters.acked_value_bytes;
        topic = Some(report.target.topic);
        if bytes >= plan.fill_bytes {
            break;
        }
    }
    eprintln!("{}: {}: filled with {:.1} GB", contender.name, workload.name, bytes as f64 / 1e9);
    topic.ok_or_else(|| RunError::Flags("nothing was filled".to_owned()))
}

fn drop_page_cache() -> std::io::Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "1\n")
}
