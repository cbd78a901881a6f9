//! Reads on a partition's owner: plan under the borrow, wait if there is too little, read, hand the
//! slices back. The bytes themselves are never copied, also when they cross cores.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use super::mesh::Reply;
use super::runtime::Shard;
use super::task;
use crate::base::clock::micros;
use crate::base::ids::{LeaderEpoch, Offset, ShardId, TopicPartition};
use crate::base::signal::{Event, OneReceiver};
use crate::partition::read_plan::{ReadError, ReadOutcome, ReadRequest};
use crate::storage::{ReadPlan, StorageError};

/// Bytes that one answer brings from disk: they are in memory until the client has taken them, and
/// beyond this they only make it colder. A fetch may bring less than it asks for, and the next one
/// follows at once; Kafka, whose kernel sends from its page cache, has no need of such a bound.
pub const OLD_BYTES_MAX: usize = 8 << 20;

/// What is wanted of one partition.
#[derive(Clone, Copy)]
pub struct ReadAsk {
    /// Where to read.
    pub tp: TopicPartition,
    /// From which offset, how much, as whom.
    pub request: ReadRequest,
}

/// What is wanted of all partitions of one request together.
#[derive(Clone, Copy)]
pub struct ReadTerms {
    /// Wait until this many bytes can be sent.
    pub bytes_min: usize,
    /// Send about this many at most; the first batch is sent however large it is (KIP-74).
    pub bytes_max: usize,
    /// But wait no longer than this.
    pub wait_max: Duration,
}

/// What one partition gives.
pub struct ReadAnswer {
    /// Whole batches in offset order, as slices of the memory that holds them.
    pub records: Vec<Bytes>,
    /// End of what is committed.
    pub high_watermark: Offset,
    /// End of what `read_committed` sees.
    pub last_stable: Offset,
    /// The first record that exists.
    pub log_start: Offset,
    /// Where the reader's log parts from ours.
    pub diverging: Option<(LeaderEpoch, Offset)>,
}

/// Why one partition gives nothing.
#[derive(Clone, Debug, Error)]
pub enum ReadFailure {
    /// This core does not own the partition (any more).
    #[error("the partition is not here")]
    NotOwned,
    /// Not this offset, or not this leader.
    #[error(transparent)]
    Refused(#[from] ReadError),
    /// The records could not be read; the text is for the log.
    #[error("{0}")]
    Storage(String),
}

impl From<StorageError> for ReadFailure {
    fn from(problem: StorageError) -> ReadFailure {
        ReadFailure::Storage(problem.to_string())
    }
}

/// How one [`ReadAsk`] ended.
pub type ReadResult = Result<ReadAnswer, ReadFailure>;

/// How far a reader saw a partition: it wants to know of anything newer.
#[derive(Clone, Copy)]
pub struct Seen {
    /// Which partition.
    pub tp: TopicPartition,
    /// The high watermark of its last answer.
    pub high_watermark: Offset,
}

impl Shard {
    /// Reads on the owner, which waits there until `terms` are met.
    pub fn read(
        self: &Rc<Self>,
        owner: ShardId,
        asks: Vec<ReadAsk>,
        terms: ReadTerms,
    ) -> OneReceiver<Vec<ReadResult>> {
        self.call(owner, move |shard, reply| {
            let shard = shard.clone();
            task::spawn(read_here(shard, asks, terms, reply));
        })
    }

    /// Resolves when one of the partitions has moved on from what was seen, or `wait_max` is over.
    pub fn watch(
        self: &Rc<Self>,
        owner: ShardId,
        seen: Vec<Seen>,
        wait_max: Duration,
    ) -> OneReceiver<()> {
        self.call(owner, move |shard, reply: Reply<()>| {
            let shard = shard.clone();
            task::spawn(async move {
                let moved = Rc::new(Event::new());
                let wait = moved.wait();
                if park_all(&shard, &seen, &moved) {
                    task::timeout(wait_max, wait).await;
                }
                reply.send(&shard, ());
            });
        })
    }
}

/// Parks `moved` on every partition; false if one has moved already or is not here, or if this core
/// lets nobody wait any more.
fn park_all(shard: &Shard, seen: &[Seen], moved: &Rc<Event>) -> bool {
    !shard.is_draining()
        && seen.iter().all(|seen| {
            let Some(owned) = shard.table().get(&seen.tp) else { return false };
            let partition = owned.partition().borrow();
            partition.park(moved);
            partition.offsets().high_watermark == seen.high_watermark
        })
}

type Planned = Result<ReadOutcome, ReadFailure>;

async fn read_here(
    shard: Rc<Shard>,
    asks: Vec<ReadAsk>,
    terms: ReadTerms,
    reply: Reply<Vec<ReadResult>>,
) {
    let mut planned = plan_all(&shard, &asks, terms.bytes_max);
    let may_wait = !terms.wait_max.is_zero() && !shard.is_draining();
    if may_wait && !is_enough(&planned, terms.bytes_min) {
        let deadline_us = shard.clock().mono_us() + micros(terms.wait_max);
        loop {
            let moved = Rc::new(Event::new());
            let wait = moved.wait();
            for ask in &asks {
                if let Some(owned) = shard.table().get(&ask.tp) {
                    owned.partition().borrow().park(&moved);
                }
            }
            let left_us = deadline_us.saturating_sub(shard.clock().mono_us());
            let in_time = task::timeout(Duration::from_micros(left_us), wait).await;
            planned = plan_all(&shard, &asks, terms.bytes_max);
            let over = in_time.is_none() || shard.is_draining();
            if over || is_enough(&planned, terms.bytes_min) {
                break;
            }
        }
    }
    if !shard.answers().wait_for_room(planned.bytes).await {
        for outcome in planned.outcomes.iter_mut().flatten() {
            outcome.plan = None;
        }
        planned.bytes = 0;
    }
    let mut hold = (planned.bytes > 0).then(|| shard.answers().hold(planned.bytes));
    let mut results = Vec::with_capacity(asks.len());
    for outcome in planned.outcomes {
        let mut result = carry_out(outcome).await;
        if let Ok(answer) = &mut result
            && let Some(first) = answer.records.first_mut()
            && let Some(hold) = hold.take()
        {
            *first = hold.tie(std::mem::take(first));
        }
        results.push(result);
    }
    reply.send(&shard, results);
}

/// The plans of one answer.
struct Plans {
    outcomes: Vec<Planned>,
    bytes: usize,
    /// Whether waiting could change anything: not if somebody must be told something now, or if
    /// the answer is as large as it may be.
    may_grow: bool,
}

/// Plans every partition without waiting; who comes after `bytes_max` is used up gets its offsets
/// and no records.
fn plan_all(shard: &Shard, asks: &[ReadAsk], bytes_max: usize) -> Plans {
    let mut plans = Plans { outcomes: Vec::with_capacity(asks.len()), bytes: 0, may_grow: true };
    let mut old_left = OLD_BYTES_MAX;
    for ask in asks {
        let left = bytes_max.saturating_sub(plans.bytes);
        let planned = plan(shard, ask, if plans.bytes > 0 { left } else { left.max(1) });
        plans.outcomes.push(planned.map(|mut outcome| {
            let first = outcome.plan.iter_mut().filter(|_| plans.bytes == 0);
            first.for_each(|plan| plan.limit_disk(OLD_BYTES_MAX));
            let expected = outcome.plan.as_ref().map_or(0, ReadPlan::bytes_expected);
            let old = outcome.plan.as_ref().map_or(0, ReadPlan::bytes_from_disk);
            // Only the first batch of an answer may be too large.
            if plans.bytes > 0 && (expected > left || old > old_left) {
                outcome.plan = None;
                plans.may_grow = false;
            } else {
                plans.bytes += expected;
                old_left = old_left.saturating_sub(old);
            }
            plans.may_grow &= outcome.diverging.is_none();
            outcome
        }));
        plans.may_grow &= plans.outcomes.last().is_some_and(Result::is_ok);
    }
    plans
}

fn plan(shard: &Shard, ask: &ReadAsk, bytes_max: usize) -> Planned {
    let owned = shard.table().get(&ask.tp).ok_or(ReadFailure::NotOwned)?;
    let request = ReadRequest { bytes_max: ask.request.bytes_max.min(bytes_max), ..ask.request };
    let outcome = owned.partition().borrow().plan_read(&request)?;
    Ok(outcome)
}

/// Whether the client would rather have the answer now than wait.
fn is_enough(plans: &Plans, bytes_min: usize) -> bool {
    !plans.may_grow || plans.bytes >= bytes_min
}

async fn carry_out(planned: Planned) -> ReadResult {
    let outcome = planned?;
    let records = match outcome.plan {
        Some(plan) => plan.read().await?,
        None => Vec::new(),
    };
    Ok(ReadAnswer {
        records,
        high_watermark: outcome.high_watermark,
        last_stable: outcome.last_stable,
        log_start: outcome.log_start,
        diverging: outcome.diverging,
    })
}
