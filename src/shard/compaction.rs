//! Compaction in the background: which log is next, and how much of the core and of the disk it may
//! take.
//!
//! One pass at a time in a store, of the log with the largest dirty share, as Kafka's cleaner. A pass
//! is made of steps of less than a millisecond; after each it rests `REST_FACTOR` times as long as
//! the step took, so that it gets a quarter of an idle core's time and less of a busy one's, whose
//! other tasks make a step take longer.

use std::rc::Rc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use tracing::{info, warn};

use super::runtime::Shard;
use super::stores::ended;
use super::task;
use crate::base::ids::{Offset, TopicPartition};
use crate::storage::{Compaction, CompactionProgress, StorageError, Store};

const REST_FACTOR: u32 = 3;

/// Bounds of compaction on one store.
#[derive(Clone, Copy, Debug)]
pub struct CompactionPace {
    /// `log.cleaner.backoff.ms`: time between two looks for something to do.
    pub backoff: Duration,
    /// This store's part of `log.cleaner.dedupe.buffer.size`: memory for keys, while a pass runs.
    pub map_bytes: usize,
    /// This store's part of `log.cleaner.io.max.bytes.per.second`, read and written together.
    pub bytes_per_second: f64,
}

/// Compacts what needs it, for ever.
pub(super) async fn compact(shard: Rc<Shard>, store: Rc<Store>, pace: CompactionPace) {
    let mut unreadable = FxHashSet::default();
    while task::timeout(pace.backoff, store.until_over()).await.is_none() {
        // One that gave up, or had nothing to decide, lets the others have their turn.
        let mut left_out = unreadable.clone();
        while let Some(mut pass) = next_pass(&shard, &store, &pace, &left_out).await {
            let tp = pass.topic_partition();
            match run(&store, &mut pass, &pace).await {
                Ok(None) if pass.report().clean_end > Offset::ZERO => {}
                Ok(None | Some(GaveUp::ForNow)) => {
                    left_out.insert(tp);
                }
                Ok(Some(GaveUp::ForGood)) => {
                    unreadable.insert(tp);
                    left_out.insert(tp);
                }
                Err(problem) => return ended(&shard, &store, &problem),
            }
        }
    }
}

/// Why a pass ended early.
enum GaveUp {
    /// Something may be better later.
    ForNow,
    /// The log cannot be read; it is not tried again in this process.
    ForGood,
}

/// A pass over the log that needs it most.
async fn next_pass(
    shard: &Shard,
    store: &Rc<Store>,
    pace: &CompactionPace,
    left_out: &FxHashSet<TopicPartition>,
) -> Option<Compaction> {
    let now = shard.clock().now();
    let mut most = None;
    for (tp, owned) in shard.table().all() {
        task::yield_if_needed().await;
        if !Rc::ptr_eq(owned.store(), store) || left_out.contains(&tp) {
            continue;
        }
        let partition = owned.partition().borrow();
        let upto = partition.offsets().last_stable;
        let need = partition.log().borrow().compaction_need(upto, now);
        let Some(need) = need.filter(|_| partition.closed().is_none()) else { continue };
        if most.is_none_or(|(_, _, most)| need > most) {
            most = Some((tp, upto, need));
        }
    }
    let (tp, upto, _) = most?;
    store.begin_compaction(tp, upto, pace.map_bytes)
}

async fn run(
    store: &Rc<Store>,
    pass: &mut Compaction,
    pace: &CompactionPace,
) -> Result<Option<GaveUp>, StorageError> {
    let tp = pass.topic_partition();
    let begun = Instant::now();
    loop {
        let step_begun = Instant::now();
        match store.compact_a_little(pass).await? {
            CompactionProgress::GaveUp(why) => return Ok(Some(given_up(tp, why))),
            CompactionProgress::Step(step) if step.is_over => {
                let report = pass.report();
                info!(
                    %tp, keys = report.keys, bytes_before = report.bytes_before,
                    bytes_after = report.bytes_after, clean_end = %report.clean_end,
                    seconds = begun.elapsed().as_secs_f64(), "compacted"
                );
                return Ok(None);
            }
            CompactionProgress::Step(step) => {
                let by_bytes = step.bytes as f64 / pace.bytes_per_second.max(1.0);
                // A limit of next to nothing must not become a number that time cannot hold.
                let by_bytes = Duration::from_secs_f64(by_bytes.min(3600.0));
                let rest = (step_begun.elapsed() * REST_FACTOR).max(by_bytes);
                task::timeout(rest, store.until_over()).await;
            }
        }
    }
}

fn given_up(tp: TopicPartition, why: Option<StorageError>) -> GaveUp {
    match why {
        None => GaveUp::ForNow,
        Some(why @ (StorageError::UnreadableRecords { .. } | StorageError::Corrupt { .. })) => {
            warn!(%tp, "this log is not compacted until the next start: {why}");
            GaveUp::ForGood
        }
        Some(why) => {
            warn!(%tp, "compaction is put off: {why}");
            GaveUp::ForNow
        }
    }
}
